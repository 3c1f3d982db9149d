"""PyTorch's ``.pt`` files (the zip format), read without running anything that they bring.

Such a file is a pickle of the structure beside the raw bytes of the tensors. Pickle can call any function that it
names; this reader knows a dozen names, all of which make tensors or plain containers, and refuses every other one.
What it hands to the pickle machine are objects without attributes, so there is nothing to overwrite either.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.variable import wrap
from . import numpyparts
from .problems import FileFormatError, RefusedError

__all__ = ["read_torch"]

_STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "bf16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1",
    "ByteStorage": "<u1", "BoolStorage": "?", "ComplexFloatStorage": "<c8", "ComplexDoubleStorage": "<c16",
    "UntypedStorage": "<u1",
}  # fmt: skip


class _Maker:
    """A function that the pickle may call, wrapped so that the pickle can do nothing else with it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: Any) -> None:
        raise RefusedError("the file sets attributes of what it may only call")

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


class _Kind:
    """The type of a storage, by NumPy's name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def _tensor(storage: Any, offset: int, size: Any, stride: Any, requires_grad: bool = False, *_: Any) -> Any:
    """A tensor over the storage's memory, shared with the other tensors of that storage as in PyTorch."""
    flat = storage
    if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in (*size, *stride, offset)):
        raise FileFormatError("a tensor in the file has an impossible shape")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride)) if 0 not in size else offset - 1
    if last >= flat.size:
        raise FileFormatError("a tensor in the file reaches beyond its data")
    strides = [s * flat.itemsize for s in stride]
    if 0 in size:
        array = np.empty(size, flat.dtype)
    else:
        array = np.ndarray(size, flat.dtype, flat, offset * flat.itemsize, strides)  # checks the bounds once more
    try:
        dtypes.from_numpy(array.dtype)
    except TypeError:
        raise FileFormatError(f"a tensor in the file has dtype {array.dtype}, which chainrule does not have") from None
    t = wrap(array)
    t._requires = bool(requires_grad) and array.dtype in dtypes.FLOATS
    return t


def _with_attributes(call: Any, kind: Any, args: Any, attributes: Any) -> Any:
    """A tensor that carries attributes of its own: made by another of these functions, then given plain values."""
    if not isinstance(call, _Maker):
        raise FileFormatError("a tensor in the file is made by something unknown")
    t = call(*args)
    named = attributes[0] if isinstance(attributes, tuple) and attributes else attributes
    if isinstance(named, dict):
        for name, value in named.items():
            if isinstance(name, str) and not name.startswith("_") and not hasattr(type(t), name):
                t.__dict__[name] = value
    return t


def _untyped_tensor(storage: Any, offset: int, size: Any, stride: Any, grad: bool, hooks: Any, dtype: Any) -> Any:
    """A tensor of a dtype for which PyTorch has no kind of storage (uint16 …): the storage holds bytes."""
    if not isinstance(dtype, dtypes.dtype) or storage.nbytes % dtype.itemsize:
        raise FileFormatError("a tensor in the file does not fit its bytes")
    return _tensor(storage.view(dtype.numpy), offset, size, stride, grad)


def _parameter(data: Any, requires_grad: bool = True, *_: Any) -> Any:
    from ..nn.parameter import Parameter

    return Parameter(data, bool(requires_grad))


def _device(name: str = "cpu", index: Any = None, *_: Any) -> Any:
    from ..core.device import device

    return device(str(name), index if type(index) is int else None)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """How pickle's older protocols write bytes."""
    return bytes(str(text), "latin1" if encoding in ("latin1", "latin-1") else "utf-8")


def _refuse_call(*_: Any) -> Any:
    raise FileFormatError("a class in the file is called where it may only be named")


def _size(items: Any = ()) -> Any:
    from ..tensor import Size

    return Size(int(n) for n in items)


class _Reader(pickle.Unpickler):
    """Unpickles the structure. ``find_class`` is asked for every name, ``persistent_load`` for every storage."""

    def __init__(self, data: bytes, storage: Callable[[str, str, int], Any], where: str) -> None:
        super().__init__(io.BytesIO(data))
        self._storage, self._where = storage, where
        self.arrays = False  # whether the structure holds NumPy arrays
        self._allowed: dict[tuple[str, str], Any] = {
            ("torch._utils", "_rebuild_tensor_v2"): _Maker(_tensor),
            ("torch._utils", "_rebuild_tensor_v3"): _Maker(_untyped_tensor),
            ("torch._utils", "_rebuild_parameter"): _Maker(_parameter),
            ("torch._utils", "_rebuild_parameter_with_state"): _Maker(_parameter),
            ("torch._tensor", "_rebuild_from_type_v2"): _Maker(_with_attributes),
            ("torch", "Tensor"): _Maker(_refuse_call),
            ("torch.nn.parameter", "Parameter"): _Maker(_refuse_call),
            ("torch.nn.parameter", "Buffer"): _Maker(_refuse_call),
            ("_codecs", "encode"): _Maker(_encoded),
            ("builtins", "complex"): _Maker(complex),
            ("builtins", "bytes"): _Maker(lambda: b""),
            ("collections", "OrderedDict"): _Maker(OrderedDict),
            ("collections", "defaultdict"): _Maker(lambda *_: {}),
            ("collections", "Counter"): _Maker(Counter),
            ("builtins", "set"): _Maker(set),
            ("builtins", "frozenset"): _Maker(frozenset),
            ("builtins", "bytearray"): _Maker(bytearray),
            ("torch", "Size"): _Maker(_size),
            ("torch", "device"): _Maker(_device),
        }

    def find_class(self, module: str, name: str) -> Any:
        known = self._allowed.get((module, name)) or self._allowed.get(
            (module.replace("__builtin__", "builtins"), name)
        )
        if known is not None:
            return known
        if (module, name) in numpyparts.NAMES:
            self.arrays = True
            return _Maker(numpyparts.NAMES[module, name])
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _Kind(_STORAGES[name])
        if module == "torch" and isinstance(getattr(dtypes, name, None), dtypes.dtype):
            return getattr(dtypes, name)
        if (module, name) == ("builtins", "dict") or (module, name) == ("__builtin__", "dict"):
            return _Maker(dict)
        raise RefusedError(
            f"{self._where}: refused to load {module}.{name}\n"
            "  A file of weights holds tensors, containers, numbers and strings; this one asks for more, and that "
            "could run code.\n"
            "  Save the state_dict instead: torch.save(model.state_dict(), path)."
        )

    def persistent_load(self, pid: Any) -> Any:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], _Kind)):
            raise RefusedError(f"{self._where}: refused to load an object of an unknown kind ({pid!r:.80})")
        return self._storage(pid[1].name, str(pid[2]), int(pid[4]))


def read_torch(data: bytes, where: str) -> Any:
    """The object in a ``.pt`` file.

    Raises:
        RefusedError: naming what the file asks for beyond tensors, containers, numbers and strings.
        FileFormatError: when the file is damaged or is no PyTorch file.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        bad = archive.testzip()
    except Exception as error:
        raise FileFormatError(f"{where} is damaged: not a whole zip file ({error})") from error
    if bad is not None:
        raise FileFormatError(f"{where} is damaged: its part {bad} has the wrong checksum")
    names = archive.namelist()
    structure = next((n for n in names if n.endswith("/data.pkl") or n == "data.pkl"), None)
    if structure is None:
        raise FileFormatError(f"{where} is a zip file, but not one of PyTorch's: it has no data.pkl")
    root = structure[: -len("data.pkl")]
    if f"{root}constants.pkl" in names:
        raise RefusedError(f"{where}: refused to load a TorchScript program; save the state_dict instead")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise FileFormatError(f"{where} was written on a big-endian machine")
    known: dict[tuple[str, str], Any] = {}

    def storage(kind: str, key: str, size: int) -> Any:
        if (kind, key) not in known:
            raw = archive.read(f"{root}data/{key}")
            if kind == "bf16":
                found = np.frombuffer(raw, "<u2").astype(np.uint16).view(dtypes.BFLOAT16)
            else:
                found = np.frombuffer(raw, kind).astype(np.dtype(np.dtype(kind).type))
            if found.size < size:
                raise FileFormatError(f"{where} is damaged: storage {key} is shorter than announced")
            known[kind, key] = found
        return known[kind, key]

    try:
        reader = _Reader(archive.read(structure), storage, where)
        found = reader.load()
        return numpyparts.unshell(found) if reader.arrays else found
    except FileFormatError as error:
        if str(error).startswith(where):
            raise
        raise type(error)(f"{where}: {error}") from None
    except Exception as error:
        raise FileFormatError(f"{where} is damaged: its structure cannot be read ({error!r})") from error
