"""Ops on bfloat16 tensors: computed in float32, rounded once.

NumPy has no bfloat16 arithmetic, and the loops that ml_dtypes brings round after every NumPy call within a body and
add up in bfloat16. So an op that computes is applied to float32 copies of its inputs and its results are rounded to
the nearest bfloat16 (even where halfway), which is what PyTorch's kernels do. The casts are ops like any other: they
stand in the graph, and gradients of every order pass through them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .dtypes import BFLOAT16, float32
from .untyped import ARRAY, TUPLE
from .variable import Variable

if TYPE_CHECKING:
    from .op import Op

__all__ = ["MOVES", "holds_bfloat16", "in_single"]

MOVES = frozenset(("cast", "clone", "overwrite", "view_scatter"))
"""Ops besides the views that only carry entries about: they work on bfloat16 as it is stored."""


def holds_bfloat16(x: Any) -> bool:
    """Whether x is a tensor or an array of bfloat16."""
    return (x._array if isinstance(x, Variable) else x).dtype is BFLOAT16 if hasattr(x, "dtype") else False


def in_single(op: Op, inputs: Any, params: dict[str, Any]) -> Any:
    """Apply ``op`` to float32 copies of bfloat16 inputs; float32 results become bfloat16 again.

    They do so if the first floating point input was bfloat16: the running statistics of a batch norm may be wider.
    """
    from .op import registry

    cast = registry["cast"].call
    rounds = False
    given: list[Any] = []
    for x in inputs:
        if isinstance(x, Variable) and x._array.dtype is BFLOAT16:
            rounds = rounds or not any(isinstance(t, Variable) and t._array.dtype is float32.numpy for t in given)
            given.append(cast(x, dtype=float32.numpy))
        elif isinstance(x, ARRAY) and x.dtype is BFLOAT16:
            given.append(x.astype(np.float32))
        else:
            given.append(x)
    result = op.call(*given, **params)
    if not rounds:
        return result

    def rounded(t: Any) -> Any:
        single = isinstance(t, Variable) and t._array.dtype is float32.numpy
        return cast(t, dtype=BFLOAT16) if single else t

    return tuple(map(rounded, result)) if isinstance(result, TUPLE) else rounded(result)
