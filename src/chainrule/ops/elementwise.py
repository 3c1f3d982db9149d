"""Elementwise functions of one array: exponentials, trigonometry, activations."""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import real

# ruff: noqa: ANN001, ANN202


@op("*s -> *s", formula="exp({x})", numpy="np.exp({x})", promotes="float", samples=real())
def exp(x):
    """Exponential, y = eˣ."""
    return np.exp(x)


@exp.vjp("x", math="x̄ = ȳ · y")
def _(g, out):
    return g * out


@op("*s -> *s", formula="log({x})", numpy="np.log({x})", promotes="float", samples=real(0.2, 3.0))
def log(x):
    """Natural logarithm, y = ln x."""
    return np.log(x)


@log.vjp("x", math="x̄ = ȳ / x")
def _(g, x):
    return g / x


@op("*s -> *s", formula="√({x})", numpy="np.sqrt({x})", promotes="float", samples=real(0.2, 3.0),
    kink="sqrt′(0) = ∞")  # fmt: skip
def sqrt(x):
    """Square root, y = √x."""
    return np.sqrt(x)


@sqrt.vjp("x", math="x̄ = ȳ / (2 · y)")
def _(g, out):
    return g / (2 * out)


@op("*s -> *s", formula="sin({x})", numpy="np.sin({x})", promotes="float", samples=real())
def sin(x):
    """Sine."""
    return np.sin(x)


@sin.vjp("x", math="x̄ = ȳ · cos(x)")
def _(g, x):
    return g * cos(x)


@op("*s -> *s", formula="cos({x})", numpy="np.cos({x})", promotes="float", samples=real())
def cos(x):
    """Cosine."""
    return np.cos(x)


@cos.vjp("x", math="x̄ = −ȳ · sin(x)")
def _(g, x):
    return -g * sin(x)


@op("*s -> *s", formula="tanh({x})", numpy="np.tanh({x})", promotes="float", samples=real())
def tanh(x):
    """Hyperbolic tangent."""
    return np.tanh(x)


@tanh.vjp("x", math="x̄ = ȳ · (1 − y²)")
def _(g, out):
    return g * (1 - out * out)


@op("*s -> *s", formula="σ({x})", promotes="float", samples=real())
def sigmoid(x):
    """Logistic function, σ(x) = 1 / (1 + e⁻ˣ)."""
    # e^−|x| never overflows; the two forms are exact mirror images.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


@sigmoid.vjp("x", math="x̄ = ȳ · y · (1 − y)")
def _(g, out):
    return g * (out * (1 - out))


@op("*s -> *s", formula="relu({x})", numpy="np.maximum({x}, 0)", samples=real(kinks=(0.0,)),
    kink="relu′(0) = 0, as PyTorch")  # fmt: skip
def relu(x):
    """Rectifier, y = max(x, 0)."""
    return np.maximum(x, 0)


@relu.vjp("x", math="x̄ = ȳ · [y > 0]")
def _(g, out):
    # maximum(x, 0) would split the gradient at 0; PyTorch gives 0.
    return g * (out > 0)


@op("*s -> *s", formula="|{x}|", numpy="np.abs({x})", samples=real(kinks=(0.0,)), kink="abs′(0) = 0, as PyTorch")
def abs(x):
    """Absolute value, y = |x|."""
    return np.abs(x)


@abs.vjp("x", math="x̄ = ȳ · sign(x)")
def _(g, x):
    return g * sign(x)


@op("*s -> *s", formula="sign({x})", numpy="np.sign({x})", samples=real(kinks=(0.0,)), kink="sign′ = 0 everywhere")
def sign(x):
    """Sign: −1, 0 or 1."""
    return np.sign(x) if x.dtype.kind != "b" else x.copy()


@sign.vjp("x", math="x̄ = 0")
def _(g):
    return g * 0
