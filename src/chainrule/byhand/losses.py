"""Losses and their gradients: mean squared error, cross-entropy, and the two-letter gradient p − y.

**Sum or mean.** Over a batch of N samples the *summed* cross-entropy has the gradient p − y, and the *mean* has
(p − y) / N. Code that writes ``dz = p - y`` and prints the mean loss has gradients N times too large: its learning rate
means something else, and a numerical check fails by the factor N. Every function here takes ``reduction="mean"`` or
``"sum"``, and value and gradient belong together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["cross_entropy", "cross_entropy_grad", "mse", "mse_grad", "softmax", "softmax_cross_entropy",
           "softmax_cross_entropy_grad"]  # fmt: skip

Array = NDArray[Any]


def mse(y_pred: ArrayLike, y_true: ArrayLike, reduction: str = "mean") -> float:
    """Mean squared error, L = (1/n) Σᵢ (ŷᵢ − yᵢ)² over all n entries (the sum without 1/n).

    >>> mse([1.0, 3.0], [0.0, 1.0])
    2.5
    """
    y_pred, y_true = _same_shape("mse", y_pred, y_true)
    return float(np.sum((y_pred - y_true) ** 2)) / _count(y_pred.size, reduction)


def mse_grad(y_pred: ArrayLike, y_true: ArrayLike, reduction: str = "mean") -> Array:
    """dL/dŷ = (2/n) (ŷ − y); of the sum: 2 (ŷ − y).

    >>> mse_grad([1.0, 3.0], [0.0, 1.0])
    array([1., 2.])
    """
    y_pred, y_true = _same_shape("mse", y_pred, y_true)
    return 2 * (y_pred - y_true) / _count(y_pred.size, reduction)


def softmax(z: ArrayLike) -> Array:
    """Probabilities from scores, pₖ = eᶻₖ / Σⱼ eᶻⱼ along the last axis.

    Subtracting the largest score changes nothing in the quotient and keeps eᶻ from overflowing.

    >>> softmax([[1000.0, 1000.0]])
    array([[0.5, 0.5]])
    """
    scores = _real(z)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def cross_entropy(p: ArrayLike, y: ArrayLike, reduction: str = "mean") -> float:
    """L = −(1/N) Σ over samples and classes of yₖ ln pₖ, from probabilities p of shape (N, C).

    y holds one class number per sample (N,), or one row of probabilities per sample (N, C), such as one-hot.

    >>> round(cross_entropy([[0.5, 0.5], [0.25, 0.75]], [0, 1]), 6)     # −(ln 0.5 + ln 0.75) / 2
    0.490415
    """
    p, y = as_rows("cross_entropy", p, y)
    with np.errstate(divide="ignore"):  # p = 0 for the true class is an infinite loss, and that is the right answer
        terms = y * np.log(np.where(y > 0, p, 1))  # 0 · ln 0 counts as 0, its limit
    return -float(terms.sum()) / _count(len(p), reduction)


def cross_entropy_grad(p: ArrayLike, y: ArrayLike, reduction: str = "mean") -> Array:
    """dL/dpₖ = −yₖ / pₖ, divided by N for the mean. With softmax below it, use `softmax_cross_entropy_grad`.

    >>> cross_entropy_grad([[0.5, 0.5]], [0])
    array([[-2.,  0.]])
    """
    p, y = as_rows("cross_entropy", p, y)
    with np.errstate(divide="ignore"):
        return np.where(y > 0, -y / np.where(y > 0, p, 1), 0.0) / _count(len(p), reduction)


def softmax_cross_entropy(z: ArrayLike, y: ArrayLike, reduction: str = "mean") -> float:
    """Cross-entropy straight from scores z of shape (N, C): L = (1/N) Σ yₖ (ln Σⱼ eᶻⱼ − zₖ).

    It never forms p, so it stays finite where ln p would be −∞.

    >>> softmax_cross_entropy([[0.0, 2000.0]], [0])
    2000.0
    """
    z, y = as_rows("softmax_cross_entropy", z, y)
    shifted = z - z.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -float((y * log_p).sum()) / _count(len(z), reduction)


def softmax_cross_entropy_grad(z: ArrayLike, y: ArrayLike, reduction: str = "mean") -> Array:
    """dL/dz = (p − y) / N for the mean, p − y for the sum; each row of y must sum to 1.

    Where p − y comes from. Softmax couples all classes: ∂pₖ/∂zᵢ = pₖ (δₖᵢ − pᵢ), and ∂L/∂pₖ = −yₖ / pₖ. So

        dL/dzᵢ = Σₖ −yₖ/pₖ · pₖ (δₖᵢ − pᵢ) = −yᵢ + pᵢ Σₖ yₖ = pᵢ − yᵢ

    The divisions by p cancel, which is why nobody computes them.

    >>> softmax_cross_entropy_grad([[0.0, 0.0], [0.0, 0.0]], [0, 1], reduction="sum")
    array([[-0.5,  0.5],
           [ 0.5, -0.5]])
    >>> softmax_cross_entropy_grad([[0.0, 0.0], [0.0, 0.0]], [0, 1])        # the mean: N = 2 times smaller
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """
    z, y = as_rows("softmax_cross_entropy", z, y)
    if not np.allclose(y.sum(axis=-1), 1):
        raise ValueError("softmax_cross_entropy: p − y is the gradient only where each row of y sums to 1")
    return (softmax(z) - y) / _count(len(z), reduction)


def _count(n: int, reduction: str) -> int:
    """What the sum is divided by."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', it is {reduction!r}")
    return n if reduction == "mean" else 1


def _real(a: ArrayLike) -> Array:
    """An array of floating point numbers: integers become float64, float32 stays."""
    array = np.asarray(a)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _same_shape(name: str, y_pred: ArrayLike, y_true: ArrayLike) -> tuple[Array, Array]:
    pred, true = _real(y_pred), _real(y_true)
    # (N, 1) − (N,) would broadcast to (N, N) and give a number that looks like a loss
    if pred.shape != true.shape:
        raise ValueError(f"{name}: y_pred has shape {pred.shape}, y_true has shape {true.shape}")
    return pred, true


def as_rows(name: str, scores: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Scores (N, C) and targets as rows of probabilities (N, C); class numbers become one-hot rows."""
    table, target = _real(scores), np.asarray(y)
    if table.ndim != 2:
        raise ValueError(f"{name}: needs one row of C values per sample, got shape {table.shape}")
    if target.ndim == 2:
        return _same_shape(name, table, target)
    if target.shape != table.shape[:1] or target.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: y must be {len(table)} class numbers or shape {table.shape}, "
            f"it is {target.dtype} of shape {target.shape}"
        )
    if target.size and not 0 <= target.min() <= target.max() < table.shape[1]:
        raise ValueError(f"{name}: classes must be 0 … {table.shape[1] - 1}, got {target.min()} … {target.max()}")
    return table, np.eye(table.shape[1], dtype=table.dtype)[target]
