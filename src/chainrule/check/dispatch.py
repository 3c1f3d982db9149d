"""Which adapter is for this object? Asked by the names of its types, so that nothing foreign is imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import UsageError
from .problem import Problem

__all__ = ["problem_of"]


def problem_of(
    f: Any,
    inputs: Any,
    grad: Any,
    *,
    loss: Any = None,
    cotangent: Any = None,
    data: Any = None,
    order: int = 1,
    seed: int = 0,
) -> Problem:
    """Bring the user's objects to a ``Problem``."""
    if not callable(f):
        raise UsageError(f"The first argument must be a function (or a module), not {type(f).__name__}.")
    if order not in (1, 2):
        raise UsageError(f"order must be 1 or 2, not {order!r}.")
    if inputs is None and not hasattr(f, "parameters"):
        raise UsageError("Say where to check: pass inputs (the point) as the second argument.")
    room = _room(f, inputs, grad, data)
    if room == "torch":
        from .adapters.torch import from_torch

        return from_torch(f, inputs, grad, loss=loss, cotangent=cotangent, data=data, order=order, seed=seed)
    if room == "jax":
        from .adapters.jax import from_jax

        return from_jax(f, inputs, grad, cotangent=cotangent, data=data, order=order, seed=seed)
    if grad is not None and room != "chainrule":
        if order == 2:
            raise UsageError(
                "order=2 needs a function that can be differentiated twice; a gradient written by "
                "hand is checked with order=1."
            )
        from .adapters.arrays import from_arrays

        return from_arrays(f, inputs, grad, data=data, cotangent=cotangent)
    from .adapters.engine import from_engine

    return from_engine(f, inputs, grad, loss=loss, cotangent=cotangent, data=data, order=order, seed=seed)


def _leaves(*trees: Any) -> Iterator[Any]:
    for tree in trees:
        if isinstance(tree, Mapping):
            yield from _leaves(*tree.values())
        elif isinstance(tree, (tuple, list)):
            yield from _leaves(*tree[:100])
        else:
            yield tree


def _room(f: Any, inputs: Any, grad: Any, data: Any) -> str:
    for leaf in _leaves(f, inputs, data):
        for base in type(leaf).__mro__ if not isinstance(leaf, type) else leaf.__mro__:
            package = base.__module__.partition(".")[0]
            if package == "torch" and "torch" in sys.modules:
                return "torch"
            if package in ("jax", "jaxlib") and "jax" in sys.modules:
                return "jax"
            if package == "chainrule" and base.__name__ in ("Tensor", "Variable", "Module", "Function"):
                return "chainrule"
    return "numpy" if grad is not None else "chainrule"
