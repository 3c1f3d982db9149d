"""chainrule: the step compiled (``chainrule``) or as it is (``eager``). The BLAS comes from ``CHAINRULE_BLAS``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..workloads import Workload, workload
from . import models

__all__ = ["load", "step", "supports"]


def supports(w: Workload, optimizer: str) -> bool:
    return True


def load(threads: int) -> None:
    import chainrule

    if hasattr(chainrule, "set_num_threads"):
        chainrule.set_num_threads(threads)


def step(library: str, name: str) -> Callable[[], Any]:
    import chainrule as torch

    compiled: Callable[[Any], Any] = (lambda fn: fn) if library == "eager" else torch.compile
    w, _ = workload(name)
    if not w.trains:
        call, x = models.function(torch, w)

        def run(x: Any) -> Any:
            if w.kind == "hvp":
                return call(x)
            with torch.no_grad():
                return call(x)

        run = compiled(run)
        once: Any = lambda: run(x)  # noqa: E731
        once.look = look
        return once
    model, optimizer, x, y, loss_of = models.parts(torch, name)
    clip = torch.nn.utils.clip_grad_norm_

    @compiled
    def training(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        if w.clip:
            clip(model.parameters(), 1.0)
        optimizer.step()
        return loss

    result: Any = lambda: training(x, y)  # noqa: E731
    result.look = lambda loss: float(loss.detach())
    result.compiled = training
    return result


def look(result: Any) -> list[float]:
    """A few numbers that tell results apart."""
    parts = result if isinstance(result, tuple) else (result,)
    return [f for r in parts for f in summary(r.detach().numpy())]


def summary(a: Any) -> list[float]:
    import numpy as np

    flat = np.asarray(a, np.float64).reshape(-1)
    return [float(np.abs(flat).sum()), float(flat[0]), float(flat[-1]), float((flat * flat).sum())]
