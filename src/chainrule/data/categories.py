"""Text columns as numbers: each value of the column becomes a column of 0 and 1, called ``colour=red``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Categories", "collapsed", "expanded", "is_text", "one_hot", "MOST"]

Categories = Mapping[str, Sequence[str]]
"""The values of each text column, sorted."""

MOST = 20
"""A text column with more values than this, or with fewer than two rows for each, is a name or a note, no category."""


def is_text(cells: Sequence[str]) -> bool:
    """Whether a column holds text: something, and nowhere a number, also none with a decimal comma or ``1_000``.

    >>> is_text(["red", "", "blue"]), is_text(["1,5", "2,5"]), is_text(["", ""])
    (True, False, False)
    """
    some = False
    for cell in cells:
        if not cell:
            continue
        try:
            float(cell.replace(",", ".", 1))
        except ValueError:
            some = True
        else:
            return False
    return some


def expanded(columns: Sequence[str], categories: Categories) -> list[str]:
    """The names of the features that these columns make.

    >>> expanded(["width", "colour"], {"colour": ("blue", "red")})
    ['width', 'colour=blue', 'colour=red']
    """
    return [name for c in columns for name in (_names(c, categories[c]) if c in categories else [c])]


def collapsed(features: Sequence[str], categories: Categories) -> Iterator[str]:
    """The columns that these features come from: ``expanded`` backwards."""
    owner = {name: column for column, values in categories.items() for name in _names(column, values)}
    last = None
    for feature in features:
        column = owner.get(feature, feature)
        if column != last:
            yield column
        last = column


def one_hot(cells: Sequence[str], values: Sequence[str]) -> NDArray[np.float64]:
    """(N, K): 1 where a cell is the value of the column.

    >>> one_hot(["red", "blue"], ("blue", "red")).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    place = {value: k for k, value in enumerate(values)}
    found = np.zeros((len(cells), len(values)))
    found[np.arange(len(cells)), [place[cell] for cell in cells]] = 1
    return found


def _names(column: str, values: Sequence[str]) -> list[str]:
    return [f"{column}={value}" for value in values]
