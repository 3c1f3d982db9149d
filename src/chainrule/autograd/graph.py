"""Tools on the recorded graph, with ``torch.autograd.graph``'s names: saved-tensor hooks, edges, versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..core import inplace
from ..core.hooks import RemovableHandle
from ..core.node import AccumulateGrad, Node
from ..core.state import state
from ..core.variable import Variable

__all__ = [
    "GradientEdge", "Node", "disable_saved_tensors_hooks", "get_gradient_edge", "increment_version",
    "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks",
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

    def __exit__(self, *exc: object) -> None:
        state.saved_hooks = self._before


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
    """Call ``fn`` with the gradients of several tensors: of all of them when the last is known, or (``mode="any"``) of
    the first that is."""
    grads: list[Any] = [None] * len(tensors)
    count = [0]

    def hook(i: int) -> Callable[[Any], None]:
        def one(g: Any) -> None:
            count[0] += 1
            if mode == "any":
                if count[0] == 1:
                    fn(g)
                return
            grads[i] = g
            if count[0] == len(tensors):
                given = list(grads)
                grads[:] = [None] * len(tensors)
                count[0] = 0
                fn(given)

        return one

    return _Handles(tuple(t.register_hook(hook(i)) for i, t in enumerate(tensors)))
