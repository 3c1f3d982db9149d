"""``torch.distributions.independent``: the module that some code imports Independent from."""

from .joint import Independent

__all__ = ["Independent"]
