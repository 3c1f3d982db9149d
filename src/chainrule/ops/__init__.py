"""The primitives, one family a file. One op, one block: body, rules, formula and samples stand together."""

from . import (
    arithmetic,
    compare,
    conv,
    elementwise,
    embedding,
    index,
    join,
    layout,
    linalg,
    loss,
    norm,
    pad,
    pool,
    reduce,
    softmax,
)

__all__ = [
    "arithmetic",
    "compare",
    "conv",
    "elementwise",
    "embedding",
    "index",
    "join",
    "layout",
    "linalg",
    "loss",
    "norm",
    "pad",
    "pool",
    "reduce",
    "softmax",
]
