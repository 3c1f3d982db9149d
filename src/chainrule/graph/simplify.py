"""Passes over a program: fold constants, drop what does nothing, share common parts, drop what nobody reads.

Every pass keeps the program's results bit for bit: nothing is reassociated, no rounding is saved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from .program import Instr, Program, Value

__all__ = ["common", "dead_code", "fold", "simplify", "uniform"]

_FOLD_LIMIT = 1 << 22


def uniform(array: np.ndarray[Any, Any]) -> Any:
    """The one number that an array repeats without storing it repeatedly (0-d, or all strides 0); else None."""
    if array.size and (
        array.ndim == 0 or all(s == 0 or n == 1 for s, n in zip(array.strides, array.shape, strict=True))
    ):
        return array[(0,) * array.ndim]
    return None


def _elementwise(instr: Instr) -> bool:
    left, _, right = instr.op.signature.partition("->")
    return right.strip() == "*s" and all(p.strip() == "*s" for p in left.split(",")) and not instr.op.residuals


def fold(program: Program, constants: Iterable[Value] | None = None, keep: Iterable[Value] = ()) -> dict[Value, Any]:
    """Compute what depends on constants only, and take out what does nothing. Returns what stood in for what.

    Args:
        program: changed in place.
        constants: which constants may be folded (default: none of them is memory that somebody may write to, so all
            of those that no instruction made are kept; give the ones that are truly constant, such as a seed of ones).
        keep: values that must survive under their own identity (named ones).
    """
    known: dict[Value, np.ndarray[Any, Any]] = {v: program.constants[v] for v in (constants or ())}
    instead: dict[Value, Any] = {}
    kept = set(keep)
    swapped: dict[Value, Any] = {}

    def now(a: Any) -> Any:
        while isinstance(a, Value) and a in instead:
            a = instead[a]
        return a

    instrs: list[Instr] = []
    for instr in program.instrs:
        args = tuple(now(a) for a in instr.args)
        if args != instr.args:
            instr = replace(instr, args=args)
        if _fold_one(instr, known, program):
            continue
        alias = _alias(instr, known)
        if alias is None and instr.op.name == "swap" and instr.args[0] in swapped:
            alias = swapped[instr.args[0]]  # a view of a view: the very same memory order
        elif instr.op.name == "swap":
            swapped[instr.outs[0]] = instr.args[0]
        if alias is not None and (instr.outs[0] not in kept or (isinstance(alias, Value) and alias not in kept)):
            target = instr.outs[0]
            instead[target] = alias
            continue
        instrs.append(_scalars(instr, known))
    program.instrs = instrs
    program.outputs = [now(v) for v in program.outputs]
    program.updates = [(m, now(v)) for m, v in program.updates]
    return instead


def _fold_one(instr: Instr, known: dict[Value, Any], program: Program) -> bool:
    """Compute an instruction whose arguments are all known; constants made so are uniform or small."""
    values = list(instr.values)
    if not values or any(v not in known for v in values) or len(instr.outs) != 1:
        return False
    out = instr.outs[0]
    if int(np.prod(out.shape)) > _FOLD_LIMIT:
        return False
    with np.errstate(all="ignore"):
        if _elementwise(instr) and all(uniform(known[v]) is not None for v in values):
            args = [np.asarray(uniform(known[a])) if isinstance(a, Value) else a for a in instr.args]
            result = np.broadcast_to(np.asarray(instr.op.body(*args, **instr.params)), out.shape)
        else:
            args = [known[a] if isinstance(a, Value) else a for a in instr.args]
            result = np.asarray(instr.op.body(*args, **instr.params))
    if uniform(result) is None and result.size:
        first = result.reshape(-1)[0]
        if not (result == first).all():
            if result.size > 64:
                return False
        else:
            result = np.broadcast_to(np.asarray(first), out.shape)
    known[out] = result
    program.constants[out] = result
    return True


def _number(a: Any, known: dict[Value, Any]) -> Any:
    if isinstance(a, Value):
        return uniform(known[a]) if a in known else None
    return a if isinstance(a, (int, float)) else None


def _alias(instr: Instr, known: dict[Value, Any]) -> Any:
    """What an instruction's output is equal to, bit for bit, if it does nothing."""
    name, args, outs = instr.op.name, instr.args, instr.outs
    if len(outs) != 1:
        return None
    out = outs[0]
    first = args[0] if args else None

    def same(a: Any) -> bool:
        return isinstance(a, Value) and a.shape == out.shape and a.dtype == out.dtype

    if name in ("reshape", "expand", "sum_to", "cast") and same(first):
        return first
    if name == "mul":
        for a, b in (args, args[::-1]):
            n = _number(b, known)
            if n is not None and n == 1 and same(a):
                return a
    if name == "div" and same(first):
        n = _number(args[1], known)
        if n is not None and n == 1:
            return first
    return None


_PLAIN = ("add", "sub", "mul", "div", "maximum", "minimum")


def _scalars(instr: Instr, known: dict[Value, Any]) -> Instr:
    """A uniform constant beside an array of the result's shape and dtype becomes a Python number."""
    if instr.op.name not in _PLAIN or len(instr.args) != 2:
        return instr
    out = instr.outs[0]
    args = list(instr.args)
    for i, j in ((0, 1), (1, 0)):
        a, b = args[i], args[j]
        if isinstance(a, Value) and a in known and isinstance(b, Value) and b not in known:
            n = uniform(known[a])
            if n is not None and b.shape == out.shape and b.dtype == out.dtype == a.dtype and n == n:
                args[i] = n.item()
    return instr if args == list(instr.args) else replace(instr, args=tuple(args))


# --- patterns ------------------------------------------------------------------------------------------------------


def rewrite(program: Program, keep: Iterable[Value] = ()) -> None:
    """What the rules say in general, said as a person would: no casts of masks, no broadcasting that NumPy does itself.

    * ``y > 0`` for y = relu(x) becomes ``x > 0``: the same bits, and the textbook's line.
    * the cast of a bool that meets a float array in a product or difference goes: NumPy does it.
    * an explicit broadcast that meets an array of the full shape in an elementwise op goes.
    """
    maker: dict[Value, Instr] = {out: i for i in program.instrs for out in i.outs}
    kept = set(keep)
    for k, instr in enumerate(program.instrs):
        args = list(instr.args)
        if instr.op.name == "gt" and len(args) == 2 and isinstance(args[0], Value) and not isinstance(args[1], Value):
            made = maker.get(args[0])
            if made is not None and made.op.name == "relu" and args[1] == 0 and made.args[0] in kept:
                args[0] = made.args[0]
        if instr.op.name in ("mul", "sub", "add") and len(args) == 2:
            for i, j in ((0, 1), (1, 0)):
                a, b = args[i], args[j]
                made = maker.get(a) if isinstance(a, Value) else None
                if made is None or not isinstance(b, Value) or b.dtype.kind != "f":
                    continue
                if made.op.name == "cast" and made.args[0].dtype.kind == "b" and a.dtype == b.dtype:
                    args[i] = made.args[0]
        if instr.op.name in ("mul", "sub", "add", "div", "where"):
            for i, a in enumerate(args):
                made = maker.get(a) if isinstance(a, Value) else None
                if made is None or made.op.name != "expand":
                    continue
                others = [b for m, b in enumerate(args) if m != i and isinstance(b, Value)]
                if any(b.shape == instr.outs[0].shape for b in others):
                    args[i] = made.args[0]
        if tuple(args) != instr.args:
            program.instrs[k] = instr = replace(instr, args=tuple(args))
            for out in instr.outs:
                maker[out] = instr


def common(program: Program, keep: Iterable[Value] = ()) -> dict[Value, Value]:
    """Equal instructions are computed once. Returns what stood in for what."""
    seen: dict[Any, Instr] = {}
    instead: dict[Value, Value] = {}
    kept = set(keep)
    instrs: list[Instr] = []
    for instr in program.instrs:
        args = tuple(instead.get(a, a) if isinstance(a, Value) else a for a in instr.args)
        if args != instr.args:
            instr = replace(instr, args=args)
        try:
            key = (instr.op.name, tuple((id(a),) if isinstance(a, Value) else (type(a), a) for a in args),
                   repr(sorted(instr.params.items())))  # fmt: skip
            hash(key)
        except TypeError:
            instrs.append(instr)
            continue
        old = seen.get(key)
        if old is None or any(v in kept for v in instr.outs):
            seen.setdefault(key, instr)
            instrs.append(instr)
        else:
            instead.update(zip(instr.outs, old.outs, strict=True))
    program.instrs = instrs
    program.outputs = [instead.get(v, v) for v in program.outputs]
    program.updates = [(m, instead.get(v, v)) for m, v in program.updates]
    return instead


def dead_code(program: Program) -> None:
    """Drop instructions and constants that no output and no update needs."""
    needed: set[Value] = {*program.outputs, *(v for _, v in program.updates), *(m for m, _ in program.updates)}
    live: list[Instr] = []
    for instr in reversed(program.instrs):
        if any(out in needed for out in instr.outs):
            live.append(instr)
            needed.update(instr.values)
    program.instrs = live[::-1]
    program.constants = {v: a for v, a in program.constants.items() if v in needed}


def simplify(program: Program, constants: Iterable[Value] = (), keep: Iterable[Value] = ()) -> dict[Value, Any]:
    """All passes. ``constants`` may be folded; ``keep`` keep their identity."""
    keep = list(keep)
    instead = fold(program, constants, keep)
    rewrite(program, keep)
    instead.update(common(program, keep))
    dead_code(program)
    return instead
