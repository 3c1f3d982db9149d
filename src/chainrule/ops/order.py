"""Order statistics: which entry along one axis is the k-th smallest, the median, the most frequent. No gradients
of their own: the torch-named functions pick the entry that they point at (``select.pick``)."""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import calls

# ruff: noqa: ANN001, ANN202


def _lane_calls(r):
    yield r.permutation(12).reshape(3, 4) * 0.3, {"dim": 1}
    yield r.permutation(12).reshape(3, 4) * 0.3, {"dim": 0}
    yield np.asarray(0.5).reshape(1), {"dim": 0}


@op("*s -> *t", formula="index of the k-th smallest of {x}", samples=calls(
    lambda r: [(x, {**s, "k": 1}) for x, s in _lane_calls(r)]))  # fmt: skip
def kth_index(x, *, k, dim):
    """Where the k-th smallest entry (k counts from 1, NaN counts as largest) of each lane stands; axis kept."""
    if x.ndim == 0:
        return np.zeros((), np.int64)
    order = np.argsort(x, axis=dim, kind="stable")
    return np.take(order, [k - 1], axis=dim)


@op("*s -> *s", formula="indices that sort {x}", samples=calls(_lane_calls))
def sort_index(x, *, dim):
    """The indices that sort each lane (NaN last)."""
    return np.argsort(x, axis=dim, kind="stable")


@op("*s -> *t", formula="index of the median of {x}", samples=calls(_lane_calls))
def median_index(x, *, dim, ignore_nan=False):
    """Where the (lower) median of each lane stands, the first NaN if there is one; axis kept."""
    if x.ndim == 0:
        return np.zeros((), np.int64)
    n = x.shape[dim]
    order = np.argsort(x, axis=dim, kind="stable")
    nan = np.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)
    numbers = n - np.count_nonzero(nan, axis=dim, keepdims=True)
    if ignore_nan:
        middle = np.maximum(numbers - 1, 0) // 2
    else:
        middle = np.where(numbers == n, (n - 1) // 2, numbers)
    return np.take_along_axis(order, middle, dim)


@op("*s -> *t", formula="index of the mode of {x}", samples=calls(_lane_calls))
def mode_index(x, *, dim):
    """Where (last) the most frequent entry of each lane stands, the smallest of equally frequent ones; axis kept."""
    if x.ndim == 0:
        return np.zeros((), np.int64)
    lanes = np.moveaxis(x, dim, -1)
    found = np.empty(lanes.shape[:-1] + (1,), np.int64)
    for place in np.ndindex(lanes.shape[:-1]):
        values, counts = np.unique(lanes[place], return_counts=True)
        found[place] = np.flatnonzero(lanes[place] == values[np.argmax(counts)])[-1]
    return np.moveaxis(found, -1, dim)


def _running(name, better):
    @op("*s -> *s", name=name, formula=f"index of the running {name[3:6]}imum of {{x}}", samples=calls(_lane_calls))
    def running(x, *, dim):
        if x.ndim == 0:
            return np.zeros((), np.int64)
        lanes = np.moveaxis(x, dim, 0)
        out = np.zeros(lanes.shape, np.int64)
        best = np.array(lanes[:1])
        for i in range(1, len(lanes)):
            # equal entries: the later one, as PyTorch; NaN, once met, stays
            new = better(lanes[i : i + 1], best) | (lanes[i : i + 1] != lanes[i : i + 1])
            out[i] = np.where(new[0], i, out[i - 1])
            best = np.where(new, lanes[i : i + 1], best)
        return np.moveaxis(out, 0, dim)

    running.__doc__ = f"Where the running {name[3:6]}imum along one axis stands."
    return running


cummax_index = _running("cummax_index", np.greater_equal)
cummin_index = _running("cummin_index", np.less_equal)


@op("*s, *t -> *u", formula="histogram of {x} over {edges}", samples=calls(
    lambda r: [(r.random(9), np.linspace(0, 1, 4)), (r.random((2, 3)), np.linspace(0, 0.5, 3))]))  # fmt: skip
def histogram_counts(x, edges):
    """How many entries lie in each bin; the last bin includes its right edge."""
    return np.histogram(x, edges)[0].astype(x.dtype)


@op(
    "*s, n -> m",
    formula="how often each number is in {x}",
    samples=calls(
        lambda r: [(r.integers(0, 5, 9), None, {"minlength": 7}), (r.integers(0, 5, 4), r.random(4), {"minlength": 0})]
    ),
)
def bincount(x, weights, *, minlength=0):
    """How often each number occurs (or the sum of its weights)."""
    return np.bincount(x, weights, minlength)


@op("*s n, *t -> *t", formula="places of {v} in {sorted}", samples=calls(
    lambda r: [(np.sort(r.random(5)), r.random((2, 3)), {"right": False}),
               (np.sort(r.random((2, 5))), r.random((2, 3)), {"right": True})]))  # fmt: skip
def searchsorted(sorted, v, *, right=False):
    """Where each v would be inserted in a sorted sequence (or row by row) to keep it sorted."""
    side = "right" if right else "left"
    if sorted.ndim == 1:
        return np.asarray(np.searchsorted(sorted, v, side=side))
    out = np.empty(v.shape, np.int64)
    for row in np.ndindex(v.shape[:-1]):
        out[row] = np.searchsorted(sorted[row], v[row], side=side)
    return out
