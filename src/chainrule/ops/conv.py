"""Convolution over any number of spatial axes, and its two gradients, which are each other's gradients too.

Arrays are x (N, C, …), weight (O, C / groups, …), y (N, O, …). The settings are tuples, one entry per spatial axis.
All three are products with the matrix of windows ("columns"): y = W · columns(x).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .norm import sum_channels

# ruff: noqa: ANN001, ANN202


def out_size(size, kernel, stride, padding, dilation):
    """Number of windows along one axis."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _batch_last(x, padding):
    """x (N, C, …) as (C, …, N) with a border of zeros, contiguous: rows of windows are then long runs of memory."""
    moved = x.transpose(*range(1, x.ndim), 0)
    if not any(padding):
        return np.ascontiguousarray(moved)
    out = np.zeros((x.shape[1], *(n + 2 * p for n, p in zip(x.shape[2:], padding)), x.shape[0]), x.dtype)
    out[(slice(None), *(slice(p, p + n) for n, p in zip(x.shape[2:], padding)))] = moved
    return out


def _batch_first(y, shape):
    """The transpose back, from (C, …, N) to (N, C, …), contiguous."""
    return np.ascontiguousarray(y.reshape(math.prod(shape[1:]), shape[0]).T).reshape(shape)


def _columns(x, kernel, stride, padding, dilation, groups):
    """Every window of x: (groups, C/groups · Πkernel, number of windows · N), and the windows' grid."""
    n, c = x.shape[:2]
    grid = tuple(map(out_size, x.shape[2:], kernel, stride, padding, dilation))
    p = _batch_last(x, padding)
    steps = p.strides[1:-1]
    windows = np.ndarray(
        (c, *kernel, *grid, n), p.dtype, p, 0,
        (
            p.strides[0], *(d * s for d, s in zip(dilation, steps)), *(t * s for t, s in zip(stride, steps)),
            p.strides[-1],
        ),
    )  # fmt: skip
    return windows.reshape(groups, c // groups * math.prod(kernel), math.prod(grid) * n), grid


def _conv_calls(r: Any) -> Any:
    one = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    yield r.normal(size=(2, 3, 5, 4)), r.normal(size=(2, 3, 3, 2)), r.normal(size=2), one
    yield r.normal(size=(2, 4, 6, 5)), r.normal(size=(2, 2, 3, 3)), None, {
        "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}  # fmt: skip
    yield r.normal(size=(1, 2, 7)), r.normal(size=(3, 2, 1)), r.normal(size=3), {
        "stride": (1,), "padding": (0,), "dilation": (1,), "groups": 1}  # fmt: skip


@op("n c *s, o i *k, o -> n o *t", formula="{weight} ⋆ {x} + {bias}", samples=calls(_conv_calls),
    reference="torch.nn.functional.conv2d")  # fmt: skip
def conv(x, weight, bias, *, stride, padding, dilation, groups):
    """Cross-correlation: y[n, o] = Σ over channels and offsets of weight[o, c, k] · x[n, c, stride·t + dilation·k]."""
    cols, grid = _columns(x, weight.shape[2:], stride, padding, dilation, groups)
    y = np.matmul(weight.reshape(groups, weight.shape[0] // groups, cols.shape[1]), cols)
    y = y.reshape(weight.shape[0], cols.shape[2])
    if bias is not None:
        y += bias[:, None]
    return _batch_first(y, (x.shape[0], weight.shape[0], *grid))


@conv.vjp("x", math="x̄ = Wᵀ applied to ȳ, windows added up")
def _(g, weight, x_shape, stride, padding, dilation, groups):
    return conv_input(g, weight, size=x_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups)


@conv.vjp("weight", math="W̄ = ȳ · columns(x)ᵀ")
def _(g, x, weight_shape, stride, padding, dilation, groups):
    return conv_weight(x, g, kernel=weight_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups)


@conv.vjp("bias", math="b̄ = Σ ȳ per channel")
def _(g):
    return sum_channels(g)


def _input_calls(r):
    for x, w, _, s in _conv_calls(r):
        grid = tuple(map(out_size, x.shape[2:], w.shape[2:], s["stride"], s["padding"], s["dilation"]))
        yield r.normal(size=(x.shape[0], w.shape[0], *grid)), w, {**s, "size": x.shape[2:]}


@op("n o *t, o i *k -> n c *s", formula="{weight}ᵀ ⋆ {y}", samples=calls(_input_calls),
    reference="torch.nn.functional.conv_transpose2d")  # fmt: skip
def conv_input(y, weight, *, size, stride, padding, dilation, groups):
    """The transposed convolution: each y[n, o, t] spreads weight[o] over its window of an x of spatial ``size``."""
    n, o = y.shape[:2]
    kernel, grid = weight.shape[2:], y.shape[2:]
    c = weight.shape[1] * groups
    w = weight.reshape(groups, o // groups, c // groups * math.prod(kernel))
    spread = _batch_last(y, ()).reshape(groups, o // groups, math.prod(grid) * n)
    cols = np.matmul(w.swapaxes(1, 2), spread).reshape(c, *kernel, *grid, n)
    out = np.zeros((c, *(m + 2 * p for m, p in zip(size, padding)), n), y.dtype)
    for offset in np.ndindex(*kernel):
        at = tuple(slice(k * d, k * d + s * (t - 1) + 1, s) for k, d, s, t in zip(offset, dilation, stride, grid))
        out[(slice(None), *at)] += cols[(slice(None), *offset)]
    inner = out[(slice(None), *(slice(p, p + m) for m, p in zip(size, padding)))]
    return np.ascontiguousarray(inner.transpose(-1, *range(inner.ndim - 1)))


@conv_input.vjp("y", math="ȳ = W ⋆ x̄")
def _(g, weight, stride, padding, dilation, groups):
    return conv(g, weight, None, stride=stride, padding=padding, dilation=dilation, groups=groups)


@conv_input.vjp("weight", math="W̄ = y · columns(x̄)ᵀ")
def _(g, y, weight_shape, stride, padding, dilation, groups):
    return conv_weight(g, y, kernel=weight_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups)


def _weight_calls(r):
    for x, w, _, s in _conv_calls(r):
        grid = tuple(map(out_size, x.shape[2:], w.shape[2:], s["stride"], s["padding"], s["dilation"]))
        yield x, r.normal(size=(x.shape[0], w.shape[0], *grid)), {**s, "kernel": w.shape[2:]}


@op("n c *s, n o *t -> o i *k", formula="{y} · columns({x})ᵀ", samples=calls(_weight_calls))
def conv_weight(x, y, *, kernel, stride, padding, dilation, groups):
    """Σ over samples and windows of y[n, o, t] · x[n, c, stride·t + dilation·k]: a convolution's weight gradient."""
    n, o = y.shape[:2]
    cols, grid = _columns(x, kernel, stride, padding, dilation, groups)
    flat = _batch_last(y, ()).reshape(groups, o // groups, math.prod(grid) * n)
    return np.matmul(flat, cols.swapaxes(1, 2)).reshape(o, x.shape[1] // groups, *kernel)


@conv_weight.vjp("x", math="x̄ = W̄ᵀ applied to y")
def _(g, y, x_shape, stride, padding, dilation, groups):
    return conv_input(y, g, size=x_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups)


@conv_weight.vjp("y", math="ȳ = W̄ ⋆ x")
def _(g, x, stride, padding, dilation, groups):
    return conv(x, g, None, stride=stride, padding=padding, dilation=dilation, groups=groups)
