"""Trigonometric and hyperbolic functions and their inverses."""

from __future__ import annotations

import math

import numpy as np

from ..core.op import op
from ..core.samples import real
from .elementwise import rsqrt, tanh

# ruff: noqa: ANN001, ANN202

__all__ = [
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sinc", "deg2rad",
    "rad2deg",
]  # fmt: skip


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


@op("*s -> *s", formula="tan({x})", numpy="np.tan({x})", promotes="float", samples=real(-1.2, 1.2))
def tan(x):
    """Tangent."""
    return np.tan(x)


@tan.vjp("x", math="x̄ = ȳ · (1 + y²)")
def _(g, out):
    return g * (1 + out * out)


@op("*s -> *s", formula="asin({x})", numpy="np.arcsin({x})", promotes="float", samples=real(-0.9, 0.9))
def asin(x):
    """Inverse sine."""
    return np.arcsin(x)


@asin.vjp("x", math="x̄ = ȳ / √(1 − x²)")
def _(g, x):
    return g * rsqrt(1 - x * x)


@op("*s -> *s", formula="acos({x})", numpy="np.arccos({x})", promotes="float", samples=real(-0.9, 0.9))
def acos(x):
    """Inverse cosine."""
    return np.arccos(x)


@acos.vjp("x", math="x̄ = −ȳ / √(1 − x²)")
def _(g, x):
    return -g * rsqrt(1 - x * x)


@op("*s -> *s", formula="atan({x})", numpy="np.arctan({x})", promotes="float", samples=real())
def atan(x):
    """Inverse tangent."""
    return np.arctan(x)


@atan.vjp("x", math="x̄ = ȳ / (1 + x²)")
def _(g, x):
    return g / (1 + x * x)


@op("*s -> *s", formula="sinh({x})", numpy="np.sinh({x})", promotes="float", samples=real())
def sinh(x):
    """Hyperbolic sine."""
    return np.sinh(x)


@sinh.vjp("x", math="x̄ = ȳ · cosh(x)")
def _(g, x):
    return g * cosh(x)


@op("*s -> *s", formula="cosh({x})", numpy="np.cosh({x})", promotes="float", samples=real())
def cosh(x):
    """Hyperbolic cosine."""
    return np.cosh(x)


@cosh.vjp("x", math="x̄ = ȳ · sinh(x)")
def _(g, x):
    return g * sinh(x)


@op("*s -> *s", formula="asinh({x})", numpy="np.arcsinh({x})", promotes="float", samples=real())
def asinh(x):
    """Inverse hyperbolic sine."""
    return np.arcsinh(x)


@asinh.vjp("x", math="x̄ = ȳ / √(x² + 1)")
def _(g, x):
    return g * rsqrt(x * x + 1)


@op("*s -> *s", formula="acosh({x})", numpy="np.arccosh({x})", promotes="float", samples=real(1.2, 3.0))
def acosh(x):
    """Inverse hyperbolic cosine."""
    return np.arccosh(x)


@acosh.vjp("x", math="x̄ = ȳ / √(x² − 1)")
def _(g, x):
    return g * rsqrt(x * x - 1)


@op("*s -> *s", formula="atanh({x})", numpy="np.arctanh({x})", promotes="float", samples=real(-0.9, 0.9))
def atanh(x):
    """Inverse hyperbolic tangent."""
    return np.arctanh(x)


@atanh.vjp("x", math="x̄ = ȳ / (1 − x²)")
def _(g, x):
    return g / (1 - x * x)


@op("*s -> *s", formula="sinc({x})", numpy="np.sinc({x})", promotes="float", samples=real(kinks=(0.0,)))
def sinc(x):
    """sin(πx) / (πx), 1 at 0."""
    t = math.pi * np.where(x == 0, np.asarray(1e-20, x.dtype) if x.dtype.char != "e" else x.dtype.type(1e-4), x)
    return np.sin(t) / t


@sinc.vjp("x", math="x̄ = ȳ · (cos(πx) − y) / x")
def _(g, out, x):
    from .compare import where

    at_zero = x == 0
    safe = where(at_zero, 1.0, x)
    return where(at_zero, 0.0, g * ((cos(x * math.pi) - out) / safe))


@op("*s -> *s", formula="{x} · π / 180", numpy="{x} * (np.pi / 180)", promotes="float", samples=real())
def deg2rad(x):
    """Degrees as radians."""
    return x * (math.pi / 180)


@deg2rad.vjp("x", math="x̄ = ȳ · 3.141592653589793 / 180")
def _(g):
    return g * (math.pi / 180)


@op("*s -> *s", formula="{x} · 180 / π", numpy="{x} * (180 / np.pi)", promotes="float", samples=real())
def rad2deg(x):
    """Radians as degrees."""
    return x * (180 / math.pi)


@rad2deg.vjp("x", math="x̄ = ȳ · 180 / 3.141592653589793")
def _(g):
    return g * (180 / math.pi)
