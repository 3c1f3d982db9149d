"""``backward`` and ``grad``: what people call, with PyTorch's checks and messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dtypes import FLOATS
from ..core.state import state
from ..core.variable import Variable, wrap
from ..errors import GradientError, message
from .engine import run_backward

__all__ = ["backward", "grad"]


_ONES: dict[Any, np.ndarray[Any, Any]] = {}
"""dL/dL = 1, by dtype: the first gradient of nearly every pass."""


def _start(t: Any, given: Any, i: int) -> Any:
    """The gradient to start from at output ``t``."""
    if given is None:
        if t._array.size != 1:
            raise GradientError(
                message(
                    "grad can be implicitly created only for scalar outputs",
                    f"output {i} has shape {tuple(t.shape)}",
                    fix="Reduce it to a scalar (loss.sum(), loss.mean()) or pass gradient=.",
                )
            )
        if t._array.ndim == 0:
            found = _ONES.get(t._array.dtype)
            if found is None:
                found = _ONES[t._array.dtype] = np.ones((), t._array.dtype)
                found.flags.writeable = False
            return found
        return np.ones(t._array.shape, t._array.dtype)
    if not isinstance(given, Variable):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(given).__name__}")
    if given._array.shape != t._array.shape:
        raise GradientError(
            message(
                f"Mismatch in shape: grad_output[{i}] has a shape of {given.shape} and output[{i}] has a shape of "
                f"{t.shape}."
            )
        )
    if given._array.dtype is not t._array.dtype:
        if given._array.dtype not in FLOATS:
            raise GradientError(message(f"grad_output[{i}] must be floating point, not {given._array.dtype.name}"))
        from ..core.op import registry

        return registry["cast"].call(given, dtype=t._array.dtype)
    return given


def _several(x: Any) -> tuple[Any, ...]:
    """One tensor or several, as a tuple; a ``GradientEdge`` as the tensor that stands there."""
    if isinstance(x, Variable):
        return (x,)
    from .graph import GradientEdge, edge_tensor

    if isinstance(x, GradientEdge):  # a tuple itself
        return (edge_tensor(x),)
    return tuple(map(edge_tensor, x))


def _prepare(tensors: Sequence[Any], gradients: Any) -> tuple[list[Any], list[Any]]:
    given = [None] * len(tensors) if gradients is None else list(gradients)
    if len(given) != len(tensors):
        raise GradientError(message(f"got {len(tensors)} tensors and {len(given)} gradients"))
    roots: list[Any] = []
    starts: list[Any] = []
    for i, (t, g) in enumerate(zip(tensors, given, strict=True)):
        if not t.requires_grad:
            raise GradientError(
                message(
                    f"element {i} of tensors does not require grad and does not have a grad_fn",
                    "it was computed from tensors none of which requires grad, or under no_grad, or detached",
                    fix="Set requires_grad=True on the tensors to differentiate by, before computing with them.",
                )
            )
        roots.append(t)
        starts.append(_start(t, g, i))
    return roots, starts


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulate the gradients of ``tensors`` into the leaves' ``.grad`` (``torch.autograd.backward``)."""
    tensors = _several(tensors)
    if isinstance(grad_tensors, Variable):
        grad_tensors = (grad_tensors,)
    roots, starts = _prepare(tensors, grad_tensors)
    if inputs is None:
        run_backward(roots, starts, retain_graph=retain_graph, create_graph=create_graph)
        return
    wanted = list(_several(inputs))
    if not wanted:
        raise GradientError(message("'inputs' argument to backward() cannot be empty."))
    found = run_backward(
        roots, starts, inputs=wanted, retain_graph=retain_graph, create_graph=create_graph, allow_unused=True
    )
    for t, g in zip(wanted, found, strict=True):
        if g is not None:
            g = g if isinstance(g, Variable) else wrap(np.array(g))
            t._grad = g if t._grad is None else t._grad + g


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of (the sum of) ``outputs`` with respect to ``inputs``, without touching ``.grad``.

    >>> import chainrule as torch
    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> (g,) = torch.autograd.grad(x**3, x, create_graph=True)
    >>> g.item(), torch.autograd.grad(g, x)[0].item()
    (27.0, 18.0)
    """
    outputs, inputs = _several(outputs), _several(inputs)
    if isinstance(grad_outputs, Variable):
        grad_outputs = (grad_outputs,)
    for i, t in enumerate(outputs):
        if not t.requires_grad:
            raise GradientError(message(f"element {i} of tensors does not require grad and does not have a grad_fn"))
    for i, t in enumerate(inputs):
        if not t.requires_grad:
            raise GradientError(
                message(
                    "One of the differentiated Tensors does not require grad",
                    f"input {i} has shape {tuple(t.shape)} and was never marked",
                    fix="Call .requires_grad_() on it before computing the output.",
                )
            )
    if is_grads_batched:
        rows = [
            grad(outputs, inputs, tuple(None if g is None else g[k] for g in grad_outputs), True, create_graph, True)
            for k in range(len(grad_outputs[0]))
        ]
        from ..core.op import registry

        return tuple(registry["stack"].call(*column, dim=0) for column in zip(*rows, strict=True))
    roots, starts = _prepare(outputs, grad_outputs)
    found = run_backward(
        roots,
        starts,
        inputs=list(inputs),
        retain_graph=retain_graph,
        create_graph=create_graph,
        allow_unused=bool(allow_unused) or materialize_grads,
    )
    result: list[Any] = []
    for t, g in zip(inputs, found, strict=True):
        if g is None:
            result.append(wrap(np.zeros_like(t._array)) if materialize_grads else None)
        elif isinstance(g, Variable):
            result.append(g)
        else:
            result.append(wrap(np.array(g) if state.recorder is None else g))
    return tuple(result)
