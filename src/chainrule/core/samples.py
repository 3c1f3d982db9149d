"""Test inputs for ops, written beside them: a sampler takes a NumPy generator and gives calls to try.

Every op's calls are checked in the tests: value, gradient by finite differences, second order, dtypes, traced and
compiled execution. Positional arrays are float64 here; the tests cast them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Call", "Sampler", "calls", "real", "pairs"]

Sampler = Callable[["np.random.Generator"], Iterable["Call"]]  # quoted: numpy.random is slow to import
_SHAPES: tuple[tuple[int, ...], ...] = ((), (3,), (2, 3), (0, 2), (2, 1, 4))
_BROADCASTS = (((), ()), ((3,), (3,)), ((2, 3), (3,)), ((2, 1, 4), (3, 1)), ((4,), ()), ((0, 2), (2,)))


class Call(NamedTuple):
    """One call of an op: positional arrays (or numbers), and settings."""

    args: tuple[Any, ...]
    params: dict[str, Any] = {}  # noqa: RUF012 - never written to


def _away(values: np.ndarray[Any, Any], kinks: tuple[float, ...]) -> np.ndarray[Any, Any]:
    """Move values that lie within 0.1 of a kink, where finite differences mean nothing."""
    for k in kinks:
        near = np.abs(values - k) < 0.1
        values = np.where(near, k + np.where(values >= k, 0.1, -0.1) + (values - k), values)
    return values


def real(
    low: float = -2.0, high: float = 2.0, *, kinks: tuple[float, ...] = (), params: Iterable[dict[str, Any]] = ({},)
) -> Sampler:
    """One array, uniform in [low, high], over typical shapes (0-d and empty among them) and settings."""

    def sample(rng: np.random.Generator) -> Iterable[Call]:
        for p in params:
            for shape in _SHAPES:
                yield Call((_away(np.asarray(rng.uniform(low, high, shape)), kinks),), dict(p))

    return sample


def pairs(x: tuple[float, float] = (-2.0, 2.0), y: tuple[float, float] = (-2.0, 2.0), *, apart: float = 0.0) -> Sampler:
    """Two arrays that broadcast; ``apart`` keeps their entries at a distance (for maximum and the like)."""

    def sample(rng: np.random.Generator) -> Iterable[Call]:
        for first, second in _BROADCASTS:
            a, b = np.asarray(rng.uniform(*x, first)), np.asarray(rng.uniform(*y, second))
            if apart:
                a = np.round(a / apart / 2) * apart * 2
                b = np.round(b / apart / 2) * apart * 2 + apart
            yield Call((a, b))

    return sample


def calls(make: Callable[[np.random.Generator], Iterable[tuple[Any, ...]]]) -> Sampler:
    """Calls written out: ``make(rng)`` gives tuples ``(array, …, settings dict)``; the dict may be left out."""

    def sample(rng: np.random.Generator) -> Iterable[Call]:
        for entry in make(rng):
            last: Any = entry[-1]
            if type(last) is dict:
                yield Call(tuple(entry[:-1]), last)
            else:
                yield Call(tuple(entry), {})

    return sample
