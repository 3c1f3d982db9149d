"""Exponentials and logarithms as straight-line LLVM code, for one lane or a vector of them.

Each takes a builder and values and gives the value. NaN, ±∞, −0 and denormals come out as NumPy's do; there are no
fast-math flags. Errors are at most 2 ulp, in float32 computed in float32 (tests/compile/test_vecmath.py measures them).
Polynomials are weighted minimax fits (Lawson iteration in 40 digits) or Taylor sums where those already reach the
format's precision. Trigonometry stands in ``vectrig``, error functions and SciPy's in ``vecspecial``.
"""

from __future__ import annotations

import math

from .ir import Builder, Val

__all__ = ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "sinh", "cosh", "power"]

_LOG2E = 1.4426950408889634
# ln 2 in two parts: the first has so few bits that n · hi is exact.
_LN2 = {
    "f32": (0.693145751953125, 1.4286068203094172e-06),
    "f64": (6.93147180369123816490e-01, 1.90821492927058770e-10),
}
_MAGIC = {"f32": 12582912.0, "f64": 6755399441055744.0}  # 1.5 · 2^23, 1.5 · 2^52: adding them rounds to an integer
_EXP_F32 = [0.49999993050491387, 0.16666514789120596, 0.041668456833269585, 0.008369419043312738, 0.0013813142357596102]
# (eʳ − 1 − r) / r² for |r| ≤ ln 2, to 2^−26 of eʳ.
_EXP_WIDE_F32 = [0.500000346376013, 0.16666614148814804, 0.041661268418389893, 0.008336103169907539,
                 0.0014104470054291036, 0.00019611598995543318]  # fmt: skip
_TANH_F32 = [-0.3333333019034536, 0.133331805389952, -0.0539433995256886, 0.021681641270072657, -0.00812899705904408,
             0.0020977182345844722]  # fmt: skip
# (eʳ − 1 − r) / r² for |r| ≤ ln 2 / 2, to 2^−32 and 2^−63 of eʳ − 1.
_EXPM1 = {
    "f32": [0.5000000044218175, 0.16666666372588898, 0.04166636076970565, 0.008333388851451221, 0.0013940635831428251,
            0.00019846169368954963],
    "f64": [0.5, 0.16666666666666669, 0.04166666666666671, 0.008333333333332485, 0.0013888888888863844,
            0.00019841269843625544, 2.480158736341651e-05, 2.7557316216901616e-06, 2.755724220462279e-07,
            2.5053907858062958e-08, 2.092417584035287e-09, 1.565973094613726e-10],
}  # fmt: skip
# (2ʳ − 1) / r for |r| ≤ ½, to 2^−34 and 2^−61 of 2ʳ.
_EXP2 = {
    "f32": [0.6931471807045606, 0.24022651066595194, 0.055504103659114186, 0.009618038128133817, 0.0013333935113840813,
            0.0001546675736946337, 1.5196144113134832e-05],
    "f64": [0.6931471805599453, 0.24022650695910072, 0.05550410866482181, 0.009618129107627686, 0.0013333558146367056,
            0.00015403530394517414, 1.5252733876061502e-05, 1.3215486054814777e-06, 1.0178043814859162e-07,
            7.055129665577229e-09, 4.457683977260343e-10, 2.545620561159133e-11],
}  # fmt: skip
# (log(1 + f) − f + f²/2) / f³ for 1 + f in [√½, √2], to 2^−27 of log(1 + f).
_LOG_F32 = [0.3333333171854679, -0.25000821151415814, 0.20001225743637033, -0.16623352707326147, 0.1420178221532843,
            -0.13160250528897954, 0.12761432379416673, -0.07634136739251024]  # fmt: skip
_SINH_F32 = [0.1666666649754285, 0.00833335005912717, 0.00019836159626813026, 2.816951967923501e-06]
# 1 / log base and log 2 / log base in two parts each; the first part of the second times an exponent is exact.
_BASE = {
    (2, "f32"): (1.4426950216293335, 1.925963033500011e-08, 1.0, 0.0),
    (2, "f64"): (1.4426950408889634, 2.0355273740931033e-17, 1.0, 0.0),
    (10, "f32"): (0.4342944920063019, -1.0103049952192578e-08, 0.301025390625, 4.605039066518657e-06),
    (10, "f64"): (0.4342944819032518, 1.098319650216765e-17, 0.30102999566383914, 1.42050232272661e-13),
}
# (tanh x − x) / x³ in x² for |x| ≤ 0.3, to 2^−67.
_TANH_F64 = [-0.3333333333333333, 0.1333333333333297, -0.05396825396769622, 0.021869488494108715,
             -0.008863233734407129, 0.0035920816347104617, -0.0014550930320729298, 0.0005828404458488366,
             -0.0001999531741078156]  # fmt: skip
_FORMAT = {"f32": ("i32", 23, 127, 0x3F3504F3, 2.0**-126), "f64": ("i64", 52, 1023, 0x3FE6A09E667F3BCD, 2.0**-1022)}
"""Integer kind, mantissa bits, exponent bias, the bits of √½, the smallest normal number."""


def _reduce(b: Builder, x: Val) -> tuple[Val, Val]:
    """x = n · ln 2 + r with |r| ≤ ln 2 / 2; n as an integer. Without float-to-int: that is undefined for NaN."""
    k = x.kind
    n_int, n = nearest(b, x, _LOG2E)
    hi, lo = _LN2[k]
    r = b.fma(n, b.const(k, -hi), x)
    return n_int, b.fma(n, b.const(k, -lo), r)


def nearest(b: Builder, x: Val, scale: float) -> tuple[Val, Val]:
    """The integer nearest to x · scale, as an integer and as a number; |x · scale| must be below 2^22 (2^51)."""
    k = x.kind
    magic = b.const(k, _MAGIC[k])
    shifted = b.fma(x, b.const(k, scale), magic)
    integer = _FORMAT[k][0]
    return b.sub(b.bitcast(shifted, integer), b.bitcast(magic, integer)), b.sub(shifted, magic)


def _power_of_two(b: Builder, n: Val, kind: str) -> Val:
    _, bits, bias, _, _ = _FORMAT[kind]
    shifted = b.bin("shl", b.add(n, b.const(n.kind, bias)), b.const(n.kind, bits))
    return b.bitcast(shifted, kind)


def _scaled(b: Builder, p: Val, n: Val) -> Val:
    """p · 2^n in two factors, so that results below the normal range round once, and n = 128 is representable."""
    half = b.bin("ashr", n, b.const(n.kind, 1))
    return b.mul(b.mul(p, _power_of_two(b, half, p.kind)), _power_of_two(b, b.sub(n, half), p.kind))


def clamp(b: Builder, x: Val, lo: float, hi: float) -> Val:
    """Into [lo, hi]; NaN stays NaN because every comparison with it is false."""
    return at_most(b, b.select(b.cmp("olt", x, b.const(x.kind, lo)), b.const(x.kind, lo), x), hi)


def at_most(b: Builder, x: Val, hi: float) -> Val:
    return b.select(b.cmp("ogt", x, b.const(x.kind, hi)), b.const(x.kind, hi), x)


def _exp_close(b: Builder, x: Val) -> Val:
    """eˣ with |r| ≤ ln 2 / 2: within an ulp, for functions that go on from it."""
    k = x.kind
    lo, hi = (-104.0, 89.0) if k == "f32" else (-746.0, 710.0)
    n, r = _reduce(b, clamp(b, x, lo, hi))
    c = _EXP_F32 if k == "f32" else [1 / math.factorial(i) for i in range(2, 14)]
    p = b.fma(b.mul(r, r), b.poly(r, c), r)
    return _scaled(b, b.add(p, b.const(k, 1.0)), n)


def exp(b: Builder, x: Val) -> Val:
    k = x.kind
    if k == "f64":
        return _exp_close(b, x)
    # x = 2 n · ln 2 + r with |r| ≤ ln 2, and eˣ = (eʳ · 2ⁿ) · 2ⁿ rounds once below the normal range, too. Adding the
    # bias with what rounds makes the exponent bits of 2ⁿ in one shift.
    y = clamp(b, x, -104.0, 89.0)
    magic = b.const(k, _MAGIC[k] + _FORMAT[k][2])
    shifted = b.fma(y, b.const(k, _LOG2E / 2), magic)
    n = b.sub(shifted, magic)
    hi, lo = _LN2[k]
    r = b.fma(n, b.const(k, -2 * lo), b.fma(n, b.const(k, -2 * hi), y))
    p = b.poly(r, [1.0, 1.0, *_EXP_WIDE_F32])
    scale = b.bitcast(b.bin("shl", b.bitcast(shifted, "i32"), b.const("i32", 23)), k)
    # Where the result is zero so is the factor: a product that vanishes by underflow takes many times as long.
    scale = b.select(b.cmp("olt", x, b.const(k, -104.0)), b.const(k, 0.0), scale)
    return b.mul(b.mul(p, scale), scale)


def exp_normal(b: Builder, x: Val) -> Val:
    """eˣ for x between −80 and 80 (−700 and 700): nothing to limit, and 2^n by an addition to the exponent bits.

    At NaN it is just any number: callers take another branch there.
    """
    k = x.kind
    integer, bits = _FORMAT[k][:2]
    magic = b.const(k, _MAGIC[k])
    shifted = b.fma(x, b.const(k, _LOG2E), magic)
    n = b.sub(shifted, magic)
    hi, lo = _LN2[k]
    r = b.fma(n, b.const(k, -lo), b.fma(n, b.const(k, -hi), x))
    c = _EXP_F32 if k == "f32" else [1 / math.factorial(i) for i in range(2, 14)]
    p = b.poly(r, [1.0, 1.0, *c])
    # Shifted so far, of the number that rounded only n's lowest bits are left.
    exponent = b.bin("shl", b.bitcast(shifted, integer), b.const(integer, bits))
    return b.bitcast(b.add(b.bitcast(p, integer), exponent), k)


def exp2(b: Builder, x: Val) -> Val:
    k = x.kind
    lo, hi = (-151.0, 129.0) if k == "f32" else (-1076.0, 1025.0)
    x = clamp(b, x, lo, hi)
    n, whole = nearest(b, x, 1.0)
    r = b.sub(x, whole)  # exact
    return _scaled(b, b.fma(r, b.poly(r, _EXP2[k]), b.const(k, 1.0)), n)


def expm1(b: Builder, x: Val) -> Val:
    k = x.kind
    lo, hi = (-25.0, 89.0) if k == "f32" else (-50.0, 710.0)
    n, r = _reduce(b, clamp(b, x, lo, hi))
    p = b.fma(b.mul(r, r), b.poly(r, _EXPM1[k]), r)
    # 2^n (p + 1) − 1 = 2 (h p + (h − ½)) with h = 2^(n−1), which stays finite up to the largest n.
    h = _power_of_two(b, b.sub(n, b.const(n.kind, 1)), k)
    y = b.fma(h, p, b.sub(h, b.const(k, 0.5)))
    y = b.add(y, y)
    return b.select(b.cmp("oeq", x, b.const(k, 0.0)), x, y)  # −0


def _split(b: Builder, x: Val) -> tuple[Val, Val]:
    """x = m · 2^n with m in [√½, √2): the bits of m, and n as an integer. For positive normal numbers."""
    integer, bits, _, root, _ = _FORMAT[x.kind]
    i = b.bitcast(x, integer)
    n = b.bin("ashr", b.sub(i, b.const(integer, root)), b.const(integer, bits))
    return b.sub(i, b.bin("shl", n, b.const(integer, bits))), n


def _log_parts(b: Builder, f: Val) -> tuple[Val, Val]:
    """log(1 + f) as a large part, f itself, and a small one."""
    k = f.kind
    if k == "f32":
        z = b.mul(f, f)
        return f, b.mul(z, b.fma(f, b.poly(f, _LOG_F32), b.const(k, -0.5)))
    # log(1+f) = f − f²/2 + s(f²/2 + R),  s = f/(2+f), R = Σ 2 s^2k/(2k+1)
    s = b.div(f, b.add(f, b.const(k, 2.0)))
    z = b.mul(s, s)
    r = b.mul(z, b.poly(z, [2 / (2 * j + 1) for j in range(1, 12)]))
    half = b.mul(b.mul(f, f), b.const(k, 0.5))
    return f, b.sub(b.mul(s, b.add(half, r)), half)


def _special_log(b: Builder, y: Val, x: Val, pole: float) -> Val:
    """What a logarithm of x is at ∞, at its pole, below it, and for NaN."""
    k = x.kind
    y = b.select(b.cmp("oeq", x, b.const(k, math.inf)), x, y)
    y = b.select(b.cmp("ult", x, b.const(k, pole)), b.const(k, math.nan), y)  # NaN as well
    return b.select(b.cmp("oeq", x, b.const(k, pole)), b.const(k, -math.inf), y)


def _decompose(b: Builder, x: Val) -> tuple[Val, Val, Val]:
    """f (= m − 1), the parts of log m, and n as a number: x = m · 2^n, denormals scaled up first."""
    k = x.kind
    _, bits, _, _, smallest = _FORMAT[k]
    tiny = b.cmp("olt", x, b.const(k, smallest))
    m, n = _split(b, b.select(tiny, b.mul(x, b.const(k, 2.0 ** (bits + 2))), x))
    n = b.select(tiny, b.sub(n, b.const(n.kind, bits + 2)), n)
    large, small = _log_parts(b, b.sub(b.bitcast(m, k), b.const(k, 1.0)))
    return large, small, b.cast(n, k)


def log(b: Builder, x: Val) -> Val:
    large, small, n = _decompose(b, x)
    hi, lo = _LN2[x.kind]
    y = b.fma(n, b.const(x.kind, hi), b.add(large, b.fma(n, b.const(x.kind, lo), small)))
    return _special_log(b, y, x, 0.0)


def _scaled_log(b: Builder, x: Val, base: int) -> Val:
    """log x / log base = n · log 2 / log base + (large + small) / log base, the second product in two parts."""
    k = x.kind
    large, small, n = _decompose(b, x)
    high, low, per_octave, rest = _BASE[base, k]
    total = b.add(large, small)
    lost = b.add(b.sub(large, total), small)
    y = b.fma(total, b.const(k, low), b.mul(lost, b.const(k, high)))
    y = b.fma(n, b.const(k, rest), y)
    product = b.mul(total, b.const(k, high))
    y = b.add(y, b.fma(total, b.const(k, high), b.neg(product)))
    first = b.mul(n, b.const(k, per_octave))  # exact
    both = b.add(first, product)
    y = b.add(b.add(b.sub(first, both), product), y)  # |first| ≥ |product|, or first is 0
    return _special_log(b, b.add(both, y), x, 0.0)


def log2(b: Builder, x: Val) -> Val:
    return _scaled_log(b, x, 2)


def log10(b: Builder, x: Val) -> Val:
    return _scaled_log(b, x, 10)


def log1p(b: Builder, x: Val) -> Val:
    k = x.kind
    _, bits, bias, _, _ = _FORMAT[k]
    # From 2^64 on 1 is nothing against x, which is brought down so that 2^−n below stays normal.
    huge, down = (64, 2.0**-64) if k == "f32" else (512, 2.0**-512)
    big = b.cmp("ogt", x, b.const(k, 1 / down))
    scaled = b.select(big, b.mul(x, b.const(k, down)), x)
    one = b.select(big, b.const(k, 0.0), b.const(k, 1.0))
    _, n = _split(b, b.add(scaled, one))
    # f = (1 + x) · 2^−n − 1, exact but for the last rounding, although 1 + x was not.
    s = b.bitcast(b.bin("shl", b.sub(b.const(n.kind, bias), n), b.const(n.kind, bits)), k)
    f = b.fma(scaled, s, b.fma(one, s, b.const(k, -1.0)))
    large, small = _log_parts(b, f)
    hi, lo = _LN2[k]
    count = b.cast(b.select(big, b.add(n, b.const(n.kind, huge)), n), k)
    y = b.fma(count, b.const(k, hi), b.add(large, b.fma(count, b.const(k, lo), small)))
    y = _special_log(b, y, x, -1.0)
    return b.select(b.cmp("oeq", x, b.const(k, 0.0)), x, y)  # −0


def tanh(b: Builder, x: Val) -> Val:
    k = x.kind
    a = b.call("fabs", k, x)
    one, two = b.const(k, 1.0), b.const(k, 2.0)
    z = b.mul(x, x)
    # From 10 (20) on tanh rounds to 1; the limit keeps exp finite and lets NaN pass.
    if k == "f32":
        small, until = b.fma(b.mul(z, x), b.poly(z, _TANH_F32), x), 0.625
        e = exp_normal(b, b.mul(at_most(b, a, 10.0), two))
        large = b.sub(one, b.div(two, b.add(e, one)))
    else:
        small, until = b.fma(b.mul(z, x), b.poly(z, _TANH_F64), x), 0.3
        t = expm1(b, b.mul(at_most(b, a, 20.0), two))
        large = b.div(t, b.add(t, two))
    y = b.select(b.cmp("ult", a, b.const(k, until)), small, large)  # NaN is on the small side
    return b.call("copysign", k, y, x)


def sigmoid(b: Builder, x: Val) -> Val:
    k = x.kind
    z = _exp_close(b, b.neg(b.call("fabs", k, x)))  # never overflows
    one = b.const(k, 1.0)
    positive = b.cmp("oge", x, b.const(k, 0.0))
    below = b.add(z, one)
    y = b.div(b.select(positive, one, z), below)
    # What rounding 1 + z lost, to first order: 1/(1+z) is y on the right and 1 − y on the left.
    lost = b.sub(z, b.sub(below, one))
    inverse = b.select(positive, y, b.sub(one, y))
    return b.fma(b.neg(b.mul(y, lost)), inverse, y)


def _halved_exp(b: Builder, a: Val) -> Val:
    """eᵃ / 2 without overflow before sinh and cosh do: e^(a − ln 2), the subtraction compensated."""
    k = a.kind
    lo, hi = (-104.0, 90.0) if k == "f32" else (-746.0, 711.0)
    n, r = _reduce(b, clamp(b, a, lo, hi))
    c = _EXP_F32 if k == "f32" else [1 / math.factorial(i) for i in range(2, 14)]
    p = b.add(b.fma(b.mul(r, r), b.poly(r, c), r), b.const(k, 1.0))
    return _scaled(b, p, b.sub(n, b.const(n.kind, 1)))


def sinh(b: Builder, x: Val) -> Val:
    k = x.kind
    a = b.call("fabs", k, x)
    half = _halved_exp(b, a)
    large = b.sub(half, b.div(b.const(k, 0.25), half))
    z = b.mul(x, x)
    # x³ / 6 + …: below 1 the exponentials would cancel.
    c = _SINH_F32 if k == "f32" else [1 / math.factorial(2 * i + 1) for i in range(1, 10)]
    small = b.fma(b.mul(z, a), b.poly(z, c), a)
    return b.call("copysign", k, b.select(b.cmp("olt", a, b.const(k, 1.0)), small, large), x)


def cosh(b: Builder, x: Val) -> Val:
    half = _halved_exp(b, b.call("fabs", x.kind, x))
    return b.add(half, b.div(b.const(x.kind, 0.25), half))


def power(b: Builder, x: Val, y: Val) -> Val:
    """x^y. float32 through exp(y · log |x|) in float64, which leaves half an ulp; float64 by the C library."""
    if x.kind == "f64":
        return b.each("pow", "f64", x, y)
    one, zero = b.const("f32", 1.0), b.const("f32", 0.0)
    size = log(b, b.cast(b.call("fabs", "f32", x), "f64"))
    t = b.mul(b.cast(y, "f64"), size)
    # |x| = 1 to an infinite power is 1, where 0 · ∞ would be NaN.
    unit = b.bin("and", b.cmp("oeq", size, b.const("f64", 0.0)), b.cmp("ord", y, y))
    z = b.cast(exp(b, b.select(unit, b.const("f64", 0.0), t)), "f32")
    integer = b.cmp("oeq", b.call("trunc", "f32", y), y)
    half = b.mul(y, b.const("f32", 0.5))
    odd = b.bin("and", integer, b.cmp("une", b.call("trunc", "f32", half), half))
    z = b.select(odd, b.call("copysign", "f32", z, x), z)
    bad = b.bin("and", b.cmp("olt", x, zero), b.cmp("one", b.call("trunc", "f32", y), y))
    finite = b.cmp("one", x, b.const("f32", -math.inf))
    z = b.select(b.bin("and", bad, finite), b.const("f32", math.nan), z)
    always = b.bin("or", b.cmp("oeq", x, one), b.cmp("oeq", y, zero))
    return b.select(always, one, z)
