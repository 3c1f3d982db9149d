"""Accumulators of a loop kernel: reductions along a row, and over the rows."""

from __future__ import annotations

import math

from ..graph.program import Value
from . import scalar
from .ir import Builder, Val, kind_of
from .nodes import Node
from .operands import Operands

__all__ = ["BLOCK", "LONG", "Reductions"]

LONG = 1024
"""Float32 sums over more entries than this are collected in float64: block by block where rows are long, else entry by
entry. A block's share of an accumulator is BLOCK entries, which round no worse than NumPy's pairwise sum."""
BLOCK = 32


class Reductions(Operands):
    """Where partial results are kept, how they start, and how they come together."""

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
