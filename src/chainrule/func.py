"""Function transforms with ``torch.func``'s names, over the same graph as everything else.

``vmap`` is not there: it needs a batching rule per op, and a loop in its place would pretend to be one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .autograd.api import grad as _grad
from .autograd.modes import enable_grad
from .core.op import registry
from .core.variable import Variable, wrap
from .errors import GradientError, message

__all__ = ["functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "vjp"]

_Call = Callable[..., Any]


def _map(function: _Call, tree: Any) -> Any:
    if isinstance(tree, Variable):
        return function(tree)
    if isinstance(tree, dict):
        return {k: _map(function, v) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_map(function, v) for v in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(_map(function, v) for v in tree)
    return tree


def _leaves(tree: Any) -> list[Any]:
    found: list[Any] = []
    _map(found.append, tree)
    return found


def _fill(tree: Any, values: list[Any]) -> Any:
    rest = iter(values)
    return _map(lambda _: next(rest), tree)


def _inside(t: Any) -> Any:
    """The tensor as something to differentiate by: an identity of it in the caller's graph, or a fresh leaf."""
    return registry["clone"].call(t) if t.requires_grad else t.detach().requires_grad_()


def _outside(t: Any, given: list[Any]) -> Any:
    """A result, outside the graph unless an argument was already inside one (a transform within a transform)."""
    return t if any(g.requires_grad for g in given) else t.detach()


def _pick(args: tuple[Any, ...], argnums: Any) -> tuple[tuple[Any, ...], Any]:
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    numbers = tuple(n + len(args) if n < 0 else n for n in numbers)
    fresh = list(args)
    for n in numbers:
        fresh[n] = _map(_inside, args[n])
    chosen = fresh[numbers[0]] if isinstance(argnums, int) else tuple(fresh[n] for n in numbers)
    return tuple(fresh), chosen


def _zeros(t: Any) -> Any:
    return wrap(np.zeros_like(t._array))


def _gradients(out: list[Any], chosen: Any, seeds: list[Any]) -> list[Any]:
    leaves = _leaves(chosen)
    pairs = [(o, s) for o, s in zip(out, seeds, strict=True) if o.requires_grad]
    if not pairs:
        return [_zeros(t) for t in leaves]
    found = _grad([o for o, _ in pairs], leaves, [s for _, s in pairs], create_graph=True, allow_unused=True)
    return [_zeros(t) if g is None else g for g, t in zip(found, leaves, strict=True)]


def grad_and_value(func: _Call, argnums: Any = 0, has_aux: bool = False) -> _Call:
    """A function that gives the gradient of ``func`` and its value."""

    def run(*args: Any, **kwargs: Any) -> Any:
        given = _leaves(args)
        with enable_grad():
            fresh, chosen = _pick(args, argnums)
            result = func(*fresh, **kwargs)
            value, aux = result if has_aux else (result, None)
            if not isinstance(value, Variable):
                raise RuntimeError(f"Expected f(*args) to return a tensor, got {type(value).__name__} instead.")
            if value._array.ndim or value._array.size != 1:
                raise GradientError(
                    message(
                        "grad_and_value(f)(*args): Expected f(*args) to return a scalar tensor, got tensor with "
                        f"{value._array.ndim} dims. Maybe you wanted to use the vjp or jacrev APIs instead?"
                    )
                )
            found = _gradients([value], chosen, [wrap(np.ones_like(value._array))])
        out = _fill(chosen, [_outside(g, given) for g in found])
        value = _outside(value, given)
        return (out, (value, _map(lambda t: _outside(t, given), aux))) if has_aux else (out, value)

    return run


def grad(func: _Call, argnums: Any = 0, has_aux: bool = False) -> _Call:
    """A function that gives the gradient of ``func`` by its arguments ``argnums``.

    >>> import chainrule as torch
    >>> torch.func.grad(torch.func.grad(lambda x: x**3))(torch.tensor(2.0))
    tensor(12.)
    """
    both = grad_and_value(func, argnums, has_aux)

    def run(*args: Any, **kwargs: Any) -> Any:
        gradient, rest = both(*args, **kwargs)
        return (gradient, rest[1]) if has_aux else gradient

    return run


def vjp(func: _Call, *primals: Any, has_aux: bool = False) -> Any:
    """The value of ``func``, and a function from a vector v to vᵀJ."""
    given = _leaves(primals)
    with enable_grad():
        fresh = _map(_inside, primals)
        result = func(*fresh)
        value, aux = result if has_aux else (result, None)

    def pull(*cotangents: Any) -> Any:
        seeds = _leaves(cotangents)
        found = _gradients(_leaves(value), fresh, seeds)
        out = _fill(fresh, [_outside(g, given + seeds) for g in found])
        return out

    shown = _map(lambda t: _outside(t, given), value)
    return (shown, pull, aux) if has_aux else (shown, pull)


def jvp(func: _Call, primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> Any:
    """The value of ``func`` and its derivative in a direction (by differentiating vᵀJ, which is linear in v)."""
    given = _leaves(primals) + _leaves(tangents)
    with enable_grad():
        fresh = _map(_inside, tuple(primals))
        result = func(*fresh)
        value, aux = result if has_aux else (result, None)
        outputs = _leaves(value)
        dummies = [wrap(np.zeros_like(o._array)).requires_grad_() for o in outputs]
        pulled = _gradients(outputs, fresh, dummies)
        found = _gradients(pulled, dummies, _leaves(tangents))
    derivative = _fill(value, [_outside(g, given) for g in found])
    shown = _map(lambda t: _outside(t, given), value)
    return (shown, derivative, aux) if has_aux else (shown, derivative)


def jacrev(func: _Call, argnums: Any = 0, has_aux: bool = False, **_: Any) -> _Call:
    """A function that gives the Jacobian of ``func``, row by row."""

    def run(*args: Any, **kwargs: Any) -> Any:
        given = _leaves(args)
        with enable_grad():
            fresh, chosen = _pick(args, argnums)
            result = func(*fresh, **kwargs)
            value, aux = result if has_aux else (result, None)

            def one(out: Any) -> Any:
                rows: list[list[Any]] = []
                for e in range(out._array.size):
                    unit = np.zeros(out._array.size, out._array.dtype)
                    unit[e] = 1
                    rows.append(_gradients([out], chosen, [wrap(unit.reshape(out._array.shape))]))
                columns: list[Any] = []
                for i, t in enumerate(_leaves(chosen)):
                    shape = (*out._array.shape, *t._array.shape)
                    whole = registry["stack"].call(*(r[i] for r in rows), dim=0) if rows else wrap(np.zeros((0,)))
                    columns.append(_outside(registry["reshape"].call(whole, shape=shape), given))
                return _fill(chosen, columns)

            jacobian = _map(one, value)
        return (jacobian, aux) if has_aux else jacobian

    return run


def jacfwd(func: _Call, argnums: Any = 0, has_aux: bool = False, **_: Any) -> _Call:
    """``jacrev``: both give the same Jacobian, and derivatives here run backward."""
    return jacrev(func, argnums, has_aux)


def hessian(func: _Call, argnums: Any = 0) -> _Call:
    """A function that gives the Hessian of ``func``."""
    return jacfwd(jacrev(func, argnums), argnums)


def functional_call(
    module: Any, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: Any = None, *, tie_weights: bool = True,
    strict: bool = False,
) -> Any:  # fmt: skip
    """Call a module with other tensors in place of (some of) its parameters and buffers.

    Raises:
        RuntimeError: with ``strict``, when names are missing or unknown.
    """
    values: dict[str, Any] = {}
    dicts = parameter_and_buffer_dicts
    for d in (dicts,) if isinstance(dicts, dict) else dicts:
        values.update(d)
    own = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    if strict:
        missing, unknown = sorted(own.keys() - values.keys()), sorted(values.keys() - own.keys())
        if missing or unknown:
            raise RuntimeError(f"Missing key(s): {missing}. Unexpected key(s): {unknown}.")
    if tie_weights:
        first: dict[int, str] = {}
        for name, t in own.items():
            if name in values:
                first.setdefault(id(t), name)
        for name, t in own.items():
            if name not in values and id(t) in first:
                values[name] = values[first[id(t)]]
    places: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for name, value in values.items():
            path, _, last = name.rpartition(".")
            owner = module.get_submodule(path)
            table = next((d for d in (owner._parameters, owner._buffers) if last in d), None)
            if table is None:
                raise KeyError(f"{name!r} is no parameter or buffer of {type(module).__name__}")
            places.append((table, last, table[last]))
            table[last] = value
        whole = () if args is None else args if isinstance(args, tuple) else (args,)
        return module(*whole, **(kwargs or {}))
    finally:
        for table, last, before in reversed(places):
            table[last] = before


def __getattr__(name: str) -> Any:
    from .core import left_out

    raise AttributeError(left_out.absent("torch.func", name, __all__))
