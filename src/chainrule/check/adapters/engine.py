"""chainrule's own programs: functions of tensors, modules, custom functions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..problem import Problem
from .tensors import from_tensors

__all__ = ["from_engine"]


class _Engine:
    name = "chainrule"

    def __init__(self) -> None:
        import chainrule

        from ...autograd.function import Function
        from ...core.variable import Variable, wrap

        self._root, self._variable, self._wrap = chainrule, Variable, wrap
        self.function_type = Function
        from ...nn.module import Module

        self.module_type = Module

    def is_tensor(self, x: Any) -> bool:
        return isinstance(x, self._variable)

    def is_float(self, t: Any) -> bool:
        return t._array.dtype.kind == "f"

    def array(self, t: Any) -> np.ndarray[Any, Any]:
        return t._array if isinstance(t, self._variable) else np.asarray(t)

    def leaf(self, array: np.ndarray[Any, Any], requires: bool) -> Any:
        return self._wrap(np.asarray(array, dtype=np.float64), None, requires)

    def gradients(self, out: Any, leaves: list[Any], create_graph: bool) -> list[Any]:
        if not out._requires:
            return [None] * len(leaves)
        return list(self._root.autograd.grad(out, leaves, create_graph=create_graph, allow_unused=True))

    def no_grad(self) -> Any:
        return self._root.no_grad()

    def store(self, t: Any, array: np.ndarray[Any, Any]) -> None:
        t._array = np.array(array, dtype=np.float64)

    @contextlib.contextmanager
    def in_double(self, tensors: list[Any]) -> Iterator[None]:
        kept = [(t, t._array) for t in tensors]
        try:
            for t, a in kept:
                if a.dtype != np.float64:
                    t._array = a.astype(np.float64)
            yield
        finally:
            for t, a in kept:
                t._array = a

    def depends(self, t: Any, others: list[Any]) -> bool:
        stack, seen = [t._node], set[int]()
        leaves = {id(o) for o in others}
        nodes = {id(o._node) for o in others if o._node is not None}
        while stack:
            node = stack.pop()
            node = node[0] if type(node) is tuple else node
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            if id(node) in leaves or (id(node) in nodes and node is not t._node):
                return True
            stack += [e for e in getattr(node, "edges", ()) if e is not None]
        return False


def from_engine(
    f: Any, inputs: Any, grad: Any, *, loss: Any, cotangent: Any, data: Any, order: int, seed: int
) -> Problem:
    """A problem from a chainrule program, with its ops checkable one by one and its kinks named."""
    problem = from_tensors(
        _Engine(), f, inputs, grad, loss=loss, cotangent=cotangent, data=data, order=order, seed=seed
    )
    if grad is None and problem.tape is not None:
        from ..nodes import first_bad, kink_name

        problem.first_bad = lambda: first_bad(problem)
        problem.kink_names = lambda name, flat, h: kink_name(problem, name, flat, h)
    return problem
