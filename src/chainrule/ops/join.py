"""Joining tensors and taking them apart."""

from __future__ import annotations

import itertools

import numpy as np

from ..core.op import op
from ..core.samples import calls

# ruff: noqa: ANN001, ANN002, ANN202


def _cat_calls(r):
    yield r.normal(size=(2, 3)), r.normal(size=(4, 3)), {"dim": 0}
    yield r.normal(size=(2, 3)), r.normal(size=(2, 1)), r.normal(size=(2, 0)), {"dim": 1}


@op("*s, … -> *t", formula="{tensors} joined along {dim}", promotes="common", samples=calls(_cat_calls))
def cat(*tensors, dim):
    """Tensors one after another along an existing axis."""
    return np.concatenate(tensors, dim)


@cat.vjp("tensors", math="x̄ = its part of ȳ")
def _(g, tensors_shape, dim):
    return split(g, sizes=tuple(s[dim] for s in tensors_shape), dim=dim)


def _stack_calls(r):
    yield r.normal(size=(2, 3)), r.normal(size=(2, 3)), {"dim": 1}
    yield r.normal(size=()), r.normal(size=()), r.normal(size=()), {"dim": 0}
    yield r.normal(size=(0, 2)), r.normal(size=(0, 2)), {"dim": 2}


@op("*s, … -> *t", formula="{tensors} stacked along {dim}", promotes="common", samples=calls(_stack_calls))
def stack(*tensors, dim):
    """Tensors of one shape along a new axis."""
    at = (*(slice(None),) * dim, None)
    return np.concatenate([x[at] for x in tensors], dim)  # np.stack checks again what is known


@stack.vjp("tensors", math="x̄ = its slice of ȳ")
def _(g, dim):
    return unbind(g, dim=dim)


def _split_calls(r):
    yield r.normal(size=(5, 2)), {"sizes": (2, 3), "dim": 0}
    yield r.normal(size=(2, 3)), {"sizes": (1, 0, 2), "dim": 1}


@op("*s -> *t, …", formula="parts of {x} along {dim}", outputs=None, is_view=True, samples=calls(_split_calls))
def split(x, *, sizes, dim):
    """Consecutive parts of given sizes along one axis (views)."""
    lead = (slice(None),) * dim
    ends = [0]
    for n in sizes:
        ends.append(ends[-1] + n)
    return tuple(x[(*lead, slice(a, b))] for a, b in itertools.pairwise(ends))


@split.vjp("x", math="x̄ = the parts of ȳ joined")
def _(g, dim):
    return cat(*g, dim=dim)


def _unbind_calls(r):
    yield r.normal(size=(3, 2)), {"dim": 0}
    yield r.normal(size=(2, 3)), {"dim": 1}


@op("*s -> *t, …", formula="slices of {x} along {dim}", outputs=None, is_view=True, samples=calls(_unbind_calls))
def unbind(x, *, dim):
    """The slices along one axis, without it (views)."""
    moved = x if dim == 0 else np.moveaxis(x, dim, 0)
    return tuple(moved[i, ...] for i in range(moved.shape[0]))


@unbind.vjp("x", math="x̄ = the slices of ȳ stacked")
def _(g, dim):
    return stack(*g, dim=dim)
