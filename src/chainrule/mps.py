"""``torch.mps``, answering truthfully: there is no Metal device here."""

from __future__ import annotations

__all__ = ["device_count", "empty_cache", "is_available", "manual_seed"]


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Accepted and without effect."""


def empty_cache() -> None:
    """Accepted and without effect."""
