"""One buffer plan: where every value lives during a call, with memory reused when its value is dead.

The plan is verified before anything is emitted: no two values that are alive at the same time overlap, and everything
lies inside the arena.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..errors import OpError
from ..graph.program import Value
from .groups import ALONE, PRODUCTS, Group
from .nest import Kernel
from .nodes import Access, Storage, contiguous

__all__ = ["Plan", "make_plan"]

ALIGN = 64


@dataclass(slots=True)
class Plan:
    """``place[root]`` is ("arena", offset), ("memory", the constant or input it is stored in), ("output", number)."""

    place: dict[Value, tuple[str, int | Value]] = field(default_factory=lambda: dict[Value, tuple[str, int | Value]]())
    copies: list[tuple[Value, Value]] = field(default_factory=lambda: list[tuple[Value, Value]]())
    """(memory, value): stored at the end of the step, because an in-place store would have come too early."""
    size: int = 0
    spans: list[tuple[int, int, int, int, str]] = field(default_factory=lambda: list[tuple[int, int, int, int, str]]())
    """(first group, last group, start, end, name) of everything in the arena."""


def nbytes(v: Value) -> int:
    return math.prod(v.shape) * v.dtype.itemsize


def phases(group: Group) -> dict[Value, int]:
    """After how many reductions along the row each value of the group is there."""
    depth: dict[Value, int] = {}
    for node in group.nodes:
        phase = max((depth.get(a.root, 0) for a in node.args if isinstance(a, Access)), default=0)
        depth[node.out] = phase + (node.kind == "reduce")
    return depth


def _safe_in_place(
    memory: Value, value: Value, at: int, groups: list[Group], uses: dict[Value, list[int]],
    known: dict[int, dict[Value, int]],
) -> bool:  # fmt: skip
    """Whether ``value`` may be written straight into ``memory``: everybody has read the old content by then."""
    if any(i > at for i in uses.get(memory, ())):
        return False
    group = groups[at]
    if group.level.get(value) != "full" or group.kind in ALONE:
        return not any(memory in n.reads for n in group.nodes)
    if at not in known:
        known[at] = phases(group)
    depth = known[at]
    written = depth[value]
    shape = group.shape
    seen = False
    for node in group.nodes:
        for a in node.args if memory in node.reads else ():
            if isinstance(a, Access) and a.root is memory:
                phase = depth[node.out] - (node.kind == "reduce")
                # Only the very entry that is about to be written may be read, and not in a later pass.
                if node.kind in PRODUCTS or math.prod(node.shape) != math.prod(shape) or a.offset:
                    return False
                if a.strides != contiguous(node.shape) or phase > written:
                    return False
                if seen and depth[node.out] > written:
                    return False
        seen = seen or node.out is value
    return True


def make_plan(
    groups: list[Group], storage: Storage, kept: set[Value], outputs: dict[Value, int], targets: dict[Value, Value],
    plain: set[Value], scratch: list[int], guard: int = 0,
) -> Plan:  # fmt: skip
    """Assign memory.

    Args:
        kept: values that are stored at all.
        outputs: value → number of the output array it is written into.
        targets: value → memory to be updated with it.
        plain: constants and inputs whose memory is contiguous, so that a value can be written straight into it.
        scratch: bytes of scratch memory that each group wants.
        guard: bytes of untouched space to leave between buffers (tests put canaries there).
    """
    plan = Plan()
    made: dict[Value, int] = {}
    uses: dict[Value, list[int]] = {}
    for i, group in enumerate(groups):
        for node in group.nodes:
            for o in node.outs:
                made.setdefault(o, i)
            for v in node.reads:
                uses.setdefault(v, []).append(i)
    end = len(groups)
    # A NumPy body may raise; memory that outlives the step is written only when no body is left to run.
    last_call = max((i for i, group in enumerate(groups) if group.kind == "call"), default=-1)
    last: dict[Value, int] = {}
    for v, i in made.items():
        last[v] = max([i, *uses.get(v, ())])
    known: dict[int, dict[Value, int]] = {}
    for v, memory in targets.items():
        if v in outputs:
            plan.place[v] = ("output", outputs[v])
            plan.copies.append((memory, v))
        elif memory in plain and made[v] > last_call and _safe_in_place(memory, v, made[v], groups, uses, known):
            plan.place[v] = ("memory", memory)
        else:
            plan.copies.append((memory, v))
            last[v] = end
    for v, number in outputs.items():
        plan.place[v] = ("output", number)
    wanted: list[tuple[int, int, int, Value | int]] = []  # first, last, bytes, what
    first = dict(made)
    for v in storage.homes:
        home = v
        while home in storage.homes:
            home = storage.homes[home][0]
        first[home], last[home] = min(first[home], made[v]), max(last[home], last[v])
    for v, i in first.items():
        if v in kept and v not in plan.place and v not in storage.homes:
            wanted.append((i, last[v], nbytes(v), v))
    for i, size in enumerate(scratch):
        if size:
            wanted.append((i, i, size, i))
    wanted.sort(key=lambda w: (w[0], -w[2]))
    live: list[tuple[int, int, int]] = []  # start, end, last group
    for begin, final, size, what in wanted:
        live = [x for x in live if x[2] >= begin]
        need = (max(size, 1) + guard + ALIGN - 1) // ALIGN * ALIGN
        start = 0
        for s, e, _ in sorted(live):
            if s - start >= need:
                break
            start = max(start, e)
        live.append((start, start + need, final))
        if isinstance(what, Value):
            plan.place[what] = ("arena", start)
        else:
            plan.place[what] = ("arena", start)  # type: ignore[index]
        plan.spans.append((begin, final, start, start + size, repr(what)))
        plan.size = max(plan.size, start + need)
    verify(plan)
    return plan


def verify(plan: Plan) -> None:
    """Raise if two buffers that are alive together overlap, or one leaves the arena."""
    events = sorted(plan.spans, key=lambda s: s[2])
    for n, (first, final, start, stop, name) in enumerate(events):
        if start < 0 or stop > plan.size or start % ALIGN:
            raise OpError(f"compile: buffer of {name} lies outside the arena: {start}…{stop} of {plan.size}")
        for other_first, other_final, other_start, other_stop, other in events[n + 1 :]:
            if other_start >= stop:
                break
            if other_stop > start and other_first <= final and first <= other_final:
                raise OpError(f"compile: buffers of {name} and {other} overlap while both are alive")


def scratch_place(plan: Plan, group: int) -> int:
    """Where a group's scratch memory starts in the arena."""
    place = plan.place[group]  # type: ignore[index]
    assert isinstance(place[1], int)
    return place[1]


def scratch_bytes(kernel: Kernel) -> int:
    """What a kernel's scratch memory takes in the arena."""
    return (kernel.scratch + ALIGN - 1) // ALIGN * ALIGN
