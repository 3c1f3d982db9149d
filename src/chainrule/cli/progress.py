"""Showing a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import itertools
import math
import statistics
import sys
import time
from typing import Any

__all__ = ["make_report", "Silent"]


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *exc: object) -> None: ...
    def batch(self, info: dict[str, Any]) -> None: ...
    def epoch(self, row: dict[str, Any]) -> None: ...


def _metric(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return f"{name} –"
    return f"{name} {100 * value:.2f} %" if name == "accuracy" else f"{name} {value:.4f}"


class Plain(Silent):
    """One line an epoch, on standard error, for logs and pipes."""

    def __init__(self, epochs: int, metric: str, done: int = 0) -> None:
        self.epochs, self.metric, self.done = epochs, metric, done
        self.batches: list[float] = []
        """When each batch of the first epoch ended."""
        self.first = 0.0
        """When the first epoch ended."""

    def batch(self, info: dict[str, Any]) -> None:
        if info["epoch"] == self.done + 1:
            self.batches.append(time.perf_counter())

    def _an_epoch(self, done: int) -> float | None:
        """Seconds that an epoch takes, None where that is not known yet.

        The first steps of a run are slow (they compile), so the first epoch counts by its median step, and not at all
        afterwards.
        """
        now = time.perf_counter()
        if done > 1:
            return (now - self.first) / (done - 1)
        self.first = now
        steps = [b - a for a, b in itertools.pairwise(self.batches)]
        return statistics.median(steps) * len(self.batches) if steps else None

    def epoch(self, row: dict[str, Any]) -> None:
        an_epoch = self._an_epoch(row["epoch"] - self.done)
        parts = [f"epoch {row['epoch']}/{self.epochs}", f"loss {row['loss']:.6g}"]
        if "val_loss" in row:
            parts += [f"val loss {row['val_loss']:.6g}", f"val {_metric(self.metric, row['val_metric'])}"]
        parts += [
            f"|g| {row['grad_norm']:.3g}",
            f"lr {row['lr']:.3g}",
            f"{row['samples_per_s']:.0f} samples/s",
        ]
        if an_epoch is not None:
            parts.append(f"{an_epoch * (self.epochs - row['epoch']):.0f} s left")
        print("  ".join(parts), file=sys.stderr, flush=True)


class Bar(Silent):
    """A rich progress bar with loss, metric, gradient norm, learning rate, speed and time left."""

    def __init__(self, epochs: int, batches: int, metric: str, done: int, console: Any) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.epochs, self.batches, self.metric = epochs, batches, metric
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(bar_width=18),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self.task = self.progress.add_task("", total=epochs * batches, completed=done * batches, epoch=done, text="")
        self.value: float | None = None
        self.shown = 0.0
        self.pending = 0
        self.samples = 0
        self.since = time.perf_counter()

    def __enter__(self) -> Bar:
        self.progress.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.__exit__(*exc)  # type: ignore[arg-type]

    def batch(self, info: dict[str, Any]) -> None:
        self.pending += 1
        self.samples += info["samples"]
        now = time.perf_counter()
        if now - self.shown < 0.1:  # drawing is slower than a small network's step
            return
        speed = self.samples / max(now - self.since, 1e-9)
        text = (
            f"loss {info['loss']:<8.4g} val {_metric(self.metric, self.value)}  |g| {info['grad_norm']:<8.3g} "
            f"lr {info['lr']:<8.3g} {speed:,.0f}/s"
        )
        self.progress.update(self.task, advance=self.pending, epoch=info["epoch"], text=text)
        self.shown, self.pending, self.samples, self.since = now, 0, 0, now

    def epoch(self, row: dict[str, Any]) -> None:
        self.value = row.get("val_metric")


def make_report(epochs: int, batches: int, metric: str, done: int, console: Any, quiet: bool) -> Any:
    """The report that fits where the output goes."""
    if quiet:
        return Silent()
    if console.is_terminal and not console.is_dumb_terminal:
        return Bar(epochs, batches, metric, done, console)
    return Plain(epochs, metric, done)
