"""Elementwise functions of one array: exponentials, logarithms, roots, sign, rounding."""

from __future__ import annotations

import math

import numpy as np

from ..core.dtypes import TORCH_NAMES
from ..core.op import op
from ..core.samples import real
from ..errors import DtypeError

# ruff: noqa: ANN001, ANN202


@op("*s -> *s", formula="0", numpy="np.zeros_like({x})", samples=real())
def zero(x):
    """Zeros like x: the gradient of what is constant almost everywhere (x · 0 would turn infinity into NaN)."""
    return np.zeros_like(x)


@zero.vjp("x", math="x̄ = ȳ · 0")
def _(g):
    return zero(g)


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
    kink="relu′(0) = 0, as PyTorch; 0 for NaN too, where PyTorch passes the gradient on")  # fmt: skip
def relu(x):
    """Rectifier, y = max(x, 0)."""
    if x.dtype.kind == "b":
        raise DtypeError("Boolean inputs not supported for relu")
    return np.maximum(x, 0)


@relu.vjp("x", math="x̄ = ȳ · [y > 0]")
def _(g, out):
    # maximum(x, 0) would split the gradient at 0; PyTorch gives 0.
    return g * (out > 0)


@op("*s -> *s", formula="|{x}|", numpy="np.abs({x})", samples=real(kinks=(0.0,)), kink="abs′(0) = 0, as PyTorch")
def abs(x):
    """Absolute value, y = |x|."""
    if x.dtype.kind == "b":
        raise NotImplementedError("\"abs_cpu\" not implemented for 'Bool'")
    return np.abs(x)


@abs.vjp("x", math="x̄ = ȳ · sign(x)")
def _(g, x):
    return g * sign(x)


@op("*s -> *s", formula="sign({x})", numpy="np.sign({x})", samples=real(kinks=(0.0,)), kink="sign′ = 0 everywhere")
def sign(x):
    """Sign: −1, 0 or 1; 0 for NaN, as PyTorch."""
    return np.subtract(x > 0, x < 0, dtype=x.dtype) if x.dtype.kind != "b" else np.array(x)


@sign.vjp("x", math="x̄ = ȳ · 0")
def _(g):
    return zero(g)


# --- more exponentials, logarithms and powers -----------------------------------------------------------------------


@op("*s -> *s", formula="2^{x}", numpy="np.exp2({x})", promotes="float", samples=real())
def exp2(x):
    """Power of two, y = 2ˣ."""
    return np.exp2(x)


@exp2.vjp("x", math="x̄ = ȳ · y · log(2)")
def _(g, out):
    return g * (out * math.log(2.0))


@op("*s -> *s", formula="(exp({x}) − 1)", numpy="np.expm1({x})", promotes="float", samples=real())
def expm1(x):
    """eˣ − 1, exact near 0."""
    return np.expm1(x)


@expm1.vjp("x", math="x̄ = ȳ · (y + 1)")
def _(g, out):
    return g * (out + 1)


def _logarithm(name, formula, ufunc, base):
    @op("*s -> *s", name=name, formula=formula + "({x})", numpy=f"np.{name}({{x}})", promotes="float",
        samples=real(0.2, 3.0))  # fmt: skip
    def logarithm(x):
        return ufunc(x)

    @logarithm.vjp("x", math=f"x̄ = ȳ / (x · log({base}))")
    def _(g, x):
        return g / (x * math.log(base))

    logarithm.__doc__ = f"Logarithm to base {base}."
    return logarithm


log2 = _logarithm("log2", "log₂", np.log2, 2)
log10 = _logarithm("log10", "log₁₀", np.log10, 10)


@op("*s -> *s", formula="log(1 + {x})", numpy="np.log1p({x})", promotes="float", samples=real(-0.8, 3.0))
def log1p(x):
    """log(1 + x), exact near 0."""
    return np.log1p(x)


@log1p.vjp("x", math="x̄ = ȳ / (x + 1)")
def _(g, x):
    return g / (x + 1)


@op("*s -> *s", formula="1 / √({x})", numpy="(1 / np.sqrt({x}))", promotes="float", samples=real(0.2, 3.0))
def rsqrt(x):
    """Reciprocal square root, y = 1 / √x."""
    return 1 / np.sqrt(x)


@rsqrt.vjp("x", math="x̄ = −ȳ · y^3 / 2")
def _(g, out):
    return -0.5 * g * (out * out * out)


@op("*s -> *s", formula="{x}²", numpy="{x} * {x}", samples=real())
def square(x):
    """Square, y = x²."""
    return x * x if x.dtype.kind != "b" else x.astype(np.int64)


@square.vjp("x", math="x̄ = ȳ · 2 · x")
def _(g, x):
    return g * (2 * x)


@op("*s -> *s", formula="1 / {x}", numpy="(1 / {x})", promotes="float", samples=real(0.3, 3.0))
def reciprocal(x):
    """Reciprocal, y = 1 / x."""
    return 1 / x


@reciprocal.vjp("x", math="x̄ = −ȳ · y²")
def _(g, out):
    return -g * (out * out)


# --- rounding: constant almost everywhere, so the gradient is 0 -----------------------------------------------------


def _rounding(name, ufunc, symbols, doc):
    @op("*s -> *s", name=name, formula=symbols, numpy=f"np.{name}({{x}})", samples=real(kinks=(-1.0, 0.0, 1.0)),
        kink=f"{name}′ = 0 everywhere, as PyTorch")  # fmt: skip
    def rounding(x):
        if x.dtype.kind == "b":
            raise NotImplementedError(f"\"{name}_vml_cpu\" not implemented for 'Bool'")
        return np.array(x) if x.dtype.kind in "iu" else ufunc(x)

    @rounding.vjp("x", math="x̄ = ȳ · 0")
    def _(g):
        return zero(g)

    rounding.__doc__ = doc
    return rounding


floor = _rounding("floor", np.floor, "⌊{x}⌋", "The largest integer that is not above x.")
ceil = _rounding("ceil", np.ceil, "⌈{x}⌉", "The smallest integer that is not below x.")
trunc = _rounding("trunc", np.trunc, "trunc({x})", "The integer part of x.")


@op("*s -> *s", formula="round({x})", numpy="np.round({x}, {decimals})", kink="round′ = 0 everywhere, as PyTorch",
    samples=real(kinks=(-1.5, -0.5, 0.5, 1.5)))  # fmt: skip
def round(x, *, decimals=0):
    """The nearest integer (or multiple of a power of ten); halves go to the even neighbour."""
    if x.dtype.kind == "b":
        raise NotImplementedError("\"round_vml_cpu\" not implemented for 'Bool'")
    return np.array(x) if x.dtype.kind in "iu" else np.round(x, decimals)


@round.vjp("x", math="x̄ = ȳ · 0")
def _(g):
    return zero(g)


@op("*s -> *s", formula="({x} − trunc({x}))", numpy="({x} - np.trunc({x}))", samples=real(kinks=(-1.0, 0.0, 1.0)))
def frac(x):
    """What follows the decimal point, with the sign of x."""
    if x.dtype.kind != "f":
        raise NotImplementedError(f"\"frac_cpu\" not implemented for '{TORCH_NAMES[x.dtype.name]}'")
    return x - np.trunc(x)


@frac.vjp("x", math="x̄ = ȳ")
def _(g):
    return g


@op("*s -> *s", formula="{x} without NaN and ∞", samples=real())
def nan_to_num(x, *, nan=0.0, posinf=None, neginf=None):
    """NaN and ±∞ replaced by numbers (by default 0 and the dtype's largest)."""
    return np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf) if x.dtype.kind == "f" else np.array(x)


@nan_to_num.vjp("x", math="x̄ = ȳ where x is finite")
def _(g, x):
    return g * ((x - x) == 0)
