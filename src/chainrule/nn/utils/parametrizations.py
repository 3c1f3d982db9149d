"""Ready-made parametrisations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.rng import numpy_generator
from ...core.variable import wrap
from ..module import Module
from .parametrize import register_parametrization
from .reparametrize import _norm_except, as_matrix, divide_by_norm, power_iteration, unit

__all__ = ["spectral_norm", "weight_norm"]


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


class _SpectralNorm(Module):
    """w / σ, σ the largest singular value of w as a matrix, by power iterations from the vectors of the last time."""

    def __init__(self, weight: Any, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        n = weight._array.ndim
        if dim >= n or dim < -n:
            raise IndexError(f"Dimension out of range (expected to be in range of [-{n}, {n - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError(
                f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}"
            )
        self.dim, self.eps, self.n_power_iterations = dim % n, eps, n_power_iterations
        if n > 1:
            matrix = as_matrix(weight.detach(), self.dim)._array
            rng = numpy_generator()
            for name, size in (("_u", matrix.shape[0]), ("_v", matrix.shape[1])):
                self.register_buffer(name, wrap(unit(rng.standard_normal(size), eps).astype(matrix.dtype)))
            power_iteration(matrix, self._u._array, self._v._array, 15, eps)  # PyTorch's number for the start

    def forward(self, weight: Any) -> Any:
        if weight._array.ndim == 1:
            return weight / max(float(np.sqrt((weight._array * weight._array).sum())), self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            power_iteration(matrix._array, self._u._array, self._v._array, self.n_power_iterations, self.eps)
        return divide_by_norm(weight, matrix, wrap(self._u._array.copy()), wrap(self._v._array.copy()))

    def right_inverse(self, value: Any) -> Any:
        return value


def spectral_norm(
    module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Any:
    """Divide a weight by its largest singular value (Miyato et al. 2018).

    >>> import chainrule as torch
    >>> layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 3))
    >>> round(float(torch.linalg.norm(layer.weight, 2)), 1)
    1.0
    """
    weight = getattr(module, name, None)
    if weight is None:
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = 1 if type(module).__name__.startswith("ConvTranspose") else 0
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
