"""Training loops with the statements of a step made into a function, as their author would who wants to compile it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

__all__ = ["outlined"]


def outlined(text: str, regions: list[tuple[str, str]], wrapper: str) -> str:
    """A program's text where regions of statements are functions, decorated with ``wrapper(number)``.

    A region goes from a statement that starts with its first string to one of the same loop or function that starts
    with the second. Names that the loop (or function) changes become arguments, names that are read elsewhere results.
    When the function's ``done`` is true the loop around it ends. Assertions about what comes of it are left out.
    """
    tree, lines = ast.parse(text), text.splitlines()
    functions = [_outline(tree, lines, *region, number, wrapper) for number, region in enumerate(regions)]
    tree.body = [s for s in tree.body if not isinstance(s, ast.Assert)]
    imports = [i for i, s in enumerate(tree.body) if isinstance(s, (ast.Import, ast.ImportFrom))]
    tree.body[imports[-1] + 1 : imports[-1] + 1] = functions
    return ast.unparse(ast.fix_missing_locations(tree))


def _outline(tree: ast.Module, lines: list[str], first: str, last: str, number: int, wrapper: str) -> ast.stmt:
    for path, body in _bodies(tree, ()):
        starts = [lines[s.lineno - 1].encode()[s.col_offset :].decode() for s in body]
        for i, start in enumerate(starts):
            if start.startswith(first):
                j = next(j for j in range(i, len(body)) if starts[j].startswith(last))
                return _take(tree, path, body, i, j, number, wrapper)
    raise LookupError(f"no statement starts with {first!r}")


def _bodies(node: ast.AST, path: tuple[ast.AST, ...]) -> Iterator[tuple[tuple[ast.AST, ...], list[ast.stmt]]]:
    """Every list of statements, with the nodes around it."""
    for field in ("body", "orelse", "finalbody"):
        body = getattr(node, field, None)
        if isinstance(body, list):
            yield (*path, node), body
            for s in body:
                yield from _bodies(s, (*path, node))


def _take(
    tree: ast.Module, path: tuple[ast.AST, ...], body: list[ast.stmt], i: int, j: int, number: int, wrapper: str
) -> ast.stmt:
    """Put a call in the place of statements i … j; returns the function that has them."""
    region, name = body[i : j + 1], f"step_{number}"
    loops = [p for p in path if isinstance(p, (ast.For, ast.While))]
    scope: Any = next((p for p in reversed(path) if isinstance(p, ast.FunctionDef)), tree)
    if scope is tree:
        changing = _stored(loops[:1] or tree.body)
    else:
        changing = {a.arg for a in ast.walk(scope.args) if isinstance(a, ast.arg)} | _stored(scope.body)
    read_first, stored = _flow(region)
    body[i : j + 1] = [ast.copy_location(ast.Pass(), region[0])]
    arguments = sorted(read_first & (changing | stored))
    later = [s for s in scope.body if s.end_lineno >= region[0].lineno]
    results = sorted(stored & (_free(later) | {*arguments}))
    call = f"({', '.join(results)},) = " * bool(results) + f"{name}({', '.join(arguments)})"
    end = f"if {name}.done: break" if path[-1] in loops else "pass"
    body[i : i + 1] = [ast.copy_location(s, region[0]) for s in ast.parse(f"{call}\n{end}").body]
    function: Any = ast.parse(f"@{wrapper}({number})\ndef {name}({', '.join(arguments)}): pass").body[0]
    function.body = [*region, *ast.parse(f"return ({', '.join(results)},)" if results else "return ()").body]
    return function


def _stored(nodes: list[Any]) -> set[str]:
    return {n.id for s in nodes for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _free(nodes: list[Any]) -> set[str]:
    """Names that statements read, but for what the functions in them call their own."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            inner = node.body if isinstance(node.body, list) else [node.body]
            found |= _free(inner) - {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)} - _stored(inner)
        elif isinstance(node, ast.Name):
            found |= {node.id} if isinstance(node.ctx, ast.Load) else set()
        else:
            found |= _free(list(ast.iter_child_nodes(node)))
    return found


def _flow(region: list[ast.stmt]) -> tuple[set[str], set[str]]:
    """Names that are read before they are stored, and names that are stored."""
    read: set[str] = set()
    stored: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                stored.add(node.id)
            elif node.id not in stored:
                read.add(node.id)
        elif isinstance(node, ast.Assign):
            for part in (node.value, *node.targets):
                visit(part)
        elif isinstance(node, ast.AugAssign):
            if isinstance(node.target, ast.Name) and node.target.id not in stored:
                read.add(node.target.id)
            visit(node.value)
            visit(node.target)
        elif isinstance(node, ast.For):
            for part in (node.iter, node.target, *node.body):
                visit(part)
        elif isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.Lambda)):
            own = _stored([node]) | {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
            read.update(_free(list(ast.iter_child_nodes(node))) - own - stored)
        else:
            for child in ast.iter_child_nodes(node):
                visit(child)

    for s in region:
        visit(s)
    return read, stored
