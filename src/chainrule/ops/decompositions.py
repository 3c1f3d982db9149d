"""Decompositions of (batches of) square matrices: the numerics are LAPACK's, through NumPy; the gradients are ours.

Rules use only the outputs and other ops, so they hold at every order. With aᵀ the transpose of the last two axes.
"""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .compare import where
from .layout import diagonal, on_diagonal, reshape, swap, tril
from .linalg import matmul

# ruff: noqa: ANN001, ANN202


def _square(r, n=3):
    return r.normal(size=(n, n)) + 2 * np.eye(n)


def _squares(r):
    yield (_square(r),)
    yield (np.stack([_square(r), _square(r)]),)


def _positive(r):
    for n in (2, 3):
        x = r.normal(size=(n, n))
        yield (x @ x.T + n * np.eye(n),)


@op("*b n n -> *b n n", formula="{x}⁻¹", numpy="np.linalg.inv({x})", samples=calls(_squares))
def inv(x):
    """The inverse of a matrix."""
    return np.linalg.inv(x)


@inv.vjp("x", math="x̄ = −yᵀ ȳ yᵀ")
def _(g, out):
    t = swap(out)
    return -matmul(matmul(t, g), t)


@op("*b n n, *b n k -> *b n k", formula="{a}⁻¹ {b}", numpy="np.linalg.solve({a}, {b})",
    samples=calls(lambda r: [(_square(r), r.normal(size=(3, 2)))]))  # fmt: skip
def solve(a, b):
    """The solution x of a x = b (b: matrices, in a batch as a's)."""
    return np.linalg.solve(a, b)


@solve.vjp("a", math="ā = −(a⁻ᵀ ȳ) yᵀ")
def _(g, a, out):
    return -matmul(solve(swap(a), g), swap(out))


@solve.vjp("b", math="b̄ = a⁻ᵀ ȳ")
def _(g, a):
    return solve(swap(a), g)


def _column(g):
    return reshape(g, shape=(*g.shape, 1, 1))


@op("*b n n -> *b", formula="det {x}", numpy="np.linalg.det({x})", samples=calls(_squares))
def det(x):
    """The determinant."""
    return np.linalg.det(x)


@det.vjp("x", math="x̄ = ȳ · y · x⁻ᵀ")
def _(g, out, x):
    return _column(g * out) * swap(inv(x))


@op("*b n n -> *b", formula="log |det {x}|", numpy="np.linalg.slogdet({x})[1]", samples=calls(_squares))
def logabsdet(x):
    """The logarithm of the determinant's absolute value."""
    return np.linalg.slogdet(x)[1]


@logabsdet.vjp("x", math="x̄ = ȳ · x⁻ᵀ")
def _(g, x):
    return _column(g) * swap(inv(x))


@op("*b n n -> *b", formula="sign det {x}", numpy="np.linalg.slogdet({x})[0]", samples=calls(_squares))
def signdet(x):
    """The determinant's sign (its gradient is 0 wherever it has one)."""
    return np.linalg.slogdet(x)[0]


def _half(x):
    """The lower triangle with half of the diagonal: what turns a symmetric differential into a triangular one."""
    n = x.shape[-1]
    d = diagonal(x, offset=0, dim1=x.ndim - 2, dim2=x.ndim - 1)
    return tril(x, diagonal=0) - on_diagonal(d * 0.5, shape=(*x.shape[:-2], n, n), offset=0, dim1=x.ndim - 2,
                                             dim2=x.ndim - 1)  # fmt: skip


@op("*b n n -> *b n n", formula="chol {x}", numpy="np.linalg.cholesky({x})", samples=calls(_positive))
def cholesky(x):
    """The lower triangular L with L Lᵀ = x (x symmetric and positive definite)."""
    return np.linalg.cholesky(x)


@cholesky.vjp("x", math="x̄ = ½ (S + Sᵀ), S = L⁻ᵀ Φ(Lᵀ ȳ) L⁻¹, Φ the lower triangle with half of the diagonal")
def _(g, out):
    i = inv(out)
    s = matmul(matmul(swap(i), _half(matmul(swap(out), g))), i)
    return (s + swap(s)) * 0.5


def _symmetric(r):
    for n in (2, 3):
        q = np.linalg.qr(r.normal(size=(n, n)))[0]
        yield ((q * (np.arange(n) + 1.0)) @ q.T,)


def _pairs(w):
    """wⱼ at (i, j), and wᵢ at (i, j)."""
    n = w.shape[-1]
    return reshape(w, shape=(*w.shape[:-1], 1, n)), reshape(w, shape=(*w.shape[:-1], n, 1))


def _reciprocal_gaps(w):
    """1 / (wⱼ − wᵢ) off the diagonal, 0 on it."""
    across, down = _pairs(w)
    same = np.eye(w.shape[-1], dtype=bool)
    return where(same, 0.0, 1.0 / where(same, 1.0, across - down))


def _on_diagonal(d, shape):
    return on_diagonal(d, shape=tuple(shape), offset=0, dim1=len(shape) - 2, dim2=len(shape) - 1)


@op("*b n n -> *b n, *b n n", formula="eigenvalues and eigenvectors of {x}", outputs=2, samples=calls(_symmetric),
    kink="equal eigenvalues: the eigenvectors' gradient is infinite")  # fmt: skip
def eigh(x):
    """Eigenvalues (ascending) and orthonormal eigenvectors (columns) of a symmetric matrix (its lower triangle)."""
    w, v = np.linalg.eigh(x)
    return w, v


@eigh.vjp("x", math="x̄ = V (diag w̄ + F ∘ (Vᵀ V̄)) Vᵀ, Fᵢⱼ = 1 / (wⱼ − wᵢ)")
def _(g, out):
    w, v = out
    gw, gv = g
    inner = _on_diagonal(gw, v.shape) + matmul(swap(v), gv) * _reciprocal_gaps(w)
    full = matmul(matmul(v, inner), swap(v))
    return (full + swap(full)) * 0.5


def _tall(r):
    yield (r.normal(size=(4, 2)),)
    yield (r.normal(size=(2, 4)),)
    yield (r.normal(size=(3, 3)),)


@op("*b n m -> *b n k, *b k, *b k m", formula="U, S, Vᵀ of {x}", outputs=3, samples=calls(_tall),
    kink="equal or vanishing singular values: the gradient of U and V is infinite")  # fmt: skip
def svd(x):
    """The thin singular value decomposition, x = U diag(S) Vᵀ, S descending."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    return u, s, vt


@svd.vjp("x", math="x̄ = U ((F ∘ skew(Uᵀ Ū)) S + S (F ∘ skew(Vᵀ V̄)) + diag s̄) Vᵀ + …, Fᵢⱼ = 1 / (sⱼ² − sᵢ²)")
def _(g, out, x_shape):
    u, s, vt = out
    gu, gs, gvt = g
    n, m = x_shape[-2:]
    k = s.shape[-1]
    f = _reciprocal_gaps(s * s)
    across, down = _pairs(s)
    a = matmul(swap(u), gu)
    b = matmul(vt, swap(gvt))
    core = (a - swap(a)) * f * across + down * ((b - swap(b)) * f) + _on_diagonal(gs, (*s.shape, k))
    result = matmul(matmul(u, core), vt)
    if n > k:
        result = result + matmul((gu - matmul(u, a)) / across, vt)
    if m > k:
        result = result + matmul(u, (gvt - matmul(matmul(gvt, swap(vt)), vt)) / down)
    return result


@op("*b n m -> *b n k, *b k m", formula="Q, R of {x}", outputs=2,
    samples=calls(lambda r: [(r.normal(size=(4, 3)),), (r.normal(size=(3, 3)),)]))  # fmt: skip
def qr(x):
    """The reduced QR decomposition, x = Q R (n ≥ m for gradients)."""
    q, r = np.linalg.qr(x)
    return q, r


@qr.vjp("x", math="x̄ = (Q̄ + Q copyltu(R R̄ᵀ − Q̄ᵀ Q)) R⁻ᵀ")
def _(g, out):
    q, r = out
    gq, gr = g
    m = matmul(r, swap(gr)) - matmul(swap(gq), q)
    low = tril(m, diagonal=0) + swap(tril(m, diagonal=-1))
    return matmul(gq + matmul(q, low), swap(inv(r)))


@op("*b n m -> *b m n", formula="{x}⁺", samples=calls(_tall), kink="where the rank changes the gradient is infinite")
def pinv(x, *, rcond=1e-15):
    """The Moore-Penrose inverse."""
    return np.linalg.pinv(x, rcond)


@pinv.vjp("x", math="x̄ = −yᵀȳyᵀ + (I − x y) ȳᵀ y yᵀ + yᵀ y ȳᵀ (I − y x)")
def _(g, out, x):
    y, t, h = out, swap(out), swap(g)
    a = matmul(h, matmul(y, t))
    b = matmul(matmul(t, y), h)
    return a - matmul(x, matmul(y, a)) + b - matmul(matmul(b, y), x) - matmul(matmul(t, g), t)
