"""Running a function once with a recorder: what it computes, what it reads afresh, and the way back.

The run is undone when it is over: memory that was written gets its old content back, step counts and random streams
their old state. So an error inside leaves no trace, and the first step is made by the native code like all later ones.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..core.inplace import owner, touch
from ..core.locate import user_frame
from ..core.variable import Variable, wrap
from ..errors import message
from ..graph.program import Instr, Value
from ..graph.trace import Leak, Recorder
from .errors import CompileError
from .passes import IMPURE
from .reach import Reach

__all__ = ["Recording", "Snapshot"]

_FIXES = {
    "print": "Return the tensor and print it after the call.",
    "take_mask": "Use torch.where(mask, x, 0), which keeps the shape.",
    "LBFGS.step": "Compile the function that computes the loss and its gradients, and leave the step outside.",
    "DataLoader": "Read the batch outside and pass it as an argument.",
    "bool": "Write the choice with torch.where, or return the tensor and decide outside.",
    "clip_grad_norm_(error_if_nonfinite=True)": "Look at the norm that is returned, after the call.",
}


_VALUE_SHAPED = {"take_mask": 1, "nonzero": 0, "bincount": 0}
"""Ops whose result's shape depends on values, and the input whose values."""


class Recording(Recorder):
    """A recorder that knows how to undo what it saw, and what has to be done again before every run.

    * ``actions``: ``(kind, call, memory, save)``, in order: "do" (a count), "live" and "many" (numbers to read afresh),
      "options" (the same, but only where an optimizer's options changed), "draw" (random numbers).
    * ``tensors``: the tensor behind a constant.
    * ``gradients``: ``id(p) → (p, had one)`` for gradients that were read before anything was put there.
    """

    keeps = False

    def __init__(self) -> None:
        super().__init__(strict=True)
        self.actions: list[tuple[str, Any, Any, Any]] = []
        self.tensors: dict[Value, Any] = {}
        self.gradients: dict[int, tuple[Any, bool]] = {}
        self.inputs: list[Any] = []
        self.numpy_inputs: list[Any] = []
        self._set_first: set[int] = set()
        self._undo: list[Callable[[], None]] = []
        self._logged: dict[int, Any] = {}
        self.outside: Callable[[], Iterable[Any]] = list
        """The arrays that were there before."""
        self._makers: dict[Value, Instr] = {}
        self._looked_at = 0
        self._fixed: set[Value] = set()
        """Values that are known to be the same in every run."""

    # -- numbers that change from step to step ---------------------------------------------------------------------

    def live(self, getter: Callable[[], Any], dtype: Any = None) -> Any:
        current = getter()
        array = np.array(current._array if isinstance(current, Variable) else current, dtype)
        self.constant(array)
        self.actions.append(("live", getter, array, None))
        return wrap(array)

    def live_all(self, getter: Callable[[], Any], size: int, options: bool = False) -> list[Any]:
        """``size`` numbers from one call of ``getter``; ``options``: they depend on an optimizer's options alone."""
        memory = np.array(getter(), np.float64)
        parts = [memory[i : i + 1].reshape(()) for i in range(size)]
        for part in parts:
            self.constant(part)
        self.actions.append(("options" if options else "many", getter, memory, None))
        return [wrap(part) for part in parts]

    def each_run(self, action: Callable[[], None], save: Callable[[], Callable[[], None]]) -> None:
        self._undo.append(save())
        action()
        self.actions.append(("do", action, None, save))

    def random(self, t: Any, draw: Callable[[], Any] | None = None) -> None:
        if draw is None:
            self.leak(t, "random number generator with parameters that are tensors")
            return
        self.constant(t._array)
        self.actions.append(("draw", draw, t._array, None))

    # -- gradients -------------------------------------------------------------------------------------------------

    def gradient_read(self, p: Any) -> None:
        if id(p) not in self._set_first and id(p) not in self.gradients:
            self.gradients[id(p)] = (p, p._grad is not None)

    def gradient_set(self, p: Any) -> None:
        if id(p) not in self.gradients:
            self._set_first.add(id(p))

    # -- memory ----------------------------------------------------------------------------------------------------

    def writing(self, t: Any) -> None:
        """Keep the content of memory that is about to be written."""
        array = t._array
        if id(array) not in self._logged and array.flags.writeable:  # else the write is about to raise
            self._logged[id(array)] = array
            content = array.copy()

            def back() -> None:
                array[...] = content
                touch(array)

            self._undo.append(back)

    def constant(self, array: np.ndarray[Any, Any], name: str | None = None) -> Value:
        for t in self.numpy_inputs:
            given = t._array
            if owner(array) is owner(given) and np.may_share_memory(array, given):
                if array.shape == given.shape and array.strides == given.strides and array.dtype == given.dtype:
                    self._set(array, self.value(t))  # np.asarray(x), torch.from_numpy(x)
                    return self.value(t)
                raise CompileError(message(
                    "compile: part of a NumPy argument was taken by NumPy",
                    f"an array of shape {array.shape} of an argument of shape {given.shape}",
                    at=self._here()[0],
                    fix="Make a tensor of the argument first, then index the tensor.",
                ))  # fmt: skip
        return super().constant(array, name)

    def value(self, x: Any) -> Value:
        found = super().value(x)
        if isinstance(x, Variable) and found in self.program.constants and found not in self.tensors:
            self.tensors[found] = x
        return found

    def record(self, op: Any, inputs: Any, params: dict[str, Any], arrays: tuple[Any, ...]) -> None:
        if op.name in _VALUE_SHAPED:
            self.leak(inputs[_VALUE_SHAPED[op.name]], op.name)
        super().record(op, inputs, params, arrays)

    def known(self, tensor: Any) -> bool:
        """Whether a tensor was computed from nothing but what the function itself makes the same way in every run."""
        for instr in self.program.instrs[self._looked_at :]:
            self._makers.update(dict.fromkeys(instr.outs, instr))
        self._looked_at = len(self.program.instrs)
        to_see, seen = [self.value(tensor)], set[Value]()
        while to_see:
            v = to_see.pop()
            if v in seen or v in self._fixed:
                continue
            seen.add(v)
            maker = self._makers.get(v)
            if not self._made_inside(v) if maker is None else maker.op.name in IMPURE:
                return False
            to_see += maker.values if maker is not None else ()
        self._fixed |= seen
        return True

    def _made_inside(self, v: Value) -> bool:
        """Whether a value that no op made is the function's own, and no number that is read afresh in every run."""
        array = self.program.constants.get(v)
        if array is None:
            return False
        root: Any = array if array.base is None else array.base
        if type(root) is not np.ndarray or root.base is not None:
            return False  # a buffer of somebody's
        if root is not array and sys.getrefcount(root) > 3:  # by the array, the variable and the call
            return False  # torch.from_numpy(a)
        read_afresh = any(memory is root for _, _, memory, _ in self.actions)
        return not read_afresh and not any(root is owner(a) for a in self.outside())

    def leak(self, tensor: Any, what: str) -> None:
        if tensor is not None and self.known(tensor):
            return
        frame = user_frame(sys._getframe(1))
        leak = Leak(what, None if frame is None else self._place(frame.f_code, frame.f_lasti))
        self.leaks.append(leak)
        raise self.leaked(leak)

    def leaked(self, leak: Leak) -> CompileError:
        what = leak.what
        if what in _VALUE_SHAPED:
            shown = f"the shape of {'x[mask]' if what == 'take_mask' else what + '()'} depends on the values"
        else:
            used = f"called {what}()" if what.replace(".", "").isidentifier() else f"uses {what}"
            shown = "a tensor is printed inside" if what == "print" else f"a compiled function {used}"
        return CompileError(message(
            f"compile: {shown}",
            "the function is recorded once and runs as native code, which cannot go back to Python for a number",
            at=leak.place, source=leak.place.source if leak.place else "",
            fix=_FIXES.get(what, "Return the tensor and look at it outside, or use tensor operations (where, clamp)."),
        ))  # fmt: skip

    def made_arrays(self) -> list[Any]:
        """Arrays that the recorded ops made (each once)."""
        outside = {id(a) for a in self.program.constants.values()} | {id(t._array) for t in self.inputs}
        alive = [*self._kept, *(ref() for ref in self._ends.values())]
        return list({id(a): a for a in alive if type(a) is np.ndarray and id(a) not in outside}.values())

    # -- back ------------------------------------------------------------------------------------------------------

    def rewind(self) -> None:
        """Undo what the function did to memory and counts."""
        while self._undo:
            self._undo.pop()()
        self._logged.clear()


class Snapshot:
    """What running a function may change besides what the recorder sees."""

    def __init__(self, reach: Reach, leaves: list[Any]) -> None:
        from ..core.rng import default_generator

        tensors = {id(t): t for t in (*reach.tensors.values(), *leaves)}.values()
        self.tensors = [
            (t, t._array, t._array.copy(), t._grad, None if t._grad is None else t._grad._array.copy(), t._requires)
            for t in tensors
        ]
        self.training = [(m, m.training) for m in reach.modules.values()]
        self.optimizers: list[Any] = []
        for o in reach.optimizers.values():
            slots = {
                p: {k: (v, v._array.copy() if isinstance(v, Variable) else v) for k, v in d.items()}
                for p, d in o.state.items() if isinstance(d, dict)
            }  # fmt: skip
            plan = o.__dict__.get("_plan")
            counts = [(lane, lane.count) for _, lane in plan[0]] if plan else []
            self.optimizers.append((o, slots, plan, counts))
        generators = {id(g): g for g in (default_generator, *reach.generators.values())}.values()
        self.streams = [(g, g.get_state()) for g in generators]
        self.foreign = [(g, _state_of(g)) for g in (np.random, random, *reach.foreign.values())]

    def arrays(self) -> Iterable[Any]:
        """The arrays of all tensors that were there."""
        for t, array, _, grad, _, _ in self.tensors:
            yield array
            yield t._array
            if grad is not None:
                yield grad._array
        for o, slots, _, _ in self.optimizers:
            yield from (v._array for d in slots.values() for v, _ in d.values() if isinstance(v, Variable))
            options = (x for held in (vars(o), *o.param_groups) for x in held.values())
            yield from (x._array for x in options if isinstance(x, Variable))

    def rewind(self, recording: Recording) -> list[tuple[Any, bool]]:
        """Put everything back but the optimizers' new state; returns the modules that changed their mode."""
        recording.rewind()
        for t, array, content, grad, grad_content, requires in self.tensors:
            t._array = array
            if array.flags.writeable and not np.array_equal(array, content):
                array[...] = content
            t._grad, t._requires = grad, requires
            if grad is not None:
                grad._array[...] = grad_content
        for g, s in self.streams:
            g.set_state(s)
        changed = [(m, m.training) for m, mode in self.training if m.training is not mode]
        for m, mode in self.training:
            if m.training is not mode:
                m.training = mode
        return changed

    def restore(self, recording: Recording) -> None:
        """Put everything back."""
        self.rewind(recording)
        for g, s in self.foreign:
            if not _same_state(_state_of(g), s):
                _set_state(g, s)
        for o, slots, plan, counts in self.optimizers:
            o.state.clear()
            for p, d in slots.items():
                for v, content in d.values():
                    if isinstance(v, Variable):
                        v._array[...] = content
                o.state[p] = {k: v for k, (v, _) in d.items()}
            if hasattr(o, "_plan"):
                o._plan = plan
            for lane, count in counts:
                lane.count = count

    def drawn_unseen(self, recording: Recording) -> str:
        """What drew random numbers that later runs would not draw again; "" if nothing did."""
        for g, s in self.foreign:
            if not _same_state(_state_of(g), s):
                return "Python's random" if g is random or isinstance(g, random.Random) else "NumPy's random numbers"
        after = [g.get_state()._array.copy() for g, _ in self.streams]
        for g, s in self.streams:
            g.set_state(s)
        for kind, action, _, _ in recording.actions:
            if kind == "draw":
                action()
        seen = all(np.array_equal(g.get_state()._array, a) for (g, _), a in zip(self.streams, after, strict=True))
        return "" if seen else "random numbers that depend on tensors"


def _state_of(g: Any) -> Any:
    """The state of a generator of NumPy's or Python's, or of the stream that ``np.random`` or ``random`` draws from."""
    if isinstance(g, np.random.Generator):
        return g.bit_generator.state
    return g.get_state() if hasattr(g, "get_state") else g.getstate()


def _set_state(g: Any, s: Any) -> None:
    if isinstance(g, np.random.Generator):
        g.bit_generator.state = s
    else:
        g.set_state(s) if hasattr(g, "set_state") else g.setstate(s)


def _same_state(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same_state(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same_state, a, b))
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
