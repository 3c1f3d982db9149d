"""Tools around modules: gradient clipping, parameters as one vector, reparametrisation."""

import importlib as _importlib
import importlib.util as _util
import sys as _sys
from typing import Any as _Any

from . import parametrizations, parametrize, stateless
from .clip import clip_grad_norm, clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from .fusion import (
    convert_conv2d_weight_memory_format,
    convert_conv3d_weight_memory_format,
    fuse_conv_bn_eval,
    fuse_conv_bn_weights,
    fuse_linear_bn_eval,
    fuse_linear_bn_weights,
    skip_init,
)
from .reparametrize import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm
from .vector import parameters_to_vector, vector_to_parameters

__all__ = [
    "clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm",
    "convert_conv2d_weight_memory_format", "convert_conv3d_weight_memory_format", "fuse_conv_bn_eval",
    "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights", "skip_init",
    "parameters_to_vector", "vector_to_parameters", "weight_norm", "remove_weight_norm", "spectral_norm",
    "remove_spectral_norm",
]  # fmt: skip

if _util.find_spec(f"{__name__}.rnn") is not None:
    from . import rnn


def __getattr__(name: str) -> _Any:
    if name == "prune":  # few programs prune
        return _importlib.import_module(".prune", __name__)
    from ...core import left_out

    raise left_out.missing("torch.nn.utils", name, globals())
