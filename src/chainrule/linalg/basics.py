"""Inverses, determinants, decompositions, norms and products."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtypes import FLOATS, TORCH_NAMES
from ..core.live import values_read
from ..core.variable import Variable, wrap
from ..errors import ChainruleError, ShapeError, message
from ..functions import contraction, layout
from ..functions._args import need_tensor
from ..functions._results import named
from ..functions.inplace import into
from ..functions.linalg import matmul
from ..ops import compare, factorizations, reduce
from ..ops import decompositions as ops
from ..ops import layout as moves

__all__ = [
    "LinAlgError", "cholesky", "det", "eigh", "eigvalsh", "inv", "lstsq", "matmul", "matrix_power",
    "matrix_rank", "multi_dot", "pinv", "qr", "slogdet", "solve", "svd", "svdvals", "tensorsolve",
]  # fmt: skip


class LinAlgError(ChainruleError, RuntimeError):
    """A matrix is singular, or a decomposition does not exist or converge."""


SlogdetResult = named("slogdet", "sign", "logabsdet")
EighResult = named("linalg_eigh", "eigenvalues", "eigenvectors")
QRResult = named("linalg_qr", "Q", "R")
SVDResult = named("linalg_svd", "U", "S", "Vh")
LstsqResult = named("linalg_lstsq", "solution", "residuals", "rank", "singular_values")


def _name(t: Any) -> str:
    return TORCH_NAMES[t.dtype.name]


def check_matrix(x: Any, function: str, square: bool = False, *, prefix: str = "linalg.", name: str = "A") -> Any:
    """The tensor, if it is a matrix (or a batch of them) that LAPACK takes.

    Raises:
        RuntimeError: in PyTorch's words.
    """
    a = need_tensor(x, f"linalg_{function}" if prefix else function, 1, name)._array
    title = prefix + function
    if a.ndim < 2:
        raise ShapeError(f"{title}: The input tensor {name} must have at least 2 dimensions.")
    if square and a.shape[-1] != a.shape[-2]:
        shape = f"{a.shape[-2]} by {a.shape[-1]} matrices"
        raise ShapeError(f"{title}: {name} must be batches of square matrices, but they are {shape}")
    if a.dtype not in FLOATS:
        raise RuntimeError(f"{title}: Expected a floating point or complex tensor as input. Got {_name(x)}")
    if a.itemsize < 4 and a.size:
        raise RuntimeError(f"{title}: Low precision dtypes not supported. Got {_name(x)}")
    return x


_matrix = check_matrix


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
    try:
        return ops.inv(x)
    except ChainruleError as error:
        if isinstance(error.__cause__, np.linalg.LinAlgError):
            raise LinAlgError(message(_singular("linalg.inv", x._array), str(error.__cause__))) from error
        raise


def _singular(name: str, a: np.ndarray[Any, Any]) -> str:
    """PyTorch's words for a matrix without inverse: which one of the batch, which entry of U's diagonal."""
    zero = np.diagonal(factorizations.lu_factor(a)[0], 0, -2, -1) == 0
    which = f"(Batch element {int(zero.any(-1).argmax())}): " if zero.ndim > 1 else ""
    k = int(zero.reshape(-1, zero.shape[-1])[int(zero.any(-1).argmax())].argmax()) + 1
    return (
        f"{name}: {which}The diagonal element {k} is zero, the inversion could not be completed because the input "
        "matrix is singular."
    )


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
    x = _matrix(A, "cholesky", True)
    try:
        found = ops.cholesky(moves.swap(x) if upper else x)
    except ChainruleError as error:
        if isinstance(error.__cause__, np.linalg.LinAlgError):
            from .factorizations import cholesky_ex, not_positive

            info = cholesky_ex(wrap(x._array), upper=upper).info._array
            raise LinAlgError(message(not_positive("linalg.cholesky", info), str(error.__cause__))) from error
        raise
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
        values_read(x, 'linalg.qr(mode="complete")')
        q, r = np.linalg.qr(x._array, "complete")
        return QRResult(wrap(q), wrap(r))
    q, r = ops.qr(x)
    return QRResult(wrap(np.empty(0, x._array.dtype)) if mode == "r" else q, r)


def svd(A: Any, full_matrices: bool = True, *, driver: Any = None, out: Any = None) -> Any:
    """A = U diag(S) Vh. With ``full_matrices`` U and Vh are square, and carry no gradient unless A is."""
    if out is not None:
        return into(out, svd(A, full_matrices, driver=driver), "svd")
    x = _matrix(A, "svd")
    _no_driver("svd", driver)
    n, m = x._array.shape[-2:]
    u, s, vh = ops.svd(x)
    if full_matrices and n != m:
        values_read(x, "svd with full_matrices")
        whole = np.linalg.svd(x._array)
        return SVDResult(wrap(whole[0]), s, wrap(whole[2]))
    return SVDResult(u, s, vh)


def svdvals(A: Any, *, driver: Any = None, out: Any = None) -> Any:
    """The singular values, descending."""
    if out is not None:
        return into(out, svdvals(A, driver=driver), "svdvals")
    _no_driver("svdvals", driver)
    return ops.svd(_matrix(A, "svdvals"))[1]


def _no_driver(name: str, driver: Any) -> None:
    if driver is not None:
        raise RuntimeError(
            f"torch.linalg.{name}: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER backend."
        )


def eigh(A: Any, UPLO: str = "L", *, out: Any = None) -> Any:
    """Eigenvalues (ascending) and eigenvectors of a symmetric matrix, of which one triangle is read."""
    if out is not None:
        return into(out, eigh(A, UPLO), "eigh")
    x = _matrix(A, "eigh", True)
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return EighResult(*ops.eigh(moves.swap(x) if UPLO.upper() == "U" else x))


def eigvalsh(A: Any, UPLO: str = "L", *, out: Any = None) -> Any:
    """The eigenvalues of a symmetric matrix, ascending."""
    if out is not None:
        return into(out, eigvalsh(A, UPLO), "eigvalsh")
    return eigh(A, UPLO)[0]


def pinv(
    A: Any, *, atol: Any = None, rtol: Any = None, rcond: Any = None, hermitian: bool = False, out: Any = None
) -> Any:
    """The Moore-Penrose inverse; singular values below ``rtol`` times the largest, or ``atol``, count as 0."""
    if out is not None:
        return into(out, pinv(A, atol=atol, rtol=rtol, rcond=rcond, hermitian=hermitian), "pinv")
    x = _matrix(A, "pinv", hermitian)
    a = x._array
    if hermitian:
        values_read((x, atol, rtol, rcond), "linalg.pinv(hermitian=True)")
        w, v = eigh(x)
        small = np.abs(w._array) <= _cut(np.abs(w._array), a, atol, rtol if rtol is not None else rcond)
        inverse = compare.where(wrap(small), 0.0, 1.0 / compare.where(wrap(small), 1.0, w))
        return matmul(v * layout.unsqueeze(inverse, -2), moves.swap(v))
    relative = rtol if rtol is not None else rcond
    if relative is None:
        relative = 0.0 if atol is not None else max(a.shape[-2:]) * float(np.finfo(a.dtype).eps)
    if atol is not None or isinstance(relative, Variable):
        values_read((x, atol, rtol, rcond), "linalg.pinv with a tolerance")
    if atol is not None and a.size:  # the op cuts relative to the largest singular value
        largest = np.linalg.svd(a, compute_uv=False).max(-1, initial=0.0)
        relative = np.maximum(_value(relative), _value(atol) / np.where(largest == 0, 1.0, largest))
    cut = np.asarray(_value(relative), a.dtype)
    return ops.pinv(x, rcond=float(cut) if cut.ndim == 0 else cut)


def _value(x: Any) -> Any:
    return x._array if isinstance(x, Variable) else x


def _cut(s: Any, a: Any, atol: Any, rtol: Any) -> Any:
    """Below which singular values count as 0: the larger of ``atol`` and ``rtol`` times the largest."""
    if rtol is None:
        rtol = 0.0 if atol is not None else max(a.shape[-2:]) * np.finfo(a.dtype).eps
    relative = s.max(-1, initial=0.0) * _value(rtol)
    return np.maximum(relative, 0.0 if atol is None else _value(atol))[..., None]


_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def lstsq(A: Any, B: Any, rcond: Any = None, *, driver: Any = None) -> Any:
    """The X that minimises ‖A X − B‖. Which of residuals, rank and singular values is there depends on ``driver``.

    >>> import chainrule as torch
    >>> torch.linalg.lstsq(torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0], [3.0]])).solution
    tensor([[2.0000]])
    """
    values_read((A, B), "linalg.lstsq")
    x = _matrix(A, "lstsq", prefix="torch.linalg.")
    if driver is not None and driver not in _DRIVERS:
        raise RuntimeError("torch.linalg.lstsq: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)")
    driver = driver or "gelsy"
    a = x._array
    if B._array.ndim < 1 or B._array.dtype is not a.dtype:
        raise RuntimeError(
            "torch.linalg.lstsq: Expected input and other to have the same dtype, but got input's dtype "
            f"{_name(x)} and other's dtype {_name(B)}"
        )
    vector = B._array.ndim == a.ndim - 1
    b = layout.unsqueeze(B, -1) if vector else B
    if b._array.shape[-2] != a.shape[-2]:
        raise RuntimeError("torch.linalg.lstsq: input.size(-2) should match other.size(-2)")
    solution = matmul(pinv(x, rtol=rcond), b)
    n, m = a.shape[-2:]
    s = np.linalg.svd(a, compute_uv=False)
    rank = (s > _cut(s, a, None, rcond)).sum(-1)
    residuals = singular = wrap(np.empty(0, a.dtype))
    ranks = wrap(np.empty(0, np.int64))
    if driver != "gelsy" and n > m and np.all(rank == m):
        d = matmul(x, solution) - b
        residuals = reduce.sum(d * d, dim=(d._array.ndim - 2,), keepdim=False)
    if driver != "gels":
        ranks = wrap(np.asarray(rank, np.int64))
    if driver in ("gelsd", "gelss"):
        singular = wrap(s)
    return LstsqResult(layout.squeeze(solution, -1) if vector else solution, residuals, ranks, singular)


def matrix_rank(
    A: Any, *, tol: Any = None, atol: Any = None, rtol: Any = None, hermitian: bool = False, out: Any = None
) -> Any:
    """The number of singular values that are not negligible."""
    if out is not None:
        return into(out, matrix_rank(A, tol=tol, atol=atol, rtol=rtol, hermitian=hermitian), "matrix_rank")
    values_read((A, tol, atol, rtol), "linalg.matrix_rank")
    a = _matrix(A, "matrix_rank", hermitian)._array
    s = np.abs(np.linalg.eigvalsh(a)) if hermitian else np.linalg.svd(a, compute_uv=False)
    cut = _cut(s, a, atol, rtol) if tol is None else np.asarray(_value(tol))[..., None]
    return wrap(np.asarray((s > cut).sum(-1), np.int64))


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


def tensorsolve(A: Any, B: Any, dims: Any = None, *, out: Any = None) -> Any:
    """The X with tensordot(A, X, X.ndim) = B."""
    if out is not None:
        return into(out, tensorsolve(A, B, dims), "tensorsolve")
    if dims is not None:
        A = layout.movedim(A, tuple(dims), tuple(range(A._array.ndim - len(dims), A._array.ndim)))
    rest = A._array.shape[B._array.ndim :]
    n = B._array.size
    return layout.reshape(solve(layout.reshape(A, n, n), layout.reshape(B, n)), rest)


solve_system = solve
