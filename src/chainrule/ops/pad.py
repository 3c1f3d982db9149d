"""Padding: constant, and by copies of the array's own entries."""

from __future__ import annotations

import math

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .embedding import add_rows

# ruff: noqa: ANN001, ANN202

_WIDTHS = ((0, 0), (1, 2))


@op("*s -> *t", formula="{x} padded with {value}",
    samples=calls(lambda r: [(r.normal(size=(2, 3)), {"widths": _WIDTHS, "value": 1.5}),
                             (r.normal(size=(2, 4)), {"widths": ((0, 1), (-1, 2)), "value": 0.0})]))  # fmt: skip
def pad_constant(x, *, widths, value):
    """``widths`` (before, after) entries of ``value`` around each axis; a negative width cuts."""
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, widths))
    out = np.full(shape, value, x.dtype) if value else np.zeros(shape, x.dtype)
    inner = tuple(slice(max(a, 0), max(a, 0) + n + min(a, 0) + min(b, 0)) for n, (a, b) in zip(x.shape, widths))
    out[inner] = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, widths))]
    return out


@pad_constant.vjp("x", math="x̄ = ȳ without the padding")
def _(g, widths):
    return pad_constant(g, widths=tuple((-a, -b) for a, b in widths), value=0.0)


def source_index(n, before, after, mode):
    """For each entry of a padded axis of length n, which entry it copies."""
    i = np.arange(-before, n + after)
    if mode == "circular":
        first, last = max(-before, 0), n - max(-after, 0)  # a negative width cuts before the rest is wrapped around
        return first + np.arange(-max(before, 0), last - first + max(after, 0)) % (last - first)
    if mode == "replicate":
        return np.clip(i, 0, n - 1)
    period = 2 * (n - 1)
    i = np.abs(i) % period if period else i * 0
    return np.where(i >= n, period - i, i)


@op("*s -> *t", formula="{x}[{index}] along axis {dim}", numpy="{x}.take({index}, axis={dim})", samples=calls(
    lambda r: [(r.normal(size=(2, 3)), np.array([2, 0, 1, 2]), {"dim": 1}),
               (r.normal(size=(2, 3)), np.array([0, 0]), {"dim": 0})]))  # fmt: skip
def take_axis(x, index, *, dim):
    """The entries of one axis whose numbers are given, in that order, repetitions allowed."""
    return x.take(index, axis=dim)


@take_axis.vjp("x", math="x̄ = ȳ added up at index")
def _(g, index, x_shape, dim):
    return add_axis(g, index, size=x_shape[dim], dim=dim)


@op("*t -> *s", formula="{g} added up at {index} along axis {dim}", samples=calls(
    lambda r: [(r.normal(size=(2, 4)), np.array([2, 0, 1, 2]), {"size": 3, "dim": 1})]))  # fmt: skip
def add_axis(g, index, *, size, dim):
    """The transpose of ``take_axis``: entries with the same number are added up."""
    last = np.moveaxis(g, dim, 0)
    width = math.prod(last.shape[1:])
    rows = add_rows.op.body(np.ascontiguousarray(last).reshape(last.shape[0], width), index, rows=size)
    return np.ascontiguousarray(np.moveaxis(rows.reshape(size, *last.shape[1:]), 0, dim))


@add_axis.vjp("g", math="ḡ = ȳ[index]")
def _(g, index, dim):
    return take_axis(g, index, dim=dim)
