"""Memory for time: a function's intermediate values are not kept but computed again in the backward pass."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..core.rng import default_generator
from ..core.state import state
from ..core.variable import Variable, wrap

__all__ = ["checkpoint", "checkpoint_sequential", "noop_context_fn", "set_checkpoint_debug_enabled"]


def noop_context_fn() -> tuple[Any, Any]:
    """Two contexts that do nothing: for the first run, and for the one in the backward pass."""
    return contextlib.nullcontext(), contextlib.nullcontext()


@contextlib.contextmanager
def set_checkpoint_debug_enabled(enabled: bool | None) -> Iterator[None]:
    """Accepted and without effect: the function's own lines are in every message anyway."""
    yield


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Any = None,
    determinism_check: str = "default",
    debug: bool = False,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)``, whose intermediate values are computed again when backward needs them.

    The graph of the second run gives the gradients of the arguments, and those of the parameters are accumulated where
    they belong. Random numbers (dropout) are the same in both runs. ``use_reentrant`` chooses between two
    implementations in PyTorch; here there is one, which does what both do.

    Args:
        context_fn: gives two contexts, for the first run and for the second.
        preserve_rng_state: whether the second run draws the random numbers of the first.
    """
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. "
            "Pass use_reentrant=True or use_reentrant=False.",
            stacklevel=2,
        )
    if use_reentrant and kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if use_reentrant and state.grad and not any(isinstance(a, Variable) and a._requires for a in args):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2)
    first, second = (context_fn or noop_context_fn)()
    if not state.grad or state.recorder is not None:
        return function(*args, **kwargs)  # nothing would be kept; and a traced program plans its own memory
    from ..autograd.function import Function

    before = default_generator.get_state() if preserve_rng_state else None
    places = [i for i, a in enumerate(args) if isinstance(a, Variable)]
    shape: dict[str, Any] = {}

    class Checkpoint(Function):
        """The whole function as one node."""

        @staticmethod
        def forward(ctx: Any, _: Any, *tensors: Any) -> Any:
            with_grad, state.grad = state.grad, False
            try:
                with first:
                    out = function(*_merged(args, places, tensors), **kwargs)
            finally:
                state.grad = with_grad
            ctx.save_for_backward(*tensors)
            shape["single"] = isinstance(out, Variable)
            shape["kind"] = type(out)
            return out if shape["single"] else tuple(out)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            inner = []
            for t in ctx.saved_tensors:
                fresh = wrap(t._array)
                fresh._requires = t._array.dtype.kind == "f"
                inner.append(fresh)
            now = default_generator.get_state() if before is not None else None
            if before is not None:
                default_generator.set_state(before)
            with_grad, state.grad = state.grad, True
            try:
                with second:
                    out = function(*_merged(args, places, inner), **kwargs)
                outs = (out,) if isinstance(out, Variable) else tuple(out)
                live = [(o, g) for o, g in zip(outs, gradients, strict=True) if o._requires and g is not None]
                from ..autograd.api import backward

                backward([o for o, _ in live], [g for _, g in live])
            finally:
                state.grad = with_grad
                if now is not None:
                    default_generator.set_state(now)
            return (None, *(t._grad for t in inner))

    # A parameter of the function is no argument; so that the node is recorded at all, one more input requires grad.
    import numpy as np

    anchor = wrap(np.zeros(0, np.float32), None, True)
    return Checkpoint.apply(anchor, *[args[i] for i in places])


def _merged(args: Sequence[Any], places: list[int], tensors: Sequence[Any]) -> list[Any]:
    merged = list(args)
    for i, t in zip(places, tensors, strict=True):
        merged[i] = t
    return merged


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """A Sequential in ``segments`` parts, all but the last of them checkpointed."""
    parts = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = len(parts) // segments
    starts = [*range(0, size * (segments - 1), size), size * (segments - 1)] if segments > 1 else [0]
    for start, end in itertools.pairwise([*starts, len(parts)]):

        def run(x: Any, some: Any = tuple(parts[start:end])) -> Any:
            for f in some:
                x = f(x)
            return x

        input = run(input) if end == len(parts) else checkpoint(run, input, use_reentrant=use_reentrant, **kwargs)
    return input
