"""The argument checks that optimizers share, in PyTorch's words."""

from __future__ import annotations

from typing import Any

from ..core.variable import Variable

__all__ = ["check", "check_lr", "check_betas"]


def check(ok: bool, text: str, value: Any) -> None:
    """Raise ``ValueError("Invalid <text>: <value>")`` unless ``ok``."""
    if not ok:
        raise ValueError(f"Invalid {text}: {value}")


def check_lr(lr: Any) -> None:
    """A learning rate is a number ≥ 0, or a tensor with one."""
    if isinstance(lr, Variable) and lr._array.size != 1:
        raise ValueError("Tensor lr must be 1-element")
    check((lr._array.item() if isinstance(lr, Variable) else lr) >= 0.0, "learning rate", lr)


def check_betas(betas: Any) -> None:
    """Decay rates lie in [0, 1)."""
    for i in (0, 1):
        value = betas[i]._array.item() if isinstance(betas[i], Variable) else betas[i]
        check(0.0 <= value < 1.0, f"beta parameter at index {i}", betas[i])
