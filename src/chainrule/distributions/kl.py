"""Kullback–Leibler divergences with closed forms: KL(p‖q) = E_p[log p(x) − log q(x)].

Within a family the formulas are written out. Between families the divergence is −H(p) − E_p[log q(x)], and E_p[log q]
needs a few moments of p only (E x, Var x, E log x, E e^{−x/β}), so those are written once per p and the densities once
per q.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import chainrule as torch

from .continuous import Cauchy, ContinuousBernoulli, Exponential, Gumbel, Laplace, Normal, Uniform
from .discrete import Bernoulli, Binomial, Categorical, Geometric, OneHotCategorical, Poisson
from .distribution import ExponentialFamily, satisfied
from .gammas import Beta, Dirichlet, Gamma
from .joint import Independent, MultivariateNormal
from .matrices import LowRankMultivariateNormal
from .transformed import HalfNormal, Pareto, TransformedDistribution

__all__ = ["kl_divergence", "register_kl"]

_RULES: dict[tuple[type, type], Callable[[Any, Any], Any]] = {}
_EULER = 0.57721566490153286060


def register_kl(type_p: type, type_q: type) -> Callable[[Callable[[Any, Any], Any]], Callable[[Any, Any], Any]]:
    """Decorator: the divergence of a ``type_p`` from a ``type_q``."""
    for what, kind in (("type_p", type_p), ("type_q", type_q)):
        if not isinstance(kind, type):
            raise TypeError(f"Expected {what} to be a Distribution subclass but got {kind}")

    def keep(rule: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        _RULES[type_p, type_q] = rule
        return rule

    return keep


def kl_divergence(p: Any, q: Any) -> Any:
    """KL(p‖q), one number per batch entry.

    Raises:
        NotImplementedError: for pairs without a registered closed form.

    >>> import chainrule as torch
    >>> from chainrule.distributions import Normal, kl_divergence
    >>> kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0))
    tensor(0.5000)
    """
    fitting = [(a, b) for a in type(p).__mro__ for b in type(q).__mro__ if (a, b) in _RULES]
    if fitting:
        # the most specific pair: the fewest steps up from both classes
        def steps(pair):
            return type(p).__mro__.index(pair[0]) + type(q).__mro__.index(pair[1])

        return _RULES[min(fitting, key=steps)](p, q)
    raise NotImplementedError(
        f"No KL(p || q) is implemented for p type {type(p).__name__} and q type {type(q).__name__}"
    )


# --- within a family -------------------------------------------------------------------------------------------------


@register_kl(Normal, Normal)
def _(p: Any, q: Any) -> Any:
    ratio = (p.scale / q.scale).pow(2)
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale).pow(2) - 1 - ratio.log())


@register_kl(Bernoulli, Bernoulli)
def _(p: Any, q: Any) -> Any:
    softplus = torch.nn.functional.softplus
    one = p.probs * (softplus(-q.logits) - softplus(-p.logits))
    one = torch.where(p.probs == 0, 0.0, torch.where(q.probs == 0, math.inf, one))
    zero = (1 - p.probs) * (softplus(q.logits) - softplus(p.logits))
    return one + torch.where(p.probs == 1, 0.0, torch.where(q.probs == 1, math.inf, zero))


@register_kl(Binomial, Binomial)
def _(p: Any, q: Any) -> Any:
    if not satisfied(lambda a, b: a >= b, p.total_count, q.total_count):
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    kl = p.total_count * (p.probs * (p.logits - q.logits) + torch.log1p(-p.probs) - torch.log1p(-q.probs))
    return torch.where(p.total_count > q.total_count, math.inf, kl)


@register_kl(Geometric, Geometric)
def _(p: Any, q: Any) -> Any:
    return -p.entropy() - torch.log1p(-q.probs) / p.probs - q.logits


@register_kl(Poisson, Poisson)
def _(p: Any, q: Any) -> Any:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Categorical, Categorical)
def _(p: Any, q: Any) -> Any:
    t = p.probs * (p.logits - q.logits)
    t = torch.where(q.probs == 0, torch.full_like(t, math.inf), t)
    return torch.where(p.probs == 0, torch.zeros_like(t), t).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _(p: Any, q: Any) -> Any:
    return kl_divergence(p._categorical, q._categorical)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _(p: Any, q: Any) -> Any:
    own = p._log_constant() + torch.log1p(-p.probs)
    return p.mean * (p.logits - q.logits) + own - q._log_constant() - torch.log1p(-q.probs)


@register_kl(Uniform, Uniform)
def _(p: Any, q: Any) -> Any:
    result = ((q.high - q.low) / (p.high - p.low)).log()
    return torch.where((q.low > p.low) | (q.high < p.high), torch.full_like(result, math.inf), result)


@register_kl(Exponential, Exponential)
def _(p: Any, q: Any) -> Any:
    ratio = q.rate / p.rate
    return ratio - ratio.log() - 1


@register_kl(Laplace, Laplace)
def _(p: Any, q: Any) -> Any:
    distance = (p.loc - q.loc).abs()
    return (q.scale / p.scale).log() + distance / q.scale + p.scale / q.scale * torch.exp(-distance / p.scale) - 1


@register_kl(Cauchy, Cauchy)
def _(p: Any, q: Any) -> Any:
    # F. Chyzak, F. Nielsen, "A closed-form formula for the Kullback-Leibler divergence between Cauchy distributions"
    return ((p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)).log() - (4 * p.scale * q.scale).log()


@register_kl(Gumbel, Gumbel)
def _(p: Any, q: Any) -> Any:
    ratio, shift = p.scale / q.scale, (p.loc - q.loc) / q.scale
    return -ratio.log() + shift + ratio * _EULER + torch.exp(torch.lgamma(1 + ratio) - shift) - (1 + _EULER)


@register_kl(Gamma, Gamma)
def _(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    return (
        b * (p.rate / q.rate).log() + torch.lgamma(b) - torch.lgamma(a) + (a - b) * torch.digamma(a)
        + (q.rate - p.rate) * (a / p.rate)
    )  # fmt: skip


@register_kl(Dirichlet, Dirichlet)
def _(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    a0 = a.sum(-1)
    t = torch.lgamma(a0) - torch.lgamma(b.sum(-1)) - (torch.lgamma(a) - torch.lgamma(b)).sum(-1)
    return t + ((a - b) * (torch.digamma(a) - torch.digamma(a0).unsqueeze(-1))).sum(-1)


@register_kl(Beta, Beta)
def _(p: Any, q: Any) -> Any:
    return kl_divergence(p._dirichlet, q._dirichlet)


@register_kl(Pareto, Pareto)
def _(p: Any, q: Any) -> Any:
    ratio = q.alpha / p.alpha
    result = q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1
    return torch.where(p.scale < q.scale, math.inf, result)


@register_kl(HalfNormal, HalfNormal)
def _(p: Any, q: Any) -> Any:
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(TransformedDistribution, TransformedDistribution)
def _(p: Any, q: Any) -> Any:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Independent, Independent)
def _(p: Any, q: Any) -> Any:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError
    return p._add(kl_divergence(p.base_dist, q.base_dist))


@register_kl(ExponentialFamily, ExponentialFamily)
def _(p: Any, q: Any) -> Any:
    """F(θq) − F(θp) − ⟨∇F(θp), θq − θp⟩, for two of the same family."""
    if type(p) is not type(q):
        raise NotImplementedError(
            "The cross KL-divergence between different exponential families cannot be computed using Bregman "
            "divergences"
        )
    own = [t.detach().requires_grad_() for t in p._natural_params]
    other = q._natural_params
    value = p._log_normalizer(*own)
    gradients = torch.autograd.grad(value.sum(), own, create_graph=True)
    result = q._log_normalizer(*other) - value
    for a, b, g in zip(own, other, gradients):
        term = (b - a) * g
        extra = tuple(range(len(q.batch_shape), term.dim()))
        result = result - (term.sum(extra) if extra else term)
    return result


def _whitened(q: Any, matrix: Any) -> Any:
    lower = q.scale_tril
    shape = torch.broadcast_shapes(tuple(lower.shape[:-2]), tuple(matrix.shape[:-2]))
    return torch.linalg.solve_triangular(
        lower.expand((*shape, *lower.shape[-2:])), matrix.expand((*shape, *matrix.shape[-2:])), upper=False
    )


@register_kl(MultivariateNormal, MultivariateNormal)
def _(p: Any, q: Any) -> Any:
    if p.event_shape != q.event_shape:
        raise ValueError(
            "KL-divergence between two Multivariate Normals with different event shapes cannot be computed"
        )
    inside, z = _whitened(q, p.scale_tril), _whitened(q, (q.loc - p.loc).unsqueeze(-1))
    spread = inside.pow(2).sum((-2, -1)) + z.pow(2).sum((-2, -1)) - p.event_shape[0]
    return q._half_log_det() - p._half_log_det() + 0.5 * spread


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _(p: Any, q: Any) -> Any:
    if p.event_shape != q.event_shape:
        raise ValueError(
            "KL-divergence between two (Low Rank) Multivariate Normals with different event shapes cannot be computed"
        )
    factor, diagonal = _whitened(q, p.cov_factor), _whitened(q, torch.diag_embed(p.cov_diag.sqrt()))
    z = _whitened(q, (q.loc - p.loc).unsqueeze(-1))
    spread = factor.pow(2).sum((-2, -1)) + diagonal.pow(2).sum((-2, -1)) + z.pow(2).sum((-2, -1)) - p.event_shape[0]
    return q._half_log_det() - p._half_log_det() + 0.5 * spread


def _from_low_rank(p: Any, q: Any) -> Any:
    if p.event_shape != q.event_shape:
        raise ValueError(
            "KL-divergence between two (Low Rank) Multivariate Normals with different event shapes cannot be computed"
        )
    trace = (q.precision_matrix * p.covariance_matrix).sum((-2, -1))
    spread = trace + q._mahalanobis(p.loc - q.loc) - p.event_shape[0]
    return q._half_log_det() - p._half_log_det() + 0.5 * spread


register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)(_from_low_rank)
register_kl(MultivariateNormal, LowRankMultivariateNormal)(_from_low_rank)


# --- between families ------------------------------------------------------------------------------------------------


def _mean_log(p: Any) -> Any:
    """E log x."""
    if isinstance(p, Gamma):
        return torch.digamma(p.concentration) - p.rate.log()
    if isinstance(p, Exponential):
        return -_EULER - p.rate.log()
    if isinstance(p, Pareto):
        return p.scale.log() + p.alpha.reciprocal()
    if isinstance(p, Beta):
        return torch.digamma(p.concentration1) - torch.digamma(p.concentration1 + p.concentration0)
    low, high = p.low, p.high  # Uniform
    return (torch.xlogy(high, high) - torch.xlogy(low, low)) / (high - low) - 1


def _mean_exp(p: Any, scale: Any) -> Any:
    """E e^{−x/scale}."""
    if isinstance(p, Gamma):
        return (1 + 1 / (p.rate * scale)) ** -p.concentration
    if isinstance(p, Exponential):
        return p.rate / (p.rate + scale.reciprocal())
    if isinstance(p, Normal):
        return torch.exp(-p.loc / scale + 0.5 * (p.scale / scale).pow(2))
    return scale / (p.high - p.low) * (torch.exp(-p.low / scale) - torch.exp(-p.high / scale))  # Uniform


def _mean_density(p: Any, q: Any) -> Any:
    """E_p[log q(x)], where q's density is not 0."""
    if isinstance(q, Exponential):
        return q.rate.log() - q.rate * p.mean
    if isinstance(q, Gamma):
        a, b = q.concentration, q.rate
        return a * b.log() - torch.lgamma(a) + (a - 1) * _mean_log(p) - b * p.mean
    if isinstance(q, Normal):
        around = p.variance + (p.mean - q.loc).pow(2)
        return -0.5 * (2 * math.pi * q.scale.pow(2)).log() - around / (2 * q.scale.pow(2))
    if isinstance(q, Gumbel):
        return -q.scale.log() - (p.mean - q.loc) / q.scale - torch.exp(q.loc / q.scale) * _mean_exp(p, q.scale)
    if isinstance(q, ContinuousBernoulli):
        return p.mean * q.logits + torch.log1p(-q.probs) + q._log_constant()
    if isinstance(q, Pareto):
        return q.alpha.log() + q.alpha * q.scale.log() - (q.alpha + 1) * _mean_log(p)
    if isinstance(q, Uniform):
        return -(q.high - q.low).log()
    if isinstance(q, Beta):  # p is Uniform, and 1 − x is Uniform, too
        a, b = q.concentration1, q.concentration0
        other = _mean_log(Uniform(1 - p.high, 1 - p.low, validate_args=False))
        norm = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
        return (a - 1) * _mean_log(p) + (b - 1) * other - norm
    # Laplace, and p is Normal: the mean of a folded normal variable
    z = (p.loc - q.loc) / p.scale
    distance = p.scale * math.sqrt(2 / math.pi) * torch.exp(-0.5 * z**2) + (p.loc - q.loc) * torch.erf(z / math.sqrt(2))
    return -(2 * q.scale).log() - distance / q.scale


def _outside(p: Any, q: Any) -> Any:
    """Where p has values at which q's density is 0, or moments that do not exist."""
    if isinstance(p, Uniform):
        if isinstance(q, (Exponential, Gamma)):
            return p.low < 0
        if isinstance(q, (Beta, ContinuousBernoulli)):
            return (p.high > 1) | (p.low < 0)
        if isinstance(q, Pareto):
            return p.low < q.scale
    if isinstance(p, (Beta, ContinuousBernoulli)) and isinstance(q, Uniform):
        return (q.high < 1) | (q.low > 0)
    if isinstance(p, Pareto):
        return p.alpha <= (2 if isinstance(q, Normal) else 1)
    return None


def _cross(p: Any, q: Any) -> Any:
    result = -p.entropy() - _mean_density(p, q)
    outside = _outside(p, q)
    return result if outside is None else torch.where(outside, math.inf, result)


def _infinite(p: Any, q: Any) -> Any:
    """p has values outside of q's support, whatever the parameters."""
    return torch.full(p.batch_shape, math.inf, dtype=p.mean.dtype)


_CROSS = {
    Beta: (ContinuousBernoulli, Exponential, Gamma, Normal, Uniform),
    ContinuousBernoulli: (Exponential, Normal, Uniform),
    Exponential: (Gamma, Gumbel, Normal),
    Gamma: (Exponential, Gumbel, Normal),
    Gumbel: (Normal,),
    Laplace: (Normal,),
    Normal: (Gumbel, Laplace),
    Pareto: (Exponential, Gamma, Normal),
    Uniform: (Beta, ContinuousBernoulli, Exponential, Gamma, Gumbel, Normal, Pareto),
}
_BOUNDED = (Beta, ContinuousBernoulli, Uniform)
_INFINITE = {
    Beta: (Pareto,),
    ContinuousBernoulli: (Pareto,),
    Exponential: (*_BOUNDED, Pareto),
    Gamma: (*_BOUNDED, Pareto),
    Gumbel: (*_BOUNDED, Exponential, Gamma, Pareto),
    Laplace: (*_BOUNDED, Exponential, Gamma, Pareto),
    Normal: (*_BOUNDED, Exponential, Gamma, Pareto),
    Pareto: _BOUNDED,
    Poisson: (Bernoulli, Binomial),
}
for _rule, _table in ((_cross, _CROSS), (_infinite, _INFINITE)):
    for _p, _all in _table.items():
        for _q in _all:
            register_kl(_p, _q)(_rule)


@register_kl(Bernoulli, Poisson)
def _(p: Any, q: Any) -> Any:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)
