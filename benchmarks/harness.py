"""Fair timing on a noisy machine: one process per library, all alive at once, taking turns.

The parent asks each worker in turn for one block of steps and compares blocks that ran next to each other, so that a
slow spell of the machine hits everybody. Reported are medians of the ratios, never best cases.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Worker", "measure", "serve", "Result"]


class Worker:
    """A process that imports one library and runs blocks of steps on request.

    ``module`` names a Python module with ``prepare(library, workload) -> step``, where ``step()`` runs one training
    step and returns the loss as a float-convertible object.
    """

    def __init__(self, library: str, module: str, threads: int = 1, env: dict[str, str] | None = None) -> None:
        environment = dict(os.environ, **(env or {}))
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(threads)
        self.library = library
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness", module, library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the {self.library} worker ended (exit code {self._process.wait()})")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.library}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


@dataclass
class Result:
    """What one workload gave: seconds per step by library (medians over blocks), and the losses that were checked."""

    workload: str
    seconds: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    """Median over blocks of (library's time / reference's time)."""
    losses: dict[str, list[float]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def measure(workers: list[Worker], workload: str, reference: str, *, blocks: int, seconds: float, check: int) -> Result:
    """Time ``workload`` on all workers, in turns.

    Args:
        reference: the library whose time the ratios are divided by.
        blocks: how many times each worker has its turn.
        seconds: length of a block (the number of steps is chosen on the reference, the same for all).
        check: number of first steps whose losses are returned for comparison.
    """
    result = Result(workload)
    for w in workers:
        answer = w.ask(do="prepare", workload=workload, check=check)
        result.losses[w.library] = answer["losses"]
        result.extra[w.library] = {"first_step": answer["first_step"]}
    probe = min(w.ask(do="block", steps=20)["seconds"] / 20 for w in workers)
    steps = max(5, int(seconds / probe))
    times: dict[str, list[float]] = {w.library: [] for w in workers}
    for block in range(blocks):
        turn = workers if block % 2 == 0 else workers[::-1]
        for w in turn:
            times[w.library].append(w.ask(do="block", steps=steps)["seconds"] / steps)
    for library, seen in times.items():
        result.seconds[library] = statistics.median(seen)
        result.ratios[library] = statistics.median(a / b for a, b in zip(seen, times[reference], strict=True))
    return result


def serve(module: str, library: str) -> None:
    """The worker's loop: requests on standard input, answers on standard output."""
    prepare: Callable[[str, str], Callable[[], Any]] = importlib.import_module(module).prepare
    step: Callable[[], Any] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "prepare":
                start = time.perf_counter()
                step = prepare(library, request["workload"])
                losses = [float(step())]
                first = time.perf_counter() - start
                losses += [float(step()) for _ in range(request["check"] - 1)]
                answer: dict[str, Any] = {"losses": losses, "first_step": first}
            else:
                assert step is not None
                start = time.perf_counter()
                for _ in range(request["steps"]):
                    step()
                answer = {"seconds": time.perf_counter() - start}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
