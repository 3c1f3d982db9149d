"""What a diagnosis says: findings, the checklist, the gradient-flow table and its picture."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from .budget import CAUSES, Budget
from .finding import STAGES, Finding

__all__ = ["Diagnosis"]

COLOURS = {"activation": "#E69F00", "weight": "#0072B2", "norm": "#009E73", "skip": "#CC79A7", "other": "#999999"}
"""Okabe and Ito's palette: told apart by colour-blind people; the marks below tell them apart without colour."""
MARKS = {"activation": "░", "weight": "█", "norm": "▒", "skip": "▓", "other": "·"}


class Diagnosis:
    """The result of ``chainrule.diagnose``.

    * ``findings``: causes first, each with evidence, place, cause, fix, confidence and measured cures.
    * ``healthy``: whether nothing was found. ``budget``: the gradient-flow budget. ``checklist``: what was looked at.
    * ``seconds``: how long it took. ``print(d)``, ``d.table()``, ``d.picture()``, ``d.save("x.svg")``, ``d.to_dict()``.
    """

    def __init__(
        self,
        findings: list[Finding],
        lines: dict[str, list[str]],
        budget: Budget | None,
        tape: Any,
        seconds: float,
        name: str,
        cures: bool,
    ) -> None:
        self.findings, self.budget, self.seconds, self.name = findings, budget, seconds, name
        self._lines, self._cures = lines, cures
        self.tape = tape

    @property
    def healthy(self) -> bool:
        return not self.findings

    @property
    def codes(self) -> list[str]:
        """The findings' names, causes first."""
        return [f.code for f in self.findings]

    @property
    def checklist(self) -> list[tuple[str, bool, str]]:
        """(stage, whether all is well there, what was seen), in the order of looking."""
        rows = []
        for stage in STAGES:
            bad = [f for f in self.findings if f.stage == stage]
            rows.append(
                (stage, not bad, "; ".join([*(f.title for f in bad), *self._lines.get(stage, [])]) or "not reached")
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "healthy": self.healthy,
            "findings": [f.to_dict() for f in self.findings],
            "checklist": [{"stage": s, "ok": ok, "seen": seen} for s, ok, seen in self.checklist],
            "budget": None if self.budget is None else self.budget.to_dict(),
            "seconds": self.seconds,
        }

    def to_json(self) -> str:
        """As JSON; what is infinite becomes a string."""
        return json.dumps(_plain(self.to_dict()), indent=1)

    # --- text -------------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        out = [
            f"Diagnosis of {self.name}: "
            + ("nothing found." if self.healthy else f"{len(self.findings)} finding{'s' * (len(self.findings) > 1)}.")
        ]
        for i, f in enumerate(self.findings, 1):
            out += ["", *(("   " if k else f"{i}. ") + line for k, line in enumerate(str(f).splitlines()))]
        if self.budget is not None and len(self.budget.layers) > 1:
            out += ["", self.table()]
        out += ["", "Looked at:"]
        out += [f"  {'✓' if ok else '✗'} {stage:<18} {seen}" for stage, ok, seen in self.checklist]
        return "\n".join(out)

    __repr__ = __str__

    def table(self, limit: int = 24) -> str:
        """The budget, layer by layer: ×10^k per cause, and the sum."""
        if self.budget is None:
            return "no budget: no path from the loss to a weight"
        head = (
            f"{'layer':<22}{'signal':>9}{'|δ| out':>10}"
            + "".join(f"{c:>12}" for c in CAUSES)
            + f"{'sum':>10}{'|δ| in':>10}"
        )
        lines = ["Gradient flow, last layer first; numbers are powers of ten (−1 = ten times smaller):", head]
        layers = list(reversed(self.budget.layers))
        shown = layers if len(layers) <= limit else [*layers[: limit // 2], None, *layers[-limit // 2 :]]
        for x in shown:
            if x is None:
                lines.append(f"… {len(layers) - limit} more layers")
                continue
            lines.append(
                f"{x.name[-21:] or '·':<22}{x.signal:>9.2g}{_tens(x.above):>10}"
                + "".join(f"{_tens(x.parts.get(c, 0.0)):>12}" for c in CAUSES)
                + f"{_tens(x.change):>10}{_tens(x.below):>10}"
            )
        d = self.budget.forecast()
        if math.isfinite(d) and d < 1000:
            way = "down to 1e-6" if self.budget.total < 0 else "up to 1e6"
            lines.append(
                f"×{math.exp(self.budget.per_layer):.3g} per layer: at this rate the gradient is {way} after "
                f"{d:.0f} layers."
            )
        return "\n".join(lines)

    def picture(self, width: int = 40, limit: int = 40) -> str:
        """Bars per layer on a log scale for a terminal: forward signal (left) beside backward gradient (right)."""
        if self.budget is None:
            return ""
        layers = self.budget.layers[-limit:]
        low = min(
            [x.above for x in layers if math.isfinite(x.above)]
            + [x.below for x in layers if math.isfinite(x.below)]
            + [0.0]
        )
        high = max([x.above for x in layers if math.isfinite(x.above)] + [0.0])
        span = max(high - low, 1e-9)
        signals = [math.log(x.signal) for x in layers if x.signal > 0]
        s_low, s_high = (min(signals), max(signals)) if signals else (0.0, 1.0)
        s_span = max(s_high - s_low, math.log(10))
        rows = [
            (
                f"{'layer':<20}  {'forward signal':<{width // 2}}  backward gradient |δ| (log scale, {_tens(low)} … "
                f"{_tens(high)})"
            )
        ]
        for x in layers:
            f = 0 if not x.signal > 0 else 1 + round((math.log(x.signal) - s_low) / s_span * (width // 2 - 1))
            b = 0 if not math.isfinite(x.above) else 1 + round((x.above - low) / span * (width - 1))
            cause = max(
                CAUSES, key=lambda c, x=x: abs(x.parts.get(c, 0.0)) if math.isfinite(x.parts.get(c, 0.0)) else 1e9
            )
            rows.append(f"{x.name[-19:] or '·':<20}  {'▒' * f:<{width // 2}}  {MARKS[cause] * b} {_tens(x.above)}")
        rows.append("mark of the largest cause: " + "  ".join(f"{MARKS[c]} {c}" for c in CAUSES))
        return "\n".join(rows)

    # --- SVG --------------------------------------------------------------------------------------------------------

    def svg(self) -> str:
        """The budget as a drawing: stacked causes per layer, forward signal and backward gradient as lines."""
        from .svg import budget_svg

        return budget_svg(self.budget, self.name)

    def _repr_svg_(self) -> str:
        return self.svg()

    def save(self, path: Any) -> Path:
        """Write .svg, .json or .txt, by the name's ending."""
        path = Path(path)
        text = {".svg": self.svg, ".json": self.to_json}.get(path.suffix, self.__str__)()
        path.write_text(text + "\n", encoding="utf-8")
        return path


def _tens(x: float) -> str:
    """A natural logarithm as a power of ten."""
    if x == -math.inf:
        return "−∞"
    if math.isnan(x) or x == math.inf:
        return "∞" if x == math.inf else "NaN"
    t = x / math.log(10)
    return "0" if abs(t) < 0.005 else f"{t:+.2f}".replace("-", "−")


def _plain(x: Any) -> Any:
    if isinstance(x, dict):
        return {str(k): _plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(v) for v in x]
    if hasattr(x, "item") and getattr(x, "size", 1) == 1:
        x = x.item()
    if isinstance(x, float) and not math.isfinite(x):
        return "inf" if x > 0 else "-inf" if x < 0 else "nan"
    return x if isinstance(x, (str, int, float, bool)) or x is None else str(x)
