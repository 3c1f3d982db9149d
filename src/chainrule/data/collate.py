"""From a list of examples to one batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from ..core.op import registry
from ..core.variable import Variable, wrap

__all__ = ["default_collate", "default_convert"]

_WRONG = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"


def default_convert(data: Any) -> Any:
    """Arrays inside ``data`` as tensors; everything else as it is."""
    if isinstance(data, Variable):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SaUO" else wrap(np.asarray(data))
    if isinstance(data, Mapping):
        return type(data)({k: default_convert(v) for k, v in data.items()})  # type: ignore[call-arg]
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(default_convert(v) for v in data))
    if isinstance(data, tuple):
        return [default_convert(v) for v in data]
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return [default_convert(v) for v in data]
    return data


def default_collate(batch: Any) -> Any:
    """Examples joined along a new first axis, inside the structure they have in common.

    Tensors and arrays are stacked, numbers become a tensor (floats float64, as in PyTorch), strings stay a list, dicts
    and (named) tuples are joined entry by entry.

    >>> import chainrule as torch
    >>> torch.utils.data.default_collate([{"x": 1, "name": "a"}, {"x": 2, "name": "b"}])
    {'x': tensor([1, 2]), 'name': ['a', 'b']}
    """
    first = batch[0]
    if isinstance(first, Variable):
        if not any(t._requires for t in batch):
            shapes = {t._array.shape for t in batch}
            if len(shapes) == 1:
                return wrap(np.stack([t._array for t in batch]))
        return registry["stack"].call(*batch, dim=0)
    if isinstance(first, (np.ndarray, np.generic)):
        if isinstance(first, np.ndarray) and first.dtype.kind in "SaUO":
            raise TypeError(_WRONG.format(first.dtype))
        return wrap(np.stack([np.asarray(x) for x in batch]))
    if isinstance(first, bool):
        return wrap(np.array(batch))
    if isinstance(first, float):
        return wrap(np.array(batch, np.float64))
    if isinstance(first, int):
        return wrap(np.array(batch, np.int64))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        joined = {k: default_collate([example[k] for example in batch]) for k in first}
        try:
            if isinstance(first, MutableMapping):  # a copy keeps what its class needs besides the entries
                made = copy.copy(first)
                made.update(joined)
                return made
            return type(first)(joined)  # type: ignore[call-arg]
        except TypeError:
            return joined
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(list(column)) for column in zip(*batch, strict=True)))
    if isinstance(first, Sequence):
        if any(len(example) != len(first) for example in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        return [default_collate(list(column)) for column in zip(*batch)]
    raise TypeError(_WRONG.format(type(first)))
