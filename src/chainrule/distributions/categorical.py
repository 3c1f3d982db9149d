"""``torch.distributions.categorical``: where older code imports Categorical from."""

from .discrete import Categorical

__all__ = ["Categorical"]
