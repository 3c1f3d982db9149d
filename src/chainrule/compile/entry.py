"""What Python calls of a step, as native text: builtins whose ``self`` is the step's table.

``check(arrays…)`` says whether arrays, and what the recording depended on, are as they were recorded;
``entry(arrays…)`` runs with them. The short way for tensors is one call, ``quick(inputs…, output)``: check and run; or
two, ``ready(inputs…, their arrays…)`` and ``go(output)``, where Python has something to do in between.

All of them read NumPy's array objects, whose layout its C API fixes: type at 8, data at 16, number of dims at 24, dims
and strides at 32 and 40, dtype at 56, flags at 64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..graph.program import Value
from .ir import Module
from .nodes import contiguous
from .words import ARRAY, REQUIRES

if TYPE_CHECKING:
    from .link import Step

__all__ = ["DATA", "entries"]

DATA, FLAGS = 16, 64
"""Where a NumPy array object keeps its data pointer (PyArrayObject: refcount, type, data, …) and its flags."""
WRITEABLE = 0x400

_PUT = f"""
define internal void @put(ptr %table, i64 %first, ptr %objects, i64 %n) {{
start:
  %slots = getelementptr i64, ptr %table, i64 %first
  %some = icmp ne i64 %n, 0
  br i1 %some, label %next, label %done
next:
  %i = phi i64 [0, %start], [%j, %next]
  %a = getelementptr ptr, ptr %objects, i64 %i
  %o = load ptr, ptr %a, align 8
  %q = getelementptr i8, ptr %o, i64 {DATA}
  %d = load i64, ptr %q, align 8
  %s = getelementptr i64, ptr %slots, i64 %i
  store i64 %d, ptr %s, align 8
  %j = add i64 %i, 1
  %more = icmp ult i64 %j, %n
  br i1 %more, label %next, label %done
done:
  ret void
}}"""
"""Note the data pointers of n arrays in the table."""

_CHANGED = """
define internal i64 @changed(ptr %pairs) {
start:
  br label %next
next:
  %i = phi i64 [0, %start], [%j, %same]
  %first = getelementptr [2 x ptr], ptr %pairs, i64 %i
  %place = load ptr, ptr %first, align 8
  %ended = icmp eq ptr %place, null
  br i1 %ended, label %none, label %look
look:
  %now = load ptr, ptr %place, align 1
  %second = getelementptr i8, ptr %first, i64 8
  %expected = load ptr, ptr %second, align 8
  %test = icmp eq ptr %now, %expected
  br i1 %test, label %same, label %found
same:
  %j = add i64 %i, 1
  br label %next
found:
  ret i64 %i
none:
  ret i64 -1
}"""
"""The first of the pairs (address, word) whose word in memory is another now, or −1; a null address ends them."""

_MEETS = """
define internal i64 @meets(ptr %ranges, ptr %data, i64 %size) {
start:
  %first = ptrtoint ptr %data to i64
  %last = add i64 %first, %size
  br label %next
next:
  %i = phi i64 [0, %start], [%j, %apart]
  %range = getelementptr [2 x i64], ptr %ranges, i64 %i
  %low = load i64, ptr %range, align 8
  %ended = icmp eq i64 %low, 0
  br i1 %ended, label %none, label %look
look:
  %second = getelementptr i8, ptr %range, i64 8
  %high = load i64, ptr %second, align 8
  %below = icmp ult i64 %first, %high
  %above = icmp ugt i64 %last, %low
  %both = and i1 %below, %above
  br i1 %both, label %found, label %apart
apart:
  %j = add i64 %i, 1
  br label %next
found:
  ret i64 1
none:
  ret i64 0
}"""
"""Whether memory lies in one of the ranges (first byte, byte behind the last); a range that starts at 0 ends them."""


class _Body:
    """The body of a function that gives up at a label ``bad``."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.lines: list[str] = []
        self.count = 0

    def v(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %c{self.count} = {text}")
        return f"%c{self.count}"

    def at(self, base: str, offset: int) -> str:
        return self.v(f"getelementptr i8, ptr {base}, i64 {offset}")

    def load(self, kind: str, base: str, offset: int) -> str:
        return self.v(f"load {kind}, ptr {self.at(base, offset)}, align 8")

    def slot(self, key: Any) -> str:
        return self.load("ptr", "%table", 8 * self.step.slots[key])

    def need(self, condition: str) -> None:
        self.count += 1
        self.lines += [f"  br i1 {condition}, label %y{self.count}, label %bad", f"y{self.count}:"]

    def need_equal(self, kind: str, one: str, other: str) -> None:
        self.need(self.v(f"icmp eq {kind} {one}, {other}"))

    def label(self) -> str:
        """The block that the last line is in."""
        return next((line[:-1] for line in reversed(self.lines) if not line.startswith(" ")), "start")


def _fits(step: Step) -> str:
    """``fits(table, arrays)``: 1, or 0 where an array or what the recording depended on is another."""
    b = _Body(step)
    v = b.v
    b.need_equal("i64", v(f"load i64, ptr {b.slot('threads')}, align 8"), str(step.threads))
    data: dict[Value, str] = {}
    kind = b.slot("array type")
    for n, value in enumerate(step.program.inputs):
        array = b.load("ptr", "%arrays", 8 * n)
        b.need_equal("ptr", b.load("ptr", array, 8), kind)
        b.need_equal("i32", b.load("i32", array, 24), str(len(value.shape)))
        b.need_equal("ptr", b.load("ptr", array, 56), b.slot(("dtype", value)))
        if value.shape:
            dims, steps = b.load("ptr", array, 32), b.load("ptr", array, 40)
            size = value.dtype.itemsize
            for d, (length, stride) in enumerate(zip(value.shape, contiguous(value.shape), strict=True)):
                b.need_equal("i64", b.load("i64", dims, 8 * d), str(length))
                if length > 1 and 0 not in value.shape:
                    b.need_equal("i64", b.load("i64", steps, 8 * d), str(stride * size))
        data[value] = b.load("ptr", array, DATA)
        if value in step.writes:
            flag = v(f"and i32 {b.load('i32', array, FLAGS)}, {WRITEABLE}")
            b.need(v(f"icmp ne i32 {flag}, 0"))
        if value.shape and 0 not in value.shape:
            size = math.prod(value.shape) * value.dtype.itemsize
            b.need_equal("i64", v(f"call i64 @meets(ptr {b.slot('written')}, ptr {data[value]}, i64 {size})"), "0")
    b.need_equal("i64", v(f"call i64 @changed(ptr {b.slot('watched')})"), "-1")
    for n, check in enumerate(step.checks):
        root, offset, strides = step.storage.refs[check.target]
        t = {8: "i64", 4: "i32", 2: "i16", 1: "i8"}[check.target.dtype.itemsize]
        base = data[root] if root in data else b.slot(root)
        total = math.prod(check.target.shape)
        if total == 0:
            continue
        before = b.label()
        b.lines += [f"  br label %t{n}", f"t{n}:", f"  %ti{n} = phi i64 [0, %{before}], [%tj{n}, %u{n}]"]
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
        b.lines += [
            f"  br i1 {fine}, label %u{n}, label %bad", f"u{n}:", f"  %tj{n} = add i64 %ti{n}, 1",
            f"  %tc{n} = icmp ult i64 %tj{n}, {total}", f"  br i1 %tc{n}, label %t{n}, label %z{n}", f"z{n}:",
        ]  # fmt: skip
    tail = ["  ret i64 1", "bad:", "  ret i64 0"]
    return "\n".join(["define internal i64 @fits(ptr %table, ptr %arrays) {", "start:", *b.lines, *tail, "}"])


def _takes(step: Step) -> str:
    """``takes(table, tensors, arrays)``: 1 and the inputs noted; 0; or 2 where what can be followed has changed.

    A tensor is taken if it is a plain one, requires a gradient or not as recorded, and no other argument is the same.
    ``arrays``: null, or the arrays that the caller found in the tensors and keeps alive.
    """
    b = _Body(step)
    n = len(step.program.inputs)
    b.lines.append("  %given = icmp ne ptr %kept, null")
    b.lines.append(f"  %arrays = alloca [{max(n, 1)} x ptr], align 8")
    kind = b.slot("tensor type")
    arrays: list[str] = []
    for i in range(n):
        tensor = b.load("ptr", "%tensors", 8 * i)
        b.need_equal("ptr", b.load("ptr", tensor, 8), kind)
        b.need_equal("ptr", b.load("ptr", tensor, REQUIRES), b.slot(("requires", i)))
        array = b.load("ptr", tensor, ARRAY)
        b.count += 1
        here = f"k{b.count}"
        b.lines += [
            f"  br i1 %given, label %{here}, label %{here}e",
            f"{here}:",
            f"  %{here}a = getelementptr ptr, ptr %kept, i64 {i}",
            f"  %{here}b = load ptr, ptr %{here}a, align 8",
            f"  %{here}c = icmp eq ptr %{here}b, {array}",
            f"  br i1 %{here}c, label %{here}e, label %bad",
            f"{here}e:",
        ]
        for other in arrays:
            b.need(b.v(f"icmp ne ptr {array}, {other}"))
        arrays.append(array)
        b.lines.append(f"  store ptr {array}, ptr {b.at('%arrays', 8 * i)}, align 8")
    b.need_equal("i64", b.v("call i64 @fits(ptr %table, ptr %arrays)"), "1")
    row = b.v(f"call i64 @changed(ptr {b.slot('followed')})")
    b.lines += [
        f"  store i64 {row}, ptr {b.at('%table', 8 * step.slots['row'])}, align 8",
        f"  call void @put(ptr %table, i64 {step.first_input}, ptr %arrays, i64 {n})",
        f"  %new = icmp eq i64 {row}, -1",
        "  %answer = select i1 %new, i64 1, i64 2",
        "  ret i64 %answer",
        "bad:",
        "  ret i64 0",
    ]
    return "\n".join(["define internal i64 @takes(ptr %table, ptr %tensors, ptr %kept) {", "start:", *b.lines, "}"])


def _place(step: Step) -> str:
    """``place(table, outputs, n)``: the first n outputs go to these arrays, the others to their homes."""
    first, size = 8 * step.first_output, 8 * len(step.program.outputs)
    return "\n".join([
        "define internal void @place(ptr %table, ptr %outputs, i64 %n) {",
        f"  %at = getelementptr i8, ptr %table, i64 {8 * step.slots['homes']}",
        "  %homes = load ptr, ptr %at, align 8",
        f"  %slots = getelementptr i8, ptr %table, i64 {first}",
        f"  call void @llvm.memcpy.p0.p0.i64(ptr %slots, ptr %homes, i64 {size}, i1 false)",
        f"  call void @put(ptr %table, i64 {step.first_output}, ptr %outputs, i64 %n)",
        "  ret void",
        "}",
    ])  # fmt: skip


def _builtin(step: Step, name: str, lines: list[str]) -> str:
    """A function with Python's fast calling convention; ``%answer``, which the lines set, chooses no, yes or other."""
    first = 8 * step.slots["no"]  # and "yes" and "other" behind it
    return "\n".join([
        f"define ptr @{name}(ptr %self, ptr %args, i64 %n) {{",
        f"  %p = getelementptr i8, ptr %self, i64 {DATA}",
        "  %table = load ptr, ptr %p, align 8",
        *lines,
        f"  %words = getelementptr i8, ptr %table, i64 {first}",
        "  %which = getelementptr ptr, ptr %words, i64 %answer",
        "  %object = load ptr, ptr %which, align 8",
        "  %count = load i64, ptr %object, align 8",
        "  %more = add i64 %count, 1",
        "  store i64 %more, ptr %object, align 8",
        "  ret ptr %object",
        "}",
    ])  # fmt: skip


def entries(step: Step, module: Module) -> list[str]:
    """The functions that Python calls, and those that they share."""
    inputs = len(step.program.inputs)
    module.declare("@llvm.memcpy.p0.p0.i64", "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    run = ["  %status = call i64 @run(ptr %table)", "  store i64 %status, ptr %table, align 8"]

    def counted(wanted: str, then: str) -> list[str]:
        """Call ``then`` if the number of arguments is right; else the answer is no."""
        return [
            f"  %right = icmp eq i64 %n, {wanted}",
            "  br i1 %right, label %go, label %wrong",
            "go:",
            f"  %found = call i64 {then}",
            "  br label %end",
            "wrong:",
            "  br label %end",
            "end:",
            "  %answer = phi i64 [%found, %go], [0, %wrong]",
        ]

    check = _builtin(step, "check", counted(str(inputs), "@fits(ptr %table, ptr %args)"))
    ready = _builtin(step, "ready", [
        f"  %kept = getelementptr ptr, ptr %args, i64 {inputs}",
        *counted(str(2 * inputs), "@takes(ptr %table, ptr %args, ptr %kept)"),
    ])  # fmt: skip
    entry = _builtin(step, "entry", [
        f"  call void @put(ptr %table, i64 {step.first_input}, ptr %args, i64 %n)", *run, "  %answer = add i64 0, 1",
    ])  # fmt: skip
    go = _builtin(step, "go", ["  call void @place(ptr %table, ptr %args, i64 %n)", *run, "  %answer = add i64 0, 1"])
    taken = counted(str(inputs + 1), "@takes(ptr %table, ptr %args, ptr null)")
    quick = _builtin(step, "quick", [
        *[line.replace("%answer", "%taken") for line in taken],
        "  %yes = icmp eq i64 %taken, 1",
        "  br i1 %yes, label %ahead, label %finish",
        "ahead:",
        f"  %outs = getelementptr ptr, ptr %args, i64 {inputs}",
        "  call void @place(ptr %table, ptr %outs, i64 1)",
        *run,
        "  br label %finish",
        "finish:",
        "  %answer = add i64 %taken, 0",
    ])  # fmt: skip
    plain = "\n".join(["define void @plain(ptr %table) {", *run, "  ret void", "}"])
    return [_PUT, _CHANGED, _MEETS, _fits(step), _takes(step), _place(step), check, ready, entry, go, quick, plain]
