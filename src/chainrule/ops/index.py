"""Reading and writing entries by index."""

from __future__ import annotations

from ..core.op import op
from ..core.samples import calls

# ruff: noqa: ANN001, ANN202


def _view_of(view, x):
    described, params, output = view
    result = described.call(x, **params)
    return result if output is None else result[output]


@op("*s, *v -> *s", formula="{x} with a part replaced by {v}",
    samples=calls(lambda r: [(r.normal(size=(3, 4)), r.normal(size=(4, 3)), {"view": (_swap(), {}, None)})]))  # fmt: skip
def view_scatter(x, v, *, view):
    """``x`` with the part that the recorded view selects replaced by ``v``: an in-place write through a view."""
    out = x.copy()
    _view_of(view, out)[...] = v
    return out


@view_scatter.vjp("x", math="x̄ = ȳ with that part 0")
def _(g, view):
    return view_scatter(g, _view_of(view, g) * 0, view=view)


@view_scatter.vjp("v", math="v̄ = that part of ȳ")
def _(g, view):
    return _view_of(view, g)


def _swap():
    from .layout import swap

    return swap.op
