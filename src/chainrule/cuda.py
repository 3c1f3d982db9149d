"""``torch.cuda``, answering truthfully: there is no CUDA device here."""

from __future__ import annotations

from typing import Any, NoReturn

from .amp import GradScaler

__path__: list[str] = []
"""To the import system a package without files: `import torch.cuda.amp` then asks for an attribute."""

__all__ = [
    "current_device", "device_count", "empty_cache", "get_device_name", "init", "is_available", "is_bf16_supported",
    "is_initialized", "manual_seed", "manual_seed_all", "max_memory_allocated", "memory_allocated", "set_device",
    "synchronize",
]  # fmt: skip


class amp:
    """``torch.cuda.amp``: older code's place for the gradient scaler and for autocast."""

    GradScaler = GradScaler

    @staticmethod
    def autocast(enabled: bool = True, dtype: Any = None, cache_enabled: bool = True) -> Any:
        from .amp import autocast

        return autocast("cuda", dtype, enabled, cache_enabled)


class OutOfMemoryError(RuntimeError):
    """Never raised here; named so that it can be caught."""


def is_available() -> bool:
    """False: chainrule computes on the CPU."""
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """False."""
    return False


def is_initialized() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Accepted and without effect, as in a PyTorch without CUDA."""


def manual_seed_all(seed: int) -> None:
    """Accepted and without effect, as in a PyTorch without CUDA."""


def empty_cache() -> None:
    """Accepted and without effect, as in a PyTorch without CUDA."""


def memory_allocated(device: Any = None) -> int:
    """0: nothing is allocated on a CUDA device."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


def reset_peak_memory_stats(device: Any = None) -> None:
    """Accepted and without effect."""


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise AssertionError("Torch not compiled with CUDA enabled")


current_device = get_device_name = get_device_properties = get_device_capability = set_device = synchronize = _refuse
init = Stream = Event = stream = current_stream = _refuse
