"""The formula of one line of a backward pass, from the forward's source: ``dW2 = a1.T @ dz2``.

A formula is shown only after it was evaluated and found equal to the numeric value.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from .inject import Forward
from .measure import quiet

__all__ = ["local_formula"]


def local_formula(
    observed: Forward, v: str, g: str, students: dict[str, Any], phi: Callable[[dict[str, Any]], float]
) -> str:
    """``g = …`` in the student's names, with the shape; empty when no verified formula is at hand."""
    value = np.asarray(observed.values[v], dtype=float)
    names = {c: (f"d{c}" if c in students else c) for c in students}
    scope: dict[str, Any] = {**observed.outside, **observed.values, "np": np}
    scope.update({names[c]: d for c, d in students.items()})
    texts: list[str] = []
    for c, stmt in observed.statements.items():
        if (
            c == v
            or not isinstance(stmt, ast.Assign)
            or not any(isinstance(n, ast.Name) and n.id == v for n in ast.walk(stmt.value))
        ):
            continue
        if c in students:
            up = names[c]
        elif c in ("loss", "L", "J", "cost", "_chainrule_result") or np.ndim(observed.values.get(c, 0)) == 0:
            up = "1"
        else:
            texts = []
            break
        try:
            found = _pull(stmt.value, v, up, scope)
        except _Unknown:
            texts = []
            break
        texts += found
    candidates = [" + ".join(texts)] if texts else []
    candidates += _softmax(observed, v)
    with quiet():
        for text in candidates:
            try:
                got = np.asarray(eval(text, {"__builtins__": {}}, scope), float)  # noqa: S307 - built from the forward's own names
            except Exception:
                continue
            if got.shape != value.shape:
                axes = got.ndim - value.ndim
                if axes == 1 and got.shape[1:] == value.shape:
                    text = f"{_bracket(text)}.sum(axis=0)"
                    got = got.sum(axis=0)
                elif value.ndim == 0:
                    text, got = f"np.sum({text})", got.sum()
                elif got.ndim == value.ndim and value.shape[0] == 1:
                    text, got = f"{_bracket(text)}.sum(axis=0, keepdims=True)", got.sum(axis=0, keepdims=True)
                else:
                    continue
            if got.shape == value.shape and _agrees(got, v, value, phi):
                return f"{g} = {text}   shape {value.shape if value.shape else '()'}"
    return ""


def _agrees(got: Any, v: str, value: Any, phi: Callable[[dict[str, Any]], float]) -> bool:
    rng = np.random.default_rng(5)
    for _ in range(2):
        u = rng.normal(size=value.shape) * (np.abs(value) + 0.1)
        h = 1e-5
        slope = (phi({v: value + h * u}) - phi({v: value - h * u})) / (2 * h)
        mine = float(np.sum(got * u))
        if abs(slope - mine) > 1e-5 * (abs(slope) + abs(mine)) + 1e-8 * float(np.sqrt(np.sum((got * u) ** 2))) + 1e-12:
            return False
    return True


def _bracket(text: str) -> str:
    return text if text.replace("_", "").isalnum() else f"({text})"


class _Unknown(Exception):
    pass


def _mentions(node: ast.AST, v: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == v for n in ast.walk(node))


def _pull(node: ast.expr, v: str, up: str, scope: dict[str, Any]) -> list[str]:
    """Terms of v's gradient when ``up`` is the gradient of the expression ``node``."""
    if not _mentions(node, v):
        return []
    if isinstance(node, ast.Name):
        return [up]
    text = ast.unparse
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _pull(node.operand, v, "-1" if up == "1" else f"-{_bracket(up)}", scope)
    if isinstance(node, ast.BinOp):
        a, b = node.left, node.right
        ta, tb = _wrap(a), _wrap(b)
        if isinstance(node.op, ast.Add):
            return _pull(a, v, up, scope) + _pull(b, v, up, scope)
        if isinstance(node.op, ast.Sub):
            return _pull(a, v, up, scope) + _pull(b, v, f"-{_bracket(up)}", scope)
        if isinstance(node.op, ast.Mult):
            return _pull(a, v, _times(up, tb), scope) + _pull(b, v, _times(up, ta), scope)
        if isinstance(node.op, ast.Div):
            return _pull(a, v, f"{_bracket(up)} / {tb}", scope) + _pull(
                b, v, f"-{_bracket(up)} * {ta} / {tb} ** 2", scope
            )
        if isinstance(node.op, ast.MatMult):
            return _pull(a, v, f"{_bracket(up)} @ {tb}.T", scope) + _pull(b, v, f"{ta}.T @ {_bracket(up)}", scope)
        if isinstance(node.op, ast.Pow) and isinstance(b, ast.Constant) and isinstance(b.value, (int, float)):
            power = f"2 * {ta}" if b.value == 2 else f"{b.value} * {ta} ** {b.value - 1}"
            return _pull(a, v, _times(up, power), scope)
        raise _Unknown
    if isinstance(node, ast.Call):
        name = text(node.func).rsplit(".", 1)[-1]
        method = isinstance(node.func, ast.Attribute) and text(node.func.value) != "np"
        inner = (
            node.func.value if method and isinstance(node.func, ast.Attribute) else node.args[0] if node.args else None
        )
        if inner is None:
            raise _Unknown
        x = _wrap(inner)
        out = text(node)
        if name in ("sum", "mean"):
            axis = any(k.arg == "axis" for k in node.keywords) or len(node.args) > (0 if method else 1)
            kept = any(k.arg == "keepdims" for k in node.keywords)
            if axis and not kept and up != "1" and not up.replace(".", "").lstrip("-").isdigit():
                up = f"np.expand_dims({up}, -1)" if "axis=1" in out or "axis=-1" in out else up
            count = f" / {x}.size" if name == "mean" and not axis else ""
            if name == "mean" and axis:
                raise _Unknown
            inner_up = f"{up}{count}" if not count or up != "1" else f"1{count}"
            return _pull(
                inner,
                v,
                f"({inner_up}) * np.ones_like({text(inner)})"
                if isinstance(inner, ast.Name)
                else f"({inner_up})"
                if count
                else up,
                scope,
            )
        known = {
            "maximum": f"({x} > 0)",
            "tanh": f"(1 - {out} ** 2)",
            "exp": out,
            "log": f"(1 / {x})",
            "sqrt": f"(0.5 / {out})",
            "sin": f"np.cos({x})",
            "cos": f"-np.sin({x})",
            "sigmoid": f"{out} * (1 - {out})",
            "relu": f"({x} > 0)",
            "abs": f"np.sign({x})",
            "square": f"2 * {x}",
        }
        if name not in known or (
            name == "maximum" and not (len(node.args) == 2 and text(node.args[1]) in ("0", "0.0"))
        ):
            raise _Unknown
        return _pull(inner, v, _times(up, known[name]), scope)
    if isinstance(node, ast.Attribute) and node.attr == "T":
        return _pull(node.value, v, f"{_bracket(up)}.T", scope)
    raise _Unknown


def _wrap(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if isinstance(node, (ast.Name, ast.Constant, ast.Call, ast.Subscript, ast.Attribute)) else f"({text})"


def _times(a: str, b: str) -> str:
    return b if a == "1" else f"{a} * {b}" if _product(a) else f"({a}) * {b}"


def _product(text: str) -> bool:
    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    return not (isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)))


def _softmax(observed: Forward, v: str) -> list[str]:
    """p − y, over N, for any probabilities and targets of that shape."""
    shape = np.shape(observed.values[v])
    if not shape:
        return []
    pool = {
        **{k: x for k, x in observed.outside.items() if isinstance(x, np.ndarray)},
        **{k: x for k, x in observed.values.items() if np.ndim(x)},
    }
    same = {k: np.asarray(x, float) for k, x in pool.items() if np.shape(x) == shape}
    p = [k for k, x in same.items() if (np.allclose(x.sum(axis=-1), 1) and np.all(x > 0)) or np.all((x > 0) & (x < 1))]
    out = []
    for a in p:
        for y, t in same.items():
            if y != a and np.all((t >= 0) & (t <= 1)):
                out += [f"({a} - {y}) / {shape[0]}", f"{a} - {y}", f"({a} - {y}) / {np.prod(shape)}"]
    return out
