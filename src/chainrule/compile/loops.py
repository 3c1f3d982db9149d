"""A group of elementwise work and reductions as one LLVM function.

The last dim of the inner loops runs in vectors, its remainder under a constant mask. Values that a later phase of the
same row needs stay in registers when the row is unrolled, and otherwise go through memory that is still in cache.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

from ..graph.program import Value
from .groups import Group
from .ir import Module, Val, kind_of
from .nest import Kernel, collapse, evaluate, turn
from .nodes import Access, Node
from .reductions import BLOCK, LONG, Reductions

__all__ = ["emit_loops"]

UNROLL = 8


class _Loops(Reductions):
    """The loops themselves."""

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


def emit_loops(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """The group as a function over pointers; ``keep`` are the values that somebody outside reads."""
    return _Loops(module, group, keep, vector_bytes).run()
