"""Where a NaN or an infinity was born: the first op (forward or backward) that made one out of finite inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.engine import apply_rules
from ..core.node import Node
from ..core.state import state

__all__ = ["first_nonfinite"]


class _Watch:
    """A recorder that remembers the first op whose result is not finite although its inputs are."""

    def __init__(self) -> None:
        self.found: tuple[Any, Any] | None = None

    def record(self, op: Any, inputs: Any, params: dict[str, Any], outs: Any) -> None:
        if self.found is None and not _finite(*outs) and _finite(*(getattr(x, "_array", x) for x in inputs)):
            self.found = (op, state.module)

    def write(self, tensor: Any, value: Any) -> None: ...

    def leak(self, tensor: Any, what: str) -> None: ...

    def live(self, getter: Any) -> Any:
        return getter()


def _finite(*arrays: Any) -> bool:
    for a in arrays:
        if (
            isinstance(a, (np.ndarray, float, np.floating))
            and np.asarray(a).dtype.kind == "f"
            and not np.isfinite(a).all()
        ):
            return False
    return True


def _layer(model: Any, chain: Any) -> str:
    """The innermost running module's name in the model."""
    names = {id(m): name for name, m in model.named_modules()}
    while chain is not None:
        module, chain = chain
        if names.get(id(module)):
            return f"layer {names[id(module)]} ({type(module).__name__})"
    return "outside any layer"


def first_nonfinite(model: Any, loss_function: Any, x: Any, y: Any) -> str:
    """Run one batch again, watching every value, and say in a sentence where the first NaN or infinity appears."""
    watch = _Watch()
    for name, p in model.named_parameters():
        if not _finite(p._array):
            return f"the parameter {name} itself holds a NaN or an infinity (the update before made it so)"
    if not _finite(x._array):
        return "the input batch itself holds a NaN or an infinity"
    previous = state.recorder
    state.recorder = watch
    try:
        loss = loss_function(model(x), y)
    finally:
        state.recorder = previous
    if watch.found is not None:
        op, chain = watch.found
        return f"in the forward pass, first in op {op.name}, {_layer(model, chain)}"
    node = _backward(loss)
    if node is not None:
        return f"in the backward pass, first in the gradient of op {node.op.name}, {_layer(model, node.module)}"
    return "the loss and all gradients of this batch are finite when computed again"


def _backward(loss: Any) -> Node | None:
    """The first node, in backward order, that turns a finite gradient into one that is not."""
    from ..autograd.engine import _reachable

    pending: dict[int, Any] = {id(loss._node): np.ones_like(loss._array)}
    for node in reversed(_reachable([loss._node])):
        if node.op.outputs != 1:
            return None
        g = pending.pop(id(node), None)
        if g is None:
            continue
        for edge, gi in zip(node.edges, apply_rules(node, g, "arrays"), strict=True):
            if gi is None:
                continue
            if not _finite(gi):
                return node
            if isinstance(edge, Node):
                seen = pending.get(id(edge))
                pending[id(edge)] = gi if seen is None else seen + gi
    return None
