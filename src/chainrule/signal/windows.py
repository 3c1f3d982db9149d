"""``torch.signal.windows``: window functions of M samples, symmetric unless ``sym=False``.

Source: F. J. Harris, On the use of windows for harmonic analysis (1978); the same definitions as SciPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.device import check_device
from ..functions import windows as shapes
from ..functions.creation import finish

__all__ = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming", "hann",
    "kaiser", "nuttall",
]  # fmt: skip


def _made(
    name: str, M: int, sym: bool, shape: Callable[[int], Any], dtype: Any, device: Any, requires_grad: bool
) -> Any:
    d = dtypes.as_numpy_dtype(dtype) or dtypes.default.numpy
    check_device(device)
    if M < 0:
        raise ValueError(f"{name} requires non-negative window length, got M={M}")
    if d.char not in "fd":
        raise ValueError(f"{name} expects float32 or float64 dtypes, got: {dtypes.from_numpy(d)}")
    if M < 2:
        return finish(np.ones(M, d), requires_grad)
    return finish(np.asarray(shape(M if sym else M + 1))[:M].astype(d), requires_grad)


def bartlett(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """A triangle.

    >>> import chainrule as torch
    >>> torch.signal.windows.bartlett(5)
    tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000])
    """
    return _made("bartlett", M, sym, shapes.bartlett, dtype, device, requires_grad)


def general_cosine(
    M: int, *, a: Iterable[float], sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """Σ (−1)ᵏ aₖ cos(2πki / (M − 1))."""
    if not isinstance(a, Iterable):
        raise TypeError("Coefficients must be a list/tuple")
    weights = tuple(a)
    if not weights:
        raise ValueError("Coefficients cannot be empty")
    return _made("general_cosine", M, sym, lambda n: shapes.cosines(n, *weights), dtype, device, requires_grad)


def _weighted(name: str, weights: tuple[float, ...], doc: str) -> Any:
    title = name if name == "blackman" else "general_cosine"  # whose checks raise in PyTorch

    def function(
        M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
        requires_grad: bool = False,
    ) -> Any:  # fmt: skip
        return _made(title, M, sym, lambda n: shapes.cosines(n, *weights), dtype, device, requires_grad)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


hann = _weighted("hann", (0.5, 0.5), "½ − ½ cos(2πi / (M − 1)).")
hamming = _weighted("hamming", (0.54, 0.46), "0.54 − 0.46 cos(2πi / (M − 1)).")
blackman = _weighted("blackman", (0.42, 0.5, 0.08), "Three cosines, 0.42, 0.5, 0.08.")
nuttall = _weighted("nuttall", (0.3635819, 0.4891775, 0.1365995, 0.0106411), "Four cosines, with side lobes of −98 dB.")


def general_hamming(M: int, *, alpha: float = 0.54, sym: bool = True, **options: Any) -> Any:
    """α − (1 − α) cos(2πi / (M − 1))."""
    return general_cosine(M, a=(alpha, 1.0 - alpha), sym=sym, **options)


def cosine(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """sin(π (i + ½) / M): half a wave."""
    return _made("cosine", M, sym, lambda n: np.sin(np.pi * (np.arange(n) + 0.5) / n), dtype, device, requires_grad)


def exponential(
    M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Any:  # fmt: skip
    """exp(−|i − center| / τ)."""
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")

    def shape(n: int) -> Any:
        middle = (M if not sym and M > 1 else M - 1) / 2.0 if center is None else center
        return np.exp(-np.abs(np.arange(n) - middle) / tau)

    return _made("exponential", M, sym, shape, dtype, device, requires_grad)


def gaussian(
    M: int, *, std: float = 1.0, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """exp(−½ ((i − middle) / std)²)."""
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    return _made(
        "gaussian", M, sym, lambda n: np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / std) ** 2), dtype, device,
        requires_grad,
    )  # fmt: skip


def kaiser(
    M: int, *, beta: float = 12.0, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """I₀(β √(1 − x²)) / I₀(β) for x from −1 to 1."""
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    return _made("kaiser", M, sym, lambda n: shapes.kaiser(n, beta), dtype, device, requires_grad)
