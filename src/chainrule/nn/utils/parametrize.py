"""Parametrisation: an attribute of a module becomes a function of other parameters, computed on every access."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

from ...core.variable import Variable
from ..containers import ModuleDict, ModuleList
from ..module import Module
from ..parameter import Parameter

__all__ = ["register_parametrization", "remove_parametrizations", "is_parametrized", "cached", "ParametrizationList"]

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
        super().__init__(modules)
        self.unsafe = unsafe
        value = original
        for module in reversed(list(modules)):
            if hasattr(module, "right_inverse"):
                value = module.right_inverse(value)
        self.is_tensor = isinstance(value, Variable)
        if self.is_tensor:
            self._take("original", original, value)
        else:
            self.ntensors = len(value)
            for i, part in enumerate(value):
                self._take(f"original{i}", original, part)

    def _take(self, name: str, original: Any, value: Any) -> None:
        if value is original:  # the very same parameter: an optimizer that holds it goes on training it
            setattr(self, name, value) if isinstance(value, Parameter) else self.register_buffer(name, value)
        elif isinstance(original, Parameter):
            setattr(self, name, Parameter(value.detach(), original.requires_grad))
        else:
            self.register_buffer(name, value.detach())

    def forward(self) -> Any:
        if self.is_tensor:
            value = self[0](self.original)
        else:
            value = self[0](*(getattr(self, f"original{i}") for i in range(self.ntensors)))
        for module in list(self)[1:]:
            value = module(value)
        return value


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
        parts = self.parametrizations[name]
        for module in reversed(list(parts)):
            value = module.right_inverse(value)
        values = [value] if parts.is_tensor else list(value)
        names = ["original"] if parts.is_tensor else [f"original{i}" for i in range(parts.ntensors)]
        for original, new in zip(names, values, strict=True):
            getattr(parts, original)._array[...] = new._array

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
        module.parametrizations[tensor_name].append(parametrization)
        return module
    if tensor_name in module._parameters:
        original = module._parameters.pop(tensor_name)
    elif tensor_name in module._buffers:
        original = module._buffers.pop(tensor_name)
    else:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with "
            f"name '{tensor_name}'"
        )
    if not is_parametrized(module):
        plain = type(module)
        module.__class__ = type(f"Parametrized{plain.__name__}", (plain,), {"__module__": plain.__module__})
        module.parametrizations = ModuleDict()
    module.parametrizations[tensor_name] = ParametrizationList([parametrization], original, unsafe)
    setattr(type(module), tensor_name, _property(tensor_name))
    return module


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
