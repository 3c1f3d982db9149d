"""Batch normalisation folded into the layer before it, for inference; and layers without initial values."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from ...autograd.modes import no_grad
from ..module import Module
from ..parameter import Parameter

__all__ = [
    "convert_conv2d_weight_memory_format", "convert_conv3d_weight_memory_format", "fuse_conv_bn_eval",
    "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights", "skip_init",
]  # fmt: skip


def _fused(layer: Any, bn: Any, fuse: Any, *rest: Any) -> Any:
    """A copy of ``layer`` with the weights that ``fuse`` gives."""
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    made = copy.deepcopy(layer)
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("bn.running_mean and bn.running_var must not be None")
    made.weight, made.bias = fuse(
        made.weight, made.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, *rest
    )
    return made


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of a convolution that computes ``bn(conv(x))``, both in evaluation mode."""
    return _fused(conv, bn, fuse_conv_bn_weights, transpose)


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of a linear layer that computes ``bn(linear(x))``, both in evaluation mode."""
    if bn.num_features not in (linear.out_features, 1) and not (linear.training or bn.training):
        raise AssertionError(
            "To fuse, linear.out_features == bn.num_features or bn.num_features == 1, got linear.out_features="
            f"{linear.out_features} and bn.num_features={bn.num_features}"
        )
    return _fused(linear, bn, fuse_linear_bn_weights)


def fuse_conv_bn_weights(
    conv_w: Any, conv_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any, bn_b: Any, transpose: bool = False
) -> tuple[Parameter, Parameter]:
    """Kernels and bias of a convolution followed by batch normalisation with the given statistics."""
    shape = [1] * conv_w.dim()
    shape[1 if transpose else 0] = -1
    return _scaled(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, shape)


def fuse_linear_bn_weights(
    linear_w: Any, linear_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any, bn_b: Any
) -> tuple[Parameter, Parameter]:
    """Weights and bias of a linear layer followed by batch normalisation with the given statistics."""
    return _scaled(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, [-1, 1])


def _scaled(
    weight: Any, bias: Any, mean: Any, var: Any, eps: float, scale: Any, shift: Any, shape: list[int]
) -> tuple[Parameter, Parameter]:
    requires = (weight.requires_grad, False if bias is None else bias.requires_grad)
    dtypes = (weight.dtype, weight.dtype if bias is None else bias.dtype)
    with no_grad():
        by = (var + eps).rsqrt() if scale is None else (var + eps).rsqrt() * scale
        bias = (-mean if bias is None else bias - mean) * by
        fused = (weight * by.reshape(shape)).to(dtypes[0]), (bias if shift is None else bias + shift).to(dtypes[1])
    return Parameter(fused[0], requires[0]), Parameter(fused[1], requires[1])


def skip_init(module_cls: Any, *args: Any, **kwargs: Any) -> Any:
    """``module_cls(*args, **kwargs)`` whose parameters may hold anything; here they hold their initial values."""
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    return module_cls(*args, **kwargs)


def convert_conv2d_weight_memory_format(module: Any, memory_format: Any) -> Any:
    """``module`` as it is: the order in which kernels lie in memory is no concern of these convolutions."""
    return module


convert_conv3d_weight_memory_format = convert_conv2d_weight_memory_format
