"""What a function refers to: its closure, the globals it names, its ``self``, its arguments, and what those hold.

A recording depends on the plain values among them (numbers, modes, which module sits where): ``facts`` are the
containers and their entries, to be compared before every run. After recording, the same comparison finds what the
function itself changed, which native code would not do again.
"""

from __future__ import annotations

import dis
import functools
import gc
import random
import sys
import types
from collections import deque
from typing import Any

import numpy as np

from ..core.rng import Generator
from ..core.variable import Variable

__all__ = ["Fact", "Reach", "same"]

_ATOMS = (str, bytes, int, float, complex, bool, type(None))
_PROGRAMS = {"training", "demo", "cli", "lab"}
_MOST = 10000
"""Longer lists and dicts are data, and are not searched."""


def same(now: Any, then: Any) -> bool:
    """Equality for plain Python values; anything else is the same only if it is the same object."""
    if now is then:
        return True
    if type(now) is not type(then):
        return False
    if isinstance(now, tuple):
        return len(now) == len(then) and all(map(same, now, then))
    return isinstance(now, (*_ATOMS, frozenset)) and (now == then or (now != now and then != then))


_EMPTY = object()


class Fact:
    """A container and what it held: a dict (attributes, globals, buffers …), a list, a deque, or a closure's cell."""

    __slots__ = ("keys", "name", "object", "owner", "values")

    def __init__(self, name: str, holder: Any, keys: Any = None, owner: Any = None) -> None:
        self.name = name
        self.object = holder
        self.owner = owner
        """For the dict of an object's attributes: the object, which may be given another dict."""
        self.keys = keys
        """For a dict of which only some keys matter (globals): those keys."""
        self.values = self.content()

    @property
    def holder(self) -> Any:
        return self.object if self.owner is None else vars(self.owner)

    def content(self) -> list[Any]:
        x = self.holder
        if self.keys is not None:
            return [x.get(k, _EMPTY) for k in self.keys]
        if isinstance(x, dict):
            return [*x, *x.values()]
        if isinstance(x, (list, tuple, set, deque)):
            return list(x)
        try:
            return [x.cell_contents]
        except ValueError:  # the variable was deleted
            return [_EMPTY]

    def changed(self, leave_out: str = "") -> str:
        """What is different now, in words; "" if nothing is. ``leave_out``: a key that does not matter."""
        now, then = self.content(), self.values
        if len(now) == len(then) and all(map(same, now, then)):
            return ""
        x = self.holder
        if self.keys is None and not isinstance(x, dict):
            return self.name
        old = self._entries()
        for k in self.keys or x:
            if k != leave_out and not same(x.get(k, _EMPTY), old.get(k, _EMPTY)):
                return f"{self.name}.{k}" if self.name else str(k)
        return "" if old.keys() <= {*x, *(self.keys or ())} else f"{self.name} (an entry was removed)"

    def _entries(self) -> dict[Any, Any]:
        """What a dict held; ``_EMPTY`` for keys that were not there."""
        half = len(self.values) // 2
        keys, values = (self.keys, self.values) if self.keys is not None else (self.values[:half], self.values[half:])
        return dict(zip(keys, values, strict=True))

    def restore(self) -> None:
        """Put everything back."""
        x = self.holder
        if isinstance(x, dict):
            old = self._entries()
            for k in [*x] if self.keys is None else self.keys:
                if old.get(k, _EMPTY) is _EMPTY:
                    x.pop(k, None)
            x.update({k: v for k, v in old.items() if v is not _EMPTY})
        elif isinstance(x, (list, deque, set)):
            x.clear()
            (x.update if isinstance(x, set) else x.extend)(self.values)
        elif isinstance(x, types.CellType) and self.values[0] is not _EMPTY:
            x.cell_contents = self.values[0]


class Reach:
    """The tensors, modules, optimizers and generators that a call can reach, and the facts it depends on.

    Of objects that are no containers only those attributes count that some reached code names: a trainer's other
    counters may change from step to step as they like.
    """

    def __init__(self, fn: Any, args: Any = (), kwargs: Any = None) -> None:
        self.tensors: dict[int, Any] = {}
        self.modules: dict[int, Any] = {}
        self.optimizers: dict[int, Any] = {}
        self.generators: dict[int, Any] = {}
        self.foreign: dict[int, Any] = {}
        """Generators of random numbers that are NumPy's or Python's."""
        self.iterators: list[str] = []
        self.roots: list[Any] = []
        self.facts: list[Fact] = []
        self._names: set[str] = {"forward", "__call__"}
        self._objects: list[tuple[Any, str, set[str]]] = []
        self._globals: dict[int, tuple[dict[str, Any], list[str]]] = {}
        self._classes: list[tuple[type, set[str]]] = []
        self._of_classes: list[Fact] = []
        self._modules: list[tuple[types.ModuleType, set[str]]] = []
        self._seen: set[int] = set()
        self._keep: list[Any] = []
        self.function(fn, "")
        for i, x in enumerate((*args, *(kwargs or {}).values())):
            if not isinstance(x, Variable):
                self.thing(x, f"argument {i}")
        while self._further():
            pass
        for scope, names in self._globals.values():
            self.facts.append(Fact("", scope, tuple(names)))
        for x, name, keys in self._objects:
            if keys or not _ours(type(x)):
                # Also names that are no attributes yet: they may be set, and then hide what the class has.
                self.facts.append(Fact(name, vars(x), tuple(sorted(keys | self._names)), x))
        for cls, _ in self._classes:
            kept = gc.get_referents(vars(cls))[0]  # the dict behind the view of it
            self._of_classes.append(Fact(cls.__name__, kept, tuple(sorted(self._names))))
        self.facts += self._of_classes
        for m, keys in self._modules:
            self.facts.append(Fact(m.__name__, vars(m), tuple(sorted(keys))))

    def restore(self) -> None:
        """Put back what containers held. (Classes are left alone: whoever changes them means all runs.)"""
        classes = {id(f) for f in self._of_classes}
        for f in self.facts:
            if id(f) not in classes and f.changed():
                f.restore()

    def _further(self) -> bool:
        """Follow attributes and methods of reached objects that reached code names; whether there was anything new."""
        found = False
        for cls, done in list(self._classes):
            for k, f in list(vars(cls).items()):
                f = getattr(f, "__func__", None) or getattr(f, "fget", None) or f  # of class methods and properties
                if k in self._names and k not in done:
                    done.add(k)
                    found = True
                    self.thing(f, f"{cls.__name__}.{k}")
        for m, keys in self._modules:
            for k in self._names & vars(m).keys() - keys:
                content = vars(m)[k]
                if isinstance(content, (types.ModuleType, type, types.FunctionType)) and _library(content):
                    continue
                keys.add(k)
                found = True
                self.thing(content, f"{m.__name__}.{k}")
        for x, name, keys in list(self._objects):
            for k in self._names & vars(x).keys() - keys:
                keys.add(k)
                found = True
                self.thing(vars(x)[k], f"{name}.{k}")
        return found

    def fact(self, name: str, holder: Any, keys: Any = None) -> None:
        self._keep.append(holder)
        self.facts.append(Fact(name, holder, keys))

    def function(self, fn: Any, name: str) -> None:
        if isinstance(fn, functools.partial):
            for i, x in enumerate((*fn.args, *fn.keywords.values())):
                self.thing(x, f"argument {i} of partial")
            self.function(fn.func, name)
            return
        if isinstance(fn, types.MethodType):
            self.thing(fn.__self__, "self")
            fn = fn.__func__
        if not isinstance(fn, types.FunctionType):
            self.thing(fn, name)
            return
        if id(fn) in self._seen or _ours(fn):
            return
        self._seen.add(id(fn))
        self._keep.append(fn)
        for label, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
            if id(cell) in self._seen:
                continue
            self._seen.add(id(cell))
            try:
                content = cell.cell_contents
            except ValueError:
                continue
            if label != "__class__":
                self.fact(label, cell)
                self.thing(content, label)
        _, known = self._globals.setdefault(id(fn.__globals__), (fn.__globals__, []))
        stack = [fn.__code__]
        while stack:
            code = stack.pop()
            self._names.update(code.co_names)
            for label in _global_names(code):
                if label in fn.__globals__ and label not in known:
                    content = fn.__globals__[label]
                    if isinstance(content, (types.ModuleType, type)):
                        if _library(content):
                            continue
                        known.append(label)
                        self.thing(content, label)
                        continue
                    known.append(label)
                    self.thing(content, label)
            stack.extend(c for c in code.co_consts if isinstance(c, types.CodeType))
        for i, default in enumerate((*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values())):
            self.thing(default, f"default {i}")

    def thing(self, x: Any, name: str) -> None:
        if isinstance(x, (*_ATOMS, np.ndarray)) or id(x) in self._seen:
            return
        if isinstance(x, (type, types.ModuleType)):
            if not _library(x):
                if isinstance(x, type):
                    self._class(x)
                else:
                    self._seen.add(id(x))
                    self._modules.append((x, set()))
            return
        if isinstance(x, (types.FunctionType, types.MethodType, functools.partial)):
            self.function(x, name)
            return
        if isinstance(x, types.BuiltinMethodType):  # d.get, Random(0).random
            self.thing(x.__self__, name)
            return
        self._seen.add(id(x))
        self._keep.append(x)
        if isinstance(x, Variable):
            self.tensor(x)
        elif hasattr(x, "named_modules") and hasattr(x, "_parameters"):
            self.module(x, name)
        elif hasattr(x, "param_groups") and hasattr(x, "step"):
            self.optimizers[id(x)] = x
            self._class(type(x))
            for group in x.param_groups:
                for p in group["params"]:
                    self.thing(p, name)
        elif isinstance(x, (list, tuple, set, frozenset, deque)):
            if len(x) <= _MOST:
                if isinstance(x, (list, set, deque)):
                    self.fact(name, x)
                for i, item in enumerate(x):
                    self.thing(item, f"{name}[{i}]")
        elif isinstance(x, dict):
            if len(x) <= _MOST:
                self.fact(name, x)
                for k, item in list(x.items()):
                    self.thing(item, f"{name}[{k!r}]")
        elif isinstance(x, Generator):
            self.generators[id(x)] = x
        elif isinstance(x, (np.random.Generator, np.random.RandomState, random.Random)):
            self.foreign[id(x)] = x
        elif hasattr(x, "__wrapped__") and hasattr(x, "variants"):
            self.function(x.__wrapped__, name)
        elif hasattr(x, "__next__"):
            self.iterators.append(name)
        elif _ours(type(x)):
            for k, item in list(getattr(x, "__dict__", {}).items()):
                self.thing(item, f"{name}.{k}")
        elif hasattr(x, "__dict__"):
            self._objects.append((x, name, set()))
            self._class(type(x))

    def hooks(self) -> list[Any]:
        """Every hook that a call would run, in order."""
        from ..nn.module_hooks import global_hooks as g
        from ..optim import optimizer

        found = [g.pre, g.forward, g.backward, g.backward_pre, optimizer._global_pre, optimizer._global_post]
        for m in self.modules.values():
            found += _module_hooks(m)
        for t in self.tensors.values():
            found += [h for h in (t._hooks, t._after) if h]
        for o in self.optimizers.values():
            kept = vars(o)
            found += [kept.get("_optimizer_step_pre_hooks") or {}, kept.get("_optimizer_step_post_hooks") or {}]
        return [h for hooks in found for h in hooks.values()]

    def _class(self, cls: type) -> None:
        for c in cls.__mro__:
            if c is not object and not _ours(c) and id(c) not in self._seen:
                self._seen.add(id(c))
                self._classes.append((c, set()))

    def tensor(self, t: Any) -> None:
        self.tensors[id(t)] = t
        for hooks in (t._hooks, t._after):
            for h in (hooks or {}).values():
                self.thing(h, "a tensor's hook")

    def module(self, x: Any, name: str) -> None:
        self.roots.append(x)
        for path, m in x.named_modules():
            label = f"{name}.{path}" if path else name
            self._seen.add(id(m))
            self.modules[id(m)] = m
            for part in (m._parameters, m._buffers, m._modules):
                self.fact(label, part)
                for t in part.values():
                    if isinstance(t, Variable):
                        self.thing(t, label)
            for hooks in _module_hooks(m):
                for h in hooks.values():
                    self.thing(h, f"a hook of {label}")
            if _ours(type(m)):
                self.fact(label, vars(m))
            else:
                self.fact(label, vars(m), ("training", "_hooked"))
                self._objects.append((m, label, {"training"}))
                self._class(type(m))


def _global_names(code: types.CodeType) -> list[str]:
    """The globals that a function's code names: not its attributes, although ``co_names`` has both."""
    named = {i.argval for i in dis.get_instructions(code) if "GLOBAL" in i.opname or i.opname.endswith("_NAME")}
    return [label for label in code.co_names if label in named]


def _module_hooks(m: Any) -> tuple[Any, ...]:
    if not m._hooked:
        return ()
    return m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks


def _library(x: Any) -> bool:
    """Whether a module, class or function belongs to the standard library or to an installed package."""
    name = _home(x)
    root = name.partition(".")[0]
    if root in sys.stdlib_module_names and root != "__main__":
        return True
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return _ours(x) or name == "chainrule" or "site-packages" in file or "dist-packages" in file


def _home(x: Any) -> str:
    """The name of a module, or of the one that a class or function was defined in."""
    return x.__name__ if isinstance(x, types.ModuleType) else getattr(x, "__module__", None) or ""


def _ours(x: Any) -> bool:
    """Whether a module, class or function belongs to chainrule (its programs are users of it like any other)."""
    room = _home(x).split(".")
    return len(room) > 1 and room[0] == "chainrule" and room[1] not in _PROGRAMS
