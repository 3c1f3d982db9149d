"""Drawings without a plotting library."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from html import escape

from .budget import CAUSES, Budget

__all__ = ["budget_svg", "lines_svg"]

COLOURS = {"activation": "#E69F00", "weight": "#0072B2", "norm": "#009E73", "skip": "#CC79A7", "other": "#999999"}
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_FONT = 'font-family="sans-serif" font-size="12"'


def _open(width: int, height: int, title: str) -> list[str]:
    return [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} '
            f'{height}" role="img">'
        ),
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="16" y="22" font-family="sans-serif" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]


def _finite(x: float, low: float = -60.0) -> float:
    return x if math.isfinite(x) else low


def budget_svg(budget: Budget | None, name: str) -> str:
    """Per layer: signed bars of each cause's share (powers of ten), the gradient and the signal as lines above."""
    if budget is None:
        return "\n".join([*_open(420, 60, f"{name}: no gradient reaches a weight"), "</svg>"])
    layers = budget.layers
    step = max(12, min(56, 860 // len(layers)))
    width, left, top, mid, bottom = 120 + step * len(layers), 64, 52, 210, 400
    out = _open(max(width, 520), bottom + 70, f"Gradient flow of {name}")
    tens = math.log(10)
    above = [_finite(x.above / tens) for x in layers]
    signal = [math.log10(x.signal) if x.signal > 0 else -6.0 for x in layers]
    low, high = (
        math.floor(min(*above, *signal, -1.0) if len(layers) > 1 else -1),
        math.ceil(max(*above, *signal, 0.0) if len(layers) > 1 else 1),
    )
    if high == low:
        high += 1

    def y_line(v: float) -> float:
        return top + (high - v) / (high - low) * (mid - top - 12)

    for t in {low, (low + high) // 2, high}:
        out.append(
            f'<line x1="{left}" x2="{left + step * len(layers)}" y1="{y_line(t):.1f}" y2="{y_line(t):.1f}" '
            'stroke="#ddd"/>'
        )
        out.append(f'<text x="{left - 8}" y="{y_line(t) + 4:.1f}" text-anchor="end" {_FONT}>1e{t}</text>')
    for values, colour, dash, word in (
        (signal, "#56B4E9", "5 3", "forward signal (RMS)"),
        (above, "#D55E00", "", "backward gradient |δ|"),
    ):
        points = " ".join(f"{left + step * (i + 0.5):.1f},{y_line(v):.1f}" for i, v in enumerate(values))
        out.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"><title>{word}</title></polyline>'
        )
    out.append(
        f'<text x="{left}" y="{top - 8}" {_FONT}><tspan fill="#D55E00">— backward gradient |δ|</tspan>  '
        '<tspan fill="#2b83ba">- - forward signal</tspan></text>'
    )
    parts = [{c: _finite(x.parts.get(c, 0.0) / tens, -3.0) for c in CAUSES} for x in layers]
    down = min([sum(v for v in p.values() if v < 0) for p in parts] + [-0.1])
    up = max([sum(v for v in p.values() if v > 0) for p in parts] + [0.1])

    def y_bar(v: float) -> float:
        return mid + 20 + (up - v) / (up - down) * (bottom - mid - 20)

    for i, p in enumerate(parts):
        x, hi, lo = left + step * i + step * 0.15, 0.0, 0.0
        for c in CAUSES:
            v = p[c]
            if v == 0:
                continue
            a, b = (hi, hi + v) if v > 0 else (lo, lo + v)
            hi, lo = (b, lo) if v > 0 else (hi, b)
            out.append(
                f'<rect x="{x:.1f}" y="{y_bar(max(a, b)):.1f}" width="{step * 0.7:.1f}" '
                f'height="{abs(y_bar(a) - y_bar(b)):.1f}" fill="{COLOURS[c]}">'
                f"<title>{escape(layers[i].name)}: {c} {v:+.2f} powers of ten</title></rect>"
            )
        if step >= 24 or i % 4 == 0:
            out.append(
                f'<text x="{left + step * (i + 0.5):.1f}" y="{bottom + 16}" text-anchor="middle" '
                f'font-family="sans-serif" font-size="10">{escape(layers[i].name[-8:])}</text>'
            )
    out.append(
        f'<line x1="{left}" x2="{left + step * len(layers)}" y1="{y_bar(0):.1f}" y2="{y_bar(0):.1f}" stroke="black"/>'
    )
    for t in (up, down):
        out.append(f'<text x="{left - 8}" y="{y_bar(t) + 4:.1f}" text-anchor="end" {_FONT}>{t:+.1f}</text>')
    for i, c in enumerate(CAUSES):
        out.append(
            f'<rect x="{left + 96 * i}" y="{bottom + 36}" width="12" height="12" fill="{COLOURS[c]}"/><text '
            f'x="{left + 16 + 96 * i}" y="{bottom + 46}" {_FONT}>{c}</text>'
        )
    out.append(
        f'<text x="16" y="{bottom + 62}" font-family="sans-serif" font-size="10">bars: change of |δ| across '
        "each layer by cause, in powers of ten; they add up to the step of the line</text>"
    )
    out.append("</svg>")
    return "\n".join(out)


def lines_svg(
    panels: Sequence[tuple[str, str, dict[str, list[float]], bool]], title: str, caption: Sequence[str]
) -> str:
    """Panels side by side: (title, x label, {name: values}, log scale)."""
    w, h = 330, 230
    columns = w * len(panels) // 7  # a character of the font is about 6 pixels wide
    lines = [line for sentence in caption for line in textwrap.wrap(sentence, columns, subsequent_indent="   ")]
    out = _open(w * len(panels) + 20, h + 74 + 17 * len(lines), title)
    for k, (head, xlabel, series, log) in enumerate(panels):
        x0, y0, x1, y1 = w * k + 62, 52, w * (k + 1) - 12, h
        values = [v for s in series.values() for v in s if math.isfinite(v) and (v > 0 or not log)]
        if not values:
            continue
        f = (lambda v: math.log10(max(v, 1e-30))) if log else (lambda v: v)
        low, high = f(min(values)), f(max(values))
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5

        def px(i: int, n: int, x0: float = x0, x1: float = x1) -> float:
            return x0 + (x1 - x0) * (i / max(1, n - 1))

        def py(v: float, low: float = low, high: float = high, y0: float = y0, y1: float = y1, f: object = f) -> float:
            return y1 - (y1 - y0) * (min(max(f(v), low), high) - low) / (high - low)  # type: ignore[operator]

        out.append(f'<text x="{x0}" y="{y0 - 8}" {_FONT}>{escape(head)}</text>')
        out.append(f'<rect x="{x0}" y="{y0}" width="{x1 - x0}" height="{y1 - y0}" fill="none" stroke="#bbb"/>')
        for t in (low, high):
            word = f"1e{t:.0f}" if log and high - low > 2 else f"{10**t:.2g}" if log else f"{t:.3g}"
            y = y1 - (y1 - y0) * (t - low) / (high - low)
            out.append(f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end" {_FONT}>{word}</text>')
        out.append(f'<text x="{(x0 + x1) / 2}" y="{y1 + 16}" text-anchor="middle" {_FONT}>{escape(xlabel)}</text>')
        for i, (name, values) in enumerate(series.items()):
            if not len(values):
                continue
            points = " ".join(f"{px(j, len(values)):.1f},{py(v):.1f}" for j, v in enumerate(values) if math.isfinite(v))
            dash = ("", "6 3", "2 2", "8 2 2 2")[i % 4]
            out.append(
                f'<polyline points="{points}" fill="none" stroke="{LINES[i % 4]}" stroke-width="2" '
                f'stroke-dasharray="{dash}"/>'
            )
            out.append(
                f'<text x="{x0 + 4}" y="{y1 + 34 + 14 * i}" fill="{LINES[i % 4]}" '
                f"{_FONT}>{'—' if not dash else '- -'} {escape(name)}</text>"
            )
    for i, line in enumerate(lines):
        out.append(f'<text x="16" y="{h + 74 + 17 * i}" xml:space="preserve" {_FONT}>{escape(line)}</text>')
    out.append("</svg>")
    return "\n".join(out)
