"""Distributions of counts and choices. Those that take ``probs`` or ``logits`` compute the other one."""

from __future__ import annotations

import math
from typing import Any

import chainrule as torch
from chainrule.nn import functional as F

from . import constraints as C
from .distribution import Distribution, ExponentialFamily, broadcast, draw, satisfied

__all__ = [
    "Bernoulli", "Binomial", "Categorical", "Geometric", "Multinomial", "NegativeBinomial", "OneHotCategorical",
    "OneHotCategoricalStraightThrough", "Poisson",
]  # fmt: skip


def _clamped(probs: Any) -> Any:
    eps = torch.finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


class _Binary(Distribution):
    """Given by the probability of success or by its logit."""

    arg_constraints = {"probs": C.unit_interval, "logits": C.real}  # noqa: RUF012

    def __init__(self, probs: Any, logits: Any, validate_args: bool | None) -> None:
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        if probs is not None:
            (self.probs,) = broadcast(probs)
        else:
            (self.logits,) = broadcast(logits)
        super().__init__(self._param.shape, (), validate_args)

    @property
    def _param(self) -> Any:
        return self.__dict__.get("probs", self.logits)

    @property
    def param_shape(self) -> Any:
        return self._param.size()

    def __getattr__(self, name: str) -> Any:
        if name == "logits" and "probs" in self.__dict__:
            p = _clamped(self.__dict__["probs"])
            self.logits = p.log() - torch.log1p(-p)
            return self.logits
        if name == "probs" and "logits" in self.__dict__:
            self.probs = torch.sigmoid(self.__dict__["logits"])
            return self.probs
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class Bernoulli(_Binary, ExponentialFamily):
    """0 or 1: log p(x) = x · logit − log(1 + exp logit)."""

    support = C.boolean
    has_enumerate_support = True
    _mean_carrier_measure = 0

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (torch.logit(self.probs),)

    def _log_normalizer(self, x: Any) -> Any:  # type: ignore[override]
        return torch.log1p(torch.exp(x))

    def enumerate_support(self, expand: bool = True) -> Any:
        return self._values(torch.arange(2, dtype=self._param.dtype), expand)

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(probs, logits, validate_args)

    def sample(self, sample_shape: Any = ()) -> Any:
        return torch.bernoulli(self.probs.detach().expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        logits, value = torch.broadcast_tensors(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Any:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def mode(self) -> Any:
        return torch.where(
            self.probs == 0.5, torch.full_like(self.probs, float("nan")), (self.probs >= 0.5).to(self.probs.dtype)
        )

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)


class Geometric(_Binary):
    """The number of failures before the first success."""

    support = C.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(probs, logits, validate_args)
        if self._validate_args and probs is not None and not satisfied(lambda p: p > 0, self.probs):
            first = self.probs[~(self.probs > 0)].reshape(-1)[0].item()
            raise ValueError(
                f"Expected parameter probs (Tensor of shape {tuple(self.probs.shape)}) of distribution {self!r} to be "
                f"positive but found invalid values:\n{first}"
            )

    @property
    def mode(self) -> Any:
        return torch.zeros_like(self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        shape, p = self._extended_shape(sample_shape), self.probs.detach()
        u = torch.rand(shape, dtype=p.dtype).clamp(min=torch.finfo(p.dtype).tiny)
        return (u.log() / torch.log1p(-p)).floor()

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return torch.xlogy(value, 1 - self.probs) + self.probs.log()

    def entropy(self) -> Any:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none") / self.probs

    @property
    def mean(self) -> Any:
        return 1.0 / self.probs - 1.0

    @property
    def variance(self) -> Any:
        return (1.0 / self.probs - 1.0) / self.probs


class Binomial(_Binary):
    """Successes in ``total_count`` trials."""

    arg_constraints = {  # noqa: RUF012
        "total_count": C.nonnegative_integer, "probs": C.unit_interval, "logits": C.real,
    }  # fmt: skip
    has_enumerate_support = True

    @C.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        return C.integer_interval(0, self.total_count)

    @property
    def mode(self) -> Any:
        return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    def entropy(self) -> Any:
        n = int(self.total_count.max())
        if int(self.total_count.min()) != n:
            raise NotImplementedError("Inhomogeneous total count not supported by `entropy`.")
        log_prob = self.log_prob(self.enumerate_support(False))
        return -(torch.exp(log_prob) * log_prob).sum(0)

    def enumerate_support(self, expand: bool = True) -> Any:
        n = int(self.total_count.max())
        if int(self.total_count.min()) != n:
            raise NotImplementedError("Inhomogeneous total count not supported by `enumerate_support`.")
        return self._values(torch.arange(1 + n, dtype=self._param.dtype), expand)

    def __init__(
        self, total_count: Any = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        given = probs if probs is not None else logits
        if given is not None:
            total_count, given = broadcast(total_count, given)
            probs, logits = (given, None) if probs is not None else (None, given)
        self.total_count = total_count
        super().__init__(probs, logits, validate_args)

    def sample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        return draw("binomial", shape, self.probs, self.total_count.long(), self.probs.double())

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        n, logits = self.total_count, self.logits
        softplus = n * torch.logaddexp(logits, torch.zeros_like(logits))
        return value * logits - softplus + torch.lgamma(n + 1) - torch.lgamma(value + 1) - torch.lgamma(n - value + 1)

    @property
    def mean(self) -> Any:
        return self.total_count * self.probs

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1 - self.probs)


class NegativeBinomial(_Binary):
    """Successes of probability ``probs`` before ``total_count`` failures."""

    arg_constraints = {  # noqa: RUF012
        "total_count": C.greater_than_eq(0), "probs": C.half_open_interval(0.0, 1.0), "logits": C.real,
    }  # fmt: skip
    support = C.nonnegative_integer

    def __init__(
        self, total_count: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        total_count, given = broadcast(total_count, probs if probs is not None else logits)
        self.total_count = total_count.to(given.dtype)
        super().__init__(given if probs is not None else None, None if probs is not None else given, validate_args)

    @property
    def mean(self) -> Any:
        return self.total_count * torch.exp(self.logits)

    @property
    def mode(self) -> Any:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Any:
        return self.mean / torch.sigmoid(-self.logits)

    def sample(self, sample_shape: Any = ()) -> Any:
        from .gammas import Gamma

        with torch.no_grad():
            rate = Gamma(self.total_count, torch.exp(-self.logits), validate_args=False).sample(sample_shape)
            return torch.poisson(rate)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        n, logits = self.total_count, self.logits
        plain = n * F.logsigmoid(-logits) + value * F.logsigmoid(logits)
        norm = -torch.lgamma(n + value) + torch.lgamma(1.0 + value) + torch.lgamma(n)
        return plain - norm.masked_fill(n + value == 0.0, 0.0)


class Poisson(ExponentialFamily):
    """log p(k) = k log λ − λ − log k!."""

    @property
    def mode(self) -> Any:
        return self.rate.floor()

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (torch.log(self.rate),)

    def _log_normalizer(self, x: Any) -> Any:  # type: ignore[override]
        return torch.exp(x)

    arg_constraints = {"rate": C.nonnegative}  # noqa: RUF012
    support = C.nonnegative_integer

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast(rate)
        super().__init__(self.rate.shape, (), validate_args)

    def sample(self, sample_shape: Any = ()) -> Any:
        return torch.poisson(self.rate.detach().expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return torch.xlogy(value, self.rate) - self.rate - torch.lgamma(value + 1)

    @property
    def mean(self) -> Any:
        return self.rate

    @property
    def variance(self) -> Any:
        return self.rate


class Categorical(Distribution):
    """One of K classes by number; ``probs`` need not sum to 1, ``logits`` need not be normalised."""

    has_enumerate_support = True

    arg_constraints = {"probs": C.simplex, "logits": C.real_vector}  # noqa: RUF012

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        given = probs if probs is not None else logits
        name = "probs" if probs is not None else "logits"
        if given.dim() < 1:
            raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
        if probs is not None:
            self.probs = probs / probs.sum(-1, keepdim=True)
        else:
            self.logits = logits - logits.logsumexp(dim=-1, keepdim=True)
        self._num_events = given.shape[-1]
        super().__init__(given.shape[:-1], (), validate_args)

    @property
    def _param(self) -> Any:
        return self.__dict__.get("probs", self.logits)

    @property
    def param_shape(self) -> Any:
        return self._param.size()

    @C.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        return C.integer_interval(0, self._num_events - 1)

    def __getattr__(self, name: str) -> Any:
        if name == "logits" and "probs" in self.__dict__:
            self.logits = _clamped(self.__dict__["probs"]).log()
            return self.logits
        if name == "probs" and "logits" in self.__dict__:
            self.probs = F.softmax(self.__dict__["logits"], dim=-1)
            return self.probs
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def sample(self, sample_shape: Any = ()) -> Any:
        shape = torch.Size((*sample_shape, *self._batch_shape))
        flat = self.probs.detach().reshape(-1, self._num_events)
        n = torch.Size(sample_shape).numel()
        return torch.multinomial(flat, n, True).T.reshape(shape)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        value = value.long().unsqueeze(-1)
        shape = torch.broadcast_shapes(tuple(value.shape[:-1]), tuple(self.logits.shape[:-1]))
        value, logits = value.expand((*shape, 1)), self.logits.expand((*shape, self._num_events))
        return logits.gather(-1, value).squeeze(-1)

    def entropy(self) -> Any:
        logits = self.logits.clamp(min=torch.finfo(self.logits.dtype).min)
        return -(logits * self.probs).sum(-1)

    @property
    def mode(self) -> Any:
        return self.probs.argmax(-1)

    @property
    def mean(self) -> Any:
        return torch.full(self._batch_shape, float("nan"), dtype=self.probs.dtype)

    variance = mean

    def enumerate_support(self, expand: bool = True) -> Any:
        """Every class, along a new first axis."""
        values = torch.arange(self._num_events).view((-1, *(1,) * len(self._batch_shape)))
        return values.expand((-1, *self._batch_shape)) if expand else values


class OneHotCategorical(Distribution):
    """One of K classes as a one-hot vector."""

    arg_constraints = {"probs": C.simplex, "logits": C.real_vector}  # noqa: RUF012
    support = C.one_hot
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self._categorical = Categorical(probs, logits)
        shape = self._categorical._param.shape
        super().__init__(shape[:-1], shape[-1:], validate_args)

    @property
    def _param(self) -> Any:
        return self._categorical._param

    @property
    def param_shape(self) -> Any:
        return self._categorical.param_shape

    @property
    def probs(self) -> Any:
        return self._categorical.probs

    @property
    def logits(self) -> Any:
        return self._categorical.logits

    mean = probs

    @property
    def mode(self) -> Any:
        return F.one_hot(self._categorical.mode, self._event_shape[-1]).to(self.probs.dtype)

    def enumerate_support(self, expand: bool = True) -> Any:
        n = self._event_shape[0]
        values = torch.eye(n, dtype=self._param.dtype).reshape((n, *(1,) * len(self._batch_shape), n))
        return values.expand((n, *self._batch_shape, n)) if expand else values

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        return F.one_hot(self._categorical.sample(sample_shape), self._event_shape[-1]).to(self.probs.dtype)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return self._categorical.log_prob(value.max(-1)[1])

    def entropy(self) -> Any:
        return self._categorical.entropy()


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """One-hot samples whose gradient is that of the probabilities."""

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.sample(sample_shape) + (self.probs - self.probs.detach())


class Multinomial(Distribution):
    """Counts of K classes in ``total_count`` draws."""

    arg_constraints = {"probs": C.simplex, "logits": C.real_vector}  # noqa: RUF012

    @C.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:  # type: ignore[override]
        return C.multinomial(self.total_count)

    @property
    def _param(self) -> Any:
        return self._categorical._param

    @property
    def param_shape(self) -> Any:
        return self._categorical.param_shape

    def entropy(self) -> Any:
        n = self.total_count
        binomial = Binomial(n, probs=self.probs)
        counts = binomial.enumerate_support(False)[1:]
        weights = torch.exp(binomial.log_prob(counts))
        return n * self._categorical.entropy() - math.lgamma(n + 1) + (weights * torch.lgamma(counts + 1)).sum((0, -1))

    def __init__(
        self, total_count: int = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count, self._categorical = total_count, Categorical(probs, logits)
        shape = self._categorical._param.shape
        super().__init__(shape[:-1], shape[-1:], validate_args)

    @property
    def probs(self) -> Any:
        return self._categorical.probs

    @property
    def logits(self) -> Any:
        return self._categorical.logits

    @property
    def mean(self) -> Any:
        return self.probs * self.total_count

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        picks = self._categorical.sample((self.total_count, *sample_shape))
        return F.one_hot(picks, self._event_shape[-1]).sum(0).to(self.probs.dtype)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        factorials = torch.lgamma(value + 1).sum(-1)
        logits = torch.where((value == 0) & (self.logits == -math.inf), 0.0, self.logits)
        return torch.lgamma(value.sum(-1) + 1) - factorials + (logits * value).sum(-1)
