"""``torch.distributions.bernoulli``: the module that some code imports Bernoulli from."""

from .discrete import Bernoulli

__all__ = ["Bernoulli"]
