"""Storages: the memory behind a tensor, which its views share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import dtypes
from .device import CPU
from .inplace import owner
from .variable import Variable, wrap

__all__ = ["TypedStorage", "UntypedStorage", "memory", "span"]


def memory(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The whole memory that an array lies in, flat, in entries of the array's dtype."""
    whole = owner(array)
    if not (whole.flags.c_contiguous or whole.flags.f_contiguous):  # a window into memory that NumPy does not own
        whole = array
    flat = whole.reshape(-1, order="A") if whole.flags.forc else np.ascontiguousarray(whole).reshape(-1)
    return flat if flat.dtype is array.dtype else flat.view(np.uint8).view(array.dtype)


def span(array: np.ndarray[Any, Any]) -> int:
    """The place of an array's first entry in its memory, in entries."""
    start = memory(array).__array_interface__["data"][0]
    return (array.__array_interface__["data"][0] - start) // array.itemsize if array.size else 0


class UntypedStorage:
    """The bytes that a tensor and its views share: ``nbytes()``, ``data_ptr()``, indexing by byte.

    >>> import chainrule as torch
    >>> torch.zeros(2, 3)[1].untyped_storage().nbytes()
    24
    """

    __slots__ = ("_flat",)
    device = CPU
    is_cuda = False
    is_sparse = False

    def __init__(self, size: int = 0) -> None:
        self._flat: np.ndarray[Any, Any] = np.zeros(size, np.uint8)

    @classmethod
    def _of(cls, flat: np.ndarray[Any, Any]) -> UntypedStorage:
        made = cls()
        made._flat = flat.view(np.uint8)
        return made

    def nbytes(self) -> int:
        """The number of bytes."""
        return self._flat.size

    size = __len__ = nbytes

    def element_size(self) -> int:
        return 1

    def data_ptr(self) -> int:
        """The address of the first byte."""
        return self._flat.__array_interface__["data"][0] if self._flat.size else 0

    def __getitem__(self, key: Any) -> Any:
        found = self._flat[key]
        return UntypedStorage._of(found) if isinstance(key, slice) else int(found)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._flat[key] = value

    def __iter__(self) -> Iterator[int]:
        return iter(self._flat.tolist())

    def tolist(self) -> list[int]:
        """The bytes as numbers."""
        return self._flat.tolist()

    def clone(self) -> UntypedStorage:
        """A copy in its own memory."""
        return UntypedStorage._of(self._flat.copy())

    def copy_(self, source: UntypedStorage, non_blocking: bool = False) -> UntypedStorage:
        """Take the bytes of another storage."""
        self._flat[...] = source._flat
        return self

    def fill_(self, value: int) -> UntypedStorage:
        """Set every byte."""
        self._flat[...] = value
        return self

    def cpu(self) -> UntypedStorage:
        return self

    def is_shared(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and other.data_ptr() == self.data_ptr()

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        lines = "".join(f"\n {v}" for v in self._flat.tolist())
        return f"{lines}\n[torch.storage.UntypedStorage(device=cpu) of size {self._flat.size}]"


class TypedStorage:
    """The memory of a tensor as numbers of its dtype. PyTorch keeps it for old programs, and so does this."""

    __slots__ = ("_flat",)
    device = CPU
    is_cuda = False
    is_sparse = False

    def __init__(self, flat: np.ndarray[Any, Any]) -> None:
        self._flat = flat

    @property
    def dtype(self) -> dtypes.dtype:
        return dtypes.from_numpy(self._flat.dtype)

    def untyped(self) -> UntypedStorage:
        """The same memory as bytes."""
        return UntypedStorage._of(self._flat)

    def size(self) -> int:
        """The number of entries."""
        return self._flat.size

    __len__ = size

    def nbytes(self) -> int:
        """The number of bytes."""
        return self._flat.nbytes

    def element_size(self) -> int:
        return self._flat.itemsize

    def data_ptr(self) -> int:
        """The address of the first entry."""
        return self._flat.__array_interface__["data"][0] if self._flat.size else 0

    def tolist(self) -> list[Any]:
        """The entries as numbers."""
        return wrap(self._flat).tolist()

    def __getitem__(self, key: Any) -> Any:
        found: Any = self._flat[key]
        return (
            TypedStorage(found) if isinstance(key, slice) else found.item() if found.dtype.kind != "V" else float(found)
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        self._flat[key] = value

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def clone(self) -> TypedStorage:
        """A copy in its own memory."""
        return TypedStorage(self._flat.copy())

    def fill_(self, value: Any) -> TypedStorage:
        """Set every entry."""
        self._flat[...] = value
        return self

    def __repr__(self) -> str:
        lines = "".join(f"\n {v}" for v in self.tolist())
        return f"{lines}\n[torch.storage.TypedStorage(dtype={self.dtype}, device=cpu) of size {self._flat.size}]"


def typed(t: Variable) -> TypedStorage:
    """The storage of a tensor, after PyTorch's warning that it is deprecated."""
    warnings.warn(
        "TypedStorage is deprecated. It will be removed in the future and UntypedStorage will be the only storage "
        "class. This should only matter to you if you are using storages directly.  To access UntypedStorage directly, "
        "use tensor.untyped_storage() instead of tensor.storage()",
        UserWarning,
        stacklevel=3,
    )
    return TypedStorage(memory(t._array))
