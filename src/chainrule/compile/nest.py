"""What every kernel emitter needs: the kernel's description, loops, labels, index arithmetic, one entry's work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..graph.program import Value
from . import scalar
from .ir import Builder, Module, Val, kind_of
from .nodes import Node

__all__ = ["Kernel", "Nest", "collapse", "evaluate", "turn"]


@dataclass(slots=True)
class Kernel:
    """The text of a function ``void @name(ptr, …)`` and what to pass: (root, offset) per pointer; None is scratch."""

    body: str
    params: list[tuple[Value | None, int]]
    scratch: int = 0
    """Bytes of scratch memory for the pointer None."""
    flops: int = 0


def evaluate(b: Builder, node: Node, args: list[Val | Any]) -> Val:
    """One entry (or vector) of an elementwise node."""
    name = node.name
    keep = scalar.SELECT.get(name, ())
    values: list[Val] = []
    for i, a in enumerate(args):
        kind = "i1" if i in keep else node.compute
        values.append(b.cast(a, kind) if isinstance(a, Val) else b.const(kind, a))
    out_kind = kind_of(node.out.dtype)
    assert out_kind is not None
    if name in scalar.COMPARE:
        return scalar.compare(b, name, *values)
    if name == "pow" and not isinstance(args[1], Val):
        y = scalar.power(b, values[0], args[1])
        if y is not None:
            return y
    y = scalar.FORMS[name](b, values, node.params)
    return y if y.kind == out_kind else b.cast(y, out_kind)


def collapse(dims: list[int], accesses: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Merge neighbouring dims that every access walks through as one."""
    dims = list(dims)
    accesses = [list(a) for a in accesses]
    d = 0
    while d + 1 < len(dims):
        if all(a[d] == a[d + 1] * dims[d + 1] for a in accesses):
            for a in accesses:
                del a[d]
            n = dims.pop(d)
            dims[d] *= n
        else:
            d += 1
    return dims, accesses


class Nest:
    """Loops, labels and index arithmetic: what every kernel emitter needs."""

    def __init__(self, module: Module, lanes: int) -> None:
        self.module = module
        self.lanes = lanes
        self.b = Builder(module, lanes)
        self.s = self.b.at(1)
        self.params: list[tuple[Any, int]] = []
        self.labels = 0
        self.allocas: list[str] = []
        self.block = "entry"

    def param(self, root: Any, offset: int) -> int:
        """The number of the pointer to entry ``offset`` of a root; None asks for scratch memory."""
        key = (root, offset)
        if root is None or key not in self.params:
            self.params.append(key)
            return len(self.params) - 1
        return self.params.index(key)

    def finish(self) -> str:
        """The text of the function after its name."""
        self.b.line("ret void")
        names = ", ".join(f"ptr %p{i}" for i in range(len(self.params)))
        return "\n".join([f"({names}) #0 {{", "entry:", *self.allocas, *self.b.lines, "}"])

    def new_label(self, stem: str) -> str:
        self.labels += 1
        return f"{stem}{self.labels}"

    def goto(self, label: str) -> None:
        self.b.line(f"br label %{label}")
        self.start(label)

    def start(self, label: str) -> None:
        self.b.label(label)
        self.block = label

    @contextlib.contextmanager
    def loop(self, n: int, step: int = 1) -> Iterator[str]:
        """Emit ``for i in range(0, n, step)`` around what is emitted inside; a single pass needs no loop."""
        if n <= step:
            yield "0"
            return
        head, latch, done = self.new_label("loop"), self.new_label("next"), self.new_label("done")
        before = self.block
        self.b.line(f"br label %{head}")
        self.start(head)
        i, following, test = self.b.name(), self.b.name(), self.b.name()
        self.b.line(f"{i} = phi i64 [0, %{before}], [{following}, %{latch}]")
        yield i
        self.goto(latch)
        self.b.line(f"{following} = add nuw nsw i64 {i}, {step}")
        self.b.line(f"{test} = icmp ult i64 {following}, {n}")
        self.b.line(f"br i1 {test}, label %{head}, label %{done}")
        self.start(done)

    def offset(self, terms: list[tuple[str, int]]) -> str:
        """Σ index · stride as an SSA value."""
        total = ""
        for index, stride in terms:
            if stride == 0 or index == "0":
                continue
            part = index
            if stride != 1:
                part = self.b.name()
                self.b.line(f"{part} = mul nsw i64 {index}, {stride}")
            if total:
                n = self.b.name()
                self.b.line(f"{n} = add nsw i64 {total}, {part}")
                total = n
            else:
                total = part
        return total or "0"

    def near(self, base: str, kind: str, constant: int, live: list[tuple[str, int]] | None = None) -> str:
        """``base`` moved by Σ index · stride and by a constant."""
        terms: list[tuple[str, int]] = []
        for i, stride in live or []:
            if i.isdigit():
                constant += int(i) * stride
            else:
                terms.append((i, stride))
        offset = self.offset(terms)
        if offset != "0":
            base = self.s.gep(base, offset, kind)
        return base if constant == 0 else self.s.gep(base, str(constant), kind)

    def alloca(self, kind: str, lanes: int) -> str:
        name = self.b.name()
        self.allocas.append(f"  {name} = alloca {self.b.at(lanes).ty(kind)}, align 64")
        return name


def turn(b: Builder, rows: list[Val]) -> list[Val]:
    """Transpose a square of vectors in registers."""
    lanes, kind = len(rows), rows[0].kind
    t, r = b.ty(kind), list(rows)
    d = lanes // 2
    while d:
        for n in range(lanes):
            if n & d:
                continue
            low = ", ".join(f"i32 {x if not x & d else lanes + x - d}" for x in range(lanes))
            high = ", ".join(f"i32 {x + d if not x & d else lanes + x}" for x in range(lanes))
            p, q = r[n].text, r[n + d].text
            r[n] = b.put(kind, f"shufflevector {t} {p}, {t} {q}, <{lanes} x i32> <{low}>")
            r[n + d] = b.put(kind, f"shufflevector {t} {p}, {t} {q}, <{lanes} x i32> <{high}>")
        d //= 2
    return r
