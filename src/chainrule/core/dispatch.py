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

from . import dtypes
from .dtypes import FLOATS, result_dtype
from .failure import explain_failure
from .locate import _internal, user_frame
from .node import Node
from .state import state, tick
from .variable import Variable, wrap

if TYPE_CHECKING:
    from .op import Op

__all__ = ["make_call", "record", "edge_of"]

_new = object.__new__
_frame = sys._getframe


def edge_of(t: Variable) -> Any:
    """What a node that reads ``t`` points to: the node that made ``t``, or ``t`` itself if it is a leaf."""
    if t._base is not None:
        from .inplace import refresh

        refresh(t)
    return t if t._node is None else t._node


def record(op: Op, inputs: Any, arrays: Any, out: Any, residuals: Any, params: dict[str, Any]) -> Node:
    """Make the node of one op application. Called only when some input requires grad."""
    edges: list[Any] = []
    saved: list[Any] = []
    consts: list[Any] | None = None
    rules = op.rules
    variadic = op.variadic
    for i, t in enumerate(inputs):
        if isinstance(t, Variable) and t._requires:
            rule = rules[0 if variadic else i]
            if rule is not None:
                # edge_of, inlined
                if t._base is not None:
                    edges.append(edge_of(t))
                else:
                    edges.append(t if t._node is None else t._node)
                saved.append(rule.save(arrays, out, residuals, params) if not (variadic and saved) else None)
                continue
        if consts is None:
            consts = [None] * len(inputs)
        consts[i] = arrays[i]
        edges.append(None)
        saved.append(None)
    node = _new(Node)
    node.op = op
    node.edges = tuple(edges)
    node.saved = saved
    node.consts = None if consts is None else tuple(consts)
    node.params = params
    node.shapes = None
    node.hooks = None
    node.seq = tick()
    # The user's instruction: walk out of the library's own frames. Kept as (code, offset), resolved on demand.
    frame: Any = _frame(2)
    known = _internal.get
    while frame is not None and known(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is not None and frame.f_code.co_filename not in _internal:
        frame = user_frame(frame)
    if frame is None:
        node.code, node.lasti = None, 0
    else:
        node.code, node.lasti = frame.f_code, frame.f_lasti
    node.module = state.module
    return node


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
    if state.grad and not state.inference:
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
    if isinstance(base, Variable) and np.may_share_memory(t._array, base._array):
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
    number = {"f": float, "b": bool}.get(target.kind, int)
    out: list[Any] = []
    for x in operands:
        if isinstance(x, Variable):
            out.append(x if x._array.dtype is target else cast(x, dtype=target))
        elif x is None:
            out.append(None)
        elif isinstance(x, np.ndarray):
            out.append(wrap(x.astype(target)))
        else:
            out.append(number(x))
    return out


def _fits(number: Any, d: np.dtype[Any]) -> bool:
    """Whether NumPy treats this operand beside an array of dtype d as PyTorch does."""
    kind = type(number)
    return (kind is float and d in FLOATS) or (kind is int and d.kind != "b") or kind is bool


def make_call(op: Op, promotes: str | None) -> Callable[..., Any]:
    """The calling function of an op. ``promotes`` is None, "common" or "float" (see ``promote``)."""
    simple = op.outputs == 1 and not op.residuals and not op.is_view and not op.variadic
    if simple and len(op.inputs) == 1:
        return _unary(op, promotes)
    if simple and len(op.inputs) == 2:
        return _binary(op, promotes)
    return _general(op, promotes)


def _unary(op: Op, promotes: str | None) -> Callable[..., Any]:
    body, st, to_float = op.body, state, promotes == "float"

    def call(x: Any, /, **params: Any) -> Any:
        if not isinstance(x, Variable):
            return body(x, **params)
        a = x._array
        if to_float and a.dtype not in FLOATS:
            (x,) = promote((x,), True)
            a = x._array
        try:
            out = body(a, **params)
        except Exception as error:
            raise explain_failure(op, (x,), params, error) from error
        if st.recorder is not None:
            return _finish(op, (x,), (a,), out, params)
        if type(out) is not np.ndarray:
            out = np.asarray(out)
        if x._requires and st.grad and out.dtype in FLOATS:
            node = record(op, (x,), (a,), out, (), params)
            node.out = (out.shape, out.dtype)
            return wrap(out, node, True)
        return wrap(out)

    return call


def _binary(op: Op, promotes: str | None) -> Callable[..., Any]:
    body, st, broadcasts = op.body, state, op.broadcasts
    to_float = promotes == "float"

    def call(x: Any, y: Any, /, **params: Any) -> Any:
        if isinstance(x, Variable):
            a = x._array
            if isinstance(y, Variable):
                b = y._array
                fits = a.dtype is b.dtype
            else:
                b = y
                fits = (type(y) is float and a.dtype in FLOATS) or _fits(y, a.dtype)
        elif isinstance(y, Variable):
            a, b = x, y._array
            fits = _fits(x, b.dtype)
        else:
            return body(x, y, **params)
        if promotes and not (fits and not (to_float and (x if b is y else y)._array.dtype not in FLOATS)):
            x, y = promote((x, y), to_float)
            a = x._array if isinstance(x, Variable) else x
            b = y._array if isinstance(y, Variable) else y
        try:
            out = body(a, b, **params)
        except Exception as error:
            raise explain_failure(op, (x, y), params, error) from error
        if st.recorder is not None:
            return _finish(op, (x, y), (a, b), out, params)
        if type(out) is not np.ndarray:
            out = np.asarray(out)
        if (
            st.grad
            and ((isinstance(x, Variable) and x._requires) or (isinstance(y, Variable) and y._requires))
            and out.dtype in FLOATS
        ):
            node = record(op, (x, y), (a, b), out, (), params)
            node.out = (out.shape, out.dtype)
            if broadcasts:
                _note_shapes(node, (a, b), out.shape)
            return wrap(out, node, True)
        return wrap(out)

    return call


def _general(op: Op, promotes: str | None) -> Callable[..., Any]:
    body = op.body

    def call(*inputs: Any, **params: Any) -> Any:
        for x in inputs:
            if isinstance(x, Variable):
                break
        else:
            result = body(*inputs, **params)
            n = len(op.residuals)
            return result if not n else result[0] if op.outputs == 1 else result[:-n]
        if promotes:
            inputs = promote(inputs, promotes == "float")
        arrays = [x._array if isinstance(x, Variable) else x for x in inputs]
        try:
            result = body(*arrays, **params)
        except Exception as error:
            raise explain_failure(op, inputs, params, error) from error
        return _finish(op, inputs, arrays, result, params)

    return call
