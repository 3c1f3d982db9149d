"""NumPy's keywords, which PyTorch takes as well: ``axis`` for ``dim``, ``keepdims`` for ``keepdim``, and so on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["with_numpy_keywords"]

_SAME = {"axis": "dim", "axes": "dims", "keepdims": "keepdim", "x": "input", "x2": "other"}

_TAKE_THEM = frozenset(
    "all amax amin aminmax any argmax argmin argsort cat chunk concat concatenate count_nonzero cummax cummin cumprod "
    "cumsum flip gather index_select log_softmax logsumexp max median min nanmean nansum norm prod roll softmax sort "
    "split squeeze stack std std_mean topk unbind unsqueeze var var_mean".split()
)
"""Functions through whose every call the renaming passes. ``sum`` and ``mean`` know the names themselves."""

_wrapped: dict[Any, Any] = {}


def with_numpy_keywords(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, taking NumPy's keywords too if it is one that people call with them.

    >>> import chainrule as torch
    >>> torch.tensor([[1.0, 2.0]]).amax(axis=1, keepdims=True)
    tensor([[2.]])
    """
    if name not in _TAKE_THEM:
        return function
    if function not in _wrapped:

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if kwargs:
                for theirs in _SAME.keys() & kwargs.keys():
                    kwargs[_SAME[theirs]] = kwargs.pop(theirs)
            return function(*args, **kwargs)

        _wrapped[function] = call
    return _wrapped[function]
