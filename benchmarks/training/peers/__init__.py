"""The libraries that are measured, one file each; this one knows them without importing them.

A library's module has ``load(threads)``, which imports it and bounds its threads, ``supports(workload, optimizer)``,
and ``step(library, name)``, which builds one training step: a function without arguments that returns the loss. The
step of a function workload returns its result and carries ``look``, which turns that into a few numbers to compare.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..workloads import Workload

__all__ = ["PEERS", "Peer", "load", "missing", "ours", "prepare", "supports", "tolerance"]


@dataclass(frozen=True)
class Peer:
    """A way to run the workloads: its module here, the package it needs, and what to install."""

    name: str
    module: str
    package: str
    install: str
    about: str


PEERS = {
    p.name: p
    for p in [
        Peer("torch", "torch", "torch", "pip install torch", "PyTorch eager; fused Adam, convolutions channels-last"),
        Peer(
            "torch.compile",
            "torch",
            "torch",
            "pip install torch",
            "the whole step as one graph, by torch.func",
        ),
        Peer("jax.jit", "jax", "jax", "pip install jax", "one jitted step, state donated, dispatched synchronously"),
        Peer("tinygrad", "tinygrad", "tinygrad", "pip install tinygrad", "TinyJit of the step, CPU"),
        Peer("sklearn", "sklearn", "sklearn", "pip install scikit-learn", "MLPClassifier, MLPRegressor: partial_fit"),
        Peer("numpy", "numpy", "numpy", "pip install numpy", "written by hand, arrays preallocated (MLPs, functions)"),
        Peer("eager", "chainrule", "chainrule", "pip install -e .", "chainrule without compile"),
    ]
}


def ours(library: str) -> bool:
    """Whether a column is chainrule.compile: ``chainrule``, or ``chainrule:mkl`` with the BLAS that it is to use."""
    return library.partition(":")[0] == "chainrule"


def module_of(library: str) -> Any:
    name = "chainrule" if ours(library) else PEERS[library].module
    return importlib.import_module(f"{__name__}.{name}")


def missing(library: str) -> str:
    """Why a library cannot be measured here ('' when it can)."""
    peer = PEERS[library]
    if importlib.util.find_spec(peer.package) is None:
        return f"not installed ({peer.install})"
    if library == "torch.compile" and not any(map(shutil.which, ("g++", "gcc", "clang++", os.environ.get("CXX", "")))):
        return "needs a C++ compiler (install g++)"
    if library == "tinygrad" and not clang():
        return "needs clang (install it, or set CC to one)"
    return ""


def clang() -> str | None:
    """The clang that tinygrad's CPU device needs: ``CC`` when it names one, else the newest found on the path."""
    chosen = os.environ.get("CC", "")
    names = ["clang", *(f"clang-{n}" for n in range(22, 13, -1))]
    return shutil.which(chosen) if "clang" in chosen else next(filter(None, map(shutil.which, names)), None)


def supports(library: str, w: Workload, optimizer: str) -> bool:
    """Whether the library has a program for a workload. Reads the library's module but does not import the library."""
    return module_of(library).supports(w, optimizer)


def tolerance(library: str, w: Workload, optimizer: str) -> float:
    """How far losses may be from PyTorch's, relatively, and still be the same computation.

    float32 sums in another order differ by 1e-7 each, and training amplifies that over 50 steps.
    """
    own = getattr(module_of(library), "tolerance", None)
    return 1e-4 if own is None else own(w, optimizer)


def load(library: str) -> None:
    """Import the library in this process and bound its threads."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    if hasattr(os, "sched_setaffinity"):
        # The same processors for everybody: XLA and tinygrad take their thread count from this, no setting bounds it.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    module_of(library).load(threads)


def prepare(library: str, name: str) -> Callable[[], Any]:
    """One training step of a workload in a library that was loaded."""
    return module_of(library).step(library, name)


def version(library: str) -> str:
    """The version of the package behind a column."""
    found = sys.modules.get("chainrule" if ours(library) else PEERS[library].package)
    return str(getattr(found, "__version__", ""))
