"""The part of a tensor that the engine knows: an array, and how it was computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

__all__ = ["Variable", "tensor_type", "wrap"]

# A training step allocates and frees the same arrays over and over. By default glibc hands blocks from 128 KB back to
# the system each time, and every page faults again: a third to a half of an LSTM's step. It learns from the largest
# block freed so far, so one of nearly its limit (32 MB), never touched, teaches it to keep such memory from the start.
np.empty(31 << 20, np.uint8)


class Variable:
    """An array with a place in the graph. ``Tensor`` adds PyTorch's methods to it.

    ``_node`` is what made it: a ``Node``, a pair ``(node, i)`` for output i of an op with several outputs, or None
    for a leaf. ``_base`` is the tensor that this one is a view of. ``__dict__`` stays empty until somebody sets an
    attribute, so a temporary costs four slots.
    """

    __slots__ = ("_array", "_node", "_requires", "_base", "__dict__", "__weakref__")

    _array: np.ndarray[Any, Any]
    _node: Any
    _requires: bool
    _base: Variable | None

    # Rarely set, hence defaults on the class instead of slots to fill in every constructor.
    _grad: Any = None
    _hooks: Any = None
    _after: Any = None
    _retains: bool = False
    _view: Any = None
    _seen: Any = None

    if TYPE_CHECKING:
        # Every Variable that exists is a Tensor, whose methods the type checker cannot see from here: most of them are
        # attached when the package is imported.
        def __getattr__(self, name: str) -> Any: ...


_new = object.__new__
tensor_type: type[Variable] = Variable
"""The class that ops return; ``tensor.py`` sets it to Tensor when the package is imported."""


def set_tensor_type(cls: type[Variable]) -> None:
    global tensor_type
    tensor_type = cls


def wrap(array: Any, node: Any = None, requires: bool = False) -> Any:
    """A tensor around ``array`` (NumPy scalars, which reductions of 0-d arrays give, become 0-d arrays)."""
    t = _new(tensor_type)
    t._array = array if type(array) is np.ndarray else np.asanyarray(array)
    t._node = node
    t._requires = requires
    t._base = None
    return t
