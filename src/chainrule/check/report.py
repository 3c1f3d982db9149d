"""The result of a check: one screen in the terminal, HTML in a notebook, a dict for machines, an exception
on demand.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import Any

from ..errors import GradientError
from .diagnosis.hypothesis import Hypothesis
from .measure import Entry
from .problem import Note, entry_name
from .verdict import Verdict

__all__ = ["Report", "WrongGradientError", "ParameterResult"]

_WORST = 5
_WIDTH = 100


class WrongGradientError(GradientError, AssertionError):
    """Raised by ``Report.raise_if_wrong``; ``.report`` is the report."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


@dataclass(frozen=True, slots=True)
class ParameterResult:
    """What was found for one input array."""

    name: str
    shape: tuple[int, ...]
    right: bool
    checked: int
    size: int
    worst: float
    """The largest |analytic − numeric| relative to the parameter's largest numeric derivative."""
    allowed: float = 0.0
    """The largest |analytic − numeric| as a part of what the numeric error allows: above 1 is wrong."""


@dataclass(slots=True)
class Report:
    """What ``chainrule.check`` found. ``hypotheses`` are ranked; ``mistakes`` holds one for each separate mistake."""

    verdict: Verdict
    label: str
    parameters: list[ParameterResult]
    worst: list[Entry]
    hypotheses: list[Hypothesis]
    mistakes: list[Hypothesis]
    kinks: list[tuple[Entry, str]]
    notes: list[Note]
    value: float
    noise: float
    evaluations: int
    seconds: float
    full: bool
    order: int
    directions: int
    seed: int
    reason: str = ""
    precision: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the verdict is PASS."""
        return self.verdict is Verdict.PASS

    def __bool__(self) -> bool:
        return self.ok

    def raise_if_wrong(self) -> Report:
        """Raise ``WrongGradientError`` (an ``AssertionError`` too) unless the verdict is PASS; returns the report."""
        if not self.ok:
            raise WrongGradientError(self)
        return self

    # -- text ---------------------------------------------------------------------------------------------------------

    @property
    def _is(self) -> str:
        return "are" if self.order == 2 else "is"

    def headline(self) -> str:
        what = "second derivatives" if self.order == 2 else "gradient"
        wrong = [p.name for p in self.parameters if not p.right]
        if self.verdict is Verdict.PASS:
            many = f"{len(self.parameters)} inputs" if len(self.parameters) > 1 else self.parameters[0].name
            return f"the {what} of {self.label} {self._is} right ({many})"
        if self.verdict is Verdict.INCONCLUSIVE:
            return f"{self.label}: {self.reason}"
        which = ", ".join(wrong[:6]) + (f" and {len(wrong) - 6} more" if len(wrong) > 6 else "")
        return (
            f"the {what} of {self.label} {self._is} wrong in {which or 'some direction'} ({len(wrong)} of "
            f"{len(self.parameters)} inputs)"
        )

    def cost(self) -> str:
        checked, size = sum(p.checked for p in self.parameters), sum(p.size for p in self.parameters)
        entries = f"all {size} entries" if checked == size else f"{checked} of {size} entries"
        along = f" and {self.directions} random directions" if self.directions else ""
        sampled = f" (seed {self.seed}; full=True checks all)" if checked < size else ""
        return f"checked {entries}{along}{sampled}, {self.evaluations} evaluations, {self.seconds:.2f} s"

    def lines(self) -> list[tuple[str, str]]:
        """The report as (style, text) pairs, before wrapping."""
        colour = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow"}[self.verdict.value]
        out = [(colour, f"{self.verdict.value}  {self.headline()}")]
        shown = self.mistakes if self.verdict is not Verdict.PASS else []
        for i, h in enumerate(shown[:3], 1):
            number = f"{i}. " if len(shown) > 1 else ""
            proof = " (verified)" if h.verified else ""
            out.append(("bold", f"  {number}{h.title}"))
            out.append(("", f"     evidence: {h.evidence}"))
            out.append(("green", f"     fix{proof}: {h.fix}"))
        others = [h for h in self.hypotheses if h not in shown][:2] if self.verdict is Verdict.FAIL else []
        out += [("dim", f"  or: {h.title}") for h in others]
        if self.worst and self.verdict is not Verdict.PASS:
            out.append(("bold", f"  {'worst entries':<18}{'analytic':>16}{'numeric':>16}  ± error"))
            for e in self.worst[:_WORST]:
                slope = f"{e.slope.value:>16.8g}  ± {e.slope.error:.1e}"
                if e.slope.kink:
                    slope = f"  left {e.slope.left:.6g}, right {e.slope.right:.6g}"
                out.append(("", f"  {entry_name(e.name, e.index):<18}{e.analytic:>16.8g}{slope}"))
        if self.verdict is Verdict.FAIL and len(self.parameters) > 1:
            right = [p.name for p in self.parameters if p.right]
            if right:
                out.append(("dim", f"  right: {', '.join(right[:8])}{' …' if len(right) > 8 else ''}"))
        for e, name in self.kinks[:3]:
            where = entry_name(e.name, e.index)
            what = f"{name}: " if name else ""
            state = "a valid subgradient" if e.status == "kink" else "no subgradient"
            out.append(
                (
                    "yellow",
                    (
                        f"  kink at {where}: {what}left slope {e.slope.left:.6g}, right slope {e.slope.right:.6g}; "
                        f"analytic {e.analytic:.6g} is {e.convention} ({state})"
                    ),
                )
            )
        if len(self.kinks) > 3:
            out.append(("yellow", f"  and {len(self.kinks) - 3} more kinks"))
        out += [("yellow", f"  note: {note.text}") for note in self.notes[:4]]
        out.append(("dim", f"  {self.cost()}"))
        return out

    def _wrapped(self) -> list[tuple[str, str]]:
        import textwrap

        out = []
        for style, text in self.lines():
            indent = len(text) - len(text.lstrip())
            if "`" in text:  # code, to be copied
                out.append((style, text))
                continue
            pieces = textwrap.wrap(
                text, _WIDTH, subsequent_indent=" " * (indent + 2), drop_whitespace=True, replace_whitespace=False
            ) or [""]
            out += [(style, p) for p in pieces]
        return out

    def __str__(self) -> str:
        return "\n".join(text for _, text in self._wrapped())

    __repr__ = __str__

    def __rich__(self) -> Any:
        from rich.text import Text

        text = Text()
        for i, (style, line) in enumerate(self._wrapped()):
            text.append(("\n" if i else "") + line, style=style or None)
        return text

    def print(self) -> None:
        """Print the report with colours where the terminal has them."""
        from rich.console import Console

        Console(highlight=False, soft_wrap=True).print(self)

    def _repr_html_(self) -> str:
        colour = {
            "bold green": "#1a7f37",
            "bold red": "#cf222e",
            "bold yellow": "#9a6700",
            "yellow": "#9a6700",
            "green": "#1a7f37",
            "dim": "#6e7781",
        }
        rows = []
        for style, line in self._wrapped():
            css = f"color:{colour[style]};" if style in colour else ""
            css += "font-weight:bold;" if "bold" in style else ""
            rows.append(f'<span style="{css}">{html.escape(line)}</span>' if css else html.escape(line))
        return '<pre style="line-height:1.35">' + "\n".join(rows) + "</pre>"

    # -- data ---------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python values, ready for ``json.dumps``."""
        return {
            "verdict": self.verdict.value,
            "label": self.label,
            "order": self.order,
            "value": _number(self.value),
            "reason": self.reason,
            "parameters": [
                {
                    "name": p.name,
                    "shape": list(p.shape),
                    "right": p.right,
                    "checked": p.checked,
                    "size": p.size,
                    "worst": _number(p.worst),
                    "allowed": _number(p.allowed),
                }
                for p in self.parameters
            ],
            "worst": [_entry(e) for e in self.worst],
            "mistakes": [h.to_dict() for h in self.mistakes],
            "hypotheses": [h.to_dict() for h in self.hypotheses],
            "kinks": [
                {**_entry(e), "convention": e.convention, "op": name, "valid": e.status == "kink"}
                for e, name in self.kinks
            ],
            "notes": [{"kind": n.kind, "text": n.text} for n in self.notes],
            "cost": {
                "evaluations": self.evaluations,
                "seconds": round(self.seconds, 4),
                "full": self.full,
                "directions": self.directions,
                "seed": self.seed,
                "noise": _number(self.noise),
            },
            **self.extra,
        }


def _number(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def _entry(e: Entry) -> dict[str, Any]:
    return {
        "name": e.name,
        "index": list(e.index),
        "analytic": _number(e.analytic),
        "numeric": _number(e.slope.value),
        "error": _number(e.slope.error),
        "left": _number(e.slope.left),
        "right": _number(e.slope.right),
        "kink": e.slope.kink,
    }
