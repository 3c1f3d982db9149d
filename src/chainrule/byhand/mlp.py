"""A network with one hidden layer, and its backward pass, line by line the mirror of the forward."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .losses import as_rows, cross_entropy, mse, mse_grad, softmax

__all__ = ["MLP"]

Array = NDArray[Any]


class MLP:
    """x → W1, b1 → ReLU → W2, b2 → ŷ.

    With ``loss="mse"`` the output is ŷ = z2. With ``loss="cross_entropy"`` it is a softmax, ŷ = p = softmax(z2), and
    y_true holds class numbers (N,) or one-hot rows (N, n_out).

    ``reduction`` says whether the loss of a batch is the mean or the sum, and with it what the gradients are:
    dz2 = p − y is the gradient of the *summed* cross-entropy, N times that of the mean.

    Args:
        n_in, n_hidden, n_out: sizes; W1 is (n_in, n_hidden), W2 is (n_hidden, n_out), the biases are rows.
        seed: of the random weights; the same seed gives the same network.
        dtype: float64, or float32.
        loss: "mse" or "cross_entropy".
        reduction: "mean" or "sum".

    >>> net = MLP(2, 16, 1, seed=0)
    >>> x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[0], [1], [1], [0]])     # exclusive or
    >>> for _ in range(500):
    ...     y_pred, cache = net.forward(x)
    ...     net.update(net.backward(x, y, y_pred, cache), lr=0.2)
    >>> net.forward(x)[0].round(2).tolist()
    [[0.0], [1.0], [1.0], [0.0]]
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        n_out: int,
        seed: int | None = 0,
        dtype: DTypeLike = np.float64,
        *,
        loss: str = "mse",
        reduction: str = "mean",
    ) -> None:
        if loss not in ("mse", "cross_entropy"):
            raise ValueError(f"MLP: loss must be 'mse' or 'cross_entropy', it is {loss!r}")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"MLP: reduction must be 'mean' or 'sum', it is {reduction!r}")
        if min(n_in, n_hidden, n_out) < 1:
            raise ValueError(f"MLP: sizes must be at least 1, they are {n_in}, {n_hidden}, {n_out}")
        self.dtype = np.dtype(dtype)
        if self.dtype.kind != "f":
            raise ValueError(f"MLP: weights must be floating point, dtype is {self.dtype}")
        self.kind, self.reduction = loss, reduction
        rng = np.random.default_rng(seed)
        # He et al. 2015: variance 2 / fan_in keeps the signal's size through a ReLU, which silences half of it
        self.W1 = (rng.standard_normal((n_in, n_hidden)) * np.sqrt(2 / n_in)).astype(self.dtype)
        self.b1 = np.zeros(n_hidden, self.dtype)
        self.W2 = (rng.standard_normal((n_hidden, n_out)) * np.sqrt(2 / n_hidden)).astype(self.dtype)
        self.b2 = np.zeros(n_out, self.dtype)

    def forward(self, x: ArrayLike) -> tuple[Array, dict[str, Array]]:
        """ŷ of shape (N, n_out) for a batch x of shape (N, n_in), and the values that backward needs again."""
        x = self._batch(x)
        z1 = x @ self.W1 + self.b1
        a1 = np.maximum(z1, 0)
        z2 = a1 @ self.W2 + self.b2
        y_pred = z2 if self.kind == "mse" else softmax(z2)
        return y_pred, {"z1": z1, "a1": a1, "z2": z2}

    def loss(self, y_true: ArrayLike, y_pred: ArrayLike) -> float:
        """The number that `backward` differentiates."""
        if self.kind == "mse":
            return mse(y_pred, y_true, self.reduction)
        return cross_entropy(y_pred, y_true, self.reduction)

    def backward(self, x: ArrayLike, y_true: ArrayLike, y_pred: ArrayLike, cache: dict[str, Array]) -> dict[str, Array]:
        """Gradients of the loss: {'W1', 'b1', 'W2', 'b2'}, each of its parameter's shape. Read it from the loss down.

            z2 = a1 W2 + b2      dW2 = a1ᵀ dz2    db2 = Σ rows of dz2    da1 = dz2 W2ᵀ
            a1 = max(z1, 0)      dz1 = da1 where z1 > 0, else 0
            z1 = x W1 + b1       dW1 = xᵀ dz1     db1 = Σ rows of dz1

        A weight meets every sample, so its gradient sums over them; that is what the matrix products and Σ do.
        """
        x = self._batch(x)
        dz2 = self._output_gradient(np.asarray(y_true), np.asarray(y_pred, dtype=self.dtype))

        dW2 = cache["a1"].T @ dz2
        db2 = dz2.sum(axis=0)
        da1 = dz2 @ self.W2.T

        dz1 = da1 * (cache["z1"] > 0)  # relu′(0) = 0, as everywhere

        dW1 = x.T @ dz1
        db1 = dz1.sum(axis=0)
        return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}

    def update(self, grads: dict[str, Array], lr: float) -> None:
        """Gradient descent, W ← W − lr · dW, for all four."""
        new: dict[str, Array] = {}
        for name in ("W1", "b1", "W2", "b2"):
            old, step = getattr(self, name), np.asarray(grads[name])
            if step.shape != old.shape:
                raise ValueError(f"MLP.update: the gradient of {name} has shape {step.shape}, {name} has {old.shape}")
            new[name] = (old - lr * step).astype(self.dtype)
        for name, value in new.items():  # only now: a wrong gradient leaves the network as it was
            setattr(self, name, value)

    def _output_gradient(self, y_true: Array, y_pred: Array) -> Array:
        """dL/dz2, from which all else follows."""
        if self.kind == "mse":
            return mse_grad(y_pred, y_true.astype(self.dtype), self.reduction)
        _, one_hot = as_rows("MLP.backward", y_pred, y_true)
        dz2 = y_pred - one_hot.astype(self.dtype)  # of the sum; see losses.softmax_cross_entropy_grad
        return dz2 / len(y_pred) if self.reduction == "mean" else dz2

    def _batch(self, x: ArrayLike) -> Array:
        batch = np.asarray(x, dtype=self.dtype)
        if batch.ndim != 2 or batch.shape[1] != len(self.W1):
            raise ValueError(f"MLP: x must have shape (N, {len(self.W1)}), it has {batch.shape}")
        return batch
