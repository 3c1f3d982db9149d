"""``torch.distributions.uniform``: the module that some code imports Uniform from."""

from .continuous import Uniform

__all__ = ["Uniform"]
