"""A matrix product with its epilogue as one LLVM function, for shapes known in advance.

A tile of the result stays in registers while k runs: rows of B are loaded as vectors, entries of A are spread over the
lanes. B with its columns contiguous in k (a transposed weight) is first brought into row order, in registers, 16 × 16
at a time; A may have any strides. Elementwise work on the result runs on the tile before it is stored.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

from ..graph.program import Value
from . import native
from .groups import Group, respread
from .ir import SIZE, Module, Val, kind_of
from .nest import Kernel, Nest, collapse, evaluate
from .nodes import Access, Node, contiguous

__all__ = ["emit_gemm", "tile_shape"]

K_BLOCK = 256


@dataclass(slots=True)
class _Operand:
    """An array of the epilogue: strides over the row dims and along n."""

    param: int
    kind: str
    rows: list[int]
    n: int
    base: str = ""


def tile_shape(m: int, vectors: int, registers: int) -> tuple[int, int]:
    """Rows and vectors of the register tile: enough accumulators to hide the latency of fma, few leftovers, and all of
    them (with a row of B and an entry of A) in registers at once."""
    best = (0.0, 1, 1)
    for nv in range(1, min(4, vectors) + 1):
        panels = -(-vectors // nv)
        for mr in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16):
            if mr > m or mr * nv > min(24, registers - nv - 1):
                continue
            blocks = -(-m // mr)
            # Cycles per k step of one tile: two fmas a cycle, two loads a cycle, and four cycles of latency.
            cycles = max(mr * nv / 2, (mr + nv) / 2, 4)
            score = 1 / (panels * blocks * (cycles + 0.3))
            if score > best[0]:
                best = (score, mr, nv)
    return best[1], best[2]


class _Gemm(Nest):
    def __init__(self, module: Module, group: Group, keep: set[Value], vector_bytes: int) -> None:
        node = group.nodes[0]
        self.kind = node.compute
        super().__init__(module, vector_bytes // SIZE[self.kind])
        self.group, self.keep, self.node = group, keep, node
        self.scratch = 0

    def unsqueeze(self, strides: tuple[int, ...]) -> list[int]:
        """Strides over the result's shape without its 1s, put back onto the whole shape."""
        it = iter(strides)
        return [0 if n == 1 else next(it) for n in self.node.out.shape]

    def run(self) -> Kernel:
        node, group = self.node, self.group
        shape = node.out.shape
        self.n, self.k = shape[-1], node.params["k"]
        a, b = node.args
        assert isinstance(a, Access)
        assert isinstance(b, Access)
        nb = len(shape) - 2
        self.operands: list[_Operand] = []
        self.read_of: dict[tuple[Node, int], int] = {}
        self.store_of: dict[Value, int] = {}
        for member in group.nodes[1:]:
            for i, access in enumerate(member.args):
                if isinstance(access, Access) and access.root not in group.made:
                    kind = kind_of(access.root.dtype)
                    assert kind is not None
                    full = self.unsqueeze(respread(member.shape, access.strides, group.shape))
                    self.read_of[member, i] = self.operand(self.param(access.root, access.offset), kind, full)
        for member in group.nodes:
            if member.out in self.keep:
                kind = kind_of(member.out.dtype)
                assert kind is not None
                self.store_of[member.out] = self.operand(self.param(member.out, 0), kind, list(contiguous(shape)))
        rows = [list(a.strides[: nb + 1]), [*b.strides[:nb], 0], *(o.rows for o in self.operands)]
        dims, rows = collapse(list(shape[:-1]), rows)
        (a_rows, b_rows), rest = rows[:2], rows[2:]
        for o, r in zip(self.operands, rest, strict=True):
            o.rows = r
        self.batch, self.m = dims[:-1], dims[-1]
        self.a_m, self.a_k = a_rows[-1], a.strides[-1]
        self.b_k, self.b_n = b.strides[-2], b.strides[-1]
        self.a_param, self.b_param = self.param(a.root, a.offset), self.param(b.root, b.offset)
        self.vectors = -(-self.n // self.lanes)
        self.mr, self.nv = tile_shape(self.m, self.vectors, native.vector_registers())
        blocks = max(1, round(self.k / K_BLOCK)) if self.k > 1.5 * K_BLOCK else 1
        step = -(-self.k // blocks)
        self.k_blocks = [(k0, min(step, self.k - k0)) for k0 in range(0, self.k, step)]
        self.dots = self.n < max(2, self.lanes // 4) and self.a_k == 1 and self.k >= self.lanes // 2 and (
            self.b_k == 1 or self.k == 1)  # fmt: skip
        self.packs = not self.dots and self.b_n != 1 and self.n > 1
        if self.packs:
            self.packed = self.param(None, self.scratch)
            self.scratch += self.k * self.vectors * self.lanes * SIZE[self.kind]
        if len(self.k_blocks) > 1 and not self.dots:
            self.scratch = (self.scratch + 63) // 64 * 64
            self.partial = self.param(None, self.scratch)
            self.scratch += self.m * self.vectors * self.lanes * SIZE[self.kind]
        batched = any(b_rows[:-1])
        if self.packs and not batched:
            self.pack(f"%p{self.b_param}")
        with contextlib.ExitStack() as stack:
            index = [stack.enter_context(self.loop(n)) for n in self.batch]
            a_base = self.at(self.a_param, self.kind, index, a_rows[:-1])
            b_base = self.at(self.b_param, self.kind, index, b_rows[:-1])
            for o in self.operands:
                o.base = self.at(o.param, o.kind, index, o.rows[:-1])
            if self.packs:
                if batched:
                    self.pack(b_base)
                b_base, self.ldb = f"%p{self.packed}", self.vectors * self.lanes
            else:
                self.ldb = self.b_k
            if self.dots:
                self.emit_dots(a_base, b_base)
            else:
                for number, (k0, kc) in enumerate(self.k_blocks):
                    self.emit_block(a_base, b_base, k0, kc, number == 0, number == len(self.k_blocks) - 1)
        flops = 2 * math.prod(shape) * self.k
        return Kernel(self.finish(), self.params, self.scratch, flops)

    def operand(self, param: int, kind: str, strides: list[int]) -> int:
        for i, o in enumerate(self.operands):
            if (o.param, o.kind, [*o.rows, o.n]) == (param, kind, strides):
                return i
        self.operands.append(_Operand(param, kind, strides[:-1], strides[-1]))
        return len(self.operands) - 1

    def at(self, param: int, kind: str, index: list[str], strides: list[int]) -> str:
        offset = self.offset(list(zip(index, strides, strict=True)))
        return f"%p{param}" if offset == "0" else self.s.gep(f"%p{param}", offset, kind)

    def near(self, base: str, kind: str, constant: int, live: list[tuple[str, int]] | None = None) -> str:
        """``base`` moved by Σ index · stride and by a constant."""
        terms: list[tuple[str, int]] = []
        for i, stride in live or []:
            if i.isdigit():
                constant += int(i) * stride
            else:
                terms.append((i, stride))
        offset = self.offset(terms)
        if offset != "0":
            base = self.s.gep(base, offset, kind)
        return base if constant == 0 else self.s.gep(base, str(constant), kind)

    # -- the order of B --------------------------------------------------------------------------------------------

    def pack(self, base: str) -> None:
        """B as k rows of n in scratch memory, padded with zeros to whole vectors."""
        lanes, kind, width = self.lanes, self.kind, self.vectors * self.lanes
        target = f"%p{self.packed}"
        if self.b_k != 1:  # neither way contiguous: entry by entry
            with self.loop(self.k) as i, self.loop(self.n) as j:
                x = self.s.load(self.near(base, kind, 0, [(i, self.b_k), (j, self.b_n)]), kind)
                self.s.store(x, self.near(target, kind, 0, [(i, width), (j, 1)]))
            return
        whole_k, rest_k = divmod(self.k, lanes)
        whole_n, rest_n = divmod(self.n, lanes)

        def tiles(j: str, rows: int) -> None:
            if whole_k:
                with self.loop(whole_k * lanes, lanes) as i:
                    self.transpose(base, target, i, j, rows, lanes, width)
            if rest_k:
                self.transpose(base, target, str(whole_k * lanes), j, rows, rest_k, width)

        if whole_n:
            with self.loop(whole_n * lanes, lanes) as j:
                tiles(j, lanes)
        if rest_n:
            tiles(str(whole_n * lanes), rest_n)

    def transpose(self, base: str, target: str, i: str, j: str, rows: int, columns: int, width: int) -> None:
        """Entries k = i…, n = j… : ``rows`` rows of n become ``columns`` rows of k."""
        b, lanes, kind = self.b, self.lanes, self.kind
        start = self.near(base, kind, 0, [(i, 1), (j, self.b_n)])
        mask = None if columns == lanes else b.mask(columns)
        t = b.ty(kind)
        r = [
            b.load(self.near(start, kind, n * self.b_n), kind, mask) if n < rows else Val(kind, "zeroinitializer")
            for n in range(lanes)
        ]
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
        out = self.near(target, kind, 0, [(i, width), (j, 1)])
        for x in range(columns):
            b.store(r[x], self.near(out, kind, x * width))

    # -- tiles -----------------------------------------------------------------------------------------------------

    def emit_block(self, a: str, b: str, k0: int, kc: int, first: bool, last: bool) -> None:
        lanes = self.lanes
        a = self.near(a, self.kind, k0 * self.a_k)
        b = self.near(b, self.kind, k0 * self.ldb)
        panels = -(-self.vectors // self.nv)
        wide = self.vectors - panels * (self.nv - 1)  # panels of nv vectors; the others have one less
        widths = [self.nv] * wide + [self.nv - 1] * (panels - wide)
        partial_lanes = self.n % lanes
        j = 0
        i = 0
        while i < len(widths):
            w = widths[i]
            run = 1
            while i + run < len(widths) and widths[i + run] == w:
                run += 1
            ends = i + run == len(widths) and partial_lanes
            whole = run - 1 if ends else run
            if whole:
                with self.loop(whole * w * lanes, w * lanes) as jj:
                    at = self.offset([(jj, 1), (str(j), 1)]) if j else jj
                    self.emit_panel(a, b, at, w, None, kc, first, last)
            if ends:
                self.emit_panel(a, b, str(j + whole * w * lanes), w, partial_lanes, kc, first, last)
            j += run * w * lanes
            i += run

    def emit_panel(self, a: str, b: str, j: str, w: int, active: int | None, kc: int, first: bool, last: bool) -> None:
        # Narrow panels take more rows, so that enough accumulators are under way.
        most = min(24, native.vector_registers() - w - 1) // w
        mr = self.mr if w == self.nv else min(self.m, max(self.mr, min(16, most)))
        whole, rest = divmod(self.m, mr)
        if whole:
            with self.loop(whole * mr, mr) as i:
                self.emit_tile(a, b, i, j, mr, w, active, kc, first, last)
        if rest:
            self.emit_tile(a, b, str(whole * mr), j, rest, w, active, kc, first, last)

    def emit_tile(
        self, a: str, b: str, i: str, j: str, mr: int, w: int, active: int | None, kc: int, first: bool, last: bool,
    ) -> None:  # fmt: skip
        v, kind, lanes = self.b, self.kind, self.lanes
        t = v.ty(kind)
        a_tile = self.near(a, kind, 0, [(i, self.a_m)])
        b_tile = self.near(b, kind, 0, [(j, 1)])
        width = self.vectors * lanes
        tail = active is not None and not self.packs
        masks = [v.mask(active or 0) if tail and x == w - 1 else None for x in range(w)]

        def step(k: str, u: int, acc: list[list[Val]]) -> None:
            row = [
                v.load(self.near(b_tile, kind, u * self.ldb + x * lanes, [(k, self.ldb)]), kind, masks[x])
                for x in range(w)
            ]
            for y in range(mr):
                entry = v.splat(
                    self.s.load(self.near(a_tile, kind, u * self.a_k + y * self.a_m, [(k, self.a_k)]), kind)
                )
                for x in range(w):
                    acc[y][x] = v.fma(entry, row[x], acc[y][x])

        if first:
            acc = [[Val(kind, "zeroinitializer") for _ in range(w)] for _ in range(mr)]
        else:
            start = self.near(f"%p{self.partial}", kind, 0, [(i, width), (j, 1)])
            acc = [[v.load(self.near(start, kind, y * width + x * lanes), kind) for x in range(w)] for y in range(mr)]
        unroll = 4 if mr * w <= 24 else 2
        if kc <= 8:
            for u in range(kc):
                step("0", u, acc)
        else:
            whole = kc // unroll * unroll
            head, done = self.new_label("k"), self.new_label("kdone")
            before = self.block
            v.line(f"br label %{head}")
            self.start(head)
            k, following, test = v.name(), v.name(), v.name()
            v.line(f"{k} = phi i64 [0, %{before}], [{following}, %{head}]")
            phis = [[v.name() for _ in range(w)] for _ in range(mr)]
            slots = len(v.lines)
            inside = [[Val(kind, phis[y][x]) for x in range(w)] for y in range(mr)]
            for u in range(unroll):
                step(k, u, inside)
            lines = [
                f"  {phis[y][x]} = phi {t} [{acc[y][x].text}, %{before}], [{inside[y][x].text}, %{head}]"
                for y in range(mr)
                for x in range(w)
            ]
            v.lines[slots:slots] = lines
            v.line(f"{following} = add nuw nsw i64 {k}, {unroll}")
            v.line(f"{test} = icmp ult i64 {following}, {whole}")
            v.line(f"br i1 {test}, label %{head}, label %{done}")
            self.start(done)
            acc = inside
            for u in range(kc - whole):
                step(str(whole), u, acc)
        if not last:
            start = self.near(f"%p{self.partial}", kind, 0, [(i, width), (j, 1)])
            for y in range(mr):
                for x in range(w):
                    v.store(acc[y][x], self.near(start, kind, y * width + x * lanes))
            return
        bases = [self.near(o.base, o.kind, 0, [(i, o.rows[-1]), (j, o.n)]) for o in self.operands]
        spread: dict[Any, Val] = {}
        for y in range(mr):
            for x in range(w):
                mask = v.mask(active) if active is not None and x == w - 1 else None
                self.epilogue(acc[y][x], bases, y, x, mask, active, spread)

    def epilogue(
        self, acc: Val, bases: list[str], y: int, x: int, mask: str | None, active: int | None, spread: dict[Any, Val]
    ) -> None:
        """Elementwise work on one vector of the result, and its stores."""
        v, lanes = self.b, self.lanes
        here: dict[Value, Val] = {self.node.out: acc}

        def read(n: int) -> Val:
            o = self.operands[n]
            # What does not change along the rows (a bias) or along n is loaded once for the tile.
            key = (n, y if o.rows[-1] else -1, x if o.n else -1)
            if key not in spread:
                pointer = self.near(bases[n], o.kind, y * o.rows[-1] + x * lanes * o.n)
                if o.n == 1:
                    spread[key] = v.load(pointer, o.kind, mask)
                elif o.n == 0:
                    spread[key] = v.splat(self.s.load(pointer, o.kind))
                else:
                    memory = "u8" if o.kind == "i1" else o.kind
                    out = Val(memory, "zeroinitializer")
                    for lane in range(lanes if mask is None else active or 0):
                        e = self.s.load(self.s.gep(pointer, str(lane * o.n), memory), memory)
                        out = v.put(
                            memory, f"insertelement {v.ty(memory)} {out.text}, {self.s.ty(memory)} {e.text}, i64 {lane}"
                        )
                    spread[key] = v.cast(out, "i1") if o.kind == "i1" else out
            return spread[key]

        def finish(value: Value) -> None:
            if value in self.store_of:
                o = self.operands[self.store_of[value]]
                v.store(here[value], self.near(bases[self.store_of[value]], o.kind, y * o.rows[-1] + x * lanes), mask)

        finish(self.node.out)
        for member in self.group.nodes[1:]:
            args: list[Any] = []
            for i, a in enumerate(member.args):
                if not isinstance(a, Access):
                    args.append(a)
                elif a.root in here:
                    args.append(here[a.root])
                else:
                    args.append(read(self.read_of[member, i]))
            here[member.out] = evaluate(v, member, args)
            finish(member.out)

    # -- few columns: dot products ---------------------------------------------------------------------------------

    def emit_dots(self, a: str, b: str) -> None:
        """Each entry as a dot product of contiguous rows, in vectors along k."""
        v, s, kind, lanes = self.b, self.s, self.kind, self.lanes
        whole, rest = divmod(self.k, lanes)
        name = f"@llvm.vector.reduce.fadd.{v.suffix(kind)}"
        self.module.declare(name, f"declare {s.ty(kind)} {name}({s.ty(kind)}, {v.ty(kind)})")
        with self.loop(self.m) as i:
            a_row = self.near(a, kind, 0, [(i, self.a_m)])
            for j in range(self.n):
                cell = self.alloca(kind, lanes)
                v.line(f"store {v.ty(kind)} zeroinitializer, ptr {cell}, align 64")

                def step(k: str, mask: str | None, cell: str = cell, j: int = j, a_row: str = a_row) -> None:
                    x = v.load(self.near(a_row, kind, 0, [(k, 1)]), kind, mask)
                    y = v.load(self.near(b, kind, j * self.b_n, [(k, 1)]), kind, mask)
                    old = v.put(kind, f"load {v.ty(kind)}, ptr {cell}, align 64")
                    v.line(f"store {v.ty(kind)} {v.fma(x, y, old).text}, ptr {cell}, align 64")

                if whole:
                    with self.loop(whole * lanes, lanes) as k:
                        step(k, None)
                if rest:
                    step(str(whole * lanes), v.mask(rest))
                total = v.put(kind, f"load {v.ty(kind)}, ptr {cell}, align 64")
                dot = s.put(kind, f"call reassoc {s.ty(kind)} {name}({s.ty(kind)} -0.0, {v.ty(kind)} {total.text})")
                self.finish_dot(dot, i, j)

    def finish_dot(self, dot: Val, i: str, j: int) -> None:
        s = self.s
        here: dict[Value, Val] = {self.node.out: dot}

        def pointer(n: int) -> str:
            o = self.operands[n]
            return self.near(o.base, o.kind, j * o.n, [(i, o.rows[-1])])

        for member in self.group.nodes:
            if member is not self.node:
                args: list[Any] = []
                for n, a in enumerate(member.args):
                    if not isinstance(a, Access):
                        args.append(a)
                    elif a.root in here:
                        args.append(here[a.root])
                    else:
                        which = self.read_of[member, n]
                        args.append(s.load(pointer(which), self.operands[which].kind))
                here[member.out] = evaluate(s, member, args)
            if member.out in self.store_of:
                s.store(here[member.out], pointer(self.store_of[member.out]))


def emit_gemm(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """A product group as a function over pointers; ``keep`` are the values that somebody outside reads."""
    return _Gemm(module, group, keep, vector_bytes).run()
