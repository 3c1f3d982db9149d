"""Matrix products by a BLAS library, called through its address from within a step.

The environment variable CHAINRULE_BLAS chooses: ``own`` (the default: chainrule's own kernels, see
docs/decisions/products-are-our-own.md), ``openblas`` (the one that SciPy brings, by scipy.linalg.cython_blas) or
``mkl`` (oneMKL, of the ``mkl`` extra). Small products stay with the own kernels: a call costs more than they do.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np

from ..errors import UsageError, message
from ..graph.program import Value

__all__ = ["ENTRIES", "WORTH", "address", "choice"]

WORTH = 2_000_000
"""Floating point operations from which on a product goes to the library."""
ENTRIES = {"f32": Value((), np.dtype(np.int8), "sgemm"), "f64": Value((), np.dtype(np.int8), "dgemm")}
"""Stand for the library's functions among the pointers that a kernel is given."""
_NAMES = ("own", "openblas", "mkl")


def choice() -> str:
    """Which library products go to."""
    given = os.environ.get("CHAINRULE_BLAS", "").lower()
    name = "own" if given in ("", "default") else given
    if name not in _NAMES:
        raise UsageError(
            message(f"CHAINRULE_BLAS={given} is no library that products can go to", fix=f"Use {', '.join(_NAMES)}.")
        )
    return name


@functools.cache
def address(name: str, kind: str) -> int:
    """Where the library's ``sgemm`` (``f32``) or ``dgemm`` (``f64``) is, with Fortran's arguments."""
    function = "sgemm" if kind == "f32" else "dgemm"
    if name == "openblas":
        capsule = importlib.import_module("scipy.linalg.cython_blas").__pyx_capi__[function]
        get_name, get = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
        get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        return get(capsule, get_name(capsule))
    return ctypes.cast(getattr(_mkl(), function + "_"), ctypes.c_void_p).value or 0


@functools.cache
def _mkl() -> ctypes.CDLL:
    found = importlib.util.find_spec("mkl")
    folders = [Path(sys.prefix) / "lib", Path(sys.prefix) / "Library" / "bin"]
    if found is not None and found.origin:
        folders.append(Path(found.origin).parents[1])
    for folder in folders:
        for path in [*sorted(folder.glob("libmkl_rt.so*")), *sorted(folder.glob("mkl_rt*.dll"))]:
            return ctypes.CDLL(str(path))
    raise UsageError(
        message("CHAINRULE_BLAS=mkl, and oneMKL is not installed", fix="pip install 'chainrule[mkl]', or unset it.")
    )
