"""Running sums and products along one axis, and the linear recurrence that their gradients are."""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .elementwise import exp

# ruff: noqa: ANN001, ANN202


def _along_calls(r):
    for back in (False, True):
        yield r.normal(size=(2, 3)), {"dim": 1, "reverse": back}
        yield r.normal(size=(3, 2, 2)), {"dim": 0, "reverse": back}
    yield np.asarray(r.normal()), {"dim": 0}
    yield r.normal(size=(0, 2)), {"dim": 1}


@op("*s -> *s", formula="running sum of {x}", samples=calls(_along_calls))
def cumsum(x, *, dim, reverse=False):
    """Running sum along one axis, yᵢ = Σ of xⱼ for j ≤ i (with ``reverse``: j ≥ i)."""
    if x.ndim == 0:
        return x.copy()
    if reverse:
        return np.flip(np.add.accumulate(np.flip(x, dim), axis=dim), dim)
    return np.add.accumulate(x, axis=dim)


@cumsum.vjp("x", math="x̄ = running sum of ȳ from the other end")
def _(g, dim, reverse):
    return cumsum(g, dim=dim, reverse=not reverse)


@op("*s -> *s", formula="{x} shifted by one", samples=calls(_along_calls))
def shift(x, *, dim, reverse=False, fill=0.0):
    """Entries moved by one along an axis (backwards with ``reverse``); ``fill`` enters at the end left free."""
    if x.ndim == 0:
        return np.full_like(x, fill)
    out = np.empty_like(x)
    to, source = [slice(None)] * x.ndim, [slice(None)] * x.ndim
    free = [slice(None)] * x.ndim
    to[dim], source[dim] = slice(1, None), slice(None, -1)
    free[dim] = slice(0, 1)
    if reverse:
        to, source = source, to
        free[dim] = slice(-1, None)
    out[tuple(to)] = x[tuple(source)]
    out[tuple(free)] = fill
    return out


@shift.vjp("x", math="x̄ = ȳ shifted back")
def _(g, dim, reverse):
    return shift(g, dim=dim, reverse=not reverse)


@op("*s -> *s", formula="running product of {x}",
    samples=calls(lambda r: [(r.normal(size=(2, 3)), {"dim": 1}), (np.array([1.0, 0.0, 3.0, 0.0]), {"dim": 0}),
                             (np.asarray(r.normal()), {"dim": 0}), (np.zeros((0, 2)), {"dim": 1})]))  # fmt: skip
def cumprod(x, *, dim):
    """Running product along one axis, yᵢ = Π of xⱼ for j ≤ i."""
    return np.multiply.accumulate(x, axis=dim) if x.ndim else x.copy()


@cumprod.vjp("x", math="x̄ₖ = (Π of x before k) · sₖ with sₖ = ȳₖ + xₖ₊₁ · sₖ₊₁")
def _(g, x, dim):
    # Exact where entries are zero, unlike running sums of ȳ · y divided by x.
    before = shift(cumprod(x, dim=dim), dim=dim, fill=1.0)
    return before * recurrence(g, shift(x, dim=dim, reverse=True), dim=dim, reverse=True)


@op("*s, *s -> *s", formula="y with yᵢ = {a}ᵢ + {b}ᵢ · yᵢ₋₁", samples=calls(
    lambda r: [(r.normal(size=(2, 4)), r.normal(size=(2, 4)), {"dim": 1, "reverse": back}) for back in (False, True)]
    + [(r.normal(size=()), r.normal(size=()), {"dim": 0})]))  # fmt: skip
def recurrence(a, b, *, dim, reverse=False):
    """The linear recurrence yᵢ = aᵢ + bᵢ · yᵢ₋₁ along one axis, from zero (with ``reverse``: from the end)."""
    if a.ndim == 0:
        return a.copy()
    y = np.moveaxis(np.array(a), dim, 0)
    b = np.moveaxis(b, dim, 0)
    n = len(y)
    steps = range(n - 2, -1, -1) if reverse else range(1, n)
    back = 1 if reverse else -1
    for i in steps:
        y[i] += b[i] * y[i + back]
    return np.moveaxis(y, 0, dim)


@recurrence.vjp("a", math="ā with āᵢ = ȳᵢ + bᵢ₊₁ · āᵢ₊₁")
def _(g, b, dim, reverse):
    return recurrence(g, shift(b, dim=dim, reverse=not reverse), dim=dim, reverse=not reverse)


@recurrence.vjp("b", math="b̄ᵢ = āᵢ · yᵢ₋₁")
def _(g, out, b, dim, reverse):
    a_bar = recurrence(g, shift(b, dim=dim, reverse=not reverse), dim=dim, reverse=not reverse)
    return a_bar * shift(out, dim=dim, reverse=reverse)


@op("*s -> *s", formula="log of the running sum of exp({x})", samples=calls(_along_calls))
def logcumsumexp(x, *, dim, reverse=False):
    """Logarithm of the running sum of eˣ along one axis."""
    if x.ndim == 0:
        return x.copy()
    if reverse:
        return np.flip(np.logaddexp.accumulate(np.flip(x, dim), axis=dim), dim)
    return np.logaddexp.accumulate(x, axis=dim)


@logcumsumexp.vjp("x", math="x̄ᵢ = exp(xᵢ − yᵢ) · sᵢ with sᵢ = ȳᵢ + exp(yᵢ − yᵢ₊₁) · sᵢ₊₁")
def _(g, out, x, dim, reverse):
    # x̄ᵢ = Σ over j ≥ i of ȳⱼ · exp(xᵢ − yⱼ). As y only grows, no exponent here is positive.
    decay = exp(out - shift(out, dim=dim, reverse=not reverse, fill=float("inf")))
    return exp(x - out) * recurrence(g, decay, dim=dim, reverse=not reverse)
