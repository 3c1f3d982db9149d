"""Measure the gradient: sampled entries and random directions, or all entries; each with its error estimate."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .numerics import EPS, Slope, derivative, function_noise
from .problem import Arrays, Problem

__all__ = ["Entry", "Direction", "Measurement", "measure", "quiet"]

_SAMPLED = 12
_ALL_BELOW = 24


@dataclass(slots=True)
class Entry:
    """One partial derivative. ``status`` is "ok", "kink" (a valid subgradient), "bad" or "unclear"."""

    name: str
    index: tuple[int, ...]
    flat: int
    analytic: float
    slope: Slope
    tolerance: float = 0.0
    status: str = ""
    convention: str = ""

    @property
    def gap(self) -> float:
        """How far the analytic value lies outside what is allowed."""
        if self.slope.kink:
            return max(self.slope.low - self.analytic, self.analytic - self.slope.high, 0.0)
        return abs(self.analytic - self.slope.value)


@dataclass(slots=True)
class Direction:
    """The derivative along a random direction over all entries of ``names``."""

    names: tuple[str, ...]
    analytic: float
    slope: Slope
    reach: float
    """√Σ(gᵢvᵢ)²: the size that a random sum of these terms has."""
    tolerance: float = 0.0
    status: str = ""


@dataclass(slots=True)
class Measurement:
    """What was measured, by parameter, and what it cost."""

    value: float
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    directions: list[Direction] = field(default_factory=list)
    scales: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    noise: float = 0.0
    evaluations: int = 0
    seconds: float = 0.0
    full: bool = False
    errors: list[str] = field(default_factory=list)

    def all_entries(self) -> Iterator[Entry]:
        for entries in self.entries.values():
            yield from entries


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Perturbed points may overflow or leave the domain: that is handled, so it must not warn."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Evaluator:
    """Evaluates the loss at the point displaced along entries or directions, counting, and turning errors to NaN."""

    def __init__(self, problem: Problem, measurement: Measurement) -> None:
        self.problem = problem
        self.point = {k: v.copy() for k, v in problem.point.items()}
        self.measurement = measurement

    def _value(self) -> float:
        self.measurement.evaluations += 1
        try:
            value = float(self.problem.value(self.point))
        except Exception as error:  # outside the function's domain; at the point itself it was fine
            if len(self.measurement.errors) < 3:
                self.measurement.errors.append(f"{type(error).__name__}: {error}")
            return math.nan
        return value

    def along_entry(self, name: str, flat: int) -> Callable[[float], float]:
        array = self.point[name].reshape(-1)
        assert np.shares_memory(array, self.point[name]) or array.size == 0
        x = float(array[flat])

        def phi(t: float) -> float:
            array[flat] = x + t
            try:
                return self._value()
            finally:
                array[flat] = x

        return phi

    def along(self, vector: Arrays) -> Callable[[float], float]:
        base = {k: self.point[k].copy() for k in vector}

        def phi(t: float) -> float:
            for k, v in vector.items():
                np.add(base[k], t * v, out=self.point[k])
            try:
                return self._value()
            finally:
                for k in vector:
                    self.point[k][...] = base[k]

        return phi


def power_of_two(x: float) -> float:
    """The power of two below x.

    >>> power_of_two(5.0)
    4.0
    """
    return math.ldexp(1.0, math.frexp(x)[1] - 1)


def array_scales(x: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float]:
    """Per entry: its own size, or the array's where it is zero; and the array's root mean square (1 if all zero)."""
    top = float(np.max(np.abs(x), initial=0.0))
    flat = x.reshape(-1) / top if top > 0 else x.reshape(-1)
    rms = top * math.sqrt(float(flat @ flat) / x.size) if top > 0 else 1.0
    del flat
    own = np.array(np.abs(x))
    own[own == 0] = rms
    return own, rms or 1.0


def measure(
    problem: Problem,
    *,
    full: bool,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] | None = None,
    directions: int = 2,
) -> Measurement:
    """Numeric derivatives of ``problem`` at its point, compared with nothing yet (``verdict.judge`` does that)."""
    start = time.perf_counter()
    with quiet():
        m = Measurement(value=float(problem.value(problem.point)), full=full)
        evaluator = _Evaluator(problem, m)
        own = {k: array_scales(v) for k, v in problem.point.items()}
        m.scales = {k: v[0] for k, v in own.items()}
        gradient = problem.gradient
        m.noise = _noise(problem, evaluator, m, own, rng)
        plan = {k: _choose(gradient[k], full, rng) for k in problem.point}
        for k, mask in problem.exempt.items():
            plan[k] = plan[k][~mask.reshape(-1)[plan[k]]]
        total = sum(len(p) for p in plan.values())
        done = 0
        for name, chosen in plan.items():
            scales, rms = own[name]
            g = gradient[name].reshape(-1)
            magnitude = float(np.max(np.abs(g), initial=0.0))
            entries = m.entries[name] = []
            shape = problem.point[name].shape
            for flat in chosen:
                flat = int(flat)
                # A power of two: x + h is then exact, also where x is so large that its own spacing matters.
                size = power_of_two(float(scales.reshape(-1)[flat]))
                slope = derivative(
                    evaluator.along_entry(name, flat),
                    m.value,
                    scale=max(size, power_of_two(rms)),
                    smallest=size,
                    noise=m.noise,
                    expected=float(g[flat]),
                    magnitude=magnitude * 1e-3,
                )
                index = tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ()
                entries.append(Entry(name, index, flat, float(g[flat]), slope))
                done += 1
                if progress is not None:
                    progress(done, total)
        _sharpen(problem, m)
        left_out = sum(int(x.sum()) for x in problem.exempt.values())
        if not full and total + left_out < sum(v.size for v in problem.point.values()):
            _directions(problem, evaluator, m, own, rng, directions)
    m.seconds = time.perf_counter() - start
    return m


def _choose(g: np.ndarray[Any, Any], full: bool, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """All entries, or a sample: the largest analytic ones, the corners (indexing mistakes live there), random ones."""
    n = g.size
    if full or n <= _ALL_BELOW:
        return np.arange(n)
    flat = np.abs(g.reshape(-1))
    top = np.argpartition(flat, n - _SAMPLED // 3)[n - _SAMPLED // 3 :]
    rest = rng.integers(0, n, size=_SAMPLED - len(top) - 2)
    return np.unique(np.concatenate([top, rest, [0, n - 1]]))


def _noise(problem: Problem, evaluator: _Evaluator, m: Measurement, own: Any, rng: np.random.Generator) -> float:
    # Powers of two, so that point + t·vector is exact below: what is measured is the function's noise alone.
    vector = {
        k: np.ldexp(rng.choice([-1.0, 1.0], size=v.shape), np.frexp(own[k][0])[1]) for k, v in problem.point.items()
    }
    phi = evaluator.along(vector)
    eps = problem.working_eps
    moves = (0.0137, -0.0071, 1.9e-3)
    probes = [m.value] + [phi(t) for t in moves]
    finite = [p for p in probes if math.isfinite(p) and p != 0]
    for kind, kind_eps in ((np.float16, 2.0**-10), (np.float32, 2.0**-23)):
        # A random double is a float32 with probability 2⁻²⁹: a function whose every value is one computes in it.
        with np.errstate(all="ignore"):
            if len(set(finite)) >= 3 and all(float(kind(p)) == p and p != round(p) for p in finite):
                eps = max(eps, kind_eps)
                break
    problem.working_eps = eps
    reach = [abs(p - m.value) / abs(t) for p, t in zip(probes[1:], moves, strict=True) if math.isfinite(p)]
    return function_noise(phi, m.value, eps, min(reach, default=0.0))


def _sharpen(problem: Problem, m: Measurement) -> None:
    """Where differences are not good enough and the function takes complex numbers, ask for Im f(x + ih)/h.

    W. Squire and G. Trapp, "Using complex variables to estimate derivatives", 1998: no subtraction, so no rounding. It
    is believed only where it agrees with the differences: abs, max or a real cast inside f make it silently wrong.
    """
    if problem.complex_value is None:
        return
    unsure = [e for e in m.all_entries() if not e.slope.kink and e.slope.error > 1e-7 * abs(e.slope.value)]
    steady = [e for e in m.all_entries() if not e.slope.kink and e.slope.error <= 1e-5 * abs(e.slope.value)]
    if not unsure or not steady:
        return
    for e in [*steady[:3], *unsure[:200]]:
        h = float(m.scales[e.name].reshape(-1)[e.flat]) * 1e-30
        moved = {k: v.astype(np.complex128) for k, v in problem.point.items()}
        moved[e.name].reshape(-1)[e.flat] += 1j * h
        m.evaluations += 1
        try:
            value = complex(problem.complex_value(moved)).imag / h
        except Exception:
            return
        if not math.isfinite(value) or abs(value - e.slope.value) > 4 * e.slope.error + 1e-12 * abs(value):
            return
        if e.slope.error > 1e-7 * abs(e.slope.value):
            error = 64 * EPS * abs(value)
            if e.slope.error < math.inf:
                e.slope = Slope(value, error, value, value, False, h, e.slope.evaluations + 1)


def _directions(
    problem: Problem, evaluator: _Evaluator, m: Measurement, own: Any, rng: np.random.Generator, count: int
) -> None:
    gradient = problem.gradient
    groups: list[tuple[str, ...]] = [(k,) for k, v in problem.point.items() if len(m.entries[k]) < v.size]
    if len(problem.point) > 1 and groups:
        groups.append(tuple(problem.point))
    for names in groups:
        for _ in range(count if len(names) == 1 else 1):
            # Each entry moves in proportion to its own size, so that small parameters count as much as large ones.
            vector = {k: own[k][0] * rng.normal(size=problem.point[k].shape) for k in names}
            for k, mask in problem.exempt.items():
                if k in vector:
                    vector[k][mask] = 0.0
            analytic = math.fsum(float(np.sum(gradient[k] * vector[k])) for k in names)
            reach = math.fsum(float(np.sum((gradient[k] * vector[k]) ** 2)) for k in names)
            moved = math.fsum(float(np.sum((gradient[k] * problem.point[k]) ** 2)) for k in names)
            noise = m.noise + (EPS * math.sqrt(moved) if math.isfinite(moved) else 0.0)
            size = math.sqrt(reach) if math.isfinite(reach) else 0.0
            slope = derivative(
                evaluator.along(vector),
                m.value,
                scale=1.0,
                smallest=1.0,
                noise=noise,
                expected=analytic,
                magnitude=size * 1e-2,
            )
            m.directions.append(Direction(names, analytic, slope, size))
            del vector
