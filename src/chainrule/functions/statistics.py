"""Order statistics and counting: median, quantile, mode, k-th value, running extremes, histograms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes
from ..core.dtypes import FLOATS, TORCH_NAMES
from ..core.live import reads_values
from ..core.op import registry
from ..core.state import state
from ..core.variable import Variable, wrap
from ..ops import elementwise, order, select
from ..ops.compare import where
from ..ops.layout import reshape
from ._args import axis, cast, need_tensor
from ._results import named
from .inplace import into

__all__ = [
    "median", "nanmedian", "mode", "kthvalue", "cummax", "cummin", "quantile", "nanquantile", "bincount", "histc",
    "histogram", "searchsorted", "bucketize", "cov", "corrcoef", "cumulative_trapezoid", "trapezoid", "trapz", "renorm",
    "diff", "vander",
]  # fmt: skip
METHODS = (
    "median", "nanmedian", "mode", "kthvalue", "cummax", "cummin", "quantile", "nanquantile", "bincount", "histc",
    "cov", "corrcoef", "renorm", "diff", "histogram",
)  # fmt: skip
INPLACE = ("renorm",)

_Results = {n: named(n, "values", "indices") for n in ("median", "nanmedian", "mode", "kthvalue", "cummax", "cummin")}


def _picked(name: str, x: Any, indices: Any, dim: int, keepdim: bool, out: Any = None) -> Any:
    """The entries at ``indices`` (axis kept), with the axis dropped unless ``keepdim``."""
    if x._array.ndim and not keepdim:
        indices = wrap(np.squeeze(indices._array, dim))
    values = select.pick(x, indices, dim=dim, keepdim=keepdim)
    result = _Results[name](values, indices)
    return result if out is None else into(out, result, name)


def _median(name: str, ignore_nan: bool) -> Any:
    def function(input: Any, dim: Any = None, keepdim: bool = False, *, out: Any = None) -> Any:
        x = need_tensor(input, name)
        if x._array.dtype.kind == "b":
            raise NotImplementedError("\"median_cpu\" not implemented for 'Bool'")
        if dim is None:
            flat = reshape(x, shape=(-1,))
            if not x._array.size:
                return x.sum() * float("nan")
            middle = _picked(name, flat, order.median_index(flat, dim=0, ignore_nan=ignore_nan), 0, False)[0]
            if not (state.grad and middle._requires):
                return middle
            # Entries equal to the median share its gradient, as in PyTorch.
            m = middle.detach()
            equal = (flat == m) | ((flat != flat) & (m != m))
            return registry["amax"].call(where(equal, flat, -np.inf), dim=None, keepdim=False)
        i = axis(dim, x._array.ndim)
        return _picked(name, x, order.median_index(x, dim=i, ignore_nan=ignore_nan), i, keepdim, out)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "The (lower) median of all entries, or values and indices along ``dim``" + (
        "; NaN is left out." if ignore_nan else "; NaN if there is one."
    )
    return function


median, nanmedian = reads_values(_median("median", False)), reads_values(_median("nanmedian", True))


@reads_values
def mode(input: Any, dim: int = -1, keepdim: bool = False, *, out: Any = None) -> Any:
    """The most frequent entry along ``dim`` (of several the smallest), and where it stands."""
    x = need_tensor(input, "mode")
    i = axis(dim, x._array.ndim)
    return _picked("mode", x, order.mode_index(x, dim=i), i, keepdim, out)


@reads_values
def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False, *, out: Any = None) -> Any:
    """The k-th smallest entry along ``dim`` (k counts from 1), and where it stands."""
    x = need_tensor(input, "kthvalue")
    i = axis(dim, x._array.ndim)
    if not 1 <= k <= (x._array.shape[i] if x._array.ndim else 1):
        raise RuntimeError("kthvalue(): selected number k out of range for dimension " + str(i))
    return _picked("kthvalue", x, order.kth_index(x, k=k, dim=i), i, keepdim, out)


def _running(name: str, op: Any) -> Any:
    def function(input: Any, dim: int, *, out: Any = None) -> Any:
        if out is not None:
            return into(out, function(input, dim), name)
        x = need_tensor(input, name)
        i = axis(dim, x._array.ndim)
        indices = op(x, dim=i)
        values = registry["gather"].call(x, indices, dim=i)
        return _Results[name](values, indices)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"The running {name[3:]}imum along ``dim`` and where it stands."
    return function


cummax, cummin = _running("cummax", order.cummax_index), _running("cummin", order.cummin_index)


# --- quantiles ------------------------------------------------------------------------------------------------------


def _quantile(name: str, ignore_nan: bool) -> Any:
    def function(
        input: Any, q: Any, dim: Any = None, keepdim: bool = False, *, interpolation: str = "linear", out: Any = None
    ) -> Any:
        x = need_tensor(input, name)
        if x._array.dtype not in (np.float32, np.float64):
            raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
        points = np.asarray(q._array if isinstance(q, Variable) else q, x._array.dtype)
        if isinstance(q, Variable) and q._array.dtype is not x._array.dtype:
            raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
        if ((points < 0) | (points > 1)).any():
            alone = not isinstance(q, Variable)
            which = f"must be in the range [0, 1] but got {q:g}" if alone else "values must be in the range [0, 1]"
            raise RuntimeError(f"{name}() q {which}")
        ndim = x._array.ndim
        i = 0 if dim is None else axis(dim, ndim)
        if not x._array.size:
            raise RuntimeError(f"{name}() input tensor must be non-empty")
        lanes = reshape(x, shape=(-1,)) if dim is None or ndim == 0 else x.movedim(i, -1)
        last = lanes._array.ndim - 1
        ordered = registry["gather"].call(lanes, order.sort_index(lanes, dim=last), dim=last)
        n = lanes._array.shape[-1]
        nan = np.isnan(lanes._array)
        numbers = n - nan.sum(-1, keepdims=True)
        rank = points.reshape((-1,) + (1,) * lanes._array.ndim) * (np.maximum(numbers, 1) - 1)
        if not ignore_nan:  # a lane with NaN gives NaN: sorting puts it last
            rank = np.where(numbers < n, n - 1.0, rank)
        result = _between(ordered, rank, interpolation, name)
        result = reshape(result, shape=(result._array.shape[:-1]))
        if keepdim:
            shape = list(x._array.shape)
            for a in range(ndim) if dim is None else (i,) * (ndim > 0):
                shape[a] = 1
            result = reshape(result, shape=(points.size, *shape))
        if not points.ndim:
            result = reshape(result, shape=result._array.shape[1:])
        return result if out is None else into(out, result)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "The q-quantiles (q in [0, 1], a number or 1-d tensor) of all entries or along ``dim``" + (
        ", NaN left out." if ignore_nan else "."
    )
    return function


def _between(ordered: Any, rank: np.ndarray[Any, Any], interpolation: str, name: str) -> Any:
    """Entries of sorted lanes (last axis) at fractional ranks, shape (q, …lanes, 1)."""
    below, above = np.floor(rank), np.ceil(rank)
    shape = (rank.shape[0], *ordered._array.shape)
    spread = registry["expand"].call(reshape(ordered, shape=(1, *ordered._array.shape)), shape=shape)

    def at(r: Any) -> Any:
        index = np.ascontiguousarray(np.broadcast_to(r, (*shape[:-1], 1)).astype(np.int64))
        return registry["gather"].call(spread, wrap(index), dim=len(shape) - 1)

    if interpolation == "lower":
        return at(below)
    if interpolation == "higher":
        return at(above)
    if interpolation == "nearest":
        return at(np.round(rank))
    low, high = at(below), at(above)
    if interpolation == "midpoint":
        return low + (high - low) * 0.5
    if interpolation != "linear":
        raise RuntimeError(
            f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}"
        )
    weight = wrap(np.asarray(np.broadcast_to(rank - below, low._array.shape), low._array.dtype))
    return low.lerp(high, weight)


quantile, nanquantile = reads_values(_quantile("quantile", False)), reads_values(_quantile("nanquantile", True))


# --- counting -------------------------------------------------------------------------------------------------------


def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each non-negative integer occurs (or the sum of its weights)."""
    x = need_tensor(input, "bincount")
    if x._array.dtype in FLOATS:
        raise NotImplementedError(f"\"bincount_cpu\" not implemented for '{TORCH_NAMES[x.dtype.name]}'")
    if x._array.ndim != 1 or (x._array.size and x._array.min() < 0) or x._array.dtype.kind not in "iu":
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is not None and weights._array.shape != x._array.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    result = order.bincount(x, weights, minlength=minlength)
    if weights is not None and weights._array.dtype == np.float32:
        return cast(result, np.float32)
    return result if weights is not None else cast(result, np.int64)


@reads_values
def histc(input: Any, bins: int = 100, min: Any = 0, max: Any = 0, *, out: Any = None) -> Any:
    """Counts in equal bins between min and max (the data's own when both are equal)."""
    if out is not None:
        return into(out, histc(input, bins, min, max), "histc")
    a = need_tensor(input, "histc")._array
    if a.dtype not in FLOATS:
        raise NotImplementedError(f"\"histogram_cpu\" not implemented for '{dtypes.TORCH_NAMES[input.dtype.name]}'")
    low, high = float(min), float(max)
    if low == high and a.size:
        low, high = float(a.min()), float(a.max())
    if low == high:
        low, high = low - 1, high + 1
    if low > high:
        raise RuntimeError("torch.histc: max must be larger than min")
    return wrap(np.asarray(np.histogram(a, bins, (low, high))[0]).astype(a.dtype))


@reads_values
def histogram(
    input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False, out: Any = None
) -> Any:
    """Counts and bin edges."""
    if out is not None:
        return into(out, histogram(input, bins, range=range, weight=weight, density=density), "histogram")
    a = need_tensor(input, "histogram")._array
    edges = bins._array if isinstance(bins, Variable) else bins
    counts, edges = np.histogram(a, edges, range, density, None if weight is None else weight._array)
    return _Histogram(wrap(counts.astype(a.dtype)), wrap(edges.astype(a.dtype)))


_Histogram = named("histogram", "hist", "bin_edges")


def searchsorted(
    sorted_sequence: Any, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
    sorter: Any = None, out: Any = None,
) -> Any:  # fmt: skip
    """Where ``input`` would be inserted in ``sorted_sequence`` (last axis) to keep it sorted."""
    if out is not None:
        return into(
            out,
            searchsorted(sorted_sequence, input, out_int32=out_int32, right=right, side=side, sorter=sorter),
            "searchsorted",
        )
    s = need_tensor(sorted_sequence, "searchsorted")
    if sorter is not None:
        s = registry["gather"].call(s, sorter, dim=s._array.ndim - 1)
    v = input if isinstance(input, Variable) else wrap(np.asarray(input))
    result = order.searchsorted(s, v, right=right or side == "right")
    return cast(result, np.int32) if out_int32 else result


def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False, out: Any = None) -> Any:
    """The number of the bucket between boundaries that each entry falls in."""
    if out is not None:
        return into(out, bucketize(input, boundaries, out_int32=out_int32, right=right), "bucketize")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


# --- of samples -----------------------------------------------------------------------------------------------------


def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    """Covariance of the rows (variables), columns being observations."""
    x = need_tensor(input, "cov")
    x = reshape(x, shape=(1, -1)) if x._array.ndim < 2 else x
    if x._array.dtype not in FLOATS:
        x = cast(x, dtypes.default.numpy)
    n = x._array.shape[1]
    w = None
    for given in (fweights, aweights):
        if given is not None:
            given = cast(given, x._array.dtype)
            w = given if w is None else w * given
    if w is None:
        centred, norm = x - x.mean(1, True), max_zero(n - correction)
        result = centred @ centred.mT / norm
    else:
        total = w.sum()
        centred = x - (x * w).sum(1, True) / total
        norm = total - correction * (w * aweights).sum() / total if aweights is not None else total - correction
        result = (centred * w) @ centred.mT / norm
    return result.squeeze()


def max_zero(n: float) -> float:
    return n if n > 0 else 0.0


def corrcoef(input: Any) -> Any:
    """Correlation of the rows."""
    c = cov(input)
    if not c._array.ndim:
        return c / c
    d = elementwise.sqrt(c.diagonal())
    return (c / d.unsqueeze(1) / d.unsqueeze(0)).clamp(-1, 1)


def trapezoid(y: Any, x: Any = None, *, dx: Any = 1, dim: int = -1) -> Any:
    """∫ y dx by the trapezoidal rule along ``dim``."""
    return _trapezoids(y, x, dx, dim).sum(dim)


trapz = trapezoid


def cumulative_trapezoid(y: Any, x: Any = None, *, dx: Any = 1, dim: int = -1) -> Any:
    """The running integral by the trapezoidal rule along ``dim``."""
    return _trapezoids(y, x, dx, dim).cumsum(dim)


def _trapezoids(y: Any, x: Any, dx: Any, dim: int) -> Any:
    n = y._array.shape[dim]
    mean = (y.narrow(dim, 0, n - 1) + y.narrow(dim, 1, n - 1)) / 2
    if x is None:
        return mean * dx
    d = -1 if x._array.ndim == 1 else dim
    step = x.narrow(d, 1, n - 1) - x.narrow(d, 0, n - 1)
    if x._array.ndim == 1 and y._array.ndim > 1:
        i = axis(dim, y._array.ndim)
        step = reshape(step, shape=(-1,) + (1,) * (y._array.ndim - 1 - i))
    return mean * step


def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """The n-th difference of neighbours along ``dim``."""
    x = need_tensor(input, "diff")
    if not x._array.ndim:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    parts = [t for t in (prepend, x, append) if t is not None]
    if len(parts) > 1:
        from .joining import cat

        x = cat(parts, dim)
    for _ in range(n):
        size = x._array.shape[axis(dim, x._array.ndim)]
        if size == 0:
            return x
        after, before = x.narrow(dim, 1, size - 1), x.narrow(dim, 0, size - 1)
        x = after != before if x._array.dtype.kind == "b" else after - before
    return x


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """The Vandermonde matrix: columns are powers of x."""
    n = x._array.shape[0] if N is None else N
    powers = np.arange(n) if increasing else np.arange(n)[::-1]
    return x.unsqueeze(-1) ** wrap(np.array(powers))


def renorm(input: Any, p: float, dim: int, maxnorm: float, *, out: Any = None) -> Any:
    """Slices along ``dim`` whose p-norm exceeds ``maxnorm`` scaled down to it."""
    if out is not None:
        return into(out, renorm(input, p, dim, maxnorm), "renorm")
    x = need_tensor(input, "renorm")
    if x._array.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {x._array.ndim} dimensions")
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm:g}")
    i = axis(dim, x._array.ndim)
    others = tuple(a for a in range(x._array.ndim) if a != i)
    size = registry["norm"].call(x, p=float(p), dim=others, keepdim=True)
    return x * where(size > maxnorm, maxnorm / (size + 1e-7), 1.0)
