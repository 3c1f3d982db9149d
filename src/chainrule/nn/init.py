"""Initialisation of parameters, with PyTorch's names and distributions. Every function fills its tensor in place.

The scale of a layer's output is kept by choosing the spread of its weights from the number of inputs (``fan_in``) or
outputs (``fan_out``): Glorot and Bengio 2010 (Xavier) for symmetrical activations, He et al. 2015 (Kaiming) for ReLU.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..core import inplace
from ..core.rng import numpy_generator

__all__ = [
    "calculate_gain", "uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_", "eye_", "dirac_",
    "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_", "sparse_",
]  # fmt: skip

_GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0, "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4,
}  # fmt: skip


def _fill(tensor: Any, values: Any) -> Any:
    """Store ``values`` (drawn in float64 and rounded to the tensor's dtype) and return the tensor."""
    tensor._array[...] = values
    inplace.touch(tensor._array)
    return tensor


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """The factor by which weights before this activation are larger than for a linear layer.

    >>> import chainrule as torch
    >>> torch.nn.init.calculate_gain("leaky_relu", 0.2)
    1.3867504905630728
    """
    if nonlinearity == "leaky_relu":
        if param is None:
            slope = 0.01
        elif isinstance(param, (int, float)) and not isinstance(param, bool):
            slope = param
        else:
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}")
    return _GAINS[nonlinearity]


def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Any:
    """Fill with draws from U(a, b)."""
    return _fill(tensor, numpy_generator(generator).uniform(a, b, tensor._array.shape))


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Any:
    """Fill with draws from N(mean, std²)."""
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    return _fill(tensor, numpy_generator(generator).normal(mean, std, tensor._array.shape))


def trunc_normal_(
    tensor: Any, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Any:
    """Fill with draws from N(mean, std²) given that they lie in [a, b] (by inverting the distribution function)."""
    from scipy.special import ndtr, ndtri

    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect.",
            stacklevel=2,
        )
    low, high = ndtr((a - mean) / std), ndtr((b - mean) / std)
    draws = ndtri(numpy_generator(generator).uniform(low, high, tensor._array.shape)) * std + mean
    return _fill(tensor, np.clip(draws, a, b))


def constant_(tensor: Any, val: float) -> Any:
    """Fill with one value."""
    return _fill(tensor, val)


def ones_(tensor: Any) -> Any:
    """Fill with 1."""
    return _fill(tensor, 1)


def zeros_(tensor: Any) -> Any:
    """Fill with 0."""
    return _fill(tensor, 0)


def eye_(tensor: Any) -> Any:
    """Fill a matrix with the identity."""
    if tensor._array.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return _fill(tensor, np.eye(*tensor._array.shape))


def dirac_(tensor: Any, groups: int = 1) -> Any:
    """Fill a convolution's weight so that (as many as possible of) its input channels pass unchanged."""
    shape = tensor._array.shape
    if len(shape) not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if shape[0] % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    out = shape[0] // groups
    values = np.zeros(shape)
    centre = tuple(k // 2 for k in shape[2:])
    for g in range(groups):
        for d in range(min(out, shape[1])):
            values[(g * out + d, d, *centre)] = 1
    return _fill(tensor, values)


def _calculate_fan_in_and_fan_out(tensor: Any) -> tuple[int, int]:
    shape = tensor._array.shape
    if len(shape) < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _calculate_correct_fan(tensor: Any, mode: str) -> int:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return _calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]


def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Fill with U(−a, a), a = gain · √(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    a = gain * math.sqrt(6.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -a, a, generator)


def xavier_normal_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Fill with N(0, std²), std = gain · √(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor))), generator)


def _kaiming_std(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    return calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))


def kaiming_uniform_(
    tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Any:
    """Fill with U(−b, b), b = gain · √(3 / fan) (He et al. 2015); ``a`` is the leaky ReLU's slope."""
    if 0 in tensor._array.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Any:
    """Fill with N(0, std²), std = gain / √fan (He et al. 2015); ``a`` is the leaky ReLU's slope."""
    if 0 in tensor._array.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Any, gain: float = 1, generator: Any = None) -> Any:
    """Fill with a (semi-)orthogonal matrix, uniformly distributed: Q of a Gaussian matrix's QR, with R's signs."""
    shape = tensor._array.shape
    if len(shape) < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor._array.size == 0:
        return tensor
    rows, columns = shape[0], tensor._array.size // shape[0]
    draws = numpy_generator(generator).standard_normal((rows, columns))
    q, r = np.linalg.qr(draws.T if rows < columns else draws)
    q = q * np.sign(np.diag(r))  # else the distribution would depend on the QR algorithm (Mezzadri 2007)
    return _fill(tensor, gain * (q.T if rows < columns else q).reshape(shape))


def sparse_(tensor: Any, sparsity: float, std: float = 0.01, generator: Any = None) -> Any:
    """Fill a matrix with N(0, std²), then set a share of each column's entries, picked at random, to 0."""
    if tensor._array.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor._array.shape
    rng = numpy_generator(generator)
    values = rng.normal(0.0, std, (rows, columns))
    zeros = math.ceil(sparsity * rows)
    for j in range(columns):
        values[rng.permutation(rows)[:zeros], j] = 0
    return _fill(tensor, values)


def _deprecated(function: Any) -> Any:
    name = function.__name__[:-1]

    def old(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(f"`nn.init.{name}` is now deprecated in favor of `nn.init.{name}_`.", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    old.__name__ = old.__qualname__ = name
    return old


for _name in list(__all__):
    if _name.endswith("_"):
        globals()[_name[:-1]] = _deprecated(globals()[_name])
