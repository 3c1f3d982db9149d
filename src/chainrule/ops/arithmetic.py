"""Arithmetic: + − · / and powers, with broadcasting."""

from __future__ import annotations

import numpy as np

from ..core.dtypes import TORCH_NAMES
from ..core.op import op
from ..core.samples import calls, pairs, real
from ..errors import DtypeError
from .compare import where
from .elementwise import exp2, log, sigmoid, trunc, zero
from .layout import cast

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
    try:
        return x - y
    except TypeError as error:
        raise DtypeError(
            "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` "
            "operator instead."
        ) from error


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


@op(
    "*s, *s -> *s",
    formula="{x} / {y}",
    numpy="{x} / {y}",
    broadcasts=True,
    promotes="float",
    samples=pairs(y=(0.5, 2.0)),
)
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
    try:
        return -x
    except TypeError as error:
        raise DtypeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use "
            "the `~` or `logical_not()` operator instead."
        ) from error


@neg.vjp("x", math="x̄ = −ȳ")
def _(g):
    return -g


@op("*s, *s -> *s", formula="{x}^{y}", numpy="{x} ** {y}", broadcasts=True, promotes="common",
    samples=pairs((0.3, 2.0), (-2.0, 2.0)), kink="0^0 = 1 with derivative 0, as PyTorch")  # fmt: skip
def pow(x, y):
    """Power, z = xʸ."""
    if isinstance(x, np.ndarray) and x.dtype.kind == "b":
        if y is True:
            return x.copy()
        if not isinstance(y, np.ndarray) or y.dtype.kind == "b":
            raise NotImplementedError("\"pow\" not implemented for 'Bool'")
    try:
        return x**y  # not np.power, which does not notice squares and roots
    except ValueError as error:
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            # PyTorch's integers to negative powers: 1 and −1 stay what they are, others round to 0.
            magnitude = np.where(np.abs(x) == 1, np.where(np.abs(y) % 2 == 1, x, np.ones_like(x)), np.zeros_like(x))
            return np.where(y < 0, magnitude, np.power(x, np.abs(y)))
        raise DtypeError("Integers to negative integer powers are not allowed.") from error


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
        return where(y >= 0, g * 0, g * out * float("inf")) if x == 0 else g * (out * float(np.log(x)))
    return where((x == 0) & (y >= 0), g * 0, g * (out * log(x)))


# --- division that rounds -------------------------------------------------------------------------------------------


def _no_zero(name, x, y):
    """Integers divided by zero raise, floating point gives infinity; bools do not divide."""
    if np.result_type(x, y).kind == "b":
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for 'Bool'")
    if np.asarray(y).dtype.kind in "iub" and not np.all(y):
        raise DtypeError("ZeroDivisionError")


@op("*s, *s -> *s", formula="⌊{x} / {y}⌋", numpy="np.floor_divide({x}, {y})", broadcasts=True, promotes="common",
    samples=pairs(y=(0.5, 2.0)))  # fmt: skip
def floor_divide(x, y):
    """The quotient, rounded down; integers stay integers. Its gradient is 0."""
    if np.result_type(x, y).kind == "f":
        # NumPy's own gives NaN where the divisor is 0.
        return np.where(np.asarray(y) == 0, np.true_divide(x, y), np.floor_divide(x, y))
    _no_zero("div_floor", x, y)
    return np.floor_divide(x, y)


@floor_divide.vjp("x", "y", math="x̄ = z̄ · 0")
def _(g):
    return zero(g)


@op("*s, *s -> *s", formula="trunc({x} / {y})", broadcasts=True, promotes="common", samples=pairs(y=(0.5, 2.0)))
def trunc_divide(x, y):
    """The quotient, rounded towards 0; integers stay integers. Its gradient is 0."""
    if np.result_type(x, y).kind == "f":
        return np.trunc(np.true_divide(x, y))
    _no_zero("div_trunc", x, y)
    quotient = np.floor_divide(x, y)
    return quotient + ((np.remainder(x, y) != 0) & ((np.asarray(x) < 0) != (np.asarray(y) < 0))).astype(quotient.dtype)


@trunc_divide.vjp("x", "y", math="x̄ = z̄ · 0")
def _(g):
    return zero(g)


@op("*s, *s -> *s", formula="{x} mod {y}", numpy="np.remainder({x}, {y})", broadcasts=True, promotes="common",
    samples=pairs((0.1, 0.4), (0.5, 2.0)))  # fmt: skip
def remainder(x, y):
    """What division leaves, with the sign of the divisor (Python's %)."""
    if np.result_type(x, y).kind != "f":
        _no_zero("remainder", x, y)
    return np.remainder(x, y)


@remainder.vjp("x", math="x̄ = z̄")
def _(g):
    return g


@remainder.vjp("y", math="ȳ = −z̄ · ⌊x / y⌋")
def _(g, x, y):
    return -g * floor_divide(x, y)


@op("*s, *s -> *s", formula="fmod({x}, {y})", numpy="np.fmod({x}, {y})", broadcasts=True, promotes="common",
    samples=pairs((0.1, 0.4), (0.5, 2.0)))  # fmt: skip
def fmod(x, y):
    """What division leaves, with the sign of the dividend (C's fmod)."""
    if np.result_type(x, y).kind != "f":
        _no_zero("fmod", x, y)
    return np.fmod(x, y)


@fmod.vjp("x", math="x̄ = z̄")
def _(g):
    return g


@fmod.vjp("y", math="ȳ = −z̄ · trunc(x / y)")
def _(g, x, y):
    return -g * trunc(x / y)


# --- two arguments, one geometry ------------------------------------------------------------------------------------


def _inverse(r):
    """1 / r, and 0 at the origin, where there is no angle: as PyTorch."""
    at_zero = r == 0
    return where(at_zero, 0.0, 1 / where(at_zero, 1.0, r))


def _floats_only(name, x, y):
    d = np.result_type(x, y)
    if d.kind != "f":
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{TORCH_NAMES[d.name]}'")


@op("*s, *s -> *s", formula="atan2({y}, {x})", numpy="np.arctan2({y}, {x})", broadcasts=True, promotes="float",
    samples=pairs((0.3, 2.0), (0.3, 2.0)))  # fmt: skip
def atan2(y, x):
    """The angle of the point (x, y)."""
    return np.arctan2(y, x)


@atan2.vjp("y", math="ȳ = z̄ · x / (x² + y²)")
def _(g, y, x):
    return g * (x * _inverse(x * x + y * y))


@atan2.vjp("x", math="x̄ = −z̄ · y / (x² + y²)")
def _(g, y, x):
    return g * (-y * _inverse(x * x + y * y))


@op("*s, *s -> *s", formula="√({x}² + {y}²)", numpy="np.hypot({x}, {y})", broadcasts=True, promotes="common",
    samples=pairs((0.3, 2.0), (0.3, 2.0)))  # fmt: skip
def hypot(x, y):
    """The length of (x, y)."""
    _floats_only("hypot", x, y)
    return np.hypot(x, y)


@hypot.vjp("x", math="x̄ = z̄ · x / z")
def _(g, out, x):
    return g * (x / out)


@hypot.vjp("y", math="ȳ = z̄ · y / z")
def _(g, out, y):
    return g * (y / out)


@op("*s, *s -> *s", formula="log(exp({x}) + exp({y}))", numpy="np.logaddexp({x}, {y})", broadcasts=True,
    promotes="common", samples=pairs())  # fmt: skip
def logaddexp(x, y):
    """log(eˣ + eʸ) without overflow."""
    _floats_only("logaddexp", x, y)
    return np.logaddexp(x, y)


@logaddexp.vjp("x", math="x̄ = z̄ · σ(x − y)")
def _(g, x, y):
    return g * sigmoid(x - y)


@logaddexp.vjp("y", math="ȳ = z̄ · σ(y − x)")
def _(g, x, y):
    return g * sigmoid(y - x)


@op("*s, *s -> *s", formula="log₂(2^{x} + 2^{y})", numpy="np.logaddexp2({x}, {y})", broadcasts=True,
    promotes="common", samples=pairs())  # fmt: skip
def logaddexp2(x, y):
    """log₂(2ˣ + 2ʸ) without overflow."""
    _floats_only("logaddexp2", x, y)
    return np.logaddexp2(x, y)


@logaddexp2.vjp("x", math="x̄ = z̄ · σ((x − y) · 0.6931471805599453)")
def _(g, x, y):
    return g * sigmoid((x - y) * 0.6931471805599453)


@logaddexp2.vjp("y", math="ȳ = z̄ · σ((y − x) · 0.6931471805599453)")
def _(g, x, y):
    return g * sigmoid((y - x) * 0.6931471805599453)


@op("*s, *s -> *s", formula="|{x}| with the sign of {y}", numpy="np.copysign({x}, {y})", broadcasts=True,
    promotes="float", samples=pairs((0.3, 2.0), (-2.0, -0.3)), kink="copysign′(0) = 0, as PyTorch")  # fmt: skip
def copysign(x, y):
    """The size of x with the sign of y."""
    return np.copysign(x, y)


@copysign.vjp("x", math="x̄ = z̄ · z / x")
def _(g, out, x):
    at_zero = x == 0
    return where(at_zero, 0.0, g * (out / where(at_zero, 1.0, x)))


@copysign.vjp("y", math="ȳ = z̄ · 0")
def _(g):
    return zero(g)


@op("*s, *s -> *s", formula="{x} · 2^{y}", numpy="{x} * np.exp2({y})", broadcasts=True, promotes="float",
    samples=pairs())  # fmt: skip
def ldexp(x, y):
    """x · 2ʸ."""
    return x * np.exp2(y)


@ldexp.vjp("x", math="x̄ = z̄ · 2^y")
def _(g, y):
    return g * 2.0**y


@ldexp.vjp("y", math="ȳ = z̄ · z · log(2)")
def _(g, out):
    return g * (out * 0.6931471805599453)


@op("*s, *s, *s -> *s", formula="{start} + {weight} · ({end} − {start})", broadcasts=True, promotes="common",
    samples=calls(lambda r: [(r.normal(size=(2, 3)), r.normal(size=3), r.random((2, 1))),
                             (r.normal(size=()), r.normal(size=()), r.random(())),
                             (r.normal(size=3), r.normal(size=3), 0.7)]))  # fmt: skip
def lerp(start, end, weight):
    """Linear interpolation from start (weight 0) to end (weight 1)."""
    # Each end is met exactly: computed from the nearer one.
    step = end - start
    return np.where(np.abs(weight) < 0.5, start + weight * step, end - step * (1 - weight))


@lerp.vjp("start", math="ā = z̄ · (1 − weight)")
def _(g, weight):
    return g * (1 - weight)


@lerp.vjp("end", math="b̄ = z̄ · weight")
def _(g, weight):
    return g * weight


@lerp.vjp("weight", math="w̄ = z̄ · (end − start)")
def _(g, start, end):
    return g * (end - start)


@op("*s -> *s, *s", formula="mantissa and exponent of {x}", outputs=2, samples=real(kinks=(0.0,)),
    kink="at powers of 2 the mantissa jumps")  # fmt: skip
def frexp(x):
    """m and k with x = m · 2ᵏ and ½ ≤ |m| < 1."""
    return np.frexp(x)


@frexp.vjp("x", math="x̄ = m̄ / 2ᵏ")
def _(g, out, x_dtype):
    return g[0] / exp2(cast(out[1], dtype=x_dtype))
