"""``torch.amp`` on the CPU: accepted, and computing in the tensors' own precision.

Mixed precision saves time on hardware with fast 16-bit arithmetic. NumPy has none: ``autocast`` changes nothing here:
results are those of the full precision that PyTorch's would only approximate.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]

_depth = 0


class autocast:
    """Accepted as context manager and decorator; everything inside stays in its own precision.

    >>> import chainrule as torch
    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     y = torch.ones(2) @ torch.ones(2)
    >>> y.dtype
    torch.float32
    """

    def __init__(
        self, device_type: str = "cpu", dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> None:
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        self.device = device_type
        self.fast_dtype = dtype
        self._enabled = enabled and device_type == "cpu"

    def __enter__(self) -> autocast:
        global _depth
        _depth += self._enabled
        return self

    def __exit__(self, *exc: object) -> None:
        global _depth
        _depth -= self._enabled

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(func)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return func(*args, **kwargs)

        return inside


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether an enabled ``autocast`` for the device is entered."""
    return device_type == "cpu" and _depth > 0


def is_autocast_cpu_enabled() -> bool:
    """``is_autocast_enabled("cpu")``."""
    return is_autocast_enabled("cpu")


def _never(name: str) -> Callable[[], bool]:
    def answer() -> bool:
        return False

    answer.__name__ = answer.__qualname__ = name
    answer.__doc__ = "False: there is no such device here."
    return answer


is_autocast_ipu_enabled, is_autocast_xla_enabled = _never("is_autocast_ipu_enabled"), _never("is_autocast_xla_enabled")
_fast: dict[str, Any] = {}


def get_autocast_dtype(device_type: str) -> Any:
    """The dtype that ``autocast`` would use on a device in PyTorch: bfloat16 on the CPU, float16 on CUDA."""
    from .core import dtypes

    return _fast.get(device_type, dtypes.float16 if device_type in ("cuda", "ipu_gpu") else dtypes.bfloat16)


def set_autocast_dtype(device_type: str, dtype: Any) -> None:
    """Remembered for ``get_autocast_dtype``; everything here keeps its own precision."""
    _fast[device_type] = dtype


def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """Enter or leave ``autocast`` for the CPU; for other devices accepted and without effect."""
    global _depth
    if device_type == "cpu":
        _depth = int(bool(enabled))


def set_autocast_cpu_enabled(enabled: bool) -> None:
    """``set_autocast_enabled("cpu", enabled)``."""
    set_autocast_enabled("cpu", enabled)


def _dtype_of(device_type: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    def get() -> Any:
        return get_autocast_dtype(device_type)

    def put(dtype: Any) -> None:
        set_autocast_dtype(device_type, dtype)

    get.__doc__ = f"``get_autocast_dtype({device_type!r})``."
    put.__doc__ = f"``set_autocast_dtype({device_type!r}, dtype)``."
    return get, put


get_autocast_cpu_dtype, set_autocast_cpu_dtype = _dtype_of("cpu")
get_autocast_gpu_dtype, set_autocast_gpu_dtype = _dtype_of("cuda")
_nesting = 0
_cache = True


def autocast_increment_nesting() -> int:
    """How many ``autocast`` blocks a caller says to be in, after one more."""
    global _nesting
    _nesting += 1
    return _nesting


def autocast_decrement_nesting() -> int:
    """How many ``autocast`` blocks a caller says to be in, after one less."""
    global _nesting
    _nesting -= 1
    return _nesting


def clear_autocast_cache() -> None:
    """Nothing: no casts are kept."""


def is_autocast_cache_enabled() -> bool:
    """What ``set_autocast_cache_enabled`` was told."""
    return _cache


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Remembered and without effect: no casts are kept."""
    global _cache
    _cache = enabled


def is_autocast_available(device_type: str) -> bool:
    """True for the CPU."""
    return device_type == "cpu"


class GradScaler:
    """The gradient scaler, doing what PyTorch's does where it is not enabled: no scaling, plain steps.

    Scaling keeps float16 gradients from becoming 0; nothing is computed in float16 here unless you ask for it.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._scale = 1.0

    def scale(self, outputs: Any) -> Any:
        """The outputs, as they are."""
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Nothing to do."""

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """The optimizer's step."""
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Nothing to do."""

    def get_scale(self) -> float:
        """1.0."""
        return self._scale

    def is_enabled(self) -> bool:
        """False: no scaling takes place."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Empty, as for a scaler that is not enabled."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Accepted and ignored."""


def _custom(fwd: Callable[..., Any] | None = None, **options: Any) -> Any:
    return fwd if fwd is not None else lambda function: function


def custom_fwd(fwd: Callable[..., Any] | None = None, *, device_type: str = "cpu", cast_inputs: Any = None) -> Any:
    """Decorator for ``Function.forward``: the function as it is."""
    return _custom(fwd)


def custom_bwd(bwd: Callable[..., Any] | None = None, *, device_type: str = "cpu") -> Any:
    """Decorator for ``Function.backward``: the function as it is."""
    return _custom(bwd)
