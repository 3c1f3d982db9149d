"""Points where the function bends: which subgradients are right there.

At a kink the entries have two one-sided slopes, and every value between them may be right: relu′(0) = 0 as PyTorch has
it, or 1. Three things need more than one entry's line:

* Entries that bend *together* (ties in a max) are tied: (½, ½) is a subgradient of max at (1, 1), as is (1, 0), but
  (1, 1) is not, although each of its entries lies between its own slopes. Tied entries are moved together; where the
  function is smooth along that direction, Σ aᵢ must be its slope.
* Entries that bend independently (two relus) are not tied: then every combination is right (the Clarke subdifferential
  of a sum of separate functions is the product of theirs), so coupling is measured before anything is concluded.
* Ties may hide a kink from every axis: the median of (1, 1, 1) does not move with any single entry. Its generalised
  gradients are the limits of gradients at points nearby (F. Clarke, 1975), so some are measured.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from .measure import Entry, Measurement, _Evaluator, quiet
from .numerics import Slope, derivative
from .problem import Problem

__all__ = ["joint_subgradient", "hidden_kinks"]

_MOST = 12


def joint_subgradient(problem: Problem, m: Measurement) -> None:
    """Mark entries at kinks as bad when together they are no subgradient. Changes ``status`` in place."""
    bent = [e for e in m.all_entries() if e.status == "kink"][:_MOST]
    if len(bent) < 2:
        return
    evaluator = _Evaluator(problem, m)
    with quiet():
        for group in _coupled(evaluator, m, bent):
            if not _along(m, evaluator, group):
                for e in group:
                    e.status = "bad"
                    e.convention = "tied with others, and together they are no subgradient"


def _vector(m: Measurement, evaluator: _Evaluator, moves: list[tuple[Entry, float]]) -> dict[str, np.ndarray]:
    vector = {e.name: np.zeros_like(evaluator.point[e.name]) for e, _ in moves}
    for e, s in moves:
        vector[e.name].reshape(-1)[e.flat] += s
    return vector


def _size(m: Measurement, group: list[Entry]) -> float:
    return min(float(m.scales[e.name].reshape(-1)[e.flat]) for e in group)


def _coupled(evaluator: _Evaluator, m: Measurement, bent: list[Entry]) -> list[list[Entry]]:
    """Groups of entries whose kinks depend on each other: f(x+s+t) − f(x+s) − f(x+t) + f(x) is of order h, not h²."""
    parent = {id(e): e for e in bent}

    def root(e: Entry) -> Entry:
        while parent[id(e)] is not e:
            e = parent[id(e)]
        return e

    for a, b in itertools.combinations(bent, 2):
        if root(a) is root(b):
            continue
        h = _size(m, [a, b]) * 2.0**-20
        jump = max(abs(a.slope.right - a.slope.left), abs(b.slope.right - b.slope.left))
        for s, t in itertools.product((h, -h), repeat=2):
            both, one, other = (
                evaluator.along(_vector(m, evaluator, v))(1.0) for v in ([(a, s), (b, t)], [(a, s)], [(b, t)])
            )
            mixed = abs(both - one - other + m.value)
            if mixed > 1e-3 * jump * h and mixed > 20 * m.noise:
                parent[id(root(a))] = root(b)
                break
    groups: dict[int, list[Entry]] = {}
    for e in bent:
        groups.setdefault(id(root(e)), []).append(e)
    return [g for g in groups.values() if len(g) > 1]


def _along(m: Measurement, evaluator: _Evaluator, group: list[Entry]) -> bool:
    """Whether Σ aᵢ is right along the direction in which the tied entries move together, if f is smooth along it."""
    scale = _size(m, group)
    slope = derivative(
        evaluator.along(_vector(m, evaluator, [(e, 1.0) for e in group])),
        m.value,
        scale=scale,
        smallest=scale,
        noise=m.noise,
        thorough=True,
    )
    tolerance = 5 * (slope.error + sum(e.tolerance for e in group))
    if slope.kink or not math.isfinite(tolerance):
        return True
    return abs(sum(e.analytic for e in group) - slope.value) <= tolerance


def hidden_kinks(problem: Problem, m: Measurement, rng: np.random.Generator) -> None:
    """Entries that look wrong but are tied with others of equal value: compare with gradients at points nearby.

    Where those jump from point to point, the entry sits on a kink that its own axis does not show; what lies between
    the smallest and the largest slope found is accepted (and the tied entries are then judged together).
    """
    tied = [e for e in m.all_entries() if e.status == "bad" and not e.slope.kink and _has_twin(problem, e)]
    if not tied or len(tied) > _MOST:
        return
    twins = [
        e
        for e in m.all_entries()
        if any(
            e.name == t.name and problem.point[e.name].reshape(-1)[e.flat] == problem.point[t.name].reshape(-1)[t.flat]
            for t in tied
        )
    ][: 2 * _MOST]
    slopes: dict[int, list[Slope]] = {id(e): [] for e in twins}
    evaluator = _Evaluator(problem, m)
    base = {k: v.copy() for k, v in evaluator.point.items()}
    with quiet():
        for _ in range(10):
            for k, v in base.items():
                evaluator.point[k][...] = v + rng.normal(size=v.shape) * m.scales[k] * 1e-5
            value = float(problem.value(evaluator.point))
            for e in twins:
                size = float(m.scales[e.name].reshape(-1)[e.flat]) * 1e-4
                slopes[id(e)].append(
                    derivative(evaluator.along_entry(e.name, e.flat), value, scale=size, smallest=size, noise=m.noise)
                )
    jumps = False
    found: list[tuple[Entry, float, float]] = []
    for e in twins:
        values = [s.value for s in slopes[id(e)] if math.isfinite(s.error)]
        if len(values) < 5:
            return
        low, high = min(values), max(values)
        top = max(abs(low), abs(high))
        jumps |= high - low > 1e-2 * top
        found.append((e, low, high))
    if not jumps:
        return
    for e, low, high in found:
        if high - low <= 1e-2 * max(abs(low), abs(high)):
            continue
        tolerance = 1e-4 * (high - low)
        if low - tolerance <= e.analytic <= high + tolerance:
            e.slope = Slope(
                e.slope.value, max(e.slope.error, tolerance), low, high, True, e.slope.step, e.slope.evaluations
            )
            e.status = "kink"
            e.convention = (
                "the gradient on one side of a tie"
                if e.analytic in (low, high) or min(abs(e.analytic - low), abs(e.analytic - high)) <= tolerance
                else "a value between the gradients nearby"
            )


def _has_twin(problem: Problem, e: Entry) -> bool:
    x = problem.point[e.name].reshape(-1)
    return int(np.sum(x == x[e.flat])) > 1
