"""Handles for hooks: registering gives one, ``handle.remove()`` (or leaving a with block) takes the hook away."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from .state import tick

__all__ = ["NodeHooks", "RemovableHandle", "add_hook", "changes", "note_change"]

changes = {"count": 0}
"""How often a hook was added or removed, or a mode of the engine was set, anywhere: compiled steps look again then."""


def note_change() -> None:
    """Have compiled steps look at their hooks and at the modes again."""
    changes["count"] += 1


class RemovableHandle:
    """Removes one hook from the dict it was put in, which it holds weakly where it can: it keeps no module alive."""

    def __init__(self, hooks: dict[int, Any]) -> None:
        self.id = tick()
        self._hold(hooks)

    def _hold(self, hooks: Any) -> None:
        try:
            self._hooks: Any = weakref.ref(hooks)
        except TypeError:  # a plain dict cannot be referenced weakly; None is that of a handle which outlived its dict
            self._hooks = lambda: hooks

    def __getstate__(self) -> Any:
        return self._hooks(), self.id

    def __setstate__(self, saved: Any) -> None:
        self.id = saved[1]
        self._hold(saved[0])

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)
            changes["count"] += 1

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def add_hook(hooks: dict[int, Any], hook: Any) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    changes["count"] += 1
    return handle


class NodeHooks:
    """What is attached to one node: hooks on its outputs' gradients, retained gradients, hooks on the node itself."""

    __slots__ = ("outputs", "retained", "pre", "post", "packed", "metadata")

    def __init__(self) -> None:
        self.outputs: dict[int, dict[int, Callable[[Any], Any]]] = {}
        self.retained: dict[int, Any] = {}
        self.pre: dict[int, Callable[..., Any]] = {}
        self.post: dict[int, Callable[..., Any]] = {}
        self.metadata: dict[str, Any] = {}
        self.packed = False  # whether what the node saved went through saved_tensors_hooks
