"""Points where the function bends: which subgradients are right there.

At a kink the entries have two one-sided slopes, and every value between them may be right: relu′(0) = 0 as PyTorch has
it, or 1. Entries that bend *together* (ties in a max) are tied: (½, ½) is a subgradient of max at (1, 1), as is
(1, 0), but (1, 1) is not, although each of its entries lies between its own slopes. So the entries that bend are also
moved together: all of them, and pairs of them, each way.

A function that is neither convex nor concave around the point (relu(x) − relu(−x)…) may have, along a direction, a
one-sided slope outside the hull of the others; then a direction only counts when it does not bend at all.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from .measure import Entry, Measurement, _Evaluator, quiet
from .numerics import derivative
from .problem import Problem

__all__ = ["joint_subgradient"]

_PAIRS = 12


def joint_subgradient(problem: Problem, m: Measurement) -> None:
    """Mark entries at kinks as bad when together they are no subgradient. Changes ``status`` in place."""
    bent = [e for e in m.all_entries() if e.status == "kink"]
    if len(bent) < 2:
        return
    evaluator = _Evaluator(problem, m)
    groups: list[tuple[Entry, ...]] = [tuple(bent)]
    groups += list(itertools.islice(itertools.combinations(bent, 2), _PAIRS))
    with quiet():
        for group in groups:
            signs = [(1.0,) * len(group)]
            if len(group) == 2:
                signs.append((1.0, -1.0))
            for sign in signs:
                if not _along(problem, m, evaluator, group, sign):
                    for e in group:
                        e.status = "bad"
                        e.convention = "tied entries that together are no subgradient"
                    return


def _along(problem: Problem, m: Measurement, evaluator: _Evaluator, group: tuple[Entry, ...], sign: tuple[float, ...]) -> bool:
    """Whether Σ aᵢ·vᵢ is right along one direction in which only the bent entries move, all at the same speed."""
    scale = min(float(m.scales[e.name].reshape(-1)[e.flat]) for e in group)
    vector = {k: np.zeros_like(problem.point[k]) for k in {e.name for e in group}}
    for e, s in zip(group, sign, strict=True):
        vector[e.name].reshape(-1)[e.flat] = s
    analytic = math.fsum(e.analytic * s for e, s in zip(group, sign, strict=True))
    slope = derivative(
        evaluator.along(vector), m.value, scale=scale, smallest=scale, noise=m.noise, thorough=True
    )  # fmt: skip
    tolerance = 5 * (slope.error + sum(e.tolerance for e in group))
    if not math.isfinite(tolerance):
        return True
    return slope.low - tolerance <= analytic <= slope.high + tolerance
