"""Error functions as polynomials, and SciPy's special functions called lane by lane from native code.

SciPy offers its scalar functions to compiled code (``scipy.special.cython_special``): the values are those of eager
mode, and no Python runs.
"""

from __future__ import annotations

from . import vecmath
from .ir import LLVM, Builder, Val

__all__ = ["SCIPY", "erf", "scipy"]

# erf(x) / x in x² for |x| ≤ 1, to 2^−30 and 2^−60.
_ERF_SMALL = {
    "f32": [1.1283791657266065, -0.37612625823512863, 0.11283585140434514, -0.026853811593085367,
            0.005188327035593532, -0.0008010187914419499, 7.85384249982665e-05],
    "f64": [1.1283791670955126, -0.3761263890318375, 0.11283791670954882, -0.026866170645074065, 0.005223977624750435,
            -0.00085483269745942, 0.00012055330806547064, -1.4925586345426673e-05, 1.646083640271705e-06,
            -1.6348395775338587e-07, 1.4645955217812618e-08, -1.1316731280401858e-09, 5.85893624847547e-11],
}  # fmt: skip
# log erfc(a) on [0.95, 4.1], to 2^−35 of erf(a).
_LOG_ERFC = [0.0001824654705125749, -1.1295520678664228, -0.6332723579368793, -0.10836161656019208,
             0.025171852115456247, -0.004190873023656485, 0.00043853367220235564, -2.1445904750854987e-05]  # fmt: skip
# (1 + 2a) exp(a²) erfc(a) in t = (a − 2) / (a + 2) on [1, 6], to 2^−62 of erf(a).
_ERFC = [1.2769783815525286, -0.09276382658574837, -0.16603039761523192, 0.16405128003537928, -0.05422000098981208,
         -0.008034015348972056, 0.008722652142134682, 0.0012713467562588561, -0.0014567079918067051,
         -0.0004541816500317399, 0.0002046208248058224, 0.00014347236388864018, -2.4430735621228566e-06,
         1.837609506995498e-05, 0.00010994147066212857, 8.825699909077181e-05]  # fmt: skip

SCIPY = {
    "erfcx": {"f64": "__pyx_fuse_1erfcx"},
    "erfinv": {"f64": "__pyx_fuse_0erfinv", "f32": "__pyx_fuse_1erfinv"},
    "ndtr": {"f64": "__pyx_fuse_1ndtr"},
    "ndtri": {"f64": "ndtri"},
    "log_ndtr": {"f64": "__pyx_fuse_1log_ndtr"},
    "gammaln": {"f64": "gammaln"},
    "psi": {"f64": "__pyx_fuse_1psi"},
    "i0": {"f64": "i0"},
    "i0e": {"f64": "i0e"},
    "i1": {"f64": "i1"},
    "i1e": {"f64": "i1e"},
    "entr": {"f64": "entr"},
    "gammainc": {"f64": "gammainc"},
    "gammaincc": {"f64": "gammaincc"},
}
"""SciPy's functions and their names in ``cython_special``; where float32 has none of its own, it goes through float64
as in SciPy's own loops."""


def erf(b: Builder, x: Val) -> Val:
    k = x.kind
    a = b.call("fabs", k, x)
    one = b.const(k, 1.0)
    # x + x (P − 1): the constant term 1.128… would cost a bit.
    first, *others = _ERF_SMALL[k]
    small = b.fma(x, b.poly(b.mul(x, x), [first - 1, *others]), x)
    if k == "f32":
        tail = vecmath.exp_normal(b, b.poly(vecmath.at_most(b, a, 4.1), _LOG_ERFC))
    else:
        a6, two = vecmath.at_most(b, a, 6.0), b.const(k, 2.0)
        t = b.div(b.sub(a6, two), b.add(a6, two))
        scale = b.fma(two, a6, one)
        tail = b.mul(vecmath.exp_normal(b, b.neg(b.mul(a6, a6))), b.div(b.poly(t, _ERFC), scale))
    large = b.call("copysign", k, b.sub(one, tail), x)
    return b.select(b.cmp("ult", a, one), small, large)  # NaN is on the small side


def scipy(b: Builder, name: str, *args: Val) -> Val:
    """One of SciPy's functions, lane by lane."""
    kind = args[0].kind
    if kind not in SCIPY[name]:
        return b.cast(scipy(b, name, *(b.cast(a, "f64") for a in args)), kind)
    t, symbol = LLVM[kind], f"@scipy.{SCIPY[name][kind]}"
    # The last argument is Cython's own: do not look for an override in Python.
    b.module.declare(symbol, f"declare {t} {symbol}({', '.join(t for _ in args)}, i32)")
    if b.lanes == 1:
        return b.put(kind, f"call {t} {symbol}({', '.join(f'{t} {a.text}' for a in args)}, i32 0)")
    out = Val(kind, "poison")
    for i in range(b.lanes):
        picked = [b.put(kind, f"extractelement {b.ty(kind)} {a.text}, i64 {i}").text for a in args]
        y = b.put(kind, f"call {t} {symbol}({', '.join(f'{t} {p}' for p in picked)}, i32 0)")
        out = b.put(kind, f"insertelement {b.ty(kind)} {out.text}, {t} {y.text}, i64 {i}")
    return out
