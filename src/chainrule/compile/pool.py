"""Pooling of images in lanes, and the transposes, as LLVM functions: each result is made of its taps, in registers."""

from __future__ import annotations

import math
from typing import Any

from ..graph.program import Value
from .groups import Group
from .ir import Module, Val, kind_of
from .nest import Kernel
from .nodes import Access
from .walk import Finishing, segments
from .windows import Axis

__all__ = ["emit_pool"]

UNROLLED = 4
"""So many rows of taps are written out where all of them lie inside."""


class _Pool(Finishing):
    """The largest entry or the sum of each window, the entry of a given number, or a window's value given back."""

    def run(self) -> Kernel:
        node, p = self.node, self.node.params
        self.collect()
        self.sources: list[tuple[int, str, tuple[int, ...]]] = []
        for a in node.args:
            assert isinstance(a, Access)
            kind = kind_of(a.root.dtype)
            assert kind is not None
            self.sources.append((self.param(a.root, a.offset), kind, a.strides))
        self.number_kind = "i32" if self.kind == "f32" else "i64"
        if node.name == "max_pool":
            tap = node.instr.outs[1]
            self.tap_store = self.operand(tap, 0, self.own())
            self.tap_kind = kind_of(tap.dtype)
        shape = node.out.shape
        with self.loop(shape[0]) as n, self.loop(shape[1]) as c:
            self.place(n, c)
            starts = [self.near(f"%p{q}", kind, 0, [(n, s[0]), (c, s[1])]) for q, kind, s in self.sources]
            for rows in p["rows"]:
                with self.loop(rows.count) as t:
                    first, last = self.rows_inside(rows, t) if rows.taps else ("0", "0")
                    for columns in p["columns"]:
                        for start, width, many in segments(columns, 4):
                            known = range(start, start + width) if many == 1 else None
                            with self.loop(many * width, width) as i:
                                self.tile(rows, columns, (t, first, last), (self.moved(i, start), width, known), starts)
        return Kernel(self.finish(), self.params, 0, math.prod(node.params["shapes"][0]) * self.taps_per_entry())

    def taps_per_entry(self) -> int:
        p = self.node.params
        return max(len(r.taps) for r in p["rows"]) * max(len(c.taps) for c in p["columns"])

    def tile(
        self, rows: Axis, columns: Axis, row: tuple[str, str, str], pixels: tuple[str, int, Any], starts: list[str],
    ) -> None:  # fmt: skip
        (t, first, last), (u, width, known) = row, pixels
        name, b = self.node.name, self.b
        best = b.const(self.kind, -math.inf if name == "max_pool" else 0)
        cells = [self.cell(self.kind, best) for _ in range(width)]
        taps = [self.cell(self.number_kind, b.const(self.number_kind, 0)) for _ in cells] if name == "max_pool" else []
        wanted: list[Val] = []
        if name == "pick_tap":
            _, kind, s = self.sources[1]
            here = self.near(starts[1], kind, 0, [(t, s[2]), (u, s[3])])
            wanted = [self.number(self.near(here, kind, q * s[3]), kind, s[4]) for q in range(width)]

        def visit(m: str) -> None:
            k0, e0 = rows.taps[0]
            k_step, e_step = (rows.taps[1][0] - k0, rows.taps[1][1] - e0) if len(rows.taps) > 1 else (0, 0)
            row_terms = [(t, rows.step), (m, e_step)]
            bases = [
                self.near(start, kind, e0 * s[2], [*((i, n * s[2]) for i, n in row_terms), (u, columns.step * s[3])])
                for start, (_, kind, s) in zip(starts, self.sources, strict=True)
            ]
            wide = self.node.params["kernel"][-1] if len(self.node.params["kernel"]) > 1 else 10**9
            before = self.offset([(m, k_step * wide)]) if len(rows.taps) > 1 else "0"
            for k, e in columns.taps:
                constant = (k0 * wide if len(self.node.params["kernel"]) > 1 else 0) + k
                number = self.splat_number(before, constant)
                for q in range(width):
                    if known is None or columns.inside(known[q], e):
                        at = e + q * columns.step
                        _, kind, s = self.sources[0]
                        value = self.pixel(self.near(bases[0], kind, at * s[3]), s[4])
                        given = None
                        if name == "put_tap":
                            _, kind, s = self.sources[1]
                            given = self.number(self.near(bases[1], kind, at * s[3]), kind, s[4])
                        elif name == "pick_tap":
                            given = wanted[q]
                        self.take(value, number, given, cells[q], taps[q] if taps else "")
            self.flush()

        if rows.taps and columns.taps:
            if first.isdigit() and last.isdigit() and int(last) <= UNROLLED:
                for m in range(int(last)):
                    visit(str(m))
            else:
                with self.between(first, last) as m:
                    visit(m)
        if taps:
            base = self.bases(rows, columns, t, u, "0")[self.tap_store]
            store = self.operands[self.tap_store]
            for q, tap in enumerate(taps):
                number = b.cast(self.held(tap, self.number_kind), store.kind)
                b.store(number, self.near(base, store.kind, q * columns.stride * store.strides[3]))
        self.epilogue([cells], rows, columns, t, u, "0")

    def take(self, value: Val, number: Val, given: Val | None, cell: str, tap: str) -> None:
        """One tap's part of a result."""
        b = self.b
        so_far = self.get(cell)
        if self.node.name == "max_pool":
            # NaN wins, the last one; of equal entries the first.
            wins = b.bin("or", b.cmp("ogt", value, so_far), b.cmp("uno", value, value))
            chosen = b.select(wins, number, self.held(tap, self.number_kind))
            b.line(f"store {b.ty(chosen.kind)} {chosen.text}, ptr {tap}, align 64")
            self.put(b.select(wins, value, so_far), cell)
        elif given is None:
            self.put(b.add(so_far, value), cell)
        else:
            hit = b.cmp("eq", given, number)
            if self.node.name == "pick_tap":
                self.put(b.select(hit, value, so_far), cell)
            else:
                self.put(b.add(so_far, b.select(hit, value, b.const(self.kind, 0))), cell)

    def cell(self, kind: str, start: Val) -> str:
        out = self.alloca(kind, self.lanes)
        self.b.line(f"store {self.b.ty(kind)} {start.text}, ptr {out}, align 64")
        return out

    def held(self, cell: str, kind: str) -> Val:
        return self.b.put(kind, f"load {self.b.ty(kind)}, ptr {cell}, align 64")

    def number(self, pointer: str, kind: str, lane_stride: int) -> Val:
        """The tap numbers of a pixel of all images."""
        if lane_stride == 1 or self.lanes == 1:
            return self.b.cast(self.b.load(pointer, kind), self.number_kind)
        return self.b.splat(self.s.cast(self.s.load(pointer, kind), self.number_kind))

    def splat_number(self, before: str, constant: int) -> Val:
        """The number ``before`` + ``constant`` in all lanes."""
        if before.isdigit():
            return self.b.const(self.number_kind, int(before) + constant)
        total = Val("i64", self.whole(f"add i64 {before}, {constant}"))
        return self.b.splat(self.s.cast(total, self.number_kind))


def emit_pool(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """Pooling or its transpose, with elementwise work on the result; ``keep`` is what somebody outside reads."""
    return _Pool(module, group, keep).run()
