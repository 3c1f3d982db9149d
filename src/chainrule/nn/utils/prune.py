"""Pruning: a parameter is replaced by itself times a mask of zeros and ones.

``module.weight`` becomes ``weight_orig * weight_mask``, computed before every forward; ``weight_orig`` is what trains.
Pruning again prunes what is left. A method says which entries go by ``compute_mask``, and by its ``PRUNING_TYPE`` what
it is shown of a tensor that is pruned already: the entries left ("unstructured"), the slices of ``dim`` with any entry
left ("structured"), or all of it ("global").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...core.variable import wrap
from ...errors import message
from .vector import parameters_to_vector

__all__ = [
    "BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured", "PruningContainer",
    "RandomStructured", "RandomUnstructured", "custom_from_mask", "global_unstructured", "identity", "is_pruned",
    "l1_unstructured", "ln_structured", "random_structured", "random_unstructured", "remove",
]  # fmt: skip


class BasePruningMethod:
    """A way of choosing what to prune; subclasses define ``compute_mask`` and ``PRUNING_TYPE``."""

    PRUNING_TYPE: str
    _tensor_name: str

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask for ``t``, at most ``default_mask`` (what earlier pruning left)."""
        raise NotImplementedError(f"{type(self).__name__} needs a compute_mask(t, default_mask)")

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    def apply_mask(self, module: Any) -> Any:
        """``weight_orig * weight_mask``."""
        original = getattr(module, self._tensor_name + "_orig")
        return original * getattr(module, self._tensor_name + "_mask").to(dtype=original.dtype)

    @classmethod
    def apply(cls, module: Any, name: str, *args: Any, importance_scores: Any = None, **kwargs: Any) -> Any:
        """Prune ``module.<name>`` by a method made of the further arguments; gives the hook that masks it."""
        method = cls(*args, **kwargs)
        method._tensor_name = name
        current = getattr(module, name)
        if importance_scores is not None and importance_scores.shape != current.shape:
            raise AssertionError(
                message(
                    f"importance_scores should have the same shape as parameter {name} of {module}",
                    f"the scores have shape {tuple(importance_scores.shape)}, {name} has {tuple(current.shape)}",
                )
            )
        earlier = _hook_of(module, name)
        scores = current if importance_scores is None else importance_scores
        if earlier is None:
            hook: Any = method
            left = wrap(np.ones_like(current._array))
        else:
            hook = PruningContainer(*(earlier[1] if isinstance(earlier[1], PruningContainer) else (earlier[1],)))
            hook.add_pruning_method(method)
            left = getattr(module, name + "_mask")
        mask = hook.compute_mask(scores.detach(), left)
        if earlier is None:
            module.register_parameter(name + "_orig", module._parameters.pop(name))
        else:
            del module._forward_pre_hooks[earlier[0]]
        module.register_buffer(name + "_mask", mask.to(dtype=current.dtype))
        setattr(module, name, hook.apply_mask(module))
        module.register_forward_pre_hook(hook)
        return hook

    def prune(self, t: Any, default_mask: Any = None, importance_scores: Any = None) -> Any:
        """``t`` with its pruned entries zero; no module is involved."""
        scores = t if importance_scores is None else importance_scores
        left = wrap(np.ones_like(t._array)) if default_mask is None else default_mask
        return t * self.compute_mask(scores, left).to(dtype=t.dtype)

    def remove(self, module: Any) -> None:
        """Make the pruned value the parameter again: what is zero may train from here on."""
        name = self._tensor_name
        masked = self.apply_mask(module)
        original = module._parameters.pop(name + "_orig")
        del module._buffers[name + "_mask"]
        delattr(module, name)
        original.data = masked.data
        module.register_parameter(name, original)


class PruningContainer(BasePruningMethod):
    """Pruning methods one after another: the newest sees what the others left."""

    PRUNING_TYPE = "global"

    def __init__(self, *methods: Any) -> None:
        self._pruning_methods: tuple[Any, ...] = ()
        for method in methods:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: Any) -> None:
        """Append a method for the same tensor."""
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        name = getattr(method, "_tensor_name", None)
        if self._pruning_methods and name != self._tensor_name:
            raise ValueError(
                "Can only add pruning methods acting on the parameter named "
                f"'{self._tensor_name}' to PruningContainer {self}. Found '{name}'"
            )
        if name is not None:
            self._tensor_name = name
        self._pruning_methods = (*self._pruning_methods, method)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Any:
        return iter(self._pruning_methods)

    def __getitem__(self, i: int) -> Any:
        return self._pruning_methods[i]

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        method = self._pruning_methods[-1]
        array, left = t.detach()._array, default_mask._array
        mask = left.copy()
        if method.PRUNING_TYPE == "unstructured":
            shown: Any = left == 1
        elif method.PRUNING_TYPE == "structured":
            dim = method.dim % array.ndim
            alive = left.any(axis=tuple(i for i in range(array.ndim) if i != dim))
            shown = (slice(None),) * dim + (np.flatnonzero(alive),)
        elif method.PRUNING_TYPE == "global":
            shown = (slice(None),) * array.ndim
        else:
            raise ValueError(f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")
        mask[shown] = method.compute_mask(wrap(array[shown]), default_mask=wrap(left[shown]))._array
        return wrap(mask)


def _count(amount: float, size: int) -> int:
    """How many of ``size`` an amount means: a share as float, a number as int.

    Raises:
        ValueError: when it is negative, a share above 1, or more than there are.
    """
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
    if (isinstance(amount, int) and amount < 0) or (isinstance(amount, float) and not 0.0 <= amount <= 1.0):
        raise ValueError(f"amount={amount} should either be a float in the range [0, 1] or a non-negative integer")
    number = amount if isinstance(amount, int) else round(amount * size)
    if number > size:
        raise ValueError(f"amount={amount} should be smaller than the number of parameters to prune={size}")
    return number


class _Amount(BasePruningMethod):
    """A method that prunes an amount; ``dim`` of structured ones counts slices."""

    def __init__(self, amount: float) -> None:
        _count(amount, 2**62)
        self.amount = amount

    def _scores(self, array: Any) -> Any:
        raise NotImplementedError

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        array, mask = t._array, default_mask._array.copy()
        if array.ndim == 0:
            array, mask = array.reshape(1), mask.reshape(1)
        if self.PRUNING_TYPE == "unstructured":
            lowest = _lowest(self._scores(array).reshape(-1), self.amount)
            mask.reshape(-1)[lowest] = 0
        else:
            dim: int = self.dim  # pyright: ignore[reportAttributeAccessIssue]  (a structured method has one)
            if array.ndim < 2:
                raise ValueError(
                    "Structured pruning can only be applied to multidimensional tensors. "
                    f"Found tensor of shape {array.shape} with {array.ndim} dims"
                )
            if not -array.ndim <= dim < array.ndim:
                raise IndexError(f"Invalid index {dim} for tensor of size torch.Size({list(array.shape)})")
            np.moveaxis(mask, dim, 0)[_lowest(self._scores(np.moveaxis(array, dim, 0)), self.amount)] = 0
        return wrap(mask.reshape(t._array.shape))


def _lowest(scores: Any, amount: float) -> Any:
    number = _count(amount, scores.size)
    return np.argpartition(scores, number - 1)[:number] if number else slice(0, 0)


def _random(shape: Any) -> Any:
    from ...functions.random import rand

    return rand(shape)._array


class Identity(BasePruningMethod):
    """Prunes nothing: it sets up mask and ``_orig`` only."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        return default_mask


class RandomUnstructured(_Amount):
    """Entries at random."""

    PRUNING_TYPE = "unstructured"

    def _scores(self, array: Any) -> Any:
        return _random(array.shape)


class L1Unstructured(_Amount):
    """The entries nearest to zero."""

    PRUNING_TYPE = "unstructured"

    def _scores(self, array: Any) -> Any:
        return np.abs(array)


class RandomStructured(_Amount):
    """Whole slices along ``dim``, at random."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: float, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def _scores(self, array: Any) -> Any:
        return _random((len(array),))


class LnStructured(_Amount):
    """The slices along ``dim`` with the smallest n-norm."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: float, n: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.n = n
        self.dim = dim

    def _scores(self, array: Any) -> Any:
        n = {"fro": 2, "nuc": None}.get(self.n, self.n)
        if n is None:
            raise NotImplementedError("the nuclear norm of a slice is left out: give n a number, inf or 'fro'")
        return np.linalg.norm(array.reshape(len(array), -1), ord=n, axis=1)


class CustomFromMask(BasePruningMethod):
    """A mask that somebody made."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        return default_mask * self.mask.to(dtype=default_mask.dtype)


def identity(module: Any, name: str) -> Any:
    """Masks of ones, as a start for masks made elsewhere."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Any, name: str, amount: float) -> Any:
    """Prune entries of ``module.<name>`` at random; ``amount`` is a share (float) or a number (int).

    >>> import chainrule as torch
    >>> layer = torch.nn.utils.prune.random_unstructured(torch.nn.Linear(5, 4), "weight", amount=0.25)
    >>> int((layer.weight == 0).sum()), sorted(name for name, _ in layer.named_parameters())
    (5, ['bias', 'weight_orig'])
    """
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Any, name: str, amount: float, importance_scores: Any = None) -> Any:
    """Prune the entries nearest to zero (or of lowest score)."""
    L1Unstructured.apply(module, name, amount=amount, importance_scores=importance_scores)
    return module


def random_structured(module: Any, name: str, amount: float, dim: int) -> Any:
    """Prune whole slices along ``dim`` at random."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module: Any, name: str, amount: float, n: Any, dim: int, importance_scores: Any = None) -> Any:
    """Prune the slices along ``dim`` whose n-norm is smallest."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Any, str]], pruning_method: Any, importance_scores: Any = None, **kwargs: Any
) -> None:
    """Prune several tensors as if they were one: ``parameters`` are pairs (module, name).

    Raises:
        TypeError: when the pairs are not in a list or tuple, or the method is not an unstructured one.
    """
    if not isinstance(parameters, Iterable):
        raise TypeError("global_unstructured(): parameters is not an Iterable")
    pairs = list(parameters)
    scores: Any = {} if importance_scores is None else importance_scores
    if not isinstance(scores, dict):
        raise TypeError("global_unstructured(): importance_scores should be of type dict")
    method = PruningContainer()
    method._tensor_name = "temp"
    chosen = pruning_method(**kwargs)
    chosen._tensor_name = "temp"
    if chosen.PRUNING_TYPE != "unstructured":
        raise TypeError(
            'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. '
            f"Found method {pruning_method} of type {chosen.PRUNING_TYPE}"
        )
    method.add_pruning_method(chosen)
    values = parameters_to_vector([scores.get((m, n), getattr(m, n)) for m, n in pairs])
    left = parameters_to_vector([getattr(m, n + "_mask", wrap(np.ones_like(getattr(m, n)._array))) for m, n in pairs])
    mask = method.compute_mask(values.detach(), left)._array
    start = 0
    for module, name in pairs:
        shape = getattr(module, name)._array.shape
        size = int(np.prod(shape))
        custom_from_mask(module, name, wrap(mask[start : start + size].reshape(shape)))
        start += size


def custom_from_mask(module: Any, name: str, mask: Any) -> Any:
    """Prune by a given mask (1: stays)."""
    CustomFromMask.apply(module, name, mask)
    return module


def _hook_of(module: Any, name: str) -> tuple[Any, Any] | None:
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            return key, hook
    return None


def remove(module: Any, name: str) -> Any:
    """Make the pruned value of ``module.<name>`` its parameter, without a mask.

    Raises:
        ValueError: when it is not pruned.
    """
    found = _hook_of(module, name)
    if found is None:
        raise ValueError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")
    found[1].remove(module)
    del module._forward_pre_hooks[found[0]]
    return module


def is_pruned(module: Any) -> bool:
    """Whether a module in it is pruned.

    >>> import chainrule as torch
    >>> torch.nn.utils.prune.is_pruned(torch.nn.Linear(2, 2))
    False
    """
    return any(
        isinstance(hook, BasePruningMethod) for inner in module.modules() for hook in inner._forward_pre_hooks.values()
    )
