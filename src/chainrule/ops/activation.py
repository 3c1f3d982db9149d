"""Activations: the nonlinear functions between the layers of a network."""

from __future__ import annotations

import math

import numpy as np

from ..core.op import op
from ..core.samples import calls, real
from .compare import where
from .elementwise import exp, relu, sigmoid, sign, tanh
from .special import erf

# ruff: noqa: ANN001, ANN202

__all__ = [
    "relu", "sigmoid", "tanh", "leaky_relu", "prelu", "elu", "gelu", "silu", "softplus", "hardtanh", "mish",
    "softsign", "logsigmoid", "hardsigmoid", "hardswish", "softshrink", "hardshrink", "tanhshrink", "threshold",
    "logit",
]  # fmt: skip
_ROOT_HALF = math.sqrt(0.5)
_GELU = math.sqrt(2 / math.pi)


@op("*s -> *s", formula="leaky_relu({x})", numpy="np.where({x} > 0, {x}, {x} * {negative_slope})",
    samples=real(kinks=(0.0,), params=[{"negative_slope": 0.01}, {"negative_slope": 0.3}]),
    kink="leaky_relu′(0) = negative_slope, as PyTorch")  # fmt: skip
def leaky_relu(x, *, negative_slope=0.01):
    """Leaky rectifier: x above 0, a small slope below."""
    return np.where(x > 0, x, x * negative_slope)


@leaky_relu.vjp("x", math="x̄ = ȳ · ([x > 0] + negative_slope · [x ≤ 0])")
def _(g, x, negative_slope):
    return where(x > 0, g, g * negative_slope)


def _prelu_calls(r):
    yield r.permutation(12).reshape(2, 3, 2) * 0.3 - 1.6, r.uniform(0.1, 0.5, (3, 1))
    yield r.permutation(6).reshape(2, 3) * 0.3 - 0.7, r.uniform(0.1, 0.5, 3)
    yield np.asarray(-0.5), np.asarray(0.2)


@op("*s, *s -> *s", formula="prelu({x}, {w})", numpy="np.where({x} > 0, {x}, {x} * {w})", broadcasts=True,
    samples=calls(_prelu_calls), kink="prelu′(0) = w, as PyTorch")  # fmt: skip
def prelu(x, w):
    """Leaky rectifier with a learned slope w (already shaped to broadcast)."""
    return np.where(x > 0, x, x * w)


@prelu.vjp("x", math="x̄ = z̄ · ([x > 0] + w · [x ≤ 0])")
def _(g, x, w):
    return where(x > 0, g, g * w)


@prelu.vjp("w", math="w̄ = z̄ · x · [x ≤ 0]")
def _(g, x):
    return where(x > 0, 0.0, g * x)


@op("*s -> *s", formula="elu({x})",
    samples=real(kinks=(0.0,), params=[{"alpha": 1.0}, {"alpha": 1.7, "scale": 1.1}, {"alpha": 1.5, "rate": 0.7}]),
    kink="elu′(0) = alpha · rate · scale, as PyTorch")  # fmt: skip
def elu(x, *, alpha=1.0, scale=1.0, rate=1.0):
    """Exponential linear unit: scale · x above 0, scale · alpha · (exp(rate · x) − 1) below."""
    # minimum: e^x of a large positive x would overflow, although it is not used.
    return np.where(x > 0, x * scale, np.expm1(np.minimum(x, 0) * rate) * (alpha * scale))


@elu.vjp("x", math="x̄ = ȳ · (scale · [x > 0] + alpha · rate · scale · exp(rate · x) · [x ≤ 0])")
def _(g, x, alpha, scale, rate):
    above = x > 0
    return where(above, g * scale, g * exp(where(x < 0, x, 0.0) * rate) * (alpha * scale * rate))


@op("*s -> *s", formula="gelu({x})", samples=real(params=[{"approximate": "none"}, {"approximate": "tanh"}]))
def gelu(x, *, approximate="none"):
    """Gaussian error linear unit, x · Φ(x), or its approximation by tanh."""
    if approximate == "none":
        y = erf(x * math.sqrt(0.5))
        y += 1
        y *= 0.5
        y *= x
        return y
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))


@gelu.vjp("x", math="x̄ = ȳ · (Φ(x) + x φ(x)), or the derivative of the approximation")
def _(g, x, approximate):
    if approximate == "none":
        return g * (0.5 * (1 + erf(x * _ROOT_HALF)) + x * (exp(x * x * -0.5) * (_GELU / 2)))
    t = tanh(_GELU * (x + 0.044715 * (x * x * x)))
    return g * (0.5 * (1 + t) + 0.5 * x * ((1 - t * t) * (_GELU * (1 + 0.134145 * (x * x)))))


@op("*s -> *s", formula="{x} σ({x})", samples=real())
def silu(x):
    """Sigmoid linear unit (swish), x · σ(x)."""
    e = np.exp(-np.abs(x))
    return x * (np.where(x >= 0, 1, e) / (1 + e))


@silu.vjp("x", math="x̄ = ȳ · σ(x) · (1 + x · (1 − σ(x)))")
def _(g, x):
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


@op("*s -> *s", formula="softplus({x})",
    samples=real(params=[{"beta": 1.0, "threshold": 20.0}, {"beta": 2.0, "threshold": 20.0}]),
    kink="linear above the threshold, as PyTorch")  # fmt: skip
def softplus(x, *, beta=1.0, threshold=20.0):
    """log(1 + exp(beta · x)) / beta; x itself where beta · x exceeds the threshold."""
    scaled = x * beta
    return np.where(scaled > threshold, x, np.logaddexp(scaled, np.zeros((), x.dtype)) / beta)


@softplus.vjp("x", math="x̄ = ȳ · σ(beta · x)")
def _(g, x, beta, threshold):
    scaled = x * beta
    return where(scaled > threshold, g, g * sigmoid(where(scaled < threshold, scaled, threshold)))


@op("*s -> *s", formula="hardtanh({x})", numpy="np.clip({x}, {min_val}, {max_val})", samples=real(kinks=(-1.0, 1.0)),
    kink="hardtanh′ = 0 at the limits, as PyTorch")  # fmt: skip
def hardtanh(x, *, min_val=-1.0, max_val=1.0):
    """x limited to [min_val, max_val]."""
    return np.minimum(np.maximum(x, min_val), max_val)


@hardtanh.vjp("x", math="x̄ = ȳ · [x > min_val] · [x < max_val]")
def _(g, x, min_val, max_val):
    return where((x > min_val) & (x < max_val), g, 0.0)


@op("*s -> *s", formula="mish({x})", samples=real())
def mish(x):
    """x · tanh(softplus(x))."""
    return x * np.tanh(np.logaddexp(x, np.zeros((), x.dtype)))


@mish.vjp("x", math="x̄ = ȳ · (t + x · (1 − t²) · σ(x)), t = tanh(softplus(x))")
def _(g, x):
    t = tanh(softplus(x))
    return g * (t + x * ((1 - t * t) * sigmoid(x)))


@op("*s -> *s", formula="{x} / (1 + |{x}|)", numpy="{x} / (1 + np.abs({x}))", samples=real(kinks=(0.0,)))
def softsign(x):
    """x / (1 + |x|)."""
    return x / (1 + np.abs(x))


@softsign.vjp("x", math="x̄ = ȳ / (1 + |x|)²")
def _(g, x):
    scale = 1 + x * sign(x)
    return g / (scale * scale)


@op("*s -> *s", formula="log σ({x})", samples=real(kinks=(0.0,)))
def logsigmoid(x):
    """log σ(x), without underflow."""
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


@logsigmoid.vjp("x", math="x̄ = ȳ · σ(−x)")
def _(g, x):
    return g * sigmoid(-x)


@op("*s -> *s", formula="hardsigmoid({x})", samples=real(-4.0, 4.0, kinks=(-3.0, 3.0)),
    kink="hardsigmoid′(±3) = 0, as PyTorch")  # fmt: skip
def hardsigmoid(x):
    """(x + 3) / 6, limited to [0, 1]."""
    return np.minimum(np.maximum(x + 3, 0), 6) / 6


@hardsigmoid.vjp("x", math="x̄ = ȳ · [x > −3] · [x < 3] / 6")
def _(g, x):
    return where((x > -3) & (x < 3), g / 6, 0.0)


@op("*s -> *s", formula="{x} hardsigmoid({x})", samples=real(-4.0, 4.0, kinks=(-3.0, 3.0)),
    kink="hardswish′(−3) = 0, hardswish′(3) = 1.5, as PyTorch")  # fmt: skip
def hardswish(x):
    """x · (x + 3) / 6, 0 below −3 and x above 3."""
    return x * np.minimum(np.maximum(x + 3, 0), 6) / 6


@hardswish.vjp("x", math="x̄ = ȳ · ([x > 3] + [−3 ≤ x ≤ 3] (x / 3 + 1 / 2))")
def _(g, x):
    return where(x <= -3, 0.0, where(x < 3, g * (x / 3 + 0.5), g))


@op("*s -> *s", formula="softshrink({x})", samples=real(kinks=(-0.5, 0.5)), kink="softshrink′(±lambd) = 0, as PyTorch")
def softshrink(x, *, lambd=0.5):
    """x moved by lambd towards 0, and 0 within [−lambd, lambd]."""
    return np.where(x > lambd, x - lambd, np.where(x < -lambd, x + lambd, x * 0))


@softshrink.vjp("x", math="x̄ = ȳ · [|x| > lambd]")
def _(g, x, lambd):
    return where((x >= -lambd) & (x <= lambd), 0.0, g)


@op("*s -> *s", formula="hardshrink({x})", samples=real(kinks=(-0.5, 0.5)), kink="hardshrink′(±lambd) = 0, as PyTorch")
def hardshrink(x, *, lambd=0.5):
    """x, and 0 within [−lambd, lambd]."""
    return np.where((x >= -lambd) & (x <= lambd), np.zeros((), x.dtype), x)


@hardshrink.vjp("x", math="x̄ = ȳ · [|x| > lambd]")
def _(g, x, lambd):
    return where((x >= -lambd) & (x <= lambd), 0.0, g)


@op("*s -> *s", formula="({x} − tanh({x}))", numpy="({x} - np.tanh({x}))", samples=real())
def tanhshrink(x):
    """x − tanh(x)."""
    return x - np.tanh(x)


@tanhshrink.vjp("x", math="x̄ = ȳ · tanh(x)²")
def _(g, x):
    t = tanh(x)
    return g * (t * t)


@op(
    "*s -> *s",
    formula="threshold({x})",
    numpy="np.where({x} > {threshold}, {x}, {value})",
    samples=real(kinks=(0.1,), params=[{"threshold": 0.1, "value": 20.0}]),
    kink="threshold′ = 0 at the threshold",
)
def threshold(x, *, threshold, value):
    """x above the threshold, a constant up to it."""
    return np.where(x <= threshold, np.asarray(value, x.dtype), x)


@threshold.vjp("x", math="x̄ = ȳ · [x > threshold]")
def _(g, x, threshold):
    return where(x <= threshold, 0.0, g)


@op("*s -> *s", formula="log({x} / (1 − {x}))", promotes="float",
    samples=real(0.1, 0.9, params=[{"eps": None}, {"eps": 0.01}]))  # fmt: skip
def logit(x, *, eps=None):
    """log(x / (1 − x)), x being limited to [eps, 1 − eps] if eps is given."""
    if eps is not None:
        x = np.minimum(np.maximum(x, eps), 1 - eps)
    return np.log(x / (1 - x))


@logit.vjp("x", math="x̄ = ȳ / (x · (1 − x))")
def _(g, x, eps):
    if eps is None:
        return where((x >= 0) & (x <= 1), g / (x * (1 - x)), float("nan"))
    inside = (x >= eps) & (x <= 1 - eps)
    safe = where(inside, x, 0.5)
    return where(inside, g / (safe * (1 - safe)), 0.0)
