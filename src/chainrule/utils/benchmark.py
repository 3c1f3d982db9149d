"""``torch.utils.benchmark``: how long a statement takes, as a median over repetitions.

>>> import chainrule as torch
>>> from chainrule.utils.benchmark import Timer
>>> timer = Timer("x + 1", setup="x = torch.ones(3)", globals={"torch": torch})
>>> timer.timeit(100).number_per_run
100
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

__all__ = ["Compare", "Measurement", "TaskSpec", "Timer"]


class TaskSpec(NamedTuple):
    """What was timed."""

    stmt: str
    setup: str
    label: str | None = None
    sub_label: str | None = None
    description: str | None = None
    env: str | None = None
    num_threads: int = 1

    @property
    def title(self) -> str:
        """The label, or the statement."""
        return self.label or self.stmt

    def summarize(self) -> str:
        """Title and statement, for printing."""
        parts = [self.title, self.description or "", f"setup: {self.setup}" if self.setup != "pass" else ""]
        return "\n".join(p for p in parts if p)


class Measurement:
    """Times of a statement: ``times`` are seconds per call, one for each repetition of ``number_per_run`` calls."""

    def __init__(self, number_per_run: int, raw_times: list[float], task_spec: TaskSpec) -> None:
        self.number_per_run, self.raw_times, self.task_spec = number_per_run, raw_times, task_spec

    @property
    def times(self) -> list[float]:
        return [t / self.number_per_run for t in self.raw_times]

    @property
    def median(self) -> float:
        """Seconds per call."""
        return statistics.median(self.times)

    @property
    def mean(self) -> float:
        """Seconds per call."""
        return statistics.fmean(self.times)

    @property
    def iqr(self) -> float:
        """The distance between the quartiles, in seconds per call."""
        if len(self.times) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.times, n=4, method="inclusive")
        return high - low

    @property
    def title(self) -> str:
        return self.task_spec.title

    def __repr__(self) -> str:
        many = len(self.raw_times) > 1
        runs = f"{len(self.raw_times)} measurements, " if many else "1 measurement, "
        spread = f"\n  IQR:    {_shown(self.iqr)}" if many else ""
        return (
            f"<{type(self).__module__}.{type(self).__name__}>\n{self.task_spec.summarize()}\n"
            f"  {'Median:' if many else ''} {_shown(self.median)}{spread}\n"
            f"  {runs}{self.number_per_run} runs {'per measurement, ' if many else ', '}{self.task_spec.num_threads} "
            f"thread{'s' if self.task_spec.num_threads > 1 else ''}"
        )


def _shown(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds / 1e-9:.2f} ns"


class Timer:
    """Times a Python statement.

    Args:
        stmt: what to time.
        setup: what to run once before.
        globals: the names that both see.
        num_threads: noted in the result; a BLAS library takes its number of threads from the environment.
    """

    def __init__(
        self, stmt: str = "pass", setup: str = "pass", global_setup: str = "", timer: Callable[[], float] | None = None,
        globals: dict[str, Any] | None = None, label: str | None = None, sub_label: str | None = None,
        description: str | None = None, env: str | None = None, num_threads: int = 1, language: Any = "python",
    ) -> None:  # fmt: skip
        if not isinstance(stmt, str):
            raise ValueError("Currently only a `str` stmt is supported.")
        if str(getattr(language, "name", language)).lower() not in ("python", "py"):
            raise NotImplementedError("chainrule times Python statements only")
        space = dict(globals or {})
        self._timer = timeit.Timer(stmt, setup, timer or timeit.default_timer, space)
        self._task_spec = TaskSpec(stmt, setup, label, sub_label, description, env, num_threads)

    def timeit(self, number: int = 1000000) -> Measurement:
        """One measurement of ``number`` calls."""
        self._timer.timeit(max(number // 100, 2))  # warm up
        return Measurement(number, [self._timer.timeit(number)], self._task_spec)

    def repeat(self, repeat: int = -1, number: int = -1) -> None:
        """PyTorch leaves it out, too: ``timeit`` and ``blocked_autorange`` are what to use."""
        raise NotImplementedError("See `Timer.blocked_autorange.`")

    def _block(self, seconds: float) -> int:
        """How many calls take about that long."""
        number = 1
        while True:
            spent = self._timer.timeit(number)
            if spent >= seconds or number >= 10**8:
                return number
            number *= 10 if spent * 10 < seconds else 2

    def blocked_autorange(
        self, callback: Callable[[int, float], Any] | None = None, min_run_time: float = 0.2
    ) -> Measurement:
        """Measurements of blocks long enough for the clock, until they take ``min_run_time`` seconds together."""
        number = self._block(min(1e-3, min_run_time / 10))
        raw: list[float] = []
        while sum(raw) < min_run_time:
            raw.append(self._timer.timeit(number))
            if callback is not None:
                callback(number, raw[-1])
        return Measurement(number, raw, self._task_spec)

    def adaptive_autorange(
        self, threshold: float = 0.1, *, min_run_time: float = 0.01, max_run_time: float = 10.0,
        callback: Callable[[int, float], Any] | None = None,
    ) -> Measurement:  # fmt: skip
        """Like ``blocked_autorange``, until the quartiles lie within ``threshold`` of the median."""
        number = self._block(1e-3)
        raw: list[float] = []
        while True:
            raw.append(self._timer.timeit(number))
            if callback is not None:
                callback(number, raw[-1])
            so_far = Measurement(number, raw, self._task_spec)
            settled = len(raw) >= 4 and so_far.iqr < threshold * so_far.median
            if (sum(raw) >= min_run_time and settled) or sum(raw) >= max_run_time:
                return so_far

    def collect_callgrind(self, *_: Any, **__: Any) -> Any:
        """Left out: it needs Valgrind."""
        raise NotImplementedError("collect_callgrind needs Valgrind and PyTorch's C++ tools, which are not here")


class Compare:
    """A table of measurements: a row for each sub_label (or statement), a column for each description."""

    def __init__(self, results: Iterable[Measurement]) -> None:
        self._results = list(results)

    def extend_results(self, results: Iterable[Measurement]) -> None:
        """Add measurements."""
        self._results.extend(results)

    def trim_significant_figures(self) -> None:
        """Accepted: two decimals are shown."""

    def colorize(self, rowwise: bool = False) -> None:
        """Accepted: the table is plain text."""

    def __str__(self) -> str:
        specs = [m.task_spec for m in self._results]
        columns = list(dict.fromkeys(s.description or "" for s in specs))
        rows = list(dict.fromkeys(s.sub_label or s.stmt for s in specs))
        cells = {(s.sub_label or s.stmt, s.description or ""): _shown(m.median) for s, m in zip(specs, self._results)}
        wide = max([len(r) for r in rows] + [8])
        widths = [max([len(c), *(len(cells.get((r, c), "")) for r in rows)]) for c in columns]
        lines = [" " * wide + "  " + "  ".join(f"{c:>{w}}" for c, w in zip(columns, widths))]
        shown = {r: [f"{cells.get((r, c), ''):>{w}}" for c, w in zip(columns, widths)] for r in rows}
        lines += [f"{r:<{wide}}  {'  '.join(row)}" for r, row in shown.items()]
        return "\n".join(lines)

    def print(self) -> None:
        """Print the table."""
        print(self)
