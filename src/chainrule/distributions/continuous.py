"""Distributions of real numbers, each by its density."""

from __future__ import annotations

import math
from typing import Any

import chainrule as torch

from . import constraints as C
from .distribution import Distribution, broadcast, draw

__all__ = [
    "Beta", "Cauchy", "Chi2", "Dirichlet", "Exponential", "Gamma", "Gumbel", "HalfNormal", "Laplace", "LogNormal",
    "Normal", "StudentT", "Uniform",
]  # fmt: skip

_LOG_ROOT_2PI = math.log(math.sqrt(2 * math.pi))
_EULER = 0.57721566490153286060


class _LocationScale(Distribution):
    """x = loc + scale · z, with z from the standard member of the family."""

    has_rsample = True
    arg_constraints = {"loc": C.real, "scale": C.positive}  # noqa: RUF012
    support = C.real

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast(loc, scale)
        super().__init__(self.loc.shape, (), validate_args)

    def _standard(self, shape: Any) -> Any:
        raise NotImplementedError

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.loc + self.scale * self._standard(self._extended_shape(sample_shape))

    def _z(self, value: Any) -> Any:
        self._check(value)
        return (value - self.loc) / self.scale

    @property
    def mean(self) -> Any:
        return self.loc


class Normal(_LocationScale):
    """log p(x) = −(x − μ)² / 2σ² − log σ − log √2π."""

    def _standard(self, shape: Any) -> Any:
        return torch.randn(shape, dtype=self.loc.dtype)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return -((value - self.loc) ** 2) / (2 * self.scale**2) - self.scale.log() - _LOG_ROOT_2PI

    def entropy(self) -> Any:
        return 0.5 + _LOG_ROOT_2PI + self.scale.log()

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def stddev(self) -> Any:
        return self.scale

    @property
    def variance(self) -> Any:
        return self.scale**2

    def cdf(self, value: Any) -> Any:
        return 0.5 * (1 + torch.erf(self._z(value) / math.sqrt(2)))

    def icdf(self, value: Any) -> Any:
        return self.loc + self.scale * torch.erfinv(2 * value - 1) * math.sqrt(2)


class LogNormal(Distribution):
    """exp of a normal variable."""

    has_rsample = True
    arg_constraints = {"loc": C.real, "scale": C.positive}  # noqa: RUF012
    support = C.positive

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.base_dist = Normal(loc, scale, validate_args)
        self.loc, self.scale = self.base_dist.loc, self.base_dist.scale
        super().__init__(self.loc.shape, (), validate_args)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.base_dist.rsample(sample_shape).exp()

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return self.base_dist.log_prob(value.log()) - value.log()

    def entropy(self) -> Any:
        return self.base_dist.entropy() + self.loc

    @property
    def mean(self) -> Any:
        return (self.loc + self.scale**2 / 2).exp()

    @property
    def variance(self) -> Any:
        s2 = self.scale**2
        return torch.expm1(s2) * (2 * self.loc + s2).exp()


class HalfNormal(Distribution):
    """|x| of a normal variable around 0."""

    has_rsample = True
    arg_constraints = {"scale": C.positive}  # noqa: RUF012
    support = C.nonnegative

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        (self.scale,) = broadcast(scale)
        super().__init__(self.scale.shape, (), validate_args)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return Normal(torch.zeros_like(self.scale), self.scale).rsample(sample_shape).abs()

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return math.log(2) - _LOG_ROOT_2PI - self.scale.log() - value**2 / (2 * self.scale**2)

    def entropy(self) -> Any:
        return 0.5 + _LOG_ROOT_2PI + self.scale.log() - math.log(2)

    @property
    def mean(self) -> Any:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Any:
        return self.scale**2 * (1 - 2 / math.pi)


class Laplace(_LocationScale):
    """log p(x) = −|x − μ| / b − log 2b."""

    def _standard(self, shape: Any) -> Any:
        u = torch.rand(shape, dtype=self.loc.dtype) - 0.5
        return -u.sign() * torch.log1p(-2 * u.abs())

    def log_prob(self, value: Any) -> Any:
        return -self._z(value).abs() - (2 * self.scale).log()

    def entropy(self) -> Any:
        return 1 + (2 * self.scale).log()

    @property
    def variance(self) -> Any:
        return 2 * self.scale**2

    def cdf(self, value: Any) -> Any:
        z = self._z(value)
        return 0.5 - 0.5 * z.sign() * torch.expm1(-z.abs())

    def icdf(self, value: Any) -> Any:
        t = value - 0.5
        return self.loc - self.scale * t.sign() * torch.log1p(-2 * t.abs())


class Cauchy(_LocationScale):
    """log p(x) = −log π − log γ − log(1 + ((x − x₀)/γ)²)."""

    def _standard(self, shape: Any) -> Any:
        return torch.tan(math.pi * (torch.rand(shape, dtype=self.loc.dtype) - 0.5))

    def log_prob(self, value: Any) -> Any:
        return -math.log(math.pi) - self.scale.log() - torch.log1p(self._z(value) ** 2)

    def entropy(self) -> Any:
        return math.log(4 * math.pi) + self.scale.log()

    @property
    def mean(self) -> Any:
        return torch.full_like(self.loc, math.nan)

    @property
    def variance(self) -> Any:
        return torch.full_like(self.loc, math.inf)

    def cdf(self, value: Any) -> Any:
        return torch.atan(self._z(value)) / math.pi + 0.5


class Gumbel(_LocationScale):
    """log p(x) = −z − exp(−z) − log β, z = (x − μ)/β."""

    def _standard(self, shape: Any) -> Any:
        tiny = torch.finfo(self.loc.dtype).tiny
        return -torch.log(-torch.log(torch.rand(shape, dtype=self.loc.dtype).clamp(min=tiny)))

    def log_prob(self, value: Any) -> Any:
        z = self._z(value)
        return -z - torch.exp(-z) - self.scale.log()

    def entropy(self) -> Any:
        return self.scale.log() + 1 + _EULER

    @property
    def mean(self) -> Any:
        return self.loc + self.scale * _EULER

    @property
    def variance(self) -> Any:
        return (math.pi**2 / 6) * self.scale**2


class Uniform(Distribution):
    """p(x) = 1 / (high − low) for low ≤ x < high."""

    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast(low, high)
        super().__init__(self.low.shape, (), validate_args)
        if self._validate_args and not (self.low < self.high).all():
            raise ValueError("Uniform is not defined when low>= high")
        self.support = C.Constraint(
            f"Interval(lower_bound={self.low}, upper_bound={self.high})", lambda x: (x >= self.low) & (x <= self.high)
        )

    def __repr__(self) -> str:
        return f"Uniform(low: {self.low}, high: {self.high})"

    def rsample(self, sample_shape: Any = ()) -> Any:
        u = torch.rand(self._extended_shape(sample_shape), dtype=self.low.dtype)
        return self.low + u * (self.high - self.low)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        inside = ((self.low <= value) & (self.high > value)).to(self.low.dtype)
        return inside.log() - (self.high - self.low).log()

    def entropy(self) -> Any:
        return (self.high - self.low).log()

    @property
    def mean(self) -> Any:
        return (self.high + self.low) / 2

    @property
    def variance(self) -> Any:
        return (self.high - self.low) ** 2 / 12

    def cdf(self, value: Any) -> Any:
        return ((value - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Any) -> Any:
        return value * (self.high - self.low) + self.low


class Exponential(Distribution):
    """log p(x) = log λ − λ x."""

    has_rsample = True
    arg_constraints = {"rate": C.positive}  # noqa: RUF012
    support = C.nonnegative

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast(rate)
        super().__init__(self.rate.shape, (), validate_args)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return -torch.log1p(-torch.rand(self._extended_shape(sample_shape), dtype=self.rate.dtype)) / self.rate

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return self.rate.log() - self.rate * value

    def entropy(self) -> Any:
        return 1 - self.rate.log()

    @property
    def mean(self) -> Any:
        return self.rate.reciprocal()

    @property
    def variance(self) -> Any:
        return self.rate.pow(-2)

    def cdf(self, value: Any) -> Any:
        return 1 - torch.exp(-self.rate * value)

    def icdf(self, value: Any) -> Any:
        return -torch.log1p(-value) / self.rate


class Gamma(Distribution):
    """log p(x) = α log β + (α − 1) log x − β x − log Γ(α).

    Samples differentiate with respect to the rate only through ``sample`` of the standard gamma: PyTorch's implicit
    derivative by the concentration is left out, so there is no ``rsample``.
    """

    arg_constraints = {"concentration": C.positive, "rate": C.positive}  # noqa: RUF012
    support = C.nonnegative

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast(concentration, rate)
        super().__init__(self.rate.shape, (), validate_args)

    def sample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        made = draw("standard_gamma", shape, self.rate, self.concentration) / self.rate.detach()
        return made.clamp(min=torch.finfo(self.rate.dtype).tiny)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        a, b = self.concentration, self.rate
        return torch.xlogy(a, b) + torch.xlogy(a - 1, value) - b * value - torch.lgamma(a)

    def entropy(self) -> Any:
        a = self.concentration
        return a - self.rate.log() + torch.lgamma(a) + (1 - a) * torch.digamma(a)

    @property
    def mean(self) -> Any:
        return self.concentration / self.rate

    @property
    def variance(self) -> Any:
        return self.concentration / self.rate**2


class Chi2(Gamma):
    """The sum of the squares of ``df`` standard normal variables."""

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        super().__init__(0.5 * df, 0.5, validate_args)

    @property
    def df(self) -> Any:
        return self.concentration * 2


class Dirichlet(Distribution):
    """log p(x) = Σ (αᵢ − 1) log xᵢ + log Γ(Σ αᵢ) − Σ log Γ(αᵢ), over the last axis."""

    arg_constraints = {"concentration": C.positive}  # noqa: RUF012
    support = C.simplex

    def __init__(self, concentration: Any, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1:
            raise ValueError("`concentration` parameter must be at least one-dimensional.")
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args)

    def sample(self, sample_shape: Any = ()) -> Any:
        a = self.concentration
        made = draw("standard_gamma", self._extended_shape(sample_shape), a, a).clamp(min=torch.finfo(a.dtype).tiny)
        return made / made.sum(-1, keepdim=True)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        a = self.concentration
        return torch.xlogy(a - 1, value).sum(-1) + torch.lgamma(a.sum(-1)) - torch.lgamma(a).sum(-1)

    def entropy(self) -> Any:
        a, k = self.concentration, self.concentration.shape[-1]
        a0 = a.sum(-1)
        return (
            torch.lgamma(a).sum(-1)
            - torch.lgamma(a0)
            - (k - a0) * torch.digamma(a0)
            - ((a - 1) * torch.digamma(a)).sum(-1)
        )

    @property
    def mean(self) -> Any:
        return self.concentration / self.concentration.sum(-1, True)

    @property
    def variance(self) -> Any:
        a0 = self.concentration.sum(-1, True)
        return self.concentration * (a0 - self.concentration) / (a0**2 * (a0 + 1))


class Beta(Distribution):
    """log p(x) = (α − 1) log x + (β − 1) log(1 − x) − log B(α, β)."""

    support = C.unit_interval

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        a, b = broadcast(concentration1, concentration0)
        self._dirichlet = Dirichlet(torch.stack([a, b], -1), validate_args)
        super().__init__(a.shape, (), validate_args)

    @property
    def concentration1(self) -> Any:
        return self._dirichlet.concentration[..., 0]

    @property
    def concentration0(self) -> Any:
        return self._dirichlet.concentration[..., 1]

    def __repr__(self) -> str:
        return f"Beta(concentration1: {self.concentration1}, concentration0: {self.concentration0})"

    def sample(self, sample_shape: Any = ()) -> Any:
        return self._dirichlet.sample(sample_shape).select(-1, 0)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return self._dirichlet.log_prob(torch.stack([value, 1.0 - value], -1))

    def entropy(self) -> Any:
        return self._dirichlet.entropy()

    @property
    def mean(self) -> Any:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def variance(self) -> Any:
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total**2 * (total + 1))


class StudentT(Distribution):
    """Student's t with ``df`` degrees of freedom, moved by loc and stretched by scale."""

    arg_constraints = {"df": C.positive, "loc": C.real, "scale": C.positive}  # noqa: RUF012
    support = C.real

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None) -> None:
        self.df, self.loc, self.scale = broadcast(df, loc, scale)
        super().__init__(self.df.shape, (), validate_args)

    def sample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        return self.loc.detach() + self.scale.detach() * draw("standard_t", shape, self.df, self.df)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        v, y = self.df, (value - self.loc) / self.scale
        norm = (
            self.scale.log()
            + 0.5 * v.log()
            + 0.5 * math.log(math.pi)
            + torch.lgamma(0.5 * v)
            - torch.lgamma(0.5 * (v + 1))
        )
        return -0.5 * (v + 1) * torch.log1p(y**2 / v) - norm

    def entropy(self) -> Any:
        v, half = self.df, 0.5 * (self.df + 1)
        log_beta = torch.lgamma(0.5 * v) + 0.5 * math.log(math.pi) - torch.lgamma(half)
        return self.scale.log() + half * (torch.digamma(half) - torch.digamma(0.5 * v)) + 0.5 * v.log() + log_beta

    @property
    def mean(self) -> Any:
        return torch.where(self.df <= 1, torch.full_like(self.loc, math.nan), self.loc)

    @property
    def variance(self) -> Any:
        v = self.df
        finite = self.scale**2 * v / (v - 2)
        return torch.where(
            v > 2, finite, torch.where(v > 1, torch.full_like(v, math.inf), torch.full_like(v, math.nan))
        )
