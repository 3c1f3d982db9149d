"""PyTorch: eager (``torch``) and ``torch.compile``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..workloads import LR, Workload, workload
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
    if library == "torch.compile":
        return _functional_step(torch, name)
    # The fused kernels update all parameters in one call; for SGD they are no faster than the default on a CPU.
    model, optimizer, x, y, loss_of = models.parts(torch, name, **({"fused": True} if which == "adam" else {}))
    clip = torch.nn.utils.clip_grad_norm_
    if w.kind == "cnn":  # convolutions are a quarter faster so
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)

    def training() -> Any:
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        if w.clip:
            clip(model.parameters(), 1.0)
        optimizer.step()
        return loss

    result: Any = training
    result.look = lambda loss: float(loss.detach())
    return result


def _functional_step(torch: Any, name: str) -> Callable[[], Any]:
    """The whole step as one compiled graph: gradients by ``torch.func``, the update written into the parameters.

    Compiling the model and ``optimizer.step`` one by one, with ``backward()`` between them, takes up to three times
    as long on small networks: three entries into compiled code and a tape instead of one.
    """
    w, which = workload(name)
    model, _, x, y, _ = models.parts(torch, name)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.track_running_stats = False  # as in the JAX program; torch.func cannot write them
            module.running_mean = module.running_var = None
    if w.kind == "cnn":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    F = torch.nn.functional
    of = F.mse_loss if w.loss == "mse" else F.cross_entropy
    p = {n: t.detach() for n, t in model.named_parameters()}
    m, v = ({n: torch.zeros_like(t) for n, t in p.items()} for _ in range(2))
    count, lr = torch.zeros(()), LR[which]

    def loss_of(p: Any, x: Any, y: Any) -> Any:
        return of(torch.func.functional_call(model, p, (x,)), y)

    def training(p: Any, m: Any, v: Any, count: Any, x: Any, y: Any) -> Any:
        g, loss = torch.func.grad_and_value(loss_of)(p, x, y)
        if w.clip:
            norm = torch.sqrt(sum((a * a).sum() for a in g.values()))
            factor = torch.clamp(1.0 / (norm + 1e-6), max=1.0)
            g = {n: a * factor for n, a in g.items()}
        if which == "sgd":
            for n, a in p.items():
                a.sub_(lr * g[n])
            return loss
        count.add_(1)
        # 1 − βᵗ as −expm1(t ln β): the plain difference has only four digits in float32 at t = 1.
        size, root = lr / -torch.expm1(count * math.log(0.9)), torch.sqrt(-torch.expm1(count * math.log(0.999)))
        for n, a in p.items():
            m[n].mul_(0.9).add_(g[n], alpha=0.1)
            v[n].mul_(0.999).addcmul_(g[n], g[n], value=0.001)
            a.sub_(size * m[n] / (torch.sqrt(v[n]) / root + 1e-8))
        return loss

    run = torch.compile(training)

    def once() -> Any:
        with torch.no_grad():
            return run(p, m, v, count, x, y)

    return once


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
