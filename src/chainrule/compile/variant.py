"""One recording of a function, compiled, with its guards: what a call with arguments of one kind runs.

The function runs once under a recorder and everything it did is undone; the program goes through the passes and becomes
native code, which then makes this first step and all later ones.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np

from ..core import inplace
from ..core.state import state
from ..core.variable import Variable, wrap
from ..errors import ChainruleError, message
from ..graph.program import Program, Value
from .arguments import objects_in, traced_argument
from .effects import check_effects, check_written, kept_tensor, memory_given
from .errors import CompileError
from .guards import Guards
from .reach import Reach
from .recording import Recording, Snapshot
from .results import read_results

__all__ = ["MISS", "Variant", "busy", "running"]

busy = np.zeros(1, np.int64)
"""How many recordings and runs that call Python inside are going on: no step of another thread may start meanwhile."""
MISS = object()
"""What a run gives back when its guards do not hold."""
running = threading.RLock()
"""One compiled step runs, or is recorded, at a time: steps may share parameters."""
_refs = sys.getrefcount


def _forked() -> None:
    """In a child: the thread that held the lock stayed behind."""
    running._at_fork_reinit()  # type: ignore[attr-defined]  # as the standard library does with its own locks
    busy[0] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Variant:
    """One recorded and compiled program with its guards."""

    once: bool
    """Whether an argument is a view of memory that the program knows by another name: for this call alone."""

    def __init__(self, fn: Any, args: Any, kwargs: Any, spec: Any, leaves: list[Any]) -> None:
        self.spec, self.leaves_n = spec, len(leaves)
        self.requires = [t._requires for t in leaves]
        if state.grad:
            for t in leaves:
                if t._requires and t._node is not None:
                    raise CompileError(message(
                        "compile: an argument has a graph of its own", f"shape {tuple(t._array.shape)}: gradients "
                        "would have to flow out of the native code", fix="Pass x.detach(), or call the function under "
                        "torch.no_grad(), or compute the argument inside.",
                    ))  # fmt: skip
        reach = Reach(fn, args, kwargs)
        self.same_as = _captured(fn, spec, leaves, reach)
        snapshot = Snapshot(reach, leaves)
        recording = Recording()
        recording.outside = snapshot.arrays
        self.inputs_at: list[int] = []
        for i, t in enumerate(leaves):
            if all(t._array is not leaves[j]._array for j in self.inputs_at):
                self.inputs_at.append(i)
                recording.input(t, f"x{i}")
                recording.inputs.append(t)
        arrays = list(_arrays((args, kwargs)))
        recording.numpy_inputs = [t for t in leaves if any(t._array is a for a in arrays)]
        try:
            with recording:
                if arrays:
                    args, kwargs = traced_argument(args), traced_argument(kwargs)
                # In a list, so that nobody else holds it when the tensors that live on are looked for.
                result = [fn(*args, **kwargs)]
            frozen = self.finish(reach, snapshot, recording, leaves, result)
        except BaseException:
            snapshot.restore(recording)
            reach.restore()
            raise
        self.build(frozen)
        self.guard(reach)

    # -- what was recorded -----------------------------------------------------------------------------------------

    def finish(
        self, reach: Reach, snapshot: Snapshot, recording: Recording, leaves: list[Any], result: list[Any]
    ) -> set[Value]:  # fmt: skip
        """Read the results, undo the run; returns the constants that nobody else can change."""
        number = {id(t): i for i, t in enumerate(leaves)}
        self.results, outs = read_results(result.pop(), leaves, reach)
        entry = {id(t): (t, g) for t, _, _, g, _, _ in snapshot.tensors}
        grads = self.gradients(recording, entry)
        moved = memory_given(snapshot, leaves)
        self.moved: list[tuple[Any, int]] = [(number.get(id(t), t), len(outs) + i) for i, t in enumerate(moved)]
        self.results.kinds += [(t._array.shape, t._array.dtype) for t in moved]
        program = recording.finish([*outs, *moved, *(p._grad for p in grads)])
        self.shared = _shared(program, recording.tensors, leaves)
        self.once = any(np.may_share_memory(t._array, a) for t in leaves for a in program.constants.values())
        check_effects(reach, snapshot, recording)
        check_written(snapshot, program, [leaves[i]._array for i in self.inputs_at], leaves)
        self.program = program
        self.actions = recording.actions
        self.draws = {id(g): g for g, _ in snapshot.streams} if any(a[0] == "draw" for a in self.actions) else {}
        memory = {id(g._array): t for t, g in entry.values() if g is not None}
        self.grads_in = [(v, memory[id(a)]) for v, a in program.constants.items() if id(a) in memory]
        seen = [(p, had) for p, had in recording.gradients.values() if id(p) in entry and id(p) not in number]
        self.met = list({id(p): (p, had) for p, had in [*seen, *((p, True) for _, p in self.grads_in)]}.values())
        self.modes = snapshot.rewind(recording)
        self.grads = [(number.get(id(p), p), tuple(g)) for p, g in zip(grads, self.grad_shapes, strict=True)]
        self.cleared = [number.get(id(p), p) for p in self.cleared]
        self.leaf_memory = [(v, number[id(p)]) for v, p in self.grads_in if id(p) in number]
        self.grads_in = [(v, p) for v, p in self.grads_in if id(p) not in number]
        given = (*self.cleared, *(p for p, _ in self.grads))
        self.leaf_grads = bool(self.leaf_memory) or any(isinstance(p, int) for p in given)
        tensors = recording.tensors
        del outs, grads, entry, memory, seen, moved
        snapshot.tensors.clear()
        kept_tensor(recording, reach)
        for held in (recording._outside, recording._kept, recording._values, recording._ends, recording._logged):
            held.clear()
        frozen = _frozen(program, tensors)
        # x.data is a tensor of its own over x's memory: it is x that may be given other memory.
        owners = {id(t._array): t for t in reach.tensors.values()}
        tensors = {v: t if id(t) in number else owners.get(id(t._array), t) for v, t in tensors.items()}
        self.bound = [(v, t) for v, t in tensors.items() if v not in frozen and id(t) not in number]
        followed = {v for v, _ in (*self.grads_in, *self.leaf_memory)}
        self.bound = [(v, t) for v, t in self.bound if v not in followed]
        program.updates = [(m, v) for m, v in program.updates if m not in frozen]
        return frozen

    def gradients(self, recording: Recording, entry: dict[int, Any]) -> list[Any]:
        """The parameters that are given a new gradient."""
        self.cleared: list[Any] = []
        self.assigned: list[tuple[Any, Any]] = []
        self.grad_shapes: list[Any] = []
        found: list[Any] = []
        outside = {id(t) for t, _ in entry.values()}
        for p, before in entry.values():
            g = p._grad
            if g is before:
                continue  # untouched, or changed in its own memory
            if g is None:
                self.cleared.append(p)
            elif id(g) in outside:
                self.assigned.append((p, g))
            else:
                found.append(p)
                self.grad_shapes.append((g._array.shape, g._array.dtype))
        return found

    # -- native code -----------------------------------------------------------------------------------------------

    def build(self, frozen: set[Value]) -> None:
        from . import link, passes

        self.raw = self.program
        try:
            program, checks = passes.lower(self.program, frozen)
            used = {*program.constants}
            self.bound = [(v, t) for v, t in self.bound if v in used]
            self.grads_in = [(v, p) for v, p in self.grads_in if v in used]
            self.leaf_memory = [(v, i) for v, i in self.leaf_memory if v in used]
            self.step: Any = link.Step(program, checks=checks, shared=self.shared)
        except ChainruleError:
            raise
        except Exception as error:
            raise CompileError(message(
                f"compile: failed with {type(error).__name__}: {error}",
                f"a program of {len(self.raw.instrs)} instructions",
                fix="Use fallback=True to run such a function eagerly.",
            )) from error  # fmt: skip
        self.frozen = frozen
        self.updated = [n for n, v in enumerate(self.step.program.inputs) if any(v is m for m, _ in program.updates)]
        self.fallible = bool(self.step.calls)

    def guard(self, reach: Reach) -> None:
        self.guards = Guards(reach, self.bound, self.met, self.grads_in)
        self.guards.watch(self.step)
        self.names: dict[int, str] = {}
        for root in reach.roots:
            for name, t in chain(root.named_parameters(), root.named_buffers()):
                self.names.setdefault(id(t._array), name.replace(".", "_"))
        for o in reach.optimizers.values():
            for p, slots in o.state.items():
                for k, t in slots.items() if isinstance(slots, dict) else ():
                    if isinstance(t, Variable):
                        self.names.setdefault(id(t._array), f"{self.names.get(id(p._array), 'p')}_{k}")
        kept = [wrap(np.empty(shape, dtype)) for _, (shape, dtype) in self.grads]
        self.kept: list[Any] = [kept, [g._array for g in kept]]
        self.own_watched: Callable[[], None] = lambda: None
        self.short: Any = None  # what fast_path gives, in a tuple, once it was asked
        self.wrote = inplace.Together(self.step.outside)

    # -- running ---------------------------------------------------------------------------------------------------

    def act(self) -> None:
        """What has to be done, and read, before every run: step counts, learning rates, random numbers."""
        for kind, action, memory, _ in self.actions:
            if kind == "do":
                action()
            elif kind in ("many", "options"):
                memory[:] = action()
            elif kind == "live":
                now = action()
                memory[...] = now._array if isinstance(now, Variable) else now
            else:
                memory[...] = action()

    def run(self, leaves: list[Any]) -> Any:
        """One step, or ``MISS`` where something that the recording depended on has changed."""
        if self.same_as and any(leaves[i]._array is not t._array for i, t in self.same_as):
            return MISS
        inputs = [leaves[i]._array for i in self.inputs_at]
        copied: list[tuple[Any, Any]] = []
        for i, a in enumerate(inputs):
            if not a.flags.c_contiguous:
                inputs[i] = np.ascontiguousarray(a)
                if i in self.updated:
                    copied.append((a, inputs[i]))
        for v, i in self.leaf_memory:
            g: Any = leaves[i]._grad
            if g._array.strides != self.step.program.constants[v].strides:
                g._array = np.ascontiguousarray(g._array)
            self.step.rebind(v, g._array)
        if self.leaf_memory:
            self.note_written()
        if any(not inputs[i].flags.writeable for i in self.updated):
            return MISS
        if self.guards.quick() is False or self.step.check(*inputs) is not self.step.yes:
            if not self.guards.holds() or not self.guards.follow(self.step):
                return MISS
            self.note_written()
            if self.step.check(*inputs) is not self.step.yes:
                return MISS
        outputs = [np.empty(shape, dtype) for shape, dtype in self.results.kinds]
        if self.fallible or self.leaf_grads:
            if not self.carefully(leaves, inputs, outputs):
                return MISS
        else:
            self.act()
            self.own_grads()
            outputs += self.kept[1]
            self.step.run(inputs, outputs)
        for t, i in self.moved:
            (leaves[t] if isinstance(t, int) else t)._array = outputs[i]
        self.touch([leaves[self.inputs_at[i]] for i in self.updated])
        for a, content in copied:
            a[...] = content
        for p in self.cleared:
            (leaves[p] if isinstance(p, int) else p)._grad = None
        for p, g in self.assigned:
            p._grad = g
        for m, mode in self.modes:
            m.training = mode
        return self.results.deliver(leaves, outputs)

    def note_written(self) -> None:
        """After memory that the step writes was replaced."""
        self.step.note_written()
        self.wrote.over(self.step.outside)

    def touch(self, leaves: list[Any]) -> None:
        """Note that memory was written, for graphs that saved it."""
        if self.wrote:
            self.wrote.touch()
        for t in leaves:
            inplace.touch(t._array)

    def carefully(self, leaves: list[Any], inputs: list[Any], outputs: list[Any]) -> bool:
        """A run that may stop in the middle: then all is as before, and the function itself shall say what is wrong."""
        backs = [save() for _, _, _, save in self.actions if save is not None]
        streams = [(g, g.get_state()) for g in self.draws.values()]
        grads = [np.empty(shape, dtype) for _, (shape, dtype) in self.grads]
        self.act()
        busy[0] += 1
        try:
            self.step.run(inputs, [*outputs, *grads])
        except Exception:
            for back in reversed(backs):
                back()
            for g, s in streams:
                g.set_state(s)
            return False
        finally:
            busy[0] -= 1
        p: Any
        for (p, _), g in zip(self.grads, grads, strict=True):
            (leaves[p] if isinstance(p, int) else p)._grad = wrap(g)
        return True

    grad_refs = 3  # the parameter (of an array: the tensor), the list, and the argument of getrefcount itself

    def own_grads(self, absent: bool = False) -> None:
        """Make every parameter's gradient a tensor that this step may write; one that somebody kept stays as it is.

        ``absent``: the parameters have none now, and are given them after the step.
        """
        gradients, arrays = self.kept
        p: Any
        for i, (p, _) in enumerate(self.grads):
            alone = _refs(gradients[i]) == self.grad_refs - absent and _refs(arrays[i]) == self.grad_refs
            g = gradients[i]
            alone = alone and g._array is arrays[i] and not g._requires and g.__weakref__ is None
            if not alone or (p._grad is not g and not absent):
                gradients[i] = g = wrap(np.empty_like(arrays[i]))
                arrays[i] = g._array
                if not absent:
                    p._grad = g
        self.own_watched()


def _captured(fn: Any, spec: Any, leaves: list[Any], reach: Reach) -> list[tuple[int, Any]]:
    """Which arguments are tensors that the function reaches by itself, too: the recording is for these alone."""
    if not any(t._array is x._array for t in reach.tensors.values() for x in leaves):
        return []
    own = Reach(fn, list(objects_in(spec))).tensors.values()
    return [(i, t) for i, x in enumerate(leaves) for t in own if t._array is x._array]


def _shared(program: Program, tensors: dict[Value, Any], leaves: list[Any]) -> set[Value]:
    """The memory that the function writes through arguments that are views of it.

    Raises:
        CompileError: where an argument shares memory with something else that is written: which is written or read
            first would not be the program's order.
    """
    found: set[Value] = set()
    for m, _ in program.updates:
        memory = program.constants.get(m)
        for i, t in enumerate(leaves):
            if memory is None or t._array is memory or not np.may_share_memory(t._array, memory):
                continue
            if t._base is not None and t._base is tensors.get(m):
                found.add(m)
            else:
                raise CompileError(message(
                    f"compile: argument {i} shares memory with a tensor that the function writes",
                    f"shape {tuple(t._array.shape)}, written: shape {memory.shape}",
                    fix="Pass x.clone().",
                ))  # fmt: skip
    return found


def _arrays(x: Any) -> Any:
    """The NumPy arrays in nested arguments."""
    if isinstance(x, np.ndarray):
        yield x
    elif isinstance(x, (list, tuple)):
        for i in x:
            yield from _arrays(i)
    elif isinstance(x, dict):
        for i in x.values():
            yield from _arrays(i)


def _frozen(program: Program, tensors: dict[Value, Any]) -> set[Value]:
    """Constants that only the recording refers to (the 1 that backward starts from, zeros made inside): what the
    function would make anew in every run, so they keep their content."""
    from ..autograd.api import _ONES

    ones = {id(a) for a in _ONES.values()}
    found: set[Value] = {v for v, a in program.constants.items() if id(a) in ones}
    for v in list(program.constants):
        t = tensors.get(v)
        if t is not None and _refs(t) > 3:  # tensors, t, the argument
            continue
        array = program.constants[v]
        if array.base is None and _refs(array) <= 3 + (t is not None):  # constants, array, the argument, and t
            found.add(v)
    return found
