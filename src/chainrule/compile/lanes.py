"""Images in lanes: a layout in which a convolution needs neither windows nor borders in memory.

A batch (N, C, H, W) becomes blocks (N / L, C, H, W, L): the vector lanes are L images, so a tap of a convolution, an
entry of a pooling window or a channel's bias is whole vectors, whatever the sizes, strides and borders are. The pass
here moves convolutions to that layout, and what lies between them along with them, so that values are rearranged only
where they enter and leave.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.op import REQUIRED, Op, registry
from ..graph.program import Instr, Program, Value
from ..ops.conv import conv, conv_input, conv_weight
from ..ops.pool import max_pool, pick_tap, put_tap, spread_pool, sum_pool
from . import native, scalar
from .ir import kind_of

__all__ = ["direct", "images_in_lanes", "pooled"]


def lanes_of(batch: int, dtype: np.dtype[Any]) -> int:
    """How many images share a vector: as many as it has lanes, or the largest power of 2 that divides the batch."""
    full = native.vector_bytes() // dtype.itemsize
    return math.gcd(full, batch)


def _real(*arrays: Any) -> bool:
    """Whether the kernels can be made for arrays like these."""
    found = [getattr(v, "_array", v) for v in arrays]
    return (
        kind_of(found[0].dtype) in ("f32", "f64") and len({a.dtype for a in found}) == 1
        and len(found[0].shape) in (3, 4) and all(math.prod(a.shape) for a in found)
    )  # fmt: skip


def direct(x: Any, weight: Any) -> bool:
    """Whether a convolution of arrays like these is best done directly: the images fill the lanes."""
    dtype = x._array.dtype
    return _real(x, weight) and lanes_of(x.shape[0], dtype) == native.vector_bytes() // dtype.itemsize


def pooled(x: Any) -> bool:
    """Whether the windows of such an array are pooled by a kernel, images in lanes."""
    return _real(x) and lanes_of(x.shape[0], getattr(x, "_array", x).dtype) > 1


# --- the ops of the layout ----------------------------------------------------------------------------------------


def _op(body: Callable[..., Any], inputs: tuple[str, ...], *settings: str, residuals: tuple[str, ...] = ()) -> Op:
    """An op that only compiled programs contain, so it is in no registry and has no rules."""
    return Op(
        name=body.__name__, body=body, call=body, signature="?", formula="", inputs=inputs, variadic=False,
        settings=dict.fromkeys(settings, REQUIRED), residuals=residuals, outputs=1, numpy="", broadcasts=False,
        is_view=False, derived=None, kink="", samples=None, reference="", rules=[None] * len(inputs),
    )  # fmt: skip


def to_lanes(x: Any, *, lanes: int) -> Any:
    """(N, …) as (N / lanes, …, lanes)."""
    return np.ascontiguousarray(np.moveaxis(x.reshape(-1, lanes, *x.shape[1:]), 1, -1))


def from_lanes(x: Any) -> Any:
    """(N / lanes, …, lanes) as (N, …)."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)).reshape(-1, *x.shape[1:-1])


def conv_lanes(x: Any, weight: Any, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """``conv`` without bias, images in lanes."""
    y = conv.op.body(from_lanes(x), weight, None, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return to_lanes(y, lanes=x.shape[-1])


def conv_input_lanes(
    y: Any, weight: Any, *, size: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:  # fmt: skip
    """``conv_input``, images in lanes."""
    x = conv_input.op.body(
        from_lanes(y), weight, size=size, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return to_lanes(x, lanes=y.shape[-1])


def conv_weight_lanes(
    x: Any, y: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:  # fmt: skip
    """``conv_weight`` of images in lanes."""
    return conv_weight.op.body(
        from_lanes(x), from_lanes(y), kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def max_pool_lanes(x: Any, *, kernel: Any, stride: Any, widths: Any, dilation: Any) -> Any:
    """``max_pool``, images in lanes."""
    y, tap = max_pool.op.body(from_lanes(x), kernel=kernel, stride=stride, widths=widths, dilation=dilation)
    return to_lanes(y, lanes=x.shape[-1]), to_lanes(tap, lanes=x.shape[-1])


def pick_tap_lanes(x: Any, tap: Any, *, kernel: Any, stride: Any, widths: Any, dilation: Any) -> Any:
    """``pick_tap``, images in lanes."""
    way = {"kernel": kernel, "stride": stride, "widths": widths, "dilation": dilation}
    return to_lanes(pick_tap.op.body(from_lanes(x), from_lanes(tap), **way), lanes=x.shape[-1])


def put_tap_lanes(y: Any, tap: Any, *, size: Any, kernel: Any, stride: Any, widths: Any, dilation: Any) -> Any:
    """``put_tap``, images in lanes."""
    way = {"size": size, "kernel": kernel, "stride": stride, "widths": widths, "dilation": dilation}
    return to_lanes(put_tap.op.body(from_lanes(y), from_lanes(tap), **way), lanes=y.shape[-1])


def sum_pool_lanes(x: Any, *, kernel: Any, stride: Any, widths: Any) -> Any:
    """``sum_pool``, images in lanes."""
    return to_lanes(sum_pool.op.body(from_lanes(x), kernel=kernel, stride=stride, widths=widths), lanes=x.shape[-1])


def spread_pool_lanes(y: Any, *, size: Any, kernel: Any, stride: Any, widths: Any) -> Any:
    """``spread_pool``, images in lanes."""
    x = spread_pool.op.body(from_lanes(y), size=size, kernel=kernel, stride=stride, widths=widths)
    return to_lanes(x, lanes=y.shape[-1])


TO = _op(to_lanes, ("x",), "lanes")
FROM = _op(from_lanes, ("x",))
_WINDOW = ("stride", "padding", "dilation", "groups")
CONVOLUTIONS = {
    "conv": _op(conv_lanes, ("x", "weight"), *_WINDOW),
    "conv_input": _op(conv_input_lanes, ("y", "weight"), "size", *_WINDOW),
    "conv_weight": _op(conv_weight_lanes, ("x", "y"), "kernel", *_WINDOW),
}
_POOL = ("kernel", "stride", "widths")
POOLS = {
    "max_pool": _op(max_pool_lanes, ("x",), *_POOL, "dilation", residuals=("tap",)),
    "pick_tap": _op(pick_tap_lanes, ("x", "tap"), *_POOL, "dilation"),
    "put_tap": _op(put_tap_lanes, ("y", "tap"), "size", *_POOL, "dilation"),
    "sum_pool": _op(sum_pool_lanes, ("x",), *_POOL),
    "spread_pool": _op(spread_pool_lanes, ("y",), "size", *_POOL),
}


# --- the pass -----------------------------------------------------------------------------------------------------


class _Pass:
    """Rewrites a program. A value is made in one layout, and its twin in the other one when it is first asked for."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.instrs: list[Instr] = []
        self.twin: dict[Value, Value] = {}
        """The value in lanes."""
        self.plain: set[Value] = {*program.inputs, *program.constants}
        """Values that exist as the program has them."""
        self.at: tuple[Any, str] = (None, "")

    def emit(self, op: Op, args: tuple[Any, ...], shape: tuple[int, ...], dtype: Any, /, **params: Any) -> Value:
        out = Value(shape, dtype)
        self.instrs.append(Instr(op, args, params, (out,), *self.at))
        return out

    def lanes(self, v: Value, lanes: int) -> Value:
        """v with its images in lanes."""
        if v not in self.twin:
            shape = (v.shape[0] // lanes, *v.shape[1:], lanes)
            self.twin[v] = self.emit(TO, (self.need(v),), shape, v.dtype, lanes=lanes)
        return self.twin[v]

    def need(self, v: Value) -> Value:
        """v as the program has it."""
        if v not in self.plain:
            made = self.emit(FROM, (self.twin[v],), v.shape, v.dtype)
            self.rename[v] = made
            self.plain.add(v)
        return self.rename.get(v, v)

    def run(self) -> Program:
        self.rename: dict[Value, Value] = {}
        for instr in self.program.instrs:
            self.at = (instr.place, instr.module)
            if self.convolution(instr) or self.pooling(instr) or self.along(instr):
                continue
            args = tuple(self.need(a) if isinstance(a, Value) else a for a in instr.args)
            self.instrs.append(Instr(instr.op, args, instr.params, instr.outs, instr.place, instr.module))
            self.plain.update(instr.outs)
        self.at = (None, "")
        outputs = [self.need(v) for v in self.program.outputs]
        updates = [(m, self.need(v)) for m, v in self.program.updates]
        return Program(list(self.program.inputs), dict(self.program.constants), self.instrs, outputs, updates)

    def convolution(self, instr: Instr) -> bool:
        op = CONVOLUTIONS.get(instr.op.name)
        if op is None or not _real(*instr.args[:2]) or math.prod(instr.outs[0].shape) == 0:
            return False
        x, other, *bias = instr.args
        out = instr.outs[0]
        lanes = self.width(instr) or lanes_of(x.shape[0], x.dtype)
        if instr.op.name == "conv_weight":
            made = Instr(op, (self.lanes(x, lanes), self.lanes(other, lanes)), instr.params, (out,), *self.at)
            self.instrs.append(made)
            self.plain.add(out)
            return True
        shape = (out.shape[0] // lanes, *out.shape[1:], lanes)
        y = self.emit(op, (self.lanes(x, lanes), self.need(other)), shape, out.dtype, **instr.params)
        if bias and bias[0] is not None:
            per_channel = self.reshaped(self.need(bias[0]), (out.shape[1], *(1 for _ in shape[2:])))
            y = self.emit(registry["add"], (y, per_channel), shape, out.dtype)
        self.twin[out] = y
        return True

    def pooling(self, instr: Instr) -> bool:
        op = POOLS.get(instr.op.name)
        if op is None or not pooled(instr.args[0]) or any(math.prod(o.shape) == 0 for o in instr.outs):
            return False
        x = instr.args[0]
        lanes = self.width(instr) or lanes_of(x.shape[0], x.dtype)
        args = tuple(self.lanes(a, lanes) for a in instr.args)
        outs = tuple(Value((o.shape[0] // lanes, *o.shape[1:], lanes), o.dtype) for o in instr.outs)
        self.instrs.append(Instr(op, args, instr.params, outs, *self.at))
        self.twin.update(zip(instr.outs, outs, strict=True))
        return True

    def reshaped(self, v: Value, shape: tuple[int, ...]) -> Value:
        return v if v.shape == shape else self.emit(registry["reshape"], (v,), shape, v.dtype, shape=shape)

    def width(self, instr: Instr) -> int:
        """Lanes of the arguments that are in lanes only; 0 if there are none, or they differ."""
        found = {self.twin[a].shape[-1] for a in instr.values if a in self.twin and a not in self.plain}
        return found.pop() if len(found) == 1 else 0

    def along(self, instr: Instr) -> bool:
        """What reads values in lanes is done in lanes where it keeps images apart."""
        lanes = self.width(instr)
        rule = _RULES.get(instr.op.name)
        if lanes == 0 or len(instr.outs) != 1:
            return False
        if rule is None:
            if instr.op.name not in scalar.FORMS and instr.op.name not in scalar.COMPARE:
                return False
            rule = _elementwise
        return rule(self, instr, lanes)

    def made(self, instr: Instr, args: tuple[Any, ...], lanes: int, /, **params: Any) -> bool:
        """The instruction in lanes."""
        out = instr.outs[0]
        shape = (out.shape[0] // lanes, *out.shape[1:], lanes)
        self.twin[out] = self.emit(instr.op, args, shape, out.dtype, **params)
        return True


def _elementwise(p: _Pass, instr: Instr, lanes: int) -> bool:
    out = instr.outs[0]
    batch = next(a.shape[0] for a in instr.values if a in p.twin and a not in p.plain)
    if not out.shape or out.shape[0] != batch:
        return False
    args: list[Any] = []
    for a in instr.args:
        if not isinstance(a, Value) or a.shape == ():
            args.append(p.need(a) if isinstance(a, Value) else a)
        elif len(a.shape) == len(out.shape) and a.shape[0] == batch:
            args.append(p.lanes(a, lanes))
        elif len(a.shape) < len(out.shape) or a.shape[0] == 1:
            args.append(p.reshaped(p.need(a), (*a.shape, 1)))
        else:
            return False
    return p.made(instr, tuple(args), lanes, **instr.params)


def _reduction(p: _Pass, instr: Instr, lanes: int) -> bool:
    """Over some axes; over the images as well if the first is one of them."""
    x, out = instr.args[0], instr.outs[0]
    rank = len(x.shape)
    if instr.op.name == "sum_to":
        target = instr.params["shape"]
        lead = rank - len(target)
        axes = (*range(lead), *(i + lead for i, n in enumerate(target) if n == 1 and x.shape[i + lead] != 1))
        if not axes:
            return False
    else:
        dim = instr.params.get("dim")
        axes = range(rank) if dim is None else (dim,) if isinstance(dim, int) else dim
        axes = tuple(sorted(d % rank for d in axes))
    keep = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    op = registry["sum"] if instr.op.name == "sum_to" else instr.op
    if 0 in axes:
        total = p.emit(op, (p.lanes(x, lanes),), keep, out.dtype, dim=(*axes, rank), keepdim=False)
        p.rename[out] = p.reshaped(total, out.shape)
        p.plain.add(out)
        return True
    shape = (x.shape[0] // lanes, *out.shape[1:], lanes)
    if out.shape[0] != x.shape[0]:
        return False
    total = p.emit(op, (p.lanes(x, lanes),), (shape[0], *keep[1:], lanes), out.dtype, dim=axes, keepdim=False)
    p.twin[out] = p.reshaped(total, shape)
    return True


def _reshape(p: _Pass, instr: Instr, lanes: int) -> bool:
    x, out = instr.args[0], instr.outs[0]
    if not out.shape or out.shape[0] != x.shape[0] or math.prod(out.shape) == 0:
        return False
    return p.made(instr, (p.lanes(x, lanes),), lanes, shape=(out.shape[0] // lanes, *out.shape[1:], lanes))


def _expand(p: _Pass, instr: Instr, lanes: int) -> bool:
    x, out = instr.args[0], instr.outs[0]
    if len(x.shape) != len(out.shape) or out.shape[0] != x.shape[0]:
        return False
    return p.made(instr, (p.lanes(x, lanes),), lanes, shape=(out.shape[0] // lanes, *out.shape[1:], lanes))


def _whole(key: Any) -> bool:
    return isinstance(key, tuple) and len(key) > 0 and key[0] == slice(None) and all(isinstance(k, slice) for k in key)


def _getitem(p: _Pass, instr: Instr, lanes: int) -> bool:
    if not _whole(instr.params["key"]):
        return False
    return p.made(instr, (p.lanes(instr.args[0], lanes),), lanes, key=instr.params["key"])


def _place(p: _Pass, instr: Instr, lanes: int) -> bool:
    if not _whole(instr.params["key"]):
        return False
    shape = instr.params["shape"]
    shape = (shape[0] // lanes, *shape[1:], lanes)
    return p.made(instr, (p.lanes(instr.args[0], lanes),), lanes, key=instr.params["key"], shape=shape)


def _cat(p: _Pass, instr: Instr, lanes: int) -> bool:
    rank = len(instr.outs[0].shape)
    dim = instr.params["dim"] % rank
    if dim == 0:
        return False
    return p.made(instr, tuple(p.lanes(a, lanes) for a in instr.args), lanes, dim=dim)


_RULES: dict[str, Callable[[_Pass, Instr, int], bool]] = {
    "sum": _reduction, "sum_to": _reduction, "amax": _reduction, "amin": _reduction, "reshape": _reshape,
    "expand": _expand, "getitem": _getitem, "place": _place, "cat": _cat,
}  # fmt: skip


def images_in_lanes(program: Program) -> Program:
    """The program with its convolutions, and what lies between them, in the layout of this file."""
    if not any(i.op.name in CONVOLUTIONS or i.op.name in POOLS for i in program.instrs):
        return program
    return _Pass(program).run()
