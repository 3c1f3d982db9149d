"""Functions that are one op in PyTorch and several here: the last node takes the function's name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..core.node import Node, rename
from ..core.state import tick
from ..core.variable import Variable

__all__ = ["with_node_name"]

_SAME = frozenset(
    "addbmm addcdiv addcmul addmm addmv addr baddbmm block_diag cdist cummax cummin diagonal_scatter dist fill "
    "index_add index_copy index_fill index_select kthvalue masked_scatter masked_select mode nansum put renorm repeat "
    "rot90 scatter_add select_scatter slice_scatter sort std_mean take topk trace var_mean".split()
)
_OTHER = {"tile": "RepeatBackward0", "cross": "LinalgCrossBackward0", "unflatten": "ViewBackward0"}
_BY_DIM = {
    "max": ("MaxBackward1", "MaxBackward0"), "min": ("MinBackward1", "MinBackward0"),
    "median": ("MedianBackward0", "MedianBackward1"), "nanmedian": ("NanmedianBackward0", "NanmedianBackward1"),
}  # fmt: skip
"""The name for one result, and for values with indices."""

_wrapped: dict[Any, Any] = {}


def with_node_name(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, naming the node of its result if it is one of those listed here.

    >>> import chainrule as torch
    >>> torch.tensor([2.0, 1.0], requires_grad=True).sort().values.grad_fn.name()
    'SortBackward0'
    """
    if name not in _SAME and name not in _OTHER and name not in _BY_DIM:
        return function
    if function not in _wrapped:
        title = "".join(part.capitalize() for part in name.split("_")) + "Backward0"
        single, several = _BY_DIM.get(name) or (_OTHER.get(name, title),) * 2

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            since = tick()
            result = function(*args, **kwargs)
            for t in result if isinstance(result, tuple) else (result,):
                node = t._node if isinstance(t, Variable) else None
                node = node[0] if type(node) is tuple else node
                if type(node) is Node and node.seq > since:  # made by this call, and named by nobody yet
                    rename(node, several if t is not result else single)
            return result

        _wrapped[function] = call
    return _wrapped[function]
