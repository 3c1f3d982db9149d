"""From running code to a ``Program``: while a ``Recorder`` is installed, every op application becomes an ``Instr``.

    recorder = Recorder()
    x = recorder.input(x, "x")
    with recorder:
        y = f(x)
    program = recorder.finish([y])

Values are recognised by the array objects that the ops made. What was not made inside is a constant, bound to its
memory; in-place writes give a tensor (and what it is a view of) a new value, and become ``updates`` at the end when the
memory came from outside.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import CodeType
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from ..core.inplace import owner
from ..core.locate import Place, place_of, user_frame
from ..core.op import Op, registry
from ..core.state import state
from ..core.variable import Variable, wrap
from ..errors import OpError, message
from .program import Instr, Program, Value

__all__ = ["Leak", "Recorder", "TraceError", "module_name"]


class TraceError(OpError):
    """What runs cannot be written down as a program."""


class Leak:
    """A value that left the traced code (``.item()``, ``.numpy()``), so that the program cannot see what came of it."""

    __slots__ = ("place", "what")

    def __init__(self, what: str, place: Place | None) -> None:
        self.what = what
        self.place = place

    def __repr__(self) -> str:
        return f"{self.what}() at {self.place}" if self.place else f"{self.what}()"


def module_name(chain: Any) -> str:
    """The running modules as a path of names, ``encoder.layers.0``; class names where no name is known."""
    modules: list[Any] = []
    while chain is not None:
        module, chain = chain
        modules.append(module)
    modules.reverse()
    if not modules:
        return ""
    root = modules[0]
    named = getattr(root, "named_modules", None)
    if named is not None:
        for name, m in named():
            if m is modules[-1]:
                return f"{type(root).__name__}.{name}" if name else type(root).__name__
    return ".".join(type(m).__name__ for m in modules)


def _forget(key: int, *of: Any) -> None:
    """An array has died: its id may be another one's from now on."""
    for known in of[:-1]:  # the last one is the reference itself
        known.pop(key, None)


class Recorder:
    """What ``state.recorder`` points to while code is being traced. A context manager; it may be entered repeatedly.

    * ``program``: what has been recorded so far (outputs and updates are set by ``finish``).
    * ``live_inputs``: ``(value, getter)`` of the inputs that every run of the program has to fetch anew.
    * ``leaks``: values that left the traced code. With ``strict`` the first one raises.
    * ``at``: a ``(place, module)`` to stamp instructions with, instead of the line that runs (for replays).
    * ``keeps``: whether every array stays alive, so that readers can ask for it later. Without, a recording takes no
      more memory than the code by itself.
    """

    keeps = True

    def __init__(self, *, strict: bool = False) -> None:
        self.program = Program()
        self.live_inputs: list[tuple[Value, Callable[[], Any]]] = []
        self.leaks: list[Leak] = []
        self.strict = strict
        self.at: tuple[Place | None, str] | None = None
        self._values: dict[int, tuple[Value, int]] = {}
        self._written: dict[int, dict[tuple[int, int], int]] = {}
        self._clock = 0
        self._outside: list[tuple[Value, Any]] = []
        self._copies: dict[int, tuple[Any, Any]] = {}
        self.apart: dict[int, Place | None] = {}
        """Copies in the place of views that were written, or read after their original was written; and where."""
        self._stale: set[int] = set()
        self._kept: list[Any] = []  # ids are only unique while the arrays live
        self._ends: dict[int, weakref.ref[Any]] = {}
        self._places: dict[tuple[CodeType, int], Place | None] = {}
        self._modules: dict[int, str] = {}
        self._previous: list[Any] = []

    def __enter__(self) -> Recorder:
        self._previous.append(state.recorder)
        state.recorder = self
        return self

    def __exit__(self, *exc: object) -> None:
        state.recorder = self._previous.pop()

    # --- what comes from outside ------------------------------------------------------------------------------

    def input(self, tensor: Any, name: str | None = None) -> Any:
        """Declare a tensor (or array) as an input of the program; returns it."""
        array = tensor._array if isinstance(tensor, Variable) else tensor
        value = Value(array.shape, array.dtype, name)
        self.program.inputs.append(value)
        self._outside.append((value, tensor))
        self._set(array, value)
        return tensor

    def live(self, getter: Callable[[], Any], dtype: Any = None) -> Any:
        """A tensor whose content ``getter()`` gives anew for every run: a learning rate, random numbers."""
        current = getter()
        array = current._array if isinstance(current, Variable) else np.asarray(current, dtype)
        tensor = current if isinstance(current, Variable) else wrap(array)
        value = Value(array.shape, array.dtype)
        self.program.inputs.append(value)
        self.live_inputs.append((value, getter))
        self._set(array, value)
        return tensor

    def constant(self, array: np.ndarray[Any, Any], name: str | None = None) -> Value:
        """The value of an array that the program reads but did not make."""
        value = Value(array.shape, array.dtype, name)
        self.program.constants[value] = array
        self._outside.append((value, array))
        self._set(array, value)
        return value

    # --- what dispatch reports --------------------------------------------------------------------------------

    def record(self, op: Op, inputs: Any, params: dict[str, Any], arrays: tuple[Any, ...]) -> None:
        """One op application: its inputs (tensors, arrays, numbers, None) and the arrays it gave, residuals last."""
        args = tuple(self._argument(x) for x in inputs)
        outs = tuple(self._made(a) for a in arrays)
        place, module = self.at if self.at is not None else self._here()
        self.program.instrs.append(Instr(op, args, dict(params), outs, place, module))

    def kept(self, array: Any, copy: Any) -> None:
        """``copy`` holds what the array holds now, which is about to be written."""
        self._set(copy, self.value(array))

    def copied(self, tensor: Any, of: Any) -> None:
        """``tensor`` is a copy of a part of ``of`` that would be a view of it without tracing: x[i], i a tensor."""
        self._copies[id(owner(tensor._array))] = (tensor._array, of)

    def given_back(self, value: Any, to: Any) -> None:
        """What such a copy has become is assigned to the part that it was taken from: x[i] += 1."""
        key = id(owner(value._array)) if isinstance(value, Variable) else 0
        if key in self._copies and self._copies[key][1] is to:
            self.apart.pop(key, None)
            self._stale.discard(key)

    def _part_ways(self, tensor: Any) -> None:
        """Note which copies differ from now on from what views would be."""
        root = owner(tensor._array)
        if id(root) in self._copies:
            self.apart.setdefault(id(root), self.at[0] if self.at is not None else self._here()[0])
        self._stale.update(key for key, (_, of) in self._copies.items() if owner(of._array) is root)

    def write(self, tensor: Any, value: Any) -> None:
        """An in-place write: ``tensor`` and all that it is a view of have new values from here on."""
        if self._copies:
            self._part_ways(tensor)
        new = self.value(value)
        chain: list[tuple[Any, Any, Value]] = []
        t = tensor
        self._known(tensor)
        while t._base is not None:
            chain.append((t._base, t._view, self.value(t._base)))
            t = t._base
        self._clock += 1
        memory = owner(tensor._array)
        if id(memory) not in self._ends:
            self._kept.append(memory)
        self._written.setdefault(id(memory), {})[byte_bounds(tensor._array)] = self._clock
        self._set(tensor._array, new)
        scatter = registry["view_scatter"]
        place, module = self.at if self.at is not None else self._here()
        for base, view, old in chain:
            merged = Value(old.shape, old.dtype)
            self.program.instrs.append(Instr(scatter, (old, new), {"view": view}, (merged,), place, module))
            self._set(base._array, merged)
            new = merged

    def known(self, tensor: Any) -> bool:
        """Whether a tensor has the same values in every run of the program, so that Python may look at them."""
        return False

    def leak(self, tensor: Any, what: str) -> None:
        """A value leaves the traced code; with ``strict`` that is an error."""
        frame = user_frame(sys._getframe(1))
        leak = Leak(what, None if frame is None else self._place(frame.f_code, frame.f_lasti))
        self.leaks.append(leak)
        if self.strict:
            raise TraceError(
                message(
                    f"a traced function called .{what}()",
                    "the program that is being recorded cannot depend on a number that Python code looks at",
                    at=leak.place,
                    source=leak.place.source if leak.place else "",
                    fix="Move it out of the traced function, or use tensor operations (where, clamp) instead.",
                )
            )

    # --- results ----------------------------------------------------------------------------------------------

    def value(self, x: Any) -> Value:
        """The value that a tensor or array has now."""
        array = x._array if isinstance(x, Variable) else x
        if self._stale and id(owner(array)) in self._stale:
            self.apart.setdefault(id(owner(array)), self.at[0] if self.at is not None else self._here()[0])
        found = self._values.get(id(array))
        if found is not None and (not self._written or found[1] >= self._last_write(array)):
            return found[0]
        if isinstance(x, Variable) and x._base is not None and (found is not None or self._last_write(array)):
            return self._view_again(x)
        if found is None:
            if self._last_write(array):
                raise TraceError(
                    message(
                        "memory that the traced code wrote to is read through an array made outside of it",
                        f"an array of shape {tuple(array.shape)}",
                        fix="Read the tensor that was written, or a view taken from it with tensor operations.",
                    )
                )
            return self.constant(array)
        raise TraceError(
            message(
                "memory was written through one tensor and is read through another that is no view of it",
                f"an array of shape {tuple(array.shape)}",
                fix="Write to and read from the same tensor.",
            )
        )

    def finish(self, outputs: Iterable[Any]) -> Program:
        """Set the outputs and the updates of outside memory, and hand out the program."""
        program = self.program
        program.outputs = [self.value(t) for t in outputs]
        program.updates = []
        if self._written:
            seen: set[int] = set()
            for value, x in list(self._outside):
                array = x._array if isinstance(x, Variable) else x
                if id(array) not in seen and self._last_write(array):
                    seen.add(id(array))
                    now = self.value(x)
                    if now is not value:
                        program.updates.append((value, now))
        return program

    # --- inside -----------------------------------------------------------------------------------------------

    def _last_write(self, array: Any) -> int:
        """When memory that the array occupies was last written; 0 if never. Neighbours in one buffer do not count."""
        spans = self._written.get(id(owner(array)))
        if spans is None:
            return 0
        low, high = byte_bounds(array)
        return max((clock for (start, stop), clock in spans.items() if start < high and low < stop), default=0)

    def _set(self, array: Any, value: Value) -> None:
        self._values[id(array)] = (value, self._clock)
        if self.keeps:
            self._kept.append(array)
        elif id(array) not in self._ends:
            forget = partial(_forget, id(array), self._values, self._written, self._ends)
            self._ends[id(array)] = weakref.ref(array, forget)

    def _made(self, array: Any) -> Value:
        if type(array) is not np.ndarray:
            array = np.asarray(array)
        value = Value(array.shape, array.dtype)
        self._set(array, value)
        return value

    def _argument(self, x: Any) -> Any:
        if isinstance(x, (Variable, np.ndarray)):
            return self.value(x)
        if isinstance(x, np.generic):
            return self.value(np.asarray(x))
        return x

    def _known(self, tensor: Any) -> None:
        """Make sure that outside memory about to be written has a value for its content before."""
        root = tensor
        while root._base is not None:
            root = root._base
        if id(root._array) not in self._values:
            self.constant(root._array)

    def _view_again(self, x: Any) -> Value:
        """A view whose base was written through another name: take it again from the base's new value."""
        base = self.value(x._base)
        described, params, output = x._view
        outs = (Value(x._array.shape, x._array.dtype),)
        if output is not None:
            shapes = described.body(np.broadcast_to(np.empty((), base.dtype), base.shape), **params)
            outs = tuple(Value(s.shape, s.dtype) for s in shapes)
        place, module = self.at if self.at is not None else self._here()
        self.program.instrs.append(Instr(described, (base,), dict(params), outs, place, module))
        value = outs[output or 0]
        self._set(x._array, value)
        return value

    def _here(self) -> tuple[Place | None, str]:
        frame = user_frame(sys._getframe(2))
        place = None if frame is None else self._place(frame.f_code, frame.f_lasti)
        chain = state.module
        if chain is None:
            return place, ""
        key = id(chain[0])
        name = self._modules.get(key)
        if name is None:
            name = self._modules[key] = module_name(chain)
            self._kept.append(chain)
        return place, name

    def _place(self, code: CodeType, lasti: int) -> Place | None:
        key = (code, lasti)
        if key not in self._places:
            self._places[key] = place_of(code, lasti)
        return self._places[key]
