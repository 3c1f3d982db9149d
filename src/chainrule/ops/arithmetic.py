"""Arithmetic: + − · / and powers, with broadcasting."""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import pairs, real
from .compare import where
from .elementwise import log

# ruff: noqa: ANN001, ANN202


@op("*s, *s -> *s", formula="{x} + {y}", numpy="{x} + {y}", broadcasts=True, promotes="common", samples=pairs())
def add(x, y):
    """Sum, z = x + y."""
    return x + y


@add.vjp("x", "y", math="x̄ = z̄")
def _(g):
    return g


@op("*s, *s -> *s", formula="{x} − {y}", numpy="{x} - {y}", broadcasts=True, promotes="common", samples=pairs())
def sub(x, y):
    """Difference, z = x − y."""
    return x - y


@sub.vjp("x", math="x̄ = z̄")
def _(g):
    return g


@sub.vjp("y", math="ȳ = −z̄")
def _(g):
    return -g


@op("*s, *s -> *s", formula="{x} · {y}", numpy="{x} * {y}", broadcasts=True, promotes="common", samples=pairs())
def mul(x, y):
    """Product, z = x · y."""
    return x * y


@mul.vjp("x", math="x̄ = z̄ · y")
def _(g, y):
    return g * y


@mul.vjp("y", math="ȳ = z̄ · x")
def _(g, x):
    return g * x


@op("*s, *s -> *s", formula="{x} / {y}", numpy="{x} / {y}", broadcasts=True, promotes="float", samples=pairs(y=(0.5, 2.0)))
def div(x, y):
    """Quotient, z = x / y; integers become floating point."""
    return np.true_divide(x, y)


@div.vjp("x", math="x̄ = z̄ / y")
def _(g, y):
    return g / y


@div.vjp("y", math="ȳ = −z̄ · z / y")
def _(g, out, y):
    return -g * out / y


@op("*s -> *s", formula="−{x}", numpy="-{x}", samples=real())
def neg(x):
    """Negation, y = −x."""
    return np.negative(x)


@neg.vjp("x", math="x̄ = −ȳ")
def _(g):
    return -g


@op("*s, *s -> *s", formula="{x}^{y}", numpy="{x} ** {y}", broadcasts=True, promotes="common",
    samples=pairs((0.3, 2.0), (-2.0, 2.0)), kink="0^0 = 1 with derivative 0, as PyTorch")  # fmt: skip
def pow(x, y):
    """Power, z = xʸ."""
    return np.power(x, y)


@pow.vjp("x", math="x̄ = z̄ · y · x^(y − 1)")
def _(g, x, y):
    if isinstance(y, (int, float)):
        return g * 0 if y == 0 else g * (x * 2 if y == 2 else y * x ** (y - 1))
    # At y = 0 the power is constant in x, also at x = 0, where y · x^(y−1) would be 0 · ∞.
    return where(y == 0, g * 0, g * (y * x ** (y - 1)))


@pow.vjp("y", math="ȳ = z̄ · z · log x")
def _(g, out, x, y):
    # At x = 0 with y ≥ 0 the power is constant in y (0 · −∞ otherwise).
    if isinstance(x, (int, float)):
        return where(y >= 0, g * 0, g * out * float("inf")) if x == 0 else g * (out * np.log(x))
    return where((x == 0) & (y >= 0), g * 0, g * (out * log(x)))
