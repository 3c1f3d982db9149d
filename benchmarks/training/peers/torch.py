"""PyTorch: eager (``torch``) and ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..workloads import Workload, workload
from . import models
from .chainrule import look

__all__ = ["load", "step", "supports"]


def supports(w: Workload, optimizer: str) -> bool:
    return True


def load(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)


def step(library: str, name: str) -> Callable[[], Any]:
    import torch

    w, which = workload(name)
    compiled = torch.compile if library == "torch.compile" else lambda fn: fn
    if not w.trains:
        call, x = models.function(torch, w)
        if w.kind == "hvp" and library == "torch.compile":
            call = _functional_hvp(torch, w)

        def run(x: Any) -> Any:
            if w.kind == "hvp":
                return call(x)
            with torch.no_grad():
                return call(x)

        run = compiled(run)
        once: Any = lambda: run(x)  # noqa: E731
        once.look = look
        return once
    # The fused kernels update all parameters in one call; for SGD they are no faster than the default on a CPU.
    model, optimizer, x, y, loss_of = models.parts(torch, name, **({"fused": True} if which == "adam" else {}))
    clip = torch.nn.utils.clip_grad_norm_
    if library == "torch":

        def training() -> Any:
            optimizer.zero_grad()
            loss = loss_of(x, y)
            loss.backward()
            if w.clip:
                clip(model.parameters(), 1.0)
            optimizer.step()
            return loss.detach()

        return training
    # Model with loss in one graph (its backward is compiled with it), clipping and update in another: what PyTorch's
    # guides recommend. Dynamo does not trace through backward() by itself.
    loss_of = torch.compile(loss_of)

    @torch.compile
    def update() -> None:
        if w.clip:
            clip(model.parameters(), 1.0)
        optimizer.step()

    def training_compiled() -> Any:
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        update()
        return loss.detach()

    return training_compiled


def _functional_hvp(torch: Any, w: Workload) -> Callable[[Any], Any]:
    """Forward over reverse: torch.compile cannot differentiate a graph of its own twice."""
    from ..workloads import data, fill, hvp_vectors, parameters

    F = torch.nn.functional
    values = tuple(torch.from_numpy(a) for a in fill(*parameters(w)))
    vectors = tuple(torch.from_numpy(v) for v in hvp_vectors(w))
    y = torch.from_numpy(data(w)[1])

    def loss(values: Any, x: Any) -> Any:
        for i in range(0, len(values), 2):
            x = F.linear(x, values[i], values[i + 1])
            x = torch.tanh(x) if i + 2 < len(values) else x
        return F.cross_entropy(x, y)

    gradient = torch.func.grad(loss)
    return lambda x: torch.func.jvp(lambda values: gradient(values, x), (values,), (vectors,))[1]
