"""What an elementwise op means, one entry at a time: op name → instructions.

``FORMS[name](b, args, out_kind, params)`` gets the arguments in the kind that ``compute_kind`` chose and gives the
value. An op that is not here is not elementwise, or has no native form and runs its NumPy body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import vecmath
from .ir import Builder, Val

__all__ = ["FORMS", "COMPARE", "SELECT", "supported"]

Form = Callable[[Builder, list[Val], dict[str, Any]], Val]
FORMS: dict[str, Form] = {}
COMPARE = {"gt": "ogt", "ge": "oge", "lt": "olt", "le": "ole", "eq": "oeq", "ne": "une"}
SELECT = {"where": (0,), "masked_fill": (1,)}
"""Ops with bool inputs at the given places, which keep their kind."""
_FLOAT_ONLY = {
    "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "sin", "cos", "tanh", "sigmoid", "erf", "div", "reciprocal",
    "tan", "softplus", "silu",
}  # fmt: skip


def form(name: str) -> Callable[[Form], Form]:
    def keep(f: Form) -> Form:
        FORMS[name] = f
        return f

    return keep


FORMS["add"] = lambda b, a, p: b.bin("or", *a) if a[0].kind == "i1" else b.add(*a)
FORMS["sub"] = lambda b, a, p: b.sub(*a)
FORMS["mul"] = lambda b, a, p: b.bin("and", *a) if a[0].kind == "i1" else b.mul(*a)
FORMS["div"] = lambda b, a, p: b.div(*a)
FORMS["neg"] = lambda b, a, p: b.neg(a[0])
FORMS["clone"] = FORMS["cast"] = FORMS["detach"] = FORMS["copy"] = lambda b, a, p: a[0]
FORMS["square"] = lambda b, a, p: b.mul(a[0], a[0])
FORMS["reciprocal"] = lambda b, a, p: b.div(b.const(a[0].kind, 1.0), a[0])
FORMS["exp"] = lambda b, a, p: vecmath.exp(b, a[0])
FORMS["expm1"] = lambda b, a, p: vecmath.expm1(b, a[0])
FORMS["log"] = lambda b, a, p: vecmath.log(b, a[0])
FORMS["log1p"] = lambda b, a, p: vecmath.log1p(b, a[0])
FORMS["tanh"] = lambda b, a, p: vecmath.tanh(b, a[0])
FORMS["sigmoid"] = lambda b, a, p: vecmath.sigmoid(b, a[0])
FORMS["erf"] = lambda b, a, p: vecmath.erf(b, a[0])
FORMS["sqrt"] = lambda b, a, p: b.call("sqrt", a[0].kind, a[0])
FORMS["rsqrt"] = lambda b, a, p: b.div(b.const(a[0].kind, 1.0), b.call("sqrt", a[0].kind, a[0]))
FORMS["where"] = lambda b, a, p: b.select(*a)
FORMS["logical_not"] = lambda b, a, p: b.bin("xor", a[0], b.const("i1", True))
FORMS["logical_and"] = lambda b, a, p: b.bin("and", *a)
FORMS["logical_or"] = lambda b, a, p: b.bin("or", *a)


@form("abs")
def _abs(b: Builder, a: list[Val], p: dict[str, Any]) -> Val:
    (x,) = a
    if x.kind[0] == "f":
        return b.call("fabs", x.kind, x)
    return b.select(b.cmp("slt", x, b.const(x.kind, 0)), b.neg(x), x)


@form("sign")
def _sign(b: Builder, a: list[Val], p: dict[str, Any]) -> Val:
    (x,) = a
    zero, one = b.const(x.kind, 0), b.const(x.kind, 1)
    more, less = ("ogt", "olt") if x.kind[0] == "f" else ("sgt", "slt")
    # NaN compares false both ways: its sign is 0, as PyTorch's.
    return b.select(b.cmp(more, x, zero), one, b.select(b.cmp(less, x, zero), b.const(x.kind, -1), zero))


def _maximum(b: Builder, a: list[Val], p: dict[str, Any], more: str = "ogt") -> Val:
    x, y = a
    if x.kind[0] != "f":
        return b.select(b.cmp({"ogt": "sgt", "olt": "slt"}[more], x, y), x, y)
    # x if x beats y or x is NaN; y otherwise, which includes NaN in y: as NumPy, NaN wins.
    take = b.bin("or", b.cmp(more, x, y), b.cmp("uno", x, x))
    return b.select(take, x, y)


FORMS["maximum"] = _maximum
FORMS["minimum"] = lambda b, a, p: _maximum(b, a, p, "olt")
FORMS["relu"] = lambda b, a, p: _maximum(b, [a[0], b.const(a[0].kind, 0)], p)


@form("clamp")
def _clamp(b: Builder, a: list[Val], p: dict[str, Any]) -> Val:
    x = a[0]
    for name, more in (("min", "ogt"), ("max", "olt")):
        bound = p.get(name)
        if bound is not None:
            x = _maximum(b, [x, b.const(x.kind, bound)], p, more)
    return x


@form("leaky_relu")
def _leaky(b: Builder, a: list[Val], p: dict[str, Any]) -> Val:
    (x,) = a
    slope = b.const(x.kind, p.get("negative_slope", 0.01))
    return b.select(b.cmp("ogt", x, b.const(x.kind, 0)), x, b.mul(x, slope))


@form("pow")
def _pow(b: Builder, a: list[Val], p: dict[str, Any]) -> Val:
    x, y = a
    return b.each("powf" if x.kind == "f32" else "pow", x.kind, x, y)


def power(b: Builder, x: Val, exponent: float) -> Val | None:
    """x to a constant power where products or a square root are as good as pow."""
    if exponent == 2:
        return b.mul(x, x)
    if exponent == 1:
        return x
    if exponent == 0:
        return b.const(x.kind, 1)
    if exponent == 3:
        return b.mul(b.mul(x, x), x)
    if x.kind[0] == "f":
        if exponent == -1:
            return b.div(b.const(x.kind, 1.0), x)
        if exponent == 0.5:
            return b.call("sqrt", x.kind, x)  # what NumPy's ** does as well
    return None


for _name in ("sin", "cos", "tan"):
    FORMS[_name] = lambda b, a, p, f=_name: b.each(f + ("f" if a[0].kind == "f32" else ""), a[0].kind, a[0])


def compare(b: Builder, name: str, x: Val, y: Val) -> Val:
    predicate = COMPARE[name]
    if x.kind[0] != "f":
        predicate = {"ogt": "sgt", "oge": "sge", "olt": "slt", "ole": "sle", "oeq": "eq", "une": "ne"}[predicate]
        if x.kind in ("u8", "i1"):
            predicate = predicate.replace("s", "u", 1) if predicate[0] == "s" else predicate
    return b.cmp(predicate, x, y)


def supported(name: str, kinds: list[str | None], out_kind: str | None, params: dict[str, Any]) -> bool:
    """Whether an elementwise op on these kinds has a native form."""
    if out_kind is None or None in kinds or (name not in FORMS and name not in COMPARE):
        return False
    if name in _FLOAT_ONLY and out_kind[0] != "f":
        return False
    if name == "pow" and out_kind[0] != "f":
        return False
    if name in ("neg", "sub", "sign", "abs", "relu", "maximum", "minimum", "clamp") and out_kind == "i1":
        return False
    if name in ("maximum", "minimum", "relu", "clamp") and out_kind == "u8":
        return False
    if name == "cast":
        # NumPy's float → small integer conversions wrap; ours saturate.
        source = kinds[0]
        return not (source is not None and source[0] == "f" and out_kind in ("i8", "u8", "i16"))
    return True
