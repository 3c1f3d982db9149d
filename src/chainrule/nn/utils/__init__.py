"""Tools around modules: gradient clipping, parameters as one vector, reparametrisation."""

import importlib.util as _util

from . import parametrizations, parametrize, prune
from .clip import clip_grad_norm, clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from .reparametrize import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm
from .vector import parameters_to_vector, vector_to_parameters

__all__ = [
    "clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm",
    "parameters_to_vector", "vector_to_parameters", "weight_norm", "remove_weight_norm", "spectral_norm",
    "remove_spectral_norm",
]  # fmt: skip

if _util.find_spec(f"{__name__}.rnn") is not None:
    from . import rnn
