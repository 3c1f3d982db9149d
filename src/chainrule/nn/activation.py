"""Activations as modules; each is the function of that name in ``nn.functional``."""

from __future__ import annotations

from typing import Any

from . import functional as F
from . import init
from ._declared import NEEDED, Declared
from ._make import parameter
from .module import Module

__all__ = [
    "CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid",
    "LogSoftmax", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softmax", "Softmax2d",
    "Softmin", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Threshold",
]  # fmt: skip


class ReLU(Declared, function="relu", inplace=False):
    """max(x, 0), elementwise."""

    def forward(self, input: Any) -> Any:
        return F.relu(input, inplace=self.inplace) if self.inplace else F.relu(input)


class Tanh(Declared, function="tanh"):
    """Hyperbolic tangent, elementwise."""


class Sigmoid(Declared, function="sigmoid"):
    """σ(x) = 1 / (1 + e⁻ˣ), elementwise."""


class LeakyReLU(Declared, function="leaky_relu", negative_slope=1e-2, inplace=False):
    """x where x > 0, else ``negative_slope``·x."""


class ELU(Declared, function="elu", alpha=1.0, inplace=False):
    """x where x > 0, else α (eˣ − 1)."""


class CELU(Declared, function="celu", alpha=1.0, inplace=False):
    """x where x > 0, else α (e^(x/α) − 1)."""


class SELU(Declared, function="selu", inplace=False):
    """λ x where x > 0, else λα (eˣ − 1), with λ, α that keep mean 0 and variance 1."""


class GELU(Declared, function="gelu", approximate="none"):
    """x Φ(x), Φ the normal distribution function; ``approximate="tanh"`` for the approximation."""


class SiLU(Declared, function="silu", inplace=False):
    """x σ(x)."""


class Mish(Declared, function="mish", inplace=False):
    """x tanh(log(1 + eˣ))."""


class Softplus(Declared, function="softplus", beta=1.0, threshold=20.0):
    """log(1 + e^(βx)) / β; x itself where βx > ``threshold``."""


class Softsign(Declared, function="softsign"):
    """x / (1 + |x|)."""


class LogSigmoid(Declared, function="logsigmoid"):
    """log σ(x)."""


class Tanhshrink(Declared, function="tanhshrink"):
    """x − tanh x."""


class _Shrink(Declared):
    lambd: float

    def extra_repr(self) -> str:
        return str(self.lambd)


class Hardshrink(_Shrink, function="hardshrink", lambd=0.5):
    """x where |x| > λ, else 0."""


class Softshrink(_Shrink, function="softshrink", lambd=0.5):
    """x pulled towards 0 by λ."""


class Hardtanh(Declared, function="hardtanh", min_val=-1.0, max_val=1.0, inplace=False):
    """x clamped to [min_val, max_val]."""

    def _set(self, values: dict[str, Any]) -> None:
        super()._set(values)
        if not values["max_val"] > values["min_val"]:
            raise AssertionError(
                f"max_val must be larger than min_val, got {values['max_val']} and {values['min_val']}"
            )


class ReLU6(Declared, function="relu6", inplace=False):
    """x clamped to [0, 6]."""


class Hardsigmoid(Declared, function="hardsigmoid", shown=(), inplace=False):
    """x/6 + 1/2, clamped to [0, 1]."""


class Hardswish(Declared, function="hardswish", shown=(), inplace=False):
    """x · hardsigmoid(x)."""


class Threshold(Declared, function="threshold", threshold=NEEDED, value=NEEDED, inplace=False):
    """x where x > threshold, else ``value``."""


class RReLU(Declared, function="rrelu", lower=1.0 / 8, upper=1.0 / 3, inplace=False):
    """Leaky ReLU with a slope drawn from [lower, upper] in training, and their mean otherwise."""

    def forward(self, input: Any) -> Any:
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)


class GLU(Declared, function="glu", dim=-1):
    """a · σ(b), the two halves of the input along ``dim``."""


class Softmax(Declared, function="softmax", dim=None):
    """exp xᵢ / Σⱼ exp xⱼ along ``dim``."""


class LogSoftmax(Declared, function="log_softmax", dim=None):
    """Logarithm of softmax along ``dim``."""


class Softmin(Declared, function="softmin", dim=None):
    """Softmax of −x along ``dim``."""


class Softmax2d(Module):
    """Softmax over the channels of (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Any) -> Any:
        if input.dim() not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.dim()}D instead")
        return F.softmax(input, -3)


class PReLU(Module):
    """x where x > 0, else a·x, with a slope learned for all, or per channel."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = parameter((num_parameters,), dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the slopes back to ``init``."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Any) -> Any:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
