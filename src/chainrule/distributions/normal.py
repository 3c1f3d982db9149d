"""``torch.distributions.normal``: the module that some code imports Normal from."""

from .continuous import Normal

__all__ = ["Normal"]
