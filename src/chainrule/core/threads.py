"""How many threads compiled steps may use. Set by ``chainrule.set_num_threads``."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

__all__ = ["cell", "changed", "get", "put"]


def _at_start() -> int:
    """OMP_NUM_THREADS, as in PyTorch, or the processors that this process may run on."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


cell = np.full(1, _at_start(), np.int64)
"""The number, at an address that native code can look at."""
changed: list[Callable[[int], None]] = []
"""Who wants to be told."""


def get() -> int:
    """The number of threads."""
    return int(cell[0])


def put(count: int) -> None:
    """Set the number of threads and tell everybody who asked."""
    cell[0] = count
    for tell in changed:
        tell(count)
