"""Optimizers that scale each entry's step by its gradients so far: RMSprop, Adagrad, Adadelta, Rprop, Adamax."""

from __future__ import annotations

from typing import Any

from ..core.op import registry
from ..core.variable import Variable
from ..ops.elementwise import sqrt
from .checks import number, verified
from .lanes import RuleOptimizer

__all__ = ["RMSprop", "Adagrad", "Adadelta", "Rprop", "Adamax"]


def _op(name: str) -> Any:
    return registry[name].call


def _gradient(group: dict[str, Any], p: Any, g: Any, decay: Any) -> Any:
    """The gradient to follow: turned round for ``maximize``, with weight decay."""
    if group["maximize"]:
        g = -g
    return g + p * decay if group["weight_decay"] else g


def _store(slot: Any, value: Any) -> Any:
    """``value`` in the slot's place: copied into an array; a tensor is handed back to be written."""
    if isinstance(value, Variable):
        return value
    slot[...] = value
    return slot


class RMSprop(RuleOptimizer):
    """v ← αv + (1−α)g², p ← p − lr · g / (√v + ε) (Hinton 2012); with momentum b ← μb + g/(√v + ε), p ← p − lr · b.

    ``centered`` subtracts the squared mean gradient from v before the root (Graves 2013).
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(
            params,
            verified(
                lr=lr,
                momentum=momentum,
                alpha=alpha,
                eps=eps,
                centered=centered,
                weight_decay=weight_decay,
                capturable=capturable,
                foreach=foreach,
                maximize=maximize,
                differentiable=differentiable,
            ),
        )

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        names: dict[str, Any] = {"square_avg": None}
        if group["momentum"] > 0:
            names["momentum_buffer"] = None
        if group["centered"]:
            names["grad_avg"] = None
        return names

    def _coefficients(self, group: dict[str, Any], aux: dict[str, float], count: int) -> tuple[float, ...]:
        alpha = group["alpha"]
        return alpha, 1 - alpha, group["eps"], group["momentum"], number(group["lr"]), number(group["weight_decay"])

    def _rule(self, group: dict[str, Any], c: Any, p: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        alpha, new, eps, momentum, lr, decay = c
        g = _gradient(group, p, g, decay)
        v, *rest = slots
        v *= alpha
        v += g * g * new
        spread = v
        if group["centered"]:
            mean = rest[-1]
            mean *= alpha
            mean += g * new
            rest[-1] = mean
            spread = v - mean * mean
        step = g / (sqrt(spread) + eps)
        if group["momentum"] > 0:
            b = rest[0]
            b *= momentum
            b += step
            rest[0] = step = b
        p -= step * lr
        return p, v, *rest


class Adagrad(RuleOptimizer):
    """s ← s + g², p ← p − lrₜ · g / (√s + ε), lrₜ = lr / (1 + (t−1) · lr_decay) (Duchi et al. 2011)."""

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            verified(
                lr=lr,
                lr_decay=lr_decay,
                eps=eps,
                weight_decay=weight_decay,
                initial_accumulator_value=initial_accumulator_value,
                foreach=foreach,
                maximize=maximize,
                differentiable=differentiable,
                fused=fused,
            ),
        )
        self._start()

    def _start(self) -> None:
        """The sums exist from the beginning, as in PyTorch, so a state_dict before the first step has them."""
        import numpy as np

        from ..core.variable import wrap
        from .lanes import step_dtype

        for group in self.param_groups:
            for p in group["params"]:
                if "sum" not in self.state[p]:
                    self.state[p]["step"] = wrap(np.zeros((), step_dtype()))
                    self.state[p]["sum"] = wrap(np.full_like(p._array, group["initial_accumulator_value"]))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        if len(self.param_groups) > 1 and self.state:
            self._start()

    def share_memory(self) -> None:
        """Nothing to do: threads share memory."""

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"sum": group["initial_accumulator_value"]}

    def _coefficients(self, group: dict[str, Any], aux: dict[str, float], count: int) -> tuple[float, ...]:
        lr = number(group["lr"]) / (1 + (float(aux["step"]) - 1) * group["lr_decay"])
        return lr, group["eps"], number(group["weight_decay"])

    def _rule(self, group: dict[str, Any], c: Any, p: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        lr, eps, decay = c
        (total,) = slots
        g = _gradient(group, p, g, decay)
        total += g * g
        p -= g / (sqrt(total) + eps) * lr
        return p, total


class Adadelta(RuleOptimizer):
    """v ← ρv + (1−ρ)g², δ = g · √(u + ε) / √(v + ε), u ← ρu + (1−ρ)δ², p ← p − lr · δ (Zeiler 2012)."""

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(
            params,
            verified(
                lr=lr,
                rho=rho,
                eps=eps,
                weight_decay=weight_decay,
                maximize=maximize,
                capturable=capturable,
                foreach=foreach,
                differentiable=differentiable,
            ),
        )

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"square_avg": None, "acc_delta": None}

    def _coefficients(self, group: dict[str, Any], aux: dict[str, float], count: int) -> tuple[float, ...]:
        return group["rho"], 1 - group["rho"], group["eps"], number(group["lr"]), number(group["weight_decay"])

    def _rule(self, group: dict[str, Any], c: Any, p: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        rho, new, eps, lr, decay = c
        v, u = slots
        g = _gradient(group, p, g, decay)
        v *= rho
        v += g * g * new
        delta = sqrt(u + eps) / sqrt(v + eps) * g
        u *= rho
        u += delta * delta * new
        p -= delta * lr
        return p, v, u


class Rprop(RuleOptimizer):
    """Each entry has its own step: longer while the gradient keeps its sign, shorter when it turns (Riedmiller 1993).

    When the sign turns, the entry rests for one update.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(
            params,
            verified(
                lr=lr,
                etas=etas,
                step_sizes=step_sizes,
                foreach=foreach,
                maximize=maximize,
                differentiable=differentiable,
                capturable=capturable,
            ),
        )

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"prev": None, "step_size": number(group["lr"])}

    def _coefficients(self, group: dict[str, Any], aux: dict[str, float], count: int) -> tuple[float, ...]:
        return *group["etas"], *group["step_sizes"]

    def _rule(self, group: dict[str, Any], c: Any, p: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        shorter, longer, low, high = c
        previous, size = slots
        where, sign = _op("where"), _op("sign")
        if group["maximize"]:
            g = -g
        turn = sign(g * previous)
        factor = where(turn > 0, longer, where(turn < 0, shorter, turn * 0 + 1))
        size = _store(size, _op("minimum")(_op("maximum")(size * factor, low), high))
        g = where(turn < 0, g * 0, g)
        p -= sign(g) * size
        return p, _store(previous, g), size


class Adamax(RuleOptimizer):
    """Adam with the infinity norm: u ← max(β₂u, |g| + ε), p ← p − lr / (1−β₁ᵗ) · m / u (Kingma and Ba 2015)."""

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(
            params,
            verified(
                lr=lr,
                betas=betas,
                eps=eps,
                weight_decay=weight_decay,
                foreach=foreach,
                maximize=maximize,
                differentiable=differentiable,
                capturable=capturable,
            ),
        )

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"exp_avg": None, "exp_inf": None}

    def _coefficients(self, group: dict[str, Any], aux: dict[str, float], count: int) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        step_size = number(group["lr"]) / (1 - beta1 ** float(aux["step"]))
        return beta1, 1 - beta1, beta2, group["eps"], step_size, number(group["weight_decay"])

    def _rule(self, group: dict[str, Any], c: Any, p: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        beta1, new, beta2, eps, step_size, decay = c
        m, u = slots
        g = _gradient(group, p, g, decay)
        m *= beta1
        m += g * new
        u = _store(u, _op("maximum")(u * beta2, _op("abs")(g) + eps))
        p -= m / u * step_size
        return p, m, u
