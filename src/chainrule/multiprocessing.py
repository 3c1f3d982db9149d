"""``torch.multiprocessing``: can be imported and set up; what would start a process is refused.

PyTorch's processes share the memory of tensors. Here a tensor that is sent to another process arrives as a copy:
training with shared weights would go on without an error and learn nothing.
"""

from __future__ import annotations

import multiprocessing as _python
from multiprocessing import cpu_count, current_process, freeze_support, get_start_method, set_start_method
from typing import Any as _Any

__all__ = [
    "cpu_count", "current_process", "freeze_support", "get_all_sharing_strategies", "get_sharing_strategy",
    "get_start_method", "set_sharing_strategy", "set_start_method",
]  # fmt: skip


def get_all_sharing_strategies() -> set[str]:
    """None: no memory of tensors is shared."""
    return set()


def get_sharing_strategy() -> str:
    """What PyTorch says at first."""
    return "file_descriptor"


def set_sharing_strategy(new_strategy: str) -> None:
    """Accepted and without effect."""


def _refused(name: str) -> _Any:
    """Stands for a function or a class, so that a program may import it or derive from it."""

    python = "Process" if name in ("spawn", "start_processes") else name

    def refuse(self: _Any, *args: _Any, **kwargs: _Any) -> None:
        raise NotImplementedError(
            f"torch.multiprocessing.{name}: tensors are not shared between processes here\n"
            "  Train in one process: chainrule.compile(step) uses the processor's threads (set_num_threads).\n"
            f"  For work that needs copies only, use Python's own: multiprocessing.{python}"
        )

    return type(name, (), {"__init__": refuse, "__module__": __name__})


def __getattr__(name: str) -> _Any:
    if name in _python.__all__ or name in ("spawn", "start_processes", "SpawnContext", "ProcessContext"):
        return _refused(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
