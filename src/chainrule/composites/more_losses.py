"""The wider list of PyTorch's losses: divergences, margins, distances, and CTC."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.live import reads_values, values_known, values_of, values_read
from ..core.variable import Variable, wrap
from ..errors import ShapeError, UsageError, message
from ..ops import elementwise, gather, join, layout, reduce
from ..ops.compare import where
from ..ops.loss import bce_logits, reduce_loss
from ..ops.pad import take_axis
from ..ops.reduce import sum as sum_op
from .distances import pairwise_distance
from .losses import reduction_of

__all__ = [
    "cosine_embedding_loss", "ctc_loss", "gaussian_nll_loss", "hinge_embedding_loss", "kl_div",
    "margin_ranking_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
    "poisson_nll_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]  # fmt: skip

_INT64 = np.dtype(np.int64)
exp, log, sqrt = elementwise.exp, elementwise.log, elementwise.sqrt


def _last(x: Any) -> tuple[int, ...]:
    return (x._array.ndim - 1,)


def _total(x: Any, dim: int, keepdim: bool = False) -> Any:
    return sum_op(x, dim=(dim % max(x._array.ndim, 1),), keepdim=keepdim)


def _positive(x: Any) -> Any:
    """max(x, 0) with derivative 1 at 0, as PyTorch's clamp_min."""
    return where(x >= 0, x, 0.0)


# --- divergences -----------------------------------------------------------------------------------------------


def kl_div(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Any:
    """Kullback–Leibler divergence t (log t − input), input being log probabilities; 'batchmean' divides by N."""
    if reduction == "mean" and size_average is None and reduce is None:
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math definition."
            "'mean' will be changed to behave the same as 'batchmean' in the next major release.",
            stacklevel=2,
        )
    by = "sum" if reduction == "batchmean" else reduction_of(reduction, size_average, reduce)
    if log_target:
        losses = exp(target) * (target - input)
    else:
        some = target > 0
        losses = where(some, target * log(where(some, target, 1.0)), 0.0 * target) - target * input
    out = reduce_loss(losses, by)
    return out / input._array.shape[0] if reduction == "batchmean" and input._array.ndim else out


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """exp(input) − target · input, or input − target · log(input + ε); ``full`` adds Stirling's term for target > 1."""
    reduction = reduction_of(reduction, size_average, reduce)
    losses = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        large = target > 1
        t = where(large, target, 2.0)
        losses = losses + where(large, t * log(t) - t + 0.5 * log(2 * math.pi * t), 0.0)
    return reduce_loss(losses, reduction)


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    """½ (log var + (input − target)² / var), the variance being at least ε."""
    x = input._array
    if isinstance(var, float):
        if var < 0:
            raise UsageError("var has negative entry/entries")
        var = wrap(np.full(x.shape, var, x.dtype))
    elif (var._array < 0).any():
        raise UsageError(message("var has negative entry/entries", f"the smallest is {var._array.min()}"))
    v = var._array.shape
    if v != x.shape:
        if x.shape[:-1] == v:
            var = layout.reshape(var, shape=(*v, 1))
        elif not (x.shape[:-1] == v[:-1] and v[-1] == 1):
            raise UsageError("var is of incorrect size")
    reduction = reduction_of(reduction)
    # As PyTorch: the floor changes the value, not the gradient.
    value = values_of(var)
    var = var + layout.cast(where(value < eps, eps - value, 0.0), dtype=var._array.dtype)
    d = input - target
    losses = 0.5 * (log(var) + d * d / var)
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduce_loss(losses, reduction)


# --- margins ---------------------------------------------------------------------------------------------------


def margin_ranking_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """max(0, −target · (input1 − input2) + margin), target 1 where input1 should rank higher, else −1."""
    reduction = reduction_of(reduction, size_average, reduce)
    if not input1._array.ndim == input2._array.ndim == target._array.ndim:
        sizes = ", ".join(
            f"{n}: torch.Size({list(t._array.shape)})"
            for n, t in (("input1", input1), ("input2", input2), ("target", target))
        )
        raise ShapeError(
            message(f"margin_ranking_loss : All input tensors should have same dimension but got sizes: {sizes} ")
        )
    return reduce_loss(_positive(-target * (input1 - input2) + margin), reduction)


def hinge_embedding_loss(
    input: Any,
    target: Any,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """input where target is 1, max(0, margin − input) where it is −1."""
    reduction = reduction_of(reduction, size_average, reduce)
    losses = where(target != 1, _positive(margin - input), 0.0) + where(target != -1, input, 0.0)
    return reduce_loss(losses, reduction)


def soft_margin_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """log(1 + exp(−target · input)), target ±1."""
    reduction = reduction_of(reduction, size_average, reduce)
    z = target * input
    return bce_logits(z, wrap(np.ones_like(z._array)), reduction=reduction)


def multilabel_soft_margin_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Binary cross-entropy of each class's logit, averaged over the classes (the last axis)."""
    reduction = reduction_of(reduction, size_average, reduce)
    losses = bce_logits(input, target, reduction="none")
    if weight is not None:
        losses = losses * weight
    return reduce_loss(_total(losses, -1) / input._array.shape[-1], reduction)


@reads_values
def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Σ over the other classes of max(0, margin − x[target] + x[i])ᵖ / C, times the target's weight."""
    reduction = reduction_of(reduction, size_average, reduce)
    if p not in (1, 2):
        raise UsageError("only p == 1 and p == 2 supported")
    if weight is not None and weight._array.ndim != 1:
        raise UsageError("weight must be one-dimensional")
    x = input if input._array.ndim == 2 else layout.reshape(input, shape=(1, -1))
    n, classes = x._array.shape
    t = target._array.reshape(n, 1)
    gaps = _positive(margin - gather.gather(x, wrap(t), dim=1) + x)
    if p == 2:
        gaps = gaps * gaps
    others = (np.arange(classes) != t).astype(x._array.dtype)
    factor = others if weight is None else others * weight._array[t]
    losses = _total(gaps * wrap(factor), 1) / classes
    if input._array.ndim == 1:
        losses = layout.reshape(losses, shape=())
    return reduce_loss(losses, reduction)


@reads_values
def multilabel_margin_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Σ over targets t and other classes i of max(0, 1 − x[t] + x[i]) / C; a row's targets end at the first −1."""
    reduction = reduction_of(reduction, size_average, reduce)
    batched = input._array.ndim == 2
    x = input if batched else layout.reshape(input, shape=(1, -1))
    n, classes = x._array.shape
    t = target._array.reshape(n, classes)
    listed = np.cumprod(t >= 0, axis=1).astype(bool)
    safe = np.where(listed, t, 0)
    is_target = np.zeros((n, classes), bool)
    np.logical_or.at(is_target, (np.arange(n)[:, None], safe), listed)
    chosen = gather.gather(x, wrap(safe), dim=1)
    gaps = _positive(1 - layout.reshape(chosen, shape=(n, classes, 1)) + layout.reshape(x, shape=(n, 1, classes)))
    counts = (listed[:, :, None] & ~is_target[:, None, :]).astype(x._array.dtype)
    losses = sum_op(gaps * wrap(counts), dim=(1, 2), keepdim=False) / classes
    return reduce_loss(losses if batched else layout.reshape(losses, shape=()), reduction)


# --- of distances ---------------------------------------------------------------------------------------------


def cosine_embedding_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """1 − cos where target is 1, max(0, cos − margin) where it is −1."""
    reduction = reduction_of(reduction, size_average, reduce)
    tiny = 1e-12
    squares = (_total(x * x, -1) + tiny for x in (input1, input2))
    first, second = squares
    cos = _total(input1 * input2, -1) / sqrt(first * second)
    losses = where(target == 1, 1 - cos, 0.0) + where(target == -1, _positive(cos - margin), 0.0)
    return reduce_loss(losses, reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """max(0, d(anchor, positive) − d(anchor, negative) + margin)."""
    reduction = reduction_of(reduction, size_average, reduce)
    dims = [t._array.ndim for t in (anchor, positive, negative)]
    if len(set(dims)) > 1:
        raise ShapeError(
            message(
                "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got"
                f": anchor {dims[0]}D, positive {dims[1]}D, and negative {dims[2]}D inputs"
            )
        )
    if margin <= 0:
        raise UsageError(f"margin must be greater than 0, got {margin}")
    return _triplet(anchor, positive, negative, lambda a, b: pairwise_distance(a, b, p, eps), margin, swap, reduction)


def _triplet(
    a: Any, p: Any, n: Any, distance: Callable[[Any, Any], Any], margin: float, swap: bool, reduction: str
) -> Any:
    near, far = distance(a, p), distance(a, n)
    if swap:
        other = distance(p, n)
        far = where(other < far, other, far)
    return reduce_loss(_positive(near - far + margin), reduction)


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """``triplet_margin_loss`` with a distance of one's own."""
    distance = pairwise_distance if distance_function is None else distance_function
    return _triplet(anchor, positive, negative, distance, margin, swap, reduction_of(reduction))


# --- CTC -------------------------------------------------------------------------------------------------------

_NEVER = -1e30
"""Log probability of what cannot happen: finite, so that no gradient becomes 0 · ∞."""


def _lengths(x: Any) -> Any:
    """Lengths as a row of int64."""
    if isinstance(x, Variable):
        return layout.reshape(layout.cast(x, dtype=_INT64), shape=(-1,))
    return wrap(np.asarray(x, np.int64).reshape(-1))


def _rows(targets: Any, lengths: Any) -> Any:
    """Targets as a padded matrix (N, longest); one after another or padded already."""
    t = layout.cast(targets, dtype=_INT64)
    if t._array.ndim == 2 and not values_known(lengths):
        return t
    values_read(lengths, "ctc_loss with target_lengths in a tensor and targets one after another")
    sizes = lengths._array
    longest = int(sizes.max(initial=0))
    if t._array.ndim == 2:
        return t[:, :longest]
    if t._array.size < sizes.sum():
        raise ShapeError(f"ctc_loss: targets hold {t._array.size} labels, but the lengths add up to {sizes.sum()}")
    place = np.arange(longest) < sizes[:, None]
    at = np.where(place, (np.cumsum(sizes) - sizes)[:, None] + np.arange(longest), 0)
    return where(wrap(place), layout.reshape(take_axis(t, wrap(at.ravel()), dim=0), shape=at.shape), 0)


def _alternating(even: Any, odd: Any) -> Any:
    """The columns of ``even``, which has one more, with those of ``odd`` between them."""
    n, m = odd._array.shape
    pairs = layout.reshape(join.stack(even[:, :m], odd, dim=2), shape=(n, 2 * m))
    return join.cat(pairs, even[:, m:], dim=1)


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """−log of the probability of all alignments of the targets (Graves 2006), for log probabilities (T, N, C).

    The mean divides each loss by its target's length. Sums over alignments run forward in time, in logarithms.
    """
    batched = log_probs._array.ndim == 3
    x = log_probs if batched else layout.reshape(log_probs, shape=(log_probs._array.shape[0], 1, -1))
    steps, n, classes = x._array.shape
    if not 0 <= blank < classes:
        raise ShapeError("blank must be in label range")
    lengths, sizes = _lengths(input_lengths), _lengths(target_lengths)
    if lengths._array.size != n:
        raise ShapeError("input_lengths must be of size batch_size")
    if sizes._array.size != n:
        raise ShapeError("target_lengths must be of size batch_size")
    if lengths._array.max(initial=0) > steps:
        raise ShapeError(
            message(
                f"Expected input_lengths to have value at most {steps}, but got value {lengths._array.max()} (while "
                "checking arguments for ctc_loss_allocate_outputs)"
            )
        )
    labels = _rows(targets, sizes)
    m = labels._array.shape[1]
    wide = 2 * m + 1
    # Blanks between all labels, and at both ends; a step over a blank is allowed between different labels.
    path = _alternating(wrap(np.full((n, m + 1), blank)), labels)
    never = wrap(np.zeros((n, m + 1), bool))
    jump = _alternating(never, join.cat(never[:, :1], labels[:, 1:] != labels[:, :-1], dim=1) if m else labels == 0)
    dtype = x._array.dtype
    emit = gather.gather(x, layout.expand(path, shape=(steps, n, wide)), dim=2)
    frames = join.unbind(emit, dim=0)
    number = np.arange(wide)
    start = wrap(number == 0) | (wrap(number == 1) & (sizes > 0)[:, None])
    alpha = where(start, frames[0], _NEVER)
    column = wrap(np.full((n, 1), _NEVER, dtype))
    for t in range(1, steps):
        one = join.cat(column, alpha[:, :-1], dim=1)
        two = join.cat(column, one[:, :-1], dim=1)
        two = where(jump, two, _NEVER)
        new = reduce.logsumexp(join.stack(alpha, one, two, dim=0), dim=(0,), keepdim=False) + frames[t]
        all_go_on = values_known(lengths) and (lengths._array > t).all()
        alpha = new if all_go_on else where((lengths > t)[:, None], new, alpha)
    ends = join.stack(2 * sizes, where(sizes > 0, 2 * sizes - 1, 0), dim=1)
    last = gather.gather(alpha, ends, dim=1)
    if not values_known(sizes) or (sizes._array == 0).any():
        last = where(join.stack(sizes >= 0, sizes > 0, dim=1), last, _NEVER)
    loss = -reduce.logsumexp(last, dim=(1,), keepdim=False)
    impossible = wrap(loss._array) > -_NEVER / 2
    if not values_known(impossible) or impossible._array.any():
        loss = where(impossible, 0.0 if zero_infinity else math.inf, loss)
    if reduction == "mean":
        loss = loss / layout.cast(where(sizes > 0, sizes, 1), dtype=dtype)
    elif not batched and reduction == "none":
        return layout.reshape(loss, shape=())
    return reduce_loss(loss, reduction_of(reduction))
