"""PyTorch's ``.pt`` format, written: a file that ``torch.load(path, weights_only=True)`` opens.

The structure becomes a pickle that names only what every reader of such files admits (tensors, parameters, plain
containers, numbers, strings, dtypes, devices); the tensors' memory lies beside it. Tensors that overlap share their
memory in the file as they do in the program.
"""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections import Counter, OrderedDict
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.device import device
from ..core.inplace import owner
from ..core.size import Size
from ..core.variable import Variable

__all__ = ["write_torch"]

_STORAGES = {
    "float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage",
    "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage", "uint8": "ByteStorage",
    "bfloat16": "BFloat16Storage", "bool": "BoolStorage", "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}  # fmt: skip


class _Name:
    """What the file calls ``module.name``."""

    __slots__ = ("text",)
    _all: dict[tuple[str, str], _Name] = {}  # noqa: RUF012 - one object per name, so that pickle's memo knows it

    def __new__(cls, module: str, name: str) -> _Name:
        found = cls._all.get((module, name))
        if found is None:
            found = cls._all[module, name] = object.__new__(cls)
            found.text = f"{module}\n{name}\n"
        return found


class _Call:
    """``name(*args)``, to be called by the reader."""

    __slots__ = ("name", "args")

    def __init__(self, name: _Name, *args: Any) -> None:
        self.name, self.args = name, args


class _Stored:
    """One tensor: its array, and once all arrays are known, its storage, offset and strides."""

    __slots__ = ("array", "dtype", "key", "kind", "count", "offset", "strides")

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        if any(s < 0 or s % array.itemsize for s in array.strides):
            array = np.ascontiguousarray(array).reshape(array.shape)
        self.array = array
        self.dtype = dtypes.from_numpy(array.dtype).name


class _Plain:
    """Turns an object into plain containers around ``_Stored`` and ``_Call``, and says where it cannot."""

    def __init__(self) -> None:
        self.stored: list[_Stored] = []
        self.known: dict[int, Any] = {}
        self.alive: list[Any] = []

    def of(self, x: Any, path: str) -> Any:
        if type(x) is bytes and not x:  # Python's pickler would write a call of bytes(), which PyTorch refuses
            return _Call(_Name("_codecs", "encode"), "", "latin1")
        if x is None or type(x) in (bool, int, float, str, bytes, complex):
            return x
        if id(x) not in self.known:
            self.alive.append(x)
            self.known[id(x)] = self._of(x, path)
        return self.known[id(x)]

    def _of(self, x: Any, path: str) -> Any:
        if isinstance(x, Variable):
            return self._tensor(x)
        if isinstance(x, np.ndarray) and x.dtype.kind in "biufc":
            return np.ascontiguousarray(x).reshape(x.shape)
        if isinstance(x, np.generic) and x.dtype.kind in "biufc":
            return x.item()
        scalars: Any = (bool, int, float, str, bytes, bytearray)
        for kind in scalars:
            if isinstance(x, kind):
                return kind(x)
        if isinstance(x, dtypes.dtype):
            return _Name("torch", x.name)
        if isinstance(x, Size):
            return _Call(_Name("torch", "Size"), tuple(map(int, x)))
        if isinstance(x, device):
            return _Call(_Name("torch", "device"), x.type, *(() if x.index is None else (x.index,)))
        inner = f"{path}." if path else ""
        if isinstance(x, (dict, OrderedDict, Counter)):
            kind = Counter if isinstance(x, Counter) else OrderedDict if isinstance(x, OrderedDict) else dict
            made: Any = kind()
            self.known[id(x)] = made
            for k, v in x.items():
                made[self.of(k, path)] = self.of(v, f"{inner}{k}")
            if kind is OrderedDict and "_metadata" in getattr(x, "__dict__", {}):
                made._metadata = self.of(x._metadata, path)  # type: ignore[union-attr]
            return made
        if isinstance(x, list):
            items: list[Any] = []
            self.known[id(x)] = items
            items.extend(self.of(v, f"{inner}{i}") for i, v in enumerate(x))
            return items
        if isinstance(x, (tuple, set, frozenset)):
            kind = tuple if isinstance(x, tuple) else set
            return kind(self.of(v, f"{inner}{i}") for i, v in enumerate(x))
        raise TypeError(f"{path or 'the object'} is a {type(x).__module__}.{type(x).__qualname__}")

    def _tensor(self, x: Any) -> Any:
        one = _Stored(x._array)
        self.stored.append(one)
        parameter = type(x).__name__ == "Parameter"
        flag = bool(x._requires)
        if one.dtype in _STORAGES:
            tensor = _Call(_Name("torch._utils", "_rebuild_tensor_v2"), one, not parameter and flag, OrderedDict())
        else:  # uint16 and its kin have no storage of their own: bytes, and the dtype beside them
            dtype = _Name("torch", one.dtype)
            tensor = _Call(_Name("torch._utils", "_rebuild_tensor_v3"), one, False, OrderedDict(), dtype)
        if parameter:
            return _Call(_Name("torch._utils", "_rebuild_parameter"), tensor, flag, OrderedDict())
        return tensor


def _extent(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    """The first and last address (exclusive) that an array reads."""
    start = array.__array_interface__["data"][0]
    if not array.size:
        return start, start
    return start, start + sum((n - 1) * s for n, s in zip(array.shape, array.strides)) + array.itemsize


def _place(stored: list[_Stored]) -> list[bytes]:
    """Give every tensor its storage: tensors of one dtype whose memory overlaps get the same one."""
    groups: dict[tuple[int, str], list[tuple[int, int, _Stored]]] = {}
    for one in stored:
        groups.setdefault((id(owner(one.array)), one.array.dtype.str), []).append((*_extent(one.array), one))
    blocks: list[bytes] = []
    for members in groups.values():
        members.sort(key=lambda m: m[:2])
        k = 0
        while k < len(members):
            low, high, together = members[k][0], members[k][1], [members[k][2]]
            k += 1
            while k < len(members) and members[k][0] < high:
                high = max(high, members[k][1])
                together.append(members[k][2])
                k += 1
            first = together[0].array
            size = first.itemsize
            count = (high - low) // size
            whole = np.lib.stride_tricks.as_strided(first, (count,), (size,))
            for one in together:
                one.key, one.kind = str(len(blocks)), _STORAGES.get(one.dtype, "UntypedStorage")
                one.count = count if one.dtype in _STORAGES else count * size
                one.offset = (_extent(one.array)[0] - low) // size
                one.strides = tuple(s // size for s in one.array.strides)
            blocks.append((whole if sys.byteorder == "little" else whole.byteswap()).tobytes())
    return blocks


_Base: Any = getattr(pickle, "_Pickler")  # noqa: B009 - the pickler written in Python, which stubs leave out


class _Pickler(_Base):
    """Python's own pickler; names are written as they stand, not looked up."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        kind = type(obj)
        if kind is not _Name and kind is not _Call and kind is not _Stored:
            super().save(obj, save_persistent_id)
            return
        known = self.memo.get(id(obj))
        if known is not None:
            self.write(self.get(known[0]))
        elif kind is _Name:
            self.write(pickle.GLOBAL + obj.text.encode())
            self.memoize(obj)
        elif kind is _Call:
            args = obj.args
            if args and type(args[0]) is _Stored:  # (storage, offset, size, stride, requires_grad, hooks)
                one = args[0]
                args = (one, one.offset, one.array.shape, one.strides, *args[1:])
            self.save(obj.name)
            self.save(args)
            self.write(pickle.REDUCE)
            self.memoize(obj)
        else:
            home = "torch.storage" if obj.kind == "UntypedStorage" else "torch"
            self.save(("storage", _Name(home, obj.kind), obj.key, "cpu", obj.count))
            self.write(pickle.BINPERSID)


def write_torch(obj: Any) -> bytes:
    """The bytes of a ``.pt`` file.

    Raises:
        TypeError: naming the place and the type of what has no safe form.
    """
    plain = _Plain()
    tree = plain.of(obj, "")
    blocks = _place(plain.stored)
    structure = io.BytesIO()
    _Pickler(structure, 2).dump(tree)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:

        def put(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)  # no time of writing: equal states, equal files

        put("data.pkl", structure.getvalue())
        put("byteorder", b"little")
        for i, block in enumerate(blocks):
            put(f"data/{i}", block)
        put("version", b"3\n")
    return out.getvalue()
