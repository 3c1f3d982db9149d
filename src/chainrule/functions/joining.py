"""Joining tensors and taking them apart, with PyTorch's argument forms."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dispatch import promote
from ..core.dtypes import default, result_dtype
from ..core.variable import Variable, wrap
from ..errors import IndexOutOfRange, ShapeError, message
from ..ops import join as ops
from ..ops import layout
from ..ops.pad import pad_constant
from ._args import axis, cast, need_tensor
from .inplace import into
from .layout import atleast_1d, atleast_2d, atleast_3d

__all__ = [
    "block_diag", "cat", "chunk", "column_stack", "concat", "concatenate", "dsplit", "dstack", "hsplit", "hstack",
    "row_stack",
    "split", "split_with_sizes", "stack", "tensor_split", "unbind", "unsafe_chunk", "unsafe_split",
    "unsafe_split_with_sizes", "vsplit", "vstack",
]  # fmt: skip
METHODS = (
    "chunk", "dsplit", "hsplit", "split", "split_with_sizes", "tensor_split", "unbind", "vsplit", "unsafe_chunk",
    "unsafe_split", "unsafe_split_with_sizes",
)  # fmt: skip


def _sequence(tensors: Any, function: str) -> tuple[Any, ...]:
    if isinstance(tensors, Variable) or not isinstance(tensors, (list, tuple)):
        kind = type(tensors).__name__
        raise TypeError(f"{function}(): argument 'tensors' (position 1) must be tuple of Tensors, not {kind}")
    for i, x in enumerate(tensors):
        if not isinstance(x, Variable):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(x).__name__}")
    if not tensors:
        raise ValueError(f"{function}(): expected a non-empty list of Tensors")
    return tuple(tensors)


def cat(tensors: Any, dim: int = 0, *, axis: Any = None, out: Any = None) -> Any:
    """Tensors one after another along an existing axis; 1-d tensors without entries are skipped, as in PyTorch.

    >>> import chainrule as torch
    >>> torch.cat([torch.ones(1, 2), torch.zeros(2, 2)]).shape
    torch.Size([3, 2])
    """
    if out is not None:
        return into(out, cat(tensors, dim, axis=axis), "cat")
    parts = _sequence(tensors, "torch.cat")
    dim = dim if axis is None else axis
    first = parts[0]._array.shape
    if len(first) > 1 and all(x._array.shape == first for x in parts):  # nothing to check
        return ops.cat(*parts, dim=_axis(dim, len(first)))
    for i, x in enumerate(parts):
        if x._array.ndim == 0:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    full = tuple(x for x in parts if x._array.shape != (0,)) or parts
    if len(full) < len(parts):  # those skipped still count for the dtype
        common = result_dtype(*(x._array for x in parts))
        full = tuple(cast(x, common) for x in full)
    first = full[0]._array.shape
    d = 0 if first == (0,) else _axis(dim, len(first))  # vectors without entries have any axis
    for i, x in enumerate(full[1:], 1):
        shape = x._array.shape
        if len(shape) != len(first):
            raise ShapeError(
                message(
                    f"Tensors must have same number of dimensions: got {len(first)} and {len(shape)}",
                    f"the shapes are {[tuple(t._array.shape) for t in full]}",
                )
            )
        for k, (a, b) in enumerate(zip(first, shape, strict=True)):
            if a != b and k != d:
                raise ShapeError(
                    message(
                        f"Sizes of tensors must match except in dimension {d}. Expected size {a} but got size {b} for "
                        f"tensor number {i} in the list.",
                        f"the shapes are {[tuple(t._array.shape) for t in full]}",
                    )
                )
    return ops.cat(*full, dim=d)


_axis = axis


def concat(tensors: Any, dim: int = 0, *, axis: Any = None, out: Any = None) -> Any:
    """Alias of ``cat``."""
    if out is not None:
        return into(out, concat(tensors, dim, axis=axis), "concat")
    return cat(tensors, dim, axis=axis)


concatenate = concat


def stack(tensors: Any, dim: int = 0, *, out: Any = None) -> Any:
    """Tensors of one shape along a new axis."""
    if out is not None:
        return into(out, stack(tensors, dim), "stack")
    parts = _sequence(tensors, "stack")
    first = parts[0]._array.shape
    for i, x in enumerate(parts):
        if x._array.shape != first:
            raise ShapeError(
                message(
                    f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 and "
                    f"{list(x._array.shape)} at entry {i}"
                )
            )
    return ops.stack(*parts, dim=axis(dim, len(first) + 1))


def hstack(tensors: Any, *, out: Any = None) -> Any:
    """Side by side: joined along axis 1 (axis 0 for 1-d tensors)."""
    if out is not None:
        return into(out, hstack(tensors), "hstack")
    parts = atleast_1d(list(_sequence(tensors, "hstack")))
    return cat(parts, 0 if parts[0]._array.ndim == 1 else 1)


def vstack(tensors: Any, *, out: Any = None) -> Any:
    """One below another: joined along axis 0, 1-d tensors as rows."""
    if out is not None:
        return into(out, vstack(tensors), "vstack")
    return cat(atleast_2d(list(_sequence(tensors, "vstack"))), 0)


row_stack = vstack


def dstack(tensors: Any, *, out: Any = None) -> Any:
    """One behind another: joined along axis 2."""
    if out is not None:
        return into(out, dstack(tensors), "dstack")
    return cat(atleast_3d(list(_sequence(tensors, "dstack"))), 2)


def column_stack(tensors: Any, *, out: Any = None) -> Any:
    """1-d tensors as columns, then side by side."""
    if out is not None:
        return into(out, column_stack(tensors), "column_stack")
    parts = _sequence(tensors, "column_stack")
    return hstack([x if x._array.ndim > 1 else layout.reshape(x, shape=(x._array.size, 1)) for x in parts])


# --- apart -------------------------------------------------------------------------------------------------------


def split(tensor: Any, split_size_or_sections: Any = None, dim: int = 0, *, split_size: Any = None) -> tuple[Any, ...]:
    """Consecutive parts along ``dim``: of one size (the last may be smaller), or of the sizes listed (views)."""
    x = need_tensor(tensor, "split")
    sections = split_size if split_size_or_sections is None else split_size_or_sections
    shape = x._array.shape
    if not shape:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = axis(dim, len(shape))
    n = shape[d]
    if isinstance(sections, (list, tuple)):
        parts = tuple(int(k) for k in sections)
        if any(k < 0 for k in parts):
            raise RuntimeError(
                "split_with_sizes expects split_sizes have only non-negative entries, but got "
                f"split_sizes={list(parts)}"
            )
        if sum(parts) != n:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {dim}), "
                f"but got split_sizes={list(parts)}"
            )
    else:
        size = int(sections)
        if size < 0:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
        if size == 0:
            if n:
                raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
            parts = (0,)
        else:
            parts = (size,) * (n // size) + ((n % size,) if n % size or not n else ())
    return ops.split(x, sizes=parts, dim=d)


def split_with_sizes(self: Any, split_sizes: Sequence[int], dim: int = 0) -> tuple[Any, ...]:
    """Consecutive parts of the sizes listed."""
    return split(self, list(split_sizes), dim)


def block_diag(*tensors: Any) -> Any:
    """Matrices (vectors as rows, numbers as 1 × 1) along the diagonal of a larger one, zeros elsewhere.

    >>> import chainrule as torch
    >>> torch.block_diag(torch.tensor([1, 2]), torch.tensor(3))
    tensor([[1, 2, 0],
            [0, 0, 3]])
    """
    if not tensors:
        return wrap(np.empty((1, 0), default.numpy))
    for i, t in enumerate(tensors):
        if need_tensor(t, "block_diag", i + 1, "tensors")._array.ndim > 2:
            raise RuntimeError(
                f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {i} has "
                f"{t._array.ndim} dimensions"
            )
    blocks = [layout.reshape(t, shape=(1,) * (2 - t._array.ndim) + t._array.shape) for t in promote(tensors)]
    width, left, rows = sum(b._array.shape[1] for b in blocks), 0, list[Any]()
    for b in blocks:
        n = b._array.shape[1]
        rows.append(pad_constant(b, widths=((0, 0), (left, width - left - n)), value=0))
        left += n
    return ops.cat(*rows, dim=0)


def unsafe_split_with_sizes(input: Any, split_sizes: Sequence[int], dim: int = 0) -> tuple[Any, ...]:
    """``split_with_sizes``."""
    return split_with_sizes(input, split_sizes, dim)


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """At most ``chunks`` parts of equal size along ``dim`` (the last may be smaller)."""
    x = need_tensor(input, "chunk")
    if not x._array.ndim:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    n = x._array.shape[axis(dim, x._array.ndim)]
    if n == 0:
        return split(x, [0] * chunks, dim)
    return split(x, -(-n // chunks), dim)


def unsafe_split(tensor: Any, split_size: int, dim: int = 0) -> tuple[Any, ...]:
    """``split``."""
    return split(tensor, split_size, dim)


def unsafe_chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """``chunk``."""
    return chunk(input, chunks, dim)


def tensor_split(
    input: Any, indices_or_sections: Any = None, dim: int = 0, *, indices: Any = None, sections: Any = None
) -> tuple[Any, ...]:
    """Parts along ``dim``: so many, as equal as can be, or cut at the indices listed (views)."""
    x = need_tensor(input, "tensor_split")
    given: Any = next((a for a in (indices_or_sections, indices, sections) if a is not None), None)
    if isinstance(given, Variable):
        given = given.tolist()
    if not x._array.ndim:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    d = axis(dim, x._array.ndim)
    n = x._array.shape[d]
    if isinstance(given, (int, np.integer)):
        if given <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {given}")
        small, more = divmod(n, int(given))
        parts = (small + 1,) * more + (small,) * (int(given) - more)
        return ops.split(x, sizes=parts, dim=d)
    from .indexing import getitem

    cuts = [None, *given, None]
    return tuple(getitem(x, (*(slice(None),) * d, slice(a, b))) for a, b in itertools.pairwise(cuts))


def _axis_split(name: str, dim: int, least: int) -> Any:
    def function(input: Any, indices_or_sections: Any) -> tuple[Any, ...]:
        ndim = need_tensor(input, name)._array.ndim
        if ndim < least:
            raise RuntimeError(
                f"torch.{name} requires a tensor with at least {least} dimension, but got a "
                f"tensor with {ndim} dimensions!"
            )
        d = 0 if ndim == 1 else dim
        n = input._array.shape[d]
        if isinstance(indices_or_sections, int) and (indices_or_sections == 0 or n % indices_or_sections):
            raise RuntimeError(
                f"torch.{name} attempted to split along dimension {d}, but the size of the dimension {n} is not "
                f"divisible by the split_size {indices_or_sections}!"
            )
        return tensor_split(input, indices_or_sections, d)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``tensor_split`` along axis {dim}."
    return function


hsplit, vsplit, dsplit = _axis_split("hsplit", 1, 1), _axis_split("vsplit", 0, 2), _axis_split("dsplit", 2, 3)


def unbind(input: Any, dim: int = 0) -> tuple[Any, ...]:
    """The slices along one axis, without it (views)."""
    x = need_tensor(input, "unbind")
    if not x._array.ndim:
        raise IndexOutOfRange("Dimension specified as 0 but tensor has no dimensions")
    return ops.unbind(x, dim=axis(dim, x._array.ndim))
