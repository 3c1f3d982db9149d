"""The gradient-flow budget: where, and by which cause, the gradient grows or shrinks on its way back.

Along the path from the loss to the first weight that passes most weights, let δ be the gradient at a step's output.
From one step to the one below it

    log‖δ_below‖ − log‖δ‖ = (log‖sent‖ − log‖δ‖) + (log‖δ_below‖ − log‖sent‖)

where ``sent`` is what this step's own rule hands down and the rest came over other paths (a skip connection). The
first bracket belongs to the step's kind: activation derivative, weight matrix, normalisation, or other ops. Summed over
the steps of a layer these parts add up exactly to the layer's measured change, since the logarithms telescope.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .tape import Step, Tape

__all__ = ["CAUSES", "Budget", "LayerFlow", "budget_of", "weight_of"]

CAUSES = ("activation", "weight", "norm", "skip", "other")


@dataclass
class LayerFlow:
    """One layer's share, from its output down to its input (natural logarithms)."""

    name: str
    type: str
    place: str
    parts: dict[str, float]
    """Cause → log ratio. Their sum is ``change``."""
    above: float
    """log ‖δ‖ at the layer's output (after its activation), relative to the network's output."""
    below: float
    """log ‖δ‖ at its input; at its own output before the weights, for the first layer."""
    signal: float
    """RMS of the layer's output."""
    spread: float
    """The part of that which differs between the rows of the batch (RMS of the deviation from the batch mean)."""
    gain: float = math.nan
    """RMS of the weight's entries × √fan-in: √2 is He's, 1 is Xavier's, 0.58 PyTorch's default."""
    weight: str = ""
    nonlinear: str = ""
    step: Step | None = field(default=None, repr=False)
    group: list[Step] = field(default_factory=list, repr=False)

    @property
    def change(self) -> float:
        """The measured change log ‖δ_in‖ − log ‖δ_out‖."""
        return self.below - self.above


@dataclass
class Budget:
    """All layers on the main path, first layer first."""

    layers: list[LayerFlow]
    total: float
    """log ‖δ at the first layer‖ − log ‖δ at the last‖."""
    per_layer: float
    """Mean change per layer."""
    recurrent: bool

    @property
    def ratio(self) -> float:
        """‖δ‖ at the first layer as a multiple of the last layer's."""
        return math.exp(max(min(self.total, 700), -700)) if self.total > -math.inf else 0.0

    def forecast(self, limit: float = 1e-6) -> float:
        """The depth at which, at this rate, the gradient is down to ``limit`` of the last layer's (or up to
        1/limit)."""
        if len(self.layers) < 3 or not math.isfinite(self.per_layer) or abs(self.per_layer) < 1e-3:
            return math.inf
        return abs(math.log(limit)) / abs(self.per_layer)

    def cause(self) -> str:
        """The cause that takes (or adds) most."""
        sums = {c: sum(layer.parts.get(c, 0.0) for layer in self.layers) for c in CAUSES}
        return min(sums, key=lambda c: sums[c]) if self.total < 0 else max(sums, key=lambda c: sums[c])

    def sums(self) -> dict[str, float]:
        """Each cause's sum over all layers."""
        return {c: sum(layer.parts.get(c, 0.0) for layer in self.layers) for c in CAUSES}

    def to_dict(self) -> dict[str, Any]:
        return {
            "ratio": self.ratio,
            "log_ratio": self.total,
            "per_layer": self.per_layer,
            "forecast_depth": self.forecast(),
            "layers": [
                {
                    "name": x.name,
                    "type": x.type,
                    "place": x.place,
                    "change": x.change,
                    "parts": x.parts,
                    "log_delta_out": x.above,
                    "log_delta_in": x.below,
                    "signal": x.signal,
                    "gain": x.gain,
                }
                for x in self.layers
            ],
        }


def weight_of(step: Step) -> tuple[str, Any]:
    """Name and values of the parameter that a weight step multiplies with; ("", None) for activations times
    activations."""
    for i, parent in enumerate(step.parents):
        at, hops = parent, 0
        while isinstance(at, Step) and at.kind in ("shape",) and at.parents and hops < 6:
            at, hops = next((p for p in at.parents if p is not None), None), hops + 1
        if isinstance(at, str) and at != "leaf" and not at.endswith("bias"):
            value = step.inputs[i] if i < len(step.inputs) else None
            return at, value
    return "", None


def main_path(tape: Tape) -> list[tuple[Step, int]]:
    """Steps from the loss down, each with the index of the input that the path goes on through.

    The path is the one with the most weights on it.
    """
    depth: dict[int, int] = {}
    for step in tape.steps:  # oldest first: parents are done
        below = [depth[id(p)] for p in step.parents if isinstance(p, Step)]
        depth[id(step)] = max(below, default=0) + (step.kind == "weight" and bool(weight_of(step)[0]))
    path: list[tuple[Step, int]] = []
    at: Any = tape.last
    while at is not None:
        best, which = None, -1
        for i, p in enumerate(at.parents):
            if isinstance(p, Step) and (best is None or depth[id(p)] > depth[id(best)]) and depth[id(p)] > 0:
                best, which = p, i
        path.append((at, which))
        at = best
    # End at the first weight: what is below it (embeddings of positions, masks) is no layer.
    while path and not (path[-1][0].kind == "weight" and weight_of(path[-1][0])[0]):
        path.pop()
    return path


def _internal(step: Step, taken: Step, on_path: set[int]) -> bool:
    """Whether a merge below ``taken`` is inside one function (x·σ(x)): no weight lies between it and where it joins."""
    for other in step.consumers:
        if other is taken:
            continue
        stack, seen = [other], set[int]()
        while stack:
            at = stack.pop()
            if id(at) in seen:
                continue
            seen.add(id(at))
            if id(at) in on_path:
                # the join: is there a weight on the main path between it and here?
                node: Any = at
                return not _weight_between(node, step, on_path)
            stack.extend(at.consumers)
    return True


def _weight_between(join: Step, below: Step, on_path: set[int]) -> bool:
    at: Any = join
    guard = 0
    while at is not None and at is not below and guard < 10000:
        guard += 1
        if at.kind == "weight" and at is not join:
            return True
        at = next((p for p in at.parents if isinstance(p, Step) and id(p) in on_path), None)
    return False


def rms(a: Any) -> float:
    """Root mean square of the finite entries."""
    if not isinstance(a, np.ndarray) or a.size == 0 or a.dtype.kind not in "fiu":
        return math.nan
    b = a.astype(np.float64, copy=False)
    return float(np.sqrt(np.mean(b * b)))


def _spread(a: Any) -> float:
    if not isinstance(a, np.ndarray) or a.ndim < 2 or a.dtype.kind != "f" or len(a) < 2:
        return math.nan
    b = a.astype(np.float64, copy=False)
    return rms(b - b.mean(axis=0, keepdims=True))


def budget_of(tape: Tape) -> Budget | None:
    """The budget of a recorded pass; None when no weight lies on any path."""
    path = main_path(tape)
    if not path:
        return None
    on_path = {id(s) for s, _ in path}
    layers: list[LayerFlow] = []
    parts: dict[str, float] = dict.fromkeys(CAUSES, 0.0)
    group: list[Step] = []
    above: float | None = None
    start = _output_index(path, tape)
    for k, (step, which) in enumerate(path):
        if k < start:  # the loss's own ops are no layer's business
            continue
        is_weight = step.kind == "weight" and bool(weight_of(step)[0])
        if above is None:
            above = step.total
        group.append(step)
        last = k + 1 == len(path)
        if not last:
            below = path[k + 1][0]
            sent = step.sent[which] if which < len(step.sent) else None
            if sent is not None:
                cause = _cause(step)
                parts[cause] += _diff(sent, step.total)
                merged = _diff(below.total, sent)
                if abs(merged) > 1e-12 and len(below.consumers) > 1:
                    parts["activation" if _internal(below, step, on_path) and cause == "activation" else "skip"] += (
                        merged
                    )
                else:
                    parts[cause] += merged
        if is_weight:
            name, value = weight_of(step)
            end = step.total if last else path[k + 1][0].total
            top = next((s for s in group if s.out is not None), step)
            layers.append(
                LayerFlow(
                    name=step.layer or name.rpartition(".")[0] or name,
                    type=step.layer_type or step.op,
                    place=str(step.place) if step.place else "",
                    parts=parts,
                    above=above,
                    below=end,
                    signal=rms(top.out),
                    spread=_spread(top.out),
                    gain=_gain(step, value),
                    weight=name,
                    nonlinear=next((s.op for s in reversed(group) if s.kind == "activation"), ""),
                    step=step,
                    group=list(group),
                )
            )
            parts, group, above = dict.fromkeys(CAUSES, 0.0), [], end
    layers.reverse()
    if not layers:
        return None
    zero = layers[-1].above
    for layer in layers:
        layer.above, layer.below = _diff(layer.above, zero), _diff(layer.below, zero)
    total = layers[0].below
    names = [x.weight for x in layers]
    recurrent = len(set(names)) < len(names)
    return Budget(layers, total, total / max(1, len(layers) - 1), recurrent)


def _output_index(path: list[tuple[Step, int]], tape: Tape) -> int:
    """Where on the path the network's output is; the first weight when it cannot be told."""
    out = getattr(tape.output, "_array", None)
    if out is None and hasattr(tape.output, "detach"):
        from .torch_tape import array

        out = array(tape.output)
    if isinstance(out, np.ndarray):
        for k, (step, _) in enumerate(path):
            if step.out is out:
                return k
        for k, (step, _) in enumerate(path):
            if (
                step.out is not None
                and step.out.shape == out.shape
                and step.kind != "loss"
                and np.shares_memory(step.out, out)
            ):
                return k
    return next((k for k, (step, _) in enumerate(path) if step.kind == "weight"), 0)


def _cause(step: Step) -> str:
    if step.kind in ("activation", "weight", "norm"):
        return step.kind
    return "activation" if step.op in ("mul", "div") and step.layer_type in _SOFT else "other"


_SOFT = {"GELU", "SiLU", "Mish", "Hardswish", "ELU", "SELU", "CELU", "LeakyReLU", "Softplus", "PReLU", "Softsign"}


def _diff(a: float, b: float) -> float:
    if a == -math.inf and b == -math.inf:
        return 0.0
    return a - b


def _gain(step: Step, value: Any) -> float:
    if not isinstance(value, np.ndarray) or value.ndim < 2:
        return math.nan
    if step.op == "embedding":
        return math.nan
    fan_in = int(np.prod(value.shape[1:])) if step.op in ("linear", "conv") else value.shape[0]
    return rms(value) * math.sqrt(fan_in)
