"""The same mistakes in the backward rules of the library's own ops."""

from __future__ import annotations

import ast
import copy
import hashlib
import linecache
import types
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import chainrule  # noqa: F401 - registers the ops
from chainrule.check.nodes import applied, op_problem
from chainrule.check.problem import Problem
from chainrule.check.repair.source import FunctionSource, running_as
from chainrule.core.op import registry

from .operators import OPERATORS, Operator

__all__ = ["RuleCase", "rule_cases"]

# What needs a batch, several parameters or a loop says nothing about a rule of one line.
_WITHOUT = {
    "buffer_not_reset",
    "gradients_swapped",
    "regulariser_only_in_gradient",
    "times_batch",
    "over_batch",
    "constant_added",
    "first_sample_only",
    "clipped",
    "truncated",
    "integer_array",
    "half_precision",
    "learning_rate_inside",
    "result_reversed",
}
_PER_RULE = 4


@dataclass(frozen=True)
class RuleCase:
    """A mistake in the rule of one op; ``problem`` and ``running`` are used while the wrong rule is in place."""

    name: str
    op: str
    operator: Operator
    function: types.FunctionType
    code: types.CodeType
    line: str
    held_out: bool

    def problem(self) -> Problem | None:
        """The first of the op's samples on which the mistake changes the gradient; call it inside ``running``."""
        op = registry[self.op]
        for call in list(op.samples(np.random.default_rng(zlib.crc32(self.op.encode()))))[:8]:
            made = applied(op, tuple(call.args), dict(call.params))
            try:
                with np.errstate(all="ignore"):
                    wrong = op_problem(made)
                    # one entry alone fits too many explanations
                    if wrong is None or not 2 <= sum(v.size for v in wrong.point.values()) <= 400:
                        continue
                    with running_as(self.function, _ORIGINAL[id(self.function)]):
                        right = op_problem(made)
            except Exception:  # noqa: S112 - a mistake that raises needs no checker
                continue
            assert right is not None
            for k, g in right.given.items():
                w = wrong.given[k]
                fits = g.size > 0 and g.shape == w.shape and bool(np.all(np.isfinite(w)))
                if fits and np.max(np.abs(g - w)) > 1e-6 * np.max(np.abs(g)):
                    return wrong
        return None

    def running(self) -> Any:
        return running_as(self.function, self.code)


_ORIGINAL: dict[int, types.CodeType] = {}


def rule_cases() -> Iterator[RuleCase]:
    """Up to four mistakes per rule, chosen by a hash."""
    for name in sorted(registry):
        op = registry[name]
        if op.samples is None:
            continue
        seen: set[int] = set()
        for rule in op.rules:
            if rule is None or id(rule.fn) in seen or not isinstance(rule.fn, types.FunctionType):
                continue
            seen.add(id(rule.fn))
            yield from _of_rule(name, rule.fn)


def _of_rule(name: str, function: types.FunctionType) -> Iterator[RuleCase]:
    tree = FunctionSource(function).tree
    if tree is None or function.__code__.co_freevars:
        return
    tree = copy.deepcopy(tree)
    tree.decorator_list = []
    returns = [s for s in tree.body if isinstance(s, ast.Return)]
    if (
        len(returns) != 1
        or returns[0].value is None
        or isinstance(returns[0].value, (ast.Tuple, ast.List, ast.ListComp))
    ):
        return
    # ``return E`` as ``dx = E; return dx``: the operators look for lines that assign gradients.
    value = returns[0].value
    tree.body[tree.body.index(returns[0])] = ast.Assign([ast.Name("dx", ast.Store())], value)
    tree.body.append(ast.Return(ast.Name("dx", ast.Load())))
    ast.fix_missing_locations(tree)
    _ORIGINAL.setdefault(id(function), function.__code__)
    found: list[RuleCase] = []
    for operator in OPERATORS:
        if operator.name in _WITHOUT:
            continue
        for k, place in enumerate(list(operator.plant(tree))[:2]):
            place.apply()
            try:
                text = ast.unparse(ast.fix_missing_locations(tree))
            finally:
                place.undo()
            filename = f"<{operator.name} {k} in the rule of {name}>"
            linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
            scope: dict[str, Any] = {}
            exec(compile(text, filename, "exec"), dict(function.__globals__), scope)  # noqa: S102 - our own source
            code = scope[tree.name].__code__
            line = next(
                (b for a, b in zip(ast.unparse(tree).splitlines(), text.splitlines(), strict=False) if a != b), ""
            )
            digest = hashlib.sha256(f"{operator.name} in {name}".encode()).digest()
            found.append(
                RuleCase(
                    f"{operator.name}-{k}-{name}", name, operator, function, code, line.strip(), digest[0] % 2 == 1
                )
            )
    found.sort(key=lambda c: hashlib.sha256(c.name.encode()).digest())
    yield from found[:_PER_RULE]
