"""From instructions to loop work: which memory each value lives in, and what every instruction does per entry.

Views vanish here: a transposed, reshaped or broadcast value is its root's memory with other strides. What is left is
elementwise work, reductions, matrix products, and calls of NumPy bodies for ops with no native form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph.program import Instr, Program, Value
from . import forms, scalar
from .decompose import Check
from .ir import kind_of

__all__ = ["Access", "Node", "Storage", "build"]

VIEWS = {"reshape", "permute", "swap", "expand", "select", "slice", "diagonal", "view", "detach"}
SEVERAL = {"call", "max_pool"}
"""Kinds of nodes that make all outputs of their instruction."""
REDUCTIONS = {
    "prod": "prod",
    "sum": "sum",
    "sum_to": "sum",
    "amax": "max",
    "amin": "min",
    "shift_of": "max",
    "max_of": "max",
}


@dataclass(frozen=True, slots=True)
class Access:
    """Reading memory: entry (i, j, …) of the iteration is at ``offset + i·strides[0] + …`` of the root, in entries."""

    root: Value
    offset: int
    strides: tuple[int, ...]


@dataclass(eq=False, slots=True)
class Node:
    """One instruction as work over an iteration space.

    ``kind``: "ew", "reduce", "join", "indexed", "scan", a product ("matmul", "conv", "conv_weight") or "call".
    """

    kind: str
    name: str
    instr: Instr
    out: Value
    shape: tuple[int, ...]
    """The iteration space, axes of size 1 dropped."""
    args: list[Access | float | int | bool]
    axes: tuple[int, ...] = ()
    """Reduced axes of ``shape``."""
    compute: str = ""
    """The kind that arguments are converted to."""
    why: str = ""
    """For a call: why there is no native form."""
    reads: tuple[Value, ...] = ()
    params: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())

    @property
    def outs(self) -> tuple[Value, ...]:
        """All that the node makes."""
        return self.instr.outs if self.kind in SEVERAL else (self.out,)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in entries."""
    out: list[int] = []
    step = 1
    for n in reversed(shape):
        out.append(step)
        step *= n
    return tuple(reversed(out))


def squeeze(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(s for n, s in zip(shape, strides, strict=True) if n != 1)


class Storage:
    """Where every value lives: ``ref(value)`` is (root, offset, strides over the value's own shape)."""

    def __init__(self) -> None:
        self.refs: dict[Value, tuple[Value, int, tuple[int, ...]]] = {}
        self.homes: dict[Value, tuple[Value, int]] = {}
        """Values made where ``cat`` or ``stack`` wants them: which result they are part of, and from which entry on."""

    def own(self, v: Value, strides: tuple[int, ...] | None = None) -> None:
        self.refs[v] = (v, 0, contiguous(v.shape) if strides is None else strides)

    def broadcast(self, v: Value, shape: tuple[int, ...]) -> Access:
        """How an iteration over ``shape`` (1s included) reads v; 1s are dropped from the result."""
        root, offset, strides = self.refs[v]
        lead = len(shape) - len(v.shape)
        full = (0,) * lead + tuple(0 if n == 1 else s for n, s in zip(v.shape, strides, strict=True))
        return Access(root, offset, squeeze(shape, full))

    def views(self, instr: Instr) -> bool:
        """The same for ops that give several views of one array."""
        source = instr.args[0]
        root, offset, strides = self.refs[source]
        if math.prod(source.shape) == 0:
            return False
        base = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), source.shape, strides, writeable=False)
        start = base.__array_interface__["data"][0]
        for out, v in zip(instr.op.body(base, **instr.params), instr.outs, strict=True):
            if math.prod(v.shape) == 0:
                self.own(v)
            else:
                self.refs[v] = (root, offset + out.__array_interface__["data"][0] - start, tuple(out.strides))
        return True

    def view(self, instr: Instr) -> bool:
        """Make the output of a view op an alias; False where the view cannot be expressed by strides."""
        source = instr.args[0]
        root, offset, strides = self.refs[source]
        if math.prod(instr.outs[0].shape) == 0:
            self.own(instr.outs[0])
            return True
        # A byte per entry stands for the real memory; nothing is read.
        base = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), source.shape, strides, writeable=False)
        name = instr.op.name
        try:
            if name in ("reshape", "view"):
                out = np.reshape(base, instr.outs[0].shape, copy=False)
            elif name in VIEWS or (instr.op.is_view and instr.op.outputs == 1):
                out = instr.op.body(base, **instr.params)
            else:
                return False
        except ValueError:
            return False
        if out.shape != instr.outs[0].shape:
            return False
        start = out.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        ends = [(n - 1) * s for n, s in zip(source.shape, strides, strict=True)]
        if not sum(min(e, 0) for e in ends) <= start <= sum(max(e, 0) for e in ends):
            return False
        self.refs[instr.outs[0]] = (root, offset + start, tuple(out.strides))
        return True


def _compute_kind(instr: Instr, arrays: list[Value]) -> str | None:
    name = instr.op.name
    if name in scalar.COMPARE:
        dtype = np.result_type(*(a.dtype if isinstance(a, Value) else a for a in instr.args))
        return kind_of(dtype)
    if name in scalar.LOGICAL or name == "logical_not":
        return "i1"
    if name == "cast" or name in scalar.PREDICATES:
        return kind_of(arrays[0].dtype)
    return kind_of(instr.outs[0].dtype)


def _native(instr: Instr, arrays: list[Value], compute: str | None) -> bool:
    """Whether the op has a native form on these kinds and settings."""
    name, args = instr.op.name, instr.args
    if name == "pow" and compute is not None and compute[0] != "f":  # integers: products that wrap around
        return isinstance(args[0], Value) and isinstance(args[1], int) and args[1] >= 0 and compute != "i1"
    if name in forms.DIVISIONS and compute is not None and compute[0] != "f":
        return isinstance(args[1], int) and args[1] != 0 and compute != "i1"  # else it may have to raise
    if name == "lerp" and not isinstance(args[2], Value):
        return compute in ("f32", "f64")
    if name in forms.REAL_INPUT and any(a.dtype.kind != "f" for a in arrays):
        return False
    return scalar.supported(name, [kind_of(a.dtype) for a in arrays], compute, instr.params)


def _elementwise(instr: Instr, storage: Storage) -> Node | None:
    name, out = instr.op.name, instr.outs[0]
    if name not in scalar.FORMS and name not in scalar.COMPARE:
        return None
    arrays = [a for a in instr.args if isinstance(a, Value)]
    compute = _compute_kind(instr, arrays)
    if len(instr.outs) != 1 or not arrays or not _native(instr, arrays, compute):
        return None
    if kind_of(out.dtype) is None or any(a is None for a in instr.args):
        return None
    if np.broadcast_shapes(*(a.shape for a in arrays)) != out.shape:
        return None
    shape = tuple(n for n in out.shape if n != 1)
    args = [storage.broadcast(a, out.shape) if isinstance(a, Value) else a for a in instr.args]
    return Node("ew", name, instr, out, shape, args, compute=compute or "", params=instr.params)


def _iota(instr: Instr, storage: Storage) -> Node | None:
    """``one_hot``: compare the coordinate along an axis with an index."""
    index, out = instr.args[0], instr.outs[0]
    dim = instr.params["dim"]
    if not isinstance(index, Value) or index.dtype.kind not in "i" or out.shape[dim] == 1:
        return None
    root, offset, strides = storage.refs[index]
    full = (*strides[:dim], 0, *strides[dim:])
    axis = sum(1 for n in out.shape[:dim] if n != 1)
    shape = tuple(n for n in out.shape if n != 1)
    access = Access(root, offset, squeeze(out.shape, full))
    return Node("ew", "one_hot", instr, out, shape, [access], axes=(axis,), compute=kind_of(index.dtype) or "")


def _reduction(instr: Instr, storage: Storage) -> Node | None:
    name, out = instr.op.name, instr.outs[0]
    if name not in REDUCTIONS or len(instr.outs) != 1:
        return None
    x = instr.args[0]
    kind = kind_of(out.dtype)
    if kind is None or kind_of(x.dtype) is None or kind == "i1" or math.prod(x.shape) == 0:
        return None
    if REDUCTIONS[name] != "sum" and kind == "u8":
        return None
    rank = len(x.shape)
    if name == "sum_to":
        target = instr.params["shape"]
        lead = rank - len(target)
        axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(target) if n == 1)
    else:
        dim = instr.params.get("dim")
        axes = tuple(range(rank)) if dim is None else ((dim,) if isinstance(dim, int) else tuple(dim))
        if rank == 0:
            axes = ()
    number = [-1] * rank
    for position, i in enumerate(i for i in range(rank) if x.shape[i] != 1):
        number[i] = position
    reduced = tuple(sorted(number[a % rank] for a in axes if number[a % rank] >= 0))
    shape = tuple(n for n in x.shape if n != 1)
    access = storage.broadcast(x, x.shape)
    if not reduced:
        return Node("ew", "copy", instr, out, shape, [access], compute=kind)
    return Node("reduce", REDUCTIONS[name], instr, out, shape, [access], axes=reduced, compute=kind)


def _matmul(instr: Instr, storage: Storage) -> Node | None:
    if instr.op.name != "matmul":
        return None
    x, y = instr.args
    out = instr.outs[0]
    if not isinstance(x, Value) or not isinstance(y, Value):
        return None
    if len(x.shape) < 2 or len(y.shape) < 2 or x.dtype != y.dtype or kind_of(x.dtype) not in ("f32", "f64"):
        return None
    if math.prod(out.shape) == 0 or x.shape[-1] == 0:
        return None
    batch = out.shape[:-2]
    args: list[Any] = []
    for v in (x, y):
        root, offset, strides = storage.refs[v]
        lead = len(batch) - (len(v.shape) - 2)
        head = (0,) * lead + tuple(0 if n == 1 else s for n, s in zip(v.shape[:-2], strides[:-2], strict=True))
        args.append(Access(root, offset, (*head, *strides[-2:])))
    node = Node("matmul", "matmul", instr, out, out.shape, args, compute=kind_of(x.dtype) or "")
    node.params = {"k": x.shape[-1]}
    return node


def _join(instr: Instr, storage: Storage) -> Node | None:
    """``cat`` and ``stack``: each input is copied to its part of the result."""
    if instr.op.name not in ("cat", "stack") or kind_of(instr.outs[0].dtype) is None:
        return None
    out = instr.outs[0]
    if any(not isinstance(a, Value) or a.dtype != out.dtype for a in instr.args):
        return None
    rank = len(out.shape)
    dim = instr.params["dim"] % rank
    steps = contiguous(out.shape)
    parts: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []
    args: list[Any] = []
    at = 0
    for a in instr.args:
        root, offset, strides = storage.refs[a]
        shape = a.shape
        if instr.op.name == "stack":
            shape, strides = (*shape[:dim], 1, *shape[dim:]), (*strides[:dim], 0, *strides[dim:])
        if len(shape) != rank:
            return None
        if math.prod(shape):
            args.append(Access(root, offset, strides))
            parts.append((shape, steps, at * steps[dim]))
        at += shape[dim]
    node = Node(
        "join", instr.op.name, instr, out, tuple(n for n in out.shape if n != 1), args, compute=kind_of(out.dtype) or ""
    )
    node.params = {"parts": parts}
    return node


def _part(instr: Instr, base: Any) -> Any:
    """The part of the result (``base`` stands for its memory) that the op's argument is copied to."""
    name, p = instr.op.name, instr.params
    if name == "place":
        key = p["key"]
        return base[key if Ellipsis in key else (*key, ...)]  # the Ellipsis keeps a single entry a view
    if name == "pad_constant":
        return base[tuple(slice(a, n - b) for n, (a, b) in zip(base.shape, p["widths"], strict=True))]
    if name == "on_diagonal":
        return np.diagonal(base, p["offset"], p["dim1"], p["dim2"])
    described, settings, output = p["view"]
    result = described.body(base, **settings)
    return result if output is None else result[output]


def _place(instr: Instr, storage: Storage) -> Node | None:
    """Zeros, a number, or another array, and x copied to a part of it."""
    name, out = instr.op.name, instr.outs[0]
    if name not in ("place", "pad_constant", "on_diagonal", "view_scatter"):
        return None
    kind = kind_of(out.dtype)
    x = instr.args[-1]
    if kind is None or math.prod(out.shape) == 0 or any(a.dtype != out.dtype for a in instr.args):
        return None
    if name == "pad_constant" and any(w < 0 for pair in instr.params["widths"] for w in pair):
        return None
    steps = contiguous(out.shape)
    base = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), out.shape, steps, writeable=False)
    part = _part(instr, base)
    if part.shape != x.shape:
        return None
    first = part.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    if math.prod(x.shape) and not 0 <= first < math.prod(out.shape):
        return None
    args: list[Any] = []
    parts: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []
    for a, place, start in [*((v, steps, 0) for v in instr.args[:-1]), (x, tuple(part.strides), first)]:
        if math.prod(a.shape):
            root, offset, strides = storage.refs[a]
            args.append(Access(root, offset, strides))
            parts.append((a.shape, place, start))
    node = Node("join", name, instr, out, tuple(n for n in out.shape if n != 1), args, compute=kind)
    fill = None if name == "view_scatter" else instr.params.get("value", 0)
    node.params = {"parts": parts, "fill": fill}
    return node


def _at_home(node: Node, storage: Storage, placed: set[Value]) -> None:
    """Let what is joined be made in its place, where that is one piece: then there is nothing left to copy."""
    args: list[Any] = []
    parts: list[Any] = []
    for access, (shape, steps, start) in zip(node.args, node.params["parts"], strict=True):
        assert isinstance(access, Access)
        v = access.root
        whole = access.offset == 0 and math.prod(shape) == math.prod(v.shape)
        here = all(a == b for n, a, b in zip(shape, access.strides, steps, strict=True) if n > 1)
        own = storage.refs[v] == (v, 0, contiguous(v.shape))
        if whole and own and here and v not in placed and v not in storage.homes and v.dtype == node.out.dtype:
            storage.homes[v] = (node.out, start)
        else:
            args.append(access)
            parts.append((shape, steps, start))
    node.args, node.params = args, {**node.params, "parts": parts}


def _needed(nodes: list[Node], program: Program, storage: Storage) -> list[Node]:
    """Leave out what no node reads. The program had a reader for it; but one without entries became no work at all, and
    memory is planned only for what is read: a kernel that writes for nobody would have nowhere to write to."""
    wanted = {storage.refs[v][0] for v in (*program.outputs, *(v for _, v in program.updates))}
    found: list[Node] = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outs):
            found.append(node)
            wanted.update(node.reads)
    return found[::-1]


def build(program: Program) -> tuple[list[Node], Storage, list[Check]]:
    """Every instruction as a node, in program order, views dissolved; and what has to be checked before each run."""
    from .images import images  # these build on the descriptions here
    from .indexed import Ranges, indexed
    from .scan import scan

    storage, ranges = Storage(), Ranges(program)
    placed = {*program.inputs, *program.constants, *program.outputs, *(v for pair in program.updates for v in pair)}
    for v in program.inputs:
        storage.own(v)
    for v, array in program.constants.items():
        size = array.itemsize
        storage.own(v, tuple(s // size for s in array.strides))
    nodes: list[Node] = []
    for instr in program.instrs:
        op = instr.op
        if (op.is_view or op.name in VIEWS) and len(instr.outs) == 1 and storage.view(instr):
            continue
        if op.name in ("split", "unbind") and storage.views(instr):
            continue
        out = instr.outs[0]
        if math.prod(out.shape) == 0 and len(instr.outs) == 1:
            storage.own(out)
            continue
        node: Node | None = None
        if op.name == "one_hot":
            node = _iota(instr, storage)
        elif op.name in ("reshape", "expand") and kind_of(out.dtype) is not None:
            # Not expressible by strides: copy in the source's order, which is the result's order.
            x = instr.args[0]
            shape = tuple(n for n in x.shape if n != 1)
            node = Node(
                "ew", "copy", instr, out, shape, [storage.broadcast(x, x.shape)], compute=kind_of(out.dtype) or ""
            )
        else:
            node = (
                _elementwise(instr, storage) or _reduction(instr, storage) or _matmul(instr, storage)
                or _join(instr, storage) or _place(instr, storage) or images(instr, storage)
                or indexed(instr, storage, ranges) or scan(instr, storage)
            )  # fmt: skip
        for o in instr.outs:
            storage.own(o)
        if node is not None and op.name not in ("cat", "stack") and any(0 in v.shape for v in instr.values):
            node = None  # there is no memory to read: NumPy knows what comes of nothing
        if node is None:
            why = f"{op.name} has no native form" if op.name not in scalar.FORMS else f"{op.name} on {out.dtype.name}"
            node = Node("call", op.name, instr, out, (), [], why=why)
            node.reads = tuple(storage.refs[a][0] for a in instr.args if isinstance(a, Value))
        else:
            node.reads = tuple({a.root: None for a in node.args if isinstance(a, Access)})
        nodes.append(node)
    nodes = _needed(nodes, program, storage)
    for node in nodes:
        if node.name in ("cat", "stack") and node.kind == "join" and all(node.out is not v for _, v in program.updates):
            _at_home(node, storage, placed)
    return nodes, storage, ranges.checks
