"""``torch.nn.modules``: PyTorch's files of layers, whose names programs import from.

Each of PyTorch's files is a face here that finds a name in whichever of our families has it.
"""

from __future__ import annotations

import importlib as _importlib
from types import ModuleType as _ModuleType
from typing import Any as _Any

__path__: list[str] = []
"""To the import system a package with no files: ``import torch.nn.modules.conv`` then asks for an attribute."""

_FACES = (
    "activation", "adaptive", "batchnorm", "channelshuffle", "container", "conv", "distance", "dropout", "flatten",
    "fold", "instancenorm", "lazy", "linear", "loss", "module", "normalization", "padding", "pixelshuffle", "pooling",
    "rnn", "sparse", "transformer", "upsampling", "utils",
)  # fmt: skip

_FAMILIES = (
    "module", "linear", "activation", "normalization", "dropout", "embedding", "loss", "conv", "pooling", "recurrent",
    "attention", "transformer", "padding", "upsampling", "shape", "containers", "lazy", "adaptive",
)  # fmt: skip


_BASES = {
    "_NormBase": ("normalization", "_Normalised"), "_MaxPoolNd": ("pooling", "_MaxPool"),
    "_AvgPoolNd": ("pooling", "_AvgPool"), "_LPPoolNd": ("pooling", "_LPPool"),
}  # fmt: skip
"""Base classes that have another name here."""


def _ntuple(n: int, name: str = "parse") -> _Any:
    """A function that makes n of one (a sequence stays what it is, as a tuple)."""

    def parse(x: _Any) -> tuple[_Any, ...]:
        return tuple(x) if hasattr(x, "__iter__") else (x,) * n

    parse.__name__ = name
    return parse


_TUPLES = {f"_{name}": _ntuple(n, f"_{name}") for n, name in enumerate(("single", "pair", "triple", "quadruple"), 1)}


def _find(name: str) -> _Any:
    if name in _TUPLES:
        return _TUPLES[name]
    if name == "_ntuple":
        return _ntuple
    if name in _BASES:
        return getattr(_importlib.import_module(f".{_BASES[name][0]}", __package__), _BASES[name][1])
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for family in _FAMILIES:
        room = _importlib.import_module(f".{family}", __package__)
        if hasattr(room, name):
            return getattr(room, name)
    nn = _importlib.import_module(__package__ or "")
    return getattr(nn, name)


def __getattr__(name: str) -> _Any:
    if name not in _FACES:
        return _find(name)
    face = _ModuleType(f"{__name__}.{name}")
    face.__getattr__ = _find  # pyright: ignore[reportAttributeAccessIssue]  (PEP 562)
    globals()[name] = face
    return face
