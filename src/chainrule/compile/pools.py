"""Pooling over windows, in ops that the emitter knows: each offset in the window is one strided part of the array."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from .formulas import call, constant, formula
from .lanes import pooled

__all__: list[str] = []

_EVERYTHING = slice(None)


def _padded(x: Any, widths: Any, value: float) -> Any:
    if not any(w for pair in widths for w in pair):
        return x
    return call("pad_constant", x, widths=((0, 0), (0, 0), *map(tuple, widths)), value=value)


def _taps(x: Any, kernel: Any, stride: Any, dilation: Any) -> list[Any]:
    """That entry of every window, for each offset in it, row by row; x is padded already."""
    grid = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    parts: list[Any] = []
    for offset in itertools.product(*map(range, kernel)):
        key = [slice(o * d, o * d + s * (t - 1) + 1, s)
               for o, d, s, t in zip(offset, dilation, stride, grid, strict=True)]  # fmt: skip
        parts.append(call("getitem", x, key=(_EVERYTHING, _EVERYTHING, *key)))
    return parts


def _few(x: Any, kernel: Any) -> bool:
    return x._array.dtype.kind in "fi" and 0 not in x.shape and math.prod(kernel) <= 64


def _fits(x: Any, kernel: Any) -> bool:
    """Whether windows of x are written out; those with images in lanes have a kernel."""
    return not pooled(x) and _few(x, kernel)


def _choice(x: Any, kernel: Any, stride: Any, widths: Any, dilation: Any) -> tuple[Any, Any]:
    """The largest entry of each window, and its tap."""
    dtype = x._array.dtype
    real = dtype.kind == "f"
    small = np.dtype(np.uint8)
    best, tap = None, None
    for t, v in enumerate(
        _taps(_padded(x, widths, -math.inf if real else np.iinfo(dtype).min), kernel, stride, dilation)
    ):
        if best is None:
            best, tap = v, None
            continue
        wins = v > best
        if real:
            wins = call("logical_or", wins, call("ne", v, v))  # NaN wins, the last one
        best = call("where", wins, v, best)
        tap = call("cast", wins, dtype=small) if tap is None else call("where", wins, t, tap)
    if tap is None:  # windows of one entry
        tap = call("cast", call("ne", best, best), dtype=small) * 0
        best = call("clone", best)
    return best, tap


@formula("max_pool")
def _max_pool(x: Any, *, kernel: Any, stride: Any, widths: Any, dilation: Any) -> Any:
    return _choice(x, kernel, stride, widths, dilation) if _fits(x, kernel) else None


@formula("max_tap")
def _max_tap(x: Any, *, kernel: Any, stride: Any, widths: Any, dilation: Any) -> Any:
    return _choice(x, kernel, stride, widths, dilation)[1] if _few(x, kernel) else None


@formula("pick_tap")
def _pick_tap(x: Any, tap: Any, *, kernel: Any, stride: Any, widths: Any, dilation: Any) -> Any:
    if not _fits(x, kernel):
        return None
    out: Any = None
    for t, v in enumerate(_taps(_padded(x, widths, 0), kernel, stride, dilation)):
        out = call("where", tap == t, v, 0 if out is None else out)
    return out


def _even(size: Any, kernel: Any, stride: Any, widths: Any, dilation: Any) -> bool:
    """Windows side by side that cover the whole array."""
    return (
        tuple(kernel) == tuple(stride) and all(d == 1 for d in dilation) and not any(w for pair in widths for w in pair)
        and all(m % k == 0 for m, k in zip(size, kernel, strict=True))
    )  # fmt: skip


def _interleaved(y: Any, kernel: Any) -> tuple[Any, tuple[int, ...]]:
    """y with an axis of size 1 behind every spatial axis, where the window's own axis belongs."""
    shape = (*y.shape[:2], *(n for m in y.shape[2:] for n in (m, 1)))
    return call("reshape", y, shape=shape), tuple(n for k in kernel for n in (1, k))


@formula("put_tap")
def _put_tap(y: Any, tap: Any, *, size: Any, kernel: Any, stride: Any, widths: Any, dilation: Any) -> Any:
    if not _fits(y, kernel):
        return None
    if _even(size, kernel, stride, widths, dilation):
        wide, own = _interleaved(y, kernel)
        number = constant(np.arange(math.prod(kernel), dtype=np.uint8).reshape(own))
        chosen = call("eq", _interleaved(tap, kernel)[0], number)
        return call("reshape", call("where", chosen, wide, 0.0), shape=(*y.shape[:2], *size))
    # Where each window's tap lies in the padded plane; entries with the same place add up.
    n, c, *grid = y.shape
    plane = [m + a + b for m, (a, b) in zip(size, widths, strict=True)]
    steps = [math.prod(plane[i + 1 :]) for i in range(len(plane))]
    start = np.zeros(grid, np.int64)
    for i, (t, s) in enumerate(zip(grid, stride, strict=True)):
        start = start + (np.arange(t) * s * steps[i]).reshape(t, *(1,) * (len(grid) - 1 - i))
    rest, place = call("cast", tap, dtype=np.dtype(np.int64)), constant(start)
    for i in range(len(kernel) - 1, -1, -1):
        place = place + call("remainder", rest, kernel[i]) * (dilation[i] * steps[i])
        rest = call("floor_divide", rest, kernel[i])
    flat = (n * c, math.prod(grid))
    out = call("scatter_sum", call("reshape", y, shape=flat), call("reshape", place, shape=flat), dim=1,
               shape=(n * c, math.prod(plane)))  # fmt: skip
    inner = (slice(a, a + m) for m, (a, _) in zip(size, widths, strict=True))
    return call("getitem", call("reshape", out, shape=(n, c, *plane)), key=(_EVERYTHING, _EVERYTHING, *inner))


@formula("sum_pool")
def _sum_pool(x: Any, *, kernel: Any, stride: Any, widths: Any) -> Any:
    if not _fits(x, kernel):
        return None
    x = _padded(x, widths, 0)
    for axis, (k, s) in enumerate(zip(kernel, stride, strict=True), 2):
        lead = (_EVERYTHING,) * axis
        last = s * ((x.shape[axis] - k) // s) + 1
        parts = [call("getitem", x, key=(*lead, slice(i, i + last, s))) for i in range(k)]
        x = parts[0] if k > 1 else call("clone", parts[0])
        for part in parts[1:]:
            x = x + part
    return x


@formula("spread_pool")
def _spread_pool(y: Any, *, size: Any, kernel: Any, stride: Any, widths: Any) -> Any:
    if not _fits(y, kernel):
        return None
    if _even(size, kernel, stride, widths, (1,) * len(kernel)):
        wide, _ = _interleaved(y, kernel)
        full = (*y.shape[:2], *(n for m, k in zip(y.shape[2:], kernel, strict=True) for n in (m, k)))
        return call("reshape", call("clone", call("expand", wide, shape=full)), shape=(*y.shape[:2], *size))
    for axis in range(y.ndim - 1, 1, -1):
        i = axis - 2
        shape = (*y.shape[:axis], size[i] + sum(widths[i]), *y.shape[axis + 1 :])
        out: Any = None
        for o in range(kernel[i]):
            key = [_EVERYTHING] * y.ndim
            key[axis] = slice(o, o + stride[i] * (y.shape[axis] - 1) + 1, stride[i])
            part = call("place", y, key=tuple(key), shape=shape)
            out = part if out is None else out + part
        lead = (_EVERYTHING,) * axis
        y = call("getitem", out, key=(*lead, slice(widths[i][0], widths[i][0] + size[i])))
    return y
