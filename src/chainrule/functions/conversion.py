"""From tensors to numbers, lists and other dtypes; what a tensor says about its memory; copying and pickling."""

from __future__ import annotations

import copy as _copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.device import CPU, check_device, contiguous_format, device, preserve_format, strided
from ..core.dtypes import FLOATS
from ..core.op import registry
from ..core.state import state
from ..core.variable import Variable, wrap
from ..errors import GradientError, message
from ._args import cast, need_tensor

__all__ = [
    "clone", "is_tensor", "is_floating_point", "is_complex", "is_signed", "numel", "result_type", "can_cast", "finfo",
    "iinfo", "FloatTensor", "DoubleTensor", "HalfTensor", "BFloat16Tensor", "LongTensor", "IntTensor", "ShortTensor",
    "CharTensor", "ByteTensor", "BoolTensor",
]  # fmt: skip
METHODS = (
    "clone", "is_floating_point", "is_complex", "is_signed", "to", "type_as", "cpu", "cuda", "tolist", "element_size",
    "itemsize", "nbytes", "data_ptr", "stride", "storage_offset", "is_contiguous", "contiguous", "get_device",
    "is_cuda", "is_cpu", "is_sparse", "is_quantized", "is_meta", "layout", "nelement", "ndimension", "pin_memory",
    "is_pinned", "share_memory_", "is_shared", "is_inference", "numel",
)  # fmt: skip


def _leak(t: Any, what: str) -> None:
    if state.recorder is not None:
        state.recorder.leak(t, what)


# --- dtypes ---------------------------------------------------------------------------------------------------------


def _caster(name: str, d: dtypes.dtype) -> Any:
    def method(self: Any, memory_format: Any = None) -> Any:
        return cast(self, d)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"As {d.name}; the very same tensor if it is so already."
    return method


_TYPES = {
    "FloatTensor": dtypes.float32, "DoubleTensor": dtypes.float64, "HalfTensor": dtypes.float16,
    "LongTensor": dtypes.int64, "IntTensor": dtypes.int32, "ShortTensor": dtypes.int16, "CharTensor": dtypes.int8,
    "ByteTensor": dtypes.uint8, "BoolTensor": dtypes.bool, "BFloat16Tensor": dtypes.bfloat16,
}  # fmt: skip


class _TypedMeta(type):
    """Makes ``isinstance(t, torch.LongTensor)`` ask for the dtype and ``LongTensor(…)`` return a plain tensor."""

    dtype: dtypes.dtype

    def __call__(cls, *args: Any, device: Any = None) -> Any:
        check_device(device)
        return legacy(cls.dtype.numpy, args)

    def __instancecheck__(cls, t: Any) -> bool:
        return isinstance(t, Variable) and t._array.dtype is cls.dtype.numpy

    def __repr__(cls) -> str:
        return f"<class 'torch.{cls.__name__}'>"


def legacy(d: np.dtype[Any], args: tuple[Any, ...]) -> Any:
    """What ``Tensor(2, 3)`` (a size) and ``Tensor([1, 2])`` (data) mean."""
    from .creation import to_array

    if not args:
        return wrap(np.empty(0, d))
    if len(args) == 1 and not isinstance(args[0], (int, np.integer)):
        data = args[0]
        if type(data).__name__ == "Size":
            return wrap(np.zeros(tuple(data), d))
        if isinstance(data, Variable):
            if data._array.dtype is not d:
                raise TypeError(
                    f"expected {dtypes.from_numpy(d)} (got {dtypes.from_numpy(data._array.dtype)}); "
                    "use .to(dtype) to convert"
                )
            return data.detach()  # type: ignore[attr-defined]
        if isinstance(data, float):
            raise TypeError(f"new(): data must be a sequence (got {type(data).__name__})")
        return wrap(to_array(data, d))
    return wrap(np.zeros(tuple(int(n) for n in args), d))


_MADE = {
    name: _TypedMeta(name, (), {"dtype": d, "__doc__": f"Tensors of {d.name}, made from a size or from data."})
    for name, d in _TYPES.items()
}
FloatTensor, DoubleTensor, HalfTensor, BFloat16Tensor = (
    _MADE[f"{n}Tensor"] for n in ("Float", "Double", "Half", "BFloat16")
)
LongTensor, IntTensor, ShortTensor, CharTensor, ByteTensor, BoolTensor = (
    _MADE[f"{n}Tensor"] for n in ("Long", "Int", "Short", "Char", "Byte", "Bool")
)


def type_(self: Any, dtype: Any = None, non_blocking: bool = False) -> Any:
    """Without an argument the name of the type (``'torch.FloatTensor'``), with one a conversion to it."""
    if dtype is None:
        return f"torch.{dtypes.TORCH_NAMES[self.dtype.name]}Tensor"
    if isinstance(dtype, str):
        name = dtype.rpartition(".")[2]
        if name not in _TYPES:
            raise ValueError(f"invalid type: '{dtype}'")
        return cast(self, _TYPES[name])
    return cast(self, dtype.dtype if isinstance(dtype, _TypedMeta) else dtype)


def type_as(self: Any, other: Any) -> Any:
    """In the other tensor's dtype."""
    return cast(self, other._array.dtype)


def to(self: Any, *args: Any, **options: Any) -> Any:
    """In another dtype or on another device: ``to(dtype)``, ``to("cpu")``, ``to("cpu", dtype)``, ``to(other)``.

    The very same tensor if there is nothing to change and ``copy`` is not asked for.
    """
    wanted = options.pop("dtype", None)
    place = options.pop("device", None)
    copy = options.pop("copy", False)
    options.pop("non_blocking", None)
    options.pop("memory_format", None)
    if "other" in options:
        args = (options.pop("other"), *args)
    if options:
        raise TypeError(f"to() got an unexpected keyword argument '{next(iter(options))}'")
    for i, a in enumerate(args):
        if isinstance(a, Variable):
            wanted = a._array.dtype
        elif isinstance(a, (str, device)) or (a is not True and a is not False and isinstance(a, int)):
            place = a
        elif isinstance(a, (dtypes.dtype, np.dtype)) or a in (float, int, bool):
            wanted = a
        elif isinstance(a, bool):
            if i == len(args) - 1 and len(args) > 1 and isinstance(args[-2], bool):
                copy = a
        elif a is not None:
            raise TypeError(
                f"to() received an invalid combination of arguments - got ({a.__class__.__name__}), but expected one "
                "of: (torch.device device, torch.dtype dtype, bool non_blocking, bool copy), (torch.dtype dtype, …), "
                "(Tensor tensor, …)"
            )
    if place is not None:
        if isinstance(place, int):
            raise RuntimeError("Cannot access accelerator device when none is available.")
        check_device(place)
    result = cast(self, wanted)
    return clone(self) if copy and result is self else result


def is_floating_point(input: Any) -> bool:
    """Whether the dtype is floating point."""
    return need_tensor(input, "is_floating_point")._array.dtype in FLOATS


def is_complex(input: Any) -> Any:
    """False: there are no complex tensors here."""
    need_tensor(input, "is_complex")
    return False


def is_signed(self: Any) -> Any:
    return self.dtype.is_signed


def is_tensor(obj: Any) -> Any:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Variable)


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """The dtype that an operation on the two (tensors or numbers) would have.

    >>> import chainrule as torch
    >>> torch.result_type(torch.tensor([1, 2]), 1.5)
    torch.float32
    """
    operands = (t._array if isinstance(t, Variable) else t for t in (tensor1, tensor2))
    return dtypes.from_numpy(dtypes.result_dtype(*operands))


def can_cast(from_: dtypes.dtype, to: dtypes.dtype) -> Any:
    """Whether PyTorch casts one dtype to the other in an in-place result: never to a lower kind of number."""
    if to is dtypes.bool:
        return from_ is dtypes.bool
    return from_.category <= to.category


class finfo:
    """Limits of a floating point dtype: ``eps, max, min, tiny, bits, resolution``."""

    def __init__(self, type: Any = None) -> None:
        d = dtypes.as_numpy_dtype(type) or dtypes.default.numpy
        if d not in FLOATS:
            raise TypeError(
                "torch.finfo() requires a floating point input type. Use torch.iinfo to handle 'torch.finfo'"
            )
        info = dtypes.limits(d)
        self.bits = info.bits
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.tiny)
        self.resolution = 0.01 if d is dtypes.BFLOAT16 else float(info.resolution)
        self.dtype = dtypes.from_numpy(d).name

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.tiny:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )


class iinfo:
    """Limits of an integer dtype: ``min, max, bits``."""

    def __init__(self, type: Any) -> None:
        d = dtypes.as_numpy_dtype(type)
        if d is None or d.kind not in "iu":
            raise TypeError("torch.iinfo() requires an integer input type. Use torch.finfo to handle floats")
        info = np.iinfo(d)
        self.bits, self.min, self.max = info.bits, int(info.min), int(info.max)
        self.dtype = dtypes.from_numpy(d).name

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"


# --- copies and places ----------------------------------------------------------------------------------------------


def clone(input: Any, *, memory_format: Any = None) -> Any:
    """A copy in its own memory, still part of the graph."""
    return registry["clone"].call(need_tensor(input, "clone"))


def cpu(self: Any, memory_format: Any = None) -> Any:
    return self


def cuda(self: Any, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Any:
    check_device("cuda")


def pin_memory(self: Any, device: Any = None) -> Any:
    raise RuntimeError("Cannot access accelerator device when none is available.")


def is_pinned(self: Any, device: Any = None) -> Any:
    return False


def share_memory_(self: Any) -> Any:
    return self


def is_shared(self: Any) -> Any:
    return False


def is_inference(self: Any) -> Any:
    return False


def get_device(self: Any) -> Any:
    return -1


def tolist(self: Any) -> Any:
    """Nested Python lists of numbers; a number for a 0-d tensor."""
    _leak(self, "tolist")
    a = self._array
    return (a.astype(np.float32) if a.dtype is dtypes.BFLOAT16 else a).tolist()


is_cuda = property(lambda self: False)
is_cpu = property(lambda self: True)
is_sparse = property(lambda self: False)
is_quantized = property(lambda self: False)
is_meta = property(lambda self: False)
layout = property(lambda self: strided)
nbytes = property(lambda self: self._array.nbytes)
itemsize = property(lambda self: self._array.itemsize)


def element_size(self: Any) -> Any:
    """Bytes per entry."""
    return self._array.itemsize


def numel(input: Any) -> Any:
    """The number of entries."""
    return need_tensor(input, "numel")._array.size


def nelement(self: Any) -> Any:
    return self._array.size


def ndimension(self: Any) -> Any:
    return self._array.ndim


def data_ptr(self: Any) -> Any:
    """The address of the first entry."""
    return self._array.__array_interface__["data"][0] if self._array.size else 0


def _strides(a: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return tuple(s // a.itemsize for s in a.strides)


def stride(self: Any, dim: Any = None) -> Any:
    """The distance in memory (in entries) from one index to the next, per axis."""
    strides = _strides(self._array)
    if self._array.size == 0:  # NumPy says 0; PyTorch counts as if every axis had an entry
        step, found = 1, list[Any]()
        for n in reversed(self._array.shape):
            found.append(step)
            step *= max(n, 1)
        strides = tuple(reversed(found))
    return strides if dim is None else strides[dim]


def storage_offset(self: Any) -> Any:
    """Where the first entry stands in the memory that it shares with the tensor it is a view of."""
    a = self._array
    base = a
    while isinstance(base.base, np.ndarray):
        base = base.base
    return (a.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // a.itemsize


def is_contiguous(self: Any, memory_format: Any = None) -> Any:
    """Whether the entries lie in memory in row-major order without gaps."""
    if memory_format is not None and memory_format not in (contiguous_format, preserve_format):
        return self._array.ndim == 4 and self._array.transpose(0, 2, 3, 1).flags.c_contiguous
    return self._array.flags.c_contiguous


def contiguous(self: Any, memory_format: Any = None) -> Any:
    """The tensor itself if it is contiguous, else a copy that is."""
    return self if self._array.flags.c_contiguous else registry["clone"].call(self)


# --- numbers --------------------------------------------------------------------------------------------------------


def __len__(self: Any) -> Any:
    if not self._array.ndim:
        raise TypeError("len() of a 0-d tensor")
    return len(self._array)


def __bool__(self: Any) -> Any:
    a = self._array
    if a.size != 1:
        what = "no values" if a.size == 0 else "more than one value"
        raise RuntimeError(
            message(
                f"Boolean value of Tensor with {what} is ambiguous",
                f"the tensor has shape {tuple(a.shape)}",
                fix="Reduce it with .any() or .all(), or compare with torch.equal.",
            )
        )
    _leak(self, "bool")
    return _item(a) != 0


def _number(self: Any, what: str) -> Any:
    if self._array.size != 1:
        raise ValueError(
            message(
                "only one element tensors can be converted to Python scalars",
                f"this one has shape {tuple(self._array.shape)}",
                fix="Use .tolist() for all entries.",
            )
        )
    _leak(self, what)
    return _item(self._array)


def _item(a: np.ndarray[Any, Any]) -> Any:
    """The Python number in an array of one entry."""
    return float(a.reshape(-1)[0]) if a.dtype is dtypes.BFLOAT16 else a.item()


def __float__(self: Any) -> Any:
    return float(_number(self, "float"))


def __int__(self: Any) -> Any:
    return int(_number(self, "int"))


def __index__(self: Any) -> Any:
    if self._array.size != 1 or self._array.dtype in FLOATS:
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(_number(self, "index"))


def __iter__(self: Any) -> Iterator[Any]:
    if not self._array.ndim:
        raise TypeError("iteration over a 0-d tensor")
    return iter(self.unbind(0))


def __contains__(self: Any, element: Any) -> Any:
    """Whether some entry equals the number (or 0-d tensor)."""
    if isinstance(element, (Variable, int, float, np.number)):
        _leak(self, "in")
        return bool(np.any(self._array == (element._array if isinstance(element, Variable) else element)))
    raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {element.__class__}.")


# --- copying and pickling -------------------------------------------------------------------------------------------


def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
    if id(self) in memo:
        return memo[id(self)]
    if not self.is_leaf:
        raise GradientError(
            message(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the "
                "moment.  If you were attempting to deepcopy a module, this may be because of a "
                "torch.nn.utils.weight_norm usage, see https://github.com/pytorch/pytorch/pull/103001",
                fix="Copy x.detach(), or use x.clone() to stay in the graph.",
            )
        )
    new = rebuild(self.__class__, _copy.deepcopy(self._array, memo), self._requires, {})
    memo[id(self)] = new
    if self._grad is not None:
        new._grad = _copy.deepcopy(self._grad, memo)
    for key, value in self.__dict__.items():
        if not key.startswith("_"):
            new.__dict__[key] = _copy.deepcopy(value, memo)
    return new


def rebuild(cls: Any, array: Any, requires_grad: bool, attributes: dict[str, Any]) -> Any:
    """A leaf tensor of class ``cls``: what unpickling calls."""
    d = dtypes.from_numpy(array.dtype).numpy
    if array.dtype is not d:  # unpickled dtypes are equal to NumPy's own, but not the same object
        array = array.view(d)
    t = object.__new__(cls)
    t._array, t._node, t._requires, t._base = array, None, requires_grad, None
    t.__dict__.update(attributes)
    return t


def __reduce_ex__(self: Any, protocol: Any) -> Any:
    attributes = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
    return rebuild, (self.__class__, self._array, self._requires and self._node is None, attributes)


# Names that would hide builtins in this file, and special methods.
OPERATORS = {
    **{
        name: _caster(name, d)
        for name, d in {
            "float": dtypes.float32, "double": dtypes.float64, "half": dtypes.float16, "int": dtypes.int32,
            "long": dtypes.int64, "short": dtypes.int16, "char": dtypes.int8, "byte": dtypes.uint8,
            "bool": dtypes.bool, "bfloat16": dtypes.bfloat16,
        }.items()
    },
    "type": type_, "device": property(lambda self: CPU), "__len__": __len__, "__bool__": __bool__,
    "__float__": __float__, "__int__": __int__, "__index__": __index__, "__iter__": __iter__,
    "__contains__": __contains__, "__deepcopy__": __deepcopy__, "__reduce_ex__": __reduce_ex__,
}  # fmt: skip
