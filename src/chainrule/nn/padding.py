"""Padding layers, for 1, 2 and 3 spatial axes."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module

__all__: list[str] = []


class _Pad(Module):
    _n = 0
    _mode = ""

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = (padding,) * (2 * self._n) if isinstance(padding, int) else tuple(padding)

    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    _mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


def _declare() -> None:
    kinds = (
        ("ConstantPad", _ConstantPad, "constant", "a constant"), ("ZeroPad", _ZeroPad, "constant", "zeros"),
        ("ReflectionPad", _Pad, "reflect", "the mirror image, without repeating the edge"),
        ("ReplicationPad", _Pad, "replicate", "copies of the edge"), ("CircularPad", _Pad, "circular", "the other end"),
    )  # fmt: skip
    for name, base, mode, what in kinds:
        for n in (1, 2, 3):
            body = {"__doc__": f"Around the last {n} axes: {what}.", "__module__": __name__, "_n": n, "_mode": mode}
            globals()[f"{name}{n}d"] = type(f"{name}{n}d", (base,), body)
            __all__.append(f"{name}{n}d")


_declare()
