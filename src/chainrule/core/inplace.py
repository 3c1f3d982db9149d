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
from .dtypes import FLOATS
from .locate import place_of, user_frame
from .node import Node
from .op import registry
from .state import state, tick
from .untyped import ARRAY, TUPLE
from .variable import Variable, wrap

__all__ = [
    "Together", "adopt", "alias", "become", "change", "check_unmodified", "check_writable", "clock", "forget", "owner",
    "protect", "refresh", "touch", "touch_all", "version", "write", "written",
]  # fmt: skip


class _Clock:
    """When the last in-place write of the process happened: nodes made later need no check at all."""

    last = 0


clock = _Clock()
_writes: dict[int, tuple[Any, int, int, Any, int]] = {}
"""id(owner) → (weak reference, time of last write, number of writes, code, offset)."""


def owner(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array at the end of the chain of views."""
    base: Any = array.base
    while base is not None:
        if type(base) is np.ndarray:
            array = base
        base = getattr(base, "base", None)  # NumPy's stride tricks put an object of their own in between
    return array


def touch(array: np.ndarray[Any, Any]) -> None:
    """Note that the memory of ``array`` has just been changed, and where."""
    root = owner(array)
    key = id(root)
    old = _writes.get(key)
    frame = user_frame(sys._getframe(1))
    code, lasti = (None, 0) if frame is None else (frame.f_code, frame.f_lasti)
    reference = old[0] if old is not None else weakref.ref(root, lambda _, k=key: _writes.pop(k, None))
    clock.last = now = tick()
    _writes[key] = (reference, now, 1 if old is None else old[2] + 1, code, lasti)


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


_together: dict[int, list[list[int]]] = {}
"""id(owner) → the stamps (time of last write, number of writes) of the groups that it is written with."""
COMPILED = -1
"""Stands in the place of the offset where a compiled step wrote."""


class Together:
    """Memory that is always written together, by a compiled step: one stamp for all of it, however much there is."""

    __slots__ = ("__weakref__", "_roots", "_stamp")

    def __init__(self, arrays: Any) -> None:
        self._roots: list[np.ndarray[Any, Any]] = []
        self._stamp = [0, 0]
        self.over(arrays)

    def __bool__(self) -> bool:
        return bool(self._roots)

    def over(self, arrays: Any) -> None:
        """It is the memory of these arrays from now on; what was counted stays with the memory it was counted for."""
        time, count = self._stamp
        for root in self._roots:
            key = id(root)
            stamps = _together.get(key, [])
            stamps[:] = [stamp for stamp in stamps if stamp is not self._stamp]
            if not stamps:
                _together.pop(key, None)
            if count:
                old = _writes.get(key)
                reference = old[0] if old is not None else weakref.ref(root, lambda _, k=key: _writes.pop(k, None))
                _writes[key] = (reference, time, count + (old[2] if old else 0), None, COMPILED)
        self._stamp = [0, 0]
        self._roots = list({id(root): root for root in map(owner, arrays)}.values())
        for root in self._roots:
            _together.setdefault(id(root), []).append(self._stamp)

    def __del__(self) -> None:
        self.over(())

    def touch(self) -> None:
        self._stamp[0] = clock.last = tick()
        self._stamp[1] += 1


def written(root: np.ndarray[Any, Any]) -> Any:
    """The record of the writes to memory: (reference, time, number, code, offset) of the last, or None."""
    key = id(root)
    found: Any = _writes.get(key)
    for time, count in _together.get(key, ()):
        if count:
            if found is None:
                found = (None, time, count, None, COMPILED)
            else:
                last = found if found[1] > time else (None, time, 0, None, COMPILED)
                found = (*last[:2], found[2] + count, *last[3:])
    return found


def forget(array: np.ndarray[Any, Any]) -> None:
    """Take the memory of ``array`` as never written."""
    key = id(owner(array))
    _writes.pop(key, None)
    for stamp in _together.get(key, ()):
        stamp[:] = 0, 0


def version(array: np.ndarray[Any, Any]) -> int:
    """How often the memory of ``array`` was changed in place (PyTorch's ``_version``)."""
    found = written(owner(array))
    return 0 if found is None else found[2]


def _suspect(node: Node) -> bool:
    """Whether a saved array may have been changed: ``check_unmodified`` in the fewest steps, since nearly none was."""
    since = node.seq
    for values in node.saved or ():
        for value in values or ():
            if isinstance(value, ARRAY):
                found = written(value if value.base is None else owner(value))
                if found is not None and found[1] > since:
                    return True
    return False


def check_unmodified(node: Node) -> None:
    """Raise if a value that ``node`` saved has been changed since."""
    if not (node.op.variadic or _suspect(node)):
        return
    for i, values in enumerate(node.saved or ()):
        rule = node.op.rules[0 if node.op.variadic else i]
        if values is None or rule is None:
            continue
        for name, kind, value in zip(rule.names, rule.kinds, values, strict=True):
            array: Any
            for array in value if kind == "inputs" else (value,):
                if not isinstance(array, ARRAY):
                    continue
                found = written(owner(array))
                if found is not None and found[1] > node.seq:
                    raise_modified(node, name, array, found)


def writes_of(array: Any) -> Any:
    """The record of the writes to an array's memory, or None: (reference, time, number, code, offset)."""
    return written(owner(array))


def raise_modified(node: Node | None, name: str, array: Any, found: Any, function: str = "") -> None:
    """Say that a saved value was changed: where it was saved, and where it was changed."""
    made = None if node is None else node.place
    changed = place_of(found[3], found[4])
    function = function if node is None else node.name()
    what = (
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[{array.dtype.name} {list(array.shape)}], which is {'the output' if name == 'out' else f'input {name!r}'} "
        f"of {function}"
    )
    details = [f"{function} saved it at {made}: {made.source}" if made else f"{function} saved it"]
    if changed is not None:
        details.append(f"it was changed at {changed}: {changed.source}")
    elif found[4] == COMPILED:
        details.append("it was changed by a compiled step")
    raise ModifiedError(message(what, *details, fix="Use the out-of-place form there, or write to a .clone()."))


# --- histories -------------------------------------------------------------------------------------------------

_MULTIPLE = (
    "This view is the output of a function that returns multiple views. Such functions do not allow "
    "the output views to "
    "be modified inplace. You should replace the inplace operation by an out-of-place one."
)
_NO_GRAD = (
    "Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both "
    "the view and the inplace either both inside the no_grad block (if you don't want the inplace to be tracked) or "
    "both outside (if you want the inplace to be tracked)."
)


def _made_without_grad(t: Any) -> bool:
    """Whether a view was taken under ``no_grad`` from a tensor that has a history."""
    return t._node is None and not t._requires and t._seen is not None


def refresh(t: Any) -> None:
    """Bring the history of a view up to date after an in-place write through its base or a sibling.

    Raises:
        GradientError: as in PyTorch, for one of several views (``split``) and for a view made under ``no_grad``.
    """
    base = t._base
    if base is None:
        return
    if base._base is not None:
        refresh(base)
    if base._node is t._seen:
        return
    described, params, output = t._view
    if base._requires and t._array.dtype in FLOATS:
        if output is not None:
            what = (
                f"Output {output} of {described.node_name} is a view and its base or another view of its base has been"
            )
            raise GradientError(message(f"{what} modified inplace. {_MULTIPLE}"))
        if _made_without_grad(t):
            if not state.grad:
                return
            what = "A view was created in no_grad mode and its base or another view of its base has been"
            raise GradientError(message(f"{what} modified inplace with grad mode enabled. {_NO_GRAD}"))
        node = record(described, (base,), (base._array,), t._array, (), params)
        if node is not None:
            node.out = (t._array.shape, t._array.dtype)
            t._node, t._requires = node, True
    t._seen = base._node


def _overlaps(array: np.ndarray[Any, Any]) -> bool:
    """Whether several entries are one and the same place in memory (an expanded tensor)."""
    return (
        0 in array.strides
        and array.size > 0
        and any(s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True))
    )


def check_writable(t: Any, value: Any = None) -> None:
    """Raise as PyTorch does where an in-place write would destroy a leaf's identity or a view's history."""
    if state.grad:
        _check_history(t, value)
    if _overlaps(t._array):
        raise GradientError(
            message(
                "unsupported operation: more than one element of the written-to tensor refers to a single memory "
                "location. Please clone() the tensor before performing the operation.",
                f"the tensor is {tuple(t._array.shape)}, expanded from something smaller",
            )
        )


def _check_history(t: Any, value: Any) -> None:
    base = t._base
    if base is not None:
        refresh(t)
        root = base
        while root._base is not None:
            root = root._base
        if root._requires and root._node is None:
            raise GradientError(
                message(
                    "a view of a leaf Variable that requires grad is being used in an in-place operation.",
                    fix="Wrap the update in `with torch.no_grad():`, or write to a .clone().",
                )
            )
    if t._requires and t._node is None:
        raise GradientError(
            message(
                "a leaf Variable that requires grad is being used in an in-place operation.",
                fix="Wrap the update in `with torch.no_grad():`, or use the out-of-place form.",
            )
        )
    if base is not None and (base._requires or (value is not None and value._requires)):
        described, _, output = t._view
        if output is not None:
            what = f"Output {output} of {described.node_name} is a view and is being modified inplace."
            raise GradientError(message(f"{what} {_MULTIPLE}"))
        if _made_without_grad(t):
            what = "A view was created in no_grad mode and is being modified inplace with grad mode enabled."
            raise GradientError(message(f"{what} {_NO_GRAD}"))


def write(t: Any, value: Any, *, copies: bool = False) -> Any:
    """Store ``value`` (a tensor already of t's shape and dtype) in t's memory; t takes value's history.

    ``copies``: the value is another tensor's, not computed for t; then a node of t's own stands between, so that hooks
    on either see their own gradient. The value is computed before anything is changed, so an error leaves t as it was.
    """
    check_writable(t, value)
    recorder = state.recorder
    if recorder is not None and hasattr(recorder, "writing"):
        recorder.writing(t)  # it may keep what stands there
    source = value._array
    if source is not t._array:
        t._array[...] = source
    touch(t._array)
    if recorder is not None:
        recorder.write(t, value)
    if state.grad and (value._requires or t._requires):
        node = value._node
        if t._base is None and (copies or not value._requires or node is None):
            node = _overwritten(t, value)
        adopt(t, value if node is None else node, value._requires or t._requires)
    return t


def change(t: Any, described: Any, others: tuple[Any, ...], params: dict[str, Any], how: Any) -> Any:
    """Apply an op in t's own memory: ``how(array)`` changes it to what ``described(t, *others)`` would give.

    Only for ops whose rules save neither t nor the output. Nothing is copied, so writing a few entries of a large
    tensor costs a few entries.
    """
    if state.recorder is not None:
        return write(t, described.call(t, *others, **params))
    value = next((v for v in others if isinstance(v, Variable) and v._requires), None)
    check_writable(t, value)
    how(t._array)
    touch(t._array)
    if state.grad and (t._requires or value is not None):
        inputs = (t, *others)
        arrays = tuple(x._array if isinstance(x, Variable) else x for x in inputs)
        node = record(described, inputs, arrays, t._array, (), params)
        if node is not None:
            node.out = (t._array.shape, t._array.dtype)
            adopt(t, node, True)
    return t


def adopt(t: Any, node: Any, requires: bool) -> None:
    """Give t a new history, and hand it on to what t is a view of. ``node`` may be a tensor: then its history."""
    base = t._base
    if base is None:
        t._node, t._requires = (node._node if isinstance(node, Variable) else node), requires
        return
    refresh(base)
    v = node
    if not isinstance(v, Variable):
        v = wrap(t._array, node, requires)
    if base._requires or v._requires:
        described = registry["view_scatter"]
        scatter = record(described, (base, v), (base._array, t._array), None, (), {"view": t._view})
        if scatter is None:
            return
        scatter.out = (base._array.shape, base._array.dtype)
        adopt(base, scatter, True)
        refresh(t)


def _overwritten(t: Any, value: Any) -> Node | None:
    """The node of a write that does not depend on what was there before."""
    node = record(registry["overwrite"], (t, value), (t._array, value._array), t._array, (), {})
    if node is not None:
        node.out = (t._array.shape, t._array.dtype)
    return node


def become(t: Any, value: Any) -> Any:
    """Make t what ``value``, a view of t, is: ``t_()``, ``squeeze_()``. (The memory stays, so nothing was written.)"""
    if t._base is not None:
        t._base, t._view, t._seen = value._base, value._view, value._seen
    t._array, t._node, t._requires = value._array, value._node, value._requires
    return t


def alias(t: Any) -> Any:
    """Another tensor object at t's place in the graph, over the same memory."""
    other = wrap(t._array, t._node, t._requires)
    other._base = t._base
    if t._base is not None:
        other._view, other._seen = t._view, t._seen
    return other


def _copied(x: Any, root: Any, copies: dict[int, Any]) -> Any:
    """``x`` (an array, a tuple of such, or anything else) with copies in place of arrays in root's memory."""
    if type(x) is TUPLE:
        return tuple([_copied(v, root, copies) for v in x])
    if isinstance(x, ARRAY) and owner(x) is root:
        if id(x) not in copies:
            copies[id(x)] = x.copy()
            kept = getattr(state.recorder, "kept", None)
            if kept is not None:
                kept(x, copies[id(x)])
        return copies[id(x)]
    return x


def protect(t: Any, value: Any, since: int) -> None:
    """Before ``value``, computed from t just now, is written into t's memory: nodes made since the tick ``since`` that
    saved t's content get a copy of it (in-place forms differentiate as their out-of-place ones do)."""
    root, copies, seen = owner(t._array), dict[int, Any](), set[int]()
    stack = [value._node]

    while stack:
        node = stack.pop()
        node = node[0] if type(node) is TUPLE else node
        if not isinstance(node, Node) or node.seq < since or id(node) in seen or node.saved is None:
            continue
        seen.add(id(node))
        node.saved = [None if values is None else _copied(values, root, copies) for values in node.saved]
        if node.consts is not None:
            node.consts = _copied(node.consts, root, copies)
        stack.extend(node.edges)
