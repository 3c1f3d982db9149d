"""A group of elementwise work and reductions as one LLVM function.

The last dim of the inner loops runs in vectors, its remainder under a constant mask. Values that a later phase of the
same row needs stay in registers when the row is unrolled, and otherwise go through memory that is still in cache.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import Any

from ..graph.program import Value
from . import scalar
from .groups import Group, respread
from .ir import Builder, Module, Val, kind_of
from .nest import Kernel, Nest, collapse, evaluate
from .nodes import Access, Node, contiguous

__all__ = ["emit_loops"]

LONG = 1024
"""Float32 sums over more entries than this are collected in float64: block by block where rows are long, else entry by
entry. A block's share of an accumulator is BLOCK entries, which round no worse than NumPy's pairwise sum."""
BLOCK = 32
UNROLL = 8


@dataclass(slots=True)
class _Arg:
    """An access with its strides split into outer and inner dims."""

    param: int
    kind: str
    strides: list[int]
    level: str
    outer: list[int] = field(default_factory=lambda: list[int]())
    inner: list[int] = field(default_factory=lambda: list[int]())
    base: str = ""


class _Loops(Nest):
    def __init__(self, module: Module, group: Group, keep: set[Value], vector_bytes: int) -> None:
        kinds = {kind_of(n.out.dtype) for n in group.nodes} | {n.compute for n in group.nodes}
        only64 = kinds <= {"f64", "i64", "i1"}
        super().__init__(module, vector_bytes // (8 if only64 else 4))
        self.group, self.keep = group, keep
        self.args: list[_Arg] = []
        self.arg_of: dict[tuple[Node, int], int] = {}
        self.store_of: dict[Value, int] = {}
        self.coordinate: dict[Node, int] = {}
        self.phase: dict[Value, int] = {}
        self.rows_at: dict[int, list[Node]] = {}
        self.full_at: dict[int, list[Node]] = {}
        self.scratch = 0

    # -- what is read and written where ----------------------------------------------------------------------------

    def collect(self) -> None:
        g = self.group
        shape = g.shape
        k = len(shape) if g.split is None else g.split
        self.schedule()
        for node in g.nodes:
            level = self.level_of(node)
            domain = shape if level == "full" else shape[:k]
            for i, a in enumerate(node.args):
                if isinstance(a, Access) and a.root not in g.made:
                    kind = kind_of(a.root.dtype)
                    assert kind is not None
                    strides = list(respread(node.shape, a.strides, domain))
                    self.arg_of[node, i] = self.new_arg(_Arg(self.param(a.root, a.offset), kind, strides, level))
            if node.name == "one_hot":
                strides = [1 if i == node.axes[0] else 0 for i in range(len(shape))]
                self.coordinate[node] = self.new_arg(_Arg(-1, node.compute, strides, "full"))
            out = node.out
            made = g.level[out]
            kind = kind_of(out.dtype)
            assert kind is not None
            if made == "full":
                needed_later = any(
                    self.phase_of_node(n) > self.phase[out] and self.level_of(n) == "full" and self.uses(n, out)
                    for n in g.nodes
                )
                if out in self.keep:
                    self.store_of[out] = self.new_arg(_Arg(self.param(out, 0), kind, list(contiguous(shape)), "full"))
                elif needed_later:
                    # Scratch for one row: strides over inner dims only.
                    inner = contiguous(shape[k:]) if g.split is not None else contiguous(shape)
                    strides = [0] * (len(shape) - len(inner)) + list(inner)
                    self.scratch_values.append((out, len(self.args), math.prod(shape[k:]), kind))
                    self.store_of[out] = self.new_arg(_Arg(-2, kind, strides, "full"))
            elif made == "row" and out in self.keep:
                self.store_of[out] = self.new_arg(_Arg(self.param(out, 0), kind, list(contiguous(shape[:k])), "row"))
            elif made == "end":
                if self.level_of(node) == "full":
                    strides = [0] * k + list(contiguous(shape[k:]))
                    self.store_of[out] = self.new_arg(_Arg(self.param(out, 0), kind, strides, "full"))
                else:
                    self.store_of[out] = self.new_arg(_Arg(self.param(out, 0), kind, [], "none"))
        for _, index, n, _ in self.scratch_values:
            self.args[index].param = self.param(None, self.scratch)
            self.scratch += (n * 8 + 63) // 64 * 64

    scratch_values: list[tuple[Value, int, int, str]]

    def new_arg(self, arg: _Arg) -> int:
        for i, other in enumerate(self.args):
            if arg.param >= 0 and (other.param, other.strides, other.level, other.kind) == (
                arg.param, arg.strides, arg.level, arg.kind):  # fmt: skip
                return i
        self.args.append(arg)
        return len(self.args) - 1

    def uses(self, node: Node, value: Value) -> bool:
        return any(isinstance(a, Access) and a.root is value for a in node.args)

    def level_of(self, node: Node) -> str:
        """Whether the node's work is per entry or per row."""
        return self._levels[node]

    def phase_of_node(self, node: Node) -> int:
        return self._node_phase[node]

    def schedule(self) -> None:
        g = self.group
        self._levels: dict[Node, str] = {}
        self._node_phase: dict[Node, int] = {}
        self.scratch_values = []
        rows = math.prod(g.row_shape()) if g.split is not None else 0
        for node in g.nodes:
            if node.kind == "reduce":
                made = g.level[node.out]
                a = node.args[0]
                assert isinstance(a, Access)
                if (
                    made == "end"
                    and math.prod(node.shape) == rows
                    and (math.prod(g.shape) != rows or g.level.get(a.root) == "row")
                ):
                    level = "row"
                else:
                    level = "full"
            else:
                level = g.level[node.out]
            self._levels[node] = level
            phase = max(
                (self.phase[a.root] for a in node.args if isinstance(a, Access) and a.root in g.made), default=0
            )
            self._node_phase[node] = phase
            self.phase[node.out] = phase + 1 if node.kind == "reduce" and level == "full" else phase
            (self.full_at if level == "full" else self.rows_at).setdefault(phase, []).append(node)

    # -- the loops -------------------------------------------------------------------------------------------------

    def run(self) -> Kernel:
        self.collect()
        g = self.group
        k = g.split
        every = self.args
        if k is None:
            dims, strides = collapse(list(g.shape), [a.strides for a in every])
            cut = max(0, len(dims) - 1)
            self.outer, self.inner = dims[:cut], dims[cut:] or [1]
            for a, s in zip(every, strides, strict=True):
                a.outer, a.inner = s[:cut], s[cut:] or [0]
        else:
            outer_part = [a.strides[:k] if a.level != "none" else [0] * k for a in every]
            self.outer, outer_strides = collapse(list(g.shape[:k]), outer_part)
            full = [a for a in every if a.level == "full"]
            self.inner, inner_strides = collapse(list(g.shape[k:]), [a.strides[k:] for a in full])
            for a, s in zip(every, outer_strides, strict=True):
                a.outer, a.inner = s, [0] * max(1, len(self.inner))
            for a, s in zip(full, inner_strides, strict=True):
                a.inner = s or [0]
            self.inner = self.inner or [1]
        self.last = self.inner[-1]
        self.whole, self.rest = divmod(self.last, self.lanes)
        vectors = self.whole + bool(self.rest)
        self.unrolled = len(self.inner) == 1 and vectors <= UNROLL and vectors * len(g.nodes) <= 256
        self.prepare_ends(vectors)
        turned = self.transposed()
        with contextlib.ExitStack() as stack:
            index = [stack.enter_context(self.loop(n)) for n in (self.outer[:-1] if turned else self.outer)]
            if turned:
                self.emit_tiles(index, turned)
            else:
                self.emit_row(index)
        self.finish_ends()
        body = self.finish()
        flops = math.prod(g.shape) * len(g.nodes)
        return Kernel(body, self.params, self.scratch, flops)

    def prepare_ends(self, vectors: int) -> None:
        """Accumulators of reductions over rows: registers if they are few, else the result's own memory."""
        self.end_cells: dict[Value, list[str]] = {}
        ends = [n for n in self.group.nodes if self.group.level[n.out] == "end"]
        in_registers = self.unrolled and len(ends) * vectors <= 16
        for node in ends:
            kind = kind_of(node.out.dtype)
            assert kind is not None
            if self.level_of(node) == "row":
                wide = "f64" if kind == "f32" else kind
                cell = self.alloca(wide, 1)
                self.s.store(self.neutral(node.name, wide, self.s), cell)
                self.end_cells[node.out] = [cell]
            elif in_registers:
                cells = [self.alloca(kind, self.lanes) for _ in range(vectors)]
                for cell in cells:
                    self.b.store(self.neutral(node.name, kind), cell)
                self.end_cells[node.out] = cells
            elif node.name != "sum":
                arg = self.args[self.store_of[node.out]]
                start = self.neutral(node.name, kind, self.s)
                with self.loop(math.prod(self.inner)) as i:
                    self.s.store(start, self.s.gep(f"%p{arg.param}", i, kind))
            else:
                arg = self.args[self.store_of[node.out]]
                size = math.prod(self.inner) * node.out.dtype.itemsize
                self.module.declare("@llvm.memset.p0.i64", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
                self.b.line(f"call void @llvm.memset.p0.i64(ptr %p{arg.param}, i8 0, i64 {size}, i1 false)")

    def finish_ends(self) -> None:
        for node in self.group.nodes:
            cells = self.end_cells.get(node.out)
            if cells is None:
                continue
            kind = kind_of(node.out.dtype)
            assert kind is not None
            arg = self.args[self.store_of[node.out]]
            if self.level_of(node) == "row":
                wide = "f64" if kind == "f32" else kind
                self.s.store(self.s.cast(self.s.load(cells[0], wide), kind), f"%p{arg.param}")
                continue
            for j, cell in enumerate(cells):
                value = self.b.put(kind, f"load {self.b.ty(kind)}, ptr {cell}, align 64")
                active = min(self.lanes, self.last - j * self.lanes)
                pointer = self.b.gep(f"%p{arg.param}", str(j * self.lanes), kind)
                self.b.store(value, pointer, None if active == self.lanes else self.b.mask(active))

    def transposed(self) -> list[int]:
        """The operands that are contiguous along the last outer dim only, where going through tiles pays."""
        if self.group.split is not None or not self.outer or len(self.inner) != 1:
            return []
        if self.outer[-1] < self.lanes or self.last < self.lanes or self.coordinate:
            return []
        reads = {
            n for n in self.arg_of.values() if self.args[n].outer[-1] == 1 and self.args[n].inner[-1] not in (-1, 0, 1)
        }
        return sorted(reads) if all(self.args[n].inner[-1] == 1 for n in self.store_of.values()) else []

    def emit_tiles(self, index: list[str], turned: list[int]) -> None:
        """Tiles of lanes × lanes entries, two each way so that whole lines of the cache are used up; then the rows that
        are left over."""
        lanes, rows = self.lanes, self.outer[-1]
        for step, start, stop in self.stripes(rows):
            if step == 1:
                with self.loop(stop - start) as i:
                    self.emit_row([*index, self.moved(i, start, 0)])
                continue
            with self.loop(stop - start, step) as i:
                for width, left, right in self.stripes(self.last):
                    if width == 1:
                        with self.loop(step, lanes) as di:
                            self.emit_tile([*index, self.moved(i, di, start)], str(left), right - left, turned)
                        continue
                    with (
                        self.loop(right - left, width) as j,
                        self.loop(step, lanes) as di,
                        self.loop(width, lanes) as dj,
                    ):
                        self.emit_tile([*index, self.moved(i, di, start)], self.moved(j, dj, left), None, turned)

    def stripes(self, n: int) -> list[tuple[int, int, int]]:
        """(step, start, stop): pairs of vectors, then a vector, then single entries."""
        out: list[tuple[int, int, int]] = []
        at = 0
        for step in (2 * self.lanes, self.lanes, 1):
            stop = at + (n - at) // step * step
            if stop > at:
                out.append((step, at, stop))
            at = stop
        return out

    def emit_tile(self, index: list[str], at: str, active: int | None, turned: list[int]) -> None:
        """Rows index[-1] …, columns ``at`` …: transposed operands are read along the rows and turned in registers."""
        lanes, b = self.lanes, self.b
        self.emit_bases(index)
        blocks: dict[int, list[Val]] = {}
        for n in turned:
            arg = self.args[n]
            memory = "u8" if arg.kind == "i1" else arg.kind
            columns = [
                b.load(self.pointer(arg, [], self.moved(at, 0, c)), memory)
                if active is None or c < active else Val(memory, "zeroinitializer")
                for c in range(lanes)
            ]  # fmt: skip
            block = turn(b, columns)
            blocks[n] = [b.cmp("ne", r, b.const("u8", 0)) for r in block] if arg.kind == "i1" else block
        for r in range(lanes):
            if r:
                self.emit_bases([*index[:-1], self.moved(index[-1], r, 0)])
            self.row_values, self.splats, self.saved = {}, {}, {}
            self.emit_vector(0, self.full_at[0], [], at, active, {}, {}, 0, None, {n: blocks[n][r] for n in turned})

    def emit_row(self, index: list[str]) -> None:
        self.emit_bases(index)
        self.row_values: dict[Value, Val] = {}
        self.splats: dict[Any, Val] = {}
        self.saved: dict[tuple[Value, int], Val] = {}
        phases = sorted(set(self.rows_at) | set(self.full_at))
        for p in phases:
            for node in self.rows_at.get(p, []):
                self.emit_row_node(node)
            if p in self.full_at:
                self.emit_phase(p, self.full_at[p])

    def emit_bases(self, index: list[str]) -> None:
        for a in self.args:
            if a.level == "none" or a.param < 0:
                a.base = "" if a.param < 0 else f"%p{a.param}"
                if a.param == -1:
                    a.base = self.offset(list(zip(index, a.outer, strict=True)))
                continue
            offset = self.offset(list(zip(index, a.outer, strict=True)))
            a.base = f"%p{a.param}" if offset == "0" else self.s.gep(f"%p{a.param}", offset, a.kind)

    def emit_row_node(self, node: Node) -> None:
        s = self.s
        args: list[Any] = []
        for i, a in enumerate(node.args):
            if not isinstance(a, Access):
                args.append(a)
            elif a.root in self.row_values:
                args.append(self.row_values[a.root])
            else:
                arg = self.args[self.arg_of[node, i]]
                args.append(s.load(arg.base, arg.kind))
        if node.kind == "reduce":  # over the rows, into one number
            cell = self.end_cells[node.out][0]
            kind = kind_of(node.out.dtype)
            wide = "f64" if kind == "f32" else str(kind)
            total = self.merge(s, node.name, s.load(cell, wide), s.cast(args[0], wide))
            s.store(total, cell)
            return
        value = evaluate(s, node, args)
        self.row_values[node.out] = value
        if node.out in self.store_of:
            s.store(value, self.args[self.store_of[node.out]].base)

    # -- one phase of a row ----------------------------------------------------------------------------------------

    def emit_phase(self, p: int, nodes: list[Node]) -> None:
        reductions = [n for n in nodes if n.kind == "reduce" and self.group.level[n.out] == "row"]
        several = 1 if self.unrolled and self.whole + bool(self.rest) <= 1 else 4 if reductions else 2
        cells: dict[Node, list[str]] = {}
        wide: dict[Node, str] = {}
        totals: dict[Node, str] = {}
        long = math.prod(self.inner) > LONG
        in_blocks = long and self.last > LONG
        for node in reductions:
            kind = kind_of(node.out.dtype)
            assert kind is not None
            collected = kind == "f32" and long and node.name == "sum"
            wide[node] = "f64" if collected and not in_blocks else kind
            cells[node] = [self.alloca(wide[node], self.lanes) for _ in range(several)]
            for cell in cells[node]:
                self.b.store(self.neutral(node.name, wide[node]), cell)
            if collected and in_blocks:
                totals[node] = self.alloca("f64", self.lanes)
                self.b.store(self.b.const("f64", 0), totals[node])
        # What does not depend on the inner index is loaded and spread once.
        for node in nodes:
            for i, a in enumerate(node.args):
                if not isinstance(a, Access):
                    continue
                if a.root in self.row_values and a.root not in self.splats:
                    self.splats[a.root] = self.b.splat(self.row_values[a.root])
                elif (node, i) in self.arg_of:
                    n = self.arg_of[node, i]
                    arg = self.args[n]
                    if not any(arg.inner) and n not in self.splats:
                        self.splats[n] = self.b.splat(self.s.load(arg.base, arg.kind))
        with contextlib.ExitStack() as stack:
            index = [stack.enter_context(self.loop(n)) for n in self.inner[:-1]]
            if self.unrolled:
                for j in range(self.whole):
                    self.emit_vector(p, nodes, index, str(j * self.lanes), None, cells, wide, j % several, j)
            else:
                step = several * self.lanes
                groups_of = self.whole // several
                blocks = groups_of // BLOCK if totals else 0
                done = blocks * BLOCK * step

                def run_of(start: str | int, n: int) -> None:
                    with self.loop(n * step, step) as i:
                        for u in range(several):
                            at = self.moved(i, start, u * self.lanes)
                            self.emit_vector(p, nodes, index, at, None, cells, wide, u, None)

                if blocks:
                    with self.loop(done, BLOCK * step) as block:
                        run_of(block, BLOCK)
                        self.collect_block(cells, totals)
                if groups_of - blocks * BLOCK:
                    run_of(done, groups_of - blocks * BLOCK)
                for j in range(groups_of * several, self.whole):
                    self.emit_vector(p, nodes, index, str(j * self.lanes), None, cells, wide, j % several, None)
            if self.rest:
                at, j = str(self.whole * self.lanes), self.whole
                self.emit_vector(p, nodes, index, at, self.rest, cells, wide, j % several, j if self.unrolled else None)
            self.collect_block(cells, totals)
        for node in reductions:
            if node in totals:
                self.row_values[node.out] = self.horizontal(node, [totals[node]], "f64")
            else:
                self.row_values[node.out] = self.horizontal(node, cells[node], wide[node])
            if node.out in self.store_of:
                self.s.store(self.row_values[node.out], self.args[self.store_of[node.out]].base)

    def moved(self, i: str, start: str | int, constant: int) -> str:
        """i + start + constant, as a literal where it is one."""
        live = [x for x in (i, start) if isinstance(x, str) and not x.isdigit()]
        constant += sum(int(x) for x in (i, start) if isinstance(x, int) or x.isdigit())
        total = live[0] if live else str(constant)
        for x in [*live[1:], *([str(constant)] if constant and live else [])]:
            name = self.b.name()
            self.b.line(f"{name} = add nuw nsw i64 {total}, {x}")
            total = name
        return total

    def collect_block(self, cells: dict[Node, list[str]], totals: dict[Node, str]) -> None:
        """Add the accumulators of a block to the float64 total, and start them again."""
        b = self.b
        for node, total in totals.items():
            parts = [b.load(cell, "f32") for cell in cells[node]]
            while len(parts) > 1:
                parts = [b.add(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
            b.store(b.add(b.load(total, "f64"), b.cast(parts[0], "f64")), total)
            for cell in cells[node]:
                b.store(b.const("f32", 0), cell)

    def neutral(self, name: str, kind: str, b: Builder | None = None) -> Val:
        b = b or self.b
        if name in ("sum", "prod"):
            return b.const(kind, 0 if name == "sum" else 1)
        if kind[0] == "f":
            return b.const(kind, -math.inf if name == "max" else math.inf)
        bits = {"i8": 7, "i16": 15, "i32": 31, "i64": 63}[kind]
        return b.const(kind, -(2**bits) if name == "max" else 2**bits - 1)

    def merge(self, b: Builder, name: str, x: Val, y: Val) -> Val:
        if name in ("sum", "prod"):
            return b.add(x, y) if name == "sum" else b.mul(x, y)
        # Not LLVM's maximum, which orders −0 below 0 for twice the instructions: NumPy does not.
        return scalar.FORMS["maximum" if name == "max" else "minimum"](b, [x, y], {})

    def horizontal(self, node: Node, cells: list[str], kind: str) -> Val:
        t = self.b.ty(kind)
        parts = [self.b.put(kind, f"load {t}, ptr {c}, align 64") for c in cells]
        while len(parts) > 1:
            parts = [self.merge(self.b, node.name, *parts[i : i + 2]) for i in range(0, len(parts), 2)]
        out_kind = kind_of(node.out.dtype)
        assert out_kind is not None
        scalar_t = self.s.ty(kind)
        suffix = self.b.suffix(kind)
        if node.name in ("sum", "prod") and kind[0] == "f":
            stem, start = ("fadd", "-0.0") if node.name == "sum" else ("fmul", "1.0")
            name = f"@llvm.vector.reduce.{stem}.{suffix}"
            self.module.declare(name, f"declare {scalar_t} {name}({scalar_t}, {t})")
            # reassoc: the lanes are added as a tree.
            out = self.s.put(kind, f"call reassoc {scalar_t} {name}({scalar_t} {start}, {t} {parts[0].text})")
        else:
            stem = {"sum": "add", "prod": "mul", "max": "fmaximum" if kind[0] == "f" else "smax",
                    "min": "fminimum" if kind[0] == "f" else "smin"}[node.name]  # fmt: skip
            name = f"@llvm.vector.reduce.{stem}.{suffix}"
            self.module.declare(name, f"declare {scalar_t} {name}({t})")
            out = self.s.put(kind, f"call {scalar_t} {name}({t} {parts[0].text})")
        return self.s.cast(out, out_kind)

    def pointer(self, arg: _Arg, index: list[str], at: str, value: bool = True) -> str:
        terms = list(zip(index, arg.inner[:-1], strict=False)) + [(at, arg.inner[-1])]
        constant = 0
        live: list[tuple[str, int]] = []
        for i, stride in terms:
            if i.lstrip("-").isdigit():
                constant += int(i) * stride
            elif stride:
                live.append((i, stride))
        offset = self.offset(live)
        base = arg.base
        if offset != "0":
            base = self.s.gep(base, offset, arg.kind)
        return base if constant == 0 else self.s.gep(base, str(constant), arg.kind)

    def read(self, arg: _Arg, index: list[str], at: str, active: int | None) -> Val:
        b = self.b
        step = arg.inner[-1]
        if step == 1:
            return b.load(self.pointer(arg, index, at), arg.kind, None if active is None else b.mask(active))
        if step == 0:
            return b.splat(self.s.load(self.pointer(arg, index, at), arg.kind))
        first = self.pointer(arg, index, at)
        memory = "u8" if arg.kind == "i1" else arg.kind
        if step == -1 and active is None:  # backwards: one vector, turned around
            forwards = b.load(self.s.gep(first, str(1 - self.lanes), memory), memory)
            order = ", ".join(f"i32 {i}" for i in reversed(range(self.lanes)))
            t = b.ty(memory)
            turned = b.put(memory, f"shufflevector {t} {forwards.text}, {t} poison, <{self.lanes} x i32> <{order}>")
            return b.cmp("ne", turned, b.const("u8", 0)) if arg.kind == "i1" else turned
        out = Val(memory, "zeroinitializer")
        for lane in range(self.lanes if active is None else active):
            x = self.s.load(self.s.gep(first, str(lane * step), memory), memory)
            out = b.put(memory, f"insertelement {b.ty(memory)} {out.text}, {self.s.ty(memory)} {x.text}, i64 {lane}")
        return b.cmp("ne", out, b.const("u8", 0)) if arg.kind == "i1" else out

    def write(self, value: Val, arg: _Arg, index: list[str], at: str, active: int | None) -> None:
        b = self.b
        if arg.inner[-1] == 1 or self.last == 1:
            b.store(value, self.pointer(arg, index, at), None if active is None else b.mask(active))
            return
        first = self.pointer(arg, index, at)
        if value.kind == "i1":
            value = b.cast(value, "u8")
        for lane in range(self.lanes if active is None else active):
            x = self.s.put(value.kind, f"extractelement {b.ty(value.kind)} {value.text}, i64 {lane}")
            self.s.store(x, self.s.gep(first, str(lane * arg.inner[-1]), value.kind))

    def emit_vector(
        self, p: int, nodes: list[Node], index: list[str], at: str, active: int | None,
        cells: dict[Node, list[str]], wide: dict[Node, str], u: int, slot: int | None,
        given: dict[int, Val] | None = None,
    ) -> None:  # fmt: skip
        b = self.b
        here: dict[Value, Val] = {}
        loaded: dict[int, Val] = {**given} if given else {}
        for node in nodes:
            args: list[Any] = []
            for i, a in enumerate(node.args):
                if not isinstance(a, Access):
                    args.append(a)
                elif a.root in here:
                    args.append(here[a.root])
                elif a.root in self.splats:
                    args.append(self.splats[a.root])
                elif slot is not None and (a.root, slot) in self.saved:
                    args.append(self.saved[a.root, slot])
                else:
                    n = self.arg_of[node, i] if (node, i) in self.arg_of else self.store_of[a.root]
                    if n in self.splats:
                        args.append(self.splats[n])
                        continue
                    if n not in loaded:
                        loaded[n] = self.read(self.args[n], index, at, active)
                    args.append(loaded[n])
            if node.kind == "reduce":
                self.accumulate(node, args[0], index, at, active, cells, wide, u, slot)
                continue
            if node.name == "one_hot":
                value = self.compare_coordinate(node, args[0], index, at)
            else:
                value = evaluate(b, node, args)
            here[node.out] = value
            if slot is not None:
                self.saved[node.out, slot] = value
            if node.out in self.store_of and not (slot is not None and node.out not in self.keep):
                self.write(value, self.args[self.store_of[node.out]], index, at, active)

    def compare_coordinate(self, node: Node, wanted: Val, index: list[str], at: str) -> Val:
        b, arg = self.b, self.args[self.coordinate[node]]
        start = self.offset(list(zip([*index, at], arg.inner, strict=True)))
        total = self.offset([(arg.base or "0", 1), (start, 1)])
        if total.isdigit() or node.compute == "i64":
            position = b.splat(Val(node.compute, total)) if not total.isdigit() else b.const(node.compute, int(total))
        else:
            short = self.s.put(node.compute, f"trunc i64 {total} to {self.s.ty(node.compute)}")
            position = b.splat(short)
        if arg.inner[-1]:
            t = self.s.ty(node.compute)
            lanes = ", ".join(f"{t} {i * arg.inner[-1]}" for i in range(self.lanes))
            position = b.add(position, Val(node.compute, f"<{lanes}>"))
        return b.cmp("eq", position, wanted)

    def accumulate(
        self, node: Node, value: Val, index: list[str], at: str, active: int | None, cells: dict[Node, list[str]],
        wide: dict[Node, str], u: int, slot: int | None,
    ) -> None:  # fmt: skip
        b = self.b
        kind = wide.get(node) or kind_of(node.out.dtype)
        assert kind is not None
        value = b.cast(value, kind)
        if node in cells:
            if active is not None:
                value = b.select(Val("i1", b.mask(active)), value, self.neutral(node.name, kind))
            cell = cells[node][u]
        elif node.out in self.end_cells and slot is not None:
            cell = self.end_cells[node.out][slot]
        else:
            arg = self.args[self.store_of[node.out]]
            pointer = self.pointer(arg, index, at)
            mask = None if active is None else b.mask(active)
            b.store(self.merge(b, node.name, b.load(pointer, kind, mask), value), pointer, mask)
            return
        t = b.ty(kind)
        old = b.put(kind, f"load {t}, ptr {cell}, align 64")
        b.line(f"store {t} {self.merge(b, node.name, old, value).text}, ptr {cell}, align 64")


def turn(b: Builder, rows: list[Val]) -> list[Val]:
    """Transpose a square of vectors in registers."""
    lanes, kind = len(rows), rows[0].kind
    t, r = b.ty(kind), list(rows)
    d = lanes // 2
    while d:
        for n in range(lanes):
            if n & d:
                continue
            low = ", ".join(f"i32 {x if not x & d else lanes + x - d}" for x in range(lanes))
            high = ", ".join(f"i32 {x + d if not x & d else lanes + x}" for x in range(lanes))
            p, q = r[n].text, r[n + d].text
            r[n] = b.put(kind, f"shufflevector {t} {p}, {t} {q}, <{lanes} x i32> <{low}>")
            r[n + d] = b.put(kind, f"shufflevector {t} {p}, {t} {q}, <{lanes} x i32> <{high}>")
        d //= 2
    return r


def emit_loops(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """The group as a function over pointers; ``keep`` are the values that somebody outside reads."""
    return _Loops(module, group, keep, vector_bytes).run()
