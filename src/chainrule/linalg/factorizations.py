"""LU, Cholesky, LDL and QR in LAPACK's own form, and the systems solved with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtypes import FLOATS
from ..core.live import values_read
from ..core.variable import Variable, wrap
from ..errors import ShapeError
from ..functions import layout
from ..functions._args import cast, need_tensor
from ..functions._results import named
from ..functions.inplace import into
from ..ops import decompositions
from ..ops import factorizations as ops
from ..ops import layout as moves
from .basics import LinAlgError, check_matrix, solve_system

__all__ = [
    "cholesky_ex", "cholesky_inverse", "cholesky_solve", "inv_ex", "lu", "lu_factor", "lu_factor_ex",
    "lu_solve", "lu_unpack", "matrix_exp", "solve_ex", "solve_triangular", "tensorinv", "triangular_solve",
]  # fmt: skip

LUResult = named("linalg_lu", "P", "L", "U")
LUFactorResult = named("linalg_lu_factor", "LU", "pivots")
LUFactorExResult = named("linalg_lu_factor_ex", "LU", "pivots", "info")
UnpackedResult = named("lu_unpack", "P", "L", "U")
CholeskyExResult = named("linalg_cholesky_ex", "L", "info")
InvExResult = named("linalg_inv_ex", "inverse", "info")
SolveExResult = named("linalg_solve_ex", "result", "info")
TriangularResult = named("triangular_solve", "solution", "cloned_coefficient")


def _info(values: Any) -> Any:
    return wrap(np.asarray(values, np.int32))


def _zero_pivot(lu: np.ndarray[Any, Any]) -> Any:
    """LAPACK's word for each factorization: the first zero on U's diagonal, counted from 1; 0 if there is none."""
    d = np.diagonal(lu, 0, -2, -1) == 0
    if not d.size:
        return np.zeros(lu.shape[:-2], int)
    return np.where(d.any(-1), d.argmax(-1) + 1, 0)


# --- LU -------------------------------------------------------------------------------------------------------------


def lu_factor_ex(A: Any, *, pivot: bool = True, check_errors: bool = False, out: Any = None) -> Any:
    """``lu_factor`` with LAPACK's word on each matrix: which entry of U's diagonal is 0, if one is."""
    if out is not None:
        return into(out, lu_factor_ex(A, pivot=pivot, check_errors=check_errors), "lu_factor_ex")
    values_read(A, "linalg.lu_factor_ex")
    x = check_matrix(A, "lu_factor_ex" if check_errors else "lu_factor")
    if not pivot:
        raise RuntimeError("linalg.lu_factor: LU without pivoting is not implemented on the CPU")
    factors, pivots = ops.lu_factor(x)
    info = _zero_pivot(factors._array)
    if check_errors:
        _check_pivots(info, "torch.linalg.lu_factor_ex")
    return LUFactorExResult(factors, pivots, _info(info))


def _check_pivots(info: Any, name: str) -> None:
    if info.any():
        which = f"(Batch element {int((info != 0).argmax())}): " if info.ndim else ""
        k = int(info[info != 0].flat[0])
        raise LinAlgError(
            f"{name}: {which}U[{k},{k}] is zero and using it on lu_solve would result in a division by zero. If you "
            "still want to perform the factorization, consider calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, "
            "pivot)"
        )


def lu_factor(A: Any, *, pivot: bool = True, out: Any = None) -> Any:
    """P L U = A in LAPACK's form: L (below the diagonal) and U in one matrix, and the row exchanges.

    >>> import chainrule as torch
    >>> torch.linalg.lu_factor(torch.tensor([[1.0, 2.0], [4.0, 2.0]])).pivots
    tensor([2, 2], dtype=torch.int32)
    """
    if out is not None:
        return into(out, lu_factor(A, pivot=pivot), "lu_factor")
    factors, pivots, info = lu_factor_ex(A, pivot=pivot)
    _check_pivots(info._array, "torch.linalg.lu_factor")
    return LUFactorResult(factors, pivots)


def _permutation(pivots: Any, n: int, dtype: Any) -> Any:
    """P as a matrix: column i has its 1 in the row that was moved to place i."""
    order = ops.permutation(pivots._array, n)
    return wrap((np.arange(n)[:, None] == order[..., None, :]).astype(dtype))


def _triangles(factors: Any) -> tuple[Any, Any]:
    """L, with ones on its diagonal, and U."""
    n, m = factors._array.shape[-2:]
    k = min(n, m)
    low = moves.tril(factors[..., :, :k], diagonal=-1) + wrap(np.eye(n, k, dtype=factors._array.dtype))
    return low, moves.triu(factors[..., :k, :], diagonal=0)


def lu(A: Any, *, pivot: bool = True, out: Any = None) -> Any:
    """P, L, U with P L U = A: a permutation, unit lower triangular, upper triangular."""
    if out is not None:
        return into(out, lu(A, pivot=pivot), "lu")
    factors, pivots, _ = lu_factor_ex(A, pivot=pivot)
    p = _permutation(pivots, A._array.shape[-2], A._array.dtype)
    return LUResult(p, *_triangles(factors))


def lu_unpack(
    LU_data: Any, LU_pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True, *, out: Any = None
) -> Any:
    """P, L, U from ``lu_factor``'s result; what is not asked for is an empty tensor."""
    if out is not None:
        return into(out, lu_unpack(LU_data, LU_pivots, unpack_data, unpack_pivots), "lu_unpack")
    values_read(LU_pivots, "linalg.lu_unpack")
    if LU_pivots._array.dtype != np.int32:
        raise RuntimeError(
            "torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.\nNote: this "
            "function is intended to be used with the output produced by torch.linalg.lu_factor"
        )
    d = LU_data._array.dtype
    p = _permutation(LU_pivots, LU_data._array.shape[-2], d) if unpack_pivots else wrap(np.empty(0, d))
    low, up = _triangles(LU_data) if unpack_data else (wrap(np.empty(0, d)), wrap(np.empty(0, d)))
    return UnpackedResult(p, low, up)


def lu_solve(LU: Any, pivots: Any, B: Any, *, left: bool = True, adjoint: bool = False, out: Any = None) -> Any:
    """The solution of A X = B (X A = B unless ``left``, Aᵀ for A if ``adjoint``) from A's ``lu_factor``."""
    if out is not None:
        return into(out, lu_solve(LU, pivots, B, left=left, adjoint=adjoint), "lu_solve")
    values_read(pivots, "linalg.lu_solve")
    x = check_matrix(LU, "lu_solve", True)
    b = need_tensor(B, "linalg_lu_solve", 3, "B")
    if not left:
        return moves.swap(lu_solve(x, pivots, moves.swap(b), adjoint=not adjoint))
    if b._array.ndim < 2 or b._array.shape[-2] != x._array.shape[-1]:
        raise ShapeError(
            f"linalg.lu_solve: Incompatible shapes of A and B for the equation AX = B ({x._array.shape[-2]}x"
            f"{x._array.shape[-1]} and {b._array.shape[-2]}x{b._array.shape[-1]})"
        )
    x, b = _common_batch(x, b)
    order = ops.permutation(pivots._array, x._array.shape[-1])
    order = np.broadcast_to(order, x._array.shape[:-1])
    if adjoint:
        y = ops.solve_triangular(moves.swap(x), b, upper=False, unitriangular=False)
        y = ops.solve_triangular(moves.swap(x), y, upper=True, unitriangular=True)
        return ops.permute_rows(y, np.argsort(order, -1))
    y = ops.solve_triangular(x, ops.permute_rows(b, order), upper=False, unitriangular=True)
    return ops.solve_triangular(x, y, upper=True, unitriangular=False)


def _common_batch(a: Any, b: Any) -> tuple[Any, Any]:
    """Both with the batch axes that they broadcast to."""
    lead = layout.common_shape([a._array.shape[:-2], b._array.shape[:-2]])
    return tuple(
        t if t._array.shape[:-2] == lead else moves.expand(t, shape=(*lead, *t._array.shape[-2:])) for t in (a, b)
    )  # type: ignore[return-value]


def solve_ex(A: Any, B: Any, *, left: bool = True, check_errors: bool = False, out: Any = None) -> Any:
    """``solve``, which does not raise for a singular matrix: LAPACK's word is the second result."""
    if out is not None:
        return into(out, solve_ex(A, B, left=left, check_errors=check_errors), "solve_ex")
    values_read(A, "linalg.solve_ex")
    x = check_matrix(A, "solve", True)
    info = _zero_pivot(ops.lu_factor(wrap(x._array))[0]._array)
    if not info.any():
        return SolveExResult(solve_system(x, B, left=left), _info(info))
    if check_errors:
        raise LinAlgError("torch.linalg.solve_ex: The solver failed because the input matrix is singular.")
    factors, pivots = ops.lu_factor(x)
    vector = B._array.ndim == 1 or B._array.shape == x._array.shape[:-1]
    b = layout.unsqueeze(B, -1) if vector else B
    found = lu_solve(factors, pivots, b, left=left or vector)
    return SolveExResult(layout.squeeze(found, -1) if vector else found, _info(info))


def inv_ex(A: Any, *, check_errors: bool = False, out: Any = None) -> Any:
    """``inv``, which does not raise for a singular matrix: LAPACK's word is the second result."""
    if out is not None:
        return into(out, inv_ex(A, check_errors=check_errors), "inv_ex")
    values_read(A, "linalg.inv_ex")
    x = check_matrix(A, "inv_ex" if check_errors else "inv", True)
    info = _zero_pivot(ops.lu_factor(wrap(x._array))[0]._array)
    if not info.any():
        return InvExResult(decompositions.inv(x), _info(info))
    if check_errors:
        which = f"(Batch element {int((info != 0).argmax())}): " if info.ndim else ""
        raise LinAlgError(
            f"linalg.inv_ex: {which}The diagonal element {int(info[info != 0].flat[0])} is zero, the inversion could "
            "not be completed because the input matrix is singular."
        )
    unit = wrap(np.broadcast_to(np.eye(x._array.shape[-1], dtype=x._array.dtype), x._array.shape))
    factors, pivots = ops.lu_factor(x)
    return InvExResult(lu_solve(factors, pivots, unit), _info(info))


# --- Cholesky -------------------------------------------------------------------------------------------------------


def cholesky_ex(A: Any, *, upper: bool = False, check_errors: bool = False, out: Any = None) -> Any:
    """``cholesky``, which does not raise: the order of the first minor that is not positive is the second result."""
    if out is not None:
        return into(out, cholesky_ex(A, upper=upper, check_errors=check_errors), "cholesky_ex")
    values_read(A, "linalg.cholesky_ex")
    x = check_matrix(A, "cholesky_ex" if check_errors else "cholesky", True)
    a = moves.swap(x) if upper else x
    potrf = ops.lapack("potrf", a._array)
    if not a._array.size:
        return CholeskyExResult(x.clone(), _info(np.zeros(a._array.shape[:-2])))
    low, info = ops.each_matrix(lambda m: potrf(m, lower=1, clean=1), a._array.shape[:-2], a._array)
    if info.any():
        if check_errors:
            raise LinAlgError(not_positive("linalg.cholesky_ex", info))
        found = wrap(low)
    else:
        found = decompositions.cholesky(a)
    return CholeskyExResult(moves.swap(found) if upper else found, _info(info))


def not_positive(name: str, info: np.ndarray[Any, Any]) -> str:
    """PyTorch's words for matrices that have no Cholesky factor."""
    which = f"(Batch element {int((info != 0).argmax())}): " if info.ndim else ""
    return (
        f"{name}: {which}The factorization could not be completed because the input is not positive-definite (the "
        f"leading minor of order {int(info[info != 0].flat[0])} is not positive-definite)."
    )


def cholesky_solve(B: Any, L: Any, upper: bool = False, *, out: Any = None) -> Any:
    """The solution of A X = B from the Cholesky factor of A: A = L Lᵀ, or Lᵀ L if ``upper``."""
    if out is not None:
        return into(out, cholesky_solve(B, L, upper), "cholesky_solve")
    a, b = _common_batch(check_matrix(L, "cholesky_solve", True), need_tensor(B, "cholesky_solve"))
    if upper:
        a = moves.swap(a)
    y = ops.solve_triangular(a, b, upper=False, unitriangular=False)
    return ops.solve_triangular(moves.swap(a), y, upper=True, unitriangular=False)


def cholesky_inverse(L: Any, upper: bool = False, *, out: Any = None) -> Any:
    """The inverse of A from its Cholesky factor."""
    if out is not None:
        return into(out, cholesky_inverse(L, upper), "cholesky_inverse")
    a = check_matrix(L, "cholesky_inverse", True)._array
    return cholesky_solve(wrap(np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)), L, upper)


# --- triangular systems ---------------------------------------------------------------------------------------------


def solve_triangular(
    A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False, out: Any = None
) -> Any:
    """The solution of A X = B (X A = B unless ``left``), looking at one triangle of A only."""
    if out is not None:
        return into(out, solve_triangular(A, B, upper=upper, left=left, unitriangular=unitriangular))
    a, b = check_matrix(A, "solve_triangular", True), check_matrix(B, "solve_triangular", name="B")
    if not left:
        return moves.swap(solve_triangular(moves.swap(a), moves.swap(b), upper=not upper, unitriangular=unitriangular))
    n = a._array.shape[-1]
    if b._array.shape[-2] != n:
        raise ShapeError(
            f"linalg.solve_triangular: Incompatible shapes of A and B for the equation AX = B ({n}x{n} and "
            f"{b._array.shape[-2]}x{b._array.shape[-1]})"
        )
    a, b = _common_batch(a, b)
    return ops.solve_triangular(a, b, upper=bool(upper), unitriangular=bool(unitriangular))


def triangular_solve(
    b: Any, A: Any, upper: bool = True, transpose: bool = False, unitriangular: bool = False, *, out: Any = None
) -> Any:
    """``solve_triangular`` with the arguments of PyTorch's older function, and a copy of A."""
    if out is not None:
        return into(out, triangular_solve(b, A, upper, transpose, unitriangular), "triangular_solve")
    a = moves.swap(A) if transpose else A
    found = solve_triangular(a, b, upper=upper != transpose, unitriangular=unitriangular)
    return TriangularResult(found, A.clone())


# --- functions of a matrix ------------------------------------------------------------------------------------------


def matrix_exp(A: Any) -> Any:
    """The matrix exponential, Σ Aᵏ / k!, with gradients of every order.

    >>> import chainrule as torch
    >>> torch.linalg.matrix_exp(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    tensor([[1., 1.],
            [0., 1.]])
    """
    if isinstance(A, Variable) and A._array.itemsize == 2 and A._array.dtype in FLOATS:  # the one that takes halves
        return cast(matrix_exp(cast(A, np.float32)), A._array.dtype)
    return ops.matrix_exp(check_matrix(A, "matrix_exp", True))


def tensorinv(A: Any, ind: int = 2, *, out: Any = None) -> Any:
    """The inverse of A as a map of its last axes (from ``ind`` on) to the first ``ind`` ones."""
    if out is not None:
        return into(out, tensorinv(A, ind), "tensorinv")
    if ind <= 0:
        raise RuntimeError(f"Expected a strictly positive integer for 'ind', but got {ind}")
    first, last = A._array.shape[:ind], A._array.shape[ind:]
    rows, columns = int(np.prod(first, dtype=np.int64)), int(np.prod(last, dtype=np.int64))
    if rows != columns:
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
            f"{columns} != {rows}"
        )
    return layout.reshape(decompositions.inv(layout.reshape(A, rows, columns)), *last, *first)
