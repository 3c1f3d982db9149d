"""PyTorch's dtypes over NumPy's, and PyTorch's type promotion."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_dtypes import bfloat16 as _bfloat16

from .hooks import note_change
from .untyped import ARRAY

__all__ = [
    "dtype", "from_numpy", "as_numpy_dtype", "promote_types", "result_dtype", "get_default_dtype", "set_default_dtype",
    "bfloat16", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "bool", "default", "BFLOAT16", "FLOATS", "TORCH_NAMES", "kind", "limits",
]  # fmt: skip

_builtin_bool = bool
BFLOAT16: np.dtype[Any] = np.dtype(_bfloat16)
"""NumPy's dtype for bfloat16 (from ml_dtypes): stored so, computed in float32 (see ``core.single``)."""


class dtype:
    """A PyTorch dtype; ``.numpy`` is NumPy's. Printed by PyTorch's name, as in ``tensor(…, dtype=torch.float64)``."""

    __slots__ = ("name", "numpy", "is_floating_point", "is_signed", "itemsize", "category", "rank")
    is_complex = False

    def __init__(self, name: str, numpy: Any, rank: int) -> None:
        self.name = name
        self.numpy = np.dtype(numpy)
        self.is_floating_point = kind(self.numpy) == "f"
        self.is_signed = kind(self.numpy) in "if"
        self.itemsize = self.numpy.itemsize
        self.category = {"b": 0, "u": 1, "i": 1, "f": 2}[kind(self.numpy)]
        self.rank = rank

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> Any:
        return (_named, (self.name,))

    def to_complex(self) -> dtype:
        raise NotImplementedError("complex tensors are not part of chainrule")


def kind(d: np.dtype[Any]) -> str:
    """NumPy's kind of a dtype, "f" for bfloat16 too (NumPy, which does not know it, says "V")."""
    return "f" if d is BFLOAT16 else d.kind


def limits(d: np.dtype[Any]) -> Any:
    """``np.finfo``, for bfloat16 too."""
    if d is BFLOAT16:
        import ml_dtypes

        return ml_dtypes.finfo(d)  # pyright: ignore[reportUnknownVariableType]  (it has no stubs for this)
    return np.finfo(d)


def _named(name: str) -> dtype:
    return globals()[name]


bool = dtype("bool", np.bool_, 0)
uint8 = dtype("uint8", np.uint8, 1)
int8 = dtype("int8", np.int8, 2)
int16 = dtype("int16", np.int16, 3)
int32 = dtype("int32", np.int32, 4)
int64 = dtype("int64", np.int64, 5)
float16 = dtype("float16", np.float16, 6)
bfloat16 = dtype("bfloat16", BFLOAT16, 6)
float32 = dtype("float32", np.float32, 7)
float64 = dtype("float64", np.float64, 8)
uint16, uint32, uint64 = (dtype(f"uint{8 * n}", f"u{n}", 1) for n in (2, 4, 8))

ALL = (
    bool, uint8, uint16, uint32, uint64, int8, int16, int32, int64, float16, bfloat16, float32, float64,
)  # fmt: skip
_WIDE = (uint16, uint32, uint64)  # PyTorch stores them, casts them, and promotes them to floats only
_BY_NUMPY = {d.numpy: d for d in ALL}
_BY_PYTHON: dict[Any, dtype] = {float: float32, int: int64, _builtin_bool: bool}
TORCH_NAMES = {
    "bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long",
    "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double", "uint16": "UInt16",
    "uint32": "UInt32", "uint64": "UInt64",
}  # fmt: skip
"""The names of dtypes in PyTorch's error messages."""
FLOATS = frozenset(d.numpy for d in ALL if d.is_floating_point)
"""NumPy dtypes that can carry gradients."""


class _Default:
    """The dtype of floating point literals (``set_default_dtype``)."""

    __slots__ = ("numpy",)

    def __init__(self) -> None:
        self.numpy = float32.numpy


default = _Default()


def get_default_dtype() -> dtype:
    """The dtype that Python floats become; float32 unless set otherwise."""
    return from_numpy(default.numpy)


def set_default_dtype(d: Any) -> None:
    """Set the dtype that Python floats become.

    Raises:
        TypeError: if ``d`` is not a floating point dtype.
    """
    if not isinstance(d, dtype) or not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {d!r}")
    default.numpy = d.numpy
    note_change()


def from_numpy(d: Any) -> dtype:
    """The dtype for a NumPy dtype.

    Raises:
        TypeError: for NumPy dtypes that PyTorch has no name for (strings, objects, complex numbers here).
    """
    found = _BY_NUMPY.get(d)
    if found is None:
        found = _BY_NUMPY.get(np.dtype(d).newbyteorder("="))
    if found is None:
        # PyTorch's order; bfloat16, which NumPy itself has not, is no answer.
        order = (float64, float32, float16, int64, int32, int16, int8, uint64, uint32, uint16, uint8, bool)
        supported = ", ".join(t.name for t in order)
        raise TypeError(f"can't convert np.ndarray of type {np.dtype(d)}. The only supported types are: {supported}.")
    return found


def as_numpy_dtype(d: Any) -> np.dtype[Any] | None:
    """NumPy's dtype for a dtype, ``float``/``int``/``bool`` or a NumPy dtype; None stays None."""
    if d is None:
        return None
    if isinstance(d, dtype):
        return d.numpy
    if d is float:
        return default.numpy
    if isinstance(d, type) and d in _BY_PYTHON:
        return _BY_PYTHON[d].numpy
    return from_numpy(np.dtype(d)).numpy


def promote_types(a: dtype, b: dtype) -> dtype:
    """The smallest dtype that both can be converted to, by PyTorch's table (int64 with float16 gives float16)."""
    if a is b:
        return a
    if a.category != b.category and (2 in (a.category, b.category) or not (a in _WIDE or b in _WIDE)):
        return a if a.category > b.category else b
    if a in _WIDE or b in _WIDE:
        names = f"{TORCH_NAMES[a.name]} and {TORCH_NAMES[b.name]}"
        raise RuntimeError(f"Promotion for uint16, uint32, uint64 types is not supported, attempted to promote {names}")
    if a.rank == b.rank:  # float16 and bfloat16: the range of one, the digits of the other
        return float32
    if a.category == 1 and (a is uint8 or b is uint8):
        other = b if a is uint8 else a
        return int16 if other is int8 else other
    return a if a.rank > b.rank else b


def result_dtype(*operands: Any) -> np.dtype[Any]:
    """PyTorch's result type of arrays and Python numbers.

    Arrays with dimensions outrank 0-d arrays, which outrank numbers, unless the lower one is of a higher category
    (bool < integer < floating point).
    """
    best: list[dtype | None] = [None, None, None]
    for x in operands:
        if isinstance(x, ARRAY):
            level = 0 if x.ndim else 1
            d = _BY_NUMPY[x.dtype]
        else:
            level = 2
            d = _BY_PYTHON[type(x)] if type(x) in _BY_PYTHON else from_numpy(np.asarray(x).dtype)
            if d.category == 2:
                d = _BY_NUMPY[default.numpy]
        seen = best[level]
        best[level] = d if seen is None else promote_types(seen, d)
    result = best[0]
    for lower in best[1:]:
        if lower is not None and (result is None or lower.category > result.category):
            result = lower
    assert result is not None
    return result.numpy
