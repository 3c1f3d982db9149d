"""Shapes: reshaping, transposing, broadcasting, repeating, flipping, diagonals and triangles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.live import memory_read, values_read
from ..core.size import Size
from ..core.variable import Variable, wrap
from ..errors import IndexOutOfRange, ShapeError, message
from ..ops import layout as ops
from ._args import axis, infer, need_tensor, sizes

__all__ = [
    "adjoint", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_shapes", "broadcast_tensors",
    "broadcast_to",
    "diag", "diag_embed", "diagflat", "diagonal", "flatten", "flip", "fliplr", "flipud", "moveaxis", "movedim",
    "narrow_copy", "permute", "ravel", "repeat_interleave", "reshape", "roll", "rot90", "squeeze", "swapaxes",
    "swapdims", "t", "tile", "transpose", "tril", "tril_indices", "triu", "triu_indices", "unflatten", "unsqueeze",
    "trace",
]  # fmt: skip
METHODS = (
    "adjoint", "broadcast_to", "diag", "diag_embed", "diagflat", "diagonal", "expand", "expand_as",
    "flatten", "flip",
    "fliplr", "flipud", "moveaxis", "movedim", "narrow_copy", "permute", "ravel", "repeat", "repeat_interleave",
    "reshape", "reshape_as", "roll", "rot90", "squeeze", "swapaxes", "swapdims", "t", "tile", "trace", "transpose",
    "tril", "triu", "unflatten", "unfold", "unsqueeze", "view", "view_as", "T", "mT", "mH", "H",
)  # fmt: skip


# --- the same entries in another shape ---------------------------------------------------------------------------


def _into(x: Any, shape: tuple[int, ...]) -> Any:
    return ops.reshape(x, shape=infer(shape, x._array.size))


def reshape(input: Any, *shape: Any) -> Any:
    """The same entries in row-major order in another shape; one size may be −1. A view where possible."""
    return _into(need_tensor(input, "reshape"), sizes(shape))


def reshape_as(self: Any, other: Any) -> Any:
    """In the shape of another tensor."""
    return _into(self, other._array.shape)


def view(self: Any, *shape: Any) -> Any:
    """The same memory in another shape, or read as another dtype.

    Raises:
        ShapeError: when that shape would need a copy (use ``reshape``).
    """
    if len(shape) == 1 and isinstance(shape[0], dtypes.dtype):
        return _reread(self, shape[0])
    wanted = infer(sizes(shape), self._array.size)
    result = ops.reshape(self, shape=wanted)
    if result._base is None and self._array.size:
        raise ShapeError(
            message(
                "view size is not compatible with input tensor's size and stride (at least one dimension spans across "
                "two contiguous subspaces). Use .reshape(...) instead.",
                f"the tensor is {tuple(self._array.shape)} with strides {self.stride()}, the shape asked for {wanted}",
            )
        )
    return result


def _reread(x: Any, dtype: dtypes.dtype) -> Any:
    """The same bytes as entries of another dtype, with no history: ``x.view(torch.int32)``."""
    memory_read("view of another dtype")
    a, size = x._array, dtype.itemsize
    names = [dtypes.TORCH_NAMES[d.name] for d in (dtypes.from_numpy(a.dtype), dtype)]
    what = f"to view {names[0]} as {names[1]} (different element sizes)"
    if size != a.itemsize:
        if not a.ndim:
            raise RuntimeError(f"self.dim() cannot be 0 {what}")
        if a.size and a.strides[-1] != a.itemsize and a.shape[-1] > 1:
            raise RuntimeError(f"self.stride(-1) must be 1 {what}, but got {x.stride()[-1]}")
        if a.shape[-1] * a.itemsize % size:
            raise RuntimeError(f"self.size(-1) must be divisible by {size // a.itemsize} {what}, but got {a.shape[-1]}")
    if not a.size:
        return wrap(np.zeros((*a.shape[:-1], a.shape[-1] * a.itemsize // size), dtype.numpy))
    if a.ndim and a.shape[-1] == 1 and a.strides[-1] != a.itemsize:  # one entry: any stride will do
        a = np.lib.stride_tricks.as_strided(a, strides=(*a.strides[:-1], a.itemsize))
    return wrap(a.view(dtype.numpy))


def view_as(self: Any, other: Any) -> Any:
    """The same memory in the shape of another tensor."""
    return view(self, *other._array.shape)


def ravel(input: Any) -> Any:
    """All entries along one axis."""
    return _into(need_tensor(input, "ravel"), (-1,) if input._array.size else (0,))


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """The axes from ``start_dim`` to ``end_dim`` as one: (b, c, h, w) → (b, c·h·w) for ``start_dim=1``."""
    x = need_tensor(input, "flatten")
    shape = x._array.shape
    a, b = axis(start_dim, len(shape)), axis(end_dim, len(shape))
    if a > b:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if not shape:
        return ops.reshape(x, shape=(1,))
    if a == b:
        return x
    return ops.reshape(x, shape=(*shape[:a], math.prod(shape[a : b + 1]), *shape[b + 1 :]))


def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Any:
    """One axis as several: its length is the product of ``sizes``, one of which may be −1."""
    x = need_tensor(input, "unflatten")
    shape = x._array.shape
    d = axis(dim, len(shape))
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    parts = tuple(int(n) for n in sizes)
    known = math.prod(n for n in parts if n != -1)
    if parts.count(-1) > 1:
        raise RuntimeError("only one dimension can be inferred")
    if -1 in parts and known and shape[d] % known == 0:
        parts = tuple(shape[d] // known if n == -1 else n for n in parts)
    if math.prod(parts) != shape[d] or -1 in parts:
        raise RuntimeError(
            f"unflatten: Provided sizes {[int(n) for n in sizes]} don't multiply up to the size of dim {d} "
            f"({shape[d]}) in the input tensor"
        )
    return ops.reshape(x, shape=(*shape[:d], *parts, *shape[d + 1 :]))


def squeeze(input: Any, dim: Any = None) -> Any:
    """Without the axes of size 1: all of them, or those named that have it."""
    x = need_tensor(input, "squeeze")
    shape = x._array.shape
    if dim is None:
        return ops.reshape(x, shape=tuple(n for n in shape if n != 1))
    named = (dim,) if not isinstance(dim, (tuple, list)) else tuple(dim)
    gone = {axis(d, len(shape)) for d in named}
    return ops.reshape(x, shape=tuple(n for i, n in enumerate(shape) if n != 1 or i not in gone))


def unsqueeze(input: Any, dim: int) -> Any:
    """With a new axis of size 1 at ``dim``."""
    x = need_tensor(input, "unsqueeze")
    shape = x._array.shape
    d = axis(dim, len(shape) + 1)
    return ops.reshape(x, shape=(*shape[:d], 1, *shape[d:]))


def _atleast(n: int) -> Any:
    def one(x: Any) -> Any:
        shape = need_tensor(x, f"atleast_{n}d")._array.shape
        missing = n - len(shape)
        if missing <= 0:
            return x
        if n == 3 and len(shape) == 1:
            return ops.reshape(x, shape=(1, *shape, 1))
        if n == 3 and len(shape) == 2:
            return ops.reshape(x, shape=(*shape, 1))
        return ops.reshape(x, shape=(1,) * missing + shape)

    def atleast(*tensors: Any) -> Any:
        if len(tensors) == 1:
            return one(tensors[0]) if isinstance(tensors[0], Variable) else tuple(map(one, tensors[0]))
        return tuple(map(one, tensors))

    atleast.__name__ = atleast.__qualname__ = f"atleast_{n}d"
    atleast.__doc__ = f"Each tensor with at least {n} axes, new ones of size 1."
    return atleast


atleast_1d, atleast_2d, atleast_3d = _atleast(1), _atleast(2), _atleast(3)


# --- axes in another order ---------------------------------------------------------------------------------------


def permute(input: Any, *dims: Any) -> Any:
    """The axes in the order ``dims`` (a view)."""
    x = need_tensor(input, "permute")
    order = sizes(dims)
    ndim = x._array.ndim
    if len(order) != ndim:
        raise RuntimeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions i.e. input.dim() = {ndim} is not equal to len(dims) = {len(order)}"
        )
    order = tuple(axis(d, ndim) for d in order)
    if len(set(order)) != ndim:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return ops.permute(x, dims=order)


def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Two axes exchanged (a view)."""
    x = need_tensor(input, "transpose")
    ndim = x._array.ndim
    a, b = axis(dim0, ndim), axis(dim1, ndim)
    if ndim < 2:
        return ops.permute(x, dims=tuple(range(ndim)))
    if {a, b} == {ndim - 2, ndim - 1}:
        return ops.swap(x)
    order = list(range(ndim))
    order[a], order[b] = b, a
    return ops.permute(x, dims=tuple(order))


def swapaxes(input: Any, axis0: int, axis1: int) -> Any:
    """Two axes exchanged (a view)."""
    return transpose(input, axis0, axis1)


def swapdims(input: Any, dim0: int, dim1: int) -> Any:
    """Two axes exchanged (a view)."""
    return transpose(input, dim0, dim1)


def t(input: Any) -> Any:
    """The transpose of a matrix; a tensor with fewer axes as it is."""
    x = need_tensor(input, "t")
    ndim = x._array.ndim
    if ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {ndim}D")
    return ops.swap(x) if ndim == 2 else ops.permute(x, dims=tuple(range(ndim)))


def adjoint(input: Any) -> Any:
    """The last two axes exchanged."""
    x = need_tensor(input, "adjoint")
    if x._array.ndim < 2:
        raise RuntimeError(
            f"tensor.adjoint() is only supported on matrices or batches of matrices. Got {x._array.ndim}-D tensor."
        )
    return ops.swap(x)


def _reversed_axes(self: Any) -> Any:
    """All axes in reverse order: the transpose of a matrix."""
    ndim = self._array.ndim
    return ops.swap(self) if ndim == 2 else ops.permute(self, dims=tuple(range(ndim - 1, -1, -1)))


def _matrix_transpose(self: Any) -> Any:
    """The last two axes exchanged."""
    if self._array.ndim < 2:
        raise RuntimeError(
            f"tensor.mT is only supported on matrices or batches of matrices. Got {self._array.ndim}-D tensor."
        )
    return ops.swap(self)


def _hermitian(self: Any) -> Any:
    """The transpose of a matrix (tensors are real)."""
    if self._array.ndim not in (0, 2):
        raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {self._array.ndim}-D tensor.")
    return _reversed_axes(self)


T, mT, mH, H = property(_reversed_axes), property(_matrix_transpose), property(_matrix_transpose), property(_hermitian)


def movedim(input: Any, source: Any, destination: Any) -> Any:
    """Some axes moved to other places; the rest keep their order (a view)."""
    x = need_tensor(input, "movedim")
    ndim = x._array.ndim
    src = (source,) if isinstance(source, int) else tuple(source)
    dst: tuple[int, ...] = (destination,) if isinstance(destination, int) else tuple(destination)
    if len(src) != len(dst):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({list(src)} dims) should contain the same number of "
            f"dims as destination ({list(dst)} dims)"
        )
    src, dst = tuple(axis(d, ndim) for d in src), tuple(axis(d, ndim) for d in dst)
    given: Any
    for name, dims, given in (("source", src, source), ("destination", dst, destination)):
        if len(set(dims)) != len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({list(given)})")
    order = [-1] * ndim
    for s, d in zip(src, dst, strict=True):
        order[d] = s
    rest = iter(i for i in range(ndim) if i not in src)
    return ops.permute(x, dims=tuple(next(rest) if d < 0 else d for d in order))


def moveaxis(input: Any, source: Any, destination: Any) -> Any:
    """Some axes moved to other places."""
    return movedim(input, source, destination)


# --- repeated ----------------------------------------------------------------------------------------------------


def expand(self: Any, *size: Any) -> Any:
    """Repeated along new axes and along axes of size 1, without copying; −1 keeps an axis as it is."""
    wanted, shape = sizes(size), self._array.shape
    lead = len(wanted) - len(shape)
    if lead < 0:
        raise RuntimeError(
            f"expand({self.type()}{{{list(shape)}}}, size={list(wanted)}): the number of sizes provided "
            f"({len(wanted)}) must be greater or equal to the number of dimensions in the tensor ({len(shape)})"
        )
    full: list[int] = []
    for i, n in enumerate(wanted):
        old = shape[i - lead] if i >= lead else None
        if n == -1:
            if old is None:
                raise RuntimeError(
                    f"The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing dimension {i}"
                )
            n = old
        if old is not None and old not in (n, 1):
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({old}) at non-singleton "
                "dimension "
                f"{i}.  Target sizes: {list(wanted)}.  Tensor sizes: {list(shape)}"
            )
        full.append(n)
    return ops.expand(self, shape=tuple(full))


def expand_as(self: Any, other: Any) -> Any:
    """Repeated to the shape of another tensor."""
    return expand(self, *other._array.shape)


def broadcast_to(input: Any, size: Sequence[int]) -> Any:
    """Repeated along new axes and along axes of size 1, without copying."""
    return expand(need_tensor(input, "broadcast_to"), *size)


def broadcast_shapes(*shapes: Any) -> Any:
    """The shape that shapes broadcast to."""
    whole = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    try:
        return Size(np.broadcast_shapes(*whole))
    except ValueError:
        raise RuntimeError(
            message("Shape mismatch: objects cannot be broadcast to a single shape", f"the shapes are {whole}")
        ) from None


def broadcast_tensors(*tensors: Any) -> tuple[Any, ...]:
    """All tensors in the shape that they broadcast to."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    shape = common_shape([x._array.shape for x in tensors])
    return tuple(ops.expand(x, shape=shape) for x in tensors)


def common_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that shapes broadcast to.

    Raises:
        ShapeError: with PyTorch's message, which names the first two that do not fit.
    """
    result: tuple[int, ...] = ()
    for shape in shapes:
        try:
            result = np.broadcast_shapes(result, shape)
        except ValueError:
            ndim = max(len(result), len(shape))
            a, b = (1,) * (ndim - len(result)) + result, (1,) * (ndim - len(shape)) + shape
            d = next(i for i in range(ndim - 1, -1, -1) if a[i] != b[i] and 1 not in (a[i], b[i]))
            raise ShapeError(
                message(
                    f"The size of tensor a ({a[d]}) must match the size of tensor b ({b[d]}) at non-singleton "
                    f"dimension {d}",
                    f"the shapes are {', '.join(map(str, shapes))}",
                )
            ) from None
    return result


def repeat(self: Any, *repeats: Any) -> Any:
    """Copies side by side: axis i ``repeats[i]`` times."""
    counts, shape = sizes(repeats), self._array.shape
    if len(counts) < len(shape):
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    if any(c < 0 for c in counts):
        raise RuntimeError(f"Trying to create tensor with negative dimension {next(c for c in counts if c < 0)}")
    shape = (1,) * (len(counts) - len(shape)) + shape
    if all(c == 1 for c in counts):
        return ops.clone(ops.reshape(self, shape=shape))
    apart = ops.reshape(self, shape=tuple(n for s in shape for n in (1, s)))
    spread = ops.expand(apart, shape=tuple(n for c, s in zip(counts, shape) for n in (c, s)))
    result = ops.reshape(spread, shape=tuple(c * s for c, s in zip(counts, shape)))
    return result if result._base is None else ops.clone(result)


def tile(input: Any, *dims: Any) -> Any:
    """Copies side by side; like ``repeat``, but missing leading counts are 1."""
    x = need_tensor(input, "tile")
    counts = sizes(dims)
    return repeat(x, *(1,) * (x._array.ndim - len(counts)), *counts)


def repeat_interleave(
    input: Any, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Any:
    """Each entry along ``dim`` several times in a row; without ``dim`` of the flattened tensor.

    >>> import chainrule as torch
    >>> torch.repeat_interleave(torch.tensor([1, 2, 3]), 2)
    tensor([1, 1, 2, 2, 3, 3])
    """
    from .indexing import index_select

    x = need_tensor(input, "repeat_interleave")
    values_read(x if repeats is None else repeats, "repeat_interleave")
    if repeats is None:
        return wrap(np.repeat(np.arange(x._array.size), x._array))
    if dim is None:
        x, dim = ravel(x), 0
    d = axis(dim, x._array.ndim)
    n = x._array.shape[d]
    if isinstance(repeats, Variable):
        counts = repeats._array.reshape(-1)
        if counts.dtype.kind not in "iu":
            raise RuntimeError("repeats has to be Long or Int tensor")
    else:
        counts = np.atleast_1d(np.asarray(repeats))
    if counts.size not in (1, n):
        raise RuntimeError(
            f"repeats must have the same size as input along dim, but got repeats.size(0) = {counts.size} and "
            f"input.size({d}) = {n}"
        )
    if (counts < 0).any():
        raise RuntimeError("repeats can not be negative")
    return index_select(x, d, wrap(np.repeat(np.arange(n), counts)))


# --- reversed, moved round ---------------------------------------------------------------------------------------


def flip(input: Any, *dims: Any) -> Any:
    """Reversed along axes (a copy)."""
    x = need_tensor(input, "flip")
    found = tuple(axis(d, x._array.ndim) for d in sizes(dims))
    if len(set(found)) != len(found):
        twice = next(d for d in found if found.count(d) > 1)
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    return ops.flip(x, dims=found) if found and x._array.ndim else ops.clone(x)


def fliplr(input: Any) -> Any:
    """Reversed along axis 1."""
    if need_tensor(input, "fliplr")._array.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


def flipud(input: Any) -> Any:
    """Reversed along axis 0."""
    if need_tensor(input, "flipud")._array.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


def roll(input: Any, shifts: Any, dims: Any = None) -> Any:
    """Moved by ``shifts`` along ``dims``, what leaves at the end entering at the start; the flat "
    "tensor without dims."""
    x = need_tensor(input, "roll")
    by = (shifts,) if isinstance(shifts, (int, np.integer)) else tuple(shifts)
    along = () if dims is None else (dims,) if isinstance(dims, (int, np.integer)) else tuple(dims)
    if not by:
        raise RuntimeError("`shifts` required")
    if not along and len(by) == 1:
        return ops.reshape(ops.roll(ravel(x), shifts=by, dims=(0,)), shape=x._array.shape)
    if len(by) != len(along):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(by)}, dims:{len(along)}")
    if not x._array.ndim:
        raise IndexOutOfRange("Dimension specified as 0 but tensor has no dimensions")
    return ops.roll(x, shifts=by, dims=tuple(axis(d, x._array.ndim) for d in along))


def rot90(input: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Any:
    """Rotated by k · 90° in the plane of two axes, from the first towards the second."""
    x = need_tensor(input, "rot90")
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if x._array.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {x._array.ndim}")
    if dims[0] == dims[1] or abs(dims[0] - dims[1]) == x._array.ndim:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    a, b = axis(dims[0], x._array.ndim), axis(dims[1], x._array.ndim)
    k %= 4
    if k == 0:
        return ops.clone(x)
    if k == 2:
        return ops.flip(x, dims=(a, b))
    return transpose(flip(x, b), a, b) if k == 1 else flip(transpose(x, a, b), b)


# --- triangles and diagonals -------------------------------------------------------------------------------------


def _triangle(name: str, triangle: Any) -> Any:
    def function(input: Any, diagonal: int = 0, *, out: Any = None) -> Any:
        if out is not None:
            from .inplace import into

            return into(out, function(input, diagonal), name)
        x = need_tensor(input, name)
        if x._array.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        return triangle(x, diagonal=int(diagonal))

    function.__name__ = function.__qualname__ = name
    side = "on and below" if name == "tril" else "on and above"
    function.__doc__ = f"The entries {side} a diagonal of the last two axes, 0 elsewhere."
    return function


tril, triu = _triangle("tril", ops.tril), _triangle("triu", ops.triu)
INPLACE = ("tril", "triu")


def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, layout: Any = None
) -> Any:
    """The (2, n) indices of the lower triangle of a ``row`` × ``col`` matrix."""
    return _indices(np.tril_indices(row, offset, col), dtype)


def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, layout: Any = None
) -> Any:
    """The (2, n) indices of the upper triangle of a ``row`` × ``col`` matrix."""
    return _indices(np.triu_indices(row, offset, col), dtype)


def _indices(found: Any, dtype: Any) -> Any:
    from ..core.dtypes import as_numpy_dtype

    return wrap(np.stack(found).astype(as_numpy_dtype(dtype) or np.int64))


def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The diagonal of two axes, as a last axis (a view)."""
    x = need_tensor(input, "diagonal")
    a, b = axis(dim1, x._array.ndim), axis(dim2, x._array.ndim)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return ops.diagonal(x, offset=offset, dim1=a, dim2=b)


def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The last axis as the diagonal of two new axes, 0 elsewhere."""
    x = need_tensor(input, "diag_embed")
    shape = x._array.shape
    a, b = axis(dim1, len(shape) + 1), axis(dim2, len(shape) + 1)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    full = list(shape[:-1])
    for d in sorted((a, b)):
        full.insert(d, shape[-1] + abs(offset))
    return ops.on_diagonal(x, shape=tuple(full), offset=offset, dim1=a, dim2=b)


def diag(input: Any, diagonal: int = 0, *, out: Any = None) -> Any:
    """A vector as a diagonal matrix, or a matrix's diagonal as a vector (a copy)."""
    if out is not None:
        from .inplace import into

        return into(out, diag(input, diagonal), "diag")
    x = need_tensor(input, "diag")
    if x._array.ndim == 1:
        return diag_embed(x, diagonal)
    if x._array.ndim != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {x._array.ndim}D")
    return ops.clone(ops.diagonal(x, offset=diagonal, dim1=0, dim2=1))


def diagflat(input: Any, offset: int = 0) -> Any:
    """All entries as the diagonal of a matrix."""
    return diag_embed(ravel(input), offset)


def trace(input: Any) -> Any:
    """Sum of a matrix's diagonal."""
    from ..ops.reduce import sum

    x = need_tensor(input, "trace")
    if x._array.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {x._array.ndim}")
    d = ops.diagonal(x, offset=0, dim1=0, dim2=1)
    return sum(d if d._array.dtype in dtypes.FLOATS else ops.cast(d, dtype=np.dtype(np.int64)))


# --- windows -----------------------------------------------------------------------------------------------------


def unfold(self: Any, dimension: int, size: int, step: int) -> Any:
    """Sliding windows of ``size`` entries, ``step`` apart, along one axis; a new last axis holds a window (a view)."""
    shape = self._array.shape
    d = axis(dimension, len(shape))
    n = shape[d] if shape else 1
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {n} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    x = self if shape else ops.reshape(self, shape=(1,))
    return ops.unfold(x, dim=d, size=int(size), step=int(step)) if shape else ops.reshape(x, shape=(size,))


def narrow_copy(input: Any, dim: int, start: int, length: int, *, out: Any = None) -> Any:
    """A copy of ``length`` entries from ``start`` on along one axis."""
    if out is not None:
        from .inplace import into

        return into(out, narrow_copy(input, dim, start, length), "narrow_copy")
    from .indexing import narrow

    return ops.clone(narrow(input, dim, start, length))
