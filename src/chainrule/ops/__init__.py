"""The primitives, one family a file. One op, one block: body, rules, formula and samples stand together."""

from . import (
    arithmetic,
    compare,
    elementwise,
    embedding,
    index,
    join,
    layout,
    linalg,
    loss,
    norm,
    reduce,
    softmax,
)

__all__ = [
    "arithmetic",
    "compare",
    "elementwise",
    "embedding",
    "index",
    "join",
    "layout",
    "linalg",
    "loss",
    "norm",
    "reduce",
    "softmax",
]
