"""Softmax and its logarithm along one axis, and one-hot coding."""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .elementwise import exp, log
from .reduce import sum

# ruff: noqa: ANN001, ANN202


def _softmax_calls(r):
    yield r.normal(size=(2, 3)), {"dim": 1}
    yield r.normal(size=(2, 3, 2)), {"dim": 0}
    yield r.normal(size=(4,)), {"dim": 0}
    yield r.normal(size=()), {"dim": 0}
    yield r.normal(size=(0, 3)), {"dim": 1}


def row_max(x, dim):
    """The largest entry along an axis. NumPy's reduction costs 50 ns per row: short rows go faster as columns."""
    k = x.shape[dim]
    if dim == x.ndim - 1 and k <= 32 and x.size >= 64 * k:
        return np.maximum.reduce(np.ascontiguousarray(x.reshape(-1, k).T), axis=0).reshape(*x.shape[:-1], 1)
    return np.maximum.reduce(x, axis=dim, keepdims=True)


def row_sum(x, dim):
    """The sum along an axis: over short rows a product with ones takes a quarter of the reduction's time."""
    k = x.shape[dim]
    if dim == x.ndim - 1 and k <= 128 and x.ndim > 1 and x.dtype.itemsize >= 4:
        return x.reshape(-1, k).dot(np.ones(k, x.dtype)).reshape(*x.shape[:-1], 1)
    return np.add.reduce(x, axis=dim, keepdims=True)


@op("*s -> *t", formula="max {x}", numpy="{x}.max(axis={dim}, keepdims=True)", samples=calls(_softmax_calls))
def shift_of(x, *, dim):
    """The largest entry along an axis, as a constant: softmax does not change when it is subtracted, so no gradient
    flows here."""
    if x.ndim == 0 or x.shape[dim] == 0:
        return x
    return np.maximum.reduce(x, axis=dim, keepdims=True)


def derived_softmax(x, *, dim):
    """Softmax by its definition, with the largest entry subtracted so that nothing overflows."""
    e = exp(x - shift_of(x, dim=dim))
    return e / (e if x.ndim == 0 else sum(e, dim=(dim,), keepdim=True))


@op("*s -> *s", formula="softmax({x})", derived=derived_softmax, promotes="float", samples=calls(_softmax_calls),
    reference="torch.softmax")  # fmt: skip
def softmax(x, *, dim):
    """Softmax, yᵢ = exp xᵢ / Σⱼ exp xⱼ along one axis."""
    if x.ndim == 0 or x.size == 0:
        return x * 0 + 1
    e = x - row_max(x, dim)
    np.exp(e, out=e)
    e /= row_sum(e, dim)
    return e


@softmax.vjp("x", math="x̄ = (ȳ − Σ ȳ·y) · y")
def _(g, out, dim):
    if g.ndim == 0:
        return g * 0
    return (g - sum(g * out, dim=(dim,), keepdim=True)) * out


def derived_log_softmax(x, *, dim):
    """Log-softmax by its definition, with the largest entry subtracted so that nothing overflows."""
    s = x - shift_of(x, dim=dim)
    return s - (s if x.ndim == 0 else log(sum(exp(s), dim=(dim,), keepdim=True)))


@op("*s -> *s", formula="log softmax({x})", derived=derived_log_softmax, promotes="float",
    samples=calls(_softmax_calls), reference="torch.log_softmax")  # fmt: skip
def log_softmax(x, *, dim):
    """Logarithm of softmax, yᵢ = xᵢ − log Σⱼ exp xⱼ, without overflow."""
    if x.ndim == 0 or x.size == 0:
        return x * 0
    s = x - row_max(x, dim)
    s -= np.log(row_sum(np.exp(s), dim))
    return s


@log_softmax.vjp("x", math="x̄ = ȳ − exp(y) · Σ ȳ")
def _(g, out, dim):
    if g.ndim == 0:
        return g * 0
    return g - exp(out) * sum(g, dim=(dim,), keepdim=True)


@op("*s -> *s c", formula="onehot({index})",
    samples=calls(lambda r: [(r.integers(0, 3, (2, 4)), {"classes": 3, "dim": 1}),
                             (r.integers(0, 3, ()), {"classes": 3, "dim": 0})]))  # fmt: skip
def one_hot(index, *, classes, dim):
    """Whether entry c of the new axis ``dim`` is the index, as bool (an index outside 0 … classes − 1 gives no 1)."""
    if dim == index.ndim:
        return index[..., None] == np.arange(classes)
    shape = [1] * (index.ndim + 1)
    shape[dim] = classes
    return index.reshape(*index.shape[:dim], 1, *index.shape[dim:]) == np.arange(classes).reshape(shape)
