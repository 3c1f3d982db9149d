"""``nn.parallel``: on one CPU a parallel module is the module."""

from __future__ import annotations

from typing import Any

from ..core import left_out
from .module import Module

__all__ = ["DataParallel"]


class DataParallel(Module):
    """Runs ``module``; without GPUs there is nothing to spread its input over, in PyTorch as here."""

    def __init__(self, module: Any, device_ids: Any = None, output_device: Any = None, dim: int = 0) -> None:
        super().__init__()
        self.module = module
        self.device_ids: list[Any] = []

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


def data_parallel(
    module: Any,
    inputs: Any,
    device_ids: Any = None,
    output_device: Any = None,
    dim: int = 0,
    module_kwargs: dict[str, Any] | None = None,
) -> Any:
    """``module(*inputs)``, on the CPU."""
    if not isinstance(inputs, tuple):
        inputs = (inputs,) if inputs is not None else ()
    return module(*inputs, **(module_kwargs or {}))


def __getattr__(name: str) -> Any:
    raise left_out.missing("torch.nn.parallel", name, globals())
