"""Why one entry of a gradient has its value: the chain of equations from it up to the root.

Each equation says: the derivative with respect to this entry is the sum, over everything that reads it, of the
derivative with respect to the reader's output times the local derivative. Following every term would be exponential,
so equations are shared (one per entry) and only the largest term is followed where there are many.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np

from ..graph.replay import Quantity, Replay, Step
from .expression import Expr, number, times
from .locals import column, local

__all__ = ["Equation", "Term", "equations"]

Entry = tuple[int, ...]


@dataclass(slots=True)
class Term:
    """``upstream · factor``: the part of a derivative that comes through output ``j`` of ``step``."""

    step: Step
    i: int
    out: Quantity
    j: Entry
    upstream: float
    factor: Expr | None
    value: float


@dataclass(slots=True)
class Equation:
    """d root / d ``q[entry]`` = Σ ``terms`` + the rest (``rest_count`` smaller terms that sum to ``rest``)."""

    q: Quantity
    entry: Entry
    value: float
    terms: list[Term] = field(default_factory=list)
    rest: float = 0.0
    rest_count: int = 0
    zeros: int = 0

    @property
    def count(self) -> int:
        return len(self.terms) + self.rest_count

    @property
    def total(self) -> float:
        return sum(t.value for t in self.terms) + self.rest


def equations(
    replay: Replay, q: Quantity, entry: Entry, *, keep: int = 4, follow: int = 2, limit: int = 400
) -> list[Equation]:
    """The equations for ``q[entry]`` and what it rests on, in that order: q first, the root's readers last.

    Args:
        keep: terms shown one by one in each equation; the others are summed.
        follow: an equation with at most so many terms has all of them followed, others only the largest.
        limit: the largest number of equations.
    """
    found: list[Equation] = []
    seen: set[tuple[int, Entry]] = {(id(q), entry)}
    heap: list[tuple[int, int, Quantity, Entry]] = [(_order(q), 0, q, entry)]
    serial = 0
    while heap and len(found) < limit:
        _, _, q, at = heapq.heappop(heap)
        if q is replay.root:
            continue
        equation = _equation(replay, q, at, keep)
        found.append(equation)
        chosen = equation.terms if equation.count <= follow else equation.terms[:1]
        for term in chosen:
            key = (id(term.out), term.j)
            if key not in seen and term.factor is not None:
                seen.add(key)
                serial += 1
                heapq.heappush(heap, (_order(term.out), serial, term.out, term.j))
    return found


def _order(q: Quantity) -> int:
    return -1 if q.maker is None else q.maker.index


def _equation(replay: Replay, q: Quantity, entry: Entry, keep: int) -> Equation:
    grad = 0.0 if q.grad is None else float(np.asarray(q.grad)[entry])
    equation = Equation(q, entry, grad)
    candidates: list[tuple[float, Step, int, Quantity, Entry, float, float]] = []
    rest = 0.0
    for step, i in q.readers:
        if not step.sent or step.sent[i] is None:
            continue
        try:
            columns = column(step, i, entry)
        except NotImplementedError:
            value = float(np.asarray(step.sent[i])[entry])
            candidates.append((value, step, i, step.out, (), np.nan, np.nan))
            continue
        for out, jacobian in zip(step.outs, columns, strict=True):
            if out.grad is None:
                continue
            if np.isnan(jacobian).any() and np.isfinite(np.asarray(step.sent[i])[entry]):
                jacobian = np.where(np.isnan(jacobian), 0, jacobian)  # an ignored sample: x / (∞ / g), differentiated
            g = np.asarray(out.grad, np.float64)
            flat = np.flatnonzero(jacobian)
            products = g.reshape(-1)[flat] * jacobian.reshape(-1)[flat].astype(np.float64)
            equation.zeros += int((products == 0).sum()) if flat.size > 1 else 0
            live = np.arange(flat.size) if flat.size == 1 else np.flatnonzero(products)
            size = np.abs(products[live])
            top = live[np.argsort(np.where(np.isnan(size), np.inf, size))[::-1][: keep + 1]]
            for k in top:
                j = tuple(int(n) for n in np.unravel_index(flat[k], out.array.shape))
                candidates.append((float(products[k]), step, i, out, j, float(g[j]), float(jacobian[j])))
            others = live.size - top.size
            if others > 0:
                rest += float(products[live].sum() - products[top].sum())
                equation.rest_count += others
    candidates.sort(key=lambda c: abs(c[0]) if c[0] == c[0] else np.inf, reverse=True)
    for value, step, i, out, j, upstream, jacobian in candidates[:keep]:
        factor = None if jacobian != jacobian and upstream != upstream else local(step, i, entry, j, jacobian)
        out, j = _settled(replay, out, j)
        equation.terms.append(Term(step, i, out, j, upstream, factor, value))
    _merge_twins(equation)
    for c in candidates[keep:]:
        rest += c[0]
        equation.rest_count += 1
    equation.rest = rest
    return equation


def _merge_twins(equation: Equation) -> None:
    """``h · h`` reads h twice with the same factor: one term 2h instead of h + h."""
    merged: list[Term] = []
    for t in equation.terms:
        twin = merged[-1] if merged else None
        if (
            twin is not None
            and (t.step, t.out, t.j) == (twin.step, twin.out, twin.j)
            and t.i != twin.i
            and t.factor is not None
            and twin.factor == t.factor
        ):
            twin.factor = times(number(2), t.factor)
            twin.value += t.value
        else:
            merged.append(t)
    equation.terms = merged


def _settled(replay: Replay, q: Quantity, entry: Entry) -> tuple[Quantity, Entry]:
    """Past what has no name and is merely passed on: ``x W1`` in ``z1 = x W1 + b1`` has the derivative of z1."""
    while q.name is None and q is not replay.root and len(q.readers) == 1:
        step, i = q.readers[0]
        if not step.sent or step.sent[i] is None or len(step.outs) != 1 or step.out.grad is None:
            break
        try:
            (jacobian,) = column(step, i, entry)
        except NotImplementedError:
            break
        flat = np.flatnonzero(jacobian)
        if flat.size != 1 or jacobian.reshape(-1)[flat[0]] != 1:
            break
        q, entry = step.out, tuple(int(n) for n in np.unravel_index(int(flat[0]), step.out.array.shape))
    return q, entry
