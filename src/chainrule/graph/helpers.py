"""An op's body as a stand-alone function: its source, and whatever it calls, with names that do not clash."""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
import types
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

__all__ = ["Helpers"]


class Helpers:
    """Collects functions for a printed program. ``name_of(function)`` adds one and says what it is called there."""

    def __init__(self, reserved: set[str]) -> None:
        self.reserved = reserved
        self.names: dict[Any, str] = {}
        self.sources: dict[str, str] = {}
        self.imports: dict[str, str] = {}

    def name_of(self, function: Callable[..., Any], wish: str = "") -> str:
        """The printed name of a body (or of the body of an op that is called)."""
        described = getattr(function, "op", None)
        body: Any = described.body if described is not None else function
        known = self.names.get(body)
        if known is not None:
            return known
        wish = wish or (described.name if described is not None else body.__name__)
        name = wish.lstrip("_") or "helper"
        while name in self.reserved or hasattr(builtins, name) or name in self.names.values():
            name += "_"
        self.names[body] = name
        self.sources[name] = ""  # reserve the place, so that what it calls is printed after it
        self.sources[name] = self._source(body, name)
        return name

    def text(self) -> str:
        """All helper functions."""
        return "\n\n\n".join(self.sources.values())

    def _source(self, function: Any, name: str) -> str:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        made: Any = tree.body[0]
        made.decorator_list = []
        made.name = name
        made.returns = None
        for a in (*made.args.args, *made.args.kwonlyargs, *made.args.posonlyargs):
            a.annotation = None
        variables = inspect.getclosurevars(function)
        outer = {**variables.globals, **variables.nonlocals}
        given = {n.arg for n in ast.walk(made) if isinstance(n, ast.arg)}
        local = {n.id for n in ast.walk(made) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} - given
        called = [
            n.id for n in ast.walk(made) if isinstance(n, ast.Name) and n.id in outer and n.id not in given | local
        ]
        self.reserved |= given
        names = {n: self.expression(n, outer[n]) for n in called}
        clashes = local & {e.id for e in names.values() if isinstance(e, ast.Name)}
        made = _WithoutSciPy(self.imports).visit(made)
        made = _Rename(names, {n: ast.Name(n + "_", ast.Load()) for n in clashes}, given | local).visit(made)
        return ast.unparse(ast.fix_missing_locations(made))

    def expression(self, name: str, value: Any) -> ast.expr:
        """A global of a helper, as an expression in the printed program."""
        if value is np:
            return ast.Name("np", ast.Load())
        if isinstance(value, types.ModuleType):
            top = value.__name__
            self.imports[name] = f"import {top}" if top == name else f"import {top} as {name}"
            return ast.Name(name, ast.Load())
        if isinstance(value, np.ufunc) and getattr(np, value.__name__, None) is value:
            return _parsed(f"np.{value.__name__}")
        if isinstance(value, np.dtype):
            return _parsed(f"np.dtype({value.name!r})")
        if isinstance(value, (int, float, str, bytes, tuple, list, dict, frozenset, set, slice, type(None))):
            if isinstance(value, float) and not np.isfinite(value):
                return _parsed({"inf": "np.inf", "-inf": "-np.inf"}.get(str(value), "np.nan"))
            return _parsed(repr(value))
        if inspect.isfunction(value) and getattr(value, "__module__", "").startswith("chainrule"):
            return ast.Name(self.name_of(value), ast.Load())
        if isinstance(value, type) and issubclass(value, Exception):
            return ast.Name("ValueError" if not issubclass(value, IndexError) else "IndexError", ast.Load())
        module = getattr(value, "__module__", "") or ""
        if module.startswith("numpy") or inspect.isclass(value):
            qualified = getattr(value, "__name__", "")
            if getattr(np, qualified, None) is value:
                return _parsed(f"np.{qualified}")
        if module and hasattr(value, "__qualname__") and not module.startswith("chainrule"):
            self.imports[name] = f"from {module} import {value.__qualname__} as {name}"
            return ast.Name(name, ast.Load())
        raise NotImplementedError(f"a helper needs {name} = {value!r}")


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


class _Rename(ast.NodeTransformer):
    """Outside names become what they are called here; a local variable called like a helper gets a new name."""

    def __init__(self, outer: dict[str, ast.expr], clashes: dict[str, ast.Name], own: set[str]) -> None:
        self.outer = outer
        self.clashes = clashes
        self.own = own

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        inner = node.value
        if node.attr == "body" and isinstance(inner, ast.Attribute) and inner.attr == "op":
            return self.visit(inner.value)  # some_op.op.body is what the helper is
        node.value = self.visit(node.value)
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self.clashes:
            return ast.Name(self.clashes[node.id].id, node.ctx)
        if isinstance(node.ctx, ast.Load) and node.id not in self.own and node.id in self.outer:
            return self.outer[node.id]
        return node


class _WithoutSciPy(ast.NodeTransformer):
    """``from scipy.special import erf`` gets a fallback from the standard library, so that NumPy alone is enough."""

    known: ClassVar = {"erf": "math.erf", "erfc": "math.erfc", "gamma": "math.gamma", "gammaln": "math.lgamma"}

    def __init__(self, imports: dict[str, str]) -> None:
        self.imports = imports

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        if node.module != "scipy.special" or any(a.name not in self.known for a in node.names):
            return node
        self.imports["math"] = "import math"
        lines = [f"    {a.asname or a.name} = np.vectorize({self.known[a.name]}, otypes=[float])" for a in node.names]
        text = f"try:\n    {ast.unparse(node)}\nexcept ImportError:\n" + "\n".join(lines)
        return ast.parse(text).body[0]
