"""The order of a diagnosis: data → initial loss → overfit one batch → gradient flow → update ratios → units."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import UsageError
from .budget import Budget, budget_of
from .data_checks import check_batch, check_inputs, check_relation
from .finding import STAGES, Finding, ordered
from .flow_checks import check_flow, check_units
from .loss_checks import check_loss, initial_loss
from .nonfinite_checks import check_nonfinite
from .probes import check_learning_rate, check_overfit
from .report import Diagnosis
from .subject import Subject, to_array
from .tape import Tape
from .weight_checks import check_weights
from .wiring_checks import check_graph, check_modes, check_optimizer

__all__ = ["run"]


class _Checklist:
    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {s: [] for s in STAGES}
        self.findings: list[Finding] = []

    def add(self, stage: str, found: list[Finding], looked: str = "") -> None:
        for f in found:
            f.stage = f.stage or stage
        self.findings += found
        if looked:
            self.lines[stage].append(looked)


def run(
    subject: Subject,
    *,
    cures: bool = True,
    observed: list[Finding] | None = None,
    data: Any = None,
    clip: float | None = None,
    progress: Any = None,
    seconds: float = 18.0,
    tape: Tape | None = None,
) -> Diagnosis:
    """Look at everything, then try cures on copies.

    ``observed``: what watching a training loop found already. ``tape``: a pass that cannot be repeated; then nothing
    is trained on copies.
    """
    start = time.perf_counter()
    tell = progress or (lambda text, part: None)
    todo = _Checklist()
    todo.add("update ratios", observed or [])
    with subject.untouched(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tell("the batch", 0.02)
        arrays = [to_array(x) for x in (*subject.inputs, *subject.kwargs.values())]
        y = to_array(subject.target)
        todo.add("data", check_batch(arrays, y), f"{subject.n} rows" + _describe(arrays))
        tell("one forward and backward pass", 0.08)
        given = tape is not None
        model, optimizer = (subject.model, None) if given else subject.copy()
        budget: Budget | None = None
        if tape is None:
            try:
                tape = subject.record(model)
            except Exception as error:
                todo.add("initial loss", _from_error(error, subject, arrays, y))
        if tape is not None:
            _need_scalar(tape)
            budget = _look(todo, subject, tape, model, optimizer, arrays, y, data, clip, tell, probes=not given)
        kept = ordered(todo.findings)
        if cures and kept and not given:
            from .cures import apply_cures

            apply_cures(subject, kept, tape, budget, until=start + seconds, tell=tell)
    tell("", 1.0)
    return Diagnosis(kept, todo.lines, budget, tape, time.perf_counter() - start, type(subject.model).__name__, cures)


def _describe(arrays: list[Any]) -> str:
    for a in arrays:
        if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.size and np.isfinite(a).all():
            return f" of shape {tuple(a.shape[1:])}, mean {a.mean():.3g}, deviation {a.std():.3g}"
    return ""


def _need_scalar(tape: Tape) -> None:
    loss = to_array(tape.loss)
    if not isinstance(loss, np.ndarray):
        raise UsageError(f"the loss is {type(tape.loss).__name__}, not a tensor: return it without .item() or float()")
    if loss.size != 1:
        raise UsageError(f"the loss has shape {loss.shape}, not one number: use reduction='mean', or .mean()")


def _look(
    todo: _Checklist,
    subject: Subject,
    tape: Tape,
    model: Any,
    optimizer: Any,
    arrays: list[Any],
    y: Any,
    data: Any,
    clip: float | None,
    tell: Any,
    *,
    probes: bool = True,
) -> Budget | None:
    n = subject.n
    names = {id(m): k for k, m in model.named_modules()}
    todo.add("initial loss", check_loss(tape, y, n))
    todo.add("gradient flow", check_graph(subject, tape, model))
    todo.add("update ratios", check_modes(subject, n, probes))
    todo.add("update ratios", check_optimizer(subject, tape, model, optimizer))
    broken = check_nonfinite(tape, model, names)
    todo.add("initial loss", broken)
    budget = budget_of(tape) if tape.last is not None else None
    first = budget.layers[0].step if budget is not None else None
    if first is not None and first.inputs and first.op in ("linear", "conv", "matmul"):
        x = first.inputs[0]
        raw = any(a is x for a in arrays)
        if budget is not None and isinstance(x, np.ndarray) and len(x) == n and not first.parents[0]:
            todo.add("data", check_inputs(x, first.layer, n, raw))
    x, t = data if data is not None else (arrays[0] if arrays else None, y)
    tell("do inputs and labels belong together?", 0.15)
    if len(arrays) == 1:  # of several inputs, none alone need tell the target
        todo.add("data", check_relation(to_array(x), to_array(t)))
    now = initial_loss(tape)
    if now is not None:
        value, expected, c = now
        line = f"cross-entropy {value:.4g}; a guess among {c} classes costs ln {c} = {expected:.4g}"
        high = value > 4 * expected + 1
        todo.add("initial loss", [_initial(value, expected, c)] if high else [], line)
    else:
        loss = float(to_array(tape.loss).reshape(-1)[0])
        todo.add("initial loss", [], f"loss {loss:.4g}")
    if not broken:
        flow = check_flow(budget, tape)
        if (
            flow
            and flow[0].code == "vanishing-gradient"
            and flow[0].numbers["ratio"] > 1e-5
            and probes
            and _learns(subject)
        ):
            flow = []  # small, but nothing that keeps it from learning
        todo.add("gradient flow", flow, _flow_line(budget))
        todo.add("units", [*check_units(tape, budget), *check_weights(tape, model)], _units_line(tape))
        if clip is not None:
            todo.add("update ratios", _clip(tape, clip))
        if not probes:
            return budget
        tell("overfitting one batch", 0.2)
        if not todo.findings:
            todo.add("overfit one batch", *_probe(lambda: check_overfit(subject, tape)))
        else:
            todo.add("overfit one batch", [], "not tried: there are findings")
        tell("learning rate", 0.3)
        blocking = {"graph-cut", "foreign-optimizer"}
        if not any(f.code in blocking for f in todo.findings):
            todo.add("update ratios", *_probe(lambda: check_learning_rate(subject)))
    return budget


def _probe(look: Callable[[], tuple[list[Finding], str]]) -> tuple[list[Finding], str]:
    """A short training. A loss that fails on the way (a probability beyond 1) is a finding or a remark, no crash."""
    from .loop import error_finding

    try:
        return look()
    except Exception as error:
        known = error_finding(error, str(error))
        return ([known] if known is not None else []), f"training fails: {type(error).__name__}"


def _learns(subject: Subject) -> bool:
    """Whether a copy fits the batch quickly although its first layers get a small gradient."""
    from .probes import train, usual

    model, _ = subject.copy()
    model.train()
    try:
        trial = train(subject, model, usual(subject, model), 80, until=time.perf_counter() + 1.5)
    except Exception:
        return False
    return math.isfinite(trial.end) and trial.end < 0.6 * trial.start


def _flow_line(budget: Budget | None) -> str:
    if budget is None:
        return "no path through a weight"
    tens = budget.total / math.log(10) if math.isfinite(budget.total) else -math.inf
    return f"{len(budget.layers)} layers; gradient at the first is 10^{tens:.1f} of the last layer's"


def _units_line(tape: Tape) -> str:
    from .flow_checks import dead_units, saturation

    share = max((saturation(s) for s in tape.steps), default=0.0)
    dead = max((d[0] for d in map(dead_units, tape.steps) if d is not None), default=0.0)
    return f"at most {share:.0%} saturated and {dead:.0%} silent in a layer"


def _initial(value: float, expected: float, c: int) -> Finding:
    return Finding(
        "initial-loss",
        "the loss starts too high",
        f"cross-entropy {value:.4g}, a guess among {c} classes costs ln {c} = {expected:.4g}",
        "the outputs are large before anything is learned: the network is sure, and wrong.",
        "nn.init.normal_(last_layer.weight, std=0.01)   # and standardised inputs",
        confidence=0.65,
        stage="initial loss",
        numbers={"loss": value, "expected": expected},
    )


def _clip(tape: Tape, clip: float) -> list[Finding]:
    from .loop import clipping

    total = math.sqrt(sum(math.exp(2 * min(g, 300)) for g in tape.parameter_grads.values()))
    return clipping([total] * 8, [clip] * 8) if total > 5 * clip else []


def _from_error(error: Exception, subject: Subject, arrays: list[Any], y: Any) -> list[Finding]:
    """Errors of the forward pass that have a name; others are the caller's mistake.

    Raises:
        UsageError: in one sentence, for a batch that does not fit.
    """
    from .data_checks import check_labels
    from .loop import error_finding

    text = str(error)
    known = error_finding(error, text)
    if known is not None:
        return [known]
    low = text.lower()
    classes = None
    if "target" in low or "class" in low or "label" in low or isinstance(error, IndexError):
        try:
            model, _ = subject.copy()
            out = to_array(model(*subject.inputs, **subject.kwargs))
            if isinstance(out, np.ndarray) and out.ndim > 1:
                classes = out.shape[1]
        except Exception:
            classes = None
        found = check_labels(y, classes, subject.n)
        found = [f for f in found if f.code == "label-range"]
        if found:
            return found
    raise UsageError(
        f"the network or the loss fails on this batch: {type(error).__name__}: {text.splitlines()[0] if text else ''}"
    ) from error
