"""The picture of a demo for a terminal: two networks side by side in characters."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["plot", "terminal"]

MARKS = ("×", "●", "▲")


def plot(series: dict[str, list[float]], log: bool, width: int = 46, height: int = 11) -> list[str]:
    """Lines as characters on one scale; the first series is × (ill), the second ● (cured)."""

    def f(v: float) -> float:
        return math.log10(v) if log else v

    values = [f(v) for s in series.values() for v in s if math.isfinite(v) and (v > 0 or not log)]
    if not values:
        return ["(nothing finite)"]
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    grid = [[" "] * width for _ in range(height)]
    longest = max(len(points) for points in series.values())
    for mark, points in zip(MARKS, series.values(), strict=False):
        n = longest  # a series that ends early (NaN) is not stretched
        for column in range(width):
            i = round(column * (n - 1) / max(1, width - 1)) if n > 1 else 0
            v = points[i] if i < len(points) else math.nan
            if not math.isfinite(v) or (log and v <= 0):
                continue
            row = height - 1 - round((f(v) - low) / (high - low) * (height - 1))
            grid[min(max(row, 0), height - 1)][column] = mark

    def word(t: float) -> str:
        return f"1e{t:+.0f}" if log and high - low > 2 else f"{10**t:.2g}" if log else f"{t:.3g}"

    out = []
    for k, row in enumerate(grid):
        label = word(high) if k == 0 else word(low) if k == height - 1 else ""
        out.append(f"{label:>7} │" + "".join(row))
    out.append(" " * 8 + "└" + "─" * width)
    return out


def terminal(outcome: Any) -> str:
    """Panels side by side (two to a row), the marks, and the three sentences."""
    blocks = []
    for title, xlabel, series, log in outcome.panels:
        lines = plot(series, log)
        blocks.append([f"{title:<55}", *(f"{line:<55}" for line in lines), f"{'        ' + xlabel:<55}"])
    out = [outcome.title, ""]
    for k in range(0, len(blocks), 2):
        pair = blocks[k : k + 2]
        out += ["  ".join(parts).rstrip() for parts in zip(*pair, strict=True)]
        out.append("")
    out.append("   ".join(f"{m} {s.name}" for m, s in zip(MARKS, (outcome.ill, outcome.cured), strict=False)))
    out.append("")
    out += [f"{i}. {s}" for i, s in enumerate(outcome.sentences, 1)]
    return "\n".join(out)
