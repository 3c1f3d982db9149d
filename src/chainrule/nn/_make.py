"""What layers are made of: fresh parameters and buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtypes import as_numpy_dtype, default
from ..core.variable import wrap
from .parameter import Parameter

__all__ = ["factory_kwargs", "filled", "parameter"]


def parameter(shape: tuple[int, ...], dtype: Any = None) -> Parameter:
    """A parameter whose values are still to be drawn."""
    return Parameter(wrap(np.empty(shape, as_numpy_dtype(dtype) or default.numpy)))


def filled(shape: tuple[int, ...], value: float, dtype: Any = None) -> Any:
    """A tensor of one value (a buffer)."""
    return wrap(np.full(shape, value, as_numpy_dtype(dtype) or default.numpy))


def factory_kwargs(kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """``device``, ``dtype`` and ``memory_format`` out of ``kwargs`` or out of its ``factory_kwargs``, in one dict.

    Raises:
        TypeError: for another key, or a key in both places.
    """
    if kwargs is None:
        return {}
    simple = ("device", "dtype", "memory_format")
    unknown = kwargs.keys() - {*simple, "factory_kwargs"}
    if unknown:
        raise TypeError(f"unexpected kwargs {unknown}")
    found = dict(kwargs.get("factory_kwargs", {}))
    for key in simple:
        if key in kwargs:
            if key in found:
                raise TypeError(f"{key} specified twice, in **kwargs and in factory_kwargs")
            found[key] = kwargs[key]
    return found
