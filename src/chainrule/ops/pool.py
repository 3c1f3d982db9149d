"""Pooling: the maximum or the sum over windows of the spatial axes (all but the first two).

Windows are walked tap by tap: for each offset inside the window, one strided slice holds that entry of every window.
Settings are tuples over the spatial axes; ``widths`` is the padding before and after.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.op import op
from ..core.samples import calls

# ruff: noqa: ANN001, ANN202


def _pad(x, widths, value):
    if not any(a or b for a, b in widths):
        return x
    out = np.full((*x.shape[:2], *(n + a + b for n, (a, b) in zip(x.shape[2:], widths))), value, x.dtype)
    out[(..., *(slice(a, a + n) for n, (a, _) in zip(x.shape[2:], widths)))] = x
    return out


def _taps(kernel, stride, dilation, grid):
    """For each offset in the window: the slices that pick that entry of every window."""
    for offset in np.ndindex(*kernel):
        yield (..., *(slice(k * d, k * d + s * (t - 1) + 1, s) for k, d, s, t in zip(offset, dilation, stride, grid)))


def _calls(r):
    yield r.permutation(48).reshape(1, 2, 4, 6) / 10, {
        "kernel": (2, 3), "stride": (2, 3), "widths": ((0, 0), (0, 0)), "dilation": (1, 1)}  # fmt: skip
    yield r.normal(size=(2, 1, 5, 4)), {
        "kernel": (3, 2), "stride": (2, 1), "widths": ((1, 1), (0, 1)), "dilation": (1, 2)}  # fmt: skip
    yield r.normal(size=(2, 2, 7)), {"kernel": (3,), "stride": (2,), "widths": ((1, 1),), "dilation": (1,)}


def _lowest(dtype):
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _max(x, kernel, stride, widths, dilation):
    """The maxima, and for each the number of its tap (the first one, where several are equal).

    One axis after the other, the last first: then only the first pass reads the whole array in strides.
    """
    padded = best = _pad(x, widths, _lowest(x.dtype))
    small = np.uint8 if math.prod(kernel) < 256 else np.int32
    tap: Any = None
    weight = 1
    for axis in range(len(kernel) - 1, -1, -1):
        k, s, d = kernel[axis], stride[axis], dilation[axis]
        t = (best.shape[2 + axis] - d * (k - 1) - 1) // s + 1
        cuts = [(*(slice(None),) * (2 + axis), slice(i * d, i * d + s * (t - 1) + 1, s)) for i in range(k)]
        out = best[cuts[0]]
        found = np.zeros(out.shape if k == 1 else (), small) if tap is None else tap[cuts[0]]
        for i in range(1, k):
            part = best[cuts[i]]
            wins = part > out
            if tap is None and i == 1:
                found = wins.view(np.uint8).astype(small, copy=False)  # 0 or 1 already
            else:
                taken = small(i) if tap is None else tap[cuts[i]] + small(i * weight)
                chosen = np.negative(wins, dtype=small)  # all bits where the new one wins: ten times faster than where
                found = found ^ ((found ^ taken) & chosen)
            out = np.maximum(out, part)
        best, tap = out, found
        weight *= k
    if x.dtype.kind == "f" and np.isnan(best).any():
        for i, at in enumerate(_taps(kernel, stride, dilation, best.shape[2:])):
            np.copyto(tap, i, where=np.isnan(padded[at]))  # NaN exceeds nothing; as in PyTorch the last one wins
    # a window of one entry is a view of x, which the caller may write to
    return best.copy() if best.base is not None else best, tap


@op("n c *s -> n c *t", formula="which entry of each window of {x} is largest", samples=calls(_calls))
def max_tap(x, *, kernel, stride, widths, dilation):
    """The number, within its window, of each window's largest entry."""
    return _max(x, kernel, stride, widths, dilation)[1]


@op("n c *s, n c *t -> n c *t", formula="{x} at {tap}", samples=calls(
    lambda r: [(x, max_tap.op.body(x, **s), s) for x, s in _calls(r)]))  # fmt: skip
def pick_tap(x, tap, *, kernel, stride, widths, dilation):
    """From each window the entry with the given number."""
    p = _pad(x, widths, 0)
    out = np.zeros(tap.shape, x.dtype)
    for i, at in enumerate(_taps(kernel, stride, dilation, tap.shape[2:])):
        np.copyto(out, p[at], where=tap == i)
    return out


@pick_tap.vjp("x", math="x̄ = ȳ at the picked entries, 0 elsewhere")
def _(g, tap, x_shape, kernel, stride, widths, dilation):
    return put_tap(g, tap, size=x_shape[2:], kernel=kernel, stride=stride, widths=widths, dilation=dilation)


@op("n c *t, n c *t -> n c *s", formula="{y} put at {tap}", samples=calls(
    lambda r: [(r.normal(size=t.shape), t, {**s, "size": x.shape[2:]})
               for x, s in _calls(r) for t in [max_tap.op.body(x, **s)]]))  # fmt: skip
def put_tap(y, tap, *, size, kernel, stride, widths, dilation):
    """The transpose of ``pick_tap``: each y goes to its window's entry of the given number, and adds up there."""
    out = np.zeros((*y.shape[:2], *(n + a + b for n, (a, b) in zip(size, widths))), y.dtype)
    apart = all(d == 1 and s >= k for k, s, d in zip(kernel, stride, dilation))
    # Times 0 or 1 as integers: the bits stay what they are, also those of NaN, and it is five times faster than where.
    bits = np.dtype(f"u{y.dtype.itemsize}")
    y, whole = np.ascontiguousarray(y).view(bits), out.view(bits)
    for i, at in enumerate(_taps(kernel, stride, dilation, y.shape[2:])):
        if apart:
            np.multiply(y, tap == i, out=whole[at])
        else:
            out[at] += (y * (tap == i)).view(out.dtype)
    return out[(..., *(slice(a, a + n) for n, (a, _) in zip(size, widths)))]


@put_tap.vjp("y", math="ȳ = x̄ at the given entries")
def _(g, tap, kernel, stride, widths, dilation):
    return pick_tap(g, tap, kernel=kernel, stride=stride, widths=widths, dilation=dilation)


def derived_max_pool(x, *, kernel, stride, widths, dilation):
    """Max pooling as choice and look-up."""
    s = {"kernel": kernel, "stride": stride, "widths": widths, "dilation": dilation}
    return pick_tap(x, max_tap(x, **s), **s)


@op("n c *s -> n c *t", formula="max over windows of {x}", residuals=("tap",), derived=derived_max_pool,
    samples=calls(_calls), kink="where several entries are largest, the first one gets the gradient, as in PyTorch",
    reference="torch.nn.functional.max_pool2d")  # fmt: skip
def max_pool(x, *, kernel, stride, widths, dilation):
    """The largest entry of each window."""
    return _max(x, kernel, stride, widths, dilation)


@max_pool.vjp("x", math="x̄ = ȳ at the largest entry of its window, 0 elsewhere")
def _(g, x, tap, kernel, stride, widths, dilation):
    return put_tap(g, tap, size=tuple(x.shape[2:]), kernel=kernel, stride=stride, widths=widths, dilation=dilation)


@op("n c *s -> n c *t", formula="Σ over windows of {x}", samples=calls(
    lambda r: [(x, {k: v for k, v in s.items() if k != "dilation"}) for x, s in _calls(r)]))  # fmt: skip
def sum_pool(x, *, kernel, stride, widths):
    """The sum over each window, one axis after the other."""
    out = _pad(x, widths, 0)
    for axis, (k, s) in enumerate(zip(kernel, stride), 2):
        t = (out.shape[axis] - k) // s + 1
        lead = (slice(None),) * axis
        parts = [out[(*lead, slice(i, i + s * (t - 1) + 1, s))] for i in range(k)]
        total = parts[0].copy() if k == 1 else parts[0] + parts[1]
        for part in parts[2:]:
            total += part
        out = total
    return out


@sum_pool.vjp("x", math="x̄ = ȳ for every entry of the window")
def _(g, x_shape, kernel, stride, widths):
    return spread_pool(g, size=x_shape[2:], kernel=kernel, stride=stride, widths=widths)


@op("n c *t -> n c *s", formula="{y} given to every entry of its window", samples=calls(
    lambda r: [(r.normal(size=sum_pool.op.body(x, **q).shape), {**q, "size": x.shape[2:]})
               for x, s in _calls(r) for q in [{k: v for k, v in s.items() if k != "dilation"}]]))  # fmt: skip
def spread_pool(y, *, size, kernel, stride, widths):
    """The transpose of ``sum_pool``."""
    out = y
    for axis in range(y.ndim - 1, 1, -1):
        k, s, n, (a, b) = kernel[axis - 2], stride[axis - 2], size[axis - 2], widths[axis - 2]
        t = out.shape[axis]
        wide = np.zeros((*out.shape[:axis], n + a + b, *out.shape[axis + 1 :]), y.dtype)
        lead = (slice(None),) * axis
        for i in range(k):
            wide[(*lead, slice(i, i + s * (t - 1) + 1, s))] += out
        out = wide[(*lead, slice(a, a + n))]
    return out


@spread_pool.vjp("y", math="ȳ = Σ x̄ over the window")
def _(g, kernel, stride, widths):
    return sum_pool(g, kernel=kernel, stride=stride, widths=widths)


def flat_index(tap, size, kernel, stride, widths, dilation):
    """Tap numbers as PyTorch's indices: positions in the flattened, unpadded plane."""
    index = np.zeros(tap.shape, np.int64)
    rest = tap.astype(np.int64)
    weight = 1
    offsets = []
    for k in reversed(kernel):
        offsets.append(rest % k)
        rest = rest // k
    for axis, offset in zip(range(len(kernel) - 1, -1, -1), offsets):
        start = np.arange(tap.shape[2 + axis]) * stride[axis] - widths[axis][0]
        position = start.reshape(-1, *(1,) * (len(kernel) - 1 - axis)) + offset * dilation[axis]
        index += position * weight
        weight *= size[axis]
    return index
