"""What is diagnosed: a network, its loss, a batch and perhaps an optimizer, of chainrule or of PyTorch.

Everything happens on copies. Random state is put back, so that after a diagnosis nothing is different.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import sys
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import ChainruleError, UsageError
from ..nn.module import Module

__all__ = ["Subject", "to_array"]


def to_array(x: Any) -> Any:
    """The values of a tensor of either library as a NumPy array; other things as they are."""
    if hasattr(x, "_array"):
        return x._array
    if type(x).__module__.startswith("torch") and hasattr(x, "detach"):
        from .torch_tape import array

        return array(x)
    return x


def _is_torch(model: Any) -> bool:
    torch = sys.modules.get("torch")
    real = getattr(torch, "nn", None)
    return (
        real is not None
        and getattr(torch, "__version__", None) is not None
        and isinstance(model, real.Module)
        and not isinstance(model, Module)
    )


class Subject:
    """Network, loss and batch, and how to run them.

    Args:
        model: an ``nn.Module`` of chainrule or of PyTorch.
        loss_fn: ``loss_fn(output, target)``; None when the model itself returns the loss.
        batch: ``(input, target)``, ``(input₁, …, target)``, or a dict of keyword arguments with a target under "y",
            "target", "targets", "label" or "labels".
        optimizer: the optimizer, when it is to be looked at as well.

    Raises:
        UsageError: when one of them is something else.
    """

    def __init__(self, model: Any, loss_fn: Any, batch: Any, optimizer: Any = None) -> None:
        self.torch = _is_torch(model)
        if not self.torch and not isinstance(model, Module):
            raise UsageError(f"diagnose needs an nn.Module of chainrule or PyTorch, not {type(model).__name__}")
        if loss_fn is not None and not callable(loss_fn):
            raise UsageError(f"loss_fn must be a function of (output, target), not {type(loss_fn).__name__}")
        if self.torch:
            self.tb: Any = importlib.import_module("torch")
        else:
            self.tb = importlib.import_module("chainrule")
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer
        self.inputs, self.kwargs, self.target = self._split(batch)
        self.original: Any = None
        """The recorded calls of the user's own pass, when this is a repetition of it."""
        if not any(True for _ in model.parameters()):
            raise UsageError(f"{type(model).__name__} has no parameters: there is nothing to train")

    def _tensor(self, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            x = np.ascontiguousarray(x)
            t = self.tb.from_numpy(x)
            if x.dtype == np.float64 and self._dtype() == "float32":
                t = t.float()
            return t
        return x

    def _dtype(self) -> str:
        for p in self.model.parameters():
            return str(to_array(p).dtype)
        return "float32"

    def _split(self, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        if isinstance(batch, Mapping):
            kwargs = {k: self._tensor(v) for k, v in batch.items()}
            for name in ("y", "target", "targets", "label", "labels"):
                if name in kwargs:
                    target = kwargs.pop(name)
                    if len(kwargs) == 1:
                        return (next(iter(kwargs.values())),), {}, target
                    return (), kwargs, target
            raise UsageError("a batch that is a dict needs its target under 'y', 'target' or 'labels'")
        if isinstance(batch, (tuple, list)) and len(batch) >= 2:
            *xs, y = (self._tensor(b) for b in batch)
            return tuple(xs), {}, y
        if self.loss_fn is None:
            return (self._tensor(batch),), {}, None
        raise UsageError(f"batch must be (input, target), not {type(batch).__name__}")

    # --- running ----------------------------------------------------------------------------------------------------

    def forward(self, model: Any, inputs: Any = None, target: Any = None, loss_fn: Any = None) -> tuple[Any, Any]:
        """(output, loss) of a network on the batch."""
        out = model(*(self.inputs if inputs is None else inputs), **self.kwargs)
        loss_fn = self.loss_fn if loss_fn is None else loss_fn
        if loss_fn is None:
            return out, out
        if self._wants_model():
            return out, loss_fn(model, (*self.inputs, self.target))
        return out, loss_fn(out, self.target if target is None else target)

    def _wants_model(self) -> bool:
        f: Any = self.loss_fn
        try:
            names = list(inspect.signature(f).parameters)
        except (TypeError, ValueError):
            return False
        return bool(names) and names[0] in ("model", "net", "network") and len(names) >= 2

    def record(self, model: Any) -> Any:
        """One recorded pass."""
        names = {id(m): n for n, m in model.named_modules()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.torch:
                from .torch_tape import record
            else:
                from .tape import record

                return record(model, lambda: self.forward(model), names, self.original)
            return record(model, lambda: self.forward(model), names)

    # --- copies -----------------------------------------------------------------------------------------------------

    def copy(self) -> tuple[Any, Any]:
        """The network and the optimizer, copied together (the copy's optimizer holds the copy's parameters).

        Raises:
            UsageError: when the network cannot be copied.
        """
        memo: dict[int, Any] = {}
        try:
            model = copy.deepcopy(self.model, memo)
            optimizer = copy.deepcopy(self.optimizer, memo) if self.optimizer is not None else None
        except (TypeError, RuntimeError, ChainruleError, AttributeError) as error:
            raise UsageError(f"{type(self.model).__name__} cannot be copied ({str(error).splitlines()[0]})") from None
        for p in model.parameters():
            p.grad = None
        return model, optimizer

    @contextmanager
    def untouched(self) -> Any:
        """Random state (the library's, NumPy's, Python's) and modes are as before when the block ends."""
        import random

        ours = np.random.get_state()  # noqa: NPY002 - the user's own state
        python = random.getstate()
        state = self.tb.get_rng_state()
        before = {id(m): m.training for m in self.model.modules()}
        kept = [(b, _copy(b)) for b in self.model.buffers()]
        threads = None
        try:
            yield
        finally:
            del threads
            self.tb.set_rng_state(state)
            np.random.set_state(ours)  # noqa: NPY002
            random.setstate(python)
            for m in self.model.modules():
                m.training = before.get(id(m), m.training)
            for b, old in kept:
                now = to_array(b)
                if now is not None and not np.array_equal(now, old, equal_nan=now.dtype.kind == "f"):
                    now[...] = old

    @property
    def n(self) -> int:
        """Number of rows in the batch."""
        for x in (*self.inputs, *self.kwargs.values()):
            shape = getattr(x, "shape", None)
            if shape is not None and len(shape):
                return int(shape[0])
        return 1


def _copy(b: Any) -> Any:
    a = to_array(b)
    return None if a is None else np.array(a)
