"""Norms, condition numbers, and products of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtypes import FLOATS, TORCH_NAMES
from ..core.variable import wrap
from ..functions import layout
from ..functions._args import axes, axis, cast, need_tensor
from ..functions.inplace import into
from ..ops import elementwise, reduce
from ..ops import layout as moves
from .basics import check_matrix, inv, svdvals

__all__ = [
    "cond", "cross", "diagonal", "matrix_norm", "norm", "vander", "vecdot", "vector_norm",
]  # fmt: skip


def vector_norm(
    x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, out: Any = None
) -> Any:
    """(Σ |x|ᵖ)^(1/p) over ``dim`` (all axes when None); ±∞ gives the largest or smallest |x|, 0 counts nonzero ones."""
    if out is not None:
        return into(out, vector_norm(x, ord, dim, keepdim, dtype=dtype), "vector_norm")
    t = cast(need_tensor(x, "linalg_vector_norm", 1, "x"), dtype)
    if t._array.dtype not in FLOATS:
        raise RuntimeError(
            f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {TORCH_NAMES[t.dtype.name]}"
        )
    return reduce.norm(t, p=float(ord), dim=axes(dim, t._array.ndim), keepdim=keepdim)


def matrix_norm(
    A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None, out: Any = None
) -> Any:
    """A matrix's norm: "fro", "nuc" (sum of singular values), ±2 (largest, smallest), ±1, ±∞ (column, row sums)."""
    if out is not None:
        return into(out, matrix_norm(A, ord, dim, keepdim, dtype=dtype), "matrix_norm")
    x = cast(check_matrix(A, "matrix_norm"), dtype)
    ndim = x._array.ndim
    a, b = axis(dim[0], ndim), axis(dim[1], ndim)
    if a == b:
        raise RuntimeError(f"linalg.matrix_norm: dims must be different. Got ({dim[0]}, {dim[1]})")
    if ord == "fro":
        return reduce.norm(x, p=2.0, dim=tuple(sorted((a, b))), keepdim=keepdim)
    y = layout.movedim(x, (a, b), (-2, -1))
    if ord in (1, -1, float("inf"), -float("inf")):
        sums = reduce.sum(elementwise.abs(y), dim=(ndim - 2 if ord in (1, -1) else ndim - 1,), keepdim=False)
        result = _extreme(sums, ord > 0)
    elif ord == "nuc":
        s = svdvals(y)
        result = reduce.sum(s, dim=(s._array.ndim - 1,), keepdim=False)
    elif ord in (2, -2):
        result = _extreme(svdvals(y), ord > 0)
    else:
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    if keepdim:
        for d in sorted((a, b)):
            result = layout.unsqueeze(result, d)
    return result


def _extreme(x: Any, largest: bool) -> Any:
    return (reduce.amax if largest else reduce.amin)(x, dim=(x._array.ndim - 1,), keepdim=False)


def norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, out: Any = None, dtype: Any = None) -> Any:
    """``vector_norm``, or ``matrix_norm`` when there are two axes (or a name) to go by."""
    if out is not None:
        return into(out, norm(A, ord, dim, keepdim, dtype=dtype), "norm")
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    pair = (dim is None and A._array.ndim == 2) or (isinstance(dim, (tuple, list)) and len(dim) == 2)
    if pair or isinstance(ord, str):
        return matrix_norm(A, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


def cond(A: Any, p: Any = None, *, out: Any = None) -> Any:
    """The condition number: ‖A‖ ‖A⁻¹‖, for p = 2 the largest over the smallest singular value."""
    if out is not None:
        return into(out, cond(A, p), "cond")
    x = check_matrix(A, "cond")
    if p in (None, 2, -2):
        s = svdvals(x)
        return _extreme(s, True) / _extreme(s, False) if p != -2 else _extreme(s, False) / _extreme(s, True)
    return matrix_norm(x, p) * matrix_norm(inv(x), p)


def cross(input: Any, other: Any, *, dim: int = -1, out: Any = None) -> Any:
    """The cross product of vectors of three entries along ``dim``."""
    if out is not None:
        return into(out, cross(input, other, dim=dim), "cross")
    from ..functions.layout import broadcast_tensors

    if input._array.ndim != other._array.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    x, y = broadcast_tensors(input, other)
    d = axis(dim, x._array.ndim)
    if x._array.shape[d] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {x._array.shape[d]} and "
                           f"{y._array.shape[d]}")  # fmt: skip

    def turned(t: Any, by: int) -> Any:
        return moves.roll(t, shifts=(by,), dims=(d,))

    return turned(x, -1) * turned(y, -2) - turned(x, -2) * turned(y, -1)


def vecdot(x: Any, y: Any, *, dim: int = -1, out: Any = None) -> Any:
    """Inner products along ``dim``."""
    if out is not None:
        return into(out, vecdot(x, y, dim=dim), "vecdot")
    z = x * y
    return reduce.sum(z, dim=(axis(dim, z._array.ndim),), keepdim=False)


def diagonal(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The diagonal of the last two axes (a view)."""
    return layout.diagonal(A, offset, dim1, dim2)


def vander(x: Any, N: int | None = None) -> Any:
    """The matrix of a vector's powers 0, 1, …, N − 1."""
    n = x._array.shape[-1] if N is None else N
    powers = wrap(np.arange(n).astype(x._array.dtype))
    return layout.unsqueeze(x, -1) ** powers
