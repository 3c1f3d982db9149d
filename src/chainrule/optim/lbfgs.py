"""L-BFGS: a quasi-Newton method that remembers the last steps and gradient changes instead of a Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import inplace
from ..core.state import state
from ..core.variable import wrap
from .checks import number, verified
from .optimizer import Optimizer

__all__ = ["LBFGS"]


class _Point:
    """A point on the search line: step length, loss, gradient, and slope along the direction."""

    __slots__ = ("t", "f", "g", "slope")

    def __init__(self, t: float, f: float, g: Any, slope: float) -> None:
        self.t, self.f, self.g, self.slope = t, f, g, slope


def _cubic_minimum(a: _Point, b: _Point, low: float | None = None, high: float | None = None) -> float:
    """The minimum of the cubic through two points and their slopes, kept within [low, high]."""
    if low is None or high is None:
        low, high = min(a.t, b.t), max(a.t, b.t)
    d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    square = d1**2 - a.slope * b.slope
    if square < 0:
        return (low + high) / 2.0
    first, last = (a, b) if a.t <= b.t else (b, a)
    d2 = square**0.5
    ratio = (last.slope + d2 - d1) / (last.slope - first.slope + 2 * d2)
    return min(max(last.t - (last.t - first.t) * ratio, low), high)


def _strong_wolfe(
    evaluate: Callable[[float], _Point], start: _Point, t: float, d: Any, change: float, budget: int
) -> tuple[_Point, int]:
    """A step length with sufficient decrease (c₁ = 1e-4) and a small slope (c₂ = 0.9), and the evaluations used.

    First the step grows until it brackets such a point, then the bracket shrinks (Nocedal and Wright, 3.5 and 3.6).
    """
    c1, c2 = 1e-4, 0.9
    extent = np.abs(d).max()
    previous, new, used, rounds = start, evaluate(t), 1, 0
    bracket: list[_Point] = []
    while rounds < budget:
        if new.f > start.f + c1 * new.t * start.slope or (rounds > 1 and new.f >= previous.f):
            bracket = [previous, new]
            break
        if abs(new.slope) <= -c2 * start.slope:
            return new, used
        if new.slope >= 0:
            bracket = [previous, new]
            break
        t = _cubic_minimum(previous, new, new.t + 0.01 * (new.t - previous.t), new.t * 10)
        previous, new = new, evaluate(t)
        used, rounds = used + 1, rounds + 1
    if rounds == budget:
        bracket = [start, new]
    stalled = False
    low, high = (0, 1) if bracket[0].f <= bracket[1].f else (1, 0)
    while rounds < budget:
        if abs(bracket[1].t - bracket[0].t) * extent < change:
            break
        t = _cubic_minimum(bracket[0], bracket[1])
        top, bottom = max(bracket[0].t, bracket[1].t), min(bracket[0].t, bracket[1].t)
        margin = 0.1 * (top - bottom)
        if min(top - t, t - bottom) < margin:
            # Too close to an end: a second time in a row (or beyond it), move away from that end.
            if stalled or t >= top or t <= bottom:
                t = top - margin if abs(t - top) < abs(t - bottom) else bottom + margin
                stalled = False
            else:
                stalled = True
        else:
            stalled = False
        new = evaluate(t)
        used, rounds = used + 1, rounds + 1
        if new.f > start.f + c1 * new.t * start.slope or new.f >= bracket[low].f:
            bracket[high] = new
            low, high = (0, 1) if bracket[0].f <= bracket[1].f else (1, 0)
            continue
        done = abs(new.slope) <= -c2 * start.slope
        if not done and new.slope * (bracket[high].t - bracket[low].t) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = new
        if done:
            break
    return bracket[low], used


class LBFGS(Optimizer):
    """Limited-memory BFGS (Nocedal 1980). ``step`` takes a closure that computes the loss and gradients.

    There is one parameter group. ``line_search_fn`` is None (the step length is lr) or ``"strong_wolfe"``.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        verified(lr=lr)
        super().__init__(
            params,
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            },
        )
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @property
    def _params(self) -> list[Any]:
        return self.param_groups[0]["params"]

    def _gradient(self) -> Any:
        parts = [np.zeros_like(p._array) if p._grad is None else p._grad._array for p in self._params]
        return np.concatenate(parts, axis=None)

    def _move(self, t: float, d: Any) -> None:
        """x ← x + t · d."""
        start = 0
        for p in self._params:
            n = p._array.size
            p._array[...] += t * d[start : start + n].reshape(p._array.shape)
            start += n
        inplace.touch_all([inplace.owner(p._array) for p in self._params])

    def _direction(self, s: dict[str, Any], gradient: Any, history: int) -> Any:
        """−H·g by the two-loop recursion, after taking in the last step."""
        if s["n_iter"] == 1:
            s["old_dirs"], s["old_stps"], s["ro"], s["H_diag"] = [], [], [], 1
            return -gradient
        y, step = gradient - s["prev_flat_grad"]._array, s["d"]._array * s["t"]
        ys = float(y.dot(step))
        if ys > 1e-10:
            for name, new in (("old_dirs", wrap(y)), ("old_stps", wrap(step)), ("ro", 1.0 / ys)):
                if len(s[name]) == history:
                    s[name].pop(0)
                s[name].append(new)
            s["H_diag"] = ys / float(y.dot(y))
        pairs = [(a._array, b._array, r) for a, b, r in zip(s["old_dirs"], s["old_stps"], s["ro"])]
        q, alphas = -gradient, []
        for dy, dx, r in reversed(pairs):
            alphas.append(float(dx.dot(q)) * r)
            q -= alphas[-1] * dy
        q *= s["H_diag"]
        for (dy, dx, r), alpha in zip(pairs, reversed(alphas)):
            q += (alpha - float(dy.dot(q)) * r) * dx
        return q

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Up to ``max_iter`` iterations; returns the loss before them."""
        if closure is None:
            raise TypeError("LBFGS.step() missing 1 required positional argument: 'closure'")
        if state.recorder is not None:
            state.recorder.leak(None, "LBFGS.step")
            raise RuntimeError("LBFGS chooses its steps by the values of the loss, so it cannot be traced")
        grad = state.grad
        try:
            return self._iterate(closure)
        finally:
            state.grad = grad

    def _iterate(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        lr, change, flat = number(group["lr"]), group["tolerance_change"], group["tolerance_grad"]
        max_iter, max_eval, search = group["max_iter"], group["max_eval"], group["line_search_fn"]
        if search not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        s = self.state[self._params[0]]
        s.setdefault("func_evals", 0)
        s.setdefault("n_iter", 0)

        def compute() -> Any:
            state.grad = True
            try:
                return closure()
            finally:
                state.grad = False

        first = compute()
        loss, gradient = float(first), self._gradient()
        evaluations = 1
        s["func_evals"] += 1
        if np.abs(gradient).max() <= flat:
            return first
        for n in range(1, max_iter + 1):
            s["n_iter"] += 1
            d = self._direction(s, gradient, group["history_size"])
            s["d"], s["prev_flat_grad"], previous = wrap(d), wrap(gradient.copy()), loss
            t: float = min(1.0, 1.0 / float(np.abs(gradient).sum())) * lr if s["n_iter"] == 1 else lr
            slope = float(gradient.dot(d))
            s["t"], s["prev_loss"] = t, previous
            if slope > -change:
                break
            used = 0
            if search is not None:
                origin = [p._array.copy() for p in self._params]

                def evaluate(length: float, d: Any = d, origin: Any = origin) -> _Point:
                    self._move(length, d)
                    f = float(compute())
                    g = self._gradient()
                    for p, a in zip(self._params, origin):
                        p._array[...] = a
                    return _Point(length, f, g, float(g.dot(d)))

                begin = _Point(0.0, loss, gradient, slope)
                found, used = _strong_wolfe(evaluate, begin, t, d, change, max_eval - evaluations)
                loss, gradient, t = found.f, found.g, found.t
                self._move(t, d)
            else:
                self._move(t, d)
                if n != max_iter:
                    loss, gradient, used = float(compute()), self._gradient(), 1
            s["t"] = t
            evaluations += used
            s["func_evals"] += used
            if (
                n == max_iter
                or evaluations >= max_eval
                or np.abs(gradient).max() <= flat
                or np.abs(d * t).max() <= change
                or abs(loss - previous) < change
            ):
                break
        return first
