"""Nested containers as a flat list of leaves and a description of the nesting, with ``torch.utils._pytree``'s names.

Tuples, named tuples, lists, dicts, ``OrderedDict``, ``defaultdict`` and ``deque`` are nodes, and what
``register_pytree_node`` adds; everything else, None included, is a leaf.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

__all__ = [
    "PyTree", "TreeSpec", "LeafSpec", "register_pytree_node", "tree_all", "tree_any", "tree_flatten", "tree_iter",
    "tree_leaves", "tree_map", "tree_map_", "tree_map_only", "tree_structure", "tree_unflatten",
]  # fmt: skip

PyTree = Any


class _Node(NamedTuple):
    """How one type of container is taken apart and put together."""

    flatten: Callable[[Any], tuple[list[Any], Any]]
    unflatten: Callable[[Iterable[Any], Any], Any]


def _of_dict(x: Any) -> tuple[list[Any], Any]:
    return list(x.values()), list(x.keys())


_NODES: dict[type, _Node] = {
    tuple: _Node(lambda x: (list(x), None), lambda parts, _: tuple(parts)),
    list: _Node(lambda x: (list(x), None), lambda parts, _: list(parts)),
    dict: _Node(_of_dict, lambda parts, keys: dict(zip(keys, parts))),
    OrderedDict: _Node(_of_dict, lambda parts, keys: OrderedDict(zip(keys, parts))),
    defaultdict: _Node(
        lambda x: (list(x.values()), [x.default_factory, list(x.keys())]),
        lambda parts, context: defaultdict(context[0], zip(context[1], parts)),
    ),
    deque: _Node(lambda x: (list(x), x.maxlen), lambda parts, maxlen: deque(parts, maxlen=maxlen)),
}
_NAMED = _Node(lambda x: (list(x), type(x)), lambda parts, kind: kind(*parts))


def _is_named(x: Any) -> bool:
    return isinstance(x, tuple) and type(x) is not tuple and hasattr(x, "_fields")


def _node_of(x: Any) -> tuple[Any, _Node | None]:
    found = _NODES.get(type(x))
    if found is not None:
        return type(x), found
    return ("namedtuple", _NAMED) if _is_named(x) else (None, None)


def register_pytree_node(
    cls: type,
    flatten_fn: Callable[[Any], tuple[list[Any], Any]],
    unflatten_fn: Callable[[Iterable[Any], Any], Any],
    **_: Any,
) -> None:
    """Make a class a node: ``flatten_fn(x)`` gives (children, context), ``unflatten_fn(children, context)`` an x."""
    if cls in _NODES:
        raise ValueError(f"{cls} is already registered as pytree node.")
    _NODES[cls] = _Node(flatten_fn, unflatten_fn)


class TreeSpec:
    """The nesting without the leaves: the type of the container, what it needs besides its parts, and their specs."""

    __slots__ = ("type", "context", "children_specs", "num_leaves")

    def __init__(self, type: Any, context: Any, children_specs: list[TreeSpec]) -> None:
        self.type, self.context, self.children_specs = type, context, children_specs
        self.num_leaves = 1 if type is None else sum(c.num_leaves for c in children_specs)

    @property
    def num_children(self) -> int:
        return len(self.children_specs)

    def is_leaf(self) -> bool:
        return self.type is None

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """``tree_unflatten(leaves, self)``."""
        return tree_unflatten(leaves, self)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TreeSpec)
            and (self.type, self.context) == (other.type, other.context)
            and self.children_specs == other.children_specs
        )

    def __hash__(self) -> int:
        return hash((str(self.type), str(self.context), tuple(self.children_specs)))

    def __repr__(self) -> str:
        if self.type is None:
            return "*"
        name = self.type if isinstance(self.type, str) else self.type.__name__
        return f"TreeSpec({name}, {self.context}, [{', '.join(map(repr, self.children_specs))}])"


def LeafSpec() -> TreeSpec:
    """The spec of a single leaf."""
    return TreeSpec(None, None, [])


def _flatten(x: Any, leaves: list[Any], is_leaf: Callable[[Any], bool] | None) -> TreeSpec:
    kind, node = (None, None) if is_leaf is not None and is_leaf(x) else _node_of(x)
    if node is None:
        leaves.append(x)
        return LeafSpec()
    children, context = node.flatten(x)
    return TreeSpec(kind, context, [_flatten(c, leaves, is_leaf) for c in children])


def tree_flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeSpec]:
    """The leaves, left to right, and the spec that puts them back.

    >>> leaves, spec = tree_flatten({"a": [1, 2], "b": (3,)})
    >>> leaves
    [1, 2, 3]
    >>> tree_unflatten([x * 10 for x in leaves], spec)
    {'a': [10, 20], 'b': (30,)}
    """
    leaves: list[Any] = []
    spec = _flatten(tree, leaves, is_leaf)
    return leaves, spec


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> Any:
    """The inverse of ``tree_flatten``.

    Raises:
        ValueError: when the number of leaves is not the spec's.
    """
    whole = list(leaves)
    if len(whole) != treespec.num_leaves:
        raise ValueError(
            f"tree_unflatten(leaves, treespec): `leaves` has length {len(whole)} but the spec refers to a pytree that "
            f"holds {treespec.num_leaves} items ({treespec})."
        )
    rest = iter(whole)

    def build(spec: TreeSpec) -> Any:
        if spec.type is None:
            return next(rest)
        node = _NAMED if spec.type == "namedtuple" else _NODES[spec.type]
        return node.unflatten([build(c) for c in spec.children_specs], spec.context)

    return build(treespec)


def tree_iter(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """The leaves one after the other."""
    return iter(tree_flatten(tree, is_leaf)[0])


def tree_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves as a list."""
    return tree_flatten(tree, is_leaf)[0]


def tree_structure(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> TreeSpec:
    """The nesting alone."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """The same nesting with ``func`` of the leaves; further trees of the same nesting give further arguments."""
    leaves, spec = tree_flatten(tree, is_leaf)
    others = [_children_like(r, spec) for r in rests]
    return tree_unflatten([func(*row) for row in zip(leaves, *others)], spec)


def _children_like(tree: Any, spec: TreeSpec) -> list[Any]:
    """What stands in ``tree`` where ``spec`` has its leaves."""
    if spec.type is None:
        return [tree]
    kind, node = _node_of(tree)
    if node is None or kind != spec.type:
        raise ValueError(f"Node type mismatch; expected {spec.type}, but got {type(tree)}.")
    children, context = node.flatten(tree)
    if spec.type in (dict, OrderedDict) and set(context) == set(spec.context):
        children = [tree[k] for k in spec.context]
    elif len(children) != len(spec.children_specs) or context != spec.context:
        raise ValueError(f"Node context mismatch; expected {spec.context}, but got {context}.")
    return [leaf for c, s in zip(children, spec.children_specs) for leaf in _children_like(c, s)]


def tree_map_(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """Call ``func`` with each leaf for its effect; returns the tree itself."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def tree_map_only(type_or_types: Any, func: Callable[..., Any], tree: Any, is_leaf: Any = None) -> Any:
    """``tree_map`` for leaves of some types (or that a predicate picks); the others stay.

    >>> tree_map_only(int, lambda n: n + 1, [1, "a", {"k": 2}])
    [2, 'a', {'k': 3}]
    """
    wanted = isinstance(type_or_types, (type, tuple))
    picks = (lambda x: isinstance(x, type_or_types)) if wanted else type_or_types
    return tree_map(lambda x: func(x) if picks(x) else x, tree, is_leaf=is_leaf)


def tree_all(pred: Callable[[Any], bool], tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Whether every leaf satisfies ``pred``."""
    return all(map(pred, tree_iter(tree, is_leaf)))


def tree_any(pred: Callable[[Any], bool], tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Whether some leaf satisfies ``pred``."""
    return any(map(pred, tree_iter(tree, is_leaf)))


def _broadcast_to_and_flatten(tree: Any, treespec: TreeSpec, is_leaf: Any = None) -> list[Any] | None:
    """One leaf of ``tree`` for every leaf of the spec, a leaf standing for all below it; None when they do not fit."""
    kind, node = (None, None) if is_leaf is not None and is_leaf(tree) else _node_of(tree)
    if node is None:
        return [tree] * treespec.num_leaves
    if kind != treespec.type:
        return None
    children, context = node.flatten(tree)
    if len(children) != len(treespec.children_specs) or context != treespec.context:
        return None
    out: list[Any] = []
    for c, s in zip(children, treespec.children_specs):
        found = _broadcast_to_and_flatten(c, s, is_leaf)
        if found is None:
            return None
        out += found
    return out
