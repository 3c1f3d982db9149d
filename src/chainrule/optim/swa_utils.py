"""Averages of a model's weights over training: stochastic weight averaging and exponential moving averages."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import numpy as np

from ..core import inplace
from ..core.state import state
from ..core.variable import wrap
from .lr_scheduler import LRScheduler, per_group

__all__ = ["AveragedModel", "SWALR", "update_bn", "get_ema_avg_fn", "get_swa_avg_fn"]


def get_ema_avg_fn(decay: float = 0.999) -> Callable[..., Any]:
    """averaged ← decay · averaged + (1 − decay) · current."""
    if decay < 0.0 or decay > 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")
    return lambda averaged, current, count: decay * averaged + (1 - decay) * current


def get_swa_avg_fn() -> Callable[..., Any]:
    """The mean of all models so far (Izmailov et al. 2018)."""
    return lambda averaged, current, count: averaged + (current - averaged) / (count + 1)


def _averaged_model() -> Any:
    # By name: optim and nn are siblings that do not import each other, and PyTorch's name for this class joins them.
    Module = importlib.import_module("chainrule.nn.module").Module

    class AveragedModel(Module):
        """A copy of a model with an average of its weights; ``update_parameters(model)`` takes in the present ones."""

        def __init__(
            self,
            model: Any,
            device: Any = None,
            avg_fn: Callable[..., Any] | None = None,
            multi_avg_fn: Callable[..., Any] | None = None,
            use_buffers: bool = False,
        ) -> None:
            super().__init__()
            if avg_fn is not None and multi_avg_fn is not None:
                raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
            self.module = deepcopy(model)
            self.register_buffer("n_averaged", wrap(np.zeros((), np.int64)))
            self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.module(*args, **kwargs)

        def update_parameters(self, model: Any) -> None:
            """Take in the model's present weights."""
            mine, theirs = list(self.module.parameters()), list(model.parameters())
            if self.use_buffers:
                mine, theirs = mine + list(self.module.buffers()), theirs + list(model.buffers())
            count = self.n_averaged
            grad, state.grad = state.grad, False
            try:
                if int(count) == 0:
                    values = [b.detach() for b in theirs]
                elif self.multi_avg_fn is not None:
                    self.multi_avg_fn([a.detach() for a in mine], [b.detach() for b in theirs], count)
                    values = [a.detach() for a in mine]
                else:
                    average = self.avg_fn or get_swa_avg_fn()
                    values = [average(a.detach(), b.detach(), count) for a, b in zip(mine, theirs, strict=True)]
                for a, value in zip(mine, values, strict=True):
                    a._array[...] = value._array
                    inplace.touch(a._array)
                if not self.use_buffers:
                    for a, b in zip(self.module.buffers(), model.buffers(), strict=True):
                        a._array[...] = b._array
            finally:
                state.grad = grad
            count._array += 1

    AveragedModel.__qualname__ = "AveragedModel"
    return AveragedModel


AveragedModel = _averaged_model()


def update_bn(loader: Iterable[Any], model: Any, device: Any = None) -> None:
    """Compute the running statistics of all batch norms anew, by one pass over ``loader``."""
    layers = [
        m
        for m in model.modules()
        if hasattr(m, "running_mean") and hasattr(m, "momentum") and m.running_mean is not None
    ]
    if not layers:
        return
    momenta = [m.momentum for m in layers]
    training = model.training
    for m in layers:
        m.reset_running_stats()
        m.momentum = None  # a cumulative mean
    model.train()
    grad, state.grad = state.grad, False
    try:
        for batch in loader:
            model(batch[0] if isinstance(batch, (list, tuple)) else batch)
    finally:
        state.grad = grad
        for m, momentum in zip(layers, momenta, strict=True):
            m.momentum = momentum
        model.train(training)


class SWALR(LRScheduler):
    """Anneals the learning rate to ``swa_lr`` within ``anneal_epochs``, then keeps it."""

    def __init__(
        self, optimizer: Any, swa_lr: Any, anneal_epochs: int = 10, anneal_strategy: str = "cos", last_epoch: int = -1
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must by one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        for lr, group in zip(per_group("swa_lr", optimizer, swa_lr), optimizer.param_groups, strict=True):
            group["swa_lr"] = lr
        self._cos, self.anneal_epochs = anneal_strategy == "cos", anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, t: float) -> float:
        return (1 - math.cos(math.pi * t)) / 2 if self._cos else t

    def get_lr(self) -> list[Any]:
        self._warn_outside_step()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        span = max(1, self.anneal_epochs)
        before, now = (self._share(max(0.0, min(1.0, t / span))) for t in (step - 1, step))
        out = []
        for group in self.optimizer.param_groups:
            target, lr = group["swa_lr"], group["lr"]
            # The rate that the annealing started from, recovered from where it stood a step ago.
            start = target if before == 1 else (lr - before * target) / (1 - before)
            out.append(target * now + start * (1 - now))
        return out
