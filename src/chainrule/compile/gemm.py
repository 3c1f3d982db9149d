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

from ..graph.program import Value
from . import blas, native
from .blocks import Blocks, panel_bytes
from .groups import Group
from .ir import SIZE, Module, Val
from .nest import Kernel, collapse
from .nodes import Access

__all__ = ["emit_gemm"]


class _Gemm(Blocks):
    """The way a product is computed: by a library, transposed, as dot products, or in blocks."""

    def run(self) -> Kernel:
        node = self.node
        shape = node.out.shape
        self.n, self.k = shape[-1], node.params["k"]
        a, b = node.args
        assert isinstance(a, Access)
        assert isinstance(b, Access)
        nb = len(shape) - 2
        self.find_operands()
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
        blocks = -(-self.k * width * SIZE[self.kind] // panel_bytes())
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


def emit_gemm(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """A product group as a function over pointers; ``keep`` are the values that somebody outside reads."""
    return _Gemm(module, group, keep, vector_bytes).run()
