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
