"""``Size``: a shape, as PyTorch prints it."""

from __future__ import annotations

from typing import Any

__all__ = ["Size"]


class Size(tuple[int, ...]):
    """A shape, as PyTorch prints it.

    >>> Size([2, 3])
    torch.Size([2, 3])
    >>> Size([2, 3]).numel()
    6
    """

    __slots__ = ()

    def numel(self) -> int:
        """The number of entries of a tensor of this shape."""
        n = 1
        for k in self:
            n *= k
        return n

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, key: Any) -> Any:
        if type(key) is slice:
            return Size(tuple(self)[key])
        return super().__getitem__(key)  # pyright: ignore[reportUnknownVariableType]

    def __add__(self, other: Any) -> Size:  # pyright: ignore[reportIncompatibleMethodOverride]  (any sequence, as there)
        return Size((*self, *other))
