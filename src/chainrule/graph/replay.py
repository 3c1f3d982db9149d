"""The recorded graph, computed once more: every intermediate value, every gradient, and what each edge carried.

The tape keeps only what backward needs. Ops are deterministic (random masks are constants), so a reader that wants the
rest gets it by running the ops again from the leaves and constants, on tensors of its own: the user's tensors, hooks
and ``.grad`` stay untouched.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..autograd.engine import apply_rules
from ..core import inplace
from ..core.locate import Place, place_of
from ..core.node import Node
from ..core.op import Op
from ..core.state import state
from ..core.variable import Variable, wrap
from ..errors import GradientError, ModifiedError, message
from .trace import Recorder, module_name

_place = functools.lru_cache(maxsize=65536)(place_of)

__all__ = ["Edge", "Quantity", "Replay", "Step", "expanded", "reachable"]


def reachable(root: Any) -> list[Node]:
    """All nodes behind a tensor, oldest first (inputs before what is made of them)."""
    start = root._node
    seen: set[Node] = set()
    stack = [] if start is None else [start[0] if type(start) is tuple else start]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        for edge in node.edges:
            source = edge[0] if type(edge) is tuple else edge
            if isinstance(source, Node) and source not in seen:
                stack.append(source)
    return sorted(seen, key=lambda n: n.seq)


def expanded(root: Any, names: frozenset[str] = frozenset({"lstm", "gru", "rnn", "Checkpoint"})) -> Any:
    """The same graph with some shortcuts written out by what they are derived from: a recurrence, step by step.

    Gives ``root`` itself when there is nothing to write out. The new nodes keep the old ones' places and modules.
    """
    order = reachable(root)
    if not any(n.op.name in names for n in order):
        return root
    made: dict[tuple[int, int], Any] = {}
    placed: dict[int, Node] = {}
    recurrent = 0
    previous = state.grad, state.recorder, state.saved_hooks
    state.grad, state.recorder, state.saved_hooks = True, None, None
    try:
        for node in order:
            if node.saved is None:
                return root  # the replay says that it was freed
            inputs: list[Any] = []
            for i, edge in enumerate(node.edges):
                if edge is None:
                    value: Any = None if node.consts is None else node.consts[i]
                    inputs.append(wrap(value) if isinstance(value, np.ndarray) else value)
                elif isinstance(edge, Variable):
                    _check(edge._array, node)
                    inputs.append(edge)
                else:
                    source, output = edge if type(edge) is tuple else (edge, 0)
                    inputs.append(made[id(source), output])
            if node.op.name == "Checkpoint":
                result = _checkpointed(node, inputs)
            else:
                call: Any = node.op.derived if node.op.name in names and node.op.derived is not None else node.op.call
                result = call(*inputs, **node.params)
            outs = result if isinstance(result, (tuple, list)) else (result,)
            stack = [t._node[0] if type(t._node) is tuple else t._node for t in outs]
            before = len(placed)
            while stack:
                new = stack.pop()
                if not isinstance(new, Node) or new.seq <= order[-1].seq or id(new) in placed:
                    continue
                placed[id(new)] = new
                new.code, new.lasti, new.module = node.code, node.lasti, node.module
                stack += [e[0] if type(e) is tuple else e for e in new.edges if e is not None]
            if node.op.name in _PARTS:
                recurrent += 1
                several = sum(n.op.name in _PARTS for n in order) > 1
                fresh = list(placed.values())[before:]
                _name_recurrence(node.op.name, fresh, f"_l{recurrent - 1}" if several else "")
            for i, t in enumerate(outs):
                made[id(node), i] = t
    finally:
        state.grad, state.recorder, state.saved_hooks = previous
    node, i = root._node if type(root._node) is tuple else (root._node, 0)
    return made[id(node), i]


_PARTS = {
    "lstm": "linear linear add:z split sigmoid:f mul sigmoid:i tanh:g mul add:c sigmoid:o tanh mul:h",
    "gru": "linear split linear split add sigmoid:z add sigmoid:r mul add tanh:n sub mul add:h",
    "rnn": "linear linear add:z tanh|relu:h",
}
"""What the derived recurrences compute in one step, op by op, with the textbook's names."""
hints: weakref.WeakKeyDictionary[Node, str] = weakref.WeakKeyDictionary()
"""Names for nodes that no line of the user's made: the gates and states of a recurrence, h1, h2, … by step."""


def _name_recurrence(name: str, nodes: list[Node], layer: str) -> None:
    parts = [p.partition(":") for p in _PARTS[name].split()]
    at, step = 0, 1
    for node in sorted(nodes, key=lambda n: n.seq):
        for k in range(len(parts)):
            kinds, _, wish = parts[(at + k) % len(parts)]
            if node.op.name in kinds.split("|"):
                step += (at + k) // len(parts)
                at = (at + k) % len(parts) + 1
                if wish:
                    hints[node] = f"{wish}{step}{layer}"
                break


def _checkpointed(node: Node, inputs: list[Any]) -> Any:
    """What a checkpoint hides: its function, run again with its graph kept (and the same random numbers)."""
    forward = inspect.getclosurevars(getattr(node.op, "cls").forward).nonlocals  # noqa: B009
    before = inspect.getclosurevars(getattr(node.op, "cls").backward).nonlocals.get("before")  # noqa: B009
    arguments = list(forward["args"])
    for i, t in zip(forward["places"], inputs[1:], strict=True):  # the first input is the anchor
        arguments[i] = t
    if before is None:
        return forward["function"](*arguments, **forward["kwargs"])
    from ..core.rng import default_generator

    now = default_generator.get_state()
    default_generator.set_state(before)
    try:
        return forward["function"](*arguments, **forward["kwargs"])
    finally:
        default_generator.set_state(now)


class Edge(NamedTuple):
    """Input ``i`` of the step ``step`` reads a quantity; ``array`` is the gradient that it sends back there."""

    step: Step
    i: int


class Step:
    """One op application of the graph, with its values.

    * ``node``: the recorded node; ``args``: its inputs (keys of quantities, or constants).
    * ``outs``: the keys of its outputs; ``sent[i]``: the gradient it sends to input i, None where none flows.
    * ``unplaced``: made by a rule while differentiating, so that no line of the user's computes it.
    """

    __slots__ = ("args", "fresh", "index", "module", "node", "outs", "sent", "unplaced")

    def __init__(self, node: Node, index: int) -> None:
        self.node = node
        self.index = index
        self.fresh: Any = None
        self.args: list[Any] = []
        self.outs: list[Quantity] = []
        self.sent: list[Any] = []
        self.module = ""
        self.unplaced = False

    @property
    def op(self) -> Op:
        return self.node.op

    @property
    def out(self) -> Quantity:
        return self.outs[0]

    @property
    def place(self) -> Place | None:
        """The user's line, resolved once per instruction."""
        return None if self.unplaced else _place(self.node.code, self.node.lasti)

    def __repr__(self) -> str:
        return f"<step {self.index}: {self.op.name}>"


class Quantity:
    """A tensor of the graph: a leaf, a constant, or an output of a step.

    ``array`` is its value, ``grad`` the derivative of the root with respect to it (None where none flows),
    ``readers`` the edges that read it, oldest first.
    """

    __slots__ = ("array", "const", "grad", "leaf", "maker", "name", "output", "readers", "tensor")

    def __init__(self, array: Any, maker: Step | None = None, output: int = 0, leaf: Any = None) -> None:
        self.array = array
        self.maker = maker
        self.output = output
        self.leaf = leaf
        self.const = maker is None and leaf is None
        self.name: str | None = None
        self.grad: Any = None
        self.readers: list[Edge] = []
        self.tensor: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __repr__(self) -> str:
        return f"<{self.name or '?'} {self.array.shape}>"


class Replay:
    """The graph behind ``root``, replayed: ``steps`` oldest first, ``leaves``, ``consts``, and the ``root`` quantity.

    With ``backward`` the gradients too, by the engine's own rules in the engine's own order, so that they are the
    same bits. With ``recorder`` all of it is recorded as a program; ``boundary`` is then the number of its
    instructions that belong to the forward part, and gradients are tensors.

    Raises:
        GradientError: when the graph was freed, or there is none.
        ModifiedError: when a leaf or constant was changed since it was used.
    """

    def __init__(self, root: Any, *, seed: Any = None, backward: bool = True, recorder: Recorder | None = None) -> None:
        if not isinstance(root, Variable):
            raise TypeError(f"a tensor is needed whose gradient can be explained, not {type(root).__name__}")
        if root._base is not None:
            inplace.refresh(root)
        if not root._requires:
            raise GradientError(
                message(
                    "this tensor has no graph: nothing it was computed from requires grad",
                    f"it has shape {tuple(root.shape)}",
                    fix="Set requires_grad=True on the tensors to differentiate by, before computing with them; "
                    "why_no_grad(loss, x) names the place where the graph was cut.",
                )
            )
        if seed is None and root._array.size != 1:
            raise GradientError(
                message(
                    "grad can be implicitly created only for scalar outputs",
                    f"the tensor has shape {tuple(root.shape)}",
                    fix="Choose an entry or reduce it: loss.sum(), or y[0].",
                )
            )
        self.tensor = root
        self.steps: list[Step] = []
        self.leaves: list[Quantity] = []
        self.consts: list[Quantity] = []
        self.of_leaf: dict[int, Quantity] = {}
        self.of_const: dict[int, Quantity] = {}
        self.of_node: dict[tuple[int, int], Quantity] = {}
        self._modules: dict[int, str] = {}
        self.recorder = recorder
        self.boundary = 0
        previous = state.grad, state.recorder, state.saved_hooks, state.module, state.anomaly, state.inference
        state.grad, state.recorder, state.saved_hooks, state.module = True, recorder, None, None
        state.anomaly = state.inference = False
        try:
            for index, node in enumerate(reachable(root)):
                self._run(node, index)
            if root._node is None:
                self.root = self._leaf(root)
            else:
                node, i = root._node if type(root._node) is tuple else (root._node, 0)
                self.root = self.of_node[id(node), i]
            if recorder is not None:
                self.boundary = len(recorder.program.instrs)
            if backward:
                state.grad = False
                start = np.ones(self.root.array.shape, self.root.array.dtype) if seed is None else seed
                self._backward(start)
        finally:
            state.grad, state.recorder, state.saved_hooks, state.module, state.anomaly, state.inference = previous

    # --- forward ----------------------------------------------------------------------------------------------

    def _run(self, node: Node, index: int) -> None:
        if node.saved is None:
            place = node.place
            raise GradientError(
                message(
                    "the graph was freed by an earlier backward, so its values are gone",
                    at=place,
                    source=place.source if place else "",
                    fix="Call loss.backward(retain_graph=True), or ask before backward.",
                )
            )
        step = Step(node, index)
        if node.module is not None:
            key = id(node.module[0])
            if key not in self._modules:
                self._modules[key] = module_name(node.module)
            step.module = self._modules[key]
        tensors: list[Any] = []
        for i, edge in enumerate(node.edges):
            if edge is None:
                value: Any = None if node.consts is None else node.consts[i]
                if isinstance(value, np.ndarray):
                    q = self._const(value, node)
                    step.args.append(q)
                    tensors.append(q.tensor)
                    q.readers.append(Edge(step, i))
                else:
                    step.args.append(value)
                    tensors.append(value)
                continue
            if isinstance(edge, Variable):
                _check(edge._array, node)
                q = self._leaf(edge)
            else:
                source, output = edge if type(edge) is tuple else (edge, 0)
                q = self.of_node[id(source), output]
            q.readers.append(Edge(step, i))
            step.args.append(q)
            tensors.append(q.tensor)
        recorder = self.recorder
        if recorder is not None:
            recorder.at = (step.place, step.module)
        result = node.op.call(*tensors, **node.params)
        outs = result if isinstance(result, (tuple, list)) else (result,)
        for i, t in enumerate(outs):
            q = Quantity(t._array, step, i)
            q.tensor = t
            self.of_node[id(node), i] = q
            step.outs.append(q)
        made = next((t._node for t in outs if t._node is not None), None)
        step.fresh = made[0] if type(made) is tuple else made
        self.steps.append(step)

    def _leaf(self, tensor: Any) -> Quantity:
        q = self.of_leaf.get(id(tensor))
        if q is None:
            q = self.of_leaf[id(tensor)] = Quantity(tensor._array, leaf=tensor)
            q.tensor = wrap(tensor._array, None, True)
            self.leaves.append(q)
        return q

    def _const(self, array: Any, node: Node) -> Quantity:
        _check(array, node)
        q = self.of_const.get(id(array))
        if q is None:
            q = self.of_const[id(array)] = Quantity(array)
            q.tensor = wrap(array)
            self.consts.append(q)
        return q

    # --- backward ---------------------------------------------------------------------------------------------

    def _backward(self, seed: Any) -> None:
        for _ in self.walk(seed):
            pass

    def walk(self, seed: Any) -> Iterator[tuple[Step, Any, list[Any]]]:
        """The chain rule, one step at a time, newest first: the step, the gradient that arrived, what it sends on."""
        traced = self.recorder is not None
        self.root.grad = wrap(seed) if traced else seed
        for step in reversed(self.steps):
            incoming = [q.grad for q in step.outs]
            if all(g is None for g in incoming) or step.fresh is None:
                continue
            if step.op.outputs != 1:
                for q in step.outs:
                    if q.grad is None:
                        zero = np.zeros(q.array.shape, q.array.dtype)
                        q.grad = wrap(zero) if traced else zero
                g: Any = tuple(q.grad for q in step.outs)
            else:
                g = incoming[0]
            if traced and self.recorder is not None:
                self.recorder.at = (step.place, step.module)
            step.sent = apply_rules(step.fresh, g, "traced" if traced else "arrays")
            for q, gi in zip(step.args, step.sent, strict=True):
                if gi is not None:
                    q.grad = gi if q.grad is None else q.grad + gi
            yield step, g, step.sent

    # --- finding things ---------------------------------------------------------------------------------------

    def quantity(self, tensor: Any) -> Quantity | None:
        """The quantity that a tensor of the user stands for; None when the root was not computed from it."""
        if tensor._base is not None:
            inplace.refresh(tensor)
        if tensor._node is not None:
            node, i = tensor._node if type(tensor._node) is tuple else (tensor._node, 0)
            return self.of_node.get((id(node), i))
        found = self.of_leaf.get(id(tensor))
        return found if found is not None else self.of_const.get(id(tensor._array))

    def quantities(self) -> Iterator[Quantity]:
        """Leaves, constants, then outputs in order."""
        yield from self.leaves
        yield from self.consts
        for step in self.steps:
            yield from step.outs


def _check(array: Any, node: Node) -> None:
    """Raise if an array that the replay starts from has been changed since ``node`` read it."""
    if inplace.clock.last <= node.seq:
        return
    found = inplace.written(inplace.owner(array))
    if found is not None and found[1] > node.seq:
        made, changed = node.place, place_of(found[3], found[4])
        details = [f"{node.op.name} read it at {made}: {made.source}" if made else f"{node.op.name} read it"]
        if changed is not None:
            details.append(f"it was changed at {changed}: {changed.source}")
        raise ModifiedError(
            message(
                f"a tensor of shape {tuple(array.shape)} that the graph starts from was changed in place since, so its "
                "values cannot be computed again",
                *details,
                fix="Ask before the update (before optimizer.step()).",
            )
        )
