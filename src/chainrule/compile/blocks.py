"""Blocks of a large product: which part of it is in which cache, and what is packed before."""

from __future__ import annotations

from . import native
from .ir import SIZE
from .microkernel import MicroKernel
from .tiles import large_tile, tile_shape

__all__ = ["Blocks", "panel_bytes"]

A_BYTES = 260 * 1024
"""A block of A lives in the second-level cache, which has 512 KB or more."""
RESULT_BYTES = 256 * 1024
"""A result from this size on does not stay in the second-level cache."""
B_BYTES = 512 * 1024
"""A packed B up to this size may be read again for every few rows."""


def panel_bytes() -> int:
    """A panel of B, with a tile of A, lives in the first-level cache of 32 KB; of processors with vectors of 64 bytes
    that cache has 48 KB, or the next one is fast enough: k is cut into as few blocks there as for vectors of 32."""
    return 36 * 1024 if native.vector_bytes() == 64 else 20 * 1024


class Blocks(MicroKernel):
    """The loops over blocks of k, blocks of rows and panels."""

    b_param: int
    by_panel = True
    """Each panel of B is packed just before it is used, and is still in the first-level cache then."""
    strip = 0
    """Rows of the result that are made before the next ones, panel by panel; 0: all of a block."""

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
            blocks = -(-self.k * min(self.nv, self.vectors) * lanes * size // panel_bytes())
        if far and not large:
            blocks = -(-self.k // 16)  # rows of B far apart: a few at a time, each read on and on
        # Blocks of the same length share their code.
        even = [n for n in range(blocks, blocks + 3) if self.k % (4 * n) == 0]
        step = self.k // even[0] if even else min(self.k, -(-self.k // (4 * blocks)) * 4)
        self.k_blocks = [(k0, min(step, self.k - k0)) for k0 in range(0, self.k, step)]
        by_rows = self.by_rows()
        unit = self.choose_strip() if by_rows else self.mr
        self.rows = self.m  # rows of A in a block
        if self.packs_a:
            most = max(1, A_BYTES // (step * size * unit)) * unit
            parts = -(-self.m // most)
            self.rows = min(self.m, -(-self.m // (parts * unit)) * unit)
        self.strip = unit if by_rows else 0
        self.by_panel = self.rows == self.m and not (by_rows or (shared and len(self.k_blocks) == 1))
        panels = -(-self.vectors // self.nv)
        if self.by_panel:
            panels = max(self.together(count) for _, count, _ in self.runs())
        if self.packs_b:
            self.packed_b = self.reserve(step * panels * self.nv * lanes)
        if self.packs_a:
            self.packed_a = self.reserve((-(-self.rows // self.mr) * self.mr) * step + lanes)
        if len(self.k_blocks) > 1:
            self.partial = self.reserve(self.m * self.vectors * lanes)

    def by_rows(self) -> bool:
        """Whether the result is made a few whole rows at a time, which the processor fetches ahead. Down a panel every
        row is another page: that costs where the work on the result reads an array of its size (a weight's gradient
        with the update inside), and where there is little else to do."""
        size = SIZE[self.kind]
        if len(self.k_blocks) > 1 or self.m * self.n * size < RESULT_BYTES or self.k * self.n * size > B_BYTES:
            return False
        if self.n < 4 * self.lanes or self.m < (2 if self.k == 1 else 48):
            return False
        read = [self.operands[n] for n in self.read_of.values()]
        return self.k <= 64 or any(o.n == 1 and o.rows[-1] for o in read)

    def choose_strip(self) -> int:
        """Tile and packing of a product that is made by rows, and how many at a time: those of a tile, or of two that
        share a panel of B."""
        if self.k == 1:
            self.mr, self.nv = 1, 4
            self.packs_a, self.packs_b = False, self.b_n != 1
            return 1
        self.mr, self.nv = large_tile(self.m, native.vector_registers())
        self.packs_a, self.packs_b = self.a_k != 1, True
        return self.mr if self.k < 16 or self.mr > 6 else 2 * self.mr

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
        whole = self.m // self.rows * self.rows
        with self.loop(whole, self.rows) as i:
            self.emit_row_block(a, b, i, self.rows, self.m - whole + self.rows, kc, first, last)
        if whole < self.m:
            self.emit_row_block(a, b, str(whole), self.m - whole, self.m - whole, kc, first, last)

    def emit_row_block(
        self, a: str, b: str, i: str, rows: int, below: int, kc: int, first: str, last: str
    ) -> None:  # fmt: skip
        """Rows i … of the result, a strip at a time; ``below`` rows of A are there to be read."""
        a = self.near(a, self.kind, 0, [(i, self.a_m)])
        if self.packs_a:
            self.pack_a(a, rows, kc, below)
            a = f"%p{self.packed_a}"
        a_step = kc if self.packs_a else self.a_m

        def strip(y: str, count: int) -> None:
            start = self.offset([(i, 1), (y, 1)])
            self.emit_panels(self.near(a, self.kind, 0, [(y, a_step)]), b, start, count, kc, first, last)

        some = self.strip or rows
        whole = rows // some * some
        if whole:
            with self.loop(whole, some) as y:
                strip(y, some)
        if whole < rows:
            strip(str(whole), rows - whole)

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
