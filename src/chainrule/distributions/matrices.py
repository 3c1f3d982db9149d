"""Distributions of vectors and matrices: low-rank normals, Cholesky factors of correlations, Wishart."""

from __future__ import annotations

import math
import warnings
from typing import Any

import chainrule as torch

from . import constraints as C
from .distribution import Distribution, ExponentialFamily, satisfied
from .gammas import Beta, Chi2

__all__ = ["LKJCholesky", "LowRankMultivariateNormal", "Wishart"]


class LowRankMultivariateNormal(Distribution):
    """A normal vector with covariance W Wᵀ + D: everything costs what the r × r matrix 1 + Wᵀ D⁻¹ W costs."""

    has_rsample = True
    arg_constraints = {  # noqa: RUF012
        "loc": C.real_vector, "cov_factor": C.independent(C.real, 2), "cov_diag": C.independent(C.positive, 1),
    }  # fmt: skip
    support = C.real_vector

    def __init__(self, loc: Any, cov_factor: Any, cov_diag: Any, validate_args: bool | None = None) -> None:
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        d = loc.shape[-1]
        if cov_factor.dim() < 2:
            raise ValueError("cov_factor must be at least two-dimensional, with optional leading batch dimensions")
        if cov_factor.shape[-2] != d:
            raise ValueError(f"cov_factor must be a batch of matrices with shape {d} x m")
        if cov_diag.shape[-1] != d:
            raise ValueError(f"cov_diag must be a batch of vectors with shape {(d,)}")
        shape = torch.broadcast_shapes(tuple(loc.shape[:-1]), tuple(cov_diag.shape[:-1]), tuple(cov_factor.shape[:-2]))
        self.loc, self.cov_diag = loc.expand((*shape, d)), cov_diag.expand((*shape, d))
        self.cov_factor = cov_factor.expand((*shape, *cov_factor.shape[-2:]))
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        k = scaled @ self.cov_factor
        self._capacitance_tril = torch.linalg.cholesky(k + torch.eye(k.shape[-1], dtype=k.dtype))
        super().__init__(shape, (d,), validate_args)

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        return self.cov_factor.pow(2).sum(-1) + self.cov_diag

    @property
    def covariance_matrix(self) -> Any:
        return self.cov_factor @ self.cov_factor.mT + torch.diag_embed(self.cov_diag)

    @property
    def scale_tril(self) -> Any:
        return torch.linalg.cholesky(self.covariance_matrix)

    @property
    def precision_matrix(self) -> Any:
        """By the Woodbury identity."""
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        a = torch.linalg.solve_triangular(self._capacitance_tril, scaled, upper=False)
        return torch.diag_embed(self.cov_diag.reciprocal()) - a.mT @ a

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        w = torch.randn((*shape[:-1], self.cov_factor.shape[-1]), dtype=self.loc.dtype)
        eps = torch.randn(shape, dtype=self.loc.dtype)
        return self.loc + (self.cov_factor @ w.unsqueeze(-1)).squeeze(-1) + self.cov_diag.sqrt() * eps

    def _half_log_det(self) -> Any:
        return self._capacitance_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 0.5 * self.cov_diag.log().sum(-1)

    def _mahalanobis(self, difference: Any) -> Any:
        scaled = difference / self.cov_diag
        inner = self.cov_factor.mT @ scaled.unsqueeze(-1)
        lower = self._capacitance_tril
        lower = lower.expand((*inner.shape[:-2], *lower.shape[-2:]))
        z = torch.linalg.solve_triangular(lower, inner, upper=False).squeeze(-1)
        return (difference * scaled).sum(-1) - z.pow(2).sum(-1)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        m = self._mahalanobis(value - self.loc)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + m) - self._half_log_det()

    def entropy(self) -> Any:
        return 0.5 * self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + self._half_log_det()


class LKJCholesky(Distribution):
    """The Cholesky factor of a correlation matrix R with density ∝ |R|^(η − 1), by the onion method.

    Source: D. Lewandowski, D. Kurowicka, H. Joe, "Generating random correlation matrices based on vines and extended
    onion method", 2009.
    """

    arg_constraints = {"concentration": C.positive}  # noqa: RUF012
    support = C.corr_cholesky

    def __init__(self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None) -> None:
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        given: Any = torch.as_tensor(concentration, dtype=getattr(concentration, "dtype", torch.get_default_dtype()))
        self.concentration: Any = given
        marginal = given + 0.5 * (dim - 2)
        offset = torch.arange(dim - 1, dtype=given.dtype)
        offset = torch.cat([offset.new_zeros((1,)), offset])
        self._beta = Beta(offset + 0.5, marginal.unsqueeze(-1) - 0.5 * offset)
        super().__init__(given.size(), (dim, dim), validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return LKJCholesky(self.dim, self.concentration.expand(batch_shape), self._validate_args)

    def sample(self, sample_shape: Any = ()) -> Any:
        with torch.no_grad():
            y = self._beta.sample(sample_shape).unsqueeze(-1)
            u = torch.randn(self._extended_shape(sample_shape), dtype=y.dtype).tril(-1)
            direction = u / u.norm(dim=-1, keepdim=True)
            direction = torch.where(torch.isnan(direction), 0.0, direction)  # the first row has no direction
            w = torch.sqrt(y) * direction
            tiny = torch.finfo(w.dtype).tiny
            return w + torch.diag_embed((1 - (w**2).sum(-1)).clamp(min=tiny).sqrt())

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        n = self.dim
        diagonal = value.diagonal(dim1=-1, dim2=-2)[..., 1:]
        order = 2 * (self.concentration - 1).unsqueeze(-1) + n - torch.arange(2, n + 1, dtype=diagonal.dtype)
        unnormalized = (order * diagonal.log()).sum(-1)
        alpha = self.concentration + 0.5 * (n - 1)
        numerator = torch.mvlgamma(alpha - 0.5, n - 1)
        constant = 0.5 * (n - 1) * math.log(math.pi)
        return unnormalized - (constant + numerator - torch.lgamma(alpha) * (n - 1))


class Wishart(ExponentialFamily):
    """Σ xxᵀ of ``df`` normal vectors with the given covariance (or precision, or Cholesky factor)."""

    has_rsample = True
    support = C.positive_definite
    arg_constraints = {  # noqa: RUF012
        "covariance_matrix": C.positive_definite, "precision_matrix": C.positive_definite,
        "scale_tril": C.lower_cholesky, "df": C.greater_than(0),
    }  # fmt: skip
    _mean_carrier_measure = 0

    def __init__(
        self, df: Any, covariance_matrix: Any = None, precision_matrix: Any = None, scale_tril: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        given = {"covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix, "scale_tril": scale_tril}
        given = {k: v for k, v in given.items() if v is not None}
        if len(given) != 1:
            raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
        ((name, matrix),) = given.items()
        if matrix.dim() < 2:
            raise ValueError("scale_tril must be at least two-dimensional, with optional leading batch dimensions")
        df = torch.as_tensor(df, dtype=getattr(df, "dtype", matrix.dtype))
        shape, d = torch.broadcast_shapes(tuple(matrix.shape[:-2]), tuple(df.shape)), matrix.shape[-1]
        self.df = df.expand(shape)
        if not satisfied(lambda df: df > d - 1, self.df):
            raise ValueError(f"Value of df={df} expected to be greater than ndim - 1 = {d - 1}.")
        self.__dict__[name] = matrix.expand((*shape, d, d))
        super().__init__(shape, (d, d), validate_args)
        if name != "scale_tril":
            whole = matrix if name == "covariance_matrix" else torch.linalg.inv(matrix)
            self.__dict__["scale_tril"] = torch.linalg.cholesky(whole).expand((*shape, d, d))
        if not satisfied(lambda df: df >= d, self.df):
            warnings.warn(
                "Low df values detected. Singular samples are highly likely to occur for ndim - 1 < df < ndim.",
                stacklevel=2,
            )

    def __getattr__(self, name: str) -> Any:
        lower = self.__dict__.get("scale_tril")
        if name == "covariance_matrix" and lower is not None:
            return lower @ lower.mT
        if name == "precision_matrix" and lower is not None:
            return torch.linalg.inv(lower @ lower.mT)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def _d(self) -> int:
        return self._event_shape[-1]

    def _log_det(self) -> Any:
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    @property
    def mean(self) -> Any:
        return self.df.view((*self._batch_shape, 1, 1)) * self.covariance_matrix

    @property
    def mode(self) -> Any:
        factor = self.df - self.covariance_matrix.shape[-1] - 1
        factor = torch.where(factor <= 0, math.nan, factor)
        return factor.view((*self._batch_shape, 1, 1)) * self.covariance_matrix

    @property
    def variance(self) -> Any:
        v = self.covariance_matrix
        diagonal = v.diagonal(dim1=-2, dim2=-1)
        outer = diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2)
        return self.df.view((*self._batch_shape, 1, 1)) * (v.pow(2) + outer)

    def rsample(self, sample_shape: Any = (), max_try_correction: Any = None) -> Any:
        """By Bartlett's decomposition: L A Aᵀ Lᵀ with √χ² on A's diagonal and normal numbers below it."""
        shape = torch.Size((*sample_shape, *self._batch_shape))
        steps = torch.arange(self._d, dtype=self.df.dtype)
        chi2 = Chi2(self.df.unsqueeze(-1) - steps, validate_args=False)
        diagonal = chi2.rsample(sample_shape).clamp(min=torch.finfo(self.df.dtype).tiny).sqrt()
        noise = torch.randn((*shape, self._d, self._d), dtype=self.df.dtype).tril(-1)
        factor = self.scale_tril @ (noise + torch.diag_embed(diagonal))
        return factor @ factor.mT

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        nu, p = self.df, self._d
        lower = self.scale_tril
        shape = torch.broadcast_shapes(tuple(lower.shape), tuple(value.shape))
        a = torch.linalg.solve_triangular(lower.expand(shape), value.expand(shape), upper=False)
        trace = torch.linalg.solve_triangular(lower.mT.expand(shape), a, upper=True).diagonal(dim1=-2, dim2=-1).sum(-1)
        norm = nu * p / 2 * math.log(2) + nu * self._log_det() + torch.mvlgamma(nu / 2, p)
        return (nu - p - 1) / 2 * torch.linalg.slogdet(value).logabsdet - trace / 2 - norm

    def entropy(self) -> Any:
        nu, p = self.df, self._d
        digammas = sum(torch.digamma((nu - i) / 2) for i in range(p))
        return (
            (p + 1) * (self._log_det() + p / 2 * math.log(2)) + torch.mvlgamma(nu / 2, p)
            - (nu - p - 1) / 2 * digammas + nu * p / 2
        )  # fmt: skip

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return -self.precision_matrix / 2, (self.df - self._d - 1) / 2

    def _log_normalizer(self, x: Any, y: Any) -> Any:  # type: ignore[override]
        p = self._d
        return (y + (p + 1) / 2) * (-torch.linalg.slogdet(-2 * x).logabsdet + math.log(2.0) * p) + torch.mvlgamma(
            y + (p + 1) / 2, p
        )
