"""Memory for time: a function's intermediate values are not kept but computed again in the backward pass."""

from __future__ import annotations

import contextlib
import itertools
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..autograd.graph import saved_tensors_hooks
from ..core.rng import default_generator
from ..core.state import state
from ..core.variable import Variable, wrap
from ..errors import GradientError, message

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

    Random numbers (dropout) are the same in both runs. With ``use_reentrant=False`` the graph is the function's own,
    whose saved values come back when the first of them is asked for: everything works that works without a checkpoint.
    With True the function is one node; its backward runs the function again and accumulates the parameters' gradients.

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
    if use_reentrant is False:
        return _Again(function, args, kwargs, second, preserve_rng_state).run(first)
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


class _Slot:
    """What a node keeps in place of a saved array."""

    __slots__ = ("__weakref__",)


class _Enough(Exception):
    """Everything that was saved in the first run is there: the rest of the second need not run."""


class _Again:
    """A function whose saved values are forgotten, and found again by a second run when backward asks for one.

    A value lives as long as the node that wants it: the slots are its keys, and the nodes are their only owners.
    """

    def __init__(self, function: Any, args: Any, kwargs: Any, second: Any, preserve_rng_state: bool) -> None:
        self.function, self.args, self.kwargs, self.second = function, args, kwargs, second
        self.before = default_generator.get_state() if preserve_rng_state else None
        self.slots: list[weakref.ref[_Slot]] = []
        self.found: weakref.WeakKeyDictionary[_Slot, Any] = weakref.WeakKeyDictionary()

    def run(self, first: Any) -> Any:
        with first, saved_tensors_hooks(self._forget, self._value):
            return self.function(*self.args, **self.kwargs)

    def _forget(self, tensor: Any) -> _Slot:
        slot = _Slot()
        self.slots.append(weakref.ref(slot))
        return slot

    def _value(self, slot: _Slot) -> Any:
        if slot not in self.found:
            self._run_again()
        if slot not in self.found:
            raise GradientError(
                message(
                    "torch.utils.checkpoint: A different number of tensors was saved during the original forward and "
                    "recomputation.",
                    f"the first run saved {len(self.slots)}, the second fewer",
                    fix="The function must do the same both times: look for what depends on state that changes.",
                )
            )
        return self.found[slot]

    def _run_again(self) -> None:
        count = itertools.count()

        def keep(tensor: Any) -> Any:
            k = next(count)
            slot = self.slots[k]() if k < len(self.slots) else None
            if slot is not None:
                self.found[slot] = tensor
            if k == len(self.slots) - 1:
                raise _Enough
            return tensor

        now = default_generator.get_state() if self.before is not None else None
        with_grad, state.grad = state.grad, True
        try:
            if self.before is not None:
                default_generator.set_state(self.before)
            with self.second, contextlib.suppress(_Enough), saved_tensors_hooks(keep, lambda tensor: tensor):
                self.function(*self.args, **self.kwargs)
        finally:
            state.grad = with_grad
            if now is not None:
                default_generator.set_state(now)


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
