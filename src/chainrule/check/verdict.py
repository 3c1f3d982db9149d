"""PASS, FAIL or INCONCLUSIVE, from errors that were estimated rather than tolerances that were guessed.

Everything compares like with like (a gap with its own error, an error with the gradient's own size), so multiplying the
loss by 1e8 or 1e−8 changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from .kinks import hidden_kinks, joint_subgradient
from .measure import Entry, Measurement
from .problem import Problem

__all__ = ["Verdict", "Judgement", "allowed_part", "judge", "gradient_precision"]

_SAFETY = 5.0  # the error estimates are of the right order, not bounds
_CLEAR = 1e-3  # an entry whose error is below this part of its size is measured well enough to tell right from wrong


class Verdict(StrEnum):
    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(slots=True)
class Judgement:
    verdict: Verdict
    bad: list[Entry] = field(default_factory=list)
    kinks: list[Entry] = field(default_factory=list)
    unclear: list[Entry] = field(default_factory=list)
    bad_parameters: list[str] = field(default_factory=list)
    reason: str = ""


def gradient_precision(problem: Problem) -> float:
    """The precision of the analytic gradient: of its dtype, or of what its values betray.

    float32 is a choice; float16 from a function that computes in float64 is a mistake, hence no excuse.
    """
    eps = 2.0**-52
    for given in problem.given.values():
        g = np.asarray(given)
        if g.dtype == np.float32:
            eps = max(eps, 2.0**-23)
        elif g.dtype.kind == "f" and g.size:
            some = g.reshape(-1)[:4096]
            some = some[np.isfinite(some) & (some != 0)]
            some = some[(np.frexp(some)[0] * 2**12 % 1) != 0]  # more than 12 bits: no round number
            with np.errstate(all="ignore"):
                if some.size >= 3 and np.all(some.astype(np.float32).astype(np.float64) == some):
                    eps = max(eps, 2.0**-23)
    return max(eps, problem.working_eps)


def allowed_part(e: Entry) -> float:
    """|analytic − numeric| as a part of what the error estimate allows: above 1 the entry is wrong."""
    return e.gap / (_SAFETY * e.tolerance) if e.gap else 0.0


def judge(problem: Problem, m: Measurement) -> Judgement:
    """Compare the analytic gradient with the measured one, entry by entry and along the random directions."""
    eps = problem.gradient_eps or gradient_precision(problem)
    single = problem.working_eps > 1e-10
    # In float32 rounding adds up less often in the worst way, and the numbers cannot be resolved as finely.
    many = 64 if eps < 1e-10 else 16
    clear = 30 * _CLEAR if single else _CLEAR
    gradient = problem.gradient
    # What the loss feels of each entry when it changes by its own size: a common unit for all parameters.
    felt = [abs(e.slope.value) * float(m.scales[e.name].reshape(-1)[e.flat]) for e in m.all_entries()]
    reach = max((x for x in felt if math.isfinite(x)), default=0.0)
    # Formulas like 1 − tanh² lose digits to cancellation; the unit of what is lost is the value's own rounding.
    for name, entries in m.entries.items():
        sizes = [abs(e.slope.value) for e in entries if math.isfinite(e.slope.value)]
        array = float(np.max(np.abs(gradient[name]), initial=0.0))
        array = min(array, max(sizes, default=0.0)) if sizes else array
        for e in entries:
            s = float(m.scales[name].reshape(-1)[e.flat])
            own_rounding = (
                many * eps * (max(array, abs(e.analytic) if not single else 0.0) + max(reach, abs(m.value)) / s)
            )
            e.tolerance = e.slope.error + own_rounding
            if e.slope.kink:
                e.tolerance = e.slope.error + own_rounding
                e.status = "kink" if e.gap <= _SAFETY * e.tolerance else "bad"
                e.convention = _convention(e)
                continue
            size = max(
                abs(e.slope.value),
                abs(e.analytic),
                (0.1 if single else 1e-3) * array,
                1e-6 * reach / s,
                1e-7 * abs(m.value) / s,
            )
            if not math.isfinite(e.tolerance):
                e.status = "unclear"
            elif e.gap > _SAFETY * e.tolerance:
                e.status = "bad"
            elif e.tolerance == 0 or (_SAFETY * e.slope.error <= clear * size and own_rounding <= 1e-2 * size):
                e.status = "ok"
            else:
                e.status = "unclear"
    hidden_kinks(problem, m, np.random.default_rng(0))
    joint_subgradient(problem, m)
    for d in m.directions:
        reach_d = d.reach
        d.tolerance = d.slope.error + many * eps * (reach_d + reach)
        if d.slope.kink:
            gap = max(d.slope.low - d.analytic, d.analytic - d.slope.high, 0.0)
        else:
            gap = abs(d.analytic - d.slope.value)
        size = max(abs(d.slope.value), abs(d.analytic), reach_d, 1e-9 * abs(m.value))
        if not math.isfinite(d.tolerance):
            d.status = "unclear"
        elif gap > _SAFETY * d.tolerance:
            d.status = "bad"
        else:
            d.status = "ok" if _SAFETY * d.tolerance <= 10 * clear * size or d.tolerance == 0 else "unclear"
    return _conclude(problem, m)


def _conclude(problem: Problem, m: Measurement) -> Judgement:
    j = Judgement(Verdict.PASS)
    for e in m.all_entries():
        {"bad": j.bad, "kink": j.kinks, "unclear": j.unclear}.get(e.status, []).append(e)
    bad = {e.name for e in j.bad}
    for d in m.directions:
        if d.status == "bad" and len(d.names) == 1:
            bad.add(d.names[0])
    crossed = [d for d in m.directions if d.status == "bad" and len(d.names) > 1]
    j.bad_parameters = [k for k in problem.point if k in bad]
    j.bad.sort(key=lambda e: -e.gap * float(m.scales[e.name].reshape(-1)[e.flat]))
    if j.bad or bad or crossed:
        j.verdict = Verdict.FAIL
        return j
    measured = sum(len(v) for v in m.entries.values())
    starved = [k for k, v in m.entries.items() if v and sum(e.status == "unclear" for e in v) > 0.5 * len(v)]
    if starved or len(j.unclear) > 0.1 * max(measured, 1):
        j.verdict = Verdict.INCONCLUSIVE
        e = max(j.unclear, key=lambda e: e.slope.error)
        if not math.isfinite(e.slope.error):
            j.reason = f"the derivative with respect to {', '.join(starved) or e.name} could not be measured here"
            if m.errors:
                j.reason += f" (near the point the function raises {m.errors[0]})"
            else:
                j.reason += " (NaN or infinity around the point)"
        else:
            j.reason = (
                f"the function is too rough to differentiate numerically in {', '.join(starved) or e.name}: "
                f"numeric {e.slope.value:.3g} ± {e.slope.error:.1g}, its values carry noise of {m.noise:.1g}"
            )
    return j


def _convention(e: Entry) -> str:
    tolerance = _SAFETY * e.tolerance
    if e.status == "bad":
        return "neither slope, nor anything between them"
    if abs(e.analytic - e.slope.left) <= tolerance:
        return "the left slope"
    if abs(e.analytic - e.slope.right) <= tolerance:
        return "the right slope"
    if abs(e.analytic - (e.slope.left + e.slope.right) / 2) <= tolerance:
        return "the mean of both slopes"
    return "a value between the slopes"
