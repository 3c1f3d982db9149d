"""What layers are made of: fresh parameters and buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtypes import as_numpy_dtype, default
from ..core.variable import wrap
from .parameter import Parameter

__all__ = ["filled", "parameter"]


def parameter(shape: tuple[int, ...], dtype: Any = None) -> Parameter:
    """A parameter whose values are still to be drawn."""
    return Parameter(wrap(np.empty(shape, as_numpy_dtype(dtype) or default.numpy)))


def filled(shape: tuple[int, ...], value: float, dtype: Any = None) -> Any:
    """A tensor of one value (a buffer)."""
    return wrap(np.full(shape, value, as_numpy_dtype(dtype) or default.numpy))
