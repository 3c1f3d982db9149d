"""Every exception of the library, and the template of its messages: what, where, values, fix.

Each class also derives from the built-in type that PyTorch raises in the same situation, so code that catches
``RuntimeError`` or ``IndexError`` keeps working.
"""

from __future__ import annotations

__all__ = ["ChainruleError", "ShapeError", "DtypeError", "GradientError", "ModifiedError", "IndexOutOfRange",
           "OpError", "UsageError"]  # fmt: skip


class ChainruleError(Exception):
    """Base of all errors that chainrule raises by itself."""


class ShapeError(ChainruleError, RuntimeError):
    """Shapes do not fit."""


class DtypeError(ChainruleError, RuntimeError):
    """A dtype does not fit."""


class GradientError(ChainruleError, RuntimeError):
    """Backward cannot run: no graph, a freed graph, a gradient of the wrong shape."""


class ModifiedError(GradientError):
    """A value needed for backward was changed in place after it was used."""


class IndexOutOfRange(ChainruleError, IndexError):
    """An index or a dim is out of range."""


class OpError(ChainruleError, RuntimeError):
    """An op's body failed."""


class UsageError(ChainruleError, ValueError):
    """An argument has a value that makes no sense here."""


def message(what: str, *details: str, at: object = None, source: str = "", fix: str = "") -> str:
    """First line PyTorch's words; then details with values, the user's line, and one fix.

    >>> print(message("shapes differ", "x is (2, 3)", at="a.py:1", source="x + y", fix="Did you mean x + y.T?"))
    shapes differ
      x is (2, 3)
      At a.py:1: x + y
      Did you mean x + y.T?
    """
    lines = [what, *(f"  {d}" for d in details)]
    if at is not None:
        lines.append(f"  At {at}: {source}" if source else f"  At {at}")
    if fix:
        lines.append(f"  {fix}")
    return "\n".join(lines)
