"""Reading and writing a table at integer positions: what ``embedding``, ``gather``, indexing by tensors and their
backward passes have in common.

Every such op walks over an iteration space. An entry of the table lies at Σ i · stride plus Σ index · stride, where the
index arrays are read at the same point of the space; a negative index counts from the end. Whether every index is in
range is checked before the step runs (``Check``), or known from how the index was made; otherwise the op stays with
NumPy, which raises.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph.program import Instr, Program, Value
from .decompose import Check
from .groups import Group
from .ir import SIZE, Module, Val, kind_of
from .nest import Kernel, Nest
from .nodes import Access, Node, Storage, contiguous
from .scalar import FORMS

__all__ = ["READS", "WRITES", "Ranges", "emit_indexed", "indexed"]

READS = {"embedding", "gather", "pick", "take_axis", "index"}
WRITES = {"add_rows", "scatter_sum", "put", "add_axis", "index_sum", "scatter", "index_put", "scatter_extreme"}


@dataclass(slots=True)
class Walk:
    """How one op goes through its table."""

    shape: tuple[int, ...]
    """The iteration space."""
    table: Value
    table_shape: tuple[int, ...]
    steps: tuple[int | None, ...]
    """For each axis of the space, the table's axis that it runs along; None where an index decides."""
    indices: list[tuple[Value, tuple[int | None, ...], int]]
    """Index arrays: for each axis of the space the array's own axis (None: repeated), and the table's axis."""
    other: Value | None = None
    """What is written: an array over the iteration space."""
    start: Value | None = None
    """What the table holds before (None: zeros)."""
    how: str = "read"
    """"read", "add", "store", "amax", "amin", "prod"."""


class Ranges:
    """Which integers a value can be, and what has to be checked before a run to be sure of it."""

    def __init__(self, program: Program) -> None:
        self.made = {o: i for i in program.instrs for o in i.outs}
        self.program = program
        self.checks: list[Check] = []
        self.known: dict[Value, tuple[int, int] | None] = {}

    def of(self, v: Any) -> tuple[int, int] | None:
        """The smallest and the largest possible entry, from how v is computed."""
        if isinstance(v, (bool, int)):
            return int(v), int(v)
        if not isinstance(v, Value):
            return None
        if v not in self.known:
            self.known[v] = None  # while its operands are looked at
            self.known[v] = self._compute(v)
        return self.known[v]

    def _compute(self, v: Value) -> tuple[int, int] | None:
        if v.dtype.kind == "b":
            return 0, 1
        if v in self.program.constants:
            a = self.program.constants[v]
            own = not a.flags.writeable and a.base is None and a.dtype.kind in "iu" and a.size
            return (int(a.min()), int(a.max())) if own else None
        instr = self.made.get(v)
        if instr is None:
            return None
        name, args = instr.op.name, instr.args
        if instr.op.is_view or name in ("clone", "cat", "stack", "where", "minimum", "maximum", "amin", "amax"):
            given = [self.of(a) for a in (args[1:] if name == "where" else args)]
            if any(g is None for g in given):
                return None
            return min(g[0] for g in given if g), max(g[1] for g in given if g)
        if name == "cast":
            source = args[0].dtype
            r = self.of(args[0]) if source.kind in "iub" else None
            if r is None and source.kind == "u" and source.itemsize == 1:
                r = 0, 255
            fits = r is not None and v.dtype.kind == "i" and max(abs(r[0]), abs(r[1])) < 2 ** (8 * v.dtype.itemsize - 1)
            return r if fits else None
        if name == "remainder" and isinstance(args[1], int) and args[1] > 0:
            return 0, args[1] - 1
        if name in ("add", "sub", "mul", "floor_divide"):
            x, y = self.of(args[0]), self.of(args[1])
            if x is None or y is None or (name == "floor_divide" and (y[0] != y[1] or y[0] <= 0)):
                return None
            f = {"add": int.__add__, "sub": int.__sub__, "mul": int.__mul__, "floor_divide": int.__floordiv__}[name]
            ends = [f(a, b) for a in x for b in y]
            inside = max(map(abs, ends)) < 2 ** (8 * v.dtype.itemsize - 1)
            return (min(ends), max(ends)) if inside else None
        if name in ("argmax", "argmin", "argsort", "sort_index", "kth_index", "median_index", "cummax_index",
                    "cummin_index", "mode_index"):  # fmt: skip
            dim = instr.params.get("dim")
            n = math.prod(args[0].shape) if dim is None else args[0].shape[dim] if args[0].shape else 1
            return (0, n - 1) if n else None
        return None

    def inside(self, v: Value, size: int) -> bool:
        """Whether v indexes an axis of ``size``: known, or checked before every run from now on."""
        if v.dtype.kind != "i":
            return False
        known = self.of(v)
        if known is not None:
            return -size <= known[0] and known[1] < size
        source = v
        while source in self.made:
            instr = self.made[source]
            wider = instr.op.name == "cast" and instr.args[0].dtype.kind == "i" \
                and instr.args[0].dtype.itemsize <= source.dtype.itemsize  # fmt: skip
            if not (instr.op.is_view or wider or instr.op.name == "clone"):
                return False
            source = instr.args[0]
        if source not in self.program.constants and source not in self.program.inputs:
            return False
        # A view's entries may be fewer than its source's: the view itself is what is checked, where it is one.
        target = v
        while target in self.made and not self.made[target].op.is_view:
            target = self.made[target].args[0]
        self.checks.append(Check(target, size, None, False, -size))
        return True


def _along(dim: int, rank: int) -> tuple[int | None, ...]:
    return tuple(None if i == dim else i for i in range(rank))


def _identity(rank: int) -> tuple[int | None, ...]:
    return tuple(range(rank))


def _index_axes(rank: int, axes: tuple[int, ...], depth: int) -> list[int | None]:
    """NumPy's order of a result's axes: for each, the array's axis, or None for those of the indices."""
    rest = [a for a in range(rank) if a not in axes]
    adjacent = axes[-1] - axes[0] == len(axes) - 1
    before = sum(1 for a in rest if a < axes[0]) if adjacent else 0
    return [*rest[:before], *(None,) * depth, *rest[before:]]


def _walk(instr: Instr) -> Walk | None:
    name, args, p, out = instr.op.name, instr.args, instr.params, instr.outs[0]
    if name == "embedding":
        table, index = args[0], args[1]
        k = len(index.shape)
        return Walk(out.shape, table, table.shape, (*(None,) * k, 1), [(index, (*range(k), None), 0)])
    if name in ("gather", "scatter_sum", "scatter", "scatter_extreme"):
        index = args[1]
        rank = len(index.shape)
        if rank == 0:
            return None
        table, other, start, how = (args[0], None, None, "read") if name == "gather" else (out, args[0], None, "add")
        if name in ("scatter", "scatter_extreme"):
            other, start, how = args[2], args[0], "store" if name == "scatter" else p["kind"]
            if other.shape != index.shape or (name == "scatter_extreme" and not p["include_self"]):
                return None
        dim = p["dim"] % rank
        if len(table.shape) != rank:
            return None
        return Walk(
            index.shape, table, table.shape, _along(dim, rank), [(index, _identity(rank), dim)], other, start, how
        )
    if name in ("pick", "put"):
        table, index = (args[0], args[1]) if name == "pick" else (out, args[1])
        rank = len(table.shape)
        if rank == 0:
            return None
        dim = p["dim"] % rank
        own = index.shape if p["keepdim"] else (*index.shape[:dim], 1, *index.shape[dim:])
        if len(own) != rank or own[dim] != 1:
            return None
        axes = _identity(rank) if p["keepdim"] else tuple(None if i == dim else i - (i > dim) for i in range(rank))
        other, how = (None, "read") if name == "pick" else (args[0], "store")
        return Walk(own, table, table.shape, _along(dim, rank), [(index, axes, dim)], other, None, how)
    if name in ("take_axis", "add_axis", "add_rows"):
        table, index = (args[0] if name == "take_axis" else out), args[1]
        k, dim = len(index.shape), 0 if name == "add_rows" else p["dim"]
        rest = list(range(len(table.shape)))
        steps = (*rest[:dim], *(None,) * k, *rest[dim + 1 :])
        space = out.shape if name == "take_axis" else args[0].shape
        axes = (*(None,) * dim, *range(k), *(None,) * (len(rest) - dim - 1))
        other, how = (None, "read") if name == "take_axis" else (args[0], "add")
        return Walk(space, table, table.shape, steps, [(index, axes, dim)], other, None, how)
    if name in ("index", "index_sum", "index_put"):
        first = 1 if name != "index_put" else 2
        arrays = [a for a in args[first:] if a is not None]
        axes = tuple(p["axes"])
        table = args[0] if name == "index" else out
        depth = max(len(a.shape) for a in arrays)
        order = _index_axes(len(table.shape), axes, depth)
        broadcast = np.broadcast_shapes(*(a.shape for a in arrays))
        at = order.index(None) if depth else 0
        space = tuple(broadcast[i - at] if a is None else table.shape[a] for i, a in enumerate(order))
        indices: list[tuple[Value, tuple[int | None, ...], int]] = []
        for array, axis in zip(arrays, axes, strict=True):
            lead = depth - len(array.shape)
            own = tuple(
                i - at - lead if a is None and i - at >= lead and array.shape[i - at - lead] != 1 else None
                for i, a in enumerate(order)
            )
            indices.append((array, own, axis))
        walk = Walk(space, table, table.shape, tuple(order), indices)
        if name != "index":
            other = args[1] if name == "index_put" else args[0]
            walk.other = other
            walk.start = args[0] if name == "index_put" else None
            walk.how = "add" if name == "index_sum" or p["accumulate"] else "store"
            if other.shape != space:
                return None
        elif space != out.shape:
            return None
        return walk
    return None


def _other_axes(walk: Walk) -> tuple[int | None, ...]:
    """For each axis of the space the axis of what is written; an axis of size 1 may be left out there."""
    assert walk.other is not None
    if len(walk.other.shape) == len(walk.shape):
        return _identity(len(walk.shape))
    return walk.indices[0][1]


def indexed(instr: Instr, storage: Storage, ranges: Ranges) -> Node | None:
    """The op as a node of its own kernel; None where an index might be out of range, or the kinds are not native."""
    name, out = instr.op.name, instr.outs[0]
    if name not in READS and name not in WRITES:
        return None
    kind = kind_of(out.dtype)
    walk = _walk(instr)
    if walk is None or kind is None or math.prod(walk.table_shape) == 0:
        return None
    if any(isinstance(v, Value) and v.dtype != out.dtype for v in (walk.table, walk.other, walk.start)):
        return None
    if kind == "i1" and walk.how not in ("read", "store"):
        return None
    if math.prod(walk.shape) and not all(ranges.inside(v, walk.table_shape[axis]) for v, _, axis in walk.indices):
        return None

    def access(v: Value, axes: tuple[int | None, ...]) -> Access:
        root, offset, strides = storage.refs[v]
        return Access(root, offset, tuple(0 if a is None else strides[a] for a in axes))

    args: list[Any] = [access(v, axes) for v, axes, _ in walk.indices]
    if walk.how == "read":
        table = access(walk.table, walk.steps)
        strides = storage.refs[walk.table][2]
        args.append(table)
    else:
        strides = contiguous(out.shape)
        table = Access(out, 0, tuple(0 if a is None else strides[a] for a in walk.steps))
        assert walk.other is not None
        args.append(access(walk.other, _other_axes(walk)))
        if walk.start is not None:
            args.append(access(walk.start, _identity(len(walk.start.shape))))
    node = Node("indexed", name, instr, out, tuple(n for n in out.shape if n != 1), args, compute=kind)
    # Float32 sums are collected in float64 where a place gets several terms on average, which would round one by one;
    # scatter_sum as NumPy's bincount, which eager mode uses for single numbers.
    several = walk.start is None and math.prod(walk.shape) > math.prod(out.shape)
    node.params = {
        "how": walk.how, "space": walk.shape, "table": table, "start": walk.start is not None,
        "indices": [(walk.table_shape[axis], strides[axis], v.dtype) for v, _, axis in walk.indices],
        "wide": walk.how == "add" and kind == "f32" and (several or name == "scatter_sum"),
    }  # fmt: skip
    return node


@dataclass(slots=True)
class _Cursor:
    """An operand's pointer and its strides over the loops."""

    param: int
    kind: str
    strides: tuple[int, ...]
    base: str = field(default="")


def emit_indexed(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """Loops over the iteration space in row-major order: equal places are written in the order of their indices."""
    node = group.nodes[0]
    p, kind, args = node.params, node.compute, list[Any](node.args)
    cell = "f64" if p["wide"] else kind
    nest = Nest(module, vector_bytes // SIZE[cell])
    b, s, out = nest.b, nest.s, node.out
    shape, how, n = p["space"], p["how"], len(p["indices"])
    count = math.prod(out.shape)
    target = nest.param(out, 0)
    place = nest.param(None, 0) if p["wide"] else target
    if how != "read":
        if p["start"]:
            _copy(nest, args[n + 1], out.shape, target, kind)
        else:
            module.declare("@llvm.memset.p0.i64", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
            b.line(f"call void @llvm.memset.p0.i64(ptr %p{place}, i8 0, i64 {count * SIZE[cell]}, i1 false)")
    indices = [
        _Cursor(nest.param(a.root, a.offset), kind_of(dtype) or "i64", a.strides)
        for a, (_, _, dtype) in zip(args[:n], p["indices"], strict=True)
    ]
    other = args[n]
    if how == "read":
        source = _Cursor(nest.param(other.root, other.offset), kind, other.strides)
        sink = _Cursor(target, kind, contiguous(shape))
    else:
        source = _Cursor(nest.param(other.root, other.offset), kind, other.strides)
        sink = _Cursor(place, cell, p["table"].strides)
    if math.prod(shape):
        # The longest tail of axes along which no index changes is one row, read or written in vectors.
        cut = len(shape)
        while cut and all(c.strides[cut - 1] == 0 or shape[cut - 1] == 1 for c in indices):
            cut -= 1
        with contextlib.ExitStack() as stack:
            walk = [stack.enter_context(nest.loop(m)) for m in shape[:cut]]
            shift = _position(nest, indices, walk, p["indices"])
            moved = source if how == "read" else sink
            for c in (source, sink):
                c.base = nest.near(f"%p{c.param}", c.kind, 0, list(zip(walk, c.strides[:cut], strict=True)))
            moved.base = s.gep(moved.base, shift, moved.kind)
            _row(nest, shape[cut:], source, sink, cut, how)
    if p["wide"]:
        with nest.loop(count) as i:
            s.store(s.cast(s.load(s.gep(f"%p{place}", i, "f64"), "f64"), kind), s.gep(f"%p{target}", i, kind))
    return Kernel(nest.finish(), nest.params, count * 8 if p["wide"] else 0)


def _position(nest: Nest, indices: list[_Cursor], walk: list[str], facts: list[tuple[int, int, Any]]) -> str:
    """Σ index · stride, negative indices counted from the end."""
    s, total = nest.s, Val("i64", "0")
    for c, (size, stride, _) in zip(indices, facts, strict=True):
        at = nest.near(f"%p{c.param}", c.kind, 0, list(zip(walk, c.strides[: len(walk)], strict=True)))
        i = s.cast(s.load(at, c.kind), "i64")
        i = s.select(s.cmp("slt", i, s.const("i64", 0)), s.add(i, s.const("i64", size)), i)
        total = s.add(total, s.mul(i, s.const("i64", stride)))
    return total.text


def _row(nest: Nest, shape: tuple[int, ...], source: _Cursor, sink: _Cursor, cut: int, how: str) -> None:
    if not shape:
        _entry(nest, 1, source.base, sink.base, source.kind, sink.kind, how)
        return
    *outer, last = shape
    with contextlib.ExitStack() as stack:
        walk = [stack.enter_context(nest.loop(m)) for m in outer]
        p, q = (nest.near(c.base, c.kind, 0, list(zip(walk, c.strides[cut:-1], strict=True))) for c in (source, sink))
        left, right = source.strides[-1], sink.strides[-1]
        whole = last // nest.lanes * nest.lanes if left == 1 and right == 1 else 0
        if whole:
            with nest.loop(whole, nest.lanes) as i:
                _entry(nest, nest.lanes, nest.near(p, source.kind, 0, [(i, 1)]), nest.near(q, sink.kind, 0, [(i, 1)]),
                       source.kind, sink.kind, how)  # fmt: skip
        if last - whole:
            with nest.loop(last - whole) as i:
                at, to = (
                    nest.near(p, source.kind, whole * left, [(i, left)]),
                    nest.near(q, sink.kind, whole * right, [(i, right)]),
                )
                _entry(nest, 1, at, to, source.kind, sink.kind, how)


def _entry(nest: Nest, lanes: int, source: str, sink: str, kind: str, cell: str, how: str) -> None:
    b = nest.b.at(lanes)
    value = b.cast(b.load(source, kind), cell)
    if how not in ("read", "store"):
        old = b.load(sink, cell)
        if how == "add":
            value = b.add(old, value)
        elif how == "prod":
            value = b.mul(old, value)
        else:
            value = FORMS["maximum" if how == "amax" else "minimum"](b, [old, value], {})
    b.store(value, sink)


def _copy(nest: Nest, start: Access, shape: tuple[int, ...], target: int, kind: str) -> None:
    source = _Cursor(nest.param(start.root, start.offset), kind, start.strides)
    sink = _Cursor(target, kind, contiguous(shape))
    source.base, sink.base = f"%p{source.param}", f"%p{sink.param}"
    if shape:
        _row(nest, shape, source, sink, 0, "read")
    else:
        _entry(nest, 1, source.base, sink.base, kind, kind, "read")
