"""Entries put, added or reduced at indices: ``scatter``, ``index_add``, ``put`` and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtypes import FLOATS
from ..core.live import values_read
from ..core.variable import Variable, wrap
from ..errors import IndexOutOfRange, message
from ..ops import gather as along
from ..ops import index as ops
from ..ops import layout
from ..ops.compare import where
from ._args import axis, cast, need_tensor
from .indexing import (
    _arrays,
    _check_gather,
    _fit,
    _index_tensor,
    _indexed_shape,
    _padded,
    _put,
    _same_rank,
    parse,
)

__all__ = [
    "index_add", "index_copy", "index_fill", "index_put", "index_reduce", "masked_scatter", "put", "scatter",
    "scatter_add", "scatter_reduce", "select_scatter", "slice_scatter", "diagonal_scatter", "take",
]  # fmt: skip
METHODS = (*__all__, "index_put_")
INPLACE = ("index_add", "index_copy", "index_fill", "masked_scatter", "put", "scatter", "scatter_add", "scatter_reduce",
           "index_reduce")  # fmt: skip


def _source(x: Any, index: Any, src: Any, name: str) -> Any:
    """The part of ``src`` that the index reads, or a number as such a part."""
    if not isinstance(src, Variable):
        return wrap(np.full(index._array.shape, src, x._array.dtype))
    if src._array.dtype is not x._array.dtype:
        raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
    if src._array.shape == index._array.shape:
        return src
    if src._array.ndim != index._array.ndim:
        if max(src._array.ndim, 1) == max(index._array.ndim, 1):
            return layout.reshape(src, shape=index._array.shape)
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    for k, (n, m) in enumerate(zip(index._array.shape, src._array.shape)):
        if n > m:
            raise RuntimeError(
                f"Expected index {list(index._array.shape)} to be no larger than self {list(x._array.shape)} "
                "apart from "
                f"dimension {k} and to be no larger size than src {list(src._array.shape)}"
            )
    return ops.getitem(src, key=tuple(slice(0, n) for n in index._array.shape))


def scatter(input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Any:
    """A copy with ``src`` (a tensor or a value) stored at indices along ``dim``: x[i][index[i][j]] = src[i][j]."""
    x, i = need_tensor(input, "scatter"), _index_tensor(index, "scatter")
    d = axis(dim, x._array.ndim)
    if not i._array.size:
        return layout.clone(x)
    _check_gather("scatter", x, i, d)
    source = _source(x, i, value if src is None else src, "scatter")
    if reduce is not None:
        if reduce not in ("add", "multiply"):
            raise RuntimeError("reduce argument must be either add or multiply.")
        return scatter_reduce(x, dim, i, source, "sum" if reduce == "add" else "prod")
    x2, i2 = _same_rank(x, i)
    result = along.scatter(x2, i2, layout.reshape(source, shape=i2._array.shape), dim=d)
    return result if x2 is x else layout.reshape(result, shape=x._array.shape)


def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """A copy with ``src`` added at the indices along ``dim``; equal indices add up."""
    x, i = need_tensor(input, "scatter_add"), _index_tensor(index, "scatter_add")
    return _scatter_sum(x, axis(dim, x._array.ndim), i, src, "scatter_add")


def _scatter_sum(x: Any, d: int, i: Any, src: Any, name: str) -> Any:
    if not i._array.size:
        return layout.clone(x)
    _check_gather(name, x, i, d)
    return x + _summed(x, d, i, _source(x, i, src, name))


def _summed(x: Any, d: int, i: Any, source: Any) -> Any:
    """Zeros like x with source added at the indices."""
    x2, i2 = _same_rank(x, i)
    total = along.scatter_sum(layout.reshape(source, shape=i2._array.shape), i2, dim=d, shape=x2._array.shape)
    return total if x2 is x else layout.reshape(total, shape=x._array.shape)


def scatter_reduce(input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Any:
    """A copy where the entries of ``src`` that fall on one index are combined: sum, prod, mean, amax or amin."""
    x, i = need_tensor(input, "scatter_reduce"), _index_tensor(index, "scatter_reduce")
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    d = axis(dim, x._array.ndim)
    if not i._array.size:
        return layout.clone(x)
    _check_gather("scatter_reduce", x, i, d)
    source = _source(x, i, src, "scatter_reduce")
    if not x._array.ndim:
        one = (1,)
        result = scatter_reduce(layout.reshape(x, shape=one), 0, layout.reshape(i, shape=one),
                                layout.reshape(source, shape=one), reduce, include_self=include_self)  # fmt: skip
        return layout.reshape(result, shape=())
    ones = wrap(np.ones(i._array.shape, x._array.dtype))
    hits = along.scatter_sum(ones, i, dim=d, shape=x._array.shape)
    if reduce in ("sum", "mean"):
        zero = 0.0 if x._array.dtype in FLOATS else 0
        start = x if include_self else where(hits > 0, zero, x)
        start = cast(start, x._array.dtype)
        total = start + _summed(x, d, i, source)
        if reduce == "sum":
            return total
        count = hits + 1 if include_self else where(hits > 0, hits, 1)
        return total / count if x._array.dtype in FLOATS else total // count
    return along.scatter_extreme(x, i, source, dim=d, kind=reduce, include_self=bool(include_self))


# --- index_… -----------------------------------------------------------------------------------------------------


def _vector(index: Any, name: str) -> Any:
    i = _index_tensor(index, name)
    if i._array.dtype.kind != "i":
        raise RuntimeError(f"{name}_(): Expected dtype int32/int64 for index")
    if i._array.ndim > 1:
        raise IndexOutOfRange(f"{name}_(): Index is supposed to be a vector")
    return i if i._array.ndim else layout.reshape(i, shape=(1,))


def _prepare(input: Any, dim: int, index: Any, source: Any, name: str) -> tuple[Any, int, Any, Any]:
    x, i = need_tensor(input, name), _vector(index, name)
    d = axis(dim, x._array.ndim)
    if source is not None:
        if source._array.dtype is not x._array.dtype:
            raise RuntimeError(f"{name}_(): self and source expected to have the same dtype, but got (self) "
                               f"{x.dtype} and (source) {source.dtype}")  # fmt: skip
        shape = source._array.shape or (1,)
        if shape[min(d, len(shape) - 1)] != i._array.size:
            raise RuntimeError(
                f"{name}_(): Number of indices ({i._array.size}) should be equal to source.size(dim): "
                f"({shape[min(d, len(shape) - 1)]}), for dim: {d}"
            )
    n = x._array.shape[d] if x._array.ndim else 1
    if i._array.size and (i._array.min() < -n or i._array.max() >= n or (source is not None and i._array.min() < 0)):
        if name == "index_add" and x._array.ndim:
            bad = int(i._array.min() if i._array.min() < 0 else i._array.max())
            raise RuntimeError(f"index {bad} is out of bounds for dimension {d} with size {n}")
        raise IndexOutOfRange("index out of range in self")
    return x, d, i, source


def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
    """A copy with the slices of ``source`` added to the slices along ``dim`` that ``index`` lists."""
    x, d, i, s = _prepare(input, dim, index, source, "index_add")
    s = s if alpha == 1 else s * alpha
    if not x._array.ndim:
        return x + layout.reshape(s, shape=())
    return ops.index_put(x, s, *_padded([i]), axes=(d,), accumulate=True)


def index_copy(input: Any, dim: int, index: Any, source: Any) -> Any:
    """A copy with the slices of ``source`` stored at the slices along ``dim`` that ``index`` lists."""
    x, d, i, s = _prepare(input, dim, index, source, "index_copy")
    if not x._array.ndim:
        return layout.reshape(s, shape=())
    return ops.index_put(x, s, *_padded([i]), axes=(d,), accumulate=False)


def index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    """A copy with one value in the slices along ``dim`` that ``index`` lists."""
    x, d, i, _ = _prepare(input, dim, index, None, "index_fill")
    if isinstance(value, Variable):
        if value._array.ndim:
            raise RuntimeError(
                "index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                f"{value._array.ndim} dimension(s)."
            )
        v = cast(value, x._array.dtype)
    else:
        v = wrap(np.asarray(value, x._array.dtype))
    if not x._array.ndim:
        return layout.clone(v)
    shape = (*x._array.shape[:d], i._array.size, *x._array.shape[d + 1 :])
    return ops.index_put(x, layout.expand(v, shape=shape), *_padded([i]), axes=(d,), accumulate=False)


def index_reduce(input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
    """A copy where slices of ``source`` that fall on one index along ``dim`` are combined: prod, mean, amax, amin."""
    x, d, i, s = _prepare(input, dim, index, source, "index_reduce")
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    shape = tuple(-1 if k == d else 1 for k in range(x._array.ndim))
    full = layout.expand(layout.reshape(i, shape=shape), shape=s._array.shape)
    return scatter_reduce(x, d, full, s, reduce, include_self=include_self)


def _index_put_parts(x: Any, indices: Any, values: Any) -> tuple[Any, tuple[int, ...], list[Any]]:
    key = tuple(slice(None) if i is None else i for i in indices)
    _, arrays, _ = parse(key, x._array.shape, numbers=True)
    axes, found = _arrays(x, arrays)
    if values._array.dtype is not x._array.dtype:
        raise RuntimeError(
            f"Index put requires the source and destination dtypes match, got {x.type()[6:-6]} for the destination and "
            f"{values.type()[6:-6]} for the source."
        )
    return values, axes, found


def index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """A copy with ``values`` stored (or added) at index tensors."""
    x = need_tensor(input, "index_put")
    v, axes, found = _index_put_parts(x, indices, values)
    target = _indexed_shape(x._array.shape, axes, [a._array.shape for a in found])
    return ops.index_put(x, _fit(v, target, indexed=True), *_padded(found), axes=axes, accumulate=bool(accumulate))


def index_put_(self: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """``values`` stored (or added) at index tensors, in this tensor's memory."""
    v, axes, found = _index_put_parts(self, indices, values)
    _put(self, v, axes, found, bool(accumulate))
    return self


# --- flat indices, masks and parts -------------------------------------------------------------------------------


def _flat(x: Any, index: Any) -> Any:
    n = x._array.size
    a = index._array
    if a.dtype.kind != "i" or a.itemsize < 8:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {index.type()[6:-6]}")
    if a.size and (a.min() < -n or a.max() >= n):
        bad = int(a.min() if a.min() < -n else a.max())
        raise IndexOutOfRange(f"out of range: tried to access index {bad} on a tensor of {n} elements.")
    return index


def take(input: Any, index: Any) -> Any:
    """Entries of the flattened tensor, in the index's shape."""
    x = need_tensor(input, "take")
    return ops.index(layout.reshape(x, shape=(x._array.size,)), *_padded([_flat(x, index)]), axes=(0,))


def put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    """A copy with ``source`` stored (or added) at indices into the flattened tensor."""
    x = need_tensor(input, "put")
    if source._array.size != index._array.size:
        raise RuntimeError(
            f"put_(): Expected source and index to have the same number of elements, but got source.numel() = "
            f"{source._array.size}, index.numel() = {index._array.size}"
        )
    flat = layout.reshape(x, shape=(x._array.size,))
    values = layout.reshape(source, shape=index._array.shape)
    result = ops.index_put(flat, values, *_padded([_flat(x, index)]), axes=(0,), accumulate=bool(accumulate))
    return layout.reshape(result, shape=x._array.shape)


def masked_scatter(input: Any, mask: Any, source: Any) -> Any:
    """A copy with the entries of ``source``, in order, where the mask is true."""
    x, m = need_tensor(input, "masked_scatter"), need_tensor(mask, "masked_scatter", 2, "mask")
    if m._array.dtype.kind != "b":
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {m.dtype}")
    if source._array.dtype is not x._array.dtype:
        raise RuntimeError("masked_scatter: expected self and source to have same dtypes but got "
                           f"{x.type()[6:-6]} and {source.type()[6:-6]}")  # fmt: skip
    if m._array.shape != x._array.shape:
        from .layout import broadcast_tensors

        x, m = broadcast_tensors(x, m)
    values_read(m, "masked_scatter")
    n = int(np.count_nonzero(m._array))
    if n > source._array.size:
        raise RuntimeError(
            message("Number of elements of source < number of ones in mask", f"{source._array.size} < {n}")
        )
    values = ops.getitem(layout.reshape(source, shape=(source._array.size,)), key=(slice(0, n),))
    return ops.set_mask(x, values, m)


def _with_part(x: Any, part: Any, src: Any) -> Any:
    """A copy of x with ``src`` in the place of a view."""
    if part._array.shape != src._array.shape:
        raise RuntimeError(
            message(
                f"expected src to have a size equal to the slice of self. src size = {list(src._array.shape)}, "
                f"slice size = {list(part._array.shape)}"
            )
        )
    return ops.view_scatter(x, src, view=part._view)


def select_scatter(input: Any, src: Any, dim: int, index: int) -> Any:
    """A copy with ``src`` as the slice at one index of one axis."""
    return _with_part(input, input.detach().select(dim, index), src)


def slice_scatter(input: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    """A copy with ``src`` as a slice of one axis."""
    d = axis(dim, input._array.ndim)
    return _with_part(input, input.detach()[(*(slice(None),) * d, slice(start, end, step))], src)


def diagonal_scatter(input: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """A copy with ``src`` as a diagonal."""
    return _with_part(input, input.detach().diagonal(offset, dim1, dim2), src)
