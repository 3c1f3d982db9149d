"""Edits that put in what a line lacks: a factor, a sum over the batch, an activation's derivative, a second path."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .edits import Edit, Site, parse
from .scope import Scope

__all__ = ["whole_edits", "statement_edits"]


def whole_edits(stmt: ast.stmt, scope: Scope, value: Any, factors: Sequence[tuple[str, str]]) -> Iterator[Edit]:
    """Edits of the whole right-hand side. ``value`` is what it evaluates to, ``factors`` are (text, kind) to try."""
    if not isinstance(stmt, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return)) or stmt.value is None:
        return
    parts: list[tuple[Site, Any]] = []
    if isinstance(stmt.value, ast.Dict):
        parts = [(Site(v, stmt.value, "values", i), None) for i, v in enumerate(stmt.value.values)]
    elif isinstance(stmt.value, (ast.Tuple, ast.List)):
        parts = [(Site(v, stmt.value, "elts", i), None) for i, v in enumerate(stmt.value.elts)]
    elif isinstance(stmt.value, ast.Call) and isinstance(stmt.value.func, ast.Name) and stmt.value.func.id == "dict":
        parts = [(Site(k.value, k, "value"), None) for k in stmt.value.keywords]
    else:
        parts = [(Site(stmt.value, stmt, "value"), value)]
    for site, result in parts:
        if result is None:
            result = scope.arrays.get(ast.unparse(site.node))
        shape = np.shape(result) if isinstance(result, (np.ndarray, np.number, float)) else None
        yield from _on(site, shape, stmt, scope, factors)
    if len(parts) > 1:
        for i in range(len(parts)):
            for k in range(i + 1, len(parts)):
                a, b = parts[i][0], parts[k][0]
                yield Edit(
                    "swapped",
                    f"{ast.unparse(a.node)} and {ast.unparse(b.node)} are exchanged",
                    1,
                    a,
                    b.node,
                    stmt,
                    also=[(b, a.node)],
                )


def _on(
    site: Site, shape: tuple[int, ...] | None, stmt: ast.stmt, scope: Scope, factors: Sequence[tuple[str, str]]
) -> Iterator[Edit]:
    node = site.node
    np_ = scope.np

    def edit(kind: str, title: str, rank: float, text: str, **parts: ast.AST) -> Edit:
        return Edit(kind, title, rank, site, parse(text, E=node, **parts), stmt)

    if isinstance(node, ast.Constant) and not isinstance(node.value, (int, float)):
        return
    yield edit("sign", "a minus is missing", 0.3, "-E")
    for text, kind in factors:
        # A factor like 1.5 is better explained by a number in the line, where there is one.
        yield edit(kind, f"the factor {text} is missing", 1.9 if "." in text else 1.1, f"E {text}")
    if shape is None:
        # unknown shape (part of a larger expression): only what fits anything
        yield edit("batch-sum", "the sum over the batch is missing", 1.5, "E.sum(axis=0)")
        return
    if len(shape) >= 1:
        yield edit("batch-sum", "the sum over the batch is missing", 1.2, "E.sum(axis=0)")
        yield edit("batch-sum", "the sum over the broadcast axis is missing", 1.3, "E.sum(axis=0, keepdims=True)")
        yield edit("batch-sum", "the sum over the broadcast axis is missing", 1.4, "E.sum(axis=-1, keepdims=True)")
        yield edit("flip", "an axis is reversed", 2, "E[::-1]")
    if len(shape) == 2:
        yield edit("transposed", "a transpose is missing", 1, "E.T")
    if len(shape) >= 2:
        yield edit("transposed", "two axes are exchanged", 1.3, "E.swapaxes(-1, -2)")
        yield edit("flip", "the kernel must be flipped", 1.5, "E[..., ::-1, ::-1]")
    if shape == ():  # a number: other numbers and 0-d arrays
        slopes = [*scope.numbers, *(k for k, v in scope.arrays.items() if v.shape == ())]
    else:
        slopes = [k for k, v in scope.arrays.items() if v.shape == shape and v.dtype.kind == "f"]
    for v in slopes:
        V = ast.parse(v, mode="eval").body
        for text, kind, title, rank in (
            ("E * (V > 0)", "activation", "the activation's derivative is missing (relu′)", 1.2),
            ("E * V * (1 - V)", "activation", "the activation's derivative is missing (σ′ = a·(1 − a))", 1.2),
            ("E * (1 - V ** 2)", "activation", "the activation's derivative is missing (tanh′ = 1 − a²)", 1.2),
            ("E * (1 - V)", "activation", "a factor of the activation's derivative is missing", 1.6),
            ("E * V", "missing-factor", f"the factor {v} is missing", 1.7),
            ("E / V", "extra-factor", f"the factor {v} is too many", 2.4),
            ("E * (1 - NP.tanh(V) ** 2)", "activation", "the activation's derivative is missing (tanh′)", 1.8),
            (
                "E / (1 + NP.exp(-V)) * (1 - 1 / (1 + NP.exp(-V)))",
                "activation",
                "the activation's derivative is missing (σ′)",
                1.9,
            ),
            ("E * NP.exp(V)", "activation", "the derivative of exp is missing", 2.2),
            ("E * NP.cos(V)", "activation", "the derivative of sin is missing", 2.2),
            ("E + V", "missing-term", f"a path is missing: + {v}", 1.3),
            ("E - V", "missing-term", f"a term is missing: - {v}", 1.6),
            ("E + 2 * V", "missing-term", f"a term is missing: + 2 * {v}", 2.6),
        ):
            yield edit(kind, title, rank, text.replace("NP.", np_ + "."), V=V)
        for number, value in scope.numbers.items():
            if value and not float(value).is_integer() and len(shape) >= 1:
                number_node = ast.parse(number, mode="eval").body
                yield edit(
                    "regulariser",
                    f"the regulariser's term is missing: + {number} * {v}",
                    1.7,
                    "E + L * V",
                    L=number_node,
                    V=V,
                )
                yield edit(
                    "regulariser",
                    f"the regulariser's term is missing: + 2 * {number} * {v}",
                    1.8,
                    "E + 2 * L * V",
                    L=number_node,
                    V=V,
                )
    if len(shape) >= 1:
        # What multiplies an array but has another shape (inv_std, a mask by column)
        for v, array in scope.arrays.items():
            if array.shape != shape and array.ndim and array.dtype.kind in "fb" and _broadcasts(array.shape, shape):
                V = ast.parse(v, mode="eval").body
                yield edit("missing-factor", f"the factor {v} is missing", 2, "E * V", V=V)
                yield edit("extra-factor", f"the factor {v} is too many", 2.4, "E / V", V=V)
                yield edit("missing-term", f"a term is missing: + {v}", 2.6, "E + V", V=V)
                yield edit("missing-term", f"a term is missing: - {v}", 2.6, "E - V", V=V)
                yield edit("wrong-operation", f"+ where * {v} belongs", 3, "E / V / V", V=V)
        for v in slopes:
            array = scope.arrays[v]
            V = ast.parse(v, mode="eval").body
            if array.ndim and np.all(array > 0) and np.allclose(array.sum(axis=-1), 1):
                for other in slopes:
                    if other != v:
                        G = ast.parse(other, mode="eval").body
                        new = parse(f"V * (G - {np_}.sum(G * V, axis=-1, keepdims=True))", V=V, G=G)
                        yield Edit(
                            "softmax",
                            "the softmax's Jacobian is wrong (taken as diagonal?): it is p·(g − Σ(g·p))",
                            1.4,
                            site,
                            new,
                            stmt,
                        )
                yield edit(
                    "softmax",
                    "the softmax's Jacobian is treated as diagonal: − p·Σ(g·p) is missing",
                    1.5,
                    f"E - V * {np_}.sum(E, axis=-1, keepdims=True)",
                    V=V,
                )
                yield edit(
                    "softmax",
                    "the softmax's Jacobian is treated as diagonal: − p·Σ(g·p) is missing",
                    1.6,
                    f"V * (E - {np_}.sum(E * V, axis=-1, keepdims=True))",
                    V=V,
                )
        yield from _statistics(edit, shape, slopes, scope)


def _statistics(edit: Any, shape: tuple[int, ...], slopes: list[str], scope: Scope) -> Iterator[Edit]:
    """Normalisation: the mean and the variance depend on the input too."""
    title = "the statistics are treated as constants: mean and variance depend on the input too"
    for axis in (0, -1):
        mean = f".mean(axis={axis}, keepdims=True)"
        yield edit("statistics", title, 1.5, f"E - E{mean}")
        for v in slopes:
            x = scope.arrays[v]
            if x.ndim < 1 or x.shape[axis] < 2 or not np.allclose(x.mean(axis=axis), 0, atol=1e-9) or not np.any(x):
                continue
            V = ast.parse(v, mode="eval").body
            yield edit("statistics", title, 1.5, f"E - E{mean} - V * (E * V){mean}", V=V)
            yield edit("statistics", "the variance is treated as a constant", 1.6, f"E - V * (E * V){mean}", V=V)
            yield edit(
                "statistics", "the variance's part is missing", 1.6, f"E - V * (E * V){mean} / (V * V){mean}", V=V
            )


def _broadcasts(small: tuple[int, ...], big: tuple[int, ...]) -> bool:
    return len(small) <= len(big) and all(s in (1, b) for s, b in zip(reversed(small), reversed(big), strict=False))


def statement_edits(stmt: ast.stmt, site: Site, scope: Scope, seen: bool) -> Iterator[Edit]:
    """Edits of the statement itself: ``=`` and ``+=``, writes through an index. ``seen``: the target was set before."""
    if isinstance(stmt, ast.AugAssign):
        load = _load(stmt.target)
        plain = ast.Assign([stmt.target], stmt.value, lineno=stmt.lineno)
        if isinstance(stmt.op, ast.Add):
            yield Edit(
                "sign", "-= belongs in place of +=", 0.6, site, ast.AugAssign(stmt.target, ast.Sub(), stmt.value), stmt
            )
            yield Edit("overwritten", "= belongs in place of +=: the value is accumulated", 1.2, site, plain, stmt)
        elif isinstance(stmt.op, ast.Sub):
            yield Edit(
                "sign", "+= belongs in place of -=", 0.6, site, ast.AugAssign(stmt.target, ast.Add(), stmt.value), stmt
            )
        elif isinstance(stmt.op, (ast.Mult, ast.Div)):
            other = ast.Div() if isinstance(stmt.op, ast.Mult) else ast.Mult()
            yield Edit(
                "factor",
                "the scaling goes the wrong way",
                1.2,
                site,
                ast.AugAssign(stmt.target, other, stmt.value),
                stmt,
            )
            yield Edit("factor", f"this scaling does not belong here: {ast.unparse(stmt)}", 0.9, site, ast.Pass(), stmt)
        if not isinstance(stmt.op, (ast.Mult, ast.Div)):
            yield Edit("extra-term", f"a term too many: {ast.unparse(stmt)}", 1.8, site, ast.Pass(), stmt)
        del load
        if isinstance(stmt.target, ast.Subscript) and isinstance(stmt.op, ast.Add):
            yield _add_at(stmt, stmt.target, site, scope)
    if isinstance(stmt, ast.Assign) and len(stmt.targets) == 1:
        target: Any = stmt.targets[0]
        if seen or isinstance(target, ast.Subscript):
            new = ast.AugAssign(target, ast.Add(), stmt.value)
            yield Edit(
                "overwritten", "+= belongs in place of =: an earlier contribution is overwritten", 0.7, site, new, stmt
            )
        if isinstance(target, ast.Subscript):
            yield _add_at(stmt, target, site, scope)
            new = ast.AugAssign(target, ast.Sub(), stmt.value)
            yield Edit("overwritten", "-= belongs in place of =: what was there is overwritten", 0.8, site, new, stmt)
        if seen:
            yield Edit(
                "extra-factor", f"this line does not belong here: {ast.unparse(stmt)}", 2.2, site, ast.Pass(), stmt
            )
            clean = isinstance(stmt.value, ast.Call) and ast.unparse(stmt.value).startswith(f"{scope.np}.clip")
            if clean:
                yield Edit("clip", "the gradient is clipped here", 0.8, site, ast.Pass(), stmt)


def _load(target: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(target), mode="eval").body


def _add_at(stmt: Any, target: ast.Subscript, site: Site, scope: Scope) -> Edit:
    new = ast.Expr(parse(f"{scope.np}.add.at(T, I, V)", T=_load(target.value), I=_slice(target.slice), V=stmt.value))
    title = "repeated indices overwrite each other: add them up with np.add.at"
    return Edit("overwritten", title, 0.9, site, new, stmt)


def _slice(node: ast.expr) -> ast.expr:
    if any(isinstance(n, ast.Slice) for n in ast.walk(node)):
        return ast.parse("slice(None)", mode="eval").body
    return node
