"""Running results along one axis: sums, products, logarithms of sums of exponentials, linear recurrences.

Lanes are the entries of the later axes where those are contiguous; along the axis itself the work is sequential, in
the order in which NumPy accumulates.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

from ..graph.program import Instr, Value
from .groups import Group
from .ir import SIZE, Builder, Module, Val, kind_of
from .nest import Kernel, Nest
from .nodes import Access, Node, Storage, contiguous
from .scalar import FORMS

__all__ = ["emit_scan", "scan"]

OPS = {"cumsum", "cumprod", "logcumsumexp", "recurrence"}


def scan(instr: Instr, storage: Storage) -> Node | None:
    """The op as a node of its own kernel."""
    name, out, p = instr.op.name, instr.outs[0], instr.params
    kind = kind_of(out.dtype)
    if name not in OPS or kind is None or kind == "i1" or not out.shape or math.prod(out.shape) == 0:
        return None
    if any(not isinstance(a, Value) or a.shape != out.shape or kind_of(a.dtype) is None for a in instr.args):
        return None
    if name in ("logcumsumexp", "recurrence") and (kind[0] != "f" or any(a.dtype != out.dtype for a in instr.args)):
        return None
    args: list[Any] = [Access(*storage.refs[a]) for a in instr.args]
    node = Node("scan", name, instr, out, tuple(n for n in out.shape if n != 1), args, compute=kind)
    node.params = {"dim": p["dim"] % len(out.shape), "reverse": bool(p.get("reverse", False))}
    return node


def _next(b: Builder, name: str, before: Val, given: list[Val]) -> Val:
    if name == "cumprod":
        return b.mul(before, given[0])
    if name == "recurrence":
        return b.add(given[0], b.mul(given[1], before))
    return b.add(before, given[0]) if name == "cumsum" else FORMS["logaddexp"](b, [before, given[0]], {})


def emit_scan(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """Loops over the earlier axes, the later axes in lanes, and inside a loop along the axis with a running value."""
    node = group.nodes[0]
    kind, dim, shape = node.compute, node.params["dim"], node.out.shape
    nest = Nest(module, vector_bytes // SIZE[kind])
    given: list[Any] = node.args
    sources = [(nest.param(a.root, a.offset), kind_of(a.root.dtype) or kind, a.strides) for a in given]
    target = nest.param(node.out, 0)
    steps = contiguous(shape)
    order = [i for i in range(len(shape)) if i != dim]
    lanes = nest.lanes
    last = order[-1] if order else None
    vectors = last is not None and dim < last and all(s[last] == 1 for _, _, s in sources) and shape[last] >= lanes
    outer = order[:-1] if vectors else order

    def column(walk: list[tuple[int, str]], start: str, width: int) -> None:
        b = nest.b.at(width)
        walk = [*walk, (last, start)] if last is not None and vectors else walk
        bases = [nest.near(f"%p{n}", k, 0, [(i, s[a]) for a, i in walk]) for n, k, s in sources]
        out = nest.near(f"%p{target}", kind, 0, [(i, steps[a]) for a, i in walk])
        n, back = shape[dim], node.params["reverse"]
        first, way = (n - 1, -1) if back else (0, 1)

        def read(j: str) -> list[Val]:
            at = [nest.near(base, k, first * s[dim], [(j, way * s[dim])])
                  for base, (_, k, s) in zip(bases, sources, strict=True)]  # fmt: skip
            return [b.cast(b.load(p, k), kind) for p, (_, k, _) in zip(at, sources, strict=True)]

        running = nest.alloca(kind, width)
        value = read("0")[0]
        b.store(value, nest.near(out, kind, first * steps[dim]))
        b.store(value, running)
        if n > 1:
            with nest.loop(n - 1) as j:
                one = nest.s.put("i64", f"add i64 {j}, 1").text
                value = _next(b, node.name, b.load(running, kind), read(one))
                b.store(value, nest.near(out, kind, first * steps[dim], [(one, way * steps[dim])]))
                b.store(value, running)

    with contextlib.ExitStack() as stack:
        walk = [(a, stack.enter_context(nest.loop(shape[a]))) for a in outer]
        if vectors and last is not None:
            whole = shape[last] // lanes * lanes
            with nest.loop(whole, lanes) as start:
                column(walk, start, lanes)
            if shape[last] - whole:
                with nest.loop(shape[last] - whole) as i:
                    at = nest.s.put("i64", f"add i64 {i}, {whole}").text
                    column(walk, at, 1)
        else:
            column(walk, "0", 1)
    return Kernel(nest.finish(), nest.params)
