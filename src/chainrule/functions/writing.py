"""Writing into a tensor's own memory: ``copy_``, ``fill_``, augmented assignment, and views in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import inplace
from ..core.state import state
from ..core.variable import Variable, wrap
from ..errors import GradientError, ShapeError, message
from ..ops import arithmetic
from . import layout
from ._args import cast, whole
from .inplace import make_inplace

__all__ = ["detach", "fill"]
METHODS = ("copy_", "detach_", "fill_", "fill_diagonal_", "zero_", "t_", "squeeze_", "unsqueeze_", "transpose_",
           "swapaxes_", "swapdims_")  # fmt: skip


def copy_(self: Any, src: Any, non_blocking: bool = False) -> Any:
    """Store another tensor's entries here, broadcast and cast as needed; gradients flow to ``src``."""
    v = src if isinstance(src, Variable) else wrap(np.asarray(src))
    v = cast(v, self._array.dtype)
    if v._array.shape != self._array.shape:
        layout.common_shape([self._array.shape, v._array.shape])
        v = layout.expand(v, *self._array.shape)
    return inplace.write(self, v, copies=True)


def fill_(self: Any, value: Any) -> Any:
    """Store one value everywhere."""
    if isinstance(value, Variable):
        if value._array.ndim:
            raise ShapeError(
                message(
                    f"fill_ only supports 0-dimension value tensor but got tensor with {value._array.ndim} dimensions."
                )
            )
        return copy_(self, value)
    a = self._array
    if isinstance(value, (int, float)) and a.dtype.kind in "iu":
        value = whole(value, a.dtype)
    if state.recorder is None and not (state.grad and (self._requires or self._base is not None)):
        inplace.check_writable(self)
        a[...] = value
        inplace.touch(a)
        return self
    return inplace.write(self, wrap(np.full(a.shape, value, a.dtype)))


def fill(input: Any, value: Any) -> Any:
    """A tensor of the same shape and dtype with one value everywhere."""
    return fill_(input.clone(), value)


def zero_(self: Any) -> Any:
    """Store 0 everywhere."""
    return fill_(self, 0)


def fill_diagonal_(self: Any, fill_value: Any, wrap: bool = False) -> Any:
    """Store one value on the main diagonal."""
    if self._array.ndim < 2:
        raise RuntimeError("dimensions must larger than 1")
    if self._array.ndim > 2 and len(set(self._array.shape)) > 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    mask = np.zeros(self._array.shape, bool)
    np.fill_diagonal(mask, True, wrap=wrap)
    self[_wrap(mask)] = fill_value
    return self


_wrap = wrap


def detach(input: Any) -> Any:
    """The same memory, outside the graph."""
    return input.detach()


def detach_(self: Any) -> Any:
    """Leave the graph: this tensor becomes a leaf that does not require grad."""
    if self._base is not None and state.grad and self.requires_grad:
        raise GradientError(
            message(
                "Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) "
                "for training, and gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and "
                "hence detach_() cannot be called on these gradients. To fix this error, please refer to the "
                "Optimizer.zero_grad() function in torch/optim/optimizer.py as a solution."
            )
        )
    self._node, self._requires, self._base = None, False, None
    return self


def _view_in_place(function: Callable[..., Any]) -> Any:
    name = function.__name__ + "_"

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        inplace.check_writable(self)
        return inplace.become(self, function(inplace.alias(self), *args, **kwargs))

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"``{function.__name__}``, and this tensor becomes the view."
    return method


t_, squeeze_, unsqueeze_, transpose_, swapaxes_, swapdims_ = map(
    _view_in_place,
    (layout.t, layout.squeeze, layout.unsqueeze, layout.transpose, layout.swapaxes, layout.swapdims),
)


# --- augmented assignment ----------------------------------------------------------------------------------------


def _augmented(op: Any) -> Any:
    write = make_inplace(op)

    def operator(self: Any, other: Any) -> Any:
        if not isinstance(other, (Variable, int, float, np.ndarray, np.generic)):
            return NotImplemented
        return write(self, other)

    return operator


OPERATORS = {
    "__iadd__": _augmented(arithmetic.add),
    "__isub__": _augmented(arithmetic.sub),
    "__imul__": _augmented(arithmetic.mul),
    "__itruediv__": _augmented(arithmetic.div),
    "__ipow__": _augmented(arithmetic.pow),
}
