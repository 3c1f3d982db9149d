"""Reductions. ``dim`` is a tuple of non-negative axes (the torch-named functions normalise it), None for all."""

from __future__ import annotations

import math

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .arithmetic import sub
from .compare import where
from .elementwise import abs, exp, sign
from .layout import cast, expand, reshape

# ruff: noqa: ANN001, ANN202

Inf = float("inf")


def reduction_calls(r):
    yield r.normal(size=(2, 3, 4)), {"dim": (0, 2), "keepdim": False}
    yield r.normal(size=(2, 3)), {"dim": (1,), "keepdim": True}
    yield r.normal(size=(3,)), {"dim": None, "keepdim": False}
    yield r.normal(size=()), {"dim": None, "keepdim": False}


def restore(g, x_shape, dim, keepdim):
    """Put the reduced axes back with size 1, so that g broadcasts against x."""
    if keepdim or g.ndim == len(x_shape):
        return g
    if dim is None:
        return reshape(g, shape=(1,) * len(x_shape))
    return reshape(g, shape=tuple(1 if i in dim else n for i, n in enumerate(x_shape)))


def count(shape, dim):
    """How many entries go into one result."""
    return math.prod(shape) if dim is None else math.prod(shape[i] for i in dim)


@op("*s -> *t", formula="Σ {x}", numpy="{x}.sum(axis={dim}, keepdims={keepdim})", samples=calls(reduction_calls))
def sum(x, *, dim=None, keepdim=False):
    """Sum over axes."""
    if x.dtype.char == "e":  # as PyTorch, half precision is summed in single
        return np.add.reduce(x, axis=dim, keepdims=keepdim, dtype=np.float32).astype(np.float16)
    return np.add.reduce(x, axis=dim, keepdims=keepdim)


@sum.vjp("x", math="x̄ = ȳ for every entry")
def _(g, x_shape, dim, keepdim):
    return expand(restore(g, x_shape, dim, keepdim), shape=x_shape)


@op("*s -> *t", formula="mean {x}", numpy="{x}.mean(axis={dim}, keepdims={keepdim})", samples=calls(reduction_calls))
def mean(x, *, dim=None, keepdim=False):
    """Mean over axes, y = Σ x / n."""
    # Not np.mean, which spends three microseconds on Python code before it does this.
    n = x.size if dim is None else math.prod([x.shape[i] for i in dim])
    if x.dtype.char == "e":
        return (np.add.reduce(x, axis=dim, keepdims=keepdim, dtype=np.float32) / n).astype(np.float16)
    return np.add.reduce(x, axis=dim, keepdims=keepdim) / n


@mean.vjp("x", math="x̄ = ȳ / n for every entry")
def _(g, x_shape, dim, keepdim):
    return expand(restore(g / count(x_shape, dim), x_shape, dim, keepdim), shape=x_shape)


def _spread_calls(r):
    for entry in reduction_calls(r):
        if entry[0].ndim:
            yield entry[0], {**entry[1], "correction": 1}
            yield entry[0], {**entry[1], "correction": 0}


def _squares(x, dim, keepdim):
    n = x.size if dim is None else math.prod([x.shape[i] for i in dim])
    centred = x - np.add.reduce(x, axis=dim, keepdims=True) / n
    return np.add.reduce(centred * centred, axis=dim, keepdims=keepdim)


def _degrees(shape, dim, correction):
    """n − correction, not below 0: then 0/0 and x/0 give NaN and infinity as in PyTorch."""
    return max(float(count(shape, dim)) - correction, 0.0)


def centred(x, dim):
    return sub(x, mean(x, dim=dim, keepdim=True))


@op("*s -> *t", formula="var {x}", samples=calls(_spread_calls))
def var(x, *, dim=None, keepdim=False, correction=1):
    """Variance over axes, y = Σ (x − mean x)² / (n − correction)."""
    return _squares(x, dim, keepdim) / np.asarray(_degrees(x.shape, dim, correction), x.dtype)


@var.vjp("x", math="x̄ = ȳ · 2 (x − mean x) / (n − correction)")
def _(g, x, dim, keepdim, correction):
    n = _degrees(x.shape, dim, correction)
    scale = 2.0 / n if n else float("inf")
    return restore(g, x.shape, dim, keepdim) * (centred(x, dim) * scale)


@op("*s -> *t", formula="std {x}", samples=calls(_spread_calls), kink="std′ = 0 where all entries are equal")
def std(x, *, dim=None, keepdim=False, correction=1):
    """Standard deviation over axes, the square root of the variance."""
    return np.sqrt(_squares(x, dim, keepdim) / np.asarray(_degrees(x.shape, dim, correction), x.dtype))


@std.vjp("x", math="x̄ = ȳ · (x − mean x) / (y (n − correction))")
def _(g, out, x, dim, keepdim, correction):
    n = _degrees(x.shape, dim, correction)
    scale = 1.0 / n if n else float("inf")
    slope = where(out == 0, 0.0, g / where(out == 0, 1.0, out))
    return restore(slope, x.shape, dim, keepdim) * (centred(x, dim) * scale)


def _product_calls(r):
    yield r.uniform(0.5, 2, size=(2, 3)), {"dim": 1, "keepdim": True}
    yield r.uniform(0.5, 2, size=(2, 3, 2)), {"dim": 1, "keepdim": False}
    yield np.array([[0.0, 2.0, 3.0], [0.0, 4.0, 0.0]]), {"dim": 1, "keepdim": False}
    yield r.uniform(0.5, 2, size=(2, 2)), {"dim": None, "keepdim": False}
    yield r.uniform(0.5, 2, size=()), {"dim": None, "keepdim": False}
    yield np.zeros((0, 2)), {"dim": 0, "keepdim": False}


@op("*s -> *t", formula="Π {x}", numpy="{x}.prod(axis={dim}, keepdims={keepdim})", samples=calls(_product_calls))
def prod(x, *, dim=None, keepdim=False):
    """Product over one axis, or of all entries."""
    return np.multiply.reduce(x, axis=dim, keepdims=keepdim)


@prod.vjp("x", math="x̄ = ȳ · the product of all other entries")
def _(g, x, dim, keepdim):
    # Not out / x: a zero entry would make it 0 / 0, although the product of the others is well defined.
    if dim is None or x.ndim == 0:
        others = reshape(product_of_others(reshape(x, shape=(-1,)), dim=0), shape=x.shape)
        return restore(g, x.shape, None, keepdim) * others
    return restore(g, x.shape, (dim,), keepdim) * product_of_others(x, dim=dim)


@op("*s -> *s", formula="Π of the other {x}", samples=calls(
    lambda r: [(r.normal(size=(2, 3)), {"dim": 1}), (np.array([0.0, 2.0, 0.0]), {"dim": 0})]))  # fmt: skip
def product_of_others(x, *, dim):
    """For each entry the product of all other entries along one axis."""
    x = np.moveaxis(x, dim, -1)
    before, after = np.ones_like(x), np.ones_like(x)
    np.multiply.accumulate(x[..., :-1], axis=-1, out=before[..., 1:])
    np.multiply.accumulate(x[..., :0:-1], axis=-1, out=after[..., -2::-1])
    return np.moveaxis(before * after, -1, dim)


@product_of_others.vjp("x", math="x̄ₖ = Σ over i ≠ k of ȳᵢ · Π of x without i and k")
def _(g, x, dim):
    # Row i of the matrix is x with entry i replaced by 1: exact with zeros, at every order.
    n, ndim = x.shape[dim], x.ndim
    row = reshape(x, shape=(*x.shape[:dim], 1, *x.shape[dim:]))
    own = np.eye(n, dtype=bool).reshape((n, n) + (1,) * (ndim - 1 - dim))
    pairs = product_of_others(where(own, 1.0, row), dim=dim + 1)
    column = reshape(g, shape=(*x.shape[: dim + 1], 1, *x.shape[dim + 1 :]))
    return sum(where(own, 0.0, column * pairs), dim=(dim,), keepdim=False)


def _extremum_calls(r):
    yield r.permutation(24).reshape(2, 3, 4) * 0.3, {"dim": (0, 2), "keepdim": False}
    yield r.permutation(6).reshape(2, 3) * 0.3, {"dim": (1,), "keepdim": True}
    yield r.permutation(3) * 0.3, {"dim": None, "keepdim": False}
    yield np.asarray(r.normal()), {"dim": None, "keepdim": False}


def _extremum(name, ufunc, formula):
    @op("*s -> *t", name=name, formula=f"{formula} {{x}}", numpy=f"{{x}}.{formula}(axis={{dim}}, keepdims={{keepdim}})",
        samples=calls(_extremum_calls), kink="equal entries share the gradient evenly, as PyTorch")  # fmt: skip
    def reduce(x, *, dim=None, keepdim=False):
        return ufunc.reduce(x, axis=dim, keepdims=keepdim)

    @reduce.vjp("x", math=f"x̄ = ȳ · [x = y], divided by the number of entries that attain the {formula}")
    def _(g, out, x, x_dtype, dim, keepdim):
        best = x == restore(out, x.shape, dim, keepdim)
        share = cast(best, dtype=x_dtype)
        return restore(g, x.shape, dim, keepdim) * (share / sum(share, dim=dim, keepdim=True))

    reduce.__doc__ = f"{formula.capitalize()}imum over axes; equal entries share the gradient."
    return reduce


amax = _extremum("amax", np.maximum, "max")
amin = _extremum("amin", np.minimum, "min")


@op("*s -> *t", formula="log Σ exp({x})", samples=calls(reduction_calls),
    kink="NaN where all entries are −∞, as PyTorch")  # fmt: skip
def logsumexp(x, *, dim=None, keepdim=False):
    """log Σ eˣ over axes, computed about the maximum so that nothing overflows."""
    if x.size == 0:
        return np.log(np.add.reduce(np.exp(x), axis=dim, keepdims=keepdim))
    high = np.maximum.reduce(x, axis=dim, keepdims=True)
    high = np.where(np.isfinite(high), high, np.zeros((), x.dtype))
    total = np.log(np.add.reduce(np.exp(x - high), axis=dim, keepdims=True)) + high
    return total if keepdim else total.reshape([n for i, n in enumerate(x.shape) if dim is not None and i not in dim])


@logsumexp.vjp("x", math="x̄ = ȳ · exp(x − y)")
def _(g, out, x, dim, keepdim):
    return restore(g, x.shape, dim, keepdim) * exp(x - restore(out, x.shape, dim, keepdim))


def _norm_calls(r):
    for p in (2.0, 1.0, 3.0, 1.5, 0.5, -2.0, 0.0, Inf, -Inf):
        for entry in _extremum_calls(r):
            yield entry[0] + 0.7, {**entry[1], "p": p}


@op("*s -> *t", formula="‖{x}‖", samples=calls(_norm_calls), kink="the gradient at ‖x‖ = 0 is 0, as PyTorch")
def norm(x, *, p=2.0, dim=None, keepdim=False):
    """The p-norm over axes, (Σ |x|ᵖ)^(1/p); p = ±∞ are the largest and the smallest |x|, p = 0 counts."""
    if p == 2:
        return np.sqrt(np.add.reduce(x * x, axis=dim, keepdims=keepdim))
    if p == 0:
        return np.add.reduce((x != 0).astype(x.dtype), axis=dim, keepdims=keepdim)
    size = np.abs(x)
    if p == 1:
        return np.add.reduce(size, axis=dim, keepdims=keepdim)
    if p in (np.inf, -np.inf):
        if p > 0:
            return np.maximum.reduce(size, axis=dim, keepdims=keepdim, initial=0)
        return np.minimum.reduce(size, axis=dim, keepdims=keepdim)
    return np.add.reduce(size**p, axis=dim, keepdims=keepdim) ** (1 / p)


@norm.vjp("x", math="x̄ = ȳ · sign(x) · (|x| / y)^(p − 1)")
def _(g, out, x, x_dtype, p, dim, keepdim):
    if p == 0:
        return x * 0
    g, y = restore(g, x.shape, dim, keepdim), restore(out, x.shape, dim, keepdim)
    if p == 1:
        return g * sign(x)
    if p in (Inf, -Inf):
        size = abs(x)
        best = cast(size == y, dtype=x_dtype)
        return g * (sign(x) * best / sum(best, dim=dim, keepdim=True))
    safe = where(y == 0, 1.0, y)
    if p == 2:
        return x * where(y == 0, 0.0, g / safe)
    size = abs(x)
    if p < 1:
        power = where(x == 0, 0.0, where(x == 0, 1.0, size) ** (p - 1))
    else:
        power = where(x == 0, 0.0, where(x == 0, 1.0, size) ** (p - 1)) if p < 2 else size ** (p - 1)
    return sign(x) * power * where(y == 0, 0.0, g / safe ** (p - 1))


# --- without gradients ---------------------------------------------------------------------------------------------


def _index_calls(r):
    yield r.permutation(6).reshape(2, 3) * 0.3, {"dim": 1, "keepdim": True}
    yield r.permutation(6).reshape(2, 3) * 0.3, {"dim": 0, "keepdim": False}
    yield r.permutation(6).reshape(2, 3) * 0.3, {"dim": None, "keepdim": False}
    yield np.asarray(0.5), {"dim": None, "keepdim": False}


@op("*s -> *t", formula="argmax {x}", numpy="{x}.argmax(axis={dim}, keepdims={keepdim})", samples=calls(_index_calls))
def argmax(x, *, dim=None, keepdim=False):
    """Index of the (first) maximum along one axis, or in the flattened array."""
    return np.argmax(x, axis=dim, keepdims=keepdim)


@op("*s -> *t", formula="argmin {x}", numpy="{x}.argmin(axis={dim}, keepdims={keepdim})", samples=calls(_index_calls))
def argmin(x, *, dim=None, keepdim=False):
    """Index of the (first) minimum along one axis, or in the flattened array."""
    return np.argmin(x, axis=dim, keepdims=keepdim)


@op("*s -> *t", formula="any {x} ≠ 0", numpy="{x}.any(axis={dim}, keepdims={keepdim})", samples=calls(reduction_calls))
def any(x, *, dim=None, keepdim=False):
    """Whether some entry is not 0."""
    return np.any(x, axis=dim, keepdims=keepdim)


@op("*s -> *t", formula="all {x} ≠ 0", numpy="{x}.all(axis={dim}, keepdims={keepdim})", samples=calls(reduction_calls))
def all(x, *, dim=None, keepdim=False):
    """Whether no entry is 0."""
    return np.all(x, axis=dim, keepdims=keepdim)


@op("*s -> *t", formula="number of {x} ≠ 0", samples=calls(reduction_calls))
def count_nonzero(x, *, dim=None, keepdim=False):
    """How many entries are not 0."""
    return np.add.reduce(x != 0, axis=dim, keepdims=keepdim, dtype=np.int64)
