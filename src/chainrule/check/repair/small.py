"""Edits within an expression: operators, operands, names, numbers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from .calls import call_edits, subscript_edits
from .edits import Edit, Site, parse, sites_of
from .scope import Scope, expression, is_axis, is_number, is_slope, piece_of

__all__ = ["small_edits"]


def small_edits(stmt: ast.stmt, scope: Scope) -> Iterator[Edit]:
    for site in sites_of(stmt):
        node = site.node
        if (
            isinstance(node, ast.UnaryOp)
            and isinstance(node.op, ast.USub)
            and not isinstance(node.operand, ast.Constant)
        ):
            yield Edit("sign", "a minus too many", 0, site, node.operand, stmt)
        if isinstance(node, ast.BinOp):
            yield from _binary(site, node, stmt, scope)
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            yield from _compare(site, node, stmt)
        elif isinstance(node, ast.Constant):
            yield from _constant(site, node, stmt)
        elif isinstance(node, ast.Call):
            yield from call_edits(site, node, stmt, scope)
        elif isinstance(node, ast.Subscript):
            yield from subscript_edits(site, node, stmt, scope)
        elif isinstance(node, ast.Attribute) and node.attr == "T":
            yield Edit("transposed", "a transpose too many", 1, site, node.value, stmt)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            yield Edit("axis" if is_axis(site) else "off-by-one", "a sign of a number", 2, site, node.operand, stmt)
        yield from _names(site, stmt, scope)


def _binary(site: Site, node: ast.BinOp, stmt: ast.stmt, scope: Scope) -> Iterator[Edit]:
    left, right, op = node.left, node.right, node.op

    def with_op(new: ast.operator, swap: bool = False) -> ast.BinOp:
        return ast.BinOp(right if swap else left, new, left if swap else right)

    number = is_number(left, scope) or is_number(right, scope)
    if isinstance(op, ast.Sub):
        yield Edit("sign", "the two sides of a difference are exchanged", 0, site, with_op(ast.Sub(), True), stmt)
        yield Edit("sign", "a minus that should be a plus", 0, site, with_op(ast.Add()), stmt)
    if isinstance(op, ast.Add):
        yield Edit("sign", "a plus that should be a minus", 0, site, with_op(ast.Sub()), stmt)
        yield Edit("sign", "a plus that should be a minus", 0.5, site, with_op(ast.Sub(), True), stmt)
    if isinstance(op, (ast.Add, ast.Sub)):
        for kept, dropped in ((left, right), (right, left)):
            weight = (
                isinstance(dropped, ast.BinOp)
                and isinstance(dropped.op, ast.Mult)
                and (is_number(dropped.left, scope) or is_number(dropped.right, scope))
            )
            new = kept if kept is left or isinstance(op, ast.Add) else ast.UnaryOp(ast.USub(), kept)
            if weight:
                yield Edit("regulariser", f"an extra term {ast.unparse(dropped)}", 1, site, new, stmt)
            else:
                yield Edit("extra-term", f"a term too many: {ast.unparse(dropped)}", 1.5, site, new, stmt)
    if isinstance(op, ast.Mult) and isinstance(site.parent, (ast.Call, ast.BinOp)):
        yield Edit("missing-term", "a 1 is missing", 2.6, site, ast.BinOp(node, ast.Add(), ast.Constant(1)), stmt)
    if isinstance(op, ast.Mult):
        yield Edit(
            "factor" if number else "wrong-operation",
            "a product that should be a quotient",
            1.2,
            site,
            with_op(ast.Div()),
            stmt,
        )
        if not number:
            yield Edit("wrong-operation", "* that should be @", 2, site, with_op(ast.MatMult()), stmt)
    if isinstance(op, ast.Div):
        yield Edit(
            "factor" if number else "wrong-operation",
            "a quotient that should be a product",
            1.2,
            site,
            with_op(ast.Mult()),
            stmt,
        )
    if isinstance(op, ast.FloorDiv):
        yield Edit("dtype", "integer division // where / belongs", 0.5, site, with_op(ast.Div()), stmt)
    if isinstance(op, (ast.Mult, ast.Div)):
        pairs = ((left, right), (right, left)) if isinstance(op, ast.Mult) else ((left, right),)
        for kept, dropped in pairs:
            if is_number(dropped, scope):
                text = ast.unparse(dropped)
                what = "sum-mean" if isinstance(op, ast.Div) or text.startswith("1") else "factor"
                yield Edit(
                    what,
                    f"a factor too many: {'/' if isinstance(op, ast.Div) else '*'} {text}",
                    1,
                    site,
                    kept,
                    stmt,
                    details={"factor": text},
                )
            elif is_slope(dropped):
                yield Edit(
                    "activation", f"an activation derivative too many: {ast.unparse(dropped)}", 1.3, site, kept, stmt
                )
            else:
                yield Edit("extra-factor", f"a factor too many: {ast.unparse(dropped)}", 1.4, site, kept, stmt)
    if isinstance(op, ast.Add) and not number:
        yield Edit("wrong-operation", "+ that should be *", 2, site, with_op(ast.Mult()), stmt)
    if isinstance(op, ast.MatMult):

        def flipped(x):
            return x.value if isinstance(x, ast.Attribute) and x.attr == "T" else ast.Attribute(x, "T", ast.Load())

        yield Edit("transposed", "the factors of a product are exchanged", 1, site, with_op(ast.MatMult(), True), stmt)
        yield Edit(
            "transposed",
            "the wrong factor is transposed",
            1,
            site,
            ast.BinOp(flipped(left), ast.MatMult(), right),
            stmt,
        )
        yield Edit(
            "transposed",
            "the wrong factor is transposed",
            1,
            site,
            ast.BinOp(left, ast.MatMult(), flipped(right)),
            stmt,
        )
        yield Edit(
            "transposed",
            "the wrong factor is transposed",
            1.1,
            site,
            ast.BinOp(flipped(left), ast.MatMult(), flipped(right)),
            stmt,
        )
        yield Edit(
            "transposed",
            "the product is transposed",
            1.1,
            site,
            ast.BinOp(flipped(right), ast.MatMult(), flipped(left)),
            stmt,
        )
        yield Edit("wrong-operation", "@ that should be *", 2.2, site, with_op(ast.Mult()), stmt)
    if isinstance(op, ast.Pow) and not isinstance(site.parent, ast.BinOp):
        yield Edit("wrong-operation", "a power too many", 2, site, left, stmt)
    elif isinstance(op, ast.Pow):
        yield Edit("activation" if is_slope(stmt) else "wrong-operation", "a power too many", 2, site, left, stmt)


def _compare(site: Site, node: ast.Compare, stmt: ast.stmt) -> Iterator[Edit]:
    others = {
        ast.Gt: (ast.Lt, ast.GtE),
        ast.Lt: (ast.Gt, ast.LtE),
        ast.GtE: (ast.Gt, ast.LtE, ast.Lt),
        ast.LtE: (ast.GtE, ast.Lt, ast.Gt),
        ast.Eq: (ast.NotEq, ast.GtE),
        ast.NotEq: (ast.Eq,),
    }
    for new in others.get(type(node.ops[0]), ()):
        made = ast.Compare(node.left, [new()], node.comparators)
        yield Edit("mask", f"the mask compares the wrong way: {ast.unparse(made)}", 1, site, made, stmt)
    limit = node.comparators[0]
    if isinstance(limit, ast.Constant) and limit.value != 0:
        made = ast.Compare(node.left, node.ops, [ast.Constant(0)])
        yield Edit("mask", "the mask's threshold is not 0", 1, site, made, stmt)


def _constant(site: Site, node: ast.Constant, stmt: ast.stmt) -> Iterator[Edit]:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        if isinstance(value, bool):
            yield Edit("axis", "True and False exchanged", 3, site, ast.Constant(not value), stmt)
        return
    if is_axis(site):
        for axis in (0, 1, -1, 2):
            if axis != value:
                yield Edit(
                    "axis", f"the wrong axis: {axis} belongs in place of {value}", 1, site, ast.Constant(axis), stmt
                )
        return
    index = isinstance(site.parent, (ast.Subscript, ast.Slice)) or (
        isinstance(site.parent, ast.Tuple) and isinstance(value, int)
    )
    if isinstance(value, int) and (index or isinstance(site.parent, (ast.BinOp, ast.Call, ast.UnaryOp))):
        kind = "off-by-one" if index or isinstance(site.parent, ast.Call) else "factor"
        if (
            isinstance(site.parent, ast.BinOp)
            and isinstance(site.parent.op, (ast.Add, ast.Sub))
            and _slopelike(site.parent)
        ):
            kind = "activation"
        for other in (value + 1, value - 1, -value):
            if other != value:
                yield Edit(kind, f"{value} that should be {other}", 1.6, site, ast.Constant(other), stmt)
    for factor in (2, 0.5, -1, 4, 0.25, 1.5, 3):
        made = value * factor
        made = int(made) if float(made).is_integer() and isinstance(value, int) else made
        if made != value:
            yield Edit(
                "sign" if factor == -1 else "factor",
                f"the number {value} should be {made:g}",
                1.8,
                site,
                ast.Constant(made),
                stmt,
            )


def _slopelike(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.Sub) and isinstance(node.left, ast.Constant)


def _names(site: Site, stmt: ast.stmt, scope: Scope) -> Iterator[Edit]:
    node: Any = site.node
    text = ast.unparse(node) if isinstance(node, (ast.Name, ast.Subscript, ast.Attribute)) else ""
    if not text:
        return
    if text in scope.arrays:
        array = scope.arrays[text]
        slope = is_slope(stmt)
        for other in scope.like(node):
            title = f"{text} where {other} belongs"
            # one place, or every place of the statement
            kind = "activation" if slope else "wrong-variable"
            if slope:
                title = f"the activation's derivative is evaluated at the wrong point: {title}"
            yield Edit(kind, title, 1.4, site, expression(other), stmt)
            twins = [
                s
                for s in sites_of(stmt)
                if s.node is not node and type(s.node) is type(node) and ast.unparse(s.node) == text
            ]
            if twins and _first(stmt, text) is node:
                yield Edit(
                    kind, title, 1.5, site, expression(other), stmt, also=[(s, expression(other)) for s in twins]
                )
        if array.ndim == 2 and not isinstance(site.parent, ast.Attribute):
            yield Edit(
                "transposed", f"{text} should be transposed", 1.2, site, ast.Attribute(node, "T", ast.Load()), stmt
            )
        if isinstance(site.parent, ast.BinOp) and isinstance(site.parent.op, ast.Div):
            yield Edit("missing-term", f"a 1 is missing: 1 + {text}", 2.6, site, parse("1 + A", A=node), stmt)
        if array.ndim >= 1:
            kind = "activation" if slope else "wrong-operation"
            yield Edit(kind, f"a square is missing at {text}", 2.5, site, parse("A ** 2", A=node), stmt)
            yield Edit(kind, f"a cube is missing at {text}", 2.7, site, parse("A ** 3", A=node), stmt)
        if not isinstance(site.parent, (ast.Assign, ast.Return)) and array.dtype.kind == "f":
            for other in scope.like(node):
                yield Edit(
                    "missing-factor",
                    f"the factor {other} is missing",
                    1.9,
                    site,
                    parse("A * B", A=node, B=expression(other)),
                    stmt,
                )
        if array.ndim >= 3:
            flip = ast.Subscript(node, piece_of("..., ::-1, ::-1"), ast.Load())
            yield Edit("flip", f"the kernel {text} should be flipped", 1.3, site, flip, stmt)
    elif text in scope.numbers:
        for other, value in scope.numbers.items():
            if other != text and value != scope.numbers[text]:
                yield Edit(
                    "sum-mean" if value > 1 and float(value).is_integer() else "wrong-variable",
                    f"{text} where {other} belongs",
                    1.7,
                    site,
                    expression(other),
                    stmt,
                )
        index = isinstance(site.parent, (ast.Subscript, ast.Tuple, ast.Slice))
        if index:
            for delta in (1, -1):
                yield Edit(
                    "off-by-one",
                    f"the index {text} is off by one",
                    1.3,
                    site,
                    parse(f"A {'+' if delta > 0 else '-'} 1", A=node),
                    stmt,
                )


def _first(stmt: ast.stmt, text: str) -> ast.AST | None:
    return next(
        (
            s.node
            for s in sites_of(stmt)
            if isinstance(s.node, (ast.Name, ast.Subscript, ast.Attribute)) and ast.unparse(s.node) == text
        ),
        None,
    )
