"""Normalisations in one step: standardise, then scale and shift."""

from __future__ import annotations

import math

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .elementwise import sqrt
from .layout import expand, reshape, sum_to
from .reduce import sum
from .softmax import row_sum

# ruff: noqa: ANN001, ANN202


def _mean(x, axes):
    return sum(x, dim=axes, keepdim=True) / math.prod(x.shape[a] for a in axes)


# --- over the last axes -----------------------------------------------------------------------------------------


def derived_layer_norm(x, weight, bias, *, axes, eps):
    """Layer normalisation by its definition; the last ``axes`` axes are normalised."""
    over = tuple(range(x.ndim - axes, x.ndim))
    d = x - _mean(x, over)
    y = d / sqrt(_mean(d * d, over) + eps)
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def _layer_calls(r):
    yield r.normal(size=(2, 5)), r.normal(size=5), r.normal(size=5), {"axes": 1, "eps": 1e-5}
    yield r.normal(size=(2, 3, 4)), r.normal(size=(3, 4)), None, {"axes": 2, "eps": 1e-3}
    yield r.normal(size=4), None, None, {"axes": 1, "eps": 1e-5}


@op("*b d, d, d -> *b d", formula="layer_norm({x}) · {weight} + {bias}", residuals=("x_hat", "inv_std"),
    derived=derived_layer_norm, samples=calls(_layer_calls), reference="torch.nn.functional.layer_norm")  # fmt: skip
def layer_norm(x, weight, bias, *, axes, eps):
    """(x − mean) / √(variance + ε) · weight + bias, statistics over the last ``axes`` axes of each sample."""
    rows = x.reshape(*x.shape[: x.ndim - axes], math.prod(x.shape[x.ndim - axes :])) if axes != 1 else x
    n = rows.shape[-1]
    d = rows - row_sum(rows, rows.ndim - 1) / n
    inv_std = 1 / np.sqrt(np.vecdot(d, d)[..., None] / n + eps)
    d *= inv_std
    x_hat = d.reshape(x.shape)
    y = x_hat.copy() if weight is None else x_hat * weight
    if bias is not None:
        y += bias
    return y, x_hat, inv_std.reshape(*inv_std.shape[:-1], *(1,) * axes)


@layer_norm.vjp("x", math="x̄ = (ĝ − mean ĝ − x̂ · mean(ĝ · x̂)) / σ with ĝ = ȳ · weight")
def _(g, x, weight, x_hat, inv_std, axes):
    over = tuple(range(len(x.shape) - axes, len(x.shape)))
    h = g if weight is None else g * weight
    return (h - _mean(h, over) - x_hat * _mean(h * x_hat, over)) * inv_std


@layer_norm.vjp("weight", math="w̄ = Σ ȳ · x̂ over the samples")
def _(g, weight, x_hat):
    return sum_to(g * x_hat, shape=weight.shape)


@layer_norm.vjp("bias", math="b̄ = Σ ȳ over the samples")
def _(g, bias):
    return sum_to(g, shape=bias.shape)


def derived_rms_norm(x, weight, *, axes, eps):
    """Root-mean-square normalisation by its definition."""
    y = x / sqrt(_mean(x * x, tuple(range(x.ndim - axes, x.ndim))) + eps)
    return y if weight is None else y * weight


def _rms_calls(r):
    yield r.normal(size=(2, 5)), r.normal(size=5), {"axes": 1, "eps": 1e-5}
    yield r.normal(size=(2, 3, 4)), None, {"axes": 2, "eps": 1e-5}


@op("*b d, d -> *b d", formula="{x} / rms({x}) · {weight}", residuals=("x_hat", "inv_rms"), derived=derived_rms_norm,
    samples=calls(_rms_calls), reference="torch.nn.functional.rms_norm")  # fmt: skip
def rms_norm(x, weight, *, axes, eps):
    """x / √(mean x² + ε) · weight over the last ``axes`` axes."""
    over = tuple(range(x.ndim - axes, x.ndim))
    inv_rms = 1 / np.sqrt(np.mean(x * x, axis=over, keepdims=True) + eps)
    x_hat = x * inv_rms
    return x_hat.copy() if weight is None else x_hat * weight, x_hat, inv_rms


@rms_norm.vjp("x", math="x̄ = (ĝ − x̂ · mean(ĝ · x̂)) / rms with ĝ = ȳ · weight")
def _(g, x, weight, x_hat, inv_rms, axes):
    over = tuple(range(len(x.shape) - axes, len(x.shape)))
    h = g if weight is None else g * weight
    return (h - x_hat * _mean(h * x_hat, over)) * inv_rms


@rms_norm.vjp("weight", math="w̄ = Σ ȳ · x̂ over the samples")
def _(g, weight, x_hat):
    return sum_to(g * x_hat, shape=weight.shape)


# --- per channel, over the batch --------------------------------------------------------------------------------


def _channelwise(v, ndim):
    """A vector over channels as an array that broadcasts against (N, C, …)."""
    return reshape(v, shape=(-1, *(1,) * (ndim - 2)))


def _batch_axes(ndim):
    return (0, *range(2, ndim))


def _channel_sum(x):
    """Σ over all axes but 1 (plain arrays): rows first, since NumPy adds a contiguous last axis pairwise and fast."""
    if x.ndim == 2:
        return np.add.reduce(x, axis=0)
    return np.add.reduce(np.add.reduce(x.reshape(*x.shape[:2], math.prod(x.shape[2:])), axis=-1), axis=0)


@op("n c *d -> c, c", formula="mean, variance of {x} per channel", outputs=2, samples=calls(
    lambda r: [(r.normal(size=(4, 3)), {}), (r.normal(size=(2, 3, 4)), {})]))  # fmt: skip
def batch_stats(x):
    """Mean and (biased) variance of each channel over batch and space. Constants: ``batch_norm``'s rule accounts for
    how they depend on x."""
    n = x.size // x.shape[1]
    mean = _channel_sum(x) / n
    d = x - mean.reshape(-1, *(1,) * (x.ndim - 2))
    return mean, _channel_sum(d * d) / n


def derived_batch_norm(x, weight, bias, mean, variance, *, eps):
    """Batch normalisation by its definition, statistics computed from x."""
    over = _batch_axes(x.ndim)
    d = x - _mean(x, over)
    y = d / sqrt(_mean(d * d, over) + eps)
    if weight is not None:
        y = y * _channelwise(weight, x.ndim)
    return y if bias is None else y + _channelwise(bias, x.ndim)


def _batch_calls(r):
    for shape in ((5, 3), (2, 3, 4), (2, 3, 2, 2)):
        x = r.normal(size=shape)
        over = (0, *range(2, len(shape)))
        yield x, r.normal(size=3), r.normal(size=3), x.mean(over), x.var(over), {"eps": 1e-5}
    yield x, None, None, x.mean(over), x.var(over), {"eps": 1e-3}


@op("n c *d, c, c, c, c -> n c *d", formula="batch_norm({x}) · {weight} + {bias}", residuals=("x_hat", "inv_std"),
    derived=derived_batch_norm, samples=calls(_batch_calls), reference="torch.nn.functional.batch_norm")  # fmt: skip
def batch_norm(x, weight, bias, mean, variance, *, eps):
    """(x − mean) / √(variance + ε) · weight + bias per channel; mean and variance are those of x (``batch_stats``)."""
    shape = (-1, *(1,) * (x.ndim - 2))
    inv_std = (1 / np.sqrt(variance + eps)).reshape(shape)
    x_hat = x - mean.reshape(shape)
    x_hat *= inv_std
    y = x_hat.copy() if weight is None else x_hat * weight.reshape(shape)
    if bias is not None:
        y += bias.reshape(shape)
    return y, x_hat, inv_std


@batch_norm.vjp("x", math="x̄ = (ȳ − mean ȳ − x̂ · mean(ȳ · x̂)) · weight / σ")
def _(g, x, weight, x_hat, inv_std):
    over = _batch_axes(len(x.shape))
    n = math.prod(x.shape[a] for a in over)
    scale = inv_std if weight is None else inv_std * _channelwise(weight, len(x.shape))
    mean_g = sum_channels(g) / n
    mean_gx = sum_channels(g * x_hat) / n
    return (g - _channelwise(mean_g, len(x.shape)) - x_hat * _channelwise(mean_gx, len(x.shape))) * scale


@batch_norm.vjp("weight", math="w̄ = Σ ȳ · x̂ per channel")
def _(g, weight, x_hat):
    return sum_channels(g * x_hat)


@batch_norm.vjp("bias", math="b̄ = Σ ȳ per channel")
def _(g, bias):
    return sum_channels(g)


@op("n c *d -> c", formula="Σ {x} per channel",
    samples=calls(lambda r: [(r.normal(size=(4, 3)),), (r.normal(size=(2, 3, 4)),)]))  # fmt: skip
def sum_channels(x):
    """Sum over all axes but the channels' (axis 1)."""
    return _channel_sum(x)


@sum_channels.vjp("x", math="x̄ = ȳ for every entry of the channel")
def _(g, x_shape):
    return expand(_channelwise(g, len(x_shape)), shape=x_shape)
