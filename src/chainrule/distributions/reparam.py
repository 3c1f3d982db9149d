"""Samples that differentiate with respect to parameters for which no transformation of fixed noise is at hand.

A sample x of a distribution with the cumulative function F(x; α) stays at the same F when α moves, so
dx/dα = −(∂F/∂α) / p(x; α): implicit reparametrisation. SciPy has F, but not its derivative by a parameter; where a
series is short it is summed term by term, elsewhere F is differenced over five points (and 1 − F in the upper half, so
that both tails keep their digits).

Sources: M. Figurnov, S. Mohamed, A. Mnih, "Implicit Reparameterization Gradients", 2018; DLMF 8.7.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

import chainrule as torch

from ..autograd.function import Function, once_differentiable
from ..core.variable import wrap
from .distribution import draw

__all__ = ["dirichlet_grad", "sample_beta", "sample_dirichlet", "sample_gamma", "standard_gamma_grad"]

_TERMS = 200


def _stencil(f: Callable[[Any], Any], a: Any) -> Any:
    """df/da by five points. The step is small beside a and beside √a, the scale on which gamma and beta change."""
    h = 3e-3 * np.minimum(a, np.sqrt(a))
    return (8 * (f(a + h) - f(a - h)) - (f(a + 2 * h) - f(a - 2 * h))) / (12 * h)


def standard_gamma_grad(alpha: Any, x: Any) -> Any:
    """dx/dα of a sample x of the standard gamma distribution, on arrays (in double precision)."""
    a, x = np.broadcast_arrays(np.asarray(alpha, np.float64), np.asarray(x, np.float64))
    out = np.empty(a.shape)
    with np.errstate(all="ignore"):
        near = (x <= a + 1) & (a <= 100)
        out[near] = _gamma_series(a[near], x[near])
        a, x = a[~near], x[~near]
        log_p = special.xlogy(a - 1, x) - x - special.gammaln(a)
        lower = _stencil(lambda a: special.gammainc(a, x), a)
        upper = -_stencil(lambda a: special.gammaincc(a, x), a)
        out[~near] = -np.where(x < a, lower, upper) / np.exp(log_p)
    return out


def _gamma_series(a: Any, x: Any) -> Any:
    """x Σₙ xⁿ Γ(a)/Γ(a+n+1) (ψ(a+n+1) − log x): all terms of one sign for x ≤ a + 1."""
    log_x = np.log(x)
    term, psi = 1 / a, special.digamma(a + 1)
    total = term * (psi - log_x)
    for n in range(1, _TERMS):
        term = term * x / (a + n)
        psi = psi + 1 / (a + n)
        step = term * (psi - log_x)
        total = total + step
        if not np.any(np.abs(step) > 1e-17 * np.abs(total)):
            break
    return x * total


def _beta_grad(x: Any, a: Any, b: Any) -> Any:
    """dx/da of a sample x of Beta(a, b), on arrays."""
    log_p = special.xlogy(a - 1, x) + special.xlog1py(b - 1, -x) - special.betaln(a, b)
    below = _stencil(lambda a: special.betainc(a, b, x), a)
    above = -_stencil(lambda a: special.betaincc(a, b, x), a)
    return -np.where(x < a / (a + b), below, above) / np.exp(log_p)


def dirichlet_grad(x: Any, concentration: Any, total: Any) -> Any:
    """dxᵢ/dαᵢ / (1 − xᵢ): the other entries give way in proportion, so this is all that a gradient needs."""
    x, a, total = (np.asarray(v, np.float64) for v in (x, concentration, total))
    with np.errstate(all="ignore"):
        grad = _beta_grad(x, a, total - a) / (1 - x)
        # At the ends F is 0 or 1 whatever α is: PyTorch's limits there are 0 at x = 0, and 1/(β…) is lost to rounding.
        return np.where((x > 0) & (x < 1), grad, 0.0)


class _Gamma(Function):
    @staticmethod
    def forward(ctx: Any, alpha: Any) -> Any:
        x = draw("standard_gamma", alpha.shape, alpha, alpha.double()).clamp(min=torch.finfo(alpha.dtype).tiny)
        ctx.save_for_backward(alpha, x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Any) -> Any:
        alpha, x = ctx.saved_tensors
        return g * wrap(standard_gamma_grad(alpha._array, x._array).astype(x._array.dtype))


class _Dirichlet(Function):
    @staticmethod
    def forward(ctx: Any, alpha: Any) -> Any:
        gammas = draw("standard_gamma", alpha.shape, alpha.double(), alpha.double())
        x = gammas.clamp(min=torch.finfo(alpha.dtype).tiny)
        x = (x / x.sum(-1, keepdim=True)).to(alpha.dtype)
        ctx.save_for_backward(alpha, x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Any) -> Any:
        alpha, x = ctx.saved_tensors
        total = alpha._array.sum(-1, keepdims=True)
        d = wrap(dirichlet_grad(x._array, alpha._array, total).astype(x._array.dtype))
        return d * (g - (x * g).sum(-1, keepdim=True))


def sample_gamma(concentration: Any) -> Any:
    """One standard gamma number per entry of ``concentration``, which it differentiates by."""
    return _Gamma.apply(concentration)


def sample_dirichlet(concentration: Any) -> Any:
    """One Dirichlet vector per last axis of ``concentration``, which it differentiates by."""
    return _Dirichlet.apply(concentration)


def sample_beta(concentration1: Any, concentration0: Any) -> Any:
    """One beta number per entry."""
    return sample_dirichlet(torch.stack([concentration1, concentration0], -1))[..., 0]
