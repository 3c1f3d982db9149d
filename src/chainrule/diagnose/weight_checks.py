"""Verdicts on the initial weights: zero, identical, of a wrong scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .budget import weight_of
from .finding import Finding
from .flow_checks import feeds_loss, place_name, really_stuck
from .subject import to_array
from .tape import Step, Tape

__all__ = ["check_weights"]


def _normed(step: Step) -> bool:
    """Whether a normalisation comes right after these weights, so that their scale does not matter."""
    at = step
    for _ in range(5):
        if not at.consumers:
            return False
        at = at.consumers[0]
        if at.kind == "norm":
            return True
        if at.kind in ("weight", "activation"):
            return False
    return False


def check_weights(tape: Tape, model: Any) -> list[Finding]:
    """Zero, identical or badly scaled initial weights."""
    found: list[Finding] = []
    values = {n: to_array(p) for n, p in model.named_parameters()}
    steps = [
        (s, weight_of(s)[0])
        for s in tape.steps
        if s.kind == "weight" and weight_of(s)[0] in values and s.op != "embedding"
    ]
    final = {name for s, name in steps if feeds_loss(s)}
    zero, same = [], []
    small: list[tuple[float, Step, str]] = []
    large: list[tuple[float, Step, str]] = []
    for step, name in steps:
        w = values[name]
        if w.ndim < 2 or len(w) < 2 or w[0].size < 2:
            continue
        rows = w.reshape(len(w), -1)
        if not w.any():
            zero.append((step, name))
        elif (
            name not in final
            and len(np.unique(rows, axis=0)) <= max(1, len(rows) // 2)
            and not _rows_differ_elsewhere(values, name, len(w))
        ):
            same.append((step, name))
        gain = _gain_of(w)
        if name in final or _normed(step) or not np.isfinite(gain):
            if gain > 6 and not _normed(step):
                large.append((gain, step, name))
            continue
        if gain > 3.2:
            large.append((gain, step, name))
        elif 0 < gain < 0.12:
            small.append((gain, step, name))
    stuck = [(s, n) for s, n in zero if really_stuck(tape, n)]
    if stuck:
        step, name = stuck[0]
        found.append(
            Finding(
                "zero-init",
                "weights that start at zero",
                f"{len(zero)} weight matri{'x' if len(zero) == 1 else 'ces'} all zero, the first is {name}",
                "with W = 0 the layer below gets the gradient Wᵀδ = 0, and all units of this layer stay equal.",
                f"nn.init.kaiming_normal_({name.rpartition('.')[0] or 'layer'}.weight)   # only biases may start "
                "at zero",
                layer=step.layer,
                place=place_name(step),
                confidence=0.97,
                stage="units",
                numbers={"weights": [n for _, n in zero]},
            )
        )
    if same:
        step, name = same[0]
        found.append(
            Finding(
                "symmetric-init",
                "units that start identical",
                f"{name} has {len(np.unique(values[name].reshape(len(values[name]), -1), axis=0))} different rows "
                f"among {len(values[name])} (e.g. all {values[name].flat[0]:.3g})"
                + (f"; {len(same)} layers like this" if len(same) > 1 else ""),
                "units with equal weights get equal gradients, and stay equal for ever: the layer is as good as "
                "one unit.",
                f"nn.init.kaiming_normal_({name.rpartition('.')[0] or 'layer'}.weight)   # random values break "
                "the symmetry",
                layer=step.layer,
                place=place_name(step),
                confidence=0.98,
                stage="units",
                numbers={"weights": [n for _, n in same]},
            )
        )
    if large and not same:
        gain, step, name = max(large, key=lambda p: p[0])
        found.append(_scale("large", gain, step, name, len(large)))
    elif small and not same:
        gain, step, name = min(small, key=lambda p: p[0])
        found.append(_scale("small", gain, step, name, len(small)))
    return found


def _scale(word: str, gain: float, step: Step, name: str, count: int) -> Finding:
    why = (
        "activations and gradients are multiplied by more than 1 at every layer, so outputs start out huge and "
        "sure of themselves."
        if word == "large"
        else "activations and gradients shrink at every layer, so the output hardly depends on the input."
    )
    return Finding(
        "init-scale",
        f"initial weights too {word}",
        f"{name}: entries × √fan-in = {gain:.3g} (He: 1.41, Xavier: 1, PyTorch's default: 0.58)"
        + (f"; {count} layers like this" if count > 1 else ""),
        why,
        f"nn.init.kaiming_normal_({name.rpartition('.')[0] or 'layer'}.weight, nonlinearity='relu')",
        layer=step.layer,
        place=place_name(step),
        confidence=0.85,
        stage="units",
        numbers={"gain": gain, "word": word, "layers": count},
    )


def _gain_of(w: Any) -> float:
    fan_in = int(np.prod(w.shape[1:]))
    return float(np.sqrt(np.mean(w.astype(np.float64) ** 2)) * math.sqrt(fan_in))


def _rows_differ_elsewhere(values: dict[str, Any], name: str, rows: int) -> bool:
    """Whether something else (a bias with different entries) tells the units apart."""
    bias = values.get(name.rpartition("weight")[0] + "bias") if name.endswith("weight") else None
    return (
        bias is not None
        and bias.ndim == 1
        and len(bias) == rows
        and not (bias == bias[0]).all()
        and float(np.std(bias)) > float(np.linalg.norm(values[name].reshape(rows, -1)[0]))
    )
