"""Without source at hand: which product of the backward's own variables would have been right?

The local variables of the gradient function are seen when it returns. If the numeric gradient of W1 is X.T @ (da1 *
(z1 > 0)), for values that are there by those names, then that is what the line should say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..measure import quiet
from ..repair.scope import as_array
from ..repair.source import final_locals, user_functions
from .evidence import Evidence
from .hypothesis import Hypothesis

__all__ = ["find_rebuilt"]

_MOST = 24


def find_rebuilt(ev: Evidence) -> list[Hypothesis]:
    """A formula for each wrong parameter that reproduces its numeric gradient, where one is found."""
    if ev.problem.regrad is None or not ev.problem.functions:
        return []
    functions = [f for g in ev.problem.functions for f in user_functions(g)]
    regrad = ev.problem.regrad
    with quiet():
        seen = final_locals(functions, lambda: regrad(ev.problem.point))
        arrays: dict[str, Any] = dict(ev.problem.data)
        for scope in seen.values():
            for k, v in scope.items():
                v = as_array(v)
                if k.isidentifier() and isinstance(v, np.ndarray) and v.dtype.kind == "f" and 1 <= v.ndim <= 2:
                    arrays[k] = v
        arrays = dict(list(arrays.items())[:_MOST])
        return [h for name in ev.bad if ev.complete(name) for h in _first(_formulas(ev, name, arrays))]


def _first(found: Iterator[Hypothesis]) -> list[Hypothesis]:
    h = next(found, None)
    return [] if h is None else [h]


def _slopes(name: str, v: np.ndarray[Any, Any]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    yield f"({name} > 0)", v > 0
    yield f"(1 - {name} ** 2)", 1 - v**2
    yield f"{name} * (1 - {name})", v * (1 - v)
    yield name, v


def _formulas(ev: Evidence, name: str, arrays: dict[str, Any]) -> Iterator[Hypothesis]:
    n = ev.numeric[name]
    upstream = {k: v for k, v in arrays.items() if k.startswith(("d", "g", "delta"))}
    for k, d in upstream.items():
        factors: list[tuple[str, str, Any]] = [("", "wrong-variable", d)]
        for other, v in arrays.items():
            if other != k and v.shape == d.shape:
                factors += [
                    (f" * {text}", "missing-factor" if text == other else "activation", d * s)
                    for text, s in _slopes(other, v)
                ]
        for suffix, kind, value in factors:
            shown = f"{k}{suffix}"
            if n.ndim == 1 and value.ndim == 2 and ev.same(name, value.sum(axis=0)):
                yield _say(
                    ev,
                    name,
                    f"({shown}).sum(axis=0)" if suffix else f"{k}.sum(axis=0)",
                    kind if suffix else "batch-sum",
                )
            if n.ndim == 2 and value.ndim == 2:
                for left, a in arrays.items():
                    if (
                        a.ndim == 2
                        and a.shape[0] == value.shape[0]
                        and (a.shape[1], value.shape[1]) == n.shape
                        and ev.same(name, a.T @ value)
                    ):
                        yield _say(ev, name, f"{left}.T @ ({shown})" if suffix else f"{left}.T @ {k}", kind)
            if value.shape == n.shape and suffix and ev.same(name, value):
                yield _say(ev, name, shown, kind)


def _say(ev: Evidence, name: str, formula: str, kind: str) -> Hypothesis:
    what = {
        "activation": "the activation's derivative is missing or wrong", "missing-factor": "a factor is missing",
        "batch-sum": "the sum over the batch is missing or wrong", "wrong-variable": "the wrong value is used",
    }[kind]  # fmt: skip
    return Hypothesis(
        kind, f"{what} in d{name}", f"{formula}, with the function's own values, equals the numeric gradient",
        f"d{name} = {formula}", (name,), 0.8,
    )  # fmt: skip
