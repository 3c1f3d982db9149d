"""Named results: tuples whose parts have PyTorch's names, printed as PyTorch prints them."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

__all__ = ["named"]


def _repr(self: Any) -> str:
    parts = ",\n".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
    return f"torch.return_types.{type(self).__name__}(\n{parts})"


def named(name: str, *fields: str) -> Any:
    """A tuple type ``name`` with these fields.

    >>> named("max", "values", "indices")(1, 2).values
    1
    """
    made = namedtuple(name, fields)
    facts = {"__slots__": (), "__repr__": _repr, "__str__": _repr, "__module__": __name__}
    # What out= returns has a name of its own in PyTorch, which shows when it is printed.
    return type(name, (made,), {**facts, "out_type": type(f"{name}_out", (made,), facts)})
