"""Distributions of real numbers, each by its density."""

from __future__ import annotations

import math
from typing import Any

import chainrule as torch

from . import constraints as C
from .distribution import Distribution, ExponentialFamily, broadcast, draw, satisfied

__all__ = [
    "Cauchy", "ContinuousBernoulli", "Exponential", "GeneralizedPareto", "Gumbel", "Laplace", "Normal", "Uniform",
    "VonMises",
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

    @property
    def mode(self) -> Any:
        return self.loc


class Normal(_LocationScale, ExponentialFamily):
    """log p(x) = −(x − μ)² / 2σ² − log σ − log √2π."""

    _mean_carrier_measure = 0

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return self.loc / self.scale.pow(2), -0.5 * self.scale.pow(2).reciprocal()

    def _log_normalizer(self, x: Any, y: Any) -> Any:  # type: ignore[override]
        return -0.25 * x.pow(2) / y + 0.5 * torch.log(-math.pi / y)

    def _standard(self, shape: Any) -> Any:
        return torch.randn(shape, dtype=self.loc.dtype)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return -((value - self.loc) ** 2) / (2 * self.scale**2) - self.scale.log() - _LOG_ROOT_2PI

    def entropy(self) -> Any:
        return 0.5 + _LOG_ROOT_2PI + self.scale.log()

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

    @property
    def stddev(self) -> Any:
        return 2**0.5 * self.scale

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

    def icdf(self, value: Any) -> Any:
        return torch.tan(math.pi * (value - 0.5)) * self.scale + self.loc


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
    def stddev(self) -> Any:
        return math.pi / math.sqrt(6) * self.scale

    @property
    def variance(self) -> Any:
        return self.stddev.pow(2)

    def cdf(self, value: Any) -> Any:
        return torch.exp(-torch.exp(-self._z(value)))

    def icdf(self, value: Any) -> Any:
        return self.loc - self.scale * torch.log(-torch.log(value))


class Uniform(Distribution):
    """p(x) = 1 / (high − low) for low ≤ x < high."""

    has_rsample = True

    @property
    def arg_constraints(self) -> dict[str, Any]:  # type: ignore[override]
        return {"low": C.less_than(self.high), "high": C.greater_than(self.low)}

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast(low, high)
        super().__init__(self.low.shape, (), validate_args)

    @C.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        return C.interval(self.low, self.high)

    @property
    def mode(self) -> Any:
        return math.nan * self.high

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
        self._check(value)
        return ((value - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Any) -> Any:
        return value * (self.high - self.low) + self.low


class Exponential(ExponentialFamily):
    """log p(x) = log λ − λ x."""

    _mean_carrier_measure = 0

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (-self.rate,)

    def _log_normalizer(self, x: Any) -> Any:  # type: ignore[override]
        return -torch.log(-x)

    @property
    def mode(self) -> Any:
        return torch.zeros_like(self.rate)

    @property
    def stddev(self) -> Any:
        return self.rate.reciprocal()

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
        self._check(value)
        return 1 - torch.exp(-self.rate * value)

    def icdf(self, value: Any) -> Any:
        return -torch.log1p(-value) / self.rate


class GeneralizedPareto(Distribution):
    """The tail beyond a threshold: log p(x) = −log σ − (1 + 1/ξ) log(1 + ξ (x − μ)/σ), exponential for ξ = 0."""

    has_rsample = True
    arg_constraints = {"loc": C.real, "scale": C.positive, "concentration": C.real}  # noqa: RUF012

    def __init__(self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale, self.concentration = broadcast(loc, scale, concentration)
        super().__init__(self.loc.shape, (), validate_args)

    def _flat(self) -> tuple[Any, Any]:
        """Where ξ is 0, and a ξ that is safe to divide by."""
        flat = torch.isclose(self.concentration, torch.zeros((), dtype=self.concentration.dtype))
        return flat, torch.where(flat, 1.0, self.concentration)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.icdf(torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        z = (value - self.loc) / self.scale
        flat, xi = self._flat()
        curved = -(1 + xi) * torch.log1p(torch.where(flat, 0.0, xi * z)) / xi
        return torch.where(flat, -z, curved) - self.scale.log()

    def log_survival_function(self, value: Any) -> Any:
        """log(1 − F(x))."""
        self._check(value)
        z = (value - self.loc) / self.scale
        flat, xi = self._flat()
        return torch.where(flat, -z, -torch.log1p(torch.where(flat, 0.0, xi * z)) / xi)

    def log_cdf(self, value: Any) -> Any:
        """log F(x)."""
        return torch.log1p(-torch.exp(self.log_survival_function(value)))

    def cdf(self, value: Any) -> Any:
        return torch.exp(self.log_cdf(value))

    def icdf(self, value: Any) -> Any:
        flat, xi = self._flat()
        log_q = torch.log1p(-value)
        return self.loc + self.scale * torch.where(flat, -log_q, torch.expm1(-xi * log_q) / xi)

    def _moment(self, value: Any, below: float) -> Any:
        return torch.where(self.concentration < below, value, math.inf)

    @property
    def mean(self) -> Any:
        return self._moment(self.loc + self.scale / (1 - self.concentration), 1)

    @property
    def variance(self) -> Any:
        xi = self.concentration
        return self._moment(self.scale**2 / ((1 - xi) ** 2 * (1 - 2 * xi)), 0.5)

    def entropy(self) -> Any:
        return (torch.log(self.scale) + self.concentration + 1).expand(self._batch_shape)

    @property
    def mode(self) -> Any:
        return self.loc

    @C.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        upper = torch.where(self.concentration < 0, self.loc - self.scale / self.concentration, math.inf)
        return C.interval(self.loc, upper)


class ContinuousBernoulli(ExponentialFamily):
    """p(x) ∝ λˣ (1 − λ)¹⁻ˣ on [0, 1]; near λ = ½ its constants are summed as series."""

    has_rsample = True
    arg_constraints = {"probs": C.unit_interval, "logits": C.real}  # noqa: RUF012
    support = C.unit_interval
    _mean_carrier_measure = 0

    def __init__(
        self, probs: Any = None, logits: Any = None, lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        self._lims = lims
        if probs is not None:
            (probs,) = broadcast(probs)
            if validate_args and not satisfied(self.arg_constraints["probs"].check, probs):
                raise ValueError("The parameter probs has invalid values")
            eps = torch.finfo(probs.dtype).eps
            self.probs = probs.clamp(min=eps, max=1 - eps)
        else:
            (self.logits,) = broadcast(logits)
        super().__init__((self.probs if probs is not None else self.logits).shape, (), validate_args)

    def __getattr__(self, name: str) -> Any:
        if name == "logits" and "probs" in self.__dict__:
            self.logits = self.probs.log() - torch.log1p(-self.probs)
            return self.logits
        if name == "probs" and "logits" in self.__dict__:
            probs = torch.sigmoid(self.logits)
            eps = torch.finfo(probs.dtype).eps
            self.probs = probs.clamp(min=eps, max=1 - eps)
            return self.probs
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _far(self) -> tuple[Any, Any]:
        """Where λ is far enough from ½ for the closed forms, and a λ that is."""
        far = torch.le(self.probs, self._lims[0]) | torch.gt(self.probs, self._lims[1])
        return far, torch.where(far, self.probs, self._lims[0])

    def _log_constant(self) -> Any:
        far, p = self._far()
        low, high = torch.where(torch.le(p, 0.5), p, 0.0), torch.where(torch.ge(p, 0.5), p, 1.0)
        log_norm = torch.log(torch.abs(torch.log1p(-p) - torch.log(p)))
        log_norm = log_norm - torch.where(torch.le(p, 0.5), torch.log1p(-2.0 * low), torch.log(2.0 * high - 1.0))
        x = torch.pow(self.probs - 0.5, 2)
        return torch.where(far, log_norm, math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x) * x)

    @property
    def mean(self) -> Any:
        far, p = self._far()
        mu = p / (2.0 * p - 1.0) + 1.0 / (torch.log1p(-p) - torch.log(p))
        x = self.probs - 0.5
        return torch.where(far, mu, 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * torch.pow(x, 2)) * x)

    @property
    def variance(self) -> Any:
        far, p = self._far()
        variance = p * (p - 1.0) / torch.pow(1.0 - 2.0 * p, 2) + 1.0 / torch.pow(torch.log1p(-p) - torch.log(p), 2)
        x = torch.pow(self.probs - 0.5, 2)
        return torch.where(far, variance, 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x) * x)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.icdf(torch.rand(self._extended_shape(sample_shape), dtype=self.probs.dtype))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        logits, value = torch.broadcast_tensors(self.logits, value)
        cross = torch.nn.functional.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return -cross + self._log_constant()

    def cdf(self, value: Any) -> Any:
        self._check(value)
        far, p = self._far()
        cdf = (torch.pow(p, value) * torch.pow(1.0 - p, 1.0 - value) + p - 1.0) / (2.0 * p - 1.0)
        inside = torch.where(far, cdf, value)
        return torch.where(torch.le(value, 0.0), 0.0, torch.where(torch.ge(value, 1.0), 1.0, inside))

    def icdf(self, value: Any) -> Any:
        far, p = self._far()
        curved = torch.log1p(-p + value * (2.0 * p - 1.0)) - torch.log1p(-p)
        return torch.where(far, curved / (torch.log(p) - torch.log1p(-p)), value)

    def entropy(self) -> Any:
        log_q, logits = torch.log1p(-self.probs), torch.log(self.probs) - torch.log1p(-self.probs)
        return self.mean * -logits - self._log_constant() - log_q

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.logits,)

    def _log_normalizer(self, x: Any) -> Any:  # type: ignore[override]
        near = torch.le(torch.abs(x), 4 * (0.5 - self._lims[0]))
        y = torch.where(near, 1.0, x)
        flat = torch.log(torch.abs(torch.special.expm1(y))) - torch.log(torch.abs(y))
        return torch.where(near, 0.5 * x + torch.pow(x, 2) / 24.0 - torch.pow(x, 4) / 2880.0, flat)


class VonMises(Distribution):
    """An angle: log p(x) = κ cos(x − μ) − log 2π − log I₀(κ)."""

    arg_constraints = {"loc": C.real, "concentration": C.positive}  # noqa: RUF012
    support = C.real

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast(loc, concentration)
        super().__init__(self.loc.shape, (), validate_args)

    def _log_i0(self) -> Any:
        return torch.log(torch.special.i0e(self.concentration)) + self.concentration

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return self.concentration * torch.cos(value - self.loc) - math.log(2 * math.pi) - self._log_i0()

    def sample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        x = draw("vonmises", shape, self.loc, torch.zeros_like(self.loc).double(), self.concentration.double())
        return (x + math.pi + self.loc.detach()) % (2 * math.pi) - math.pi

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        """The circular one, 1 − I₁(κ)/I₀(κ)."""
        return 1 - torch.special.i1e(self.concentration) / torch.special.i0e(self.concentration)
