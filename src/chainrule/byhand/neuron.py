"""One sigmoid neuron: the whole of backpropagation in four factors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Neuron", "sigmoid"]


def sigmoid(z: ArrayLike) -> Any:
    """Logistic function, σ(z) = 1 / (1 + e⁻ᶻ), without overflow for large |z|.

    Its derivative needs only its value: σ′ = σ · (1 − σ).

    >>> float(sigmoid(0.0)), float(sigmoid(-1000.0))
    (0.5, 0.0)
    """
    return np.exp(-np.logaddexp(0.0, -np.asarray(z)))  # logaddexp(0, −z) = ln(1 + e⁻ᶻ), computed safely


class Neuron:
    """x → z = w·x + b → a = σ(z), judged by the squared error L = (a − y)².

    >>> neuron = Neuron(w=[0.5, -1.0], b=0.25)
    >>> a, cache = neuron.forward([1.0, 2.0])
    >>> grads = neuron.backward([1.0, 2.0], 1.0, a, cache)
    >>> round(grads["b"], 6)
    -0.269109
    >>> grads["w"].round(6)        # the same number, times the inputs 1 and 2
    array([-0.269109, -0.538217])
    """

    def __init__(self, w: ArrayLike, b: float = 0.0) -> None:
        self.w = np.array(w, dtype=np.float64)
        self.b = float(b)
        if self.w.ndim != 1:
            raise ValueError(f"Neuron: w must be one weight per input, it has shape {self.w.shape}")

    def forward(self, x: ArrayLike) -> tuple[float, dict[str, Any]]:
        """The output a for one sample x of shape (n_in,), and what backward will need."""
        z = float(self.w @ self._sample(x)) + self.b
        a = float(sigmoid(z))
        return a, {"z": z}

    def loss(self, y_true: float, y_pred: float) -> float:
        """L = (a − y)²."""
        return (y_pred - y_true) ** 2

    def backward(self, x: ArrayLike, y_true: float, y_pred: float, cache: dict[str, Any]) -> dict[str, Any]:
        """dL/dw and dL/db, by walking from the loss back to the weights and multiplying what is met on the way.

        L = (a − y)²      dL/da = 2(a − y)
        a = σ(z)          da/dz = a(1 − a)
        z = w·x + b       dz/dw = x,  dz/db = 1

        dL/dw = dL/da · da/dz · dz/dw = 2(a − y) · a(1 − a) · x
        dL/db = dL/da · da/dz · dz/db = 2(a − y) · a(1 − a)
        """
        a = y_pred
        dL_da = 2 * (a - y_true)
        # σ(−z) is 1 − a without the cancellation that 1 − a suffers when a is close to 1
        da_dz = a * float(sigmoid(-cache["z"]))
        dL_dz = dL_da * da_dz
        return {"w": dL_dz * self._sample(x), "b": dL_dz}

    def update(self, grads: dict[str, Any], lr: float) -> None:
        """One step downhill: w ← w − lr · dL/dw, b ← b − lr · dL/db."""
        self.w = self.w - lr * grads["w"]
        self.b = self.b - lr * grads["b"]

    def _sample(self, x: ArrayLike) -> NDArray[np.float64]:
        sample = np.asarray(x, dtype=np.float64)
        if sample.shape != self.w.shape:
            raise ValueError(f"Neuron: x has shape {sample.shape}, the weights have shape {self.w.shape}")
        return sample
