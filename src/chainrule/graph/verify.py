"""Is a program well formed, and does it compute what it says? Run after passes, in tests and while developing them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import OpError, message
from .program import Program, Value

__all__ = ["run", "verify"]


def verify(program: Program) -> Program:
    """Check single assignment, definition before use, and that outputs and updates exist; returns the program.

    Raises:
        OpError: naming the instruction that is wrong.
    """
    known: set[Value] = {*program.inputs, *program.constants}
    for value, array in program.constants.items():
        if array.shape != value.shape or array.dtype != value.dtype:
            raise OpError(message(f"constant {value} is bound to an array {array.dtype.name}{list(array.shape)}"))
    for k, instr in enumerate(program.instrs):
        for a in instr.values:
            if a not in known:
                raise OpError(message(f"instruction {k} ({instr.op.name}) reads {a} before it is made"))
        expected = instr.op.outputs
        if expected is not None and len(instr.outs) != expected + len(instr.op.residuals):
            raise OpError(message(f"instruction {k} ({instr.op.name}) has {len(instr.outs)} results"))
        for out in instr.outs:
            if out in known:
                raise OpError(message(f"instruction {k} ({instr.op.name}) makes {out} a second time"))
            known.add(out)
    for v in program.outputs:
        if isinstance(v, Value) and v not in known:
            raise OpError(message(f"output {v} is never made"))
    outside = {*program.inputs, *program.constants}
    for memory, v in program.updates:
        if memory not in outside or v not in known:
            raise OpError(message(f"update of {memory} with {v}: one of them does not exist"))
        if memory.shape != v.shape or memory.dtype != v.dtype:
            raise OpError(message(f"update of {memory} with {v}: they differ in shape or dtype"))
    return program


def run(program: Program, inputs: list[np.ndarray[Any, Any]], *, update: bool = False) -> list[np.ndarray[Any, Any]]:
    """Interpret the program with the ops' own bodies: the meaning that printing and compiling must keep."""
    values: dict[Any, Any] = {**program.constants, **dict(zip(program.inputs, inputs, strict=True))}
    for instr in program.instrs:
        args = [values[a] if isinstance(a, Value) else a for a in instr.args]
        result = instr.op.body(*args, **instr.params)
        outs = result if isinstance(result, (tuple, list)) else (result,)
        for v, r in zip(instr.outs, outs, strict=True):
            values[v] = np.asarray(r)
    found = [np.asarray(values[v]) if isinstance(v, Value) else np.asarray(v) for v in program.outputs]
    if update:
        for memory, v in program.updates:
            values[memory][...] = values[v]
    return found
