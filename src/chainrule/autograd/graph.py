"""Tools on the recorded graph, with ``torch.autograd.graph``'s names: saved-tensor hooks, edges, versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import inplace
from ..core.hooks import RemovableHandle, note_change
from ..core.node import AccumulateGrad, Node
from ..core.state import state
from ..core.variable import Variable, wrap
from .engine import queue_callback

__all__ = [
    "GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks", "edge_tensor",
    "get_gradient_edge", "increment_version", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks",
    "set_warn_on_accumulate_grad_stream_mismatch",
]  # fmt: skip


class saved_tensors_hooks:
    """Inside, what the tape saves is what ``pack_hook(tensor)`` returns; backward gets ``unpack_hook`` of it.

    >>> import chainrule as torch
    >>> seen = []
    >>> with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t.shape) or t, lambda t: t):
    ...     y = torch.ones(3, requires_grad=True).exp()
    >>> seen
    [torch.Size([3])]
    """

    def __init__(self, pack_hook: Callable[[Any], Any], unpack_hook: Callable[[Any], Any]) -> None:
        self.pack_hook = pack_hook
        self.unpack_hook = unpack_hook

    def __enter__(self) -> None:
        if _Disabled.text is not None:
            raise RuntimeError(_Disabled.text)
        self._before = state.saved_hooks
        state.saved_hooks = (self.pack_hook, self.unpack_hook)
        note_change()

    def __exit__(self, *exc: object) -> None:
        state.saved_hooks = self._before
        note_change()


class save_on_cpu(saved_tensors_hooks):
    """Accepted: everything is on the CPU already."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda t: t, lambda t: t)


class _Disabled:
    text: str | None = None


class disable_saved_tensors_hooks:
    """Inside, ``saved_tensors_hooks`` raises a RuntimeError with this text."""

    def __init__(self, error_message: str) -> None:
        self.text = error_message

    def __enter__(self) -> None:
        self._before, _Disabled.text = _Disabled.text, self.text

    def __exit__(self, *exc: object) -> None:
        _Disabled.text = self._before


class GradientEdge(NamedTuple):
    """A place in the graph where a gradient arrives: a node, and which of its outputs."""

    node: Any
    output_nr: int
    ownership_token: Any = None


def get_gradient_edge(tensor: Any) -> GradientEdge:
    """The edge at which the gradient of ``tensor`` is known.

    Raises:
        RuntimeError: if the tensor does not require grad.
    """
    if not tensor.requires_grad:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    node = tensor.grad_fn
    return GradientEdge(AccumulateGrad(tensor) if node is None else node, tensor.output_nr)


def increment_version(tensor: Any) -> None:
    """Say that a tensor's memory was changed behind the engine's back."""
    for t in (tensor,) if isinstance(tensor, Variable) else tensor:
        inplace.touch(t._array)


class _Handles:
    def __init__(self, handles: tuple[RemovableHandle, ...]) -> None:
        self.handles = handles

    def remove(self) -> None:
        """Take all of the hooks away."""
        for handle in self.handles:
            handle.remove()

    def __enter__(self) -> _Handles:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register_multi_grad_hook(tensors: Sequence[Any], fn: Callable[..., Any], *, mode: str = "all") -> _Handles:
    """Call ``fn`` with the gradients of several tensors, once in each backward pass.

    With ``mode="all"`` it gets a list when the last of them is known, or at the end of the pass, with None for those
    that no gradient reached; with ``mode="any"`` the first gradient that is known.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    grads: list[Any] = [None] * len(tensors)
    count = 0

    def finish() -> None:
        nonlocal count
        if count and mode == "all":
            given, grads[:], count = list(grads), [None] * len(tensors), 0
            fn(given)
        count = 0

    def hook(i: int) -> Callable[[Any], None]:
        def one(g: Any) -> None:
            nonlocal count
            count += 1
            if count == 1:
                queue_callback(finish)
            if mode == "any":
                if count == 1:
                    fn(g)
                return
            grads[i] = g
            if count == len(tensors):
                finish()

        return one

    return _Handles(tuple(t.register_hook(hook(i)) for i, t in enumerate(tensors)))


class _Mutable:
    """What ``allow_mutation_on_saved_tensors`` gives: PyTorch's has a ``clear()``, and so has this."""

    def clear(self) -> None:
        """Nothing: the copies belong to the graph, and go with it."""


class allow_mutation_on_saved_tensors:
    """Inside, what the tape saves is a copy, so that the original may be written to before backward.

    >>> import chainrule as torch
    >>> with torch.autograd.graph.allow_mutation_on_saved_tensors():
    ...     x = torch.ones(2, requires_grad=True)
    ...     y = x.clone()
    ...     z = (y**2).sum()
    ...     _ = y.mul_(3)
    ...     z.backward()
    >>> x.grad
    tensor([2., 2.])
    """

    def __enter__(self) -> _Mutable:
        self._hooks = saved_tensors_hooks(lambda t: t._array.copy(), wrap)
        self._hooks.__enter__()
        return _Mutable()

    def __exit__(self, *exc: object) -> None:
        self._hooks.__exit__(*exc)


def set_warn_on_accumulate_grad_stream_mismatch(enabled: bool) -> None:
    """Accepted and without effect: there are no streams."""


def edge_tensor(x: Any) -> Any:
    """A tensor for a ``GradientEdge``: what stands at that place of the graph; anything else as it is."""
    if not isinstance(x, GradientEdge):
        return x
    node, i = x.node, x.output_nr
    if isinstance(node, AccumulateGrad):
        return node.variable
    shape, dtype = node.out if node.op.outputs == 1 else node.out[i]
    return wrap(np.broadcast_to(np.zeros((), dtype), shape), node if node.op.outputs == 1 else (node, i), True)
