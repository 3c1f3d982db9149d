"""``annotate``: the forward source, line by line, with what each line computed and the gradient that arrived there."""

from __future__ import annotations

import linecache
import math
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from ..graph.replay import Quantity, Replay, Step
from .explanation import _variables, replayed
from .expression import shown
from .formula import label
from .locals import entry_name

__all__ = ["Annotation", "Birth", "annotate", "births"]


@dataclass(slots=True)
class Line:
    """What happened on one source line (the last op of the line, and how often the line ran)."""

    number: int
    source: str
    shape: tuple[int, ...] | None = None
    mean: float = math.nan
    spread: float = math.nan
    zeros: float = math.nan
    norm: float | None = None
    times: int = 0
    lowest: float | None = None
    bad: str = ""


@dataclass(slots=True)
class Birth:
    """Where the first NaN or Inf was made, forward or backward; why; what to write instead."""

    direction: str
    place: str
    source: str
    algebra: str
    rewrite: str


@dataclass(slots=True)
class Annotation:
    """The listing. ``print`` it (plain text), ``show()`` it in colour, or let a notebook render it."""

    files: dict[str, list[Line]] = field(default_factory=dict)
    births: list[Birth] = field(default_factory=list)
    leaves: list[tuple[str, tuple[int, ...], float | None]] = field(default_factory=list)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def text(self, *, colour: bool = False) -> str:
        """The listing as text; with ``colour`` for a terminal."""
        paint = _paint if colour else (lambda text, _: text)
        low, high = self._range()
        out: list[str] = []
        for name, lines in self.files.items():
            width = min(max((len(line.source) for line in lines), default=0), 60)
            out.append(f"{name}")
            out.append(
                f"{'':>5} {'':<{width}}  {'shape':<14} {'mean':>10} {'spread':>10} {'zeros':>6} {'|gradient|':>11}"
            )
            for line in lines:
                source = line.source[:width]
                head = f"{line.number:>5} {source:<{width}}"
                if line.shape is None:
                    out.append(head.rstrip())
                    continue
                shape = str(line.shape).replace(" ", "")
                times = f" ×{line.times}" if line.times > 1 else ""
                grad = "" if line.norm is None else _short(line.norm)
                bar, tone = _bar(line.norm, low, high)
                row = f"{head}  {shape:<14} {_short(line.mean):>10} {_short(line.spread):>10} {line.zeros:>6.0%}"
                row += f" {grad:>11} "
                out.append((row + paint(bar, tone) + times + (f"  ← {line.bad}" if line.bad else "")).rstrip())
            out.append("")
        if self.leaves:
            out.append("gradients of the leaves")
            for name, shape, norm in self.leaves:
                bar, tone = _bar(norm, low, high)
                size = "none arrives" if norm is None else _short(norm)
                out.append(f"      {name:<24} {str(shape).replace(' ', ''):<14} {size:>11} {paint(bar, tone)}".rstrip())
        for b in self.births:
            out += [
                "",
                paint(f"The first value that is not a number, {b.direction}: {b.place}", "31"),
                f"    {b.source}",
            ]
            out += [f"    {b.algebra}", f"    Instead: {b.rewrite}"]
        return "\n".join(out)

    def show(self) -> None:
        """Print, in colour when the output is a terminal."""
        import sys

        print(self.text(colour=sys.stdout.isatty()))

    def _range(self) -> tuple[float, float]:
        sizes = [ln.norm for lines in self.files.values() for ln in lines if ln.norm and math.isfinite(ln.norm)]
        sizes += [n for _, _, n in self.leaves if n and math.isfinite(n)]
        return (min(sizes), max(sizes)) if sizes else (1.0, 1.0)

    def _repr_html_(self) -> str:
        low, high = self._range()
        rows: list[str] = []
        for name, lines in self.files.items():
            rows.append(f'<tr><th colspan="8" style="text-align:left">{escape(name)}</th></tr>')
            heads = ("", "", "shape", "mean", "spread", "zeros", "|gradient|", "")
            rows.append(f"<tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr>")
            for ln in lines:
                code = f'<td>{ln.number}</td><td style="text-align:left"><pre>{escape(ln.source)}</pre></td>'
                if ln.shape is None:
                    rows.append(f"<tr>{code}<td colspan=6></td></tr>")
                    continue
                bar, tone = _bar(ln.norm, low, high)
                times = f" ×{ln.times}" if ln.times > 1 else ""
                colour = {"31": "#b35806", "33": "#b35806", "36": "#2166ac"}.get(tone, "#666")
                cells = [
                    str(ln.shape),
                    _short(ln.mean),
                    _short(ln.spread),
                    f"{ln.zeros:.0%}",
                    "" if ln.norm is None else _short(ln.norm),
                ]
                rows.append(
                    f"<tr>{code}{''.join(f'<td>{escape(c)}</td>' for c in cells)}"
                    f'<td style="text-align:left;color:{colour}">{bar}{times} {escape(ln.bad)}</td></tr>'
                )
        notes = "".join(
            f"<p><b>The first value that is not a number, {escape(b.direction)}:</b> {escape(b.place)} "
            f"<code>{escape(b.source)}</code>"
            f"<br>{escape(b.algebra)}<br>Instead: {escape(b.rewrite)}</p>"
            for b in self.births
        )
        return f'<div style="font:12px ui-monospace,monospace"><table>{"".join(rows)}</table>{notes}</div>'

    def to_dict(self) -> dict[str, Any]:
        """The listing as plain data."""
        return {
            "files": {
                name: [{k: getattr(ln, k) for k in Line.__slots__} for ln in lines]
                for name, lines in self.files.items()
            },
            "births": [{k: getattr(b, k) for k in Birth.__slots__} for b in self.births],
            "leaves": [{"name": n, "shape": s, "norm": g} for n, s, g in self.leaves],
        }


def annotate(loss: Any, *, context: int = 3, variables: dict[str, Any] | None = None) -> Annotation:
    """The user's forward source with, per line: shape, mean, spread, share of zeros, gradient norm.

    Args:
        loss: a scalar whose graph has not been freed.
        context: lines between two lines of the graph that are still shown; longer gaps are cut.

    >>> import chainrule as torch
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> annotate((x * x).sum()).leaves
    [('x', (2,), 4.47213595499958)]
    """
    seen = _variables() if variables is None else variables
    with np.errstate(all="ignore"):
        replay = replayed(loss, seen)
        return _annotation(replay, context)


def _annotation(replay: Replay, context: int) -> Annotation:
    made = Annotation()
    lines: dict[str, dict[int, Line]] = {}
    counts: dict[tuple[str, int], dict[Any, int]] = {}
    for step in replay.steps:
        place = step.place
        if place is None:
            continue
        number = place.line
        line = lines.setdefault(place.filename, {}).setdefault(number, Line(number, _source(place.filename, number)))
        _fill(line, step.out)
        runs = counts.setdefault((place.filename, number), {})
        key = (step.node.code, step.node.lasti, step.op.name, step.module)
        runs[key] = runs.get(key, 0) + 1
        line.times = min(runs.values())
    for found in births(replay):
        made.births.append(found)
    for filename, by_number in lines.items():
        numbers = sorted(by_number)
        listed: list[Line] = []
        for before, number in zip([None, *numbers], numbers, strict=False):
            if before is not None and number - before > 1:
                if number - before - 1 <= context:
                    listed += [Line(n, _source(filename, n)) for n in range(before + 1, number)]
                else:
                    listed.append(Line(before + 1, "…"))
            listed.append(by_number[number])
        made.files[filename] = listed
    for q in replay.leaves:
        norm = None if q.grad is None else float(np.linalg.norm(np.asarray(q.grad, np.float64)))
        made.leaves.append((label(q), q.array.shape, norm))
    return made


def _fill(line: Line, q: Quantity) -> None:
    a = np.asarray(q.array, np.float64)
    line.shape = q.array.shape
    line.mean = float(a.mean()) if a.size else math.nan
    line.spread = float(a.std()) if a.size else math.nan
    line.zeros = float((a == 0).mean()) if a.size else 0.0
    line.norm = None if q.grad is None else float(np.linalg.norm(np.asarray(q.grad, np.float64)))
    if a.size and not np.isfinite(a).all():
        kinds = [k for k, bad in (("NaN", np.isnan(a)), ("Inf", np.isinf(a))) if bad.any()]
        line.bad = " and ".join(kinds)
    elif q.grad is not None and not np.isfinite(np.asarray(q.grad)).all():
        line.bad = "gradient not finite"


def _source(filename: str, number: int) -> str:
    return linecache.getline(filename, number).rstrip()


def _short(v: float) -> str:
    if v != v:
        return "NaN"
    if v == 0:
        return "0"
    return f"{v:.4f}" if 1e-3 <= abs(v) < 1e5 else f"{v:.2e}"


def _bar(norm: float | None, low: float, high: float, width: int = 16) -> tuple[str, str]:
    """A bar on a logarithmic scale, and its colour: blue where the gradient fades, orange-brown where it is large."""
    if norm is None:
        return "", "0"
    if not math.isfinite(norm):
        return "▒" * width, "31"
    if norm == 0:
        return "·", "36"
    # At least four decades, so that a factor of two does not look like a cliff.
    decades = max(4.0, math.log10(high / low)) if low > 0 else 4.0
    share = 1 - math.log10(high / norm) / decades
    return "█" * max(
        1, round(share * width)
    ), "36" if norm < high * 1e-4 else "33" if share > 0.95 and high > 1e3 else "0"


def _paint(text: str, tone: str) -> str:
    return f"\033[{tone}m{text}\033[0m" if text and tone != "0" else text


# --- not a number --------------------------------------------------------------------------------------------------

_REWRITES = {
    "sqrt": "keep 0 out of the root: torch.sqrt(torch.where(mask, x, 1.0)), or torch.sqrt(x + eps)",
    "log": "keep the argument positive: torch.log(x.clamp(min=1e-12)); of a softmax: log_softmax; of 1 + x: log1p",
    "div": "keep 0 out of the denominator: x / torch.where(mask, y, 1.0), or x / (y + eps)",
    "exp": "subtract the largest exponent first: softmax, logsumexp and sigmoid do",
    "pow": "keep the base positive: x.clamp(min=eps) ** p",
    "mul": "select instead of multiplying: torch.where(mask, x, 0.0) keeps 0 · ∞ out",
    "sub": "∞ − ∞ has no value: bound the operands (clamp), or subtract before they overflow",
    "log_softmax": "a row of −∞ has no distribution: leave at least one entry unmasked",
    "softmax": "a row of −∞ has no distribution: leave at least one entry unmasked",
    "acos": "keep the argument inside (−1, 1): x.clamp(-1 + eps, 1 - eps)",
    "asin": "keep the argument inside (−1, 1): x.clamp(-1 + eps, 1 - eps)",
}


_OVERFLOW = "the result is larger than its dtype can hold: scale the values down, or compute in float64"
_OVERFLOWING = ("mul", "add", "sub", "sum", "matmul", "linear", "square", "mean", "mse", "cumsum", "prod")


def births(replay: Replay) -> list[Birth]:
    """The first step whose result is not finite although its inputs are; forward, and backward."""
    found: list[Birth] = []
    for q in (*replay.leaves, *replay.consts):
        if q.array.dtype.kind == "f" and np.isnan(q.array).any():
            at = _first_bad(q.array)
            reader = q.readers[0].step
            what = f"{entry_name(label(q), at)} is {shown(float(q.array[at]))} before anything is computed"
            place = reader.place
            rewrite = "clean the data (torch.nan_to_num), or find what wrote it"
            return [Birth("in the input", str(place or ""), place.source if place else "", what, rewrite)]
    for step in replay.steps:
        bad = next((q for q in step.outs if not np.isfinite(q.array).all()), None)
        if bad is None:
            continue
        inputs = [q for q in step.args if isinstance(q, Quantity) and q.array.dtype.kind == "f"]
        if step.op.name in ("where", "masked_fill"):
            continue  # an infinity that the user put in on purpose, to be masked
        if all(np.isfinite(q.array).all() for q in inputs):
            at = _first_bad(bad.array)
            values = ", ".join(
                f"{entry_name(label(q), e)} = {shown(float(q.array[e]))}"
                for q in inputs
                if (e := _near(at, q, bad)) is not None
            )
            what = f"{step.op.name} of {values or 'finite values'} = {shown(float(bad.array[at]))}"
            found.append(_birth(step, "forward", what))
            break
    for step in reversed(replay.steps):
        if not step.sent or any(q.grad is not None and not np.isfinite(np.asarray(q.grad)).all() for q in step.outs):
            continue
        for q, sent in zip(step.args, step.sent, strict=True):
            if sent is None or np.isfinite(np.asarray(sent)).all() or not isinstance(q, Quantity):
                continue
            at = _first_bad(np.asarray(sent))
            found.append(_birth(step, "backward", _algebra(step, q, at)))
            return found
    return found


def _algebra(step: Step, q: Quantity, at: tuple[int, ...]) -> str:
    """``0 · ∞: sqrt′(0) = ∞ times mask 0``."""
    x = shown(float(q.array[at]))
    g = np.asarray(step.out.grad)
    where = f"{step.op.name}′({x})"
    if g.shape != q.array.shape:
        return f"{where} is not finite at {entry_name(label(q), at)}"
    arrived = float(g[at])
    with np.errstate(all="ignore"):
        unit = _slope(step, step.args.index(q), at)
    if arrived == 0:
        reader = step.out.readers[0].step if step.out.readers else None
        mask = "mask" if reader is not None and reader.op.name in ("mul", "where") else "an arriving gradient of"
        place = f" ({reader.place})" if reader is not None and reader.place else ""
        return f"0 · ∞: {where} = {shown(unit)} times {mask} 0{place}, at {entry_name(label(q), at)}"
    return f"{where} = {shown(unit)} times the arriving {shown(arrived)}, at {entry_name(label(q), at)}"


def _slope(step: Step, i: int, at: tuple[int, ...]) -> float:
    from ..autograd.engine import apply_rules

    sent = apply_rules(step.fresh, np.ones(step.out.array.shape, step.out.array.dtype), "arrays")[i]
    return float(np.asarray(sent)[at])


def _birth(step: Step, direction: str, algebra: str) -> Birth:
    place = step.place
    overflows = step.op.name in _OVERFLOWING and not algebra.startswith("0 · ∞") and "∞ − ∞" not in algebra
    if overflows:
        return Birth(direction, str(place) if place else "", place.source if place else "", algebra, _OVERFLOW)
    rewrite = _REWRITES.get(
        step.op.name, f"keep the arguments of {step.op.name} where its value and derivative are finite"
    )
    return Birth(direction, str(place) if place else "", place.source if place else "", algebra, rewrite)


def _first_bad(a: Any) -> tuple[int, ...]:
    flat = int(np.flatnonzero(~np.isfinite(a))[0])
    return tuple(int(k) for k in np.unravel_index(flat, a.shape))


def _near(at: tuple[int, ...], q: Quantity, out: Quantity) -> tuple[int, ...] | None:
    if q.array.shape == out.array.shape:
        return at
    if q.array.ndim <= len(at):
        tail = at[len(at) - q.array.ndim :]
        if all(k < n or n == 1 for k, n in zip(tail, q.array.shape, strict=True)):
            return tuple(0 if n == 1 else k for k, n in zip(tail, q.array.shape, strict=True))
    return None
