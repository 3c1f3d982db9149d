"""Which ops ran, how often, and how long: ``torch.autograd.profiler`` and ``torch.profiler`` as a small true table.

Python's own profiler counts the calls of the ops' bodies while the context is open, so programs run as they always do.
An op's time is that of its body, NumPy included, without the work of dispatching it. Ops are named ``aten::name``.
"""

from __future__ import annotations

import cProfile
import functools
import time
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from ..core.op import registry

__all__ = [
    "EventList", "FunctionEventAvg", "ProfilerAction", "ProfilerActivity", "emit_itt", "emit_nvtx", "profile",
    "record_function", "schedule", "tensorboard_trace_handler",
]  # fmt: skip

_open: list[profile] = []
_NO_TIME_LINE = "chainrule's profiler keeps a table of ops, no time line: print key_averages().table()"


class ProfilerActivity(Enum):
    """What to watch; the CPU is what there is."""

    CPU = 0
    XPU = 1
    MTIA = 2
    CUDA = 3
    HPU = 4
    PrivateUse1 = 5


class ProfilerAction(Enum):
    """What the profiler does in a step (see ``schedule``)."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0, skip_first_wait: int = 0
) -> Callable[[int], ProfilerAction]:
    """In each cycle ``wait`` steps of nothing, ``warmup`` steps, and ``active`` steps that are recorded."""

    def action(step: int) -> ProfilerAction:
        if step < skip_first:
            return ProfilerAction.NONE
        step -= skip_first
        cycle = wait + warmup + active
        if skip_first_wait:
            step += wait
        if repeat and step // cycle >= repeat:
            return ProfilerAction.NONE
        place = step % cycle
        if place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD_AND_SAVE if place == cycle - 1 else ProfilerAction.RECORD

    return action


def tensorboard_trace_handler(dir_name: str, worker_name: str | None = None, use_gzip: bool = False) -> Any:
    """Left out: there is no time line here, only the table."""
    raise NotImplementedError(_NO_TIME_LINE)


class FunctionEventAvg:
    """One row: an op (or a region of ``record_function``), its calls, and its time in microseconds."""

    __slots__ = ("key", "count", "cpu_time_total", "self_cpu_time_total")

    def __init__(self, key: str, count: int, total: float, own: float) -> None:
        self.key, self.count, self.cpu_time_total, self.self_cpu_time_total = key, count, total, own

    @property
    def name(self) -> str:
        return self.key

    @property
    def cpu_time(self) -> float:
        """Microseconds per call."""
        return self.cpu_time_total / max(self.count, 1)

    def __repr__(self) -> str:
        return f"<FunctionEventAvg key={self.key} count={self.count} cpu_time={self.cpu_time:.3f}us>"


class EventList(list[FunctionEventAvg]):
    """The rows, with a table to print."""

    def table(
        self, sort_by: str | None = None, row_limit: int = 100, max_src_column_width: int = 75,
        max_name_column_width: int = 55, max_shapes_column_width: int = 80, header: str | None = None,
        top_level_events_only: bool = False, **_: Any,
    ) -> str:  # fmt: skip
        """The rows as text, sorted by ``cpu_time_total``, ``self_cpu_time_total``, ``cpu_time`` or ``count``."""
        rows = list(self)
        if sort_by:
            key = sort_by if hasattr(FunctionEventAvg, sort_by) else "cpu_time_total"
            rows.sort(key=lambda e: getattr(e, key), reverse=True)
        total = sum(e.self_cpu_time_total for e in self) or 1.0
        wide = max([len("Name"), *(min(len(e.key), max_name_column_width) for e in rows)])
        line = f"{'-' * wide}  {'-' * 10}  {'-' * 12}  {'-' * 12}  {'-' * 12}  {'-' * 10}"
        out = [header, line] if header else [line]
        titles = ("Self CPU %", 10), ("Self CPU", 12), ("CPU total", 12), ("CPU time avg", 12), ("# of Calls", 10)
        out += ["  ".join([f"{'Name':>{wide}}", *(f"{t:>{n}}" for t, n in titles)]), line]
        for e in rows[: row_limit if row_limit >= 0 else None]:
            share = 100 * e.self_cpu_time_total / total
            out.append(
                f"{e.key[:max_name_column_width]:>{wide}}  {share:>9.2f}%  {_shown(e.self_cpu_time_total):>12}  "
                f"{_shown(e.cpu_time_total):>12}  {_shown(e.cpu_time):>12}  {e.count:>10}"
            )
        return "\n".join([*out, line, f"Self CPU time total: {_shown(total)}", ""])

    def total_average(self) -> FunctionEventAvg:
        """All rows as one."""
        own = sum(e.self_cpu_time_total for e in self)
        return FunctionEventAvg("Total", sum(e.count for e in self), own, own)

    @property
    def self_cpu_time_total(self) -> float:
        return sum(e.self_cpu_time_total for e in self)

    def __str__(self) -> str:
        return self.table()


def _shown(microseconds: float) -> str:
    if microseconds >= 1e6:
        return f"{microseconds / 1e6:.3f}s"
    return f"{microseconds / 1e3:.3f}ms" if microseconds >= 1e3 else f"{microseconds:.3f}us"


class profile:
    """Counts and times ops while it is open.

    Options that concern other devices, shapes, memory and stacks are accepted, without effect.

    Args:
        enabled: with False nothing is counted.
        schedule: a function of the step number (see ``schedule``); ``step()`` then moves on.
        on_trace_ready: called with the profiler at the end of each recorded cycle, or at the end.

    >>> import chainrule as torch
    >>> with torch.profiler.profile() as prof:
    ...     y = (torch.ones(3) * 2).exp()
    >>> sorted((e.key, e.count) for e in prof.key_averages())
    [('aten::exp', 1), ('aten::mul', 1)]
    """

    def __init__(
        self, enabled: Any = True, *, activities: Iterable[Any] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None, on_trace_ready: Callable[[Any], Any] | None = None,
        **_: Any,
    ) -> None:  # fmt: skip
        self.enabled = bool(enabled)
        self._schedule, self._ready = schedule, on_trace_ready
        self.step_num = 0
        self._profiler = cProfile.Profile()
        self._regions: dict[str, tuple[int, float]] = {}
        self._running = False

    def _wants(self) -> bool:
        if self._schedule is None:
            return self.enabled
        return self.enabled and self._schedule(self.step_num).value >= ProfilerAction.RECORD.value

    def _switch(self, on: bool) -> None:
        if on and not self._running:
            self._profiler.enable()
        elif self._running and not on:
            self._profiler.disable()
        self._running = on

    def start(self) -> None:
        """Begin, as entering the context does."""
        _open.append(self)
        self._switch(self._wants())

    def stop(self) -> None:
        """End, as leaving the context does."""
        saves = self._schedule is not None and self._schedule(self.step_num) is ProfilerAction.RECORD_AND_SAVE
        self._switch(False)
        if self in _open:
            _open.remove(self)
        if self._ready is not None and (self._schedule is None or saves):
            self._ready(self)

    def step(self) -> None:
        """The next step of the schedule."""
        done = self._schedule is not None and self._schedule(self.step_num) is ProfilerAction.RECORD_AND_SAVE
        self._switch(False)
        if done and self._ready is not None:
            self._ready(self)
        if done:
            self._profiler.clear()
            self._regions.clear()
        self.step_num += 1
        self._switch(self._wants())

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0, **_: Any) -> EventList:
        """One row per op and region, in the order of their first call as far as Python tells."""
        running = self._running
        self._switch(False)
        bodies = {getattr(op.body, "__code__", None): name for name, op in registry.items()}
        found: dict[str, list[float]] = {}
        for entry in self._profiler.getstats():
            name = bodies.get(entry.code) if not isinstance(entry.code, str) else None
            if name is not None:
                row = found.setdefault(name, [0, 0.0, 0.0])
                nested = sum(s.totaltime for s in entry.calls or () if s.code in bodies)
                row[0] += entry.callcount
                row[1] += entry.totaltime
                row[2] += entry.totaltime - nested
        self._switch(running)
        rows = [FunctionEventAvg(f"aten::{k}", int(n), t * 1e6, own * 1e6) for k, (n, t, own) in found.items()]
        rows += [FunctionEventAvg(k, n, t * 1e6, 0.0) for k, (n, t) in self._regions.items()]
        return EventList(rows)

    @property
    def function_events(self) -> EventList:
        return self.key_averages()

    def table(self, **options: Any) -> str:
        """``key_averages().table(…)``."""
        return self.key_averages().table(**options)

    def total_average(self) -> FunctionEventAvg:
        """All ops as one row."""
        return self.key_averages().total_average()

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds in ops."""
        return self.key_averages().self_cpu_time_total

    def events(self) -> EventList:
        """The rows (single calls are not kept)."""
        return self.key_averages()

    def export_chrome_trace(self, path: str) -> None:
        """Left out: there is no time line here, only the table."""
        raise NotImplementedError(
            "chainrule's profiler keeps a table of ops, no time line: print key_averages().table()"
        )


class record_function:
    """Names a region: its calls and its time are a row of the table. A context manager, or a decorator."""

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name = name

    def __enter__(self) -> record_function:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        spent = time.perf_counter() - self._start
        for p in _open:
            if p._running:
                n, t = p._regions.get(self.name, (0, 0.0))
                p._regions[self.name] = (n + 1, t + spent)

    def __call__(self, function: Any) -> Any:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name):
                return function(*args, **kwargs)

        return wrapped


class _Accepted:
    """A context for other devices' tools: accepted, without effect."""

    def __init__(self, enabled: bool = True, record_shapes: bool = False) -> None:
        self.enabled = enabled

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class emit_nvtx(_Accepted):
    """Accepted, without effect."""


class emit_itt(_Accepted):
    """Accepted, without effect."""
