"""``torch.distributions.multivariate_normal``: the module that some code imports MultivariateNormal from."""

from .joint import MultivariateNormal

__all__ = ["MultivariateNormal"]
