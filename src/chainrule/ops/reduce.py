"""Reductions. ``dim`` is a tuple of non-negative axes (the torch-named functions normalise it), None for all."""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .layout import expand, reshape

# ruff: noqa: ANN001, ANN202


def reduction_calls(r):
    yield r.normal(size=(2, 3, 4)), {"dim": (0, 2), "keepdim": False}
    yield r.normal(size=(2, 3)), {"dim": (1,), "keepdim": True}
    yield r.normal(size=(3,)), {"dim": None, "keepdim": False}
    yield r.normal(size=()), {"dim": None, "keepdim": False}


def restore(g, x_shape, dim, keepdim):
    """Put the reduced axes back with size 1, so that g broadcasts against x."""
    if keepdim or g.ndim == 0 or g.ndim == len(x_shape):  # a 0-d g broadcasts as it is
        return g
    if dim is None:
        return reshape(g, shape=(1,) * len(x_shape))
    return reshape(g, shape=tuple(1 if i in dim else n for i, n in enumerate(x_shape)))


@op("*s -> *t", formula="Σ {x}", numpy="{x}.sum(axis={dim}, keepdims={keepdim})", samples=calls(reduction_calls))
def sum(x, *, dim=None, keepdim=False):
    """Sum over axes."""
    return np.add.reduce(x, axis=dim, keepdims=keepdim)


@sum.vjp("x", math="x̄ = ȳ for every entry")
def _(g, x_shape, dim, keepdim):
    return expand(restore(g, x_shape, dim, keepdim), shape=x_shape)
