"""One entry per lane: picking by an index along an axis, for max, min, median and their like."""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .gather import lanes

# ruff: noqa: ANN001, ANN202


@op("*s, *t -> *t", formula="{x} at {i}", samples=calls(
    lambda r: [(r.normal(size=(2, 3)), np.array([2, 0]), {"dim": 1, "keepdim": False}),
               (r.normal(size=(2, 3)), np.array([[1, 0, 1]]), {"dim": 0, "keepdim": True}),
               (r.normal(size=()), np.asarray(0), {"dim": 0, "keepdim": False})]))  # fmt: skip
def pick(x, i, *, dim, keepdim=False):
    """The entry at index i of each lane along one axis."""
    if x.ndim == 0:
        return x.copy()
    at = i if keepdim else i.reshape(*i.shape[:dim], 1, *i.shape[dim:])
    return x[lanes(at, dim)].reshape(i.shape)


@pick.vjp("x", math="x̄ = ȳ at i, 0 elsewhere")
def _(g, i, x_shape, dim, keepdim):
    return put(g, i, dim=dim, keepdim=keepdim, shape=x_shape)


@op("*t, *t -> *s", formula="zeros with {v} at {i}", samples=calls(
    lambda r: [(r.normal(size=2), np.array([2, 0]), {"dim": 1, "keepdim": False, "shape": (2, 3)})]))  # fmt: skip
def put(v, i, *, dim, keepdim, shape):
    """Zeros with v at index i of each lane along one axis."""
    if not shape:
        return v.copy()
    out = np.zeros(shape, v.dtype)
    if not keepdim:
        shape = (*i.shape[:dim], 1, *i.shape[dim:])
        v, i = v.reshape(shape), i.reshape(shape)
    out[lanes(i, dim)] = v
    return out


@put.vjp("v", math="v̄ = ȳ at i")
def _(g, i, dim, keepdim):
    return pick(g, i, dim=dim, keepdim=keepdim)
