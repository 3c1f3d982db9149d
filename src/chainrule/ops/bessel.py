"""Bessel and Airy functions and the orthogonal polynomials: SciPy's values; no gradients, as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.op import op
from ..core.samples import calls, real

# ruff: noqa: ANN001, ANN202

__all__ = ["POLYNOMIALS", "UNARY"]


def _no_half(name: str, x: Any) -> None:
    if x.dtype == np.float16:
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for 'Half'")


def _bessel(name: str, formula: Any, scipy_name: Any, low: Any, doc: Any) -> Any:
    @op("*s -> *s", name=name, formula=formula, promotes="float", samples=real(low, 4.0))
    def function(x):
        from scipy import special

        _no_half(name, x)
        if scipy_name == "airy":
            y = special.airy(x)[0]
        elif scipy_name == "spherical_jn":
            y = special.spherical_jn(0, x)
        else:
            y = getattr(special, scipy_name)(x)
        return np.asarray(y).astype(x.dtype, copy=False)

    function.__doc__ = doc
    return function


UNARY = {
    name: _bessel(name, *rest)
    for name, *rest in (
        ("airy_ai", "Ai({x})", "airy", -2.0, "Airy's function Ai."),
        ("bessel_j0", "J₀({x})", "j0", -4.0, "Bessel function of the first kind, order 0."),
        ("bessel_j1", "J₁({x})", "j1", -4.0, "Bessel function of the first kind, order 1."),
        ("bessel_y0", "Y₀({x})", "y0", 0.1, "Bessel function of the second kind, order 0."),
        ("bessel_y1", "Y₁({x})", "y1", 0.1, "Bessel function of the second kind, order 1."),
        ("modified_bessel_i0", "I₀({x})", "i0", -4.0, "Modified Bessel function of the first kind, order 0."),
        ("modified_bessel_i1", "I₁({x})", "i1", -4.0, "Modified Bessel function of the first kind, order 1."),
        ("modified_bessel_k0", "K₀({x})", "k0", 0.1, "Modified Bessel function of the second kind, order 0."),
        ("modified_bessel_k1", "K₁({x})", "k1", 0.1, "Modified Bessel function of the second kind, order 1."),
        ("scaled_modified_bessel_k0", "exp({x}) K₀({x})", "k0e", 0.1, "modified_bessel_k0 times exp(x)."),
        ("scaled_modified_bessel_k1", "exp({x}) K₁({x})", "k1e", 0.1, "modified_bessel_k1 times exp(x)."),
        ("spherical_bessel_j0", "sin({x}) / {x}", "spherical_jn", -4.0, "Spherical Bessel function of order 0."),
    )
}


def _kinds(n: Any, x: Any, special: Any, kind: str) -> Any:
    """The four kinds of Chebyshev's polynomials: T and U are SciPy's, V and W are differences and sums of U's."""
    if kind == "t":
        return special.eval_chebyt(n, x)
    u = special.eval_chebyu(n, x)
    return u if kind == "u" else u + (-1 if kind == "v" else 1) * special.eval_chebyu(n - 1, x)


def _evaluate(name: str, x: Any, n: Any) -> Any:
    from scipy import special

    stem, kind = name.rsplit("_", 1)
    if stem.startswith("shifted"):
        x = 2 * x - 1
    if "chebyshev" in stem:
        return _kinds(n, x, special, kind)
    names = {"h": "eval_hermite", "he": "eval_hermitenorm", "l": "eval_laguerre", "p": "eval_legendre"}
    return getattr(special, names[kind])(n, x)


def _polynomial(name: str, formula: str, doc: str) -> Callable[..., Any]:
    @op("*s, *s -> *s", name=name, formula=formula, broadcasts=True, promotes="float",
        samples=calls(lambda r: [(r.uniform(-0.9, 0.9, (2, 3)), np.arange(3.0)),
                                 (r.uniform(-0.9, 0.9, 3), 4.0)]))  # fmt: skip
    def function(x, n):
        _no_half(name, np.asarray(x if isinstance(x, np.ndarray) else n))
        x64, degree = np.asarray(x, np.float64), np.asarray(n, np.float64).astype(np.int64)
        y = _evaluate(name, x64, np.maximum(degree, 0))
        # SciPy has NaN at infinity, where the leading term decides.
        sign = -1.0 if name.startswith("laguerre") else 1.0
        with np.errstate(invalid="ignore"):
            y = np.where(np.isinf(x64), (sign * x64) ** degree, y)
        y = np.where(degree <= 0, np.where(degree < 0, 0.0, 1.0), y)  # 0 below degree 0, as PyTorch
        return y.astype(np.result_type(x, n), copy=False)

    function.__doc__ = doc
    return function


POLYNOMIALS = {
    name: _polynomial(name, f"{symbol}({{n}}, {{x}})", doc)
    for name, symbol, doc in (
        ("chebyshev_polynomial_t", "T", "Chebyshev's polynomials of the first kind, cos(n arccos x)."),
        ("chebyshev_polynomial_u", "U", "Chebyshev's polynomials of the second kind."),
        ("chebyshev_polynomial_v", "V", "Chebyshev's polynomials of the third kind."),
        ("chebyshev_polynomial_w", "W", "Chebyshev's polynomials of the fourth kind."),
        ("shifted_chebyshev_polynomial_t", "T*", "Chebyshev's polynomials of the first kind at 2x − 1."),
        ("shifted_chebyshev_polynomial_u", "U*", "Chebyshev's polynomials of the second kind at 2x − 1."),
        ("shifted_chebyshev_polynomial_v", "V*", "Chebyshev's polynomials of the third kind at 2x − 1."),
        ("shifted_chebyshev_polynomial_w", "W*", "Chebyshev's polynomials of the fourth kind at 2x − 1."),
        ("hermite_polynomial_h", "H", "Hermite's polynomials, the physicists'."),
        ("hermite_polynomial_he", "He", "Hermite's polynomials, the probabilists'."),
        ("laguerre_polynomial_l", "L", "Laguerre's polynomials."),
        ("legendre_polynomial_p", "P", "Legendre's polynomials."),
    )
}
