"""Names at PyTorch's top level that concern the program around the tensors: threads, determinism.

They load when first used.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .core.variable import Variable

__all__ = [
    "are_deterministic_algorithms_enabled", "get_default_device", "get_float32_matmul_precision",
    "get_num_interop_threads", "get_num_threads", "is_inference", "is_storage", "set_default_device",
    "set_default_tensor_type", "set_float32_matmul_precision", "set_flush_denormal", "set_num_interop_threads",
    "set_num_threads", "set_warn_always", "typename", "unravel_index", "use_deterministic_algorithms",
]  # fmt: skip


_matmul_precision = "highest"
_deterministic = False


def get_num_threads() -> int:
    """1: ops run in the calling thread (a BLAS library may use more inside one product)."""
    return 1


get_num_interop_threads = get_num_threads


def set_num_threads(count: int) -> None:
    """Accepted and without effect: ops run in the calling thread; OMP_NUM_THREADS governs the BLAS library."""
    if not isinstance(count, int):
        raise TypeError(f"set_num_threads expects an int, but got {type(count).__name__}")
    if count < 1:
        raise RuntimeError("set_num_threads expects a positive integer")


def set_num_interop_threads(count: int) -> None:
    """Accepted and without effect."""


def get_float32_matmul_precision() -> str:
    """What ``set_float32_matmul_precision`` was told; products are always computed in full float32."""
    return _matmul_precision


def set_float32_matmul_precision(precision: str) -> None:
    """Remembered and without effect: products are always computed in full float32 ("highest")."""
    global _matmul_precision
    if precision in ("highest", "high", "medium"):
        _matmul_precision = precision
    else:
        warnings.warn(f"{precision} is not one of 'highest', 'high', or 'medium'", stacklevel=2)


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Remembered; every algorithm here is deterministic in either mode."""
    global _deterministic
    _deterministic = mode


def are_deterministic_algorithms_enabled() -> bool:
    """What ``use_deterministic_algorithms`` was told."""
    return _deterministic


def set_flush_denormal(mode: bool) -> bool:
    """False: not supported, as PyTorch says on processors that cannot."""
    return False


def set_warn_always(mode: bool, /) -> None:
    """Accepted and without effect."""


def get_default_device() -> Any:
    """The CPU."""
    from .core.device import CPU

    return CPU


def set_default_device(device: Any) -> None:
    """Accepts the CPU."""
    from .core.device import check_device

    check_device(device)


def set_default_tensor_type(t: Any) -> None:
    """The older way to say ``set_default_dtype``: takes ``torch.DoubleTensor`` or ``"torch.DoubleTensor"``."""
    from .core import dtypes
    from .functions import conversion

    kind = getattr(conversion, t.rpartition(".")[2], None) if isinstance(t, str) else t
    if kind is None or not hasattr(kind, "dtype"):
        raise TypeError("invalid type object: only floating-point types are supported as the default type")
    dtypes.set_default_dtype(kind.dtype)


def is_inference(input: Any) -> bool:
    """Whether the tensor was made in inference mode."""
    return input.is_inference()


def is_storage(obj: Any) -> bool:
    """Whether ``obj`` is a storage."""
    from .core.storage import TypedStorage, UntypedStorage

    return isinstance(obj, (TypedStorage, UntypedStorage))


def typename(obj: Any) -> str:
    """``'torch.FloatTensor'`` for a tensor, else the qualified name of the class."""
    if isinstance(obj, Variable):
        return obj.type()  # type: ignore[attr-defined]
    kind = obj if isinstance(obj, type) else type(obj)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def unravel_index(indices: Any, shape: Any) -> tuple[Any, ...]:
    """Flat positions as coordinates.

    >>> import chainrule as torch
    >>> torch.unravel_index(torch.tensor([5]), (2, 3))
    (tensor([1]), tensor([2]))
    """
    from .core.variable import wrap

    sizes = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
    found = np.unravel_index(indices._array, sizes)
    return tuple(wrap(np.asarray(f, dtype=np.int64)) for f in found)
