"""Edits within an expression: operators, operands, names, numbers, indices, reductions."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from .edits import Edit, Site, name, parse, sites_of

__all__ = ["small_edits", "Scope", "as_array"]


def as_array(v: Any) -> Any:
    """The NumPy array in a tensor (of chainrule, PyTorch); anything else as it is."""
    if hasattr(v, "_array"):
        return v._array
    if hasattr(v, "detach") and hasattr(v, "numpy"):
        return v.detach().numpy()
    return v


class Scope:
    """The names that a statement can read, with their values: what may be put in place of what."""

    def __init__(self, values: dict[str, Any], module: str = "np") -> None:
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.numbers: dict[str, float] = {}
        self.np = module
        for k, v in values.items():
            if not k.isidentifier():
                continue
            v = as_array(v)
            if isinstance(v, dict):
                for key, x in v.items():
                    if isinstance(as_array(x), np.ndarray) and isinstance(key, str):
                        self.arrays[f"{k}[{key!r}]"] = as_array(x)
            elif isinstance(v, np.ndarray):
                self.arrays[k] = v
            elif isinstance(v, (int, float, np.number)) and not isinstance(v, bool):
                self.numbers[k] = float(v)
            elif type(v).__module__ not in ("builtins", "numpy") and hasattr(v, "__dict__") and not callable(v):
                for key, x in vars(v).items():
                    if isinstance(x, np.ndarray):
                        self.arrays[f"{k}.{key}"] = x

    def shape(self, node: ast.AST) -> tuple[int, ...] | None:
        text = ast.unparse(node)
        return self.arrays[text].shape if text in self.arrays else None

    def like(self, node: ast.AST) -> list[str]:
        """Other arrays of the same shape as the one that ``node`` names."""
        shape = self.shape(node)
        text = ast.unparse(node)
        return [] if shape is None else [k for k, v in self.arrays.items() if v.shape == shape and k != text]


def _expr(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


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
            yield from _call(site, node, stmt, scope)
        elif isinstance(node, ast.Subscript):
            yield from _subscript(site, node, stmt, scope)
        elif isinstance(node, ast.Attribute) and node.attr == "T":
            yield Edit("transposed", "a transpose too many", 1, site, node.value, stmt)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            yield Edit("axis" if _is_axis(site) else "off-by-one", "a sign of a number", 2, site, node.operand, stmt)
        yield from _names(site, stmt, scope)


def _is_axis(site: Site) -> bool:
    return isinstance(site.parent, ast.keyword) and site.parent.arg in ("axis", "axes", "dim")


def _is_number(node: ast.AST, scope: Scope) -> bool:
    if isinstance(node, ast.Constant):
        return True
    text = ast.unparse(node)
    return text in scope.numbers or text.startswith("len(") or ".shape[" in text or text.endswith(".size")


def _is_mask(node: ast.AST) -> bool:
    return isinstance(node, ast.Compare) or (
        isinstance(node, ast.Call) and any(isinstance(n, ast.Compare) for n in ast.walk(node))
    )


def _is_slope(node: ast.AST) -> bool:
    """Whether an expression looks like an activation's derivative: a mask, 1 − a², a·(1 − a), dsigmoid(z) …"""
    if any(isinstance(n, ast.Compare) for n in ast.walk(node)):
        return True
    for n in ast.walk(node):
        if (
            isinstance(n, ast.BinOp)
            and isinstance(n.op, ast.Sub)
            and isinstance(n.left, ast.Constant)
            and n.left.value in (1, 1.0)
        ):
            return True
        if isinstance(n, ast.Call):
            text = ast.unparse(n.func).lower()
            if any(
                w in text
                for w in ("sigmoid", "tanh", "relu", "gelu", "silu", "softplus", "deriv", "prime", "grad", "cosh")
            ):
                return True
    return False


def _binary(site: Site, node: ast.BinOp, stmt: ast.stmt, scope: Scope) -> Iterator[Edit]:
    left, right, op = node.left, node.right, node.op

    def with_op(new: ast.operator, swap: bool = False) -> ast.BinOp:
        return ast.BinOp(right if swap else left, new, left if swap else right)

    number = _is_number(left, scope) or _is_number(right, scope)
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
                and (_is_number(dropped.left, scope) or _is_number(dropped.right, scope))
            )
            new = kept if kept is left or isinstance(op, ast.Add) else ast.UnaryOp(ast.USub(), kept)
            if weight:
                yield Edit("regulariser", f"an extra term {ast.unparse(dropped)}", 1, site, new, stmt)
            else:
                yield Edit("extra-term", f"a term too many: {ast.unparse(dropped)}", 1.5, site, new, stmt)
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
            if _is_number(dropped, scope):
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
            elif _is_slope(dropped):
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
        yield Edit("activation" if _is_slope(stmt) else "wrong-operation", "a power too many", 2, site, left, stmt)


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
    if _is_axis(site):
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


def _call(site: Site, node: ast.Call, stmt: ast.stmt, scope: Scope) -> Iterator[Edit]:
    func = node.func
    called = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    method = isinstance(func, ast.Attribute) and ast.unparse(func.value) != scope.np
    subject: ast.expr | None = func.value if method else node.args[0] if node.args else None
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
                    new.keywords = [ast.keyword("axis", _expr(str(axis)))]
                    yield Edit(
                        "batch-sum", f"the {called} runs over every axis, axis={axis} is meant", 1, site, new, stmt
                    )
                    new = copy.copy(node)
                    new.keywords = [ast.keyword("axis", _expr(str(axis))), ast.keyword("keepdims", ast.Constant(True))]
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
            "activation" if _is_slope(node) else "wrong-operation",
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


def _subscript(site: Site, node: ast.Subscript, stmt: ast.stmt, scope: Scope) -> Iterator[Edit]:
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
                yield _expr(f"x[{new}]").slice, f"the slice [{old}] should be [{new}]"  # type: ignore[attr-defined]
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


def _names(site: Site, stmt: ast.stmt, scope: Scope) -> Iterator[Edit]:
    node = site.node
    text = ast.unparse(node) if isinstance(node, (ast.Name, ast.Subscript, ast.Attribute)) else ""
    if not text:
        return
    if text in scope.arrays:
        array = scope.arrays[text]
        slope = _is_slope(stmt)
        for other in scope.like(node):
            title = f"{text} where {other} belongs"
            # one place, or every place of the statement
            kind = "activation" if slope else "wrong-variable"
            if slope:
                title = f"the activation's derivative is evaluated at the wrong point: {title}"
            yield Edit(kind, title, 1.4, site, _expr(other), stmt)
            twins = [
                s
                for s in sites_of(stmt)
                if s.node is not node and type(s.node) is type(node) and ast.unparse(s.node) == text
            ]
            if twins and _first(stmt, text) is node:
                yield Edit(kind, title, 1.5, site, _expr(other), stmt, also=[(s, _expr(other)) for s in twins])
        if array.ndim == 2 and not isinstance(site.parent, ast.Attribute):
            yield Edit(
                "transposed", f"{text} should be transposed", 1.2, site, ast.Attribute(node, "T", ast.Load()), stmt
            )
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
                    parse("A * B", A=node, B=_expr(other)),
                    stmt,
                )
        if array.ndim >= 3:
            flip = ast.Subscript(node, _expr("x[..., ::-1, ::-1]").slice, ast.Load())  # type: ignore[attr-defined]
            yield Edit("flip", f"the kernel {text} should be flipped", 1.3, site, flip, stmt)
    elif text in scope.numbers:
        for other, value in scope.numbers.items():
            if other != text and value != scope.numbers[text]:
                yield Edit(
                    "sum-mean" if value > 1 and float(value).is_integer() else "wrong-variable",
                    f"{text} where {other} belongs",
                    1.7,
                    site,
                    _expr(other),
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
