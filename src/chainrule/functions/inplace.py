"""In-place forms: ``x.add_(y)`` computes ``add(x, y)`` and writes it into x's memory; x takes its history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import inplace
from ..core.dtypes import from_numpy
from ..core.state import tick
from ..core.variable import Variable, wrap
from ..errors import DtypeError, ShapeError, message
from ._args import cast

__all__ = ["make_inplace", "store"]

_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2}
_TORCH = {"float16": "Half", "float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int", "int16": "Short",
          "int8": "Char", "uint8": "Byte", "bool": "Bool"}  # fmt: skip


def store(target: Any, value: Any) -> Any:
    """Write ``value`` into ``target`` if its shape is the same and its dtype can be cast without losing its kind."""
    v, t = value._array, target._array
    if v.shape != t.shape:
        raise ShapeError(
            message(f"output with shape {list(t.shape)} doesn't match the broadcast shape {list(v.shape)}")
        )
    if v.dtype is not t.dtype:
        if _CATEGORY[v.dtype.kind] > _CATEGORY[t.dtype.kind]:
            a, b = _TORCH[from_numpy(v.dtype).name], _TORCH[from_numpy(t.dtype).name]
            raise DtypeError(message(f"result type {a} can't be cast to the desired output type {b}"))
        value = cast(value, t.dtype)
    return inplace.write(target, value)


def make_inplace(function: Callable[..., Any]) -> Callable[..., Any]:
    """The in-place method of an out-of-place function."""
    name = function.__name__ + "_"

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        inplace.check_writable(self)
        since = tick()
        result = function(self, *args, **kwargs)
        if not isinstance(result, Variable):
            result = wrap(np.asarray(result))
        elif result._requires:
            inplace.protect(self, result, since)
        return store(self, result)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"In-place form of ``{function.__name__}``: the result is written into this tensor's memory."
    return method
