"""What the engine is doing right now, per thread: recording gradients, tracing a program, inside which module."""

from __future__ import annotations

import itertools
import threading
from typing import Any

__all__ = ["State", "state", "tick"]


class State(threading.local):
    """Modes of the current thread. Class attributes are the defaults that every new thread starts with."""

    grad: bool = True
    """Whether ops on tensors that require grad are recorded (``no_grad`` clears it)."""
    inference: bool = False
    """Whether results are inference tensors, which may never enter a graph."""
    recorder: Any = None
    """When set, every op application is also reported here (see ``graph.trace``); the fast path is off."""
    module: Any = None
    """The chain of modules whose ``forward`` is running: ``(module, outer chain)`` or None."""
    anomaly: bool = False
    """Whether backward checks every gradient for NaN (``detect_anomaly``)."""
    saved_hooks: Any = None
    """A pair (pack, unpack) applied to what the tape saves, or None."""


state = State()

tick = itertools.count(1).__next__
"""One clock for the whole process: nodes and in-place writes are ordered by it."""
