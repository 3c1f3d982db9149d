"""A program as one native function.

``build_step(program)`` groups, plans, emits and loads; the result is called with a list of input arrays and a list of
output arrays. Every pointer the step needs stands in one table: inputs and outputs are put there for each call,
constants once. A kernel is emitted once per structure, so equal layers share it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import threads
from ..core.op import registry
from ..core.variable import wrap
from ..errors import OpError
from ..graph.program import Instr, Program, Value
from . import blas, native, workers
from .decompose import Check
from .driver import driver
from .entry import builtin, library
from .fits import argument_rows, target_rows
from .groups import Group, make_groups
from .ir import Module
from .kernels import Kernels
from .memory import Plan, make_plan, nbytes, scratch_bytes
from .nest import Kernel
from .nodes import SEVERAL, Node, build, contiguous
from .pack import pack_once
from .split import split
from .table import DATA, WORDS
from .tiles import packed_tile

__all__ = ["Step", "build_step"]

_CALLBACK = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
_RUN = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
CANARY = 0xA5
_ATTRIBUTES = 'attributes #0 = { nounwind noinline "no-trapping-math"="true" "prefer-vector-width"="512" }'


@dataclass(slots=True)
class Call:
    """An op that runs its NumPy body inside the step."""

    node: Node
    args: list[Any]
    outs: list[Value]


def _layout_known() -> bool:
    """Whether array objects look as NumPy's C API fixes it, so that native code may read the pointer itself."""
    probe = np.zeros(3)
    if ctypes.sizeof(ctypes.c_void_p) != 8 or not hasattr(ctypes, "pythonapi"):
        return False
    try:
        return ctypes.c_void_p.from_address(id(probe) + DATA).value == probe.ctypes.data
    except (ValueError, OSError):
        return False


def prepare(program: Program) -> Program:
    """Give every output, and every update that is not a fresh value, a value of its own."""
    clone = registry["clone"]
    made = {o: i for i in program.instrs for o in i.outs}
    taken: set[Value] = set()
    instrs = list(program.instrs)

    def own(v: Value) -> Value:
        instr = made.get(v)
        if instr is None or instr.op.is_view or v in taken or instr.op.name in ("reshape", "expand", "swap", "permute"):
            fresh = Value(v.shape, v.dtype, v.name)
            instrs.append(
                Instr(clone, (v,), {}, (fresh,), instr.place if instr else None, instr.module if instr else "")
            )
            v = fresh
        taken.add(v)
        return v

    updates = [(memory, own(v)) for memory, v in program.updates]
    outputs = [own(v) for v in program.outputs]
    return Program(list(program.inputs), dict(program.constants), instrs, outputs, updates)


class Step:
    """A loaded program. ``run(inputs, outputs)`` executes it once."""

    def __init__(
        self, program: Program, *, fuse: bool = True, guard: int = 0, checks: Sequence[Check] = (),
        shared: Set[Value] = frozenset(),
    ) -> None:  # fmt: skip
        self.program = program = prepare(program)
        self.checks = list(checks)
        self.guard = guard
        self.shared = shared
        nodes, self.storage, found = build(program)
        self.checks += [c for c in found if c not in self.checks]
        nodes = pack_once(nodes, self.storage, packed_tile)
        targets = {v: memory for memory, v in program.updates}
        self.groups = make_groups(nodes, dict(targets.items()), fuse)
        self.writes = {m for m, _ in program.updates}
        self.outputs = {v: n for n, v in enumerate(program.outputs)}
        self.targets = targets
        self.kept = self.find_kept()
        self.threads = threads.get() if workers.available() else 1
        self.emit()
        self.link()

    def find_kept(self) -> set[Value]:
        """What somebody outside its own group reads."""
        home: dict[Value, int] = {}
        for i, group in enumerate(self.groups):
            for v in group.made:
                home[v] = i
        kept = set(self.outputs) | set(self.targets)
        for i, group in enumerate(self.groups):
            for v in group.read:
                if home.get(v, i) != i:
                    kept.add(v)
            if group.kind in SEVERAL:
                kept.update(group.made)
            kept.update(v for v in group.made if group.level[v] == "end")
        return kept

    # -- text ------------------------------------------------------------------------------------------------------

    def emit(self) -> None:
        width = native.vector_bytes()
        module = Module()
        kernels = Kernels(module, self.kept, width)
        self.kernels = [self.parts(group, kernels) for group in self.groups]
        self.calls = [
            Call(g.nodes[0], list(g.nodes[0].instr.args), list(g.nodes[0].instr.outs))
            for g in self.groups if g.kind == "call"
        ]  # fmt: skip
        self.kernel_text = list(module.globals), dict(module.declared), list(module.functions)
        plain = set(self.program.inputs)
        plain |= {v for v, a in self.program.constants.items() if a.flags.c_contiguous and a.flags.writeable}
        scratch = [sum(scratch_bytes(k) for _, k in parts) for parts in self.kernels]
        self.plan: Plan = make_plan(
            self.groups, self.storage, self.kept, self.outputs, self.targets, plain, scratch, self.guard
        )
        self.slots: dict[Any, int] = dict(WORDS)
        self.first_input = len(self.slots)
        for v in self.program.inputs:
            self.slots[v] = len(self.slots)
        self.first_output = len(self.slots)
        for n in range(len(self.program.outputs)):
            self.slots["output", n] = len(self.slots)
        for v in self.program.constants:
            self.slots[v] = len(self.slots)
        self.late = [(m, v) for m, v in self.plan.copies if not self.is_plain(m)]
        for word in blas.ENTRIES.values():
            self.slots[word] = len(self.slots)
        module.functions += [driver(self, module), _ATTRIBUTES]
        self.ir = module.text()

    def parts(self, group: Group, kernels: Kernels) -> list[tuple[str, Kernel]]:
        """The kernels of a group: one, one for each thread, or none for a NumPy body."""
        if group.kind == "call":
            return []
        several = split(group, self.threads)
        if several is None:
            return [kernels.add(group)]
        out: list[tuple[str, Kernel]] = []
        for part, ranges in several:
            self.kept.update(v for v, (whole, _) in ranges.items() if whole in self.kept)
            name, kernel = kernels.add(part)
            params: list[tuple[Value | None, int]] = []
            for root, offset in kernel.params:
                whole, start = (root, 0) if root is None else ranges.get(root, (root, 0))
                params.append((whole, start + offset))
            out.append((name, Kernel(kernel.body, params, kernel.scratch, kernel.flops)))
        return out

    def location(self, root: Value | str) -> tuple[Any, int]:
        """(slot, byte offset) where a root lives."""
        if isinstance(root, Value) and root in self.storage.homes:
            home, offset = self.storage.homes[root]
            key, start = self.location(home)
            return key, start + offset * root.dtype.itemsize
        place = self.plan.place.get(root) if isinstance(root, Value) else None
        if place is None:
            return root, 0
        kind, where = place
        if kind == "arena":
            assert isinstance(where, int)
            return "arena", where
        if kind == "memory":
            return where, 0
        return ("output", where), 0

    def profile(self, inputs: list[Any], outputs: list[Any], repeats: int = 20) -> list[float]:
        """Cycles that each group takes, as medians over repeated runs (which are real runs: state changes)."""
        module = Module()
        text, declared, functions = self.kernel_text
        module.globals, module.declared, module.functions = list(text), dict(declared), list(functions)
        module.functions += [driver(self, module, clock=True), _ATTRIBUTES]
        library = native.load(module.text())
        clock = np.zeros(len(self.groups) + 1, np.int64)
        self.table[self.slots["clock"]] = clock.ctypes.data
        run = _RUN(library.address("run"))
        samples: list[Any] = []
        for _ in range(repeats):
            self.current = [*inputs, *outputs]
            for n, a in enumerate(self.current):
                self.table[self.first_input + n] = a.ctypes.data
            run(self.table.ctypes.data)
            samples.append(np.diff(clock))
        self.current = []
        return [float(x) for x in np.median(samples, axis=0)]

    def is_plain(self, memory: Value) -> bool:
        array = self.program.constants.get(memory)
        return array is None or bool(array.flags.c_contiguous)

    # -- loading ---------------------------------------------------------------------------------------------------

    def link(self) -> None:
        self.library = native.load(self.ir)
        self.table = np.zeros(len(self.slots), np.int64)
        raw = np.full(self.plan.size + 128, CANARY, np.uint8)
        start = -raw.ctypes.data % 64
        self.arena = raw[start : start + self.plan.size + 64]
        self.error: BaseException | None = None
        self.current: list[Any] = []
        self._callback = _CALLBACK(self.call_body)
        for v, array in self.program.constants.items():
            self.table[self.slots[v]] = array.ctypes.data
        self.inputs_n = len(self.program.inputs)
        self.homes = np.zeros(len(self.program.outputs), np.int64)
        self.no, self.yes, self.other = object(), object(), object()
        self.arguments, self.checked = argument_rows(self), target_rows(self, library().address)
        self.set_words(
            arena=self.arena.ctypes.data, callback=ctypes.cast(self._callback, ctypes.c_void_p).value or 0,
            run=self.library.address("run"), no=id(self.no), yes=id(self.yes), other=id(self.other),
            array_type=id(np.ndarray), tensor_type=id(type(wrap(np.zeros(1)))), threads=threads.cell.ctypes.data,
            wanted=self.threads, inputs=self.inputs_n, outputs=len(self.program.outputs),
            arguments=self.arguments[0].ctypes.data, checked=len(self.checked[0]),
            targets=self.checked[0].ctypes.data, homes=self.homes.ctypes.data,
        )  # fmt: skip
        if blas.choice() != "own":
            for kind, word in blas.ENTRIES.items():
                self.table[self.slots[word]] = blas.address(blas.choice(), kind)
        if any(len(parts) > 1 for parts in self.kernels):
            pool = workers.pool()
            self.set_words(fork=pool.fork, pool=pool.address)
        self.watch([])
        self.follow([])
        self.note_written()
        self.native: Any = self.call_plain
        self.check: Any = self.check_plain
        self.short = _layout_known()
        if self.short:
            self.native, self.check = builtin("entry", self.table), builtin("check", self.table)
            self.quick, self.ready, self.go = (builtin(name, self.table) for name in ("quick", "ready", "go"))

    def set_words(self, **words: int) -> None:
        for name, value in words.items():
            self.table[self.slots[name]] = value

    def set_requires(self, requires: list[bool]) -> None:
        """Which inputs require a gradient, for ``quick`` and ``ready``, which are given tensors."""
        self.arguments[0][:, 1] = [id(answer) for answer in requires]

    def watch(self, words: list[tuple[int, int]]) -> None:
        """Memory words (address, value) that must be as they are for ``check`` to say yes."""
        self.pairs = self.list_words("watched", words)

    def follow(self, words: list[tuple[int, int]]) -> None:
        """Further words, whose change makes ``quick`` and ``ready`` give ``other``; ``row()`` is the first of them."""
        self.followed = self.list_words("followed", words)

    def list_words(self, slot: str, words: list[tuple[int, int]]) -> Any:
        pairs = np.zeros((len(words) + 1, 2), np.int64)
        if words:
            pairs[:-1] = np.array(words, np.uint64).view(np.int64)
        self.table[self.slots[slot]] = pairs.ctypes.data
        return pairs

    def note_written(self) -> None:
        """The ranges of memory outside that the step writes: an input must not lie there, unless it is a view of it."""
        outside = [m for m, _ in self.program.updates if m in self.program.constants]
        self.outside = [self.program.constants[m] for m in outside]
        self.written = [self.program.constants[m] for m in outside if m not in self.shared]
        bounds = [np.lib.array_utils.byte_bounds(a) for a in self.written if a.size]
        self.ranges = self.list_words("written", bounds)

    def row(self) -> int:
        """Which of the followed words had changed when ``quick`` or ``ready`` said so."""
        return int(self.table[self.slots["row"]])

    def place_outputs(self, first: int, arrays: list[Any]) -> None:
        """Where outputs go from that one on in runs by ``quick`` and ``go``, which name only those before it."""
        self.homes[first:] = [a.ctypes.data for a in arrays]

    def check_plain(self, *arrays: Any) -> Any:
        """What the native check does, in Python."""
        if threads.get() != self.threads:
            return self.no
        for v, a in zip(self.program.inputs, arrays, strict=True):
            if type(a) is not np.ndarray or a.shape != v.shape or a.dtype != v.dtype or not a.flags.c_contiguous:
                return self.no
            if (v in self.writes and not a.flags.writeable) or any(np.may_share_memory(a, w) for w in self.written):
                return self.no
        for address, expected in self.pairs[:-1]:
            if ctypes.c_int64.from_address(int(address)).value != expected:
                return self.no
        self.current = list(arrays)
        for check in self.checks:
            t = self.array(check.target)
            fine = (t >= check.low) & (t < check.classes)
            if check.ignore is not None:
                fine = fine & (t != check.ignore) if check.plain else fine | (t == check.ignore)
            if not np.all(fine):
                return self.no
        return self.yes

    def call_plain(self, *arrays: Any) -> None:
        for n, a in enumerate(arrays):
            self.table[self.first_input + n] = a.ctypes.data
        self.table[0] = _RUN(self.library.address("run"))(self.table.ctypes.data)

    def rebind(self, constant: Value, array: Any) -> None:
        """Read a constant from another array from now on (same shape, dtype and strides); then ``note_written``."""
        self.program.constants[constant] = array
        self.table[self.slots[constant]] = array.ctypes.data

    def run(self, inputs: list[Any], outputs: list[Any]) -> None:
        """Execute once. The arrays must be contiguous, of the program's shapes and dtypes."""
        if self.calls or self.late:
            self.current = [*inputs, *outputs]
            self.native(*inputs, *outputs)
            self.current = []
            if self.table[0]:
                error, self.error = self.error, None
                raise error if error is not None else RuntimeError("step stopped")
            for memory, value in self.late:
                np.copyto(self.program.constants[memory], self.array(value))
            return
        self.native(*inputs, *outputs)

    # -- NumPy bodies inside the step ------------------------------------------------------------------------------

    def array(self, v: Value) -> Any:
        """The value's content as an array over its memory."""
        if math.prod(v.shape) == 0:
            return np.empty(v.shape, v.dtype)
        root, offset, strides = self.storage.refs[v]
        key, start = self.location(root)
        size = v.dtype.itemsize
        if key == "arena":
            base = self.arena[start : start + max(nbytes(root), 1)].view()
            flat = np.frombuffer(base, root.dtype, math.prod(root.shape)) if nbytes(root) else np.empty(0, root.dtype)
        elif isinstance(key, tuple):
            flat = self.current[self.inputs_n + key[1]]
            if start:
                flat = flat.reshape(-1)[start // flat.itemsize :][: math.prod(root.shape)]
        elif key in self.program.constants:
            flat = self.program.constants[key]
            if key is root and v is root:
                return flat
        else:
            flat = self.current[self.program.inputs.index(key)]
        if v is root and flat.shape == v.shape and strides == contiguous(v.shape):
            return flat
        flat = np.lib.stride_tricks.as_strided(flat, (1,), (size,)) if flat.ndim != 1 else flat
        first = np.lib.stride_tricks.as_strided(flat, (offset + 1,), (size,))[offset:]
        return np.lib.stride_tricks.as_strided(first, v.shape, tuple(s * size for s in strides))

    def call_body(self, number: int) -> int:
        try:
            call = self.calls[number]
            args = [self.array(a) if isinstance(a, Value) else a for a in call.args]
            op = call.node.instr.op
            result = op.body(*args, **call.node.instr.params)
            results = (result,) if op.outputs == 1 and not op.residuals else tuple(result)
            if op.residuals and op.outputs == 1:
                results = tuple(result)
            for v, r in zip(call.outs, results, strict=True):
                target = self.array(v)
                if np.shape(r) != target.shape:
                    raise OpError(f"{op.name} gave a result of shape {np.shape(r)}, recorded was {target.shape}")
                if target.size:
                    target[...] = r
        except BaseException as error:
            self.error = error
            return 1
        return 0


def build_step(program: Program, **options: Any) -> Step:
    """Compile a program (see ``Step``)."""
    return Step(program, **options)
