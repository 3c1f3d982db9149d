"""Ops that are not primitive, written in ops that the emitter knows.

Where an op names the composite that it is equal to (``derived``), that is used. The others stand here: the same
formulas as the ops' NumPy bodies, in ops. Each gives the op's outputs followed by its residuals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.state import state
from ..core.variable import wrap
from ..graph.program import Instr, Program, Value
from ..graph.trace import Recorder
from ..ops.conv import out_size
from . import pools, recurrent  # noqa: F401 - they register their formulas
from .formulas import FORMULAS, formula
from .formulas import call as _call
from .formulas import mean_of as _mean_of
from .formulas import total as _sum
from .lanes import direct, images_in_lanes

__all__ = ["Check", "decompose"]

CHECKED = {"cross_entropy": 1, "nll": 1, "class_coefficients": 0}
"""Ops with integer targets, at this place, that have to be checked before the step changes anything."""


@dataclass(frozen=True, slots=True)
class Check:
    """Before a run: every target is from ``low`` to ``classes`` − 1, or ``ignore`` (with ``plain``: not ``ignore``)."""

    target: Value
    classes: int
    ignore: int | None = None
    plain: bool = False
    low: int = 0


@formula("mean")
def _mean(x: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    n = math.prod(x.shape if dim is None else [x.shape[i] for i in dim])
    return _sum(x, dim, keepdim) / n


@formula("var")
def _var(x: Any, *, dim: Any = None, keepdim: bool = False, correction: float = 1) -> Any:
    over = tuple(range(x.ndim)) if dim is None else tuple(dim)
    d = x - _mean_of(x, over)
    return _sum(d * d, dim, keepdim) / max(0, math.prod(x.shape[i] for i in over) - correction)


@formula("std")
def _std(x: Any, *, dim: Any = None, keepdim: bool = False, correction: float = 1) -> Any:
    return _call("sqrt", _var(x, dim=dim, keepdim=keepdim, correction=correction))


@formula("silu")
def _silu(x: Any) -> Any:
    return x * _call("sigmoid", x)


@formula("gelu")
def _gelu(x: Any, *, approximate: str = "none") -> Any:
    if approximate == "none":
        return x * (0.5 * (1 + _call("erf", x * math.sqrt(0.5))))
    return 0.5 * x * (1 + _call("tanh", math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))


@formula("elu")
def _elu(x: Any, *, alpha: float = 1.0, scale: float = 1.0, rate: float = 1.0) -> Any:
    low = _call("expm1", _call("where", x > 0, 0.0, x) * rate)
    return _call("where", x > 0, x * scale, low * (alpha * scale))


@formula("softplus")
def _softplus(x: Any, *, beta: float = 1.0, threshold: float = 20.0) -> Any:
    s = x * beta
    value = _call("where", s > 0, s, 0.0) + _call("log1p", _call("exp", -_call("abs", s)))
    return _call("where", s > threshold, x, value / beta)


@formula("sum_channels")
def _sum_channels(x: Any) -> Any:
    return _sum(x, (0, *range(2, x.ndim)), False)


@formula("batch_stats")
def _batch_stats(x: Any) -> Any:
    over = (0, *range(2, x.ndim))
    m = _mean_of(x, over)
    d = x - m
    v = _sum(d * d, over, False) / math.prod(x.shape[a] for a in over)
    return _call("reshape", m, shape=(x.shape[1],)), v


@formula("batch_norm")
def _batch_norm(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, *, eps: float) -> Any:
    shape = (-1, *(1,) * (x.ndim - 2))
    full = (x.shape[1], *shape[1:])
    inv_std = _call("reshape", 1 / _call("sqrt", variance + eps), shape=full)
    x_hat = (x - _call("reshape", mean, shape=full)) * inv_std
    y = x_hat if weight is None else x_hat * _call("reshape", weight, shape=full)
    if bias is not None:
        y = y + _call("reshape", bias, shape=full)
    return y if y is not x_hat else _call("clone", y), x_hat, inv_std


@formula("layer_norm")
def _layer_norm(x: Any, weight: Any, bias: Any, *, axes: int, eps: float) -> Any:
    over = tuple(range(x.ndim - axes, x.ndim))
    d = x - _mean_of(x, over)
    inv_std = 1 / _call("sqrt", _mean_of(d * d, over) + eps)
    x_hat = d * inv_std
    y = x_hat if weight is None else x_hat * weight
    if bias is not None:
        y = y + bias
    return y if y is not x_hat else _call("clone", y), x_hat, inv_std


@formula("rms_norm")
def _rms_norm(x: Any, weight: Any, *, axes: int, eps: float) -> Any:
    over = tuple(range(x.ndim - axes, x.ndim))
    inv_rms = 1 / _call("sqrt", _mean_of(x * x, over) + eps)
    x_hat = x * inv_rms
    return (_call("clone", x_hat) if weight is None else x_hat * weight), x_hat, inv_rms


@formula("lstm")
def _lstm(*inputs: Any, reverse: bool, own: bool = False) -> Any:
    x, h, c, w_ih, w_hh, b_ih, b_hh, _mask = inputs
    if not own:
        return None  # what is handed to the backward op has the NumPy bodies' layout, unless both are replaced
    t, n, i = x.shape
    k = h.shape[1]
    bias = None if b_ih is None else b_ih + b_hh  # before the product, which adds it to its tiles
    z = _call("matmul", _call("reshape", x, shape=(t * n, i)), _call("swap", w_ih))
    if bias is not None:
        z = z + bias
    steps = _call("unbind", _call("reshape", z, shape=(t, n, 4 * k)), dim=0)
    w = _call("swap", w_hh)
    acts: list[Any] = []
    cells, tanhs, states = [c], [], [h]
    for z in steps:
        parts = _call("split", z + _call("matmul", h, w), sizes=(k, k, k, k), dim=1)
        i_, f, o = (_call("sigmoid", parts[j]) for j in (0, 1, 3))
        g = _call("tanh", parts[2])
        c = f * c + i_ * g
        tc = _call("tanh", c)
        h = o * tc
        acts.append(_call("stack", i_, f, g, o, dim=0))  # made in place: nothing is copied
        cells.append(c)
        tanhs.append(tc)
        states.append(h)
    return (_call("stack", *states[1:], dim=0), c, *(_call("stack", *v, dim=0) for v in (acts, cells, tanhs, states)))


@formula("lstm_backward")
def _lstm_backward(
    g_out: Any, g_c: Any, x: Any, w_ih: Any, w_hh: Any, b_ih: Any, mask: Any, acts: Any, cells: Any, tanh_c: Any,
    states: Any, *, reverse: bool, own: bool = False,
) -> Any:  # fmt: skip
    if not own:
        return None
    t, n, k = tanh_c.shape
    given, gates, cell, tanhs = (_call("unbind", v, dim=0) for v in (g_out, acts, cells, tanh_c))
    dc, dh = g_c, None
    dzs: list[Any] = []
    for s in range(t - 1, -1, -1):
        i, f, g, o = _call("unbind", gates[s], dim=0)
        dh = given[s] if dh is None else dh + given[s]
        dc = dc + dh * (o * (1 - tanhs[s] * tanhs[s]))
        parts = (g * i * (1 - i) * dc, cell[s] * f * (1 - f) * dc, i * (1 - g * g) * dc, tanhs[s] * o * (1 - o) * dh)
        dz = _call("cat", *parts, dim=1)
        dzs.append(dz)
        dc = dc * f
        dh = _call("matmul", dz, w_hh)
    flat = _call("reshape", _call("stack", *dzs[::-1], dim=0), shape=(t * n, 4 * k))
    before = _call("stack", *_call("unbind", states, dim=0)[:-1], dim=0)
    dx = _call("reshape", _call("matmul", flat, w_ih), shape=tuple(x.shape))
    turned = _call("swap", flat)
    dw = _call("matmul", turned, _call("reshape", x, shape=(t * n, x.shape[2])))
    du = _call("matmul", turned, _call("reshape", before, shape=(t * n, k)))
    db = _sum(flat, (0,), False)
    return dx, dh, dc, dw, du, db, db


def _in_columns(x: Any, other: Any, groups: int, kernel: Any) -> bool:
    """Whether a convolution is a product with the matrix of windows: where images do not fill the lanes."""
    return groups == 1 and len(kernel) == 2 and 0 not in x.shape and 0 not in other.shape and not direct(x, other)


def _placed(x: Any, before: Any, size: Any, step: Any = (1, 1)) -> Any:
    """x in zeros of a spatial ``size``, from ``before`` on, ``step`` apart."""
    grid = x.shape[2:]
    if tuple(grid) == tuple(size):
        return x
    at = (slice(a, a + s * (m - 1) + 1, s) for a, s, m in zip(before, step, grid, strict=True))
    return _call("place", x, key=(slice(None), slice(None), *at), shape=(*x.shape[:2], *size))


def _bordered(x: Any, padding: Any) -> Any:
    return _placed(x, padding, [m + 2 * p for m, p in zip(x.shape[2:], padding, strict=True)])


def _columns(x: Any, kernel: Any, grid: Any, stride: Any, dilation: Any) -> Any:
    """Every window of (N, C, H, W): (N, C · taps, windows); one copy per tap, each in whole rows."""
    taps: list[Any] = []
    for offset in np.ndindex(*kernel):
        at = (slice(k * d, k * d + s * (t - 1) + 1, s)
              for k, d, s, t in zip(offset, dilation, stride, grid, strict=True))  # fmt: skip
        taps.append(_call("getitem", x, key=(slice(None), slice(None), *at)))
    return _call("reshape", _call("stack", *taps, dim=2), shape=(x.shape[0], x.shape[1] * len(taps), math.prod(grid)))


@formula("conv")
def _conv(x: Any, weight: Any, bias: Any, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    kernel = weight.shape[2:]
    if not _in_columns(x, weight, groups, kernel):
        return None
    o, grid = weight.shape[0], tuple(map(out_size, x.shape[2:], kernel, stride, padding, dilation))
    cols = _columns(_bordered(x, padding), kernel, grid, stride, dilation)
    y = _call("matmul", _call("reshape", weight, shape=(o, cols.shape[1])), cols)
    if bias is not None:
        y = y + _call("reshape", bias, shape=(o, 1))
    return _call("reshape", y, shape=(x.shape[0], o, *grid))


@formula("conv_weight")
def _conv_weight(x: Any, y: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    if not _in_columns(x, y, groups, kernel):
        return None
    n, o, *grid = y.shape
    cols = _columns(_bordered(x, padding), kernel, grid, stride, dilation)
    flat = _call("reshape", y, shape=(n, o, math.prod(grid)))
    total = _call("sum", _call("matmul", flat, _call("swap", cols)), dim=(0,), keepdim=False)
    return _call("reshape", total, shape=(o, x.shape[1], *kernel))


@formula("conv_input")
def _conv_input(y: Any, weight: Any, *, size: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    kernel = weight.shape[2:]
    if not _in_columns(y, weight, groups, kernel):
        return None
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    before = [r - p for r, p in zip(reach, padding, strict=True)]
    whole = [m + r for m, r in zip(size, reach, strict=True)]
    ends = [b + s * (t - 1) + 1 for b, s, t in zip(before, stride, y.shape[2:], strict=True)]
    if min(before) < 0 or any(e > n for e, n in zip(ends, whole, strict=True)):
        return None
    # Every entry of x is under the window turned by half a turn, at the tap that it came from.
    cols = _columns(_placed(y, before, whole, stride), kernel, size, (1, 1), dilation)
    o, c = weight.shape[:2]
    turned = _call("getitem", weight, key=(slice(None), slice(None), slice(None, None, -1), slice(None, None, -1)))
    w = _call("reshape", _call("permute", turned, dims=(1, 0, 2, 3)), shape=(c, o * math.prod(kernel)))
    return _call("reshape", _call("matmul", w, cols), shape=(y.shape[0], c, *size))


_LSTM = ("g_out", "g_c", "x", "w_ih", "w_hh", "b_ih", "mask", "acts", "cells", "tanh_c", "states")


def pair_recurrences(program: Program) -> Program:
    """Let an ``lstm`` and its backward share values in the layout of the formulas here, step by step.

    Only where nothing else reads them; masked and reversed sequences stay as they are.
    """
    users: dict[Value, list[Instr]] = {}
    for instr in program.instrs:
        for v in instr.values:
            users.setdefault(v, []).append(instr)
    kept = set(program.outputs) | {v for pair in program.updates for v in pair}
    rename: dict[Value, Value] = {}
    instrs: list[Instr] = []
    for instr in program.instrs:
        name, args = instr.op.name, instr.args
        if name == "lstm" and instr.op.residuals == _LSTM[7:] and args[7] is None and not instr.params["reverse"]:
            saved = instr.outs[2:]
            readers = {id(u): u for v in saved for u in users.get(v, [])}.values()
            fits = all(u.op.name == "lstm_backward" and u.op.inputs == _LSTM for u in readers)
            t, n, _ = args[0].shape
            k = args[1].shape[1]
            if fits and not any(v in kept for v in saved) and 0 not in (t, n, k) and t <= 256:
                shapes = ((t, 4, n, k), (t + 1, n, k), (t, n, k), (t + 1, n, k))
                fresh = tuple(Value(s, args[0].dtype) for s in shapes)
                rename.update(zip(saved, fresh, strict=True))
                params = {**instr.params, "own": True}
                instr = Instr(instr.op, args, params, (*instr.outs[:2], *fresh), instr.place, instr.module)
        elif name == "lstm_backward" and any(a in rename for a in instr.values):
            moved = tuple(rename.get(a, a) if isinstance(a, Value) else a for a in args)
            instr = Instr(instr.op, moved, {**instr.params, "own": True}, instr.outs, instr.place, instr.module)
        instrs.append(instr)
    return Program(list(program.inputs), dict(program.constants), instrs, list(program.outputs), list(program.updates))


def _traced(instr: Instr, function: Callable[..., Any]) -> Program | None:
    """The instruction's formula as a program over stand-ins of the arguments' shapes."""
    recorder = Recorder()
    recorder.at = (instr.place, instr.module)
    stand: dict[Value, Any] = {}
    args: list[Any] = []
    for a in instr.args:
        if isinstance(a, Value):
            if a not in stand:
                # Zeros that take no memory: only shapes and dtypes matter.
                stand[a] = recorder.input(wrap(np.broadcast_to(np.zeros((), a.dtype), a.shape)))
            args.append(stand[a])
        else:
            args.append(a)
    previous = state.grad
    state.grad = False
    try:
        with recorder, np.errstate(all="ignore"):
            result = function(*args, **instr.params)
    finally:
        state.grad = previous
    if result is None:
        return None
    results = result if isinstance(result, tuple) else (result,)
    for given, expected in zip(results, instr.outs, strict=False):
        if given.shape != expected.shape or given._array.dtype != expected.dtype:
            return None
    return recorder.finish(results)


def _class_check(instr: Instr, args: tuple[Any, ...], made: dict[Value, Instr], outside: set[Value]) -> Check | None:
    """What to check for an op with class targets; None where the targets are computed inside the program."""
    target = args[CHECKED[instr.op.name]]
    if not isinstance(target, Value) or target.dtype.kind != "i":
        return None
    source = target
    while source in made and made[source].op.is_view:
        source = made[source].args[0]
    if source not in outside:
        return None
    if instr.op.name == "class_coefficients":
        classes, plain = instr.params["classes"], instr.outs[0].shape == ()
    else:
        classes = args[0].shape[1] if len(args[0].shape) > 1 else args[0].shape[0]
        plain = instr.op.name == "cross_entropy" and instr.outs[2].shape == ()
    return Check(target, classes, instr.params["ignore_index"], plain and target.shape != ())


def decompose(program: Program, checks: list[Check] | None = None, frozen: set[Value] | None = None) -> Program:
    """Replace every op that has a formula (or a ``derived`` composite) by the ops of it, again and again.

    Conditions that the ops' bodies check go to ``checks``; without that list such ops stay. Constants that the
    formulas bring along go to ``frozen``.
    """
    program = pair_recurrences(program)
    made = {o: i for i in program.instrs for o in i.outs}
    outside = {*program.inputs, *program.constants}
    mapping: dict[Value, Value] = {}
    constants = dict(program.constants)
    cache: dict[Any, Program | None] = {}

    def new(v: Any) -> Any:
        while isinstance(v, Value) and v in mapping:
            v = mapping[v]
        return v

    def expand(instrs: list[Instr], depth: int) -> list[Instr]:
        out: list[Instr] = []
        for instr in instrs:
            op = instr.op
            function = FORMULAS.get(op.name)
            if function is None and op.derived is not None and len(instr.outs) == 1:
                function = op.derived
            args = tuple(new(a) for a in instr.args)
            extra: dict[str, Any] = {}
            check: Check | None = None
            if op.name in CHECKED:
                check = _class_check(instr, args, made, outside) if checks is not None else None
                if check is None:
                    function = None
                elif check.plain:
                    extra["plain"] = True
            if function is not None and depth < 4 and op.name not in ("relu", "sigmoid"):
                key = (
                    op.name, repr(instr.params), repr(extra),
                    tuple((a.shape, a.dtype, args.index(a)) if isinstance(a, Value) else repr(a) for a in args),
                    tuple((o.shape, o.dtype) for o in instr.outs),
                )  # fmt: skip
                if key not in cache:
                    stand = Instr(op, args, {**instr.params, **extra}, instr.outs, instr.place, instr.module)
                    cache[key] = _traced(stand, function)
                inner = cache[key]
                if inner is not None:
                    if check is not None and checks is not None and check not in checks:
                        checks.append(check)
                    rename: dict[Value, Value] = {}
                    order: list[Value] = []
                    for a in args:
                        if isinstance(a, Value) and a not in order:
                            order.append(a)
                    for stand, actual in zip(inner.inputs, order, strict=True):
                        rename[stand] = actual
                    for v, array in inner.constants.items():
                        constants[v] = array
                        if frozen is not None:
                            frozen.add(v)
                    fresh: list[Instr] = []
                    for i in inner.instrs:
                        outs = tuple(Value(o.shape, o.dtype, o.name) for o in i.outs)
                        moved = tuple(rename.get(a, a) if isinstance(a, Value) else a for a in i.args)
                        rename.update(zip(i.outs, outs, strict=True))
                        fresh.append(Instr(i.op, moved, i.params, outs, instr.place, instr.module))
                    out.extend(expand(fresh, depth + 1))
                    for o, result in zip(instr.outs, inner.outputs, strict=False):
                        mapping[o] = new(rename.get(result, result))
                    continue
            out.append(Instr(op, args, instr.params, instr.outs, instr.place, instr.module))
        return out

    instrs = expand(program.instrs, 0)
    return images_in_lanes(Program(
        list(program.inputs), constants, instrs, [new(v) for v in program.outputs],
        [(m, new(v)) for m, v in program.updates],
    ))  # fmt: skip
