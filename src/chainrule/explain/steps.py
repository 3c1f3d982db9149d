"""``backward_steps``: the backward pass one vjp call at a time, with breakpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.locate import Place
from ..core.state import state
from ..graph.replay import Quantity, Replay, Step
from .explanation import _variables, replayed
from .formula import label, root_label, rule_text

__all__ = ["BackwardStep", "BackwardSteps", "Received", "backward_steps"]


@dataclass(slots=True)
class Received:
    """What one input of the op receives: ``grad`` is added (``accumulates``) or set; ``total`` is the sum so far."""

    name: str
    grad: np.ndarray[Any, Any]
    total: np.ndarray[Any, Any]
    accumulates: bool
    rule: str
    shape: tuple[int, ...]
    quantity: Quantity = field(repr=False)


@dataclass(slots=True)
class BackwardStep:
    """One vjp call. ``grad`` is the gradient that arrived at the op's output, ``inputs`` what it sends on."""

    index: int
    op: str
    name: str
    grad: np.ndarray[Any, Any]
    inputs: list[Received]
    place: Place | None
    module: str
    derivative: str
    step: Step = field(repr=False)

    @property
    def grad_norm(self) -> float:
        return float(np.linalg.norm(np.asarray(self.grad, np.float64)))

    def __str__(self) -> str:
        out = [f"{self.index:>4}  {self.op:<16} {self.derivative}  {_brief(self.grad)}"]
        if self.place:
            out[0] += f"   {self.place}: {self.place.source}"
        for r in self.inputs:
            sign = "+=" if r.accumulates else "= "
            out.append(f"      {r.rule.split(' = ')[0]} {sign} {r.rule.split(' = ', 1)[-1]}  {_brief(r.grad)}")
            if r.accumulates:
                out.append(f"          now {_brief(r.total)}")
        return "\n".join(out)


def _brief(a: Any) -> str:
    a = np.asarray(a)
    if a.size <= 4:
        return " ".join(np.array2string(a, precision=6, separator=", ").split())
    return f"{tuple(a.shape)} |·| = {np.linalg.norm(np.asarray(a, np.float64)):.6g}"


class BackwardSteps(Iterator[BackwardStep]):
    """An iterator over the steps. After the last one ``gradients`` holds every leaf's gradient, by name.

    ``next(steps)`` runs one rule; ``run(until=…)`` runs on until a condition holds.
    """

    def __init__(self, replay: Replay, until: Callable[[BackwardStep], bool] | None = None) -> None:
        self.replay = replay
        self.until = until
        self.done: list[BackwardStep] = []
        seed = np.ones(replay.root.array.shape, replay.root.array.dtype)
        self._walk = replay.walk(seed)
        self._reached: set[int] = set()

    def __next__(self) -> BackwardStep:
        previous = state.grad, state.recorder
        state.grad, state.recorder = False, None
        try:
            with np.errstate(all="ignore"):
                step, g, sent = next(self._walk)
        finally:
            state.grad, state.recorder = previous
        made = self._describe(step, g, sent)
        self.done.append(made)
        return made

    def _describe(self, step: Step, g: Any, sent: list[Any]) -> BackwardStep:
        received: list[Received] = []
        for i, (q, gi) in enumerate(zip(step.args, sent, strict=True)):
            if gi is None:
                continue
            adds = id(q) in self._reached
            self._reached.add(id(q))
            received.append(
                Received(
                    label(q, self.replay), np.asarray(gi), np.asarray(q.grad), adds, rule_text(step, i, self.replay),
                    q.array.shape, q,
                )
            )  # fmt: skip
        top = root_label(self.replay)
        name = label(step.out, self.replay)
        arrived = g[0] if isinstance(g, tuple) else g
        return BackwardStep(
            len(self.done), step.op.name, name, np.asarray(arrived), received, step.place, step.module,
            f"d{top}/d({name})" if " " in name else f"d{top}/d{name}", step,
        )  # fmt: skip

    def __iter__(self) -> BackwardSteps:
        return self

    def run(self, until: Callable[[BackwardStep], bool] | None = None) -> BackwardStep | None:
        """Run on until the condition holds for a step, and return that step; None when the pass has ended."""
        condition = until if until is not None else self.until
        for s in self:
            if condition is not None and condition(s):
                return s
        return None

    @property
    def gradients(self) -> dict[str, np.ndarray[Any, Any]]:
        """The leaves' gradients so far."""
        return {label(q): np.asarray(q.grad) for q in self.replay.leaves if q.grad is not None}


def backward_steps(
    loss: Any, until: Callable[[BackwardStep], bool] | None = None, *, variables: dict[str, Any] | None = None
) -> BackwardSteps:
    """Walk the backward pass rule by rule, on a copy: the user's ``.grad`` is not touched.

    Args:
        loss: a scalar whose graph has not been freed.
        until: a breakpoint; ``run()`` stops at the first step for which it is true.

    >>> import chainrule as torch
    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> for step in backward_steps(x * x + x):
    ...     print(step.op, [(r.name, float(r.grad), r.accumulates) for r in step.inputs])
    add [('x · x', 1.0, False), ('x', 1.0, False)]
    mul [('x', 3.0, True), ('x', 3.0, True)]
    """
    seen = _variables() if variables is None else variables
    return BackwardSteps(replayed(loss, seen, backward=False), until)
