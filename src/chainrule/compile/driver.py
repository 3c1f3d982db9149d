"""The function around the kernels: it runs them in order.

Every pointer that a step needs stands in one table of words, whose places are ``step.slots``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .ir import Module
from .memory import nbytes, scratch_bytes, scratch_place
from .nest import Kernel

if TYPE_CHECKING:
    from .link import Step

__all__ = ["driver"]


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
    return "\n".join([*parted, "define i64 @run(ptr %table) #0 {", *text.lines, *tail, "}"])
