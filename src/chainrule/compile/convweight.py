"""Weight gradients of convolutions, images in lanes, as LLVM functions.

Sums for a tile (channels × input channels × taps of a row) stay in registers while a band of rows runs past, and are
added up in memory, a vector each; the lanes are added at the end.
"""

from __future__ import annotations

import math

from ..graph.program import Value
from .groups import Group
from .ir import Module, Val
from .nest import Kernel
from .nodes import Access
from .walk import BAND, ENOUGH, Walk, apart, crowded, height, packed
from .windows import Axis, tiles

__all__ = ["emit_conv_weight"]


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


class _ConvWeight(Walk):
    """w̄[o, c, i, j] = Σ over images, rows and columns of ȳ[n, o, t, u] · x[n, c, …]."""

    def run(self) -> Kernel:
        node, p = self.node, self.node.params
        x, y = node.args
        assert isinstance(x, Access)
        assert isinstance(y, Access)
        (rows,), (columns,) = p["rows"], p["columns"]
        x_shape, y_shape = p["shapes"]
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
            self.flush()
            if middle:
                work = o_width * c_width * len(taps)
                unroll = min(4, len(middle), max(1, ENOUGH // work))
                whole = len(middle) // unroll * unroll
                with self.loop(whole, unroll) as i:
                    u = self.moved(i, middle[0])
                    for ahead in range(unroll):
                        pixel(u, ahead, None)
                    self.flush()
                for u in middle[whole:]:
                    pixel(str(u), 0, u)
                self.flush()
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
        self.flush()

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


def emit_conv_weight(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """The weight gradient of a convolution."""
    return _ConvWeight(module, group).run()
