"""What a recording depended on, and whether it is still so.

Most of it is words in memory: the array behind a tensor, whether it requires a gradient, what a closure holds, the
version that CPython counts for a dict. The native check reads them all before every run; only where one differs does
Python look closer.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable
from operator import is_
from typing import Any

import numpy as np

from ..core import hooks
from ..core.state import state
from ..core.variable import Variable
from ..graph.program import Value
from .reach import Reach
from .words import ARRAY, REQUIRES, TAGGED, attributes, cell_word, list_entries, tag_word

__all__ = ["Guards"]


class Guards:
    """The conditions of one recording.

    Args:
        reach: what the function could reach when it was recorded.
        bound: constants of the program with the tensors that they are the memory of.
        gradients: parameters whose gradient the function met, and whether there was one.
    """

    def __init__(
        self, reach: Reach, bound: list[tuple[Value, Any]], gradients: list[tuple[Any, bool]],
        accumulated: list[tuple[Value, Any]],
    ) -> None:  # fmt: skip
        self.grad = state.grad
        self.reach = reach
        self.bound = bound
        self.tensors = [t for _, t in bound]
        self.arrays = [t._array for t in self.tensors]
        self.requires = [(t, t._requires) for t in reach.tensors.values()]
        self.gradients = gradients
        self.accumulated = accumulated
        self.states = [_tensors_of(o) for o in reach.optimizers.values()]
        self.methods = [_own_methods(o) for o in reach.optimizers.values()]
        self.memory = [p._grad._array if p._grad is not None else None for _, p in accumulated]
        self.hooks = reach.hooks()
        self.facts = [f for f in reach.facts if f.keys is None or f.keys]
        self.optimizers = [(o, o.__dict__.get("_plan"), _options(o)) for o in reach.optimizers.values()]
        self.copies = [[{**g} for g in o.param_groups] for o in reach.optimizers.values()]
        self.scopes = self.globals()
        self.others = self.unwatched()

    def quick(self) -> bool:
        """What the native check cannot see; False where a closer look is needed."""
        if state.grad is not self.grad:
            return False
        for scope, names, contents in self.scopes:
            for name, content in zip(names, contents, strict=True):
                if scope.get(name) is not content:
                    return False
        every = zip(self.optimizers, self.copies, self.states, self.methods, strict=True)
        for (o, plan, options), copies, (kept, _), methods in every:
            if getattr(o, "state", None) is not kept:
                return False
            if o.__dict__.get("_plan") is not plan or o.param_groups != copies or _own_methods(o) != methods:
                return False
            if not all(_same_objects(g["params"], params) for g, (_, params, _) in zip(o.param_groups, options)):
                return False
        for p, had in self.gradients:
            if (p._grad is not None) is not had:
                return False
        for (_, p), a in zip(self.accumulated, self.memory, strict=True):
            if p._grad is None or p._grad._array is not a:
                return False
        return all(check() for check in self.others)

    def holds(self) -> bool:
        """Whether the objects that the recording depended on are as they were."""
        return not self.difference()

    def difference(self) -> str:
        """What is not as it was when the function was recorded, in words; "" if all is."""
        if state.grad is not self.grad:
            return "grad mode"
        for f in self.facts:
            if changed := f.changed():
                return changed
        every = zip(self.optimizers, self.states, self.methods, strict=True)
        for (o, plan, options), (kept, dicts), methods in every:
            if o.__dict__.get("_plan") is not plan or not _unchanged(o, options) or _own_methods(o) != methods:
                return f"the options of {type(o).__name__}"
            if getattr(o, "state", None) is not kept or any(_changed(d, then) for d, then in dicts):
                return f"the state of {type(o).__name__}"
        for p, had in self.gradients:
            if (p._grad is not None) is not had:
                return "whether a parameter has a gradient"
        if any(t._requires is not r for t, r in self.requires):
            return "whether a tensor requires a gradient"
        return "" if _same_objects(self.reach.hooks(), self.hooks) else "the hooks"

    def follow(self, step: Any) -> bool:
        """Use the memory that tensors and gradients have now, where it is other memory of the same kind."""
        for i, (v, t) in enumerate(self.bound):
            if self.arrays[i] is not t._array:
                if any(np.may_share_memory(t._array, u._array) for _, u in self.bound if u is not t):
                    return False  # what was apart is not any longer
                if not _rebind(step, v, self.arrays[i], t._array):
                    return False
                self.arrays[i] = t._array
        for i, (v, p) in enumerate(self.accumulated):
            g = p._grad
            if g is None:
                return False
            if self.memory[i] is not g._array:
                if not _rebind(step, v, self.memory[i], g._array):
                    return False
                self.memory[i] = g._array
        self.copies = [[{**g} for g in o.param_groups] for o, _, _ in self.optimizers]
        for fact in self.facts:
            fact.values = fact.content()  # equal objects: these are the ones that live
        self.scopes = self.globals()
        self.watch(step)
        return True

    def watch(self, step: Any) -> None:
        """Hand the native check the words that change when something does."""
        words = [(id(t) + ARRAY, id(a)) for t, a in zip(self.tensors, self.arrays, strict=True)]
        words += [(id(t) + REQUIRES, id(r)) for t, r in self.requires]
        dicts: list[Any] = [hooks.changes, *(d for _, held in self.states for d, _ in held)]
        for f in self.facts:
            x = f.holder
            if f.owner is not None:
                words += attributes(f.owner)
            if isinstance(x, types.CellType):
                words.append(cell_word(x))
            elif isinstance(x, list):
                words += list_entries(x)
            elif isinstance(x, dict) and not (f.keys and "__name__" in x):  # globals change all the time
                dicts.append(x)
        if TAGGED:
            words += [tag_word(d) for d in dicts]
        step.watch(words)

    def unwatched(self) -> list[Callable[[], bool]]:
        """Checks of what no word in memory tells (other Pythons than CPython 3.11 and 3.12)."""
        sets = [f for f in self.facts if isinstance(f.holder, (set, deque))]
        if TAGGED:
            return [lambda: not any(f.changed() for f in sets)] if sets else []
        return [self.holds]

    def globals(self) -> list[tuple[dict[str, Any], list[str], list[Any]]]:
        """Global names and their contents, by module."""
        return [(f.holder, f.keys, f.values) for f in self.facts if f.keys and "__name__" in f.holder]  # type: ignore[misc]


def _rebind(step: Any, v: Value, old: Any, new: Any) -> bool:
    if old is None or old.shape != new.shape or old.dtype != new.dtype or old.strides != new.strides:
        return False
    if step.program.constants[v] is not old or not new.flags.writeable:
        return False
    step.rebind(v, new)
    return True


# --- optimizers -------------------------------------------------------------------------------------------------------


def _options(o: Any) -> list[Any]:
    """Per group: the group, its parameters, and the options as the update rule's structure sees them."""
    return [(g, list(g["params"]), _structure(o, g)) for g in o.param_groups]


def _structure(o: Any, group: dict[str, Any]) -> dict[str, Any]:
    """What of a group's options is built into a recording.

    Update rules read their numbers afresh for every run (``_coefficients``); a number that is 0 leaves a term out, so
    whether it is 0 belongs to the structure. The learning rate never does. An optimizer that is not one of ours may
    have built in any number.
    """
    from ..optim.lanes import RuleOptimizer

    live = isinstance(o, RuleOptimizer) and getattr(type(o).step, "__wrapped__", None) is _rule_step()
    found: dict[str, Any] = {}
    for k, x in group.items():
        if k == "params" or (live and k not in o.defaults):
            continue
        if live and type(x) in (int, float):
            x = None if k == "lr" else bool(x)
        elif live and type(x) is tuple and all(type(i) in (int, float) for i in x):
            x = len(x)
        found[k] = x
    return found


def _rule_step() -> Any:
    from ..optim.lanes import RuleOptimizer

    return getattr(RuleOptimizer.step, "__wrapped__", None)


def _own_methods(o: Any) -> tuple[Any, ...]:
    """Methods that were put on this optimizer alone."""
    return vars(o).get("step"), vars(o).get("zero_grad")


def _tensors_of(o: Any) -> tuple[Any, list[tuple[Any, dict[Any, Any]]]]:
    """An optimizer's state: the mapping, and the dicts in it with the tensors that they hold."""
    state = getattr(o, "state", None)
    if not isinstance(state, dict):
        return state, []
    inner = [d for d in state.values() if isinstance(d, dict)]
    held = [(d, {k: t for k, t in d.items() if isinstance(t, Variable)}) for d in inner]
    return state, [(state, dict(state)), *held]


def _changed(d: dict[Any, Any], then: dict[Any, Any]) -> bool:
    """Whether an entry of then is gone or another object now."""
    return any(d.get(k) is not x for k, x in then.items())


def _same_objects(now: list[Any], then: list[Any]) -> bool:
    return len(now) == len(then) and all(map(is_, now, then))


def _unchanged(o: Any, options: list[Any]) -> bool:
    if len(o.param_groups) != len(options):
        return False
    for now, (group, params, structure) in zip(o.param_groups, options, strict=True):
        if now is not group or not _same_objects(now["params"], params):
            return False
        new = _structure(o, now)
        if new.keys() != structure.keys() or any(new[k] is not x and new[k] != x for k, x in structure.items()):
            return False
    return True
