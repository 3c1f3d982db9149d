"""The material for a diagnosis: analytic and numeric gradients as whole arrays, with errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..measure import Measurement, _Evaluator, array_scales, power_of_two, quiet
from ..numerics import derivative
from ..problem import Arrays, Problem
from ..verdict import Judgement

__all__ = ["Evidence", "gather"]

_MOST_ENTRIES = 1200  # per parameter: enough for every pattern; more would only cost time


@dataclass(slots=True)
class Evidence:
    problem: Problem
    measurement: Measurement
    judgement: Judgement
    analytic: Arrays
    numeric: Arrays
    """NaN where it was not measured."""
    error: Arrays

    @property
    def bad(self) -> list[str]:
        return self.judgement.bad_parameters

    def same(self, name: str, candidate: Any, target: Any = None) -> bool:
        """Whether ``candidate`` equals the numeric gradient of ``name`` (or ``target``) within its error,
        where known.
        """
        n = self.numeric[name] if target is None else np.asarray(target, float)
        c = np.asarray(candidate, dtype=float)
        if c.shape != n.shape:
            return False
        known = np.isfinite(n) & np.isfinite(self.error[name])
        if not known.any():
            return False
        top = float(np.max(np.abs(n[known]), initial=0.0))
        allowed = 5 * self.error[name][known] + 2e-6 * top
        gap = np.abs(c[known] - n[known])
        return bool(np.all(gap <= allowed)) if np.all(np.isfinite(c[known])) else False

    def known(self, name: str) -> np.ndarray[Any, Any]:
        return np.isfinite(self.numeric[name])

    def right(self, name: str) -> bool:
        return name not in self.bad

    def complete(self, name: str) -> bool:
        return bool(self.known(name).all())


def gather(problem: Problem, m: Measurement, j: Judgement) -> Evidence:
    """Numeric gradients as arrays; for wrong parameters all entries are measured if that is affordable."""
    numeric = {k: np.full(v.shape, np.nan) for k, v in problem.point.items()}
    error = {k: np.full(v.shape, np.inf) for k, v in problem.point.items()}
    for e in m.all_entries():
        value = min(max(e.analytic, e.slope.low), e.slope.high) if e.slope.kink else e.slope.value
        numeric[e.name].reshape(-1)[e.flat] = value
        error[e.name].reshape(-1)[e.flat] = max(e.tolerance, e.slope.error)
    evaluator = _Evaluator(problem, m)
    with quiet():
        for name in problem.point:
            if name not in j.bad_parameters and problem.point[name].size > 200:
                continue
            exempt = problem.exempt.get(name, np.zeros(problem.point[name].shape, dtype=bool))
            missing = np.flatnonzero(np.isnan(numeric[name].reshape(-1)) & ~exempt.reshape(-1))
            if not missing.size or problem.point[name].size > _MOST_ENTRIES:
                continue
            scales, rms = array_scales(problem.point[name])
            known = np.abs(numeric[name][np.isfinite(numeric[name])])
            magnitude = float(np.max(known, initial=0.0)) * 1e-3
            for flat in missing:
                size = power_of_two(float(scales.reshape(-1)[flat]))
                s = derivative(
                    evaluator.along_entry(name, int(flat)),
                    m.value,
                    scale=max(size, power_of_two(rms)),
                    smallest=size,
                    noise=m.noise,
                    magnitude=magnitude,
                )
                if math.isfinite(s.error) and not s.kink:
                    numeric[name].reshape(-1)[flat] = s.value
                    error[name].reshape(-1)[flat] = s.error
    return Evidence(problem, m, j, problem.gradient, numeric, error)
