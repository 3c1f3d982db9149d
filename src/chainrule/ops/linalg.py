"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .layout import reshape, sum_to, swap

# ruff: noqa: ANN001, ANN202


def _matmul_calls(r):
    yield r.normal(size=(2, 3)), r.normal(size=(3, 4))
    yield r.normal(size=(2, 2, 3)), r.normal(size=(3, 4))
    yield r.normal(size=(2, 1, 2, 3)), r.normal(size=(5, 3, 1))
    yield r.normal(size=(0, 3)), r.normal(size=(3, 2))
    yield r.normal(size=(2, 0)), r.normal(size=(0, 2))


@op("*b n k, *b k m -> *b n m", formula="{x} {y}", numpy="{x} @ {y}", broadcasts=True, promotes="common",
    samples=calls(_matmul_calls))  # fmt: skip
def matmul(x, y):
    """Matrix product over the last two axes; leading axes broadcast. (1-d operands: see ``functions.matmul``.)"""
    return x.dot(y) if x.ndim == 2 and y.ndim == 2 else np.matmul(x, y)


@matmul.vjp("x", math="x̄ = z̄ yᵀ")
def _(g, y):
    return matmul(g, swap(y))


@matmul.vjp("y", math="ȳ = xᵀ z̄")
def _(g, x):
    return matmul(swap(x), g)


def rows(x):
    """All leading axes folded into one."""
    return x if x.ndim == 2 else reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))


def derived_linear(x, weight, bias=None):
    """What ``linear`` is a closed form of."""
    y = matmul(x, swap(weight)) if x.ndim > 1 else reshape(matmul(reshape(x, shape=(1, -1)), swap(weight)), shape=(-1,))
    return y if bias is None else y + bias


def _linear_calls(r):
    yield r.normal(size=(4, 3)), r.normal(size=(2, 3)), r.normal(size=2)
    yield r.normal(size=(2, 4, 3)), r.normal(size=(2, 3)), None
    yield r.normal(size=3), r.normal(size=(2, 3)), r.normal(size=2)
    yield r.normal(size=(0, 3)), r.normal(size=(2, 3)), r.normal(size=2)


@op("*b k, m k, m -> *b m", formula="{x} {weight}ᵀ + {bias}", derived=derived_linear, promotes="common",
    samples=calls(_linear_calls))  # fmt: skip
def linear(x, weight, bias):
    """A layer's affine map, y = x Wᵀ + b; ``bias`` may be None."""
    if x.ndim == 2:
        y = x.dot(weight.T)
    elif x.ndim == 1:
        y = np.matmul(x, weight.T)
    else:  # one product of all rows, not one per sample
        y = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]).dot(weight.T).reshape(*x.shape[:-1], weight.shape[0])
    if bias is not None:
        y += bias
    return y


@linear.vjp("x", math="x̄ = ȳ W")
def _(g, x_shape, weight):
    return matmul(g, weight) if g.ndim == 2 else reshape(matmul(rows(g), weight), shape=x_shape)


@linear.vjp("weight", math="W̄ = ȳᵀ x")
def _(g, x):
    return matmul(swap(rows(g)), rows(x)) if g.ndim > 1 else reshape(g, shape=(-1, 1)) * x


@linear.vjp("bias", math="b̄ = Σ ȳ over the batch")
def _(g, bias_shape):
    return sum_to(g, shape=bias_shape)
