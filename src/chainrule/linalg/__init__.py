"""Linear algebra with ``torch.linalg``'s names: LAPACK's numerics, gradients of our own at every order."""

from __future__ import annotations

from typing import Any

from . import basics, factorizations, norms, symmetric
from .basics import *
from .factorizations import *
from .norms import *
from .symmetric import *

# PyTorch has these under torch alone.
_OLD = ("cholesky_inverse", "cholesky_solve", "geqrf", "lu_unpack", "ormqr", "triangular_solve")

_ROOMS = (basics, factorizations, norms, symmetric)
__all__ = [n for room in _ROOMS for n in room.__all__ if n not in _OLD]


def __getattr__(name: str) -> Any:
    from ..core import left_out

    raise left_out.missing("torch.linalg", name, __all__)
