"""``saved_tensors_hooks``: what the tape saves passes through a pack hook, and comes back through an unpack hook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .hooks import NodeHooks
from .node import Node
from .state import state
from .untyped import ARRAY, TUPLE
from .variable import Variable, wrap

__all__ = ["Packed", "pack", "pack_value", "saved_value", "unpack_saved", "unpack_value"]


class Packed:
    """What a pack hook returned in place of a saved array, with the hook that turns it back."""

    __slots__ = ("value", "unpack")

    def __init__(self, value: Any, unpack: Any) -> None:
        self.value = value
        self.unpack = unpack


def pack_value(array: Any) -> Any:
    """One saved array through the current pack hook; anything else as it is."""
    if not isinstance(array, ARRAY) or state.saved_hooks is None:
        return array
    packer, unpacker = state.saved_hooks
    hooks, state.saved_hooks = state.saved_hooks, None  # the hook's own ops save nothing through it
    grad, state.grad = state.grad, False
    try:
        return Packed(packer(wrap(array)), unpacker)
    finally:
        state.saved_hooks, state.grad = hooks, grad


def unpack_value(value: Any) -> Any:
    """The array that a ``Packed`` stands for; anything else as it is.

    Raises:
        TypeError: if the unpack hook returns no tensor.
    """
    if type(value) is not Packed:
        return value
    grad, state.grad = state.grad, False
    try:
        result = value.unpack(value.value)
    finally:
        state.grad = grad
    if not isinstance(result, Variable):
        raise TypeError(
            f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type(result)}"
        )
    return result._array


def _map(function: Callable[[Any], Any], values: Any) -> Any:
    if values is None:
        return None
    return tuple(tuple(map(function, v)) if type(v) is TUPLE else function(v) for v in values)


def pack(node: Node) -> None:
    """Send what a new node saved through the pack hook. Its hooks mark it, so that backward takes the long way."""
    node.saved = [_map(pack_value, values) for values in node.saved or ()]
    node.hooks = NodeHooks()
    node.hooks.packed = True


def unpack_saved(saved: Sequence[Any]) -> Sequence[Any]:
    """What ``pack`` was given."""
    return [_map(unpack_value, values) for values in saved]


_POSITIONS = {"self": 0, "input": 0, "other": 1, "weight": 1, "exponent": 1, "mat2": 1, "tensor1": 1, "tensor2": 2}
"""PyTorch's names of an op's inputs, by position, where ours are others."""


def saved_value(node: Node, name: str) -> Any:
    """What a node saved, asked for by PyTorch's name of it.

    Raises:
        RuntimeError: when the graph has been freed.
        AttributeError: when the node saved no such thing.
    """
    wanted = name.removeprefix("_raw").removeprefix("_saved_")
    if node.saved is None:
        raise RuntimeError(
            "Trying to backward through the graph a second time (or directly access saved tensors after they have "
            "already been freed). Saved intermediate values of the graph are freed when you call .backward() or "
            "autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time or "
            "if you need to access saved tensors after calling backward."
        )
    op = node.op
    sizes = wanted.endswith("_sym_sizes")
    stem = wanted.removesuffix("_sym_sizes")
    i = op.inputs.index(stem) if stem in op.inputs else _POSITIONS.get(stem, -1)
    for rule, values in zip(op.rules, node.saved):
        if rule is None or values is None:
            continue
        for kind, label, value in zip(rule.kinds, rule.names, values):
            if sizes:
                if label == f"{op.inputs[i]}_shape":
                    return tuple(value)
            elif (wanted == "result" and kind == "out") or (type(kind) is int and kind == i):
                array = unpack_value(value)
                return wrap(array) if isinstance(array, ARRAY) else array
    if wanted in node.params:
        return node.params[wanted]
    if 0 <= i < len(op.inputs) and node.consts is not None and not sizes:
        value = node.consts[i]
        if value is not None:
            return wrap(value) if isinstance(value, ARRAY) else value
    raise AttributeError(f"{node.name()!r} object has no attribute {name!r}", name=name, obj=node)
