"""Direct convolutions of images in lanes, with their epilogue, as LLVM functions.

A tile of results (channels × pixels of a row) stays in registers while the input channels and the taps run past: pixels
are loaded as vectors, weights spread over the lanes.
"""

from __future__ import annotations

import math
from typing import Any

from ..graph.program import Value
from .groups import Group
from .ir import SIZE, Module, Val
from .nest import Kernel
from .nodes import Access
from .walk import BAND, ENOUGH, Finishing, apart, crowded, height, packed, segments
from .windows import Axis, tiles

__all__ = ["emit_conv"]


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


class _Conv(Finishing):
    """y[n, o, t, u] = Σ over c and taps of x[n, c, …] · w[o, c, …], then the epilogue."""

    def run(self) -> Kernel:
        node, p = self.node, self.node.params
        x, w = node.args
        assert isinstance(x, Access)
        assert isinstance(w, Access)
        self.collect()
        shape, groups = node.out.shape, p["groups"]
        channels = shape[1] // groups
        transposed = node.name == "conv_input"
        source = p["shapes"][0]
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
            self.place(n, self.offset([(g, channels)]))
            for rows in p["rows"]:
                for columns in p["columns"]:
                    self.plane(rows, columns, channels, x_base, w_base)
        taps = math.prod(p["kernel"])
        pixels = math.prod((source if transposed else shape)[2:-1])
        flops = 2 * shape[0] * self.lanes * shape[1] * self.reduced * taps * pixels
        return Kernel(self.finish(), self.params, self.scratch, flops)

    def plane(self, rows: Axis, columns: Axis, channels: int, x: str, w: str) -> None:
        ot, pt = tile_shape(channels, columns.count, self.registers)
        channel_runs = self.alike(channels, ot)
        every = segments(columns, pt)
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
                    self.flush()
                for ahead in range(self.reduced - many):
                    step(str(many), ahead)
                self.flush()
        self.epilogue(cells, rows, columns, t, u, o)


def emit_conv(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """A convolution (or its transpose) with its epilogue; ``keep`` are the values that somebody outside reads."""
    return _Conv(module, group, keep).run()
