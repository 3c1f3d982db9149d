"""Run a forward pass with hands inside it: read every named value, hold some fixed, move one.

The source of the forward is rewritten so that each name, once assigned, passes through a hook. With every graded value
held at what it was, moving one of them shows what depends on it *directly*: exactly the edges of the graph that the
chain rule needs, without knowing a single op.
"""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import UsageError
from .repair.source import FunctionSource

__all__ = ["Forward"]

_HOOK = "_chainrule_hook"
_SCALAR_NAMES = ("loss", "L", "J", "cost", "E", "l", "total_loss", "error")


class Forward:
    """A forward pass under observation. ``values``: every named float array or number, as it was last assigned."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.args, self.keywords = args, keywords
        plain = function
        if isinstance(function, types.MethodType):
            plain, self.args = function.__func__, (function.__self__, *args)
        if not isinstance(plain, types.FunctionType):
            raise UsageError("forward must be a Python function whose source can be read.")
        self.source = FunctionSource(plain)
        if self.source.tree is None:
            raise UsageError(
                f"The source of {plain.__qualname__} is not at hand, and marking each line needs it: "
                "define the function in a file (or use chainrule.check(f, x, grad=…))."
            )
        self.function = plain
        self.statements: dict[str, ast.stmt] = {}
        self.outside = self._outside()
        self.code = self._instrument()
        self.order: list[str] = []
        self.values: dict[str, Any] = {}
        self._hook: Callable[[str, Any], Any] = self._record
        self.returned = self._run()
        self.loss = self._loss()

    # -- rewriting ----------------------------------------------------------------------------------------------------

    def _outside(self) -> dict[str, Any]:
        """Arrays that the forward reads from around it (closures, globals)."""
        f = self.function
        found: dict[str, Any] = {}
        for n in f.__code__.co_names:
            if n in f.__globals__:
                found[n] = f.__globals__[n]
        for n, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            found[n] = cell.cell_contents
        return found

    def _instrument(self) -> types.FunctionType:
        assert self.source.tree is not None
        tree = copy.deepcopy(self.source.tree)
        arguments = [a.arg for a in (*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs)]
        arrays = [n for n, v in self.outside.items() if isinstance(v, (np.ndarray, float)) and n not in arguments]
        body: list[ast.stmt] = [_hooked(n) for n in (*arguments, *arrays)]
        for stmt in tree.body:
            if isinstance(stmt, ast.Return) and isinstance(stmt.value, ast.expr):
                body.append(ast.Assign([ast.Name("_chainrule_result", ast.Store())], stmt.value))
                body.append(ast.Return(ast.Name("_chainrule_result", ast.Load())))
                if not isinstance(stmt.value, (ast.Tuple, ast.Dict, ast.Name)):
                    self.statements["_chainrule_result"] = ast.Assign([ast.Name("loss", ast.Store())], stmt.value)
                continue
            body.append(stmt)
            for name in _assigned(stmt):
                self.statements[name] = stmt
                body.append(_hooked(name))
        tree.body = body
        tree.decorator_list = []
        tree.name = "_observed"
        # Names from outside become locals through the hook, so they enter as arguments of an enclosing function.
        outer = ast.parse(f"def _scope({', '.join([_HOOK, *(f'_outer_{n}' for n in arrays)])}):\n    pass").body[0]
        assert isinstance(outer, ast.FunctionDef)
        for i, n in enumerate(arrays):
            tree.body.insert(i, ast.parse(f"{n} = _outer_{n}").body[0])
        outer.body = [tree, ast.Return(ast.Name("_observed", ast.Load()))]
        module = ast.fix_missing_locations(ast.Module([outer], []))
        scope: dict[str, Any] = {**self.function.__globals__, **self.outside, "__builtins__": builtins}
        exec(compile(module, self.source.filename, "exec"), scope)  # noqa: S102 - the user's own function, with hooks
        made = scope["_scope"](lambda n, v: self._hook(n, v), *(self.outside[n] for n in arrays))
        made.__defaults__, made.__kwdefaults__ = self.function.__defaults__, self.function.__kwdefaults__
        return made

    # -- running ------------------------------------------------------------------------------------------------------

    def _run(self) -> Any:
        return self.code(*(_fresh(a) for a in self.args), **{k: _fresh(v) for k, v in self.keywords.items()})

    def _record(self, name: str, value: Any) -> Any:
        for key, leaf in _leaves(name, value):
            if key in self.order:
                self.order.remove(key)
            self.order.append(key)
            self.values[key] = np.array(leaf, dtype=float) if np.ndim(leaf) else float(leaf)
        return value

    def _loss(self) -> float:
        out = self.returned
        items = list(out) if isinstance(out, tuple) else [out]
        for item in items:
            if isinstance(item, dict):
                for k in _SCALAR_NAMES:
                    if k in item and np.size(item[k]) == 1:
                        self.pick: Callable[[Any], float] = _picker(
                            items.index(item) if isinstance(out, tuple) else None, k
                        )
                        return self.pick(out)
            elif np.ndim(item) == 0 and not isinstance(item, (str, bytes)) and item is not None:
                index = next(i for i, x in enumerate(items) if x is item) if isinstance(out, tuple) else None
                self.pick = _picker(index, None)
                return self.pick(out)
        raise UsageError("forward must return the loss (one number), alone, first in a tuple, or as 'loss' in a dict.")

    def local(self, moved: dict[str, Any], held: set[str]) -> tuple[dict[str, Any], float]:
        """Run with ``held`` values fixed and ``moved`` ones replaced; returns what each held name was computed as."""
        computed: dict[str, Any] = {}

        def hook(name: str, value: Any) -> Any:
            out = value
            for key, leaf in _leaves(name, value):
                if key in held or key in moved:
                    computed[key] = leaf
                    new = moved.get(key, self.values[key])
                    if np.shape(new) != np.shape(leaf):
                        continue  # an earlier assignment of the same name
                    if key == name:
                        out = np.array(new) if np.ndim(new) else new
                    else:
                        out = _replace(out, key, name, new)
            return out

        self._hook = hook
        try:
            returned = self._run()
        finally:
            self._hook = self._record
        return computed, self.pick(returned)


def _picker(index: int | None, key: str | None) -> Callable[[Any], float]:
    def pick(out: Any) -> float:
        item = out if index is None else out[index]
        return float(np.asarray(item if key is None else item[key]).reshape(()))

    return pick


def _hooked(name: str) -> ast.stmt:
    return ast.parse(f"{name} = {_HOOK}({name!r}, {name})").body[0]


def _assigned(stmt: ast.stmt) -> list[str]:
    names: list[str] = []
    for node in ast.walk(stmt):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id not in names:
            names.append(node.id)
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id not in names
        ):
            names.append(node.value.id)
    if isinstance(stmt, (ast.FunctionDef, ast.Import, ast.ImportFrom, ast.ClassDef)):
        return []
    return names


def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    """The arrays in a value: itself, or those of a dict of parameters (by key) or an object's attributes."""
    if (isinstance(value, np.ndarray) and value.dtype.kind == "f") or isinstance(value, (float, np.floating)):
        return [(name, value)]
    if isinstance(value, dict):
        return [
            (k, v)
            for k, v in value.items()
            if isinstance(k, str) and ((isinstance(v, np.ndarray) and v.dtype.kind == "f") or isinstance(v, float))
        ]
    return []


def _replace(container: Any, key: str, name: str, new: Any) -> Any:
    del name
    out = dict(container)
    out[key] = np.array(new) if np.ndim(new) else new
    return out


def _fresh(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return x.astype(float) if x.dtype.kind == "f" else x.copy()
    if isinstance(x, dict):
        return {k: _fresh(v) for k, v in x.items()}
    return x


def call_backward(backward: Callable[..., Any], forward: Forward, inputs: dict[str, Any]) -> Any:
    """Call the student's backward with what its parameters ask for by name; ``cache`` is what the forward returned."""
    out = forward.returned
    cache = next((x for x in (out if isinstance(out, tuple) else (out,)) if isinstance(x, (dict, tuple, list))), None)
    if cache is None:
        cache = {**inputs, **forward.values}
    known = {**forward.values, **inputs}
    args = []
    for p in inspect.signature(backward).parameters.values():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if p.name in ("cache", "caches", "values", "intermediates", "saved", "memory", "forward"):
            args.append(cache)
        elif p.name in known:
            args.append(known[p.name])
        elif p.default is not p.empty:
            break
        else:
            args.append(cache)
    return backward(*args)
