"""The common form that every kind of program is brought to: named float64 arrays → one number, and a gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Problem", "Arrays", "Note", "entry_name"]

Arrays = dict[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True, slots=True)
class Note:
    """Something the user should know that is no verdict on the gradient: a cast, a modified input, a random
    function.
    """

    kind: str
    text: str


@dataclass(slots=True)
class Problem:
    """A scalar function at a point, with the gradient to be judged.

    Adapters make these; everything behind them (numerics, verdict, diagnosis) reads nothing else.
    """

    label: str
    point: Arrays
    value: Callable[[Arrays], float]
    """The loss. Raises what the user's function raises. Must not keep or change the arrays."""
    given: Arrays
    """The analytic gradient as it was returned (dtype kept), by parameter name."""
    regrad: Callable[[Arrays], Arrays] | None = None
    """The analytic gradient at another point, or None when only arrays were given."""
    complex_value: Callable[[dict[str, Any]], complex] | None = None
    functions: tuple[Any, ...] = ()
    """The user's Python functions that compute the gradient: their source may be read as evidence."""
    forward_functions: tuple[Any, ...] = ()
    rebuild: Callable[[Any], Callable[[Arrays], Arrays]] | None = None
    """Given a replacement for ``functions[0]``, the gradient computed with it: used to try out a mended line."""
    data: Arrays = field(default_factory=dict)
    """Arrays that the program reads and that are not differentiated (x, y): for hypotheses about the batch."""
    notes: list[Note] = field(default_factory=list)
    order: int = 1
    working_eps: float = float(np.finfo(np.float64).eps)
    """The precision in which the function itself computes, as far as the adapter knows."""
    gradient_eps: float | None = None
    """The precision of the analytic gradient when it is known to be better than what its dtype shows."""
    kink_names: Callable[[str, int, float], str] | None = None
    """Name the op that bends when entry i of a parameter moves by ±h; "" when unknown."""
    first_bad: Callable[[], Any] | None = None
    """Check the parts in isolation and return the first that is wrong (engine functions), or None."""
    tape: Callable[[Arrays], Any] | None = None
    """Run the program with gradients recorded (tensor programs): for readers of its graph."""
    around: Callable[[], Any] | None = None
    """The context in which ``tape`` must run."""
    exempt: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    """Entries whose gradient is something else by definition (an embedding's padding row)."""
    cotangent: np.ndarray[Any, Any] | None = None
    """The weights of a single non-scalar output: what backward receives as its upstream gradient."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Named constants that the program reads (lr, lam, eps): candidates for a wrong factor."""
    dims: dict[int, str] = field(default_factory=dict)
    """Sizes that may appear as factors, with what they count."""

    @property
    def gradient(self) -> Arrays:
        return {k: np.asarray(v, dtype=np.float64) for k, v in self.given.items()}


def entry_name(name: str, index: tuple[int, ...]) -> str:
    """``W1[0, 3]``; just the name for a 0-d array.

    >>> entry_name("W1", (0, 3))
    'W1[0, 3]'
    """
    return f"{name}[{', '.join(map(str, index))}]" if index else name
