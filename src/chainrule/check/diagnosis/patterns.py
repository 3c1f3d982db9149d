"""Mistakes that show in the numbers alone: the wrong gradient as a formula of the right one.

Each block takes the evidence and yields hypotheses. None of them reads source code; ``repair`` does that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .evidence import Evidence
from .factors import constant_ratio, name_factor
from .hypothesis import Hypothesis

__all__ = ["find_patterns", "PATTERNS"]

Pattern = Callable[[Evidence], Iterator[Hypothesis]]
PATTERNS: list[Pattern] = []


def pattern(fn: Pattern) -> Pattern:
    PATTERNS.append(fn)
    return fn


def find_patterns(evidence: Evidence) -> list[Hypothesis]:
    """All hypotheses that fit, best first: those that explain more of the wrong parameters, then the simpler ones."""
    found = [h for p in PATTERNS for h in p(evidence)]
    count = max(len(evidence.bad), 1)
    return sorted(found, key=lambda h: -(h.score + 0.5 * len(h.parameters) / count))


def listed(names: Any) -> str:
    names = list(names)
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return ", ".join(names)


@pattern
def factor(ev: Evidence) -> Iterator[Hypothesis]:
    """a = c·n with one constant c: a sign, a 2, an N …"""
    groups: dict[float, list[str]] = {}
    for name in ev.bad:
        c = constant_ratio(ev, name)
        if c is not None:
            key = next((k for k in groups if math.isclose(k, c, rel_tol=1e-4)), c)
            groups.setdefault(key, []).append(name)
    for c, names in groups.items():
        yield name_factor(ev, c, tuple(names))


@pattern
def zero(ev: Evidence) -> Iterator[Hypothesis]:
    for name in ev.bad:
        if not np.any(ev.analytic[name]):
            yield Hypothesis(
                "missing",
                f"the gradient of {name} is zero",
                f"every entry of d{name} is 0, the numeric gradient is not",
                f"compute d{name} (it is never assigned, or multiplied by 0)",
                (name,),
                0.95,
            )


@pattern
def transposed(ev: Evidence) -> Iterator[Hypothesis]:
    for name in ev.bad:
        a, n = ev.analytic[name], ev.numeric[name]
        if a.ndim < 2 or not ev.complete(name):
            continue
        for axes in itertools.permutations(range(a.ndim)):
            if axes == tuple(range(a.ndim)) or a.transpose(axes).shape != a.shape:
                continue
            if ev.same(name, a.transpose(axes)) and not ev.same(name, a):
                how = ".T" if a.ndim == 2 else f".transpose{axes}"
                yield Hypothesis(
                    "transposed",
                    f"d{name} is transposed",
                    f"d{name}{how} equals the numeric gradient",
                    f"use d{name}{how} (swap the factors of the product: (A @ B).T = B.T @ A.T)",
                    (name,),
                    0.97,
                )
                break
        del n


@pattern
def reversed_axes(ev: Evidence) -> Iterator[Hypothesis]:
    """a = n with axes reversed: a convolution's kernel that should (not) have been flipped."""
    for name in ev.bad:
        a = ev.analytic[name]
        if not ev.complete(name) or a.ndim == 0:
            continue
        axes = [i for i in range(a.ndim) if a.shape[i] > 1]
        for count in range(1, min(len(axes), 3) + 1):
            hits = [
                c for c in itertools.combinations(axes, count) if ev.same(name, np.flip(a, c)) and not ev.same(name, a)
            ]
            if hits:
                c = hits[0]
                where = (
                    "its spatial axes"
                    if c == tuple(range(a.ndim - count, a.ndim)) and a.ndim > 1
                    else f"axis {', '.join(map(str, c))}"
                )
                yield Hypothesis(
                    "flip",
                    f"d{name} is reversed along {where}: the kernel is flipped where it should not "
                    f"be, or the other way round",
                    f"np.flip(d{name}, {c}) equals the numeric gradient",
                    "a convolution's input gradient uses the flipped kernel w[..., ::-1, ::-1]; its "
                    "weight gradient none",
                    (name,),
                    0.96,
                )
                break


@pattern
def swapped(ev: Evidence) -> Iterator[Hypothesis]:
    for p, q in itertools.combinations(ev.bad, 2):
        if ev.analytic[p].shape == ev.analytic[q].shape and ev.same(p, ev.analytic[q]) and ev.same(q, ev.analytic[p]):
            yield Hypothesis(
                "swapped",
                f"the gradients of {p} and {q} are swapped",
                f"d{p} equals the numeric gradient of {q}, and d{q} that of {p}",
                f"exchange d{p} and d{q} where they are returned",
                (p, q),
                1.2,
            )


@pattern
def shifted(ev: Evidence) -> Iterator[Hypothesis]:
    """Off by one: rolled along an axis, or the first or last slice never filled."""
    for name in ev.bad:
        a, n = ev.analytic[name], ev.numeric[name]
        if not ev.complete(name):
            continue
        for axis in range(a.ndim):
            length = a.shape[axis]
            if length < 2:
                continue
            for k in (1, -1):
                inner = [slice(None)] * a.ndim
                inner[axis] = slice(1, None) if k == -1 else slice(None, -1)
                other = [slice(None)] * a.ndim
                other[axis] = slice(None, -1) if k == -1 else slice(1, None)
                x, y = a[tuple(other)], n[tuple(inner)]
                top = np.max(np.abs(n))
                if (
                    length > 2
                    and np.any(y)
                    and np.all(np.abs(x - y) <= 1e-6 * top)
                    and not np.all(np.abs(y - y.reshape(-1)[0]) <= 1e-6 * top)
                ):
                    yield Hypothesis(
                        "off-by-one",
                        f"d{name} is shifted by one along axis {axis}",
                        f"d{name} at index i{'+' if k > 0 else '-'}1 is the numeric gradient at index i",
                        "an index or a slice is off by one (t for t-1, [1:] for [:-1])",
                        (name,),
                        0.95,
                    )
            wrong = _wrong_slices(ev, name, axis)
            if (
                0 < len(wrong) <= length // 2
                and all(not np.any(np.take(a, i, axis)) for i in wrong)
                and set(wrong) & {0, length - 1}
                and len(wrong) == 1
            ):
                where = "first" if wrong[0] == 0 else "last"
                yield Hypothesis(
                    "off-by-one",
                    f"the {where} slice of d{name} along axis {axis} is never filled",
                    f"d{name} is right everywhere except at index {wrong[0]} of axis {axis}, where it is 0",
                    "a loop or slice ends one too early (or starts one too late)",
                    (name,),
                    0.9,
                )


def _wrong_slices(ev: Evidence, name: str, axis: int) -> list[int]:
    a, n, error = ev.analytic[name], ev.numeric[name], ev.error[name]
    top = float(np.nanmax(np.abs(n))) if n.size else 0.0
    off = np.abs(a - n) > 5 * error + 2e-6 * top
    others = tuple(i for i in range(a.ndim) if i != axis)
    return [int(i) for i in np.flatnonzero(off.any(axis=others))]


@pattern
def regulariser(ev: Evidence) -> Iterator[Hypothesis]:
    """a − n = λ·w: a weight penalty that is in the loss or in the gradient, but not in both."""
    found: dict[tuple[str, float], list[str]] = {}
    for name in ev.bad:
        w = ev.problem.point[name]
        known = ev.known(name)
        if known.sum() < 2 or np.ptp(w[known]) == 0:
            continue
        gap = (ev.analytic[name] - ev.numeric[name])[known]
        for what, shape in (("w", w[known]), ("sign(w)", np.sign(w[known]))):
            bottom = float(shape @ shape)
            if bottom == 0:
                continue
            lam = float(gap @ shape) / bottom
            allowed = 5 * ev.error[name][known] + 3e-6 * np.max(np.abs(gap))
            if (
                lam
                and np.max(np.abs(gap) - 5 * ev.error[name][known]) > 0
                and np.all(np.abs(gap - lam * shape) <= allowed)
            ):
                key = next((k for k in found if k[0] == what and math.isclose(k[1], lam, rel_tol=1e-3)), (what, lam))
                found.setdefault(key, []).append(name)
    for (what, lam), names in found.items():
        where = (
            "the gradient has a term that the loss has not"
            if lam > 0
            else "the loss has a penalty whose gradient is missing"
        )
        penalty = "½λ·Σw²" if what == "w" else "λ·Σ|w|"
        yield Hypothesis(
            "regulariser",
            f"a regulariser in only one of the two: {where}",
            f"analytic − numeric = {lam:.6g}·{what} in every entry of {listed(names)} (a penalty "
            f"{penalty} with λ = {abs(lam):.6g})",
            f"{'remove' if lam > 0 else 'add'} {abs(lam):.6g} * {what.replace('w', names[0])} "
            f"{'from' if lam > 0 else 'to'} d{names[0]}",
            tuple(names),
            1.0,
        )


@pattern
def overreduced(ev: Evidence) -> Iterator[Hypothesis]:
    """All entries hold the sum or mean of the right gradient: reduced over one axis too many, then broadcast."""
    for name in ev.bad:
        a, n = ev.analytic[name], ev.numeric[name]
        if a.size < 2 or not ev.complete(name):
            continue
        for axis in (None, *range(a.ndim)):
            if a.ndim == 1 and axis == 0:
                continue
            for how, reduce in (("sum", np.sum), ("mean", np.mean)):
                candidate = np.broadcast_to(reduce(n, axis=axis, keepdims=True), n.shape)
                if np.any(candidate) and ev.same(name, a, candidate) and not ev.same(name, a):
                    over = "all axes" if axis is None else f"axis {axis}"
                    yield Hypothesis(
                        "axis",
                        f"d{name} is reduced over {over} too, then broadcast back",
                        f"every entry holds the {how} of the right gradient over {over}",
                        f"sum over the batch only: .sum(axis=0) in place of .{how}()",
                        (name,),
                        0.9,
                    )
                    break


@pattern
def integers(ev: Evidence) -> Iterator[Hypothesis]:
    for name in ev.bad:
        a, n = ev.analytic[name], ev.numeric[name]
        known = ev.known(name)
        if known.sum() < 2 or not np.all(a == np.round(a)):
            continue
        inside = np.abs(n[known] - np.round(n[known])) > 1e-4
        for how, fn in (("truncated", np.trunc), ("rounded down", np.floor), ("rounded", np.round)):
            near = n[known] + 1e-9 * np.sign(n[known]) if how == "truncated" else n[known]
            if inside.any() and np.array_equal(a[known], fn(near)):
                kind = ev.problem.given[name].dtype
                yield Hypothesis(
                    "dtype",
                    f"d{name} is {how} to integers",
                    f"d{name} = {how} numeric gradient in every entry (dtype {kind})",
                    "an integer array holds the gradient: np.zeros_like(x) of integers is an integer "
                    "array; use dtype=float, / for //",
                    (name,),
                    1.0,
                )
                break


@pattern
def low_precision(ev: Evidence) -> Iterator[Hypothesis]:
    names = []
    for name in ev.bad:
        a, n = ev.analytic[name], ev.numeric[name]
        known = ev.known(name)
        size = np.max(np.abs(n[known]), initial=0.0)
        gap = np.max(np.abs(a[known] - n[known]), initial=0.0)
        with np.errstate(over="ignore"):
            half = np.all(a.astype(np.float16).astype(float) == a) and np.any(a)
        if size and gap < 2e-2 * size and (half or gap < 3e-5 * size):
            names.append(name)
    if names and len(names) == len(ev.bad):
        yield Hypothesis(
            "dtype",
            "the gradient is computed in too low a precision",
            f"all entries of {listed(names)} agree to a few digits only, as float16 or float32 rounding would give",
            "compute in float64 for the check (look for astype, dtype=np.float32, float16 arrays)",
            tuple(names),
            0.6,
        )


@pattern
def upstream(ev: Evidence) -> Iterator[Hypothesis]:
    """The upstream gradient ȳ alone, not at all, or added: what a backward of one op gets wrong most often."""
    y = ev.problem.cotangent
    for name in ev.bad:
        a, n = ev.analytic[name], ev.numeric[name]
        if y is None or y.shape != a.shape or a.size < 2 or not np.all(y):
            continue
        slope = n / y
        for shown, kind, title, fix in (
            (y, "activation", "the local derivative is missing", "multiply the upstream gradient by the derivative"),
            (-y, "activation", "the local derivative is missing", "multiply the upstream gradient by the derivative"),
            (slope, "missing-factor", "the upstream gradient is missing", "multiply by the upstream gradient g"),
            (y + slope, "wrong-operation", "the upstream gradient is added, not multiplied", "g * it, not g + it"),
            (y / slope if np.all(slope) else n, "wrong-operation", "the upstream gradient is divided by the derivative",
             "g * derivative, not g / derivative"),
        ):  # fmt: skip
            if ev.same(name, a, shown) and not ev.same(name, a):
                evidence = f"every entry of d{name} fits that, for the upstream gradient that was passed in"
                yield Hypothesis(kind, f"{title} in d{name}", evidence, fix, (name,), 0.98)
                break


@pattern
def clipped(ev: Evidence) -> Iterator[Hypothesis]:
    for name in ev.bad:
        a, n = ev.analytic[name], ev.numeric[name]
        top = float(np.max(np.abs(a), initial=0.0))
        known = ev.known(name)
        if (
            top
            and known.sum() > 1
            and ev.same(name, a, np.clip(n, -top, top))
            and np.sum(np.abs(a) >= top * (1 - 1e-12)) > 1
        ):
            yield Hypothesis(
                "clip",
                f"d{name} is clipped to ±{top:.4g}",
                f"entries inside ±{top:.4g} are right; the others sit at the limit",
                "clip after the check, outside the gradient function",
                (name,),
                0.98,
            )


@pattern
def absolute(ev: Evidence) -> Iterator[Hypothesis]:
    for name in ev.bad:
        a, n = ev.analytic[name], ev.numeric[name]
        known = ev.known(name)
        if known.sum() > 1 and np.any(n[known] > 0) and ev.same(name, a, np.abs(n)):
            yield Hypothesis(
                "sign",
                f"the sign of negative entries of d{name} is lost",
                f"d{name} = |numeric gradient|",
                "remove the abs()",
                (name,),
                0.97,
            )


@pattern
def blocks(ev: Evidence) -> Iterator[Hypothesis]:
    """Equal blocks along an axis (the four gates of an LSTM, the heads, q/k/v) that are exchanged or scaled."""
    for name in ev.bad:
        a, n = ev.analytic[name], ev.numeric[name]
        if not ev.complete(name):
            continue
        for axis, count in (
            (i, c) for i in range(a.ndim) for c in (2, 3, 4) if a.shape[i] % c == 0 and a.shape[i] >= c
        ):
            if a.size == count and count == a.shape[axis] and a.size < 3:
                continue
            pa, pn = np.split(a, count, axis), np.split(n, count, axis)
            top = np.max(np.abs(n))
            tolerance = 5 * np.max(ev.error[name]) + 2e-6 * top
            equal = [[bool(np.max(np.abs(x - y)) <= tolerance) for y in pn] for x in pa]
            wrong = [i for i in range(count) if not equal[i][i]]
            if len(wrong) >= 2 and all(sum(equal[i]) == 1 for i in wrong):
                yield Hypothesis(
                    "swapped",
                    f"blocks {wrong} of d{name} along axis {axis} (of {count}) are exchanged",
                    "each wrong block equals the numeric gradient of another block",
                    "put the blocks in the forward's order",
                    (name,),
                    0.9,
                )
                break
            if len(wrong) == 1:
                i = wrong[0]
                bottom = float(np.sum(pn[i] ** 2))
                c = float(np.sum(pa[i] * pn[i])) / bottom if bottom else 0.0
                if c and np.max(np.abs(pa[i] - c * pn[i])) <= tolerance * max(abs(c), 1):
                    what = (
                        "its sign is flipped"
                        if math.isclose(c, -1, rel_tol=1e-5)
                        else f"it is {c:.6g} times the right one"
                    )
                    yield Hypothesis(
                        "sign" if c < 0 else "factor",
                        f"one block of d{name} is wrong: block {i} of {count} along axis {axis}, {what}",
                        f"the other {count - 1} blocks are right",
                        f"look at the line that computes this part of d{name}",
                        (name,),
                        0.85,
                    )
                    break
