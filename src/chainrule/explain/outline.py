"""A graph as boxes within boxes: what a reader can take in at a time.

Steps that only feed one named result on the same line join it (``z1 = x W1 + b1`` is one box). A module that ran is a
box that can be opened; runs of boxes too long to see at once are gathered into boxes as well. Every box holds
consecutive steps of one topological order, so boxes never form a cycle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..graph.replay import Quantity, Replay, Step
from .formula import definition, label

__all__ = ["Box", "outline"]

_CROWD = 64  # boxes in one view
_EXPRESSION = 4  # ops in one box: as much as a line like (x @ W + b).relu() says


class Box:
    """``kind``: "op" (one result), "group" (openable) or "leaf", "data" (from outside). ``lo``…``hi`` are its steps."""

    def __init__(self, kind: str, title: str, lo: int = -1, hi: int = -1) -> None:
        self.kind = kind
        self.title = title
        self.subtitle = ""
        self.lo = lo
        self.hi = hi
        self.children: list[Box] = []
        self.q: Quantity | None = None
        self.steps: list[Step] = []
        self.id = ""

    def __repr__(self) -> str:
        return f"<{self.kind} {self.title}>"


def outline(replay: Replay, *, collapse: bool | None = None) -> Box:
    """The root box; ``collapse`` False keeps everything flat, None collapses what is larger than a screen."""
    boxes = _results(replay)
    root = Box("group", "graph", 0, len(replay.steps) - 1)
    if collapse or (collapse is None and len(boxes) > _CROWD):
        root.children = _by_module(boxes, 0)
        while True:  # a single module that holds nearly everything is opened at once
            large = [b for b in root.children if b.kind == "group" and len(b.steps) > 0.8 * len(replay.steps)]
            if len(large) != 1 or len(root.children) > 8:
                break
            k = root.children.index(large[0])
            root.children[k : k + 1] = large[0].children
        root.children = _crowded(root.children)
    else:
        root.children = boxes
    _number(root, "b")
    return root


def _number(box: Box, prefix: str) -> None:
    box.id = prefix
    for k, child in enumerate(box.children):
        _number(child, f"{prefix}_{k}")


def _results(replay: Replay) -> list[Box]:
    """One box per result that has a name or more than one reader; what only feeds it on the same line is inside."""
    owner: dict[int, int] = {}
    size: dict[int, int] = {}
    for step in reversed(replay.steps):
        owner[step.index] = step.index
        out = step.out
        if out.name is None and out is not replay.root and len(step.outs) == 1 and len(out.readers) == 1:
            reader = out.readers[0].step
            home = owner[reader.index]
            if _line(reader) == _line(step) and reader.module == step.module and size.get(home, 1) < _EXPRESSION:
                owner[step.index] = home
                size[home] = size.get(home, 1) + 1
    grouped: dict[int, list[Step]] = {}
    for step in replay.steps:
        grouped.setdefault(owner[step.index], []).append(step)
    boxes: list[Box] = []
    for key in sorted(grouped):
        steps = grouped[key]
        last = replay.steps[key]
        box = Box("op", label(last.out, replay) if last.out.name or last.out is replay.root else last.op.name, key, key)
        box.subtitle = _short(definition(last.out))
        box.q = last.out
        box.steps = steps
        box.lo, box.hi = steps[0].index, key
        boxes.append(box)
    # Steps inside a box may interleave with another's; its place in the order is that of its last step.
    return boxes


def _line(step: Step) -> tuple[str, int] | None:
    return None if step.place is None else (step.place.filename, step.place.line)


def _short(text: str, width: int = 34) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _path(box: Box) -> list[str]:
    name = box.steps[-1].module
    return name.split(".") if name else []


def _by_module(boxes: list[Box], depth: int) -> list[Box]:
    """Consecutive boxes of the same submodule become one group, at every depth."""
    out: list[Box] = []
    at = 0
    while at < len(boxes):
        path = _path(boxes[at])
        if len(path) <= depth:
            out.append(boxes[at])
            at += 1
            continue
        end = at
        while end < len(boxes) and _path(boxes[end])[: depth + 1] == path[: depth + 1]:
            end += 1
        run = boxes[at:end]
        inner = _by_module(run, depth + 1)
        if len(run) == 1:
            out.append(run[0])
        elif at == 0 and end == len(boxes):
            out += inner
        else:
            out.append(_group(path[depth], inner, run))
        at = end
    return out


def _group(title: str, children: list[Box], run: list[Box]) -> Box:
    box = Box("group", title, min(b.lo for b in run), max(b.hi for b in run))
    box.children = _crowded(children)
    if title == "":
        box.title = "steps"
    box.steps = [s for b in run for s in b.steps]
    box.q = run[-1].q
    box.subtitle = f"{len(box.steps)} steps"
    return box


def _crowded(boxes: list[Box]) -> list[Box]:
    """Long runs, gathered evenly until a screen holds them."""
    if len(boxes) <= _CROWD:
        return boxes
    size = (
        math.ceil(len(boxes) / math.ceil(math.sqrt(len(boxes))))
        if len(boxes) <= _CROWD**2
        else math.ceil(len(boxes) / _CROWD)
    )
    out: list[Box] = []
    for at in range(0, len(boxes), size):
        run = boxes[at : at + size]
        if len(run) == 1:
            out.append(run[0])
            continue
        out.append(_group(f"{run[0].title} … {run[-1].title}", run, run))
    return out


class Edge:
    """Box to box, with the gradient that flows back along it (its norm, None where none flows)."""

    __slots__ = ("name", "norm", "shape", "source", "target")

    def __init__(self, source: Box, target: Box, name: str, shape: tuple[int, ...]) -> None:
        self.source = source
        self.target = target
        self.name = name
        self.shape = shape
        self.norm: float | None = None


def edges_of(boxes: list[Box], replay: Replay) -> tuple[list[Box], list[Edge]]:
    """The edges among the boxes of one view, and boxes for what enters it: leaves, data, results from elsewhere."""
    home: dict[int, Box] = {}
    for box in boxes:
        for s in box.steps:
            home[s.index] = box
    read: dict[int, set[int]] = {}
    for box in boxes:
        for s in box.steps:
            for q in s.args:
                if isinstance(q, Quantity):
                    read.setdefault(id(q), set()).add(id(box))
    outside: dict[Any, Box] = {}
    found: dict[tuple[int, int, int], Edge] = {}
    squares: dict[tuple[int, int, int], float] = {}
    for box in boxes:
        for s in box.steps:
            for i, q in enumerate(s.args):
                if not isinstance(q, Quantity):
                    continue
                if q.maker is not None and q.maker.index in home:
                    source = home[q.maker.index]
                    if source is box:
                        continue
                else:
                    if q.const and q.array.size == 1 and q.name is None:
                        continue
                    inside = (
                        box.kind == "group"
                        and len(read[id(q)]) == 1
                        and len(q.readers) == sum(1 for r in q.readers if home.get(r.step.index) is box)
                    )
                    if inside and q.maker is None:
                        continue  # a module's own parameters show when it is opened
                    # What many boxes read is repeated beside each: a bundle of long lines says less.
                    key: Any = (id(q), id(box)) if len(read[id(q)]) > 2 else id(q)
                    if key not in outside:
                        outside[key] = _outside(q, replay)
                    source = outside[key]
                edge_key = (id(source), id(box), id(q))
                edge = found.get(edge_key)
                if edge is None:
                    edge = found[edge_key] = Edge(source, box, label(q, replay), q.array.shape)
                if s.sent and s.sent[i] is not None:
                    squares[edge_key] = squares.get(edge_key, 0.0) + float(
                        (np.asarray(s.sent[i], np.float64) ** 2).sum()
                    )
                    edge.norm = math.sqrt(squares[edge_key]) if math.isfinite(squares[edge_key]) else math.inf
    return list(outside.values()), list(found.values())


def _outside(q: Quantity, replay: Replay) -> Box:
    if q.leaf is not None:
        kind, title = "leaf", ".".join(label(q, replay).split(".")[-2:])
    elif q.const:
        kind, title = "data", q.name or "constant"
    else:
        kind, title = "from", f"from {_short(label(q, replay), 24)}"
    box = Box(kind, title)
    box.q = q
    box.id = f"q{id(q)}"
    return box


def statistics(array: Any) -> str:
    """Mean, spread and range of an array, in a few words."""
    a = np.asarray(array, np.float64)
    if not a.size:
        return "empty"
    if a.size == 1:
        return f"{a.reshape(-1)[0]:.6g}"
    with np.errstate(all="ignore"):
        spread = f"mean {a.mean():.4g}, spread {a.std():.4g}, from {a.min():.4g} to {a.max():.4g}"
        return f"{spread}, {(a == 0).mean():.0%} zeros"


def values_text(array: Any, limit: int = 12) -> list[str]:
    """A small array as rows of numbers; empty for a large one."""
    a = np.asarray(array)
    if a.size > limit or a.ndim > 2 or not a.size or a.shape[-1:] > (6,):
        return []
    rows: Iterable[Any] = a.reshape(1, -1) if a.ndim < 2 else a
    if a.dtype.kind == "f":
        return ["  ".join(f"{v:.4g}".replace("-", "−") for v in row) for row in rows]
    return ["  ".join(str(v) for v in row) for row in rows]
