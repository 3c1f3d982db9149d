"""Verdicts on the gradient's way and on the units: vanishing, exploding, saturated, dead, identical, badly scaled.

All are ratios of things measured on the same batch, so neither the loss's scale nor the batch size enters.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .budget import Budget, LayerFlow, weight_of
from .finding import Finding
from .tape import Step, Tape

__all__ = ["check_flow", "check_units", "dead_units", "feeds_loss", "place_name", "really_stuck", "saturation"]

VANISHED, EXPLODED = math.log(1e-3), math.log(1e3)
"""Between the last layer and the first. PyTorch's default ReLU initialisation loses a factor 0.4 per layer, so 8 such
layers still pass; 10 do not, and do not train well either."""
RECURRENT_VANISHED, RECURRENT_EXPLODED = math.log(1e-10), math.log(1e4)
"""Through time, where the same weights also learn from the last steps: an LSTM at its default forgets by half a
step."""

_SATURATES = {"sigmoid": 0.0125, "tanh": 0.05, "hardtanh": 0.05, "softsign": 0.01, "hardsigmoid": 0.01}
"""Where the derivative has fallen below 5 % of its largest value."""


def power(log_ratio: float) -> str:
    """e^log_ratio in words of powers of ten."""
    if log_ratio == -math.inf:
        return "0"
    if abs(log_ratio) < 6.9:
        return f"{math.exp(log_ratio):.3g}"
    tens = log_ratio / math.log(10)
    return f"{10 ** (tens - math.floor(tens)):.0f}e{math.floor(tens):+03d}".replace("e+0", "e+").replace("10e", "1e1·")


def saturation(step: Step) -> float:
    """The part of a squashing activation's outputs where its derivative is below 5 % of its largest value."""
    y = step.out
    if step.op not in _SATURATES or not isinstance(y, np.ndarray) or not y.size:
        return 0.0
    if step.op == "tanh" or step.op == "hardtanh":
        slope = 1 - y.astype(np.float64) ** 2
    elif step.op == "sigmoid":
        slope = y.astype(np.float64) * (1 - y)
    else:
        slope = (1 - np.abs(y.astype(np.float64))) ** 2 if step.op == "softsign" else ((y > 0) & (y < 1)).astype(float)
    return float((slope < _SATURATES[step.op]).mean())


def dead_units(step: Step) -> tuple[float, float, float] | None:
    """(dead, always on, surely dead) parts of a ReLU's units, over all rows (and positions)."""
    y = step.out
    if (
        step.op not in ("relu", "relu6", "threshold", "clamp")
        or not isinstance(y, np.ndarray)
        or y.ndim < 2
        or len(y) < 4
    ):
        return None
    if step.op == "clamp" and y.min() < 0:
        return None
    axes = (
        (0,)
        if y.ndim == 2
        else (0, *range(2, y.ndim))
        if step.layer_type in _CONVOLUTIONAL or y.ndim == 4
        else tuple(range(y.ndim - 1))
    )
    on = y > 0
    dead = ~on.any(axis=axes)
    always = on.all(axis=axes)
    x = step.inputs[0] if step.inputs else None
    sure = dead
    if isinstance(x, np.ndarray) and x.shape == y.shape:
        z = x.astype(np.float64)
        sure = dead & (z.mean(axis=axes) + 2.5 * z.std(axis=axes) < 0)
    return float(dead.mean()), float(always.mean()), float(sure.mean())


_CONVOLUTIONAL = {"Conv1d", "Conv2d", "Conv3d", "BatchNorm2d", "BatchNorm1d"}


def place_name(step: Any) -> str:
    return str(step.place) if step is not None and step.place is not None else ""


def check_flow(budget: Budget | None, tape: Tape) -> list[Finding]:
    """Vanishing and exploding, with the cause that the budget names."""
    if budget is None or len(budget.layers) < 2:
        return []
    low, high = (RECURRENT_VANISHED, RECURRENT_EXPLODED) if budget.recurrent else (VANISHED, EXPLODED)
    if budget.recurrent and {"sigmoid", "tanh"} <= {s.op for s in tape.steps}:
        low *= 2.5  # gates: what is forgotten is learned, half a step is only the start
    total = budget.total
    cut = _overwritten(budget)
    if cut is not None:
        return [cut]
    forward = _forward_growth(budget)
    if total == -math.inf and _zero_for_now(budget, tape):
        return []
    if total < low:
        return [_vanishing(budget, tape, total)]
    if total > high:
        return [_exploding(budget, total, forward)]
    return []


_ZERO_BY_NATURE = {
    "relu",
    "relu6",
    "threshold",
    "clamp",
    "hardtanh",
    "leaky_relu",
    "softmax",
    "sigmoid",
    "tanh",
    "max_pool",
    "exp",
}


def _overwritten(budget: Budget) -> Finding | None:
    """A gradient that becomes exactly 0 in an op that has no reason of its own: overwritten in place, or times 0."""
    for layer in reversed(budget.layers):
        for step in layer.group:
            sent = [s for s in step.sent if s is not None]
            if (
                step.total > -math.inf
                and sent
                and max(sent) == -math.inf
                and step.kind not in ("weight", "norm", "loss")
                and step.op not in _ZERO_BY_NATURE
            ):
                return Finding(
                    "graph-cut",
                    "the gradient ends where a value is overwritten or multiplied by 0",
                    f"{step.op} gets a gradient and hands down exactly 0"
                    + (f": {step.place.source}" if step.place is not None and step.place.source else ""),
                    "what comes after no longer depends on what the layers below computed, so they get gradient 0.",
                    "make a new tensor from the old one instead of overwriting it: h = f(h), not h[...] = value",
                    layer=step.layer,
                    place=place_name(step),
                    confidence=0.9,
                    numbers={"op": step.op},
                )
    return None


def _zero_for_now(budget: Budget, tape: Tape) -> bool:
    """Whether the gradient stops at zero weights that are about to change: a head that starts at zero."""
    last = next((x for x in reversed(budget.layers) if x.change == -math.inf), None)
    return last is not None and last.gain == 0.0 and not really_stuck(tape, last.weight)


def _forward_growth(budget: Budget) -> float:
    a, b = budget.layers[0].signal, budget.layers[-1].signal
    return math.log(b / a) if a > 0 and b > 0 else 0.0


def _worst(budget: Budget, low: bool) -> LayerFlow:
    inner = budget.layers[:-1] or budget.layers
    return min(inner, key=lambda x: x.change) if low else max(inner, key=lambda x: x.change)


def _shares(budget: Budget) -> str:
    names = {
        "activation": "activation derivatives",
        "weight": "weights",
        "norm": "normalisation",
        "skip": "skip and side paths",
        "other": "other ops",
    }
    return ", ".join(f"{names[c]} ×{power(v)}" for c, v in budget.sums().items() if abs(v) > 0.1)


def _forecast(budget: Budget) -> str:
    d = budget.forecast()
    return (
        f"; at this rate it is {'down to 1e-6' if budget.total < 0 else 'up to 1e6'} after {d:.0f} layers"
        if math.isfinite(d) and d < 1000
        else ""
    )


def _common(budget: Budget) -> str:
    kinds = [x.nonlinear for x in budget.layers[:-1] if x.nonlinear]
    return max(set(kinds), key=kinds.count) if kinds else ""


def _median_gain(budget: Budget) -> float:
    gains = [x.gain for x in budget.layers if not math.isnan(x.gain)]
    return float(np.median(gains)) if gains else math.nan


def _vanishing(budget: Budget, tape: Tape, total: float) -> Finding:
    worst, act, gain = _worst(budget, True), _common(budget), _median_gain(budget)
    dead = [layer for layer in budget.layers if layer.change == -math.inf]
    share = max((saturation(s) for s in tape.steps), default=0.0)
    sums = budget.sums()
    cause = budget.cause()
    if (
        act in ("relu", "leaky_relu", "gelu", "silu", "elu")
        and not (gain < 0.3)
        and sums["activation"] < sums["weight"]
    ):
        cause = "activation+weight"
    evidence = (
        f"gradient at {budget.layers[0].name or 'the first layer'} is {power(total)} of the last layer's, over "
        f"{len(budget.layers)} layers; "
        f"{_shares(budget)}{_forecast(budget)}"
    )
    if dead:
        why = f"the derivative in layer {dead[-1].name} is exactly 0 for every row of the batch, so nothing passes it."
        fix = "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu'); nn.init.zeros_(layer.bias)"
        cause = "dead"
    elif act == "sigmoid":
        sat = f", and {share:.0%} of its units are saturated" if share > 0.2 else ""
        why = f"σ′ is at most 1/4{sat}: every layer multiplies the gradient by {power(budget.per_layer)}."
        fix = "nn.ReLU() instead of nn.Sigmoid(), with nn.init.kaiming_normal_ weights"
    elif share > 0.5:
        why = f"{share:.0%} of the units of the worst layer are saturated, where the derivative is nearly 0."
        fix = "nn.init.xavier_normal_(layer.weight)   # smaller weights keep the activation in its middle"
        cause = "saturation"
    elif gain < 0.5 or (cause == "weight" and gain < 1):
        why = (
            f"the weights are small (entries × √fan-in = {gain:.2g}; He: 1.41, Xavier: 1): every layer multiplies "
            f"the gradient by {power(budget.per_layer)}."
        )
        fix = (
            "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')"
            if act != "tanh"
            else "nn.init.xavier_normal_(layer.weight, gain=5/3)"
        )
    elif budget.recurrent:
        why = (
            f"{len(budget.layers)} steps through the same weights multiply the gradient by "
            f"{power(budget.per_layer)} each."
        )
        fix = (
            "nn.LSTM or nn.GRU   # their cell state is a skip connection through time; or an orthogonal "
            "recurrent matrix"
        )
    else:
        why = (
            f"ReLU passes half of the gradient's energy, and weights of size {gain:.2g}/√fan-in (He: 1.41) do not "
            f"make up for it: ×{power(budget.per_layer)} per layer."
        )
        fix = (
            "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')   # or residual connections, or a norm "
            "per layer"
        )
    return Finding(
        "vanishing-gradient",
        "vanishing gradient",
        evidence,
        why,
        fix,
        layer=worst.name,
        place=worst.place,
        confidence=0.97 if total < math.log(1e-5) else 0.85,
        numbers={
            "ratio": math.exp(max(total, -700)),
            "log10": total / math.log(10),
            "cause": cause,
            "saturated": share,
            "gain": gain,
            "activation": act,
            "depth": len(budget.layers),
            "forecast": budget.forecast(),
        },
    )


def _exploding(budget: Budget, total: float, forward: float) -> Finding:
    worst, gain = _worst(budget, False), _median_gain(budget)
    cause = budget.cause()
    if cause == "skip":
        why = (
            "each residual block adds its branch's gradient to the skip's: without a norm or a scaled branch the "
            "sum doubles again and again."
        )
        fix = "return x + self.branch(self.norm(x)) / depth ** 0.5   # a norm in the branch, or a scaled branch"
    elif budget.recurrent:
        why = (
            f"{len(budget.layers)} steps through the same weights multiply the gradient by "
            f"{power(budget.per_layer)} each."
        )
        fix = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)   # and nn.init.orthogonal_(recurrent weight)"
    else:
        why = (
            f"the weights are large (entries × √fan-in = {gain:.2g}; He: 1.41, Xavier: 1): every layer multiplies "
            f"the gradient by {power(budget.per_layer)}."
        )
        fix = "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')   # std = √(2 / fan_in)"
    evidence = (
        f"gradient at {budget.layers[0].name or 'the first layer'} is {power(total)} times the last layer's, over "
        f"{len(budget.layers)} layers; "
        f"{_shares(budget)}{_forecast(budget)}"
    )
    return Finding(
        "exploding-gradient",
        "exploding gradient",
        evidence,
        why,
        fix,
        layer=worst.name,
        place=worst.place,
        confidence=0.93,
        numbers={
            "ratio": math.exp(min(total, 700)),
            "cause": cause,
            "gain": gain,
            "depth": len(budget.layers),
            "forward": forward,
            "forecast": budget.forecast(),
        },
    )


def feeds_loss(step: Step) -> bool:
    """Whether only the loss comes after this step."""
    return not any(_weight_above(c, 0) for c in step.consumers)


def _weight_above(step: Step, hops: int) -> bool:
    if step.kind == "weight" and weight_of(step)[0]:
        return True
    return hops < 40 and any(_weight_above(c, hops + 1) for c in step.consumers)


def check_units(tape: Tape, budget: Budget | None) -> list[Finding]:
    """Saturated and dead units, layer by layer."""
    found: list[Finding] = []
    full = [
        (saturation(s), s)
        for s in tape.steps
        if s.op in _SATURATES and isinstance(s.out, np.ndarray) and s.out.size >= 8 and not feeds_loss(s)
    ]
    if full:
        share, step = max(full, key=lambda p: p[0])
        every = [s for s, _ in full]
        if share > 0.5 and not (budget is not None and budget.recurrent and float(np.mean(every)) < 0.5):
            source = step.parents[0] if step.parents and isinstance(step.parents[0], Step) else None
            gain, size = _gain_below(step)
            big = isinstance(size, float) and size > 3
            found.append(
                Finding(
                    "saturation",
                    f"saturated {step.op} units",
                    f"{share:.0%} of the outputs of {step.layer or step.op} have a derivative below 5 % of its "
                    f"largest value; pre-activations have RMS {size:.3g}",
                    (f"weights of size {gain:.2g}/√fan-in " if gain > 2 else "the inputs or biases ")
                    + f"push the pre-activations out to where {step.op} is flat, and a flat function passes no "
                    "gradient."
                    if big
                    else f"{step.op} is flat where its input lies, and a flat function passes no gradient.",
                    "nn.init.xavier_normal_(layer.weight); nn.init.zeros_(layer.bias)   # or a norm before the "
                    "activation",
                    layer=(source.layer if source is not None and source.layer else step.layer),
                    place=place_name(step),
                    confidence=0.95 if share > 0.7 else 0.8,
                    stage="units",
                    numbers={"saturated": share, "layers": len(full), "mean": float(np.mean(every)), "gain": gain},
                )
            )
    worst: tuple[float, float, Step] | None = None
    for step in tape.steps:
        units = dead_units(step)
        if units is None or (feeds_loss(step) and step.consumers and len(tape.weights) > 1 and _is_last(step)):
            continue
        dead, always, sure = units
        if (
            sure >= 0.4
            and sure - always >= 0.3
            and (sure >= 0.9 or _shifted(step))
            and (worst is None or sure > worst[0])
        ):
            worst = (sure, dead, step)
    for step in tape.steps:
        if step.op == "relu" and worst is None and not isinstance(step.out, np.ndarray) and step.zero_rows == 1.0:
            worst = (1.0, 1.0, step)
    if worst is not None:
        sure, dead, step = worst
        below = step.parents[0] if step.parents and isinstance(step.parents[0], Step) else None
        x = step.inputs[0] if step.inputs else None
        mean = float(np.mean(x)) if isinstance(x, np.ndarray) else math.nan
        found.append(
            Finding(
                "dead-relu",
                "dead ReLU units",
                f"{dead:.0%} of the units of {step.layer or 'this ReLU'} are 0 for every row of the batch (mean "
                f"pre-activation {mean:.3g})",
                "their pre-activations are negative for every row, relu′ is 0 there, so no gradient will ever "
                "bring them back.",
                "nn.init.kaiming_normal_(layer.weight); nn.init.zeros_(layer.bias)   # or nn.LeakyReLU(); and a "
                "smaller learning rate",
                layer=(below.layer if below is not None and below.layer else step.layer),
                place=place_name(step),
                confidence=0.95 if sure > 0.7 else 0.8,
                stage="units",
                numbers={"dead": dead, "sure": sure},
            )
        )
    return found


def _shifted(step: Step) -> bool:
    """Whether pre-activations are negative as a whole. In a deep layer all rows look alike, so about half of the units
    are silent and half always on by chance, symmetrically around 0: that is no illness."""
    x = step.inputs[0] if step.inputs else None
    if not isinstance(x, np.ndarray) or x.ndim < 2:
        return True
    axes = (0,) if x.ndim == 2 else (0, *range(2, x.ndim)) if x.ndim == 4 else tuple(range(x.ndim - 1))
    means = x.astype(np.float64).mean(axis=axes)
    return float(means.mean()) < -0.6 * float(means.std())


def _is_last(step: Step) -> bool:
    return not any(c.kind in ("weight",) for c in step.consumers) and feeds_loss(step)


def _gain_below(step: Step) -> tuple[float, float]:
    """Gain of the weight whose output this activation gets, and RMS of the pre-activations."""
    from .budget import _gain, rms

    size = rms(step.inputs[0]) if step.inputs and isinstance(step.inputs[0], np.ndarray) else math.nan
    at: Any = step
    for _ in range(6):
        at = next((p for p in at.parents if isinstance(p, Step)), None)
        if at is None:
            break
        if at.kind == "weight":
            return _gain(at, weight_of(at)[1]), size
    return math.nan, size


def really_stuck(tape: Tape, name: str) -> bool:
    """A zero matrix that itself gets a gradient leaves zero at the first step: a zero head, a zero residual branch."""
    return tape.parameter_grads.get(name, -math.inf) == -math.inf
