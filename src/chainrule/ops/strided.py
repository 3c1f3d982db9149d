"""``as_strided``: entries by their place in memory.

A tensor's entries have places: the first one is at 0, the others where its strides lead (``inner``, in entries). The
rules speak of places only, so they hold for whatever memory a gradient lies in.
"""

from __future__ import annotations

import math

import numpy as np

from ..core.op import op
from ..core.samples import calls

# ruff: noqa: ANN001, ANN202

__all__ = ["as_strided", "contiguous_strides", "from_places", "places", "reach"]


def places(size, stride, offset=0):
    """The place of every entry of a tensor of that geometry."""
    at = np.full(size, offset, np.int64)
    for k, (n, step) in enumerate(zip(size, stride)):
        at += (np.arange(n) * step).reshape((-1,) + (1,) * (len(size) - k - 1))
    return at


def reach(size, stride, offset=0):
    """The first and the last place that a geometry touches; (0, -1) if it has no entries."""
    if 0 in size:
        return 0, -1
    steps = [(n - 1) * s for n, s in zip(size, stride)]
    return offset + sum(s for s in steps if s < 0), offset + sum(s for s in steps if s > 0)


def contiguous_strides(size):
    """Strides, in entries, of a tensor that lies in memory without gaps."""
    found, step = [], 1
    for n in reversed(size):
        found.append(step)
        step *= max(n, 1)
    return tuple(reversed(found))


def _calls(r):
    x = r.normal(size=(3, 4))
    yield x, {"size": (2, 2), "stride": (4, 1), "offset": 1, "inner": (4, 1)}
    yield x, {"size": (3, 3), "stride": (2, 1), "offset": 0, "inner": (4, 1)}  # overlapping
    yield x, {"size": (2, 3), "stride": (1, 3), "offset": 0, "inner": (1, 3)}  # of a transposed tensor


@op("*s -> *t", formula="{x} at {offset} + i · {stride}", is_view=True, samples=calls(_calls))
def as_strided(x, *, size, stride, offset, inner):
    """The entries at ``offset + Σ index · stride``, counted from the place of x's first entry."""
    low, high = reach(size, stride, offset)
    if tuple(inner) == contiguous_strides(x.shape) and low >= 0 and high < x.size:
        flat = np.ascontiguousarray(x).reshape(-1)
        steps = [s * x.itemsize for s in stride]
        view = (
            np.ndarray(size, x.dtype, flat, offset * x.itemsize, steps) if math.prod(size) else np.empty(size, x.dtype)
        )
        view.flags.writeable = x.flags.c_contiguous and x.flags.writeable
        return view
    found = _moved(x, inner, size, stride, offset)
    found.flags.writeable = False  # a copy: who writes into it must not believe that x changes
    return found


def _moved(x, inner, size, stride, offset):
    """Entries with one geometry, read with another; 0 at places that x does not have."""
    mine, wanted = places(x.shape, inner), places(size, stride, offset)
    low = min(mine.min(initial=0), wanted.min(initial=0))
    buffer = np.zeros(max(mine.max(initial=-1), wanted.max(initial=-1)) + 1 - low, x.dtype)
    buffer[mine - low] = x
    return np.array(buffer[wanted - low])


@as_strided.vjp("x", math="x̄ = Σ ȳ over the entries at x's places (shared among the entries of x that share a place)")
def _(g, x_shape, size, stride, offset, inner):
    return from_places(g, shape=x_shape, size=size, stride=stride, offset=offset, inner=inner)


def _back_calls(r):
    for _, params in _calls(r):
        yield r.normal(size=params["size"]), {**params, "shape": (3, 4)}


@op("*t -> *s", formula="Σ {x} at places", samples=calls(_back_calls))
def from_places(x, *, shape, size, stride, offset, inner):
    """What ``as_strided`` took, added up where it was taken from."""
    mine, taken = places(shape, inner), places(size, stride, offset)
    low = min(mine.min(initial=0), taken.min(initial=0))
    n = max(mine.max(initial=-1), taken.max(initial=-1)) + 1 - low
    total = np.bincount((taken - low).ravel(), x.ravel(), n)
    times = np.maximum(np.bincount((mine - low).ravel(), minlength=n), 1)
    return (total / times)[mine - low].astype(x.dtype)


@from_places.vjp("x", math="x̄ = ȳ at places")
def _(g, shape, size, stride, offset, inner):
    return _read(g, size=size, stride=stride, offset=offset, inner=inner)


@op("*s -> *t", name="read_places", formula="{x} at places", samples=calls(
    lambda r: [*_calls(r), (np.broadcast_to(r.normal(size=(1, 3)), (2, 3)),
                            {"size": (3,), "stride": (1,), "offset": 0, "inner": (0, 1)})]))  # fmt: skip
def _read(x, *, size, stride, offset, inner):
    """``as_strided`` of a gradient, whose entries at a shared place have to be averaged."""
    mine, wanted = places(x.shape, inner), places(size, stride, offset)
    low = min(mine.min(initial=0), wanted.min(initial=0))
    n = max(mine.max(initial=-1), wanted.max(initial=-1)) + 1 - low
    times = np.maximum(np.bincount((mine - low).ravel(), minlength=n), 1)
    total = np.bincount((mine - low).ravel(), x.ravel(), n)
    return (total / times)[wanted - low].astype(x.dtype)


@_read.vjp("x", math="x̄ = Σ ȳ at places")
def _(g, x_shape, size, stride, offset, inner):
    return from_places(g, shape=x_shape, size=size, stride=stride, offset=offset, inner=inner)
