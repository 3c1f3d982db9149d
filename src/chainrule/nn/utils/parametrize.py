"""Parametrisation: an attribute of a module becomes a function of other parameters, computed on every access."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from ...autograd.modes import no_grad
from ...core.inplace import touch
from ...core.variable import Variable
from ..containers import ModuleDict, ModuleList
from ..module import Module
from ..parameter import Parameter

__all__ = [
    "ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
    "transfer_parametrizations_and_params", "type_before_parametrizations",
]  # fmt: skip

_cache: dict[tuple[int, str], Any] | None = None


@contextmanager
def cached() -> Any:
    """Within the block each parametrised attribute is computed once."""
    global _cache
    outer = _cache
    _cache = {} if outer is None else outer
    try:
        yield
    finally:
        _cache = outer


class ParametrizationList(ModuleList):
    """The functions of one attribute, applied in order, and the original tensor(s) they start from."""

    def __init__(self, modules: Any, original: Any, unsafe: bool = False) -> None:
        if len(modules) == 0:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        value = original
        with no_grad():
            for module in reversed(list(modules)):
                if hasattr(module, "right_inverse"):
                    with suppress(NotImplementedError):
                        value = module.right_inverse(value)
        if not isinstance(value, (Variable, Sequence)):
            raise ValueError(
                "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                f"Got {type(value).__name__}"
            )
        found: Any = value
        self.is_tensor = isinstance(found, Variable)
        self.ntensors = 1 if self.is_tensor else len(found)
        if self.is_tensor:
            if found.dtype != dtype:
                raise ValueError(
                    "When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                    f"original.dtype: {dtype}\n"
                    f"right_inverse(original).dtype: {found.dtype}"
                )
            # The very same parameter, with the new found: an optimizer that holds it goes on training it.
            if found is not original:
                original._array = np.array(found._array)
            _keep(self, "original", original)
        else:
            for i, part in enumerate(found):
                if not isinstance(part, Variable):
                    raise ValueError(
                        "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                        f"Got element {i} of the sequence with type {type(part).__name__}."
                    )
                trained = isinstance(original, Parameter)
                _keep(self, f"original{i}", Parameter(part.detach(), original.requires_grad) if trained else part)
        if not unsafe:
            _check(self(), shape, dtype, ("unparametrized ", "parametrized "), "unless `unsafe` flag is enabled")

    def right_inverse(self, value: Any) -> None:
        """Give the original tensor(s) the values that lead to ``value``."""
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                value = module.right_inverse(value)
        if self.is_tensor:
            if not isinstance(value, Variable):
                raise ValueError(f"`right_inverse` should return a tensor. Got {type(value).__name__}")
            values, names = [value], ["original"]
        else:
            if not isinstance(value, Sequence):
                raise ValueError(f"'right_inverse' must return a sequence of tensors. Got {type(value).__name__}.")
            if len(value) != self.ntensors:
                raise ValueError(
                    f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got a sequence of "
                    f"length {len(value)}."
                )
            values, names = list(value), [f"original{i}" for i in range(self.ntensors)]
        for i, (name, new) in enumerate(zip(names, values, strict=True)):
            held = getattr(self, name)
            if new.dtype != held.dtype:
                which = "The tensor" if self.is_tensor else f"Tensor {i}"
                raise ValueError(
                    f"{which} returned by `right_inverse` has dtype {new.dtype} while `{name}` has dtype {held.dtype}"
                )
            held._array[...] = new._array
            touch(held._array)

    def forward(self) -> Any:
        if self.is_tensor:
            value = self[0](self.original)
        else:
            value = self[0](*(getattr(self, f"original{i}") for i in range(self.ntensors)))
        for module in list(self)[1:]:
            value = module(value)
        return value


def _keep(module: Any, name: str, tensor: Any) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def _check(value: Any, shape: Any, dtype: Any, names: tuple[str, str], unless: str) -> None:
    """Raise where a parametrisation would change dtype or shape."""
    if not isinstance(value, Variable):
        raise ValueError(f"A parametrization must return a tensor. Got {type(value).__name__}.")
    for what, before, after in (("dtype", dtype, value.dtype), ("shape", shape, value.shape)):  # type: ignore[attr-defined]
        if before != after:
            raise ValueError(
                f"Registering a parametrization may not change the {what} of the tensor, {unless}.\n"
                f"{names[0]}{what}: {before}\n{names[1]}{what}: {after}"
            )


def is_parametrized(module: Any, tensor_name: str | None = None) -> bool:
    """Whether the module (or this attribute of it) is parametrised."""
    found = module._modules.get("parametrizations")
    if found is None:
        return False
    return bool(len(found)) if tensor_name is None else tensor_name in found


def _property(name: str) -> property:
    def get(self: Any) -> Any:
        key = (id(self), name)
        try:
            if _cache is None:
                return self.parametrizations[name]()
            if key not in _cache:
                _cache[key] = self.parametrizations[name]()
        except AttributeError as error:  # Module.__getattr__ would take it for "there is no such attribute"
            raise RuntimeError(f"the parametrization of {name!r} failed: {error}") from error
        return _cache[key]

    def put(self: Any, value: Any) -> None:
        self.parametrizations[name].right_inverse(value)

    return property(get, put)


def register_parametrization(module: Any, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Any:
    """Make ``module.<tensor_name>`` the value of ``parametrization(original)``.

    >>> import chainrule as torch
    >>> class Symmetric(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).T
    >>> layer = torch.nn.utils.parametrize.register_parametrization(torch.nn.Linear(2, 2), "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.T).all())
    True
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            _check_added(module, tensor_name, parametrization)
        parts = module.parametrizations[tensor_name]
        parts.append(parametrization)
        parts.unsafe |= unsafe
        return module
    if tensor_name not in module._parameters and tensor_name not in module._buffers:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with "
            f"name '{tensor_name}'"
        )
    parts = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        plain = type(module)
        module.__class__ = type(
            f"Parametrized{plain.__name__}", (plain,), {"__module__": plain.__module__, "__getstate__": _refuse}
        )
        module.parametrizations = ModuleDict()
    module.parametrizations[tensor_name] = parts
    setattr(type(module), tensor_name, _property(tensor_name))
    return module


def _refuse(self: Any) -> Any:
    raise RuntimeError(
        "Serialization of parametrized modules is only supported through state_dict(). See:\n"
        "https://pytorch.org/tutorials/beginner/saving_loading_models.html"
        "#saving-loading-a-general-checkpoint-for-inference-and-or-resuming-training"
    )


def _check_added(module: Any, name: str, parametrization: Any) -> None:
    """Raise where one more parametrisation would change dtype or shape, there or back."""
    now = getattr(module, name)
    then = parametrization(now)
    names = (f"module.{name}.", f"parametrization(module.{name}).")
    _check(then, now.shape, now.dtype, names, "unless the `unsafe` flag is enabled")
    if not hasattr(parametrization, "right_inverse"):
        return
    try:
        back = parametrization.right_inverse(then)
    except NotImplementedError:
        return
    if not isinstance(back, Variable):
        raise ValueError(f"parametrization.right_inverse must return a tensor. Got: {type(back).__name__}")
    for what in ("dtype", "shape"):
        if getattr(back, what) != getattr(now, what):
            raise ValueError(
                f"The tensor returned by parametrization.right_inverse must have the same {what} as module.{name}, "
                f"unless the `unsafe` flag is enabled.\nmodule.{name}.{what}: {getattr(now, what)}\n"
                f"returned {what}: {getattr(back, what)}"
            )


def type_before_parametrizations(module: Any) -> type:
    """The class of a module without its parametrisations."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module: Any, to_module: Any, tensor_name: str | None = None) -> Any:
    """Give ``to_module`` the parametrisations (of one attribute) of ``from_module``, with their originals."""
    if not is_parametrized(from_module):
        return to_module
    for name in list(from_module.parametrizations) if tensor_name is None else [tensor_name]:
        parts = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach()))
        for part in parts:
            register_parametrization(to_module, name, part)
        taken = to_module.parametrizations[name]
        for key in ["original"] if parts.is_tensor else [f"original{i}" for i in range(parts.ntensors)]:
            setattr(taken, key, getattr(parts, key))
    return to_module


def remove_parametrizations(module: Any, tensor_name: str, leave_parametrized: bool = True) -> Any:
    """Make the attribute a parameter again: with its present value, or with the original's."""
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    parts = module.parametrizations[tensor_name]
    if not leave_parametrized and not parts.is_tensor:
        raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in "
                         "terms of a sequence of tensors.")  # fmt: skip
    value = getattr(module, tensor_name).detach() if leave_parametrized else parts.original
    trained = bool(parts._parameters)
    original = parts.original if parts.is_tensor else None
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    if original is not None and isinstance(original, Parameter):
        original._array[...] = value._array
        module.register_parameter(tensor_name, original)
    elif trained:
        module.register_parameter(tensor_name, Parameter(value))
    else:
        module.register_buffer(tensor_name, value)
    if not len(module.parametrizations):
        del module._modules["parametrizations"]
        module.__class__ = type(module).__bases__[0]
    return module
