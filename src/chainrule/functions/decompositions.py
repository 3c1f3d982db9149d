"""What of ``torch.linalg`` PyTorch has under ``torch`` as well, by older names and with older arguments.

The room itself loads when one of them is first called.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.live import reads_values
from ..core.op import registry
from ..core.rng import numpy_generator
from ..core.variable import wrap
from ..ops import layout
from ._args import need_tensor
from ._results import named
from .inplace import into
from .linalg import matmul

_REMOVED = {
    "lstsq": "`torch.lstsq` is deprecated in favor of `torch.linalg.lstsq`.\nX = torch.linalg.lstsq(A, B).solution",
    "solve": "`torch.solve` is deprecated in favor of `torch.linalg.solve`. `torch.linalg.solve` has its arguments "
    "reversed and does not return the LU factorization.\nX = torch.linalg.solve(A, B)",
    "symeig": "The default behavior has changed from using the upper triangular portion of the matrix by default to "
    "using the lower triangular portion.\nL, V = torch.linalg.eigh(A, UPLO='U' if upper else 'L')",
    "eig": "`torch.linalg.eig` returns complex tensors of dtype `cfloat` or `cdouble` rather than real tensors "
    "mimicking complex tensors.\nThere are no complex tensors here; for a symmetric matrix: torch.linalg.eigh(A)",
    "matrix_rank": "\nPlease use the `torch.linalg.matrix_rank` function instead.",
}
_SAME = {
    "cholesky_inverse": "cholesky_inverse", "cholesky_solve": "cholesky_solve", "det": "det", "geqrf": "geqrf",
    "inverse": "inv", "lu_unpack": "lu_unpack", "matrix_exp": "matrix_exp", "matrix_power": "matrix_power",
    "orgqr": "householder_product", "ormqr": "ormqr", "pinverse": "pinv", "slogdet": "slogdet",
    "triangular_solve": "triangular_solve", "vecdot": "vecdot",
}  # fmt: skip
"""torch's name → chainrule.linalg's."""

__all__ = [
    *_SAME, *_REMOVED, "cholesky", "frobenius_norm", "lobpcg", "logdet", "lu", "lu_solve", "nuclear_norm",
    "pca_lowrank", "qr", "svd", "svd_lowrank",
]  # fmt: skip
_NO_METHOD = ("vecdot", "lobpcg", "lu_unpack", "frobenius_norm", "nuclear_norm", "pca_lowrank", "svd_lowrank",
              "matrix_rank")  # fmt: skip
METHODS = tuple(n for n in __all__ if n not in _NO_METHOD)
SVDResult = named("svd", "U", "S", "V")
QRResult = named("qr", "Q", "R")
InfoResult = named("_lu_with_info", "LU", "pivots", "info")


def _room() -> Any:
    from importlib import import_module

    return import_module("chainrule.linalg")


def _from_room(name: str, target: str) -> Any:
    def function(input: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(_room(), target)(input, *args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``chainrule.linalg.{target}``."
    return function


def _removed(name: str, text: str) -> Any:
    def function(*args: Any, **kwargs: Any) -> Any:
        gap = "" if text[0] == "\n" else " "
        raise RuntimeError(f"This function was deprecated since version 1.9 and is now removed.{gap}{text}")

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "Removed from PyTorch; says what to call."
    return function


globals().update({name: _from_room(name, target) for name, target in _SAME.items()})
globals().update({name: _removed(name, text) for name, text in _REMOVED.items()})


@reads_values
def logdet(input: Any) -> Any:
    """The logarithm of the determinant; NaN where that is negative, −∞ where it is 0."""
    sign, value = _room().slogdet(input)
    negative = sign._array < 0
    return registry["where"].call(negative, float("nan"), value) if negative.any() else value


def cholesky(input: Any, upper: bool = False, *, out: Any = None) -> Any:
    """``chainrule.linalg.cholesky``."""
    if out is not None:
        return into(out, cholesky(input, upper), "cholesky")
    return _room().cholesky(input, upper=upper)


def qr(input: Any, some: bool = True, *, out: Any = None) -> Any:
    """``chainrule.linalg.qr``, reduced if ``some``."""
    if out is not None:
        return into(out, qr(input, some), "qr")
    return QRResult(*_room().qr(input, "reduced" if some else "complete"))


def svd(input: Any, some: bool = True, compute_uv: bool = True, *, out: Any = None) -> Any:
    """``chainrule.linalg.svd``, but with V instead of its transpose, and thin if ``some``."""
    if out is not None:
        return into(out, svd(input, some, compute_uv), "svd")
    u, s, vh = _room().svd(input, full_matrices=not some)
    if not compute_uv:
        n, m = input._array.shape[-2:]
        lead, d = input._array.shape[:-2], input._array.dtype
        return SVDResult(wrap(np.zeros((*lead, n, n), d)), s, wrap(np.zeros((*lead, m, m), d)))
    return SVDResult(u, s, layout.swap(vh))


def lu(A: Any, pivot: bool = True, get_infos: bool = False, out: Any = None) -> Any:
    """``chainrule.linalg.lu_factor``, which does not raise for a singular matrix."""
    if out is not None:
        return into(out, lu(A, pivot, get_infos), "lu")
    found = _room().lu_factor_ex(A, pivot=pivot)
    return InfoResult(*found) if get_infos else tuple(found[:2])


def lu_solve(input: Any, LU_data: Any, LU_pivots: Any, *, out: Any = None) -> Any:
    """``chainrule.linalg.lu_solve`` with the right-hand side first."""
    return _room().lu_solve(LU_data, LU_pivots, input, out=out)


def nuclear_norm(input: Any, dim: Any = (-2, -1), keepdim: bool = False, *, out: Any = None) -> Any:
    """The sum of the singular values."""
    if isinstance(dim, bool):  # nuclear_norm(x, keepdim)
        dim, keepdim = (-2, -1), dim
    return _room().matrix_norm(input, "nuc", tuple(dim), keepdim, out=out)


def frobenius_norm(input: Any, dim: Any, keepdim: bool = False, *, out: Any = None) -> Any:
    """√Σ x² over one or two axes."""
    found = (dim,) if isinstance(dim, int) else tuple(dim)
    if len(found) > 2:
        raise RuntimeError(f"Expected at most 2 dimensions, but got {len(found)} dimensions instead.")
    return _room().vector_norm(input, 2, found or None, keepdim, out=out)


# --- a few singular or eigenvectors -------------------------------------------------------------------------------


def svd_lowrank(A: Any, q: int | None = 6, niter: int | None = 2, M: Any = None) -> Any:
    """The largest ``q`` singular values with their vectors (columns of U and V), by random projection.

    Source: Halko, Martinsson, Tropp, Finding structure with randomness (2011), algorithms 4.4 and 5.1. More iterations
    (``niter``) bring it closer to the exact values; A − M is decomposed if M is given.
    """
    x = need_tensor(A, "svd_lowrank")
    if M is not None:
        x = x - M
    n, m = x._array.shape[-2:]
    if n < m:
        u, s, v = svd_lowrank(layout.swap(x), q, niter)
        return v, s, u
    room = _room()
    size = 6 if q is None else q
    start = numpy_generator(None).standard_normal((m, size)).astype(x._array.dtype)
    basis = room.qr(matmul(x, wrap(start)))[0]
    for _ in range(2 if niter is None else niter):
        basis = room.qr(matmul(layout.swap(x), basis))[0]
        basis = room.qr(matmul(x, basis))[0]
    u, s, vh = room.svd(matmul(layout.swap(basis), x), full_matrices=False)
    return matmul(basis, u), s, layout.swap(vh)


def pca_lowrank(A: Any, q: int | None = None, center: bool = True, niter: int = 2) -> Any:
    """Principal components of the rows of A by ``svd_lowrank``, after subtracting the mean of each column."""
    x = need_tensor(A, "pca_lowrank")
    n, m = x._array.shape[-2:]
    if q is None:
        q = min(6, n, m)
    elif not 0 <= q <= min(n, m):
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(n, m)}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    return svd_lowrank(x - x.mean(dim=-2, keepdim=True) if center else x, q, niter)


def lobpcg(
    A: Any, k: int | None = None, B: Any = None, X: Any = None, n: int | None = None, iK: Any = None,
    niter: int | None = None, tol: float | None = None, largest: bool | None = None, method: Any = None,
    tracker: Any = None, ortho_iparams: Any = None, ortho_fparams: Any = None, ortho_bparams: Any = None,
) -> Any:  # fmt: skip
    """The k largest (smallest unless ``largest``) eigenvalues of A x = λ B x, A symmetric, B positive definite.

    PyTorch iterates; here the whole decomposition is computed, exactly and with gradients of every order, and cut.
    """
    room, x = _room(), need_tensor(A, "lobpcg")
    size = x._array.shape[-1]
    count = (1 if X is None else X._array.shape[-1]) if k is None else k
    if size < 3 * count:
        raise ValueError(
            f"LPBPCG algorithm is not applicable when the number of A rows (={size}) is smaller than 3 x the number of "
            f"requested eigenpairs (={count})"
        )
    if B is None:
        values, vectors = room.eigh(x)
    else:
        low = room.cholesky(B)
        half = room.solve_triangular(low, x, upper=False)
        values, vectors = room.eigh(room.solve_triangular(low, layout.swap(half), upper=False))
        vectors = room.solve_triangular(layout.swap(low), vectors, upper=True)
    if largest is None or largest:
        values, vectors = values.flip(-1), vectors.flip(-1)
    return values[..., :count], vectors[..., :, :count]
