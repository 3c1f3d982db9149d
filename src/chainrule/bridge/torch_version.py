"""The version that a program reads from ``torch.__version__`` where chainrule stands in torch's place."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["SERVED", "TorchVersion"]


class TorchVersion(str):
    """A version that compares as one, with texts and tuples, as PyTorch's does.

    >>> TorchVersion("2.13.0") > "2.9", "2.13.0" > "2.9", TorchVersion("2.13.0+cpu") >= (2, 13)
    (True, False, True)
    """

    __slots__ = ()

    def _order(self, other: Any) -> int:
        own, its = _release(self), _release(other)
        return (own > its) - (own < its)

    def __lt__(self, other: Any) -> bool:
        return self._order(other) < 0

    def __le__(self, other: Any) -> bool:
        return self._order(other) <= 0

    def __gt__(self, other: Any) -> bool:
        return self._order(other) > 0

    def __ge__(self, other: Any) -> bool:
        return self._order(other) >= 0

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) if isinstance(other, str) else self._order(other) == 0

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def _release(version: Any) -> tuple[int, ...]:
    """The numbers in front, without zeros at the end: "2.13.0+cpu" and (2, 13) are the same."""
    if isinstance(version, str):
        found = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
        numbers = [int(n) for n in found.group(1).split(".")] if found else []
    else:
        numbers = [int(n) for n in version]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


SERVED = TorchVersion("2.13.0+chainrule")
"""The PyTorch whose API this is. ``chainrule.__version__`` is chainrule's own version."""
