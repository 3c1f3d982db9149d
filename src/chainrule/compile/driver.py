"""The functions around the kernels: the one that runs them in order, and what Python calls.

Every pointer that a step needs stands in one table of words, whose places are ``step.slots``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..graph.program import Value
from .ir import Module
from .memory import nbytes, scratch_bytes, scratch_place
from .nest import Kernel
from .nodes import contiguous

if TYPE_CHECKING:
    from .link import Step

__all__ = ["DATA", "checker", "driver", "entry"]

DATA = 16
"""Where a NumPy array object keeps its data pointer (PyArrayObject: refcount, type, data, …)."""


class _Text:
    """The body of a function of the table: pointers to the memory of values, calls of kernels."""

    def __init__(self, step: Step, module: Module) -> None:
        self.step, self.module = step, module
        self.lines: list[str] = []
        self.loaded: dict[Any, str] = {}
        self.count = 0

    def put(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %v{self.count} = {text}")
        return f"%v{self.count}"

    def slot(self, key: Any) -> str:
        # Loaded where it is used: hundreds of pointers alive all the way cost the compiler more than they save.
        if key not in self.loaded:
            self.loaded[key] = self.put(f"load ptr, ptr {self.place(key)}, align 8")
        return self.loaded[key]

    def place(self, key: Any) -> str:
        return self.put(f"getelementptr i64, ptr %table, i64 {self.step.slots[key]}")

    def pointer(self, root: Any, offset: int) -> str:
        """To the byte ``offset`` of a value's memory."""
        key, start = self.step.location(root)
        base = self.slot(key)
        return base if start + offset == 0 else self.put(f"getelementptr i8, ptr {base}, i64 {start + offset}")

    def kernel(self, group: int, name: str, kernel: Kernel, scratch: int) -> None:
        """Call a kernel of a group, whose scratch memory starts that many bytes into the group's."""
        self.loaded.clear()
        pointers: list[str] = []
        for root, offset in kernel.params:
            if root is None:
                pointers.append(self.pointer("arena", scratch_place(self.step.plan, group) + scratch + offset))
            else:
                pointers.append(self.pointer(root, offset * root.dtype.itemsize))
        self.lines.append(f"  call void @{name}({', '.join(f'ptr {p}' for p in pointers)})")

    def tick(self, i: int) -> None:
        """Note the time before group i."""
        self.loaded.clear()
        self.module.declare("@llvm.readcyclecounter", "declare i64 @llvm.readcyclecounter()")
        now = self.put("call i64 @llvm.readcyclecounter()")
        place = self.put(f"getelementptr i64, ptr {self.slot('clock')}, i64 {i}")
        self.lines.append(f"  store i64 {now}, ptr {place}, align 8")


def driver(step: Step, module: Module, clock: bool = False) -> str:
    """``run(table)``: all kernels in order; 0, or 1 where a NumPy body raised."""
    text = _Text(step, module)
    parted: list[str] = []
    bodies = 0
    for i, parts in enumerate(step.kernels):
        text.loaded.clear()
        if clock:
            text.tick(i)
        if not parts:  # a NumPy body
            text.loaded.clear()
            status = text.put(f"call i64 {text.slot('callback')}(i64 {bodies})")
            test = text.put(f"icmp eq i64 {status}, 0")
            text.lines += [f"  br i1 {test}, label %go{i}, label %stop", f"go{i}:"]
            bodies += 1
        elif len(parts) == 1:
            text.kernel(i, *parts[0], 0)
        else:
            scratch = 0
            for p, (name, kernel) in enumerate(parts):
                part = _Text(step, module)
                part.kernel(i, name, kernel, scratch)
                scratch += scratch_bytes(kernel)
                parted.append("\n".join([
                    f"define internal void @part{i}.{p}(ptr %table) #0 {{", *part.lines, "  ret void", "}",
                ]))  # fmt: skip
            names = ", ".join(f"ptr @part{i}.{p}" for p in range(len(parts)))
            parted.append(f"@parts{i} = internal constant [{len(parts)} x ptr] [{names}]")
            fork, pool = text.slot("fork"), text.slot("pool")
            text.lines.append(f"  call void {fork}(ptr {pool}, ptr %table, ptr @parts{i}, i64 {len(parts)})")
    text.loaded.clear()
    if clock:
        text.tick(len(step.kernels))
    text.loaded.clear()
    for memory, value in step.plan.copies:
        if step.is_plain(memory):
            module.declare("@llvm.memcpy.p0.p0.i64", "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
            source, target = text.pointer(value, 0), text.pointer(memory, 0)
            text.lines.append(
                f"  call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {nbytes(memory)}, i1 false)"
            )
    tail = ["  ret i64 0"]
    if bodies:
        tail += ["stop:", "  ret i64 1"]
    return "\n".join([*parted, "define internal i64 @run(ptr %table) #0 {", *text.lines, *tail, "}"])


def entry(step: Step) -> str:
    """A Python builtin: reads the data pointers of the arrays it is given, runs, gives back its ``self``.

    ``self`` is the table (a NumPy array), whose own data pointer stands at the same place.
    """
    lines = [
        f"  %p = getelementptr i8, ptr %self, i64 {DATA}",
        "  %table = load ptr, ptr %p, align 8",
    ]
    for n in range(len(step.program.inputs) + len(step.program.outputs)):
        lines += [
            f"  %a{n} = getelementptr ptr, ptr %args, i64 {n}",
            f"  %o{n} = load ptr, ptr %a{n}, align 8",
            f"  %q{n} = getelementptr i8, ptr %o{n}, i64 {DATA}",
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


def checker(step: Step) -> str:
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

    table = v(f"load ptr, ptr {at('%self', DATA)}, align 8")

    def slot(key: Any) -> str:
        return v(f"load ptr, ptr {at(table, 8 * step.slots[key])}, align 8")

    need(v(f"icmp eq i64 %n, {len(step.program.inputs)}"))
    need_equal("i64", slot("threads"), str(step.threads))
    data: dict[Value, str] = {}
    kind = slot("array type")
    for n, value in enumerate(step.program.inputs):
        array = v(f"load ptr, ptr {at('%args', 8 * n)}, align 8")
        need(v(f"icmp eq ptr {v(f'load ptr, ptr {at(array, 8)}, align 8')}, {kind}"))
        need_equal("i32", at(array, 24), str(len(value.shape)))
        need(v(f"icmp eq ptr {v(f'load ptr, ptr {at(array, 56)}, align 8')}, {slot(('dtype', value))}"))
        if value.shape:
            dims = v(f"load ptr, ptr {at(array, 32)}, align 8")
            steps = v(f"load ptr, ptr {at(array, 40)}, align 8")
            size = value.dtype.itemsize
            for d, (length, stride) in enumerate(zip(value.shape, contiguous(value.shape), strict=True)):
                need_equal("i64", at(dims, 8 * d), str(length))
                if length > 1 and 0 not in value.shape:
                    need_equal("i64", at(steps, 8 * d), str(stride * size))
        data[value] = v(f"load ptr, ptr {at(array, DATA)}, align 8")
    # Words in memory that must hold what they held: pairs (address, value), a null address ends the list.
    pairs = slot("watched")
    head = f"w{count}"
    before = last_label(lines)
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
    for n, check in enumerate(step.checks):
        root, offset, strides = step.storage.refs[check.target]
        t = {8: "i64", 4: "i32", 2: "i16", 1: "i8"}[check.target.dtype.itemsize]
        base = data[root] if root in data else slot(root)
        total = math.prod(check.target.shape)
        if total == 0:
            continue
        before = last_label(lines)
        lines += [f"  br label %t{n}", f"t{n}:", f"  %ti{n} = phi i64 [0, %{before}], [%tj{n}, %u{n}]"]
        index, below = v(f"add i64 0, {offset}"), total
        for m, stride in zip(check.target.shape, strides, strict=True):
            below //= m
            part = v(f"urem i64 {v(f'udiv i64 %ti{n}, {below}')}, {m}")
            index = v(f"add i64 {index}, {v(f'mul i64 {part}, {stride}')}")
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
            f"  %r{i}a = getelementptr i8, ptr {table}, i64 {8 * step.slots[name]}",
            f"  %r{i}b = load ptr, ptr %r{i}a, align 8",
            f"  %r{i}c = load i64, ptr %r{i}b, align 8",
            f"  %r{i}d = add i64 %r{i}c, 1",
            f"  store i64 %r{i}d, ptr %r{i}b, align 8",
            f"  ret ptr %r{i}b",
        ]
    return "\n".join(["define ptr @check(ptr %self, ptr %args, i64 %n) {", "start:", *lines, *tail, "}"])


def last_label(lines: list[str]) -> str:
    """The block that the last line of the text is in."""
    for line in reversed(lines):
        if not line.startswith(" "):
            return line[:-1]
    return "start"
