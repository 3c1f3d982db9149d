"""``chainrule.watch``: the same measurements while training, a few percent of the time.

    watch = chainrule.watch(model, optimizer)
    for x, y in loader:
        optimizer.zero_grad(); loss = loss_fn(model(x), y); loss.backward()
        watch.step(loss)                    # after backward, before optimizer.step()
        optimizer.step()
    print(watch)

It measures how long its own samples take and how long steps take, and samples only as often as the budget allows.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from .finding import Finding, ordered
from .subject import to_array

__all__ = ["Hopeless", "Watch", "watch"]


MOST_SAMPLES = 4000
EARLY = 5


class Hopeless(UsageError):
    """A watched run that cannot come to anything was stopped."""


class Watch:
    """Samples of a running training.

    Args:
        model, optimizer: what is trained (the optimizer is optional: with it, update-to-weight ratios are measured).
        budget: the part of the step time that watching may take.
        stop: raise ``Hopeless`` when the run cannot come to anything.
        path: a file to append samples to, one JSON object a line.
    """

    def __init__(
        self, model: Any, optimizer: Any = None, *, budget: float = 0.02, stop: bool = False, path: Any = None
    ) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        if not named:
            raise UsageError(f"{type(model).__name__} has no parameters to watch")
        self.model, self.optimizer, self.budget, self.stop = model, optimizer, budget, stop
        self.path = Path(path) if path is not None else None
        self.names = [n for n, p in named if len(p.shape) >= 2] or [n for n, _ in named]
        wanted = set(self.names)
        self.parameters = [p for n, p in named if n in wanted]
        self.samples: list[dict[str, Any]] = []
        self.seen: list[float] = []
        """Losses of sampled steps."""
        self.count = 0
        self.spent = 0.0
        self.begun = time.perf_counter()
        self.next = 0
        self._old: tuple[int, list[Any]] | None = None

    # --- measuring --------------------------------------------------------------------------------------------------

    def step(self, loss: Any = None) -> dict[str, Any] | None:
        """Call once a step, after backward and before ``optimizer.step()``; returns the sample when one was taken.

        Raises:
            Hopeless: with ``stop=True``, when the loss is not finite, or nothing moves.
        """
        self.count += 1
        if self.count <= self.next:
            return None
        start = time.perf_counter()
        sample = self._sample(loss)
        self.samples.append(sample)
        if len(self.samples) > MOST_SAMPLES:  # a long run keeps every other sample: memory stays bounded
            del self.samples[1:-8:2]
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(sample) + "\n")
        now = time.perf_counter()
        self.spent += now - start
        self._plan(now, now - start)
        if self.stop:
            self._stop(sample)
        return sample

    def _plan(self, now: float, cost: float) -> None:
        """The next step to sample: when the time spent has fallen below the budget's part of all time."""
        if len(self.samples) < EARLY:  # a run that goes wrong mostly does so at once
            self.next = self.count
            return
        each = (now - self.begun - self.spent) / max(1, self.count)
        due = (self.spent + cost) / self.budget - (now - self.begun)
        self.next = self.count + max(1, math.ceil(due / each)) if each > 0 and self.count > 1 else self.count + 4

    def _sample(self, loss: Any) -> dict[str, Any]:
        value = float(to_array(loss)) if loss is not None else math.nan
        weights = [to_array(p) for p in self.parameters]
        grads = [None if p.grad is None else to_array(p.grad) for p in self.parameters]
        g = [0.0 if a is None else _size(a) for a in grads]
        w = [_size(a) for a in weights]
        sample: dict[str, Any] = {"step": self.count, "loss": value, "grad": g, "weight": w}
        if self.optimizer is not None:
            sample["lr"] = float(self.optimizer.param_groups[0]["lr"])
            if self._old is not None:
                steps = self.count - self._old[0]
                sample["update"] = [_change(a, b) / steps for a, b in zip(weights, self._old[1], strict=True)]
            self._old = (self.count, [_part(a) for a in weights])
        self.seen.append(value)
        return sample

    def _stop(self, sample: dict[str, Any]) -> None:
        if (not math.isfinite(sample["loss"]) and not math.isnan(sample["loss"])) or (
            math.isnan(sample["loss"]) and self.seen and any(map(math.isfinite, self.seen))
        ):
            raise Hopeless(f"the loss is {sample['loss']} at step {sample['step']}")
        hopeless = [
            f
            for f in self.findings
            if f.code in ("nonfinite", "vanishing-gradient", "lr-too-large") and f.confidence >= 0.9
        ]
        if len(self.samples) >= 8 and hopeless:
            raise Hopeless(f"stopped at step {sample['step']}: {hopeless[0].title} ({hopeless[0].evidence})")

    # --- judging ----------------------------------------------------------------------------------------------------

    @property
    def overhead(self) -> float:
        """The part of the time that watching took."""
        return self.spent / max(time.perf_counter() - self.begun, 1e-9)

    @property
    def findings(self) -> list[Finding]:
        """What the samples show."""
        if len(self.samples) < 3:
            return []
        last = self.samples[-min(len(self.samples), 8) :]
        found: list[Finding] = []
        losses = [s for s in self.seen if not math.isnan(s)]
        g = np.median(np.array([s["grad"] for s in last]), axis=0)
        if not all(map(math.isfinite, self.seen)) or not np.isfinite(g).all():
            step = next(
                (s["step"] for s in self.samples if not math.isfinite(s["loss"]) or not np.isfinite(s["grad"]).all()), 0
            )
            if math.isfinite(self.seen[0]) or not np.isfinite(g).all():
                found.append(
                    _found(
                        "nonfinite",
                        "NaN or Inf while training",
                        f"first seen at step {step}",
                        "a step was too large, or an op left its domain.",
                        "chainrule.diagnose(model, loss_fn, batch)   # names the op",
                        0.95,
                    )
                )
            return found
        if len(g) >= 3 and g[-1] > 0:
            ratio = g[0] / g[-1]
            if ratio < 1e-4 or (g == 0).all():
                found.append(
                    _found(
                        "vanishing-gradient",
                        "vanishing gradient",
                        f"‖dL/dW‖ of {self.names[0]} is {ratio:.1e} of {self.names[-1]}'s, over "
                        f"{len(self.samples)} samples",
                        "the layers in between multiply the gradient by less than 1 each.",
                        "nn.init.kaiming_normal_ weights, residual connections or a norm per layer",
                        0.9,
                        layer=self.names[0],
                    )
                )
            elif ratio > 1e4:
                found.append(
                    _found(
                        "exploding-gradient",
                        "exploding gradient",
                        f"‖dL/dW‖ of {self.names[0]} is {ratio:.1e} times {self.names[-1]}'s",
                        "the layers in between multiply the gradient by more than 1 each.",
                        "nn.init.kaiming_normal_ weights, or clip_grad_norm_",
                        0.9,
                        layer=self.names[0],
                    )
                )
        still = [n for n, a in zip(self.names, g, strict=True) if a == 0]
        if still and len(still) < len(g) and not found:
            found.append(
                _found(
                    "graph-cut",
                    "layers without a gradient",
                    f"{', '.join(still[:3])}: gradient 0 or none in {len(last)} samples",
                    "nothing that they compute reaches the loss.",
                    "chainrule.diagnose(model, loss_fn, batch)   # names the cut",
                    0.9,
                    layer=still[0],
                )
            )
        updates = [s["update"] for s in last if "update" in s]
        if updates:
            u = float(np.median(np.median(np.array(updates), axis=0)))
            # A step that killed the network leaves nothing to update: the first updates tell.
            u = max(u, *(float(np.median(s["update"])) for s in self.samples[:8] if "update" in s))
            if u > 0.1 and len(losses) >= 5 and np.median(losses[-3:]) > 0.95 * losses[0]:
                found.append(
                    _found(
                        "lr-too-large",
                        "learning rate too large",
                        f"a step changes the weights by {u:.1g} of their size; loss {losses[0]:.4g} → {losses[-1]:.4g}",
                        "each step jumps past the valley.",
                        "a learning rate 10 to 100 times smaller",
                        0.9,
                    )
                )
            elif len(self.samples) >= 5 and _typical(self.samples) < 1e-6:  # over the whole run: schedules end at 0
                found.append(
                    _found(
                        "lr-too-small",
                        "learning rate too small",
                        f"a step changes the weights by {u:.1g} of their size",
                        "about 1e-3 is usual.",
                        "a larger learning rate",
                        0.85,
                    )
                )
        if len(losses) >= 6 and losses[-1] > 3 * abs(losses[0]) + 1e-9 and not found:
            found.append(
                _found(
                    "lr-too-large",
                    "the loss grows",
                    f"{losses[0]:.4g} → {losses[-1]:.4g}",
                    "steps go uphill.",
                    "a smaller learning rate, or zero_grad before backward",
                    0.85,
                )
            )
        return ordered(found)

    def write(self, path: Any) -> None:
        """All samples as lines of JSON, and the findings in a last line."""
        lines = [json.dumps(s) for s in self.samples]
        lines.append(json.dumps({"findings": [f.to_dict() for f in self.findings], "overhead": self.overhead}))
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        found = self.findings
        head = f"watched {self.count} steps, {len(self.samples)} samples, {self.overhead:.1%} of the time"
        return head + (": nothing found" if not found else "\n" + "\n".join(str(f) for f in found))


def _typical(samples: list[dict[str, Any]]) -> float:
    return float(np.median([np.median(s["update"]) for s in samples if "update" in s]))


def _found(code: str, title: str, evidence: str, cause: str, fix: str, confidence: float, layer: str = "") -> Finding:
    return Finding(code, title, evidence, cause, fix, layer=layer, confidence=confidence, stage="update ratios")


_MOST = 4096
"""Entries of a weight matrix that updates are measured on: enough for a ratio, little to copy."""


def _size(a: Any) -> float:
    a = a.reshape(-1)
    if a.dtype.kind != "f":
        return 0.0
    n = float(np.dot(a, a))
    return math.sqrt(n) if math.isfinite(n) else math.inf if not math.isnan(n) else math.nan


def _part(a: Any) -> Any:
    return np.array(a.reshape(-1)[:: max(1, a.size // _MOST)])


def _change(a: Any, old: Any) -> float:
    new = a.reshape(-1)[:: max(1, a.size // _MOST)]
    size = _size(old)
    return _size(new - old) / size if size > 0 else 0.0


def watch(model: Any, optimizer: Any = None, *, budget: float = 0.02, stop: bool = False, path: Any = None) -> Watch:
    """Watch a training loop; call ``.step(loss)`` after every backward. See ``Watch``."""
    return Watch(model, optimizer, budget=budget, stop=stop, path=path)
