"""``torch.utils._pytree``: nested containers taken apart and put together (``pytree``)."""

from ..pytree import (
    LeafSpec,
    PyTree,
    TreeSpec,
    _broadcast_to_and_flatten,
    register_pytree_node,
    tree_all,
    tree_any,
    tree_flatten,
    tree_iter,
    tree_leaves,
    tree_map,
    tree_map_,
    tree_map_only,
    tree_structure,
    tree_unflatten,
)

__all__ = [
    "LeafSpec", "PyTree", "TreeSpec", "_broadcast_to_and_flatten", "register_pytree_node", "tree_all", "tree_any",
    "tree_flatten", "tree_iter", "tree_leaves", "tree_map", "tree_map_", "tree_map_only", "tree_structure",
    "tree_unflatten",
]  # fmt: skip
