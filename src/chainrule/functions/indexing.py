"""Indexing and assignment in all of PyTorch's forms, and the functions that pick and put entries.

An index is taken apart in two steps, as PyTorch does: ints, slices, None and Ellipsis give a view; then bool masks
and integer tensors (or lists) index the axes that are left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import inplace
from ..core.live import values_known, values_read
from ..core.state import state
from ..core.variable import Variable, wrap
from ..errors import IndexOutOfRange, ShapeError, message
from ..ops import gather as along
from ..ops import index as ops
from ..ops import join, layout
from ..ops.compare import where
from ._args import axis, cast, need_tensor, whole
from .inplace import into

__all__ = ["gather", "index_select", "masked_select", "narrow", "nonzero", "nonzero_static", "select", "take_along_dim"]
METHODS = ("gather", "index_select", "masked_select", "narrow", "nonzero", "nonzero_static", "select", "take_along_dim")

_BASIC = (int, slice, type(None), type(Ellipsis))


# --- taking an index apart ---------------------------------------------------------------------------------------


def _bound(value: Any) -> Any:
    return value if value is None else value.__index__()


def _plain_slice(k: slice) -> slice:
    step = _bound(k.step)
    if step is not None and step <= 0:
        raise ValueError("step must be greater than zero")
    return slice(_bound(k.start), _bound(k.stop), step)


def _array_of(k: Any) -> Any:
    """An index given as list or NumPy array, as a tensor."""
    if isinstance(k, (list, range)) and not values_known(*k):
        return join.stack(*(x if isinstance(x, Variable) else _array_of(x) for x in k), dim=0)
    array = np.asarray([x._array if isinstance(x, Variable) else x for x in k] if isinstance(k, (list, range)) else k)
    if array.size == 0 and isinstance(k, (list, range)):
        array = array.astype(np.int64)
    return wrap(array)


def _is_tuple_like(key: Any) -> bool:
    """Whether a list stands for a tuple of indices: PyTorch's rule, a short one with anything but numbers in it."""
    if type(key) is not list or len(key) >= 32:
        return False
    return any(
        k is None or k is Ellipsis or isinstance(k, (list, tuple, range, slice, Variable, np.ndarray)) for k in key
    )


def parse(key: Any, shape: tuple[int, ...], numbers: bool = False) -> tuple[tuple[Any, ...], list[Any], bool]:
    """A key as (basic key, arrays per axis of the view that it gives, whether there are arrays).

    A tensor of one number is an int of the basic key, unless ``numbers``, or its value is not known while tracing.

    Raises:
        IndexOutOfRange: too many indices, or an int out of range, with PyTorch's messages.
    """
    items = list(key) if type(key) is tuple or _is_tuple_like(key) else [key]
    flat: list[Any] = []
    used = 0
    for k in items:
        kind = type(k)
        if kind is bool or isinstance(k, np.bool_):
            flat.append(wrap(np.asarray(k)))
        elif kind in _BASIC:
            if kind is slice:
                k = _plain_slice(k)
            flat.append(k)
            used += kind is int or kind is slice
        elif isinstance(k, Variable):
            if k._array.dtype.kind == "u":  # PyTorch reads byte tensors as masks
                k = cast(k, np.bool_)
            a = k._array
            if a.dtype.kind == "b":
                used += a.ndim
                flat.append(k)
            elif a.dtype.kind in "iu":
                used += 1
                flat.append(k)
            else:
                raise IndexOutOfRange(
                    message("tensors used as indices must be long, int, byte or bool tensors", f"this one is {a.dtype}")
                )
        elif isinstance(k, (list, range, np.ndarray)):
            t = _array_of(k)
            if t._array.dtype.kind not in "iub":
                raise IndexOutOfRange(
                    message("tensors used as indices must be long, int, byte or bool tensors", f"this one is {t.dtype}")
                )
            used += t._array.ndim if t._array.dtype.kind == "b" else 1
            flat.append(t)
        elif hasattr(k, "__index__"):
            flat.append(k.__index__())
            used += 1
        else:
            kind = TypeError if isinstance(k, str) else IndexOutOfRange
            raise kind(
                "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
                f"(got {type(k).__name__})"
            )
    ndim = len(shape)
    if used > ndim:
        raise IndexOutOfRange(f"too many indices for tensor of dimension {ndim}")
    if any(k is Ellipsis for k in flat):
        at = next(i for i, k in enumerate(flat) if k is Ellipsis)
        fill = [slice(None)] * (ndim - used)
        rest = [k for k in flat[at + 1 :] if k is not Ellipsis]
        flat = flat[:at] + fill + rest
    if not shape and any(type(k) in (int, slice) for k in flat):
        raise IndexOutOfRange("too many indices for tensor of dimension 0")
    basic: list[Any] = []
    arrays: list[Any] = []  # per axis of the view: a tensor, or None
    d = 0  # the axis of the tensor that is next
    for k in flat:
        if k is None:
            basic.append(None)
            arrays.append(None)
        elif isinstance(k, Variable):
            a = k._array
            if a.dtype.kind == "b":
                if a.ndim == 0:  # like None, then taken or not
                    values_read(k, "x[flag]")
                    basic.append(None)
                    arrays.append(wrap(np.zeros(1 if a else 0, np.int64)))
                    continue
                for i, n in enumerate(a.shape):
                    if n != shape[d + i]:
                        raise IndexOutOfRange(
                            message(
                                f"The shape of the mask {list(a.shape)} at index {i} does not match the shape of the "
                                f"indexed tensor {list(shape)} at index {d + i}"
                            )
                        )
                basic.extend([slice(None)] * a.ndim)
                arrays.append(k)
                arrays.extend([()] * (a.ndim - 1))  # axes that the mask before covers
                d += a.ndim
            elif a.ndim == 0 and not numbers and values_known(k):
                i = int(a)
                _check_int(i, shape, d)
                basic.append(i)
                d += 1
            else:
                basic.append(slice(None))
                arrays.append(k)
                d += 1
        elif type(k) is int:
            _check_int(k, shape, d)
            basic.append(k)
            d += 1
        else:
            basic.append(k)
            arrays.append(None)
            d += 1
    return tuple(basic), arrays, any(isinstance(a, Variable) for a in arrays)


def _check_int(i: int, shape: tuple[int, ...], d: int) -> None:
    n = shape[d]
    if not -n <= i < n:
        raise IndexOutOfRange(f"index {i} is out of bounds for dimension {d} with size {n}")


def _trivial(basic: tuple[Any, ...]) -> bool:
    return all(type(k) is slice and k == slice(None) for k in basic)


def _arrays(x: Any, arrays: list[Any]) -> tuple[tuple[int, ...], list[Any]]:
    """Masks as index arrays: the axes that are indexed, and the int64 tensors that do it, checked."""
    axes: list[int] = []
    found: list[Any] = []
    shape = x._array.shape
    for d, a in enumerate(arrays):
        if a is None or type(a) is tuple:
            continue
        if a._array.dtype.kind == "b":
            for i, part in enumerate(ops.nonzero(a)):
                axes.append(d + i)
                found.append(part)
            continue
        _check_range(a._array, shape[d], d)
        axes.append(d)
        found.append(a)
    try:
        np.broadcast_shapes(*(a._array.shape for a in found))
    except ValueError:
        shapes = ", ".join(str(list(a._array.shape)) for a in found)
        raise IndexOutOfRange(
            message(f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}")
        ) from None
    if len(found) > 6:
        raise IndexOutOfRange(message("more than 6 index tensors at once are not supported"))
    return tuple(axes), found


def _check_range(a: np.ndarray[Any, Any], n: int, d: int) -> None:
    if a.size and (a.min() < -n or a.max() >= n):
        bad = int(a[(a < -n) | (a >= n)].flat[0])  # the first one, as PyTorch
        raise IndexOutOfRange(f"index {bad} is out of bounds for dimension {d} with size {n}")


def _padded(found: list[Any]) -> list[Any]:
    return [*found, *[None] * (6 - len(found))]


_NO_AXES = (
    "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a 0-dim "
    "tensor to a number"
)

# --- x[key] ------------------------------------------------------------------------------------------------------


def _plain(key: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Any, ...] | None:
    """The key itself if it is made of valid ints and slices alone, else None: ``parse`` then says what it is."""
    if len(key) > len(shape):
        return None
    for k, n in zip(key, shape):  # the key may be shorter
        if type(k) is int:
            if not -n <= k < n:
                return None
        elif type(k) is not slice:
            return None
        else:
            start, stop, step = k.start, k.stop, k.step
            if not (
                (start is None or type(start) is int)
                and (stop is None or type(stop) is int)
                and (step is None or (type(step) is int and step > 0))
            ):
                return None
    return key


def getitem(x: Any, key: Any) -> Any:
    """x[key] in all forms."""
    if type(key) is int:  # the commonest: one number
        shape = x._array.shape
        if not shape:
            raise IndexOutOfRange(_NO_AXES)
        _check_int(key, shape, 0)
        return ops.getitem(x, key=(key,))
    if type(key) is tuple or type(key) is slice:
        plain = _plain(key if type(key) is tuple else (key,), x._array.shape)
        if plain is not None:
            return ops.getitem(x, key=plain)
    elif isinstance(key, Variable) and key._array.ndim and x._array.ndim:
        kind = key._array.dtype.kind
        if kind == "b":
            parse(key, x._array.shape)
            return ops.take_mask(x, key)
        if kind == "i":
            _check_range(key._array, x._array.shape[0], 0)
            return ops.index(x, key, None, None, None, None, None, axes=(0,))
    basic, arrays, advanced = parse(key, x._array.shape)
    if not x._array.ndim and any(type(k) is int for k in basic):
        raise IndexOutOfRange(_NO_AXES)
    if not advanced:
        return ops.getitem(x, key=basic)
    view = x if _trivial(basic) else ops.getitem(x, key=basic)
    if any(_is_number(a) for a in arrays):
        view, arrays = _at_numbers(view, arrays)
        if not any(isinstance(a, Variable) for a in arrays):
            state.recorder.copied(view, x)
            return view
    axes, found = _arrays(view, arrays)
    return ops.index(view, *_padded(found), axes=axes)


def _is_number(a: Any) -> bool:
    """Whether an index is a tensor of one number, which is not known while tracing."""
    return isinstance(a, Variable) and not a._array.ndim


def _at_numbers(x: Any, arrays: list[Any]) -> tuple[Any, list[Any]]:
    """x at those of the indices that are numbers, without their axes; and the other indices."""
    axes, found = _arrays(x, [a if _is_number(a) else None for a in arrays])
    return ops.index(x, *_padded(found), axes=axes), [a for a in arrays if not _is_number(a)]


def setitem(x: Any, key: Any, value: Any) -> None:
    """x[key] = value in all forms."""
    dtype = x._array.dtype
    v = value if isinstance(value, Variable) else None
    tracked = state.grad and (x._requires or x._base is not None or (v is not None and v._requires))
    if v is None:
        if isinstance(value, (int, float)) and dtype.kind in "iu":
            value = whole(value, dtype)
        if tracked or not isinstance(value, (int, float)):
            v = wrap(np.asarray(value))
    elif isinstance(value, Variable) and v._array.dtype is not dtype:
        v = cast(v, dtype)
    if v is not None and v._array.dtype is not dtype:
        v = cast(v, dtype)
    mask = isinstance(key, Variable) and key._array.dtype.kind == "b" and key._array.ndim
    basic, arrays, advanced = parse(key, x._array.shape)
    if mask and (v is None or not v._array.ndim):  # x[mask] = number
        if tracked or state.recorder is not None:
            v = wrap(np.asarray(value, dtype)) if v is None else v
            inplace.write(x, where(_along_leading(key, x._array.ndim), v, x))
        else:
            inplace.check_writable(x)
            x._array[key._array] = value if v is None else v._array
            inplace.touch(x._array)
        return
    if not tracked and state.recorder is None and not advanced:
        inplace.check_writable(x)
        part = x._array[(*basic, ...)]
        part[...] = value if v is None else _fit(v, part.shape)._array
        inplace.touch(x._array)
        return
    if v is None:
        v = wrap(np.asarray(value, dtype))
    view = x if _trivial(basic) else ops.getitem(x, key=basic)
    if not advanced:
        part = ops.getitem(x, key=basic) if view is x else view
        inplace.write(part, _fit(v, part._array.shape), copies=True)
        return
    numbers = [a for a in arrays if _is_number(a)]
    if numbers and len(numbers) < sum(isinstance(a, Variable) for a in arrays):
        values_read(numbers, "index")
    axes, found = _arrays(view, arrays)
    _put(view, v, axes, found, False)
    recorder: Any = state.recorder
    if numbers and recorder is not None:
        recorder.given_back(value, x)


def _along_leading(mask: Any, ndim: int) -> Any:
    missing = ndim - mask._array.ndim
    return layout.reshape(mask, shape=mask._array.shape + (1,) * missing) if missing else mask


def _put(x: Any, v: Any, axes: tuple[int, ...], found: list[Any], accumulate: bool) -> None:
    """Store (or add) values at index arrays, in x's own memory."""
    key = ops._full_key(axes, [a._array for a in found], x._array.ndim)
    target = _indexed_shape(x._array.shape, axes, [a._array.shape for a in found])
    v = _fit(v, target, indexed=True)

    def how(array: np.ndarray[Any, Any]) -> None:
        if accumulate:
            array += ops.index_sum.op.body(v._array, *_padded([a._array for a in found]), axes=axes, shape=array.shape)
        else:
            array[key] = v._array

    inplace.change(x, ops.index_put.op, (v, *_padded(found)), {"axes": axes, "accumulate": accumulate}, how)


def _indexed_shape(shape: tuple[int, ...], axes: tuple[int, ...], indices: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of ``index``'s result."""
    common = np.broadcast_shapes(*indices)
    rest = [n for d, n in enumerate(shape) if d not in axes]
    at = axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0
    return (*rest[:at], *common, *rest[at:])


def _fit(v: Any, shape: tuple[int, ...], indexed: bool = False) -> Any:
    """A value in the shape of the part it is written to (leading axes of size 1 are dropped, as in PyTorch)."""
    have = v._array.shape
    if have == shape:
        return v
    while len(have) > len(shape) and have[0] == 1:
        have = have[1:]
    if have != v._array.shape:
        v = layout.reshape(v, shape=have)
    try:
        fits = np.broadcast_shapes(have, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        if indexed:
            raise ShapeError(
                message(
                    f"shape mismatch: value tensor of shape {list(have)} cannot be broadcast to indexing result of "
                    f"shape {list(shape)}"
                )
            )
        d = next((i for i in range(1, min(len(have), len(shape)) + 1) if have[-i] not in (1, shape[-i])), None)
        if d is None:
            raise ShapeError(
                message(
                    f"expand({v.type()}{{{list(have)}}}, size={list(shape)}): the number of sizes provided "
                    f"({len(shape)}) "
                    f"must be greater or equal to the number of dimensions in the tensor ({len(have)})"
                )
            )
        raise ShapeError(
            message(
                f"The expanded size of the tensor ({shape[-d]}) must match the existing size ({have[-d]}) at "
                f"non-singleton dimension {len(shape) - d}.  Target sizes: {list(shape)}.  Tensor sizes: {list(have)}"
            )
        )
    return layout.expand(v, shape=shape)


OPERATORS = {"__getitem__": getitem, "__setitem__": setitem}


# --- along one axis ----------------------------------------------------------------------------------------------


def select(input: Any, dim: int, index: int) -> Any:
    """The slice at one index of one axis, without that axis (a view)."""
    x = need_tensor(input, "select")
    shape = x._array.shape
    if not shape:
        raise IndexOutOfRange("select() cannot be applied to a 0-dim tensor.")
    d, i = axis(dim, len(shape)), int(index)
    if not -shape[d] <= i < shape[d]:
        raise IndexOutOfRange(f"select(): index {i} out of range for tensor of size {list(shape)} at dimension {d}")
    return ops.getitem(x, key=(*(slice(None),) * d, i))


def narrow(input: Any, dim: int, start: Any, length: int) -> Any:
    """``length`` entries from ``start`` on along one axis (a view)."""
    x = need_tensor(input, "narrow")
    shape = x._array.shape
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    d, first = axis(dim, len(shape)), int(start)
    n = shape[d]
    if not -n <= first <= n:
        raise IndexOutOfRange(f"start out of range (expected to be in range of [{-n}, {n}], but got {first})")
    first += n if first < 0 else 0
    if first + length > n:
        raise RuntimeError(f"start ({first}) + length ({length}) exceeds dimension size ({n}).")
    return ops.getitem(x, key=(*(slice(None),) * d, slice(first, first + length)))


def _index_tensor(index: Any, function: str) -> Any:
    if not isinstance(index, Variable):
        raise TypeError(f"{function}(): argument 'index' (position 3) must be Tensor, not {type(index).__name__}")
    return index


def index_select(input: Any, dim: int, index: Any, *, out: Any = None) -> Any:
    """The slices along ``dim`` that ``index`` (1-d) lists."""
    if out is not None:
        return into(out, index_select(input, dim, index), "index_select")
    x, i = need_tensor(input, "index_select"), _index_tensor(index, "index_select")
    if i._array.dtype.kind != "i" or i._array.itemsize < 4:
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    if i._array.ndim > 1:
        raise IndexOutOfRange("index_select(): Index is supposed to be a vector")
    d = axis(dim, x._array.ndim)
    if i._array.ndim == 0:
        i = layout.reshape(i, shape=(1,))
    if not x._array.ndim:
        _index_bounds(i._array, 1)
        return layout.reshape(ops.index(layout.reshape(x, shape=(1,)), *_padded([i]), axes=(0,)), shape=())
    _index_bounds(i._array, x._array.shape[d])
    return ops.index(x, *_padded([i]), axes=(d,))


def _index_bounds(a: np.ndarray[Any, Any], n: int, low: int = 0) -> None:
    if a.size and (a.min() < low or a.max() >= n):
        raise IndexOutOfRange("index out of range in self")


def masked_select(input: Any, mask: Any, *, out: Any = None) -> Any:
    """The entries where the mask, broadcast against the tensor, is true, as a vector."""
    if out is not None:
        return into(out, masked_select(input, mask), "masked_select")
    x, m = need_tensor(input, "masked_select"), need_tensor(mask, "masked_select", 2, "mask")
    if m._array.dtype.kind != "b":
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    if x._array.shape != m._array.shape:
        from .layout import broadcast_tensors

        x, m = broadcast_tensors(x, m)
    return ops.take_mask(x, m)


def nonzero_static(input: Any, *, size: int, fill_value: int = -1, out: Any = None) -> Any:
    """The first ``size`` rows of ``nonzero``, filled up with ``fill_value`` if there are fewer."""
    if out is not None:
        return into(out, nonzero_static(input, size=size, fill_value=fill_value), "nonzero_static")
    values_read(input, "nonzero_static")
    if size < 0:
        raise RuntimeError(f"nonzero_static: 'size' must be an non-negative integer, but got {size}")
    found = nonzero(input)._array[:size]
    rows = np.full((size, found.shape[1]), fill_value, np.int64)
    rows[: len(found)] = found
    return wrap(rows)


def nonzero(input: Any, *, as_tuple: bool = False, out: Any = None) -> Any:
    """The indices of the entries that are not zero: an (n, ndim) matrix, or with ``as_tuple`` one vector per axis."""
    if out is not None:
        return into(out, nonzero(input, as_tuple=as_tuple), "nonzero")
    x = need_tensor(input, "nonzero")
    found = ops.nonzero(x)
    if as_tuple:
        return tuple(found)
    if not x._array.ndim:
        return wrap(np.zeros((found[0]._array.size, 0), np.int64))
    from ..ops.join import stack

    return stack(*found, dim=1)


def _check_gather(name: str, x: Any, index: Any, d: int) -> None:
    a, i = x._array, index._array
    if i.dtype.kind != "i" or i.itemsize < 4:
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    if max(a.ndim, 1) != max(i.ndim, 1) and i.size:
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    shape = a.shape or (1,)
    for k, (n, m) in enumerate(zip(i.shape or (1,), shape)):
        if k != d and n > m:
            raise RuntimeError(
                f"Size does not match at dimension {k} expected index {list(i.shape)} to be no larger than self "
                f"{list(a.shape)} apart from dimension {d}"
            )
    n = shape[d]
    if i.size and (i.min() < 0 or i.max() >= n):
        bad = int(i.min() if i.min() < 0 else i.max())
        raise RuntimeError(f"index {bad} is out of bounds for dimension {d} with size {n}")


def _same_rank(x: Any, index: Any) -> tuple[Any, Any]:
    """0-d tensors as vectors where the other is one."""
    if x._array.ndim != index._array.ndim:
        if not x._array.ndim:
            x = layout.reshape(x, shape=(1,))
        elif not index._array.ndim:
            index = layout.reshape(index, shape=(1,))
    return x, index


def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False, out: Any = None) -> Any:
    """y[i][j] = x[i][index[i][j]] for ``dim=1``, and likewise for other axes."""
    if out is not None:
        return into(out, gather(input, dim, index, sparse_grad=sparse_grad), "gather")
    x, i = need_tensor(input, "gather"), _index_tensor(index, "gather")
    d = axis(dim, x._array.ndim)
    _check_gather("gather", x, i, d)
    if not i._array.size:
        return layout.reshape(ops.index(layout.reshape(x, shape=(x._array.size,)),
                              *_padded([layout.reshape(i, shape=(0,))]), axes=(0,)), shape=i._array.shape)  # fmt: skip
    flat, i2 = _same_rank(x, i)
    result = along.gather(flat, i2, dim=d)
    return result if result._array.shape == i._array.shape else layout.reshape(result, shape=i._array.shape)


def take_along_dim(input: Any, indices: Any, dim: int | None = None, *, out: Any = None) -> Any:
    """Entries at ``indices`` along ``dim`` (the other axes broadcast), or of the flattened tensor."""
    if out is not None:
        return into(out, take_along_dim(input, indices, dim), "take_along_dim")
    x, i = need_tensor(input, "take_along_dim"), need_tensor(indices, "take_along_dim", 2, "indices")
    if dim is None:
        return gather(layout.reshape(x, shape=(x._array.size,)), 0, layout.reshape(i, shape=(i._array.size,)))
    if x._array.ndim != i._array.ndim:
        raise RuntimeError(
            "torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
            f"{x._array.ndim} dimensions for input, and {i._array.ndim} dimensions for indices"
        )
    d = axis(dim, x._array.ndim)
    rest = np.broadcast_shapes(*(a.shape[:d] + (1,) + a.shape[d + 1 :] for a in (x._array, i._array)))
    x = layout.expand(x, shape=(*rest[:d], x._array.shape[d], *rest[d + 1 :]))
    i = layout.expand(i, shape=(*rest[:d], i._array.shape[d], *rest[d + 1 :]))
    return gather(x, d, i)
