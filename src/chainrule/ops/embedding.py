"""Rows of a table by number: an embedding, and the gradient that adds rows back."""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .compare import where

# ruff: noqa: ANN001, ANN202


@op("*s d -> n d", formula="rows of {g} added up at {index}", samples=calls(
    lambda r: [(r.normal(size=(2, 3, 4)), r.integers(0, 3, (2, 3)), {"rows": 5}),
               (r.normal(size=(0, 4)), np.zeros(0, int), {"rows": 2})]))  # fmt: skip
def add_rows(g, index, *, rows):
    """A table of ``rows`` rows where row i is the sum of g's rows whose index is i."""
    flat = index.ravel()
    values = g.reshape(flat.size, g.shape[-1])
    out = np.zeros((rows, g.shape[-1]), g.dtype)
    if flat.size:
        # Sorting makes equal rows neighbours: one reduceat instead of np.add.at, which is ten times slower on rows.
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        out[ordered[starts]] = np.add.reduceat(values[order], starts, axis=0)
    return out


@add_rows.vjp("g", math="ḡ = ȳ[index]")
def _(g, index):
    return embedding(g, index, padding_idx=None)


@op("n d, *s -> *s d", formula="{weight}[{index}]", samples=calls(
    lambda r: [(r.normal(size=(5, 4)), r.integers(0, 5, (2, 3)), {"padding_idx": None}),
               (r.normal(size=(5, 4)), np.array([1, 1, 3]), {"padding_idx": 1})]))  # fmt: skip
def embedding(weight, index, *, padding_idx):
    """Rows of a table; the row ``padding_idx`` (None: none) gets no gradient."""
    return weight[index]


@embedding.vjp("weight", math="W̄ = rows of ȳ added up at index, 0 at padding_idx")
def _(g, index, weight_shape, padding_idx):
    table = add_rows(g, index, rows=weight_shape[0])
    if padding_idx is None:
        return table
    return where((np.arange(weight_shape[0]) == padding_idx)[:, None], 0.0, table)
