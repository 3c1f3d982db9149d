"""Preparing a table for training: a seeded split, and standardisation that sees the training rows only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError

__all__ = ["moments", "standardize", "train_validation_split"]


def train_validation_split(
    y: NDArray[Any], fraction: float, *, seed: int, stratify: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers for training and for validation, both in random order; the same seed gives the same split.

    Args:
        y: targets, one per row.
        fraction: part of the rows to validate on, 0 ≤ fraction < 1; at least one row unless it is 0.
        seed: of the shuffling.
        stratify: keep the proportions of the classes in y: the number of validation rows of a class is its share
            rounded down or up, and never all of its rows (so classes of one row can make the split smaller).

    Raises:
        UsageError: the fraction is out of range, or there are too few rows to split.

    >>> train, val = train_validation_split(np.array([0] * 8 + [1] * 4), 0.25, seed=0, stratify=True)
    >>> len(train), sorted((val // 8).tolist())  # two of the eight, one of the four
    (9, [0, 0, 1])
    """
    n = len(y)
    if not 0 <= fraction < 1:
        raise UsageError(f"the validation fraction must be at least 0 and less than 1, it is {fraction}")
    order = np.random.default_rng(seed).permutation(n)
    wanted = max(1, round(fraction * n)) if fraction else 0
    if wanted and n - wanted < 1:
        raise UsageError(f"{n} row(s) cannot be split into training and validation rows with a fraction of {fraction}")
    chosen = np.zeros(n, dtype=bool)
    if stratify and wanted:
        classes, membership, counts = np.unique(np.asarray(y)[order], return_inverse=True, return_counts=True)
        share = wanted / n * counts
        take = np.minimum(np.floor(share).astype(np.int64), counts - 1)
        # the rows that rounding down left over go to the classes that lost most by it, the first one on a tie
        for c in np.argsort(-(share - take), kind="stable"):
            if take.sum() < wanted and take[c] < min(np.ceil(share[c]), counts[c] - 1):
                take[c] += 1
        for c in range(len(classes)):
            chosen[np.flatnonzero(membership == c)[: take[c]]] = True
        if not chosen.any():
            raise UsageError("no class has two rows, so none can be split between training and validation")
    else:
        chosen[:wanted] = True
    return order[~chosen], order[chosen]


def moments(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column (divided by N), for `standardize`.

    A column that is constant up to rounding gets the deviation 1, so that it becomes 0 and not noise or NaN. Columns
    are scaled by the size of their largest entry while computing, so that squares of huge or tiny numbers neither
    overflow nor vanish.

    >>> mean, std = moments(np.array([[1.0, 5.0, 1e200], [3.0, 5.0, 1e200]]))
    >>> mean.tolist(), std.tolist()
    ([2.0, 5.0, 1e+200], [1.0, 1.0, 1.0])
    """
    if x.ndim != 2 or not len(x):
        raise UsageError(f"moments: x must have shape (N, F) with at least one row, it has {x.shape}")
    # powers of two, because dividing by them rounds nothing
    scale = np.ldexp(1.0, np.frexp(np.abs(x).max(axis=0))[1])
    scaled = x / scale
    mean = scaled.mean(axis=0)
    std = np.sqrt(((scaled - mean) ** 2).mean(axis=0))
    # the mean of N equal numbers is off by a few roundings; what is below that is not variation
    constant = std <= 8 * np.finfo(np.float64).eps
    return mean * scale, np.where(constant, 1.0, std * scale)


def standardize(x: NDArray[np.float64], mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """(x − mean) / std, with the moments of the *training* rows: those of all rows would leak the validation rows.

    >>> x = np.array([[1.0], [3.0]])
    >>> standardize(x, *moments(x)).tolist()
    [[-1.0], [1.0]]
    """
    if x.shape[1:] != mean.shape or mean.shape != std.shape:
        raise UsageError(f"standardize: x has shape {x.shape}, mean {mean.shape}, std {std.shape}")
    return (x - mean) / std
