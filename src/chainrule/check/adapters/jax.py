"""Functions of JAX arrays, custom derivative rules included. Imported only when given such an array."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...errors import UsageError
from ..measure import quiet
from ..problem import Arrays, Note, Problem
from ..structure import Layout

__all__ = ["from_jax"]


def from_jax(
    f: Callable[..., Any], inputs: Any, grad: Any, *, cotangent: Any, data: Any, order: int, seed: int
) -> Problem:
    """A problem from a JAX function; its gradient is ``jax.grad``'s, or ``grad``'s if one was written by hand."""
    jax: Any = importlib.import_module("jax")

    def double() -> Any:
        made = getattr(jax, "enable_x64", None)
        if made is None:
            made = importlib.import_module("jax.experimental").enable_x64  # before JAX 0.8
        return made(True)

    extra = (
        ()
        if data is None
        else tuple(data.values())
        if isinstance(data, Mapping)
        else tuple(data)
        if isinstance(data, (tuple, list))
        else (data,)
    )
    layout = Layout(jax.tree_util.tree_map(np.asarray, inputs), getattr(f, "__wrapped__", f))
    label = getattr(f, "__name__", type(f).__name__)
    names = layout.names

    def scalar(arrays: Mapping[str, Any]) -> Any:
        out = layout.call(f, arrays, *extra)
        out = out[0] if isinstance(out, tuple) else out
        if cotangent is not None:
            return (out * np.asarray(cotangent)).sum()
        if np.shape(out) != ():
            raise UsageError(
                f"The function {label} returned an array of shape {np.shape(out)}, not one number: return the loss, "
                f"or pass cotangent= (an array of that shape that weighs the outputs)."
            )
        return out

    def over(arrays: Arrays) -> dict[str, Any]:
        return {k: jax.numpy.asarray(arrays[k]) for k in names}

    def value(arrays: Arrays) -> float:
        with double():
            return float(scalar(over(arrays)))

    def gradient(arrays: Arrays) -> Arrays:
        with double():
            if grad is not None:
                returned = layout.call(grad, over(arrays), *extra)
                return layout.gradient(jax.tree_util.tree_map(np.asarray, returned))
            return {k: np.asarray(g) for k, g in jax.grad(scalar)(over(arrays)).items()}

    notes = [*layout.notes]
    try:
        with quiet():
            first = value(layout.point)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"The function {label} raised {type(error).__name__} at the given inputs: {error}") from error
    if not np.isfinite(first):
        raise UsageError(f"The function {label} returned {first} at the given inputs: there is no gradient to check.")
    if value(layout.point) != first:
        notes.append(Note("random", f"{label} is not deterministic: the same inputs gave two values."))
    regrad: Callable[[Arrays], Arrays] = gradient
    if order == 2:
        rng = np.random.default_rng(seed + 1)
        vectors = {k: rng.normal(size=v.shape) for k, v in layout.point.items()}

        def slope(arrays: Mapping[str, Any]) -> Any:
            found = jax.grad(scalar)(arrays)
            return sum((found[k] * vectors[k]).sum() for k in names)

        def value(arrays: Arrays) -> float:
            with double():
                return float(slope(over(arrays)))

        def curvature(arrays: Arrays) -> Arrays:
            with double():
                return {k: np.asarray(g) for k, g in jax.grad(slope)(over(arrays)).items()}

        regrad = curvature

    return Problem(
        label,
        layout.point,
        value,
        regrad(layout.point),
        regrad,
        functions=() if grad is None else (grad,),
        notes=notes,
        order=order,
    )
