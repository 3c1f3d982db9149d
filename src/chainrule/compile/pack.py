"""Operands of matrix products, copied into the order in which the product reads them.

B becomes panels: k rows of as many entries as a tile is wide, one panel after the other, padded with zeros to whole
vectors. A becomes panels of as many rows as a tile is high, k columns each. What has its k contiguous is transposed in
registers, as many rows at a time as a vector has lanes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..graph.program import Value
from . import native
from .groups import Group
from .ir import SIZE, Module, Val
from .nest import Kernel, Nest, turn
from .nodes import Access, Node, Storage

__all__ = ["Packing", "emit_pack", "pack_once"]

OFTEN = 3
"""Products of one B from which on it is packed once for all of them."""


class Packing(Nest):
    """What a product needs to pack; the attributes are set by the emitter of products."""

    kind: str
    k: int
    n: int
    m: int
    nv: int
    mr: int
    vectors: int
    a_m: int
    a_k: int
    b_k: int
    b_n: int
    packed_a: int
    packed_b: int

    def __init__(self, module: Module, lanes: int) -> None:
        super().__init__(module, lanes)

    # -- B ---------------------------------------------------------------------------------------------------------

    def pack_b(self, base: str, k0: str, kc: int) -> None:
        """Rows k0 … k0 + kc of B as panels."""
        kind, width = self.kind, self.nv * self.lanes
        base = self.near(base, kind, 0, [(k0, self.b_k)])
        whole = self.n // width
        if whole:
            with self.loop(whole * width, width) as j:
                self.pack_panel(self.near(base, kind, 0, [(j, self.b_n)]), j, kc, width)
        if self.n % width:
            j = str(whole * width)
            self.pack_panel(self.near(base, kind, 0, [(j, self.b_n)]), j, kc, self.n % width)

    def pack_panel(self, base: str, j: str, kc: int, columns: int) -> None:
        """Columns j … of B, of which ``base`` is the first, as a panel (or as several, where they are contiguous); what
        a vector has too many is zero."""
        lanes, kind, width = self.lanes, self.kind, self.nv * self.lanes
        target = self.near(f"%p{self.packed_b}", kind, 0, [(j, kc)])
        b = self.b
        if self.b_n == 1:
            unroll = 4 if kc >= 4 else 1

            def row(k: str, u: int) -> None:
                for x in range(-(-columns // lanes)):
                    active = columns - x * lanes
                    mask = None if active >= lanes else b.mask(active)
                    v = b.load(self.near(base, kind, u * self.b_k + x * lanes, [(k, self.b_k)]), kind, mask)
                    p, y = divmod(x, self.nv)
                    b.store(v, self.near(target, kind, (p * kc + u) * width + y * lanes, [(k, width)]))

            whole = kc // unroll * unroll
            with self.loop(whole, unroll) as k:
                for u in range(unroll):
                    row(k, u)
            for u in range(kc - whole):
                row(str(whole), u)
        elif self.b_k == 1:
            # A line of the cache is used up before the next rows take its place: they may map to the same set.
            line = max(lanes, 64 // SIZE[kind])
            whole = kc // line * line
            parts = [
                (min(lanes, columns - x), self.near(base, kind, x * self.b_n), self.near(target, kind, x))
                for x in range(0, columns, lanes)
            ]
            if whole:
                with self.loop(whole, line) as k:
                    for rows, source, place in parts:
                        for h in range(0, line, lanes):
                            at = self.offset([(k, 1), (str(h), 1)]) if h else k
                            self.transpose(source, self.b_n, place, width, at, rows, lanes)
            for k0 in range(whole, kc, lanes):
                for rows, source, place in parts:
                    self.transpose(source, self.b_n, place, width, str(k0), rows, min(lanes, kc - k0))
        else:  # neither way contiguous: entry by entry
            padded = -(-columns // lanes) * lanes
            with self.loop(kc) as k:
                for x in range(columns):
                    v = self.s.load(self.near(base, kind, x * self.b_n, [(k, self.b_k)]), kind)
                    self.s.store(v, self.near(target, kind, x, [(k, width)]))
                for x in range(columns, padded):
                    self.s.store(self.s.const(kind, 0), self.near(target, kind, x, [(k, width)]))

    # -- A ---------------------------------------------------------------------------------------------------------

    def pack_a(self, base: str, rows: int, kc: int, below: int) -> None:
        """``rows`` rows of A, of which ``base`` is the first, as panels of mr; ``below`` rows are there to be read."""
        lanes, mr = self.lanes, self.mr
        whole, rest = divmod(rows, mr)
        if self.a_m != 1:
            if whole:
                with self.loop(whole * mr, mr) as i:
                    self.pack_strip(base, i, mr, kc)
            if rest:
                self.pack_strip(base, str(whole * mr), rest, kc)
            return
        # A vector that starts in the last panels may reach beyond the last row.
        reach = -(-mr // lanes) * lanes
        safe = max(0, min(whole, (below - reach) // mr + 1))
        # Several at a time, so that a line of the cache is used up before the next column takes its place.
        together = next(g for g in (8, 7, 6, 5, 4, 3, 2, 1) if g == 1 or safe % g == 0 or safe > 3 * g)
        blocks = safe // together
        if blocks:
            with self.loop(blocks * together * mr, together * mr) as i:
                self.copy_columns(base, i, together, mr, kc, True)
        if safe % together:
            self.copy_columns(base, str(blocks * together * mr), safe % together, mr, kc, True)
        for p in range(safe, whole):
            self.copy_columns(base, str(p * mr), 1, mr, kc, False)
        if rest:
            self.copy_columns(base, str(whole * mr), 1, rest, kc, False)

    def copy_columns(self, base: str, i: str, panels: int, rows: int, kc: int, free: bool) -> None:
        """``panels`` panels from row i on of an A that is contiguous along m. Stores are whole vectors: what is too
        much is overwritten by the next column; the last one's are masked. ``free``: there is more to read behind a
        column."""
        lanes, kind, b = self.lanes, self.kind, self.b
        source = self.near(base, kind, 0, [(i, 1)])
        target = self.near(f"%p{self.packed_a}", kind, 0, [(i, kc)])

        def column(k: str, u: int, last: bool = False) -> None:
            for p in range(panels):
                for x in range(0, rows, lanes):
                    part = None if rows - x >= lanes else b.mask(rows - x)
                    place = self.near(source, kind, u * self.a_k + p * rows + x, [(k, self.a_k)])
                    v = b.load(place, kind, None if free else part)
                    b.store(v, self.near(target, kind, (p * kc + u) * rows + x, [(k, rows)]), part if last else None)

        unroll = 4 if panels < 3 else 1
        whole = (kc - 1) // unroll * unroll
        if whole:
            with self.loop(whole, unroll) as k:
                for u in range(unroll):
                    column(k, u)
        for u in range(kc - whole):
            column(str(whole), u, u == kc - whole - 1)

    def pack_strip(self, base: str, i: str, rows: int, kc: int) -> None:
        """Rows i … of an A that is not contiguous along m: kc columns of ``rows`` entries."""
        lanes, kind = self.lanes, self.kind
        source = self.near(base, kind, 0, [(i, self.a_m)])
        target = self.near(f"%p{self.packed_a}", kind, 0, [(i, kc)])
        if self.a_k == 1 and rows <= lanes:
            line = max(lanes, 64 // SIZE[kind])
            whole = kc // line * line
            if whole:
                with self.loop(whole, line) as k:
                    for h in range(0, line, lanes):
                        at = self.offset([(k, 1), (str(h), 1)]) if h else k
                        self.transpose(source, self.a_m, target, rows, at, rows, lanes)
            for k0 in range(whole, kc, lanes):
                self.transpose(source, self.a_m, target, rows, str(k0), rows, min(lanes, kc - k0))
        else:
            with self.loop(kc) as k:
                for y in range(rows):
                    v = self.s.load(self.near(source, kind, y * self.a_m, [(k, self.a_k)]), kind)
                    self.s.store(v, self.near(target, kind, y, [(k, rows)]))

    # -- in registers ----------------------------------------------------------------------------------------------

    def transpose(self, base: str, step: int, target: str, width: int, k: str, rows: int, columns: int) -> None:
        """``rows`` rows (``step`` entries apart) of ``columns`` entries from k on become ``columns`` rows, ``width``
        entries apart, from row k of the target on."""
        b, lanes, kind = self.b, self.lanes, self.kind
        start = self.near(base, kind, 0, [(k, 1)])
        mask = None if columns == lanes else b.mask(columns)
        r = [
            b.load(self.near(start, kind, n * step), kind, mask) if n < rows else Val(kind, "zeroinitializer")
            for n in range(lanes)
        ]
        r = turn(b, r)
        out = self.near(target, kind, 0, [(k, width)])
        for x in range(columns):
            b.store(r[x], self.near(out, kind, x * width))


# --- what several products share --------------------------------------------------------------------------------------


def pack_once(nodes: list[Node], storage: Storage, tile: Callable[[Node], tuple[int, int] | None]) -> list[Node]:
    """Where many products have the same B (a recurrence's weight), a node that packs it before the first of them.

    ``tile`` gives the rows and vectors of a product's tile, None where it would not use a packed B.
    """
    alike: dict[Any, list[Node]] = {}
    for node in nodes:
        if node.kind != "matmul":
            continue
        b = node.args[1]
        assert isinstance(b, Access)
        if not any(b.strides[:-2]) and math.prod(node.shape[:-2]) == 1:
            key = (b.root, b.offset, b.strides[-2:], node.shape, node.params["k"])
            alike.setdefault(key, []).append(node)
    before: dict[int, Node] = {}
    for some in alike.values():
        chosen = tile(some[0]) if len(some) >= OFTEN else None
        if chosen is None:
            continue
        node, nv = some[0], chosen[1]
        b = node.args[1]
        assert isinstance(b, Access)
        width = nv * _lanes(node.compute)
        n, k = node.shape[-1], node.params["k"]
        packed = Value((-(-n // width), k, width), b.root.dtype)
        storage.own(packed)
        instr = replace(node.instr, args=(b.root,), outs=(packed,))
        params = {"k": k, "n": n, "nv": nv}
        before[id(node)] = Node(
            "pack", "pack", instr, packed, packed.shape, [b], compute=node.compute, reads=(b.root,), params=params
        )
        for user in some:
            user.args[1] = Access(packed, 0, (0,) * len(b.strides))
            user.params = {**user.params, "tile": chosen}
            user.reads = tuple(dict.fromkeys(a.root for a in user.args if isinstance(a, Access)))
    out: list[Node] = []
    for node in nodes:
        if id(node) in before:
            out.append(before[id(node)])
        out.append(node)
    return out


def _lanes(kind: str) -> int:
    return native.vector_bytes() // SIZE[kind]


def emit_pack(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """B as panels, for products that find it packed."""
    node = group.nodes[0]
    b = node.args[0]
    assert isinstance(b, Access)
    nest = Packing(module, vector_bytes // SIZE[node.compute])
    nest.kind, nest.n, nest.k, nest.nv = node.compute, node.params["n"], node.params["k"], node.params["nv"]
    nest.b_k, nest.b_n = b.strides[-2:]
    source = nest.param(b.root, b.offset)
    nest.packed_b = nest.param(node.out, 0)
    nest.pack_b(f"%p{source}", "0", nest.k)
    return Kernel(nest.finish(), nest.params)
