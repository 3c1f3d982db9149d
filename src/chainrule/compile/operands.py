"""The memory that a loop kernel reads and writes: which operands, in which phase, at which address."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..graph.program import Value
from .groups import Group, respread
from .ir import Module, Val, kind_of
from .nest import Nest
from .nodes import Access, Node, contiguous

__all__ = ["Arg", "Operands"]


@dataclass(slots=True)
class Arg:
    """An access with its strides split into outer and inner dims."""

    param: int
    kind: str
    strides: list[int]
    level: str
    outer: list[int] = field(default_factory=lambda: list[int]())
    inner: list[int] = field(default_factory=lambda: list[int]())
    base: str = ""


class Operands(Nest):
    """A nest of loops over a group, with an operand for every access that leaves the registers."""

    unrolled: bool
    """Whether a row is short enough to stay in registers."""
    inner: list[int]
    """Dims of the loops over a row's entries; ``last`` is the vectorised one."""
    last: int

    def __init__(self, module: Module, group: Group, keep: set[Value], vector_bytes: int) -> None:
        kinds = {kind_of(n.out.dtype) for n in group.nodes} | {n.compute for n in group.nodes}
        only64 = kinds <= {"f64", "i64", "i1"}
        super().__init__(module, vector_bytes // (8 if only64 else 4))
        self.group, self.keep = group, keep
        self.args: list[Arg] = []
        self.arg_of: dict[tuple[Node, int], int] = {}
        self.store_of: dict[Value, int] = {}
        self.coordinate: dict[Node, int] = {}
        self.phase: dict[Value, int] = {}
        self.rows_at: dict[int, list[Node]] = {}
        self.full_at: dict[int, list[Node]] = {}
        self.scratch = 0

    def collect(self) -> None:
        g = self.group
        shape = g.shape
        k = len(shape) if g.split is None else g.split
        self.schedule()
        last_use: dict[Value, int] = {}  # the last phase in which entries are read
        for node in g.nodes:
            for a in node.args if self.level_of(node) == "full" else ():
                if isinstance(a, Access):
                    last_use[a.root] = max(last_use.get(a.root, -1), self.phase_of_node(node))
        for node in g.nodes:
            level = self.level_of(node)
            domain = shape if level == "full" else shape[:k]
            for i, a in enumerate(node.args):
                if isinstance(a, Access) and a.root not in g.made:
                    kind = kind_of(a.root.dtype)
                    assert kind is not None
                    strides = list(respread(node.shape, a.strides, domain))
                    self.arg_of[node, i] = self.new_arg(Arg(self.param(a.root, a.offset), kind, strides, level))
            if node.name == "one_hot":
                along = tuple(int(i == node.axes[0]) for i in range(len(node.shape)))
                strides = list(respread(node.shape, along, shape))
                self.coordinate[node] = self.new_arg(Arg(-1, node.compute, strides, "full"))
            out = node.out
            made = g.level[out]
            kind = kind_of(out.dtype)
            assert kind is not None
            if made == "full":
                needed_later = last_use.get(out, -1) > self.phase[out]
                if out in self.keep:
                    self.store_of[out] = self.new_arg(Arg(self.param(out, 0), kind, list(contiguous(shape)), "full"))
                elif needed_later:
                    # Scratch for one row: strides over inner dims only.
                    inner = contiguous(shape[k:]) if g.split is not None else contiguous(shape)
                    strides = [0] * (len(shape) - len(inner)) + list(inner)
                    self.scratch_values.append((out, len(self.args), math.prod(shape[k:]), kind))
                    self.store_of[out] = self.new_arg(Arg(-2, kind, strides, "full"))
            elif made == "row" and out in self.keep:
                self.store_of[out] = self.new_arg(Arg(self.param(out, 0), kind, list(contiguous(shape[:k])), "row"))
            elif made == "end":
                if self.level_of(node) == "full":
                    strides = [0] * k + list(contiguous(shape[k:]))
                    self.store_of[out] = self.new_arg(Arg(self.param(out, 0), kind, strides, "full"))
                else:
                    self.store_of[out] = self.new_arg(Arg(self.param(out, 0), kind, [], "none"))
        for _, index, n, _ in self.scratch_values:
            self.args[index].param = self.param(None, self.scratch)
            self.scratch += (n * 8 + 63) // 64 * 64

    scratch_values: list[tuple[Value, int, int, str]]

    def new_arg(self, arg: Arg) -> int:
        for i, other in enumerate(self.args):
            if arg.param >= 0 and (other.param, other.strides, other.level, other.kind) == (
                arg.param, arg.strides, arg.level, arg.kind):  # fmt: skip
                return i
        self.args.append(arg)
        return len(self.args) - 1

    def level_of(self, node: Node) -> str:
        """Whether the node's work is per entry or per row."""
        return self._levels[node]

    def phase_of_node(self, node: Node) -> int:
        return self._node_phase[node]

    def schedule(self) -> None:
        g = self.group
        self._levels: dict[Node, str] = {}
        self._node_phase: dict[Node, int] = {}
        self.scratch_values = []
        rows = math.prod(g.row_shape()) if g.split is not None else 0
        for node in g.nodes:
            if node.kind == "reduce":
                made = g.level[node.out]
                a = node.args[0]
                assert isinstance(a, Access)
                if (
                    made == "end"
                    and math.prod(node.shape) == rows
                    and (math.prod(g.shape) != rows or g.level.get(a.root) == "row")
                ):
                    level = "row"
                else:
                    level = "full"
            else:
                level = g.level[node.out]
            self._levels[node] = level
            phase = max(
                (self.phase[a.root] for a in node.args if isinstance(a, Access) and a.root in g.made), default=0
            )
            self._node_phase[node] = phase
            self.phase[node.out] = phase + 1 if node.kind == "reduce" and level == "full" else phase
            (self.full_at if level == "full" else self.rows_at).setdefault(phase, []).append(node)

    # -- reading and writing ---------------------------------------------------------------------------------------

    def emit_bases(self, index: list[str]) -> None:
        for a in self.args:
            if a.level == "none" or a.param < 0:
                a.base = "" if a.param < 0 else f"%p{a.param}"
                if a.param == -1:
                    a.base = self.offset(list(zip(index, a.outer, strict=True)))
                continue
            offset = self.offset(list(zip(index, a.outer, strict=True)))
            a.base = f"%p{a.param}" if offset == "0" else self.s.gep(f"%p{a.param}", offset, a.kind)

    def moved(self, i: str, start: str | int, constant: int) -> str:
        """i + start + constant, as a literal where it is one."""
        live = [x for x in (i, start) if isinstance(x, str) and not x.isdigit()]
        constant += sum(int(x) for x in (i, start) if isinstance(x, int) or x.isdigit())
        total = live[0] if live else str(constant)
        for x in [*live[1:], *([str(constant)] if constant and live else [])]:
            name = self.b.name()
            self.b.line(f"{name} = add nuw nsw i64 {total}, {x}")
            total = name
        return total

    def pointer(self, arg: Arg, index: list[str], at: str, value: bool = True) -> str:
        terms = list(zip(index, arg.inner[:-1], strict=False)) + [(at, arg.inner[-1])]
        constant = 0
        live: list[tuple[str, int]] = []
        for i, stride in terms:
            if i.lstrip("-").isdigit():
                constant += int(i) * stride
            elif stride:
                live.append((i, stride))
        offset = self.offset(live)
        base = arg.base
        if offset != "0":
            base = self.s.gep(base, offset, arg.kind)
        return base if constant == 0 else self.s.gep(base, str(constant), arg.kind)

    def read(self, arg: Arg, index: list[str], at: str, active: int | None) -> Val:
        b = self.b
        step = arg.inner[-1]
        if step == 1:
            return b.load(self.pointer(arg, index, at), arg.kind, None if active is None else b.mask(active))
        if step == 0:
            return b.splat(self.s.load(self.pointer(arg, index, at), arg.kind))
        first = self.pointer(arg, index, at)
        memory = "u8" if arg.kind == "i1" else arg.kind
        if step == -1 and active is None:  # backwards: one vector, turned around
            forwards = b.load(self.s.gep(first, str(1 - self.lanes), memory), memory)
            order = ", ".join(f"i32 {i}" for i in reversed(range(self.lanes)))
            t = b.ty(memory)
            turned = b.put(memory, f"shufflevector {t} {forwards.text}, {t} poison, <{self.lanes} x i32> <{order}>")
            return b.cmp("ne", turned, b.const("u8", 0)) if arg.kind == "i1" else turned
        out = Val(memory, "zeroinitializer")
        for lane in range(self.lanes if active is None else active):
            x = self.s.load(self.s.gep(first, str(lane * step), memory), memory)
            out = b.put(memory, f"insertelement {b.ty(memory)} {out.text}, {self.s.ty(memory)} {x.text}, i64 {lane}")
        return b.cmp("ne", out, b.const("u8", 0)) if arg.kind == "i1" else out

    def write(self, value: Val, arg: Arg, index: list[str], at: str, active: int | None) -> None:
        b = self.b
        if arg.inner[-1] == 1 or self.last == 1:
            b.store(value, self.pointer(arg, index, at), None if active is None else b.mask(active))
            return
        first = self.pointer(arg, index, at)
        if value.kind == "i1":
            value = b.cast(value, "u8")
        for lane in range(self.lanes if active is None else active):
            x = self.s.put(value.kind, f"extractelement {b.ty(value.kind)} {value.text}, i64 {lane}")
            self.s.store(x, self.s.gep(first, str(lane * arg.inner[-1]), value.kind))
