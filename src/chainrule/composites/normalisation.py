"""PyTorch's normalisation functions: batch, layer, group, instance and RMS norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..core import inplace
from ..core.dtypes import FLOATS, TORCH_NAMES, from_numpy, limits
from ..core.variable import wrap
from ..errors import DtypeError, ShapeError, UsageError, message
from ..ops import layout, norm, reduce
from ..ops.elementwise import sqrt

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "normalize", "rms_norm"]


def _size(t: Any) -> str:
    return f"torch.Size([{', '.join(map(str, t.shape))}])"


def _channels(v: Any, ndim: int) -> Any:
    return layout.reshape(v, shape=(-1, *(1,) * (ndim - 2)))


def _check_channels(channels: int, **vectors: Any) -> None:
    for name, v in vectors.items():
        if v is not None and v._array.size != channels:
            raise ShapeError(message(f"{name} should contain {channels} elements not {v._array.size}"))


def _update(running: Any, value: Any, momentum: float) -> None:
    """running ← (1 − m) · running + m · value, in place and outside the graph."""
    if running is not None:
        old = wrap(running._array)
        new = old * (1 - momentum) + layout.cast(value, dtype=old._array.dtype) * momentum
        inplace.write(running, new)


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Normalise each channel of (N, C, …) over batch and space, then scale and shift.

    In training the statistics are the batch's own (biased variance), and the running ones move towards them by
    ``momentum`` (with the unbiased variance); otherwise the running ones are used.
    """
    x = input._array
    if x.ndim < 2:
        raise ShapeError(message(f"batch_norm: expected an input of at least 2 dimensions, got {list(x.shape)}"))
    if x.dtype not in FLOATS:
        raise NotImplementedError(f"\"batch_norm\" not implemented for '{TORCH_NAMES[from_numpy(x.dtype).name]}'")
    if training and x.shape[1] and x.size // x.shape[1] == 1:
        raise UsageError(
            message(
                f"Expected more than 1 value per channel when training, got input size {_size(input)}",
                "the variance of one value is 0, so every output would be the bias",
                fix="Use a larger batch (DataLoader(drop_last=True)), or model.eval().",
            )
        )
    _check_channels(x.shape[1], running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if training:
        mean, variance = norm.batch_stats(wrap(x) if input._requires else input)
        n = x.size // max(x.shape[1], 1)
        out = norm.batch_norm(input, weight, bias, mean, variance, eps=eps)
        if n:  # an empty batch says nothing about the data: PyTorch leaves the running statistics alone
            _update(running_mean, mean, momentum)
            _update(running_var, variance * (n / (n - 1)) if n > 1 else variance, momentum)
        return out
    if running_mean is None or running_var is None:
        raise ShapeError(message("Expected running_mean and running_var to be defined when training=False"))
    scale = 1 / sqrt(running_var + eps)
    if weight is not None:
        scale = scale * weight
    shift = running_mean * scale
    shift = -shift if bias is None else bias - shift
    return input * _channels(scale, x.ndim) + _channels(shift, x.ndim)


def _check_normalized(input: Any, shape: tuple[int, ...], weight: Any, bias: Any) -> None:
    x = input._array
    if not shape:
        raise ShapeError(
            message(
                "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, "
                "but got normalized_shape = []"
            )
        )
    for name, v in (("weight", weight), ("bias", bias)):
        if v is not None and v._array.shape != shape:
            raise ShapeError(
                message(
                    f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
                    f"{list(v.shape)} and normalized_shape = {list(shape)}"
                )
            )
        if v is not None and v._array.dtype is not x.dtype:
            raise DtypeError(
                message(
                    "mixed dtype (CPU): all inputs must share same datatype.",
                    f"input is {from_numpy(x.dtype).name}, {name} {from_numpy(v._array.dtype).name}",
                )
            )
    if x.shape[x.ndim - len(shape) :] != shape or x.ndim < len(shape):
        expected = ", ".join(("*", *map(str, shape)))
        raise ShapeError(
            message(
                f"Given normalized_shape={list(shape)}, expected input with shape [{expected}], but got input of "
                f"size{list(x.shape)}"
            )
        )


def layer_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    """(x − mean) / √(variance + ε) · weight + bias, over the last axes, of shape ``normalized_shape``."""
    shape = tuple(normalized_shape)
    _check_normalized(input, shape, weight, bias)
    return norm.layer_norm(input, weight, bias, axes=len(shape), eps=eps)


def rms_norm(input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """x / √(mean x² + ε) · weight over the last axes; ε is the dtype's machine epsilon unless given."""
    shape = tuple(normalized_shape)
    _check_normalized(input, shape, weight, None)
    if eps is None:
        eps = float(limits(input._array.dtype).eps)
    return norm.rms_norm(input, weight, axes=len(shape), eps=eps)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Normalise each of ``num_groups`` groups of channels of each sample, then scale and shift per channel."""
    x = input._array
    if x.ndim < 2:
        raise ShapeError(message(f"Expected at least 2 dimensions for input tensor but received {x.ndim}"))
    if num_groups <= 0 or x.shape[1] % num_groups:
        raise ShapeError(
            message(
                "Expected number of channels in input to be divisible by num_groups, but got input of shape "
                f"{list(x.shape)} and num_groups={num_groups}"
            )
        )
    if x.shape[0] * math.prod(x.shape[1:]) == num_groups:
        size = [x.shape[0] * x.shape[1] // num_groups, num_groups, *x.shape[2:]]
        raise UsageError(message(f"Expected more than 1 value per channel when training, got input size {size}"))
    grouped = layout.reshape(input, shape=(x.shape[0], num_groups, math.prod(x.shape[1:]) // num_groups))
    out = layout.reshape(norm.layer_norm(grouped, None, None, axes=1, eps=eps), shape=x.shape)
    if weight is not None:
        out = out * _channels(weight, x.ndim)
    return out if bias is None else out + _channels(bias, x.ndim)


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Normalise each channel of each sample over space: group norm with one channel a group."""
    x = input._array
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    space = math.prod(x.shape[2:])
    if space == 1:
        raise UsageError(message(f"Expected more than 1 spatial element when training, got input size {_size(input)}"))
    if x.shape[0] and (running_mean is not None or running_var is not None):
        rows = layout.reshape(wrap(x), shape=(*x.shape[:2], space))
        _update(running_mean, reduce.mean(reduce.mean(rows, dim=(2,)), dim=(0,)), momentum)
        _update(running_var, reduce.mean(reduce.var(rows, dim=(2,)), dim=(0,)), momentum)
    return group_norm(input, x.shape[1], weight, bias, eps)


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Any:
    """input / max(‖input‖ₚ, ε) along ``dim``."""
    size = input.norm(p, dim, keepdim=True).clamp_min(eps)
    result = input / size.expand_as(input)
    return result if out is None else inplace.write(out, result)
