"""Reductions with PyTorch's argument forms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import reduce as ops
from ._args import axes, cast, need_tensor

__all__ = ["sum"]
METHODS = ("sum",)


def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Sum of all entries, or over ``dim``: y = Σ x. Integers and bools sum to int64.

    >>> import chainrule as torch
    >>> torch.sum(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=1)
    tensor([3., 7.])
    """
    x = need_tensor(input, "sum")
    if dtype is None and x._array.dtype.kind in "biu":
        dtype = np.dtype(np.int64)
    return ops.sum(cast(x, dtype), dim=axes(dim, x._array.ndim), keepdim=keepdim)
