"""chainrule: a glass-box backpropagation engine with PyTorch's API.

>>> import chainrule as torch
>>> x = torch.tensor(2.0, requires_grad=True)
>>> (torch.sin(x**2) ** 2).backward()
>>> x.grad
tensor(3.9574)
"""

from __future__ import annotations

import builtins as _builtins
import importlib as _importlib
import sys as _sys
import warnings as _warnings
from typing import Any as _Any

from . import ops as _ops
from . import tensor as _tensor
from .autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .core import left_out as _left_out
from .core.device import (
    channels_last,
    contiguous_format,
    device,
    layout,
    memory_format,
    preserve_format,
    strided,
)
from .core.dtypes import (
    bfloat16,
    bool,
    dtype,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .tensor import Size, Tensor

__version__ = "0.1.0"

half, float, double = float16, float32, float64
short, int, long = int16, int32, int64

# Rooms that load when first used: `import chainrule` should cost little more than `import numpy`.
_ROOMS = {
    "nn", "optim", "special", "utils", "autograd", "compile", "check", "explain", "diagnose", "bridge", "byhand",
    "data", "linalg", "func", "graph", "serialization", "distributions", "cuda", "backends", "amp", "accelerator",
    "mps", "profiler", "random", "testing", "version", "signal", "compiler", "multiprocessing", "types",
}  # fmt: skip

# Functions that load with their room: name → room.
_LAZY = {"as_torch": "bridge.alias", "watch": "diagnose", "save": "serialization", "load": "serialization"}
_LAZY |= {"autocast": "amp", "GradScaler": "amp", "is_autocast_enabled": "amp"}
_LAZY["OutOfMemoryError"] = "cuda"
_LAZY["vmap"] = "func"
_LAZY |= {"TypedStorage": "core.storage", "UntypedStorage": "core.storage"}

# Threads, determinism, default device, control flow: about the program rather than its tensors.
_LAZY |= dict.fromkeys(
    (
        "are_deterministic_algorithms_enabled", "compiled_with_cxx11_abi", "cond", "get_default_device",
        "get_deterministic_debug_mode", "get_float32_matmul_precision", "get_num_interop_threads", "get_num_threads",
        "init_num_threads", "is_deterministic_algorithms_warn_only_enabled", "is_inference", "is_storage",
        "is_warn_always_enabled", "set_default_device", "set_default_tensor_type", "set_deterministic_debug_mode",
        "set_float32_matmul_precision", "set_flush_denormal", "set_num_interop_threads", "set_num_threads",
        "set_warn_always", "typename", "unravel_index", "use_deterministic_algorithms", "while_loop",
    ),
    "toplevel",
)  # fmt: skip
_LAZY |= dict.fromkeys(
    (
        "autocast_decrement_nesting", "autocast_increment_nesting", "clear_autocast_cache", "get_autocast_cpu_dtype",
        "get_autocast_dtype", "get_autocast_gpu_dtype", "is_autocast_cache_enabled", "is_autocast_cpu_enabled",
        "is_autocast_ipu_enabled", "is_autocast_xla_enabled", "set_autocast_cache_enabled", "set_autocast_cpu_dtype",
        "set_autocast_cpu_enabled", "set_autocast_dtype", "set_autocast_enabled", "set_autocast_gpu_dtype",
    ),
    "amp",
)  # fmt: skip
_LAZY |= dict.fromkeys(
    ("is_anomaly_check_nan_enabled", "is_anomaly_enabled", "set_anomaly_enabled"), "autograd.anomaly"
)

has_lapack = True  # SciPy's
has_mkl = has_openmp = has_spectral = False

e = 2.718281828459045
pi = 3.141592653589793
inf = _builtins.float("inf")
nan = _builtins.float("nan")
newaxis = None

# NaN and infinity pass through ops without a word, as in PyTorch. Only warnings that arise on the library's own lines
# are silenced: NumPy code of yours keeps warning. (np.errstate around every op would take longer than most ops.)
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"chainrule\b")

# Functions of neural networks that PyTorch has at top level too, with the same arguments.
_LAZY |= dict.fromkeys(
    (
        "adaptive_avg_pool1d", "avg_pool1d", "bilinear", "channel_shuffle", "conv1d", "conv2d", "conv3d",
        "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cosine_similarity", "group_norm", "layer_norm",
        "max_pool1d", "max_pool2d", "max_pool3d", "pairwise_distance", "pixel_shuffle", "pixel_unshuffle", "rms_norm",
    ),
    "nn.functional",
)  # fmt: skip
_LAZY |= dict.fromkeys(
    (
        "adaptive_max_pool1d", "batch_norm", "binary_cross_entropy_with_logits", "constant_pad_nd", "conv_tbc",
        "convolution", "cosine_embedding_loss", "ctc_loss", "embedding", "embedding_renorm_", "feature_alpha_dropout_",
        "feature_dropout_", "gru", "gru_cell", "hinge_embedding_loss", "instance_norm", "kl_div", "lstm", "lstm_cell",
        "margin_ranking_loss", "max_pool1d_with_indices", "poisson_nll_loss", "rnn_relu", "rnn_relu_cell", "rnn_tanh",
        "rnn_tanh_cell", "triplet_margin_loss",
    ),
    "spellings",
)  # fmt: skip


def __getattr__(name: str) -> _Any:
    if name in _ROOMS:
        return _importlib.import_module(f".{name}", __name__)
    if name in _LAZY:
        return getattr(_importlib.import_module(f".{_LAZY[name]}", __name__), name)
    # torch.relu_(x) is x.relu_(): every in-place function that PyTorch has at top level is the method of that name.
    if name.endswith("_") and name in _left_out.names()["torch"] and hasattr(Tensor, name):
        return getattr(Tensor, name)
    raise _left_out.missing("torch", name, __dir__())


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS, *_LAZY})


from .functions import namespace as _namespace  # noqa: E402

globals().update(_namespace())
_left_out.install()
