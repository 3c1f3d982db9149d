"""The syntax tree of a live function, and running the function with an edited tree in its place."""

from __future__ import annotations

import ast
import contextlib
import inspect
import linecache
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["FunctionSource", "user_functions", "running_as"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_FOREIGN = tuple(
    os.path.dirname(os.path.abspath(m.__file__ or "")) + os.sep for m in (np, os) if getattr(m, "__file__", None)
)


class FunctionSource:
    """A Python function and its syntax tree, with the line numbers of its file. ``tree`` is None without source."""

    def __init__(self, function: types.FunctionType) -> None:
        self.function = function
        self.filename = function.__code__.co_filename
        self.lines = linecache.getlines(self.filename, function.__globals__)
        self.tree: ast.FunctionDef | None = _find(function, self.lines)

    def line(self, number: int) -> str:
        return self.lines[number - 1].strip() if 0 < number <= len(self.lines) else ""

    def compile(self) -> types.CodeType | None:
        """The code of the tree as it is now, fit to stand in for the function's own; None if it does not compile."""
        assert self.tree is not None
        free = self.function.__code__.co_freevars
        # A free variable that the edit no longer reads must stay one: the closure has a cell for each.
        keep = ast.If(ast.Constant(False), [ast.Expr(ast.Name(v, ast.Load())) for v in free] or [ast.Pass()], [])
        inner = _function(self.tree.name, self.tree.args, [keep, *self.tree.body])
        outer = _function("_scope", ast.arguments([], [ast.arg(v) for v in free], None, [], [], None, []), [inner])
        module = ast.fix_missing_locations(ast.Module([outer], []))
        try:
            code = compile(module, self.filename, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, TypeError):
            return None
        scope = next(c for c in code.co_consts if isinstance(c, types.CodeType))
        made = next((c for c in scope.co_consts if isinstance(c, types.CodeType) and c.co_name == self.tree.name), None)
        return made if made is not None and made.co_freevars == free else None


def _function(name: str, args: ast.arguments, body: list[ast.stmt]) -> ast.FunctionDef:
    """A definition with the fields that this Python's grammar has (they grew with 3.12)."""
    made = ast.parse("def f(): pass").body[0]
    assert isinstance(made, ast.FunctionDef)
    made.name, made.args, made.body = name, args, body
    return made


def _find(function: types.FunctionType, lines: list[str]) -> ast.FunctionDef | None:
    code = function.__code__
    if not lines or "__class__" in code.co_freevars or inspect.isgeneratorfunction(function):
        return None
    try:
        module = ast.parse("".join(lines))
    except SyntaxError:
        return None
    names = list(code.co_varnames[: code.co_argcount])
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if code.co_firstlineno in (first, node.lineno):
                return node
    for node in ast.walk(module):
        if isinstance(node, ast.Lambda) and code.co_name == "<lambda>" and node.lineno == code.co_firstlineno:
            if [a.arg for a in node.args.args] != names or not _covers(node, code):
                continue
            result = ast.Return(node.body)
            ast.copy_location(result, node.body)
            return ast.copy_location(_function("_lambda", node.args, [result]), node)
    return None


def _covers(node: ast.Lambda, code: types.CodeType) -> bool:
    """Whether the code's instructions lie inside this lambda (several may share a line)."""
    spans = [
        (line, col)
        for line, _, col, _ in code.co_positions()
        if line is not None and col is not None and (line, col) != (code.co_firstlineno, 0)
    ]
    body = node.body
    end = (body.end_lineno or body.lineno, body.end_col_offset or 0)
    return all((body.lineno, body.col_offset) <= s <= end for s in spans)


def user_functions(start: Any, limit: int = 12) -> list[types.FunctionType]:
    """The user's own functions that ``start`` may call, nearest first: by closure, global, method and attribute."""
    found: list[types.FunctionType] = []
    queue: list[Any] = [start]
    seen: set[int] = set()
    while queue and len(found) < limit:
        item = queue.pop(0)
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, types.MethodType):
            queue.append(item.__func__)
            _methods(item.__self__, item.__func__.__code__, queue)
            continue
        if isinstance(item, (staticmethod, classmethod)):
            queue.append(item.__func__)
            continue
        if hasattr(item, "func") and hasattr(item, "args") and callable(item.func):  # functools.partial
            queue.append(item.func)
            continue
        if not isinstance(item, types.FunctionType):
            _methods(item, None, queue)
            continue
        if hasattr(item, "__wrapped__"):
            queue.append(item.__wrapped__)
        if not _users_own(item.__code__.co_filename):
            continue
        found.append(item)
        values = [c.cell_contents for c in item.__closure__ or () if _filled(c)]
        names = set(_all_names(item.__code__))
        values += [item.__globals__[n] for n in item.__code__.co_names if n in item.__globals__]
        for value in values:
            if isinstance(value, (types.FunctionType, types.MethodType)):
                queue.append(value)
            elif not isinstance(value, types.ModuleType):
                _methods(value, names, queue)
            elif _users_own(getattr(value, "__file__", None) or "<none>"):
                queue += [v for k, v in vars(value).items() if k in names and isinstance(v, types.FunctionType)]
    return found


def _methods(owner: Any, code: Any, queue: list[Any]) -> None:
    """The methods of ``owner`` that the code names."""
    kind = owner if isinstance(owner, type) else type(owner)
    if kind.__module__ in ("builtins", "numpy"):
        return
    names = set(code) if isinstance(code, set) else {"__call__", "backward"} if code is None else set(_all_names(code))
    for base in kind.__mro__:
        for name, value in vars(base).items():
            if name in names or (name == "__call__" and isinstance(code, set)):
                target = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
                if isinstance(target, types.FunctionType):
                    queue.append(target)


def _all_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            yield from _all_names(c)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _users_own(filename: str) -> bool:
    inside = filename.startswith(_PACKAGE) and not filename.startswith(
        (_PACKAGE + "byhand", _PACKAGE + "ops", _PACKAGE + "composites")
    )
    return not inside and not filename.startswith(_FOREIGN) and f"{os.sep}site-packages{os.sep}" not in filename


@contextlib.contextmanager
def running_as(function: types.FunctionType, code: types.CodeType) -> Iterator[None]:
    """While the block runs, every reference to ``function`` runs ``code``."""
    original = function.__code__
    function.__code__ = code
    try:
        yield
    finally:
        function.__code__ = original


RETURNED = "(returned)"


def final_locals(functions: list[types.FunctionType], run: Callable[[], Any]) -> dict[int, dict[str, Any]]:
    """The local variables with which each function returned last, by ``id`` of the function."""
    wanted = {f.__code__: id(f) for f in functions}
    found: dict[int, dict[str, Any]] = {}

    def profile(frame: Any, event: str, value: Any) -> None:
        if event == "return" and frame.f_code in wanted:
            found[wanted[frame.f_code]] = {**frame.f_locals, RETURNED: value}

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(previous)
    return found
