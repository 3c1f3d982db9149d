"""Sorting: integer results, which carry no gradient (values are taken by ``gather``)."""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import calls

# ruff: noqa: ANN001, ANN202


def _order_calls(r):
    yield r.normal(size=(3, 4)), {"dim": 1, "descending": False}
    yield r.integers(0, 3, (5, 2)), {"dim": 0, "descending": True}
    yield r.normal(size=()), {"dim": 0, "descending": False}
    yield r.normal(size=(0, 2)), {"dim": 0, "descending": False}


@op("*s -> *s", formula="order of {x}", samples=calls(_order_calls))
def argsort(x, *, dim, descending):
    """The indices that sort along an axis; equal entries keep their order; NaN counts as largest."""
    if x.ndim == 0:
        return np.zeros((), np.int64)
    if not descending:
        return np.argsort(x, dim, kind="stable")
    # Sorting the reversed array and reversing the result puts equal entries back into their own order.
    n = x.shape[dim]
    return np.flip(n - 1 - np.argsort(np.flip(x, dim), dim, kind="stable"), dim).copy()
