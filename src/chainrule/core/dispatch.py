"""From an op's description to the function that people call.

``make_call`` gives an op its calling function: unwrap tensors, run the NumPy body, wrap the result, and record a node
if a gradient may be wanted. Arguments that are plain arrays (or numbers) run the body with no tape at all: this is how
backward rules, written in ops, cost nothing in a first-order backward pass.

Unary and binary ops have their own functions because a training step of a small network spends most of its time here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DtypeError
from . import dtypes
from .dtypes import BFLOAT16, FLOATS, result_dtype
from .failure import explain_failure
from .locate import internal_files, user_frame
from .node import Node
from .single import MOVES, in_single
from .state import state, tick
from .untyped import ARRAY, FLOAT
from .variable import Variable, wrap

if TYPE_CHECKING:
    from .op import Op

__all__ = ["edge_of", "make_call", "new_node", "promote", "record"]

_new = object.__new__
_frame = sys._getframe
_known = internal_files.get


def edge_of(t: Variable) -> Any:
    """What a node that reads ``t`` points to: the node that made ``t``, or ``t`` itself if it is a leaf."""
    return t if t._node is None else t._node


def _refresh(t: Variable) -> None:
    """Bring the history of a view up to date (see ``inplace``) before it is read, if its base has a new one."""
    base: Any = t._base
    if base._node is not t._seen or base._base is not None:
        from .inplace import refresh

        refresh(t)


def new_node(
    op: Op,
    edges: Any,
    saved: Any,
    consts: Any,
    params: dict[str, Any],
    shapes: Any,
    out: tuple[Any, ...],
    depth: int = 2,
) -> Node:
    """A node, stamped with the clock and the user's instruction; ``depth`` frames up, the user's code may begin."""
    node = _new(Node)
    node.op = op
    node.edges = edges
    node.saved = saved
    node.consts = consts
    node.params = params
    node.shapes = shapes
    node.out = out
    node.hooks = None
    node.seq = tick()
    # Walk out of the library's own frames. Kept as (code, offset) and resolved only when somebody asks.
    frame: Any = _frame(depth)
    known = _known
    while frame is not None and known(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is not None and known(frame.f_code.co_filename) is None:  # a file seen for the first time
        frame = user_frame(frame)
    if frame is None:
        node.code, node.lasti = None, 0
    else:
        node.code, node.lasti = frame.f_code, frame.f_lasti
    node.module = state.module
    if state.saved_hooks is not None:
        _pack(node)
    return node


def record(op: Op, inputs: Any, arrays: Any, out: Any, residuals: Any, params: dict[str, Any]) -> Node | None:
    """The node of one op application; None when no gradient can flow to any input. ``node.out`` is left to set."""
    edges: list[Any] = []
    saved: list[Any] = []
    consts: list[Any] | None = None
    rules = op.rules
    variadic = op.variadic
    flows = False
    for i, t in enumerate(inputs):
        if isinstance(t, Variable) and t._requires:
            rule = rules[0 if variadic else i]
            if rule is not None:
                edges.append(t if t._node is None else t._node)
                saved.append(None if variadic and flows else rule.save(arrays, out, residuals, params))
                flows = True
                continue
        if consts is None:
            consts = [None] * len(inputs)
        consts[i] = arrays[i]
        edges.append(None)
        saved.append(None)
    if not flows:
        return None
    return new_node(op, tuple(edges), saved, None if consts is None else tuple(consts), params, None, (), 3)


def _pack(node: Node) -> None:
    """Apply ``saved_tensors_hooks`` to what the node saved."""
    from .saved import pack

    pack(node)


def _finish(op: Op, inputs: Any, arrays: Any, result: Any, params: dict[str, Any]) -> Any:
    """Wrap what a body returned, recording a node if needed: the general path behind the fast ones."""
    n = len(op.residuals)
    multiple = op.outputs != 1
    if n:
        out = result[:-n]
        residuals = result[-n:]
        if not multiple:
            out = out[0]
    else:
        out, residuals = result, ()
    recorder = state.recorder
    node = None
    if state.grad:
        for t in inputs:
            if isinstance(t, Variable) and t._requires:
                node = record(op, inputs, arrays, out, residuals, params)
                break
    if not multiple:
        array: Any = out if type(out) is np.ndarray else np.asarray(out)
        if node is not None:
            node.out = (array.shape, array.dtype)
            if op.broadcasts:
                _note_shapes(node, arrays, array.shape)
            t = wrap(array, node, True) if array.dtype in FLOATS else wrap(array)
        else:
            t = wrap(array)
        if op.is_view:
            _mark_view(t, inputs[0], op, params)
        if recorder is not None:
            recorder.record(op, inputs, params, (t._array, *residuals))
        return t
    outs = tuple(o if type(o) is np.ndarray else np.asarray(o) for o in out)
    if node is not None:
        node.out = tuple((o.shape, o.dtype) for o in outs)
        tensors = tuple(wrap(o, (node, i), True) if o.dtype in FLOATS else wrap(o) for i, o in enumerate(outs))
    else:
        tensors = tuple(wrap(o) for o in outs)
    if op.is_view:
        for i, t in enumerate(tensors):
            _mark_view(t, inputs[0], op, params, i)
    if recorder is not None:
        recorder.record(op, inputs, params, (*outs, *residuals))
    return tensors


def _note_shapes(node: Node, arrays: Any, shape: tuple[int, ...]) -> None:
    for a in arrays:
        if getattr(a, "shape", ()) != shape:
            node.shapes = tuple(getattr(b, "shape", ()) for b in arrays)
            return


def _mark_view(t: Any, base: Any, op: Op, params: dict[str, Any], output: int | None = None) -> None:
    """Remember what ``t`` is a view of, so that in-place writes through either reach the other's history."""
    if not isinstance(base, Variable):
        return
    # NumPy views refer to the array that owns the memory; only stride tricks put something else in between.
    root, array = t._array.base, base._array
    if root is None:
        return
    if root is array or root is array.base or (type(root) is not np.ndarray and np.may_share_memory(t._array, array)):
        t._base = base
        t._view = (op, params, output)
        t._seen = base._node


def promote(operands: Any, to_float: bool = False) -> list[Any]:
    """Bring the operands to PyTorch's common dtype. Tensors are cast by a recorded op; numbers stay Python numbers.

    With ``to_float`` a common dtype that is not floating point becomes the default one (division, exp, mean …).
    """
    from .op import registry

    cast = registry["cast"].call
    target = result_dtype(*(x._array if isinstance(x, Variable) else x for x in operands if x is not None))
    if to_float and target not in FLOATS:
        target = dtypes.default.numpy
    number = {"f": float, "b": bool}.get(dtypes.kind(target), int)
    out: list[Any] = []
    for x in operands:
        if isinstance(x, Variable):
            out.append(x if x._array.dtype is target else cast(x, dtype=target))
        elif x is None:
            out.append(None)
        elif isinstance(x, ARRAY):
            t = wrap(x)
            out.append(t if x.dtype is target else cast(t, dtype=target))
        elif number is int and target.itemsize < 8:
            out.append(np.asarray(x).astype(target).item())  # wraps, as PyTorch does
        else:
            out.append(number(x))
    return out


def _exponent_fits(x: Any, y: Any) -> None:
    """An integer exponent is not wrapped to the dtype of its base: that would be another power."""
    if isinstance(x, Variable) and type(y) is int and x._array.dtype.kind in "iu":
        info = np.iinfo(x._array.dtype)
        if y < 0:
            raise DtypeError("Integers to negative integer powers are not allowed.")
        if y > info.max:
            name = dtypes.from_numpy(x._array.dtype).name
            raise DtypeError(f"value cannot be converted to type {name}_t without overflow")


def _no_bool(*operands: Any) -> None:
    """Bools are promoted before the body sees them, so their subtraction is refused here."""
    for x in operands:
        if type(x) is bool or (isinstance(x, Variable) and x._array.dtype.kind == "b"):
            raise DtypeError(
                "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a "
                "mask, use the `~` or `logical_not()` operator instead."
            )


_CHECKS: dict[str, Callable[[Any, Any], None]] = {"sub": _no_bool, "pow": _exponent_fits}
"""What must be looked at before promotion hides it."""


def _operand(x: Any) -> bool:
    """Whether arithmetic with x makes sense at all."""
    return isinstance(x, (Variable, float, int, np.generic, np.ndarray))


def _fits(number: Any, d: np.dtype[Any]) -> bool:
    """Whether NumPy treats this operand beside an array of dtype d as PyTorch does."""
    kind = type(number)  # pyright: ignore[reportUnknownVariableType]  (of Any)
    if kind is int:  # one that a small dtype may not hold is wrapped by promote()
        return d in FLOATS or (d.kind != "b" and (d.itemsize == 8 or 0 <= number < 128))
    return (kind is float and d in FLOATS) or (kind is bool and d.kind == "b")


def make_call(op: Op, promotes: str | None) -> Callable[..., Any]:
    """The calling function of an op. ``promotes`` is None, "common" or "float" (see ``promote``)."""
    simple = op.outputs == 1 and not op.residuals and not op.variadic
    if simple and len(op.inputs) == 1:
        return _unary(op, promotes)
    if simple and len(op.inputs) == 2 and not op.is_view:
        return _binary(op, promotes)
    return _general(op, promotes)


def _unary(op: Op, promotes: str | None) -> Callable[..., Any]:
    body, st, rules, to_float, is_view = op.body, state, op.rules, promotes == "float", op.is_view
    computes, low = not is_view and op.name not in MOVES, BFLOAT16

    def call(x: Any, /, **params: Any) -> Any:
        if not isinstance(x, Variable):
            return body(x, **params)
        a = x._array
        if computes:
            dtype = a.dtype
            if dtype is low:
                return in_single(op, (x,), params)
            if to_float and dtype not in FLOATS:
                (x,) = promote((x,), True)
                a = x._array
                if a.dtype is low:  # the default dtype is bfloat16
                    return in_single(op, (x,), params)
        try:
            out = body(a, **params)
        except Exception as error:
            raise explain_failure(op, (x,), params, error) from error
        if type(out) is not np.ndarray:
            out = np.asarray(out)
        if x._base is not None:
            _refresh(x)
        if x._requires and st.grad:
            rule = rules[0]
            dtype = out.dtype
            if rule is not None and dtype in FLOATS:
                edge = x._node
                node = new_node(
                    op,
                    (x if edge is None else edge,),
                    (rule.save((a,), out, (), params),),
                    None,
                    params,
                    None,
                    (out.shape, dtype),
                )
                t = wrap(out, node, True)
            else:
                t = wrap(out)
        else:
            t = wrap(out)
        if is_view:
            _mark_view(t, x, op, params)
        if st.recorder is not None:
            st.recorder.record(op, (x,), params, (out,))
        return t

    return call


def _binary(op: Op, promotes: str | None) -> Callable[..., Any]:
    body, st, rules, broadcasts = op.body, state, op.rules, op.broadcasts
    to_float = promotes == "float"
    check = _CHECKS.get(op.name)
    moves, low = op.name in MOVES, BFLOAT16

    def call(x: Any, y: Any, /, **params: Any) -> Any:
        if isinstance(x, Variable):
            a = x._array
            dtype = a.dtype
            if isinstance(y, Variable):
                b = y._array
                fits = dtype is b.dtype
            else:
                b = y
                fits = (type(y) is FLOAT and dtype in FLOATS) or _fits(y, dtype)
        elif isinstance(y, Variable):
            a, b = x, y._array
            dtype = b.dtype
            fits = _fits(x, dtype)
        else:
            return body(x, y, **params)
        if promotes and (not fits or (to_float and dtype not in FLOATS)):
            if not (_operand(x) and _operand(y)):
                return NotImplemented  # an operator's way of letting the other operand try, or Python raise
            if check is not None:
                check(x, y)
            x, y = promote((x, y), to_float)
            a = x._array if isinstance(x, Variable) else x
            b = y._array if isinstance(y, Variable) else y
            dtype = (b if a is x else a).dtype
        if dtype is low and not moves:
            return in_single(op, (x, y), params)
        try:
            out = body(a, b, **params)
        except Exception as error:
            raise explain_failure(op, (x, y), params, error) from error
        if type(out) is not np.ndarray:
            out = np.asarray(out)
        t = wrap(out)
        if st.grad:
            arrays = (a, b)
            ex = ey = sx = sy = None
            if a is not x:
                if x._base is not None:
                    _refresh(x)
                if x._requires and rules[0] is not None:
                    sx = rules[0].save(arrays, out, (), params)
                    ex = x._node
                    if ex is None:
                        ex = x
            if b is not y:
                if y._base is not None:
                    _refresh(y)
                if y._requires and rules[1] is not None:
                    sy = rules[1].save(arrays, out, (), params)
                    ey = y._node
                    if ey is None:
                        ey = y
            if (ex is not None or ey is not None) and out.dtype in FLOATS:
                consts = None if ex is not None and ey is not None else (None, b) if ey is None else (a, None)
                shape = out.shape
                shapes = None
                if broadcasts:
                    xs = a.shape if a is not x else getattr(a, "shape", ())
                    ys = b.shape if b is not y else getattr(b, "shape", ())
                    if xs != shape or ys != shape:
                        shapes = (xs, ys)
                t._node = new_node(op, (ex, ey), (sx, sy), consts, params, shapes, (shape, out.dtype))
                t._requires = True
        if st.recorder is not None:
            st.recorder.record(op, (x, y), params, (out,))
        return t

    return call


def _general(op: Op, promotes: str | None) -> Callable[..., Any]:
    """Any number of inputs and outputs. One pass over the inputs finds all that has to be known of them."""
    body, st, rules, to_float = op.body, state, op.rules, promotes == "float"
    simple = op.outputs == 1 and not op.is_view
    variadic = op.variadic
    residuals = len(op.residuals)
    low, computes = BFLOAT16, not op.is_view and op.name not in MOVES

    def call(*inputs: Any, **params: Any) -> Any:
        arrays: list[Any] = []
        requires = False
        first = None
        fits = True
        wide = True
        for x in inputs:
            if isinstance(x, Variable):
                if x._base is not None:
                    _refresh(x)
                a = x._array
                arrays.append(a)
                if x._requires:
                    requires = True
                if first is None:
                    first = a.dtype
                elif a.dtype is not first:
                    fits = False
                    if a.dtype is low:
                        wide = False
            else:
                arrays.append(x)
                if x is not None:
                    fits = False
        if first is None:  # no tensor among them
            result = body(*inputs, **params)
            return result if not residuals else result[0] if op.outputs == 1 else result[:-residuals]
        if promotes and not (fits and (not to_float or first in FLOATS)):
            inputs = tuple(promote(inputs, to_float))
            arrays = [x._array if isinstance(x, Variable) else x for x in inputs]
            first = next(x.dtype for x, t in zip(arrays, inputs, strict=True) if isinstance(t, Variable))
            wide = True  # of one dtype now
        if computes and (first is low or not wide):
            return in_single(op, inputs, params)
        try:
            result = body(*arrays, **params)
        except Exception as error:
            raise explain_failure(op, inputs, params, error) from error
        if not simple or st.recorder is not None:
            return _finish(op, inputs, arrays, result, params)
        rest: Any = ()
        if residuals:
            rest = result[1:]
            result = result[0]
        if type(result) is not np.ndarray:
            result = np.asarray(result)
        t = wrap(result)
        dtype = result.dtype
        if not requires or not st.grad or dtype not in FLOATS:
            return t
        edges: list[Any] = []
        saved: list[Any] = []
        consts: list[Any] | None = None
        flows = False
        for i, x in enumerate(inputs):
            rule = rules[0 if variadic else i]
            if rule is not None and isinstance(x, Variable) and x._requires:
                edges.append(x if x._node is None else x._node)
                saved.append(None if variadic and flows else rule.save(arrays, result, rest, params))
                flows = True
            else:
                edges.append(None)
                saved.append(None)
                if consts is None:
                    consts = [None] * len(arrays)
                consts[i] = arrays[i]
        if flows:
            shape = result.shape
            t._node = node = new_node(op, edges, saved, consts, params, None, (shape, dtype))
            t._requires = True
            if op.broadcasts:
                _note_shapes(node, arrays, shape)
        return t

    return call
