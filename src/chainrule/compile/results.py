"""What a compiled function gives back: fresh tensors; arguments, tensors from outside and views of them as they are.

When a function has been recorded, each of its results gets a description of how it comes about; a run makes the results
of its outputs by them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.state import state
from ..core.variable import wrap
from ..errors import message
from .arguments import flatten, unflatten
from .errors import CompileError
from .reach import Reach

__all__ = ["Results", "read_results"]


class Results:
    """How the results of a recording are made.

    * ``spec``: their structure (see ``arguments.flatten``).
    * ``kinds``: shape and dtype of every output of the native code.
    * ``single``: whether the result is one tensor, the only output.
    """

    def __init__(self, spec: Any, makers: list[Any], order: list[int], kinds: list[tuple[Any, Any]]) -> None:
        self.spec, self.kinds = spec, kinds
        self._makers, self._order = makers, order
        self.single = spec == ("t",) and makers == [("out", 0)]

    def deliver(self, leaves: list[Any], outputs: list[np.ndarray[Any, Any]]) -> Any:
        """The results of a run with these arguments that wrote these arrays."""
        if self.single:
            return wrap(outputs[0])
        made: list[Any] = [None] * len(self._makers)
        fresh: dict[int, Any] = {}

        def make(m: Any, again: Any) -> Any:  # a closure that names itself would be garbage in a cycle
            kind = m[0]
            if kind == "arg":
                return leaves[m[1]]
            if kind == "outside":
                return m[1]
            if kind == "memory":
                return wrap(again(m[1], again)._array)
            if kind == "same":
                return made[m[1]]
            if kind == "out":
                if m[1] in fresh:
                    return wrap(outputs[m[1]])
                fresh[m[1]] = wrap(outputs[m[1]])
                return fresh[m[1]]
            _, base, described, params, output = m
            parent = fresh[base[1]] if base[0] == "out" and base[1] in fresh else again(base, again)
            found = described.call(parent, **params) if hasattr(described, "call") else described.body(parent, **params)
            return found if output is None else found[output]

        grad, state.grad = state.grad, False
        try:
            for i in self._order:
                made[i] = make(self._makers[i], make)
        finally:
            state.grad = grad
        return unflatten(self.spec, iter(made))


def read_results(result: Any, leaves: list[Any], reach: Reach) -> tuple[Results, list[Any]]:
    """How a recorded function's result comes about, and the tensors that native code has to compute for it.

    Raises:
        CompileError: if a tensor in it still needs its graph.
    """
    found: list[Any] = []
    spec = flatten(result, found)
    for t in found:
        if t._requires and t._node is not None and not _freed(t._node):
            raise CompileError(message(
                "compile: the function returns a tensor that still needs its graph",
                f"shape {tuple(t._array.shape)}: gradients could not flow back through the native code",
                fix="Call backward() inside the function, or compute under torch.no_grad(), or return t.detach().",
            ))  # fmt: skip
    outs: list[Any] = []
    made: dict[int, int] = {}
    outside = {id(t._array): t for t in reach.tensors.values()}
    order = sorted(range(len(found)), key=lambda i: found[i]._base is not None)  # bases before their views
    makers: list[Any] = [None] * len(found)
    objects: dict[int, int] = {}
    for i in order:
        first = objects.setdefault(id(found[i]), i)
        makers[i] = _maker(found[i], leaves, reach, outside, made, outs) if first == i else ("same", first)
    return Results(spec, makers, order, [(t._array.shape, t._array.dtype) for t in outs]), outs


def _freed(node: Any) -> bool:
    node = node[0] if type(node) is tuple else node
    return node.saved is None


def _maker(
    t: Any, leaves: list[Any], reach: Reach, outside: dict[int, Any], made: dict[int, int], outs: list[Any]
) -> Any:  # fmt: skip
    """How a result comes about: ("arg", i), ("outside", tensor), ("out", n), which is put into ``outs``, ("memory",
    maker) for another tensor of the same memory, or ("view", maker, described, params, output)."""
    for i, x in enumerate(leaves):
        if t is x:
            return ("arg", i)
    for i, x in enumerate(leaves):
        if t._array is x._array:
            return ("memory", ("arg", i))
    if id(t) in reach.tensors:
        return ("outside", t)
    if id(t._array) in outside:
        return ("memory", ("outside", outside[id(t._array)]))
    if id(t._array) in made:
        return ("out", made[id(t._array)])
    base = t._base
    while base is not None:
        if any(base is x for x in leaves) or id(base._array) in outside or id(base._array) in made:
            return ("view", _maker(t._base, leaves, reach, outside, made, outs), *t._view)
        base = base._base
    made[id(t._array)] = len(outs)
    outs.append(t)
    return ("out", made[id(t._array)])
