"""``draw``: the graph as a picture: SVG for documents, one self-contained page to walk through, Mermaid, DOT."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..graph.replay import Replay
from .explanation import _variables, replayed
from .formula import root_label
from .layout import place
from .outline import Box, edges_of, outline, statistics, values_text
from .page import PAGE

__all__ = ["Drawing", "draw"]

# Blue and orange-brown (ColorBrewer PuOr/RdBu): told apart with every common colour vision. White in the middle.
_FADING, _GROWING = ((33, 102, 172), (179, 88, 6))
_STYLE = (
    "<style>.n rect{stroke:#444;stroke-width:1.2}.n text.t{font-weight:600}.n text.s,.n text.v{fill:#333}"
    ".n text.g{fill:#7f3b08}.n.group rect{stroke-width:2.4}.n.leaf rect{stroke:#2166ac;stroke-width:2}"
    ".n.data rect{stroke-dasharray:4 3}.n.from rect{stroke:none;fill:#eee}.n:focus{outline:none}"
    ".n:focus rect,.n.on rect{stroke:#000;stroke-width:3.5}.e{fill:none;stroke:#8a8a8a;stroke-linecap:round}"
    ".e.none{stroke:#ccc;stroke-dasharray:3 4}</style>"
)
_FONT = "ui-sans-serif,system-ui,'DejaVu Sans',sans-serif"


class Drawing:
    """A drawn graph. Notebooks show it; ``save(path)`` writes .html, .svg, .mmd or .dot."""

    def __init__(self, replay: Replay, collapse: bool | None = None) -> None:
        self.replay = replay
        self.root = outline(replay, collapse=collapse)
        sizes = [_norm(q.grad) for q in replay.quantities() if q.grad is not None]
        sizes = [s for s in sizes if s and math.isfinite(s)]
        self.middle = float(np.median(sizes)) if sizes else 1.0

    # --- forms ---

    def svg(self, box: Box | None = None) -> str:
        """One view (the whole graph, or an opened box) as a stand-alone SVG."""
        return _svg(self, box or self.root)

    def _repr_svg_(self) -> str:
        return self.svg()

    def html(self) -> str:
        """The page: every view, details, the backward pass step by step; nothing is loaded from outside."""
        views: dict[str, str] = {}
        titles: dict[str, Any] = {}
        stack: list[tuple[Box, str | None]] = [(self.root, None)]
        while stack:
            box, parent = stack.pop()
            views[box.id] = self.svg(box)
            titles[box.id] = {"title": box.title, "parent": parent}
            stack += [(c, box.id) for c in box.children if c.kind == "group"]
        data = {
            "views": views,
            "titles": titles,
            "root": self.root.id,
            "steps": self._steps(),
            "top": root_label(self.replay),
        }
        text = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
        return PAGE.replace("/*DATA*/null", text).replace(
            "<!--TITLE-->", escape(f"Backward graph of {root_label(self.replay)}")
        )

    def _repr_html_(self) -> str:
        page = escape(self.html(), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:640px;border:1px solid #ccc" title="graph"></iframe>'

    def _steps(self) -> list[list[Any]]:
        """The backward pass for the page: [step, op, derivative, what arrives, what is sent, line]."""
        from .formula import label, rule_text

        top = root_label(self.replay)
        seen: set[int] = set()
        out: list[list[Any]] = []
        many = len(self.replay.steps) > 1500
        for step in reversed(self.replay.steps):
            if not step.sent:
                continue
            sent = []
            for i, (q, gi) in enumerate(zip(step.args, step.sent, strict=True)):
                if gi is None:
                    continue
                sign = "+=" if id(q) in seen else "="
                seen.add(id(q))
                rule = (f"d{top}/d{q.name or '…'} = …" if many else rule_text(step, i, self.replay)).split(" = ", 1)
                small = values_text(gi) if not many else []
                size = small[0] if len(small) == 1 else f"|·| = {_norm(gi):.4g}"
                sent.append([rule[0], sign, rule[-1], size])
            place = step.place
            name = step.out.name or step.op.name if many else label(step.out, self.replay)
            out.append([step.index, step.op.name, f"d{top}/d{name}" if " " not in name else f"d{top}/d({name})",
                        f"|·| = {_norm(step.out.grad):.4g}", sent, str(place) if place else ""])  # fmt: skip
        return out

    def mermaid(self) -> str:
        """The top view as a Mermaid flowchart."""
        boxes, edges = _view(self, self.root)
        names = {id(b): f"n{k}" for k, b in enumerate(boxes)}
        lines = ["flowchart TD"]
        for b in boxes:
            text = b.title + (f"<br/>{b.subtitle}" if b.subtitle and b.subtitle != b.title else "")
            text = text.replace('"', "#quot;")
            left, right = {"leaf": ("([", "])"), "data": ("[/", "/]"), "group": ("[[", "]]")}.get(b.kind, ("[", "]"))
            lines.append(f'    {names[id(b)]}{left}"{text}"{right}')
        lines += [f"    {names[id(e.source)]} -->|{_shape(e.shape)}| {names[id(e.target)]}" for e in edges]
        return "\n".join(lines) + "\n"

    def dot(self) -> str:
        """The top view in Graphviz's language."""
        boxes, edges = _view(self, self.root)
        names = {id(b): f"n{k}" for k, b in enumerate(boxes)}
        lines = ["digraph backward {", "    node [shape=box, style=rounded];"]
        for b in boxes:
            text = (b.title + ("\n" + b.subtitle if b.subtitle and b.subtitle != b.title else "")).replace('"', '\\"')
            shape = {"leaf": ", shape=ellipse", "data": ", shape=parallelogram", "group": ", peripheries=2"}.get(
                b.kind, ""
            )
            lines.append(f"    {names[id(b)]} [label={json.dumps(text, ensure_ascii=False)}{shape}];")
        for e in edges:
            style = f'label="{_shape(e.shape)}", penwidth={_pen(self, e.norm):.1f}'
            lines += [f"    {names[id(e.source)]} -> {names[id(e.target)]} [{style}];"]
        return "\n".join([*lines, "}"]) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the file that the suffix names."""
        made = Path(path)
        forms = {".html": self.html, ".svg": self.svg, ".mmd": self.mermaid, ".md": self.mermaid, ".dot": self.dot}
        if made.suffix not in forms:
            raise ValueError(f"draw writes {', '.join(forms)}, not {made.suffix!r}")
        made.write_text(forms[made.suffix](), encoding="utf-8")
        return made

    def __repr__(self) -> str:
        return f"<drawing of {root_label(self.replay)}: {len(self.replay.steps)} steps; .save('graph.html') writes it>"


def draw(
    loss: Any, path: str | Path | None = None, *, collapse: bool | None = None, variables: dict[str, Any] | None = None
) -> Drawing:
    """Draw the graph behind a scalar: forward downwards, edges as wide as the gradient that flows back up.

    Args:
        loss: a scalar whose graph has not been freed.
        path: where to save it (.html, .svg, .mmd, .dot).
        collapse: True: modules as boxes to open; False: everything flat; None: collapsed when larger than a screen.

    >>> import chainrule as torch
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> print(draw(torch.sin(x)).mermaid())
    flowchart TD
        n0["L<br/>sin(x)"]
        n1(["x"])
        n1 -->|number| n0
    <BLANKLINE>
    """
    seen = _variables() if variables is None else variables
    with np.errstate(all="ignore"):
        made = Drawing(replayed(loss, seen), collapse)
        if path is not None:
            made.save(path)
    return made


def _norm(a: Any) -> float:
    return 0.0 if a is None else float(np.linalg.norm(np.asarray(a, np.float64)))


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) if shape else "number"


def _view(drawing: Drawing, box: Box) -> tuple[list[Box], list[Any]]:
    outside, edges = edges_of(box.children, drawing.replay)
    return [*box.children, *outside], edges


def _pen(drawing: Drawing, norm: float | None) -> float:
    """The width of an edge: 1 … 9, on a logarithmic scale around the median gradient."""
    if norm is None or norm == 0:
        return 1.0
    if not math.isfinite(norm):
        return 9.0
    return min(9.0, max(1.2, 4.0 + 1.6 * math.log10(norm / drawing.middle)))


def _tone(drawing: Drawing, norm: float | None) -> str:
    """Blue where the gradient is far below the graph's median, orange-brown where far above, white between."""
    if norm is None:
        return "#ffffff"
    if not math.isfinite(norm):
        return "rgb(179,88,6)"
    share = -1.0 if norm == 0 else max(-1.0, min(1.0, math.log10(norm / drawing.middle) / 4))
    end = _GROWING if share > 0 else _FADING
    mix = [round(255 + (c - 255) * abs(share) * 0.75) for c in end]
    return f"rgb({mix[0]},{mix[1]},{mix[2]})"


def _lines(drawing: Drawing, b: Box, in_place: bool) -> list[tuple[str, str]]:
    """What is written in a box: (text, class)."""
    out = [(b.title, "t")]
    if b.subtitle and b.subtitle != b.title:
        out.append((("= " if b.kind == "op" else "") + b.subtitle, "s"))
    if b.q is not None and b.kind != "group":
        q = b.q
        if in_place and values_text(q.array):
            out += [(row, "v") for row in values_text(q.array)]
            if q.grad is not None:
                rows = values_text(q.grad)
                out += [(("∂ " if k == 0 else "   ") + row, "g") for k, row in enumerate(rows)]
        else:
            out.append((_shape(q.array.shape), "v"))
            if q.grad is not None:
                out.append((f"|∂| {_norm(q.grad):.3g}", "g"))
    elif b.q is not None and b.q.grad is not None:
        out.append((f"{_shape(b.q.array.shape)}  |∂| {_norm(b.q.grad):.3g}", "g"))
    return out


def _svg(drawing: Drawing, box: Box) -> str:
    boxes, edges = _view(drawing, box)
    in_place = len(boxes) <= 24
    texts = [_lines(drawing, b, in_place) for b in boxes]
    sizes = [
        (max(64.0, 16 + max(len(t) * (8.0 if c == "t" else 7.5) for t, c in lines)), 12.0 + 15 * len(lines))
        for lines in texts
    ]
    index = {id(b): k for k, b in enumerate(boxes)}
    pairs = [(index[id(e.source)], index[id(e.target)]) for e in edges]
    late = {k for k, b in enumerate(boxes) if b.kind in ("leaf", "data", "from")}
    placed = place(sizes, pairs, late=late)
    w, h = placed.width, placed.height
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w:.0f} {h:.0f}" width="{w:.0f}" height="{h:.0f}" '
        f'font-family="{_FONT}" font-size="12" role="img" aria-label="graph of {escape(box.title)}">'
    )
    out = [head, _STYLE, f'<rect width="{w:.0f}" height="{h:.0f}" fill="#fff"/>']
    for e, route in zip(edges, placed.routes, strict=True):
        kind = "e" if e.norm else "e none"
        tip = f"{e.name} {_shape(e.shape)}" + (
            f", gradient back: |·| = {e.norm:.4g}" if e.norm is not None else ", no gradient"
        )
        out.append(
            f'<path class="{kind}" d="{_curve(route)}" stroke-width="{_pen(drawing, e.norm):.1f}">'
            f"<title>{escape(tip)}</title></path>"
        )
    for k, b in enumerate(boxes):
        bw, bh = sizes[k]
        x, y = placed.x[k] - bw / 2, placed.y[k] - bh / 2
        norm = None if b.q is None or b.q.grad is None else _norm(b.q.grad)
        fill = "#eeeeee" if b.kind == "from" else _tone(drawing, norm)
        radius = 14 if b.kind == "leaf" else 4
        out.append(
            f'<g class="n {b.kind}" tabindex="0" data-id="{b.id}" data-lo="{b.lo}" data-hi="{b.hi}" '
            f'data-steps="{",".join(str(s.index) for s in b.steps) if b.kind == "op" else ""}" '
            f'transform="translate({x:.1f},{y:.1f})" role="button" aria-label="{escape(b.title, quote=True)}">'
            f"<title>{escape(_tip(b))}</title>"
            f'<rect width="{bw:.1f}" height="{bh:.1f}" rx="{radius}" fill="{fill}"/>'
        )
        if b.kind == "group":
            out.append(f'<text x="{bw - 14:.0f}" y="17" fill="#444">+</text>')
        dark = _dark(fill)
        for row, (text, kind) in enumerate(texts[k]):
            ink = ' style="fill:#000"' if dark else ""
            out.append(
                f'<text class="{kind}" x="8" y="{18 + 15 * row}" xml:space="preserve"{ink}>{escape(text)}</text>'
            )
        out.append("</g>")
    out.append("</svg>")
    return "".join(out)


def _dark(fill: str) -> bool:
    if not fill.startswith("rgb("):
        return False
    r, g, b = (int(v) for v in fill[4:-1].split(","))
    return 0.299 * r + 0.587 * g + 0.114 * b < 205


def _tip(b: Box) -> str:
    """What appears on hover: everything about the box's result."""
    lines = [f"{b.title} = {b.subtitle}" if b.kind == "op" else b.title]
    if b.kind == "group":
        lines.append(f"{b.subtitle}; click or Enter opens it")
    q = b.q
    if q is not None:
        if q.maker is not None and q.maker.place is not None:
            lines.append(f"{q.maker.place}: {q.maker.place.source}")
        lines.append(f"shape {_shape(q.array.shape)}, {q.array.dtype}")
        lines.append(f"value: {statistics(q.array)}")
        lines += values_text(q.array, 36)
        if q.grad is not None:
            lines.append(f"gradient: |·| = {_norm(q.grad):.6g}, {statistics(q.grad)}")
            lines += values_text(q.grad, 36)
        else:
            lines.append("no gradient flows here")
    return "\n".join(lines)


def _curve(points: list[tuple[float, float]]) -> str:
    """A smooth path through the way points."""
    x0, y0 = points[0]
    out = f"M{x0:.1f},{y0:.1f}"
    for x1, y1 in points[1:]:
        mid = (y0 + y1) / 2
        out += f" C{x0:.1f},{mid:.1f} {x1:.1f},{mid:.1f} {x1:.1f},{y1:.1f}"
        x0, y0 = x1, y1
    return out
