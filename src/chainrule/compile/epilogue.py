"""Elementwise work on a product's result, tile by tile, before it is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..graph.program import Value
from .groups import Group, respread
from .ir import SIZE, Module, Val, kind_of
from .nest import evaluate
from .nodes import Access, Node, contiguous
from .pack import Packing

__all__ = ["Epilogue", "Operand"]

UNROLLED = 5
"""Nodes of a group whose elementwise work is written out for every vector of a tile."""


@dataclass(slots=True)
class Operand:
    """An array of the epilogue: strides over the row dims and along n."""

    param: int
    kind: str
    rows: list[int]
    n: int
    base: str = ""


class Epilogue(Packing):
    """The group's work on the product's entries: its operands, and what happens to a tile or to one entry."""

    operands: list[Operand]
    read_of: dict[tuple[Node, int], int]
    store_of: dict[Value, int]
    finish_with: Callable[[list[list[Val]], str, str, int | None], None]
    """What happens to a finished tile: rows i …, columns j …, the lanes in use of its last vector (None: all)."""

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

    def find_operands(self) -> None:
        """The arrays that the elementwise work reads, and those that are stored."""
        shape, group = self.node.out.shape, self.group
        self.operands = []
        self.read_of = {}
        self.store_of = {}
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

    def operand(self, param: int, kind: str, strides: list[int]) -> int:
        for i, o in enumerate(self.operands):
            if (o.param, o.kind, [*o.rows, o.n]) == (param, kind, strides):
                return i
        self.operands.append(Operand(param, kind, strides[:-1], strides[-1]))
        return len(self.operands) - 1

    def at(self, param: int, kind: str, index: list[str], strides: list[int]) -> str:
        offset = self.offset(list(zip(index, strides, strict=True)))
        return f"%p{param}" if offset == "0" else self.s.gep(f"%p{param}", offset, kind)

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
