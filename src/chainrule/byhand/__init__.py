"""Backpropagation written out by hand, to be read: NumPy only, one idea per file, in this order.

1. `neuron`: one sigmoid neuron, the chain rule step by step.
2. `losses`: mean squared error, and softmax with cross-entropy, whose gradient is p − y.
3. `mlp`: a 2-layer network, forward and backward.
4. `gradient`: the numerical gradient, which proves the other three right.

Nothing here uses the engine; the engine's tests use this.
"""

from .gradient import numerical_gradient
from .losses import (
    cross_entropy,
    cross_entropy_grad,
    mse,
    mse_grad,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
)
from .mlp import MLP
from .neuron import Neuron, sigmoid

__all__ = [
    "Neuron", "sigmoid",
    "mse", "mse_grad", "softmax", "cross_entropy", "cross_entropy_grad",
    "softmax_cross_entropy", "softmax_cross_entropy_grad",
    "MLP",
    "numerical_gradient",
]  # fmt: skip
