"""The call path of a small step: one native call that compares words in memory, and runs.

A step of a small network takes a few microseconds in native code, and its guards in Python as long. So for the usual
kind of step (tensors as positional arguments, one tensor as result, nothing that runs as NumPy inside) everything that
the recording depended on is watched by native code (see ``words``), down to the gradients: that each is still where the
step put it, and that nobody else holds it. What may change without a new recording, the learning rate or a gradient
that somebody kept, is *followed*: Python sets it right, and the call is made again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import inplace
from ..core.state import state
from ..core.variable import Variable, wrap
from .variant import MISS, Variant, busy, running
from .words import ARRAY, FOLLOWED, REQUIRES, WEAK, Word, attributes, dict_entry, list_entries

__all__ = ["fast_path"]


def fast_path(v: Variant) -> Callable[..., Any] | None:
    """The same as ``v.run`` for the usual kind of step, called with its arguments; None for others."""
    n = v.leaves_n
    usual = v.results.single and v.spec == ((tuple, (("t",),) * n), (dict, (), ()))
    special = v.same_as or v.guards.others or v.step.calls or v.step.late or v.modes
    special = special or v.grads_in or v.leaf_grads or v.assigned or v.moved
    if not FOLLOWED or not v.step.short or not usual or special or len(v.inputs_at) != n or (v.updated and n > 1):
        return None
    read = {id(p): had for p, had in v.guards.gradients}
    if len({read.get(id(p)) for p, _ in v.grads}) > 1 or any(read.get(id(p)) for p, _ in v.grads):
        return None
    follower = Follower(v)
    if not follower.rebuild():
        return None
    v.step.set_requires(v.requires)
    counts = any(kind == "do" for kind, *_ in v.actions)  # a schedule inside, maybe: then options are read every time
    acts = [_act(kind, action, memory) for kind, action, memory, _ in v.actions if counts or kind != "options"]
    in_steps = acts or v.cleared or v.updated or follower.absent
    return _in_steps(v, follower, acts) if in_steps else _at_once(v, follower)


def _at_once(v: Variant, follower: Follower) -> Callable[..., Any]:
    """Nothing to do in Python: check and run are one call, so no other thread can come between."""
    quick, yes, no = v.step.quick, v.step.yes, v.step.no
    (shape, dtype), grad, empty = v.results.kinds[0], v.guards.grad, np.empty
    wrote = v.wrote or None

    def fast(*xs: Any) -> Any:
        if state.grad is not grad or state.recorder is not None:
            return MISS
        out = empty(shape, dtype)
        answer = quick(*xs, out)
        if answer is not yes:
            if answer is no:
                return MISS
            with running:
                if not follower.settled(quick, *xs, out):
                    return MISS
        if wrote is not None:
            wrote.touch()
        return wrap(out)

    return fast


def _in_steps(v: Variant, follower: Follower, acts: list[Callable[[], Any]]) -> Callable[..., Any]:
    """Check, count and read numbers, run."""
    ready, go, yes = v.step.ready, v.step.go, v.step.yes
    (shape, dtype), grad, empty, cleared, updated = v.results.kinds[0], v.guards.grad, np.empty, v.cleared, v.updated
    without: list[Any] = [p for p, _ in v.grads] if follower.absent else []
    wrote = v.wrote or None

    def fast(*xs: Any) -> Any:
        if state.grad is not grad or state.recorder is not None:
            return MISS
        try:
            arrays = [x._array for x in xs]  # alive until the end, whatever another thread does to the tensors
        except AttributeError:
            return MISS
        with running:
            if ready(*xs, *arrays) is not yes and not follower.settled(ready, *xs, *arrays):
                return MISS
            for act in acts:
                act()
            out = empty(shape, dtype)
            go(out)
            if wrote is not None:
                wrote.touch()
            for i in updated:
                inplace.touch(arrays[i])
            for p, g in zip(without, v.kept[0]):
                p._grad = g
            for p in cleared:
                p._grad = None
            return wrap(out)

    return fast


def _act(kind: str, action: Callable[[], Any], memory: Any) -> Callable[[], Any]:
    """What has to be done, or read, before every run."""
    if kind == "do":
        return action
    if kind in ("many", "options"):
        pack, view = struct.Struct(f"{len(memory)}d").pack_into, memoryview(memory)
        return lambda: pack(view, 0, *action())

    def read() -> None:
        now = action()
        memory[...] = now._array if isinstance(now, Variable) else now

    return read


class Follower:
    """The words of what may change without a new recording, and how the step follows such a change."""

    def __init__(self, v: Variant) -> None:
        self.v = v
        self.options = [(action, memory) for kind, action, memory, _ in v.actions if kind == "options"]
        self.rates: dict[int, tuple[int, int]] = {}
        """Rows of learning rates: which optimizer's, which group's."""
        self.rates_now: dict[int, Any] = {}
        self.gradients: list[int] = []
        """The first of the rows of each gradient, see ``gradient_words``."""
        self.built = False
        self.absent = any(p is q for p, _ in v.guards.gradients for q, _ in v.grads[:1])
        """Whether the parameters have no gradient when the step begins, and the last ones may be given again."""
        self.held: list[Any] = []
        """What must not be freed (as ``rates_now``), or something else might be found in its place."""
        v.own_watched = self.watch_gradients

    def rebuild(self) -> bool:
        """Watch everything as it is now; False where something cannot be watched."""
        guards, words = self.v.guards, [(busy.ctypes.data, 0)]
        self.rates.clear()
        self.held = []
        found = True

        def watch(rows: list[Word]) -> None:
            nonlocal found
            found = found and bool(rows)
            words.extend(rows)

        def entry(d: dict[Any, Any], key: Any) -> None:
            watch(dict_entry(d, key))
            self.held += [key, d.get(key)]

        def attribute(x: Any, key: str) -> None:
            watch(attributes(x))
            entry(vars(x), key)

        def gradient(p: Any) -> None:
            watch(attributes(p))
            watch(dict_entry(vars(p), "_grad"))  # the gradient is not held: who else does is what matters
            self.held.append(vars(p))

        for scope, names, _ in guards.scopes:
            for name in names:
                entry(scope, name)
        for i, (o, _, options) in enumerate(guards.optimizers):
            if "_plan" in vars(o):
                attribute(o, "_plan")
            attribute(o, "param_groups")
            words.append((id(vars(o)) + 16, len(vars(o))))  # no method of its own was added
            if "state" in vars(o):
                attribute(o, "state")
            words += list_entries(o.param_groups)
            for j, (group, (_, _, structure)) in enumerate(zip(o.param_groups, options, strict=True)):
                words.append((id(group) + 16, len(group)))
                words += list_entries(group["params"])
                for key in group:
                    entry(group, key)
                    if key == "lr" and structure.get(key, ...) is None:
                        self.rates[len(words) - 1] = i, j
        for p, had in guards.gradients:
            gradient(p)
            if not had and found:
                words[-1] = words[-1][0], id(None)
        self.gradients = []
        for p, _ in self.v.grads:
            gradient(p)
            self.gradients.append(len(words) - 1)
            place, *others = self.gradient_words(len(self.gradients) - 1)
            words[-1] = words[-1][0], place[1]
            words.extend(others)
        if found:
            self.v.step.place_outputs(1, self.v.kept[1])
            self.v.step.follow(words)
            self.built = True
        return found

    def gradient_words(self, i: int) -> list[Word]:
        """That gradient i is where it was put, as it was, and that nobody else refers to it or to its array.

        The first is its place in the parameter, whose address is known from the entry of a dict.
        """
        g, a = self.v.kept[0][i], self.v.kept[1][i]
        count = 1 if self.absent else 2  # by the list, and by the parameter
        return [
            (0, id(None) if self.absent else id(g)), (id(g), count), (id(a), 2),  # the array by list and tensor
            (id(g) + ARRAY, id(a)), (id(g) + REQUIRES, id(False)), (id(g) + WEAK, 0),
        ]  # fmt: skip

    def watch_gradients(self) -> None:
        """Follow gradients that were replaced."""
        if not self.built:
            return
        self.v.step.place_outputs(1, self.v.kept[1])
        rows = self.v.step.followed
        for i, row in enumerate(self.gradients):
            place, *others = self.gradient_words(i)
            rows[row, 1] = place[1]
            rows[row + 1 : row + 6] = others

    def settled(self, ask: Callable[..., Any], *arguments: Any) -> bool:
        """Whether the step says yes, once what may change has been followed: first what is usual, then all."""
        for thorough in (False, True, True):
            answer = ask(*arguments)
            if answer is self.v.step.yes:
                return True
            if answer is self.v.step.no or not self.follow(thorough):
                return False
        return False

    def follow(self, thorough: bool) -> bool:
        """After a followed word has changed: False where the recording itself no longer holds."""
        guards, step = self.v.guards, self.v.step
        row = step.row()
        if row in self.rates and not thorough:
            if not self.new_rate(row):
                return False
        else:
            if not all(map(self.new_rate, self.rates)) or not guards.quick() or (thorough and not self.rebuild()):
                return False
            self.v.own_grads(self.absent)
        for action, memory in self.options:
            memory[:] = action()
        return True

    def new_rate(self, row: int) -> bool:
        """Follow a learning rate, if it is still a number."""
        i, j = self.rates[row]
        groups = self.v.guards.optimizers[i][0].param_groups
        rate = groups[j].get("lr") if j < len(groups) else None
        if type(rate) not in (float, int):
            return False
        self.v.guards.copies[i][j]["lr"] = rate
        self.rates_now[row] = rate
        self.v.step.followed[row, 1] = id(rate)
        return True
