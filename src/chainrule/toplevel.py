"""Names at PyTorch's top level that concern the program around the tensors: threads, determinism.

They load when first used.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from .core import threads
from .core.live import values_of
from .core.variable import Variable, wrap

__all__ = [
    "are_deterministic_algorithms_enabled", "compiled_with_cxx11_abi", "cond", "get_default_device",
    "get_deterministic_debug_mode", "get_float32_matmul_precision", "get_num_interop_threads", "get_num_threads",
    "init_num_threads", "is_deterministic_algorithms_warn_only_enabled", "is_inference", "is_storage",
    "is_warn_always_enabled", "set_default_device", "set_default_tensor_type", "set_deterministic_debug_mode",
    "set_float32_matmul_precision", "set_flush_denormal", "set_num_interop_threads", "set_num_threads",
    "set_warn_always", "typename", "unravel_index", "use_deterministic_algorithms", "while_loop",
]  # fmt: skip


_matmul_precision = "highest"
_deterministic = _warn_only = _warn_always = False


def get_num_threads() -> int:
    """How many threads compiled steps use at most. At first OMP_NUM_THREADS, or the processors there are."""
    return threads.get()


def get_num_interop_threads() -> int:
    """1: ops run one after the other."""
    return 1


def set_num_threads(count: int) -> None:
    """Let compiled steps use up to ``count`` threads where the work is large enough for that to pay.

    Steps that are compiled already are compiled again when they are next called. Eager ops run in the calling thread;
    OMP_NUM_THREADS governs the BLAS library that NumPy calls.

    >>> import chainrule
    >>> before = chainrule.get_num_threads()
    >>> chainrule.set_num_threads(2)
    >>> chainrule.get_num_threads()
    2
    >>> chainrule.set_num_threads(before)
    """
    if not isinstance(count, int):
        raise TypeError(f"set_num_threads expects an int, but got {type(count).__name__}")
    if count < 1:
        raise RuntimeError("set_num_threads expects a positive integer")
    threads.put(count)


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
    global _deterministic, _warn_only
    _deterministic, _warn_only = mode, warn_only


def are_deterministic_algorithms_enabled() -> bool:
    """What ``use_deterministic_algorithms`` was told."""
    return _deterministic


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether ``use_deterministic_algorithms`` was told to warn only."""
    return _warn_only


def get_deterministic_debug_mode() -> int:
    """0, 1 (warn) or 2 (error): ``use_deterministic_algorithms`` as a number."""
    return 0 if not _deterministic else 1 if _warn_only else 2


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """``use_deterministic_algorithms`` by a number (0, 1, 2) or name ("default", "warn", "error")."""
    names = {"default": 0, "warn": 1, "error": 2}
    if not isinstance(debug_mode, (int, str)):
        raise TypeError(f"debug_mode must be str or int, but got {type(debug_mode)}")
    if isinstance(debug_mode, str):
        if debug_mode not in names:
            raise RuntimeError(
                "invalid value of debug_mode, expected one of `default`, `warn`, `error`, but got " + debug_mode
            )
        debug_mode = names[debug_mode]
    if debug_mode not in (0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected 0, 1, or 2, but got {debug_mode}")
    use_deterministic_algorithms(debug_mode > 0, warn_only=debug_mode == 1)


def is_warn_always_enabled() -> bool:
    """What ``set_warn_always`` was told."""
    return _warn_always


def compiled_with_cxx11_abi() -> bool:
    """True, as every PyTorch of today says."""
    return True


def init_num_threads() -> None:
    """Nothing: ops run in the calling thread."""


def cond(pred: Any, true_fn: Any, false_fn: Any, operands: Any = ()) -> Any:
    """``true_fn(*operands)`` if ``pred`` (a bool or a tensor of one), else ``false_fn(*operands)``.

    >>> import chainrule as torch
    >>> torch.cond(torch.tensor(2) > 1, lambda x: x + 1, lambda x: x - 1, (torch.tensor(5),))
    tensor(6)
    """
    if not isinstance(pred, (bool, Variable)):
        raise RuntimeError(f"Expected pred to be bool or tensor, but got {pred}.")
    if isinstance(pred, Variable) and pred._array.size != 1:
        raise RuntimeError(f"Expected pred to be bool or single-element tensor, but got {pred}.")
    if not callable(true_fn) or not callable(false_fn):
        raise RuntimeError("Expect both branches to be callable.")
    return (true_fn if bool(pred) else false_fn)(*operands)


def while_loop(cond_fn: Any, body_fn: Any, carried_inputs: Any) -> Any:
    """``carried = body_fn(*carried)`` as long as ``cond_fn(*carried)``.

    >>> import chainrule as torch
    >>> torch.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (torch.tensor(0), torch.tensor(1.0)))
    (tensor(3), tensor(8.))
    """
    carried = tuple(carried_inputs)
    while bool(cond_fn(*carried)):
        found = body_fn(*carried)
        carried = tuple(found) if isinstance(found, (tuple, list)) else (found,)
    return carried


def set_flush_denormal(mode: bool) -> bool:
    """False: not supported, as PyTorch says on processors that cannot."""
    return False


def set_warn_always(mode: bool, /) -> None:
    """Remembered for ``is_warn_always_enabled``; Python's own filters decide what is shown."""
    global _warn_always
    _warn_always = mode


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
    sizes = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
    np.unravel_index(indices._array, sizes)  # raises for what is out of range
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    places = values_of(indices.long())
    found = (places // step % n for step, n in zip(strides, sizes))
    return tuple(f if isinstance(f, Variable) else wrap(f) for f in found)
