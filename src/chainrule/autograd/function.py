"""``Function``: an op of the user's own, forward and backward written out.

Each subclass is an op of its own (not in the registry), and each application a node like any other, so every reader
of the graph sees it.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import inplace
from ..core.dispatch import new_node
from ..core.dtypes import FLOATS
from ..core.op import Op, Rule, registry
from ..core.saved import pack_value, unpack_value
from ..core.state import state, tick
from ..core.untyped import LIST, TUPLE
from ..core.variable import Variable, wrap
from ..errors import GradientError, ShapeError, message

__all__ = ["Function", "FunctionCtx", "once_differentiable", "FunctionOp", "NestedIOFunction", "InplaceFunction"]


class FunctionOp(Op):
    """The op of a ``Function`` subclass: variadic, its one rule calls the class's ``backward``."""

    __slots__ = ("cls",)
    cls: Any

    @property
    def node_name(self) -> str:
        return f"{self.name}Backward"

    @property
    def fills_zeros(self) -> bool:
        return False


def _make_op(cls: Any, outputs: int | None) -> FunctionOp:
    described = FunctionOp(
        cls=cls, name=cls.__name__, body=cls.forward, call=cls.apply, signature="? -> ?", formula=f"{cls.__name__}",
        inputs=("args",), variadic=True, settings={}, residuals=(), outputs=outputs, numpy="", broadcasts=False,
        is_view=False, derived=None, kink="", samples=None, reference="", rules=[None],
    )  # fmt: skip
    rule = object.__new__(Rule)
    rule.op, rule.input, rule.fn, rule.names, rule.kinds = described, "args", _run_backward, ("ctx",), ("const",)
    rule.math = f"{cls.__name__}.backward"
    described.rules = [rule]
    return described


class _Saved:
    """One saved tensor: its array, where it came from, and when it was saved.

    An output's own tensor would refer to the node that keeps it, a cycle; so only its number is kept.
    """

    __slots__ = ("array", "tensor", "edge", "output", "time")

    def __init__(self, t: Any, output: Any) -> None:
        self.array = pack_value(t._array)
        self.output = output
        leaf = t._requires and t._node is None and output is None
        self.tensor = t if leaf else None
        self.edge = t._node if output is None and t._requires else None
        self.time = tick()

    def get(self, ctx: FunctionCtx) -> Any:
        array = unpack_value(self.array)
        found = inplace.writes_of(array)
        if found is not None and found[1] > self.time:
            inplace.raise_modified(None, "saved", array, found, ctx._name)
        if self.tensor is not None and self.tensor._array is array:
            return self.tensor
        if self.output is not None:
            node = ctx._node()
            if node is not None:
                return wrap(array, node if node.op.outputs == 1 else (node, self.output), True)
            return wrap(array)
        return wrap(array, self.edge, self.edge is not None)


class FunctionCtx:
    """What ``forward`` and ``backward`` share: saved tensors, marks, and any attribute."""

    _name = "Function"
    _node: Any = staticmethod(lambda: None)
    _to_save: tuple[Any, ...] = ()
    _saved: tuple[Any, ...] = ()
    _not_differentiable: tuple[Any, ...] = ()
    _dirty: tuple[Any, ...] = ()
    materialize_grads = True
    needs_input_grad: tuple[bool, ...] = ()
    _inputs: tuple[Any, ...] = ()
    _outputs: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors for ``backward``, which finds them in ``ctx.saved_tensors``; None may be among them."""
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Variable):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument {i} is of type {type(t).__name__}"
                )
        self._to_save = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Accepted; forward-mode derivatives are computed through the backward pass."""

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What ``save_for_backward`` was given."""
        return tuple(None if s is None else s.get(self) for s in self._saved)

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """These outputs carry no gradient."""
        self._not_differentiable = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        """These inputs were changed in place and are outputs."""
        self._dirty = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """With False, ``backward`` gets None (instead of zeros) for outputs that were not used."""
        self.materialize_grads = value


class Function:
    """A custom op: subclass it, define static ``forward`` and ``backward``, call ``apply``.

    >>> import chainrule as torch
    >>> class Cube(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return g * 3 * x * x
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    """

    generate_vmap_rule = False
    _ops: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError(
            f"{type(self)} should not be instantiated. Methods on autograd functions are all static, so you should "
            "invoke them on the class itself. Instantiating an autograd function will raise an error in a future "
            "version of PyTorch."
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the outputs: ``forward(ctx, *args)``, or ``forward(*args)`` beside ``setup_context``."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Fill ``ctx`` when ``forward`` has no ctx of its own."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """One gradient per input of ``forward`` (None for those that have none)."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    vjp = backward

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run ``forward`` and record a node whose backward is this class's."""
        ctx = FunctionCtx()
        ctx._name = f"{cls.__name__}Backward"
        for x in args:
            if isinstance(x, Variable) and x._base is not None:
                inplace.refresh(x)
        requires = state.grad and any(isinstance(x, Variable) and x._requires for x in args)
        ctx.needs_input_grad = tuple(isinstance(x, Variable) and x._requires for x in args)
        before = state.grad
        state.grad = False
        try:
            if cls.setup_context is not Function.setup_context:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args)
        finally:
            state.grad = before
        single = not isinstance(result, TUPLE)
        outputs: tuple[Any, ...] = (result,) if single else result
        for x in outputs:
            if single and not isinstance(x, Variable):
                raise TypeError(f"{cls.__name__}.forward: expected Tensor or tuple of Tensor (got {type(x).__name__})")
        return _record(cls, ctx, args, outputs, single, requires)


def _record(cls: Any, ctx: FunctionCtx, args: Any, outputs: Any, single: bool, requires: bool) -> Any:
    """Make the node, and give the outputs their place in the graph."""
    dirty = {id(t) for t in ctx._dirty}
    marked = {id(t) for t in ctx._not_differentiable}
    node = None
    if requires:
        if dirty:
            for t in ctx._dirty:
                inplace.check_writable(t)
        if "_ops" not in cls.__dict__:
            cls._ops = (_make_op(cls, 1), _make_op(cls, None))
        edges: list[Any] = []
        saved: list[Any] = []
        for x in args:
            flows = isinstance(x, Variable) and x._requires
            edges.append((x if x._node is None else x._node) if flows else None)
            saved.append((ctx,) if flows else None)
        out = tuple(
            (x._array.shape, x._array.dtype) if isinstance(x, Variable) else ((), np.dtype("f4")) for x in outputs
        )
        hooks, state.saved_hooks = state.saved_hooks, None  # ctx packs what it saves by itself
        node = new_node(cls._ops[0 if single else 1], tuple(edges), saved, None, {}, None, out[0] if single else out, 3)
        state.saved_hooks = hooks
        ctx._node = weakref.ref(node)
        ctx._inputs = tuple((x._array.shape, x._array.dtype) if isinstance(x, Variable) else None for x in args)
        ctx._outputs = out
        place = {id(x): i for i, x in enumerate(outputs) if id(x) not in marked}
        given = {id(x) for x in args}
        ctx._saved = tuple(
            None if t is None else _Saved(t, place.get(id(t)) if id(t) not in given or id(t) in dirty else None)
            for t in ctx._to_save
        )
    else:
        ctx._saved = tuple(None if t is None else _Saved(t, None) for t in ctx._to_save)
    ctx._to_save = ()
    inputs = {id(x) for x in args if isinstance(x, Variable)}
    results: list[Any] = []
    for i, x in enumerate(outputs):
        if not isinstance(x, Variable):
            results.append(x)
            continue
        if id(x) in dirty:
            inplace.touch(x._array)
            for s in ctx._saved:
                if s is not None and s.array is x._array:
                    s.time = tick()
            if node is not None:
                inplace.adopt(x, node if single else (node, i), True)
            results.append(x)
            continue
        if id(x) in inputs:  # returned as it came: an output of its own over the same memory
            x = wrap(x._array)
        elif node is not None:
            x._base = None
        if node is not None and id(outputs[i]) not in marked and x._array.dtype in FLOATS:
            x._node, x._requires = (node if single else (node, i)), True
        elif node is not None:
            x._requires = False
        results.append(x)
    return results[0] if single else tuple(results)


def _run_backward(g: Any, ctx: FunctionCtx) -> Any:
    """The rule of every FunctionOp: call the class's backward, and check what it returns."""
    node = ctx._node()
    cls, name = node.op.cls, ctx._name
    parts = g if type(g) in (tuple, list) else (g,)
    arrays = not any(isinstance(p, Variable) for p in parts) and state.recorder is None and not state.grad
    given: list[Any] = []
    for part, (shape, dtype) in zip(parts, ctx._outputs):
        if part is None:
            given.append(wrap(np.zeros(shape, dtype)) if ctx.materialize_grads else None)
        else:
            given.append(part if isinstance(part, Variable) else wrap(part))
    function = cls.backward if cls.backward is not Function.backward else cls.vjp
    found = function(ctx, *given)
    result: list[Any] = list(found) if isinstance(found, (TUPLE, LIST)) else [found]
    expected = len(ctx._inputs)
    while len(result) > expected and result[-1] is None:
        result.pop()
    if len(result) != expected:
        raise GradientError(
            message(
                f"function {name} returned an incorrect number of gradients (expected {expected}, got {len(result)})",
                "backward returns one gradient per argument of forward after ctx, None for those that have none",
            )
        )
    for i, (gi, about) in enumerate(zip(result, ctx._inputs, strict=True)):
        if gi is None or about is None:
            if gi is not None and isinstance(gi, Variable):
                raise GradientError(
                    message(
                        f"function {name} returned a gradient different from None at position {i + 1}, but the "
                        "corresponding forward input was not a Variable"
                    )
                )
            result[i] = None
            continue
        if not isinstance(gi, Variable):
            raise TypeError(f"expected Variable or None (got {type(gi).__name__})")
        result[i] = _fit(gi, about, name, i)
    if arrays:
        return [None if gi is None else gi._array for gi in result]
    return result


def _fit(gi: Any, about: tuple[Any, Any], name: str, i: int) -> Any:
    """A gradient in the shape and dtype of its input; summed down if the input would broadcast to it."""
    shape, dtype = about
    have = gi._array.shape
    if have != shape:
        try:
            expandable = np.broadcast_shapes(shape, have) == have
        except ValueError:
            expandable = False
        if not expandable:
            raise ShapeError(
                message(
                    f"Function {name} returned an invalid gradient at index {i} - got {list(have)} but expected shape "
                    f"compatible with {list(shape)}"
                )
            )
        gi = registry["sum_to"].call(gi, shape=shape)
    return gi if gi._array.dtype is dtype else registry["cast"].call(gi, dtype=dtype)


# --- once_differentiable -----------------------------------------------------------------------------------------


class _Twice(Function):
    """Stands behind gradients that must not be differentiated again."""

    @staticmethod
    def forward(ctx: Any, grads: tuple[Any, ...], *sources: Any) -> Any:
        return tuple(grads)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise GradientError(
            message("trying to differentiate twice a function that was marked with @once_differentiable")
        )


def once_differentiable(fn: Callable[..., Any]) -> Callable[..., Any]:
    """For a ``backward`` that is no differentiable computation: its result cannot be differentiated again."""

    @functools.wraps(fn)
    def wrapper(ctx: Any, *args: Any) -> Any:
        before, state.grad = state.grad, False
        try:
            outputs = fn(ctx, *args)
        finally:
            state.grad = before
        if not before or not any(isinstance(a, Variable) and a._requires for a in args):
            return outputs
        parts: tuple[Any, ...] = outputs if isinstance(outputs, TUPLE) else (outputs,)
        fresh = tuple(wrap(p._array) if isinstance(p, Variable) else p for p in parts)
        stopped = _Twice.apply(fresh, *args)
        return stopped if isinstance(outputs, tuple) else stopped[0]

    return wrapper


class InplaceFunction(Function):
    """A Function whose subclass works in place (kept for code that names it)."""


NestedIOFunction = Function
