"""Ready-made parametrisations."""

from __future__ import annotations

from typing import Any

from ..module import Module
from .parametrize import register_parametrization
from .reparametrize import _norm_except

__all__ = ["weight_norm"]


class _WeightNorm(Module):
    """w = g · v / ‖v‖, from original0 = g and original1 = v."""

    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def _length(self, v: Any) -> Any:
        return _norm_except(v, None if self.dim == -1 else self.dim)

    def forward(self, g: Any, v: Any) -> Any:
        return v * (g / self._length(v))

    def right_inverse(self, weight: Any) -> tuple[Any, Any]:
        return self._length(weight), weight


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Learn length (``original0``) and direction (``original1``) of a weight instead of the weight itself."""
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)
