"""Arguments and results: tensors taken out of nested structures, and put back.

``flatten(x, leaves)`` gives a description of x, equal for arguments that one recording serves, and puts the tensors in
``leaves``. Numbers and strings are part of the description, so each value is recorded by itself; objects that are
neither containers nor plain values are themselves, whatever they hold.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..core.state import state
from ..core.variable import Variable, wrap
from ..errors import message
from .errors import CompileError

__all__ = ["Given", "flatten", "objects_in", "same_memory", "traced_argument", "unflatten"]

TENSOR = ("t",)
_PACKAGE = str(Path(__file__).parents[1])
_PLAIN = (int, float, complex, str, bytes, type(None), type, np.dtype, np.generic, slice, type(...))


class Given:
    """An object that is compared by identity."""

    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given) and other.x is self.x

    def __hash__(self) -> int:
        return id(self.x)


class Exactly:
    """A number, equal only to the same number of the same type: 1 is not 1.0 or True, and NaN is NaN."""

    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Exactly) or type(other.x) is not type(self.x):
            return False
        return repr(other.x) == repr(self.x) if isinstance(self.x, (float, complex)) else other.x == self.x

    def __hash__(self) -> int:
        return hash(repr(self.x)) if isinstance(self.x, (float, complex, slice)) else hash(self.x)


def flatten(x: Any, leaves: list[Any]) -> Any:
    """The structure of nested lists, tuples, dicts and dataclasses, with tensors and arrays taken out."""
    if isinstance(x, Variable):
        leaves.append(x)
        return TENSOR
    if isinstance(x, np.ndarray):
        leaves.append(wrap(x))
        return ("a",)
    kind: type[Any] = type(x)
    if kind is tuple or kind is list or (isinstance(x, tuple) and hasattr(x, "_fields")):
        return (kind, tuple([flatten(i, leaves) for i in x]))
    if isinstance(x, dict):
        return (kind, tuple(x), tuple([flatten(v, leaves) for v in x.values()]))
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        fields = [f.name for f in dataclasses.fields(x) if hasattr(x, f.name)]
        return (kind, tuple(fields), tuple([flatten(getattr(x, f), leaves) for f in fields]))
    if isinstance(x, (types.GeneratorType, types.CoroutineType)):
        raise CompileError(message(
            f"compile: a {kind.__name__} cannot be an argument or a result of a compiled function",
            fix="Use a list of its items, or compile the function that it calls for each item.",
        ))  # fmt: skip
    return ("p", Exactly(x)) if isinstance(x, _PLAIN) else ("o", Given(x))


def objects_in(spec: Any) -> Iterator[Any]:
    """The objects in a description of arguments that are compared by identity."""
    if isinstance(spec, tuple):
        if spec and spec[0] == "o":
            yield spec[1].x
        else:
            for part in spec:
                yield from objects_in(part)


def unflatten(spec: Any, leaves: Iterator[Any]) -> Any:
    """What was described, with ``leaves`` in the places of tensors."""
    kind = spec[0]
    if kind == "t" or kind == "a":
        return next(leaves)
    if kind == "p" or kind == "o":
        return spec[1].x
    if kind is list:
        return [unflatten(s, leaves) for s in spec[1]]
    if kind is tuple:
        return tuple([unflatten(s, leaves) for s in spec[1]])
    if len(spec) == 2:
        return kind(*[unflatten(s, leaves) for s in spec[1]])
    values = [unflatten(s, leaves) for s in spec[2]]
    if issubclass(kind, dict):
        out = kind() if kind is not dict else {}
        out.update(zip(spec[1], values, strict=True))
        return out
    out = object.__new__(kind)
    for name, value in zip(spec[1], values, strict=True):
        object.__setattr__(out, name, value)
    return out


def same_memory(leaves: list[Any]) -> tuple[Any, ...]:
    """Which leaves are one and the same tensor's memory, and which overlap: part of what a recording depends on."""
    found: list[Any] = []
    for i, t in enumerate(leaves):
        a = t._array
        for j in range(i):
            b = leaves[j]._array
            if a is b:
                found.append((i, j))
                break
            if np.may_share_memory(a, b):
                found.append((i, j, t is leaves[j]))
    return tuple(found)


class _Traced(np.ndarray[Any, Any]):
    """A NumPy argument while a function is recorded: NumPy would compute with it unseen, so that is an error."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(x, Variable) for x in inputs):
            return NotImplemented  # the tensor's operator takes over
        if _inside(sys._getframe(1)):
            return getattr(ufunc, method)(*map(_plain, inputs), **options)
        return _computed(f"np.{ufunc.__name__}")

    def __array_function__(self, function: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        if _inside(sys._getframe(1)):
            return function(*map(_plain, args), **kwargs)
        return _computed(f"np.{function.__name__}")


def _inside(frame: Any) -> bool:
    """Whether library code is asking: what it does is recorded."""
    return frame.f_code.co_filename.startswith(_PACKAGE)


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if type(x) is _Traced else x


def _computed(what: str) -> Any:
    if state.recorder is not None:
        state.recorder.leak(None, what)
    raise CompileError(f"compile: {what} on an argument of a compiled function")


def _reports(name: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _inside(sys._getframe(1)):
            return getattr(np.ndarray, name)(_plain(self), *args, **kwargs)
        return _computed(name.strip("_"))

    return method


def _entry(self: Any, key: Any) -> Any:
    found = np.ndarray.__getitem__(self, key)
    if isinstance(found, np.generic) and not _inside(sys._getframe(1)):
        _computed("an entry of a NumPy argument")
    return found


_Traced.__getitem__ = _entry  # type: ignore[method-assign, assignment]
for _name in ("item", "tolist", "astype", "copy", "__float__", "__int__", "__bool__", "__index__", "__iter__"):
    setattr(_Traced, _name, _reports(_name))


def traced_argument(x: Any) -> Any:
    """x with its NumPy arrays replaced by ones that report what NumPy does with them."""
    if type(x) is np.ndarray:
        return x.view(_Traced)
    if isinstance(x, np.ndarray):
        raise CompileError(f"compile: arrays of type {type(x).__name__} are not supported; pass np.asarray(x)")
    if type(x) in (list, tuple):
        return type(x)(traced_argument(i) for i in x)
    if type(x) is dict:
        return {k: traced_argument(v) for k, v in x.items()}
    return x
