"""Bridges to other libraries. Each imports its library only when it is used."""

import importlib as _importlib
from typing import Any as _Any


def __getattr__(name: str) -> _Any:
    if name in ("to_torch", "from_torch"):
        return getattr(_importlib.import_module(".torch", __name__), name)
    if name == "torch":
        return _importlib.import_module(".torch", __name__)
    raise AttributeError(f"module 'chainrule.bridge' has no attribute {name!r}")
