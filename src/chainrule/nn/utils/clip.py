"""Bounding gradients before an update, so that one bad batch cannot throw the parameters away."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core import inplace
from ...core.live import gradient_read
from ...core.op import registry
from ...core.state import state
from ...core.variable import Variable, wrap

__all__ = ["clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def _gradients(parameters: Any) -> list[Any]:
    given = [parameters] if isinstance(parameters, Variable) else list(parameters)
    for p in given:
        gradient_read(p)
    return [p._grad for p in given if p._grad is not None]


def get_total_norm(
    tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Any:
    """The norm of all entries of all ``tensors`` together, as a 0-d tensor."""
    norm_type = float(norm_type)
    tensors = [tensors] if isinstance(tensors, Variable) else list(tensors)
    if not tensors:
        return wrap(np.zeros((), np.float32))
    if state.recorder is not None:
        if error_if_nonfinite:
            state.recorder.leak(tensors[0], "clip_grad_norm_(error_if_nonfinite=True)")
        return _traced_norm(tensors, norm_type)
    arrays = [t._array for t in tensors]
    dtype = np.result_type(*arrays)
    if norm_type == 2.0:
        # A dot product per gradient: one call each, and no copy (ravel of a contiguous array is a view).
        total = 0.0
        for a in arrays:
            flat = a.ravel()
            total += float(flat.dot(flat)) if a.dtype.itemsize > 4 else float(np.dot(flat, flat))
        norm = math.sqrt(total) if total >= 0 else math.nan
        if not math.isfinite(norm) or (norm < 1e-18 and dtype.itemsize <= 4):
            # Squares overflow or vanish before norms do: scale by the largest entry first.
            norm = _scaled_norm(arrays)
    elif norm_type == math.inf:
        norm = max((float(np.abs(a).max()) if a.size else 0.0) for a in arrays)
        if any(np.isnan(a).any() for a in arrays):
            norm = math.nan
    elif norm_type == -math.inf:
        norm = min(float(np.abs(a).min()) for a in arrays)
    elif norm_type == 0.0:
        # PyTorch's norm of the norms: how many tensors have any entry that is not 0.
        norm = float(sum(bool(np.count_nonzero(a)) for a in arrays))
    else:
        norm = sum(float((np.abs(a).astype(np.float64) ** norm_type).sum()) for a in arrays) ** (1.0 / norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
            "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    return wrap(np.array(norm, dtype))


def _scaled_norm(arrays: list[Any]) -> float:
    top = max((float(np.abs(a).max()) if a.size else 0.0) for a in arrays)
    if any(np.isnan(a).any() for a in arrays):
        return math.nan
    if top == 0.0 or top == math.inf:
        return top
    return top * math.sqrt(sum(float(((a.astype(np.float64) / top) ** 2).sum()) for a in arrays))


def _traced_norm(tensors: list[Any], norm_type: float) -> Any:
    absolute, total, power = registry["abs"].call, registry["sum"].call, registry["pow"].call
    if abs(norm_type) == math.inf:
        one, two = ("amax", "maximum") if norm_type > 0 else ("amin", "minimum")
        extremes = [registry[one].call(absolute(t), dim=None, keepdim=False) for t in tensors if t._array.size]
        out: Any = extremes[0] if extremes else wrap(np.zeros((), tensors[0]._array.dtype))
        for t in extremes[1:]:
            out = registry[two].call(out, t)
        return out
    out = None
    for t in tensors:
        if norm_type == 0.0:  # how many tensors have any entry that is not 0
            some = total(registry["cast"].call(t != 0, dtype=t._array.dtype), dim=None, keepdim=False)
            part = registry["cast"].call(some > 0, dtype=t._array.dtype)
            out = part if out is None else out + part
            continue
        part = total(t * t if norm_type == 2.0 else power(absolute(t), norm_type), dim=None, keepdim=False)
        out = part if out is None else out + part
    return out if norm_type == 0.0 else power(out, 1.0 / norm_type)


def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Any, foreach: bool | None = None) -> None:
    """Scale the gradients by max_norm / (total_norm + 1e-6) if that is below 1."""
    gradients = _gradients(parameters)
    max_norm = float(max_norm)
    if state.recorder is not None:
        factor = registry["minimum"].call(max_norm / (total_norm + 1e-6), wrap(np.ones((), total_norm._array.dtype)))
        for g in gradients:
            inplace.write(g, g * factor)
        return
    # In total_norm's own precision, as PyTorch computes it.
    norm = total_norm._array
    factor = np.asarray(max_norm / (norm + norm.dtype.type(1e-6)), norm.dtype)
    if factor >= 1:
        return
    for g in gradients:
        g._array *= factor.astype(g._array.dtype)
        inplace.touch(g._array)


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Any:
    """Scale all gradients down together, in place, so that their total norm is at most ``max_norm``.

    Returns the norm before. The direction of the step stays what it was.

    >>> import chainrule as torch
    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> torch.nn.utils.clip_grad_norm_([w], 1.0)
    tensor(5.)
    """
    parameters = [parameters] if isinstance(parameters, Variable) else list(parameters)
    total = get_total_norm(_gradients(parameters), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total)
    return total


clip_grad_norm = clip_grad_norm_


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Limit every entry of the gradients to [−clip_value, clip_value], in place."""
    bound = float(clip_value)
    for g in _gradients(parameters):
        if state.recorder is not None:
            inplace.write(g, registry["clamp"].call(g, min=-bound, max=bound))
            continue
        np.clip(g._array, -bound, bound, out=g._array)
        inplace.touch(g._array)
