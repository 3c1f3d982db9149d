"""Tensors handed to other libraries and taken from them, without copying (DLPack); and a hash of the entries."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.live import memory_read, values_read
from ..core.variable import wrap
from ._args import axes, need_tensor
from .creation import from_numpy

__all__ = ["from_dlpack", "hash_tensor", "to_dlpack"]
METHODS = ("hash_tensor", "__dlpack__", "__dlpack_device__")


class _Capsule:
    """A DLPack capsule with the two methods that NumPy asks an exporter for."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # the CPU


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Any:
    """A tensor in the memory of another library's array (anything with ``__dlpack__``, or a DLPack capsule).

    >>> import chainrule as torch, numpy as np
    >>> torch.from_dlpack(np.arange(3))
    tensor([0, 1, 2])
    """
    source = ext_tensor if hasattr(ext_tensor, "__dlpack__") else _Capsule(ext_tensor)
    array = source if isinstance(source, np.ndarray) else np.from_dlpack(source)
    return from_numpy(array.copy() if copy else array)


def __dlpack__(self: Any, *, stream: Any = None, **options: Any) -> Any:
    """The tensor's memory as a DLPack capsule.

    Raises:
        BufferError: for a tensor that requires grad, whose history the other library would not know.
    """
    if self.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    memory_read("__dlpack__")
    return self._array.__dlpack__(**options)


def __dlpack_device__(self: Any) -> tuple[int, int]:
    """(1, 0): the CPU."""
    return (1, 0)


def to_dlpack(tensor: Any) -> Any:
    """The tensor's memory as a DLPack capsule."""
    return __dlpack__(need_tensor(tensor, "to_dlpack"))


def hash_tensor(input: Any, dim: Any = None, *, keepdim: bool = False, mode: int = 0, out: Any = None) -> Any:
    """The bits of the entries (floats as float64, integers as int64) combined by exclusive or, as uint64."""
    values_read(input, "hash_tensor")
    x = need_tensor(input, "hash_tensor")
    if mode != 0:
        raise RuntimeError("hash_tensor only supports mode=0 (xor_sum)")
    a = x._array
    if not a.size:
        if dim is None:
            raise RuntimeError(
                "hash_tensor: Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                "with the 'dim' argument."
            )
        for d in axes(dim, a.ndim) or ():
            if a.shape[d] == 0:
                raise IndexError(f"hash_tensor: Expected reduction dim {d} to have non-zero size.")
    whole = a.astype(np.int64 if a.dtype.kind in "biu" else np.float64).view(np.uint64)
    found = np.bitwise_xor.reduce(whole, axis=axes(dim, a.ndim), keepdims=keepdim)
    return wrap(np.asarray(found, np.uint64))
