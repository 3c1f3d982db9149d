"""Copies of several arrays to their places in one: ``cat``, ``stack``, and parts placed into zeros."""

from __future__ import annotations

import contextlib
import math

from ..graph.program import Value
from .groups import Group
from .ir import SIZE, Module
from .nest import Kernel, Nest, collapse
from .nodes import Access

__all__ = ["emit_join"]


def emit_join(module: Module, group: Group, keep: set[Value], vector_bytes: int) -> Kernel:
    """Copy several arrays to their places in one (``cat``, ``stack``)."""
    node = group.nodes[0]
    kind = node.compute
    nest = Nest(module, vector_bytes // SIZE[kind])
    b, s = nest.b, nest.s
    target = nest.param(node.out, 0)
    fill = node.params.get("fill")
    if fill is not None and fill != 0:
        with nest.loop(math.prod(node.out.shape)) as i:
            s.store(s.const(kind, fill), s.gep(f"%p{target}", i, kind))
    elif fill is not None:
        module.declare("@llvm.memset.p0.i64", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        size = math.prod(node.out.shape) * node.out.dtype.itemsize
        b.line(f"call void @llvm.memset.p0.i64(ptr %p{target}, i8 0, i64 {size}, i1 false)")
    for access, (shape, steps, start) in zip(node.args, node.params["parts"], strict=True):
        assert isinstance(access, Access)
        source = nest.param(access.root, access.offset)
        dims, (left, right) = collapse(list(shape), [list(access.strides), list(steps)])
        for d in reversed(range(len(dims))):
            if dims[d] == 1:
                del dims[d], left[d], right[d]
        dims, left, right = dims or [1], left or [0], right or [0]
        with contextlib.ExitStack() as stack:
            index = [stack.enter_context(nest.loop(n)) for n in dims[:-1]]
            offset = nest.offset(list(zip(index, left[:-1], strict=True)))
            place = nest.offset(
                [*zip(index, right[:-1], strict=True), ("1", start)]
                if start
                else list(zip(index, right[:-1], strict=True))
            )
            p = f"%p{source}" if offset == "0" else s.gep(f"%p{source}", offset, kind)
            q = f"%p{target}" if place == "0" else s.gep(f"%p{target}", place, kind)
            n = dims[-1]
            if left[-1] == 1 and right[-1] == 1:
                whole, rest = divmod(n, nest.lanes)
                if whole:
                    with nest.loop(whole * nest.lanes, nest.lanes) as i:
                        b.store(b.load(s.gep(p, i, kind), kind), s.gep(q, i, kind))
                if rest:
                    i = str(whole * nest.lanes)
                    b.store(b.load(s.gep(p, i, kind), kind, b.mask(rest)), s.gep(q, i, kind), b.mask(rest))
            else:
                with nest.loop(n) as i:
                    x = s.load(s.gep(p, nest.offset([(i, left[-1])]), kind), kind)
                    s.store(x, s.gep(q, nest.offset([(i, right[-1])]), kind))
    return Kernel(nest.finish(), nest.params)
