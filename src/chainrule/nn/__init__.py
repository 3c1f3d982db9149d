"""Modules, with PyTorch's names. ``chainrule.nn.functional`` has their functions."""

from __future__ import annotations

import importlib as _importlib
import importlib.util as _util
import sys as _sys
from typing import Any as _Any

from . import init, parallel
from ._make import factory_kwargs
from .containers import *
from .module import Module
from .parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

_LAYERS = (
    "linear", "activation", "normalization", "dropout", "embedding", "loss", "conv", "pooling", "recurrent",
    "attention", "transformer", "padding", "upsampling", "shape", "lazy",
    "adaptive", "parallel",
)  # fmt: skip


def _collect() -> None:
    """Take up the layers, each family from its own file."""
    for family in _LAYERS:
        if _util.find_spec(f"{__name__}.{family}") is None:
            continue
        room = _importlib.import_module(f".{family}", __name__)
        for name in room.__all__:
            globals()[name] = getattr(room, name)


_collect()


def __getattr__(name: str) -> _Any:
    if name in ("utils", "functional", "modules", "common_types"):
        return _importlib.import_module(f".{name}", __name__)
    from ..core import left_out

    raise left_out.missing("torch.nn", name, globals())
