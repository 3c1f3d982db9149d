"""``torch.compiler``: answers of a program that is not inside PyTorch's compiler, and decorators that change nothing.

chainrule's own compiler is ``chainrule.compile``; it needs none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .core.state import state

__all__ = [
    "allow_in_graph", "assume_constant_result", "cudagraph_mark_step_begin", "disable", "is_compiling",
    "is_dynamo_compiling", "is_exporting", "list_backends", "reset", "set_stance", "substitute_in_graph",
]  # fmt: skip


def is_compiling() -> bool:
    """Whether a program is being recorded by ``chainrule.compile``."""
    return state.recorder is not None


def is_dynamo_compiling() -> bool:
    """False: PyTorch's Dynamo is not here."""
    return False


def is_exporting() -> bool:
    """False: there is no export."""
    return False


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """The function as it is: ``chainrule.compile`` records what runs, whoever calls it.

    >>> import chainrule as torch
    >>> @torch.compiler.disable
    ... def f(x):
    ...     return x + 1
    >>> f(1)
    2
    """
    return (lambda function: function) if fn is None else fn


def allow_in_graph(fn: Any) -> Any:
    """The function (or functions) as it is."""
    return fn


def assume_constant_result(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function as it is."""
    return fn


def substitute_in_graph(original_fn: Any, *, can_constant_fold_through: bool = False, **options: Any) -> Any:
    """A decorator that returns the function as it is."""
    return lambda function: function


class set_stance:
    """Accepted as a call, context manager and decorator, without effect."""

    def __init__(self, stance: str = "default", **options: Any) -> None:
        self.stance = stance

    def __enter__(self) -> set_stance:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function


def cudagraph_mark_step_begin() -> None:
    """Nothing: there are no CUDA graphs."""


def reset() -> None:
    """Nothing: compiled programs are kept by the functions that ``chainrule.compile`` returns."""


def list_backends(exclude_tags: Sequence[str] = ("debug", "experimental")) -> list[str]:
    """The one backend: ``["chainrule"]``."""
    return ["chainrule"]
