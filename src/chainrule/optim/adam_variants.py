"""NAdam and RAdam: Adam with Nesterov momentum, and with the variance of its step rectified. ASGD: averaged SGD."""

from __future__ import annotations

from typing import Any

from ..ops.elementwise import sqrt
from .checks import number, verified
from .lanes import RuleOptimizer, step_dtype

__all__ = ["NAdam", "RAdam", "ASGD"]


def _prepared(group: dict[str, Any], p: Any, g: Any, decay: Any) -> tuple[Any, Any]:
    """Parameter and gradient after ``maximize`` and weight decay (coupled, or decoupled)."""
    if group["maximize"]:
        g = -g
    if group["weight_decay"]:
        if group["decoupled_weight_decay"]:
            p *= decay
        else:
            g = g + p * decay
    return p, g


def _decay(group: dict[str, Any]) -> float:
    decay = number(group["weight_decay"])
    return 1 - number(group["lr"]) * decay if group["decoupled_weight_decay"] else decay


class NAdam(RuleOptimizer):
    """Adam with Nesterov momentum (Dozat 2016): μₜ = β₁ (1 − 0.96^(t·momentum_decay) / 2),

    p ← p − lr · ((1−μₜ)/(1−Πμ) · g + μₜ₊₁/(1−Πμ·μₜ₊₁) · m) / (√v̂ + ε).
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(
            params,
            verified(
                lr=lr,
                betas=betas,
                eps=eps,
                weight_decay=weight_decay,
                momentum_decay=momentum_decay,
                decoupled_weight_decay=decoupled_weight_decay,
                maximize=maximize,
                foreach=foreach,
                capturable=capturable,
                differentiable=differentiable,
            ),
        )

    _capturable = "params, mu_products and state_steps"

    def _aux(self, group: dict[str, Any]) -> dict[str, float]:
        return {"step": 0.0, "mu_product": 1.0}

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"exp_avg": None, "exp_avg_sq": None}

    def _mu(self, group: dict[str, Any], t: float) -> float:
        return group["betas"][0] * (1.0 - 0.5 * (0.96 ** (t * group["momentum_decay"])))

    def _advance(self, group: dict[str, Any], aux: dict[str, Any]) -> None:
        aux["step"] += 1
        aux["mu_product"] *= self._mu(group, float(aux["step"]))

    def _coefficients(self, group: dict[str, Any], aux: dict[str, float], count: int) -> tuple[float, ...]:
        t, product, lr = float(aux["step"]), float(aux["mu_product"]), number(group["lr"])
        beta1, beta2 = group["betas"]
        mu, mu_next = self._mu(group, t), self._mu(group, t + 1)
        by_g = lr * (1.0 - mu) / (1.0 - product)
        by_m = lr * mu_next / (1.0 - product * mu_next)
        return beta1, 1 - beta1, beta2, 1 - beta2, 1 - beta2**t, by_g, by_m, group["eps"], _decay(group)

    def _rule(self, group: dict[str, Any], c: Any, p: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        beta1, new1, beta2, new2, correction, by_g, by_m, eps, decay = c
        m, v = slots
        p, g = _prepared(group, p, g, decay)
        m *= beta1
        m += g * new1
        v *= beta2
        v += g * g * new2
        p -= (g * by_g + m * by_m) / (sqrt(v / correction) + eps)
        return p, m, v


class RAdam(RuleOptimizer):
    """Adam whose adaptive step waits until its variance is known: ρₜ = ρ∞ − 2t β₂ᵗ/(1−β₂ᵗ) > 5 (Liu et al. 2020).

    Before that the step is lr · m̂, afterwards lr · m̂ · rₜ · √(1−β₂ᵗ) / (√v + ε).
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(
            params,
            verified(
                lr=lr,
                betas=betas,
                eps=eps,
                weight_decay=weight_decay,
                maximize=maximize,
                foreach=foreach,
                capturable=capturable,
                decoupled_weight_decay=decoupled_weight_decay,
                differentiable=differentiable,
            ),
        )

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"exp_avg": None, "exp_avg_sq": None}

    def _coefficients(self, group: dict[str, Any], aux: dict[str, float], count: int) -> tuple[float, ...]:
        t, lr = float(aux["step"]), number(group["lr"])
        beta1, beta2 = group["betas"]
        correction1, correction2 = 1 - beta1**t, 1 - beta2**t
        limit = 2 / (1 - beta2) - 1
        rho = limit - 2 * t * beta2**t / correction2
        plain, adaptive = lr / correction1, 0.0
        if rho > 5.0:
            rectify = ((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)) ** 0.5
            plain, adaptive = 0.0, plain * rectify * correction2**0.5
        return beta1, 1 - beta1, beta2, 1 - beta2, plain, adaptive, group["eps"], _decay(group)

    def _rule(self, group: dict[str, Any], c: Any, p: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        beta1, new1, beta2, new2, plain, adaptive, eps, decay = c
        m, v = slots
        p, g = _prepared(group, p, g, decay)
        m *= beta1
        m += g * new1
        v *= beta2
        v += g * g * new2
        # One of the two factors is 0: no branch, so a traced program is right before and after the switch.
        # The floor keeps 0 · (1/0) away where eps is 0.
        p -= m * (adaptive / (sqrt(v) + (eps if group["eps"] else 1e-300)) + plain)
        return p, m, v


class ASGD(RuleOptimizer):
    """SGD with decay, and the average ``ax`` of the parameters beside it (Polyak and Juditsky 1992).

    p ← (1 − λη) p − η g, ax ← ax + μ (p − ax); η = lr / (1 + λ·lr·t)^α, μ = 1 / max(1, t − t0) for the next step.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(
            params,
            verified(
                ("alpha",),
                lr=lr,
                lambd=lambd,
                alpha=alpha,
                t0=t0,
                weight_decay=weight_decay,
                foreach=foreach,
                maximize=maximize,
                differentiable=differentiable,
                capturable=capturable,
            ),
        )
        self._used: dict[int, tuple[float, float]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._used = {}

    _capturable = "params, mus, etas, and state_steps"

    def _aux(self, group: dict[str, Any]) -> dict[str, float]:
        return {"step": 0.0, "eta": number(group["lr"]), "mu": 1.0}

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"ax": None}

    def _advance(self, group: dict[str, Any], aux: dict[str, Any]) -> None:
        # eta and mu as they stood before this step are what it uses; PyTorch stores those of the next one.
        self._used[id(aux)] = float(aux["eta"]), float(aux["mu"])
        aux["step"] += 1
        t, lr = float(aux["step"]), number(group["lr"])
        rounded = step_dtype()  # PyTorch computes both in the default dtype
        aux["eta"][...] = rounded(lr / (1 + group["lambd"] * lr * t) ** group["alpha"])
        aux["mu"][...] = rounded(1 / max(1, t - group["t0"]))

    def _coefficients(self, group: dict[str, Any], aux: dict[str, float], count: int) -> tuple[float, ...]:
        eta, mu = self._used[id(aux)]
        return eta, 1 - group["lambd"] * eta, mu, number(group["weight_decay"])

    def _rule(self, group: dict[str, Any], c: Any, p: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        eta, shrink, mu, decay = c
        (average,) = slots
        if group["maximize"]:
            g = -g
        if group["weight_decay"]:
            g = g + p * decay
        p *= shrink
        p -= g * eta
        average += (p - average) * mu
        return p, average
