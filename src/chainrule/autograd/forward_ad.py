"""``torch.autograd.forward_ad``: dual numbers, a tensor with a direction, carried through what is computed from it.

The tape is the only record here, so the tangent of a result is found when it is asked for: J v, as the derivative of
vᵀJ, which is linear in v. A result therefore requires grad while its level is open.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..core.dtypes import FLOATS
from ..core.op import registry
from ..core.variable import Variable, wrap
from .api import grad
from .modes import enable_grad

__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]

_levels: list[list[tuple[Any, Any, bool]]] = []
"""The duals of each open level: (tensor, tangent, whether it was made of one that requires grad)."""


class UnpackedDualTensor(NamedTuple):
    """A primal, and its tangent or None."""

    primal: Any
    tangent: Any


def enter_dual_level() -> int:
    """Open a level; prefer ``with dual_level()``."""
    if _levels:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")
    _levels.append([])
    return len(_levels) - 1


def exit_dual_level(*, level: int | None = None) -> None:
    """Close the level and forget its tangents."""
    if not _levels:
        raise RuntimeError("Trying to exit a forward AD level that was not entered")
    _levels.pop()


class dual_level:
    """Inside, tensors can carry tangents.

    >>> import chainrule as torch
    >>> import chainrule.autograd.forward_ad as fwAD
    >>> with fwAD.dual_level():
    ...     x = fwAD.make_dual(torch.tensor(2.0), torch.tensor(1.0))
    ...     fwAD.unpack_dual(x**3).tangent
    tensor(12.)
    """

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *exc: object) -> None:
        exit_dual_level()


def make_dual(tensor: Any, tangent: Any, *, level: int | None = None) -> Any:
    """``tensor`` with a direction.

    Raises:
        RuntimeError: outside of a level.
        ValueError: when the tensor is not floating point, or the tangent does not fit.
    """
    if not _levels:
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() first."
        )
    for what, x in (("primal", tensor), ("tangent", tangent)):
        if x._array.dtype not in FLOATS:
            raise ValueError(f"Expected {what} to be floating point or complex, but got: torch.{x._array.dtype.name}")
    if tensor._array.shape != tangent._array.shape:
        raise RuntimeError(
            f"Trying to set a forward gradient that has a different size than that of the original Tensor, this is "
            f"not supported. Tensor is of size {list(tensor._array.shape)} while the given forward gradient is of "
            f"size {list(tangent._array.shape)}."
        )
    with enable_grad():
        dual = registry["clone"].call(tensor if tensor.requires_grad else tensor.detach().requires_grad_())
    _levels[-1].append((dual, tangent, tensor.requires_grad))
    return dual


def unpack_dual(tensor: Any, *, level: int | None = None) -> UnpackedDualTensor:
    """The primal and the tangent of what was computed from duals; the tangent is None for anything else."""
    duals = _levels[-1] if _levels else []
    if not duals or not tensor.requires_grad:
        return UnpackedDualTensor(tensor, None)
    outer = any(o for _, _, o in duals)
    for dual, tangent, _ in duals:
        if dual is tensor:
            return UnpackedDualTensor(tensor.detach() if not outer else tensor, tangent)
    with enable_grad():
        seed = wrap(np.zeros_like(tensor._array)).requires_grad_()
        inputs = [d for d, _, _ in duals]
        pulled = grad(tensor, inputs, seed, create_graph=True, allow_unused=True)
        pairs = [(p, t) for p, (_, t, _) in zip(pulled, duals) if isinstance(p, Variable) and p.requires_grad]
        if not any(isinstance(p, Variable) for p in pulled):
            return UnpackedDualTensor(tensor, None)
        tangent = wrap(np.zeros_like(tensor._array))
        if pairs:
            (tangent,) = grad(
                [p for p, _ in pairs], seed, [t for _, t in pairs], create_graph=True, materialize_grads=True
            )
    if outer:
        return UnpackedDualTensor(tensor, tangent)
    return UnpackedDualTensor(tensor.detach(), tangent.detach())
