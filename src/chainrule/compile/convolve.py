"""Direct convolutions of images in lanes, with their epilogue, and their weight gradients, as LLVM functions.

One vector is one pixel of L images. A tile of results (channels × pixels of a row) stays in registers while the input
channels and the taps run past: pixels are loaded as vectors, weights spread over the lanes. Nothing is copied: taps
that would read outside of the image are left out, rows at run time, columns by tiles of their own at both ends.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..graph.program import Value
from . import native
from .groups import Group, respread
from .ir import SIZE, Module, Val, kind_of
from .nest import Kernel, Nest, evaluate
from .nodes import Access, contiguous
from .windows import Axis, tiles

__all__ = ["emit_conv", "emit_conv_weight"]

ENOUGH = 24
"""Multiply-adds in the body of the innermost loop that make its own instructions negligible."""
BAND = 24576
"""Entries of the input that are worked on together: 96 KB of float32, a part of the second-level cache."""


def tile_shape(channels: int, pixels: int, registers: int) -> tuple[int, int]:
    """Channels and pixels of the register tile with the fewest cycles for all channels of a row."""
    best = (math.inf, 1, 1)
    for ot in range(1, min(channels, registers - 3) + 1):
        for pt in range(1, min(pixels, registers - 3) + 1):
            if ot * pt + pt + 1 > registers:  # sums, the pixels of a tap, a weight
                break
            cycles = 0.0
            for _, o in tiles(channels, ot):
                for _, q in tiles(pixels, pt):
                    # Two fmas and two loads a cycle; a sum waits four cycles for its last addend.
                    cycles += max(o * q / 2, (o + q) / 2, 4) + 0.05 * (o + q)
            if cycles < best[0]:
                best = (cycles, ot, pt)
    return best[1], best[2]


@dataclass(slots=True)
class _Operand:
    """An array of the epilogue: strides over blocks, channels, rows, columns and lanes."""

    param: int
    kind: str
    strides: tuple[int, ...]
    base: str = ""


class _Walk(Nest):
    """What both kernels share: addresses, loops with computed bounds, sums in registers."""

    def __init__(self, module: Module, group: Group) -> None:
        self.node = group.nodes[0]
        super().__init__(module, self.node.params["lanes"])
        self.kind = self.node.compute
        self.registers = native.vector_registers()

    def whole(self, text: str) -> str:
        name = self.b.name()
        self.b.line(f"{name} = {text}")
        return name

    def cells(self, n: int) -> list[str]:
        """Sums that start at zero; LLVM keeps them in registers."""
        out = [self.alloca(self.kind, self.lanes) for _ in range(n)]
        for cell in out:
            self.b.line(f"store {self.b.ty(self.kind)} zeroinitializer, ptr {cell}, align 64")
        return out

    def get(self, cell: str) -> Val:
        return self.b.put(self.kind, f"load {self.b.ty(self.kind)}, ptr {cell}, align 64")

    def put(self, value: Val, cell: str) -> None:
        self.b.line(f"store {self.b.ty(self.kind)} {value.text}, ptr {cell}, align 64")

    def pixel(self, pointer: str, lane_stride: int) -> Val:
        """One pixel of all images of the block."""
        if lane_stride == 1 or self.lanes == 1:
            return self.b.load(pointer, self.kind)
        return self.b.splat(self.s.load(pointer, self.kind))

    def bounded(self, x: str, low: int, high: int) -> str:
        """x into low … high."""
        small = self.whole(f"icmp slt i64 {x}, {low}")
        x = self.whole(f"select i1 {small}, i64 {low}, i64 {x}")
        large = self.whole(f"icmp sgt i64 {x}, {high}")
        return self.whole(f"select i1 {large}, i64 {high}, i64 {x}")

    def first(self, distance: str, step: int, most: int) -> str:
        """The smallest i ≥ 0 with i · step ≥ distance, at most ``most``."""
        ahead = self.bounded(distance, 0, most * step)
        if step == 1:
            return ahead
        return self.whole(f"udiv i64 {self.whole(f'add i64 {ahead}, {step - 1}')}, {step}")

    def smaller(self, x: str, y: str) -> str:
        test = self.whole(f"icmp slt i64 {x}, {y}")
        return self.whole(f"select i1 {test}, i64 {x}, i64 {y}")

    def larger(self, x: str, y: str) -> str:
        test = self.whole(f"icmp sgt i64 {x}, {y}")
        return self.whole(f"select i1 {test}, i64 {x}, i64 {y}")

    def source_rows(self, rows: Axis, t0: str, t1: str) -> tuple[str, str]:
        """The input rows, first and after the last, that results t0 … t1 read."""
        low = self.whole(f"add i64 {self.offset([(t0, rows.step)])}, {rows.taps[0][1]}")
        high = self.whole(f"add i64 {self.offset([(t1, rows.step)])}, {rows.taps[-1][1] + 1 - rows.step}")
        low = self.bounded(low, 0, rows.size)
        high = self.bounded(high, 0, rows.size)
        empty = self.whole(f"icmp slt i64 {high}, {low}")
        return low, self.whole(f"select i1 {empty}, i64 {low}, i64 {high}")

    def copied(
        self, target: str, source: str, plane: int, row: int, rows: tuple[str, str], channels: int, to: int
    ) -> str:
        """Copy some rows of every channel, ``plane`` apart, to planes ``to`` apart; where row 0 would be there."""
        self.module.declare("@llvm.memcpy.p0.p0.i64", "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        first, last = rows
        length = self.whole(f"sub i64 {last}, {first}")
        length = self.whole(f"mul i64 {length}, {row * SIZE[self.kind]}")
        with self.loop(channels) as c:
            p = self.near(source, self.kind, 0, [(c, plane), (first, row)])
            q = self.near(target, self.kind, 0, [(c, to)])
            self.b.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {q}, ptr {p}, i64 {length}, i1 false)")
        return self.near(target, self.kind, 0, [(first, -row)])

    def moved(self, i: str, start: int) -> str:
        return str(start) if i == "0" else self.whole(f"add i64 {i}, {start}") if start else i

    def alike(self, n: int, most: int) -> list[tuple[int, int, int]]:
        parts = tiles(n, most)
        return runs(parts, [True] * len(parts))

    @contextlib.contextmanager
    def between(self, low: str, high: str) -> Iterator[str]:
        """Emit ``for i in range(low, high)`` around what is emitted inside."""
        if low.isdigit() and high.isdigit() and int(high) - int(low) == 1:
            yield low
            return
        head, body, latch, done = (self.new_label(stem) for stem in ("head", "body", "next", "done"))
        before = self.block
        self.b.line(f"br label %{head}")
        self.start(head)
        i, following = self.b.name(), self.b.name()
        self.b.line(f"{i} = phi i64 [{low}, %{before}], [{following}, %{latch}]")
        test = self.whole(f"icmp slt i64 {i}, {high}")
        self.b.line(f"br i1 {test}, label %{body}, label %{done}")
        self.start(body)
        yield i
        self.goto(latch)
        self.b.line(f"{following} = add nsw i64 {i}, 1")
        self.b.line(f"br label %{head}")
        self.start(done)


def height(rows: Axis, count: int) -> int:
    """Input rows that ``count`` rows of results read."""
    return min(rows.size, (count - 1) * rows.step + rows.taps[-1][1] - rows.taps[0][1] + 1)


def apart(entries: int, kind: str) -> int:
    """At least so many entries, in an odd number of cache lines: planes so far apart share no cache sets."""
    lines = -(-entries * SIZE[kind] // 64)
    return (lines | 1) * 64 // SIZE[kind]


def crowded(plane: int, channels: int, kind: str) -> bool:
    """Whether so many planes, read at the same place, fight for the sets of the first cache (8 ways of 4 KB)."""
    return channels > 4 * (4096 // math.gcd(plane * SIZE[kind], 4096))


def packed(strides: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether the planes of an array in lanes are contiguous."""
    width, lanes = shape[-2:]
    return strides[2:] == (width * lanes if len(shape) == 5 else 0, lanes, 1)


def runs(parts: list[tuple[int, int]], alike: list[Any]) -> list[tuple[int, int, int]]:
    """(start, width, how many) of neighbours that are alike."""
    out: list[tuple[int, int, int]] = []
    last: Any = None
    for (start, width), mark in zip(parts, alike, strict=True):
        if out and mark is not None and last == (width, mark):
            out[-1] = (out[-1][0], width, out[-1][2] + 1)
        else:
            out.append((start, width, 1))
        last = (width, mark)
    return out


class _Conv(_Walk):
    """y[n, o, t, u] = Σ over c and taps of x[n, c, …] · w[o, c, …], then the epilogue."""

    def __init__(self, module: Module, group: Group, keep: set[Value]) -> None:
        super().__init__(module, group)
        self.group, self.keep = group, keep

    def five(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        """Strides over the result's shape without its 1s, as block, channel, row, column, lane."""
        it = iter(strides)
        full = [0 if n == 1 else next(it) for n in self.node.out.shape]
        return (*full[:2], *(0,) * (5 - len(full)), *full[2:])

    def operand(self, root: Value, offset: int, strides: tuple[int, ...]) -> int:
        kind = kind_of(root.dtype)
        assert kind is not None
        param = self.param(root, offset)
        for i, o in enumerate(self.operands):
            if (o.param, o.kind, o.strides) == (param, kind, strides):
                return i
        self.operands.append(_Operand(param, kind, strides))
        return len(self.operands) - 1

    def run(self) -> Kernel:
        node, group, p = self.node, self.group, self.node.params
        x, w = node.args
        assert isinstance(x, Access)
        assert isinstance(w, Access)
        self.operands: list[_Operand] = []
        self.read_of: dict[Any, int] = {}
        self.store_of: dict[Value, int] = {}
        for member in group.nodes[1:]:
            for i, a in enumerate(member.args):
                if isinstance(a, Access) and a.root not in group.made:
                    strides = self.five(respread(member.shape, a.strides, group.shape))
                    self.read_of[member, i] = self.operand(a.root, a.offset, strides)
        own = contiguous(node.out.shape)
        own = (*own[:2], *(0,) * (5 - len(own)), *own[2:])
        for member in group.nodes:
            if member.out in self.keep:
                self.store_of[member.out] = self.operand(member.out, 0, own)
        shape, groups = node.out.shape, p["groups"]
        channels = shape[1] // groups
        transposed = node.name == "conv_input"
        source = node.instr.args[0].shape
        self.reduced = source[1] // groups
        # The weights' axes: (results, inputs, rows, columns); a transpose sums over the first.
        self.w_out, self.w_in = (w.strides[1], w.strides[0]) if transposed else w.strides[:2]
        self.w_row, self.w_column = w.strides[2:]
        self.x_strides = x.strides
        self.scratch = 0
        self.copies = packed(x.strides, source) and len(source) == 5 and crowded(x.strides[1], self.reduced, self.kind)
        if self.copies:
            self.room = f"%p{self.param(None, 0)}"
        x_param, w_param = self.param(x.root, x.offset), self.param(w.root, w.offset)
        with self.loop(shape[0]) as n, self.loop(groups) as g:
            x_base = self.near(f"%p{x_param}", self.kind, 0, [(n, x.strides[0]), (g, self.reduced * x.strides[1])])
            w_group = (self.reduced if transposed else channels) * w.strides[0]
            w_base = self.near(f"%p{w_param}", self.kind, 0, [(g, w_group)])
            for o in self.operands:
                o.base = self.near(f"%p{o.param}", o.kind, 0, [(n, o.strides[0]), (g, channels * o.strides[1])])
            for rows in p["rows"]:
                for columns in p["columns"]:
                    self.plane(rows, columns, channels, x_base, w_base)
        taps = math.prod(p["kernel"])
        pixels = math.prod((node.instr.args[0] if transposed else node.out).shape[2:-1])
        flops = 2 * shape[0] * self.lanes * shape[1] * self.reduced * taps * pixels
        return Kernel(self.finish(), self.params, self.scratch, flops)

    def plane(self, rows: Axis, columns: Axis, channels: int, x: str, w: str) -> None:
        ot, pt = tile_shape(channels, columns.count, self.registers)
        parts = tiles(columns.count, pt)
        marks: list[Any] = []
        for start, width in parts:
            pixels = range(start, start + width)
            marks.append(True if all(columns.inside(u, e) for u in pixels for _, e in columns.taps) else None)
        channel_runs = self.alike(channels, ot)
        every = runs(parts, marks)
        if not self.copies or not rows.taps:
            with self.loop(rows.count) as t:
                self.row(rows, columns, t, every, channel_runs, x, w)
            return
        row, plane = self.x_strides[2], self.x_strides[1]
        band = next((n for n in range(rows.count, 1, -1) if self.reduced * height(rows, n) * row <= BAND), 1)
        to = apart(height(rows, band) * row, self.kind)
        self.scratch = max(self.scratch, self.reduced * to * SIZE[self.kind])
        with self.loop(rows.count, band) as t0:
            t1 = self.smaller(self.whole(f"add i64 {t0}, {band}"), str(rows.count))
            there = self.copied(self.room, x, plane, row, self.source_rows(rows, t0, t1), self.reduced, to)
            self.x_strides = (self.x_strides[0], to, *self.x_strides[2:])
            with self.between(t0, t1) as t:
                self.row(rows, columns, t, every, channel_runs, there, w)
            self.x_strides = (self.x_strides[0], plane, *self.x_strides[2:])

    def row(
        self, rows: Axis, columns: Axis, t: str, parts: list[tuple[int, int, int]],
        channel_runs: list[tuple[int, int, int]], x: str, w: str,
    ) -> None:  # fmt: skip
        """One row of results of all channels."""
        first, last = self.rows_inside(rows, t)
        for o_start, o_width, o_many in channel_runs:
            with self.loop(o_many * o_width, o_width) as j:
                at = self.moved(j, o_start), o_width
                for start, width, many in parts:
                    known = range(start, start + width) if many == 1 else None
                    with self.loop(many * width, width) as i:
                        self.tile(rows, columns, (t, first, last), (self.moved(i, start), width, known), at, x, w)

    def rows_inside(self, rows: Axis, t: str) -> tuple[str, str]:
        """Which taps of a row of results lie inside the image."""
        n = len(rows.taps)
        if all(rows.inside(s, e) for s in (0, rows.count - 1) for _, e in rows.taps):
            return "0", str(n)
        e0 = rows.taps[0][1]
        step = rows.taps[1][1] - e0 if n > 1 else 1
        at = self.offset([(t, rows.step)])
        before = self.whole(f"sub i64 {-e0}, {at}")
        after = self.whole(f"sub i64 {rows.size - e0}, {at}")
        return self.first(before, step, n), self.first(after, step, n)

    def tile(
        self, rows: Axis, columns: Axis, row: tuple[str, str, str], pixels: tuple[str, int, Any],
        channels: tuple[str, int], x: str, w: str,
    ) -> None:  # fmt: skip
        (t, first, last), (u, width, known), (o, o_width) = row, pixels, channels
        _, _, x_row, x_column, x_lane = self.x_strides
        cells = [self.cells(width) for _ in range(o_width)]
        taps = rows.taps
        if taps and columns.taps:
            k0, e0 = taps[0]
            k_step, e_step = (taps[1][0] - k0, taps[1][1] - e0) if len(taps) > 1 else (0, 0)
            with self.between(first, last) as m:
                x_tile = self.near(
                    x,
                    self.kind,
                    e0 * x_row,
                    [(t, rows.step * x_row), (m, e_step * x_row), (u, columns.step * x_column)],
                )
                w_tile = self.near(w, self.kind, k0 * self.w_row, [(m, k_step * self.w_row), (o, self.w_out)])
                work = len(columns.taps) * width * o_width
                unroll = min(4, self.reduced, max(1, ENOUGH // work))
                many = self.reduced // unroll * unroll

                def step(c: str, ahead: int) -> None:
                    for k, e in columns.taps:
                        there = [q for q in range(width) if known is None or columns.inside(known[q], e)]
                        values: list[Val | None] = [None] * width
                        for q in there:
                            place = ahead * self.x_strides[1] + (e + q * columns.step) * x_column
                            values[q] = self.pixel(
                                self.near(x_tile, self.kind, place, [(c, self.x_strides[1])]), x_lane
                            )
                        for j in range(o_width if there else 0):
                            place = ahead * self.w_in + k * self.w_column + j * self.w_out
                            factor = self.b.splat(
                                self.s.load(self.near(w_tile, self.kind, place, [(c, self.w_in)]), self.kind)
                            )
                            for q in there:
                                value = values[q]
                                assert value is not None
                                self.put(self.b.fma(value, factor, self.get(cells[j][q])), cells[j][q])

                with self.loop(many, unroll) as c:
                    for ahead in range(unroll):
                        step(c, ahead)
                for ahead in range(self.reduced - many):
                    step(str(many), ahead)
        self.epilogue(cells, rows, columns, t, u, o)

    def epilogue(self, cells: list[list[str]], rows: Axis, columns: Axis, t: str, u: str, o: str) -> None:
        """Elementwise work on the tile, and its stores."""
        bases = [
            self.near(
                a.base, a.kind, rows.start * a.strides[2] + columns.start * a.strides[3],
                [(o, a.strides[1]), (t, rows.stride * a.strides[2]), (u, columns.stride * a.strides[3])],
            )
            for a in self.operands
        ]  # fmt: skip
        loaded: dict[Any, Val] = {}

        def place(n: int, j: int, q: int) -> str:
            a = self.operands[n]
            return self.near(bases[n], a.kind, j * a.strides[1] + q * columns.stride * a.strides[3], [])

        def read(n: int, j: int, q: int) -> Val:
            a = self.operands[n]
            key = (n, j if a.strides[1] else 0, q if a.strides[3] else 0)
            if key not in loaded:
                if a.strides[4] == 1 or self.lanes == 1:
                    loaded[key] = self.b.load(place(n, j, q), a.kind)
                elif a.strides[4] == 0:
                    loaded[key] = self.b.splat(self.s.load(place(n, j, q), a.kind))
                else:
                    loaded[key] = self.gathered(place(n, j, q), a)
            return loaded[key]

        for j in range(len(cells)):
            for q in range(len(cells[j])):
                here: dict[Value, Val] = {self.node.out: self.get(cells[j][q])}
                for member in self.group.nodes:
                    if member is not self.node:
                        args = [
                            a if not isinstance(a, Access)
                            else here[a.root] if a.root in here
                            else read(self.read_of[member, i], j, q)
                            for i, a in enumerate(member.args)
                        ]  # fmt: skip
                        here[member.out] = evaluate(self.b, member, args)
                    n = self.store_of.get(member.out)
                    if n is not None:
                        self.b.store(here[member.out], place(n, j, q))

    def gathered(self, pointer: str, a: _Operand) -> Val:
        memory = "u8" if a.kind == "i1" else a.kind
        out = Val(memory, "zeroinitializer")
        for lane in range(self.lanes):
            e = self.s.load(self.s.gep(pointer, str(lane * a.strides[4]), memory), memory)
            t = self.b.ty(memory)
            out = self.b.put(memory, f"insertelement {t} {out.text}, {self.s.ty(memory)} {e.text}, i64 {lane}")
        return self.b.cast(out, "i1") if a.kind == "i1" else out


def gradient_tile(channels: int, inputs: int, taps: int, registers: int) -> tuple[int, int, int]:
    """Channels of the result's gradient, input channels and taps of a row whose sums share the registers."""
    best = (math.inf, 1, 1, 1)
    for kt in sorted({-(-taps // d) for d in range(1, taps + 1)}):
        for ct in range(1, min(inputs, 8) + 1):
            for ot in range(1, min(channels, 12) + 1):
                held = ct * kt
                if ot * held + min(held, ot) + 1 > registers:
                    break
                cycles = 0.0
                for _, o in tiles(channels, ot):
                    for _, c in tiles(inputs, ct):
                        for _, k in tiles(taps, kt):
                            cycles += max(o * c * k / 2, (o + c * k) / 2, 4) + 0.3
                if cycles < best[0]:
                    best = (cycles, ot, ct, kt)
    return best[1:]


class _ConvWeight(_Walk):
    """w̄[o, c, i, j] = Σ over images, rows and columns of ȳ[n, o, t, u] · x[n, c, …]."""

    def run(self) -> Kernel:
        node, p = self.node, self.node.params
        x, y = node.args
        assert isinstance(x, Access)
        assert isinstance(y, Access)
        (rows,), (columns,) = p["rows"], p["columns"]
        x_shape, y_shape = node.instr.args[0].shape, node.instr.args[1].shape
        groups = p["groups"]
        channels, inputs = y_shape[1] // groups, x_shape[1] // groups
        ot, ct, kt = gradient_tile(channels, inputs, len(columns.taps), self.registers)
        self.x_strides, self.y_strides = x.strides, y.strides
        x_param, y_param, out = self.param(x.root, x.offset), self.param(y.root, y.offset), self.param(node.out, 0)
        entries = math.prod(node.out.shape)
        width = node.out.dtype.itemsize
        sums = f"%p{self.param(None, 0)}"
        self.module.declare("@llvm.memset.p0.i64", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        size = entries * self.lanes * width
        self.b.line(f"call void @llvm.memset.p0.i64(ptr {sums}, i8 0, i64 {size}, i1 false)")
        self.taps = len(rows.taps) * len(columns.taps)
        self.inputs = inputs
        x_row, y_row = x.strides[2], y.strides[2]
        plain = len(x_shape) == 5 and packed(x.strides, x_shape) and packed(y.strides, y_shape)

        def fits(n: int) -> bool:
            return inputs * height(rows, n) * x_row + channels * n * y_row <= 2 * BAND

        band = next((n for n in range(rows.count, 1, -1) if fits(n)), 1) if plain else rows.count
        whole = band == rows.count and not crowded(x.strides[1], inputs + channels, self.kind)
        copies = plain and not whole and inputs + channels > 4
        x_to, y_to = apart(height(rows, band) * x_row, self.kind), apart(band * y_row, self.kind)
        scratch = (size + 63) // 64 * 64
        if copies:
            x_room, y_room = (f"%p{self.param(None, at)}" for at in (scratch, scratch + inputs * x_to * width))
            scratch += (inputs * x_to + channels * y_to) * width
        with self.loop(x_shape[0]) as n, self.loop(groups) as g:
            x_base = self.near(f"%p{x_param}", self.kind, 0, [(n, x.strides[0]), (g, inputs * x.strides[1])])
            y_base = self.near(f"%p{y_param}", self.kind, 0, [(n, y.strides[0]), (g, channels * y.strides[1])])
            sum_base = self.near(sums, self.kind, 0, [(g, channels * inputs * self.taps * self.lanes)])
            with self.loop(rows.count, band) as t0:
                t1 = str(rows.count)
                if band < rows.count:
                    t1 = self.smaller(self.whole(f"add i64 {t0}, {band}"), t1)
                if copies:
                    lines = self.source_rows(rows, t0, t1)
                    x_base = self.copied(x_room, x_base, x.strides[1], x_row, lines, inputs, x_to)
                    y_base = self.copied(y_room, y_base, y.strides[1], y_row, (t0, t1), channels, y_to)
                    self.x_strides, self.y_strides = (
                        (v[0], to, *v[2:]) for v, to in ((x.strides, x_to), (y.strides, y_to))
                    )
                for o_start, o_width, o_many in self.alike(channels, ot):
                    with self.loop(o_many * o_width, o_width) as j:
                        o = self.moved(j, o_start)
                        for c_start, c_width, c_many in self.alike(inputs, ct):
                            with self.loop(c_many * c_width, c_width) as i:
                                c = self.moved(i, c_start)
                                with self.loop(len(rows.taps)) as m:
                                    for k_start, k_width in tiles(len(columns.taps), kt):
                                        chosen = range(k_start, k_start + k_width)
                                        self.tile(rows, columns, (m, t0, t1), chosen, (o, o_width), (c, c_width),
                                                  x_base, y_base, sum_base)  # fmt: skip
        self.total(sums, f"%p{out}", entries)
        flops = 2 * x_shape[0] * self.lanes * entries * math.prod(y_shape[2:-1])
        return Kernel(self.finish(), self.params, scratch, flops)

    def tile(
        self, rows: Axis, columns: Axis, row: tuple[str, str, str], chosen: range, channels: tuple[str, int],
        inputs: tuple[str, int], x: str, y: str, sums: str,
    ) -> None:  # fmt: skip
        (m, t0, t1), (o, o_width), (c, c_width) = row, channels, inputs
        cells = [[[self.cells(1)[0] for _ in chosen] for _ in range(c_width)] for _ in range(o_width)]
        e0 = rows.taps[0][1]
        e_step = rows.taps[1][1] - e0 if len(rows.taps) > 1 else 0
        first, last = t0, t1
        if not all(rows.inside(t, e) for t in (0, rows.count - 1) for _, e in rows.taps):
            at = self.offset([(m, e_step)])
            inside = self.first(self.whole(f"sub i64 {-e0}, {at}"), rows.step, rows.count)
            first = self.larger(t0, inside)
            last = self.smaller(self.first(self.whole(f"sub i64 {rows.size - e0}, {at}"), rows.step, rows.count), t1)
        taps = [columns.taps[k][1] for k in chosen]
        inside = [u for u in range(columns.count) if all(columns.inside(u, e) for e in taps)]
        middle = range(inside[0], inside[-1] + 1) if inside else range(0)
        edges = [u for u in range(columns.count) if u not in middle]
        x_row, x_column, x_lane = self.x_strides[2:]
        y_row, y_column, y_lane = self.y_strides[2:]
        with self.between(first, last) as t:
            x_tile = self.near(
                x, self.kind, e0 * x_row, [(c, self.x_strides[1]), (t, rows.step * x_row), (m, e_step * x_row)]
            )
            y_tile = self.near(y, self.kind, 0, [(o, self.y_strides[1]), (t, y_row)])

            def pixel(u: str, ahead: int, known: int | None) -> None:
                there = [k for k, e in enumerate(taps) if known is None or columns.inside(known, e)]
                if not there:
                    return
                values: dict[tuple[int, int], Val] = {}
                for i in range(c_width):
                    for k in there:
                        place = i * self.x_strides[1] + (taps[k] + ahead * columns.step) * x_column
                        values[i, k] = self.pixel(
                            self.near(x_tile, self.kind, place, [(u, columns.step * x_column)]), x_lane
                        )
                for j in range(o_width):
                    place = j * self.y_strides[1] + ahead * y_column
                    factor = self.pixel(self.near(y_tile, self.kind, place, [(u, y_column)]), y_lane)
                    for (i, k), value in values.items():
                        self.put(self.b.fma(value, factor, self.get(cells[j][i][k])), cells[j][i][k])

            for u in edges:
                pixel(str(u), 0, u)
            if middle:
                work = o_width * c_width * len(taps)
                unroll = min(4, len(middle), max(1, ENOUGH // work))
                whole = len(middle) // unroll * unroll
                with self.loop(whole, unroll) as i:
                    u = self.moved(i, middle[0])
                    for ahead in range(unroll):
                        pixel(u, ahead, None)
                for u in middle[whole:]:
                    pixel(str(u), 0, u)
        base = self.near(
            sums, self.kind, chosen[0] * self.lanes,
            [(o, self.inputs * self.taps * self.lanes), (c, self.taps * self.lanes),
             (m, len(columns.taps) * self.lanes)],
        )  # fmt: skip
        for j in range(o_width):
            for i in range(c_width):
                for k in range(len(taps)):
                    place = ((j * self.inputs + i) * self.taps + k) * self.lanes
                    pointer = self.near(base, self.kind, place, [])
                    self.b.store(self.b.add(self.b.load(pointer, self.kind), self.get(cells[j][i][k])), pointer)

    def total(self, sums: str, out: str, entries: int) -> None:
        """Add up the lanes of each sum."""
        b, s, kind = self.b, self.s, self.kind
        name = f"@llvm.vector.reduce.fadd.{b.suffix(kind)}"
        if self.lanes > 1:
            self.module.declare(name, f"declare {s.ty(kind)} {name}({s.ty(kind)}, {b.ty(kind)})")
        with self.loop(entries) as e:
            x = b.load(self.near(sums, kind, 0, [(e, self.lanes)]), kind)
            if self.lanes > 1:
                x = s.put(kind, f"call reassoc {s.ty(kind)} {name}({s.ty(kind)} -0.0, {b.ty(kind)} {x.text})")
            s.store(x, self.near(out, kind, 0, [(e, 1)]))


def emit_conv(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """A convolution (or its transpose) with its epilogue; ``keep`` are the values that somebody outside reads."""
    return _Conv(module, group, keep).run()


def emit_conv_weight(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """A weight gradient."""
    return _ConvWeight(module, group).run()
