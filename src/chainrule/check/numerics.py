"""The derivative of a scalar function of one number, with an error estimate: no step and no tolerance to guess.

Central differences D(h) = (φ(h) − φ(−h)) / 2h have an error c₂h² + c₄h⁴ + … from truncation and ε/h from rounding,
where ε is the noise of φ. Richardson's extrapolation removes the h² term (L. F. Richardson 1911; C. Ridders, "Accurate
computation of F′(x)", 1982, chooses the step by the smallest disagreement in the tableau, as here). ε is measured, not
assumed (J. Moré and S. Wild, "Estimating computational noise", 2011), so a float32 program is judged as one.

The second difference φ(h) + φ(−h) − 2φ(0) comes for free: it falls like h² where φ is smooth and like h where φ has a
kink at 0. There both one-sided slopes are returned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Slope", "derivative", "function_noise", "EPS"]

EPS = float(np.finfo(np.float64).eps)
_RATIO = 4.0
_FIRST = 2.0**-10  # ≈ ε^(1/5): where the h⁴ and ε/h errors of the extrapolated value meet
_ONE_SIDED = 2.0 / (_RATIO - 1.0)

Phi = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Slope:
    """A derivative and what is known about it. ``left`` and ``right`` differ where there is a kink."""

    value: float
    error: float
    left: float
    right: float
    kink: bool
    step: float
    evaluations: int

    @property
    def low(self) -> float:
        return min(self.left, self.right)

    @property
    def high(self) -> float:
        return max(self.left, self.right)


def _central(phi: Phi, h: float) -> tuple[float, float]:
    return phi(h), phi(-h)


def derivative(
    phi: Phi,
    f0: float,
    *,
    scale: float,
    smallest: float,
    noise: float,
    expected: float | None = None,
    magnitude: float = 0.0,
    thorough: bool = False,
) -> Slope:
    """φ′(0) with an error estimate.

    Args:
        phi: the function along one line; ``phi(0) == f0``.
        scale: the length over which φ is expected to vary; the first step is a thousandth of it.
        smallest: the smallest length worth considering (the entry's own size when its array is larger).
        noise: the absolute noise of φ.
        expected: the analytic value. It never enters the estimate; it decides whether four evaluations suffice.
        magnitude: the size of the gradient around it, to which a small error may be compared.
        thorough: go straight to the whole ladder of steps.

    >>> s = derivative(math.exp, 1.0, scale=1.0, smallest=1.0, noise=1e-16)
    >>> abs(s.value - 1.0) < 1e-6 and s.error < 1e-6 and not s.kink
    True
    """
    used = 0
    if not thorough:
        h = smallest * _FIRST
        p1, m1 = _central(phi, h)
        p2, m2 = _central(phi, h / 2)
        used = 4
        d1, d2 = (p1 - m1) / (2 * h), (p2 - m2) / h
        if math.isfinite(d1) and math.isfinite(d2):
            value = d2 + (d2 - d1) / 3
            error = abs(d1 - d2) / 3 + 4 * noise / h
            s1, s2 = abs(p1 + m1 - 2 * f0), abs(p2 + m2 - 2 * f0)
            bent = s2 > 0.35 * s1 and s2 > 40 * noise and s2 / h > 1e-4 * max(abs(d2), magnitude)
            size = max(abs(value), magnitude)
            good = error <= 1e-5 * size
            gap = 0.0 if expected is None else abs(expected - value)
            agrees = gap <= error + 64 * EPS * size
            plainly_wrong = gap > 1e4 * error
            if not bent and good and (agrees or plainly_wrong):
                return Slope(value, error, value, value, False, h, used)
    return _ladder(phi, f0, scale, smallest, noise, used)


def _steps(scale: float, smallest: float) -> list[float]:
    top, bottom = max(scale, smallest) / 4, min(scale, smallest) * 2.0**-38
    count = min(36, 1 + math.ceil(math.log(top / bottom, _RATIO)))
    return [top * _RATIO**-k for k in range(count)]


def _ladder(phi: Phi, f0: float, scale: float, smallest: float, noise: float, used: int) -> Slope:
    """All steps from a quarter of the scale down to 2⁻³⁸ of it; the most consistent neighbours win."""
    hs, plus, minus = [], [], []
    for h in _steps(scale, smallest):
        p, m = _central(phi, h)
        used += 2
        if math.isfinite(p) and math.isfinite(m):
            hs.append(h)
            plus.append(p)
            minus.append(m)
        elif hs:  # a hole in the domain below a valid step: start again beneath it
            hs, plus, minus = [], [], []
    if len(hs) < 4:
        nan = math.nan
        return Slope(nan, math.inf, nan, nan, False, 0.0, used)
    h = np.array(hs)
    p, m = np.array(plus), np.array(minus)
    central = (p - m) / (2 * h)
    value, error, step = _extrapolate(central, h, noise, (2,))
    right, right_error, _ = _extrapolate((p - f0) / h, h, 2 * noise, (1, 2))
    left, left_error, _ = _extrapolate((f0 - m) / h, h, 2 * noise, (1, 2))
    jump, doubt = abs(right - left), right_error + left_error
    size = max(abs(right), abs(left))
    kink = bool(jump > 8 * doubt and jump > 1e-5 * size)
    if kink and not _at_zero(p + m - 2 * f0, h, jump, noise):
        kink = False
    if kink:
        return Slope(value, max(error, doubt), left, right, True, step, used)
    return Slope(value, error, value, value, False, step, used)


def _at_zero(second: np.ndarray, h: np.ndarray, jump: float, noise: float) -> bool:
    """Whether the bend sits at 0 itself: then φ(h)+φ(−h)−2φ(0) → jump·h for every small h above the noise."""
    clear = jump * h > 50 * noise
    if clear.sum() < 2:
        return False
    smallest = np.flatnonzero(clear)[-3:]
    ratio = np.abs(second[smallest]) / (jump * h[smallest])
    return bool(np.all((ratio > 0.5) & (ratio < 1.5)))


def _extrapolate(d: np.ndarray, h: np.ndarray, noise: float, orders: tuple[int, ...]) -> tuple[float, float, float]:
    """Richardson columns for error terms h^orders; returns value, error, step of the most consistent entry."""
    columns = [d]
    for order in orders:
        r = _RATIO**order
        last = columns[-1]
        columns.append(last[1:] + (last[1:] - last[:-1]) / (r - 1))
    best = (math.nan, math.inf, 0.0)
    for depth, column in enumerate(columns):
        if len(column) < 3:
            continue
        rounding = 2 * noise / h[depth:]
        before = np.abs(column[1:] - column[:-1])
        error = before + rounding[1:] + 4 * EPS * np.abs(column[1:])
        # The derivative is the limit h → 0: what smaller steps say clearly (above their own noise) overrules a
        # plateau at larger ones. A bounded, fast oscillation looks flat from afar.
        for k in range(len(error) - 1):
            later = np.abs(column[k + 2 :] - column[k + 1]) - 20 * rounding[k + 2 :]
            error[k] += max(float(np.max(later)), 0.0)
        error = error[:-1]
        k = int(np.argmin(error))
        if error[k] < best[1]:
            best = (float(column[1:-1][k]), float(error[k]), float(h[depth + 1 + k]))
    return best


def function_noise(phi: Phi, f0: float, working_eps: float, reach: float = 0.0) -> float:
    """The noise of φ near 0 (t in relative units), by difference tables on one side of 0 and then the other.

    Differences of order k of a smooth function vanish like δᵏ; what remains is noise, amplified by a known factor.
    One side at a time, so that a kink at the point itself does not look like noise. ``reach`` is what the value moves
    by when the inputs move by their own size: rounding them matters even where the value itself happens to be near 0.
    """
    floor = working_eps * max(abs(f0), reach) / 2
    found: list[float] = []
    for delta in (2.0**-19, 2.0**-30, 2.0**-40):
        for side in (1.0, -1.0):
            values = np.array([f0] + [phi(side * delta * k) for k in range(1, 8)])
            if np.all(np.isfinite(values)):
                level = _table_noise(values)
                if level is not None:
                    found.append(level)
    # A lucky table may show no noise at all, a rough function some that is none: neither the least nor the largest.
    return max(sorted(found)[min(1, len(found) - 1)] if found else floor, floor)


def _table_noise(values: np.ndarray) -> float | None:
    """Moré and Wild's estimate: the level at which three successive orders agree; None where they do not."""
    if np.ptp(values) == 0:
        return None
    levels = []
    row = values
    gamma = 1.0
    for k in range(1, 7):
        row = np.diff(row)
        gamma *= 0.5 * k / (2 * k - 1)
        levels.append(math.sqrt(gamma * float(np.mean(row**2))))
    for k in range(1, 4):
        three = levels[k : k + 3]
        if max(three) <= 4 * min(three):
            return three[0]
    return max(levels[-2:])
