"""PyTorch's loss functions: their argument forms and checks, onto the ops of ``ops/loss.py``."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..core.dtypes import FLOATS, from_numpy
from ..core.variable import Variable
from ..errors import DtypeError, ShapeError, UsageError, message
from ..ops import layout, loss
from ..ops.compare import where
from ..ops.loss import reduce_loss
from ..ops.reduce import sum as sum_op
from ..ops.softmax import log_softmax

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss", "l1_loss", "mse_loss",
    "nll_loss", "smooth_l1_loss",
]  # fmt: skip


def reduction_of(reduction: str, size_average: bool | None = None, reduce: bool | None = None) -> str:
    """The reduction's name, from it or from PyTorch's two older arguments.

    Raises:
        UsageError: for a name that is none of 'none', 'mean', 'sum'.
    """
    if size_average is not None or reduce is not None:
        average, reduces = size_average is None or size_average, reduce is None or reduce
        reduction = "none" if not reduces else "mean" if average else "sum"
        warnings.warn(
            f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.",
            stacklevel=3,
        )
    if reduction not in ("none", "mean", "sum"):
        raise UsageError(
            message(f"{reduction} is not a valid value for reduction", "it can be 'none', 'mean' or 'sum'")
        )
    return reduction


def _size(t: Any) -> str:
    return f"torch.Size([{', '.join(map(str, t.shape))}])"


def _warn_sizes(input: Any, target: Any) -> None:
    if target._array.shape != input._array.shape:
        warnings.warn(
            f"Using a target size ({_size(target)}) that is different to the input size ({_size(input)}). This will "
            "likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=3,
        )


def _need(function: str, **tensors: Any) -> None:
    for position, (name, t) in enumerate(tensors.items(), 1):
        if not isinstance(t, Variable):
            raise TypeError(
                f"{function}(): argument '{name}' (position {position}) must be Tensor, not {type(t).__name__}"
            )


def _weighted(losses: Any, weight: Any, reduction: str) -> Any:
    return reduce_loss(losses if weight is None else losses * weight, reduction)


# --- regression ------------------------------------------------------------------------------------------------


def mse_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """Mean squared error, Σ (input − target)² / n; its gradient is 2 (input − target) / n.

    >>> import chainrule as torch
    >>> torch.nn.functional.mse_loss(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0]))
    tensor(2.5000)
    """
    if reduction != "mean" or size_average is not None or reduce is not None:
        reduction = reduction_of(reduction, size_average, reduce)
    _need("mse_loss", input=input, target=target)
    if input._array.shape != target._array.shape:
        _warn_sizes(input, target)
    if input._array.dtype not in FLOATS and target._array.dtype not in FLOATS:
        raise NotImplementedError(f"\"mse_cpu\" not implemented for '{_torch_name(input)}'")
    if weight is not None:
        return _mean_by_weight(loss.mse(input, target, reduction="none"), weight, reduction)
    return loss.mse(input, target, reduction=reduction)


def _mean_by_weight(losses: Any, weight: Any, reduction: str) -> Any:
    """Weighted losses; their mean divides by the sum of the weights."""
    if tuple(weight.shape) != tuple(losses.shape):
        raise UsageError("Weights and input must have the same size.")
    losses = losses * weight
    total = reduce_loss(losses, "none" if reduction == "none" else "sum")
    return total / sum_op(weight, dim=None, keepdim=False) if reduction == "mean" else total


def _torch_name(t: Any) -> str:
    names = {"float16": "Half", "float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int",
             "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool"}  # fmt: skip
    return names[from_numpy(t._array.dtype).name]


def l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """Mean absolute error, Σ |input − target| / n."""
    reduction = reduction_of(reduction, size_average, reduce)
    _need("l1_loss", input=input, target=target)
    _warn_sizes(input, target)
    if weight is not None:
        return _mean_by_weight(loss.l1(input, target, reduction="none"), weight, reduction)
    return loss.l1(input, target, reduction=reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """Huber's loss: (input − target)² / 2 where they differ by less than δ, else δ (|input − target| − δ/2)."""
    reduction = reduction_of(reduction)
    _need("huber_loss", input=input, target=target)
    _warn_sizes(input, target)
    if delta <= 0:
        raise DtypeError(message("huber_loss does not support non-positive values for delta.", f"delta is {delta}"))
    if weight is not None:
        losses = loss.huber(input, target, delta=float(delta), reduction="none")
        return _mean_by_weight(losses, weight, reduction)
    return loss.huber(input, target, delta=float(delta), reduction=reduction)


def smooth_l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Any:
    """Smooth L1: (input − target)² / (2β) where they differ by less than β, else |input − target| − β/2."""
    reduction = reduction_of(reduction, size_average, reduce)
    _need("smooth_l1_loss", input=input, target=target)
    _warn_sizes(input, target)
    if beta < 0:
        raise DtypeError(message("smooth_l1_loss does not support negative values for beta.", f"beta is {beta}"))
    if beta == 0:
        return loss.l1(input, target, reduction=reduction)
    return loss.huber(input, target, delta=float(beta), reduction=reduction) / beta


# --- two classes -----------------------------------------------------------------------------------------------


def binary_cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Binary cross-entropy of probabilities, −w (t log p + (1 − t) log(1 − p)); logarithms stop at −100.

    Raises:
        UsageError: when the sizes differ.
        RuntimeError: when an entry is no probability.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    _need("binary_cross_entropy", input=input, target=target)
    if target._array.shape != input._array.shape:
        raise UsageError(
            message(
                f"Using a target size ({_size(target)}) that is different to the input size ({_size(input)}) is "
                "deprecated. Please ensure they have the same size."
            )
        )
    p, t = input._array, target._array
    if p.dtype is not t.dtype:
        raise DtypeError(f"Found dtype {_torch_name(target)} but expected {_torch_name(input)}")
    for name, a in (("input", p), ("target", t)):
        # written so that NaN fails as well, as in PyTorch
        if a.size and not (a.min() >= 0 and a.max() <= 1):
            bad = tuple(int(i) for i in np.argwhere(~((a >= 0) & (a <= 1)))[0])
            raise DtypeError(
                message(
                    f"all elements of {name} should be between 0 and 1",
                    f"{name}{list(bad)} is {a[bad]}",
                    fix="Use binary_cross_entropy_with_logits on what goes into the sigmoid."
                    if name == "input"
                    else "",
                )
            )
    return _weighted(loss.bce(input, target), weight, reduction)


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """Binary cross-entropy of σ(input): its gradient is (σ(input) − target) / n.

    ``pos_weight`` multiplies the losses of positive targets, ``weight`` all losses.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    _need("binary_cross_entropy_with_logits", input=input, target=target)
    if target._array.shape != input._array.shape:
        raise UsageError(message(f"Target size ({_size(target)}) must be the same as input size ({_size(input)})"))
    if target._array.dtype not in FLOATS:
        raise DtypeError(
            message(
                f"result type {_torch_name(input)} can't be cast to the desired output type {_torch_name(target)}",
                fix="Convert the target: target.float().",
            )
        )
    if pos_weight is not None:
        # softplus(−x) is the loss of a positive target
        positive = loss.bce_logits(input, input._array * 0 + 1, reduction="none")
        losses = (1 - target) * input + ((pos_weight - 1) * target + 1) * positive
        return _weighted(losses, weight, reduction)
    if weight is not None:
        return _weighted(loss.bce_logits(input, target, reduction="none"), weight, reduction)
    return loss.bce_logits(input, target, reduction=reduction)


# --- many classes ----------------------------------------------------------------------------------------------


def _check_index_target(input: Any, target: Any, weight: Any) -> None:
    """Shapes and dtypes of a loss whose target holds class numbers, with PyTorch's messages."""
    x, t = input._array, target._array
    if x.ndim == 0:
        raise UsageError("Expected 1 or more dimensions (got 0)")
    axis = 1 if x.ndim > 1 else 0
    if t.ndim and x.ndim > 1 and t.shape[0] != x.shape[0]:
        raise UsageError(
            message(f"Expected input batch_size ({x.shape[0]}) to match target batch_size ({t.shape[0]}).")
        )
    if x.ndim == 1 and t.size != 1:
        raise UsageError(message(f"For 1D input, 1D target must have size 1, but got target size: {t.size}"))
    if t.dtype != np.int64 and t.dtype != np.uint8:
        raise DtypeError(
            message(
                f"expected target dtype to be Long or Byte, but got {_torch_name(target)}",
                fix="Class numbers: target.long(). Class probabilities: the shape of the input, floating point.",
            )
        )
    if x.ndim == 2 and t.ndim != 1:
        raise ShapeError(
            message(
                "0D or 1D target tensor expected, multi-target not supported",
                f"input is {x.shape}, target {t.shape}",
                fix="Give one class number per sample: target.squeeze(1), or target.argmax(1) for one-hot rows.",
            )
        )
    if x.ndim > 2 and t.shape != (x.shape[0], *x.shape[2:]):
        raise ShapeError(message(f"Expected target size {[x.shape[0], *x.shape[2:]]}, got {list(t.shape)}"))
    if weight is not None and weight._array.shape != (x.shape[axis],):
        raise ShapeError(
            message(
                f"weight tensor should be defined either for all {x.shape[axis]} classes or no classes but got weight "
                f"tensor of shape: {list(weight.shape)}"
            )
        )
    if weight is not None and weight._array.dtype is not x.dtype:
        raise DtypeError(f"expected scalar type {_torch_name(input)} but found {_torch_name(weight)}")


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Negative log likelihood, −w[t] · input[t], input being log probabilities of shape (N, C, …) or (C,).

    The mean is over the weights of the targets that are not ``ignore_index``.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    _need("nll_loss", input=input, target=target)
    _check_index_target(input, target, weight)
    target = _flat_target(input, target)
    return loss.nll(input, target, weight, ignore_index=ignore_index, reduction=reduction)


def _flat_target(input: Any, target: Any) -> Any:
    """For one sample: the target as a 0-d tensor."""
    return layout.reshape(target, shape=()) if input._array.ndim == 1 and target._array.ndim else target


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Cross-entropy of softmax(input): −log p[target], whose gradient is (p − onehot(target)) / n.

    Args:
        input: logits of shape (N, C, d₁, …) or (C,).
        target: class numbers of shape (N, d₁, …), int64; or class probabilities in the input's shape.
        weight: a factor per class. The mean then divides by the sum of the targets' weights.
        ignore_index: targets of this value do not count.
        label_smoothing: the share of the target that is spread evenly over all classes.

    >>> import chainrule as torch
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    tensor(0.2201)
    """
    if reduction != "mean" or size_average is not None or reduce is not None:
        reduction = reduction_of(reduction, size_average, reduce)
    _need("cross_entropy_loss", input=input, target=target)
    if not 0.0 <= label_smoothing <= 1.0:
        raise DtypeError(message(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}"))
    x = input._array
    if x.shape == target._array.shape and x.ndim:
        return _cross_entropy_of_probabilities(input, target, weight, ignore_index, reduction, label_smoothing)
    _check_index_target(input, target, weight)
    if x.dtype not in FLOATS:
        raise NotImplementedError(f"\"log_softmax_lastdim_kernel_impl\" not implemented for '{_torch_name(input)}'")
    target = _flat_target(input, target)
    if label_smoothing == 0:
        return loss.cross_entropy(input, target, weight, ignore_index=ignore_index, reduction=reduction)
    return _smoothed_cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def _smoothed_cross_entropy(
    input: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float
) -> Any:
    """(1 − ε) · nll + ε/C · Σ over all classes of −w log p; ignored targets count in neither."""
    axis = 1 if input._array.ndim > 1 else 0
    classes = input._array.shape[axis]
    logp = log_softmax(input, dim=axis)
    likelihood = loss.nll(logp, target, weight, ignore_index=ignore_index, reduction=reduction)
    w = 1.0 if weight is None else layout.reshape(weight, shape=(-1, *(1,) * (input._array.ndim - axis - 1)))
    everywhere = -sum_op(logp * w, dim=(axis,), keepdim=False)
    # 1 per sample, 0 if ignored; over Σ of the targets' weights for a mean, as for the likelihood
    counts = loss.class_coefficients(target, None, classes=classes, dtype=input._array.dtype,
                                     ignore_index=ignore_index, reduction="none")  # fmt: skip
    everywhere = where(counts != 0, everywhere, 0.0)  # not a product: 0 · ∞ when all are ignored
    if reduction != "none":
        everywhere = sum_op(everywhere, dim=None, keepdim=False)
    if reduction == "mean":
        weights = loss.class_coefficients(target, weight, classes=classes, dtype=input._array.dtype,
                                          ignore_index=ignore_index, reduction="none")  # fmt: skip
        everywhere = everywhere / sum_op(weights, dim=None, keepdim=False)
    return (1 - smoothing) * likelihood + (smoothing / classes) * everywhere


def _cross_entropy_of_probabilities(
    input: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float
) -> Any:
    """−Σ w · t · log p; the mean is over samples."""
    x = input._array
    if target._array.dtype not in FLOATS:
        raise DtypeError(
            message(
                f"Expected floating point type for target with class probabilities, got {_torch_name(target)}",
                "the target has the input's shape, so it is read as probabilities",
            )
        )
    if ignore_index >= 0:
        raise DtypeError("ignore_index is not supported for floating point target")
    axis = 1 if x.ndim > 1 else 0
    classes = x.shape[axis]
    if weight is not None and weight._array.shape != (classes,):
        raise ShapeError(
            message(
                f"cross_entropy: weight tensor should be defined either for all {classes} classes or no classes but "
                f"got weight tensor of shape: {list(weight.shape)}"
            )
        )
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    logp = log_softmax(input, dim=axis)
    products = logp * target
    if weight is not None:
        products = products * layout.reshape(weight, shape=(-1, *(1,) * (x.ndim - axis - 1)))
    if reduction == "none":
        return -sum_op(products, dim=(axis,), keepdim=False)
    total = -sum_op(products, dim=None, keepdim=False)
    if reduction == "sum":
        return total
    samples = math.prod(x.shape) // classes if classes else 0
    return total / samples if samples else total * float("nan")
