"""Modules that are one function with settings: declared in a line instead of written out."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module

__all__ = ["NEEDED", "Declared"]

NEEDED: Any = type("Needed", (), {"__repr__": lambda self: "<required>"})()
"""The default of a setting that has none."""


class Declared(Module):
    """A module whose ``forward`` is ``functional.<function>`` with the module's settings as keywords.

        class LeakyReLU(Declared, function="leaky_relu", negative_slope=1e-2, inplace=False): ...

    The settings, in order, are the constructor's parameters, with their defaults, and become attributes.
    """

    _function = ""
    _settings: dict[str, Any] = {}  # noqa: RUF012 - replaced, never written to
    _shown: tuple[str, ...] | None = None

    def __init_subclass__(cls, function: str = "", shown: tuple[str, ...] | None = None, **settings: Any) -> None:
        super().__init_subclass__()
        if function:
            from inspect import Parameter, Signature

            cls._function, cls._settings, cls._shown = function, settings, shown
            cls.__signature__ = Signature(  # type: ignore[attr-defined]
                [
                    Parameter(k, Parameter.POSITIONAL_OR_KEYWORD, default=Parameter.empty if v is NEEDED else v)
                    for k, v in settings.items()
                ]
            )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        name, settings = type(self).__name__, self._settings
        if len(args) > len(settings):
            raise TypeError(
                f"{name}.__init__() takes from 1 to {len(settings) + 1} positional arguments but {len(args) + 1} "
                "were given"
            )
        given = dict(zip(settings, args, strict=False))
        for key, value in kwargs.items():
            if key not in settings:
                raise TypeError(f"{name}.__init__() got an unexpected keyword argument '{key}'")
            if key in given:
                raise TypeError(f"{name}.__init__() got multiple values for argument '{key}'")
            given[key] = value
        missing = [key for key, default in settings.items() if default is NEEDED and key not in given]
        if missing:
            raise TypeError(f"{name}.__init__() missing required arguments: {', '.join(map(repr, missing))}")
        self._set({**settings, **given})

    def _set(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            setattr(self, key, value)

    def forward(self, input: Any) -> Any:
        return getattr(F, self._function)(input, **{key: getattr(self, key) for key in self._settings})

    def extra_repr(self) -> str:
        shown = [key for key in self._settings if key != "inplace"] if self._shown is None else self._shown
        parts = [f"{key}={getattr(self, key)!r}" for key in shown]
        if self._shown is None and getattr(self, "inplace", False):
            parts.append("inplace=True")
        return ", ".join(parts)
