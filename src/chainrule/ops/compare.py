"""Comparisons, logic and selection. Comparisons give bool arrays and carry no gradient."""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import calls, pairs

# ruff: noqa: ANN001, ANN202


def _comparison(name, symbol, python, ufunc):
    @op("*s, *s -> *s", name=name, formula=f"[{{x}} {symbol} {{y}}]", numpy=f"({{x}} {python} {{y}})",
        broadcasts=True, promotes="common", samples=pairs(apart=0.2))  # fmt: skip
    def compare(x, y):
        return ufunc(x, y)

    compare.__doc__ = f"Elementwise x {python} y."
    return compare


gt = _comparison("gt", ">", ">", np.greater)
ge = _comparison("ge", "≥", ">=", np.greater_equal)
lt = _comparison("lt", "<", "<", np.less)
le = _comparison("le", "≤", "<=", np.less_equal)
eq = _comparison("eq", "=", "==", np.equal)
ne = _comparison("ne", "≠", "!=", np.not_equal)


@op("*s, *s, *s -> *s", formula="{x} where {condition} else {y}", numpy="np.where({condition}, {x}, {y})",
    broadcasts=True,
    samples=calls(lambda r: [(r.random(s) > 0.5, r.normal(size=s), r.normal(size=t)) for s, t in
                             (((3,), (3,)), ((2, 3), (3,)), ((), ()), ((0, 2), (2,)))]))  # fmt: skip
def where(condition, x, y):
    """Entries of x where the condition holds, of y elsewhere."""
    return np.where(condition, x, y)


@where.vjp("x", math="x̄ = z̄ where condition else 0")
def _(g, condition):
    # Not g · condition: an infinite or NaN gradient at an entry that was not taken must not leak as 0 · ∞ = NaN.
    return where(condition, g, 0.0)


@where.vjp("y", math="ȳ = 0 where condition else z̄")
def _(g, condition):
    return where(condition, 0.0, g)
