"""The options of optimizers: their checks in PyTorch's words, and what the CPU has no use for."""

from __future__ import annotations

from typing import Any

from ..core.variable import Variable

__all__ = ["check_modes", "number", "verified"]


def number(x: Any) -> Any:
    """A hyperparameter as a Python number (PyTorch allows 1-element tensors)."""
    return x._array.item() if isinstance(x, Variable) else x


_NAMES = {"eps": "epsilon value"}
_LEAST_ZERO = (
    "eps", "momentum", "weight_decay", "alpha", "lr_decay", "initial_accumulator_value", "momentum_decay",
)  # fmt: skip


def _check(ok: bool, text: str, value: Any) -> None:
    if not ok:
        raise ValueError(f"Invalid {text}: {value}")


def verified(unchecked: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
    """The options of an optimizer, after a check of those that have a range (but not of those named ``unchecked``).

    Raises:
        ValueError, RuntimeError: as PyTorch, for a value out of its range, or options that exclude each other.
    """
    lr = options["lr"]
    if isinstance(lr, Variable) and lr._array.size != 1:
        raise ValueError("Tensor lr must be 1-element")
    _check(number(lr) >= 0.0, "learning rate", lr)
    if "rho" in options:
        _check(0.0 <= options["rho"] <= 1.0, "rho value", options["rho"])
    for name in _LEAST_ZERO:
        if name in options and name not in unchecked:
            _check(options[name] >= 0.0, _NAMES.get(name, f"{name} value"), options[name])
    if "betas" in options:
        _check_betas(**options)
        if isinstance(options["betas"][0], Variable):
            options["betas"] = tuple(number(beta) for beta in options["betas"])
    if options.get("fused"):
        if options["differentiable"]:
            raise RuntimeError("`fused` does not support `differentiable`")
        if options["foreach"]:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
    return options


def _check_betas(betas: Any, **options: Any) -> None:
    for i, beta in enumerate(betas):
        _check(0.0 <= number(beta) < 1.0, f"beta parameter at index {i}", beta)
        if isinstance(beta, Variable):
            if options.get("foreach"):
                raise ValueError(f"betas[{i}] as a Tensor is not supported for capturable=False and foreach=True")
            if beta._array.size != 1:
                raise ValueError(f"Tensor betas[{i}] must be 1-element")
    if len({isinstance(beta, Variable) for beta in betas}) > 1:
        raise ValueError("betas must be either both floats or both Tensors")


def check_modes(group: dict[str, Any], needs: str) -> None:
    """Refuse, at the first step, what PyTorch on a CPU refuses: CUDA graphs, and gradients through ``foreach``."""
    if group.get("capturable"):
        raise AssertionError(f"If capturable=True, {needs} must be on supported devices: {_DEVICES}.")
    if group.get("differentiable") and group.get("foreach"):
        raise AssertionError("_foreach ops don't support autograd")


_DEVICES = ["cuda", "xpu", "hpu", "privateuseone", "xla"]
