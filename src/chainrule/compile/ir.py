"""Writing LLVM IR as text: typed values, and a builder whose every operation works on one lane or on a vector.

Kinds are short names for element types. Booleans are ``i1`` in registers and bytes in memory.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Val", "Builder", "Module", "kind_of", "SIZE"]

LLVM = {
    "f32": "float", "f64": "double", "i1": "i1", "i8": "i8", "u8": "i8", "i16": "i16", "i32": "i32", "u32": "i32",
    "i64": "i64",
}  # fmt: skip
SIZE = {"f32": 4, "f64": 8, "i1": 1, "i8": 1, "u8": 1, "i16": 2, "i32": 4, "i64": 8}
_KINDS = {
    "float32": "f32", "float64": "f64", "bool": "i1", "int8": "i8", "uint8": "u8", "int16": "i16", "int32": "i32",
    "int64": "i64",
}  # fmt: skip
_KIND_OF = {np.dtype(name): kind for name, kind in _KINDS.items()}  # a dtype's name is slow to ask for
_BITS = {"i1": 1, "i8": 8, "u8": 8, "i16": 16, "i32": 32, "i64": 64}


def kind_of(dtype: np.dtype[Any]) -> str | None:
    """The kind of a NumPy dtype; None where there is no native form (float16)."""
    return _KIND_OF.get(dtype)


class Val(NamedTuple):
    """An SSA value or literal of one kind; how many lanes it has is the builder's."""

    kind: str
    text: str


class Module:
    """The text of one LLVM module: functions, and the declarations they need."""

    def __init__(self) -> None:
        self.declared: dict[str, str] = {}
        self.functions: list[str] = []
        self.globals: list[str] = []

    def declare(self, name: str, text: str) -> None:
        self.declared[name] = text

    def text(self) -> str:
        return "\n".join([*self.globals, *self.declared.values(), *self.functions]) + "\n"


def _float(kind: str, x: float) -> str:
    if kind == "f32":
        with np.errstate(over="ignore"):
            x = float(np.float32(x))
    return f"0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016X}"


class Builder:
    """Emits instructions for ``lanes`` entries at a time (1: scalars) into ``lines``."""

    def __init__(self, module: Module, lanes: int, lines: list[str] | None = None, counter: list[int] | None = None):
        self.module = module
        self.lanes = lanes
        self.lines: list[str] = [] if lines is None else lines
        self._counter = [0] if counter is None else counter

    def at(self, lanes: int) -> Builder:
        """The same place in the code with another number of lanes."""
        return self if lanes == self.lanes else Builder(self.module, lanes, self.lines, self._counter)

    # -- text ----------------------------------------------------------------------------------------------------

    def name(self) -> str:
        self._counter[0] += 1
        return f"%t{self._counter[0]}"

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def ty(self, kind: str) -> str:
        t = LLVM[kind]
        return t if self.lanes == 1 else f"<{self.lanes} x {t}>"

    def suffix(self, kind: str) -> str:
        base = kind.replace("u", "i")
        return base if self.lanes == 1 else f"v{self.lanes}{base}"

    def put(self, kind: str, text: str) -> Val:
        n = self.name()
        self.lines.append(f"  {n} = {text}")
        return Val(kind, n)

    def const(self, kind: str, value: Any) -> Val:
        if kind in ("f32", "f64"):
            text = _float(kind, float(value))
        elif kind == "i1":
            text = "true" if value else "false"
        else:
            text = str(int(value))
        return Val(kind, text if self.lanes == 1 else f"splat ({LLVM[kind]} {text})")

    # -- arithmetic ----------------------------------------------------------------------------------------------

    def bin(self, opcode: str, a: Val, b: Val) -> Val:
        return self.put(a.kind, f"{opcode} {self.ty(a.kind)} {a.text}, {b.text}")

    def add(self, a: Val, b: Val) -> Val:
        return self.bin("fadd" if a.kind[0] == "f" else "add", a, b)

    def sub(self, a: Val, b: Val) -> Val:
        return self.bin("fsub" if a.kind[0] == "f" else "sub", a, b)

    def mul(self, a: Val, b: Val) -> Val:
        return self.bin("fmul" if a.kind[0] == "f" else "mul", a, b)

    def div(self, a: Val, b: Val) -> Val:
        return self.bin("fdiv", a, b)

    def neg(self, a: Val) -> Val:
        if a.kind[0] == "f":
            return self.put(a.kind, f"fneg {self.ty(a.kind)} {a.text}")
        return self.bin("sub", self.const(a.kind, 0), a)

    def call(self, intrinsic: str, kind: str, *args: Val) -> Val:
        """An LLVM intrinsic that is overloaded on one type."""
        name = f"@llvm.{intrinsic}.{self.suffix(kind)}"
        t = self.ty(kind)
        self.module.declare(name, f"declare {t} {name}({', '.join(t for _ in args)})")
        return self.put(kind, f"call {t} {name}({', '.join(f'{t} {a.text}' for a in args)})")

    def fma(self, a: Val, b: Val, c: Val) -> Val:
        return self.call("fma", a.kind, a, b, c)

    def cmp(self, predicate: str, a: Val, b: Val) -> Val:
        opcode = "fcmp" if a.kind[0] == "f" else "icmp"
        return self.put("i1", f"{opcode} {predicate} {self.ty(a.kind)} {a.text}, {b.text}")

    def select(self, condition: Val, a: Val, b: Val) -> Val:
        c = self.ty("i1")
        t = self.ty(a.kind)
        return self.put(a.kind, f"select {c} {condition.text}, {t} {a.text}, {t} {b.text}")

    def bitcast(self, a: Val, kind: str) -> Val:
        return self.put(kind, f"bitcast {self.ty(a.kind)} {a.text} to {self.ty(kind)}")

    def cast(self, a: Val, kind: str) -> Val:
        """Conversion as NumPy does it on x86: floats out of an integer's range give its smallest number."""
        if a.kind == kind:
            return a
        src, dst = self.ty(a.kind), self.ty(kind)
        if kind == "i1":
            zero = self.const(a.kind, 0)
            return self.cmp("une" if a.kind[0] == "f" else "ne", a, zero)
        if a.kind[0] == "f" and kind[0] == "f":
            return self.put(kind, f"{'fpext' if kind == 'f64' else 'fptrunc'} {src} {a.text} to {dst}")
        if kind[0] == "f":
            return self.put(kind, f"{'uitofp' if a.kind in ('i1', 'u8') else 'sitofp'} {src} {a.text} to {dst}")
        if a.kind[0] == "f":
            if _BITS[kind] < 32:  # through 32 bits, and then wrapped around
                return self.cast(self.cast(a, "i32"), kind)
            bound = 2.0 ** (_BITS[kind] - 1)
            inside = self.bin("and", self.cmp("oge", a, self.const(a.kind, -bound)),
                              self.cmp("olt", a, self.const(a.kind, bound)))  # fmt: skip
            # Undefined outside the range, but then not taken.
            return self.select(
                inside, self.put(kind, f"fptosi {src} {a.text} to {dst}"), self.const(kind, -(2 ** (_BITS[kind] - 1)))
            )
        if _BITS[a.kind] < _BITS[kind]:
            return self.put(kind, f"{'zext' if a.kind in ('i1', 'u8') else 'sext'} {src} {a.text} to {dst}")
        if _BITS[a.kind] == _BITS[kind]:
            return Val(kind, a.text)
        return self.put(kind, f"trunc {src} {a.text} to {dst}")

    def poly(self, x: Val, coefficients: list[float]) -> Val:
        """Horner's rule, highest power last in the list."""
        acc = self.const(x.kind, coefficients[-1])
        for c in reversed(coefficients[:-1]):
            acc = self.fma(acc, x, self.const(x.kind, c))
        return acc

    # -- lanes ---------------------------------------------------------------------------------------------------

    def splat(self, scalar: Val) -> Val:
        """Repeat a scalar over the lanes."""
        if self.lanes == 1:
            return scalar
        t = LLVM[scalar.kind]
        first = self.put(scalar.kind, f"insertelement {self.ty(scalar.kind)} poison, {t} {scalar.text}, i64 0")
        return self.put(
            scalar.kind,
            f"shufflevector {self.ty(scalar.kind)} {first.text}, {self.ty(scalar.kind)} poison, "
            f"<{self.lanes} x i32> zeroinitializer",
        )

    def each(self, function: str, kind: str, *args: Val) -> Val:
        """Call a scalar C function lane by lane."""
        t = LLVM[kind]
        self.module.declare(f"@{function}", f"declare {t} @{function}({', '.join(t for _ in args)})")
        if self.lanes == 1:
            return self.put(kind, f"call {t} @{function}({', '.join(f'{t} {a.text}' for a in args)})")
        out = Val(kind, "poison")
        for i in range(self.lanes):
            picked = [self.put(kind, f"extractelement {self.ty(kind)} {a.text}, i64 {i}").text for a in args]
            y = self.put(kind, f"call {t} @{function}({', '.join(f'{t} {p}' for p in picked)})")
            out = self.put(kind, f"insertelement {self.ty(kind)} {out.text}, {t} {y.text}, i64 {i}")
        return out

    # -- memory --------------------------------------------------------------------------------------------------

    def gep(self, pointer: str, offset: str, kind: str) -> str:
        t = "i8" if kind == "i1" else LLVM[kind]
        return self.put("ptr", f"getelementptr {t}, ptr {pointer}, i64 {offset}").text

    def mask(self, active: int) -> str:
        """A constant mask with the first ``active`` lanes on."""
        return "<" + ", ".join(f"i1 {'true' if i < active else 'false'}" for i in range(self.lanes)) + ">"

    def load(self, pointer: str, kind: str, mask: str | None = None) -> Val:
        """Load consecutive entries; lanes that the mask leaves off are zero and their memory is not touched."""
        memory = "u8" if kind == "i1" else kind
        t = self.ty(memory)
        if mask is None or self.lanes == 1:
            out = self.put(memory, f"load {t}, ptr {pointer}, align {SIZE[memory]}")
        else:
            name = f"@llvm.masked.load.{self.suffix(memory)}.p0"
            m = f"<{self.lanes} x i1>"
            self.module.declare(name, f"declare {t} {name}(ptr, {m}, {t})")
            out = self.put(
                memory, f"call {t} {name}(ptr align {SIZE[memory]} {pointer}, {m} {mask}, {t} zeroinitializer)"
            )
        if kind == "i1":
            return self.cmp("ne", out, self.const("u8", 0))
        return out

    def prefetch(self, pointer: str, write: bool = False) -> None:
        """Ask for the line of the cache at an address, which need not be valid; ``write``: to write to it."""
        self.module.declare("@llvm.prefetch.p0", "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.line(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 {int(write)}, i32 3, i32 1)")

    def _store_first(self, value: Val, pointer: str, active: int) -> None:
        """Store the first lanes in powers of two: masked stores are microcode where masks are not registers (AVX2)."""
        at, size = 0, self.lanes // 2
        while size:
            if active & size:
                part = self.at(size)
                order = ", ".join(f"i32 {at + i}" for i in range(size))
                x = (
                    part.put(value.kind, f"extractelement {self.ty(value.kind)} {value.text}, i64 {at}")
                    if size == 1
                    else part.put(
                        value.kind,
                        f"shufflevector {self.ty(value.kind)} {value.text}, {self.ty(value.kind)} poison, "
                        f"<{size} x i32> <{order}>",
                    )
                )
                part.store(x, self.gep(pointer, str(at), value.kind) if at else pointer)
                at += size
            size //= 2

    def store(self, value: Val, pointer: str, mask: str | None = None) -> None:
        if value.kind == "i1":
            value = self.cast(value, "u8")
        t = self.ty(value.kind)
        if mask is None or self.lanes == 1:
            self.line(f"store {t} {value.text}, ptr {pointer}, align {SIZE[value.kind]}")
            return
        if self.lanes * SIZE[value.kind] < 64:
            self._store_first(value, pointer, mask.count("true"))
            return
        name = f"@llvm.masked.store.{self.suffix(value.kind)}.p0"
        m = f"<{self.lanes} x i1>"
        self.module.declare(name, f"declare void {name}({t}, ptr, {m})")
        self.line(f"call void {name}({t} {value.text}, ptr align {SIZE[value.kind]} {pointer}, {m} {mask})")
