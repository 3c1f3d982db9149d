"""The NumPy generator behind a ``Generator`` argument: what code that draws whole arrays asks for."""

from __future__ import annotations

from typing import Any

__all__ = ["stream"]

_default: Any = None


def stream(generator: Any = None) -> Any:
    """The ``numpy.random.Generator`` of ``generator``; the global one (``manual_seed``) for None."""
    global _default
    if generator is not None:
        return generator if hasattr(generator, "standard_normal") else generator._rng
    if _default is None:
        import numpy as np

        _default = np.random.default_rng(0)
    return _default
