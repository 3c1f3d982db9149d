"""One finding: what is wrong, how it shows, where, why, and what to do. And the list of what can be found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Finding", "RANK", "STAGES"]

STAGES = ("data", "initial loss", "overfit one batch", "gradient flow", "update ratios", "units")
"""The checklist, in the order in which an expert works."""

RANK = [
    "nonfinite-input",
    "nonfinite-parameter",
    "nonfinite",
    "error",
    "batchnorm-batch-1",
    "label-range",
    "target-range",
    "one-class",
    "silent-broadcast",
    "double-softmax",
    "missing-softmax",
    "activation-before-loss",
    "softmax-wrong-axis",
    "wrong-loss",
    "constant-output",
    "graph-cut",
    "unused-parameters",
    "frozen",
    "not-in-optimizer",
    "foreign-optimizer",
    "cleared-gradients",
    "stale-gradients",
    "mode",
    "dropout-at-evaluation",
    "constant-input",
    "input-scale",
    "zero-init",
    "symmetric-init",
    "shuffled-labels",
    "dead-relu",
    "vanishing-gradient",
    "exploding-gradient",
    "saturation",
    "init-scale",
    "weight-decay",
    "clipping",
    "lr-too-large",
    "lr-too-small",
    "dropout-too-high",
    "initial-loss",
    "cannot-overfit",
]
"""All codes, causes before their consequences: the order of a report."""

EXPLAINS: dict[str, tuple[str, ...]] = {
    "nonfinite-input": ("*",),
    "nonfinite-parameter": ("*",),
    "nonfinite": ("*",),
    "error": ("*",),
    "batchnorm-batch-1": ("*",),
    "label-range": ("initial-loss", "cannot-overfit", "exploding-gradient"),
    "target-range": ("initial-loss", "cannot-overfit"),
    "one-class": ("shuffled-labels", "initial-loss", "cannot-overfit"),
    "silent-broadcast": ("cannot-overfit", "shuffled-labels"),
    "double-softmax": ("initial-loss", "cannot-overfit", "saturation", "vanishing-gradient", "lr-too-small"),
    "missing-softmax": ("initial-loss", "cannot-overfit"),
    "activation-before-loss": ("initial-loss", "cannot-overfit", "saturation", "dead-relu"),
    "softmax-wrong-axis": ("initial-loss", "cannot-overfit"),
    "wrong-loss": ("initial-loss", "cannot-overfit", "target-range"),
    "constant-output": ("cannot-overfit", "vanishing-gradient", "lr-too-small", "initial-loss"),
    "graph-cut": ("unused-parameters", "cannot-overfit", "vanishing-gradient", "zero-init", "lr-too-small"),
    "input-scale": (
        "saturation",
        "initial-loss",
        "exploding-gradient",
        "cannot-overfit",
        "dead-relu",
        "lr-too-large",
        "lr-too-small",
        "vanishing-gradient",
    ),
    "constant-input": ("cannot-overfit", "shuffled-labels", "input-scale", "dead-relu"),
    "zero-init": ("symmetric-init", "vanishing-gradient", "init-scale", "dead-relu", "cannot-overfit", "lr-too-small"),
    "symmetric-init": (
        "init-scale",
        "vanishing-gradient",
        "exploding-gradient",
        "initial-loss",
        "cannot-overfit",
        "saturation",
        "dead-relu",
    ),
    "dead-relu": ("vanishing-gradient", "cannot-overfit", "initial-loss", "lr-too-small"),
    "vanishing-gradient": ("init-scale", "saturation", "cannot-overfit", "lr-too-small"),
    "exploding-gradient": ("init-scale", "initial-loss", "saturation", "lr-too-large", "cannot-overfit"),
    "saturation": ("init-scale", "initial-loss", "cannot-overfit"),
    "init-scale": ("initial-loss", "cannot-overfit", "lr-too-large"),
    "weight-decay": ("lr-too-large", "lr-too-small"),
    "lr-too-large": ("cannot-overfit", "dead-relu"),
    "frozen": ("cannot-overfit", "not-in-optimizer"),
    "not-in-optimizer": ("cannot-overfit", "lr-too-small"),
    "foreign-optimizer": ("cannot-overfit", "lr-too-small", "not-in-optimizer"),
    "stale-gradients": ("lr-too-large",),
    "shuffled-labels": ("cannot-overfit",),
}
"""code → what it explains away: those are listed as consequences, not as findings of their own."""


@dataclass
class Finding:
    """Something that stops the network from learning.

    * ``code``: its name, such as "vanishing-gradient"; ``title``: in words.
    * ``evidence``: the numbers; ``layer`` and ``place``: where, as a module's name and a source line.
    * ``cause``: why, in one sentence; ``fix``: what to write instead, in one line.
    * ``confidence``: 0 to 1. ``stage``: the line of the checklist it belongs to.
    * ``cures``: remedies that were tried, best first, once measured.
    """

    code: str
    title: str
    evidence: str
    cause: str
    fix: str
    layer: str = ""
    place: str = ""
    confidence: float = 0.9
    stage: str = "gradient flow"
    numbers: dict[str, Any] = field(default_factory=dict)
    cures: list[Any] = field(default_factory=list)
    consequences: list[Finding] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "code": self.code,
            "title": self.title,
            "evidence": self.evidence,
            "cause": self.cause,
            "fix": self.fix,
            "layer": self.layer,
            "place": self.place,
            "confidence": self.confidence,
            "stage": self.stage,
            "numbers": self.numbers,
            "cures": [c.to_dict() for c in self.cures],
            "consequences": [c.code for c in self.consequences],
        }

    def __str__(self) -> str:
        where = " · ".join(x for x in (self.layer and f"layer {self.layer}", self.place) if x)
        lines = [f"{self.title}" + (f"  [{where}]" if where else "") + f"  ({self.confidence:.0%} sure)"]
        lines += [f"  seen   {self.evidence}", f"  why    {self.cause}", f"  fix    {self.fix}"]
        lines += [f"  {'tried' if i == 0 else '     '}  {c}" for i, c in enumerate(self.cures)]
        if self.consequences:
            lines.append("  also   " + "; ".join(c.title.lower() for c in self.consequences) + " (follows from it)")
        return "\n".join(lines)


def ordered(findings: list[Finding]) -> list[Finding]:
    """Causes first; what a cause explains becomes its consequence; one finding per code (the surest)."""
    best: dict[str, Finding] = {}
    for f in findings:
        if f.code not in best or f.confidence > best[f.code].confidence:
            best[f.code] = f
    rank = {code: i for i, code in enumerate(RANK)}
    line = sorted(best.values(), key=lambda f: rank.get(f.code, len(RANK)))
    kept: list[Finding] = []
    for f in line:
        reason = next((k for k in kept if f.code in EXPLAINS.get(k.code, ()) or "*" in EXPLAINS.get(k.code, ())), None)
        if reason is None:
            kept.append(f)
        else:
            reason.consequences.append(f)
    return kept
