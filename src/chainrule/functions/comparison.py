"""Comparisons, logic and bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.variable import Variable
from ..ops import compare
from .pointwise import binary

__all__ = ["eq", "ne", "lt", "le", "gt", "ge", "greater", "greater_equal", "less", "less_equal", "not_equal"]
METHODS = tuple(__all__)
INPLACE = tuple(__all__)

eq, ne, lt, le, gt, ge = (binary(n, getattr(compare, n)) for n in ("eq", "ne", "lt", "le", "gt", "ge"))
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne


def _operator(op: Any, other_kind: bool | None) -> Any:
    """A comparison operator; operands that are no numbers are unequal to a tensor, and not ordered."""

    def operator(self: Any, other: Any) -> Any:
        if isinstance(other, (Variable, float, int, np.ndarray, np.generic)):
            return op(self, other)
        return NotImplemented if other_kind is None else other_kind

    return operator


OPERATORS = {
    "__eq__": _operator(compare.eq, False), "__ne__": _operator(compare.ne, True),
    "__lt__": _operator(compare.lt, None), "__le__": _operator(compare.le, None),
    "__gt__": _operator(compare.gt, None), "__ge__": _operator(compare.ge, None),
}  # fmt: skip
