"""Elementwise functions and operators with PyTorch's argument forms."""

from __future__ import annotations

from typing import Any

from ..ops import arithmetic, elementwise
from ._args import need_tensor

__all__ = ["add", "exp", "mul", "sin", "sub"]
METHODS = ("add", "exp", "mul", "sin", "sub")
INPLACE = ("add", "exp", "mul", "sin", "sub")

exp, sin = elementwise.exp, elementwise.sin


def _reflected(function: Any) -> Any:
    def operator(self: Any, other: Any) -> Any:
        return function(other, self)

    return operator


# Operators are the ops themselves: nothing stands between `x * y` and its dispatch.
OPERATORS = {
    "__add__": arithmetic.add,
    "__radd__": _reflected(arithmetic.add),
    "__sub__": arithmetic.sub,
    "__rsub__": _reflected(arithmetic.sub),
    "__mul__": arithmetic.mul,
    "__rmul__": _reflected(arithmetic.mul),
    "__truediv__": arithmetic.div,
    "__rtruediv__": _reflected(arithmetic.div),
    "__pow__": arithmetic.pow,
    "__rpow__": _reflected(arithmetic.pow),
    "__neg__": arithmetic.neg,
}


def add(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """Sum, y = input + alpha · other."""
    return arithmetic.add(need_tensor(input, "add"), other if alpha == 1 else other * alpha)


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """Difference, y = input − alpha · other."""
    return arithmetic.sub(need_tensor(input, "sub"), other if alpha == 1 else other * alpha)


def mul(input: Any, other: Any) -> Any:
    """Product, y = input · other."""
    return arithmetic.mul(need_tensor(input, "mul"), other)
