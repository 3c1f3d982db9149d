"""One row of the table: fresh processes for one workload, their first steps, then short blocks of steps in turn."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..harness import Worker, WorkerError
from . import peers
from .workloads import Workload, goal, matrix_flops, workload

__all__ = ["Settings", "measure_row"]

MODULE = "benchmarks.training.peers"
ENOUGH = 5  # undisturbed turns that make a median
CHECKED = 50  # first steps whose losses are compared


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    rounds: int = 40
    seconds: float = 0.01
    """Length of a block."""
    budget: float = 10.0
    """Seconds of blocks that one library may take for one row: a slow one joins fewer rounds."""
    timeout: float = 180.0
    """Seconds in which a library must have made its first step."""
    warm_cache: bool = True
    """Whether chainrule's first step is also measured with object code on disk."""


def environment(library: str, folder: Path) -> dict[str, str]:
    """Nothing is found in a cache that an earlier run left: each has its cache in ``folder``."""
    out = {
        "CHAINRULE_CACHE": str(folder / "chainrule"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "CACHEDB": str(folder / "tinygrad.db"),
        "JAX_PLATFORMS": "cpu",
        "PYTHONDONTWRITEBYTECODE": "",
        # Compilers started beside the step would compete with it; the step itself is unchanged by this.
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        # glibc gives large arrays back to the kernel and takes them anew, zeroed page by page: eager PyTorch's
        # elementwise steps on 4 MB arrays take twice as long so. Its tuning guide asks for another allocator.
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
    }
    blas = library.partition(":")[2]
    return out | ({"CHAINRULE_BLAS": blas} if blas else {})


def blas_of(library: str) -> str:
    """Which BLAS a chainrule column asked for ('' is the default)."""
    return library.partition(":")[2] or os.environ.get("CHAINRULE_BLAS", "")


def measure_row(
    name: str, libraries: list[str], threads: int, settings: Settings, say: Callable[[str], None]
) -> dict[str, Any]:
    """Everything about one workload and thread count, as plain data (which is also what ``--json`` keeps)."""
    w, optimizer = workload(name)
    row: dict[str, Any] = {
        "workload": name, "key": w.key, "title": w.title, "optimizer": optimizer, "threads": threads,
        "peak_flops": matrix_flops(w), "moved": w.moved,
    }  # fmt: skip
    by_library = "failed versions cold memory peak us by_cpu blocks cpu_blocks clean differs tolerances checked"
    row |= {figure: {} for figure in by_library.split()}
    workers: dict[str, Worker] = {}
    losses: dict[str, list[Any]] = {}
    with tempfile.TemporaryDirectory(prefix="chainrule-bench-", ignore_cleanup_errors=True) as folder:
        try:
            for library in libraries:
                if not peers.ours(library) and not peers.supports(library, w, optimizer):
                    continue
                say(f"{library}: first step")
                try:
                    worker, losses[library] = _start(row, library, name, threads, settings, Path(folder))
                    workers[library] = worker
                except WorkerError as error:
                    row["failed"][library] = str(error)
            _turns(row, workers, settings, say)
        finally:
            for worker in workers.values():
                worker.close(kill=True)
    _compare(row, losses, w, optimizer)
    row["ratios"] = {ours: _ratios(row, ours) for ours in row["us"] if peers.ours(ours)}
    row["goals"] = {ours: goal(w, blas_of(ours)) if threads == 1 else None for ours in row["ratios"]}
    return row


def _start(
    row: dict[str, Any], library: str, name: str, threads: int, settings: Settings, folder: Path
) -> tuple[Worker, list[Any]]:
    """A fresh process up to its fiftieth step: times of the import and the first step, memory, and the losses."""
    own = folder / library.replace(":", "-")
    own.mkdir()
    extra = environment(library, own)

    def begin(check: int) -> tuple[Worker, dict[str, Any], dict[str, Any], float]:
        worker = Worker(library, MODULE, threads, extra)
        try:
            loaded = worker.ask(timeout=settings.timeout, do="load")
            # The losses of slow steps are compared as far as they come in a few seconds.
            made = worker.ask(
                timeout=settings.timeout, do="prepare", workload=name, check=check, seconds=settings.budget / 2
            )
        except WorkerError:
            worker.close(kill=True)
            raise
        return worker, loaded, made, loaded["since_start"] + made["first_step"]

    worker, loaded, made, whole = begin(CHECKED)
    row["versions"][library] = loaded["version"]
    row["cold"][library] = {"import": loaded["seconds"], "first_step": made["first_step"], "process": whole}
    row["memory"][library] = made["memory"] - loaded["memory"]
    row["peak"][library] = made["memory"]
    if settings.warm_cache and peers.ours(library):
        again, _, second, process = begin(1)
        again.close()
        row["cold"][library] |= {"first_step_cached": second["first_step"], "process_cached": process}
    return worker, made["losses"]


def _turns(row: dict[str, Any], workers: dict[str, Worker], settings: Settings, say: Callable[[str], None]) -> None:
    """Blocks in turn; ``row['blocks'][library][i]`` is seconds per step in round i."""
    plan: dict[str, tuple[int, int]] = {}

    def drop(library: str, error: WorkerError) -> None:
        row["failed"][library] = str(error)
        plan.pop(library, None)

    for library, worker in workers.items():
        say(f"{library}: warm-up")
        try:
            answer = worker.ask(timeout=settings.timeout, do="blocks", seconds=settings.seconds)
        except WorkerError as error:
            drop(library, error)
            continue
        length = max(settings.seconds, answer["step_seconds"])
        plan[library] = answer["steps"], max(3, min(settings.rounds, int(settings.budget / length)))
    say("blocks in turn")
    blocks: dict[str, list[float | None]] = {library: [] for library in plan}
    cpu: dict[str, list[float | None]] = {library: [] for library in plan}
    for i in range(3 * settings.rounds):
        if i >= settings.rounds and all(len(_clean(blocks[p], cpu[p], row["threads"])) * 2 >= plan[p][1] for p in plan):
            break
        for library in list(plan) if i % 2 == 0 else list(plan)[::-1]:
            steps, rounds = plan[library]
            # A slow library's turns are spread evenly over the rounds.
            if i and i * rounds // settings.rounds == (i - 1) * rounds // settings.rounds:
                blocks[library].append(None)
                cpu[library].append(None)
                continue
            try:
                answer = workers[library].ask(
                    timeout=settings.timeout, do="block", steps=steps, warm=-(-steps // 5) if steps > 1 else 0
                )
            except WorkerError as error:
                drop(library, error)
                continue
            blocks[library].append(answer["seconds"] / steps)
            cpu[library].append(answer["cpu"] / steps)
    for library in plan:
        clean = _clean(blocks[library], cpu[library], row["threads"])
        row["blocks"][library], row["cpu_blocks"][library] = blocks[library], cpu[library]
        row["clean"][library] = sorted(clean)
        seen = [t for i, t in enumerate(blocks[library]) if t is not None and i in clean]
        # Without enough turns of its own on a busy machine, a library's processor time says what its step costs.
        row["by_cpu"][library] = by_cpu = len(seen) < ENOUGH and row["threads"] == 1
        used = [t for t in (cpu if by_cpu else blocks)[library] if t is not None] if len(seen) < ENOUGH else seen
        row["us"][library] = 1e6 * statistics.median(used)


def _clean(wall: list[float | None], cpu: list[float | None], threads: int) -> set[int]:
    """The turns in which no other process took the processor away: processor time over wall time says so.

    One thread uses all of its processor. With more, the share that a library reaches undisturbed differs, so it is
    compared with the library's own best turns.
    """
    share = {i: c / t for i, (t, c) in enumerate(zip(wall, cpu, strict=True)) if t is not None and c is not None}
    if not share:
        return set()
    usual = 1.0 if threads == 1 else sorted(share.values())[-1 - len(share) // 10]
    return {i for i, s in share.items() if s >= 0.93 * usual}


def _ratios(row: dict[str, Any], ours: str) -> dict[str, Any]:
    """Each peer's time over ours: median and quartiles of the rounds in which nobody disturbed either of the two.

    On a machine that is too busy for that, one thread's processor times are compared instead (``by_cpu``).
    """
    out: dict[str, Any] = {}
    for library in row["us"]:
        if peers.ours(library):
            continue
        clean = set(row["clean"][library]) & set(row["clean"][ours])
        wall, cpu = _pairs(row["blocks"], library, ours), _pairs(row["cpu_blocks"], library, ours)
        pairs = [r for i, r in wall.items() if i in clean]
        by_cpu = len(pairs) < min(ENOUGH, len(wall)) and row["threads"] == 1
        if by_cpu or len(pairs) < min(ENOUGH, len(wall)):
            pairs = list((cpu if by_cpu else wall).values())
        low, middle, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else [pairs[0]] * 3
        out[library] = {
            "median": middle, "low": low, "high": high, "pairs": len(pairs), "by_cpu": by_cpu,
            "quiet": _shortest(row, library) / _shortest(row, ours),
        }  # fmt: skip
    return out


def _shortest(row: dict[str, Any], library: str) -> float:
    """The shortest turn; by processor time for one thread, which leaves out what other processes took."""
    turns = row["cpu_blocks" if row["threads"] == 1 else "blocks"][library]
    return min(t for t in turns if t)


def _pairs(turns: dict[str, list[float | None]], library: str, ours: str) -> dict[int, float]:
    """Ratios of the rounds that both took part in."""
    both = enumerate(zip(turns[library], turns[ours], strict=True))
    return {i: a / b for i, (a, b) in both if a and b}


def _compare(row: dict[str, Any], losses: dict[str, list[Any]], w: Workload, optimizer: str) -> None:
    """Largest relative difference of the losses (or of a result's summary) from PyTorch's."""
    if not losses:
        return
    row["reference"] = reference = "torch" if "torch" in losses else next(iter(losses))

    def flat(seen: list[Any]) -> list[float]:
        return [x for y in seen for x in (y if isinstance(y, list) else [y])]

    for library, seen in losses.items():
        pairs = list(zip(flat(seen), flat(losses[reference]), strict=False))
        # A loss below a hundredth of the first is a difference of nearly equal float32 numbers.
        floor = abs(pairs[0][1]) / 100 if w.trains else 1e-8
        row["differs"][library] = max(abs(a - b) / max(abs(b), floor) for a, b in pairs)
        row["tolerances"][library] = peers.tolerance(library, w, optimizer)
        row["checked"][library] = min(len(seen), len(losses[reference]))
