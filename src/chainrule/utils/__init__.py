"""PyTorch's ``utils``: ``data`` for loading, ``checkpoint`` for memory, ``tensorboard`` for logs, ``benchmark``."""

import importlib as _importlib
from typing import Any as _Any

_ROOMS = ("benchmark", "checkpoint", "data", "deterministic", "hooks", "tensorboard", "_pytree")


def swap_tensors(t1: _Any, t2: _Any) -> None:
    """Let two tensors change places: everything that refers to one of them refers to the other from now on.

    >>> import chainrule as torch
    >>> a, b = torch.tensor([1.0]), torch.nn.Parameter(torch.tensor([2.0, 3.0]))
    >>> torch.utils.swap_tensors(a, b)
    >>> a
    Parameter containing:
    tensor([2., 3.], requires_grad=True)
    """
    for name in ("_array", "_node", "_requires", "_base", "__dict__", "__class__"):
        first, second = getattr(t1, name), getattr(t2, name)
        setattr(t1, name, second)
        setattr(t2, name, first)


def set_module(obj: _Any, mod: _Any) -> None:
    """Say that an object belongs to a module of that name."""
    if not isinstance(mod, str):
        raise TypeError("The mod argument should be a string")
    obj.__module__ = mod


def __getattr__(name: str) -> _Any:
    if name in _ROOMS:
        return _importlib.import_module(f".{name}", __name__)
    from ..core import left_out

    raise left_out.missing("torch.utils", name, [*globals(), *_ROOMS])
