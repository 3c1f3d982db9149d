"""Reductions over consecutive segments, finite differences on a grid, histograms of points."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtypes import FLOATS, default
from ..core.live import values_read
from ..core.variable import Variable, wrap
from ..errors import message
from ..ops import gather as along
from ..ops import layout as moves
from ..ops.join import cat
from ._args import axis, cast, need_tensor
from ._results import named
from .inplace import into

__all__ = ["gradient", "histogramdd", "segment_reduce"]
HistogramResult = named("histogramdd", "hist", "bin_edges")


# --- segments ---------------------------------------------------------------------------------------------------

_EMPTY = {"sum": 0.0, "mean": float("nan"), "prod": 1.0, "max": -float("inf"), "min": float("inf")}
"""What an empty segment gives."""


def segment_reduce(
    data: Any, reduce: str, *, lengths: Any = None, indices: Any = None, offsets: Any = None, axis: int = 0,
    unsafe: bool = False, initial: Any = None, out: Any = None,
) -> Any:  # fmt: skip
    """Sum, mean, product, maximum or minimum of consecutive segments along ``axis``.

    ``lengths`` (or ``offsets``, the segments' ends with a 0 before) have the axes before ``axis`` and one more.

    >>> import chainrule as torch
    >>> torch.segment_reduce(torch.tensor([1.0, 2.0, 3.0]), "sum", lengths=torch.tensor([1, 2]))
    tensor([1., 5.])
    """
    if out is not None:
        return into(out, segment_reduce(data, reduce, lengths=lengths, offsets=offsets, axis=axis, unsafe=unsafe,
                                        initial=initial), "segment_reduce")  # fmt: skip
    x = need_tensor(data, "segment_reduce")
    if reduce not in _EMPTY:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    if (lengths is None) == (offsets is None):
        raise RuntimeError("segment_reduce(): Either lengths or offsets must be defined.")
    given = lengths if offsets is None else offsets
    values_read(given, "segment_reduce")
    if x._array.ndim < given._array.ndim:
        raise RuntimeError("Expected data.dim() >= lengths_value.dim() to be true, but got false.")
    d = given._array.ndim - 1
    if axis % x._array.ndim != d:
        raise RuntimeError("segment_reduce(): Expected axis to be the last dimension of lengths but got "
                           f"{axis}.")  # fmt: skip
    n = x._array.shape[d]
    if offsets is not None:
        sizes = np.diff(offsets._array, axis=-1)
        _check_segments(sizes, offsets._array[..., :1] * 0 + offsets._array[..., -1:], n, "offsets", True)
    else:
        sizes = lengths._array
        _check_segments(sizes, sizes.sum(-1, keepdims=True), n, "lengths", unsafe)
    segments = sizes.shape[-1]
    # Which segment each entry along the axis is in; entries beyond the last go to one more, which is cut off.
    lead = sizes.reshape(-1, segments)
    which = np.stack([np.concatenate([np.repeat(np.arange(segments), row), np.full(n - row.sum(), segments)])
                      for row in lead]).reshape(*x._array.shape[:d], n)  # fmt: skip
    index = np.broadcast_to(which.reshape(*which.shape, *(1,) * (x._array.ndim - d - 1)), x._array.shape)
    shape = (*x._array.shape[:d], segments + 1, *x._array.shape[d + 1 :])
    start = _EMPTY[reduce] if initial is None else float(initial)
    i = wrap(np.ascontiguousarray(index))
    if reduce in ("sum", "mean"):
        result = along.scatter_sum(x, i, dim=d, shape=shape)
        if initial is not None:
            result = result + start
    else:
        kind = {"max": "amax", "min": "amin", "prod": "prod"}[reduce]
        base = wrap(np.full(shape, start, x._array.dtype))
        result = along.scatter_extreme(base, i, x, dim=d, kind=kind, include_self=True)
    result = moves.clone(result[(slice(None),) * d + (slice(0, segments),)])
    if reduce == "mean":
        counts = sizes.reshape(*sizes.shape, *(1,) * (x._array.ndim - d - 1)).astype(x._array.dtype)
        if initial is not None:  # an empty segment is its initial value
            counts = np.maximum(counts, 1)
        result = result / wrap(counts)
    return result


def _check_segments(sizes: Any, total: Any, n: int, name: str, unsafe: bool) -> None:
    if (sizes < 0).any():
        raise RuntimeError(f"{name} contains negative value!")
    if not unsafe and (total != n).any():
        raise RuntimeError(
            "segment_reduce(): Expected all rows of lengths along axis to sum to data.size(lengths.dim()-1) when "
            "!unsafe."
        )
    if (total > n).any():
        raise RuntimeError(message(f"segment_reduce(): {name} reach beyond the {n} entries"))


# --- differences on a grid ------------------------------------------------------------------------------------------


def gradient(input: Any, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> Any:
    """Derivatives of samples along axes: central differences inside, one-sided ones of ``edge_order`` at the ends.

    ``spacing``: the distance of neighbours (one number, or one per axis), or the coordinates along each axis.

    >>> import chainrule as torch
    >>> torch.gradient(torch.tensor([1.0, 4.0, 9.0]))
    (tensor([3., 4., 5.]),)
    """
    x = need_tensor(input, "gradient")
    ndim = x._array.ndim
    listed = isinstance(spacing, (list, tuple))
    dims = [axis(d, ndim) for d in ([dim] if isinstance(dim, int) else dim if dim is not None else range(ndim))]
    if len(set(dims)) != len(dims):
        twice = next(d for d in dims if dims.count(d) > 1)
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    if listed and len(spacing) != len(dims) and not (len(spacing) == 1 and not isinstance(spacing[0], Variable)):
        raise RuntimeError(
            f"torch.gradient expected spacing to be unspecified, a scalar, or a list of length equal to 'self.dim() = "
            f"{ndim}', since dim argument was not given, but got a list of length {len(spacing)}"
            if dim is None
            else f"torch.gradient expected spacing to be unspecified, a scalar or it's spacing and dim arguments to "
            f"have the same length, but got a spacing argument of length {len(spacing)} and a dim argument of length "
            f"{len(dims)}."
        )
    if x._array.dtype not in FLOATS:
        x = cast(x, default.numpy)
    if not ndim and dims:
        raise IndexError("Dimension specified as -1 but tensor has no dimensions")
    for d in dims:
        if x._array.shape[d] < edge_order + 1:
            raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1")
    steps = list(spacing) * (len(dims) if len(spacing) == 1 else 1) if listed else [spacing] * len(dims)
    return tuple(_along(x, d, h, edge_order) for d, h in zip(dims, steps, strict=True))


def _along(x: Any, d: int, step: Any, order: int) -> Any:
    """The derivative along one axis: slices of x, weighted and added up."""
    n = x._array.shape[d]
    if isinstance(step, Variable):
        values_read(step, "gradient")
    at = step._array.astype(np.float64) if isinstance(step, Variable) else np.arange(n) * float(step)
    if at.shape != (n,):
        raise RuntimeError(
            "torch.gradient expected each element to have the same length as the corresponding dimension, got "
            f"{at.size}"
        )
    lead = (slice(None),) * d

    def part(start: int, stop: int) -> Any:
        return x[(*lead, slice(start, stop))]

    def combined(pieces: list[Any], weights: Any) -> Any:
        shape = (-1,) + (1,) * (x._array.ndim - d - 1)
        total = None
        for piece, w in zip(pieces, weights, strict=True):
            if not np.any(w):  # a point that does not count, whatever its value is
                continue
            term = piece * wrap(np.asarray(w, x._array.dtype).reshape(shape))
            total = term if total is None else total + term
        return total

    k = order + 1  # points at the ends
    first, last = _weights(at[:k], at[0]), _weights(at[-k:], at[-1])
    ends = [
        combined([part(i, i + 1) for i in range(k)], first[:, None]),
        combined([part(n - k + i, n - k + i + 1) for i in range(k)], last[:, None]),
    ]
    if n == 2:
        return cat(*ends, dim=d)
    inside = np.stack([_weights(at[i - 1 : i + 2], at[i]) for i in range(1, n - 1)], 1)
    if not isinstance(step, Variable):
        inside[1] = 0.0  # symmetric: what is left of the middle's weight is rounding
    middle = combined([part(i, n - 2 + i) for i in range(3)], inside)
    return cat(ends[0], middle, ends[1], dim=d)


def _weights(at: Any, x: float) -> Any:
    """The weights that give the derivative at x of the polynomial through points at two or three places."""
    if len(at) == 2:
        return np.array([-1.0, 1.0]) / (at[1] - at[0])
    a, b, c = at
    return np.array([
        (2 * x - b - c) / ((a - b) * (a - c)),
        (2 * x - a - c) / ((b - a) * (b - c)),
        (2 * x - a - b) / ((c - a) * (c - b)),
    ])  # fmt: skip


# --- histograms -----------------------------------------------------------------------------------------------------


def histogramdd(
    input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False, out: Any = None
) -> Any:
    """Counts of points (rows of the last axis) in a grid of bins, and the bins' edges along each axis."""
    values_read((input, bins, weight), "histogramdd")
    points = need_tensor(input, "histogramdd")._array
    if points.dtype not in FLOATS:
        raise NotImplementedError(f"\"histogramdd\" not implemented for '{points.dtype.name.capitalize()}'")
    flat = points.reshape(-1, points.shape[-1])
    dims = flat.shape[-1]
    count = [bins] * dims if isinstance(bins, int) else list(bins)
    if len(count) != dims:
        raise RuntimeError(
            f"torch.histogramdd(): expected {dims} sequences of bin edges or numbers of bins, but got {len(count)}"
        )
    if any(isinstance(c, Variable) for c in count):
        edges = [c._array.astype(np.float64) for c in count]
    else:
        low, high = flat.min(0, initial=np.inf), flat.max(0, initial=-np.inf)
        if range is not None:
            low, high = np.asarray(range, np.float64).reshape(dims, 2).T
        elif not flat.size:
            low, high = np.zeros(dims), np.ones(dims)
        same = low == high
        low, high = np.where(same, low - 0.5, low), np.where(same, high + 0.5, high)
        edges = [np.linspace(a, b, int(c) + 1) for a, b, c in zip(low, high, count, strict=True)]
    weights = None if weight is None else weight._array.reshape(-1)
    found, _ = np.histogramdd(flat.astype(np.float64), edges, weights=weights, density=density)
    made = tuple(wrap(e.astype(points.dtype)) for e in edges)
    return HistogramResult(wrap(found.astype(points.dtype)), made)
