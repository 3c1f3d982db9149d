"""A class or function of yours, written for one library, as the same code for the other.

Nothing is parsed: the code objects stay as they are, and only what their global names and closures refer to is replaced
by its namesake in the other library: ``torch`` by ``chainrule``, ``F.relu`` by ours, ``nn.Module`` among the bases, a
helper function of yours by its own rewritten copy. Imports inside functions are redirected likewise.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

__all__ = ["Rewriter"]

_SPACES = (
    "", "nn.functional", "nn", "nn.init", "nn.utils", "nn.utils.rnn", "nn.utils.parametrizations", "linalg", "special",
    "autograd", "autograd.functional", "func", "distributions", "utils.checkpoint", "utils.data", "Tensor",
)  # fmt: skip


class Rewriter:
    """Replaces what belongs to ``source`` by what has its name in ``target``; ``special(x)`` goes first if not None."""

    def __init__(self, source: Any, target: Any, special: Callable[[Any], Any], name: str) -> None:
        self.source, self.target, self.special, self.name = source, target, special, name
        self.ours, self.theirs = source.__name__, target.__name__
        self.known: dict[int, Any] = {}
        self.alive: list[Any] = []
        self._index: dict[int, str] | None = None

    # --- the libraries' own objects -------------------------------------------------------------------------------

    def _names(self) -> dict[int, str]:
        """Where the source library's objects are found, by identity."""
        if self._index is None:
            index: dict[int, str] = {}
            for space in _SPACES:
                try:
                    room = functools.reduce(getattr, space.split("."), self.source) if space else self.source
                except AttributeError:
                    continue
                public = getattr(room, "__all__", ()) if space != "Tensor" else ()
                for name in {*vars(room), *public}:
                    value = vars(room).get(name, None) if name in vars(room) else getattr(room, name, None)
                    if not name.startswith("__") and (callable(value) or not isinstance(value, types.ModuleType)):
                        where = f"{space}.{name}".lstrip(".")
                        # the name it was defined by, not one that it also has (nn.Container is nn.Module)
                        known = index.setdefault(id(value), where)
                        if known.rpartition(".")[2] != name and getattr(value, "__name__", "") == name:
                            index[id(value)] = where
            for plain in (None, True, False):
                index.pop(id(plain), None)
            self._index = index
        return self._index

    def _belongs(self, x: Any) -> bool:
        owner = getattr(x, "__module__", None) or type(x).__module__
        return isinstance(owner, str) and owner.split(".")[0] == self.ours

    def _namesake(self, x: Any) -> Any:
        where = self._names().get(id(x), "")
        try:
            if not where:
                raise AttributeError
            return functools.reduce(getattr, where.split("."), self.target)
        except AttributeError:
            shown = f"{self.ours}.{where}" if where else repr(x)
            raise TypeError(f"{self.name}: the code uses {shown}, which {self.theirs} does not have") from None

    def _module(self, x: types.ModuleType) -> Any:
        name = x.__name__
        if name.split(".")[0] != self.ours:
            return x
        path = self.theirs + name[len(self.ours) :]
        try:
            return importlib.import_module(path)
        except ImportError:
            raise TypeError(f"{self.name}: the code uses {name}, which {self.theirs} does not have") from None

    # --- values ---------------------------------------------------------------------------------------------------

    def value(self, x: Any) -> Any:
        """Any value that an attribute, a global or a closure may hold."""
        if x is None or isinstance(x, (bool, int, float, complex, str, bytes)):
            return x
        if id(x) in self.known:
            return self.known[id(x)]
        found = self.special(x)
        if found is None:
            found = self._value(x)
        self.known[id(x)] = found
        self.alive.append(x)
        return found

    def _value(self, x: Any) -> Any:
        if isinstance(x, types.ModuleType):
            return self._module(x)
        if isinstance(x, type):
            return self._namesake(x) if self._belongs(x) else self.cls(x)
        if isinstance(x, types.FunctionType):
            if id(x) in self._names():
                return self._namesake(x)
            return self.function(x)
        if isinstance(x, types.MethodType):
            return types.MethodType(self.value(x.__func__), self.value(x.__self__))
        if isinstance(x, functools.partial):
            return functools.partial(
                self.value(x.func), *map(self.value, x.args), **{k: self.value(v) for k, v in x.keywords.items()}
            )
        if isinstance(x, (staticmethod, classmethod)):
            return type(x)(self.value(x.__func__))
        if isinstance(x, property):
            parts: list[Any] = [f and self.value(f) for f in (x.fget, x.fset, x.fdel)]
            return property(parts[0], parts[1], parts[2], x.__doc__)
        if type(x) in (list, set, frozenset):
            return type(x)(map(self.value, x))
        if isinstance(x, tuple):
            return self._tuple(x)
        if type(x) in (dict, OrderedDict):
            return type(x)((self.value(k), self.value(v)) for k, v in x.items())
        if type(x).__name__ == "device" and self._belongs(x):
            return self.target.device(str(x))
        if id(x) in self._names():
            return self._namesake(x)
        if self._belongs(x):
            raise TypeError(f"{self.name}: the code uses {x!r} of {self.ours}, which cannot be carried over")
        return self._object(x)

    def _tuple(self, x: Any) -> Any:
        items = [self.value(v) for v in x]
        if type(x).__name__ == "Size" and self._belongs(x):
            return self.target.Size(items)
        return type(x)(*items) if hasattr(x, "_fields") else tuple(items)

    def _object(self, x: Any) -> Any:
        """An instance of some other class: copied if anything in it or its class was replaced, else shared."""
        held = getattr(x, "__dict__", None)
        if held is None or type(x).__module__ in ("builtins", "numpy"):
            return x
        cls, values = self.cls(type(x)), {k: self.value(v) for k, v in held.items()}
        if cls is type(x) and all(values[k] is held[k] for k in held):
            return x
        copied = object.__new__(cls)
        copied.__dict__.update(values)
        return copied

    # --- code -----------------------------------------------------------------------------------------------------

    def _import(self, name: str, *args: Any) -> Any:
        if name.split(".")[0] == self.ours:
            name = self.theirs + name[len(self.ours) :]
        return builtins.__import__(name, *args)

    def function(self, f: types.FunctionType) -> Any:
        """The same code over the other library's names."""
        if id(f) in self.known:
            return self.known[id(f)]
        home = f.__globals__.get("__name__", "")
        if home.split(".")[0] == self.ours:
            return self._decorated(f)
        if not self._uses(f, set()):
            return f
        space: dict[str, Any] = {"__name__": home, "__builtins__": {**vars(builtins), "__import__": self._import}}
        cells = None if f.__closure__ is None else tuple(types.CellType() for _ in f.__closure__)
        made = types.FunctionType(f.__code__, space, f.__name__, None, cells)
        self.known[id(f)] = made
        self.alive.append(f)
        made.__qualname__, made.__doc__, made.__module__ = f.__qualname__, f.__doc__, f.__module__
        made.__defaults__ = self.value(f.__defaults__)
        made.__kwdefaults__ = self.value(f.__kwdefaults__)
        for name in _mentioned(f.__code__):
            if name in f.__globals__:
                space[name] = self.value(f.__globals__[name])
        for new, old in zip(cells or (), f.__closure__ or ()):
            new.cell_contents = self.value(old.cell_contents)
        return made

    def _decorated(self, f: types.FunctionType) -> Any:
        """A function inside one of the library's decorators: ``@torch.no_grad()`` and its kin."""
        inner = getattr(f, "__wrapped__", None)
        for cell in f.__closure__ or ():
            held = cell.cell_contents
            mode = getattr(held, "__self__", held)
            if inner is not None and type(mode).__name__ in ("no_grad", "enable_grad", "inference_mode"):
                return getattr(self.target, type(mode).__name__)()(self.function(inner))
        raise TypeError(
            f"{self.name}: {f.__qualname__} is wrapped by a decorator of {self.ours}: {f.__globals__.get('__name__')}"
        )

    def _uses(self, f: types.FunctionType, seen: set[int]) -> bool:
        """Whether a function's code touches the source library, directly or through functions that it calls."""
        if id(f) in seen:
            return False
        seen.add(id(f))
        names = _mentioned(f.__code__)
        values = [f.__globals__[n] for n in names if n in f.__globals__]
        for cell in f.__closure__ or ():
            try:
                values.append(cell.cell_contents)
            except ValueError:  # not filled yet
                continue
        values += list(f.__defaults__ or ()) + list((f.__kwdefaults__ or {}).values())
        return bool(_imported(f.__code__, self.ours)) or any(self._touches(v, seen) for v in values)

    def _touches(self, x: Any, seen: set[int]) -> bool:
        if isinstance(x, types.ModuleType):
            return x.__name__.split(".")[0] == self.ours
        if isinstance(x, types.FunctionType) and not self._belongs(x):
            return self._uses(x, seen)
        if isinstance(x, type) and not self._belongs(x):
            if id(x) in seen or x.__module__ == "builtins":
                return False
            seen.add(id(x))
            return any(self._belongs(c) for c in x.__mro__) or any(
                self._touches(getattr(v, "__func__", v), seen) for v in vars(x).values()
            )
        if isinstance(x, (list, tuple)):
            return any(self._touches(v, seen) for v in x)
        if isinstance(x, dict):
            return any(self._touches(v, seen) for v in x.values())
        return self._belongs(x) or (callable(x) and id(x) in self._names())

    def cls(self, cls: type) -> type:
        """The class over the other library's bases, with rewritten methods; itself if it touches nothing of it."""
        if id(cls) in self.known:
            return self.known[id(cls)]
        if self._belongs(cls):
            return self._namesake(cls)
        if not self._touches(cls, set()):
            return cls
        bases = tuple(self.cls(b) if b is not object else b for b in cls.__bases__)
        plain = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        made = types.new_class(cls.__name__, bases, exec_body=lambda space: space.update(plain))
        self.known[id(cls)] = made
        self.alive.append(cls)
        for name, value in vars(cls).items():
            if name not in ("__dict__", "__weakref__", *plain):
                setattr(made, name, self.value(value))
        return made


def _mentioned(code: types.CodeType) -> set[str]:
    """The global names in a code object and those inside it."""
    names = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names |= _mentioned(const)
    return names


def _imported(code: types.CodeType, library: str) -> bool:
    if any(n == library or n.startswith(library + ".") for n in code.co_names):
        return True
    return any(_imported(c, library) for c in code.co_consts if isinstance(c, types.CodeType))
