"""Elementary functions as straight-line LLVM code, for one lane or a vector of them.

Each takes a builder and values and gives the value. NaN, ±∞, −0 and denormals come out as NumPy's do; there are no
fast-math flags. In float32 ``exp``, ``tanh`` and ``sigmoid`` are computed in float32 (≤ 2 ulp, tested densely over the
whole range); the others are computed in float64 and rounded. Polynomials are weighted minimax fits (Lawson iteration)
or Taylor sums where those already reach the format's precision. ``sin``, ``cos``, ``pow`` and float64 ``erf`` call the
C library lane by lane.
"""

from __future__ import annotations

import math

from .ir import Builder, Val

__all__ = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf"]

_LOG2E = 1.4426950408889634
# ln 2 in two parts: the first has so few bits that n · hi is exact.
_LN2_F32 = (0.693145751953125, 1.4286068203094172e-06)
_LN2_F64 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)
_MAGIC = {"f32": 12582912.0, "f64": 6755399441055744.0}  # 1.5 · 2^23, 1.5 · 2^52: adding them rounds to an integer
_EXP_F32 = [0.49999993050491387, 0.16666514789120596, 0.041668456833269585, 0.008369419043312738, 0.0013813142357596102]
_TANH_F32 = [-0.3333333019034536, 0.133331805389952, -0.0539433995256886, 0.021681641270072657, -0.00812899705904408,
             0.0020977182345844722]  # fmt: skip
_ERF_SMALL = [1.1283791670942986, -0.37612638884263533, 0.11283791185075266, -0.02686612254270142,
              0.005223738467413387, -0.0008541617314886388, 0.00011943825730356533, -1.382704643593293e-05,
              1.0374423604370274e-06]  # fmt: skip
_ERFC = [5.882372001245195e-05, 0.2808505545773225, 0.29400139293004635, 0.178945989265637, 0.4314927302678503,
         -0.5751631568734797, 1.1703627481022556, -1.4576406417428758, 0.9592258962834205, -0.32975139536263937,
         0.047616545691379644]  # fmt: skip


def _reduce(b: Builder, x: Val) -> tuple[Val, Val]:
    """x = n · ln 2 + r with |r| ≤ ln 2 / 2; n as an integer. Without float-to-int: that is undefined for NaN."""
    k = x.kind
    integer = "i32" if k == "f32" else "i64"
    magic = b.const(k, _MAGIC[k])
    shifted = b.fma(x, b.const(k, _LOG2E), magic)
    n = b.sub(shifted, magic)
    hi, lo = _LN2_F32 if k == "f32" else _LN2_F64
    r = b.fma(n, b.const(k, -hi), x)
    r = b.fma(n, b.const(k, -lo), r)
    n_int = b.sub(b.bitcast(shifted, integer), b.bitcast(magic, integer))
    return n_int, r


def _power_of_two(b: Builder, n: Val, kind: str) -> Val:
    bits, bias = (23, 127) if kind == "f32" else (52, 1023)
    shifted = b.bin("shl", b.add(n, b.const(n.kind, bias)), b.const(n.kind, bits))
    return b.bitcast(shifted, kind)


def _clamp(b: Builder, x: Val, lo: float, hi: float) -> Val:
    """Into [lo, hi]; NaN stays NaN because every comparison with it is false."""
    low, high = b.const(x.kind, lo), b.const(x.kind, hi)
    x = b.select(b.cmp("olt", x, low), low, x)
    return b.select(b.cmp("ogt", x, high), high, x)


def exp(b: Builder, x: Val) -> Val:
    k = x.kind
    lo, hi = (-104.0, 89.0) if k == "f32" else (-746.0, 710.0)
    n, r = _reduce(b, _clamp(b, x, lo, hi))
    c = _EXP_F32 if k == "f32" else [1 / math.factorial(i) for i in range(2, 14)]
    p = b.poly(r, c)
    p = b.fma(b.mul(r, r), p, r)
    p = b.add(p, b.const(k, 1.0))
    # 2^n in two factors, so that results below the normal range round once, and n = 128 is representable.
    half = b.bin("ashr", n, b.const(n.kind, 1))
    rest = b.sub(n, half)
    return b.mul(b.mul(p, _power_of_two(b, half, k)), _power_of_two(b, rest, k))


def expm1(b: Builder, x: Val) -> Val:
    if x.kind == "f32":
        return b.cast(expm1(b, b.cast(x, "f64")), "f32")
    small = b.fma(b.mul(x, x), b.poly(x, [1 / math.factorial(i) for i in range(2, 16)]), x)
    large = b.sub(exp(b, x), b.const("f64", 1.0))
    near = b.cmp("olt", b.call("fabs", "f64", x), b.const("f64", 0.35))
    # At −0 the fma above gives +0.
    zero = b.cmp("oeq", x, b.const("f64", 0.0))
    return b.select(zero, x, b.select(near, small, large))


def log(b: Builder, x: Val) -> Val:
    if x.kind == "f32":
        return b.cast(log(b, b.cast(x, "f64")), "f32")
    tiny = b.cmp("olt", x, b.const("f64", 2.2250738585072014e-308))
    scaled = b.select(tiny, b.mul(x, b.const("f64", 2.0**54)), x)
    i = b.bitcast(scaled, "i64")
    shifted = b.sub(i, b.const("i64", 0x3FE6A09E667F3BCD))  # the bits of √½: the mantissa lands in [√½, √2)
    e = b.bin("ashr", shifted, b.const("i64", 52))
    m = b.bitcast(b.sub(i, b.bin("shl", e, b.const("i64", 52))), "f64")
    n = b.cast(e, "f64")
    n = b.select(tiny, b.sub(n, b.const("f64", 54.0)), n)
    # log(1+f) = f − f²/2 + s(f²/2 + R),  s = f/(2+f), R = Σ 2 s^2k/(2k+1): the large terms are added last.
    f = b.sub(m, b.const("f64", 1.0))
    s = b.div(f, b.add(f, b.const("f64", 2.0)))
    z = b.mul(s, s)
    r = b.mul(z, b.poly(z, [2 / (2 * j + 1) for j in range(1, 12)]))
    half = b.mul(b.mul(f, f), b.const("f64", 0.5))
    low = b.fma(n, b.const("f64", _LN2_F64[1]), b.mul(s, b.add(half, r)))
    y = b.fma(n, b.const("f64", _LN2_F64[0]), b.sub(f, b.sub(half, low)))
    y = b.select(b.cmp("oeq", x, b.const("f64", math.inf)), x, y)
    y = b.select(b.cmp("ult", x, b.const("f64", 0.0)), b.const("f64", math.nan), y)  # NaN as well
    return b.select(b.cmp("oeq", x, b.const("f64", 0.0)), b.const("f64", -math.inf), y)


def log1p(b: Builder, x: Val) -> Val:
    if x.kind == "f32":
        return b.cast(log1p(b, b.cast(x, "f64")), "f32")
    one = b.const("f64", 1.0)
    u = b.add(x, one)
    lost = b.div(b.sub(x, b.sub(u, one)), u)  # what rounding 1 + x lost, to first order
    y = b.add(log(b, u), lost)
    big = b.cmp("ogt", x, b.const("f64", 1e17))
    y = b.select(big, log(b, x), y)
    y = b.select(b.cmp("oeq", x, b.const("f64", -1.0)), b.const("f64", -math.inf), y)
    tiny = b.cmp("olt", b.call("fabs", "f64", x), b.const("f64", 1e-17))
    return b.select(tiny, x, y)


def tanh(b: Builder, x: Val) -> Val:
    k = x.kind
    a = b.call("fabs", k, x)
    one, two = b.const(k, 1.0), b.const(k, 2.0)
    if k == "f32":
        z = b.mul(x, x)
        small = b.fma(b.mul(z, x), b.poly(z, _TANH_F32), x)
        # From 10 on tanh rounds to 1; the clamp keeps exp finite and lets NaN pass.
        e = exp(b, b.mul(b.select(b.cmp("ogt", a, b.const(k, 10.0)), b.const(k, 10.0), a), two))
        large = b.sub(one, b.div(two, b.add(e, one)))
        y = b.select(b.cmp("olt", a, b.const(k, 0.625)), small, large)
    else:
        t = expm1(b, b.mul(b.select(b.cmp("ogt", a, b.const(k, 20.0)), b.const(k, 20.0), a), two))
        y = b.div(t, b.add(t, two))
    return b.call("copysign", k, y, x)


def sigmoid(b: Builder, x: Val) -> Val:
    k = x.kind
    z = exp(b, b.neg(b.call("fabs", k, x)))  # never overflows
    one = b.const(k, 1.0)
    positive = b.cmp("oge", x, b.const(k, 0.0))
    below = b.add(z, one)
    y = b.div(b.select(positive, one, z), below)
    # What rounding 1 + z lost, to first order: 1/(1+z) is y on the right and 1 − y on the left.
    lost = b.sub(z, b.sub(below, one))
    inverse = b.select(positive, y, b.sub(one, y))
    return b.fma(b.neg(b.mul(y, lost)), inverse, y)


def erf(b: Builder, x: Val) -> Val:
    if x.kind == "f64":
        return b.each("erf", "f64", x)
    w = b.cast(x, "f64")
    a = b.call("fabs", "f64", w)
    a = b.select(b.cmp("ogt", a, b.const("f64", 5.5)), b.const("f64", 5.5), a)
    small = b.mul(w, b.poly(b.mul(w, w), _ERF_SMALL))
    one = b.const("f64", 1.0)
    t = b.div(one, b.fma(a, b.const("f64", 0.5), one))
    tail = b.mul(exp(b, b.neg(b.mul(a, a))), b.poly(t, _ERFC))
    large = b.call("copysign", "f64", b.sub(one, tail), w)
    y = b.select(b.cmp("olt", a, one), small, large)
    return b.cast(y, "f32")
