"""A tensor's memory: strides, storages, and tensors that are given other memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import inplace
from ..core.dtypes import FLOATS, TORCH_NAMES
from ..core.live import memory_read
from ..core.storage import TypedStorage, UntypedStorage, memory, span, typed
from ..core.variable import Variable, wrap
from ..errors import message
from ..ops import strided as ops
from ..ops.compare import where
from ..ops.layout import clone, sum_to
from ._args import cast, need_tensor, sizes
from .creation import empty_strided, to_array

__all__ = ["as_strided", "as_strided_", "as_strided_scatter", "empty_permuted", "is_same_size", "resize_as_",
           "slice_inverse"]  # fmt: skip
METHODS = (
    "as_strided", "as_strided_", "as_strided_scatter", "const_data_ptr", "dim_order", "is_same_size", "is_set_to",
    "new",
    "new_empty_strided", "resize", "resize_", "slice_inverse", "resize_as", "resize_as_", "set_", "storage",
    "sum_to_size",
    "untyped_storage", "apply_", "map_", "map2_", "as_subclass",
)  # fmt: skip


def _window(t: Any, size: Any, stride: Any, offset: int) -> np.ndarray[Any, Any]:
    """That geometry in the memory of ``t``.

    Raises:
        RuntimeError: as PyTorch words it, when it does not fit in there.
    """
    flat, d = memory(t._array), t._array.dtype
    if len(size) != len(stride):
        raise RuntimeError("mismatch in length of strides and shape")
    if any(s < 0 for s in stride):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}")
    if offset < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    _, last = ops.reach(size, stride, offset)
    if last >= flat.size:
        raise RuntimeError(
            message(
                f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and itemsize "
                f"{d.itemsize} requiring a storage size of {(last + 1) * d.itemsize} are out of bounds for storage of "
                f"size {flat.nbytes}"
            )
        )
    if last < 0:
        return np.empty(size, d)
    return np.ndarray(size, d, flat, offset * d.itemsize, [s * d.itemsize for s in stride])


def as_strided(input: Any, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Any:
    """A view: entry (i, j, …) is what lies in the tensor's memory at storage_offset + Σ index · stride.

    >>> import chainrule as torch
    >>> torch.as_strided(torch.arange(6), (2, 2), (1, 2))
    tensor([[0, 2],
            [1, 3]])
    """
    x = need_tensor(input, "as_strided")
    a = x._array
    shape, steps = sizes((size,)), tuple(int(s) for s in stride)
    offset = span(a) if storage_offset is None else int(storage_offset)
    window = _window(x, shape, steps, offset)
    if not a.flags.writeable:
        window.flags.writeable = False
    inner = tuple(s // a.itemsize for s in a.strides) if a.size else ops.contiguous_strides(a.shape)
    params: dict[str, Any] = {"size": shape, "stride": steps, "offset": offset - span(a), "inner": inner}
    t = ops.as_strided(x, **params)
    # Where x has gaps, the op can only copy; the memory has the entries all the same.
    if t._base is None and t._array.size:
        memory_read("as_strided of a tensor with gaps")
        t._base, t._view, t._seen = x, (ops.as_strided.op, params, None), x._node
    t._array = window
    return t


def slice_inverse(
    input: Any, src: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    """From a slice of ``src`` the whole: ``src``'s geometry in the memory of ``input``."""
    return as_strided(input, src._array.shape, src.stride(), src.storage_offset())


def as_strided_(self: Any, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Any:
    """``as_strided``, and this tensor becomes the view."""
    memory_read("as_strided_")
    inplace.check_writable(self)
    return inplace.become(self, as_strided(inplace.alias(self), size, stride, storage_offset))


def as_strided_scatter(
    input: Any, src: Any, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Any:
    """A copy with ``src`` in the place of ``as_strided(input, size, stride, storage_offset)``."""
    x = need_tensor(input, "as_strided_scatter")
    if src._array.shape != tuple(size):
        raise RuntimeError(
            "expected src to have a size equal to the slice of self. src size = "
            f"{list(src._array.shape)}, slice size = {list(size)}"
        )
    a = x._array
    offset = span(a) if storage_offset is None else int(storage_offset)
    _window(x, tuple(size), tuple(stride), offset)  # raises where it does not fit
    # Which entry of src lies at the place of each entry of x, if one does.
    mine = ops.places(a.shape, [s // a.itemsize for s in a.strides], span(a))
    written = ops.places(tuple(size), tuple(stride), offset).ravel()
    at = np.full(memory(a).size, -1, np.int64)
    at[written] = np.arange(written.size)
    index = at[mine] if a.size else np.zeros(a.shape, np.int64)
    flat = src.to(x.dtype).reshape(-1)
    if not flat._array.size:
        return x.clone()
    return where(wrap(index >= 0), flat[wrap(np.maximum(index, 0))], x)


def is_same_size(input: Any, other: Any) -> bool:
    """Whether the shapes are equal."""
    return need_tensor(input, "is_same_size")._array.shape == other._array.shape


def empty_permuted(size: Any, physical_layout: Any, **options: Any) -> Any:
    """An uninitialised tensor whose axes lie in memory in the order ``physical_layout``, outermost first."""
    shape, order = sizes((size,)), sizes((physical_layout,))
    if sorted(order) != list(range(len(shape))):
        raise RuntimeError("Duplicate dim not allowed" if len(set(order)) < len(order) else
                           f"Number of dimensions in size does not match the length of the physical_layout; i.e. "
                           f"len(size) = {len(shape)} is not equal to len(physical_layout) = {len(order)}")  # fmt: skip
    inner = ops.contiguous_strides([shape[d] for d in order])
    stride = [0] * len(shape)
    for d, s in zip(order, inner, strict=True):
        stride[d] = s
    return empty_strided(shape, stride, **options)


# --- storages ----------------------------------------------------------------------------------------------------


def untyped_storage(self: Any) -> UntypedStorage:
    """The bytes that this tensor and its views share."""
    memory_read("untyped_storage")
    return UntypedStorage._of(memory(self._array))


def storage(self: Any) -> TypedStorage:
    """The memory of this tensor as numbers (deprecated, as in PyTorch)."""
    memory_read("storage")
    return typed(self)


def const_data_ptr(self: Any) -> int:
    """The address of the first entry."""
    return self.data_ptr()


def is_set_to(self: Any, tensor: Any) -> bool:
    """Whether both are the same memory, read with the same shape and strides."""
    a, b = self._array, tensor._array
    same = a.shape == b.shape and self.stride() == tensor.stride()
    return (
        same
        and memory(a).__array_interface__["data"][0] == memory(b).__array_interface__["data"][0]
        and (span(a) == span(b))
    )


def dim_order(self: Any, *, ambiguity_check: Any = False) -> tuple[int, ...]:
    """The axes from the outermost in memory to the innermost."""
    steps = self.stride()
    return tuple(sorted(range(len(steps)), key=lambda d: -steps[d]))


def new_empty_strided(self: Any, size: Any, stride: Any, dtype: Any = None, **options: Any) -> Any:
    """``empty_strided`` with this tensor's dtype as default."""
    return empty_strided(size, stride, dtype=self._array.dtype if dtype is None else dtype, **options)


def new(self: Any, *args: Any, device: Any = None) -> Any:
    """A tensor of the same dtype, from a size or from data (PyTorch's oldest constructor)."""
    from .conversion import legacy

    return legacy(self._array.dtype, args)


# --- other memory for the same tensor ------------------------------------------------------------------------------


def _leaves_graph(self: Any) -> None:
    self._base = self._view = self._seen = None


def resize_(self: Any, *size: Any, memory_format: Any = None) -> Any:
    """Another shape over the same memory, or over more if it does not suffice; new entries are uninitialised."""
    memory_read("resize_")
    if self.requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    shape = sizes(size)
    if any(n < 0 for n in shape):
        raise RuntimeError("numel: integer multiplication overflow")  # PyTorch's words, for a size below 0
    flat, offset = memory(self._array), span(self._array)
    need = int(np.prod(shape, dtype=np.int64))
    if shape == self._array.shape:
        return self
    if offset + need > flat.size:
        grown = np.zeros(offset + need, flat.dtype)
        grown[: flat.size] = flat
        flat = grown
    self._array = flat[offset : offset + need].reshape(shape)
    _leaves_graph(self)
    return self


def resize_as_(self: Any, other: Any, *, memory_format: Any = None) -> Any:
    """``resize_`` to the shape of another tensor."""
    return resize_(self, *other._array.shape)


def _resized(name: str, how: Callable[..., Any]) -> Any:
    def method(self: Any, *args: Any) -> Any:
        import warnings

        warnings.warn(f"non-inplace {name} is deprecated", stacklevel=2)
        if how is resize_as_:
            args = args[0]._array.shape
        return self.reshape(*args)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"The same entries in another shape (deprecated: ``{name}_`` or ``reshape``)."
    return method


resize, resize_as = _resized("resize", resize_), _resized("resize_as", resize_as_)


def set_(self: Any, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None) -> Any:
    """Use the memory of another tensor or storage from now on, read with that offset, size and strides."""
    memory_read("set_")
    if source is None:
        self._array = np.empty(0, self._array.dtype)
        _leaves_graph(self)
        return self
    if isinstance(source, Variable):
        given = source._array
        if given.dtype is not self._array.dtype:
            mine, other = (_C.get(d.name, TORCH_NAMES[d.name]) for d in (self.dtype, source.dtype))
            raise RuntimeError(f"Could not set tensor of type {other} to a tensor of type {mine}")
    else:
        given = source._flat.view(self._array.dtype)
    if size is None and isinstance(source, Variable):
        self._array = given
    else:
        shape = (given.size,) if size is None else sizes((size,))
        steps = ops.contiguous_strides(shape) if stride is None else sizes((stride,))
        self._array = _window(wrap(given), shape, steps, int(storage_offset))
    _leaves_graph(self)
    return self


_C = {"float16": "c10::Half", "float32": "float", "float64": "double", "int64": "long int", "int32": "int",
      "int16": "short int", "int8": "signed char", "uint8": "unsigned char", "bool": "bool"}  # fmt: skip


def sum_to_size(self: Any, *size: Any) -> Any:
    """The sum over the axes that broadcasting ``size`` to this tensor's shape would repeat."""
    shape, mine = sizes(size), self._array.shape
    lead = len(mine) - len(shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, mine[max(lead, 0) :])):
        raise RuntimeError(f"size {{{list(shape)}}} is not expandable to size {{{list(mine)}}}.")
    if shape == mine and mine:
        return self
    x = self if self._array.dtype in FLOATS else cast(self, np.int64)
    return sum_to(x, shape=shape) if mine else clone(x)


# --- a Python function on every entry ------------------------------------------------------------------------------


def _each(self: Any, name: str, function: Any, *others: Any) -> Any:
    if self.requires_grad:
        raise RuntimeError(f"Can't call {name}() on Variable that requires grad. Use var.detach().{name}() instead.")
    inplace.check_writable(self)
    memory_read(name)
    arrays = [np.broadcast_to(t._array, self._array.shape) for t in others]
    values = [function(*entry) for entry in zip(*(a.ravel().tolist() for a in (self._array, *arrays)), strict=True)]
    self._array[...] = to_array(values, self._array.dtype).reshape(self._array.shape)
    inplace.touch(self._array)
    return self


def apply_(self: Any, callable: Callable[[Any], Any]) -> Any:
    """Replace every entry by what a Python function makes of it (slow: one call per entry)."""
    return _each(self, "apply_", callable)


def map_(self: Any, tensor: Any, callable: Callable[[Any, Any], Any]) -> Any:
    """Replace every entry by what a Python function makes of it and the other tensor's entry."""
    return _each(self, "map_", callable, tensor)


def map2_(self: Any, x: Any, y: Any, callable: Callable[[Any, Any, Any], Any]) -> Any:
    """Replace every entry by what a Python function makes of it and the entries of two other tensors."""
    return _each(self, "map2_", callable, x, y)


def as_subclass(self: Any, cls: type) -> Any:
    """The same tensor, in the graph as it is, as an object of a subclass."""
    if not isinstance(cls, type):
        raise TypeError(f"cls must be a type (got {type(cls).__name__})")
    if not issubclass(cls, Variable):
        raise TypeError(f"Creating a Tensor subclass from a class that does not inherit from Tensor is not possible. "
                        f"Make sure your class inherits from Tensor: {cls.__name__}")  # fmt: skip
    other = inplace.alias(self.view_as(self))
    if cls is type(other):
        return other
    made = object.__new__(cls)
    made._array, made._node, made._requires, made._base = other._array, other._node, other._requires, other._base
    if other._base is not None:
        made._view, made._seen = other._view, other._seen
    return made
