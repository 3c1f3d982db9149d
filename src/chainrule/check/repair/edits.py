"""The edits: each undoes one kind of mistake at one place of a statement.

An ``Edit`` replaces one node of the tree by another and puts the old one back. ``rank`` orders the search: simple and
frequent mistakes first.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Edit", "Site", "sites_of", "statements"]


@dataclass(slots=True)
class Site:
    """A node and where it hangs."""

    node: ast.AST
    parent: ast.AST
    slot: str
    index: int | None = None

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.slot, node)
        else:
            getattr(self.parent, self.slot)[self.index] = node


@dataclass(slots=True)
class Edit:
    """Replace ``site.node`` by ``new``. ``also`` are further replacements that belong to the same change."""

    kind: str
    title: str
    rank: float
    site: Site
    new: ast.AST
    statement: ast.stmt
    also: list[tuple[Site, ast.AST]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def apply(self) -> None:
        self.site.put(self.new)
        for site, new in self.also:
            site.put(new)

    def undo(self) -> None:
        self.site.put(self.site.node)
        for site, _ in self.also:
            site.put(site.node)


def statements(tree: ast.FunctionDef) -> Iterator[tuple[ast.stmt, Site]]:
    """The simple statements of a function, at any depth, each with the place where it hangs."""
    for parent in ast.walk(tree):
        for slot in ("body", "orelse", "finalbody"):
            block = getattr(parent, slot, None)
            if isinstance(block, list):
                for i, stmt in enumerate(block):
                    if isinstance(stmt, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr, ast.For)):
                        yield stmt, Site(stmt, parent, slot, i)


def _children(node: ast.AST) -> Iterator[Site]:
    for slot, value in ast.iter_fields(node):
        if isinstance(value, ast.expr):
            yield Site(value, node, slot)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, ast.expr):
                    yield Site(item, node, slot, i)
                elif isinstance(item, ast.keyword):
                    yield Site(item.value, item, "value")


def sites_of(stmt: ast.stmt) -> Iterator[Site]:
    """All expressions that a statement reads (the targets' indices included), outermost first."""
    queue: list[Site] = []
    if isinstance(stmt, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)):
        if stmt.value is not None:
            queue.append(Site(stmt.value, stmt, "value"))
        targets: list[Any] = getattr(stmt, "targets", None) or [getattr(stmt, "target", None)]
        queue += [Site(t.slice, t, "slice") for t in targets if isinstance(t, ast.Subscript)]
    elif isinstance(stmt, ast.For):
        queue.append(Site(stmt.iter, stmt, "iter"))
    while queue:
        site = queue.pop(0)
        yield site
        if isinstance(site.node, (ast.Lambda, ast.JoinedStr)):
            continue
        if isinstance(site.node, ast.Call):
            func = site.node.func
            if isinstance(func, ast.Attribute):  # x.sum(): x is read, np is not
                queue.append(Site(func.value, func, "value"))
            queue += [s for s in _children(site.node) if s.slot != "func"]
            continue
        queue += _children(site.node)


def name(n: str) -> ast.Name:
    return ast.Name(n, ast.Load())


def parse(text: str, **parts: ast.AST) -> ast.expr:
    """An expression from a template, with names in capitals replaced by copies of nodes."""
    tree = ast.parse(text, mode="eval").body

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return copy.deepcopy(parts[node.id]) if node.id in parts else node

    return Fill().visit(tree)
