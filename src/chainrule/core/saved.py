"""``saved_tensors_hooks``: what the tape saves passes through a pack hook, and comes back through an unpack hook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .hooks import NodeHooks
from .node import Node
from .state import state
from .untyped import ARRAY, TUPLE
from .variable import Variable, wrap

__all__ = ["Packed", "pack", "pack_value", "unpack_saved", "unpack_value"]


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
