"""Edits of calls, loops and indices: reductions, wrappers, ranges, slices, einsums."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

from .edits import Edit, Site, name, parse
from .scope import Scope, expression, is_slope, piece_of

__all__ = ["call_edits", "subscript_edits"]

_REDUCTIONS = ("sum", "mean", "max", "prod")
_WRAPPERS = {
    "clip": "clip",
    "abs": "sign",
    "absolute": "sign",
    "round": "dtype",
    "rint": "dtype",
    "trunc": "dtype",
    "floor": "dtype",
    "astype": "dtype",
    "flip": "flip",
    "flipud": "flip",
    "fliplr": "flip",
    "rot90": "flip",
    "roll": "off-by-one",
    "sign": "sign",
    "transpose": "transposed",
    "swapaxes": "transposed",
    "sqrt": "wrong-operation",
    "square": "wrong-operation",
    "int": "dtype",
    "float32": "dtype",
    "float16": "dtype",
}
_PAIRS = {
    "tanh": ("sigmoid",),
    "sin": ("cos",),
    "cos": ("sin",),
    "maximum": ("minimum",),
    "minimum": ("maximum",),
    "zeros": ("ones",),
    "ones": ("zeros",),
    "argmax": ("argmin",),
    "exp": ("log",),
    "add": ("subtract",),
    "subtract": ("add",),
    "log": ("exp",),
}


def call_edits(site: Site, node: ast.Call, stmt: ast.stmt, scope: Scope) -> Iterator[Edit]:
    func: Any = node.func
    called = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    method = isinstance(func, ast.Attribute) and ast.unparse(func.value) != scope.np
    subject: Any = node.args[0] if node.args else None
    if method and isinstance(func, ast.Attribute):
        subject = func.value
    if called in _REDUCTIONS:
        for other in _REDUCTIONS:
            if other != called:
                new = copy.copy(node)
                new.func = (
                    ast.Attribute(func.value, other, ast.Load()) if isinstance(func, ast.Attribute) else name(other)
                )
                pair = {called, other} == {"sum", "mean"}
                title = f"{called} where {other} belongs" + (": sum and mean confused" if pair else "")
                yield Edit("sum-mean" if pair else "wrong-operation", title, 0.8 if pair else 3, site, new, stmt)
        if subject is not None:
            yield Edit("batch-sum", f"a {called} too many", 1.6, site, subject, stmt)
            if len(node.args) + len(node.keywords) <= (0 if method else 1):
                for axis in (0, -1):
                    new = copy.copy(node)
                    new.keywords = [ast.keyword("axis", expression(str(axis)))]
                    yield Edit(
                        "batch-sum", f"the {called} runs over every axis, axis={axis} is meant", 1, site, new, stmt
                    )
                    new = copy.copy(node)
                    new.keywords = [
                        ast.keyword("axis", expression(str(axis))),
                        ast.keyword("keepdims", ast.Constant(True)),
                    ]
                    yield Edit(
                        "batch-sum", f"the {called} runs over every axis, axis={axis} is meant", 1.1, site, new, stmt
                    )
    if called in _WRAPPERS and subject is not None:
        yield Edit(_WRAPPERS[called], f"{called}() does not belong here", 0.9, site, subject, stmt)
    if called in ("tanh", "sigmoid", "cos", "sin"):
        yield Edit(
            "activation", f"a square is missing at {ast.unparse(node)}", 1.8, site, parse("A ** 2", A=node), stmt
        )
    if called == "outer" and len(node.args) == 2:
        new = copy.copy(node)
        new.args = node.args[::-1]
        yield Edit("transposed", "the factors of an outer product are exchanged", 1, site, new, stmt)
    if called in ("zeros_like", "zeros", "empty_like", "ones_like", "full_like", "array", "asarray"):
        new = copy.copy(node)
        new.keywords = [k for k in node.keywords if k.arg != "dtype"] + [ast.keyword("dtype", name("float"))]
        yield Edit("dtype", f"{called}() makes an integer array here: dtype=float is missing", 1, site, new, stmt)
    if called == "range" or called == "reversed":
        yield from _range(site, node, stmt, called)
    if (
        called == "einsum"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ):
        spec = node.args[0].value
        if "->" in spec:
            inputs, out = spec.split("->")
            out = out.strip()
            for i in range(len(out)):
                for k in range(i + 1, len(out)):
                    swapped = list(out)
                    swapped[i], swapped[k] = swapped[k], swapped[i]
                    new = copy.copy(node)
                    new.args = [ast.Constant(f"{inputs}->{''.join(swapped)}"), *node.args[1:]]
                    yield Edit("transposed", "the output axes of the einsum are exchanged", 1.5, site, new, stmt)
    for other in _PAIRS.get(called, ()):
        if isinstance(func, ast.Attribute):
            new = copy.copy(node)
            new.func = ast.Attribute(func.value, other, ast.Load())
            yield Edit(
                "activation" if called in ("tanh", "sin", "cos") else "wrong-operation",
                f"{called} where {other} belongs",
                2.5,
                site,
                new,
                stmt,
            )
    if (
        len(node.args) == 1
        and not node.keywords
        and called not in (*_REDUCTIONS, *_WRAPPERS, "range", "len", "reversed", "zeros_like")
        and not method
    ):
        yield Edit(
            "activation" if is_slope(node) else "wrong-operation",
            f"{called}() does not belong here",
            2.5,
            site,
            node.args[0],
            stmt,
        )
    if called == "where" and len(node.args) == 3:
        new = copy.copy(node)
        new.args = [node.args[0], node.args[2], node.args[1]]
        yield Edit("mask", "the branches of where() are exchanged", 1.2, site, new, stmt)


def _range(site: Site, node: ast.Call, stmt: ast.stmt, called: str) -> Iterator[Edit]:
    if called == "reversed" and node.args:
        yield Edit("off-by-one", "the loop runs backwards", 2, site, node.args[0], stmt)
        return
    yield Edit("off-by-one", "the loop runs the wrong way round", 2, site, parse("reversed(R)", R=node), stmt)
    for i, arg in enumerate(node.args):
        for delta in (1, -1):
            new = copy.copy(node)
            new.args = list(node.args)
            new.args[i] = parse(f"A {'+' if delta > 0 else '-'} 1", A=arg)
            yield Edit("off-by-one", "the loop starts or ends one off", 1.2, site, new, stmt)
    if len(node.args) == 2:
        new = copy.copy(node)
        new.args = [node.args[1]]
        yield Edit("off-by-one", "the loop starts too late", 1.2, site, new, stmt)


def subscript_edits(site: Site, node: ast.Subscript, stmt: ast.stmt, scope: Scope) -> Iterator[Edit]:
    text = ast.unparse(node)
    if text in scope.arrays and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return
    reverse = "::-1" in ast.unparse(node.slice)
    yield Edit(
        "flip" if reverse else "off-by-one",
        f"[{ast.unparse(node.slice)}] does not belong here",
        1 if reverse else 2.5,
        site,
        node.value,
        stmt,
    )
    if isinstance(node.slice, (ast.Constant, ast.UnaryOp)) and not isinstance(getattr(node.slice, "value", 0), str):
        title = "one sample only: the sum over the batch is missing"
        yield Edit("batch-sum", title, 1, site, parse("A.sum(axis=0)", A=node.value), stmt)
    pieces = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for i, piece in enumerate(pieces):
        for new_piece, title in _shifted(piece):
            made = [*pieces[:i], new_piece, *pieces[i + 1 :]]
            new_slice = ast.Tuple(made, ast.Load()) if isinstance(node.slice, ast.Tuple) else made[0]
            kind = "flip" if "-1" in ast.unparse(new_piece) and "::" in ast.unparse(new_piece) else "off-by-one"
            yield Edit(kind, title, 1.2, site, ast.Subscript(node.value, new_slice, ast.Load()), stmt)


def _shifted(piece: ast.expr) -> Iterator[tuple[ast.expr, str]]:
    if isinstance(piece, ast.Slice):
        old = ast.unparse(piece)
        for new in ("1:", ":-1", ":", "::-1"):
            if (
                new != old
                and piece.step is None
                and (
                    old in ("1:", ":-1", ":")
                    or isinstance(piece.lower, ast.Constant)
                    or isinstance(piece.upper, (ast.Constant, ast.UnaryOp))
                )
            ):
                yield piece_of(f"{new}"), f"the slice [{old}] should be [{new}]"
        for low, high in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)):
            if (
                piece.step is None
                and (piece.lower is not None or not low)
                and (piece.upper is not None or not high)
                and not old.startswith(":")
            ):
                lower = _plus(piece.lower, low)
                upper = _plus(piece.upper, high)
                yield ast.Slice(lower, upper, None), f"the slice [{old}] is off by one"
    elif isinstance(piece, (ast.Name, ast.BinOp)):
        for delta in (1, -1):
            yield _plus(piece, delta), f"the index {ast.unparse(piece)} is off by one"  # type: ignore[misc]


def _plus(node: ast.expr | None, delta: int) -> ast.expr | None:
    if node is None or not delta:
        return node
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return ast.Constant(node.value + delta)
    return parse(f"A {'+' if delta > 0 else '-'} 1", A=node)
