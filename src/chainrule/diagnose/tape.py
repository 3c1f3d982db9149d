"""What one forward and backward pass did, step by step, in a form that findings can be read from.

A ``Step`` is one op application that a gradient went through: its kind, its layer, its line, its values, and the norm
of the gradient at its output and of what it sent to each input. ``record`` makes them from chainrule's own graph;
``torch_tape`` makes the same from PyTorch's.

Gradients are carried as (array, exponent): after every step the array is brought to size 1 by a power of two and the
exponent remembers it. So nothing under- or overflows on the way, however deep the network, and scaling the loss by a
power of two changes no digit of any gradient's shape.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..autograd.engine import apply_rules
from ..core.locate import Place, place_of, user_frame
from ..core.node import Node
from ..core.state import state
from ..core.variable import Variable

__all__ = ["Call", "Step", "Tape", "log_norm", "record", "scaled"]

LN2 = math.log(2.0)

WEIGHT = {"linear", "conv", "matmul", "embedding", "bilinear"}
NORM = {"layer_norm", "batch_norm", "rms_norm", "group_norm", "instance_norm"}
ACTIVATION = {
    "relu",
    "sigmoid",
    "tanh",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "softsign",
    "hardtanh",
    "relu6",
    "hardsigmoid",
    "hardswish",
    "logsigmoid",
    "prelu",
    "softmax",
    "log_softmax",
    "clamp",
    "sin",
    "abs",
    "exp",
    "log",
    "sqrt",
    "square",
    "erf",
    "ndtr",
    "clamp_between",
    "maximum",
    "minimum",
    "pow",
    "where",
}
SHAPES = {
    "reshape",
    "swap",
    "permute",
    "expand",
    "getitem",
    "index",
    "cast",
    "clone",
    "sum_to",
    "boundary",
    "cat",
    "stack",
    "split",
    "unbind",
    "pad_constant",
    "view",
    "squeeze",
    "flatten",
    "gather",
    "flip",
    "roll",
}
LOSSES = {"cross_entropy", "nll", "bce", "bce_logits", "mse", "l1", "huber"}


class Call:
    """One op application of the forward pass, with or without a gradient."""

    __slots__ = ("op", "inputs", "nodes", "requires", "params", "outs", "module", "code", "lasti", "grad")

    op: str
    inputs: tuple[Any, ...]
    nodes: tuple[Any, ...]
    requires: tuple[bool, ...]
    params: dict[str, Any]
    outs: tuple[Any, ...]
    module: Any
    code: Any
    lasti: int
    grad: bool

    @property
    def place(self) -> Place | None:
        return place_of(self.code, self.lasti)


class Step:
    """One op application on the way of the gradient.

    * ``op``: chainrule's name of the op; ``kind``: weight, activation, norm, loss, shape or other.
    * ``layer``: the module's dotted name ("" outside of any named one); ``layer_type``; ``place``: the user's line.
    * ``parents[i]``: the step that made input i, the name of a parameter, or None.
    * ``inputs``, ``out``: values where they are known (arrays), else None; ``params``: settings.
    * ``total``: log ‖gradient at the output‖ (all paths together); ``sent[i]``: log ‖what went to input i‖.
    """

    __slots__ = (
        "op",
        "kind",
        "layer",
        "layer_type",
        "place",
        "parents",
        "inputs",
        "out",
        "params",
        "total",
        "sent",
        "consumers",
        "zero_rows",
        "order",
        "finite",
    )

    def __init__(self, op: str, layer: str, layer_type: str, place: Any, order: int) -> None:
        self.op, self.layer, self.layer_type, self.place, self.order = op, layer, layer_type, place, order
        self.kind = kind_of(op)
        self.parents: list[Any] = []
        self.inputs: list[Any] = []
        self.out: Any = None
        self.params: dict[str, Any] = {}
        self.total = -math.inf
        self.sent: list[float | None] = []
        self.consumers: list[Step] = []
        self.finite = True
        self.zero_rows = 0.0

    def __repr__(self) -> str:
        return f"<{self.op} in {self.layer or '·'} log|δ| {self.total:.2f}>"


def kind_of(op: str) -> str:
    """The family of an op."""
    for kind, names in (
        ("weight", WEIGHT),
        ("norm", NORM),
        ("activation", ACTIVATION),
        ("loss", LOSSES),
        ("shape", SHAPES),
    ):
        if op in names:
            return kind
    return "other"


class Tape:
    """All steps of one pass, oldest first, and what else was seen."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.calls: list[Call] = []
        self.loss: Any = None
        self.output: Any = None
        self.last: Step | None = None
        self.parameter_grads: dict[str, float] = {}
        """log ‖dL/dp‖ by parameter name, relative to the same unit as the steps' norms."""
        self.parameter_arrays: dict[str, Any] = {}
        self.called: set[str] = set()
        """Names of the modules whose forward ran."""
        self.used: set[str] = set()
        """Names of the parameters that an op read."""
        self.first_bad: Any = None
        """The first op whose result is not finite although its inputs are: (op, inputs, outs, params, layer, place)."""
        self.backward_bad: Any = None

    @property
    def weights(self) -> list[Step]:
        return [s for s in self.steps if s.kind == "weight"]


def log_norm(a: Any) -> float:
    """log of the Euclidean norm, −∞ for zero."""
    a = np.asarray(a)
    if a.size == 0:
        return -math.inf
    a = a.astype(np.float64, copy=False).ravel()
    n = float(np.sqrt(np.dot(a, a)))
    return math.log(n) if n > 0 else -math.inf


def scaled(g: Any, e: int) -> tuple[Any, int]:
    """(g, e) with the largest entry of g brought to [½, 1) by a power of two."""
    top = float(np.max(np.abs(g))) if g.size else 0.0
    if top == 0.0 or not math.isfinite(top):
        return g, e
    shift = math.frexp(top)[1]
    return (g, e) if shift == 0 else (np.ldexp(g, -shift), e + shift)


def _merge(a: tuple[Any, int], b: tuple[Any, int]) -> tuple[Any, int]:
    (x, i), (y, j) = a, b
    if i < j:
        (x, i), (y, j) = (y, j), (x, i)
    return scaled(x + np.ldexp(y, j - i), i)


class Spy:
    """A recorder (see ``core.state``) that keeps every op application with its values."""

    def __init__(self, parameters: dict[int, str]) -> None:
        self.calls: list[Call] = []
        self.values: dict[Any, Any] = {}
        self.made: dict[int, Call] = {}
        self.parameters = parameters
        self.used: set[str] = set()
        self.first_bad: Call | None = None
        self.keep: list[Any] = []
        self.original: list[Call] = []
        """For a replay: the calls that are being repeated, whose lines are the user's."""

    def record(self, op: Any, inputs: Any, params: dict[str, Any], outs: Any) -> None:
        call = Call()
        call.op, call.params, call.outs, call.module = op.name, params, outs, state.module
        call.inputs = tuple(x._array if isinstance(x, Variable) else x for x in inputs)
        call.nodes = tuple(x._node if isinstance(x, Variable) else None for x in inputs)
        call.requires = tuple(isinstance(x, Variable) and x._requires for x in inputs)
        call.grad = state.grad and op.differentiable
        frame = user_frame(sys._getframe(1))
        call.code, call.lasti = (None, 0) if frame is None else (frame.f_code, frame.f_lasti)
        if len(self.original) > len(self.calls) and self.original[len(self.calls)].op == op.name:
            was = self.original[len(self.calls)]
            call.code, call.lasti = was.code, was.lasti
        for x in inputs:
            if isinstance(x, Variable):
                self.keep.append(x)
                node = x._node
                if node is not None:
                    self.values[node] = x._array
                name = self.parameters.get(id(x._array))
                if name is not None:
                    self.used.add(name)
        for out in outs:
            if isinstance(out, np.ndarray):
                self.made[id(out)] = call
        self.calls.append(call)
        if self.first_bad is None and not finite(*outs) and finite(*call.inputs):
            self.first_bad = call

    def write(self, tensor: Any, value: Any) -> None: ...

    def leak(self, tensor: Any, what: str) -> None: ...

    def live(self, getter: Any, dtype: Any = None) -> Any:
        from ..core.variable import wrap

        current = getter()
        return current if isinstance(current, Variable) else wrap(np.asarray(current, dtype))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def finite(*arrays: Any) -> bool:
    """Whether no floating point entry is NaN or infinite (−∞ as a mask value counts as infinite)."""
    for a in arrays:
        if isinstance(a, (np.ndarray, np.floating, float)):
            b = np.asarray(a)
            if b.dtype.kind == "f" and not np.isfinite(b).all():
                return False
    return True


def reachable(root: Any) -> list[Node]:
    """All nodes behind ``root``, oldest first."""
    seen: set[Node] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if type(node) is tuple:
            node = node[0]
        if not isinstance(node, Node) or node in seen:
            continue
        seen.add(node)
        stack.extend(e for e in node.edges if e is not None)
    return sorted(seen, key=lambda n: n.seq)


def record(model: Any, forward: Any, names: dict[int, str], original: Any = None) -> Tape:
    """Run ``forward() -> (output, loss)`` and its backward pass on chainrule; ``names``: module id → dotted name.

    No ``.grad`` is touched. Exceptions of the forward pass go through.
    """
    tape = Tape()
    parameters = {id(p._array): n for n, p in model.named_parameters()}
    spy = Spy(parameters)
    spy.original = original or []
    previous = state.recorder
    state.recorder = spy
    try:
        with unfused():
            tape.output, tape.loss = forward()
    finally:
        state.recorder = previous
    tape.calls, tape.used = spy.calls, spy.used
    chain_name = _namer(names)
    for call in spy.calls:
        chain = call.module
        while chain is not None:
            m, chain = chain
            if id(m) in names:
                tape.called.add(names[id(m)])
    if spy.first_bad is not None:
        tape.first_bad = spy.first_bad
    loss = tape.loss
    if not isinstance(loss, Variable) or loss._node is None:
        return tape
    spy.values[loss._node] = loss._array
    _backward(tape, loss, spy, chain_name, parameters)
    return tape


@contextmanager
def unfused() -> Iterator[None]:
    """Whole recurrent layers run step by step, through what they are proved equal to: the gradient's way
    through time shows."""
    from ..core.op import registry
    from ..ops import rnn as ops

    kept = {name: getattr(ops, name) for name in ("rnn", "gru", "lstm")}

    def stepwise(name: str) -> Any:
        described = registry[name]
        derived: Any = described.derived
        count = derived.__code__.co_argcount

        def run(*inputs: Any, **settings: Any) -> Any:
            return derived(*inputs, *(None,) * (count - len(inputs)), **settings)

        return run

    try:
        for name in kept:
            setattr(ops, name, stepwise(name))
        yield
    finally:
        for name, call in kept.items():
            setattr(ops, name, call)


def _namer(names: dict[int, str]) -> Any:
    known: dict[int, tuple[str, str]] = {}

    def name(chain: Any) -> tuple[str, str]:
        at = chain
        while at is not None:
            m, at = at
            if names.get(id(m)):
                return names[id(m)], type(m).__name__
        return "", ""

    known.clear()
    return name


def _backward(tape: Tape, loss: Any, spy: Spy, chain_name: Any, parameters: dict[int, str]) -> None:
    nodes = reachable(loss._node)
    steps: dict[Node, Step] = {}
    for order, node in enumerate(nodes):
        layer, layer_type = chain_name(node.module)
        step = Step(node.op.name, layer, layer_type, node.place, order)
        step.params = node.params
        value = spy.values.get(node)
        call = spy.made.get(id(value)) if value is not None else None
        if call is not None and call.op == node.op.name:
            step.inputs, step.out = list(call.inputs), value
            step.place = call.place
        for edge in node.edges:
            source = edge[0] if type(edge) is tuple else edge
            if isinstance(source, Node):
                parent = steps[source]
                parent.consumers.append(step)
                step.parents.append(parent)
            elif isinstance(source, Variable):
                step.parents.append(parameters.get(id(source._array), "leaf"))
            else:
                step.parents.append(None)
        steps[node] = step
    tape.steps = [steps[n] for n in nodes]
    tape.last = tape.steps[-1]
    pending: dict[Any, Any] = {}
    grads: dict[str, tuple[Any, int]] = {}
    pending[nodes[-1] if loss._node is nodes[-1] else loss._node] = (np.ones_like(loss._array), 0)
    for node in reversed(nodes):
        step = steps[node]
        multiple = node.op.outputs != 1
        if multiple:
            parts = [pending.pop((node, i), None) for i in range(len(node.out))]
            if all(p is None for p in parts):
                continue
            top = max(p[1] for p in parts if p is not None)
            g = tuple(
                np.zeros(*o) if p is None else np.ldexp(p[0], p[1] - top) for p, o in zip(parts, node.out, strict=True)
            )
            e = top
            step.total = 0.5 * float(np.logaddexp.reduce([2 * log_norm(x) for x in g])) + e * LN2
        else:
            got = pending.pop(node, None)
            if got is None:
                continue
            g, e = got
            step.total = log_norm(g) + e * LN2
            if g.ndim > 1 and step.kind == "activation":
                step.zero_rows = float((np.abs(g).reshape(len(g), -1).max(axis=1) == 0).mean())
        found = apply_rules(node, g, "arrays")
        for edge, gi in zip(node.edges, found, strict=True):
            if gi is None:
                step.sent.append(None)
                continue
            gi = np.asarray(gi)
            if (
                tape.backward_bad is None
                and not np.isfinite(gi).all()
                and finite(*(g if isinstance(g, tuple) else (g,)))
            ):
                tape.backward_bad = (step, gi, g)
                step.finite = False
            gi, ei = scaled(gi, e)
            step.sent.append(log_norm(gi) + ei * LN2)
            if isinstance(edge, Variable):
                name = parameters.get(id(edge._array))
                if name is not None:
                    grads[name] = _merge(grads[name], (gi, ei)) if name in grads else (gi, ei)
            else:
                pending[edge] = _merge(pending[edge], (gi, ei)) if edge in pending else (gi, ei)
    for name, (g, e) in grads.items():
        tape.parameter_grads[name] = log_norm(g) + e * LN2
        tape.parameter_arrays[name] = (g, e)
