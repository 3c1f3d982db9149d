"""The identity that marks where a module begins and ends in the graph, for its backward hooks."""

from __future__ import annotations

from ..core.op import op
from ..core.samples import calls

# ruff: noqa: ANN001, ANN202


def _boundary_calls(r):
    yield r.normal(size=(2, 3)), {}
    yield r.normal(size=(2, 3)), r.normal(size=()), {}


@op("*s.. -> *s..", formula="{xs}", outputs=None, samples=calls(_boundary_calls))
def boundary(*xs):
    """The inputs themselves, all through one node, so that their gradients come together."""
    return tuple(x[...] for x in xs)  # views: readers tell values apart by their array objects


@boundary.vjp("xs", math="x̄ᵢ = ȳᵢ")
def _(g):
    return g
