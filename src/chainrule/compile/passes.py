"""Small functions from program to program: fold, simplify where exact, share, drop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.op import registry
from ..graph.program import Instr, Program, Value

__all__ = ["IMPURE", "drop", "fold", "lower", "share", "simplify", "stages"]

LITERAL = {
    "add", "sub", "mul", "div", "pow", "gt", "ge", "lt", "le", "eq", "ne", "where", "maximum", "minimum",
}  # fmt: skip
_TAKES_APART = {"unbind": "stack", "split": "cat"}
IMPURE = {"bernoulli", "dropout", "multinomial"}


def _rebuild(program: Program, instrs: list[Instr], mapping: dict[Value, Any]) -> Program:
    def new(v: Value) -> Value:
        while v in mapping:
            v = mapping[v]
        return v

    return Program(
        list(program.inputs), dict(program.constants), instrs, [new(v) for v in program.outputs],
        [(m, new(v)) for m, v in program.updates],
    )  # fmt: skip


def fold(program: Program, frozen: set[Value]) -> Program:
    """Compute what depends only on frozen constants (nobody else can change them); write 0-d ones as numbers."""
    constants = dict(program.constants)
    known = {v: constants[v] for v in frozen if v in constants}
    instrs: list[Instr] = []
    for instr in program.instrs:
        arrays = [a for a in instr.args if isinstance(a, Value)]
        small = sum(math.prod(o.shape) for o in instr.outs) <= 4096
        if small and arrays and all(a in known for a in arrays) and instr.op.outputs == 1 and not instr.op.residuals:
            with np.errstate(all="ignore"):
                result = instr.op.body(*[known[a] if isinstance(a, Value) else a for a in instr.args], **instr.params)
            out = instr.outs[0]
            known[out] = np.ascontiguousarray(np.asarray(result, out.dtype)).reshape(out.shape)
            constants[out] = known[out]
            continue
        if instr.op.name in LITERAL and len(arrays) > 1:
            args = list(instr.args)
            for i, a in enumerate(args):
                others = [b for j, b in enumerate(args) if j != i and isinstance(b, Value)]
                if not isinstance(a, Value) or a not in known or known[a].size != 1 or not others:
                    continue
                if not any(b.shape == instr.outs[0].shape and b.dtype == a.dtype for b in others):
                    continue
                args[i] = known[a].reshape(()).item()
            instr = Instr(instr.op, tuple(args), instr.params, instr.outs, instr.place, instr.module)
        instrs.append(instr)
    out = Program(list(program.inputs), constants, instrs, list(program.outputs), list(program.updates))
    frozen.update(v for v in known if v in constants)
    return out


def _masked(instr: Instr, made: dict[Value, Instr]) -> tuple[Value, Value] | None:
    """(mask, g) of a product of g with a mask cast to numbers: as a choice, the mask is kept in bytes."""
    if instr.op.name != "mul" or instr.outs[0].dtype.kind != "f":
        return None
    for mask, g in (instr.args, instr.args[::-1]):
        maker = made.get(mask) if isinstance(mask, Value) and isinstance(g, Value) else None
        if maker is None or maker.op.name != "cast" or maker.args[0].dtype != np.bool_:
            continue
        if g.shape == instr.outs[0].shape and g.dtype == instr.outs[0].dtype:
            return maker.args[0], g
    return None


def simplify(program: Program) -> Program:
    """Algebra that changes no bit: x · 1, x / 1, x¹, −(−x), a cast to the same dtype, a copy of a value."""
    mapping: dict[Value, Any] = {}
    made: dict[Value, Instr] = {}
    instrs: list[Instr] = []
    for instr in program.instrs:
        args = tuple(mapping.get(a, a) if isinstance(a, Value) else a for a in instr.args)
        if args != instr.args:
            instr = Instr(instr.op, args, instr.params, instr.outs, instr.place, instr.module)
        name, out = instr.op.name, instr.outs[0]
        if name in _TAKES_APART and args[0] in made and made[args[0]].op.name == _TAKES_APART[name]:
            # Taking apart what was just put together, the same way: the parts themselves.
            parts = made[args[0]].args
            dims = made[args[0]].params["dim"], instr.params["dim"]
            if (
                dims[0] == dims[1]
                and [o.shape for o in instr.outs] == [p.shape for p in parts]
                and all(p.dtype == out.dtype for p in parts)
            ):
                mapping.update(zip(instr.outs, parts, strict=True))
                continue
        same: Any = None
        if name in ("mul", "div", "pow") and args[1] in (1, 1.0) and isinstance(args[1], (int, float)):
            same = args[0]
        elif name == "mul" and isinstance(args[0], (int, float)) and args[0] == 1:
            same = args[1]
        elif name == "clone" and args[0] in made and made[args[0]].op.name == "swap":
            same = None  # a transposed copy is made on purpose
        elif name in ("cast", "clone", "detach"):
            same = args[0]
        elif name == "neg" and args[0] in made and made[args[0]].op.name == "neg":
            same = made[args[0]].args[0]
        elif name in ("reshape", "expand", "sum_to"):
            same = args[0]
        if isinstance(same, Value) and same.shape == out.shape and same.dtype == out.dtype:
            mapping[out] = same
            continue
        masked = _masked(instr, made)
        if masked is not None:
            # g · 0 for the entries left out keeps their sign, and NaN.
            mask, g = masked
            zeros = Value(g.shape, g.dtype)
            instrs.append(Instr(instr.op, (g, 0.0), {}, (zeros,), instr.place, instr.module))
            instr = Instr(registry["where"], (mask, g, zeros), {}, instr.outs, instr.place, instr.module)
        for o in instr.outs:
            made[o] = instr
        instrs.append(instr)
    return _rebuild(program, instrs, mapping)


def _key(x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return tuple(_key(i) for i in x)
    if isinstance(x, slice):
        return ("slice", x.start, x.stop, x.step)
    if isinstance(x, float):
        return ("f", x.hex())
    hash(x)
    return (type(x).__name__, x) if isinstance(x, (bool, int)) else x


def share(program: Program) -> Program:
    """Compute equal things once."""
    mapping: dict[Value, Any] = {}
    seen: dict[Any, Instr] = {}
    instrs: list[Instr] = []
    for instr in program.instrs:
        args = tuple(mapping.get(a, a) if isinstance(a, Value) else a for a in instr.args)
        if args != instr.args:
            instr = Instr(instr.op, args, instr.params, instr.outs, instr.place, instr.module)
        try:
            key = (instr.op.name, _key(args), _key(sorted(instr.params.items())))
        except TypeError:
            instrs.append(instr)
            continue
        old = seen.get(key)
        if old is not None and instr.op.name not in IMPURE:
            mapping.update(zip(instr.outs, old.outs, strict=True))
            continue
        seen[key] = instr
        instrs.append(instr)
    return _rebuild(program, instrs, mapping)


def drop(program: Program) -> Program:
    """Leave out what nobody reads."""
    wanted = set(program.outputs) | {v for _, v in program.updates}
    instrs: list[Instr] = []
    for instr in reversed(program.instrs):
        if any(o in wanted for o in instr.outs):
            instrs.append(instr)
            wanted.update(instr.values)
    instrs.reverse()
    used = {a for i in instrs for a in i.values} | set(program.outputs)
    used |= {v for pair in program.updates for v in pair}
    constants = {v: a for v, a in program.constants.items() if v in used}
    return Program(list(program.inputs), constants, instrs, list(program.outputs), list(program.updates))


def _with_outputs(program: Program, outputs: list[Value]) -> Program:
    return Program(program.inputs, program.constants, program.instrs, outputs, program.updates)


def stages(program: Program, frozen: set[Value], checks: list[Any]) -> Iterator[tuple[str, Program]]:
    """The program as it was recorded, and after each pass."""
    from .decompose import decompose

    program = drop(program)
    yield "recorded", program
    program = decompose(program, checks, frozen)
    yield "decompose", program
    # What is checked goes through the passes like a result: they may give it another name, or leave out its other uses.
    results = len(program.outputs)
    program = _with_outputs(program, [*program.outputs, *(c.target for c in checks)])
    # Twice: what is shared or folded the first time shows the second pass more.
    for _ in range(2):
        program = fold(program, frozen)
        yield "fold", _with_outputs(program, program.outputs[:results])
        program = simplify(program)
        yield "simplify", _with_outputs(program, program.outputs[:results])
        program = share(program)
        yield "share", _with_outputs(program, program.outputs[:results])
    program = drop(program)
    # A frozen target was in order when the function was recorded, and stays so.
    moved = [replace(c, target=t) for c, t in zip(checks, program.outputs[results:], strict=True) if t not in frozen]
    checks[:] = dict.fromkeys(moved)
    yield "drop", _with_outputs(program, program.outputs[:results])


def lower(program: Program, frozen: set[Value]) -> tuple[Program, list[Any]]:
    """The program in ops that the emitter knows, and the conditions on its inputs that are checked before a run."""
    checks: list[Any] = []
    *_, (_, lowered) = stages(program, frozen, checks)
    return lowered, checks
