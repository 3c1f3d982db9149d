"""The innermost loop of a product: a tile of the result in registers while k runs."""

from __future__ import annotations

from . import native
from .epilogue import Epilogue
from .ir import SIZE, Val

__all__ = ["MicroKernel"]

FAR = 2048
"""Bytes between rows from which on each row of a tile is a new place to the processor."""


class MicroKernel(Epilogue):
    """One panel of B against rows of A, tile by tile."""

    packs_a = packs_b = False
    partial: int

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

    def ask(self, i: str, j: str, mr: int, w: int) -> None:
        """Ask for the entries that the tile's elementwise work reads and writes, where no prefetcher sees them coming:
        an optimizer's update of a wide weight goes from row to row. They arrive while k runs."""
        stored = set(self.store_of.values())
        line = 64
        for n, o in enumerate(self.operands):
            size = SIZE[o.kind]
            if o.n != 1 or o.rows[-1] * size < FAR:
                continue
            base = self.near(o.base, o.kind, 0, [(i, o.rows[-1]), (j, 1)])
            for y in range(mr):
                for at in range(0, w * self.lanes * size, line):
                    self.b.prefetch(self.near(base, o.kind, y * o.rows[-1] + at // size), n in stored)

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
        if first == last == "yes" and kc >= 32 and self.finish_with == self.finish_tile:
            self.ask(i, j, mr, w)
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
