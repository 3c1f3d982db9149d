"""Backward passes, the modes that govern recording, custom functions and functional derivatives."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
    "saved_tensors_hooks": "graph",
}  # fmt: skip
_MODULES = {"anomaly", "function", "functional", "graph"}


def Variable(data: Any, requires_grad: bool = False, volatile: bool = False) -> Any:
    """The tensor itself, as a leaf that may require grad (older code wraps every tensor in this)."""
    t = data.detach()
    t.requires_grad = requires_grad
    return t


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module("." + _LATER[name], __name__), name)
    if name in _MODULES:
        return importlib.import_module("." + name, __name__)
    raise AttributeError(f"module 'chainrule.autograd' has no attribute {name!r}")
