"""What the kernels of images in lanes share: loops over rows and taps, and elementwise work on their results.

One vector is one pixel of L images. Taps that would read outside of the image are left out, rows at run time, columns
by tiles of their own at both ends, so no border is ever in memory.
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
from .nest import Nest, evaluate
from .nodes import Access, contiguous
from .windows import Axis, tiles

__all__ = ["BAND", "ENOUGH", "Finishing", "Walk", "apart", "crowded", "height", "packed", "segments"]

ENOUGH = 24
"""Multiply-adds in the body of the innermost loop that make its own instructions negligible."""
BAND = 24576
"""Entries of the input that are worked on together: 96 KB of float32, a part of the second-level cache."""


@dataclass(slots=True)
class _Operand:
    """An array of the epilogue: strides over blocks, channels, rows, columns and lanes."""

    param: int
    kind: str
    strides: tuple[int, ...]
    base: str = ""


class Walk(Nest):
    """Addresses, loops with computed bounds, sums in registers."""

    def __init__(self, module: Module, group: Group) -> None:
        self.node = group.nodes[0]
        super().__init__(module, self.node.params["lanes"])
        self.kind = self.node.compute
        self.registers = native.vector_registers()
        self.current: dict[str, Val] = {}
        self.changed: set[str] = set()

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
        """A sum's value."""
        if cell not in self.current:
            self.current[cell] = self.b.put(self.kind, f"load {self.b.ty(self.kind)}, ptr {cell}, align 64")
        return self.current[cell]

    def put(self, value: Val, cell: str) -> None:
        """Give a sum another value, until ``flush`` in the text of the program only."""
        self.current[cell] = value
        self.changed.add(cell)

    def flush(self) -> None:
        """Store the sums that changed; due before every branch."""
        for cell, value in self.current.items():
            if cell in self.changed:
                self.b.line(f"store {self.b.ty(self.kind)} {value.text}, ptr {cell}, align 64")
        self.current.clear()
        self.changed.clear()

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


def segments(columns: Axis, most: int) -> list[tuple[int, int, int]]:
    """(start, width, how many) of the tiles of a row; those whose taps are not all inside stand alone."""
    parts = tiles(columns.count, most)
    inner = [
        all(columns.inside(u, e) for u in range(start, start + width) for _, e in columns.taps)
        for start, width in parts
    ]  # fmt: skip
    return runs(parts, [True if i else None for i in inner])


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


class Finishing(Walk):
    """A kernel whose results go through the elementwise work of its group before they are stored."""

    def __init__(self, module: Module, group: Group, keep: set[Value]) -> None:
        super().__init__(module, group)
        self.group, self.keep = group, keep
        self.operands: list[_Operand] = []
        self.read_of: dict[Any, int] = {}
        self.store_of: dict[Value, int] = {}

    def collect(self) -> None:
        """Every array that the elementwise work reads or writes."""
        group = self.group
        for member in group.nodes[1:]:
            for i, a in enumerate(member.args):
                if isinstance(a, Access) and a.root not in group.made:
                    strides = self.five(respread(member.shape, a.strides, group.shape))
                    self.read_of[member, i] = self.operand(a.root, a.offset, strides)
        own = self.own()
        for member in group.nodes:
            if member.out in self.keep:
                self.store_of[member.out] = self.operand(member.out, 0, own)

    def own(self) -> tuple[int, ...]:
        """The result's own strides."""
        own = contiguous(self.node.out.shape)
        return (*own[:2], *(0,) * (5 - len(own)), *own[2:])

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

    def place(self, n: str, channel: str) -> None:
        """Set every array's base to a block and a channel."""
        for o in self.operands:
            o.base = self.near(f"%p{o.param}", o.kind, 0, [(n, o.strides[0]), (channel, o.strides[1])])

    def bases(self, rows: Axis, columns: Axis, t: str, u: str, o: str) -> list[str]:
        """Where every array has the first result of a tile: row t, column u, channel o."""
        return [
            self.near(
                a.base, a.kind, rows.start * a.strides[2] + columns.start * a.strides[3],
                [(o, a.strides[1]), (t, rows.stride * a.strides[2]), (u, columns.stride * a.strides[3])],
            )
            for a in self.operands
        ]  # fmt: skip

    def epilogue(self, cells: list[list[str]], rows: Axis, columns: Axis, t: str, u: str, o: str) -> None:
        """Elementwise work on the tile, and its stores."""
        bases = self.bases(rows, columns, t, u, o)
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
        self.flush()

    def gathered(self, pointer: str, a: _Operand) -> Val:
        memory = "u8" if a.kind == "i1" else a.kind
        out = Val(memory, "zeroinitializer")
        for lane in range(self.lanes):
            e = self.s.load(self.s.gep(pointer, str(lane * a.strides[4]), memory), memory)
            t = self.b.ty(memory)
            out = self.b.put(memory, f"insertelement {t} {out.text}, {self.s.ty(memory)} {e.text}, i64 {lane}")
        return self.b.cast(out, "i1") if a.kind == "i1" else out
