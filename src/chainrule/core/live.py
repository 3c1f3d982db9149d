"""Numbers that change from step to step (learning rate, bias correction), and the counting that changes them.

In eager mode these are plain calls. While a program is traced they tell the recorder what to do again before every
later run: a learning rate is then an input of the program, not a constant of the first step.

A recorder offers ``live(getter)``, which returns a stand-in for ``getter()`` and reads it afresh before each run, and
``each_run(action)``, which calls ``action()`` now and again before each later run, ahead of reading the getters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .state import state

__all__ = ["live", "each_run"]


def live(getter: Callable[[], float]) -> Any:
    """The number that ``getter`` returns now; while tracing, a stand-in that follows it."""
    recorder = state.recorder
    return getter() if recorder is None else recorder.live(getter)


def each_run(action: Callable[[], None]) -> None:
    """Do ``action`` now; while tracing, have it done before each later run of the program too."""
    repeat = getattr(state.recorder, "each_run", None)
    if repeat is None:
        action()
    else:
        repeat(action)
