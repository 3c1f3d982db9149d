"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any

from .checks import check, check_lr
from .lanes import RuleOptimizer, number

__all__ = ["SGD"]


class SGD(RuleOptimizer):
    """p ← p − lr · g; with momentum b ← μ·b + (1 − dampening)·g and p ← p − lr · b (Nesterov: g + μ·b in place of b).

    The first b is g itself. ``weight_decay`` adds weight_decay · p to g. ``foreach`` and ``fused`` are accepted:
    there is one implementation, and it is fast.

    >>> import chainrule as torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = torch.optim.SGD([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.item()
    0.0
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check(momentum >= 0.0, "momentum value", momentum)
        check(weight_decay >= 0.0, "weight_decay value", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"momentum_buffer": None} if group["momentum"] else {}

    def _aux(self, group: dict[str, Any]) -> dict[str, float]:
        return {}

    def _advance(self, group: dict[str, Any], aux: dict[str, Any]) -> None:
        pass

    def _coefficients(self, group: dict[str, Any], aux: dict[str, float], count: int) -> tuple[float, ...]:
        new = 1.0 if count == 1 else 1 - group["dampening"]  # the first buffer is the gradient itself
        return number(group["lr"]), number(group["weight_decay"]), group["momentum"], new

    def _rule(self, group: dict[str, Any], c: Any, p: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        lr, weight_decay, momentum, new = c
        if group["maximize"]:
            g = -g
        if group["weight_decay"]:
            g = g + p * weight_decay
        if not slots:
            p -= g * lr
            return (p,)
        (b,) = slots
        b *= momentum
        b += g if group["dampening"] == 0 else g * new
        p -= (g + b * momentum if group["nesterov"] else b) * lr
        return p, b
