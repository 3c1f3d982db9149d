"""In-place forms: ``x.add_(y)`` computes ``add(x, y)`` and writes it into x's memory; x takes its history."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import inplace
from ..core.dtypes import TORCH_NAMES, from_numpy
from ..core.state import state, tick
from ..core.variable import Variable, wrap
from ..errors import DtypeError, ShapeError, message
from ._args import cast

__all__ = ["into", "make_inplace", "store"]


def store(target: Any, value: Any) -> Any:
    """Write ``value`` into ``target`` if its shape is the same and its dtype can be cast without losing its kind."""
    v, t = value._array, target._array
    if v.shape != t.shape:
        raise ShapeError(
            message(f"output with shape {list(t.shape)} doesn't match the broadcast shape {list(v.shape)}")
        )
    if v.dtype is not t.dtype:
        _check_category(v.dtype, t.dtype)
        value = cast(value, t.dtype)
    return inplace.write(target, value)


def into(out: Any, value: Any, name: str = "") -> Any:
    """What ``out=`` asks for: ``value`` (or several) written into ``out``, which takes its shape.

    Raises:
        RuntimeError: if a gradient would be lost, or the dtype of ``out`` cannot hold the result.
    """
    if isinstance(out, (tuple, list)):
        if not isinstance(value, tuple) or len(value) != len(out):
            raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
        kind = getattr(type(value), "out_type", type(value))  # a named tuple of results
        return kind(*map(into, out, value, [name] * len(out)))
    if not isinstance(out, Variable):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if state.grad and (value._requires or out._requires):
        what = "functions with out=... arguments don't support automatic differentiation"
        raise RuntimeError(f"{name}(): {what}, but one of the arguments requires grad.".removeprefix("(): "))
    if out._array.shape != value._array.shape:
        if out._array.size:
            warnings.warn(
                f"An output with one or more elements was resized since it had shape {list(out._array.shape)}, which "
                f"does not match the required output shape {list(value._array.shape)}. This behavior is deprecated, "
                "and in a future PyTorch release outputs will not be resized unless they have zero elements. You can "
                "explicitly reuse an out tensor t by resizing it, inplace, to zero elements with t.resize_(0).",
                UserWarning,
                stacklevel=3,
            )
        _check_category(value._array.dtype, out._array.dtype)
        out._array = np.empty(value._array.shape, out._array.dtype)
    return store(out, value)


def _check_category(source: Any, target: Any) -> None:
    given, wanted = from_numpy(source), from_numpy(target)
    if given.category > wanted.category:
        a, b = TORCH_NAMES[given.name], TORCH_NAMES[wanted.name]
        raise DtypeError(message(f"result type {a} can't be cast to the desired output type {b}"))


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
