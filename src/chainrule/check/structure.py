"""Nested inputs (arrays, tuples, dicts) to named float64 arrays and back, and how a function wants to be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import ShapeError, UsageError, message
from .names import match_names
from .problem import Arrays, Note

__all__ = ["Layout", "WrongGradient", "parameter_names"]


class WrongGradient(ShapeError, UsageError):
    """The analytic gradient does not even have the right form. ``kind`` and ``parameter`` say what is wrong where."""

    def __init__(self, text: str, kind: str, parameter: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.parameter = parameter


def parameter_names(function: Any) -> list[str] | None:
    """Names of the positional parameters; None when unknown or ``*args``."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _required(function: Any) -> int | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


def _is_scalar(x: Any) -> bool:
    return not isinstance(x, Mapping) and np.ndim(x) == 0


def _is_number_list(x: Any) -> bool:
    if not isinstance(x, (list, tuple)) or not x:
        return False
    return all(isinstance(v, (int, float, np.number)) or _is_number_list(v) for v in x)


class Layout:
    """How the inputs are nested. ``names`` are the leaves' names in order; ``point`` their float64 copies."""

    def __init__(self, inputs: Any, function: Any) -> None:
        self.notes: list[Note] = []
        self.names: list[str] = []
        self.point: Arrays = {}
        self.original: dict[str, Any] = {}
        self.mode = "one"
        self.batch: set[int] = set()
        """Lengths of the data's first axes, for the hint about a wrong shape."""
        wanted = parameter_names(function)
        if _is_number_list(inputs) and not (
            isinstance(inputs, tuple) and wanted is not None and len(wanted) > 1 and (_required(function) or 0) > 1
        ):
            inputs = np.asarray(inputs)
        self.tree = inputs
        if isinstance(inputs, Mapping):
            keys = [str(k) for k in inputs]
            self.mode = "named" if wanted is not None and len(keys) > 0 and set(keys) <= set(wanted) else "one"
            self._walk(inputs, "", top=True)
        elif isinstance(inputs, (tuple, list)):
            single = wanted is not None and (len(wanted) == 1 and len(inputs) != 1)
            self.mode = "one" if single else "star"
            labels = wanted if wanted is not None and not single and len(wanted) >= len(inputs) else None
            for i, item in enumerate(inputs):
                self._walk(item, labels[i] if labels else f"x{i}")
        else:
            self._walk(inputs, wanted[0] if wanted and wanted[0] not in ("self", "p", "params") else "x")
        if not self.names:
            raise UsageError("There is nothing to differentiate: inputs holds no array.")

    def _walk(self, item: Any, name: str, top: bool = False) -> None:
        if isinstance(item, Mapping):
            for k, v in item.items():
                self._walk(v, str(k) if top or not name else f"{name}.{k}")
            return
        if isinstance(item, (tuple, list)) and not _is_number_list(item):
            for i, v in enumerate(item):
                self._walk(v, f"{name}.{i}" if name else f"x{i}")
            return
        array = np.asarray(item)
        if array.dtype.kind not in "fiub":
            raise UsageError(
                f"Input {name!r} is {type(item).__name__} ({array.dtype}): only real numbers can be checked."
            )
        if array.size and not np.all(np.isfinite(array)):
            raise UsageError(f"Input {name!r} contains NaN or infinity: choose a point where everything is finite.")
        if array.dtype != np.float64:
            what = f"integers ({array.dtype})" if array.dtype.kind in "iub" else array.dtype.name
            self.notes.append(Note("cast", f"{name} was cast from {what} to float64 for the check."))
        self.names.append(name)
        self.original[name] = item
        self.point[name] = np.array(array, dtype=np.float64)

    def shared(self) -> list[Note]:
        """Inputs that are not independent of each other: the same memory under two names."""
        found = []
        for i, a in enumerate(self.names):
            for b in self.names[i + 1 :]:
                x, y = self.original[a], self.original[b]
                if isinstance(x, np.ndarray) and isinstance(y, np.ndarray) and x.size and np.shares_memory(x, y):
                    text = (
                        f"{a} and {b} share memory (one is a view of the other), so they cannot vary independently; "
                        f"the check treats them as separate inputs."
                    )
                    found.append(Note("dependent", text))
        return found

    def rebuild(self, arrays: Mapping[str, Any]) -> Any:
        """The inputs in their own structure, with these leaves."""
        return _build(self.tree, iter([arrays[n] for n in self.names]))

    def call(self, function: Callable[..., Any], arrays: Mapping[str, Any], *extra: Any) -> Any:
        """Call ``function`` the way the inputs were given: f(x), f(*inputs), f(**inputs) or f(dict)."""
        built = self.rebuild(arrays)
        if self.mode == "star":
            return function(*built, *extra)
        if self.mode == "named":
            return function(*extra, **built) if not extra else function(**built, **_bind(function, built, extra))
        return function(built, *extra)

    def gradient(self, returned: Any, who: str = "The gradient") -> Arrays:
        """Bring what a gradient function returned to named arrays; raise ``WrongGradient`` with one sentence
        if it is not one.
        """
        found = self._match(returned, who)
        out: Arrays = {}
        for name in self.names:
            shape = self.point[name].shape
            try:
                g = np.asarray(found[name])
                if g.dtype.kind not in "fiub":
                    raise TypeError
            except (TypeError, ValueError):
                raise WrongGradient(
                    f"{who} of {name} is {type(found[name]).__name__}, not an array.", "form", name
                ) from None
            if g.shape != shape:
                if g.size == self.point[name].size and tuple(s for s in g.shape if s != 1) == tuple(
                    s for s in shape if s != 1
                ):
                    g = g.reshape(shape)
                    if shape:
                        self.notes.append(
                            Note("shape", f"{who} of {name} has axes of length 1 that {name} has not (or lacks them).")
                        )
                else:
                    shapes = {k: v.shape for k, v in self.point.items() if np.shape(found[k]) == shape}
                    raise _wrong_shape(who, name, g.shape, shape, shapes, self.batch)
            out[name] = g
        return out

    def _match(self, returned: Any, who: str) -> dict[str, Any]:
        if isinstance(returned, tuple) and len(returned) == 2 and _is_scalar(returned[0]):
            second = returned[1]
            if isinstance(second, Mapping) or (len(self.names) != 2 and not _is_number_list(returned)):
                returned = second
        if isinstance(returned, Mapping):
            flat: dict[str, Any] = {}
            _flatten(returned, "", flat)
            matched = match_names(flat, self.names)
            missing = [n for n in self.names if n not in matched]
            if missing:
                have = ", ".join(map(repr, flat)) or "nothing"
                raise WrongGradient(
                    f"{who} has no entry for {', '.join(map(repr, missing))}; it has {have}.", "missing", missing[0]
                )
            return {n: flat[matched[n]] for n in self.names}
        if returned is None:
            raise WrongGradient(f"{who} is None: does the function return it?", "missing", self.names[0])
        if len(self.names) == 1:
            if (
                isinstance(returned, (tuple, list))
                and len(returned) == 1
                and np.ndim(returned[0]) == self.point[self.names[0]].ndim
            ):
                returned = returned[0]
            return {self.names[0]: returned}
        if not isinstance(returned, (tuple, list)):
            raise WrongGradient(
                f"{who} is one {type(returned).__name__}, but there are {len(self.names)} inputs: "
                f"{', '.join(self.names)}.",
                "missing",
            )
        flat_list: list[Any] = []
        _flatten_list(returned, flat_list)
        if len(flat_list) != len(self.names):
            raise WrongGradient(
                f"{who} has {len(flat_list)} parts, but there are {len(self.names)} inputs: {', '.join(self.names)}.",
                "missing",
            )
        return dict(zip(self.names, flat_list, strict=True))


def _build(item: Any, leaves: Iterator[Any]) -> Any:
    # At module level: a nested function that calls itself is a cycle, and would keep the arrays until the
    # next collection.
    if isinstance(item, Mapping):
        return {k: _build(v, leaves) for k, v in item.items()}
    if isinstance(item, (tuple, list)) and not _is_number_list(item):
        made = [_build(v, leaves) for v in item]
        return made if type(item) is list else tuple(made)
    return next(leaves)


def _bind(function: Any, built: Mapping[str, Any], extra: tuple[Any, ...]) -> dict[str, Any]:
    rest = [p for p in parameter_names(function) or [] if p not in built]
    return dict(zip(rest, extra, strict=False))


def _flatten(tree: Any, prefix: str, out: dict[str, Any]) -> None:
    for k, v in tree.items():
        name = f"{prefix}.{k}" if prefix else str(k)
        if isinstance(v, Mapping):
            _flatten(v, name, out)
        elif isinstance(v, (tuple, list)) and not _is_number_list(v):
            _flatten({str(i): x for i, x in enumerate(v)}, name, out)
        else:
            out[name] = v


def _flatten_list(tree: Any, out: list[Any]) -> None:
    for v in tree:
        if isinstance(v, Mapping):
            _flatten_list(v.values(), out)
        elif isinstance(v, (tuple, list)) and not _is_number_list(v):
            _flatten_list(v, out)
        else:
            out.append(v)


def _wrong_shape(
    who: str,
    name: str,
    got: tuple[int, ...],
    want: tuple[int, ...],
    shapes: dict[str, tuple[int, ...]],
    batch: set[int],
) -> WrongGradient:
    kind, hint = "shape", ""
    other = next((k for k, s in shapes.items() if k != name and s == got and s != want), None)
    if other is not None:
        kind, hint = "swapped", f"That is the shape of {other}: are the gradients of {name} and {other} swapped?"
    elif len(got) == len(want) == 1 and got[0] in batch:
        kind, hint = "axis", f"It was summed over the wrong axis: {got[0]} is the batch, sum over that (axis=0)."
    elif len(got) == len(want) == 2 and set(got) <= batch:
        kind, hint = (
            "transposed",
            "The factors of the product are exchanged (A.T @ B sums over the batch, A @ B.T does not).",
        )
    elif got == want[::-1]:
        kind, hint = "transposed", "It looks transposed: try .T (or swap the factors of the product)."
    elif len(got) == len(want) + 1 and got[1:] == want:
        kind, hint = "batch-sum", f"The sum over the batch (axis 0, length {got[0]}) is missing: try .sum(axis=0)."
    elif len(got) > len(want) and got[len(got) - len(want) :] == want:
        axes = tuple(range(len(got) - len(want)))
        kind, hint = "batch-sum", f"The sum over the leading axes is missing: try .sum(axis={axes})."
    elif len(got) == len(want) and all(w in (1, g) for g, w in zip(got, want, strict=True)):
        axes = tuple(i for i, (g, w) in enumerate(zip(got, want, strict=True)) if w == 1 and g != 1)
        kind, hint = (
            "batch-sum",
            f"{name} was broadcast along axis {axes[0] if len(axes) == 1 else axes}: sum over it, with keepdims=True.",
        )
    elif got == () or (len(got) < len(want) or any(g == 1 and w > 1 for g, w in zip(got, want, strict=False))):
        kind, hint = "axis", "Too much was summed: keep the axes of the parameter."
    text = message(f"{who} of {name} has shape {got}, but {name} has shape {want}.", fix=hint)
    return WrongGradient(text.replace("\n  ", " "), kind, name)
