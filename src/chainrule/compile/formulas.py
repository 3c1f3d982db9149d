"""Ops that are not primitive, written in ops that the emitter knows: reductions, layout, class losses.

Each gives the op's outputs followed by its residuals; None leaves the op as it is. They follow the NumPy bodies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.op import registry
from ..core.variable import wrap

__all__ = ["FORMULAS", "call", "constant", "formula", "mean_of", "total"]

FORMULAS: dict[str, Callable[..., Any]] = {}


def formula(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def keep(f: Callable[..., Any]) -> Callable[..., Any]:
        FORMULAS[name] = f
        return f

    return keep


def call(name: str, *args: Any, **params: Any) -> Any:
    return registry[name].call(*args, **params)


def constant(array: Any) -> Any:
    """An array that nobody else can change, as a tensor."""
    array = np.array(array)
    array.flags.writeable = False
    return wrap(array)


def total(x: Any, dim: Any, keepdim: bool = True) -> Any:
    return call("sum", x, dim=dim, keepdim=keepdim)


def mean_of(x: Any, over: tuple[int, ...]) -> Any:
    return total(x, over) / math.prod(x.shape[a] for a in over)


def _dtype(x: Any) -> np.dtype[Any]:
    return x._array.dtype


def _all_axes(x: Any, dim: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)


# --- reductions -----------------------------------------------------------------------------------------------------


def _counted(x: Any, relation: str, dim: Any, keepdim: bool) -> Any:
    return total(call("cast", call(relation, x, 0), dtype=np.dtype(np.int64)), dim, keepdim)


@formula("count_nonzero")
def _count_nonzero(x: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    return _counted(x, "ne", dim, keepdim)


@formula("any")
def _any(x: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    return call("ne", _counted(x, "ne", dim, keepdim), 0)


@formula("all")
def _all(x: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    return call("eq", _counted(x, "eq", dim, keepdim), 0)


def _first_extreme(x: Any, reduce: str, dim: Any, keepdim: bool) -> Any:
    if x.ndim == 0 or 0 in x.shape or _dtype(x).kind == "b":
        return None
    shape = (1,) * x.ndim if dim is None and keepdim else None
    if dim is None:
        x, dim = call("reshape", x, shape=(math.prod(x.shape),)), 0
    n = x.shape[dim]
    best = call(reduce, x, dim=(dim,), keepdim=True)
    hit = call("eq", x, best)
    if _dtype(x).kind == "f":
        hit = call("logical_or", hit, call("ne", x, x))  # the first NaN, where there is one
    number = constant(np.arange(n, dtype=np.int32).reshape(n, *(1,) * (x.ndim - 1 - dim)))
    first = call("amin", call("where", hit, number, n - 1), dim=(dim,), keepdim=keepdim if shape is None else False)
    out = call("cast", first, dtype=np.dtype(np.int64))
    return out if shape is None else call("reshape", out, shape=shape)


@formula("argmax")
def _argmax(x: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    return _first_extreme(x, "amax", dim, keepdim)


@formula("argmin")
def _argmin(x: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    return _first_extreme(x, "amin", dim, keepdim)


@formula("logsumexp")
def _logsumexp(x: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    if 0 in x.shape or x.ndim == 0:
        return None
    axes = _all_axes(x, dim)
    high = call("amax", x, dim=axes, keepdim=True)
    high = call("where", call("isfinite", high), high, 0.0)
    y = call("log", total(call("exp", x - high), axes)) + high
    return y if keepdim else call("reshape", y, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


@formula("norm")
def _norm(x: Any, *, p: float = 2.0, dim: Any = None, keepdim: bool = False) -> Any:
    if 0 in x.shape or x.ndim == 0 or _dtype(x).kind != "f":
        return None
    if p == 2:
        return call("sqrt", total(x * x, dim, keepdim))
    if p == 0:
        return total(call("cast", call("ne", x, 0), dtype=_dtype(x)), dim, keepdim)
    size = call("abs", x)
    if p == 1:
        return total(size, dim, keepdim)
    if math.isinf(p):
        return call("amax" if p > 0 else "amin", size, dim=dim, keepdim=keepdim)
    return call("pow", total(call("pow", size, p), dim, keepdim), 1 / p)


@formula("product_of_others")
def _product_of_others(x: Any, *, dim: int) -> Any:
    def before(v: Any) -> Any:
        return call("shift", call("cumprod", v, dim=dim), dim=dim, fill=1.0)

    return before(x) * call("flip", before(call("flip", x, dims=(dim,))), dims=(dim,))


@formula("clamp_between")
def _clamp_between(x: Any, low: Any, high: Any) -> Any:
    if low is not None:
        x = call("maximum", x, low)
    return x if high is None else call("minimum", x, high)


# --- layout: parts of arrays and copies of them ---------------------------------------------------------------------

_EVERYTHING = slice(None)


@formula("flip")
def _flip(x: Any, *, dims: Any) -> Any:
    turned = {d % x.ndim for d in dims}
    return call("getitem", x, key=tuple(slice(None, None, -1 if i in turned else None) for i in range(x.ndim)))


@formula("roll")
def _roll(x: Any, *, shifts: Any, dims: Any) -> Any:
    if dims is None or 0 in x.shape:
        return None
    for s, d in zip(shifts, dims, strict=True):
        lead = (_EVERYTHING,) * (d % x.ndim)
        cut = -s % x.shape[d]
        if cut:
            parts = (call("getitem", x, key=(*lead, part)) for part in (slice(cut, None), slice(0, cut)))
            x = call("cat", *parts, dim=d)
    return x


def _triangle(x: Any, diagonal: int, relation: str) -> Any:
    n, m = x.shape[-2:]
    if n * m == 0 or 0 in x.shape:
        return None
    offset = constant(np.arange(m, dtype=np.int32)) - constant(np.arange(n, dtype=np.int32)[:, None])
    mask = call(relation, offset, diagonal)
    return call("logical_and", x, mask) if _dtype(x).kind == "b" else call("where", mask, x, 0)


@formula("tril")
def _tril(x: Any, *, diagonal: int) -> Any:
    return _triangle(x, diagonal, "le")


@formula("triu")
def _triu(x: Any, *, diagonal: int) -> Any:
    return _triangle(x, diagonal, "ge")


@formula("pad_constant")
def _pad_constant(x: Any, *, widths: Any, value: float) -> Any:
    if all(a >= 0 and b >= 0 for pair in widths for a, b in [pair]):
        return None  # placed by the emitter
    cut = [slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, widths, strict=True)]
    x = call("getitem", x, key=tuple(cut))
    return call("pad_constant", x, widths=tuple((max(a, 0), max(b, 0)) for a, b in widths), value=value)


@formula("shift")
def _shift(x: Any, *, dim: int, reverse: bool = False, fill: float = 0.0) -> Any:
    if x.ndim == 0 or 0 in x.shape:
        return None
    lead = (_EVERYTHING,) * (dim % x.ndim)
    kept = call("getitem", x, key=(*lead, slice(1, None) if reverse else slice(0, x.shape[dim] - 1)))
    width = [(0, 0)] * x.ndim
    width[dim] = (0, 1) if reverse else (1, 0)
    return call("pad_constant", kept, widths=tuple(width), value=fill)


@formula("boundary")
def _boundary(*xs: Any) -> Any:
    return xs


@formula("overwrite")
def _overwrite(x: Any, v: Any) -> Any:
    return call("clone", v)


@formula("fold")
def _fold(x: Any, *, shape: Any, dim: int, size: int, step: int) -> Any:
    if size > 32 or 0 in x.shape:
        return None
    out: Any = None
    for k in range(size):
        key = (*(_EVERYTHING,) * dim, slice(k, k + (x.shape[dim] - 1) * step + 1, step))
        key = (*key, *(_EVERYTHING,) * (len(shape) - len(key)))
        part = call("place", call("getitem", x, key=(Ellipsis, k)), key=key, shape=tuple(shape))
        out = part if out is None else out + part
    return out


# --- losses over classes --------------------------------------------------------------------------------------------


def _class_axis(x: Any) -> int:
    return 1 if x.ndim > 1 else 0


def _coefficients(
    target: Any, weight: Any, hot: Any, axis: int, dtype: Any, ignore_index: int, reduction: str, plain: bool
) -> tuple[Any, Any]:
    """Each sample's factor (one number where all count the same), and the sum it was divided by (None: no mean)."""
    if plain and weight is None:
        n = target._array.size
        return constant(np.full((), 1 / n if reduction == "mean" else 1, dtype)), None
    valid = call("cast", call("ne", target, ignore_index), dtype=np.dtype(dtype))
    if weight is None:
        c = valid
    else:
        per_class = call("reshape", weight, shape=(weight.shape[0], *(1,) * (hot.ndim - axis - 1)))
        c = total(call("where", hot, per_class, 0.0), (axis,), False)
        c = c if plain else c * valid
    if reduction != "mean":
        return c, None
    n = total(c, None, False)
    return c / call("where", n == 0, 1.0, n), n  # all ignored: the loss is NaN, the gradient 0


def _class_loss(logp: Any, c: Any, n: Any, reduction: str) -> Any:
    loss = -c * logp if c.ndim == 0 and logp.ndim else call("where", c == 0, 0.0, -c * logp)
    if reduction == "none":
        return loss
    loss = total(loss, None, False)
    return loss if n is None else call("where", n == 0, math.nan, loss)


def _at_targets(hot: Any, x: Any, axis: int) -> Any:
    return total(call("where", hot, x, 0.0), (axis,), False)


def _too_small(x: Any) -> bool:
    return 0 in x.shape or x.ndim == 0 or x.shape[_class_axis(x)] < 2


@formula("cross_entropy")
def _cross_entropy(x: Any, target: Any, weight: Any, *, ignore_index: int, reduction: str, plain: bool = False) -> Any:
    if _too_small(x):
        return None
    axis = _class_axis(x)
    hot = call("one_hot", target, classes=x.shape[axis], dim=axis)
    c, n = _coefficients(target, weight, hot, axis, _dtype(x), ignore_index, reduction, plain)
    s = x - call("amax", x, dim=(axis,), keepdim=True)
    e = call("exp", s)
    below = total(e, (axis,))
    p = e / below
    logp = _at_targets(hot, s, axis) - call("reshape", call("log", below), shape=tuple(target.shape))
    if plain and weight is None:
        d = constant(np.full((), target._array.size if reduction == "mean" else 1, _dtype(x)))
    else:
        d = call("where", c == 0, math.inf, 1 / c)
    return _class_loss(logp, c, n, reduction), p, d


@formula("nll")
def _nll(x: Any, target: Any, weight: Any, *, ignore_index: int, reduction: str) -> Any:
    if _too_small(x):
        return None
    axis = _class_axis(x)
    hot = call("one_hot", target, classes=x.shape[axis], dim=axis)
    c, n = _coefficients(target, weight, hot, axis, _dtype(x), ignore_index, reduction, False)
    return _class_loss(_at_targets(hot, x, axis), c, n, reduction)


@formula("class_coefficients")
def _class_coefficients(
    target: Any, weight: Any, *, classes: int, dtype: Any, ignore_index: int, reduction: str, plain: bool = False
) -> Any:
    if 0 in target.shape or classes < 2:
        return None
    if plain and weight is None:
        return constant(np.full((), 1 / target._array.size if reduction == "mean" else 1, dtype))
    axis = min(1, target.ndim)
    hot = call("one_hot", target, classes=classes, dim=axis)
    return _coefficients(target, weight, hot, axis, dtype, ignore_index, reduction, plain)[0]
