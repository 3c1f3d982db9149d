"""Try out the mended line: edit the source of a wrong gradient, run it, and keep the edit that makes it right.

A mistake found this way is proved: the report names the line, its replacement, and that the replacement was run. The
edits are the inverses of the mistakes that people make (a lost minus, ``=`` for ``+=``, σ′(a) for σ′(z) …).
"""

from .search import find_repairs

__all__ = ["find_repairs"]
