"""Whether ops are recorded: ``no_grad``, ``enable_grad``, ``inference_mode``, ``set_grad_enabled``.

Each is a context manager and a decorator, with PyTorch's names.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from ..core.state import state

__all__ = [
    "no_grad",
    "enable_grad",
    "set_grad_enabled",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
]

F = TypeVar("F", bound=Callable[..., Any])


class _Mode:
    """Switches ``state.grad`` for a with block, a function or (each step of) a generator."""

    _value = False

    def __new__(cls, function: Any = None, /, *args: Any) -> Any:
        self = object.__new__(cls)
        if callable(function):  # @no_grad without parentheses
            self.__init__()
            return self(function)
        return self

    def __init__(self, *args: Any) -> None:
        self._previous: list[bool] = []

    def __enter__(self) -> None:
        self._previous.append(state.grad)
        state.grad = self._value

    def __exit__(self, *exc: object) -> None:
        state.grad = self._previous.pop()

    def _clone(self) -> _Mode:
        return type(self)()

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                running = function(*args, **kwargs)
                sent: Any = None
                while True:
                    with self._clone():
                        try:
                            value = running.send(sent)
                        except StopIteration as stop:
                            return stop.value
                    sent = yield value

            return generator  # type: ignore[return-value]

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._clone():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class no_grad(_Mode):
    """Nothing is recorded inside.

    >>> import chainrule as torch
    >>> x = torch.tensor(1.0, requires_grad=True)
    >>> with torch.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """


class enable_grad(_Mode):
    """Recording is on inside, also within ``no_grad``."""

    _value = True


class set_grad_enabled(_Mode):
    """Recording on or off: as a context manager, or as a function that switches at once."""

    def __new__(cls, mode: bool) -> Any:
        return object.__new__(cls)

    def __init__(self, mode: bool) -> None:
        self._value = bool(mode)
        self._previous = [state.grad]
        state.grad = self._value

    def __enter__(self) -> None:
        state.grad = self._value

    def __exit__(self, *exc: object) -> None:
        state.grad = self._previous[-1]

    def _clone(self) -> _Mode:
        return set_grad_enabled(self._value)

    def __call__(self, function: F) -> F:
        state.grad = self._previous[-1]  # as a decorator it must not switch now
        return super().__call__(function)


class inference_mode(_Mode):
    """Like ``no_grad``; results are inference tensors, which cannot be saved for backward later."""

    def __new__(cls, mode: Any = True) -> Any:
        self = object.__new__(cls)
        if callable(mode):
            self.__init__(True)
            return self(mode)
        return self

    def __init__(self, mode: bool = True) -> None:
        self._previous = []
        self._mode = mode
        self._outer: list[bool] = []

    def __enter__(self) -> None:
        self._previous.append(state.grad)
        self._outer.append(state.inference)
        if self._mode:
            state.grad, state.inference = False, True

    def __exit__(self, *exc: object) -> None:
        state.grad, state.inference = self._previous.pop(), self._outer.pop()

    def _clone(self) -> _Mode:
        return inference_mode(self._mode)


def is_grad_enabled() -> bool:
    """Whether ops on tensors that require grad are being recorded."""
    return state.grad


def is_inference_mode_enabled() -> bool:
    """Whether ``inference_mode`` is on."""
    return state.inference
