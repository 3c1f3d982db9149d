"""Programs of tensors, chainrule's or PyTorch's: functions, modules, custom autograd functions.

Both libraries speak the same API, so one adapter serves both; a ``Backend`` says the few things that differ. All
parameters, buffers and captured tensors are float64 while the check runs, and as they were afterwards.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from ...errors import UsageError
from ..measure import quiet
from ..problem import Arrays, Note, Problem
from ..repair.source import user_functions
from ..structure import Layout, WrongGradient, parameter_names

__all__ = ["Backend", "from_tensors"]


class Backend(Protocol):
    """What differs between the libraries."""

    name: str
    module_type: Any
    function_type: Any

    def is_tensor(self, x: Any) -> bool: ...
    def is_float(self, t: Any) -> bool: ...
    def array(self, t: Any) -> np.ndarray[Any, Any]: ...
    def leaf(self, array: np.ndarray[Any, Any], requires: bool) -> Any: ...
    def gradients(self, out: Any, leaves: list[Any], create_graph: bool) -> list[Any]: ...
    def no_grad(self) -> Any: ...
    def store(self, t: Any, array: np.ndarray[Any, Any]) -> None: ...
    def in_double(self, tensors: list[Any]) -> Any: ...
    def depends(self, t: Any, others: list[Any]) -> bool: ...


class _Program:
    """The user's object as a function from named arrays to an output tensor."""

    def __init__(self, backend: Backend, f: Any, inputs: Any, loss: Any, data: Any) -> None:
        self.backend = backend
        self.notes: list[Note] = []
        self.loss = _loss_function(loss)
        self.parameters: dict[str, Any] = {}
        self.functions: tuple[Any, ...] = ()
        extra = (
            ()
            if data is None
            else tuple(data.values())
            if isinstance(data, Mapping)
            else tuple(data)
            if isinstance(data, (tuple, list))
            else (data,)
        )
        self.extra = tuple(self._constant(v) for v in extra)
        if isinstance(f, type) and issubclass(f, backend.function_type):
            self.label = f.__name__
            self.functions = (getattr(f, "backward"),)  # noqa: B009
            self.call: Callable[..., Any] = f.apply
            signature: Any = _forward_signature(f)
        elif isinstance(f, backend.module_type):
            self.label = type(f).__name__
            f = copy.deepcopy(f).double()
            self.module = f
            self.parameters = {k: p for k, p in f.named_parameters() if p.requires_grad}
            self.call = f
            signature = type(f).forward.__get__(f)
        else:
            self.label = getattr(f, "__qualname__", type(f).__name__).replace("<locals>.", "")
            self.call, signature = f, f
        self.fixed: dict[str, Any] = {}
        inputs = () if inputs is None else inputs
        in_place = not isinstance(f, type) and parameter_names(signature) == [] and not self.parameters
        if in_place:  # f() reads the tensors themselves
            named = (
                inputs
                if isinstance(inputs, Mapping)
                else {f"x{i}": t for i, t in enumerate(inputs if isinstance(inputs, (tuple, list)) else [inputs])}
            )
            self.parameters = {str(k): t for k, t in named.items()}
            inputs = ()
        self._dependent(inputs)
        empty = isinstance(inputs, (tuple, list, dict)) and not inputs
        self.layout = None if empty else _layout(self, inputs, signature)
        self.point: Arrays = {k: np.array(backend.array(p), dtype=np.float64) for k, p in self.parameters.items()}
        if self.layout is not None:
            for k, v in self.layout.point.items():
                if k not in self.fixed:
                    self.point[k if k not in self.parameters else f"input.{k}"] = v
            self.notes += self.layout.notes
        if not self.point:
            raise UsageError(
                f"{self.label} has neither parameters nor floating point inputs: there is nothing to differentiate."
            )
        self.captured = [] if self.parameters and not in_place else list(_captured_tensors(backend, f))
        if in_place:
            self.captured = [
                t for t in _captured_tensors(backend, f) if all(t is not p for p in self.parameters.values())
            ]
            self.captured += list(self.parameters.values())

    def _constant(self, v: Any) -> Any:
        backend = self.backend
        if backend.is_tensor(v):
            return backend.leaf(np.asarray(backend.array(v), np.float64), False) if backend.is_float(v) else v
        if isinstance(v, np.ndarray) and v.dtype.kind == "f":
            return backend.leaf(v.astype(np.float64), False)
        return v

    def _dependent(self, inputs: Any) -> None:
        tensors = [t for t in _tree(inputs) if self.backend.is_tensor(t)]
        for i, t in enumerate(tensors):
            if any(t is o for o in tensors[:i]):
                self.notes.append(
                    Note(
                        "dependent",
                        f"inputs {next(k for k, o in enumerate(tensors) if o is t)} and {i} are the "
                        f"same tensor; the check treats them as independent.",
                    )
                )
            elif self.backend.depends(t, [o for o in tensors if o is not t]):
                self.notes.append(
                    Note(
                        "dependent", f"input {i} is computed from another input; the check treats them as independent."
                    )
                )

    def run(self, arrays: Mapping[str, Any], requires: bool) -> tuple[Any, list[Any]]:
        """The output and the leaves, in the order of ``point``."""
        backend = self.backend
        leaves: list[Any] = []
        for k, p in self.parameters.items():
            backend.store(p, arrays[k])
            leaves.append(p)
        if self.layout is not None:
            made: dict[str, Any] = {}
            for k in self.layout.names:
                if k in self.fixed:
                    made[k] = self.fixed[k]
                    continue
                name = k if k not in self.parameters else f"input.{k}"
                made[k] = backend.leaf(np.array(arrays[name]), requires)
                leaves.append(made[k])
            out = self.layout.call(self.call, made, *self.extra)
        else:
            out = self.call(*self.extra)
        return (self.loss(out) if self.loss is not None else out), leaves


def _forward_signature(f: Any) -> Callable[..., Any]:
    """``forward`` without its ctx: what ``apply`` takes."""
    names = parameter_names(f.forward) or []
    if names and names[0] in ("ctx", "self", "context"):
        names = names[1:]
    scope: dict[str, Any] = {}
    exec(f"def forward({', '.join(names)}): pass", scope)  # noqa: S102 - parameter names only
    return scope["forward"]


def _loss_function(loss: Any) -> Callable[[Any], Any] | None:
    if loss is None or not isinstance(loss, tuple):
        return loss
    function, *targets = loss
    return lambda out: function(out, *targets)


def _tree(x: Any) -> Iterator[Any]:
    if isinstance(x, Mapping):
        for v in x.values():
            yield from _tree(v)
    elif isinstance(x, (tuple, list)):
        for v in x:
            yield from _tree(v)
    else:
        yield x


def _layout(program: _Program, inputs: Any, signature: Any) -> Layout:
    """Inputs as arrays; integer tensors stay what they are and are not differentiated."""
    backend = program.backend
    held: list[Any] = []

    def convert(x: Any) -> Any:
        if isinstance(x, Mapping):
            return {k: convert(v) for k, v in x.items()}
        if isinstance(x, (tuple, list)):
            return type(x)([convert(v) for v in x]) if type(x) in (tuple, list) else tuple(convert(v) for v in x)
        if backend.is_tensor(x):
            held.append(x)
            return np.array(backend.array(x))
        held.append(x)
        return x

    layout = Layout(convert(inputs), signature)
    leaves = list(_tree(inputs))
    if len(leaves) == len(layout.names):
        for name, leaf in zip(layout.names, leaves, strict=True):
            labels = backend.is_tensor(leaf) and not backend.is_float(leaf)
            setting = isinstance(leaf, (bool, int, str)) and len(leaves) > 1
            if labels or setting:
                program.fixed[name] = leaf
                layout.notes[:] = [n for n in layout.notes if not n.text.startswith(f"{name} was cast")]
    return layout


def _captured_tensors(backend: Backend, f: Any) -> Iterator[Any]:
    """Tensors that the function reads from outside: closures, globals, modules."""
    seen: set[int] = set()
    values: list[Any] = [getattr(f, "__self__", None)]
    for function in user_functions(f):
        values += [c.cell_contents for c in function.__closure__ or () if _has(c)]
        values += [function.__globals__[n] for n in function.__code__.co_names if n in function.__globals__]
        values += list(function.__defaults__ or ())
    for v in values:
        items: list[Any] = []
        if isinstance(v, backend.module_type):
            items = [*v.parameters(), *v.buffers()]
        elif isinstance(v, (tuple, list, dict)):
            items = list(_tree(v))
        elif not isinstance(v, (types.ModuleType, type)):
            items = [v]
        for t in items:
            if backend.is_tensor(t) and backend.is_float(t) and id(t) not in seen:
                seen.add(id(t))
                yield t


def _has(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def from_tensors(
    backend: Backend, f: Any, inputs: Any, grad: Any, *, loss: Any, cotangent: Any, data: Any, order: int, seed: int
) -> Problem:
    """A problem from a program of tensors."""
    program = _Program(backend, f, inputs, loss, data)
    with backend.in_double(program.captured):
        return _problem(backend, program, f, grad, cotangent, order, seed)


def _problem(backend: Backend, program: _Program, f: Any, grad: Any, cotangent: Any, order: int, seed: int) -> Problem:
    rng = np.random.default_rng(seed + 1)
    label, point, notes = program.label, program.point, program.notes
    free = program.loss is None and (bool(program.functions) or isinstance(f, backend.module_type))
    if isinstance(cotangent, str):
        free, cotangent = cotangent == "random", None
    weights: list[Any] = []

    def scalar(out: Any) -> Any:
        outs = [
            o
            for o in (out if isinstance(out, (tuple, list)) else [out])
            if backend.is_tensor(o) and backend.is_float(o)
        ]
        if isinstance(out, (tuple, list)) and not free and outs and outs[0].shape == ():
            outs = outs[:1]
        if not outs:
            raise UsageError(
                f"The function {label} returned {type(out).__name__}: it must return a floating point tensor, the loss."
            )
        if cotangent is None and not free:
            if len(outs) != 1 or int(np.prod(tuple(outs[0].shape))) != 1:
                shape = tuple(outs[0].shape)
                raise UsageError(
                    f"The function {label} returned a tensor of shape {shape}, not one number: return the loss, "
                    f"or pass cotangent= (an array of that shape that weighs the outputs)."
                )
            return outs[0].reshape(()) if tuple(outs[0].shape) else outs[0]
        if not weights:
            given = cotangent if isinstance(cotangent, (tuple, list)) else [cotangent] * len(outs)
            for o, w in zip(outs, given, strict=False):
                array = (
                    rng.normal(size=tuple(o.shape))
                    if w is None
                    else np.asarray(backend.array(w) if backend.is_tensor(w) else w, float)
                )
                weights.append(backend.leaf(np.asarray(array), False))
        total: Any = None
        for o, w in zip(outs, weights, strict=True):
            total = (o * w).sum() if total is None else total + (o * w).sum()
        return total

    def evaluate(arrays: Mapping[str, Any]) -> float:
        with backend.in_double(program.captured), backend.no_grad():
            out, leaves = program.run(arrays, False)
            result = float(backend.array(scalar(out)))
        if not notes_done:
            moved = [k for k, t in zip(point, leaves, strict=True) if not np.array_equal(backend.array(t), arrays[k])]
            if moved:
                notes.append(
                    Note(
                        "modifies",
                        f"{label} modifies its input {', '.join(moved)} in place; every evaluation of "
                        f"the check got a fresh copy.",
                    )
                )
        return result

    def gradients(arrays: Mapping[str, Any]) -> Arrays:
        with backend.in_double(program.captured):
            out, leaves = program.run(arrays, True)
            return _collect(backend, label, point, leaves, backend.gradients(scalar(out), leaves, False))

    def weighted(arrays: Mapping[str, Any], vectors: Arrays, second: bool) -> Any:
        """⟨∇f, v⟩, and its gradient when ``second``."""
        with backend.in_double(program.captured):
            out, leaves = program.run(arrays, True)
            found = backend.gradients(scalar(out), leaves, True)
            total: Any = None
            for g, v in zip(found, vectors.values(), strict=True):
                if g is not None:
                    part = (g * backend.leaf(v, False)).sum()
                    total = part if total is None else total + part
            if not second:
                return 0.0 if total is None else float(backend.array(total))
            if total is None or not total.requires_grad:
                return {k: np.zeros_like(v) for k, v in point.items()}
            return _collect(backend, label, point, leaves, backend.gradients(total, leaves, False))

    notes_done = False
    try:
        with quiet():
            first = evaluate(point)
    except (UsageError, WrongGradient):
        raise
    except Exception as error:
        raise UsageError(f"The function {label} raised {type(error).__name__} at the given inputs: {error}") from error
    notes_done = True
    if not np.isfinite(first):
        raise UsageError(f"The function {label} returned {first} at the given inputs: there is no gradient to check.")
    with quiet():
        again = evaluate(point)
    if abs(again - first) > 1e-12 * max(abs(again), abs(first)):
        text = (
            f"{label} is not deterministic: the same inputs gave {first:.12g}, then {again:.12g} "
            f"(dropout? a random number?)."
        )
        notes.append(Note("random", text))
    value: Callable[[Arrays], float] = evaluate
    regrad: Callable[[Arrays], Arrays] = gradients
    if grad is not None and program.layout is not None:
        layout = program.layout

        def by_hand(arrays: Mapping[str, Any]) -> Arrays:
            with backend.in_double(program.captured), backend.no_grad():
                returned = layout.call(
                    grad, {k: backend.leaf(np.array(arrays[k]), False) for k in layout.names}, *program.extra
                )
                return layout.gradient(_arrays(backend, returned))

        regrad = by_hand
    elif order == 2:
        vectors = {k: rng.normal(size=v.shape) for k, v in point.items()}
        value = lambda arrays: weighted(arrays, vectors, False)  # noqa: E731
        regrad = lambda arrays: weighted(arrays, vectors, True)  # noqa: E731
    try:
        with quiet():
            given = regrad(point)
    except (UsageError, WrongGradient):
        raise
    except Exception as error:
        what = "second derivatives" if order == 2 else "backward pass"
        raise UsageError(f"The {what} of {label} raised {type(error).__name__}: {error}") from error
    problem = Problem(
        label,
        point,
        value,
        given,
        regrad,
        functions=program.functions if grad is None else (grad,),
        notes=notes,
        order=order,
    )
    if program.functions:
        problem.forward_functions = (getattr(f, "forward", None),)
    for k, v in point.items():
        for i, s in enumerate(v.shape):
            problem.dims.setdefault(s, f"the length {s} of axis {i} of {k}")
    problem.dims.pop(1, None)
    problem.dims.pop(0, None)
    if program.parameters and isinstance(f, backend.module_type):
        from ..nodes import exempt_row

        for path, part in program.module.named_modules():
            row = getattr(part, "padding_idx", None)
            key = f"{path}.weight" if path else "weight"
            if isinstance(row, int) and key in point:
                exempt_row(problem, key, row)
    if len(weights) == 1:
        problem.cotangent = np.array(backend.array(weights[0]), dtype=np.float64)
    problem.tape = lambda arrays: program.run(arrays, True)
    problem.around = lambda: backend.in_double(program.captured)
    return problem


def _arrays(backend: Backend, x: Any) -> Any:
    if isinstance(x, Mapping):
        return {k: _arrays(backend, v) for k, v in x.items()}
    if isinstance(x, (tuple, list)):
        return tuple(_arrays(backend, v) for v in x)
    return backend.array(x) if backend.is_tensor(x) else x


def _collect(backend: Backend, label: str, point: Arrays, leaves: list[Any], found: list[Any]) -> Arrays:
    out: Arrays = {}
    for (k, v), g in zip(point.items(), found, strict=True):
        array = np.zeros_like(v) if g is None else np.array(backend.array(g))
        if array.shape != v.shape:
            raise WrongGradient(
                f"The gradient of {k} has shape {array.shape}, but {k} has shape {v.shape}.", "shape", k
            )
        out[k] = array
    return out
