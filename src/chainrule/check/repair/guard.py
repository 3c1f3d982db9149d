"""Keep the user's own arrays safe while edited programs run: an edit may turn a copy into an in-place write."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

__all__ = ["Guard"]


class Guard:
    """Arrays that the functions can reach (closures, globals, defaults, attributes, containers).

    They are made read-only if the right program runs that way (then an edit that writes fails, as it should); otherwise
    they are put back after every run.
    """

    def __init__(self, functions: Iterable[types.FunctionType], run: Callable[[], Any]) -> None:
        self.arrays = list(_reachable(functions))
        self.copies = [a.copy() for a in self.arrays]
        self.locked = [a for a in self.arrays if a.flags.writeable]
        for a in self.locked:
            a.flags.writeable = False
        if run() is None:
            self._unlock()
            self.restore()

    def _unlock(self) -> None:
        for a in self.locked:
            a.flags.writeable = True
        self.locked = []

    def restore(self) -> None:
        """Put back what was written to."""
        if self.locked:
            return
        for a, c in zip(self.arrays, self.copies, strict=True):
            if a.flags.writeable:
                a[...] = c

    def close(self) -> None:
        self._unlock()
        self.restore()


def _reachable(functions: Iterable[types.FunctionType]) -> Iterable[np.ndarray[Any, Any]]:
    seen: set[int] = set()
    for f in functions:
        values: list[Any] = list(f.__defaults__ or ())
        values += [f.__globals__[n] for n in f.__code__.co_names if n in f.__globals__]
        for cell in f.__closure__ or ():
            try:
                values.append(cell.cell_contents)
            except ValueError:
                continue
        for depth_one in values:
            for a in _arrays(depth_one, 2):
                if id(a) not in seen:
                    seen.add(id(a))
                    yield a


def _arrays(x: Any, depth: int) -> Iterable[np.ndarray[Any, Any]]:
    if isinstance(x, np.ndarray):
        yield x
    elif depth and isinstance(x, dict):
        for v in x.values():
            yield from _arrays(v, depth - 1)
    elif depth and isinstance(x, (list, tuple)):
        for v in x[:50]:
            yield from _arrays(v, depth - 1)
    elif depth and hasattr(x, "__dict__") and not isinstance(x, (type, types.ModuleType, types.FunctionType)):
        yield from _arrays(vars(x), depth)
    elif isinstance(x, types.MethodType):
        yield from _arrays(x.__self__, depth)
