"""The primitives, one family a file. One op, one block: body, rules, formula and samples stand together."""

from . import arithmetic, compare, elementwise, index, layout, linalg, reduce

__all__ = ["arithmetic", "compare", "elementwise", "index", "layout", "linalg", "reduce"]
