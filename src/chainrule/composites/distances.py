"""Similarities and distances of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.live import values_of
from ..core.variable import wrap
from ..errors import ShapeError, message
from ..ops import layout, reduce
from ..ops.compare import where
from ..ops.pad import take_axis

__all__ = ["cosine_similarity", "pairwise_distance", "pdist"]


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """x₁ · x₂ / (max(‖x₁‖, ε) · max(‖x₂‖, ε)) along ``dim``."""

    def unit(x: Any) -> Any:
        size = reduce.norm(x, p=2.0, dim=(dim % x._array.ndim,), keepdim=True)
        # The gradient is that of the norm, below eps too, as in PyTorch.
        value = values_of(size)
        return x / (size + where(value < eps, eps - value, 0.0))

    ndim = max(x1._array.ndim, x2._array.ndim)
    if not -ndim <= dim < ndim:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-ndim}, {ndim - 1}], but got {dim})")
    shape = np.broadcast_shapes(x1._array.shape, x2._array.shape)
    a, b = (t if t._array.shape == shape else layout.expand(t, shape=shape) for t in (x1, x2))
    return reduce.sum(unit(a) * unit(b), dim=(dim % ndim,), keepdim=False)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """‖x₁ − x₂ + ε‖ₚ over the last axis."""
    d = x1 - x2 + eps
    return reduce.norm(d, p=float(p), dim=(d._array.ndim - 1,), keepdim=keepdim)


def pdist(input: Any, p: float = 2.0) -> Any:
    """The p-norm distances of all pairs i < j of rows of a matrix (N, M): N (N − 1) / 2 numbers."""
    a = input._array
    if a.ndim != 2:
        raise ShapeError(message("pdist only supports 2D tensors, got: " + f"{a.ndim}D"))
    if p < 0:
        raise ShapeError("pdist only supports non-negative p values")
    first, second = (wrap(i) for i in np.triu_indices(a.shape[0], 1))
    d = take_axis(input, first, dim=0) - take_axis(input, second, dim=0)
    return reduce.norm(d, p=float(p), dim=(1,), keepdim=False)
