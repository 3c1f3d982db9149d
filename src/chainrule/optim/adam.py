"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from ..core.variable import Variable
from ..errors import message
from ..ops.elementwise import sqrt
from .checks import number, verified
from .lanes import RuleOptimizer
from .optimizer import Optimizer

__all__ = ["Adam", "AdamW", "SparseAdam"]


def _maximum(x: Any, y: Any) -> Any:
    from ..core.op import registry

    return registry["maximum"].call(x, y)


class Adam(RuleOptimizer):
    """m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², p ← p − lr · m̂ / (√v̂ + ε), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).

    Kingma and Ba 2015; ``amsgrad`` (Reddi et al. 2018) takes the largest v so far. ``weight_decay`` adds
    weight_decay · p to g, or shrinks p itself with ``decoupled_weight_decay`` (AdamW).

    >>> import chainrule as torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = torch.optim.Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.9
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        if isinstance(lr, Variable) and foreach and not capturable:
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        super().__init__(
            params,
            verified(
                lr=lr,
                betas=betas,
                eps=eps,
                weight_decay=weight_decay,
                amsgrad=amsgrad,
                maximize=maximize,
                foreach=foreach,
                capturable=capturable,
                differentiable=differentiable,
                fused=fused,
                decoupled_weight_decay=decoupled_weight_decay,
            ),
        )

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        names = {"exp_avg": None, "exp_avg_sq": None}
        return {**names, "max_exp_avg_sq": None} if group["amsgrad"] else names

    def _coefficients(self, group: dict[str, Any], aux: dict[str, float], count: int) -> tuple[float, ...]:
        t, lr, decay = float(aux["step"]), number(group["lr"]), number(group["weight_decay"])
        beta1, beta2 = group["betas"]
        step_size = lr / (1 - beta1**t)
        root = (1 - beta2**t) ** 0.5
        decay = 1 - lr * decay if group["decoupled_weight_decay"] else decay
        return beta1, 1 - beta1, beta2, 1 - beta2, step_size, root, group["eps"], decay

    def _rule(self, group: dict[str, Any], c: Any, p: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        beta1, new1, beta2, new2, step_size, root, eps, decay = c
        m, v = slots[:2]
        if group["maximize"]:
            g = -g
        if group["weight_decay"]:
            if group["decoupled_weight_decay"]:
                p *= decay
            else:
                g = g + p * decay
        m *= beta1
        m += g * new1
        v *= beta2
        v += g * g * new2
        if not group["amsgrad"]:
            p -= m / (sqrt(v) / root + eps) * step_size
            return p, m, v
        top = _maximum(slots[2], v)
        p -= m / (sqrt(top) / root + eps) * step_size
        if hasattr(top, "_array"):
            return p, m, v, top
        slots[2][...] = top
        return p, m, v, slots[2]


class AdamW(Adam):
    """Adam with decoupled weight decay: p ← (1 − lr · weight_decay) · p first (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True


class SparseAdam(Optimizer):
    """Adam for sparse gradients, of which there are none here: a step says so. Use ``Adam``."""

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        options = verified(lr=lr, betas=betas, eps=eps, maximize=maximize)
        for name, text in (("lr", "learning rate"), ("eps", "epsilon value")):
            if number(options[name]) == 0:
                raise ValueError(f"Invalid {text}: {options[name]}")
        super().__init__(params, options)

    def step(self, closure: Any = None) -> Any:
        """Refused as soon as a parameter has a gradient, which is dense."""
        loss = None if closure is None else closure()
        if any(p._grad is not None for group in self.param_groups for p in group["params"]):
            raise RuntimeError(
                message(
                    "SparseAdam does not support dense gradients, please consider Adam instead",
                    "chainrule has no sparse gradients: those of an embedding are dense",
                )
            )
        return loss
