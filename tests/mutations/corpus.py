"""All mistakes on all networks: the cases, split by a hash into a half to build rules on and a half held out."""

from __future__ import annotations

import ast
import copy
import hashlib
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.check.repair.source import FunctionSource

from .networks import NETWORKS, Network, build
from .operators import OPERATORS, Operator

__all__ = ["Case", "cases", "cases_of", "KINDS"]

KINDS = [o.name for o in OPERATORS]
_BATCH = {
    "neuron": 6,
    "mlp2_relu": 7,
    "mlp3_tanh_l2": 5,
    "mlp_residual": 6,
    "softmax_ce": 5,
    "mse_linear": 8,
    "batch_norm": 9,
    "batch_norm_long": 8,
}
_PER_PAIR = 3  # places of one mistake in one network


@dataclass(frozen=True)
class Case:
    """One wrong gradient (or an edit that turned out to change nothing: those are dropped)."""

    name: str
    operator: Operator
    network: Network
    grad: Any
    line: str
    held_out: bool


def held_out(operator: str, network: str) -> bool:
    return hashlib.sha256(f"{operator} on {network}".encode()).digest()[0] % 2 == 1


def _changes(network: Network, grad: Any) -> bool:
    """Whether the edit makes a difference that is more than rounding, and runs at all. Wrong shapes count as one."""
    try:
        with np.errstate(all="ignore"):
            wrong = grad({k: v.copy() for k, v in network.point.items()})
    except Exception:
        return False
    right = network.grad(network.point)
    for k, r in right.items():
        w = np.asarray(wrong[k])
        if w.shape != np.shape(r):
            return True
        if not np.all(np.isfinite(w)):
            return False
        if np.max(np.abs(w - r)) > 1e-7 * np.max(np.abs(r)) + 1e-12:
            return True
    return False


def cases(part: str | None = None) -> Iterator[Case]:
    """``part``: "tuned", "held out", or None for all."""
    for network_name in NETWORKS:
        yield from cases_of(network_name, part)


def cases_of(network_name: str, part: str | None = None) -> Iterator[Case]:
    """The cases on one network."""
    network = build(network_name)
    tree = FunctionSource(network.grad).tree
    assert tree is not None
    for operator in OPERATORS:
        out = held_out(operator.name, network_name)
        if part is not None and out != (part == "held out"):
            continue
        yield from _cases(network, operator, copy.deepcopy(tree), out)


def _cases(network: Network, operator: Operator, tree: ast.FunctionDef, out: bool) -> Iterator[Case]:
    function = network.grad
    names = dict(zip(function.__code__.co_freevars, (c.cell_contents for c in function.__closure__ or ()), strict=True))
    scope = {**function.__globals__, **names}
    planted = list(operator.plant(tree))
    made = 0
    for k, place in enumerate(planted):
        place.apply()
        text = ast.unparse(ast.fix_missing_locations(tree))
        place.undo()
        batch = str(_BATCH.get(network.name, 3))
        text = text.replace("BATCH", batch)
        filename = f"<{operator.name} {k} on {network.name}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
        space = {**scope, "BUFFER": {}, "__name__": "mutated"}
        try:
            exec(compile(text, filename, "exec"), space)  # noqa: S102 - our own source, edited
        except SyntaxError:
            continue
        if operator.name != "buffer_not_reset" and not _changes(network, space["grad"]):
            continue
        before, after = ast.unparse(tree).splitlines(), text.splitlines()
        line = next((b for a, b in zip(before, after, strict=False) if a != b), after[-1]).strip()
        yield Case(f"{operator.name}-{k}-{network.name}", operator, network, space["grad"], line, out)
        made += 1
        if made >= _PER_PAIR:
            return
