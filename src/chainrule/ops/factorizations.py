"""Factorizations beyond NumPy's, triangular systems and the matrix exponential: SciPy's numerics, gradients of our own.

LAPACK's routines take one matrix; a batch is a loop over them.
"""

from __future__ import annotations

import math

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .join import cat
from .layout import swap, tril, triu
from .linalg import matmul

# ruff: noqa: ANN001, ANN202

__all__ = ["array_of", "blas", "each_matrix", "eye", "lapack", "lu_factor", "matrix_exp", "permutation", "permute_rows",
           "solve_triangular"]  # fmt: skip


def lapack(name, x):
    """The LAPACK routine of that name for x's precision.

    Raises:
        TypeError: for half precision, which LAPACK has not.
    """
    from scipy.linalg import get_lapack_funcs

    if x.dtype.char not in "fd":
        raise TypeError(f"array type {x.dtype.name} is unsupported in linalg")
    return get_lapack_funcs((name,), (x,))[0]


def blas(name, x):
    """The BLAS routine of that name for x's precision."""
    from scipy.linalg import get_blas_funcs

    if x.dtype.char not in "fd":
        raise TypeError(f"array type {x.dtype.name} is unsupported in linalg")
    return get_blas_funcs((name,), (x,))[0]


def each_matrix(function, batch, *arrays):
    """``function`` on each matrix of the batch; stacked results, one array per result of it."""
    flat = [a.reshape(math.prod(batch), *a.shape[len(batch) :]) for a in arrays]
    results = [function(*(a[i] for a in flat)) for i in range(math.prod(batch))]
    return [np.stack(part).reshape((*batch, *np.shape(part[0]))) for part in zip(*results)]


def array_of(x):
    """The array of a tensor; an array as it is. (Indices that rules save are constants in either mode.)"""
    return getattr(x, "_array", x)


def eye(n, like):
    """The identity of size n in the dtype of ``like``."""
    return np.eye(n, dtype=array_of(like).dtype)


# --- triangular systems ------------------------------------------------------------------------------------------


def _triangular(r):
    a = r.normal(size=(3, 3)) + 3 * np.eye(3)
    yield a, r.normal(size=(3, 2)), {"upper": True, "unitriangular": False}
    yield np.stack([a, a.T]), r.normal(size=(2, 3, 1)), {"upper": False, "unitriangular": True}


@op("*b n n, *b n k -> *b n k", formula="{a}⁻¹ {b}, a triangular", samples=calls(_triangular))
def solve_triangular(a, b, *, upper, unitriangular):
    """The solution x of a x = b, of a's one triangle (with ones on the diagonal if ``unitriangular``)."""
    if not b.size:
        return np.zeros(b.shape, b.dtype)
    trsm = blas("trsm", a)

    def one(m, v):
        return (trsm(1.0, m, v, lower=not upper, diag=unitriangular),)

    return np.ascontiguousarray(each_matrix(one, a.shape[:-2], a, b)[0])


@solve_triangular.vjp("a", math="ā = −that triangle of (a⁻ᵀ ȳ) yᵀ")
def _(g, out, a, upper, unitriangular):
    b = solve_triangular(swap(a), g, upper=not upper, unitriangular=unitriangular)
    whole = -matmul(b, swap(out))
    return triu(whole, diagonal=int(unitriangular)) if upper else tril(whole, diagonal=-int(unitriangular))


@solve_triangular.vjp("b", math="b̄ = a⁻ᵀ ȳ")
def _(g, a, upper, unitriangular):
    return solve_triangular(swap(a), g, upper=not upper, unitriangular=unitriangular)


# --- LU -------------------------------------------------------------------------------------------------------------


def permutation(pivots, rows):
    """LAPACK's row exchanges (counted from 1) as the order of rows that they lead to."""
    order = np.broadcast_to(np.arange(rows), (*pivots.shape[:-1], rows)).copy()
    for i in range(pivots.shape[-1]):
        j = pivots[..., i : i + 1].astype(np.int64) - 1
        here, there = order[..., i : i + 1].copy(), np.take_along_axis(order, j, -1)
        np.put_along_axis(order, j, here, -1)
        order[..., i : i + 1] = there
    return order


@op("*b n m, *b n -> *b n m", formula="rows {order} of {x}", samples=calls(
    lambda r: [(r.normal(size=(3, 2)), np.array([2, 0, 1])),
               (r.normal(size=(2, 3, 2)), np.array([[2, 0, 1], [0, 1, 2]]))]))  # fmt: skip
def permute_rows(x, order):
    """The rows of each matrix in another order."""
    return np.take_along_axis(x, np.broadcast_to(order[..., None], x.shape), -2)


@permute_rows.vjp("x", math="x̄ = the rows of ȳ put back")
def _(g, order):
    return permute_rows(g, np.argsort(array_of(order), -1))


def _lu_calls(r):
    for shape in ((3, 3), (4, 2), (2, 4), (2, 3, 3)):
        yield (r.normal(size=shape) + 2 * np.eye(*shape[-2:]),)


@op("*b n m -> *b n m, *b k", formula="LU of {x}", outputs=2, samples=calls(_lu_calls),
    kink="where rows are exchanged the factors jump")  # fmt: skip
def lu_factor(x):
    """L (below the diagonal, where it is 1) and U in one matrix, and LAPACK's row exchanges, counted from 1."""
    k = min(x.shape[-2:])
    if not x.size:
        lapack("getrf", x)
        return x.copy(), np.broadcast_to(np.arange(1, k + 1, dtype=np.int32), (*x.shape[:-2], k)).copy()
    getrf = lapack("getrf", x)
    lu, pivots = each_matrix(lambda m: getrf(m)[:2], x.shape[:-2], x)
    return np.ascontiguousarray(lu), (pivots + 1).astype(np.int32)


@lu_factor.vjp("x", math="x̄ = Pᵀ L⁻ᵀ (tril(Lᵀ L̄) + triu(Ū Uᵀ)) U⁻ᵀ, tril without the diagonal")
def _(g, out, x_shape):
    lu, pivots = out
    g_lu = g[0]
    n, m = x_shape[-2:]
    k = min(n, m)
    low, up = g_lu[..., :, :k], g_lu[..., :k, :]
    g_l, g_u = tril(low, diagonal=-1), triu(up, diagonal=0)
    square = lu[..., :k, :k]
    # What lies below or to the right of the square part depends on it: L₂ = A₂ U⁻¹, U₂ = L⁻¹ A₂.
    rest = None
    if n > k:
        rest = _right(square, g_l[..., k:, :])
        g_u = g_u - triu(matmul(swap(lu[..., k:, :]), rest), diagonal=0)
        g_l = g_l[..., :k, :]
    elif m > k:
        rest = _left(square, g_u[..., :, k:])
        g_l = g_l - tril(matmul(rest, swap(lu[..., :, k:])), diagonal=-1)
        g_u = g_u[..., :, :k]
    l, u = tril(square, diagonal=-1) + eye(k, square), triu(square, diagonal=0)
    core = tril(matmul(swap(l), g_l), diagonal=-1) + triu(matmul(g_u, swap(u)), diagonal=0)
    found = _right(square, _left(square, core))
    if rest is not None:
        found = cat(found, rest, dim=found.ndim - (2 if n > k else 1))
    return permute_rows(found, np.argsort(permutation(array_of(pivots), n), -1))


def _left(lu, b):
    """L⁻ᵀ b."""
    return solve_triangular(swap(lu), b, upper=True, unitriangular=True)


def _right(lu, b):
    """b U⁻ᵀ."""
    return swap(solve_triangular(lu, swap(b), upper=True, unitriangular=False))


# --- the matrix exponential -----------------------------------------------------------------------------------------


@op("*b n n -> *b n n", formula="exp({x})", samples=calls(
    lambda r: [(r.normal(size=(3, 3)) * 0.5,), (r.normal(size=(2, 2, 2)) * 0.5,)]))  # fmt: skip
def matrix_exp(x):
    """The matrix exponential, Σ xᵏ / k!."""
    from scipy.linalg import expm

    if x.dtype.char not in "fd":
        raise TypeError(f"array type {x.dtype.name} is unsupported in linalg")
    return np.ascontiguousarray(expm(x)).astype(x.dtype, copy=False) if x.size else x.copy()


@matrix_exp.vjp("x", math="x̄ = the upper right block of exp([[xᵀ, ȳ], [0, xᵀ]])")
def _(g, x):
    n, t = x.shape[-1], swap(x)
    if not n:
        return g
    rows = t.ndim - 1
    block = cat(cat(t, g, dim=rows), cat(g * 0, t, dim=rows), dim=rows - 1)
    return matrix_exp(block)[..., :n, n:]
