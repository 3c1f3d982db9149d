"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import inplace
from .checks import number, verified
from .lanes import PIECE, RuleOptimizer

__all__ = ["SGD"]


class SGD(RuleOptimizer):
    """p ← p − lr · g; with momentum b ← μ·b + (1 − dampening)·g and p ← p − lr · b (Nesterov: g + μ·b in place of b).

    The first b is g itself (with ``differentiable=True`` gradients flow through it, which PyTorch cuts off there).
    ``weight_decay`` adds weight_decay · p to g. ``foreach`` and ``fused`` are accepted: there is one implementation,
    and it is fast.

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
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(
            params,
            verified(
                lr=lr,
                momentum=momentum,
                dampening=dampening,
                weight_decay=weight_decay,
                nesterov=nesterov,
                maximize=maximize,
                foreach=foreach,
                differentiable=differentiable,
                fused=fused,
            ),
        )

    def _update(self) -> None:
        """Without momentum two passes per parameter are all there is: gathering them first would cost more."""
        groups = self.param_groups
        for group in groups:
            if group["momentum"] or group["weight_decay"] or group["maximize"]:
                return super()._update()
        touched: list[Any] = []
        for group in groups:
            lr = number(group["lr"])
            factor: Any = None
            for p in group["params"]:
                if p._grad is None:
                    continue
                a, g = p._array, p._grad._array
                if factor is None or factor.dtype is not a.dtype:
                    factor = np.array(lr, a.dtype)  # a 0-d array multiplies faster than a Python number
                if a.size > PIECE and a.flags.c_contiguous and g.flags.c_contiguous:
                    flat, flat_g = a.reshape(-1), g.reshape(-1)
                    for s in range(0, a.size, PIECE):
                        flat[s : s + PIECE] -= flat_g[s : s + PIECE] * factor
                else:
                    a -= g * factor
                touched.append(a if a.base is None else inplace.owner(a))
        inplace.touch_all(touched)
        return None

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"momentum_buffer": None} if group["momentum"] else {}

    def _aux(self, group: dict[str, Any]) -> dict[str, float]:
        return {}

    def _advance(self, group: dict[str, Any], aux: dict[str, Any]) -> None:
        pass

    def _counts(self, group: dict[str, Any]) -> bool:
        return bool(group["dampening"])  # which spares the first step

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
