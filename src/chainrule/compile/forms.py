"""Elementwise ops built from simpler ones: functions, rounding, division with remainder, activations.

Each follows its op's NumPy body step by step, so that a compiled step rounds as eager mode does (but for the vector
functions, which are within 2 ulp).
"""

from __future__ import annotations

import math
from typing import Any

from . import vecmath, vecspecial, vectrig
from .ir import Builder, Val
from .scalar import FLOAT_ONLY, FORMS, compare, form
from .vecspecial import scipy

__all__: list[str] = []

Params = dict[str, Any]

# --- functions ------------------------------------------------------------------------------------------------------

_OWN = {
    vecmath: ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "sinh", "cosh"),
    vectrig: ("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh"),
    vecspecial: ("erf",),
}
for _module, _names in _OWN.items():
    for _name in _names:
        FORMS[_name] = lambda b, a, p, m=_module, n=_name: getattr(m, n)(b, *a)
        FLOAT_ONLY.add(_name)
for _name in ("erfcx", "erfinv", "ndtr", "ndtri", "log_ndtr", "i0", "i0e", "i1", "i1e", "entr", "gammainc",
              "gammaincc"):  # fmt: skip
    FORMS[_name] = lambda b, a, p, n=_name: scipy(b, n, *a)
    FLOAT_ONLY.add(_name)
FORMS["pow"] = lambda b, a, p: vecmath.power(b, *a)


def real_form(name: str) -> Any:
    """``form`` for an op that is native on floating point only."""
    FLOAT_ONLY.add(name)
    return form(name)


def _c(b: Builder, like: Val, value: float) -> Val:
    return b.const(like.kind, value)


def _below(b: Builder, x: Val, bound: float, value: Val, other: Val) -> Val:
    return b.select(b.cmp("olt", x, _c(b, x, bound)), value, other)


def _is(b: Builder, x: Val, value: float) -> Val:
    return b.cmp("oeq", x, _c(b, x, value))


def _larger(b: Builder, x: Val, y: Val) -> Val:
    return FORMS["maximum"](b, [x, y], {})


def _smaller(b: Builder, x: Val, y: Val) -> Val:
    return FORMS["minimum"](b, [x, y], {})


def _fabs(b: Builder, x: Val) -> Val:
    return b.call("fabs", x.kind, x)


@real_form("erfc")
def _erfc(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    if x.kind == "f32":
        return b.cast(_erfc(b, [b.cast(x, "f64")], p), "f32")
    return b.each("erfc", "f64", x)


@real_form("lgamma")
def _lgamma(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    infinite = _is(b, _fabs(b, x), math.inf)
    return b.select(infinite, _c(b, x, math.inf), scipy(b, "gammaln", x))


@real_form("digamma")
def _digamma(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    w = b.cast(x, "f64")
    zero = _is(b, w, 0.0)
    y = b.select(zero, b.call("copysign", "f64", _c(b, w, math.inf), b.neg(w)), scipy(b, "psi", w))
    pole = b.bin("and", b.cmp("olt", w, _c(b, w, 0.0)), b.cmp("oeq", w, b.call("floor", "f64", w)))
    return b.cast(b.select(pole, _c(b, w, math.nan), y), x.kind)


@real_form("sinc")
def _sinc(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    t = b.mul(b.select(_is(b, x, 0.0), _c(b, x, 1e-20), x), _c(b, x, math.pi))
    return b.div(vectrig.sin(b, t), t)


def _times_log(b: Builder, x: Val, y: Val, log: Val) -> Val:
    """x · log, 0 where x is 0 unless y is NaN."""
    nothing = b.bin("and", _is(b, x, 0.0), b.cmp("ord", y, y))
    return b.select(nothing, _c(b, x, 0.0), b.mul(x, log))


real_form("xlogy")(lambda b, a, p: _times_log(b, a[0], a[1], vecmath.log(b, a[1])))
real_form("xlog1py")(lambda b, a, p: _times_log(b, a[0], a[1], vecmath.log1p(b, a[1])))
real_form("deg2rad")(lambda b, a, p: b.mul(a[0], _c(b, a[0], math.pi / 180)))
real_form("rad2deg")(lambda b, a, p: b.mul(a[0], _c(b, a[0], 180 / math.pi)))
real_form("ldexp")(lambda b, a, p: b.mul(a[0], vecmath.exp2(b, a[1])))
real_form("copysign")(lambda b, a, p: b.call("copysign", a[0].kind, *a))


@real_form("hypot")
def _hypot(b: Builder, a: list[Val], p: Params) -> Val:
    x, y = a
    if x.kind == "f64":
        return b.each("hypot", "f64", x, y)
    p_, q = b.cast(x, "f64"), b.cast(y, "f64")
    r = b.cast(b.call("sqrt", "f64", b.fma(p_, p_, b.mul(q, q))), "f32")
    infinite = b.bin("or", _is(b, _fabs(b, x), math.inf), _is(b, _fabs(b, y), math.inf))
    return b.select(infinite, _c(b, x, math.inf), r)  # also where the other is NaN


def _log_add(b: Builder, x: Val, y: Val, two: bool = False) -> Val:
    """log(eˣ + eʸ) (or to base 2) as NumPy: the larger plus log1p of the exponential of minus the distance."""
    d = b.sub(x, y)
    away = b.neg(_fabs(b, d))
    if two:
        tail = b.mul(vecmath.log1p(b, vecmath.exp2(b, away)), _c(b, x, 1 / math.log(2)))
    else:
        tail = vecmath.log1p(b, vecmath.exp(b, away))
    y_ = b.add(_larger(b, x, y), tail)
    same = b.add(x, _c(b, x, 1.0 if two else math.log(2)))
    return b.select(b.cmp("oeq", x, y), same, y_)  # equal infinities among them


real_form("logaddexp")(lambda b, a, p: _log_add(b, *a))
real_form("logaddexp2")(lambda b, a, p: _log_add(b, *a, two=True))

# --- rounding and division with a remainder -------------------------------------------------------------------------


def _rounding(name: str, intrinsic: str) -> None:
    FORMS[name] = lambda b, a, p: b.call(intrinsic, a[0].kind, a[0]) if a[0].kind[0] == "f" else a[0]


for _name in ("floor", "ceil", "trunc"):
    _rounding(_name, _name)


@form("round")
def _round(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    decimals = p.get("decimals", 0)
    if x.kind[0] != "f":
        return x
    if not decimals:
        return b.call("rint", x.kind, x)
    scale = _c(b, x, 10.0 ** abs(decimals))
    there, back = (b.mul, b.div) if decimals > 0 else (b.div, b.mul)
    return back(b.call("rint", x.kind, there(x, scale)), scale)


@real_form("frac")
def _frac(b: Builder, a: list[Val], p: Params) -> Val:
    return b.sub(a[0], b.call("trunc", a[0].kind, a[0]))


def _fmod(b: Builder, x: Val, y: Val) -> Val:
    return b.each("fmodf" if x.kind == "f32" else "fmod", x.kind, x, y)


def _python_mod(b: Builder, x: Val, y: Val) -> tuple[Val, Val]:
    """NumPy's divmod before its last step: the remainder with the sign of y, and (x − remainder) / y."""
    zero = _c(b, x, 0.0)
    m = _fmod(b, x, y)
    d = b.div(b.sub(x, m), y)
    apart = b.bin("and", b.cmp("one", m, zero), b.bin("xor", b.cmp("olt", y, zero), b.cmp("olt", m, zero)))
    d = b.select(apart, b.sub(d, _c(b, x, 1.0)), d)
    r = b.select(apart, b.add(m, y), m)
    return b.select(_is(b, m, 0.0), b.call("copysign", x.kind, zero, y), r), d


def _integer_division(b: Builder, x: Val, y: Val) -> tuple[Val, Val]:
    """Quotient towards 0 and remainder. x / −1 by negation: the smallest number would trap."""
    if x.kind[0] == "u":
        return b.bin("udiv", x, y), b.bin("urem", x, y)
    minus = b.cmp("eq", y, b.const(x.kind, -1))
    safe = b.select(minus, b.const(x.kind, 1), y)
    zero = b.const(x.kind, 0)
    return b.select(minus, b.neg(x), b.bin("sdiv", x, safe)), b.select(minus, zero, b.bin("srem", x, safe))


def _signs_differ(b: Builder, r: Val, y: Val) -> Val:
    zero = b.const(r.kind, 0)
    if r.kind[0] == "u":
        return b.const("i1", False)
    return b.bin("and", b.cmp("ne", r, zero), b.cmp("slt", b.bin("xor", r, y), zero))


@form("remainder")
def _remainder(b: Builder, a: list[Val], p: Params) -> Val:
    x, y = a
    if x.kind[0] == "f":
        return b.select(_is(b, y, 0.0), _c(b, x, math.nan), _python_mod(b, x, y)[0])
    _, r = _integer_division(b, x, y)
    return b.select(_signs_differ(b, r, y), b.add(r, y), r)


@form("fmod")
def _c_fmod(b: Builder, a: list[Val], p: Params) -> Val:
    return _fmod(b, *a) if a[0].kind[0] == "f" else _integer_division(b, *a)[1]


@form("floor_divide")
def _floor_divide(b: Builder, a: list[Val], p: Params) -> Val:
    x, y = a
    if x.kind[0] != "f":
        q, r = _integer_division(b, x, y)
        return b.select(_signs_differ(b, r, y), b.sub(q, b.const(x.kind, 1)), q)
    k, zero, one = x.kind, _c(b, x, 0.0), _c(b, x, 1.0)
    _, d = _python_mod(b, x, y)
    whole = b.call("floor", k, d)
    whole = b.select(b.cmp("ogt", b.sub(d, whole), _c(b, x, 0.5)), b.add(whole, one), whole)
    quotient = b.div(x, y)
    result = b.select(b.cmp("une", d, zero), whole, b.call("copysign", k, zero, quotient))
    return b.select(_is(b, y, 0.0), quotient, result)


@form("trunc_divide")
def _trunc_divide(b: Builder, a: list[Val], p: Params) -> Val:
    x, y = a
    return b.call("trunc", x.kind, b.div(x, y)) if x.kind[0] == "f" else _integer_division(b, x, y)[0]


REAL_INPUT = {"prelu", "mish", "softsign", "logsigmoid", "hardsigmoid", "hardswish", "tanhshrink", "softshrink",
              "hardshrink", "threshold", "hardtanh"}  # fmt: skip
"""Ops whose bodies do part of their work in an integer input's own dtype: native on floating point inputs."""
DIVISIONS = {"remainder", "fmod", "floor_divide", "trunc_divide"}
"""Ops that raise where an integer divisor is 0: native on integers only with a constant divisor."""


def _shift(opcode: str) -> Any:
    def emit(b: Builder, a: list[Val], p: Params) -> Val:
        x, y = a
        bits = {"8": 8, "6": 16, "2": 32, "4": 64}[x.kind[-1]]
        right = "lshr" if x.kind[0] == "u" else "ashr"
        inside = b.cmp("ult", y, b.const(y.kind, bits))
        safe = b.select(inside, y, b.const(y.kind, 0))
        if opcode == "shl":
            return b.select(inside, b.bin("shl", x, safe), b.const(x.kind, 0))
        over = b.const(x.kind, 0) if right == "lshr" else b.bin("ashr", x, b.const(x.kind, bits - 1))
        return b.select(inside, b.bin(right, x, safe), over)

    return emit


FORMS["bitwise_left_shift"], FORMS["bitwise_right_shift"] = _shift("shl"), _shift("shr")

# --- choosing -------------------------------------------------------------------------------------------------------


def _nan_ignoring(name: str, word: str) -> None:
    def emit(b: Builder, a: list[Val], p: Params) -> Val:
        x, y = a
        take = compare(b, word, x, y)
        if x.kind[0] == "f":
            take = b.bin("or", take, b.cmp("uno", y, y))
        return b.select(take, x, y)

    FORMS[name] = emit


_nan_ignoring("fmax", "ge")
_nan_ignoring("fmin", "le")


@form("heaviside")
def _heaviside(b: Builder, a: list[Val], p: Params) -> Val:
    x, y = a
    zero, one = b.const(x.kind, 0), b.const(x.kind, 1)
    step = b.select(compare(b, "gt", x, zero), one, zero)
    y = b.select(compare(b, "eq", x, zero), y, step)
    return b.select(b.cmp("uno", x, x), x, y) if x.kind[0] == "f" else y


@real_form("lerp")
def _lerp(b: Builder, a: list[Val], p: Params) -> Val:
    start, end, weight = a
    step = b.sub(end, start)
    near = b.add(start, b.mul(weight, step))
    far = b.sub(end, b.mul(step, b.sub(_c(b, weight, 1.0), weight)))
    return _below(b, _fabs(b, weight), 0.5, near, far)


@form("nan_to_num")
def _nan_to_num(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    if x.kind[0] != "f":
        return x
    largest = 3.4028234663852886e38 if x.kind == "f32" else 1.7976931348623157e308
    for special, name, default in ((math.inf, "posinf", largest), (-math.inf, "neginf", -largest)):
        value = p.get(name)
        x = b.select(_is(b, x, special), _c(b, x, default if value is None else value), x)
    return b.select(b.cmp("uno", x, x), _c(b, x, p.get("nan", 0.0)), x)


@form("isnan")
def _isnan(b: Builder, a: list[Val], p: Params) -> Val:
    return b.cmp("uno", a[0], a[0]) if a[0].kind[0] == "f" else b.const("i1", False)


@form("isinf")
def _isinf(b: Builder, a: list[Val], p: Params) -> Val:
    return _is(b, _fabs(b, a[0]), math.inf) if a[0].kind[0] == "f" else b.const("i1", False)


@form("isfinite")
def _isfinite(b: Builder, a: list[Val], p: Params) -> Val:
    return b.cmp("olt", _fabs(b, a[0]), _c(b, a[0], math.inf)) if a[0].kind[0] == "f" else b.const("i1", True)


@form("isposinf")
def _isposinf(b: Builder, a: list[Val], p: Params) -> Val:
    return _is(b, a[0], math.inf) if a[0].kind[0] == "f" else b.const("i1", False)


@form("isneginf")
def _isneginf(b: Builder, a: list[Val], p: Params) -> Val:
    return _is(b, a[0], -math.inf) if a[0].kind[0] == "f" else b.const("i1", False)


@real_form("signbit")
def _signbit(b: Builder, a: list[Val], p: Params) -> Val:
    integer = "i32" if a[0].kind == "f32" else "i64"
    return b.cmp("slt", b.bitcast(a[0], integer), b.const(integer, 0))


@real_form("nextafter")
def _nextafter(b: Builder, a: list[Val], p: Params) -> Val:
    return b.each("nextafterf" if a[0].kind == "f32" else "nextafter", a[0].kind, *a)


# --- activations ----------------------------------------------------------------------------------------------------


@real_form("prelu")
def _prelu(b: Builder, a: list[Val], p: Params) -> Val:
    x, w = a
    return b.select(b.cmp("ogt", x, _c(b, x, 0.0)), x, b.mul(x, w))


@form("hardtanh")
def _hardtanh(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    low, high = (b.const(x.kind, p.get(name, default)) for name, default in (("min_val", -1.0), ("max_val", 1.0)))
    return _smaller(b, _larger(b, x, low), high)


@real_form("mish")
def _mish(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    return b.mul(x, vecmath.tanh(b, _log_add(b, x, _c(b, x, 0.0))))


@real_form("softsign")
def _softsign(b: Builder, a: list[Val], p: Params) -> Val:
    return b.div(a[0], b.add(_fabs(b, a[0]), _c(b, a[0], 1.0)))


@real_form("logsigmoid")
def _logsigmoid(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    tail = vecmath.log1p(b, vecmath.exp(b, b.neg(_fabs(b, x))))
    return b.sub(_smaller(b, x, _c(b, x, 0.0)), tail)


def _hard_gate(b: Builder, x: Val) -> Val:
    return _smaller(b, _larger(b, b.add(x, _c(b, x, 3.0)), _c(b, x, 0.0)), _c(b, x, 6.0))


real_form("hardsigmoid")(lambda b, a, p: b.div(_hard_gate(b, a[0]), _c(b, a[0], 6.0)))
real_form("hardswish")(lambda b, a, p: b.div(b.mul(a[0], _hard_gate(b, a[0])), _c(b, a[0], 6.0)))
real_form("tanhshrink")(lambda b, a, p: b.sub(a[0], vecmath.tanh(b, a[0])))


@real_form("softshrink")
def _softshrink(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    size = _c(b, x, p.get("lambd", 0.5))
    inner = b.mul(x, _c(b, x, 0.0))
    inner = b.select(b.cmp("olt", x, b.neg(size)), b.add(x, size), inner)
    return b.select(b.cmp("ogt", x, size), b.sub(x, size), inner)


@real_form("hardshrink")
def _hardshrink(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    return b.select(b.cmp("ole", _fabs(b, x), _c(b, x, p.get("lambd", 0.5))), _c(b, x, 0.0), x)


@real_form("threshold")
def _threshold(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    return b.select(b.cmp("ole", x, _c(b, x, p["threshold"])), _c(b, x, p["value"]), x)


@real_form("logit")
def _logit(b: Builder, a: list[Val], p: Params) -> Val:
    (x,) = a
    if p.get("eps") is not None:
        x = _smaller(b, _larger(b, x, _c(b, x, p["eps"])), _c(b, x, 1 - p["eps"]))
    return vecmath.log(b, b.div(x, b.sub(_c(b, x, 1.0), x)))


@real_form("bce")
def _bce(b: Builder, a: list[Val], p: Params) -> Val:
    x, target = a
    low = _c(b, x, -100.0)
    first = b.mul(b.neg(target), _larger(b, vecmath.log(b, x), low))
    second = b.mul(b.sub(_c(b, x, 1.0), target), _larger(b, vecmath.log1p(b, b.neg(x)), low))
    return b.sub(first, second)
