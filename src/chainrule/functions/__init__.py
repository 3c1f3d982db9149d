"""PyTorch's functions: its argument forms, normalised once, onto ops and composites.

Each file holds one family. ``__all__`` names what appears as ``chainrule.<name>``, ``METHODS`` what is also a method
of Tensor, ``INPLACE`` what also has an in-place method ``<name>_``, ``OPERATORS`` which special method a function is.
"""

from __future__ import annotations

import importlib
from typing import Any

from .inplace import make_inplace
from .keywords import with_numpy_keywords
from .node_names import with_node_name

FAMILIES = (
    "creation",
    "conversion",
    "printing",
    "random",
    "pointwise",
    "comparison",
    "reduction",
    "activation",
    "statistics",
    "layout",
    "strided",
    "flags",
    "windows",
    "segments",
    "exchange",
    "joining",
    "indexing",
    "scattering",
    "writing",
    "linalg",
    "decompositions",
    "contraction",
    "sorting",
    "neural",
    "recurrence",
)
"""The files of this room, in the order in which they are loaded."""


def _dressed(name: str, function: Any) -> Any:
    return with_node_name(name, with_numpy_keywords(name, function))


def namespace() -> dict[str, Any]:
    """Every torch-named function, by name."""
    found: dict[str, Any] = {}
    for family in FAMILIES:
        module = importlib.import_module(f".{family}", __name__)
        for name in module.__all__:
            found[name] = _dressed(name, getattr(module, name))
    return found


def attach(tensor_class: type) -> None:
    """Give the tensor class its methods, in-place methods and operators."""
    for family in FAMILIES:
        module = importlib.import_module(f".{family}", __name__)
        for name in getattr(module, "METHODS", ()):
            setattr(tensor_class, name, _dressed(name, getattr(module, name)))
        for name in getattr(module, "INPLACE", ()):
            setattr(tensor_class, name + "_", make_inplace(getattr(module, name)))
        for special, function in getattr(module, "OPERATORS", {}).items():
            setattr(tensor_class, special, function)
