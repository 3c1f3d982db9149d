"""In-place writes: whose memory changed when, and how the histories of views follow.

Memory is identified by the array that owns it (NumPy views know their owner), so views, ``detach()`` and ``numpy()``
all share one record. A write stamps the owner with the clock; a node whose saved value lives in memory stamped later
than the node cannot run backward, and says who wrote.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

import numpy as np

from ..errors import GradientError, ModifiedError, message
from .dispatch import record
from .locate import place_of, user_frame
from .node import Node
from .op import registry
from .state import state, tick
from .variable import Variable, wrap

__all__ = ["write", "refresh", "check_unmodified", "version", "clock"]


class _Clock:
    """When the last in-place write of the process happened: nodes made later need no check at all."""

    last = 0


clock = _Clock()
_writes: dict[int, tuple[Any, int, int, Any, int]] = {}
"""id(owner) → (weak reference, time of last write, number of writes, code, offset)."""


def owner(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array at the end of the chain of views."""
    base = array.base
    while type(base) is np.ndarray:
        array, base = base, base.base
    return array


def touch(array: np.ndarray[Any, Any]) -> None:
    """Note that the memory of ``array`` has just been changed, and where."""
    root = owner(array)
    key = id(root)
    old = _writes.get(key)
    frame = user_frame(sys._getframe(1))
    where = (None, 0) if frame is None else (frame.f_code, frame.f_lasti)
    reference = old[0] if old is not None else weakref.ref(root, lambda _, k=key: _writes.pop(k, None))
    clock.last = now = tick()
    _writes[key] = (reference, now, 1 if old is None else old[2] + 1, *where)


def touch_all(roots: list[np.ndarray[Any, Any]]) -> None:
    """``touch`` for many arrays that own their memory, with one tick of the clock: an optimizer's step."""
    frame = user_frame(sys._getframe(1))
    code, lasti = (None, 0) if frame is None else (frame.f_code, frame.f_lasti)
    clock.last = now = tick()
    for root in roots:
        key = id(root)
        old = _writes.get(key)
        if old is None:
            reference = weakref.ref(root, lambda _, k=key: _writes.pop(k, None))
            _writes[key] = (reference, now, 1, code, lasti)
        else:
            _writes[key] = (old[0], now, old[2] + 1, code, lasti)


def version(array: np.ndarray[Any, Any]) -> int:
    """How often the memory of ``array`` was changed in place (PyTorch's ``_version``)."""
    found = _writes.get(id(owner(array)))
    return 0 if found is None else found[2]


def check_unmodified(node: Node) -> None:
    """Raise if a value that ``node`` saved has been changed since."""
    for i, values in enumerate(node.saved or ()):
        rule = node.op.rules[0 if node.op.variadic else i]
        if values is None or rule is None:
            continue
        for name, kind, value in zip(rule.names, rule.kinds, values, strict=True):
            for array in value if kind == "inputs" else (value,):
                if not isinstance(array, np.ndarray):
                    continue
                found = _writes.get(id(owner(array)))
                if found is not None and found[1] > node.seq:
                    _raise_modified(node, name, array, found)


def _raise_modified(node: Node, name: str, array: Any, found: Any) -> None:
    made, changed = node.place, place_of(found[3], found[4])
    what = (
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[{array.dtype.name} {list(array.shape)}], which is {'the output' if name == 'out' else f'input {name!r}'} "
        f"of {node.name()}"
    )
    details = [f"{node.op.name} saved it at {made}: {made.source}" if made else f"{node.op.name} saved it"]
    if changed is not None:
        details.append(f"it was changed at {changed}: {changed.source}")
    raise ModifiedError(message(what, *details, fix="Use the out-of-place form there, or write to a .clone()."))


# --- histories -------------------------------------------------------------------------------------------------


def _replay(view: Any, array: Any) -> Any:
    """Apply a recorded view (op, settings, output) to another array or tensor."""
    described, params, output = view
    result = described.call(array, **params)
    return result if output is None else result[output]


def refresh(t: Any) -> None:
    """Bring the history of a view up to date after an in-place write through its base or a sibling."""
    base = t._base
    if base is None:
        return
    if base._base is not None:
        refresh(base)
    if base._node is not t._seen:
        described, params, output = t._view
        with_grad = base._requires
        if with_grad:
            node = record(described, (base,), (base._array,), t._array, (), params)
            node.out = (t._array.shape, t._array.dtype)
            if output is not None:
                # One output of a multi-output view: as if it alone had been taken.
                fresh = _replay(t._view, base)
                t._node = fresh._node
            else:
                t._node = node
            t._requires = True
        t._seen = base._node


def check_writable(t: Any) -> None:
    """Raise as PyTorch does where an in-place write would destroy a leaf's identity."""
    if t._requires and state.grad:
        if t._node is None:
            raise GradientError(
                message(
                    "a leaf Variable that requires grad is being used in an in-place operation.",
                    fix="Wrap the update in `with torch.no_grad():`, or use the out-of-place form.",
                )
            )
    if state.grad and t._base is not None:
        base = t._base
        while base._base is not None:
            base = base._base
        if base._requires and base._node is None:
            raise GradientError(
                message(
                    "a view of a leaf Variable that requires grad is being used in an in-place operation.",
                    fix="Wrap the update in `with torch.no_grad():`, or write to a .clone().",
                )
            )


def write(t: Any, value: Any) -> Any:
    """Store ``value`` (a tensor already of t's shape and dtype) in t's memory; t takes value's history.

    The value is computed before anything is changed, so an error leaves t as it was.
    """
    check_writable(t)
    recorder = state.recorder
    source = value._array
    if source is not t._array:
        t._array[...] = source
    touch(t._array)
    if recorder is not None:
        recorder.write(t, value)
    if state.grad and (value._requires or t._requires):
        _adopt(t, value._node if value._node is not None else (value if value._requires else None), value._requires)
    return t


def _adopt(t: Any, node: Any, requires: bool) -> None:
    """Give t a new history, and hand it on to what t is a view of."""
    base = t._base
    if base is None:
        t._node, t._requires = node, requires
        if isinstance(node, Variable):  # the written value was a leaf: an identity node stands between
            t._node = _identity(t, node)
        return
    refresh(base)
    v = wrap(t._array, node if not isinstance(node, Variable) else None, requires)
    if isinstance(node, Variable):
        v = node
    if base._requires or requires:
        described = registry["view_scatter"]
        scatter = record(described, (base, v), (base._array, t._array), None, (), {"view": t._view})
        scatter.out = (base._array.shape, base._array.dtype)
        _adopt(base, scatter, True)
        refresh(t)


def _identity(t: Any, leaf: Any) -> Node:
    described = registry["clone"]
    node = record(described, (leaf,), (leaf._array,), t._array, (), {})
    node.out = (t._array.shape, t._array.dtype)
    return node


