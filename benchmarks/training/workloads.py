"""What is measured: whole training steps and a few functions, with their data, start values, work and goals.

Nothing here imports a library other than NumPy: every peer builds its own program from these descriptions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["FUNCTIONS", "GRID", "LR", "TRAINING", "Workload", "data", "fill", "goal", "matrix_flops", "workload"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Workload:
    """A model with its batch and loss, or a function; for training the full name adds the optimizer: ``c/adam``."""

    key: str
    title: str
    kind: str
    batch: int = 0
    loss: str = ""
    widths: tuple[int, ...] = ()
    clip: bool = False
    moved: int = 0
    """For functions limited by memory: bytes that must be read and written."""

    @property
    def trains(self) -> bool:
        return bool(self.loss)


_TRAINING = [
    Workload("a", "MLP 2-16-16-1, batch 32", "mlp", 32, "mse", (2, 16, 16, 1)),
    Workload("b", "MLP 64-64-32-10, batch 32", "mlp", 32, "ce", (64, 64, 32, 10)),
    Workload("c", "MLP 784-256-10, batch 128", "mlp", 128, "ce", (784, 256, 10)),
    Workload("d", "MLP 784-1024-1024-10, batch 256", "mlp", 256, "ce", (784, 1024, 1024, 10)),
    Workload("e", "residual MLP 50 × 64, batch norm, batch 32", "residual", 32, "ce", (64,) * 51),
    Workload("f", "CNN 28×28, batch 64", "cnn", 64, "ce"),
    Workload("g", "LSTM 64, 32 steps, batch 32", "lstm", 32, "ce", clip=True),
    Workload("h", "transformer 4 × 64, context 64, batch 16", "transformer", 16, "ce", clip=True),
]
TRAINING = {w.key: w for w in _TRAINING}

SIZE = 1_000_000
_FUNCTIONS = [
    Workload("chain", "20 elementwise ops on 10⁶ floats", "chain", moved=8 * SIZE),
    Workload("softmax", "softmax of 1024 × 1024", "softmax", moved=8 << 20),
    Workload("layernorm", "layer norm of 1024 × 1024", "layernorm", moved=8 << 20),
    Workload("hvp", "Hessian · vector, MLP 64-64-32-10, batch 32", "hvp", 32, widths=(64, 64, 32, 10)),
]
FUNCTIONS = {w.key: w for w in _FUNCTIONS}

GRID = [f"grid-{n}-{b}" for n in (16, 64, 256, 1024) for b in (1, 16, 128, 1024)]

LR = {"sgd": 0.01, "adam": 1e-3}
VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS = 64, 64, 64, 4, 4

# Best peer's time over ours, on one thread.
_GOALS = {"a": 7.0, "b": 3.0, "c": 1.2, "e": 10.0, "f": 2.0, "g": 3.0, "h": 2.0}


def workload(name: str) -> tuple[Workload, str]:
    """The workload and the optimizer ('' for functions) of a name; ``grid-WIDTH-BATCH`` is a cell of the grid."""
    key, _, optimizer = name.partition("/")
    if key in FUNCTIONS:
        return FUNCTIONS[key], ""
    if key.startswith("grid-"):
        n, batch = map(int, key.split("-")[1:])
        return Workload(key, f"MLP {n}-{n}-{n}-10, batch {batch}", "mlp", batch, "ce", (n, n, n, 10)), optimizer
    return TRAINING[key], optimizer


def goal(w: Workload, blas: str) -> float | None:
    """The ratio that chainrule is meant to reach with this BLAS on one thread, or None where none is set."""
    if w.key == "d":
        return 1.0 if blas == "mkl" else 0.95
    if w.key.startswith("grid-"):
        return 1.0 if blas == "mkl" else None
    return _GOALS.get(w.key)


def data(w: Workload) -> tuple[Array, Array]:
    """Inputs and targets."""
    rng = np.random.default_rng(1)
    if w.kind == "transformer":
        text = rng.integers(0, VOCABULARY, (w.batch, CONTEXT + 1))
        return text[:, :-1].copy(), text[:, 1:].copy()
    shapes: dict[str, tuple[int, ...]] = {
        "cnn": (w.batch, 1, 28, 28), "lstm": (w.batch, 32, 64), "chain": (SIZE,), "softmax": (1024, 1024),
        "layernorm": (1024, 1024),
    }  # fmt: skip
    x = rng.normal(size=shapes.get(w.kind, (w.batch, *w.widths[:1]))).astype(np.float32)
    if w.loss == "mse":
        return x, rng.normal(size=(w.batch, 1)).astype(np.float32)
    return x, rng.integers(0, 10, w.batch)


def fill(shapes: list[tuple[int, ...]], names: list[str]) -> list[Array]:
    """The same start values for every library: by position, scaled by the fan-in; norms start at 1 and 0."""
    rng = np.random.default_rng(2)
    out: list[Array] = []
    for shape, name in zip(shapes, names, strict=True):
        if "norm" in name:
            # 0.2 keeps a stack of 50 residual blocks from growing so large that training is chaotic.
            scale = 0.2 if len(shapes) > 150 else 1.0
            out.append(np.full(shape, scale if name.endswith("weight") else 0.0, np.float32))
        else:
            fan = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
            out.append((rng.uniform(-1, 1, shape) / np.sqrt(fan)).astype(np.float32))
    return out


def parameters(w: Workload) -> tuple[list[tuple[int, ...]], list[str]]:
    """Shapes and names of a model's parameters, in PyTorch's order and layout."""
    if w.kind in ("mlp", "hvp"):
        shapes = [s for a, b in zip(w.widths, w.widths[1:], strict=False) for s in ((b, a), (b,))]
        return list(shapes), ["w"] * len(shapes)
    if w.kind == "residual":
        n = len(w.widths) - 1
        names = ["linear.weight", "linear.bias", "norm.weight", "norm.bias"] * n + ["w", "b"]
        return [(64, 64), (64,), (64,), (64,)] * n + [(10, 64), (10,)], names
    if w.kind == "cnn":
        return [(16, 1, 3, 3), (16,), (32, 16, 3, 3), (32,), (64, 32 * 49), (64,), (10, 64), (10,)], ["w"] * 8
    if w.kind == "lstm":
        return [(256, 64), (256, 64), (256,), (256,), (10, 64), (10,)], ["w"] * 6
    assert w.kind == "transformer", w
    block = [(64,), (64,), (192, 64), (192,), (64, 64), (64,), (64,), (64,), (256, 64), (256,), (64, 256), (64,)]
    names = ["norm.weight", "norm.bias", "w", "b", "w", "b", "norm.weight", "norm.bias", "w", "b", "w", "b"]
    return (
        [(VOCABULARY, WIDTH), (CONTEXT, WIDTH), *block * LAYERS, (64,), (64,), (VOCABULARY, WIDTH), (VOCABULARY,)],
        ["w", "w", *names * LAYERS, "norm.weight", "norm.bias", "w", "b"],
    )


def hvp_vectors(w: Workload) -> list[Array]:
    """The direction of the Hessian-vector product, one array for each parameter."""
    rng = np.random.default_rng(3)
    return [rng.normal(size=s).astype(np.float32) for s in parameters(w)[0]]


def matrix_flops(w: Workload) -> int:
    """Floating point operations of one training step's matrix products and convolutions.

    Each layer costs its forward product once more for the weights' gradient and once more for the input's gradient;
    the first layer's input needs none. Attention counts the full square, as libraries compute it.
    """

    def linear(rows: int, a: int, b: int, first: bool = False) -> int:
        return 2 * rows * a * b * (2 if first else 3)

    if w.kind in ("mlp", "residual"):
        pairs = list(zip(w.widths, w.widths[1:], strict=False))
        total = sum(linear(w.batch, a, b, i == 0) for i, (a, b) in enumerate(pairs))
        return total + (linear(w.batch, 64, 10) if w.kind == "residual" else 0)
    if w.kind == "cnn":
        convolutions = linear(w.batch * 784, 9, 16, True) + linear(w.batch * 196, 144, 32)
        return convolutions + linear(w.batch, 32 * 49, 64) + linear(w.batch, 64, 10)
    if w.kind == "lstm":
        # The state is zero at the first step, but libraries multiply it all the same.
        return linear(32 * w.batch, 64, 256, True) + linear(32 * w.batch, 64, 256) + linear(w.batch, 64, 10)
    if w.kind == "transformer":
        rows = w.batch * CONTEXT
        block = linear(rows, 64, 192) + linear(rows, 64, 64) + linear(rows, 64, 256) + linear(rows, 256, 64)
        attention = 2 * linear(rows, WIDTH, CONTEXT)  # scores and their mix: all heads together have WIDTH columns
        return LAYERS * (block + attention) + linear(rows, 64, VOCABULARY)
    return 0
