"""Optimizers that see a parameter as a matrix: Muon and Adafactor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import inplace
from ..core.dtypes import BFLOAT16, limits
from ..core.state import state as engine
from ..core.variable import Variable, wrap
from .checks import number
from .lanes import step_dtype
from .optimizer import Optimizer

__all__ = ["Adafactor", "Muon"]


def _at_least(low: float, value: Any, name: str, words: str = ">= 0") -> None:
    if not number(value) >= low:
        raise ValueError(f"{name} should be {words} but is: {value}")


def _check_lr(lr: Any) -> None:
    if isinstance(lr, Variable) and lr._array.size != 1:
        raise ValueError("Tensor lr must be 1-element")
    _at_least(0.0, lr, "Learning rate")


class _OneByOne(Optimizer):
    """An optimizer that updates one parameter after the other, on arrays."""

    def _start(self, group: dict[str, Any], p: Any) -> dict[str, Any]:
        raise NotImplementedError

    def _one(self, group: dict[str, Any], p: Any, g: Any, kept: dict[str, Any]) -> None:
        raise NotImplementedError

    def step(self, closure: Any = None) -> Any:
        """Update the parameters once; ``closure`` computes the loss again and returns it."""
        name = type(self).__name__
        if engine.recorder is not None:
            engine.recorder.leak(None, f"{name}.step")  # compile's own error, with the line
            raise RuntimeError(f"{name} chooses its steps by the norms of matrices, so it cannot be traced")
        loss = None
        if closure is not None:
            grad, engine.grad = engine.grad, True
            try:
                loss = closure()
            finally:
                engine.grad = grad
        for group in self.param_groups:
            for p in group["params"]:
                if p._grad is None:
                    continue
                kept = self.state[p]
                if not kept:
                    kept.update({k: wrap(v) for k, v in self._start(group, p).items()})
                self._one(group, p._array, p._grad._array, {k: v._array for k, v in kept.items()})
                inplace.touch(p._array)
        return loss


def _blend(kept: Any, new: Any, share: float) -> None:
    """kept ← kept + share · (new − kept), in place."""
    kept += (new - kept) * kept.dtype.type(share)


class Muon(_OneByOne):
    """p ← (1 − lr · weight_decay) · p − lr′ · O, O the orthogonal factor of the momentum (Jordan et al. 2024).

    For matrices only. O comes from ``ns_steps`` Newton–Schulz steps in bfloat16, X ← aX + (bA + cA²)X with A = XXᵀ;
    lr′ is lr · √max(1, rows / columns), or lr · 0.2 √max(rows, columns) with ``adjust_lr_fn="match_rms_adamw"``.

    >>> import chainrule as torch
    >>> layer = torch.nn.Linear(4, 3, bias=False)
    >>> opt = torch.optim.Muon(layer.parameters(), lr=0.1)
    >>> layer(torch.ones(1, 4)).sum().backward()
    >>> opt.step()
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        _check_lr(lr)
        _at_least(0.0, momentum, "momentum")
        _at_least(0.0, weight_decay, "weight decay")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        defaults = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
        }  # fmt: skip
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                if p._array.ndim != 2:
                    raise ValueError(
                        f"Muon only supports 2D parameters whereas we found a parameter with size: {p.size()}"
                    )

    def _start(self, group: dict[str, Any], p: Any) -> dict[str, Any]:
        return {"momentum_buffer": np.zeros_like(p._array)}

    def _one(self, group: dict[str, Any], p: Any, g: Any, kept: dict[str, Any]) -> None:
        momentum, lr = group["momentum"], number(group["lr"])
        buffer = kept["momentum_buffer"]
        _blend(buffer, g, 1 - momentum)
        update = g + (buffer - g) * p.dtype.type(momentum) if group["nesterov"] else buffer
        update = _orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = p.shape
        if group["adjust_lr_fn"] == "match_rms_adamw":
            ratio = 0.2 * math.sqrt(max(rows, columns))
        else:
            ratio = math.sqrt(max(1, rows / columns))
        p *= p.dtype.type(1 - lr * group["weight_decay"])
        p -= update.astype(p.dtype) * p.dtype.type(lr * ratio)


def _single(x: Any) -> Any:
    """Rounded to bfloat16, as float32."""
    return x.astype(BFLOAT16).astype(np.float32)


def _orthogonal(matrix: Any, coefficients: tuple[float, float, float], steps: int, eps: float) -> Any:
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if len(coefficients) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")
    a, b, c = (np.float32(x) for x in coefficients)
    x = _single(matrix)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    norm = _single(np.sqrt(np.sum(x * x, dtype=np.float32)))
    x = _single(x / np.maximum(norm, _single(np.float32(eps))))
    for _ in range(steps):
        gram = _single(x @ x.T)
        x = _single(a * x + _single(b * gram + c * (gram @ gram)) @ x)
    return x.T if tall else x


class Adafactor(_OneByOne):
    """Adam's second moment of a matrix as the product of a column and a row (Shazeer and Stern 2018).

    With β = 1 − t^beta2_decay, R and C the running mean squares of rows and columns: U = G / √(R C / mean R), cut to
    a root mean square of ``d``; p ← p − max(eps₂, rms p) · min(lr, 1/√t) · U. Vectors keep all of their variances.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        _check_lr(lr)
        if not beta2_decay <= 0.0:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if eps[0] is not None:
            _at_least(0.0, eps[0], "epsilon1")
        _at_least(0.0, eps[1], "epsilon2")
        _at_least(1.0, d, "Clipping threshold d", ">= 1")
        _at_least(0.0, weight_decay, "weight_decay")
        defaults = {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
            "foreach": foreach, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _start(self, group: dict[str, Any], p: Any) -> dict[str, Any]:
        shape, dtype = p._array.shape, p._array.dtype
        step = {"step": np.zeros((), step_dtype())}
        if len(shape) <= 1:
            return {**step, "variance": np.zeros(shape, dtype)}
        columns = np.zeros((*shape[:-2], 1, shape[-1]), dtype)
        return {**step, "row_var": np.zeros((*shape[:-1], 1), dtype), "col_var": columns}

    def _one(self, group: dict[str, Any], p: Any, g: Any, kept: dict[str, Any]) -> None:
        if group["maximize"]:
            g = -g
        real, lr = p.dtype.type, number(group["lr"])
        eps1, eps2 = group["eps"]
        if eps1 is None:
            eps1 = float(limits(p.dtype).eps)
        kept["step"] += 1
        t = float(kept["step"])
        new = t ** group["beta2_decay"]
        alpha = max(eps2, float(np.linalg.norm(p)) / math.sqrt(p.size)) * min(lr, 1 / math.sqrt(t))
        if group["weight_decay"]:
            p *= real(1 - lr * group["weight_decay"])
        squares = g * g
        if g.ndim > 1:
            row, column = kept["row_var"], kept["col_var"]
            _blend(row, squares.mean(-1, keepdims=True), new)
            _blend(column, squares.mean(-2, keepdims=True), new)
            spread = row @ column / np.maximum(row.mean(-2, keepdims=True), real(eps1))
        else:
            spread = kept["variance"]
            _blend(spread, squares, new)
        update = g / np.sqrt(np.maximum(spread, real(eps1 * eps1)))
        cut = max(1.0, float(np.linalg.norm(update)) / (math.sqrt(update.size) * group["d"]))
        p -= update * real(alpha / cut)
