"""Backward passes, the modes that govern recording, custom functions and functional derivatives."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..core.variable import Variable as _Variable
from .api import backward, grad
from .modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)

if TYPE_CHECKING:
    from .anomaly import detect_anomaly, set_detect_anomaly
    from .differences import gradcheck, gradgradcheck
    from .function import Function, FunctionCtx

__all__ = [
    "Function", "FunctionCtx", "Variable", "backward", "detect_anomaly", "enable_grad", "grad", "gradcheck",
    "gradgradcheck", "inference_mode", "is_grad_enabled", "no_grad", "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip

# Loaded when first used: custom functions and the functional derivatives are not part of an ordinary import.
_LATER = {
    "Function": "function", "FunctionCtx": "function", "once_differentiable": "function", "gradcheck": "differences",
    "gradgradcheck": "differences", "GradcheckError": "differences",
    "detect_anomaly": "anomaly", "set_detect_anomaly": "anomaly", "is_anomaly_enabled": "anomaly",
    "saved_tensors_hooks": "graph", "NestedIOFunction": "function", "InplaceFunction": "function",
}  # fmt: skip
_MODULES = {
    "anomaly": "anomaly", "anomaly_mode": "anomaly", "forward_ad": "forward_ad", "function": "function",
    "functional": "functional", "grad_mode": "modes", "graph": "graph", "profiler": "profiler",
    "variable": "",
}  # fmt: skip


def kineto_available() -> bool:
    """False: the profiler here is Python's own."""
    return False


def is_multithreading_enabled() -> bool:
    """False: a backward pass runs in the thread that asks for it."""
    return False


def is_view_replay_enabled() -> bool:
    """False: views share memory with their base, nothing has to be replayed."""
    return False


class set_multithreading_enabled:
    """Accepted and without effect: a backward pass runs in the thread that asks for it."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None


def is_tensor_like(x: Any) -> bool:
    """Whether ``x`` is a tensor."""
    return isinstance(x, _Variable)


def Variable(data: Any, requires_grad: bool = False, volatile: bool = False) -> Any:
    """The tensor itself, as a leaf that may require grad (older code wraps every tensor in this)."""
    t = data.detach()
    t.requires_grad = requires_grad
    return t


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module("." + _LATER[name], __name__), name)
    if name in _MODULES:
        room = _MODULES[name]
        return importlib.import_module("." + room if room else __name__, __name__)
    raise AttributeError(f"module 'chainrule.autograd' has no attribute {name!r}")
