"""The recorded graph as a program: a pure function in single-assignment form, plus the memory it updates.

There is one program form. ``backward_source`` prints it as NumPy, ``compile`` turns it into native code, ``verify``
checks it after every pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.locate import Place
from ..core.op import Op

__all__ = ["Value", "Instr", "Program"]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One array of the program: made once, by one instruction or from outside. Compared by identity."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str | None = None

    def __repr__(self) -> str:
        return f"{self.name or 'v'}:{self.dtype.name}{list(self.shape)}"


@dataclass(frozen=True, slots=True, eq=False)
class Instr:
    """One op application. ``args`` are Values, Python numbers, or None (an absent optional array).

    ``outs`` are the op's outputs followed by its residuals (values the op computes for its own backward).
    """

    op: Op
    args: tuple[Any, ...]
    params: dict[str, Any]
    outs: tuple[Value, ...]
    place: Place | None = None
    module: str = ""

    @property
    def values(self) -> Iterator[Value]:
        """The array arguments."""
        return (a for a in self.args if isinstance(a, Value))


@dataclass(slots=True)
class Program:
    """``outputs = f(inputs)``, reading ``constants``, then storing ``updates``.

    * ``inputs``: what changes from call to call (data, live scalars such as the learning rate, random numbers).
    * ``constants``: arrays bound when the program was made. A parameter is a constant whose *memory* is shared with
      its tensor: it is read afresh on every call.
    * ``updates``: ``(memory, value)``: after everything is computed, ``value`` is stored in the array of the constant
      or input ``memory``. Reads of ``memory`` inside the program always mean its content before the call.
    """

    inputs: list[Value] = field(default_factory=list)
    constants: dict[Value, np.ndarray[Any, Any]] = field(default_factory=dict)
    instrs: list[Instr] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    updates: list[tuple[Value, Value]] = field(default_factory=list)
