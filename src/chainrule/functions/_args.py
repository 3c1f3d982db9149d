"""PyTorch's argument forms, normalised in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.op import registry
from ..core.variable import Variable, wrap
from ..errors import IndexOutOfRange, message

__all__ = ["axis", "axes", "sizes", "need_tensor", "cast", "number_or_tensor", "whole"]


def axis(dim: Any, ndim: int) -> int:
    """One axis as a non-negative number; 0-d tensors accept 0 and −1, as in PyTorch.

    Raises:
        IndexOutOfRange: with PyTorch's message.
    """
    if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool):
        raise TypeError(f"dim must be an int, not {type(dim).__name__}")
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexOutOfRange(
            message(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
        )
    return int(dim) % n


def axes(dim: Any, ndim: int) -> tuple[int, ...] | None:
    """``dim`` as a sorted tuple of axes; None (all axes) for None, and for () as PyTorch's reductions have it."""
    if dim is None:
        return None
    if isinstance(dim, (int, np.integer)):
        found = (axis(dim, ndim),)
    else:
        found = tuple(axis(d, ndim) for d in dim)
        if not found:
            return None
        if len(set(found)) != len(found):
            twice = next(d for d in found if found.count(d) > 1)
            raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    return () if ndim == 0 else tuple(sorted(found))


def sizes(args: Sequence[Any]) -> tuple[int, ...]:
    """A shape given as ``f(2, 3)`` or ``f((2, 3))``."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        args = args[0]
    return tuple(map(int, args))


def infer(shape: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """Replace a −1 in a shape by what makes the number of entries fit.

    Raises:
        RuntimeError: as PyTorch words it, when the shape does not fit.
    """
    if -1 in shape:
        i = shape.index(-1)
        rest = -math.prod(shape)
        if -1 in shape[i + 1 :]:
            raise RuntimeError("only one dimension can be inferred")
        if rest == 0 or numel % rest:
            raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
        return (*shape[:i], numel // rest, *shape[i + 1 :])
    if math.prod(shape) != numel:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
    return shape


def need_tensor(x: Any, function: str, position: int = 1, name: str = "input") -> Any:
    """``x`` if it is a tensor; PyTorch's TypeError otherwise."""
    if not isinstance(x, Variable):
        raise TypeError(f"{function}(): argument '{name}' (position {position}) must be Tensor, not {type(x).__name__}")
    return x


def cast(x: Any, dtype: Any) -> Any:
    """``x`` in another dtype (a dtype of ours, NumPy's or Python's); the very same tensor if it has it already."""
    wanted = dtypes.as_numpy_dtype(dtype)
    return x if wanted is None or x._array.dtype is wanted else registry["cast"].call(x, dtype=wanted)


def number_or_tensor(x: Any) -> Any:
    """Arrays and NumPy scalars as tensors; tensors and Python numbers as they are."""
    if isinstance(x, (Variable, float, int)):
        return float(x) if isinstance(x, np.floating) else x
    return wrap(np.asarray(x))


def whole(value: Any, dtype: np.dtype[Any]) -> int:
    """A number as an entry of an integer tensor: fractions are cut, negative bytes count from 256, as in PyTorch.

    Raises:
        RuntimeError: if the dtype cannot hold it.
    """
    limits = np.iinfo(dtype)
    unsigned = dtype.kind == "u"
    low = 0 if unsigned else limits.min
    if unsigned and value == value and value < 0 and float(value).is_integer():
        low = -limits.max
    if value != value or not low <= value <= limits.max:
        name = "int" if dtype.name == "int32" else f"{dtype.name}_t"
        raise RuntimeError(f"value cannot be converted to type {name} without overflow")
    return int(value) % (limits.max + 1) if unsigned else int(value)
