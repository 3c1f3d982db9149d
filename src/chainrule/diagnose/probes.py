"""Short trainings of copies: can the network fit one batch, and is the learning rate of the right size?"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .finding import Finding
from .loss_checks import initial_loss
from .subject import Subject, to_array
from .tape import Tape

__all__ = ["Trial", "check_learning_rate", "check_overfit", "train"]


@dataclass
class Trial:
    """What a short training gave."""

    losses: list[float] = field(default_factory=list)
    updates: dict[str, float] = field(default_factory=dict)
    """‖update‖ / ‖weights‖ of the first step, by parameter."""
    first: float = math.nan
    """‖dL/dW‖ of the first weight matrix at the start, relative to that of the last."""
    norms: list[float] = field(default_factory=list)

    @property
    def start(self) -> float:
        return self.losses[0] if self.losses else math.nan

    @property
    def end(self) -> float:
        """The loss at the end; infinite when it stopped being a number."""
        if not self.losses or not math.isfinite(self.losses[-1]):
            return math.inf
        tail = self.losses[-3:] if len(self.losses) > 6 else self.losses[-1:]
        return float(np.median(tail))


def train(
    subject: Subject,
    model: Any,
    optimizer: Any,
    steps: int,
    *,
    inputs: Any = None,
    target: Any = None,
    loss_fn: Any = None,
    clip: float | None = None,
    zero: bool = True,
    until: float | None = None,
    each: Callable[[int], None] | None = None,
) -> Trial:
    """Train a copy on the one batch. The caller restores random state and throws the copy away."""
    trial = Trial()
    tb = subject.tb
    tb.manual_seed(1234)
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [(n, p) for n, p in model.named_parameters() if p.requires_grad and len(p.shape) >= 2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(steps):
            if zero or k == 0:
                for p in parameters:
                    p.grad = None
            _, loss = subject.forward(model, inputs, target, loss_fn)
            value = float(to_array(loss))
            trial.losses.append(value)
            if not math.isfinite(value) or abs(value) > 1e30:
                break
            loss.backward()
            if k == 0 and matrices:
                norms = [float(np.linalg.norm(to_array(p.grad))) if p.grad is not None else 0.0 for _, p in matrices]
                trial.first = norms[0] / norms[-1] if norms[-1] > 0 else math.nan
            total = math.sqrt(
                sum(
                    float(np.sum(np.square(to_array(p.grad), dtype=np.float64)))
                    for p in parameters
                    if p.grad is not None
                )
            )
            trial.norms.append(total)
            if clip is not None and total > clip:
                with tb.no_grad():
                    for p in parameters:
                        if p.grad is not None:
                            p.grad.mul_(clip / total)
            before = {n: np.array(to_array(p)) for n, p in matrices} if k == 0 else {}
            optimizer.step()
            for n, p in matrices if before else ():
                size = float(np.linalg.norm(before[n]))
                if size > 0:
                    trial.updates[n] = float(np.linalg.norm(to_array(p) - before[n])) / size
            if each is not None:
                each(k)
            if until is not None and time.perf_counter() > until:
                break
        if not trial.losses or math.isfinite(trial.losses[-1]):
            with tb.no_grad():
                trial.losses.append(float(to_array(subject.forward(model, inputs, target, loss_fn)[1])))
    return trial


def usual(subject: Subject, model: Any, lr: float = 3e-3) -> Any:
    """The optimizer that copies are trained with when none was given."""
    return subject.tb.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)


def check_overfit(subject: Subject, tape: Tape, seconds: float = 1.5, steps: int = 40) -> tuple[list[Finding], str]:
    """Whether a copy, trained on this batch alone, gets its loss down; and a line for the checklist."""
    model, _ = subject.copy()
    model.train()
    trial = train(subject, model, usual(subject, model), steps, until=time.perf_counter() + seconds)
    start, end = trial.start, trial.end
    if len(trial.losses) < 10 or not math.isfinite(start):
        return [], "too slow to try here"
    line = f"loss {start:.4g} → {end:.4g} in {len(trial.losses) - 1} steps of Adam"
    now = initial_loss(tape)
    fitted = now is not None and now[0] < 0.4 * now[1]
    if end < start - 0.02 * abs(start) or fitted or abs(start) < 1e-3:
        return [], line
    return [
        Finding(
            "cannot-overfit",
            "it cannot even fit one batch",
            line,
            "a sound network of this size learns one batch by heart within tens of steps.",
            "look at the findings on data, loss and wiring first; else a wider network",
            confidence=0.6,
            stage="overfit one batch",
            numbers={"start": start, "end": end},
        )
    ], line


def _with_lr(subject: Subject, factor: float, steps: int, until: float) -> Trial:
    model, optimizer = subject.copy()
    model.train()
    for g in optimizer.param_groups:
        g["lr"] = g["lr"] * factor
        if "initial_lr" in g:
            g["initial_lr"] = g["initial_lr"] * factor
    return train(subject, model, optimizer, steps, until=until)


def check_learning_rate(subject: Subject, seconds: float = 3.0, steps: int = 20) -> tuple[list[Finding], str]:
    """Steps with the given optimizer, and with learning rates around its own; update-to-weight ratios."""
    if subject.optimizer is None:
        return [], "no optimizer given: diagnose(…, optimizer=optimizer) looks at it"
    until = time.perf_counter() + seconds
    lr = float(subject.optimizer.param_groups[0]["lr"])
    own = _with_lr(subject, 1.0, steps, until)
    ratio = float(np.median(list(own.updates.values()))) if own.updates else math.nan
    line = f"update/weight {ratio:.2g} per step; loss {own.start:.4g} → {own.end:.4g} in {steps} steps at lr {lr:g}"
    if lr <= 0 or not math.isfinite(own.start):
        if lr == 0 and math.isfinite(own.start):
            return [_small(lr, ratio, own, own, 0.0, line)], line
        return [], line
    rise = (
        own.end > own.start + 0.05 * abs(own.start)
        or not math.isfinite(own.end)
        or max(own.losses) > 4 * abs(own.start) + 1e-6
    )
    if rise or (ratio > 0.3 and own.end > 0.7 * own.start):
        tried = {f: _with_lr(subject, f, steps, until) for f in (0.1, 0.01, 0.001)}
        best = min(tried, key=lambda f: tried[f].end)
        calmer = (
            rise
            and max(own.losses) > 2 * abs(own.start)
            and float(np.mean(tried[best].losses)) < 0.7 * float(np.mean(own.losses))
        )
        if tried[best].end < min(own.end, own.start) - 0.03 * abs(own.start) or calmer:
            return [
                Finding(
                    "lr-too-large",
                    "learning rate too large",
                    f"{line}; at lr {lr * best:g}: {tried[best].start:.4g} → {tried[best].end:.4g}",
                    "each step jumps past the valley's floor and lands higher on the other side.",
                    f"lr={lr * best:.1g}",
                    confidence=0.95 if rise else 0.8,
                    stage="update ratios",
                    numbers={"lr": lr, "better": lr * best, "ratio": ratio},
                )
            ], line
        return [], line
    gain = own.start - own.end
    if gain < 0.03 * abs(own.start) and (ratio < 2e-4 or math.isnan(ratio)):
        tried = {f: _with_lr(subject, f, steps, until) for f in (10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7) if lr * f <= 10}
        best = min(tried, key=lambda f: tried[f].end)
        better = own.start - tried[best].end
        if best >= 100 and better > 10 * max(gain, 0) and better > 0.05 * abs(own.start):
            return [_small(lr, ratio, own, tried[best], best, line)], line
    return [], line


def _small(lr: float, ratio: float, own: Trial, other: Trial, factor: float, line: str) -> Finding:
    more = f"; at lr {lr * factor:g}: {other.start:.4g} → {other.end:.4g}" if factor else ""
    return Finding(
        "lr-too-small",
        "learning rate too small",
        line + more,
        f"a step changes the weights by {ratio:.1g} of their size; about 1e-3 is usual.",
        f"lr={lr * factor:.1g}" if factor else "lr=1e-3",
        confidence=0.9,
        stage="update ratios",
        numbers={"lr": lr, "better": lr * factor, "ratio": ratio},
    )
