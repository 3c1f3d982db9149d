"""A matrix product with its epilogue as one LLVM function, for shapes known in advance.

A tile of the result stays in registers while k runs: rows of B are loaded as vectors, entries of A are spread over the
lanes. Operands that would be read at strides the cache dislikes are first packed (``pack.py``): B into panels as wide
as a tile, A into panels as high as one. Large products go block by block (Goto and van de Geijn, "Anatomy of
high-performance matrix multiplication", 2008): a panel of B stays in the first-level cache while the tiles of a block
of A stream by from the second. Elementwise work on the result runs on the tile before it is stored.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

from ..graph.program import Value
from . import blas, native
from .groups import Group, respread
from .ir import SIZE, Module, Val, kind_of
from .nest import Kernel, collapse, evaluate
from .nodes import Access, Node, contiguous
from .pack import Packing

__all__ = ["emit_gemm", "packed_tile", "tile_shape"]

PANEL_BYTES = 20 * 1024
"""A panel of B, with a tile of A, lives in the first-level cache of 32 KB."""
UNROLLED = 5
"""Nodes of a group whose elementwise work is written out for every vector of a tile."""
A_BYTES = 260 * 1024
"""A block of A lives in the second-level cache, which has 512 KB or more."""


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


def large_tile(m: int, registers: int) -> tuple[int, int]:
    """The tile of products that are packed: two vectors wide, as high as the registers allow with few rows left."""
    highest = 6 if registers == 16 else 12
    rows = min(range(highest, highest - 2, -1), key=lambda r: (-(-m // r) * (r + 0.5), -r))
    return min(rows, m), 2


def packed_tile(node: Node) -> tuple[int, int] | None:
    """The tile of a product whose B is packed beforehand; None where that does not suit it."""
    size, lanes = SIZE[node.compute], native.vector_bytes() // SIZE[node.compute]
    m, n, k = node.shape[-2], node.shape[-1], node.params["k"]
    b = node.args[1]
    assert isinstance(b, Access)
    if m < 2 or n <= lanes or k < 16:
        return None
    mr, nv = tile_shape(m, -(-n // lanes), native.vector_registers())
    return (mr, nv) if k * nv * lanes * size <= 32 * 1024 else None


class _Gemm(Packing):
    def __init__(self, module: Module, group: Group, keep: set[Value], vector_bytes: int) -> None:
        node = group.nodes[0]
        self.kind = node.compute
        super().__init__(module, vector_bytes // SIZE[self.kind])
        self.group, self.keep, self.node = group, keep, node
        self.finish_with = self.finish_tile
        self.dot_with = self.finish_dot
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
        self.dots = self.n < max(2, self.lanes // 4) and self.a_k == 1 and self.k >= self.lanes // 2 and (
            self.b_k == 1 or self.k == 1)  # fmt: skip
        ready = "tile" in node.params
        library = not ready and self.by_library(b_rows)
        swapped = not (ready or library or self.batch) and self.few_rows()
        if library:
            self.mr, self.nv, self.dots = 1, min(4, self.vectors), False
            self.packs_b = False
        elif ready:
            self.dots = False
            self.choose_packed()
        elif not self.dots and not swapped:
            self.choose_blocks(bool(self.batch) and not any(b_rows[:-1]))
        # B that serves a whole batch of A is packed once.
        packed = self.packs_b and not self.by_panel and len(self.k_blocks) == 1 and not any(b_rows[:-1])
        if packed and not ready:
            self.pack_b(f"%p{self.b_param}", "0", self.k)
        with contextlib.ExitStack() as stack:
            index = [stack.enter_context(self.loop(n)) for n in self.batch]
            a_base = self.at(self.a_param, self.kind, index, a_rows[:-1])
            b_base = self.at(self.b_param, self.kind, index, b_rows[:-1])
            for o in self.operands:
                o.base = self.at(o.param, o.kind, index, o.rows[:-1])
            if library:
                self.emit_library(a_base, b_base)
            elif swapped:
                self.emit_swapped(a_base, b_base)
            elif self.dots:
                self.emit_dots(a_base, b_base)
            else:
                self.emit_blocks(a_base, b_base, packed)
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

    # -- a library's product ---------------------------------------------------------------------------------------

    def by_library(self, b_rows: list[int]) -> bool:
        """Whether the product goes to the BLAS library: it is large, and its operands are as BLAS wants them."""
        if blas.choice() == "own" or 2 * self.m * self.n * self.k < blas.WORTH:
            return False
        return all(
            min(step) == 1 and max(step) > 0 for step in ((self.a_m, self.a_k), (self.b_k, self.b_n))
        ) and max(self.a_m, self.a_k) >= (self.k if self.a_k == 1 else self.m) and max(self.b_k, self.b_n) >= (
            self.n if self.b_n == 1 else self.k)  # fmt: skip

    def emit_library(self, a: str, b: str) -> None:
        """C = A B by BLAS, which thinks in columns and so computes Cᵀ = Bᵀ Aᵀ; then the elementwise work, by rows."""
        s, kind = self.s, self.kind
        product = self.reserve(self.m * self.n)
        function = self.param(blas.ENTRIES[kind], 0)

        def cell(text: str, t: str) -> str:
            name = s.name()
            self.allocas.append(f"  {name} = alloca {t}, align 8")
            s.line(f"store {t} {text}, ptr {name}")
            return f"ptr {name}"

        # A row-major matrix is the transposed one in columns: "N" where its rows are contiguous.
        b_flag, a_flag = (78 if step == 1 else 84 for step in (self.b_n, self.a_k))
        ldb, lda = max(self.b_k, self.b_n), max(self.a_m, self.a_k)
        one, zero = s.const(kind, 1.0).text, s.const(kind, 0.0).text
        arguments = [
            cell(str(b_flag), "i8"), cell(str(a_flag), "i8"), cell(str(self.n), "i32"), cell(str(self.m), "i32"),
            cell(str(self.k), "i32"), cell(one, s.ty(kind)), f"ptr {b}", cell(str(ldb), "i32"), f"ptr {a}",
            cell(str(lda), "i32"), cell(zero, s.ty(kind)), f"ptr %p{product}", cell(str(self.n), "i32"),
        ]  # fmt: skip
        s.line(f"call void %p{function}({', '.join(arguments)})")
        self.finish_rows(f"%p{product}", self.n, 1)

    def finish_rows(self, product: str, row: int, column: int) -> None:
        """Elementwise work on a product that is in memory, whose rows and columns are that many entries apart."""
        kind, lanes, v = self.kind, self.lanes, self.b

        def read(base: str, active: int | None) -> Val:
            if column == 1:
                return v.load(base, kind, None if active is None else v.mask(active))
            out = Val(kind, "zeroinitializer")
            for lane in range(lanes if active is None else active):
                x = self.s.load(self.near(base, kind, lane * column), kind)
                text = f"insertelement {v.ty(kind)} {out.text}, {self.s.ty(kind)} {x.text}, i64 {lane}"
                out = v.put(kind, text)
            return out

        with self.loop(self.m) as i:
            j = 0
            for w, count, active in self.runs():
                with self.loop(count * w * lanes, w * lanes) as jj:
                    at = self.offset([(jj, 1), (str(j), 1)]) if j else jj
                    start = self.near(product, kind, 0, [(i, row), (at, column)])
                    acc = [
                        read(self.near(start, kind, x * lanes * column), active if x == w - 1 else None)
                        for x in range(w)
                    ]
                    self.finish_tile([acc], i, at, active)
                j += count * w * lanes

    # -- few rows, a large transposed B: a small batch through a wide layer -----------------------------------------

    def few_rows(self) -> bool:
        """Whether to compute Cᵀ = Bᵀ Aᵀ instead: the few rows of A fit the lanes, and B is read once, as it lies."""
        size = SIZE[self.kind]
        return 1 <= self.m <= 4 * self.lanes and self.b_k == 1 and self.n * self.k * size >= 128 * 1024 and self.n > 48

    def emit_swapped(self, a: str, b: str) -> None:
        m, n = self.m, self.n
        strides = self.a_m, self.a_k, self.b_k, self.b_n
        self.m, self.n, self.a_m, self.a_k, self.b_k, self.b_n = n, m, self.b_n, self.b_k, self.a_k, self.a_m
        self.vectors = -(-m // self.lanes)
        width = self.vectors * self.lanes
        product = f"%p{self.reserve(n * width)}"
        registers = native.vector_registers()
        self.nv = self.vectors
        self.mr = min(14, (registers - self.nv - 1) // self.nv)
        self.packs_a, self.packs_b, self.by_panel, self.rows = False, True, True, n
        blocks = -(-self.k * width * SIZE[self.kind] // PANEL_BYTES)
        even = [c for c in range(blocks, blocks + 3) if self.k % (4 * c) == 0]
        step = self.k // even[0] if even else min(self.k, -(-self.k // (4 * blocks)) * 4)
        self.k_blocks = [(k0, min(step, self.k - k0)) for k0 in range(0, self.k, step)]

        def keep(acc: list[list[Val]], i: str, j: str, active: int | None) -> None:
            start = self.near(product, self.kind, 0, [(i, width), (j, 1)])
            for y, row in enumerate(acc):
                for x, value in enumerate(row):
                    self.b.store(value, self.near(start, self.kind, y * width + x * self.lanes))

        if m < self.lanes // 2 and self.b_k == 1:
            self.dot_with = lambda dot, i, j: self.s.store(dot, self.near(product, self.kind, j, [(i, width)]))
            self.emit_dots(b, a)
            self.dot_with = self.finish_dot
        else:
            self.packed_b = self.reserve(step * width)
            if len(self.k_blocks) > 1:
                self.partial = self.reserve(n * width)
            self.finish_with = keep
            self.emit_blocks(b, a, False)
            self.finish_with = self.finish_tile

        self.m, self.n = m, n
        self.a_m, self.a_k, self.b_k, self.b_n = strides
        self.vectors = -(-n // self.lanes)
        self.mr, self.nv, self.packs_b = 1, min(4, self.vectors), False
        self.finish_rows(product, 1, width)

    # -- blocks ----------------------------------------------------------------------------------------------------

    packs_a = packs_b = False
    by_panel = True
    """Each panel of B is packed just before it is used, and is still in the first-level cache then."""

    def choose_packed(self) -> None:
        """B is packed already: whole panels, one block of k."""
        self.mr, self.nv = self.node.params["tile"]
        self.packs_b, self.by_panel, self.packed_b = True, False, self.b_param
        self.k_blocks, self.rows = [(0, self.k)], self.m

    def choose_blocks(self, shared: bool) -> None:
        """Tile, blocks of k and of rows, and which operand is packed; ``shared``: one B for a batch of A."""
        size, lanes = SIZE[self.kind], self.lanes
        registers = native.vector_registers()
        self.mr, self.nv = tile_shape(self.m, self.vectors, registers)
        wide = self.k * self.n * size  # bytes of B
        # Packing costs about what a few rows of the product do.
        large = self.m >= 48 and self.n > lanes and self.k >= 64 and wide > 16 * 1024
        # Rows of a large B that are far apart share cache sets: copied, they are read once even for few rows of A.
        far = self.b_n == 1 and wide > 256 * 1024 and self.b_k * size >= 1024
        large = large or (far and self.m > 6)
        self.packs_b = self.n > 1 and (self.b_n != 1 or large)
        if large:
            self.mr, self.nv = large_tile(self.m, registers)
            self.nv = min(self.nv, self.vectors)
        # A tile of A that is contiguous along m reads a line of the cache per k, of which it uses a part.
        self.packs_a = large and self.n >= 3 * self.nv * lanes and (self.a_m == 1 or self.a_m * size % 1024 == 0)
        blocks = 1
        if large or self.k > 384:
            blocks = -(-self.k * min(self.nv, self.vectors) * lanes * size // PANEL_BYTES)
        if far and not large:
            blocks = -(-self.k // 16)  # rows of B far apart: a few at a time, each read on and on
        # Blocks of the same length share their code.
        even = [n for n in range(blocks, blocks + 3) if self.k % (4 * n) == 0]
        step = self.k // even[0] if even else min(self.k, -(-self.k // (4 * blocks)) * 4)
        self.k_blocks = [(k0, min(step, self.k - k0)) for k0 in range(0, self.k, step)]
        self.rows = self.m  # rows of A in a block
        if self.packs_a:
            most = max(1, A_BYTES // (step * size * self.mr)) * self.mr
            parts = -(-self.m // most)
            self.rows = min(self.m, -(-self.m // (parts * self.mr)) * self.mr)
        self.by_panel = self.rows == self.m and not (shared and len(self.k_blocks) == 1)
        panels = -(-self.vectors // self.nv)
        if self.by_panel:
            panels = max(self.together(count) for _, count, _ in self.runs())
        if self.packs_b:
            self.packed_b = self.reserve(step * panels * self.nv * lanes)
        if self.packs_a:
            self.packed_a = self.reserve((-(-self.rows // self.mr) * self.mr) * step + lanes)
        if len(self.k_blocks) > 1:
            self.partial = self.reserve(self.m * self.vectors * lanes)

    def reserve(self, entries: int) -> int:
        """Scratch memory; the number of its pointer."""
        self.scratch = (self.scratch + 63) // 64 * 64
        number = self.param(None, self.scratch)
        self.scratch += entries * SIZE[self.kind]
        return number

    def emit_blocks(self, a: str, b: str, packed: bool) -> None:
        """The product as a sum over blocks of k."""
        count, step = len(self.k_blocks), self.k_blocks[0][1]
        if count == 1 or packed:
            if packed:
                self.emit_rows(a, f"%p{self.packed_b}", "0", step, "yes", "yes")
            else:
                self.emit_k_block(a, b, "0", step, "yes", "yes")
            return
        rest = self.k_blocks[-1][1] != step
        with self.loop((count - rest) * step, step) as k0:
            first, last = self.b.name(), self.b.name()
            self.b.line(f"{first} = icmp eq i64 {k0}, 0")
            if not rest:
                self.b.line(f"{last} = icmp eq i64 {k0}, {(count - 1) * step}")
            self.emit_k_block(a, b, k0, step, first, "no" if rest else last)
        if rest:
            self.emit_k_block(a, b, str(self.k_blocks[-1][0]), self.k_blocks[-1][1], "no", "yes")

    def emit_k_block(self, a: str, b: str, k0: str, kc: int, first: str, last: str) -> None:
        if self.packs_b and not self.by_panel:
            self.pack_b(b, k0, kc)
            b = f"%p{self.packed_b}"
        else:
            b = self.near(b, self.kind, 0, [(k0, self.b_k)])
        self.emit_rows(a, b, k0, kc, first, last)

    def emit_rows(self, a: str, b: str, k0: str, kc: int, first: str, last: str) -> None:
        """All rows of the result for one block of k, a block of rows at a time."""
        a = self.near(a, self.kind, 0, [(k0, self.a_k)])
        if not self.packs_a:
            self.emit_panels(a, b, "0", self.m, kc, first, last)
            return
        whole, rest = divmod(self.m, self.rows)
        with self.loop(whole * self.rows, self.rows) as i:
            self.pack_a(self.near(a, self.kind, 0, [(i, self.a_m)]), self.rows, kc, self.m - (whole - 1) * self.rows)
            self.emit_panels(f"%p{self.packed_a}", b, i, self.rows, kc, first, last)
        if rest:
            i = str(whole * self.rows)
            self.pack_a(self.near(a, self.kind, 0, [(i, self.a_m)]), rest, kc, rest)
            self.emit_panels(f"%p{self.packed_a}", b, i, rest, kc, first, last)

    def emit_panels(self, a: str, b: str, i0: str, rows: int, kc: int, first: str, last: str) -> None:
        """``rows`` rows of the result from row i0 on, panel by panel."""
        lanes, kind = self.lanes, self.kind
        ldb = self.nv * lanes if self.packs_b else self.b_k
        j = 0
        for w, count, active in self.runs():
            several = self.together(count)
            step = several * w * lanes
            with self.loop(count * w * lanes, step) as jj:
                at = self.offset([(jj, 1), (str(j), 1)]) if j else jj
                if several > 1:
                    self.pack_panel(self.near(b, kind, 0, [(at, self.b_n)]), "0", kc, step)
                    with self.loop(step, w * lanes) as x:
                        place = self.near(f"%p{self.packed_b}", kind, 0, [(x, kc)])
                        self.emit_panel(
                            a, place, ldb, i0, self.offset([(at, 1), (x, 1)]), rows, w, None, kc, first, last
                        )
                else:
                    columns = step if active is None else step - lanes + active
                    self.emit_panel(a, self.panel(b, at, kc, columns), ldb, i0, at, rows, w, active, kc, first, last)
            j += count * w * lanes

    def together(self, panels: int) -> int:
        """How many panels to pack at once: rows of B that are far apart are read some lines at a time."""
        if not (self.packs_b and self.by_panel and self.b_n == 1):
            return 1
        return next((g for g in (4, 5, 6, 7, 8, 3, 2) if panels % g == 0), 1) if panels > 1 else 1

    def runs(self) -> list[tuple[int, int, int | None]]:
        """The panels from left to right: vectors of each, how many are alike, and the lanes in use of the last vector
        (None: all). Packed ones are alike but for the last, others differ by one vector at most."""
        panels = -(-self.vectors // self.nv)
        if self.packs_b:
            widths = [(self.nv, panels - 1), (self.vectors - (panels - 1) * self.nv, 1)]
        else:
            narrow, wider = divmod(self.vectors, panels)
            widths = [(narrow + 1, wider), (narrow, panels - wider)]
        out: list[tuple[int, int, int | None]] = [(w, count, None) for w, count in widths if w and count]
        if len(out) == 2 and out[0][0] == out[1][0]:
            out = [(out[0][0], out[0][1] + out[1][1], None)]
        active = self.n % self.lanes
        if active:
            w, count, _ = out.pop()
            out += [(w, count - 1, None)] if count > 1 else []
            out.append((w, 1, active))
        return out

    def panel(self, b: str, at: str, kc: int, columns: int) -> str:
        """Where the panel of the columns from ``at`` on is: a packed one is kc rows of a panel's width."""
        if not self.packs_b:
            return self.near(b, self.kind, 0, [(at, 1)])
        if not self.by_panel:
            return self.near(b, self.kind, 0, [(at, kc)])
        self.pack_panel(self.near(b, self.kind, 0, [(at, self.b_n)]), "0", kc, columns)
        return f"%p{self.packed_b}"

    def emit_panel(
        self, a: str, b: str, ldb: int, i0: str, j: str, rows: int, w: int, active: int | None, kc: int, first: str,
        last: str,
    ) -> None:  # fmt: skip
        # Narrow panels take more rows, so that enough accumulators are under way.
        most = min(24, native.vector_registers() - w - 1) // w
        mr = self.mr if w == self.nv or self.packs_a else min(rows, max(self.mr, min(16, most)))
        whole, rest = divmod(rows, mr)
        if whole:
            with self.loop(whole * mr, mr) as i:
                self.emit_tile(a, b, ldb, i0, i, j, mr, w, active, kc, first, last)
        if rest:
            self.emit_tile(a, b, ldb, i0, str(whole * mr), j, rest, w, active, kc, first, last)

    def emit_tile(
        self, a: str, b_tile: str, ldb: int, i0: str, i: str, j: str, mr: int, w: int, active: int | None, kc: int,
        first: str, last: str,
    ) -> None:  # fmt: skip
        """Rows i0 + i … of columns j …: ``a`` is row i0's, ``b_tile`` the panel. ``first``, ``last``: whether this is
        the first block of k, the last: "yes", "no" or an i1."""
        v, kind, lanes = self.b, self.kind, self.lanes
        t = v.ty(kind)
        a_m, a_k = (1, mr) if self.packs_a else (self.a_m, self.a_k)
        # A packed panel of mr rows is kc columns of mr entries.
        a_tile = self.near(a, kind, 0, [(i, kc if self.packs_a else a_m)])
        i = self.offset([(i, 1), (i0, 1)])
        width = self.vectors * lanes
        tail = active is not None and not self.packs_b
        masks = [v.mask(active or 0) if tail and x == w - 1 else None for x in range(w)]

        def step(k: str, u: int, acc: list[list[Val]]) -> None:
            row = [v.load(self.near(b_tile, kind, u * ldb + x * lanes, [(k, ldb)]), kind, masks[x]) for x in range(w)]
            for y in range(mr):
                entry = v.splat(self.s.load(self.near(a_tile, kind, u * a_k + y * a_m, [(k, a_k)]), kind))
                for x in range(w):
                    acc[y][x] = v.fma(entry, row[x], acc[y][x])

        def partial(y: int, x: int) -> str:
            return self.near(kept, kind, y * width + x * lanes)

        kept = "" if first == last == "yes" else self.near(f"%p{self.partial}", kind, 0, [(i, width), (j, 1)])
        acc = [[Val(kind, "zeroinitializer") for _ in range(w)] for _ in range(mr)]
        if first != "yes":
            load, go, before = self.new_label("load"), self.new_label("go"), self.block
            v.line(f"br i1 {first}, label %{go}, label %{load}" if first != "no" else f"br label %{load}")
            self.start(load)
            old = [[v.load(partial(y, x), kind) for x in range(w)] for y in range(mr)]
            self.goto(go)
            if first == "no":
                acc = old
            else:
                acc = [
                    [v.put(kind, f"phi {t} [zeroinitializer, %{before}], [{o.text}, %{load}]") for o in row]
                    for row in old
                ]
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
        if last != "yes":
            keep, end, done = self.new_label("keep"), self.new_label("end"), self.new_label("done")
            v.line(f"br i1 {last}, label %{end}, label %{keep}" if last != "no" else f"br label %{keep}")
            self.start(keep)
            for y in range(mr):
                for x in range(w):
                    v.store(acc[y][x], partial(y, x))
            if last == "no":
                return
            v.line(f"br label %{done}")
            self.start(end)
            self.finish_with(acc, i, j, active)
            self.goto(done)
            return
        self.finish_with(acc, i, j, active)

    def finish_tile(self, acc: list[list[Val]], i: str, j: str, active: int | None) -> None:
        """Elementwise work on a tile, and its stores."""
        v, kind, lanes, w = self.b, self.kind, self.lanes, len(acc[0])
        bases = [self.near(o.base, o.kind, 0, [(i, o.rows[-1]), (j, o.n)]) for o in self.operands]
        masks = [v.mask(active) if active is not None and x == w - 1 else None for x in range(w)]
        if len(acc) == 1 or len(self.group.nodes) <= UNROLLED:
            spread: dict[Any, Val] = {}
            for y, row in enumerate(acc):
                for x in range(w):
                    self.epilogue(row[x], bases, y, x, masks[x], active, spread)
            return
        # Longer work is written once for a row: its values would not stay in registers anyway.
        cell = v.name()
        self.allocas.append(f"  {cell} = alloca {v.ty(kind)}, i64 {len(acc) * w}, align 64")
        for y, row in enumerate(acc):
            for x in range(w):
                v.store(row[x], self.near(cell, kind, (y * w + x) * lanes))
        with self.loop(len(acc)) as y:
            here = [self.near(base, o.kind, 0, [(y, o.rows[-1])]) for base, o in zip(bases, self.operands, strict=True)]
            spread = {}
            for x in range(w):
                value = v.load(self.near(cell, kind, x * lanes, [(y, w * lanes)]), kind)
                self.epilogue(value, here, 0, x, masks[x], active, spread)

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
        # Several sums under way, so that none waits for the one before.
        several = 4 if whole >= 8 and self.n <= 4 else 1
        name = f"@llvm.vector.reduce.fadd.{v.suffix(kind)}"
        self.module.declare(name, f"declare {s.ty(kind)} {name}({s.ty(kind)}, {v.ty(kind)})")
        with self.loop(self.m) as i:
            a_row = self.near(a, kind, 0, [(i, self.a_m)])
            for j in range(self.n):
                cells = [self.alloca(kind, lanes) for _ in range(several)]
                for cell in cells:
                    v.line(f"store {v.ty(kind)} zeroinitializer, ptr {cell}, align 64")

                def step(k: str, u: int, mask: str | None, j: int = j, cells: list[str] = cells) -> None:
                    x = v.load(self.near(a_row, kind, u * lanes, [(k, 1)]), kind, mask)
                    y = v.load(self.near(b, kind, j * self.b_n + u * lanes, [(k, 1)]), kind, mask)
                    old = v.put(kind, f"load {v.ty(kind)}, ptr {cells[u]}, align 64")
                    v.line(f"store {v.ty(kind)} {v.fma(x, y, old).text}, ptr {cells[u]}, align 64")

                even = whole // several * several
                if even:
                    with self.loop(even * lanes, several * lanes) as k:
                        for u in range(several):
                            step(k, u, None)
                for n in range(even, whole):
                    step(str(n * lanes), 0, None)
                if rest:
                    step(str(whole * lanes), 0, v.mask(rest))
                parts = [Val(kind, v.put(kind, f"load {v.ty(kind)}, ptr {cell}, align 64").text) for cell in cells]
                while len(parts) > 1:
                    parts = [v.add(p, q) for p, q in zip(parts[::2], parts[1::2], strict=True)]
                start = f"{s.ty(kind)} -0.0, {v.ty(kind)} {parts[0].text}"
                self.dot_with(s.put(kind, f"call reassoc {s.ty(kind)} {name}({start})"), i, j)

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
