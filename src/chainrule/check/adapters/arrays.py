"""NumPy functions with a gradient written by hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...errors import UsageError
from ..measure import quiet
from ..problem import Arrays, Note, Problem
from ..structure import Layout, WrongGradient, parameter_names

__all__ = ["from_arrays", "surroundings"]


def from_arrays(f: Callable[..., Any], inputs: Any, grad: Any, *, data: Any = None, cotangent: Any = None) -> Problem:
    """A problem from ``f(inputs) -> loss`` and ``grad(inputs) -> gradients`` (or the gradients themselves)."""
    layout = Layout(inputs, f)
    extra = (
        ()
        if data is None
        else tuple(data.values())
        if isinstance(data, Mapping)
        else tuple(data)
        if isinstance(data, (tuple, list))
        else (data,)
    )
    notes = [*layout.notes, *layout.shared()]
    label = getattr(f, "__qualname__", type(f).__name__).replace("<locals>.", "")
    if isinstance(cotangent, str):
        with quiet():
            shape = np.shape(layout.call(f, {k: v.copy() for k, v in layout.point.items()}, *extra))
        cotangent = np.random.default_rng(1).normal(size=shape)
    weight = None if cotangent is None else np.asarray(cotangent, dtype=np.float64)

    def raw(arrays: Mapping[str, Any]) -> Any:
        out = layout.call(f, arrays, *extra)
        if isinstance(out, tuple) and out and np.ndim(out[0]) == 0:
            out = out[0]  # (loss, cache)
        if weight is not None:
            return np.sum(weight * out)
        return out

    point = layout.point
    around = surroundings(f, grad)
    layout.batch = {v.shape[0] for v in around.values() if isinstance(v, np.ndarray) and v.ndim}
    layout.batch |= {np.shape(v)[0] for v in extra if np.ndim(v)}
    work = {k: v.copy() for k, v in point.items()}
    try:
        with quiet():
            first = raw(work)
    except Exception as error:
        raise UsageError(f"The function {label} raised {type(error).__name__} at the given inputs: {error}") from error
    _require_scalar(first, label)
    changed = [k for k in point if not np.array_equal(work[k], point[k])]
    if changed:
        text = (
            f"{label} modifies its input {', '.join(changed)} in place; every evaluation of the check got a fresh copy."
        )
        notes.append(Note("modifies", text))
    with quiet():
        again = float(np.asarray(raw({k: v.copy() for k, v in point.items()})).reshape(()))
    value0 = float(np.asarray(first).reshape(()))
    if not np.isfinite(value0):
        raise UsageError(f"The function {label} returned {value0} at the given inputs: there is no gradient to check.")
    if again != value0 and abs(again - value0) > 1e-12 * max(abs(again), abs(value0)):
        text = (
            f"{label} is not deterministic: the same inputs gave {value0:.12g}, then {again:.12g} "
            f"(dropout? a random number?)."
        )
        notes.append(Note("random", text + " Fix the seed inside the function."))
    copies = bool(changed)

    def value(arrays: Arrays) -> float:
        if copies:
            arrays = {k: v.copy() for k, v in arrays.items()}
        return float(np.asarray(raw(arrays)).reshape(()))

    def complex_value(arrays: dict[str, Any]) -> complex:
        return complex(np.asarray(raw({k: v.copy() for k, v in arrays.items()})).reshape(()))

    if not callable(grad):
        given = layout.gradient(grad)
        functions: tuple[Any, ...] = ()
        regrad: Any = None
    else:
        passes = extra
        wanted = parameter_names(grad)
        if weight is not None and wanted is not None and len(wanted) == _count(layout) + len(extra) + 1:
            passes = (*extra, weight)
        if extra and wanted is not None and len(wanted) == _count(layout):
            passes = passes[len(extra) :]

        def regrad_by(arrays: Arrays, function: Any = grad) -> Arrays:
            return layout.gradient(layout.call(function, {k: v.copy() for k, v in arrays.items()}, *passes))

        regrad = regrad_by
        work = {k: v.copy() for k, v in point.items()}
        try:
            with quiet():
                returned = layout.call(grad, work, *passes)
        except Exception as error:
            raise UsageError(
                f"The gradient function raised {type(error).__name__} at the given inputs: {error}"
            ) from error
        returned = _copy(returned)
        changed = [k for k in point if not np.array_equal(work[k], point[k])]
        if changed:
            text = (
                f"The gradient function modifies its input {', '.join(changed)} in place (does it apply the update?)."
            )
            notes.append(Note("modifies", text))
        given = layout.gradient(returned)
        functions = (grad,)
    notes.extend(n for n in layout.notes if n not in notes)
    if isinstance(data, Mapping):
        around.update({k: np.asarray(v) for k, v in data.items()})
    else:
        around.update({f"data[{i}]": np.asarray(v) for i, v in enumerate(extra) if np.ndim(v)})
    problem = Problem(
        label,
        point,
        value,
        given,
        regrad,
        complex_value,
        functions=functions,
        forward_functions=(f,),
        data={k: v for k, v in around.items() if isinstance(v, np.ndarray) and v.ndim},
        numbers={k: float(v) for k, v in around.items() if isinstance(v, (int, float))},
        notes=notes,
        dims=_dims(point, around, first),
    )
    if callable(grad):
        problem.rebuild = lambda replacement: lambda arrays: regrad(arrays, replacement)
        if any(np.asarray(v).dtype.kind in "iub" for v in layout.original.values()):
            _note_integer_run(problem, layout, grad, passes)
    return problem


def _note_integer_run(problem: Problem, layout: Layout, grad: Any, passes: tuple[Any, ...]) -> None:
    """With the integers as they were given, does the gradient come out the same?"""
    try:
        with quiet():
            given = layout.gradient(layout.call(grad, {k: np.array(v) for k, v in layout.original.items()}, *passes))
    except Exception:
        return
    for k, g in given.items():
        if not np.allclose(np.asarray(g, float), np.asarray(problem.given[k], float), rtol=1e-12, atol=0):
            text = (
                f"with {k} as integers, as given, the gradient function returns something else: its "
                f"arrays truncate to integers."
            )
            problem.notes.append(Note("integer", text))


def _count(layout: Layout) -> int:
    return len(layout.tree) if layout.mode != "one" else 1


def _copy(x: Any) -> Any:
    if isinstance(x, Mapping):
        return {k: _copy(v) for k, v in x.items()}
    if isinstance(x, (tuple, list)):
        return tuple(_copy(v) for v in x)
    return np.array(x) if isinstance(x, np.ndarray) else x


def _require_scalar(out: Any, label: str) -> None:
    if out is None:
        raise UsageError(f"The function {label} returned None: it must return the loss.")
    try:
        array = np.asarray(out)
        if array.dtype.kind not in "fiub":
            raise TypeError
    except (TypeError, ValueError):
        raise UsageError(
            f"The function {label} returned {type(out).__name__}: it must return the loss, one real number."
        ) from None
    if array.size != 1:
        raise UsageError(
            f"The function {label} returned an array of shape {array.shape}, not one number: return the loss, "
            f"or pass cotangent= (an array of that shape that weighs the outputs)."
        )


def surroundings(*functions: Any) -> dict[str, Any]:
    """Arrays and numbers that the functions read from their closures, defaults and globals."""
    found: dict[str, Any] = {}
    for f in functions:
        f = getattr(f, "__func__", f)
        if not inspect.isfunction(f):
            continue
        try:
            closure = inspect.getclosurevars(f)
        except (TypeError, ValueError):
            continue
        for scope in (closure.globals, closure.nonlocals):
            for k, v in scope.items():
                if isinstance(v, (np.ndarray, int, float)) and not isinstance(v, bool):
                    found[k] = v
        for p in inspect.signature(f).parameters.values():
            if isinstance(p.default, (np.ndarray, int, float)) and not isinstance(p.default, bool):
                found[p.name] = p.default
    return found


def _dims(point: Arrays, around: Mapping[str, Any], out: Any) -> dict[int, str]:
    """Sizes that may turn up as wrong factors: the batch first, then everything else."""
    dims: dict[int, str] = {}
    for k, v in around.items():
        if isinstance(v, np.ndarray) and v.ndim:
            dims.setdefault(v.shape[0], f"N = {v.shape[0]}, the rows of {k}")
    for k, v in around.items():
        if isinstance(v, np.ndarray) and v.ndim:
            dims.setdefault(v.size, f"the {v.size} elements of {k}")
            for i, s in enumerate(v.shape[1:], 1):
                dims.setdefault(s, f"the length {s} of axis {i} of {k}")
        elif isinstance(v, int) and 2 <= abs(v) < 10**6:
            dims.setdefault(abs(v), f"{k} = {v}")
    for k, v in point.items():
        for i, s in enumerate(v.shape):
            dims.setdefault(s, f"the length {s} of axis {i} of {k}")
    dims.pop(1, None)
    dims.pop(0, None)
    return dims


__all__ += ["WrongGradient"]
