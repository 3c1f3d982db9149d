"""Sine, cosine, tangent and their inverses for one lane or a vector of them.

``sin`` and ``cos`` reduce by π/2 in three parts (Cody and Waite), each product exact in a fused multiply-add; where an
argument is so large that this no longer holds, its lane is computed by the C library, out of line. The other
functions go through float64 for float32 values and call the C library lane by lane for float64 ones.
"""

from __future__ import annotations

import math

from . import vecmath
from .ir import Builder, Val

__all__ = ["sin", "cos", "tan", "asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh"]

_HALF_PI = {
    "f32": (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    "f64": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33),
}
_LIMIT = {"f32": 5e4, "f64": 1e9}
# (sin r − r) / r³ and (cos r − 1 + r²/2) / r⁴ in r², |r| ≤ π/4.
_SIN = {
    "f32": [-0.1666666664068629, 0.0083333292921514, -0.0001983930820687178, 2.7180829677085994e-06],
    "f64": [-0.16666666666666666, 0.008333333333333321, -0.0001984126984125397, 2.755731921365088e-06,
            -2.5052104777622897e-08, 1.605835030858092e-10, -7.577922255366547e-13],
}  # fmt: skip
_COS = {
    "f32": [0.04166664561637742, -0.001388731296367719, 2.4432775284544865e-05],
    "f64": [0.041666666666666664, -0.0013888888888888863, 2.4801587301562656e-05, -2.7557319211820626e-07,
            2.0876753614297085e-09, -1.1470212926337648e-11, 4.7346872485196684e-14],
}  # fmt: skip
# (atan z − z) / z³ in z² for z in [0, 1], to 2^−34; (asin z − z) / z³ for z in [0, ½], to 2^−40.
_ATAN = [-0.33333332133200894, 0.19999927216562244, -0.14284166779199817, 0.11094499939090295, -0.08985421414566945,
         0.072593862974201, -0.05451499537647937, 0.0344747085922927, -0.016298581080052606, 0.004925990622853795,
         -0.0006978906716670232]  # fmt: skip
_ASIN = [0.16666666627480073, 0.07500004965186602, 0.044640714183560845, 0.03042641030815464, 0.02186677918944788,
         0.020640928470357468, 0.001993539938765568, 0.03289628683868511]  # fmt: skip


def _kernels(b: Builder, r: Val, z: Val) -> tuple[Val, Val]:
    """sin r and cos r for |r| ≤ π/4; z = r²."""
    k = r.kind
    sine = b.fma(b.mul(z, r), b.poly(z, _SIN[k]), r)
    cosine = b.fma(b.mul(z, z), b.poly(z, _COS[k]), b.fma(z, b.const(k, -0.5), b.const(k, 1.0)))
    return sine, cosine


def _reduced(b: Builder, x: Val) -> tuple[Val, Val]:
    """x = n · π/2 + r, |r| ≤ π/4."""
    n, count = vecmath.nearest(b, x, 2 / math.pi)
    r = x
    for part in _HALF_PI[x.kind]:
        r = b.fma(count, b.const(x.kind, -part), r)
    return n, r


def _wave(b: Builder, x: Val, quarter: int) -> Val:
    k = x.kind
    n, r = _reduced(b, x)
    sine, cosine = _kernels(b, r, b.mul(r, r))
    if quarter:
        n = b.add(n, b.const(n.kind, quarter))
    one, two = b.const(n.kind, 1), b.const(n.kind, 2)
    odd = b.cmp("ne", b.bin("and", n, one), b.const(n.kind, 0))
    y = b.select(odd, cosine, sine)
    y = b.select(b.cmp("ne", b.bin("and", n, two), b.const(n.kind, 0)), b.neg(y), y)
    return b.select(b.cmp("oeq", x, b.const(k, 0.0)), x, y) if not quarter else y  # −0


def _far(b: Builder, x: Val, y: Val, name: str, limit: float) -> Val:
    """y, but in lanes with |x| beyond a limit the C library's value, computed out of line."""
    k = x.kind
    t, full = b.ty(k), f"@{name}.beyond.{b.suffix(k)}"
    mask = b.cmp("ogt", b.call("fabs", k, x), b.const(k, limit))
    if full not in b.module.declared:
        slow, test = Builder(b.module, b.lanes), Builder(b.module, b.lanes)
        result = slow.each(name + ("f" if k == "f32" else ""), k, Val(k, "%x"))
        some = "%far"
        if b.lanes > 1:
            some, reduce = test.name(), f"@llvm.vector.reduce.or.v{b.lanes}i1"
            b.module.declare(reduce, f"declare i1 {reduce}({b.ty('i1')})")
            test.line(f"{some} = call i1 {reduce}({b.ty('i1')} %far)")
        b.module.declare(f"{full}.large", "\n".join(
            [f"define internal {t} {full}.large({t} %x) noinline cold {{", *slow.lines, f"  ret {t} {result.text}", "}"]
        ))  # fmt: skip
        b.module.declare(full, "\n".join([
            f"define internal {t} {full}({t} %x, {t} %y, {b.ty('i1')} %far) alwaysinline {{", *test.lines,
            f"  br i1 {some}, label %slow, label %fast", "slow:", f"  %z = call {t} {full}.large({t} %x)",
            f"  %w = select {b.ty('i1')} %far, {t} %z, {t} %y", f"  ret {t} %w", "fast:", f"  ret {t} %y", "}",
        ]))  # fmt: skip
    return b.put(k, f"call {t} {full}({t} {x.text}, {t} {y.text}, {b.ty('i1')} {mask.text})")


def sin(b: Builder, x: Val) -> Val:
    return _far(b, x, _wave(b, x, 0), "sin", _LIMIT[x.kind])


def cos(b: Builder, x: Val) -> Val:
    return _far(b, x, _wave(b, x, 1), "cos", _LIMIT[x.kind])


def tan(b: Builder, x: Val) -> Val:
    if x.kind == "f64":
        return b.each("tan", "f64", x)
    # In float64 the reduction is exact enough for every float32 below 2^50; above, the C library's.
    w = b.cast(x, "f64")
    n, r = _reduced(b, w)
    sine, cosine = _kernels(b, r, b.mul(r, r))
    odd = b.cmp("ne", b.bin("and", n, b.const("i64", 1)), b.const("i64", 0))
    y = b.cast(b.div(b.select(odd, b.neg(cosine), sine), b.select(odd, sine, cosine)), "f32")
    y = b.select(b.cmp("oeq", x, b.const("f32", 0.0)), x, y)
    return _far(b, x, y, "tan", 2.0**50)


def _atan64(b: Builder, a: Val) -> Val:
    """atan of a ≥ 0 to 2^−34."""
    over = b.cmp("ogt", a, b.const("f64", 1.0))
    z = b.select(over, b.div(b.const("f64", 1.0), a), a)
    w = b.mul(z, z)
    y = b.fma(b.mul(w, z), b.poly(w, _ATAN), z)
    return b.select(over, b.sub(b.const("f64", math.pi / 2), y), y)


def atan(b: Builder, x: Val) -> Val:
    if x.kind == "f64":
        return b.each("atan", "f64", x)
    y = _atan64(b, b.cast(b.call("fabs", "f32", x), "f64"))
    return b.call("copysign", "f32", b.cast(y, "f32"), x)


def atan2(b: Builder, y: Val, x: Val) -> Val:
    if x.kind == "f64":
        return b.each("atan2", "f64", y, x)
    p, q = (b.cast(b.call("fabs", "f32", v), "f64") for v in (y, x))
    zero, inf = b.const("f64", 0.0), b.const("f64", math.inf)
    t = b.div(p, q)
    # 0 / 0 is 0 here, ∞ / ∞ is 1.
    t = b.select(b.cmp("oeq", p, zero), b.select(b.cmp("uno", q, q), q, zero), t)
    t = b.select(b.bin("and", b.cmp("oeq", p, inf), b.cmp("oeq", q, inf)), b.const("f64", 1.0), t)
    angle = _atan64(b, t)
    left = b.cmp("slt", b.bitcast(x, "i32"), b.const("i32", 0))  # −0 is on the left too
    angle = b.select(left, b.sub(b.const("f64", math.pi), angle), angle)
    return b.call("copysign", "f32", b.cast(angle, "f32"), y)


def _asin64(b: Builder, z: Val) -> Val:
    w = b.mul(z, z)
    return b.fma(b.mul(w, z), b.poly(w, _ASIN), z)


def asin(b: Builder, x: Val, inverse_cosine: bool = False) -> Val:
    if x.kind == "f64":
        return b.each("acos" if inverse_cosine else "asin", "f64", x)
    w = b.cast(x, "f64")
    a = b.call("fabs", "f64", w)
    # asin a = π/2 − 2 asin √((1 − a)/2): the argument never exceeds ½.
    far = b.cmp("ogt", a, b.const("f64", 0.5))
    other = b.call("sqrt", "f64", b.mul(b.sub(b.const("f64", 1.0), a), b.const("f64", 0.5)))
    y = _asin64(b, b.select(far, other, a))
    two, right, half_turn = b.const("f64", 2.0), b.const("f64", math.pi / 2), b.const("f64", math.pi)
    if inverse_cosine:
        double = b.mul(two, y)
        left = b.cmp("olt", w, b.const("f64", 0.0))
        outer = b.select(left, b.sub(half_turn, double), double)
        y = b.select(far, outer, b.sub(right, b.call("copysign", "f64", y, w)))
        return b.cast(y, "f32")
    y = b.select(far, b.sub(right, b.mul(two, y)), y)
    return b.call("copysign", "f32", b.cast(y, "f32"), x)


def acos(b: Builder, x: Val) -> Val:
    return asin(b, x, True)


def asinh(b: Builder, x: Val) -> Val:
    if x.kind == "f64":
        return b.each("asinh", "f64", x)
    a = b.cast(b.call("fabs", "f32", x), "f64")
    one = b.const("f64", 1.0)
    square = b.mul(a, a)
    root = b.call("sqrt", "f64", b.add(square, one))
    y = vecmath.log1p(b, b.add(a, b.div(square, b.add(root, one))))
    y = b.select(b.cmp("oeq", a, b.const("f64", math.inf)), a, y)
    return b.call("copysign", "f32", b.cast(y, "f32"), x)


def acosh(b: Builder, x: Val) -> Val:
    if x.kind == "f64":
        return b.each("acosh", "f64", x)
    t = b.sub(b.cast(x, "f64"), b.const("f64", 1.0))
    t = b.select(b.cmp("olt", t, b.const("f64", 0.0)), b.const("f64", math.nan), t)
    return b.cast(vecmath.log1p(b, b.add(t, b.call("sqrt", "f64", b.mul(t, b.add(t, b.const("f64", 2.0)))))), "f32")


def atanh(b: Builder, x: Val) -> Val:
    if x.kind == "f64":
        return b.each("atanh", "f64", x)
    a = b.cast(b.call("fabs", "f32", x), "f64")
    one = b.const("f64", 1.0)
    y = vecmath.log1p(b, b.div(b.add(a, a), b.sub(one, a)))
    return b.call("copysign", "f32", b.cast(b.mul(y, b.const("f64", 0.5)), "f32"), x)
