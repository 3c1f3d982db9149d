"""PyTorch's programs: functions of tensors, ``nn.Module``s, ``autograd.Function``s. Imported only when given one."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..problem import Problem
from .tensors import from_tensors

__all__ = ["from_torch"]


class _Torch:
    name = "torch"

    def __init__(self) -> None:
        torch: Any = importlib.import_module("torch")

        self._torch: Any = torch
        self.module_type = torch.nn.Module
        self.function_type = torch.autograd.Function

    def is_tensor(self, x: Any) -> bool:
        return isinstance(x, self._torch.Tensor)

    def is_float(self, t: Any) -> bool:
        return bool(t.is_floating_point())

    def array(self, t: Any) -> np.ndarray[Any, Any]:
        return t.detach().cpu().numpy() if isinstance(t, self._torch.Tensor) else np.asarray(t)

    def leaf(self, array: np.ndarray[Any, Any], requires: bool) -> Any:
        # from_numpy keeps the memory: the arrays are the check's own copies
        return self._torch.tensor(np.asarray(array, dtype=np.float64)).requires_grad_(requires)

    def gradients(self, out: Any, leaves: list[Any], create_graph: bool) -> list[Any]:
        if not out.requires_grad:
            return [None] * len(leaves)
        return list(self._torch.autograd.grad(out, leaves, create_graph=create_graph, allow_unused=True))

    def no_grad(self) -> Any:
        return self._torch.no_grad()

    def store(self, t: Any, array: np.ndarray[Any, Any]) -> None:
        t.data = self._torch.tensor(np.asarray(array, dtype=np.float64))

    @contextlib.contextmanager
    def in_double(self, tensors: list[Any]) -> Iterator[None]:
        kept = [(t, t.data) for t in tensors]
        try:
            for t, a in kept:
                if a.dtype != self._torch.float64:
                    t.data = a.double()
            yield
        finally:
            for t, a in kept:
                t.data = a

    def depends(self, t: Any, others: list[Any]) -> bool:
        return (
            t.grad_fn is not None
            and any(
                g is not None
                for g in self._torch.autograd.grad(
                    t.sum(), [o for o in others if o.requires_grad], retain_graph=True, allow_unused=True
                )
            )
            if any(o.requires_grad for o in others)
            else False
        )


def from_torch(
    f: Any, inputs: Any, grad: Any, *, loss: Any, cotangent: Any, data: Any, order: int, seed: int
) -> Problem:
    """A problem from a PyTorch program."""
    return from_tensors(_Torch(), f, inputs, grad, loss=loss, cotangent=cotangent, data=data, order=order, seed=seed)
