"""What an elementwise op means, one entry at a time: op name → instructions.

``FORMS[name](b, args, params)`` gets the arguments in the kind that the node computes in and gives the value. What is
made of these (activations, special functions, rounding division) stands in ``forms``. An op that is in neither is not
elementwise, or has no native form and runs its NumPy body.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from .ir import Builder, Val

__all__ = ["FORMS", "COMPARE", "FLOAT_ONLY", "LOGICAL", "PREDICATES", "SELECT", "form", "supported"]

Form = Callable[[Builder, list[Val], dict[str, Any]], Val]
FORMS: dict[str, Form] = {}
COMPARE = {"gt": "ogt", "ge": "oge", "lt": "olt", "le": "ole", "eq": "oeq", "ne": "une"}
SELECT = {"where": (0,), "masked_fill": (1,)}
"""Ops with bool inputs at the given places, which keep their kind."""
PREDICATES = {"isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit", "logical_not"}
"""Ops with a bool result that look at the input as it is."""
LOGICAL = {"logical_and", "logical_or", "logical_xor"}
FLOAT_ONLY: set[str] = {"div", "reciprocal", "sqrt", "rsqrt", "pow"}
"""Ops that are native on floating point only."""
NOT_BOOL = {"neg", "sub", "sign", "abs", "relu", "maximum", "minimum", "fmax", "fmin", "clamp", "square"}


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
FORMS["sqrt"] = lambda b, a, p: b.call("sqrt", a[0].kind, a[0])
FORMS["rsqrt"] = lambda b, a, p: b.div(b.const(a[0].kind, 1.0), b.call("sqrt", a[0].kind, a[0]))
FORMS["where"] = lambda b, a, p: b.select(*a)
FORMS["logical_not"] = lambda b, a, p: b.bin("xor", a[0], b.const("i1", True))
FORMS["logical_and"] = lambda b, a, p: b.bin("and", *a)
FORMS["logical_or"] = lambda b, a, p: b.bin("or", *a)
FORMS["logical_xor"] = lambda b, a, p: b.bin("xor", *a)
FORMS["masked_fill"] = lambda b, a, p: b.select(a[1], a[2], a[0])
FORMS["zero"] = lambda b, a, p: b.const(a[0].kind, 0)
FORMS["bitwise_and"] = lambda b, a, p: b.bin("and", *a)
FORMS["bitwise_or"] = lambda b, a, p: b.bin("or", *a)
FORMS["bitwise_xor"] = lambda b, a, p: b.bin("xor", *a)
FORMS["bitwise_not"] = lambda b, a, p: b.bin("xor", a[0], b.const(a[0].kind, 1 if a[0].kind == "i1" else -1))


@form("abs")
def _abs(b: Builder, a: list[Val], p: dict[str, Any]) -> Val:
    (x,) = a
    if x.kind[0] == "f":
        return b.call("fabs", x.kind, x)
    return x if x.kind[0] == "u" else b.select(b.cmp("slt", x, b.const(x.kind, 0)), b.neg(x), x)


@form("sign")
def _sign(b: Builder, a: list[Val], p: dict[str, Any]) -> Val:
    (x,) = a
    zero, one = b.const(x.kind, 0), b.const(x.kind, 1)
    if x.kind[0] == "u":
        return b.select(b.cmp("ne", x, zero), one, zero)
    more, less = ("ogt", "olt") if x.kind[0] == "f" else ("sgt", "slt")
    # NaN compares false both ways: its sign is 0, as PyTorch's.
    return b.select(b.cmp(more, x, zero), one, b.select(b.cmp(less, x, zero), b.const(x.kind, -1), zero))


def _maximum(b: Builder, a: list[Val], p: dict[str, Any], more: str = "ogt") -> Val:
    x, y = a
    if x.kind[0] != "f":
        return b.select(compare(b, {"ogt": "gt", "olt": "lt"}[more], x, y), x, y)
    if _is_number(y):
        # y where it is at least as large, x otherwise, which includes NaN: a comparison and a blend.
        return b.select(b.cmp({"ogt": "ole", "olt": "oge"}[more], x, y), y, x)
    # The choice is one machine instruction (y where either is NaN). Then NaN in x wins, as in NumPy: a NaN of ones
    # only, so that it is the comparison's own bits that are laid over.
    integer = "i32" if x.kind == "f32" else "i64"
    nan = b.bitcast(b.const(integer, -1), x.kind)
    return b.select(b.cmp("uno", x, x), nan, b.select(b.cmp(more, x, y), x, y))


def _is_number(x: Val) -> bool:
    """Whether x is a literal that is not NaN."""
    if x.text[0] == "%":
        return False
    return not math.isnan(struct.unpack("<d", bytes.fromhex(x.text[x.text.index("0x") + 2 :][:16])[::-1])[0])


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


def power(b: Builder, x: Val, exponent: float) -> Val | None:
    """x to a constant power where products or a square root are as good as pow."""
    size = abs(exponent)
    if exponent == 0:
        return b.const(x.kind, 1)
    if x.kind[0] == "f" and exponent == 0.5:
        return b.call("sqrt", x.kind, x)  # what NumPy's ** does as well
    # Floating point: 2 and 3, where products round less than 2 ulp away; integers wrap around in any order.
    if size != int(size) or (size > 3 and x.kind[0] == "f") or (exponent < 0 and x.kind[0] != "f") or x.kind == "i1":
        return None
    y: Val | None = None
    square, n = x, int(size)
    while n:
        if n & 1:
            y = square if y is None else b.mul(y, square)
        n >>= 1
        if n:
            square = b.mul(square, square)
    assert y is not None
    return y if exponent > 0 else b.div(b.const(x.kind, 1.0), y) if size == 1 else None


def compare(b: Builder, name: str, x: Val, y: Val) -> Val:
    predicate = COMPARE[name]
    if x.kind[0] != "f":
        predicate = {"ogt": "sgt", "oge": "sge", "olt": "slt", "ole": "sle", "oeq": "eq", "une": "ne"}[predicate]
        if x.kind[0] == "u" or x.kind == "i1":
            predicate = predicate.replace("s", "u", 1) if predicate[0] == "s" else predicate
    return b.cmp(predicate, x, y)


def supported(name: str, kinds: list[str | None], out_kind: str | None, params: dict[str, Any]) -> bool:
    """Whether an elementwise op that computes in ``out_kind`` has a native form."""
    if out_kind is None or None in kinds or (name not in FORMS and name not in COMPARE):
        return False
    if out_kind[0] != "f" and name in FLOAT_ONLY:
        return False
    return not (out_kind == "i1" and name in NOT_BOOL)
