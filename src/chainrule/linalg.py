"""Linear algebra with ``torch.linalg``'s names: LAPACK's numerics, gradients of our own at every order."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from .core.dtypes import FLOATS
from .core.variable import wrap
from .errors import ChainruleError, ShapeError, message
from .functions import contraction, layout
from .functions._args import axes, axis, cast, need_tensor
from .functions.inplace import into
from .functions.linalg import matmul
from .ops import decompositions as ops
from .ops import elementwise, reduce
from .ops import layout as moves

__all__ = [
    "LinAlgError", "cholesky", "cond", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "inv_ex", "lstsq",
    "matmul", "matrix_norm", "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve",
    "solve_triangular", "svd", "svdvals", "tensorsolve", "vander", "vecdot", "vector_norm",
]  # fmt: skip


class LinAlgError(ChainruleError, RuntimeError):
    """A matrix is singular, or a decomposition does not exist or converge."""


SlogdetResult = namedtuple("slogdet", ("sign", "logabsdet"))
EighResult = namedtuple("linalg_eigh", ("eigenvalues", "eigenvectors"))
QRResult = namedtuple("linalg_qr", ("Q", "R"))
SVDResult = namedtuple("linalg_svd", ("U", "S", "Vh"))
LstsqResult = namedtuple("linalg_lstsq", ("solution", "residuals", "rank", "singular_values"))
InvExResult = namedtuple("linalg_inv_ex", ("inverse", "info"))


def _matrix(x: Any, name: str, square: bool = False) -> Any:
    a = need_tensor(x, f"linalg_{name}", 1, "A")._array
    if a.ndim < 2:
        raise ShapeError(f"linalg.{name}: The input tensor A must have at least 2 dimensions.")
    if square and a.shape[-1] != a.shape[-2]:
        raise ShapeError(
            f"linalg.{name}: A must be batches of square matrices, but they are {a.shape[-2]} by {a.shape[-1]} matrices"
        )
    if a.dtype not in FLOATS:
        raise RuntimeError(f"linalg.{name}: Expected a floating point or complex tensor as input. Got {x.dtype}")
    return x


def _run(what: str, op: Any, *args: Any, **settings: Any) -> Any:
    try:
        return op(*args, **settings)
    except ChainruleError as error:
        if isinstance(error.__cause__, np.linalg.LinAlgError):
            raise LinAlgError(message(what, str(error.__cause__))) from error
        raise


def inv(A: Any, *, out: Any = None) -> Any:
    """The inverse of a square matrix (or a batch of them).

    >>> import chainrule as torch
    >>> torch.linalg.inv(torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    if out is not None:
        return into(out, inv(A), "inv")
    x = _matrix(A, "inv", True)
    return _run("linalg.inv: The diagonal element 1 is zero, the inversion could not be completed because the input "
                "matrix is singular.", ops.inv, x)  # fmt: skip


def inv_ex(A: Any, *, check_errors: bool = False, out: Any = None) -> Any:
    """The inverse, and 0 as LAPACK's word that all went well."""
    if out is not None:
        return into(out, inv_ex(A, check_errors=check_errors), "inv_ex")
    return InvExResult(inv(A), wrap(np.zeros(A._array.shape[:-2], np.int32)))


def solve(A: Any, B: Any, *, left: bool = True, out: Any = None) -> Any:
    """The solution of A X = B (X A = B with ``left=False``); B is a matrix or a vector."""
    if out is not None:
        return into(out, solve(A, B, left=left), "solve")
    a = _matrix(A, "solve", True)
    b = need_tensor(B, "linalg_solve", 2, "B")
    if not left:
        return moves.swap(solve(moves.swap(a), moves.swap(b)))
    n, shape = a._array.shape[-1], b._array.shape
    vector = len(shape) == 1 or (len(shape) == a._array.ndim - 1 and shape == a._array.shape[:-1])
    if vector:
        b = layout.unsqueeze(b, -1)
    if b._array.shape[-2] != n:
        raise ShapeError(f"linalg.solve: Incompatible shapes of A and B for the equation AX = B ({n}x{n} and "
                         f"{b._array.shape[-2]}x{b._array.shape[-1]})")  # fmt: skip
    lead = layout.common_shape([a._array.shape[:-2], b._array.shape[:-2]])
    a = moves.expand(a, shape=(*lead, n, n)) if a._array.shape[:-2] != lead else a
    b = moves.expand(b, shape=(*lead, *b._array.shape[-2:])) if b._array.shape[:-2] != lead else b
    x = _run("torch.linalg.solve: The solver failed because the input matrix is singular.", ops.solve, a, b)
    return layout.squeeze(x, -1) if vector else x


def solve_triangular(A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """The solution of A X = B, looking at one triangle of A only."""
    a = (
        moves.triu(A, diagonal=1 if unitriangular else 0)
        if upper
        else moves.tril(A, diagonal=-1 if unitriangular else 0)
    )
    if unitriangular:
        a = a + wrap(np.eye(A._array.shape[-1], dtype=A._array.dtype))
    return solve(a, B, left=left)


def det(A: Any, *, out: Any = None) -> Any:
    """The determinant."""
    if out is not None:
        return into(out, det(A), "det")
    return ops.det(_matrix(A, "det", True))


def slogdet(A: Any, *, out: Any = None) -> Any:
    """The determinant's sign, and the logarithm of its absolute value."""
    if out is not None:
        return into(out, slogdet(A), "slogdet")
    x = _matrix(A, "slogdet", True)
    return SlogdetResult(ops.signdet(x), ops.logabsdet(x))


def cholesky(A: Any, *, upper: bool = False, out: Any = None) -> Any:
    """The lower triangular L with L Lᵀ = A (or its transpose with ``upper``)."""
    if out is not None:
        return into(out, cholesky(A, upper=upper), "cholesky")
    found = _run("linalg.cholesky: The factorization could not be completed because the input is not "
                 "positive-definite.",
                 ops.cholesky, _matrix(A, "cholesky", True))  # fmt: skip
    return moves.swap(found) if upper else found


def qr(A: Any, mode: str = "reduced", *, out: Any = None) -> Any:
    """A = Q R with orthonormal columns Q and an upper triangular R; ``mode`` "reduced", "complete" or "r"."""
    if out is not None:
        return into(out, qr(A, mode), "qr")
    x = _matrix(A, "qr")
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'"
        )
    n, m = x._array.shape[-2:]
    if mode == "complete" and n > m:
        q, r = np.linalg.qr(x._array, "complete")
        return QRResult(wrap(q), wrap(r))
    q, r = ops.qr(x)
    return QRResult(wrap(np.empty(0, x._array.dtype)) if mode == "r" else q, r)


def svd(A: Any, full_matrices: bool = True, *, driver: Any = None, out: Any = None) -> Any:
    """A = U diag(S) Vh. With ``full_matrices`` U and Vh are square, and carry no gradient unless A is."""
    if out is not None:
        return into(out, svd(A, full_matrices, driver=driver), "svd")
    x = _matrix(A, "svd")
    n, m = x._array.shape[-2:]
    u, s, vh = ops.svd(x)
    if full_matrices and n != m:
        whole = np.linalg.svd(x._array)
        return SVDResult(wrap(whole[0]), s, wrap(whole[2]))
    return SVDResult(u, s, vh)


def svdvals(A: Any, *, driver: Any = None, out: Any = None) -> Any:
    """The singular values, descending."""
    if out is not None:
        return into(out, svdvals(A, driver=driver), "svdvals")
    return ops.svd(_matrix(A, "svdvals"))[1]


def eigh(A: Any, UPLO: str = "L", *, out: Any = None) -> Any:
    """Eigenvalues (ascending) and eigenvectors of a symmetric matrix, of which one triangle is read."""
    if out is not None:
        return into(out, eigh(A, UPLO), "eigh")
    x = _matrix(A, "eigh", True)
    return EighResult(*ops.eigh(moves.swap(x) if UPLO.upper() == "U" else x))


def eigvalsh(A: Any, UPLO: str = "L", *, out: Any = None) -> Any:
    """The eigenvalues of a symmetric matrix, ascending."""
    if out is not None:
        return into(out, eigvalsh(A, UPLO), "eigvalsh")
    return eigh(A, UPLO)[0]


def pinv(A: Any, *, atol: Any = None, rtol: Any = None, rcond: Any = None, hermitian: bool = False) -> Any:
    """The Moore-Penrose inverse; singular values below ``rtol`` times the largest count as 0."""
    x = _matrix(A, "pinv")
    a = x._array
    cut = rtol if rtol is not None else rcond if rcond is not None else max(a.shape[-2:]) * float(np.finfo(a.dtype).eps)
    return ops.pinv(x, rcond=float(cut))


def lstsq(A: Any, B: Any, rcond: Any = None, *, driver: Any = None) -> Any:
    """The X that minimises ‖A X − B‖, with residuals (when A has more rows than columns and full rank) and rank."""
    x = _matrix(A, "lstsq")
    b = layout.unsqueeze(B, -1) if B._array.ndim == x._array.ndim - 1 else B
    solution = matmul(pinv(x, rtol=rcond), b)
    rank = np.linalg.matrix_rank(x._array)
    n, m = x._array.shape[-2:]
    residuals = wrap(np.empty(0, x._array.dtype))
    if n > m and np.all(rank == m):
        d = matmul(x, solution) - b
        residuals = reduce.sum(d * d, dim=(d._array.ndim - 2,), keepdim=False)
    empty = wrap(np.empty(0, x._array.dtype))
    if b is not B:
        solution = layout.squeeze(solution, -1)
    return LstsqResult(solution, residuals, wrap(np.asarray(rank, np.int64)), empty)


def matrix_rank(A: Any, *, tol: Any = None, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Any:
    """The number of singular values that are not negligible."""
    a = _matrix(A, "matrix_rank")._array
    s = np.linalg.svd(a, compute_uv=False)
    relative = 0.0 if rtol is None and atol is not None else rtol
    relative = max(a.shape[-2:]) * np.finfo(a.dtype).eps if relative is None else relative
    cut = np.maximum(s.max(-1, initial=0.0) * relative, 0.0 if atol is None else atol) if tol is None else tol
    return wrap(np.asarray((s > np.asarray(cut)[..., None]).sum(-1), np.int64))


def matrix_power(A: Any, n: int, *, out: Any = None) -> Any:
    """A multiplied with itself n times; for negative n its inverse."""
    if out is not None:
        return into(out, matrix_power(A, n), "matrix_power")
    x = _matrix(A, "matrix_power", True)
    if n < 0:
        x, n = inv(x), -n
    if n == 0:
        return wrap(np.broadcast_to(np.eye(x._array.shape[-1], dtype=x._array.dtype), x._array.shape).copy())
    result = None
    while n:
        if n & 1:
            result = x if result is None else matmul(result, x)
        n >>= 1
        if n:
            x = matmul(x, x)
    return result


def multi_dot(tensors: Any, *, out: Any = None) -> Any:
    """The product of several matrices (the first and last may be vectors)."""
    if out is not None:
        return into(out, multi_dot(tensors), "multi_dot")
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    return contraction.chain_matmul(*tensors)


def vector_norm(
    x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, out: Any = None
) -> Any:
    """(Σ |x|ᵖ)^(1/p) over ``dim`` (all axes when None); ±∞ gives the largest or smallest |x|, 0 counts nonzero ones."""
    if out is not None:
        return into(out, vector_norm(x, ord, dim, keepdim, dtype=dtype), "vector_norm")
    t = cast(need_tensor(x, "linalg_vector_norm", 1, "x"), dtype)
    if t._array.dtype not in FLOATS:
        raise RuntimeError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {_name(t)}")
    return reduce.norm(t, p=float(ord), dim=axes(dim, t._array.ndim), keepdim=keepdim)


def _name(t: Any) -> str:
    return t.type().rpartition(".")[2].removesuffix("Tensor")


def matrix_norm(
    A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None, out: Any = None
) -> Any:
    """A matrix's norm: "fro", "nuc" (sum of singular values), ±2 (largest, smallest), ±1, ±∞ (column, row sums)."""
    if out is not None:
        return into(out, matrix_norm(A, ord, dim, keepdim, dtype=dtype), "matrix_norm")
    x = cast(_matrix(A, "matrix_norm"), dtype)
    ndim = x._array.ndim
    a, b = axis(dim[0], ndim), axis(dim[1], ndim)
    if a == b:
        raise RuntimeError(f"linalg.matrix_norm: dims must be different. Got ({dim[0]}, {dim[1]})")
    if ord == "fro":
        return reduce.norm(x, p=2.0, dim=tuple(sorted((a, b))), keepdim=keepdim)
    y = layout.movedim(x, (a, b), (-2, -1))
    if ord in (1, -1, float("inf"), -float("inf")):
        sums = reduce.sum(elementwise.abs(y), dim=(ndim - 2 if ord in (1, -1) else ndim - 1,), keepdim=False)
        result = _extreme(sums, ord > 0)
    elif ord == "nuc":
        s = svdvals(y)
        result = reduce.sum(s, dim=(s._array.ndim - 1,), keepdim=False)
    elif ord in (2, -2):
        result = _extreme(svdvals(y), ord > 0)
    else:
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    if keepdim:
        for d in sorted((a, b)):
            result = layout.unsqueeze(result, d)
    return result


def _extreme(x: Any, largest: bool) -> Any:
    return (reduce.amax if largest else reduce.amin)(x, dim=(x._array.ndim - 1,), keepdim=False)


def norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, out: Any = None, dtype: Any = None) -> Any:
    """``vector_norm``, or ``matrix_norm`` when there are two axes (or a name) to go by."""
    if out is not None:
        return into(out, norm(A, ord, dim, keepdim, dtype=dtype), "norm")
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    pair = (dim is None and A._array.ndim == 2) or (isinstance(dim, (tuple, list)) and len(dim) == 2)
    if pair or isinstance(ord, str):
        return matrix_norm(A, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


def cond(A: Any, p: Any = None, *, out: Any = None) -> Any:
    """The condition number: ‖A‖ ‖A⁻¹‖, for p = 2 the largest over the smallest singular value."""
    if out is not None:
        return into(out, cond(A, p), "cond")
    x = _matrix(A, "cond")
    if p in (None, 2, -2):
        s = svdvals(x)
        return _extreme(s, True) / _extreme(s, False) if p != -2 else _extreme(s, False) / _extreme(s, True)
    return matrix_norm(x, p) * matrix_norm(inv(x), p)


def cross(input: Any, other: Any, *, dim: int = -1, out: Any = None) -> Any:
    """The cross product of vectors of three entries along ``dim``."""
    if out is not None:
        return into(out, cross(input, other, dim=dim), "cross")
    from .functions.layout import broadcast_tensors

    if input._array.ndim != other._array.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    x, y = broadcast_tensors(input, other)
    d = axis(dim, x._array.ndim)
    if x._array.shape[d] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {x._array.shape[d]} and "
                           f"{y._array.shape[d]}")  # fmt: skip

    def turned(t: Any, by: int) -> Any:
        return moves.roll(t, shifts=(by,), dims=(d,))

    return turned(x, -1) * turned(y, -2) - turned(x, -2) * turned(y, -1)


def vecdot(x: Any, y: Any, *, dim: int = -1, out: Any = None) -> Any:
    """Inner products along ``dim``."""
    if out is not None:
        return into(out, vecdot(x, y, dim=dim), "vecdot")
    z = x * y
    return reduce.sum(z, dim=(axis(dim, z._array.ndim),), keepdim=False)


def diagonal(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The diagonal of the last two axes (a view)."""
    return layout.diagonal(A, offset, dim1, dim2)


def vander(x: Any, N: int | None = None) -> Any:
    """The matrix of a vector's powers 0, 1, …, N − 1."""
    n = x._array.shape[-1] if N is None else N
    powers = wrap(np.arange(n).astype(x._array.dtype))
    return layout.unsqueeze(x, -1) ** powers


def tensorsolve(A: Any, B: Any, dims: Any = None, *, out: Any = None) -> Any:
    """The X with tensordot(A, X, X.ndim) = B."""
    if out is not None:
        return into(out, tensorsolve(A, B, dims), "tensorsolve")
    if dims is not None:
        A = layout.movedim(A, tuple(dims), tuple(range(A._array.ndim - len(dims), A._array.ndim)))
    rest = A._array.shape[B._array.ndim :]
    n = B._array.size
    return layout.reshape(solve(layout.reshape(A, n, n), layout.reshape(B, n)), rest)


def __getattr__(name: str) -> Any:
    from .core import left_out

    raise AttributeError(left_out.absent("torch.linalg", name, __all__))
