"""Probability distributions with PyTorch's names: samples, densities, moments, divergences.

A distribution's parameters are tensors in your graph: ``log_prob`` differentiates with respect to them, and where
``has_rsample`` is true the samples do, too. The draws come from chainrule's own stream.

>>> import chainrule as torch
>>> mean = torch.tensor(1.0, requires_grad=True)
>>> torch.distributions.Normal(mean, 2.0).log_prob(torch.tensor(3.0)).backward()
>>> mean.grad
tensor(0.5000)
"""

from __future__ import annotations

from . import constraints, transforms
from .constraint_registry import (
    biject_to,
    transform_to,
)
from .continuous import (
    Cauchy,
    ContinuousBernoulli,
    Exponential,
    GeneralizedPareto,
    Gumbel,
    Laplace,
    Normal,
    Uniform,
    VonMises,
)
from .discrete import (
    Bernoulli,
    Binomial,
    Categorical,
    Geometric,
    Multinomial,
    NegativeBinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
    Poisson,
)
from .distribution import (
    Distribution,
    ExponentialFamily,
)
from .gammas import (
    Beta,
    Chi2,
    Dirichlet,
    FisherSnedecor,
    Gamma,
    StudentT,
)
from .joint import (
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
)
from .kl import (
    kl_divergence,
    register_kl,
)
from .matrices import (
    LKJCholesky,
    LowRankMultivariateNormal,
    Wishart,
)
from .relaxed import (
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from .transformed import (
    HalfCauchy,
    HalfNormal,
    InverseGamma,
    Kumaraswamy,
    LogisticNormal,
    LogNormal,
    Pareto,
    TransformedDistribution,
    Weibull,
)
from .transforms import (
    AbsTransform,
    AffineTransform,
    CatTransform,
    ComposeTransform,
    CorrCholeskyTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    PowerTransform,
    ReshapeTransform,
    SigmoidTransform,
    SoftmaxTransform,
    SoftplusTransform,
    StackTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    identity_transform,
)

__all__ = [
    "AbsTransform", "AffineTransform", "Bernoulli", "Beta", "Binomial", "CatTransform", "Categorical", "Cauchy",
    "Chi2", "ComposeTransform", "ContinuousBernoulli", "CorrCholeskyTransform", "CumulativeDistributionTransform",
    "Dirichlet", "Distribution", "ExpTransform", "Exponential", "ExponentialFamily", "FisherSnedecor", "Gamma",
    "GeneralizedPareto", "Geometric", "Gumbel", "HalfCauchy", "HalfNormal", "Independent", "IndependentTransform",
    "InverseGamma", "Kumaraswamy", "LKJCholesky", "Laplace", "LogNormal", "LogisticNormal",
    "LowRankMultivariateNormal", "LowerCholeskyTransform", "MixtureSameFamily", "Multinomial", "MultivariateNormal",
    "NegativeBinomial", "Normal", "OneHotCategorical", "OneHotCategoricalStraightThrough", "Pareto", "Poisson",
    "PositiveDefiniteTransform", "PowerTransform", "RelaxedBernoulli", "RelaxedOneHotCategorical", "ReshapeTransform",
    "SigmoidTransform", "SoftmaxTransform", "SoftplusTransform", "StackTransform", "StickBreakingTransform",
    "StudentT", "TanhTransform", "Transform", "TransformedDistribution", "Uniform", "VonMises", "Weibull", "Wishart",
    "biject_to", "identity_transform", "kl_divergence", "register_kl", "transform_to", "constraints", "transforms",
]  # fmt: skip

# The files that PyTorch has one distribution each in, which some code imports from.
_FILES = {
    "bernoulli": "discrete", "beta": "gammas", "binomial": "discrete", "categorical": "discrete",
    "cauchy": "continuous", "chi2": "gammas", "continuous_bernoulli": "continuous", "dirichlet": "gammas",
    "exp_family": "distribution", "exponential": "continuous", "fishersnedecor": "gammas", "gamma": "gammas",
    "generalized_pareto": "continuous", "geometric": "discrete", "gumbel": "continuous",
    "half_cauchy": "transformed", "half_normal": "transformed", "independent": "joint",
    "inverse_gamma": "transformed", "kumaraswamy": "transformed", "laplace": "continuous", "lkj_cholesky": "matrices",
    "log_normal": "transformed", "logistic_normal": "transformed", "lowrank_multivariate_normal": "matrices",
    "mixture_same_family": "joint", "multinomial": "discrete", "multivariate_normal": "joint",
    "negative_binomial": "discrete", "normal": "continuous", "one_hot_categorical": "discrete",
    "pareto": "transformed", "poisson": "discrete", "relaxed_bernoulli": "relaxed", "relaxed_categorical": "relaxed",
    "studentT": "gammas", "transformed_distribution": "transformed", "uniform": "continuous", "utils": "utils",
    "von_mises": "continuous", "weibull": "transformed", "wishart": "matrices",
}  # fmt: skip


def _register() -> None:
    import importlib
    import sys

    for name, room in _FILES.items():
        sys.modules.setdefault(f"{__name__}.{name}", importlib.import_module(f".{room}", __name__))


_register()


def __getattr__(name: str) -> object:
    import sys

    if name in _FILES:
        return sys.modules[f"{__name__}.{name}"]
    from ..core import left_out

    raise left_out.missing("torch.distributions", name, __all__)
