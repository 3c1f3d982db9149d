"""The cure, measured: every mechanical remedy is applied to a copy, and both are trained from the same start.

A remedy is judged by the loss after the same number of steps on the same batch with the same optimizer. One that did
not help is listed as such.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from .finding import Finding
from .probes import Trial, train, usual
from .remedies import Remedy, remedies, same_optimizer
from .subject import Subject

__all__ = ["Cure", "apply_cures"]

STEPS = 40


@dataclass
class Cure:
    """One remedy and what it did.

    ``before`` and ``after``: the loss after ``steps`` steps without and with it; ``gradient``: ‖dL/dW‖ of the first
    layer over that of the last, (before, after).
    """

    name: str
    start: float
    before: float
    after: float
    steps: int
    gradient: tuple[float, float]
    helped: bool
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "start": self.start,
            "before": self.before,
            "after": self.after,
            "steps": self.steps,
            "gradient": list(self.gradient),
            "helped": self.helped,
            "note": self.note,
        }

    def __str__(self) -> str:
        g = ""
        if (
            all(math.isfinite(x) for x in self.gradient)
            and abs(math.log((self.gradient[0] + 1e-300) / (self.gradient[1] + 1e-300))) > 0.7
        ):
            g = f", first/last gradient {self.gradient[0]:.2g} → {self.gradient[1]:.2g}"
        verdict = "" if self.helped else "  (did not help)"
        return f"{self.name}: loss after {self.steps} steps {self.before:.4g} → {self.after:.4g}{g}{verdict}{self.note}"


# --- trying them ------------------------------------------------------------------------------------------------------


def _trial(
    subject: Subject, r: Remedy | None, steps: int, until: float, clip: float | None, zero: bool
) -> Trial | None:
    model, optimizer = subject.copy()
    subject.tb.manual_seed(99)
    if not (r is None and not subject.model.training):
        model.train()
    if r is not None and r.change is not None:
        if not r.change(subject, model):
            return None
        optimizer = None if optimizer is None else same_optimizer(subject, model)
    if r is not None and r.optimizer is not None:
        optimizer = r.optimizer(subject, model)
    if optimizer is None:
        if not any(p.requires_grad for p in model.parameters()):
            return None
        optimizer = usual(subject, model)
    if r is not None:
        for g in optimizer.param_groups:
            g["lr"] = g["lr"] * r.lr
            if r.decay is not None:
                g["weight_decay"] = r.decay
    r = r or Remedy("")
    return train(
        subject,
        model,
        optimizer,
        steps,
        inputs=r.inputs,
        target=r.target,
        loss_fn=r.loss_fn,
        clip=r.clip if r.clip is not None else clip,
        zero=zero,
        until=until,
    )


def apply_cures(subject: Subject, findings: list[Finding], tape: Any, budget: Any, *, until: float, tell: Any) -> None:
    """Fill ``finding.cures``, best first, within the time that is left."""
    steps = STEPS
    plain: dict[tuple[Any, ...], Trial | None] = {}
    jobs = [(f, r) for f in findings[:4] for r in remedies(subject, f)]
    for k, (f, r) in enumerate(jobs):
        if time.perf_counter() > until:
            break
        tell(f"trying: {r.name}", 0.4 + 0.58 * k / len(jobs))
        slot = until - time.perf_counter()
        end = time.perf_counter() + max(0.2, slot / max(1, len(jobs) - k))
        clip = float(f.numbers["limit"]) if f.code == "clipping" and "limit" in f.numbers else None
        key = (clip, f.code == "stale-gradients")
        if key not in plain:
            try:
                plain[key] = _trial(subject, None, steps, end, clip, zero=f.code != "stale-gradients")
            except Exception:
                plain[key] = None
        base = plain[key]
        try:
            got = _trial(subject, r, steps, end, None, zero=True)
        except Exception:  # a remedy that does not fit this network is no remedy
            got = None
        if got is None or not got.losses:
            continue
        f.cures.append(_judge(r, base, got))
    for f in findings:
        f.cures.sort(key=lambda c: (not c.helped, c.after if math.isfinite(c.after) else 1e300))


def _judge(r: Remedy, base: Trial | None, got: Trial) -> Cure:
    n = len(got.losses) - 1
    start = base.start if base is not None else math.nan
    before = base.end if base is not None else math.nan
    if base is not None and len(base.losses) > len(got.losses):
        before = float(np.median(base.losses[max(0, n - 2) : n + 1]))
    after = got.end
    if r.comparable and base is not None and math.isfinite(before):
        helped = after < before - 0.02 * max(abs(before), 1e-12)
    else:
        helped = math.isfinite(after) and after < got.start * 0.95
    grads = (base.first if base is not None else math.nan, got.first)
    return Cure(r.name, start, before, after, n, grads, bool(helped), r.note)
