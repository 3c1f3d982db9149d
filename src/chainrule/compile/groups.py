"""Which nodes share a loop.

Groups are made in program order and run in that order; a node may join the last group that fits, as long as
everything it reads is made in that group or an earlier one, so no cycle can arise. In a group with rows, the iteration
space is split: the outer loops walk over rows, the inner loops over a row's entries, in phases. A reduction over the
inner axes ends a phase and gives a value per row; a reduction over the outer axes accumulates in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..graph.program import Value
from .nodes import Access, Node, contiguous

__all__ = ["ALONE", "PRODUCTS", "Group", "make_groups", "respread", "refine"]

PRODUCTS = ("matmul", "conv", "pool")
"""Kinds of nodes whose kernel carries out elementwise work on its result."""
SMALL = 256
"""Elementwise work on so few entries shares a loop with any other of its shape: that saves calls."""
MOST = 96
"""Nodes of a group from which on nothing joins it that has no value in common with it: LLVM's time grows faster."""
ALONE = ("call", "join", "pack", "conv_weight", "max_pool", "indexed", "scan")
"""Kinds of nodes that have a group to themselves."""


def refine(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    """The coarsest shape that both can be split into: (32, 10) and (4, 8, 10) give (4, 8, 10)."""
    if a == b:
        return a
    if math.prod(a) != math.prod(b):
        return None
    out: list[int] = []
    left, right = list(reversed(a)), list(reversed(b))
    while left and right:
        m, n = left.pop(), right.pop()
        if m == n:
            out.append(m)
        elif m > n and m % n == 0:
            # m comes first in row-major order: m = n · rest
            out.append(n)
            left.append(m // n)
        elif n > m and n % m == 0:
            out.append(m)
            right.append(n // m)
        else:
            return None
    return tuple(out) if not left and not right else None


def respread(shape: tuple[int, ...], strides: tuple[int, ...], finer: tuple[int, ...]) -> tuple[int, ...]:
    """Strides over ``shape``, expressed over a finer shape."""
    if shape == finer:
        return strides
    out: list[int] = []
    j = 0
    for n, s in zip(shape, strides, strict=True):
        part: list[int] = []
        total = 1
        while total < n:
            part.append(finer[j])
            total *= finer[j]
            j += 1
        step = s
        spread: list[int] = []
        for p in reversed(part):
            spread.append(step)
            step *= p
        out.extend(reversed(spread))
    return tuple(out)


@dataclass(eq=False, slots=True)
class Group:
    """Nodes that run in one loop nest (or one product with its epilogue, or one call)."""

    kind: str
    shape: tuple[int, ...]
    split: int | None = None
    """Number of outer dims of ``shape``; None while there is no reduction."""
    nodes: list[Node] = field(default_factory=lambda: list[Node]())
    made: set[Value] = field(default_factory=lambda: set[Value]())
    level: dict[Value, str] = field(default_factory=lambda: dict[Value, str]())
    """For values made here: "full", "row", or "end" (only complete after the loops)."""
    read: set[Value] = field(default_factory=lambda: set[Value]())
    permuted: bool = False

    def row_shape(self) -> tuple[int, ...]:
        return self.shape[: self.split or 0]


def _matches(access: Access, shape: tuple[int, ...], group: Group, at: tuple[int, ...], node_level: str) -> bool:
    """Whether a value made in the group is read at the very entry that is being computed."""
    level = group.level[access.root]
    if level == "end" or access.offset:
        return False
    strides = respread(shape, access.strides, at)
    if node_level == "row":
        return level == "row" and strides == contiguous(at)
    if level == "full":
        return strides == contiguous(at)
    k = group.split or 0
    return strides == (*contiguous(at[:k]), *(0 for _ in at[k:]))


def _join(node: Node, group: Group) -> bool:
    """Add the node to the group if it fits."""
    if group.kind in ALONE or node.kind in (*PRODUCTS, *ALONE) or group.permuted:
        return False
    if group.kind in PRODUCTS and (node.kind == "reduce" or node.name == "one_hot"):
        return False
    shape, split = group.shape, group.split
    inner = [a for a in node.args if isinstance(a, Access) and a.root in group.made]
    level = "full"
    finer = refine(group.shape, node.shape)
    new_split = split
    if finer is not None and split is not None:
        # The split must fall between dims of the finer shape; count how many dims the rows take there.
        rows = math.prod(shape[:split])
        total, k = 1, 0
        while total < rows:
            total *= finer[k]
            k += 1
        if total != rows:
            return False
        new_split = k
        if math.prod(finer) != rows and math.prod(finer[k:]) == 1:
            return False
    if finer is None or (split is not None and math.prod(shape) == math.prod(shape[:split])):
        # Not over all entries: perhaps over rows.
        if split is None:
            return False
        rows_finer = refine(shape[:split], node.shape)
        if rows_finer is None:
            return False
        level = "row"
        finer = (*rows_finer, *shape[split:])
        new_split = len(rows_finer)
    if node.kind == "ew" and node.name == "one_hot" and finer != node.shape:
        return False
    if group.kind in PRODUCTS and finer != group.shape:
        return False
    domain = finer if level == "full" else finer[: new_split or 0]
    trial_split = new_split
    result = level
    if node.kind == "reduce":
        # Reduced axes of the node's shape, as axes of the domain.
        marks = respread(node.shape, tuple(1 if i in node.axes else 0 for i in range(len(node.shape))), domain)
        axes = [i for i, m in enumerate(marks) if m]
        n = len(domain)
        if level == "row":
            if len(axes) != n:
                return False
            result = "end"
        elif axes == list(range(n - len(axes), n)):
            k = n - len(axes)
            if trial_split is None:
                trial_split = k
            elif trial_split != k:
                return False
            result = "row"
        elif axes == list(range(len(axes))):
            k = len(axes)
            if trial_split is None:
                if domain[-1] < 4 or math.prod(domain[k:]) > 8192:
                    return False
                trial_split = k
            elif trial_split != k:
                return False
            result = "end"
        else:
            return False
    old = group.shape, group.split
    group.shape, group.split = finer, trial_split
    for access in inner:
        if not _matches(access, node.shape, group, domain, level):
            group.shape, group.split = old
            return False
    group.nodes.append(node)
    group.made.add(node.out)
    group.level[node.out] = result
    group.read.update(node.reads)
    return True


def _fresh(node: Node) -> Group:
    group = Group(node.kind if node.kind in (*PRODUCTS, *ALONE) else "loop", node.shape)
    if node.kind == "reduce":
        n, axes = len(node.shape), node.axes
        if axes == tuple(range(n - len(axes), n)):
            group.split = n - len(axes)
            level = "row"
        elif axes == tuple(range(len(axes))):
            group.split = len(axes)
            level = "end"
        else:
            kept = [i for i in range(n) if i not in axes]
            order = [*kept, *axes]
            access = node.args[0]
            assert isinstance(access, Access)
            node.args[0] = Access(access.root, access.offset, tuple(access.strides[i] for i in order))
            node.shape = tuple(node.shape[i] for i in order)
            node.axes = tuple(range(len(kept), n))
            group.shape, group.split, group.permuted = node.shape, len(kept), True
            level = "row"
    else:
        level = "full"
    if node.kind == "matmul":
        group.shape = tuple(n for n in node.shape if n != 1)
    group.nodes.append(node)
    outs = node.outs
    for o in outs:
        group.made.add(o)
        group.level[o] = level
    group.read.update(node.reads)
    return group


def _scalars_first(nodes: list[Node]) -> list[Node]:
    """Numbers that depend on nothing computed (a learning rate in the parameters' dtype) move to the front, so that
    what uses them can join the group that makes its other operand."""
    made = {o for n in nodes for o in n.instr.outs}
    early: list[Node] = []
    ready: set[Value] = set()
    for node in nodes:
        if node.kind == "ew" and math.prod(node.shape) == 1 and all(v not in made or v in ready for v in node.reads):
            early.append(node)
            ready.add(node.out)
    first = set(map(id, early))
    return early + [n for n in nodes if id(n) not in first]


def _strands(nodes: list[Node]) -> dict[Node, object]:
    """For every elementwise node its strand: those of the same size that values of that size connect.

    The update of one parameter is a strand, whatever it is fused with. Two large parameters are two strands although
    they read the same learning rate: in one loop they would only compete for the ways of the cache.
    """
    parent: dict[object, object] = {}

    def root(x: object) -> object:
        while parent.setdefault(x, x) is not x:
            parent[x] = parent[parent[x]] if parent[x] in parent else parent[x]
            x = parent[x]
        return x

    for node in nodes:
        if node.kind == "ew":
            size = math.prod(node.shape)
            for v in (*node.reads, node.out):
                if math.prod(v.shape) == size:
                    parent[root(v)] = root(node)
    return {node: root(node) for node in nodes if node.kind == "ew"}


def _for_a_loop(node: Node, group: Group, readers: dict[Value, list[Node]]) -> bool:
    """Whether a node leaves a product alone: only sums read it, and the product is stored for others in any case.

    In the sums' loop it costs nothing, and its entries are never written.
    """
    if group.kind not in PRODUCTS or any(r.kind != "reduce" for r in readers.get(node.out, [node])):
        return False
    return any(len(readers.get(v, ())) > 1 for v in node.reads if v in group.made)


def make_groups(nodes: list[Node], targets: dict[Value, Value], fuse: bool = True) -> list[Group]:
    """Assign nodes to groups. ``targets`` maps values to the memory that they will be stored in: such a node must not
    run before the last reader of that memory."""
    nodes = _scalars_first(nodes)
    strand = _strands(nodes)
    groups: list[Group] = []
    where: dict[Value, int] = {}
    readers: dict[Value, list[Node]] = {}
    for node in nodes:
        for v in node.reads:
            readers.setdefault(v, []).append(node)
    last_reader: dict[Value, int] = {}
    for node in nodes:
        earliest = max((where[v] for v in node.reads if v in where), default=0)
        memory = targets.get(node.out)
        if memory is not None:
            earliest = max(earliest, last_reader.get(memory, 0))
        found, small = None, math.prod(node.shape) <= SMALL
        if fuse and groups and node.kind not in (*PRODUCTS, *ALONE):
            lowest = max(earliest, len(groups) - 64)
            # The group that made what the node reads comes first: the value is still in registers there.
            makers = {where[v] for v in node.reads if v in where and math.prod(v.shape) > 1 and where[v] >= earliest}
            order = [
                *sorted(makers, reverse=True),
                *(i for i in range(len(groups) - 1, lowest - 1, -1) if i not in makers),
            ]
            for i in order:
                group = groups[i]
                related = any(v in group.made or (v in group.read and math.prod(v.shape) > 1) for v in node.reads)
                alike = group.kind == "loop" and group.shape == node.shape and node.kind == "ew"
                alike = alike and len(group.nodes) < MOST
                if not related and not (alike and (small or any(strand.get(n) is strand[node] for n in group.nodes))):
                    continue
                if not _for_a_loop(node, group, readers) and _join(node, group):
                    found = i
                    break
        if found is None:
            groups.append(_fresh(node))
            found = len(groups) - 1
        for o in node.outs:
            where[o] = found
        for v in node.reads:
            last_reader[v] = max(last_reader.get(v, 0), found)
    return groups
