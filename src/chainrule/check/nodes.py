"""Each op application of a chainrule program, checked by itself: the first wrong rule, with the line that has it.

A wrong rule spoils every gradient before it, so the report of the whole program would accuse everything. Checked in
isolation, with the values that it really saw, each op answers for itself alone.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.locate import Place, place_of, user_frame
from ..core.state import state
from ..core.variable import Variable
from .diagnosis.hypothesis import Hypothesis, Line
from .measure import quiet
from .problem import Note, Problem

__all__ = ["first_bad", "kink_name", "op_problem", "applied"]


@dataclass(slots=True)
class _Applied:
    """One op application: what went in, and where in the user's code."""

    call: Any
    op: Any
    inputs: tuple[Any, ...]
    params: dict[str, Any]
    place: Place | None
    backward: Any = None


class _Tape:
    """What ``state.recorder`` points to: collects op applications; the other messages do not concern it."""

    def __init__(self) -> None:
        self.applied: list[_Applied] = []

    def record(self, op: Any, inputs: Any, params: dict[str, Any], arrays: Any) -> None:
        del arrays
        copied = tuple(
            x._array.copy() if isinstance(x, Variable) else np.array(x) if isinstance(x, np.ndarray) else x
            for x in inputs
        )
        self.applied.append(_Applied(op.call, op, copied, dict(params), _here()))

    def __getattr__(self, name: str) -> Any:
        return lambda *a, **k: a[0]() if name == "live" and a else None


def _here() -> Place | None:
    frame = user_frame(sys._getframe(2))
    return None if frame is None else place_of(frame.f_code, frame.f_lasti)


@contextlib.contextmanager
def _recording(tape: _Tape) -> Iterator[None]:
    from ..autograd import function as functions

    original = functions._record

    def noted(cls: Any, ctx: Any, args: Any, *rest: Any) -> Any:
        made = original(cls, ctx, args, *rest)
        copied = tuple(x._array.copy() if isinstance(x, Variable) else x for x in args)
        tape.applied.append(_Applied(cls.apply, None, copied, {}, _here(), cls))
        return made

    previous = state.recorder
    state.recorder = tape
    functions._record = noted
    try:
        yield
    finally:
        functions._record = original
        state.recorder = previous


def _trace(problem: Problem, arrays: Any = None) -> list[_Applied]:
    tape = _Tape()
    assert problem.tape is not None
    around = problem.around() if problem.around is not None else contextlib.nullcontext()
    with quiet(), around, _recording(tape):
        problem.tape(problem.point if arrays is None else arrays)
    return tape.applied


def op_problem(applied: Any, seed: int = 0, order: int = 1) -> Problem | None:
    """One op application as a problem of its own, with a random cotangent; None when nothing flows through it."""
    from .adapters.engine import from_engine

    op = applied.op
    moving = [
        i
        for i, x in enumerate(applied.inputs)
        if isinstance(x, np.ndarray) and x.dtype.kind == "f" and _has_rule(op, i)
    ]
    if not moving or not any(applied.inputs[i].size for i in moving):
        return None
    names = _input_names(op, applied)
    fixed = list(applied.inputs)
    from ..core.variable import wrap

    def run(**tensors: Any) -> Any:
        # NumPy integer arrays (indices) become tensors, as they were in the program.
        args = [wrap(x) if isinstance(x, np.ndarray) else x for x in fixed]
        for i in moving:
            args[i] = tensors[names[i]]
        out = applied.call(*args, **applied.params)
        return out

    def by_definition(**tensors: Any) -> Any:
        args = [wrap(x) if isinstance(x, np.ndarray) else x for x in fixed]
        for i in moving:
            args[i] = tensors[names[i]]
        return op.derived(*args, **applied.params)

    run.__signature__ = by_definition.__signature__ = inspect.Signature(
        [inspect.Parameter(names[i], inspect.Parameter.POSITIONAL_OR_KEYWORD) for i in moving]
    )  # type: ignore[attr-defined]
    run.__qualname__ = op.name if op is not None else applied.backward.__name__
    outs = run(**{names[i]: wrap(fixed[i]) for i in moving})
    outs = [
        o
        for o in (outs if isinstance(outs, (tuple, list)) else [outs])
        if isinstance(o, Variable) and o._array.dtype.kind == "f"
    ]
    if not outs or not all(np.all(np.isfinite(o._array)) for o in outs):
        return None
    rng = np.random.default_rng(seed + 7)
    cotangent = [rng.normal(size=o._array.shape) for o in outs]
    problem = from_engine(
        run,
        {names[i]: fixed[i].astype(np.float64) for i in moving},
        None,
        loss=None,
        cotangent=cotangent,
        data=None,
        order=order,
        seed=seed,
    )
    problem.first_bad = None
    hidden = [
        i for i, x in enumerate(applied.inputs) if isinstance(x, np.ndarray) and x.dtype.kind == "f" and i not in moving
    ]
    if op is not None and op.derived is not None and hidden and order == 1:
        # An input without a rule (batch_norm's statistics) is a function of the others: the rule accounts for that, and
        # the op's definition, from which the numbers must then come, says so.
        point = {k: v.copy() for k, v in problem.point.items()}
        problem.value = from_engine(
            by_definition, point, None, loss=None, cotangent=cotangent[0], data=None, order=1, seed=seed
        ).value
    padding = applied.params.get("padding_idx")
    if padding is not None and "weight" in problem.point:
        exempt_row(problem, "weight", padding)
    if op is not None:
        rules = [op.rules[0]] if op.variadic else [op.rules[i] for i in moving]
        problem.functions = tuple(dict.fromkeys(r.fn for r in rules if r is not None))
    else:
        problem.functions = (applied.backward.backward,)
    problem.forward_functions = ()
    return problem


def applied(op: Any, args: tuple[Any, ...], params: dict[str, Any]) -> _Applied:
    """An op application written down by hand (the registry's samples)."""
    return _Applied(op.call, op, args, params, None)


def exempt_row(problem: Problem, name: str, row: int) -> None:
    """The padding row of an embedding: its gradient is zero by definition, whatever the loss."""
    mask = np.zeros(problem.point[name].shape, dtype=bool)
    mask[row] = True
    problem.exempt[name] = mask
    problem.notes.append(
        Note(
            "padding",
            f"row {row} of {name} is an embedding's padding row: its gradient is 0 by definition and was not compared.",
        )
    )


def _has_rule(op: Any, i: int) -> bool:
    return op is None or op.rules[0 if op.variadic else i] is not None


def _input_names(op: Any, applied: Any) -> list[str]:
    if op is not None and not op.variadic:
        return [n if n != "out" else "out_" for n in op.inputs][: len(applied.inputs)]
    if op is None:
        code = inspect.signature(applied.backward.forward)
        names = [n for n in code.parameters if n not in ("ctx", "self")]
        if len(names) >= len(applied.inputs):
            return names
    return [f"x{i}" for i in range(len(applied.inputs))]


def first_bad(problem: Problem) -> Hypothesis | None:
    """The first op application (in the order of the forward pass) whose own rule is wrong."""
    from .diagnosis import find_patterns
    from .diagnosis.evidence import gather
    from .diagnosis.rank import rank
    from .measure import measure
    from .repair import find_repairs
    from .verdict import Verdict, judge

    seen: set[Any] = set()
    count = 0
    for made in _trace(problem):
        key = (
            made.op.name if made.op is not None else made.backward,
            tuple(np.shape(x) for x in made.inputs),
            str(made.params),
        )
        if key in seen:
            continue
        seen.add(key)
        count += 1
        try:
            one = op_problem(made)
        except Exception:
            continue
        if one is None:
            continue
        m = measure(one, full=False, rng=np.random.default_rng(0))
        j = judge(one, m)
        if j.verdict is not Verdict.FAIL:
            continue
        j.bad_parameters = j.bad_parameters or list(one.point)
        ev = gather(one, m, j)
        causes = rank(ev, find_patterns(ev), find_repairs(ev))
        return _name(made, causes, j.bad_parameters, problem, count)
    return None


def _name(applied: _Applied, causes: list[Hypothesis], wrong: list[str], problem: Problem, count: int) -> Hypothesis:
    name = applied.op.name if applied.op is not None else applied.backward.__name__
    cause = causes[0] if causes else None
    rule = (
        applied.backward.backward
        if applied.op is None
        else next(
            r.fn
            for i, r in enumerate(applied.op.rules)
            if r is not None and (applied.op.variadic or applied.op.inputs[i] in wrong)
        )
    )
    line = cause.line if cause is not None and cause.line is not None else _line(rule)
    own = applied.place is not None and "chainrule/cli" not in applied.place.filename.replace("\\", "/")
    where = f" (used at {applied.place}: {applied.place.source})" if own and applied.place is not None else ""
    what = cause.title if cause is not None and cause.kind != "unknown" else "its gradient does not fit its value"
    evidence = f"checked alone, with the values it saw{where}, the rule for {', '.join(wrong)} is wrong"
    if cause is not None:
        evidence += f"; {cause.evidence}"
    fix = (
        cause.fix
        if cause is not None and cause.verified
        else f"mend the rule at {line}: {line.source}"
        if line is not None
        else "mend its backward"
    )
    return Hypothesis(
        cause.kind if cause is not None else "op",
        f"the first bad op is {name}: {what}",
        evidence,
        fix,
        tuple(problem.point),
        2.0,
        line,
        cause is not None and cause.verified,
        {"op": name, "inputs": wrong, "checked": count, "place": str(applied.place) if applied.place else ""},
    )


def _line(function: Any) -> Line | None:
    try:
        source, number = inspect.getsourcelines(function)
        body = next((k for k, s in enumerate(source) if s.strip().startswith("return")), 0)
        return Line(inspect.getsourcefile(function) or "", number + body, source[body].strip())
    except (OSError, TypeError):
        return None


def kink_name(problem: Problem, name: str, flat: int, h: float) -> str:
    """The op whose local slope jumps between x − h and x + h, with the convention it states."""
    sides = []
    for sign in (1.0, -1.0):
        arrays = {k: v.copy() for k, v in problem.point.items()}
        arrays[name].reshape(-1)[flat] += sign * h
        sides.append(_trace(problem, arrays))
    for plus, minus in zip(*sides, strict=False):
        if plus.op is None or minus.op is not plus.op:
            continue
        try:
            a, b = _slopes(plus), _slopes(minus)
        except Exception:
            continue
        for x, y in zip(a, b, strict=True):
            if x is None or y is None:
                continue
            if x.shape == y.shape and np.max(np.abs(x - y), initial=0.0) > 0.05 * max(
                np.max(np.abs(x), initial=0.0), np.max(np.abs(y), initial=0.0)
            ):
                return (
                    f"{plus.op.name}"
                    + (f" ({plus.op.kink})" if plus.op.kink else "")
                    + (f" at {plus.place}" if plus.place else "")
                )
    return ""


def _slopes(applied: _Applied) -> list[Any]:
    """The op's gradients for a fixed cotangent: what its active set is, in numbers."""
    from ..autograd.api import grad
    from ..core.variable import wrap

    leaves = [
        wrap(x, None, x.dtype.kind == "f" and _has_rule(applied.op, i)) if isinstance(x, np.ndarray) else x
        for i, x in enumerate(applied.inputs)
    ]
    moving = [t for t in leaves if isinstance(t, Variable) and t._requires]
    if not moving:
        return []
    out = applied.call(*leaves, **applied.params)
    outs = [o for o in (out if isinstance(out, tuple) else [out]) if o._requires]
    if not outs:
        return []
    rng = np.random.default_rng(3)
    cotangents = [wrap(rng.uniform(0.5, 1.5, o._array.shape)) for o in outs]
    return [None if g is None else g._array for g in grad(outs, moving, cotangents, allow_unused=True)]
