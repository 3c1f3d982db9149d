"""What a statement can read, and what its expressions look like: a mask, a slope, a number, an axis."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from .edits import Site

__all__ = ["Scope", "as_array", "expression", "is_axis", "is_number", "is_slope", "piece_of"]


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


def expression(text: str) -> ast.expr:
    """The tree of an expression."""
    return ast.parse(text, mode="eval").body


def piece_of(text: str) -> ast.expr:
    """The tree of what stands between the brackets: a slice, an index, a tuple of them."""
    node = expression(f"x[{text}]")
    assert isinstance(node, ast.Subscript)
    return node.slice


def is_axis(site: Site) -> bool:
    return isinstance(site.parent, ast.keyword) and site.parent.arg in ("axis", "axes", "dim")


def is_number(node: ast.AST, scope: Scope) -> bool:
    if isinstance(node, ast.Constant):
        return True
    text = ast.unparse(node)
    return text in scope.numbers or text.startswith("len(") or ".shape[" in text or text.endswith(".size")


def is_slope(node: ast.AST) -> bool:
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
