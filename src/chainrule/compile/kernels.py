"""One kernel per structure: groups that differ only in which memory they read and write share their code."""

from __future__ import annotations

from typing import Any

from ..graph.program import Value
from .convolve import emit_conv
from .convweight import emit_conv_weight
from .gemm import emit_gemm
from .groups import Group
from .indexed import emit_indexed
from .ir import Module
from .join import emit_join
from .loops import emit_loops
from .nest import Kernel
from .nodes import Access
from .pack import emit_pack
from .pool import emit_pool
from .scan import emit_scan

__all__ = ["EMITTERS", "Kernels"]

EMITTERS = {
    "pack": emit_pack,
    "matmul": emit_gemm, "loop": emit_loops, "join": emit_join, "conv": emit_conv, "conv_weight": emit_conv_weight,
    "pool": emit_pool, "max_pool": emit_pool, "indexed": emit_indexed, "scan": emit_scan,
}  # fmt: skip


class Kernels:
    """The functions of a module, by structure."""

    def __init__(self, module: Module, keep: set[Value], vector_bytes: int) -> None:
        self.module, self.keep, self.vector_bytes = module, keep, vector_bytes
        self.known: dict[Any, tuple[str, Kernel, list[int | None]]] = {}
        self.bodies: dict[str, str] = {}

    def add(self, group: Group) -> tuple[str, Kernel]:
        """The name of the group's function, and what to pass to it."""
        pairs: list[tuple[Value, int]] = []
        key = self.signature(group, pairs)
        found = self.known.get(key)
        if found is None:
            kernel = EMITTERS[group.kind](self.module, group, self.keep, self.vector_bytes)
            name = self.bodies.get(kernel.body)
            if name is None:
                name = self.bodies[kernel.body] = f"k{len(self.bodies)}"
                self.module.functions.append(f"define internal void @{name}{kernel.body}")
            # Scratch memory, and a library's function, are not the group's.
            order = [
                None if root is None or (root, offset) not in pairs else pairs.index((root, offset))
                for root, offset in kernel.params
            ]
            self.known[key] = name, kernel, order
            return name, kernel
        name, kernel, order = found
        params = [given if place is None else pairs[place] for given, place in zip(kernel.params, order, strict=True)]
        return name, Kernel(kernel.body, params, kernel.scratch, kernel.flops)

    def signature(self, group: Group, pairs: list[tuple[Value, int]]) -> Any:
        """All that the emitters look at, with memory numbered in the order in which it appears (into ``pairs``)."""
        numbers: dict[tuple[Value, int], int] = {}
        roots: dict[Value, int] = {}

        def place(root: Value, offset: int) -> tuple[int, int]:
            pair = (root, offset)
            if pair not in numbers:
                numbers[pair] = len(numbers)
                pairs.append(pair)
            return numbers[pair], roots.setdefault(root, len(roots))

        def value(v: Value) -> Any:
            return place(v, 0), v.shape, v.dtype.str, v in self.keep, group.level.get(v), v in group.made

        nodes: list[Any] = []
        for node in group.nodes:
            args: list[Any] = []
            for a in node.args:
                if isinstance(a, Access):
                    args.append((place(a.root, a.offset), value(a.root), a.strides))
                else:
                    args.append(repr(a))
            nodes.append((
                node.kind, node.name, node.shape, node.axes, node.compute, repr(node.params), tuple(args),
                tuple(value(o) for o in node.outs),
            ))  # fmt: skip
        return group.kind, group.shape, group.split, group.permuted, tuple(nodes)
