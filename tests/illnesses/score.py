"""Run ``diagnose`` on the corpus and count.

Half of the cases, by a hash of their names, was never looked at while thresholds were chosen: ``held_out``.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import Any

import chainrule

from .faults import FAULTS
from .healthy import HEALTHY
from .networks import Case

__all__ = ["Result", "cases", "held_out", "run", "summary"]


def held_out(name: str) -> bool:
    """Whether a case belongs to the half that was kept out of tuning."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 1


def cases(library: str) -> list[Case]:
    """All cases for "chainrule" or "torch"."""
    ill = [Case(n, library, expected, build) for n, (expected, build) in FAULTS.items()]
    return ill + [Case(n, library, (), build) for n, build in HEALTHY.items()]


@dataclass
class Result:
    case: Case
    codes: list[str]
    hidden: list[str]
    error: str
    cures: list[tuple[str, list[tuple[str, bool]]]]

    @property
    def detected(self) -> bool:
        return bool(self.codes)

    @property
    def right_first(self) -> bool:
        return bool(self.codes) and self.codes[0] in self.case.expected

    @property
    def right(self) -> bool:
        return any(c in self.case.expected for c in self.codes)


def run(case: Case, cures: bool = False) -> Result:
    """Diagnose one case."""
    tb: Any = chainrule
    if case.library == "torch":
        import torch as tb
    tb.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            given = case.build(tb)
            found = chainrule.diagnose(
                given.model, given.loss, given.batch, cures=cures, progress=False, **given.options
            )
        except Exception as error:
            return Result(case, [], [], f"{type(error).__name__}: {error}", [])
    return Result(case, found.codes, [c.code for f in found.findings for c in f.consequences], "",
                  [(f.code, [(c.name, c.helped) for c in f.cures]) for f in found.findings])  # fmt: skip


def summary(results: list[Result]) -> dict[str, float]:
    """Precision and recall of detection, and the part of the detected faults whose first finding is the planted one."""
    ill = [r for r in results if r.case.expected]
    well = [r for r in results if not r.case.expected]
    hit = sum(r.detected for r in ill)
    false = sum(r.detected or bool(r.error) for r in well)  # a diagnosis that fails is as bad as a false alarm
    return {
        "faults": len(ill),
        "healthy": len(well),
        "precision": hit / max(1, hit + false),
        "recall": hit / max(1, len(ill)),
        "cause first": sum(r.right_first for r in ill) / max(1, len(ill)),
        "false alarms": false,
    }
