"""Window functions: weights that fade out towards the ends of a stretch of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.device import check_device
from .creation import finish

__all__ = ["bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window"]


def cosines(n: int, *weights: float) -> np.ndarray[Any, Any]:
    """Σ (−1)ᵏ wₖ cos(2πki / (n − 1)) for i = 0 … n − 1, n ≥ 2."""
    angle = 2 * np.pi * np.arange(n) / (n - 1)
    return np.asarray(sum((-1) ** k * w * np.cos(k * angle) for k, w in enumerate(weights)))


def bartlett(n: int) -> np.ndarray[Any, Any]:
    """A triangle."""
    return 1 - np.abs(2 * np.arange(n) / (n - 1) - 1)


def kaiser(n: int, beta: float) -> np.ndarray[Any, Any]:
    """I₀(β √(1 − x²)) / I₀(β) for x from −1 to 1."""
    x = 2 * np.arange(n) / (n - 1) - 1
    return np.i0(beta * np.sqrt(np.maximum(1 - x * x, 0))) / np.i0(beta)


def _window(name: str, shape: Callable[..., Any], doc: str, **parameters: float) -> Any:
    def function(
        window_length: int, periodic: bool = True, *args: float, dtype: Any = None, layout: Any = None,
        device: Any = None, pin_memory: bool = False, requires_grad: bool = False, **options: float,
    ) -> Any:  # fmt: skip
        check_device(device)
        d = dtypes.as_numpy_dtype(dtype) or dtypes.default.numpy
        if d not in dtypes.FLOATS:
            kind = {"int64": "long int", "int32": "int"}.get(dtypes.from_numpy(d).name, dtypes.from_numpy(d).name)
            raise RuntimeError(
                f"{name} expects floating point dtypes, got: TensorOptions(dtype={kind}, device=cpu, layout=Strided "
                "(default), requires_grad=false (default), pinned_memory=false, memory_format=(nullopt))"
            )
        if window_length < 0:
            raise RuntimeError(f"{name} requires non-negative window_length, got window_length={window_length}")
        unknown = set(options) - set(parameters)
        if unknown or len(args) > len(parameters):
            raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(unknown), '')}'")
        values = {**parameters, **dict(zip(parameters, args, strict=False)), **options}
        if window_length < 2:
            return finish(np.ones(window_length, d), requires_grad)
        whole = shape(window_length + bool(periodic), **values)
        return finish(whole[:window_length].astype(d), requires_grad)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc} ``periodic`` leaves out the last of one more entry, for use with Fourier transforms."
    return function


bartlett_window = _window("bartlett_window", bartlett, "A triangle.")
hann_window = _window("hann_window", lambda n: cosines(n, 0.5, 0.5), "½ − ½ cos.")
hamming_window = _window(
    "hamming_window", lambda n, alpha, beta: cosines(n, alpha, beta), "α − β cos.", alpha=0.54, beta=0.46
)
blackman_window = _window("blackman_window", lambda n: cosines(n, 0.42, 0.5, 0.08), "0.42 − 0.5 cos + 0.08 cos of 2.")
kaiser_window = _window("kaiser_window", kaiser, "I₀(β √(1 − x²)) / I₀(β).", beta=12.0)
