"""Comparisons, logic and selection. Comparisons give bool arrays and carry no gradient."""

from __future__ import annotations

import numpy as np

from ..core.dtypes import TORCH_NAMES
from ..core.op import op
from ..core.samples import calls, pairs, real

# ruff: noqa: ANN001, ANN202


def _comparison(name, symbol, python, ufunc):
    @op("*s, *s -> *s", name=name, formula=f"[{{x}} {symbol} {{y}}]", numpy=f"({{x}} {python} {{y}})",
        broadcasts=True, promotes="common", samples=pairs(apart=0.2))  # fmt: skip
    def compare(x, y):
        return ufunc(x, y)

    compare.__doc__ = f"Elementwise x {python} y."
    return compare


gt = _comparison("gt", ">", ">", np.greater)
ge = _comparison("ge", "≥", ">=", np.greater_equal)
lt = _comparison("lt", "<", "<", np.less)
le = _comparison("le", "≤", "<=", np.less_equal)
eq = _comparison("eq", "=", "==", np.equal)
ne = _comparison("ne", "≠", "!=", np.not_equal)


@op("*s, *s, *s -> *s", formula="{x} where {condition} else {y}", numpy="np.where({condition}, {x}, {y})",
    broadcasts=True,
    samples=calls(lambda r: [(r.random(s) > 0.5, r.normal(size=s), r.normal(size=t)) for s, t in
                             (((3,), (3,)), ((2, 3), (3,)), ((), ()), ((0, 2), (2,)))]))  # fmt: skip
def where(condition, x, y):
    """Entries of x where the condition holds, of y elsewhere."""
    return np.where(condition, x, y)


@where.vjp("x", math="x̄ = z̄ where condition else 0")
def _(g, condition):
    # Not g · condition: an infinite or NaN gradient at an entry that was not taken must not leak as 0 · ∞ = NaN.
    return where(condition, g, 0.0)


@where.vjp("y", math="ȳ = 0 where condition else z̄")
def _(g, condition):
    return where(condition, 0.0, g)


# --- the larger and the smaller -------------------------------------------------------------------------------------


def _extreme(name, ufunc, symbol, word, beats):
    """``beats`` is the comparison by which the first argument is chosen."""

    @op("*s, *s -> *s", name=name, formula=f"{word}({{x}}, {{y}})", numpy=f"np.{name}({{x}}, {{y}})", broadcasts=True,
        promotes="common", samples=pairs(apart=0.2), kink="equal entries share the gradient, as PyTorch")  # fmt: skip
    def extreme(x, y):
        return ufunc(x, y)

    # where(), not products with conditions: PyTorch passes nothing to the side that lost, not even 0 · ∞.
    @extreme.vjp("x", math=f"x̄ = z̄ · ([x {symbol} y] + [x = y] / 2)")
    def _(g, x, y):
        return where(x == y, g / 2, where(beats(y, x), 0.0, g))

    @extreme.vjp("y", math=f"ȳ = z̄ · ([y {symbol} x] + [x = y] / 2)")
    def _(g, x, y):
        return where(x == y, g / 2, where(beats(x, y), 0.0, g))

    extreme.__doc__ = f"The {word}imum of each pair of entries; NaN wins."
    return extreme


maximum = _extreme("maximum", np.maximum, ">", "max", gt)
minimum = _extreme("minimum", np.minimum, "<", "min", lt)


def _nan_ignoring(name, ufunc, word, keeps):
    @op(
        "*s, *s -> *s",
        name=name,
        formula=f"{word}({{x}}, {{y}})",
        numpy=f"np.{name}({{x}}, {{y}})",
        broadcasts=True,
        promotes="common",
        samples=pairs(apart=0.2),
        kink="of equal entries the first has the gradient, as PyTorch",
    )
    def extreme(x, y):
        return ufunc(x, y)

    @extreme.vjp("x", math="x̄ = z̄ where x is taken")
    def _(g, x, y):
        return where(keeps(x, y) | (y != y), g, 0.0)

    @extreme.vjp("y", math="ȳ = z̄ where x is not taken")
    def _(g, x, y):
        return where(keeps(x, y) | (y != y), 0.0, g)

    extreme.__doc__ = f"The {word}imum of each pair of entries; a number wins over NaN."
    return extreme


fmax = _nan_ignoring("fmax", np.fmax, "max", ge)
fmin = _nan_ignoring("fmin", np.fmin, "min", le)


@op("*s -> *s", formula="clamp({x})", samples=real(kinks=(-1.0, 1.0), params=[
    {"min": -1.0, "max": 1.0}, {"min": -1.0}, {"max": 1.0}]), kink="clamp′ = 1 at the limits, as PyTorch")  # fmt: skip
def clamp(x, *, min=None, max=None):
    """Entries limited to [min, max]; either may be None. Where min > max the result is max."""
    if min is not None:
        x = np.maximum(x, min)
    return x if max is None else np.minimum(x, max)


@clamp.vjp("x", math="x̄ = ȳ where min ≤ x ≤ max")
def _(g, x, min, max):
    if min is None:
        return where(x <= max, g, 0.0)
    if max is None:
        return where(x >= min, g, 0.0)
    return where((x >= min) & (x <= max), g, 0.0)


def _clamp_calls(r):
    yield r.normal(size=(2, 3)) * 2, np.full(3, -1.0), np.full((2, 1), 0.5)
    yield r.normal(size=()) * 2, np.asarray(-1.0), None
    yield r.normal(size=3) * 2, None, np.asarray(0.3)


@op("*s, *s, *s -> *s", formula="clamp({x}, {low}, {high})", broadcasts=True, promotes="common",
    samples=calls(_clamp_calls), kink="at a limit x has the gradient, as PyTorch")  # fmt: skip
def clamp_between(x, low, high):
    """Entries of x limited by arrays; either limit may be None."""
    if low is not None:
        x = np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


@clamp_between.vjp("x", math="x̄ = z̄ where low ≤ x ≤ high")
def _(g, x, low, high):
    if low is None:
        return where(x <= high, g, 0.0)
    if high is None:
        return where(x >= low, g, 0.0)
    return where((x >= low) & (x <= high), g, 0.0)


@clamp_between.vjp("low", math="l̄ = z̄ where x < low and low < high")
def _(g, x, low, high):
    taken = x < low
    return where(taken if high is None else taken & (low < high), g, 0.0)


@clamp_between.vjp("high", math="h̄ = z̄ where x > high or high < low")
def _(g, x, low, high):
    taken = x > high
    return where(taken if low is None else taken | (high < low), g, 0.0)


@op(
    "*s, *s -> *s",
    formula="{x} with {value} where {mask}",
    broadcasts=False,
    samples=calls(
        lambda r: [
            (r.normal(size=(2, 3)), r.random((2, 3)) > 0.5, r.normal(size=())),
            (r.normal(size=(2, 3)), r.random(3) > 0.5, 0.5),
            (r.normal(size=()), np.asarray(True), 1.0),
        ]
    ),
)
def masked_fill(x, mask, value):
    """x with a value in place of the entries where the mask holds."""
    return np.where(mask, value, x)


@masked_fill.vjp("x", math="x̄ = ȳ where the mask does not hold")
def _(g, mask, x_shape):
    from .layout import sum_to

    g = where(mask, 0.0, g)
    return g if g.shape == x_shape else sum_to(g, shape=x_shape)


@masked_fill.vjp("value", math="v̄ = Σ ȳ where the mask holds")
def _(g, mask):
    from .layout import sum_to

    return sum_to(where(mask, g, 0.0), shape=())


# --- logic and bits: no gradients -----------------------------------------------------------------------------------


def _predicate(name, ufunc, formula, doc):
    @op("*s -> *s", name=name, formula=formula, numpy=f"np.{ufunc.__name__}({{x}})",
        samples=real())  # fmt: skip
    def predicate(x):
        return ufunc(x)

    predicate.__doc__ = doc
    return predicate


isnan = _predicate("isnan", np.isnan, "[{x} is NaN]", "Whether an entry is NaN.")
isinf = _predicate("isinf", np.isinf, "[{x} = ±∞]", "Whether an entry is infinite.")
isfinite = _predicate("isfinite", np.isfinite, "[{x} is finite]", "Whether an entry is neither infinite nor NaN.")
isposinf = _predicate("isposinf", np.isposinf, "[{x} = ∞]", "Whether an entry is positive infinity.")
isneginf = _predicate("isneginf", np.isneginf, "[{x} = −∞]", "Whether an entry is negative infinity.")
signbit = _predicate("signbit", np.signbit, "[{x} < 0 or {x} = −0]", "Whether the sign bit is set.")
logical_not = _predicate("logical_not", np.logical_not, "¬{x}", "Whether an entry is 0.")


@op("*s -> *s", formula="~{x}", samples=calls(lambda r: [(r.integers(0, 9, (2, 3)),), (r.random(3) > 0.5,)]))
def bitwise_not(x):
    """Every bit inverted; on bools the logical not."""
    return np.invert(x)


def _logical(name, ufunc, symbol):
    @op("*s, *s -> *s", name=name, formula=f"({{x}} {symbol} {{y}})", numpy=f"np.{name}({{x}}, {{y}})", broadcasts=True,
        promotes="common", samples=pairs())  # fmt: skip
    def logical(x, y):
        return ufunc(x, y)

    logical.__doc__ = f"Logical {name.removeprefix('logical_')} of entries taken as true where they are not 0."
    return logical


logical_and = _logical("logical_and", np.logical_and, "∧")
logical_or = _logical("logical_or", np.logical_or, "∨")
logical_xor = _logical("logical_xor", np.logical_xor, "⊻")


def _integers_only(name, *arrays):
    for a in arrays:
        if isinstance(a, np.ndarray) and a.dtype.kind not in "iu":
            raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{TORCH_NAMES[a.dtype.name]}'")


def _integer_pairs(r):
    yield r.integers(0, 9, (2, 3)), r.integers(0, 5, 3)
    yield r.integers(0, 9, ()), r.integers(0, 5, 2)


def _bitwise(name, ufunc, symbol, doc):
    @op("*s, *s -> *s", name=name, formula=f"({{x}} {symbol} {{y}})", numpy=f"({{x}} {symbol} {{y}})", broadcasts=True,
        promotes="common", samples=calls(_integer_pairs))  # fmt: skip
    def bitwise(x, y):
        if "shift" in name:
            _integers_only("lshift" if "left" in name else "rshift", x, y)
        return ufunc(x, y)

    bitwise.__doc__ = doc
    return bitwise


bitwise_and = _bitwise("bitwise_and", np.bitwise_and, "&", "Bits set in both.")
bitwise_or = _bitwise("bitwise_or", np.bitwise_or, "|", "Bits set in either.")
bitwise_xor = _bitwise("bitwise_xor", np.bitwise_xor, "^", "Bits set in exactly one.")
bitwise_left_shift = _bitwise("bitwise_left_shift", np.left_shift, "<<", "Bits moved to the left: x · 2ʸ.")
bitwise_right_shift = _bitwise("bitwise_right_shift", np.right_shift, ">>", "Bits moved to the right: ⌊x / 2ʸ⌋.")


@op("*s, *s -> *s", formula="gcd({x}, {y})", broadcasts=True, promotes="common", samples=calls(_integer_pairs))
def gcd(x, y):
    """Greatest common divisor."""
    _integers_only("gcd", x)
    return np.gcd(x, y)


@op("*s, *s -> *s", formula="lcm({x}, {y})", broadcasts=True, promotes="common", samples=calls(_integer_pairs))
def lcm(x, y):
    """Least common multiple."""
    _integers_only("lcm", x)
    return np.lcm(x, y)


@op("*s, *s -> *s", formula="heaviside({x}, {y})", broadcasts=True, samples=pairs())
def heaviside(x, y):
    """0 below 0, 1 above, y at 0."""
    return np.heaviside(x, y) if x.dtype.kind == "f" else np.where(x == 0, y, (x > 0).astype(x.dtype))


@op("*s, *s -> *s", formula="the next number after {x} towards {y}", broadcasts=True, samples=pairs())
def nextafter(x, y):
    """The floating point number next to x in the direction of y."""
    if x.dtype.kind != "f":
        raise NotImplementedError(f"\"nextafter_cpu\" not implemented for '{TORCH_NAMES[x.dtype.name]}'")
    return np.nextafter(x, y)
