"""Entries picked and put along one axis by an index of the same number of axes."""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .compare import eq, where
from .layout import cast

# ruff: noqa: ANN001, ANN202


def along(index, dim, shape):
    """The NumPy key that ``index`` means along ``dim``, with no negative numbers."""
    if index.size and index.min() < 0:
        index = np.where(index < 0, index + shape[dim], index)
    return lanes(index, dim)


def lanes(index, dim):
    """The NumPy key with ``index`` at ``dim`` and numbers that count up along the other axes."""
    last = index.ndim - 1
    return tuple(
        [index if a == dim else np.arange(n).reshape(-1, *(1,) * (last - a)) for a, n in enumerate(index.shape)]
    )


def _gather_calls(r):
    yield r.normal(size=(3, 4)), np.array([[0, 3, 3], [1, 0, 2]]), {"dim": 1}
    yield r.normal(size=(3, 2)), np.array([[0, 2], [1, 1], [2, 0], [0, 0]]), {"dim": 0}
    yield r.normal(size=()), np.array(0), {"dim": 0}
    yield r.normal(size=(2, 3)), np.zeros((2, 0), int), {"dim": 1}


@op("*s, *i -> *i", formula="{x} at {index} along {dim}", samples=calls(_gather_calls))
def gather(x, index, *, dim):
    """y[i][j] = x[i][index[i][j]] along ``dim`` = 1, and likewise for other axes."""
    if index.ndim == 0:
        return x.reshape(-1)[index]
    return x[lanes(index, dim)]


@gather.vjp("x", math="x̄ = ȳ added up at the indices")
def _(g, index, x_shape, dim):
    return scatter_sum(g, index, dim=dim, shape=x_shape)


@op("*i, *i -> *s", formula="Σ {x} at {index} along {dim}",
    samples=calls(lambda r: [(r.normal(size=(2, 3)), np.array([[0, 3, 3], [1, 0, 2]]), {"dim": 1, "shape": (3, 4)}),
                             (r.normal(size=()), np.array(0), {"dim": 0, "shape": ()})]))  # fmt: skip
def scatter_sum(x, index, *, dim, shape):
    """Zeros of a shape with x added at the indices along ``dim`` (see ``gather``): equal indices add up."""
    if index.ndim == 0:
        return x.reshape(shape)
    key = along(index, dim, shape)
    size = 1
    for n in shape:
        size *= n
    if index.size == 0:
        return np.zeros(shape, x.dtype)
    flat = np.ravel_multi_index(np.broadcast_arrays(*key), shape).ravel()
    if x.dtype.kind == "f":  # bincount adds in float64, which rounds no worse than adding in x's dtype
        return np.bincount(flat, x.ravel(), size).astype(x.dtype, copy=False).reshape(shape)
    out = np.zeros(size, x.dtype)
    np.add.at(out, flat, x.ravel())
    return out.reshape(shape)


@scatter_sum.vjp("x", math="x̄ = ȳ at the indices")
def _(g, index, dim):
    return gather(g, index, dim=dim)


@op("*s, *i, *i -> *s", formula="{x} with {src} at {index} along {dim}",
    samples=calls(lambda r: [(r.normal(size=(3, 4)), np.array([[0, 3], [1, 2]]), r.normal(size=(2, 2)), {"dim": 1}),
                             (r.normal(size=()), np.array(0), r.normal(size=()), {"dim": 0})]))  # fmt: skip
def scatter(x, index, src, *, dim):
    """x with src (of the index's shape) stored at the indices along ``dim``; of equal indices the last wins."""
    out = np.array(x)
    if index.ndim == 0:
        out.reshape(-1)[index] = src
    else:
        out[along(index, dim, x.shape)] = src
    return out


@scatter.vjp("x", math="x̄ = ȳ, 0 at the indices")
def _(g, index, src_shape, src_dtype, dim):
    return scatter(g, index, np.zeros(src_shape, src_dtype), dim=dim)


@scatter.vjp("src", math="x̄ = ȳ at the indices")
def _(g, index, dim):
    return gather(g, index, dim=dim)


def _extreme_calls(r):
    index = np.array([[0, 3, 3], [1, 1, 2]])
    for kind in ("amax", "amin", "prod"):
        yield r.normal(size=(2, 4)), index, r.normal(size=(2, 3)), {"dim": 1, "kind": kind, "include_self": True}
        yield r.normal(size=(2, 4)), index, r.normal(size=(2, 3)), {"dim": 1, "kind": kind, "include_self": False}


@op("*s, *i, *i -> *s", formula="{kind} of {x} and {src} at {index} along {dim}", samples=calls(_extreme_calls),
    kink="equal candidates share the gradient of a maximum equally, as in PyTorch")  # fmt: skip
def scatter_extreme(x, index, src, *, dim, kind, include_self):
    """x combined with src at the indices along ``dim``: "amax", "amin" or "prod"."""
    key = along(index, dim, x.shape)
    out = x.copy()
    if not include_self:
        low = np.finfo(x.dtype) if x.dtype.kind == "f" else np.iinfo(x.dtype)
        inf = x.dtype.kind == "f"
        out[key] = {"amax": -np.inf if inf else low.min, "amin": np.inf if inf else low.max, "prod": 1}[kind]
    {"amax": np.maximum, "amin": np.minimum, "prod": np.multiply}[kind].at(out, key, src)
    return out


def _hit(index, x_shape, dim, dtype):
    return scatter_sum(np.ones(index.shape, dtype), index, dim=dim, shape=x_shape) > 0


def _shares(g, out, x, index, src, dim, include_self):
    """ȳ divided by the number of candidates that equal the extreme."""
    from_src = cast(eq(src, gather(out, index, dim=dim)), dtype=g.dtype if isinstance(g, np.ndarray) else g.dtype.numpy)
    count = scatter_sum(from_src, index, dim=dim, shape=x.shape)
    own = cast(eq(x, out), dtype=from_src.dtype if isinstance(from_src, np.ndarray) else from_src.dtype.numpy)
    if not include_self:
        own = where(_hit(index, x.shape, dim, np.float64), 0.0, own)
    return g / (count + own), own, from_src


@scatter_extreme.vjp("x", math="x̄ = ȳ where x is the extreme, or ȳ · (product of the others)")
def _(g, out, x, index, src, dim, kind, include_self):
    if kind == "prod":
        others = scatter_extreme(x * 0 + 1, index, src, dim=dim, kind="prod", include_self=True)
        return g * others if include_self else where(_hit(index, x.shape, dim, np.float64), 0.0, g)
    share, own, _ = _shares(g, out, x, index, src, dim, include_self)
    return share * own


@scatter_extreme.vjp("src", math="s̄ = ȳ where src is the extreme, or ȳ · (product of the others)")
def _(g, out, x, index, src, dim, kind, include_self):
    if kind == "prod":
        return gather(g * out, index, dim=dim) / src
    share, _, from_src = _shares(g, out, x, index, src, dim, include_self)
    return gather(share, index, dim=dim) * from_src
