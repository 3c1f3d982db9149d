"""NumPy arrays and scalars inside a PyTorch file, rebuilt without handing NumPy's own constructors to the pickle.

What the pickle gets to fill are shells; ``unshell`` puts the arrays in their place when the structure is complete.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .problems import FileFormatError

__all__ = ["NAMES", "unshell"]

_KINDS = "biufcSU"


class _Dtype:
    """``np.dtype("f4")``, whose byte order comes afterwards."""

    __slots__ = ("found",)

    def __init__(self, name: Any, *_: Any) -> None:
        try:
            self.found = np.dtype(str(name))
        except TypeError as error:
            raise FileFormatError(f"an array in the file has the unknown dtype {name!r:.40}") from error
        if self.found.kind not in _KINDS:
            raise FileFormatError(f"an array in the file has the dtype {self.found}, which holds more than numbers")

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.found = self.found.newbyteorder(state[1])


class _Array:
    """An array yet to be filled."""

    __slots__ = ("array",)

    def __init__(self, *_: Any) -> None:
        self.array: Any = None

    def __setstate__(self, state: Any) -> None:
        try:
            _, shape, dtype, fortran, data = state
            flat = np.frombuffer(data, dtype.found)
            array = flat.reshape(shape, order="F" if fortran else "C")
            self.array = array.astype(array.dtype.newbyteorder("="))
        except Exception as error:
            raise FileFormatError(f"an array in the file does not fit its data ({error})") from error


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise FileFormatError("a NumPy scalar in the file is damaged")
    return np.frombuffer(data, dtype.found)[0]


def _class(*_: Any) -> Any:
    raise FileFormatError("numpy.ndarray is called in the file where it may only be named")


NAMES = {
    (f"numpy{core}", name): made
    for core, name, made in [
        (".core.multiarray", "_reconstruct", _Array), ("._core.multiarray", "_reconstruct", _Array),
        (".core.multiarray", "scalar", _scalar), ("._core.multiarray", "scalar", _scalar),
        ("", "dtype", _Dtype), ("", "ndarray", _class),
    ]
}  # fmt: skip
"""What a pickle may call to make arrays, and what it gets instead."""


def unshell(x: Any, known: dict[int, Any] | None = None) -> Any:
    """The same structure with arrays for their shells; containers that can change are changed in place."""
    known = {} if known is None else known
    if isinstance(x, _Array):
        return x.array
    if isinstance(x, _Dtype):
        return x.found
    if id(x) in known:
        return known[id(x)]
    if isinstance(x, dict):
        known[id(x)] = x
        for k in list(x):
            x[k] = unshell(x[k], known)
    elif isinstance(x, list):
        known[id(x)] = x
        x[:] = [unshell(v, known) for v in x]
    elif type(x) is tuple:
        known[id(x)] = x
        made = tuple(unshell(v, known) for v in x)
        return x if all(a is b for a, b in zip(made, x)) else made
    return x
