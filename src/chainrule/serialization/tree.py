"""Nested states as a safetensors file: arrays as its tensors, the structure around them as JSON in its metadata.

The JSON is plain for None, booleans, integers, finite floats and strings. Everything else is an object with one key
that says what it is: ``{"tensor": name}``, ``{"list": […]}``, ``{"dict": [[key, value], …]}`` and so on.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter, OrderedDict
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.variable import Variable, wrap
from .problems import FileFormatError

__all__ = ["pack", "unpack", "KEY"]

KEY = "chainrule"
VERSION = 1


def _kind(t: Any) -> str:
    return "parameter" if type(t).__name__ == "Parameter" else "grad" if t._requires else "tensor"


class _Packer:
    """Collects arrays by name while it turns a value into JSON."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}

    def add(self, array: Any, path: str) -> str:
        name, n = path or "value", 1
        while name in self.arrays:
            n += 1
            name = f"{path}~{n}"
        self.arrays[name] = np.ascontiguousarray(array).reshape(array.shape)
        return name

    def encode(self, x: Any, path: str) -> Any:
        if isinstance(x, Variable):
            return {_kind(x): self.add(x._array, path)}
        if isinstance(x, np.ndarray):
            return {"array": self.add(x, path)}
        if x is None or isinstance(x, (bool, str)):
            return x
        if isinstance(x, (np.generic, int, float)) and not isinstance(x, (np.str_, np.bytes_)):
            number = x.item() if isinstance(x, np.generic) else x
            if isinstance(number, float) and not math.isfinite(number):
                return {"float": repr(number)}
            return number
        if isinstance(x, dtypes.dtype):
            return {"dtype": x.name}
        if isinstance(x, (bytes, bytearray)):
            return {"bytes": base64.b64encode(bytes(x)).decode()}
        if isinstance(x, (Counter, OrderedDict, dict)):
            kind = "counter" if isinstance(x, Counter) else "ordered" if isinstance(x, OrderedDict) else "dict"
            inner = f"{path}." if path else ""
            pairs = [[self.encode(k, path), self.encode(v, f"{inner}{k}")] for k, v in x.items()]
            return {kind: pairs}
        if isinstance(x, (list, tuple, set, frozenset)):
            kind = "list" if isinstance(x, list) else "set" if isinstance(x, (set, frozenset)) else "tuple"
            if type(x).__name__ == "Size":
                kind = "size"
            inner = f"{path}." if path else ""
            return {kind: [self.encode(v, f"{inner}{i}") for i, v in enumerate(x)]}
        if type(x).__name__ == "device":
            return {"device": str(x)}
        raise TypeError(f"{path or 'the object'} is a {type(x).__module__}.{type(x).__qualname__}")


def pack(obj: Any) -> bytes:
    """The bytes of a safetensors file.

    Raises:
        TypeError: naming the place and the type of what has no safe form.
    """
    import safetensors.numpy

    packer = _Packer()
    if isinstance(obj, dict) and obj and all(isinstance(k, str) and isinstance(v, Variable) for k, v in obj.items()):
        # A state_dict: every tool that reads safetensors sees the very same names.
        packer.arrays = {k: np.ascontiguousarray(v._array).reshape(v._array.shape) for k, v in obj.items()}
        kind = "ordered" if isinstance(obj, OrderedDict) else "dict"
        tree: Any = {kind: [[k, {_kind(v): k}] for k, v in obj.items()]}
    else:
        tree = packer.encode(obj, "")
    about = {
        "format": "pt",
        KEY: json.dumps({"version": VERSION, "tree": tree}, separators=(",", ":"), allow_nan=False),
    }
    return safetensors.numpy.save(packer.arrays, metadata=about)


_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "?",
}  # fmt: skip


def _array(name: str, about: dict[str, Any]) -> np.ndarray[Any, Any]:
    kind, data = about["dtype"], about["data"]
    if kind not in _DTYPES:
        raise FileFormatError(f"tensor {name!r} has dtype {kind}, which chainrule does not have")
    native = np.dtype(np.dtype(_DTYPES[kind]).type)
    array = np.frombuffer(data, _DTYPES[kind]).astype(native).reshape(about["shape"])
    return array.view(dtypes.BFLOAT16) if kind == "BF16" else array


def unpack(data: bytes, where: str) -> Any:
    """What ``pack`` was given; an OrderedDict of tensors for a safetensors file from elsewhere."""
    import safetensors

    try:
        arrays = {name: _array(name, about) for name, about in safetensors.deserialize(data)}
        length = int.from_bytes(data[:8], "little")
        about = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except FileFormatError as error:
        raise FileFormatError(f"{where}: {error}") from None
    except Exception as error:
        raise FileFormatError(f"{where} is damaged: not a whole safetensors file ({error})") from error
    if KEY not in about:
        order = json.loads(data[8 : 8 + length])
        return OrderedDict((k, wrap(arrays[k])) for k in order if k != "__metadata__")
    try:
        saved = json.loads(about[KEY])
        if saved["version"] > VERSION:
            raise FileFormatError(f"{where} was written by a newer chainrule (format {saved['version']})")
        return _decode(saved["tree"], arrays)
    except FileFormatError:
        raise
    except Exception as error:
        raise FileFormatError(f"{where} is damaged: its structure does not fit its tensors ({error!r})") from error


def _decode(x: Any, arrays: dict[str, Any]) -> Any:
    if not isinstance(x, dict):
        return x
    ((kind, value),) = x.items()
    if kind == "tensor":
        return wrap(arrays[value])
    if kind == "grad":
        return wrap(arrays[value], None, True)
    if kind == "parameter":
        from ..nn.parameter import Parameter

        return Parameter(wrap(arrays[value]), arrays[value].dtype in dtypes.FLOATS)
    if kind == "array":
        return arrays[value]
    if kind == "float":
        return float(value)
    if kind == "bytes":
        return base64.b64decode(value)
    if kind == "dtype":
        return dtypes._named(value)
    if kind == "device":
        from ..core.device import device

        return device(value)
    if kind in ("dict", "ordered", "counter"):
        pairs = [(_decode(k, arrays), _decode(v, arrays)) for k, v in value]
        return {"dict": dict, "ordered": OrderedDict, "counter": lambda p: Counter(dict(p))}[kind](pairs)
    items = [_decode(v, arrays) for v in value]
    if kind == "size":
        from ..tensor import Size

        return Size(items)
    return {"list": list, "tuple": tuple, "set": set}[kind](items)
