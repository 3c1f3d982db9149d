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

from . import constraints
from .continuous import (
    Beta,
    Cauchy,
    Chi2,
    Dirichlet,
    Exponential,
    Gamma,
    Gumbel,
    HalfNormal,
    Laplace,
    LogNormal,
    Normal,
    StudentT,
    Uniform,
)
from .discrete import Bernoulli, Binomial, Categorical, Geometric, Multinomial, OneHotCategorical, Poisson
from .distribution import Distribution
from .joint import Independent, MixtureSameFamily, MultivariateNormal
from .kl import kl_divergence, register_kl

__all__ = [
    "Bernoulli", "Beta", "Binomial", "Categorical", "Cauchy", "Chi2", "Dirichlet", "Distribution", "Exponential",
    "Gamma", "Geometric", "Gumbel", "HalfNormal", "Independent", "Laplace", "LogNormal", "MixtureSameFamily",
    "Multinomial", "MultivariateNormal", "Normal", "OneHotCategorical", "Poisson", "StudentT", "Uniform",
    "constraints", "kl_divergence", "register_kl",
]  # fmt: skip


def __getattr__(name: str) -> object:
    from ..core import left_out

    raise AttributeError(left_out.absent("torch.distributions", name, __all__))
