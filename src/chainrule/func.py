"""Function transforms with ``torch.func``'s names, over the same graph as everything else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from . import pytree
from .autograd.api import grad as _grad
from .autograd.modes import enable_grad
from .core.op import registry
from .core.state import state
from .core.variable import Variable, wrap
from .errors import GradientError, message

__all__ = [
    "functional_call", "functionalize", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize",
    "replace_all_batch_norm_modules_", "stack_module_state", "vjp", "vmap",
]  # fmt: skip

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


class _Level:
    """One running transform. Its own leaves are no business of the caller's: ``outside`` lets results go without them.

    A result stays in the graph if it depends on anything of the caller's that requires grad, arguments or not.
    """

    def __init__(self) -> None:
        self.recording = state.grad
        self.leaves: set[int] = set()
        self._known: dict[int, bool] = {}
        self._kept: list[Any] = []

    def inside(self, tree: Any) -> Any:
        def one(t: Any) -> Any:
            fresh = _inside(t)
            self.own(fresh)
            return fresh

        return _map(one, tree)

    def own(self, t: Any) -> Any:
        if t._node is None:
            self.leaves.add(id(t))
            self._kept.append(t)
        return t

    def outside(self, tree: Any) -> Any:
        return _map(lambda t: t if self.recording and self._depends(t) else t.detach(), tree)

    def _depends(self, t: Any) -> bool:
        """Whether a tensor's graph has a leaf that is not this level's."""
        if t._node is None:
            return t._requires and id(t) not in self.leaves
        known, kept = self._known, self._kept
        first: Any = t._node[0] if type(t._node) is tuple else t._node
        stack: list[Any] = [first]
        seen: set[int] = set()
        while stack:
            node = stack.pop()
            if id(node) in seen or known.get(id(node)) is False:
                continue
            seen.add(id(node))
            kept.append(node)
            for edge in node.edges:
                source = edge[0] if type(edge) is tuple else edge
                if source is None:
                    continue
                if known.get(id(source)):
                    return True
                if isinstance(source, Variable):
                    if id(source) not in self.leaves:
                        known[id(first)] = True
                        return True
                else:
                    stack.append(source)
        known.update(dict.fromkeys(seen, False))
        return False


def _pick(level: _Level, args: tuple[Any, ...], argnums: Any) -> tuple[tuple[Any, ...], Any]:
    """The arguments with those to differentiate by made fresh, and the latter alone."""
    if not isinstance(argnums, (int, tuple)):
        raise RuntimeError(f"argnum must be int or tuple, got: {type(argnums)}")
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    if not numbers:
        raise RuntimeError(f"argnums must be non-empty, got argnums={argnums}")
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise RuntimeError(f"Got argnum={n}, but only {len(args)} positional inputs")
    numbers = tuple(n % len(args) for n in numbers)
    if len(set(numbers)) < len(numbers):
        raise RuntimeError(f"argnums elements must be unique, got {argnums}")
    fresh = list(args)
    for n in numbers:
        fresh[n] = level.inside(args[n])
    chosen = fresh[numbers[0]] if isinstance(argnums, int) else tuple(fresh[n] for n in numbers)
    return tuple(fresh), chosen


def _with_aux(result: Any, has_aux: bool, name: str) -> tuple[Any, Any]:
    """What the function returned, taken apart."""
    if not has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError(f"{name}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return result


def _only_tensors(value: Any, what: str) -> list[Any]:
    """The leaves of a function's output.

    Raises:
        RuntimeError: when one of them is no tensor.
    """
    leaves = pytree.tree_leaves(value)
    for x in leaves:
        if not isinstance(x, Variable):
            raise RuntimeError(f"{what} only supports pytrees of Tensors as outputs, got {type(x).__name__}")
    return leaves


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

    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        level = _Level()
        with enable_grad():
            fresh, chosen = _pick(level, args, argnums)
            result = func(*fresh, **kwargs)
            if has_aux and not (isinstance(result, tuple) and len(result) == 2):
                raise RuntimeError(
                    "grad_and_value(f)(*args): output of function f should be a tuple: (output, aux) if has_aux is True"
                )
            value, aux = result if has_aux else (result, None)
            if not isinstance(value, Variable):
                raise RuntimeError(
                    "grad_and_value(f)(*args): Expected f(*args) to return a tensor, got "
                    f"{type(value).__name__} instead."
                )
            if value._array.ndim:
                raise GradientError(
                    message(
                        "grad_and_value(f)(*args): Expected f(*args) to return a scalar tensor, got tensor with "
                        f"{value._array.ndim} dims. Maybe you wanted to use the vjp or jacrev APIs instead?"
                    )
                )
            found = _gradients([value], chosen, [wrap(np.ones_like(value._array))])
        out = level.outside(_fill(chosen, found))
        value = level.outside(value)
        return (out, (value, level.outside(aux))) if has_aux else (out, value)

    return run


def grad(func: _Call, argnums: Any = 0, has_aux: bool = False) -> _Call:
    """A function that gives the gradient of ``func`` by its arguments ``argnums``.

    >>> import chainrule as torch
    >>> torch.func.grad(torch.func.grad(lambda x: x**3))(torch.tensor(2.0))
    tensor(12.)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        gradient, rest = both(*args, **kwargs)
        return (gradient, rest[1]) if has_aux else gradient

    return run


def vjp(func: _Call, *primals: Any, has_aux: bool = False) -> Any:
    """The value of ``func``, and a function from a vector v to vᵀJ (one result per primal).

    >>> import chainrule as torch
    >>> value, pull = torch.func.vjp(lambda x: x**2, torch.tensor([1.0, 2.0]))
    >>> pull(torch.ones(2))
    (tensor([2., 4.]),)
    """
    level = _Level()
    with enable_grad():
        fresh = level.inside(primals)
        value, aux = _with_aux(func(*fresh), has_aux, "vjp(f, *primals)")
        outputs = _only_tensors(value, "vjp(f, *primals): Expected f(*primals) to return tensors: it")
    structure = pytree.tree_structure(value)

    def pull(cotangents: Any, *more: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        given = (cotangents, *more) if more else cotangents
        seeds, spec = pytree.tree_flatten(given)
        if spec != structure and len(seeds) != len(outputs):
            raise RuntimeError(
                f"Expected pytree structure of cotangents to be the same as pytree structure of outputs to the "
                f"function. cotangents: {spec}, primal output: {structure}"
            )
        inner = _Level()
        inner.leaves |= level.leaves
        with enable_grad():
            found = _gradients(outputs, fresh, seeds)
        return inner.outside(_fill(fresh, found))

    shown = level.outside(value)
    return (shown, pull, level.outside(aux)) if has_aux else (shown, pull)


class _Forward:
    """J v by differentiating vᵀJ, which is linear in v: ready for any number of directions."""

    def __init__(self, func: _Call, primals: tuple[Any, ...], has_aux: bool) -> None:
        self.level = level = _Level()
        with enable_grad():
            self.fresh = level.inside(primals)
            self.value, self.aux = _with_aux(func(*self.fresh), has_aux, "jvp(f, primals, tangents)")
            outputs = _only_tensors(self.value, "jvp(f, primals, tangents): Expected f(*primals) to return tensors: it")
            self.dummies = [level.own(wrap(np.zeros_like(o._array)).requires_grad_()) for o in outputs]
            self.pulled = _gradients(outputs, self.fresh, self.dummies)

    def along(self, tangents: list[Any]) -> Any:
        with enable_grad():
            found = _gradients(self.pulled, self.dummies, tangents)
        return self.level.outside(_fill(self.value, found))


def _tangents(primals: Any, tangents: Any, name: str) -> list[Any]:
    given, spec = pytree.tree_flatten(tangents)
    points, wanted = pytree.tree_flatten(primals)
    if spec != wanted:
        raise RuntimeError(
            f"{name}: Expected primals and tangents to have the same python structure. For example, if primals is a "
            "tuple of 3 tensors, tangents also must be."
        )
    for p, t in zip(points, given):
        if isinstance(p, Variable) and p._array.shape != t._array.shape:
            raise RuntimeError(f"{name}: a tangent of shape {tuple(t.shape)} for a primal of shape {tuple(p.shape)}")
    return [t for p, t in zip(points, given) if isinstance(p, Variable)]


def jvp(func: _Call, primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> Any:
    """The value of ``func`` and its derivative in a direction (by differentiating vᵀJ, which is linear in v).

    >>> import chainrule as torch
    >>> torch.func.jvp(torch.sin, (torch.tensor(0.0),), (torch.tensor(2.0),))
    (tensor(0.), tensor(2.))
    """
    for x, what in ((primals, "primals"), (tangents, "tangents")):
        if not isinstance(x, tuple):
            raise RuntimeError(
                f"jvp(f, primals, tangents): Expected {what} to be a tuple. E.g. it should be valid to call f(*{what})."
            )
    direction = _tangents(primals, tangents, "jvp(f, primals, tangents)")
    forward = _Forward(func, primals, has_aux)
    derivative, shown = forward.along(direction), forward.level.outside(forward.value)
    return (shown, derivative, forward.level.outside(forward.aux)) if has_aux else (shown, derivative)


def linearize(func: _Call, *primals: Any) -> tuple[Any, _Call]:
    """The value of ``func`` at ``primals``, and its derivative there as a function of the direction.

    >>> import chainrule as torch
    >>> value, along = torch.func.linearize(torch.sin, torch.tensor(0.0))
    >>> value, along(torch.tensor(2.0))
    (tensor(0.), tensor(2.))
    """
    forward = _Forward(func, primals, False)

    def along(*tangents: Any) -> Any:
        return forward.along(_tangents(primals, tangents, "linearize"))

    return forward.level.outside(forward.value), along


def jacrev(
    func: _Call, argnums: Any = 0, *, has_aux: bool = False, chunk_size: int | None = None,
    _preallocate_and_copy: bool = False,
) -> _Call:  # fmt: skip
    """A function that gives the Jacobian of ``func``, row by row.

    ``chunk_size`` (how many rows at once) is accepted: rows are computed one at a time.

    >>> import chainrule as torch
    >>> torch.func.jacrev(lambda x: x**2)(torch.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        level = _Level()
        with enable_grad():
            fresh, chosen = _pick(level, args, argnums)
            value, aux = _with_aux(func(*fresh, **kwargs), has_aux, "jacrev(f)(*args)")
            _only_tensors(value, "jacrev: Expected the function to return tensors: it")

            def one(out: Any) -> Any:
                rows: list[list[Any]] = []
                for e in range(out._array.size):
                    unit = np.zeros(out._array.size, out._array.dtype)
                    unit[e] = 1
                    rows.append(_gradients([out], chosen, [wrap(unit.reshape(out._array.shape))]))
                columns: list[Any] = []
                for i, t in enumerate(_leaves(chosen)):
                    shape = (*out._array.shape, *t._array.shape)
                    empty = wrap(np.zeros((0,), t._array.dtype))
                    whole = registry["stack"].call(*(r[i] for r in rows), dim=0) if rows else empty
                    columns.append(registry["reshape"].call(whole, shape=shape))
                return _fill(chosen, columns)

            jacobian = _map(one, value)
        jacobian = level.outside(jacobian)
        return (jacobian, level.outside(aux)) if has_aux else jacobian

    return run


def jacfwd(func: _Call, argnums: Any = 0, has_aux: bool = False, *, randomness: str = "error") -> _Call:
    """``jacrev``: both give the same Jacobian, and derivatives here run backward."""
    return jacrev(func, argnums, has_aux=has_aux)


def hessian(func: _Call, argnums: Any = 0) -> _Call:
    """A function that gives the Hessian of ``func``."""
    return jacfwd(jacrev(func, argnums), argnums)


def functionalize(func: _Call, *, remove: str = "mutations") -> _Call:
    """``func`` as it is: in-place writes are recorded as new values here anyway."""
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(
            "functionalize(f, remove='mutations'): received invalid argument for 'remove'. Valid options are "
            f"'mutations' and 'mutations_and_views', not {remove!r}."
        )
    return func


def stack_module_state(models: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and buffers of equal modules, each stacked along a new first axis: an ensemble for ``vmap``.

    >>> import chainrule as torch
    >>> models = [torch.nn.Linear(2, 1) for _ in range(3)]
    >>> params, buffers = torch.func.stack_module_state(models)
    >>> call = lambda p, b, x: torch.func.functional_call(models[0], (p, b), (x,))
    >>> torch.vmap(call, in_dims=(0, 0, None))(params, buffers, torch.ones(5, 2)).shape
    torch.Size([3, 5, 1])
    """
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({m.training for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if len({type(m) for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")

    def stacked(tables: list[dict[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, first in tables[0].items():
            row = [t[name] for t in tables]
            if len({t._requires for t in row}) > 1:
                raise RuntimeError(f"Expected {name} from each model to have the same .requires_grad")
            out[name] = wrap(np.stack([t._array for t in row])).requires_grad_(first._requires)
        return out

    return stacked([dict(m.named_parameters()) for m in models]), stacked([dict(m.named_buffers()) for m in models])


def replace_all_batch_norm_modules_(root: Any) -> Any:
    """Make every BatchNorm in a module use its batch's own statistics and keep none, in place; returns the module."""
    for module in root.modules():
        if hasattr(module, "track_running_stats") and "running_mean" in module._buffers:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                if name in module._buffers:
                    module._buffers[name] = None
            module.track_running_stats = False
    return root


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


def vmap(
    func: _Call, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *, chunk_size: int | None = None
) -> _Call:
    """``func`` of one example as a function of a batch (see ``graph.vmap``)."""
    from .graph.vmap import vmap

    return vmap(func, in_dims, out_dims, randomness, chunk_size=chunk_size)


def __getattr__(name: str) -> Any:
    from .core import left_out

    raise left_out.missing("torch.func", name, __all__)
