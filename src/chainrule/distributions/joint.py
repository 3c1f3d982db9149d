"""Distributions made of others, and the normal distribution of vectors."""

from __future__ import annotations

import math
from typing import Any

import chainrule as torch

from . import constraints as C
from .distribution import Distribution

__all__ = ["Independent", "MixtureSameFamily", "MultivariateNormal"]


class Independent(Distribution):
    """The last ``reinterpreted_batch_ndims`` batch axes taken as one event: their log-probabilities add up."""

    def __init__(
        self, base_distribution: Any, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ) -> None:
        n = reinterpreted_batch_ndims
        shape = tuple(base_distribution.batch_shape)
        if n > len(shape):
            raise ValueError(
                f"Expected reinterpreted_batch_ndims <= len(base_distribution.batch_shape), actual {n} vs {len(shape)}"
            )
        cut = len(shape) - n
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, n
        super().__init__(shape[:cut], shape[cut:] + tuple(base_distribution.event_shape), validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def mean(self) -> Any:
        return self.base_dist.mean

    @property
    def variance(self) -> Any:
        return self.base_dist.variance

    def sample(self, sample_shape: Any = ()) -> Any:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.base_dist.rsample(sample_shape)

    def _add(self, x: Any) -> Any:
        n = self.reinterpreted_batch_ndims
        return x.sum(tuple(range(-n, 0))) if n else x

    def log_prob(self, value: Any) -> Any:
        return self._add(self.base_dist.log_prob(value))

    def entropy(self) -> Any:
        return self._add(self.base_dist.entropy())

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        shape = torch.Size(batch_shape)
        inner = (*shape, *self._event_shape[: self.reinterpreted_batch_ndims])
        return Independent(self.base_dist.expand(inner), self.reinterpreted_batch_ndims, self._validate_args)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.reinterpreted_batch_ndims == 0 and self.base_dist.has_enumerate_support

    @C.dependent_property
    def support(self) -> Any:  # type: ignore[override]
        inner, n = self.base_dist.support, self.reinterpreted_batch_ndims
        return C.independent(inner, n) if n else inner

    @property
    def mode(self) -> Any:
        return self.base_dist.mode

    def enumerate_support(self, expand: bool = True) -> Any:
        if self.reinterpreted_batch_ndims > 0:
            raise NotImplementedError("Enumeration over cartesian product is not implemented")
        return self.base_dist.enumerate_support(expand=expand)

    def __repr__(self) -> str:
        return f"Independent({self.base_dist}, {self.reinterpreted_batch_ndims})"


class MixtureSameFamily(Distribution):
    """A mixture: a Categorical picks the component, along the last batch axis of ``component_distribution``."""

    def __init__(
        self, mixture_distribution: Any, component_distribution: Any, validate_args: bool | None = None
    ) -> None:
        self.mixture_distribution, self.component_distribution = mixture_distribution, component_distribution
        if type(mixture_distribution).__name__ != "Categorical":
            raise ValueError(" The Mixture distribution needs to be an  instance of torch.distributions.Categorical")
        if not isinstance(component_distribution, Distribution):
            raise ValueError("The Component distribution need to be an instance of torch.distributions.Distribution")
        for a, b in zip(reversed(mixture_distribution.batch_shape), reversed(component_distribution.batch_shape[:-1])):
            if 1 not in (a, b) and a != b:
                raise ValueError(
                    f"`mixture_distribution.batch_shape` ({mixture_distribution.batch_shape}) is not compatible with "
                    f"`component_distribution.batch_shape`({component_distribution.batch_shape[:-1]})"
                )
        k, have = mixture_distribution.logits.shape[-1], component_distribution.batch_shape[-1]
        if k != have:
            raise ValueError(
                f"`mixture_distribution component` ({k}) does not equal `component_distribution.batch_shape[-1]` "
                f"({have})"
            )
        self._num_component = k
        super().__init__(component_distribution.batch_shape[:-1], component_distribution.event_shape, validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        shape = tuple(batch_shape)
        return MixtureSameFamily(
            self.mixture_distribution.expand(shape),
            self.component_distribution.expand((*shape, self._num_component)), self._validate_args,
        )  # fmt: skip

    @C.dependent_property
    def support(self) -> Any:  # type: ignore[override]
        return C.MixtureSameFamilyConstraint(self.component_distribution.support)

    def cdf(self, value: Any) -> Any:
        each = self.component_distribution.cdf(value.unsqueeze(-1 - len(self._event_shape)))
        return (each * self.mixture_distribution.probs).sum(-1)

    def __repr__(self) -> str:
        return f"MixtureSameFamily(\n  {self.mixture_distribution!r},\n  {self.component_distribution!r})"

    def _spread(self, x: Any) -> Any:
        return x.reshape((*x.shape, *(1,) * len(self._event_shape)))

    @property
    def mean(self) -> Any:
        axis = -1 - len(self._event_shape)
        return (self._spread(self.mixture_distribution.probs) * self.component_distribution.mean).sum(axis)

    @property
    def variance(self) -> Any:
        axis = -1 - len(self._event_shape)
        p, c = self._spread(self.mixture_distribution.probs), self.component_distribution
        within = (p * c.variance).sum(axis)
        return within + (p * (c.mean - self.mean.unsqueeze(axis)) ** 2).sum(axis)

    def sample(self, sample_shape: Any = ()) -> Any:
        axis = len(tuple(sample_shape)) + len(self._batch_shape)
        pick = self.mixture_distribution.sample(sample_shape)
        drawn = self.component_distribution.sample(sample_shape)
        index = self._spread(pick.unsqueeze(-1)).expand((*pick.shape, 1, *self._event_shape))
        return drawn.gather(axis, index).squeeze(axis)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        each = self.component_distribution.log_prob(value.unsqueeze(-1 - len(self._event_shape)))
        return torch.logsumexp(each + torch.log_softmax(self.mixture_distribution.logits, dim=-1), dim=-1)


class MultivariateNormal(Distribution):
    """log p(x) = −½ (x − μ)ᵀ Σ⁻¹ (x − μ) − ½ log |Σ| − (d/2) log 2π, with Σ = L Lᵀ."""

    has_rsample = True
    arg_constraints = {  # noqa: RUF012
        "loc": C.real_vector, "covariance_matrix": C.positive_definite, "precision_matrix": C.positive_definite,
        "scale_tril": C.lower_cholesky,
    }  # fmt: skip
    support = C.real_vector

    def __init__(
        self,
        loc: Any,
        covariance_matrix: Any = None,
        precision_matrix: Any = None,
        scale_tril: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        given = [m for m in (covariance_matrix, scale_tril, precision_matrix) if m is not None]
        if len(given) != 1:
            raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
        if given[0].dim() < 2:
            raise ValueError("the matrix must be at least two-dimensional, with optional leading batch dimensions")
        d = loc.shape[-1]
        shape = torch.broadcast_shapes(tuple(given[0].shape[:-2]), tuple(loc.shape[:-1]))
        self.loc = loc.expand((*shape, d))
        name = "scale_tril" if scale_tril is not None else "covariance_matrix"
        name = "precision_matrix" if precision_matrix is not None else name
        self.__dict__[name] = given[0].expand((*shape, *given[0].shape[-2:]))
        super().__init__(shape, (d,), validate_args)
        if scale_tril is None:
            whole = given[0] if precision_matrix is None else torch.linalg.inv(precision_matrix)
            self.__dict__["scale_tril"] = torch.linalg.cholesky(whole).expand((*shape, d, d))

    def __getattr__(self, name: str) -> Any:
        lower = self.__dict__.get("scale_tril")
        if name == "covariance_matrix" and lower is not None:
            return lower @ lower.mT
        if name == "precision_matrix" and lower is not None:
            return torch.linalg.inv(lower @ lower.mT)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def mean(self) -> Any:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Any:
        return self.scale_tril.pow(2).sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Any:
        eps = torch.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype)
        return self.loc + (self.scale_tril @ eps.unsqueeze(-1)).squeeze(-1)

    def _half_log_det(self) -> Any:
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        difference = (value - self.loc).unsqueeze(-1)
        lower = self.scale_tril.expand((*difference.shape[:-2], *self.scale_tril.shape[-2:]))
        z = torch.linalg.solve_triangular(lower, difference, upper=False).squeeze(-1)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + z.pow(2).sum(-1)) - self._half_log_det()

    def entropy(self) -> Any:
        return 0.5 * self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + self._half_log_det()
