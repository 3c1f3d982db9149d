"""A program as one native function.

``build_step(program)`` groups, plans, emits and loads; the result is called with a list of input arrays and a list of
output arrays. Every pointer the step needs stands in one table: inputs and outputs are put there for each call,
constants once. A kernel is emitted once per structure, so equal layers share it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.op import registry
from ..errors import OpError
from ..graph.program import Instr, Program, Value
from . import native
from .decompose import Check
from .groups import make_groups
from .ir import Module
from .kernels import Kernels
from .memory import Plan, make_plan, nbytes
from .nest import Kernel
from .nodes import Node, build, contiguous

__all__ = ["Step", "build_step"]

_CALLBACK = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
CANARY = 0xA5
_ATTRIBUTES = 'attributes #0 = { nounwind noinline "no-trapping-math"="true" "prefer-vector-width"="512" }'


@dataclass(slots=True)
class Call:
    """An op that runs its NumPy body inside the step."""

    node: Node
    args: list[Any]
    outs: list[Value]


class _MethodDef(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int),
                ("doc", ctypes.c_char_p)]  # fmt: skip


_DATA = 16  # where a NumPy array object keeps its data pointer (PyArrayObject: refcount, type, data, …)
_FASTCALL = 0x0080


def _layout_known() -> bool:
    """Whether array objects look as NumPy's C API fixes it, so that native code may read the pointer itself."""
    probe = np.zeros(3)
    if ctypes.sizeof(ctypes.c_void_p) != 8 or not hasattr(ctypes, "pythonapi"):
        return False
    try:
        return ctypes.c_void_p.from_address(id(probe) + _DATA).value == probe.ctypes.data
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
    ) -> None:  # fmt: skip
        self.program = program = prepare(program)
        self.checks = list(checks)
        self.guard = guard
        nodes, self.storage, found = build(program)
        self.checks += [c for c in found if c not in self.checks]
        targets = {v: memory for memory, v in program.updates}
        self.groups = make_groups(nodes, dict(targets.items()), fuse)
        self.outputs = {v: n for n, v in enumerate(program.outputs)}
        self.targets = targets
        self.kept = self.find_kept()
        self.calls: list[Call] = []
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
            if group.kind == "call":
                kept.update(group.made)
            kept.update(v for v in group.made if group.level[v] == "end")
        return kept

    # -- text ------------------------------------------------------------------------------------------------------

    def emit(self) -> None:
        width = native.vector_bytes()
        module = Module()
        kernels = Kernels(module, self.kept, width)
        self.kernels: list[tuple[str, Kernel | None]] = [
            ("", None) if group.kind == "call" else kernels.add(group) for group in self.groups
        ]
        self.kernel_text = list(module.globals), dict(module.declared), list(module.functions)
        plain = set(self.program.inputs)
        plain |= {v for v, a in self.program.constants.items() if a.flags.c_contiguous and a.flags.writeable}
        scratch = [k.scratch if k is not None else 0 for _, k in self.kernels]
        self.plan: Plan = make_plan(
            self.groups, self.storage, self.kept, self.outputs, self.targets, plain, scratch, self.guard
        )
        self.slots: dict[Any, int] = {"status": 0, "arena": 1, "callback": 2}
        for v in self.program.inputs:
            self.slots[v] = len(self.slots)
        self.first_output = len(self.slots)
        for n in range(len(self.program.outputs)):
            self.slots["output", n] = len(self.slots)
        for v in self.program.constants:
            self.slots[v] = len(self.slots)
        module.functions.append(self.driver(module))
        for name in ("yes", "no", "clock", "watched", "array type", *(("dtype", v) for v in self.program.inputs)):
            self.slots[name] = len(self.slots)
        module.functions.append(self.entry())
        module.functions.append(self.checker())
        module.functions.append(_ATTRIBUTES)
        self.ir = module.text()

    def location(self, root: Value | str) -> tuple[Any, int]:
        """(slot, byte offset) where a root lives."""
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
        module.globals, module.declared, module.functions = (type(x)(x) for x in self.kernel_text)
        calls, self.calls = self.calls, []
        module.functions.append(self.driver(module, clock=True))
        self.calls = calls
        module.functions.append(self.entry())
        module.functions.append(_ATTRIBUTES)
        library = native.load(module.text())
        clock = np.zeros(len(self.groups) + 1, np.int64)
        self.table[self.slots["clock"]] = clock.ctypes.data
        run = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(library.address("plain"))
        samples: list[Any] = []
        for _ in range(repeats):
            self.current = [*inputs, *outputs]
            for n, a in enumerate(self.current):
                self.table[3 + n] = a.ctypes.data
            run(self.table.ctypes.data)
            samples.append(np.diff(clock))
        self.current = []
        return [float(x) for x in np.median(samples, axis=0)]

    def driver(self, module: Module, clock: bool = False) -> str:
        loaded: dict[Any, str] = {}
        count = 0

        def fresh() -> str:
            nonlocal count
            count += 1
            return f"%v{count}"

        body: list[str] = []

        def slot(key: Any) -> str:
            # Loaded where it is used: hundreds of pointers alive all the way cost the compiler more than they save.
            if key not in loaded:
                p, v = fresh(), fresh()
                body.append(f"  {p} = getelementptr i64, ptr %table, i64 {self.slots[key]}")
                body.append(f"  {v} = load ptr, ptr {p}, align 8")
                loaded[key] = v
            return loaded[key]

        def pointer(root: Any, offset: int) -> str:
            key, start = self.location(root)
            base = slot(key)
            start += offset
            if start == 0:
                return base
            out = fresh()
            body.append(f"  {out} = getelementptr i8, ptr {base}, i64 {start}")
            return out

        def tick(i: int) -> None:
            if clock:
                module.declare("@llvm.readcyclecounter", "declare i64 @llvm.readcyclecounter()")
                now, place = fresh(), fresh()
                body.append(f"  {now} = call i64 @llvm.readcyclecounter()")
                body.append(f"  {place} = getelementptr i64, ptr {slot('clock')}, i64 {i}")
                body.append(f"  store i64 {now}, ptr {place}, align 8")

        for i, (group, (name, kernel)) in enumerate(zip(self.groups, self.kernels, strict=True)):
            loaded.clear()
            tick(i)
            if kernel is None:
                number = len(self.calls)
                node = group.nodes[0]
                self.calls.append(Call(node, list(node.instr.args), list(node.instr.outs)))
                status, test = fresh(), fresh()
                body.append(f"  {status} = call i64 {slot('callback')}(i64 {number})")
                body.append(f"  {test} = icmp eq i64 {status}, 0")
                body.append(f"  br i1 {test}, label %go{i}, label %stop")
                body.append(f"go{i}:")
                continue
            pointers: list[str] = []
            for root, offset in kernel.params:
                if root is None:
                    start = self.plan.place[i][1]  # type: ignore[index]
                    pointers.append(pointer("arena", int(start) + offset))  # type: ignore[arg-type]
                else:
                    pointers.append(pointer(root, offset * root.dtype.itemsize))
            body.append(f"  call void @{name}({', '.join(f'ptr {p}' for p in pointers)})")
        loaded.clear()
        tick(len(self.groups))
        for memory, value in self.plan.copies:
            if self.is_plain(memory):
                module.declare("@llvm.memcpy.p0.p0.i64", "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
                source, target = pointer(value, 0), pointer(memory, 0)
                body.append(
                    f"  call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {nbytes(memory)}, i1 false)"
                )
        self.late = [(m, v) for m, v in self.plan.copies if not self.is_plain(m)]
        tail = ["  ret i64 0"]
        if self.calls:
            tail += ["stop:", "  ret i64 1"]
        return "\n".join(["define internal i64 @run(ptr %table) #0 {", *body, *tail, "}"])

    def is_plain(self, memory: Value) -> bool:
        array = self.program.constants.get(memory)
        return array is None or bool(array.flags.c_contiguous)

    def entry(self) -> str:
        """A Python builtin: reads the data pointers of the arrays it is given, runs, gives back its ``self``.

        ``self`` is the table (a NumPy array), whose own data pointer stands at the same place.
        """
        lines = [
            f"  %p = getelementptr i8, ptr %self, i64 {_DATA}",
            "  %table = load ptr, ptr %p, align 8",
        ]
        for n in range(len(self.program.inputs) + len(self.program.outputs)):
            lines += [
                f"  %a{n} = getelementptr ptr, ptr %args, i64 {n}",
                f"  %o{n} = load ptr, ptr %a{n}, align 8",
                f"  %q{n} = getelementptr i8, ptr %o{n}, i64 {_DATA}",
                f"  %d{n} = load i64, ptr %q{n}, align 8",
                f"  %s{n} = getelementptr i64, ptr %table, i64 {3 + n}",
                f"  store i64 %d{n}, ptr %s{n}, align 8",
            ]
        lines += [
            "  %status = call i64 @run(ptr %table)",
            "  store i64 %status, ptr %table, align 8",
            "  %count = load i64, ptr %self, align 8",
            "  %more = add i64 %count, 1",
            "  store i64 %more, ptr %self, align 8",
            "  ret ptr %self",
        ]
        plain = [
            "  %status = call i64 @run(ptr %table)",
            "  store i64 %status, ptr %table, align 8",
            "  ret void",
        ]
        return "\n".join([
            "define ptr @entry(ptr %self, ptr %args, i64 %n) {", *lines, "}",
            "define void @plain(ptr %table) {", *plain, "}",
        ])  # fmt: skip

    def checker(self) -> str:
        """A Python builtin: whether arrays (and what the recording depended on) are as they were recorded.

        Reads NumPy's array objects: type at 8, number of dims at 24, dims and strides at 32 and 40, dtype at 56.
        """
        lines: list[str] = []
        count = 0

        def v(text: str) -> str:
            nonlocal count
            count += 1
            lines.append(f"  %c{count} = {text}")
            return f"%c{count}"

        def at(base: str, offset: int) -> str:
            return v(f"getelementptr i8, ptr {base}, i64 {offset}")

        def need(condition: str) -> None:
            nonlocal count
            count += 1
            lines.append(f"  br i1 {condition}, label %y{count}, label %bad")
            lines.append(f"y{count}:")

        def need_equal(kind: str, address: str, expected: str) -> None:
            need(v(f"icmp eq {kind} {v(f'load {kind}, ptr {address}, align 8')}, {expected}"))

        table = v(f"load ptr, ptr {at('%self', _DATA)}, align 8")

        def slot(key: Any) -> str:
            return v(f"load ptr, ptr {at(table, 8 * self.slots[key])}, align 8")

        need(v(f"icmp eq i64 %n, {len(self.program.inputs)}"))
        data: dict[Value, str] = {}
        kind = slot("array type")
        for n, value in enumerate(self.program.inputs):
            array = v(f"load ptr, ptr {at('%args', 8 * n)}, align 8")
            need(v(f"icmp eq ptr {v(f'load ptr, ptr {at(array, 8)}, align 8')}, {kind}"))
            need_equal("i32", at(array, 24), str(len(value.shape)))
            need(v(f"icmp eq ptr {v(f'load ptr, ptr {at(array, 56)}, align 8')}, {slot(('dtype', value))}"))
            if value.shape:
                dims = v(f"load ptr, ptr {at(array, 32)}, align 8")
                steps = v(f"load ptr, ptr {at(array, 40)}, align 8")
                size = value.dtype.itemsize
                for d, (length, step) in enumerate(zip(value.shape, contiguous(value.shape), strict=True)):
                    need_equal("i64", at(dims, 8 * d), str(length))
                    if length > 1 and 0 not in value.shape:
                        need_equal("i64", at(steps, 8 * d), str(step * size))
            data[value] = v(f"load ptr, ptr {at(array, _DATA)}, align 8")
        # Words in memory that must hold what they held: pairs (address, value), a null address ends the list.
        pairs = slot("watched")
        head = f"w{count}"
        before = self.last_label(lines)
        lines.append(f"  br label %{head}a")
        lines.append(f"{head}a:")
        lines.append(f"  %wi = phi i64 [0, %{before}], [%wj, %{head}c]")
        first = v(f"getelementptr [2 x ptr], ptr {pairs}, i64 %wi")
        place = v(f"load ptr, ptr {first}, align 8")
        ended = v(f"icmp eq ptr {place}, null")
        lines.append(f"  br i1 {ended}, label %{head}d, label %{head}b")
        lines.append(f"{head}b:")
        now = v(f"load ptr, ptr {place}, align 8")
        expected = v(f"load ptr, ptr {at(first, 8)}, align 8")
        test = v(f"icmp eq ptr {now}, {expected}")
        lines.append(f"  br i1 {test}, label %{head}c, label %bad")
        lines.append(f"{head}c:")
        lines.append("  %wj = add i64 %wi, 1")
        lines.append(f"  br label %{head}a")
        lines.append(f"{head}d:")
        for n, check in enumerate(self.checks):
            root, offset, strides = self.storage.refs[check.target]
            t = {8: "i64", 4: "i32", 2: "i16", 1: "i8"}[check.target.dtype.itemsize]
            base = data[root] if root in data else slot(root)
            total = math.prod(check.target.shape)
            if total == 0:
                continue
            before = self.last_label(lines)
            lines += [f"  br label %t{n}", f"t{n}:", f"  %ti{n} = phi i64 [0, %{before}], [%tj{n}, %u{n}]"]
            index, below = v(f"add i64 0, {offset}"), total
            for m, step in zip(check.target.shape, strides, strict=True):
                below //= m
                part = v(f"urem i64 {v(f'udiv i64 %ti{n}, {below}')}, {m}")
                index = v(f"add i64 {index}, {v(f'mul i64 {part}, {step}')}")
            entry = v(f"load {t}, ptr {v(f'getelementptr {t}, ptr {base}, i64 {index}')}, align 1")
            fine = v(f"icmp ult {t} {v(f'sub {t} {entry}, {check.low}')}, {check.classes - check.low}")
            if check.ignore is not None:
                ignored = v(f"icmp eq {t} {entry}, {check.ignore}")
                if check.plain:
                    fine = v(f"and i1 {fine}, {v(f'xor i1 {ignored}, true')}")
                else:
                    fine = v(f"or i1 {fine}, {ignored}")
            lines += [
                f"  br i1 {fine}, label %u{n}, label %bad", f"u{n}:", f"  %tj{n} = add i64 %ti{n}, 1",
                f"  %tc{n} = icmp ult i64 %tj{n}, {total}", f"  br i1 %tc{n}, label %t{n}, label %z{n}", f"z{n}:",
            ]  # fmt: skip
        tail: list[str] = []
        for label, name in (("", "yes"), ("bad:", "no")):
            if label:
                tail.append(label)
            i = len(tail)
            tail += [
                f"  %r{i}a = getelementptr i8, ptr {table}, i64 {8 * self.slots[name]}",
                f"  %r{i}b = load ptr, ptr %r{i}a, align 8",
                f"  %r{i}c = load i64, ptr %r{i}b, align 8",
                f"  %r{i}d = add i64 %r{i}c, 1",
                f"  store i64 %r{i}d, ptr %r{i}b, align 8",
                f"  ret ptr %r{i}b",
            ]
        return "\n".join(["define ptr @check(ptr %self, ptr %args, i64 %n) {", "start:", *lines, *tail, "}"])

    @staticmethod
    def last_label(lines: list[str]) -> str:
        """The block that the last line of the text is in."""
        for line in reversed(lines):
            if not line.startswith(" "):
                return line[:-1]
        return "start"

    # -- loading ---------------------------------------------------------------------------------------------------

    def link(self) -> None:
        self.library = native.load(self.ir)
        self.table = np.zeros(len(self.slots), np.int64)
        raw = np.full(self.plan.size + 128, CANARY, np.uint8)
        start = -raw.ctypes.data % 64
        self.arena = raw[start : start + self.plan.size + 64]
        self.table[1] = self.arena.ctypes.data
        self.error: BaseException | None = None
        self.current: list[Any] = []
        self._callback = _CALLBACK(self.call_body)
        self.table[2] = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        for v, array in self.program.constants.items():
            self.table[self.slots[v]] = array.ctypes.data
        self.inputs_n = len(self.program.inputs)
        self.yes, self.no = object(), object()
        self.table[self.slots["yes"]], self.table[self.slots["no"]] = id(self.yes), id(self.no)
        self.table[self.slots["array type"]] = id(np.ndarray)
        for v in self.program.inputs:
            self.table[self.slots["dtype", v]] = id(np.dtype(v.dtype.str))
        self.watch([])
        if _layout_known():
            self._def = _MethodDef(b"step", self.library.address("entry"), _FASTCALL, None)
            make = ctypes.pythonapi.PyCFunction_NewEx
            make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
            self.native: Any = make(ctypes.addressof(self._def), self.table, None)
            self._check_def = _MethodDef(b"check", self.library.address("check"), _FASTCALL, None)
            self.check: Any = make(ctypes.addressof(self._check_def), self.table, None)
        else:
            self._plain = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(self.library.address("plain"))
            self.native = self.call_plain
            self.check = self.check_plain

    def watch(self, words: list[tuple[int, int]]) -> None:
        """Memory words (address, value) that must be as they are for ``check`` to say yes."""
        self.pairs = np.zeros((len(words) + 1, 2), np.int64)
        if words:
            self.pairs[:-1] = np.array(words, np.uint64).view(np.int64)
        self.table[self.slots["watched"]] = self.pairs.ctypes.data

    def check_plain(self, *arrays: Any) -> Any:
        """What the native check does, in Python."""
        for v, a in zip(self.program.inputs, arrays, strict=True):
            if type(a) is not np.ndarray or a.shape != v.shape or a.dtype != v.dtype or not a.flags.c_contiguous:
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
            self.table[3 + n] = a.ctypes.data
        self._plain(self.table.ctypes.data)

    def rebind(self, constant: Value, array: Any) -> None:
        """Read a constant from another array from now on (same shape, dtype and strides)."""
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
