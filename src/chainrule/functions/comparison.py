"""Comparisons, logic and bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.variable import Variable
from ..ops import compare

__all__ = ["eq", "ne", "lt", "le", "gt", "ge", "greater", "greater_equal", "less", "less_equal", "not_equal"]
METHODS = tuple(__all__)
INPLACE = tuple(__all__)

eq, ne, lt, le, gt, ge = compare.eq, compare.ne, compare.lt, compare.le, compare.gt, compare.ge
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne


def _operator(op: Any, other_kind: bool | None) -> Any:
    """A comparison operator; operands that are no numbers are unequal to a tensor, and not ordered."""

    def operator(self: Any, other: Any) -> Any:
        if isinstance(other, (Variable, float, int, np.ndarray, np.generic)):
            return op(self, other)
        return NotImplemented if other_kind is None else other_kind

    return operator


OPERATORS = {
    "__eq__": _operator(eq, False), "__ne__": _operator(ne, True), "__lt__": _operator(lt, None),
    "__le__": _operator(le, None), "__gt__": _operator(gt, None), "__ge__": _operator(ge, None),
}  # fmt: skip
