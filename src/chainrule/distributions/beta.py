"""``torch.distributions.beta``: the module that some code imports Beta from."""

from .continuous import Beta

__all__ = ["Beta"]
