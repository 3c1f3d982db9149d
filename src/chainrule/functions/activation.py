"""Activations with PyTorch's arguments: what ``torch.nn.functional`` has, and those that ``torch`` itself has."""

from __future__ import annotations

from typing import Any

from ..composites.noise import random_tensor
from ..core import dtypes
from ..core import inplace as _inplace
from ..core.dtypes import FLOATS
from ..core.rng import numpy_generator
from ..errors import ShapeError, message
from ..ops import activation as ops
from ..ops import elementwise
from ..ops.compare import where
from ..ops.layout import reshape
from ._args import axis, cast, need_tensor
from .inplace import store

__all__ = [
    "celu", "celu_", "hardshrink", "prelu", "relu_", "rrelu", "rrelu_", "selu", "selu_", "sigmoid_", "tanh_",
    "threshold", "threshold_",
]  # fmt: skip
METHODS = ("hardshrink", "prelu")

FUNCTIONAL = (
    "celu", "celu_", "elu", "elu_", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "hardtanh_",
    "leaky_relu", "leaky_relu_", "logsigmoid", "mish", "prelu", "relu", "relu6", "relu_", "rrelu", "rrelu_", "selu",
    "selu_", "sigmoid", "silu", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold", "threshold_",
)  # fmt: skip
"""The names that ``nn.functional`` takes over from here."""

_SELU = {"alpha": 1.6732632423543772, "scale": 1.0507009873554805}


def _write(x: Any, result: Any, inplace: bool) -> Any:
    if not inplace:
        return result
    _inplace.check_writable(x)
    if result._requires:  # what the rule saved of x is its content before the write
        made = result._node[0] if type(result._node) is tuple else result._node
        _inplace.protect(x, result, made.seq)
    return store(x, result)


def _need_float(x: Any, name: str) -> Any:
    need_tensor(x, name)
    if x._array.dtype not in FLOATS:
        kind = {"b": "Bool", "u": "Byte"}.get(x._array.dtype.kind) or {1: "Char", 2: "Short", 4: "Int", 8: "Long"}[
            x._array.dtype.itemsize
        ]
        kernel = name if "Impl" in name else f"{name}_cpu"
        raise NotImplementedError(
            message(f"\"{kernel}\" not implemented for '{kind}'", fix="Convert it first: x.float().")
        )
    return x


def relu(input: Any, inplace: bool = False) -> Any:
    """max(x, 0)."""
    return _write(input, ops.relu(need_tensor(input, "relu")), inplace)


def sigmoid(input: Any) -> Any:
    """1 / (1 + e⁻ˣ)."""
    return ops.sigmoid(need_tensor(input, "sigmoid"))


def tanh(input: Any) -> Any:
    """Hyperbolic tangent."""
    return ops.tanh(need_tensor(input, "tanh"))


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """x above 0, negative_slope · x below."""
    x = _need_float(input, "leaky_relu")
    return _write(x, ops.leaky_relu(x, negative_slope=float(negative_slope)), inplace)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x above 0, alpha · (eˣ − 1) below."""
    return _write(input, ops.elu(_need_float(input, "elu"), alpha=float(alpha)), inplace)


def selu(input: Any, inplace: bool = False) -> Any:
    """Self-normalising elu: scale · elu(x, alpha) with the constants that keep mean 0 and variance 1."""
    return _write(input, ops.elu(_need_float(input, "elu"), **_SELU), inplace)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x above 0, alpha · (exp(x / alpha) − 1) below."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return _write(input, ops.elu(_need_float(input, "elu"), alpha=float(alpha), rate=1.0 / alpha), inplace)


def gelu(input: Any, *, approximate: str = "none") -> Any:
    """x · Φ(x), or with ``approximate="tanh"`` x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return ops.gelu(_need_float(input, "GeluKernelImpl"), approximate=approximate)


def silu(input: Any, inplace: bool = False) -> Any:
    """x · σ(x)."""
    return _write(input, ops.silu(_need_float(input, "silu")), inplace)


def mish(input: Any, inplace: bool = False) -> Any:
    """x · tanh(softplus(x))."""
    return _write(input, ops.mish(_need_float(input, "mish")), inplace)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta · x)) / beta; linear where beta · x exceeds the threshold."""
    return ops.softplus(_need_float(input, "softplus"), beta=float(beta), threshold=float(threshold))


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """x limited to [min_val, max_val]."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    x = need_tensor(input, "hardtanh")
    if x._array.dtype.kind == "b":
        raise RuntimeError("Bool inputs not supported for hardtanh")
    if x._array.dtype.kind == "u" and min_val < 0:
        raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")
    if x._array.dtype not in FLOATS:  # the limits are cut to integers
        min_val, max_val = int(min_val), int(max_val)
    return _write(input, ops.hardtanh(x, min_val=min_val, max_val=max_val), inplace)


def relu6(input: Any, inplace: bool = False) -> Any:
    """x limited to [0, 6]."""
    return hardtanh(input, 0, 6, inplace)


def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """(x + 3) / 6, limited to [0, 1]."""
    return _write(input, ops.hardsigmoid(_need_float(input, "hardsigmoid")), inplace)


def hardswish(input: Any, inplace: bool = False) -> Any:
    """x · hardsigmoid(x)."""
    return _write(input, ops.hardswish(_need_float(input, "hardswish")), inplace)


def softshrink(input: Any, lambd: float = 0.5) -> Any:
    """x moved by lambd towards 0, and 0 within [−lambd, lambd]."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd:g}.")
    return ops.softshrink(_need_float(input, "softshrink"), lambd=float(lambd))


def hardshrink(input: Any, lambd: float = 0.5) -> Any:
    """x, and 0 within [−lambd, lambd]."""
    return ops.hardshrink(_need_float(input, "hardshrink"), lambd=float(lambd))


def tanhshrink(input: Any) -> Any:
    """x − tanh(x)."""
    return ops.tanhshrink(_need_float(input, "tanhshrink"))


def softsign(input: Any) -> Any:
    """x / (1 + |x|)."""
    x = need_tensor(input, "softsign")
    if x._array.dtype.kind == "b":
        raise NotImplementedError("\"abs_cpu\" not implemented for 'Bool'")
    return ops.softsign(x if x._array.dtype in FLOATS else cast(x, dtypes.default.numpy))


def logsigmoid(input: Any) -> Any:
    """log σ(x)."""
    return ops.logsigmoid(_need_float(input, "log_sigmoid"))


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """x above the threshold, ``value`` up to it."""
    return _write(input, ops.threshold(need_tensor(input, "threshold"), threshold=threshold, value=value), inplace)


def prelu(input: Any, weight: Any) -> Any:
    """x above 0, weight · x below; one weight, or one per channel (axis 1)."""
    x, w = need_tensor(input, "prelu"), need_tensor(weight, "prelu", 2, "weight")
    a = x._array
    if w._array.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {w._array.ndim}")
    if w._array.size != 1:
        channels = a.shape[1] if a.ndim > 1 else 1
        if not a.ndim:
            raise RuntimeError("Not allow zero-dim input tensor.")
        if channels != w._array.size:
            raise ShapeError(
                message(
                    "Mismatch of parameter numbers and input channel size. Found parameter numbers = "
                    f"{w._array.size} and channel size = {channels}."
                )
            )
        w = reshape(w, shape=(1, -1) + (1,) * (a.ndim - 2) if a.ndim > 1 else (-1,))
    elif w._array.ndim:
        w = reshape(w, shape=())
    return ops.prelu(x, w)


def rrelu(
    input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Any:
    """Leaky rectifier with a random slope in [lower, upper] while training, their mean otherwise."""
    if lower > upper:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound")
    x = _need_float(input, "rrelu")
    if not training:
        return _write(x, ops.leaky_relu(x, negative_slope=(lower + upper) / 2), inplace)
    shape, d = x._array.shape, x._array.dtype
    slopes = random_tensor(lambda: numpy_generator().uniform(lower, upper, shape).astype(d))
    return _write(x, where(x > 0, x, x * slopes), inplace)


def glu(input: Any, dim: int = -1) -> Any:
    """Gated linear unit: the first half along ``dim`` times the sigmoid of the second."""
    x = need_tensor(input, "glu")
    if not x._array.ndim:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    i = axis(dim, x._array.ndim)
    n = x._array.shape[i]
    if n % 2:
        raise ShapeError(message(f"Halving dimension must be even, but dimension {i} is size {n}"))
    a, b = x.chunk(2, i)
    return a * elementwise.sigmoid(b)


def _in_place(function: Any) -> Any:
    def changed(input: Any, *args: Any, **kwargs: Any) -> Any:
        return _write(input, function(input, *args, **kwargs), True)

    changed.__name__ = changed.__qualname__ = function.__name__ + "_"
    changed.__doc__ = f"In-place form of ``{function.__name__}``."
    return changed


celu_, elu_, hardtanh_, leaky_relu_, relu_, rrelu_, selu_, sigmoid_, tanh_, threshold_ = map(
    _in_place, (celu, elu, hardtanh, leaky_relu, relu, rrelu, selu, sigmoid, tanh, threshold)
)
