"""One eager training step: chainrule against PyTorch eager and NumPy written by hand.

    python -m benchmarks.eager            # needs the `parity` extra (torch) beside chainrule

Forward, loss, backward and the SGD update of three MLPs. Each library starts from the same weights and data, and the
losses of the first 50 steps must agree before anything is timed. One thread each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .harness import Worker, measure

WORKLOADS: dict[str, tuple[tuple[int, ...], int, str]] = {
    "2-16-16-1, batch 32": ((2, 16, 16, 1), 32, "mse"),
    "64-64-32-10, batch 32": ((64, 64, 32, 10), 32, "cross_entropy"),
    "784-256-10, batch 128": ((784, 256, 10), 128, "cross_entropy"),
}
LR = 0.01


def _data(workload: str) -> tuple[list[np.ndarray[Any, Any]], np.ndarray[Any, Any], np.ndarray[Any, Any], str]:
    """Weights (out, in) and biases, inputs and targets: the same for every library."""
    widths, batch, loss = WORKLOADS[workload]
    rng = np.random.default_rng(0)
    parameters: list[np.ndarray[Any, Any]] = []
    for a, b in itertools.pairwise(widths):
        parameters.append((rng.uniform(-1, 1, (b, a)) / np.sqrt(a)).astype(np.float32))
        parameters.append((rng.uniform(-1, 1, b) / np.sqrt(a)).astype(np.float32))
    x = rng.normal(size=(batch, widths[0])).astype(np.float32)
    if loss == "mse":
        y = rng.normal(size=(batch, widths[-1])).astype(np.float32)
    else:
        y = rng.integers(0, widths[-1], batch)
    return parameters, x, y, loss


def _framework_step(torch: Any, workload: str) -> Callable[[], Any]:
    """The step as people write it, for PyTorch and for chainrule alike."""
    parameters, x, y, loss = _data(workload)
    layers: list[Any] = []
    for w, b in zip(parameters[::2], parameters[1::2], strict=True):
        layer = torch.nn.Linear(w.shape[1], w.shape[0])
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w))
            layer.bias.copy_(torch.from_numpy(b))
        layers += [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    function = torch.nn.functional.mse_loss if loss == "mse" else torch.nn.functional.cross_entropy
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> Any:
        optimizer.zero_grad()
        value = function(model(inputs), targets)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def _numpy_step(workload: str) -> Callable[[], Any]:
    """The same step by hand: what a careful person writes with NumPy alone."""
    parameters, x, y, loss = _data(workload)
    weights, biases = parameters[::2], parameters[1::2]
    last = len(weights) - 1
    rows = np.arange(len(x))
    lr = np.float32(LR)

    def step() -> Any:
        activations = [x]
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            z = activations[-1] @ w.T + b
            activations.append(np.maximum(z, 0) if i < last else z)
        out = activations[-1]
        if loss == "mse":
            difference = out - y
            value = (difference * difference).mean()
            delta = difference * np.float32(2 / difference.size)
        else:
            shifted = out - out.max(axis=1, keepdims=True)
            p = np.exp(shifted)
            total = p.sum(axis=1, keepdims=True)
            value = (np.log(total[:, 0]) - shifted[rows, y]).mean()
            p /= total
            p[rows, y] -= 1
            delta = p / np.float32(len(x))
        for i in range(last, -1, -1):
            dw, db = delta.T @ activations[i], delta.sum(axis=0)
            if i:
                delta = (delta @ weights[i]) * (activations[i] > 0)
            weights[i] -= lr * dw
            biases[i] -= lr * db
        return value

    return step


def prepare(library: str, workload: str) -> Callable[[], Any]:
    """Called in the worker process of ``library``."""
    if library == "numpy":
        return _numpy_step(workload)
    if library == "torch":
        import torch

        torch.set_num_threads(1)
        return _framework_step(torch, workload)
    import chainrule

    return _framework_step(chainrule, workload)


def import_times(repeats: int) -> dict[str, float]:
    """Median seconds of a whole interpreter that imports numpy, or chainrule, taken in turns."""
    seen: dict[str, list[float]] = {"pass": [], "numpy": [], "chainrule": []}
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # numpy comes with its bytecode; let ours be written, too
    for turn in range(repeats + 1):
        for name, times in seen.items():
            code = "pass" if name == "pass" else f"import {name}"
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)
            if turn:  # the first may compile
                times.append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in seen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=15, help="turns per library and workload")
    parser.add_argument("--seconds", type=float, default=0.2, help="length of a turn")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    workers = [Worker(name, "benchmarks.eager") for name in ("chainrule", "torch", "numpy")]
    rows: list[dict[str, Any]] = []
    print(
        f"{'one training step (SGD)':<24} {'chainrule':>10} {'PyTorch':>10} {'by hand':>10}   PyTorch/ours  hand/ours"
    )
    try:
        for workload in WORKLOADS:
            result = measure(
                workers, workload, "chainrule", blocks=arguments.blocks, seconds=arguments.seconds, check=50
            )
            ours = np.array(result.losses["chainrule"])
            for peer in ("torch", "numpy"):
                np.testing.assert_allclose(ours, result.losses[peer], rtol=1e-4, err_msg=f"{workload}: {peer}")
            us = {name: f"{1e6 * s:.1f} µs" for name, s in result.seconds.items()}
            print(
                f"{workload:<24} {us['chainrule']:>10} {us['torch']:>10} {us['numpy']:>10}"
                f"   {result.ratios['torch']:>11.2f}× {result.ratios['numpy']:>9.2f}×"
            )
            rows.append({"workload": workload, "seconds": result.seconds, "ratios": result.ratios})
    finally:
        for worker in workers:
            worker.close()
    times = import_times(9)
    ratio = (times["chainrule"] - times["pass"]) / (times["numpy"] - times["pass"])
    print(f"import chainrule / import numpy: {ratio:.2f}× ({1e3 * times['chainrule']:.0f} ms for the whole process)")
    if arguments.json:
        arguments.json.write_text(json.dumps({"steps": rows, "import": times, "import_ratio": ratio}, indent=1) + "\n")


if __name__ == "__main__":
    main()
