"""LDLᵀ of symmetric matrices, and products of Householder's reflections."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.live import values_read
from ..core.variable import wrap
from ..functions._results import named
from ..functions.inplace import into
from ..functions.linalg import matmul
from ..ops import factorizations as ops
from ..ops import layout as moves
from .basics import LinAlgError, check_matrix, solve_system

__all__ = [
    "geqrf", "householder_product", "ldl_factor", "ldl_factor_ex", "ldl_solve", "ormqr",
]  # fmt: skip

LDLResult = named("linalg_ldl_factor", "LD", "pivots")
LDLExResult = named("linalg_ldl_factor_ex", "LD", "pivots", "info")
QRFactorResult = named("geqrf", "a", "tau")


def _info(values: Any) -> Any:
    return wrap(np.asarray(values, np.int32))


# --- LDLᵀ -----------------------------------------------------------------------------------------------------------


def ldl_factor_ex(A: Any, *, hermitian: bool = False, check_errors: bool = False, out: Any = None) -> Any:
    """``ldl_factor`` with LAPACK's word on each matrix."""
    if out is not None:
        return into(out, ldl_factor_ex(A, hermitian=hermitian, check_errors=check_errors), "ldl_factor_ex")
    values_read(A, "linalg.ldl_factor_ex")
    a = check_matrix(A, "ldl_factor_ex", True)._array
    sytrf = ops.lapack("sytrf", a)
    found, pivots, info = ops.each_matrix(lambda m: sytrf(m, lower=1), a.shape[:-2], a)
    if check_errors and info.any():
        raise LinAlgError(f"torch.linalg.ldl_factor_ex: D[{info.max()},{info.max()}] is zero")
    return LDLExResult(wrap(np.tril(found)), wrap(_from_one(pivots)), _info(info))


def _from_one(pivots: Any) -> Any:
    """Row exchanges counted from 1 (SciPy hands on what LAPACK says)."""
    return pivots.astype(np.int32)


def ldl_factor(A: Any, *, hermitian: bool = False, out: Any = None) -> Any:
    """A symmetric matrix as P L D Lᵀ Pᵀ, D with blocks of 1 and 2, in LAPACK's form; no gradients, as in PyTorch."""
    if out is not None:
        return into(out, ldl_factor(A, hermitian=hermitian), "ldl_factor")
    return LDLResult(*ldl_factor_ex(A, hermitian=hermitian)[:2])


def ldl_solve(LD: Any, pivots: Any, B: Any, *, hermitian: bool = False, out: Any = None) -> Any:
    """The solution of A X = B from A's ``ldl_factor``."""
    if out is not None:
        return into(out, ldl_solve(LD, pivots, B, hermitian=hermitian), "ldl_solve")
    values_read((LD, pivots), "linalg.ldl_solve")
    a = check_matrix(LD, "ldl_solve", True)._array
    whole = wrap(np.stack([_rebuilt(m, p) for m, p in zip(a.reshape(-1, *a.shape[-2:]),
                                                          pivots._array.reshape(-1, a.shape[-1]), strict=True)])
                 .reshape(a.shape))  # fmt: skip
    return solve_system(whole, B)


def _rebuilt(ld: np.ndarray[Any, Any], pivots: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The symmetric matrix of a factorization in LAPACK's form (lower triangle)."""
    n, k = ld.shape[-1], 0
    steps: list[tuple[int, int]] = []
    while k < n:
        size = 1 if pivots[k] > 0 else 2
        steps.append((k, size))
        k += size
    a = np.zeros_like(ld)
    for k, size in reversed(steps):
        d = ld[k : k + size, k : k + size].copy()
        if size == 2:
            d[0, 1] = d[1, 0]
        column = np.vstack([np.eye(size, dtype=ld.dtype), ld[k + size :, k : k + size]])
        a[k:, k:] += column @ d @ column.T
        i, j = k + size - 1, abs(int(pivots[k])) - 1
        order = np.arange(n)
        order[[i, j]] = order[[j, i]]
        a = a[order][:, order]
    return a


# --- Householder ----------------------------------------------------------------------------------------------------


def geqrf(input: Any, *, out: Any = None) -> Any:
    """QR in LAPACK's form: R on and above the diagonal, below it the reflectors; no gradients, as in PyTorch."""
    if out is not None:
        return into(out, geqrf(input), "geqrf")
    values_read(input, "linalg.geqrf")
    a = check_matrix(input, "geqrf", prefix="")._array
    if not a.size:
        return QRFactorResult(wrap(a.copy()), wrap(np.empty((*a.shape[:-2], min(a.shape[-2:])), a.dtype)))
    routine = ops.lapack("geqrf", a)
    found, tau = ops.each_matrix(lambda m: routine(m)[:2], a.shape[:-2], a)
    return QRFactorResult(wrap(np.ascontiguousarray(found)), wrap(tau))


def _reflect(a: Any, tau: Any, x: Any, transpose: bool) -> Any:
    """Q x, or Qᵀ x: one reflection (1 − τ v vᵀ) after the other. Made of ops, so it has gradients of every order."""
    n, k = a._array.shape[-2], tau._array.shape[-1]
    vectors = moves.tril(a[..., :, :k], diagonal=-1) + wrap(np.eye(n, k, dtype=a._array.dtype))
    for i in range(k) if transpose else range(k - 1, -1, -1):
        v = vectors[..., :, i : i + 1]
        x = x - matmul(v * tau[..., i : i + 1, None], matmul(moves.swap(v), x))
    return x


def householder_product(A: Any, tau: Any, *, out: Any = None) -> Any:
    """The first columns of the product of reflectors 1 − τᵢ vᵢ vᵢᵀ, vᵢ below A's diagonal: ``geqrf``'s Q."""
    if out is not None:
        return into(out, householder_product(A, tau), "householder_product")
    a = check_matrix(A, "householder_product", prefix="torch.linalg.")
    n, m = a._array.shape[-2:]
    if n < m:
        raise RuntimeError(
            "torch.linalg.householder_product: input.shape[-2] must be greater than or equal to input.shape[-1]"
        )
    if m < tau._array.shape[-1]:
        raise RuntimeError(
            "torch.linalg.householder_product: input.shape[-1] must be greater than or equal to tau.shape[-1]"
        )
    unit = wrap(np.broadcast_to(np.eye(n, m, dtype=a._array.dtype), a._array.shape))
    return _reflect(a, tau, unit, False)


def ormqr(input: Any, tau: Any, other: Any, left: bool = True, transpose: bool = False, *, out: Any = None) -> Any:
    """Q · other (other · Q unless ``left``, Qᵀ if ``transpose``) with the whole Q of ``geqrf``."""
    if out is not None:
        return into(out, ormqr(input, tau, other, left, transpose), "ormqr")
    a = check_matrix(input, "ormqr", prefix="torch.")
    if not left:
        return moves.swap(_reflect(a, tau, moves.swap(other), not transpose))
    return _reflect(a, tau, other, transpose)
