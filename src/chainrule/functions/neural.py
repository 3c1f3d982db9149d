"""Functions of neural networks that PyTorch also has at top level: softmax, dropout."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..composites.noise import kept
from ..core.dtypes import FLOATS, TORCH_NAMES, from_numpy
from ..core.inplace import write
from ..errors import UsageError, message
from ..ops import softmax as ops
from ._args import axis, cast, need_tensor

__all__ = [
    "alpha_dropout", "alpha_dropout_", "dropout", "dropout_", "feature_alpha_dropout", "feature_dropout",
    "log_softmax", "softmax",
]  # fmt: skip
METHODS = ("log_softmax", "softmax")

# --- softmax ---------------------------------------------------------------------------------------------------


def _softmax_axis(name: str, dim: int | None, ndim: int) -> int:
    if dim is None:
        warnings.warn(
            f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an "
            "argument.",
            stacklevel=4,
        )
        dim = 0 if ndim in (0, 1, 3) else 1
    return axis(dim, ndim)


def _along(op: Any, name: str, input: Any, dim: int | None, dtype: Any) -> Any:
    x = cast(need_tensor(input, name), dtype)
    if x._array.dtype not in FLOATS:
        last = x._array.ndim < 2 or dim is None or axis(dim, x._array.ndim) == x._array.ndim - 1
        kernel = f"{name}_lastdim_kernel_impl" if last else f"{name}_kernel_impl"
        raise NotImplementedError(
            message(
                f"\"{kernel}\" not implemented for '{TORCH_NAMES[from_numpy(x._array.dtype).name]}'",
                fix="Convert first: x.float(), or pass dtype=torch.float32.",
            )
        )
    return op(x, dim=_softmax_axis(name, dim, x._array.ndim))


def softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Softmax along ``dim``: yᵢ = exp xᵢ / Σⱼ exp xⱼ.

    >>> import chainrule as torch
    >>> torch.softmax(torch.tensor([0.0, 0.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    if type(_stacklevel) is not int:  # torch.softmax(x, dim, dtype)
        _stacklevel, dtype = 3, _stacklevel
    return _along(ops.softmax, "softmax", input, dim, dtype)


def log_softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Logarithm of softmax along ``dim``: yᵢ = xᵢ − log Σⱼ exp xⱼ."""
    if type(_stacklevel) is not int:
        _stacklevel, dtype = 3, _stacklevel
    return _along(ops.log_softmax, "log_softmax", input, dim, dtype)


# --- dropout ---------------------------------------------------------------------------------------------------


def _check_probability(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise UsageError(message(f"dropout probability has to be between 0 and 1, but got {p}"))


def _result(input: Any, output: Any, inplace_: bool) -> Any:
    return write(input, output) if inplace_ else output


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Set entries to 0 with probability ``p`` and divide the others by 1 − p, in training only."""
    need_tensor(input, "dropout")
    _check_probability(p)
    if not training or p == 0:
        return input
    x = input._array
    if p == 1:
        return _result(input, input * 0, inplace)
    return _result(input, input * (kept(x.shape, p, x.dtype) * (1 / (1 - p))), inplace)


def feature_dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Dropout of whole channels: all entries of (sample, channel) share their fate."""
    need_tensor(input, "feature_dropout")
    _check_probability(p)
    if not training or p == 0:
        return input
    x = input._array
    if p == 1:
        return _result(input, input * 0, inplace)
    keeps = kept((*x.shape[:2], *(1,) * (x.ndim - 2)), p, x.dtype)
    return _result(input, input * (keeps * (1 / (1 - p))), inplace)


_ALPHA = -1.7580993408473766  # −λα of SELU: the value that dropped entries take


def _alpha(input: Any, p: float, training: bool, inplace: bool, shape: tuple[int, ...]) -> Any:
    _check_probability(p)
    if not training or p == 0:
        return input
    if p == 1:
        return _result(input, input * 0, inplace)
    keeps = kept(shape, p, input._array.dtype)
    a = 1 / math.sqrt((1 - p) * (1 + p * _ALPHA * _ALPHA))
    b = -a * _ALPHA * p
    return _result(input, input * keeps * a + ((1 - keeps) * (a * _ALPHA) + b), inplace)


def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Dropout for SELU networks: dropped entries take −λα, and mean 0 and variance 1 are kept."""
    return _alpha(need_tensor(input, "alpha_dropout"), p, training, inplace, input._array.shape)


def feature_alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Alpha dropout of whole channels."""
    need_tensor(input, "feature_alpha_dropout")
    shape = (*input._array.shape[:2], *(1,) * (input._array.ndim - 2))
    return _alpha(input, p, training, inplace, shape)


def dropout_(input: Any, p: float = 0.5, training: bool = True) -> Any:
    """``dropout`` in place."""
    return dropout(input, p, training, inplace=True)


def alpha_dropout_(input: Any, p: float = 0.5, training: bool = True) -> Any:
    """``alpha_dropout`` in place."""
    return alpha_dropout(input, p, training, inplace=True)
