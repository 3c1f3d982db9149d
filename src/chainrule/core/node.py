"""A node of the graph: one op application, what its backward needs, and where it was made."""

from __future__ import annotations

from collections.abc import Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

from .locate import Place, place_of
from .node_names import torch_name
from .untyped import TUPLE

if TYPE_CHECKING:
    from .op import Op

__all__ = ["Node", "named", "rename"]


class Node:
    """One recorded op application.

    * ``edges[i]``: what made input i: a Node, ``(node, output)``, a leaf tensor that requires grad, or None when no
      gradient flows there; then ``consts[i]`` holds the array or number (``consts`` is None when there are none).
    * ``saved[i]``: the values that rule i asked for by its parameter names; None once the graph is freed.
    * ``shapes``: the inputs' shapes when the op broadcast them, else None.
    * ``out``: shape and dtype of the output (a tuple of such pairs for ops with several outputs).
    * ``seq``: the clock when it was made. Inputs are older than outputs, so sorting by it is a topological order.
    * ``code``, ``lasti``: the user's instruction; ``module``: the modules whose forward was running.
    """

    __slots__ = (
        "op", "edges", "saved", "consts", "params", "shapes", "out", "seq", "code", "lasti", "module", "hooks",
        "__weakref__",
    )  # fmt: skip

    op: Op
    edges: tuple[Any, ...]
    saved: Sequence[Any] | None
    consts: tuple[Any, ...] | None
    params: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...] | None
    out: tuple[Any, ...]
    seq: int
    code: CodeType | None
    lasti: int
    module: Any
    hooks: Any

    @property
    def place(self) -> Place | None:
        """The user's source span that made this node."""
        return place_of(self.code, self.lasti)

    @property
    def freed(self) -> bool:
        return self.saved is None

    def name(self) -> str:
        """PyTorch's way of naming it: ``MulBackward0``; it numbers the overloads of a function."""
        return torch_name(self) if type(self) is Node else type(self).__name__

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """As in PyTorch: ``((node, output index), …)``; a leaf shows as its ``AccumulateGrad``."""
        out: list[tuple[Any, int]] = []
        for edge in self.edges:
            if edge is None:
                out.append((None, 0))
            elif isinstance(edge, Node):
                out.append((named(edge), 0))
            elif type(edge) is TUPLE:
                out.append((named(edge[0]), edge[1]))
            else:
                out.append((AccumulateGrad(edge), 0))
        return tuple(out)

    @property
    def metadata(self) -> dict[str, Any]:
        """A dict of the user's own, one per node."""
        from .hooks import NodeHooks

        if self.hooks is None:
            self.hooks = NodeHooks()
        return self.hooks.metadata

    def __getattr__(self, name: str) -> Any:
        """What the node saved, by PyTorch's names: ``_saved_self``, ``_saved_result``, ``_saved_dim``, …"""
        if name.startswith(("_saved_", "_raw_saved_")):
            from .saved import saved_value

            return saved_value(self, name)
        raise AttributeError(f"{self.name()!r} object has no attribute {name!r}", name=name, obj=self)

    def register_hook(self, hook: Any) -> Any:
        """Call ``hook(grad_inputs, grad_outputs)`` when backward passes; a returned tuple replaces grad_inputs."""
        from .hooks import NodeHooks, add_hook

        if self.hooks is None:
            self.hooks = NodeHooks()
        return add_hook(self.hooks.post, hook)

    def register_prehook(self, hook: Any) -> Any:
        """Call ``hook(grad_outputs)`` before backward passes; a returned tuple replaces grad_outputs."""
        from .hooks import NodeHooks, add_hook

        if self.hooks is None:
            self.hooks = NodeHooks()
        return add_hook(self.hooks.pre, hook)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"


_classes: dict[str, type[Node]] = {}


def named(node: Node) -> Node:
    """The node, its class named as PyTorch names it: ``type(t.grad_fn).__name__ == "AddBackward0"``.

    Nodes get such a class when somebody looks at them; while training nobody does, and all stay plain Nodes.
    """
    if type(node) is Node:
        rename(node, torch_name(node))
    return node


def rename(node: Node, name: str) -> None:
    """Give a node a name of its own: what a function is called that consists of several ops here."""
    kind = _classes.get(name)
    if kind is None:
        kind = _classes[name] = type(name, (Node,), {"__slots__": (), "__module__": Node.__module__})
    node.__class__ = kind


class AccumulateGrad:
    """What stands at a leaf in ``next_functions``; ``.variable`` is the leaf."""

    __slots__ = ("variable",)

    def __init__(self, variable: Any) -> None:
        self.variable = variable

    next_functions = ()

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self):#x}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return id(self.variable)
