"""Mark a backward pass written by hand, line by line, each given the student's own upstream values.

A wrong dz2 makes dW2, db2, da1, dz1, dW1 and db1 wrong too, but only one line is a mistake. So every gradient is
compared with what follows from the *student's* gradients of the values that depend on it: ``dW2`` is right if it is
a1ᵀ·dz2 for their dz2, whatever that is. That is how an exercise is marked.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError
from .diagnosis import find_patterns
from .diagnosis.evidence import gather
from .diagnosis.rank import rank
from .inject import Forward, call_backward
from .measure import measure, quiet
from .names import match_names
from .problem import Problem
from .report import WrongGradientError
from .symbolic import local_formula
from .verdict import Verdict, judge

__all__ = ["Mark", "Marks", "steps"]


@dataclass(slots=True)
class Mark:
    """One line of the backward pass."""

    gradient: str
    value: str
    right: bool
    shape: tuple[int, ...]
    formula: str = ""
    hint: str = ""
    kind: str = ""
    inconclusive: bool = False

    def __str__(self) -> str:
        sign = "?" if self.inconclusive else "✓" if self.right else "✗"
        size = "×".join(map(str, self.shape)) or "a number"
        if self.right or self.inconclusive:
            return f"{sign} {self.gradient}  ({size})" + (f"  {self.hint}" if self.inconclusive else "")
        lines = [f"{sign} {self.gradient}  ({size})  {self.hint}"]
        if self.formula:
            lines.append(f"    correct: {self.formula}")
        return "\n".join(lines)


@dataclass(slots=True)
class Marks:
    """The marked exercise. Each mistake is marked once, where it is made."""

    marks: list[Mark]
    loss: float
    missing: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(m.right for m in self.marks)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def wrong(self) -> list[Mark]:
        return [m for m in self.marks if not m.right and not m.inconclusive]

    def __getitem__(self, name: str) -> Mark:
        return next(m for m in self.marks if name in (m.gradient, m.value))

    def __str__(self) -> str:
        right = sum(m.right for m in self.marks)
        head = f"{right} of {len(self.marks)} lines right" + (", given your own upstream values" if self.wrong else "")
        tail = [f"not returned, so not marked: {', '.join(self.missing)}"] if self.missing else []
        return "\n".join([head, *map(str, self.marks), *tail])

    __repr__ = __str__

    def __rich__(self) -> Any:
        from rich.text import Text

        text = Text()
        for i, line in enumerate(str(self).splitlines()):
            style = "green" if line.startswith("✓") else "bold red" if line.startswith("✗") else None
            text.append(("\n" if i else "") + line, style=style)
        return text

    def _repr_html_(self) -> str:
        colour = {"✓": "#1a7f37", "✗": "#cf222e"}
        rows = [
            f'<span style="color:{colour.get(line[:1], "inherit")}">{html.escape(line)}</span>'
            for line in str(self).splitlines()
        ]
        return "<pre>" + "\n".join(rows) + "</pre>"

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "loss": self.loss,
            "missing": self.missing,
            "marks": [
                {
                    "gradient": m.gradient,
                    "value": m.value,
                    "right": m.right,
                    "inconclusive": m.inconclusive,
                    "shape": list(m.shape),
                    "formula": m.formula,
                    "hint": m.hint,
                    "kind": m.kind,
                }
                for m in self.marks
            ],
        }

    def raise_if_wrong(self) -> Marks:
        """Raise ``WrongGradientError`` unless every line is right; returns the marks."""
        if not self.ok:
            raise WrongGradientError(self)  # type: ignore[arg-type]
        return self


def steps(
    forward: Callable[..., Any], backward: Callable[..., Any], *inputs: Any, seed: int = 0, **named: Any
) -> Marks:
    """Mark each gradient that ``backward`` returns, given the student's own upstream gradients.

    Args:
        forward: computes the loss and returns it, alone, as ``(loss, cache)``, or as ``'loss'`` in a dict. Its source
            must be readable: every name assigned at its top level can be graded.
        backward: returns a dict of gradients. Names are matched to the forward's: dz2, z2_grad, grad_z2 and dL_dz2 all
            belong to z2. Its parameters are filled by name from the inputs and the forward's values; a parameter
            called ``cache`` (or of no known name) gets what the forward returned beside the loss.
        inputs, named: what forward is called with.

    Returns:
        ``Marks``: ✓ or ✗ per line, with the correct formula and a hint.

    Source: "error carried forward", as exercises are marked; each line is compared with the sum over the values that
    depend on it directly, v̄ = Σ_c (∂c/∂v)ᵀ·c̄, with c̄ as the student has it.
    """
    with quiet():
        observed = Forward(forward, inputs, named)
        import inspect

        try:
            bound = dict(inspect.signature(forward).bind(*inputs, **named).arguments)
        except TypeError:
            bound = dict(named)
        flat = dict(bound)
        for v in bound.values():
            if isinstance(v, dict):
                flat.update(v)
        returned = call_backward(backward, observed, {**flat, **bound})
    if isinstance(returned, tuple):
        returned = next((x for x in returned if isinstance(x, dict)), None)
    if not isinstance(returned, dict):
        raise UsageError("backward must return a dict of its gradients, like {'dz2': dz2, 'dW2': dW2, …}.")
    names = [n for n in observed.order if n != "loss"]
    matched = match_names(returned, names)
    unknown = [g for g in returned if g not in matched.values() and g not in ("dloss", "dL", "loss")]
    if not matched:
        raise UsageError(
            f"None of {', '.join(map(repr, returned))} belongs to a value of the forward ({', '.join(names)})."
        )
    students = {v: np.asarray(returned[g], dtype=float) for v, g in matched.items()}
    marks = []
    # In the order of the student's own backward pass.
    for v, g in sorted(matched.items(), key=lambda item: list(returned).index(item[1])):
        marks.append(_mark(observed, v, g, students, seed))
    missing = [f"{g} (no value of that name in the forward)" for g in unknown]
    return Marks(marks, observed.loss, missing)


def _mark(observed: Forward, v: str, g: str, students: dict[str, np.ndarray[Any, Any]], seed: int) -> Mark:
    value = np.asarray(observed.values[v], dtype=float)
    mine = students[v]
    held = set(students)
    usable = {k: d for k, d in students.items() if d.shape == np.shape(observed.values[k])}

    def phi(arrays: dict[str, Any]) -> float:
        computed, loss = observed.local({v: arrays[v] if np.ndim(arrays[v]) else float(arrays[v])}, held)
        total = loss
        for c, d in usable.items():
            if c != v and c in computed:
                total = total + float(np.sum(d * (np.asarray(computed[c]) - observed.values[c])))
        return total

    formula = local_formula(observed, v, g, usable, phi)
    if mine.shape != value.shape:
        hint = f"has shape {mine.shape}, but {v} has shape {value.shape}"
        kind = "shape"
        if mine.shape == value.shape[::-1]:
            hint, kind = hint + ": transposed", "transposed"
        elif mine.ndim > value.ndim and mine.shape[mine.ndim - value.ndim :] == value.shape:
            hint, kind = hint + ": the sum over the batch is missing", "batch-sum"
        return Mark(g, v, False, value.shape, formula, hint, kind)
    if not np.all(np.isfinite(mine)):
        return Mark(g, v, False, value.shape, formula, "contains NaN or infinity", "nan")
    problem = Problem(g, {v: np.array(value)}, phi, {v: mine})
    for k, x in observed.values.items():
        for s in np.shape(x)[:1]:
            problem.dims.setdefault(s, f"N = {s}, the rows of {k}")
    problem.dims.pop(1, None)
    m = measure(problem, full=value.size <= 200, rng=np.random.default_rng(seed))
    j = judge(problem, m)
    if j.verdict is Verdict.PASS:
        return Mark(g, v, True, value.shape, formula)
    if j.verdict is Verdict.INCONCLUSIVE:
        return Mark(g, v, False, value.shape, formula, j.reason, "inconclusive", True)
    j.bad_parameters = [v]
    ev = gather(problem, m, j)
    causes = rank(ev, find_patterns(ev), [])
    top = causes[0]
    hint = top.title if top.kind != "unknown" else _locals_hint(observed, v, mine, ev.numeric[v], usable)
    hint = hint.replace(f"d{v}", g).replace("the whole gradient", g)
    return Mark(g, v, False, value.shape, formula, hint, top.kind if top.kind != "unknown" else _hint_kind(hint))


def _locals_hint(observed: Forward, v: str, mine: Any, right: Any, students: dict[str, Any]) -> str:
    """Compare with the student's upstream value and the forward's values: a missing derivative, a wrong mask …"""
    if not np.all(np.isfinite(right)):
        return "does not follow from your upstream gradient"
    for c, d in students.items():
        if c == v or d.shape != mine.shape:
            continue
        if np.allclose(mine, d, rtol=1e-6):
            return f"is just d{c}: the derivative of {c} with respect to {v} is missing"
        for n, x in observed.values.items():
            if np.shape(x) != mine.shape or not np.ndim(x):
                continue
            with np.errstate(all="ignore"):
                for what, factor in (
                    (f"{n}·(1 − {n})", x * (1 - x)),
                    (f"(1 − {n}²)", 1 - x**2),
                    (f"({n} > 0)", x > 0),
                    (n, x),
                    (f"(1 − {n})", 1 - x),
                ):
                    if np.allclose(mine, d * factor, rtol=1e-6):
                        return (
                            f"uses d{c}·{what}: not the derivative of {c} with respect to {v} (evaluated "
                            f"at the wrong point?)"
                        )
    if mine.shape == right.shape and np.allclose(np.asarray(mine).sum(), 0, atol=1e-9) != np.allclose(
        right.sum(), 0, atol=1e-9
    ):
        return "a term is missing: the right one sums to zero"
    return "does not follow from your upstream gradient"


def _hint_kind(hint: str) -> str:
    return "activation" if "derivative" in hint or "uses d" in hint else "unknown"
