"""a = c·n: which constant is it, and where does it come from?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .evidence import Evidence
from .hypothesis import Hypothesis

__all__ = ["constant_ratio", "name_factor"]


def constant_ratio(ev: Evidence, name: str) -> float | None:
    """The c with analytic = c · numeric in every known entry of one parameter; None when there is none."""
    n, a = ev.numeric[name], ev.analytic[name]
    known = ev.known(name) & np.isfinite(ev.error[name])
    if not known.any():
        return None
    n, a, error = n[known], a[known], ev.error[name][known]
    k = int(np.argmax(np.abs(n)))
    if n[k] == 0 or abs(n[k]) < 10 * error[k]:
        return None
    c = float(a @ n) / float(n @ n) if abs(n[k]) > 1e-150 else a[k] / n[k]
    allowed = max(abs(c), 1.0) * (5 * error + 2e-6 * np.max(np.abs(n)))
    if a.size < 2 and not _plain(ev, c):  # one entry is always some multiple of another
        return None
    if c == 0 or not math.isfinite(c) or _is(c, 1) or np.any(np.abs(a - c * n) > allowed):
        return None
    return c


def _plain(ev: Evidence, c: float) -> bool:
    """A factor that needs no further evidence: a sign, a small integer, a size of the data, or one over it."""
    size = abs(c)
    known = [1, 2, 3, 4, *(n for n in ev.problem.dims)]
    return any(_is(size, x) or _is(size, 1 / x) for x in known)


def _sizes(ev: Evidence) -> Iterator[tuple[int, str]]:
    yield from ev.problem.dims.items()


def _is(c: float, value: float) -> bool:
    return math.isclose(c, value, rel_tol=2e-5)


def name_factor(ev: Evidence, c: float, names: tuple[str, ...]) -> Hypothesis:
    """Put a name to the factor."""
    everything = len(names) == len(ev.problem.point)
    which = "the whole gradient" if everything else "d" + ", d".join(names[:4])
    shown = f"analytic / numeric = {c:.8g} in every measured entry of {', '.join(names[:4])}"
    if _is(c, -1):
        return Hypothesis(
            "sign",
            f"the sign of {which} is flipped",
            shown,
            "negate it: look for (y − p) in place of (p − y), or a lost minus",
            names,
            1.1,
        )
    size = abs(c)
    sign = "of the wrong sign and " if c < 0 else ""
    kind = "sign" if c < 0 else "factor"
    # A batch size explains a 2 only when there is nothing simpler to explain it: 2 and ½ come first.
    if _is(size, 2):
        extra = _also(ev, 2)
        return Hypothesis(
            kind,
            f"{which} is {sign}2 times too large",
            shown,
            f"divide by 2 (a square's 2 counted twice, or a ½ in the loss){extra}",
            names,
            1.05,
        )
    if _is(size, 0.5):
        extra = _also(ev, 2)
        return Hypothesis(
            kind,
            f"{which} is {sign}half of what it should be",
            shown,
            f"multiply by 2: d(x²)/dx = 2x, the 2 of the MSE is missing{extra}",
            names,
            1.05,
        )
    for n, meaning in _sizes(ev):
        if _is(size, n):
            kind = "sign" if c < 0 else "sum-mean"
            title = f"{which} is {sign}{n} times too large: gradient of the sum, but the loss is the mean"
            return Hypothesis(
                kind,
                title,
                f"{shown}; {meaning}",
                f"divide by {n} (once, where the loss is differentiated)",
                names,
                1.04,
            )
        if _is(size, 1 / n):
            kind = "sign" if c < 0 else "sum-mean"
            title = f"{which} is {sign}{n} times too small: mean in place of sum (or divided by N twice)"
            return Hypothesis(
                kind,
                title,
                f"{shown} = 1/{n}; {meaning}",
                f"use sum in place of mean, or remove one division by {n}",
                names,
                1.04,
            )
    counts = {
        n: m for n, m in _sizes(ev) if (m.startswith(("N =", "the ")) and " elements of " in m) or m.startswith("N =")
    }
    for n, meaning in _sizes(ev):
        if n in counts and _is(size, 2 / n):
            return Hypothesis(
                "sum-mean",
                f"{which} is {sign}2/{n} of what it should be: (2/n) of the mean, but the loss is a sum of halves",
                f"{shown} = 2/{n}; {meaning}",
                f"multiply by {n}/2",
                names,
                1.0,
            )
        if n in counts and _is(size, n / 2):
            return Hypothesis(
                "sum-mean",
                f"{which} is {sign}{n}/2 times too large: the (2/n) of the MSE is missing",
                f"{shown} = {n}/2; {meaning}",
                f"multiply by 2/{n}",
                names,
                1.0,
            )
        if n in counts and (_is(size, n * n) or _is(size, 1 / n**2)):
            return Hypothesis(
                "sum-mean",
                f"{which} is {sign}off by {n}²: N is counted twice",
                f"{shown}; {meaning}",
                f"{'divide' if size > 1 else 'multiply'} by {n}²",
                names,
                0.98,
            )
        if _is(size, math.sqrt(n)) or _is(size, 1 / math.sqrt(n)):
            return Hypothesis(
                "factor",
                f"{which} is {sign}off by √{n}: a scale 1/√d is missing or doubled",
                f"{shown}; {meaning}",
                f"{'divide' if size > 1 else 'multiply'} by √{n}",
                names,
                0.98,
            )
    a = math.sqrt(sum(float(np.sum(ev.analytic[k] ** 2)) for k in names))
    if everything and any(_is(a, x) for x in (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)) and size < 1:
        return Hypothesis(
            "clip",
            f"the gradient's norm is clipped to {a:.4g}",
            f"{shown}, and its norm is exactly {a:.6g}",
            "clip after the check, outside the gradient function",
            names,
            1.0,
        )
    nice = _nice(size)
    rate = next(
        (f"{k} = {v}" for k, v in ev.problem.numbers.items() if v and (_is(size, abs(v)) or _is(size, 1 / abs(v)))), ""
    )
    why = f" ({rate})" if rate else ""
    return Hypothesis(
        kind,
        f"{which} is {'-' if c < 0 else ''}{nice} times the right one{why}",
        shown,
        f"divide by {nice}: a constant factor is too many (a learning rate or scale applied twice?)",
        names,
        0.97,
    )


def _also(ev: Evidence, n: int) -> str:
    meaning = ev.problem.dims.get(n)
    return f"; or {meaning}: sum and mean confused" if meaning else ""


def _nice(c: float) -> str:
    from fractions import Fraction

    f = Fraction(c).limit_denominator(64)
    if f.denominator > 1 and math.isclose(float(f), c, rel_tol=2e-6):
        return f"{f.numerator}/{f.denominator}"
    return f"{c:.6g}"
