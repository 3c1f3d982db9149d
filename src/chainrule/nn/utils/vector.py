"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...core import inplace
from ...core.op import registry
from ...core.variable import Variable

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """The parameters flattened and put one after the other (differentiable)."""
    reshape, cat = registry["reshape"].call, registry["cat"].call
    return cat(*[reshape(p, shape=(-1,)) for p in parameters], dim=0)


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Fill the parameters with the entries of ``vec``, in order."""
    if not isinstance(vec, Variable):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}")
    start = 0
    for p in parameters:
        size = p._array.size
        p._array[...] = vec._array[start : start + size].reshape(p._array.shape)
        inplace.touch(p._array)
        start += size
