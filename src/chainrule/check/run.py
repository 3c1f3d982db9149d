"""From a problem to a report: measure, judge, and on failure diagnose."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import UsageError
from .diagnosis import find_patterns
from .diagnosis.evidence import gather
from .diagnosis.hypothesis import Hypothesis
from .diagnosis.rank import mistakes, rank
from .measure import Entry, Measurement, measure, quiet
from .problem import Problem, entry_name
from .report import ParameterResult, Report
from .verdict import Judgement, Verdict, allowed_part, judge

__all__ = ["run"]


def run(
    problem: Problem, *, full: bool = False, seed: int = 0, progress: bool | None = None, diagnose: bool = True
) -> Report:
    """Check one problem."""
    start = time.perf_counter()
    _require_finite(problem)
    stale = _stale(problem)
    random = next((n for n in problem.notes if n.kind == "random"), None)
    if random is not None:  # nothing that could be measured would mean anything
        with quiet():
            m = Measurement(value=float(problem.value(problem.point)), entries={k: [] for k in problem.point})
        j = Judgement(Verdict.INCONCLUSIVE)
    else:
        with _Bar(progress) as bar:
            m = measure(problem, full=full, rng=np.random.default_rng(seed), progress=bar)
        j = judge(problem, m)
    hypotheses: list[Hypothesis] = []
    causes: list[Hypothesis] = []
    if random is not None:
        j.verdict, j.reason = (
            Verdict.INCONCLUSIVE,
            "the function is not deterministic, so its gradient cannot be measured",
        )
        causes = hypotheses = [
            Hypothesis(
                "random",
                "the function is not deterministic",
                random.text,
                "call .eval(), set dropout to 0, or seed the generator inside the function",
                tuple(problem.point),
                1.0,
            )
        ]
    elif j.verdict is Verdict.FAIL and diagnose:
        hypotheses, causes = _diagnose(problem, m, j)
    if stale is not None and random is None:
        j.verdict = Verdict.FAIL
        if not j.bad_parameters:
            j.bad_parameters = list(stale.parameters)
            hypotheses, causes = [stale], [stale]
        else:
            hypotheses = [stale, *hypotheses]
            causes = [stale, *[h for h in causes if h.verified]]
    report = _report(problem, m, j, hypotheses, causes, seed, full)
    report.seconds = time.perf_counter() - start
    return report


def _diagnose(problem: Problem, m: Measurement, j: Judgement) -> tuple[list[Hypothesis], list[Hypothesis]]:
    from .repair import find_repairs

    if not j.bad_parameters:  # only the direction over all parameters disagrees
        j.bad_parameters = list(problem.point)
    if j.bad and all(e.slope.kink for e in j.bad):
        e = j.bad[0]
        if problem.first_bad is not None and problem.first_bad() is None:
            return _bends_meet(problem, j)
        cause = Hypothesis(
            "kink",
            f"at a kink, {entry_name(e.name, e.index)} = {e.analytic:.6g} is no subgradient: {e.convention}",
            f"left slope {e.slope.left:.6g}, right slope {e.slope.right:.6g}; everywhere else the gradient is right",
            "pick one side: relu′(0) = 0, abs′(0) = 0; for ties give the gradient to one entry, or share it",
            tuple(j.bad_parameters),
            1.0,
        )
        return [cause], [cause]
    if problem.first_bad is not None:
        found = problem.first_bad()
        if found is not None:
            return [found], [found]
    evidence = gather(problem, m, j)
    patterns = find_patterns(evidence)
    for note in problem.notes:
        if note.kind == "integer":
            patterns.append(
                Hypothesis(
                    "dtype",
                    "integer truncation",
                    note.text,
                    "make the gradient's arrays with dtype=float",
                    tuple(j.bad_parameters),
                    0.6,
                )
            )
    repairs = find_repairs(evidence)
    explained = {k for h in (*repairs, *patterns) for k in h.parameters}
    if not explained >= set(j.bad_parameters):
        from .diagnosis.rebuild import find_rebuilt

        patterns += [h for h in find_rebuilt(evidence) if not explained & set(h.parameters)]
    ranked = rank(evidence, patterns, repairs)
    return ranked, mistakes(j.bad_parameters, ranked)


def _bends_meet(problem: Problem, j: Judgement) -> tuple[list[Hypothesis], list[Hypothesis]]:
    """Every op is right by itself, and the point sits on several of their kinks at once: nobody's mistake.

    The chain rule multiplies one valid one-sided choice per op (relu′(0) = 0), and the product need not be a
    subgradient of the whole: 3 relu(x) − relu(−x) has the slopes 1 and 3 at 0, and backward gives 0, as in PyTorch.
    """
    e = j.bad[0]
    where = entry_name(e.name, e.index)
    j.verdict, j.bad_parameters = Verdict.INCONCLUSIVE, []
    j.reason = (
        f"the function bends at this very point in {where} and has no derivative there; every op by itself is right"
    )
    cause = Hypothesis(
        "bends",
        "several kinks meet at this point",
        f"in {where} the slope is {e.slope.left:.6g} on the left and {e.slope.right:.6g} on the right; backward picks "
        f"one side at every op (relu′(0) = 0), which makes {e.analytic:.6g}",
        "check at a point beside it: add a little noise to the inputs and to parameters that are exactly 0",
        (),
        1.0,
    )
    return [cause], [cause]


def _require_finite(problem: Problem) -> None:
    for name, g in problem.gradient.items():
        if not np.all(np.isfinite(g)):
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(g))[0])
            count = int(np.sum(~np.isfinite(g)))
            raise UsageError(
                f"The analytic gradient of {name} is {g[index] if index else float(g)} at {entry_name(name, index)} "
                f"({count} of {g.size} entries are not finite), while the loss is finite there."
            )


def _stale(problem: Problem) -> Hypothesis | None:
    """Does a second call of the gradient function give the same gradient?"""
    if problem.regrad is None or not problem.functions:
        return None
    first = problem.gradient
    try:
        with quiet():
            second = {k: np.asarray(v, float) for k, v in problem.regrad(problem.point).items()}
    except Exception:
        return None
    changed = [k for k in first if not np.allclose(first[k], second[k], rtol=1e-9, atol=1e-300, equal_nan=True)]
    if not changed or any(n.kind == "random" for n in problem.notes):
        return None
    doubled = all(np.allclose(second[k], 2 * first[k], rtol=1e-9) for k in changed)
    what = "exactly twice the first" if doubled else "something else"
    return Hypothesis(
        "stale",
        "stale gradient: the result of one call leaks into the next (no zero_grad)",
        f"a second call at the same point returned {what} for {', '.join(changed)}",
        "start every backward pass from fresh zeros: the buffer that is added to must be reset first",
        tuple(changed),
        1.6,
    )


def _report(
    problem: Problem,
    m: Measurement,
    j: Judgement,
    hypotheses: list[Hypothesis],
    causes: list[Hypothesis],
    seed: int,
    full: bool,
) -> Report:
    parameters = []
    for name, x in problem.point.items():
        entries = m.entries[name]
        top = max((abs(e.slope.value) for e in entries if math.isfinite(e.slope.value)), default=0.0)
        gap = max((e.gap for e in entries if math.isfinite(e.gap)), default=0.0)
        parameters.append(
            ParameterResult(
                name,
                x.shape,
                name not in j.bad_parameters,
                len(entries),
                x.size,
                gap / top if top else gap,
                max((allowed_part(e) for e in entries), default=0.0),
            )
        )
    named: list[tuple[Entry, str]] = []
    for e in [*j.kinks, *[e for e in j.bad if e.slope.kink]][:50]:
        name = ""
        if problem.kink_names is not None and len(named) < 3:
            h = float(m.scales[e.name].reshape(-1)[e.flat]) * 1e-6
            try:
                name = problem.kink_names(e.name, e.flat, h)
            except Exception:  # naming is a courtesy: a failure in it must not cost the verdict
                name = ""
        named.append((e, name))
    return Report(
        verdict=j.verdict,
        label=problem.label,
        parameters=parameters,
        worst=(j.bad or j.unclear)[:20],
        hypotheses=hypotheses,
        mistakes=causes,
        kinks=named,
        notes=problem.notes,
        value=m.value,
        noise=m.noise,
        evaluations=m.evaluations,
        seconds=m.seconds,
        full=full,
        order=problem.order,
        directions=len(m.directions),
        seed=seed,
        reason=j.reason,
    )


class _Bar:
    """A progress bar that appears when the check has taken two seconds."""

    def __init__(self, wanted: bool | None) -> None:
        self.wanted = sys.stderr.isatty() if wanted is None else wanted
        self.start = time.perf_counter()
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        return self.step

    def step(self, done: int, total: int) -> None:
        if self.bar is None:
            if not self.wanted or time.perf_counter() - self.start < 2:
                return
            from rich.console import Console
            from rich.progress import Progress

            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.bar.start()
            self.task = self.bar.add_task("checking entries", total=total)
        self.bar.update(self.task, completed=done)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
