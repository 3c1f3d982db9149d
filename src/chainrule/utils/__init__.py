"""PyTorch's ``utils``: ``data`` for loading, ``checkpoint`` for memory, ``tensorboard`` for logs."""

import importlib as _importlib
from typing import Any as _Any

_ROOMS = ("data", "checkpoint", "tensorboard", "hooks", "_pytree")


def __getattr__(name: str) -> _Any:
    if name in _ROOMS:
        return _importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'chainrule.utils' has no attribute {name!r}")
