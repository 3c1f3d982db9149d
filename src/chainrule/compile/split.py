"""A group's work in equal parts, one for each thread.

A part is a group of its own over a range of the outermost axis: the same nodes with shorter shapes, reading and writing
further on in the same memory. Equal parts have the same structure, so they share one kernel.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

from ..graph.program import Value
from .groups import Group
from .nodes import Access, Node

__all__ = ["Part", "cost", "split"]

_IMAGES = ("conv", "pool", "conv_weight")
Part = tuple[Group, dict[Value, tuple[Value, int]]]
"""A group, and for the values that it makes: which value they are a range of, and from which entry on."""
WORTH = 16.0
"""Work that takes fewer microseconds stays on one thread: starting and joining costs about two."""
_HEAVY = {
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "erf", "erfc", "sinh", "cosh", "sin",
    "cos", "tan", "asin", "acos", "atan", "atan2", "pow", "div", "sqrt", "mish", "logsigmoid", "logaddexp",
}  # fmt: skip


def cost(group: Group) -> float:
    """Roughly how many microseconds a group takes on one thread."""
    total = 0.0
    for node in group.nodes:
        size = math.prod(node.shape)
        if node.kind == "matmul":
            total += 2 * size * node.params["k"] / 80e3
        elif node.kind == "conv":
            inputs = node.params["shapes"][0][1] // node.params["groups"]
            total += 2 * size * inputs * math.prod(node.params["kernel"]) / 80e3
        elif node.kind == "conv_weight":
            blocks, _, *grid = node.params["shapes"][1]
            total += 2 * size * blocks * math.prod(grid) / 80e3
        else:
            total += size * (1.5e-3 if node.name in _HEAVY else 0.15e-3)
    return total


def split(group: Group, parts: int) -> list[Part] | None:
    """The group in that many parts; None where it is too small, or its outermost axis cannot be divided."""
    if parts < 2 or group.kind not in ("matmul", "loop", *_IMAGES) or not group.shape or cost(group) < WORTH:
        return None
    if group.kind in _IMAGES:
        node = group.nodes[0]
        # Each part several blocks of images, or several channels of a weight gradient.
        if (
            group.shape[0] < 2 * parts
            or group.shape[0] != node.out.shape[0]
            or (group.kind == "conv_weight" and node.params["groups"] > 1)
        ):
            return None
    if any(level == "end" for level in group.level.values()):
        return None  # sums over the rows would need sums of sums
    rows = group.shape[0]
    if group.split == 0 or rows < 2 * parts:
        return None  # a part of one row would have an axis less
    cuts = [rows * p // parts for p in range(parts + 1)]
    out = [_part(group, low, high) for low, high in pairwise(cuts)]
    return None if any(p is None for p in out) else [p for p in out if p is not None]


def _range(shape: tuple[int, ...], total: int, low: int, high: int, of: int) -> tuple[int, int] | None:
    """Rows low … high of ``of`` as a range of the first axis of a shape that has the same entries."""
    first = shape[0] if shape else 1
    if (first * low) % of or (first * high) % of or math.prod(shape) != total:
        return None
    return first * low // of, first * high // of


def _shorter(v: Value, low: int, high: int, of: int, start: dict[Value, tuple[Value, int]]) -> Value | None:
    """A stand-in for rows low … high of a value, whose first axis that is not 1 they are."""
    axis = next((i for i, n in enumerate(v.shape) if n != 1), None)
    if axis is None:
        return None
    n = v.shape[axis]
    if (n * low) % of or (n * high) % of:
        return None
    a, b = n * low // of, n * high // of
    made = Value((*v.shape[:axis], b - a, *v.shape[axis + 1 :]), v.dtype, v.name)
    start[made] = (v, a * math.prod(v.shape[axis + 1 :]))
    return made


def _part(group: Group, low: int, high: int) -> Part | None:
    of = group.shape[0]
    full = math.prod(group.shape)
    per_row = full // math.prod(group.row_shape()) if group.split is not None else 1
    start: dict[Value, tuple[Value, int]] = {}
    moved: dict[Value, Value] = {}
    part = Group(group.kind, (high - low, *group.shape[1:]), group.split, permuted=group.permuted)
    for node in group.nodes:
        out = _shorter(node.out, low, high, of, start)
        if out is None:
            return None
        if node.kind == "matmul":
            new = _product(node, out, low, high, of)
        elif node.kind in _IMAGES:
            new = _images(node, out, low, high)
        else:
            total = full if math.prod(node.shape) == full else full // per_row
            span = _range(node.shape, total, low, high, of)
            if span is None or (node.axes and node.axes[0] == 0):
                return None
            args = [_further(a, span[0], moved) for a in node.args]
            new = replace(node, out=out, args=args, shape=(span[1] - span[0], *node.shape[1:]))
        if new is None:
            return None
        new.instr = replace(node.instr, outs=(out,))
        new.reads = tuple(moved.get(v, v) for v in node.reads)
        moved[node.out] = out
        part.nodes.append(new)
        part.made.add(out)
        part.level[out] = group.level[node.out]
        part.read.update(new.reads)
    return part, start


def _further(a: Access | float | int | bool, rows: int, moved: dict[Value, Value]) -> Access | float | int | bool:
    if not isinstance(a, Access):
        return a
    if a.root in moved:
        return Access(moved[a.root], a.offset, a.strides)
    return Access(a.root, a.offset + (rows * a.strides[0] if a.strides else 0), a.strides)


def _product(node: Node, out: Value, low: int, high: int, of: int) -> Node | None:
    """Rows of a product (of its batch, if it has one): A's rows move along, B's only where there is one per sample."""
    a, b = node.args
    assert isinstance(a, Access)
    assert isinstance(b, Access)
    axis = next((i for i, n in enumerate(node.shape) if n != 1), None)
    if axis is None or axis == len(node.shape) - 1 or node.shape[axis] != of:
        return None
    args: list[Access | float | int | bool] = [Access(a.root, a.offset + low * a.strides[axis], a.strides)]
    step = b.strides[axis] if axis < len(node.shape) - 2 else 0
    args.append(Access(b.root, b.offset + low * step, b.strides))
    return replace(node, out=out, args=args, shape=(*node.shape[:axis], high - low, *node.shape[axis + 1 :]))


def _images(node: Node, out: Value, low: int, high: int) -> Node:
    """Blocks of images of a convolution or a pooling, or channels of a weight gradient."""
    args: list[Access | float | int | bool] = []
    params = node.params
    for i, a in enumerate(node.args):
        assert isinstance(a, Access)
        if node.kind == "conv_weight":  # the channels are those of its second argument
            step = a.strides[1] if i == 1 else 0
        else:
            step = 0 if node.kind == "conv" and i == 1 else a.strides[0]
        args.append(Access(a.root, a.offset + low * step, a.strides))
    if node.kind == "conv_weight":
        x, (blocks, _, *grid) = params["shapes"]
        params = {**params, "shapes": (x, (blocks, high - low, *grid))}
    return replace(node, out=out, args=args, shape=(high - low, *node.shape[1:]), params=params)
