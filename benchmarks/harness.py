"""Fair timing on a noisy machine: one process per library, all alive at once, taking turns.

The parent asks each worker in turn for one block of steps and compares blocks that ran next to each other, so that a
slow spell of the machine hits everybody. A worker whose turn it is not is stopped, so that threads that wait by
spinning disturb nobody. Reported are medians of the ratios, never best cases.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Result", "Worker", "WorkerError", "measure", "serve"]


class WorkerError(RuntimeError):
    """A worker ended, failed, or did not answer in time."""


class Worker:
    """A process that imports one library and runs blocks of steps on request.

    ``module`` names a Python module with ``prepare(library, workload) -> step``, where ``step()`` runs one training
    step and returns the loss as a float-convertible object; ``step.look(result)``, where it exists, gives the numbers
    to compare instead. ``load(library)``, where the module has it, does the import.
    """

    def __init__(self, library: str, module: str, threads: int = 1, env: dict[str, str] | None = None) -> None:
        environment = dict(os.environ, **(env or {}))
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(threads)
        self.library = library
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  # what the library prints, shown when it fails
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness", module, library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env=environment,
            start_new_session=True,  # so that compilers which the library starts end with it
        )
        self._started = time.perf_counter()
        self._buffer = b""

    def ask(self, timeout: float | None = None, **request: Any) -> dict[str, Any]:
        """Send one request and wait for the answer, at most ``timeout`` seconds."""
        assert self._process.stdin is not None
        self._signal("SIGCONT")
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._line(timeout)
        except BrokenPipeError:
            line = b""
        if line is None:
            self.close(kill=True)
            raise WorkerError(f"did not finish in {timeout:.0f} s")
        if not line:
            code = self._process.wait()
            raise WorkerError(f"the {self.library} worker ended (exit code {code}){self._last_words()}")
        self._signal("SIGSTOP")
        answer: dict[str, Any] = json.loads(line)
        answer["since_start"] = time.perf_counter() - self._started
        if "error" in answer:
            raise WorkerError(f"{self.library}: {answer['error']}")
        return answer

    def close(self, kill: bool = False) -> None:
        """End the worker and what it started."""
        assert self._process.stdin is not None
        self._signal("SIGCONT")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=0 if kill else 10)
        except subprocess.TimeoutExpired:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._words.close()

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))

    def _line(self, timeout: float | None) -> bytes | None:
        """A line of the answer; b'' when the process ended, None when the time ran out."""
        assert self._process.stdout is not None
        pipe, until = self._process.stdout.fileno(), None if timeout is None else time.perf_counter() + timeout
        while b"\n" not in self._buffer:
            left = None if until is None else max(0.0, until - time.perf_counter())
            if os.name == "posix" and not select.select([pipe], [], [], left)[0]:
                return None
            got = os.read(pipe, 1 << 16)
            if not got:
                return b""
            self._buffer += got
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _last_words(self) -> str:
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else ""


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


def peak_memory() -> int:
    """The most bytes that this process has held so far."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        # ru_maxrss is bytes on macOS, kilobytes elsewhere; on Linux it would include the parent's before exec.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _end_with_parent() -> None:
    """Ask the kernel to end this process when its parent is gone: a stopped one would never notice."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def serve(module: str, library: str) -> None:
    """The worker's loop: requests on standard input, answers on standard output."""
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints must not get among the answers
    made: Any = importlib.import_module(module)
    step: Callable[[], Any] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _answer(made, library, step, request)
            step = answer.pop("step", step)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            answer = {"error": f"{type(error).__name__}: {lines[0][:300]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(module: Any, library: str, step: Any, request: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    if request["do"] == "load":
        module.load(library)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "memory": peak_memory(), "version": module.version(library)}
    if request["do"] == "prepare":
        step = module.prepare(library, request["workload"])
        look: Callable[[Any], Any] = getattr(step, "look", float)
        losses = [look(step())]
        first = time.perf_counter() - start
        limit = request.get("seconds", float("inf"))
        while len(losses) < request["check"] and time.perf_counter() - start - first < limit:
            losses.append(look(step()))
        return {"step": step, "losses": losses, "first_step": first, "memory": peak_memory()}
    for _ in range(request.get("warm", 0)):
        step()
    if request["do"] == "blocks":
        # Doubling blocks until one is long enough: how many steps a block should have.
        steps = 1
        while True:
            start = time.perf_counter()
            for _ in range(steps):
                step()
            took = time.perf_counter() - start
            if took > request["seconds"] or steps >= 1 << 20:
                return {"steps": max(1, round(steps * request["seconds"] / took)), "step_seconds": took / steps}
            steps *= 2
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(request["steps"]):
        step()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    serve(*sys.argv[1:])
