"""Sorting, ranking, distinct entries, and grids."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ..core.dtypes import default
from ..core.live import values_known, values_read
from ..core.variable import Variable, wrap
from ..ops import compare, join, layout, reduce
from ..ops import gather as along
from ..ops import index as ops
from ..ops.reduce import argmax, argmin
from ..ops.sort import argsort as argsort_op
from ._args import axis, need_tensor
from ._results import named
from .inplace import into

__all__ = [
    "argsort", "argwhere", "cartesian_prod", "combinations", "isin", "meshgrid", "msort", "sort", "topk", "unique",
    "unique_consecutive",
]  # fmt: skip
METHODS = ("argsort", "argwhere", "msort", "sort", "topk", "unique", "unique_consecutive")

sort_result, topk_result = named("sort", "values", "indices"), named("topk", "values", "indices")


# --- order -------------------------------------------------------------------------------------------------------


def _taken(x: Any, order: Any, d: int) -> Any:
    return along.gather(x, order, dim=d) if x._array.size else layout.reshape(x, shape=order._array.shape)


def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False, *, out: Any = None) -> Any:
    """Entries in order along ``dim``, and where each came from; equal entries keep their order, NaN comes last.

    >>> import chainrule as torch
    >>> torch.sort(torch.tensor([3.0, 1.0, 2.0])).indices
    tensor([1, 2, 0])
    """
    if out is not None:
        return into(out, sort(input, dim, descending, stable), "sort")
    x = need_tensor(input, "sort")
    d = axis(dim, x._array.ndim)
    order = argsort_op(x, dim=d, descending=bool(descending))
    if not x._array.ndim:
        return sort_result(layout.clone(x), order)
    return sort_result(_taken(x, order, d), order)


def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The indices that sort along ``dim``."""
    x = need_tensor(input, "argsort")
    return argsort_op(x, dim=axis(dim, x._array.ndim), descending=bool(descending))


def msort(input: Any, *, out: Any = None) -> Any:
    """Sorted along axis 0."""
    if out is not None:
        return into(out, msort(input), "msort")
    return sort(input, 0).values


def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True, *, out: Any = None) -> Any:
    """The k largest (or smallest) entries along ``dim``, in order, and where they are."""
    if out is not None:
        return into(out, topk(input, k, dim, largest, sorted), "topk")
    x = need_tensor(input, "topk")
    d = axis(dim, x._array.ndim)
    n = x._array.shape[d] if x._array.ndim else 1
    if not 0 <= k <= n:
        raise RuntimeError("selected index k out of range")
    if k == 1 and x._array.ndim:  # the commonest, without sorting
        order = (argmax if largest else argmin)(x, dim=d, keepdim=True)
        return topk_result(_taken(x, order, d), order)
    order = argsort_op(x, dim=d, descending=bool(largest))
    if not x._array.ndim:
        return topk_result(layout.clone(x), order)
    order = ops.getitem(order, key=(*(slice(None),) * d, slice(0, k)))
    return topk_result(_taken(x, order, d), order)


# --- distinct entries --------------------------------------------------------------------------------------------


def unique(
    input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The distinct entries (or slices along ``dim``) in order; optionally their numbers and how often each is."""
    x = need_tensor(input, "unique")
    values_read(x, "unique")
    a = x._array
    if dim is None:
        values, inverse, counts = np.unique(a.reshape(-1), return_inverse=True, return_counts=True)
        inverse = inverse.reshape(a.shape)
    else:
        d = axis(dim, a.ndim)
        values, inverse, counts = np.unique(a, axis=d, return_inverse=True, return_counts=True)
        inverse = inverse.reshape(-1)
    return _several(values, inverse, counts, return_inverse, return_counts)


def _several(values: Any, inverse: Any, counts: Any, return_inverse: bool, return_counts: bool) -> Any:
    found = [wrap(values)]
    if return_inverse:
        found.append(wrap(inverse.astype(np.int64)))
    if return_counts:
        found.append(wrap(counts.astype(np.int64)))
    return tuple(found) if len(found) > 1 else found[0]


def unique_consecutive(
    input: Any, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """Entries (or slices along ``dim``) without those equal to the one before."""
    x = need_tensor(input, "unique_consecutive")
    values_read(x, "unique_consecutive")
    a = x._array
    rows = a.reshape(-1, 1) if dim is None else np.moveaxis(a, axis(dim, a.ndim), 0).reshape(a.shape[dim], -1)
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(1)
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, len(rows)))
    inverse = np.cumsum(new) - 1
    values = a.reshape(-1)[starts] if dim is None else np.take(a, starts, axis(dim, a.ndim))
    return _several(values, inverse.reshape(a.shape) if dim is None else inverse, counts, return_inverse, return_counts)


def argwhere(input: Any) -> Any:
    """The indices of the entries that are not zero, one row each."""
    x = need_tensor(input, "argwhere")
    values_read(x, "argwhere")
    return wrap(np.argwhere(x._array).astype(np.int64))


# --- membership ----------------------------------------------------------------------------------------------


def _numbers(x: Any) -> Any:
    return x if isinstance(x, Variable) else wrap(np.asarray(x, default.numpy if isinstance(x, float) else None))


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Any:
    """Whether each entry is among ``test_elements``."""
    x, y = _numbers(elements), _numbers(test_elements)
    if values_known(x, y):
        return wrap(np.asarray(np.isin(x._array, y._array, invert=invert)))
    found = reduce.any(x[..., None] == layout.reshape(y, shape=(-1,)), dim=(x._array.ndim,))
    return compare.logical_not(found) if invert else found


# --- grids -------------------------------------------------------------------------------------------------------


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Any, ...]:
    """Coordinate grids of vectors; ``indexing="ij"`` (PyTorch's default) or ``"xy"``."""
    parts = tuple(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    for x in parts:
        if x._array.ndim > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {x!r}")
    if any(x._array.dtype is not parts[0]._array.dtype for x in parts):
        raise RuntimeError("meshgrid expects all tensors to have the same dtype")
    n = len(parts)
    places = list(range(n))
    if indexing == "xy" and n > 1:
        places[0], places[1] = 1, 0
    shape = [1] * n
    for i, x in enumerate(parts):
        shape[places[i]] = x._array.size
    grids: list[Any] = []
    for i, x in enumerate(parts):
        own = tuple(x._array.size if k == places[i] else 1 for k in range(n))
        grids.append(layout.expand(layout.reshape(x, shape=own), shape=tuple(shape)))
    return tuple(grids)


def cartesian_prod(*tensors: Any) -> Any:
    """All combinations of the entries of vectors, one row each."""
    if len(tensors) == 1:
        return tensors[0]
    grids = meshgrid(*tensors, indexing="ij")
    return join.stack(*(layout.reshape(g, shape=(g._array.size,)) for g in grids), dim=1)


def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    """All ways to choose r of a vector's entries, one row each."""
    x = need_tensor(input, "combinations")
    if x._array.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(x._array.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = np.array(list(choose(range(x._array.size), r)), np.int64).reshape(-1, r)
    if not r:
        return wrap(np.empty(0, x._array.dtype))
    return ops.index(x, wrap(rows), None, None, None, None, None, axes=(0,))
