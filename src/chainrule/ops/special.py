"""Special functions. Their values come from SciPy (imported when first used), their gradients from here."""

from __future__ import annotations

import math

import numpy as np

from ..core.op import op
from ..core.samples import calls, pairs, real
from .compare import where
from .elementwise import exp, log, sign

# ruff: noqa: ANN001, ANN202


def _like(y, x):
    """SciPy computes half precision in single, and integers in double."""
    return np.asarray(y).astype(x.dtype, copy=False)


# erf(x) / x as a quotient of polynomials in x² on |x| ≤ 4, where single precision has reached 1: fitted to 2.5e-8.
_ERF_ABOVE = (1.12837914, 0.193540767, 0.0531011642, 3.88315485e-3, 2.84560853e-4, 1.98680584e-6)
_ERF_BELOW = (1.0, 0.504853596, 0.115348211, 0.0152068748, 1.18552369e-3, 3.74201522e-5)


def _erf_single(x):
    """erf in single precision, to 4e-7 relative: NumPy's vector loops take a fifth of SciPy's time."""
    x = np.maximum(np.minimum(x, 4), -4)
    t = x * x
    above, below = t * _ERF_ABOVE[5], t * _ERF_BELOW[5]
    for i in range(4, 0, -1):
        above += _ERF_ABOVE[i]
        above *= t
        below += _ERF_BELOW[i]
        below *= t
    above += _ERF_ABOVE[0]
    above *= x
    below += _ERF_BELOW[0]
    above /= below
    return np.maximum(np.minimum(above, 1), -1)


@op("*s -> *s", formula="erf({x})", promotes="float", samples=real())
def erf(x):
    """Error function, 2/√π · ∫₀ˣ exp(−t²) dt."""
    if x.dtype == np.float32:
        return _erf_single(x)
    from scipy.special import erf as value

    return _like(value(x), x)


@erf.vjp("x", math="x̄ = ȳ · 1.1283791670955126 · exp(−x²)")
def _(g, x):
    return g * (exp(-x * x) * (2 / math.sqrt(math.pi)))


@op("*s -> *s", formula="erfc({x})", promotes="float", samples=real())
def erfc(x):
    """1 − erf(x), exact in the tail."""
    from scipy.special import erfc as value

    return _like(value(x), x)


@erfc.vjp("x", math="x̄ = −ȳ · 1.1283791670955126 · exp(−x²)")
def _(g, x):
    return g * (exp(-x * x) * (-2 / math.sqrt(math.pi)))


@op("*s -> *s", formula="erf⁻¹({x})", promotes="float", samples=real(-0.9, 0.9))
def erfinv(x):
    """The inverse of erf."""
    from scipy.special import erfinv as value

    return _like(value(x), x)


@erfinv.vjp("x", math="x̄ = ȳ · 0.8862269254527579 · exp(y²)")
def _(g, out):
    return g * (exp(out * out) * (math.sqrt(math.pi) / 2))


@op("*s -> *s", formula="erfcx({x})", promotes="float", samples=real())
def erfcx(x):
    """exp(x²) · erfc(x), which does not underflow."""
    from scipy.special import erfcx as value

    return _like(value(x), x)


@erfcx.vjp("x", math="x̄ = ȳ · (2 · x · y − 1.1283791670955126)")
def _(g, out, x):
    return g * (2 * x * out - 2 / math.sqrt(math.pi))


@op("*s -> *s", formula="Φ({x})", promotes="float", samples=real())
def ndtr(x):
    """The standard normal distribution function Φ."""
    from scipy.special import ndtr as value

    return _like(value(x), x)


@ndtr.vjp("x", math="x̄ = ȳ · 0.3989422804014327 · exp(−x² / 2)")
def _(g, x):
    return g * (exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi)))


@op("*s -> *s", formula="Φ⁻¹({x})", promotes="float", samples=real(0.1, 0.9))
def ndtri(x):
    """The inverse of Φ."""
    from scipy.special import ndtri as value

    return _like(value(x), x)


@ndtri.vjp("x", math="x̄ = ȳ · 2.5066282746310002 · exp(y² / 2)")
def _(g, out):
    return g * (exp(out * out * 0.5) * math.sqrt(2 * math.pi))


@op("*s -> *s", formula="log Φ({x})", promotes="float", samples=real())
def log_ndtr(x):
    """log Φ(x), exact in the tail."""
    from scipy.special import log_ndtr as value

    return _like(value(x), x)


@log_ndtr.vjp("x", math="x̄ = ȳ · 0.7978845608028654 / erfcx(−x · 0.7071067811865476)")
def _(g, x):
    return g / erfcx(x * -math.sqrt(0.5)) * math.sqrt(2 / math.pi)


@op("*s -> *s", formula="log |Γ({x})|", promotes="float", samples=real(0.3, 3.0))
def lgamma(x):
    """Logarithm of the absolute value of the gamma function."""
    from scipy.special import gammaln as value

    return _like(np.where(np.isinf(x), np.inf, value(x)), x)


@lgamma.vjp("x", math="x̄ = ȳ · digamma(x)")
def _(g, x):
    return g * digamma(x)


@op("*s -> *s", formula="ψ({x})", promotes="float", samples=real(0.3, 3.0))
def digamma(x):
    """The derivative of log Γ."""
    from scipy.special import psi

    # At 0 the pole has the sign of the zero, at negative integers there is no limit: as PyTorch.
    x64 = np.asarray(x, np.float64)
    y = np.where(x64 == 0, np.copysign(np.inf, -x64), psi(x64))
    return _like(np.where((x64 < 0) & (x64 == np.floor(x64)), np.nan, y), x)


@digamma.vjp("x", math="x̄ = ȳ · polygamma(1, x)")
def _(g, x):
    return g * polygamma(x, n=1)


@op("*s -> *s", formula="ψ⁽{n}⁾({x})", promotes="float", samples=real(0.5, 3.0, params=[{"n": 1}, {"n": 2}]))
def polygamma(x, *, n):
    """The n-th derivative of digamma."""
    from scipy.special import polygamma as value

    return _like(value(n, np.asarray(x, np.float64)), x)


@polygamma.vjp("x", math="x̄ = ȳ · polygamma(n + 1, x)")
def _(g, x, n):
    return g * polygamma(x, n=n + 1)


@op("*s -> *s", formula="I₀({x})", promotes="float", samples=real())
def i0(x):
    """Modified Bessel function of order 0."""
    from scipy.special import i0 as value

    return _like(value(x), x)


@i0.vjp("x", math="x̄ = ȳ · i1(x)")
def _(g, x):
    return g * i1(x)


@op("*s -> *s", formula="exp(−|{x}|) I₀({x})", promotes="float", samples=real(kinks=(0.0,)))
def i0e(x):
    """i0 scaled by exp(−|x|)."""
    from scipy.special import i0e as value

    return _like(value(x), x)


@i0e.vjp("x", math="x̄ = ȳ · (i1e(x) − sign(x) · y)")
def _(g, out, x):
    return g * (i1e(x) - sign(x) * out)


def _over(y, x):
    """y / x with its limit 1/2 at 0: I₁(x)/x."""
    at_zero = x == 0
    return where(at_zero, 0.5, y / where(at_zero, 1.0, x))


@op("*s -> *s", formula="I₁({x})", promotes="float", samples=real(kinks=(0.0,)))
def i1(x):
    """Modified Bessel function of order 1."""
    from scipy.special import i1 as value

    return _like(value(x), x)


@i1.vjp("x", math="x̄ = ȳ · (i0(x) − y / x)")
def _(g, out, x):
    return g * (i0(x) - _over(out, x))


@op("*s -> *s", formula="exp(−|{x}|) I₁({x})", promotes="float", samples=real(kinks=(0.0,)))
def i1e(x):
    """i1 scaled by exp(−|x|)."""
    from scipy.special import i1e as value

    return _like(value(x), x)


@i1e.vjp("x", math="x̄ = ȳ · (i0e(x) − y · sign(x) − y / x)")
def _(g, out, x):
    return g * (i0e(x) - out * sign(x) - _over(out, x))


@op("*s -> *s", formula="−{x} log {x}", promotes="float", samples=real(0.2, 3.0), kink="entr′(0) = ∞, as PyTorch")
def entr(x):
    """Entropy term −x log x; 0 at 0 and −∞ below."""
    from scipy.special import entr as value

    return _like(value(x), x)


@entr.vjp("x", math="x̄ = −ȳ · (log x + 1)")
def _(g, x):
    return g * (-log(x) - 1)


# --- of two arrays --------------------------------------------------------------------------------------------------


@op("*s, *s -> *s", formula="{x} log {y}", broadcasts=True, promotes="float", samples=pairs(y=(0.3, 2.0)))
def xlogy(x, y):
    """x · log y, 0 where x is 0 (unless y is NaN)."""
    value = x * (np.log(y) if isinstance(y, np.ndarray) else float(np.log(y)))
    return np.where((np.asarray(x) == 0) & (np.asarray(y) == np.asarray(y)), np.zeros_like(value), value)


@xlogy.vjp("x", math="x̄ = z̄ · log y")
def _(g, x, y):
    if isinstance(y, (int, float)):
        return where(x == 0, g * 0, g * float(np.log(y))) if y <= 0 else g * math.log(y)
    off = (x == 0) & (y <= 0)
    return g * where(off, 0.0, log(where(off, 1.0, y)))


@xlogy.vjp("y", math="ȳ = z̄ · x / y")
def _(g, x, y):
    return g * x / y


@op("*s, *s -> *s", formula="{x} log(1 + {y})", broadcasts=True, promotes="float", samples=pairs(y=(-0.5, 2.0)))
def xlog1py(x, y):
    """x · log(1 + y), 0 where x is 0 (unless y is NaN)."""
    value = x * (np.log1p(y) if isinstance(y, np.ndarray) else float(np.log1p(y)))
    return np.where((np.asarray(x) == 0) & (np.asarray(y) == np.asarray(y)), np.zeros_like(value), value)


@xlog1py.vjp("x", math="x̄ = z̄ · log1p(y)")
def _(g, x, y):
    from .elementwise import log1p

    if isinstance(y, (int, float)):
        return where(x == 0, g * 0, g * float(np.log1p(y))) if y <= -1 else g * math.log1p(y)
    off = (x == 0) & (y <= -1)
    return g * where(off, 0.0, log1p(where(off, 0.0, y)))


@xlog1py.vjp("y", math="ȳ = z̄ · x / (y + 1)")
def _(g, x, y):
    return g * x / (y + 1)


def _incomplete(name, formula, sign_of):
    @op("*s, *s -> *s", name=name, formula=formula, broadcasts=True, promotes="float",
        samples=calls(lambda r: [(2.0, r.uniform(0.5, 3, 3)), (1.5, r.uniform(0.5, 3, (2, 3)))]))  # fmt: skip
    def gamma(a, x):
        from scipy import special

        y = getattr(special, name)(a, x)
        return np.asarray(y).astype(np.result_type(a, x), copy=False)

    @gamma.vjp("x", math="x̄ = z̄ · " + ("" if sign_of > 0 else "−") + "exp((a − 1) log x − x − lgamma(a))")
    def _(g, a, x):
        constant = math.lgamma(a) if isinstance(a, (int, float)) else lgamma(a)
        return g * exp((a - 1) * log(x) - x - constant) * sign_of

    gamma.__doc__ = "Regularised incomplete gamma function; no gradient with respect to a, as PyTorch."
    return gamma


gammainc = _incomplete("gammainc", "P({a}, {x})", 1.0)
gammaincc = _incomplete("gammaincc", "Q({a}, {x})", -1.0)


@op("*s, *s -> *s", formula="ζ({x}, {q})", broadcasts=True, promotes="float", samples=pairs((1.5, 3.0), (0.5, 2.0)))
def zeta(x, q):
    """Hurwitz zeta function; no gradient with respect to x, as PyTorch."""
    from scipy.special import zeta as value

    return np.asarray(value(x, q)).astype(np.result_type(x, q), copy=False)


@zeta.vjp("q", math="q̄ = −z̄ · x · ζ(x + 1, q)")
def _(g, x, q):
    return g * (-x * zeta(x + 1, q))


__all__ = [
    "erf", "erfc", "erfinv", "erfcx", "ndtr", "ndtri", "log_ndtr", "lgamma", "digamma", "polygamma", "i0", "i0e", "i1",
    "i1e", "entr", "xlogy", "xlog1py", "gammainc", "gammaincc", "zeta",
]  # fmt: skip
