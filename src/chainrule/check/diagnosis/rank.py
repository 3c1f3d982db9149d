"""From what the patterns and the repairs found to one ordered list: each mistake once, the proved ones first."""

from __future__ import annotations

from dataclasses import replace

from .evidence import Evidence
from .hypothesis import Hypothesis

__all__ = ["rank"]

# A pattern in the numbers names the mistake; a repair names the line. Kinds that may describe the same mistake:
_KIN = {
    "factor": {"factor", "sum-mean", "sign"},
    "sum-mean": {"sum-mean", "factor"},
    "sign": {"sign"},
    "off-by-one": {"off-by-one", "flip"},
}


def rank(ev: Evidence, patterns: list[Hypothesis], repairs: list[Hypothesis]) -> list[Hypothesis]:
    """Greedy cover of the wrong parameters, then the alternatives."""
    merged: list[Hypothesis] = []
    used: set[int] = set()
    for r in repairs:
        kin = _KIN.get(r.kind, {r.kind})
        match = next((p for p in patterns if p.kind in kin and set(p.parameters) & set(r.parameters)), None)
        if match is not None:
            used.add(id(match))
            same_place = set(match.parameters) <= set(r.parameters)
            odd = r.kind == "factor" and r.title.startswith("a factor too many") and "." in r.title
            if odd:  # the source shows a constant like 0.05: not 1/20 of anything
                match = replace(match, kind=r.kind, title=f"{match.title.split(' is ')[0]} has {r.title}")
            r = replace(
                r,
                kind=match.kind if same_place else r.kind,
                title=match.title if same_place else r.title,
                evidence=f"{match.evidence}; {r.evidence}" if same_place else r.evidence,
                score=r.score + 0.3,
            )
        merged.append(r)
    rest = [p for p in patterns if id(p) not in used]
    explained = {k for r in merged for k in r.parameters}
    # A pattern in the numbers is certain (it fits every entry); an edit that no pattern confirms is as good
    # when it fits all.
    pool = merged + [replace(p, score=p.score - (0.4 if set(p.parameters) <= explained else 0.0)) for p in rest]
    out: list[Hypothesis] = []
    left = set(ev.bad)
    while left and pool:
        best = max(pool, key=lambda h: (len(set(h.parameters) & left), h.score))
        if not set(best.parameters) & left:
            break
        out.append(best)
        pool.remove(best)
        left -= set(best.parameters)
    if left:
        out.append(_unexplained(ev, left))
    tail: list[Hypothesis] = []
    for h in sorted(pool, key=lambda h: -h.score):
        told = (*out, *tail)
        if not any(h.title == o.title or (h.kind == o.kind and set(h.parameters) <= set(o.parameters)) for o in told):
            tail.append(h)
    return out + tail[:4]


def mistakes(ev_bad: list[str], hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """The leading hypotheses that together cover all wrong parameters: one for each mistake."""
    left = set(ev_bad)
    out = []
    for h in hypotheses:
        if not left:
            break
        out.append(h)
        left -= set(h.parameters)
    return out


def _unexplained(ev: Evidence, left: set[str]) -> Hypothesis:
    wrong = [k for k in ev.problem.point if k in left]
    right = [k for k in ev.problem.point if k not in ev.bad]
    where = (
        f"; d{', d'.join(right)} {'is' if len(right) == 1 else 'are'} right, so look at what only "
        f"{', '.join(wrong)} depend{'s' if len(wrong) == 1 else ''} on"
        if right
        else ""
    )
    return Hypothesis(
        "unknown",
        f"d{', d'.join(wrong)} {'is' if len(wrong) == 1 else 'are'} wrong in a way that fits no known mistake",
        f"no factor, sign, transpose, shift or missing term explains all entries{where}",
        "compare each line of the backward pass with chainrule.check.steps(forward, backward)",
        tuple(wrong),
        0.05,
    )
