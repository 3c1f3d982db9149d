"""The graph of a first derivative, named: what the second derivative is read from."""

from __future__ import annotations

from typing import Any

from ..core.variable import Variable, wrap
from ..errors import UsageError, message
from ..graph.replay import Quantity, Replay
from .entry import Entry
from .formula import label, root_label
from .locals import entry_name

__all__ = ["derivative_graph"]


def derivative_graph(y: Any, first: Replay, q: Quantity, at: Entry, target: Variable, replayed: Any) -> Replay:
    """The replay of dy/d``target[at]``, with the names of ``first`` and of the gradients in it: ``dL/dh``.

    Args:
        y: the tensor that ``first`` is the replay of; ``q`` stands for ``target`` there.
        replayed: makes a replay of a tensor.

    Raises:
        UsageError: when the derivative does not depend on ``target``.
    """
    from ..autograd.api import grad

    top = root_label(first)
    inner = [p for s in first.steps for p in s.outs if p.name is not None and p is not first.root]
    probes = [
        wrap(p.array, p.maker.node if p.maker.op.outputs == 1 else (p.maker.node, p.output), True)
        for p in inner
        if p.maker is not None
    ]
    g, *found = grad(y, [target, *probes], create_graph=True, retain_graph=True, allow_unused=True)
    name = f"d{top}/d{entry_name(label(q, first), at)}"
    picked = g[at] if at else g
    if not picked.requires_grad:
        raise UsageError(message(f"{name} does not depend on {label(q, first)}: the second derivative is 0"))
    replay = replayed(picked)
    # What the first derivative's own graph computes has neither names nor lines of its own: the line at work is this.
    recorded = {id(s.node) for s in first.steps}
    for step in replay.steps:
        step.unplaced = id(step.node) not in recorded
    for key, known in replay.of_node.items():
        known.name = first.of_node[key].name if key in first.of_node else None
    for leaf in (*replay.leaves, *replay.consts):
        old = first.of_leaf.get(id(leaf.leaf)) if leaf.leaf is not None else first.of_const.get(id(leaf.array))
        leaf.name = _transposed(leaf, first) if old is None else old.name
    for p, gradient in zip(inner, found, strict=True):
        known = None if gradient is None else replay.quantity(gradient)
        if known is not None and known.name is None:
            known.name = f"d{top}/d{p.name}"
    replay.root.name = name
    return replay


def _transposed(q: Quantity, first: Replay) -> str | None:
    """``xᵀ`` for a constant that is the transposed view of one with a name."""
    if q.leaf is not None or q.array.ndim < 2:
        return None
    back = q.array.swapaxes(-1, -2)
    for known in (*first.consts, *first.leaves):
        a = known.array
        same = (a.ctypes.data, a.shape, a.strides, a.dtype) == (back.ctypes.data, back.shape, back.strides, back.dtype)
        if same and known.name is not None:
            return f"{known.name}ᵀ"
    return None
