"""The compiled step, shown: as NumPy source, and as a table of what each kernel does, moves and costs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph.naming import identifier
from ..graph.printer import Printer
from ..graph.program import Instr, Program, Value
from .link import Step

__all__ = ["Passes", "Report", "Row", "Source", "names_of", "passes", "report", "source"]


def names_of(step: Step, tensors: dict[int, str], outputs: int) -> dict[Value, str]:
    """Readable names: parameters by their path in the model, inputs x0, x1, …, results and gradients."""
    names: dict[Value, str] = {}
    taken: set[str] = {"np"}

    def give(v: Value, wish: str) -> None:
        name, k = identifier(wish), 1
        while name in taken:
            k += 1
            name = f"{identifier(wish)}_{k}"
        taken.add(name)
        names[v] = name

    for i, v in enumerate(step.program.inputs):
        give(v, v.name or f"x{i}")
    for v, array in step.program.constants.items():
        give(v, tensors.get(id(array)) or ("number" if not v.shape else "constant"))
    for i, v in enumerate(step.program.outputs):
        give(v, f"result{i or ''}" if i < outputs else f"grad{i - outputs}")
    return names


class Source(str):
    """The text of a step. ``memory`` holds the arrays behind its global names: parameters, state, live numbers.

    ``exec(source, scope := dict(source.memory))`` defines ``scope["step"]``, which does what the native code does.
    """

    __slots__ = ("memory",)
    memory: dict[str, Any]

    def __new__(cls, text: str, memory: dict[str, Any]) -> Source:
        made = super().__new__(cls, text)
        made.memory = memory
        return made


def source(step: Step, names: dict[Value, str]) -> Source:
    """The program as NumPy, kernel by kernel, in the order in which it runs."""
    program = step.program
    wanted = [*program.outputs, *(v for _, v in program.updates)]
    printer = Printer(program, names, {}, outputs=wanted)
    # A value that another kernel reads is in memory, so it gets a line of its own.
    for v in step.kept:
        if v not in names and v in printer.maker:
            printer.named(v)
    head = ", ".join(names[v] for v in program.inputs)
    lines = [f"def step({head}):"]
    position = {id(i): n for n, i in enumerate(program.instrs)}
    shown: set[int] = set()

    def emit(instrs: list[Instr]) -> None:
        for text, note in printer.part(instrs):
            lines.extend("    " + part for part in text.splitlines())
            if note:
                lines[-1] += f"  # {note}"

    for n, group in enumerate(step.groups):
        own = sorted({position[id(node.instr)] for node in group.nodes if id(node.instr) in position})
        # Views cost nothing and belong to no kernel: print those that this kernel reads just before it.
        needed = [program.instrs[i] for i in own]
        queue, views = list(needed), []
        while queue:
            for a in queue.pop().values:
                made = printer.maker.get(a)
                if made is not None and id(made) not in shown and all(made is not i for i in needed + views):
                    views.append(made)
                    queue.append(made)
        lines.append(f"    # kernel {n}: {title(step, n)}")
        todo = sorted({position[id(i)] for i in needed + views} - shown_positions(shown, position))
        batch = [program.instrs[i] for i in todo]
        shown.update(id(i) for i in batch)
        emit(batch)
    # Arrays without entries belong to no kernel.
    rest, queue = set[int](), [printer.maker[v] for v in wanted if v in printer.maker]
    while queue:
        made = queue.pop()
        if id(made) not in shown and position[id(made)] not in rest:
            rest.add(position[id(made)])
            queue += [printer.maker[a] for a in made.values if a in printer.maker]
    emit([program.instrs[i] for i in sorted(rest)])
    for memory, value in program.updates:
        lines.append(f"    {names.get(memory, 'memory')}[...] = {names.get(value, 'value')}")
    results = [names[v] for v in program.outputs]
    lines.append(f"    return {', '.join(results)}")
    helpers = printer.helpers
    text = getattr(helpers, "text", None)
    prefix = text() if callable(text) else ""
    imports = "\n".join(["import numpy as np", *dict.fromkeys(helpers.imports.values())])
    text = f"{imports}\n\n" + (f"{prefix}\n\n" if prefix else "") + "\n".join(lines) + "\n"
    return Source(text, {names[v]: array for v, array in program.constants.items()})


def shown_positions(shown: set[int], position: dict[int, int]) -> set[int]:
    return {position[i] for i in shown if i in position}


def title(step: Step, n: int) -> str:
    group = step.groups[n]
    ops = [node.name for node in group.nodes]
    text = " + ".join(ops[:8]) + (f" + {len(ops) - 8} more" if len(ops) > 8 else "")
    shape = "×".join(map(str, group.shape)) or "a number"
    if group.kind == "matmul":
        shape += f", k = {group.nodes[0].params['k']}"
    if "kernel" in group.nodes[0].params:
        shape += f", kernel {'×'.join(map(str, group.nodes[0].params['kernel']))}"
    return f"{text} ({shape})" if group.kind != "call" else f"{text}: NumPy"


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel: what it computes, bytes read and written, floating point operations, µs (median)."""

    title: str
    bytes: int
    flops: int
    us: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a compiled step consists of."""

    rows: tuple[Row, ...]
    fallbacks: tuple[tuple[str, str], ...]
    """Ops that run their NumPy body, with the reason and the line."""
    peak: float
    """This machine's measured flops per second on one core."""
    arena: int
    total_us: float
    in_place: int
    copied: int
    extra: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())

    def __str__(self) -> str:
        lines = [f"{'µs':>9s} {'KB':>9s} {'Mflop':>8s} {'of peak':>8s}  kernel"]
        merged: dict[str, list[Row]] = {}
        for row in self.rows:
            merged.setdefault(row.title, []).append(row)
        for name, rows in sorted(merged.items(), key=lambda item: -sum(r.us for r in item[1])):
            us = sum(r.us for r in rows)
            flops = sum(r.flops for r in rows)
            share = f"{flops / (us * 1e-6) / self.peak:8.0%}" if us else f"{'':8s}"
            times = f"{len(rows)} × " if len(rows) > 1 else ""
            lines.append(f"{us:9.2f} {sum(r.bytes for r in rows) / 1e3:9.1f} {flops / 1e6:8.2f} {share}  {times}{name}")
        flops = sum(r.flops for r in self.rows)
        lines.append(
            f"{self.total_us:9.2f} µs in native code, {flops / (self.total_us * 1e-6) / 1e9:.0f} Gflop/s of "
            f"{self.peak / 1e9:.0f} measured at peak; arena {self.arena / 1e3:.0f} KB; "
            f"{self.in_place} updates in place, {self.copied} by copy"
        )
        if self.fallbacks:
            lines.append("run as NumPy inside the step:")
            lines += [f"  {name}: {why}" for name, why in self.fallbacks]
        else:
            lines.append("everything runs natively")
        return "\n".join(lines)


_peak: list[float] = []


def machine_peak() -> float:
    """Flops per second of independent fused multiply-adds on one core, measured once."""
    if not _peak:
        import ctypes

        from . import native
        from .ir import Builder, Module

        module = Module()
        lanes = native.vector_bytes() // 4
        b = Builder(module, lanes)
        t, names = b.ty("f32"), [b.name() for _ in range(12)]
        b.line("br label %loop")
        b.label("loop")
        b.line("%i = phi i64 [0, %entry], [%j, %loop]")
        slots = len(b.lines)
        outs: list[str] = []
        from .ir import Val

        for name in names:
            y = Val("f32", name)
            for _ in range(4):
                y = b.fma(y, b.const("f32", 0.999), b.const("f32", 0.001))
            outs.append(y.text)
        b.lines[slots:slots] = [
            f"  {n} = phi {t} [zeroinitializer, %entry], [{o}, %loop]" for n, o in zip(names, outs, strict=True)
        ]
        b.line("%j = add i64 %i, 1")
        b.line("%c = icmp ult i64 %j, %n")
        b.line("br i1 %c, label %loop, label %done")
        b.label("done")
        total = Val("f32", outs[0])
        for o in outs[1:]:
            total = b.add(total, Val("f32", o))
        b.store(total, "%out")
        b.line("ret void")
        module.functions.append("\n".join(["define void @peak(ptr %out, i64 %n) {", "entry:", *b.lines, "}"]))
        library = native.load(module.text())  # the code lives as long as this
        run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(library.address("peak"))
        out = np.zeros(64, np.float32)
        n = 20000
        best = math.inf
        for _ in range(20):
            start = time.perf_counter()
            run(out.ctypes.data, n)
            best = min(best, time.perf_counter() - start)
        _peak.append(n * 12 * 4 * lanes * 2 / best)
    return _peak[0]


def report(step: Step) -> Report:
    """Measure the kernels one by one on a copy of the state, so that nothing changes."""
    program = step.program
    held = [(a, a.copy()) for a in program.constants.values() if a.flags.writeable]
    rng = np.random.default_rng(0)
    inputs = [
        rng.normal(size=v.shape).astype(v.dtype) if v.dtype.kind == "f" else np.zeros(v.shape, v.dtype)
        for v in program.inputs
    ]
    outputs = [np.empty(v.shape, v.dtype) for v in program.outputs]
    try:
        cycles = step.profile(inputs, outputs)
        best = math.inf
        for _ in range(20):
            start = time.perf_counter()
            step.run(inputs, outputs)
            best = min(best, time.perf_counter() - start)
    finally:
        for array, content in held:
            array[...] = content
    scale = best * 1e6 / max(sum(cycles), 1) if not step.calls else 1e-3
    rows: list[Row] = []
    for n, (group, parts) in enumerate(zip(step.groups, step.kernels, strict=True)):
        touched = {v for node in group.nodes for v in node.reads if v not in group.made} | (group.made & step.kept)
        moved = sum(math.prod(v.shape) * v.dtype.itemsize for v in touched)
        rows.append(Row(title(step, n), moved, sum(kernel.flops for _, kernel in parts), cycles[n] * scale))
    fallbacks: list[tuple[str, str]] = []
    for call in step.calls:
        place = call.node.instr.place
        fallbacks.append((call.node.name, call.node.why + (f" (at {place}: {place.source})" if place else "")))
    in_place = sum(1 for kind, _ in step.plan.place.values() if kind == "memory")
    return Report(
        tuple(rows), tuple(dict.fromkeys(fallbacks)), machine_peak(), step.plan.size, best * 1e6, in_place,
        len(step.plan.copies),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Passes:
    """A program as it was recorded and after each pass: ``passes["fold"]`` is its text, printing shows all."""

    stages: tuple[tuple[str, str], ...]

    def __getitem__(self, name: str) -> str:
        for stage, text in reversed(self.stages):  # passes that run twice: the last time
            if stage == name:
                return text
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(name for name, _ in self.stages)

    def __str__(self) -> str:
        lines: list[str] = []
        before = ""
        for name, text in self.stages:
            count = text.count("\n") + 1
            if text == before:
                lines.append(f"-- {name}: no change")
            else:
                lines += [f"-- {name}: {count} instructions", text]
            before = text
        return "\n".join(lines)


def passes(program: Program, frozen: set[Value], tensors: dict[int, str]) -> Passes:
    """The program after each pass, one instruction a line."""
    from .passes import stages

    names: dict[Value, str] = {}
    known = set(frozen)
    found = [(name, _listing(stage, names, tensors, known)) for name, stage in stages(program, known, [])]
    return Passes(tuple(found))


def _listing(program: Program, names: dict[Value, str], tensors: dict[int, str], frozen: set[Value]) -> str:
    """One line an instruction: ``h2 = tanh(h1)  float32[32, 16]  model.py:12``."""

    def name(v: Any) -> str:
        if not isinstance(v, Value):
            return repr(v)
        if v not in names:
            array = program.constants.get(v)
            known = None if array is None else tensors.get(id(array))
            if array is not None and known is None:
                known = f"{array.item():.6g}" if v in frozen and not v.shape else "live" if not v.shape else "c"
            wish = known or v.name or "v"
            names[v] = wish if wish not in names.values() and wish not in ("v", "c") else f"{wish}{len(names)}"
        return names[v]

    lines: list[str] = []
    for v in program.inputs:
        name(v)
    for i in program.instrs:
        settings = [f"{k}={v!r}" for k, v in i.params.items()]
        place = f"  # {i.place}" if i.place else ""
        kind = ", ".join(f"{o.dtype.name}{list(o.shape)}" for o in i.outs)
        args = ", ".join([*map(name, i.args), *settings])
        lines.append(f"{', '.join(map(name, i.outs))} = {i.op.name}({args})  {kind}{place}")
    lines += [f"{name(m)}[...] = {name(v)}" for m, v in program.updates]
    lines.append(f"return {', '.join(map(name, program.outputs))}")
    return "\n".join(lines)
