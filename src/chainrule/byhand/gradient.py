"""The numerical gradient: what a derivative is, computed from its definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["numerical_gradient"]


def numerical_gradient(
    f: Callable[[NDArray[np.float64]], object], x: ArrayLike, h: float = 1e-5
) -> NDArray[np.float64]:
    """Gradient of a scalar function by central differences, one entry of x at a time.

        ∂f/∂xᵢ ≈ (f(x + h·eᵢ) − f(x − h·eᵢ)) / 2h

    Why both sides: in the Taylor series f(x ± h) = f ± h·f′ + h²/2·f″ ± h³/6·f‴ + … the even terms cancel, so the
    error is h²/6·f‴ and not h/2·f″. Rounding adds about ε·|f|/h with ε = 2.2e−16; at h = 1e−5 both are near 1e−11.

    Args:
        f: takes an array of x's shape and gives one number. It must use its argument: x itself is never changed.
        x: where; any shape. Computed in float64, because adding 1e−5 to an integer changes nothing, and to a float32
            it changes too few digits.
        h: the step.

    Returns:
        The gradient, float64, of x's shape.

    Raises:
        ValueError: f gives more than one number; h is not positive, or too small to change an entry of x.
        TypeError: x is complex or not numeric.

    >>> numerical_gradient(lambda x: np.sum(x**3), [1, 2]).round(6)
    array([ 3., 12.])
    """
    given = np.asarray(x)
    if given.dtype.kind not in "fiub":
        raise TypeError(f"numerical_gradient: x must hold real numbers, it is {given.dtype}")
    if not h > 0:
        raise ValueError(f"numerical_gradient: the step h must be positive, it is {h}")
    at = given.astype(np.float64)

    def value(index: tuple[int, ...], entry: float) -> float:
        moved = at.copy()  # a fresh copy each time, so that f may keep or change what it gets
        moved[index] = entry
        result = np.asarray(f(moved))
        if result.shape != ():
            raise ValueError(f"numerical_gradient: f must give one number, it gave an array of shape {result.shape}")
        return float(result)

    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        right, left = float(at[index] + h), float(at[index] - h)
        if right == left:
            raise ValueError(f"numerical_gradient: h = {h} is too small to change x{list(index)} = {at[index]}")
        # right − left is the step that was really taken; 2h is off by rounding when |x| is large
        gradient[index] = (value(index, right) - value(index, left)) / (right - left)
    return gradient
