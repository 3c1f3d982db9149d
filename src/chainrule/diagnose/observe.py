"""Watching somebody's training code while it runs: forward and backward passes, steps, clipping, modes.

``Observer`` is a context manager that looks on through the library's own hooks and a few wrapped methods, for
chainrule and, when it is loaded, for PyTorch. Everything is unwrapped when the block ends.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.locate import place_of, user_frame
from ..errors import UsageError
from .finding import Finding
from .loop import clipping, evaluation, stale
from .subject import Subject, to_array

__all__ = ["Enough", "Observer", "observe_steps"]


PATIENCE = 4.0
"""Seconds to wait for a first evaluation."""


class Enough(BaseException):
    """Ends a script that has shown enough; no ``except Exception`` of the script catches it."""


def _caller() -> str:
    place = None
    frame = user_frame(sys._getframe(2))
    if frame is not None:
        place = place_of(frame.f_code, frame.f_lasti)
    return str(place) if place is not None else ""


class Observer:
    """Counts what a training loop does. ``limit``: raise ``Enough`` after so many optimizer steps."""

    def __init__(
        self, libraries: list[Any], limit: int | None = None, on_backward: Callable[[Any, Any], None] | None = None
    ) -> None:
        self.libraries, self.limit, self.on_backward = libraries, limit, on_backward
        self.undo: list[Callable[[], None]] = []
        self.backwards = self.steps = self.stale = self.cleared = 0
        self.backward_place = self.step_place = self.clip_place = self.eval_place = self.train_place = ""
        self.clips: list[tuple[float, float]] = []
        self.eval_forwards = self.train_forwards = self.sleeping = 0
        self.root: Any = None
        self.roots: list[Any] = []
        """Every outermost network that was called with gradients, once each."""
        self.last_forward: tuple[Any, Any, Any, Any] | None = None
        """(network, args, kwargs, output) of the last outermost forward pass with gradients."""
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.optimizer: Any = None
        self.depth = 0
        self._grad_after: dict[int, Any] = {}
        self.ungraded = 0
        """Forward passes without gradients, in whatever mode."""
        self.begun = time.perf_counter()

    # --- wrapping ---------------------------------------------------------------------------------------------------

    def _wrap(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        had = name in vars(owner)
        old = getattr(owner, name)
        setattr(owner, name, make(old))

        def back() -> None:
            if had:
                setattr(owner, name, old)
            else:
                delattr(owner, name)

        self.undo.append(back)

    def __enter__(self) -> Observer:
        for tb in self.libraries:
            self._wrap(tb.Tensor, "backward", self._backward)
            self._wrap(tb.nn.Module, "__call__", self._call)
            import importlib

            for where in (tb.nn.utils, importlib.import_module(tb.nn.utils.clip_grad_norm_.__module__)):
                self._wrap(where, "clip_grad_norm_", self._clip)
            optimizer = tb.optim.Optimizer
            module = importlib.import_module(optimizer.__module__)
            handle = module.register_optimizer_step_pre_hook(self._before)
            handle2 = module.register_optimizer_step_post_hook(self._after)
            self.undo += [handle.remove, handle2.remove]
        return self

    def __exit__(self, *exc: object) -> None:
        while self.undo:
            self.undo.pop()()

    # --- what happens -----------------------------------------------------------------------------------------------

    def _call(self, old: Any) -> Any:
        def call(module: Any, *args: Any, **kwargs: Any) -> Any:
            outer = self.depth == 0 and any(True for _ in module.parameters())
            if not outer:
                return old(module, *args, **kwargs)
            self.depth += 1
            try:
                out = old(module, *args, **kwargs)
            finally:
                self.depth -= 1
            tracks = getattr(out, "requires_grad", False)
            moody = [
                m
                for m in module.modules()
                if ("Dropout" in type(m).__name__ and m.p > 0) or "BatchNorm" in type(m).__name__
            ]
            graded = self._grad_mode()
            if not graded:
                self.ungraded += 1
                if module.training and moody:
                    self.eval_forwards += 1
                    self.eval_place = self.eval_place or _caller()
            else:
                self.root = module
                if all(m is not module for m in self.roots):
                    self.roots.append(module)
                self.last_forward = (module, args, kwargs, out)
                self.train_forwards += 1
                if tracks and any(not m.training for m in moody):
                    self.sleeping += 1
                    self.train_place = self.train_place or _caller()
            return out

        return call

    def _grad_mode(self) -> bool:
        return all(tb.is_grad_enabled() for tb in self.libraries[:1])

    def _backward(self, old: Any) -> Any:
        def backward(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            self.backwards += 1
            self.backward_place = self.backward_place or _caller()
            value = to_array(tensor)
            if value.size == 1:
                self.losses.append(float(value.reshape(-1)[0]))
            for p, g in self._grad_after.values():
                if p.grad is not None and (p.grad is g[0]) and np.array_equal(to_array(p.grad), g[1]) and g[1].any():
                    self.stale += 1
                    break
            self._grad_after.clear()
            if self.on_backward is not None and self.backwards == 1:
                self.on_backward(self, tensor)
            return old(tensor, *args, **kwargs)

        return backward

    def _clip(self, old: Any) -> Any:
        def clip(parameters: Any, max_norm: Any, *args: Any, **kwargs: Any) -> Any:
            norm = old(parameters, max_norm, *args, **kwargs)
            self.clips.append((float(to_array(norm)), float(max_norm)))
            self.clip_place = self.clip_place or _caller()
            return norm

        return clip

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.optimizer = self.optimizer or optimizer
        self.step_place = self.step_place or _caller()
        ps = [p for g in optimizer.param_groups for p in g["params"]]
        total = math.sqrt(
            sum(float(np.sum(np.square(to_array(p.grad), dtype=np.float64))) for p in ps if p.grad is not None)
        )
        self.norms.append(total)
        if self.backwards and (all(p.grad is None for p in ps) or total == 0):
            self.cleared += 1

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.steps += 1
        self._grad_after = {
            id(p): (p, (p.grad, np.array(to_array(p.grad))))
            for g in optimizer.param_groups
            for p in g["params"]
            if p.grad is not None
        }
        # Go on for a while after the steps that were asked for: the first evaluation comes at the end of an epoch.
        if (
            self.limit is not None
            and self.steps >= self.limit
            and (self.ungraded or time.perf_counter() - self.begun > PATIENCE)
        ):
            raise Enough

    # --- judging ----------------------------------------------------------------------------------------------------

    def findings(self) -> list[Finding]:
        """What the loop does wrong."""
        found: list[Finding] = []
        if self.stale >= 1 and self.stale >= 0.5 * max(1, self.steps - 1):
            growth = self.norms[-1] / self.norms[0] if len(self.norms) > 1 and self.norms[0] > 0 else 1.0
            found.append(stale(self.stale, self.backwards, growth, self.backward_place))
        if self.steps >= 2 and self.cleared >= 0.8 * self.steps and self.backwards >= self.steps:
            found.append(
                Finding(
                    "cleared-gradients",
                    "the gradients are gone when step() runs",
                    f"at {self.cleared} of {self.steps} steps every gradient was None or 0",
                    "zero_grad stands between backward and step, or the optimizer's tensors are not the ones "
                    "that backward fills.",
                    "optimizer.zero_grad(); loss.backward(); optimizer.step()   # in this order",
                    place=self.step_place,
                    confidence=0.85,
                    stage="update ratios",
                )
            )
        if self.clips:
            found += clipping([n for n, _ in self.clips], [m for _, m in self.clips], self.clip_place)
        if self.eval_forwards:
            kinds = {type(m).__name__ for m in self.root.modules()} if self.root is not None else set()
            word = "Dropout" if any("Dropout" in k for k in kinds) else "BatchNorm"
            count = sum(word in type(m).__name__ for m in self.root.modules()) if self.root is not None else 0
            found.append(evaluation(count, self.eval_forwards, self.eval_place, word))
        if self.sleeping and self.sleeping >= 0.5 * self.train_forwards and self.steps:
            found.append(
                Finding(
                    "mode",
                    "trained in eval mode",
                    f"{self.sleeping} of {self.train_forwards} training passes ran with layers in eval mode",
                    "batch norm then uses its stored statistics and dropout does nothing.",
                    "model.train()   # at the start of every epoch",
                    place=self.train_place,
                    confidence=0.93,
                    stage="update ratios",
                )
            )
        if self.backwards >= 3 and self.steps == 0 and self.limit is None:
            found.append(
                Finding(
                    "foreign-optimizer",
                    "step() is never called",
                    f"{self.backwards} backward passes, no optimizer step",
                    "gradients are computed and never used: the weights stay as they are.",
                    "optimizer.step()   # after loss.backward()",
                    place=self.backward_place,
                    confidence=0.9,
                    stage="update ratios",
                )
            )
        return found


def observe_steps(subject: Subject, step: Callable[[], Any], count: int = 6) -> list[Finding]:
    """Run ``step()`` a few times under observation; network, optimizer and random state are put back to the bit.

    Raises:
        UsageError: when ``step`` raises, or there is no optimizer whose state could be kept.
    """
    if subject.optimizer is None:
        raise UsageError("diagnose(step=…) needs optimizer=…, whose state it puts back")
    parameters = list(subject.model.parameters()) + list(subject.model.buffers())
    kept = [
        (p, np.array(to_array(p)), p.grad, None if p.grad is None else np.array(to_array(p.grad))) for p in parameters
    ]
    state = copy.deepcopy(subject.optimizer.state_dict())
    observer = Observer([subject.tb])
    with subject.untouched():
        try:
            with observer:
                for _ in range(count):
                    step()
        except Exception as error:
            from .loop import error_finding

            known = error_finding(error, str(error))
            if known is None:
                raise UsageError(
                    f"step() fails: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                ) from error
            return [known]
        finally:
            for p, value, g, gvalue in kept:
                to_array(p)[...] = value
                if g is not None:
                    to_array(g)[...] = gvalue
                p.grad = g
            subject.optimizer.load_state_dict(state)
    return observer.findings()
