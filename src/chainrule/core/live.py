"""Numbers that change from step to step (learning rate, bias correction), and the counting that changes them.

In eager mode these are plain calls. While a program is traced they tell the recorder what to do again before every
later run: a learning rate is then an input of the program, not a constant of the first step.

A recorder offers ``live(getter)``, which returns a stand-in for ``getter()`` and reads it afresh before each run, and
``each_run(action, save)``, which calls ``action()`` now and again before each later run. Actions and getters are called
in the order in which they came.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

from .state import state
from .variable import Variable, wrap

__all__ = [
    "each_run", "gradient_read", "gradient_set", "live", "live_all", "memory_read", "reads_values", "values_known",
    "values_of", "values_read",
]  # fmt: skip


def live(getter: Callable[[], float]) -> Any:
    """The number that ``getter`` returns now; while tracing, a stand-in that follows it."""
    recorder = state.recorder
    return getter() if recorder is None else recorder.live(getter)


def live_all(getter: Callable[[], tuple[float, ...]], size: int, options: bool = False) -> list[Any]:
    """The ``size`` numbers that ``getter`` returns together; while tracing, stand-ins that follow them.

    ``options``: the numbers depend on the plain options of an optimizer's group alone, so they need not be read again
    while those are the same objects.
    """
    recorder = state.recorder
    if recorder is None:
        return list(getter())
    together = getattr(recorder, "live_all", None)
    if together is not None:
        return together(getter, size, options)
    return [recorder.live(lambda i=i: getter()[i]) for i in range(size)]


def each_run(action: Callable[[], None], save: Callable[[], Callable[[], None]]) -> None:
    """Do ``action`` now; while tracing, have it done before each later run of the program too.

    ``save()`` notes what the action changes and returns the function that puts it back, for a run that fails.
    """
    repeat = getattr(state.recorder, "each_run", None)
    if repeat is None:
        action()
    else:
        repeat(action, save)


def values_known(*tensors: Any) -> bool:
    """Whether Python may look at the tensors' values: nothing is traced, or every later run has the same ones."""
    known = getattr(state.recorder, "known", None)
    return known is None or all(known(t) for t in _tensors(tensors))


def values_of(t: Any) -> Any:
    """What a tensor (or array) holds, outside of any graph: its array; while tracing a tensor, which the program can
    follow. Operators and ops take both, so the same lines compute with either.
    """
    array = t._array if isinstance(t, Variable) else t
    return array if state.recorder is None else wrap(array)


def values_read(t: Any, what: str) -> None:
    """Before Python or NumPy computes with the values of ``t`` (tensors in any nesting) unseen: a program that is
    traced cannot follow, unless every run has the same ones."""
    if state.recorder is not None:
        for x in _tensors(t):
            state.recorder.leak(x, what)


def memory_read(what: str) -> None:
    """Before the memory of a tensor is handed out or taken over, so that it may be written unseen."""
    if state.recorder is not None:
        state.recorder.leak(None, what)


def reads_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors that computes with their values unseen."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        values_read((args, *kwargs.values()), function.__name__)
        return function(*args, **kwargs)

    return wrapper


def _tensors(x: Any) -> list[Any]:
    if isinstance(x, (list, tuple)):
        return [t for part in cast("list[Any]", x) for t in _tensors(part)]
    return [x] if isinstance(x, Variable) else []


def gradient_read(p: Any) -> None:
    """While tracing: the code that runs depends on whether ``p`` has a gradient."""
    notice = getattr(state.recorder, "gradient_read", None)
    if notice is not None:
        notice(p)


def gradient_set(p: Any) -> None:
    """While tracing: the gradient of ``p`` is set to something (or None) whatever it was."""
    notice = getattr(state.recorder, "gradient_set", None)
    if notice is not None:
        notice(p)
