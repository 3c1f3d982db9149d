"""The backward pass: visit the graph from the outputs, newest node first, and apply each op's rules.

Nodes are numbered by one clock, and what an op reads is older than what it makes: taking the newest node that a
gradient has arrived at is a topological order. No recursion, no search of the graph beforehand, and each node's saved
values are let go as soon as its rules have run.

In a first-order pass the rules run on plain arrays, hence with no tape. With ``create_graph`` (or while a program is
being traced) they run on tensors that stand where the saved values stood in the graph, and the same rules build the
graph of the gradient.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np

from ..core import inplace
from ..core.hooks import NodeHooks
from ..core.live import gradient_read
from ..core.node import Node
from ..core.op import Rule, registry
from ..core.saved import unpack_saved
from ..core.state import state
from ..core.untyped import TUPLE
from ..core.variable import Variable, wrap
from ..errors import GradientError, message

__all__ = ["queue_callback", "run_backward", "NodeHooks", "node_hooks", "apply_rules"]

_refs = sys.getrefcount


_callbacks: list[Callable[[], Any]] = []


def queue_callback(callback: Callable[[], Any]) -> None:
    """Call ``callback()`` once, when the backward pass that is running ends."""
    _callbacks.append(callback)


def node_hooks(node: Node) -> NodeHooks:
    """The node's hooks, made on first use."""
    if node.hooks is None:
        node.hooks = NodeHooks()
    return node.hooks


def _reachable(roots: Sequence[Any]) -> list[Node]:
    """All nodes behind the roots, oldest first."""
    seen: set[Node] = set()
    stack: list[Any] = [r for r in roots if r is not None]
    while stack:
        node: Any = stack.pop()
        if type(node) is TUPLE:
            node = node[0]
        if node in seen:
            continue
        seen.add(node)
        for edge in node.edges:
            if edge is not None:
                if isinstance(edge, Node):
                    if edge not in seen:
                        stack.append(edge)
                elif type(edge) is TUPLE:
                    stack.append(edge)
    return sorted(seen, key=_by_seq)


def _by_seq(node: Node) -> int:
    return node.seq


def _on_the_way(order: list[Node], targets: set[int]) -> set[Node]:
    """The nodes of ``order`` (oldest first) from which one of the targets (ids of leaves or nodes) can be reached."""
    useful: set[Node] = set()
    for node in order:
        if id(node) in targets:
            useful.add(node)
            continue
        for edge in node.edges:
            if edge is None:
                continue
            source: Any = edge[0] if type(edge) is TUPLE else edge
            if id(source) in targets or (isinstance(source, Node) and source in useful):
                useful.add(node)
                break
    return useful


def _freed(node: Node) -> GradientError:
    place = node.place
    return GradientError(
        message(
            "Trying to backward through the graph a second time (or directly access saved tensors after they have "
            "already been freed). Saved intermediate values of the graph are freed when you call .backward() or "
            "autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time or "
            "if you need to access saved tensors after calling backward.",
            f"the first freed node is {node.op.name}",
            at=place,
            source=place.source if place else "",
            fix="Call the first backward with retain_graph=True.",
        )
    )


def _stand_in(value: Any, edge: Any) -> Any:
    """A tensor for a saved input, at the place in the graph where the input stood."""
    if not isinstance(value, np.ndarray):
        return value
    if edge is None:
        return wrap(value)
    if isinstance(edge, Variable):
        return edge if edge._array is value else wrap(value)
    return wrap(value, edge, True)


def _unpack(node: Node, rule: Rule, values: tuple[Any, ...], linked: bool) -> list[Any]:
    """Saved values as tensors: linked into the graph (create_graph), or merely wrapped (tracing)."""
    out: list[Any] = []
    for kind, value in zip(rule.kinds, values, strict=True):
        if kind == "inputs":
            edges = node.edges if linked else (None,) * len(value)
            out.append(tuple(_stand_in(v, e) for v, e in zip(value, edges, strict=True)))
        elif kind == "out" and type(value) is TUPLE:  # several outputs
            out.append(tuple(wrap(v, (node, i), True) if linked else wrap(v) for i, v in enumerate(value)))
        elif kind == "out":
            out.append(wrap(value, node, True) if linked else wrap(value))
        elif kind == "const":
            out.append(wrap(value) if isinstance(value, np.ndarray) else value)
        else:
            out.append(_stand_in(value, node.edges[kind] if linked else None))
    return out


def _derived_gradients(node: Node, g: Any) -> list[Any]:
    """Gradients of a shortcut through the composite that it is a closed form of: valid at every order."""
    op, inputs = node.op, list[Any]()
    arrays = _saved_inputs(node)
    for array, edge in zip(arrays, node.edges, strict=True):
        inputs.append(_stand_in(array, edge))
    derived: Any = op.derived
    wanted = [i for i, e in enumerate(node.edges) if e is not None]
    # Detached leaves would lose the link to the graph, so differentiate with respect to fresh identity nodes.
    with_identity = [registry["clone"].call(t) if i in wanted else t for i, t in enumerate(inputs)]
    out = derived(*with_identity, **node.params)
    outs, gs = ([out], [g]) if op.outputs == 1 else (list(out), list(g))
    found = run_backward(outs, gs, inputs=[with_identity[i] for i in wanted], create_graph=True, allow_unused=True)
    gradients: list[Any] = [None] * len(inputs)
    for i, gradient in zip(wanted, found, strict=True):
        gradients[i] = gradient
    return gradients


def _saved_inputs(node: Node) -> list[Any]:
    """The inputs' arrays, from what the rules saved and the constants."""
    arrays: list[Any] = [None] * len(node.edges)
    if node.consts is not None:
        arrays = list(node.consts)
    for i, values in enumerate(node.saved or ()):
        rule = node.op.rules[0 if node.op.variadic else i]
        if values is None or rule is None:
            continue
        for kind, value in zip(rule.kinds, values, strict=True):
            if type(kind) is int:
                arrays[kind] = value
            elif kind == "inputs":
                arrays = list(value)
    return arrays


def apply_rules(node: Node, g: Any, mode: str) -> list[Any]:
    """One step of the chain rule: the gradients of the inputs of ``node``, None where none flows.

    ``mode``: "arrays" (first order: g and the result are arrays), "linked" (create_graph) or "traced".
    """
    saved, op, edges = node.saved, node.op, node.edges
    if saved is None:
        raise _freed(node)
    if node.hooks is not None and node.hooks.packed:
        saved = unpack_saved(saved)
    if inplace.clock.last > node.seq:
        inplace.check_unmodified(node)
    rules = op.rules
    shapes = node.shapes
    if mode == "linked" and op.derived is not None and op.residuals:
        return _derived_gradients(node, g)
    if op.variadic:
        rule: Any = rules[0]
        values = next(v for v in saved if v is not None)
        if mode != "arrays":
            values = _unpack(node, rule, values, mode == "linked")
        gradients = list(rule.fn(g, *values))
        return [gi if e is not None else None for gi, e in zip(gradients, edges, strict=True)]
    out: list[Any] = []
    for i, edge in enumerate(edges):
        if edge is None:
            out.append(None)
            continue
        rule = rules[i]
        values = saved[i]
        if mode != "arrays":
            values = _unpack(node, rule, values, mode == "linked")
        gi = rule.fn(g, *values)
        if shapes is not None and gi is not None and gi.shape != shapes[i]:
            gi = _sum_to(gi, shapes[i])
        out.append(gi)
    return out


def _sum_to(g: Any, shape: tuple[int, ...]) -> Any:
    """Undo broadcasting: the one place where the engine sums a gradient back to its input's shape."""
    return registry["sum_to"].call(g, shape=shape)


def _zeros(out: tuple[Any, Any], mode: str) -> Any:
    z = np.zeros(*out)
    return z if mode == "arrays" else wrap(z)


class _Collector:
    """Gradients on their way: what has arrived so far at nodes, at outputs of many-output nodes, and at leaves.

    ``heap`` holds the nodes that something has arrived at, newest first. Popping the newest is popping a node that
    nothing more can arrive at: whoever would send to it is newer, and so would have been popped before.
    """

    __slots__ = ("heap", "nodes", "parts", "leaves")

    def __init__(self) -> None:
        self.heap: list[tuple[int, Node]] = []
        self.nodes: dict[Node, Any] = {}
        self.parts: dict[Node, list[Any]] = {}
        self.leaves: dict[int, list[Any]] = {}

    def send(self, edge: Any, g: Any) -> None:
        """Add a contribution to what is collected at the far end of an edge."""
        if isinstance(edge, Node):
            seen = self.nodes.get(edge)
            if seen is None:
                self.nodes[edge] = g
                heappush(self.heap, (-edge.seq, edge))
            else:
                self.nodes[edge] = seen + g
        elif type(edge) is TUPLE:
            node, i = edge
            parts = self.parts.get(node)
            if parts is None:
                parts = self.parts[node] = [None] * len(node.out)
                heappush(self.heap, (-node.seq, node))
            parts[i] = g if parts[i] is None else parts[i] + g
        else:
            entry = self.leaves.get(id(edge))
            if entry is None:
                self.leaves[id(edge)] = [edge, g]
            else:
                entry[1] = entry[1] + g


def run_backward(
    roots: Sequence[Any],
    gradients: Sequence[Any],
    *,
    inputs: Sequence[Any] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> list[Any]:
    """Propagate ``gradients`` (tensors or arrays, one per root) to the leaves, or return those of ``inputs``."""
    retain = create_graph if retain_graph is None else retain_graph
    mode = "linked" if create_graph else "traced" if state.recorder is not None else "arrays"
    collector = _Collector()
    captures: dict[Any, int] = {}
    found: list[Any] = []
    useful: set[Node] | None = None
    if inputs is not None:
        found = [None] * len(inputs)
        captures = {_key(t): k for k, t in reversed(list(enumerate(inputs)))}
        starts = [r._node for r in roots if r._node is not None]
        useful = _on_the_way(_reachable(starts), {key if type(key) is int else key[0] for key in captures})
    for root, g in zip(roots, gradients, strict=True):
        if mode == "arrays":
            g = g._array if isinstance(g, Variable) else g
        elif not isinstance(g, Variable):
            g = wrap(g)
        collector.send(root if root._node is None else root._node, g)
        del g
    previous = state.grad
    state.grad = create_graph
    try:
        if mode == "arrays" and inputs is None and not state.anomaly:
            _first_order(collector, retain)
        else:
            _any_order(collector, retain, mode, captures, found, useful)
        _settle_leaves(collector.leaves, captures, found, mode, collect=inputs is not None)
    finally:
        state.grad = previous
        if _callbacks:
            due, _callbacks[:] = list(_callbacks), []
            for callback in due:
                callback()
    if inputs is not None:
        found = [found[captures[_key(t)]] for t in inputs]  # the same tensor may be asked for twice
        if not allow_unused and any(g is None for g in found):
            k = next(i for i, g in enumerate(found) if g is None)
            raise GradientError(
                message(
                    f"The differentiated Tensor at index {k} appears to not have been used in the graph. "
                    "Set allow_unused=True if this is the desired behavior.",
                    f"input {k} has shape {tuple(inputs[k].shape)}",
                )
            )
    return found


def _key(t: Any) -> Any:
    """What identifies the place of a tensor in the graph."""
    node = t._node
    return id(t) if node is None else (id(node[0]), node[1]) if type(node) is TUPLE else id(node)


def _first_order(collector: _Collector, retain: bool) -> None:
    """The pass that training makes: on arrays, into ``.grad``. The common node is handled right here."""
    heap, nodes, leaves, send = collector.heap, collector.nodes, collector.leaves, collector.send
    clock, push, pop = inplace.clock, heappush, heappop
    while heap:
        node = pop(heap)[1]
        op = node.op
        if op.outputs != 1 or node.hooks is not None or op.variadic:
            parts = collector.parts.pop(node, None) if op.outputs != 1 else nodes.pop(node)
            for edge, gi in zip(node.edges, _general_step(node, parts, "arrays", {}, []), strict=True):
                if gi is not None:
                    send(edge, gi)
            del parts
        else:
            g = nodes.pop(node)
            saved = node.saved
            if saved is None:
                raise _freed(node)
            if clock.last > node.seq:
                inplace.check_unmodified(node)
            shapes = node.shapes
            rules = op.rules
            i = -1
            for edge in node.edges:
                i += 1
                if edge is None:
                    continue
                gi = rules[i].fn(g, *saved[i])  # pyright: ignore[reportOptionalMemberAccess]  (an edge has a rule)
                if gi is None:
                    continue
                if shapes is not None and gi.shape != shapes[i]:
                    gi = _sum_to(gi, shapes[i])
                # send(), inlined for the first gradient that arrives at a node or leaf
                if isinstance(edge, Node):
                    if edge not in nodes:
                        nodes[edge] = gi
                        push(heap, (-edge.seq, edge))
                        continue
                elif type(edge) is not TUPLE and id(edge) not in leaves:  # pyright: ignore[reportUnknownArgumentType]
                    leaves[id(edge)] = [edge, gi]
                    continue
                send(edge, gi)
            del g
        gi = None
        if not retain:
            node.saved = None
            node.consts = None


def _any_order(
    collector: _Collector, retain: bool, mode: str, captures: dict[Any, int], found: list[Any], useful: set[Node] | None
) -> None:
    """The general pass: gradients of chosen tensors, gradients that are graphs themselves, traced programs."""
    while collector.heap:
        node = heappop(collector.heap)[1]
        g = collector.parts.pop(node) if node.op.outputs != 1 else collector.nodes.pop(node)
        if useful is not None and node not in useful:
            continue
        for edge, gi in zip(node.edges, _general_step(node, g, mode, captures, found), strict=True):
            if gi is not None:
                collector.send(edge, gi)
        if not retain:
            node.saved = None
            node.consts = None


def _general_step(node: Node, g: Any, mode: str, captures: dict[Any, int], found: list[Any]) -> list[Any]:
    """One node with everything that may be attached to it: hooks, captured gradients, several outputs, anomaly mode."""
    hooks = node.hooks
    multiple = node.op.outputs != 1
    if hooks is not None:
        g = _run_output_hooks(hooks, g, multiple, mode)
    if captures:
        key = id(node)
        if multiple:
            for i, part in enumerate(g):
                if (key, i) in captures:
                    found[captures[key, i]] = part
        elif key in captures:
            found[captures[key]] = g
    if multiple and node.op.fills_zeros:
        g = tuple(_zeros(o, mode) if part is None else part for part, o in zip(g, node.out, strict=True))
    if hooks is not None and hooks.pre:
        g = _run_pre_hooks(hooks, g, mode)
    step = apply_rules(node, g, mode)
    if hooks is not None and hooks.post:
        step = _run_node_hooks(hooks, step, g, mode)
    if state.anomaly:
        _check_anomaly(node, step)
    return step


def _run_pre_hooks(hooks: NodeHooks, g: Any, mode: str) -> Any:
    parts: tuple[Any, ...] = g if isinstance(g, TUPLE) else (g,)
    for hook in list(hooks.pre.values()):
        changed: Any = hook(tuple(x if isinstance(x, Variable) else wrap(x) for x in parts))
        if changed is not None:
            changed = changed if isinstance(changed, TUPLE) else (changed,)
            parts = tuple(c._array if mode == "arrays" else c for c in changed)
    return tuple(parts) if isinstance(g, tuple) else parts[0]


def _run_output_hooks(hooks: NodeHooks, g: Any, multiple: bool, mode: str) -> Any:
    parts = list(g) if multiple else [g]
    for i, part in enumerate(parts):
        if part is None:
            continue
        for hook in list(hooks.outputs.get(i, {}).values()):
            part = _call_hook(hook, part, mode)
        keeper = hooks.retained.get(i)
        tensor = keeper() if keeper is not None else None
        if tensor is not None:
            kept = part if isinstance(part, Variable) else wrap(np.array(part))
            tensor._grad = kept if tensor._grad is None else tensor._grad + kept
        parts[i] = part
    return parts if multiple else parts[0]


def _call_hook(hook: Callable[[Any], Any], g: Any, mode: str) -> Any:
    seen = g if isinstance(g, Variable) else wrap(g)
    changed = hook(seen)
    if changed is None:
        return seen if mode != "arrays" else seen._array
    if not isinstance(changed, Variable):
        raise TypeError(f"a gradient hook must return a tensor or None, not {type(changed).__name__}")
    return changed if mode != "arrays" else changed._array


def _run_node_hooks(hooks: NodeHooks, step: list[Any], g: Any, mode: str) -> list[Any]:
    def out(x: Any) -> Any:
        return None if x is None else x if isinstance(x, Variable) else wrap(x)

    outputs = tuple(out(x) for x in g) if isinstance(g, TUPLE) else (out(g),)
    for hook in list(hooks.post.values()):
        changed: Any = hook(tuple(out(x) for x in step), outputs)
        if changed is not None:
            changed = changed if isinstance(changed, TUPLE) else (changed,)
            step = [c if mode != "arrays" or c is None else c._array for c in changed]
    return step


def _check_anomaly(node: Node, step: list[Any]) -> None:
    for i, gi in enumerate(step):
        array = gi._array if isinstance(gi, Variable) else gi
        if array is not None and np.isnan(array).any():
            place = node.place
            raise GradientError(
                message(
                    f"Function '{node.name()}' returned nan values in its {i}th output.",
                    at=place,
                    source=place.source if place else "",
                )
            )


def _settle_leaves(
    leaves: dict[int, list[Any]], captures: dict[Any, int], found: list[Any], mode: str, collect: bool
) -> None:
    """Run the leaves' hooks on their whole gradient, then accumulate it into ``.grad`` (or hand it out)."""
    handed: set[int] = set()
    while leaves:
        key, (leaf, g) = leaves.popitem()
        hooks = leaf._hooks
        if hooks:
            for hook in list(hooks.values()):
                g = _call_hook(hook, g, mode)
        if collect:
            if key in captures:
                found[captures[key]] = g
            continue
        old = leaf._grad
        if mode == "traced":
            gradient_read(leaf)
        if mode == "arrays":
            if old is None:
                # A gradient that nothing else refers to (but this frame) may be kept; others are copied, since
                # `x + y` hands the very same array to both sides.
                if type(g) is not np.ndarray or g.base is not None or _refs(g) > 2 or not g.flags.c_contiguous:
                    g = np.array(g)
                leaf._grad = wrap(g)
            else:
                np.add(old._array, g, out=old._array)
                inplace.touch(old._array)
        elif mode == "linked":
            leaf._grad = g if old is None else old + g
        elif old is None:
            if g._array.base is not None or id(g._array) in handed:
                g = registry["clone"].call(g)
            handed.add(id(g._array))
            leaf._grad = g
        else:
            old += g
        after = leaf._after
        if after:
            for hook in list(after.values()):
                hook(leaf)
