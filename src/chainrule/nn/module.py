"""``Module``: parameters, buffers and child modules under one roof, found by attribute assignment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from ..core import dtypes, inplace
from ..core.device import refusal
from ..core.live import gradient_read, gradient_set
from ..core.state import state
from ..core.variable import Variable, wrap
from .module_hooks import (
    HookedModule,
    call_hooked,
    global_hooks,
    register_module_backward_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
)
from .module_state import StatefulModule
from .parameter import Buffer, Parameter, held, hold, is_lazy

__all__ = [
    "Module", "register_module_backward_hook", "register_module_forward_hook", "register_module_forward_pre_hook",
    "register_module_full_backward_hook", "register_module_full_backward_pre_hook",
]  # fmt: skip

T = TypeVar("T", bound="Module")


def typename(x: Any) -> str:
    """The name that PyTorch's messages use for the type of ``x``."""
    if isinstance(x, Variable):
        kinds = {"float16": "Half", "float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int",
                 "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool"}  # fmt: skip
        return f"torch.{kinds[x._array.dtype.name]}Tensor" if type(x) is not Parameter else "torch.nn.Parameter"
    kind = type(x)
    module = kind.__module__
    if module.startswith("chainrule"):
        module = "torch" + module[len("chainrule") :]
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


class Module(StatefulModule, HookedModule):
    """Base class of all layers and models.

    Assigning a ``Parameter``, a ``Buffer`` or a ``Module`` to an attribute registers it. ``forward`` is what a subclass
    writes; calling the module runs it, with the hooks around it, and tells the graph which module is running.

    >>> import chainrule as torch
    >>> class Scale(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.k = torch.nn.Parameter(torch.ones(1))
    ...     def forward(self, x):
    ...         return self.k * x
    >>> [name for name, _ in Scale().named_parameters()]
    ['k']
    """

    training: bool
    dump_patches = False
    T_destination = TypeVar("T_destination", bound="dict[str, Any]")
    call_super_init = False
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init:
            if kwargs:
                raise TypeError(
                    f"{type(self).__name__}.__init__() got an unexpected keyword argument '{next(iter(kwargs))}'"
                )
            if args:
                raise TypeError(
                    f"{type(self).__name__}.__init__() takes 1 positional argument but {len(args) + 1} were given"
                )
        d = self.__dict__
        d["training"] = True
        d["_parameters"] = {}
        d["_buffers"] = {}
        d["_non_persistent_buffers_set"] = set()
        d["_modules"] = {}
        self._init_hooks()
        self._init_state_hooks()
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    # --- running ------------------------------------------------------------------------------------------------

    def forward(self, *input: Any) -> Any:
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        st = state
        outer = st.module
        st.module = (self, outer)
        try:
            if self._hooked or global_hooks:
                return call_hooked(self, args, kwargs)
            return self.forward(*args, **kwargs)
        finally:
            st.module = outer

    # --- attributes ---------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        d = self.__dict__
        # `in` before [...]: a registered None is a value too.
        if "_parameters" in d:
            found = d["_parameters"]
            if name in found:
                return found[name]
            found = d["_modules"]
            if name in found:
                return found[name]
            found = d["_buffers"]
            if name in found:
                return found[name]
        text = f"'{type(self).__name__}' object has no attribute '{name}'"
        if name in _OF_A_STEP:
            raise AttributeError(text + _OF_A_STEP[name], name=name, obj=None)
        raise AttributeError(text, name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        d = self.__dict__
        params = d.get("_parameters")
        if isinstance(value, Parameter):
            if params is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, d, d["_buffers"], d["_modules"])
            self.register_parameter(name, value)
            return
        if isinstance(value, Module):
            if params is None:
                raise AttributeError("cannot assign module before Module.__init__() call")
            if name in params:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as parameter '{name}' (torch.nn.Parameter or None expected)"
                )
            self._forget(name, d, params, d["_buffers"])
            d["_modules"][name] = value
            return
        if params is not None:
            if name in params:
                if value is not None:
                    raise TypeError(
                        f"cannot assign '{typename(value)}' as parameter '{name}' (torch.nn.Parameter or None expected)"
                    )
                self.register_parameter(name, value)
                return
            modules = d["_modules"]
            if name in modules:
                if value is not None:
                    raise TypeError(
                        f"cannot assign '{typename(value)}' as child module '{name}' (torch.nn.Module or None expected)"
                    )
                modules[name] = value
                return
            buffers = d["_buffers"]
            if name in buffers or isinstance(value, Buffer):
                if value is not None and not isinstance(value, Variable):
                    raise TypeError(
                        f"cannot assign '{typename(value)}' as buffer '{name}' "
                        "(torch.nn.Buffer, torch.Tensor or None expected)"
                    )
                if isinstance(value, Buffer):
                    self._forget(name, d, params, modules, buffers)
                    self.register_buffer(name, value, value.persistent)  # type: ignore[attr-defined]
                else:
                    buffers[name] = value
                return
        elif isinstance(value, Buffer):
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        object.__setattr__(self, name, value)

    def _forget(self, name: str, *places: Any) -> None:
        for place in places:
            place.pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __delattr__(self, name: str) -> None:
        for place in (self._parameters, self._buffers, self._modules):
            if name in place:
                del place[name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        found = {*object.__dir__(self), *self._parameters, *self._modules, *self._buffers}
        return sorted(name for name in found if not name[:1].isdigit())

    def _check_name(self, what: str, name: Any, existing: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {typename(name)}")
        if "." in name:
            raise KeyError(f'{what} name can\'t contain "."' + (f", got: {name}" if what == "module" else ""))
        if name == "":
            raise KeyError(f'{what} name can\'t be empty string ""')
        if hasattr(self, name) and name not in existing:
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Any) -> None:
        """Make ``param`` (a Parameter, or None as a placeholder) reachable as ``self.name``, and train it."""
        self._check_name("parameter", name, self.__dict__.get("_parameters"))
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"cannot assign '{typename(param)}' object to parameter '{name}' "
                    "(torch.nn.Parameter or None required)"
                )
            if param._node is not None:
                raise ValueError(
                    f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created "
                    "explicitly. "
                    f"To express '{name}' as a function of another Tensor, compute the value in the forward() method."
                )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Make ``tensor`` part of the module's state without training it; ``persistent=False``: unsaved."""
        self._check_name("buffer", name, self.__dict__.get("_buffers"))
        if tensor is not None and not isinstance(tensor, Variable):
            raise TypeError(
                f"cannot assign '{typename(tensor)}' object to buffer '{name}' (torch Tensor or None required)"
            )
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Make ``module`` a child, reachable as ``self.name``."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{typename(module)} is not a Module subclass")
        self._check_name("module", name, self.__dict__.get("_modules"))
        self._modules[name] = module

    def register_module(self, name: str, module: Module | None) -> None:
        """Another name of ``add_module``."""
        self.add_module(name, module)

    # --- looking around -----------------------------------------------------------------------------------------

    def get_submodule(self, target: str) -> Any:
        """The module at a dotted path; "" is the module itself."""
        found: Any = self
        for part in target.split(".") if target else ():
            if not hasattr(found, part):
                raise AttributeError(f"{found._get_name()} has no attribute `{part}`")
            found = getattr(found, part)
            if not isinstance(found, Module):
                raise AttributeError(f"`{part}` is not an nn.Module")
        return found

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put ``module`` at a dotted path, in place of what is there."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{parent._get_name()} has no attribute `{name}`")
        setattr(parent, name, module)

    def _get_of_kind(self, target: str, place: str, what: str) -> Any:
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        if not hasattr(owner, name):
            raise AttributeError(f"{owner._get_name()} has no attribute `{name}`")
        if name not in getattr(owner, place):
            raise AttributeError(f"`{name}` is not {what}")
        return getattr(owner, place)[name]

    def get_parameter(self, target: str) -> Any:
        """The parameter at a dotted path."""
        return self._get_of_kind(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Any:
        """The buffer at a dotted path."""
        return self._get_of_kind(target, "_buffers", "a buffer")

    def named_modules(
        self, memo: set[Any] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """This module and all below it, with dotted names; each once unless ``remove_duplicate=False``."""
        if memo is None:
            memo = set()
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, prefix + ("." if prefix else "") + name, remove_duplicate)

    def modules(self) -> Iterator[Any]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """The direct children with their names, each once."""
        seen: set[Any] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Any]:
        """The direct children."""
        for _, module in self.named_children():
            yield module

    def _named_members(
        self, get: Callable[[Any], Any], prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        seen: set[Any] = set()
        owners = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in owners:
            for name, value in get(module):
                if value is None or value in seen:
                    continue
                if remove_duplicate:
                    seen.add(value)
                yield path + ("." if path else "") + name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """The parameters of this module and all below it, with dotted names; a tied one appears once."""
        yield from self._named_members(lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """The parameters of this module and all below it."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """The buffers of this module and all below it, with dotted names."""
        yield from self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Any]:
        """The buffers of this module and all below it."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    # --- changing everything below ------------------------------------------------------------------------------

    def train(self: T, mode: bool = True) -> T:
        """Set training mode here and below (dropout drops, batch norm uses the batch's statistics)."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: T) -> T:
        """``train(False)``."""
        return self.train(False)

    def requires_grad_(self: T, requires_grad: bool = True) -> T:
        """Freeze (False) or unfreeze all parameters."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let go of all gradients, or fill them with zeros."""
        recorder = state.recorder
        for p in self.parameters():
            if recorder is not None:
                gradient_set(p) if set_to_none else gradient_read(p)
            if p._grad is not None:
                if set_to_none:
                    p._grad = None
                elif recorder is not None:
                    inplace.write(p._grad, wrap(np.zeros_like(p._grad._array)))
                else:
                    p._grad = wrap(np.zeros_like(p._grad._array))

    def apply(self: T, fn: Callable[[Any], Any]) -> T:
        """Call ``fn(module)`` for every module below, children first, then for this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _apply(self: T, fn: Callable[[Any], Any], recurse: bool = True) -> T:
        """Replace the memory of every parameter, gradient and buffer by ``fn`` of it."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        for p in self._parameters.values():
            if p is not None:
                hold(p, fn(wrap(held(p)))._array)
                if p._grad is not None:
                    p._grad._array = fn(wrap(p._grad._array))._array
        for name, buffer in self._buffers.items():
            if is_lazy(buffer):
                hold(buffer, fn(wrap(held(buffer)))._array)
            elif buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(self: T, *args: Any, **kwargs: Any) -> T:
        """Convert floating point parameters and buffers: ``to(dtype)``, ``to(device, dtype)``, ``to(tensor)``.

        The only device is the CPU.
        """
        dtype = _parse_to(args, kwargs)
        if dtype is None:
            return self
        if dtype not in dtypes.FLOATS:
            raise TypeError(
                "nn.Module.to only accepts floating point or complex dtypes, but got desired "
                f"dtype={dtypes.from_numpy(dtype)}"
            )

        def convert(t: Any) -> Any:
            if t._array.dtype not in dtypes.FLOATS or t._array.dtype is dtype:
                return t
            return wrap(t._array.astype(dtype))

        return self._apply(convert)

    def type(self: T, dst_type: Any) -> T:
        """Convert all parameters and buffers to a dtype."""
        wanted = dtypes.as_numpy_dtype(dst_type)
        return self._apply(lambda t: wrap(t._array.astype(wanted)))

    def float(self: T) -> T:
        """Floating point parameters and buffers to float32."""
        return self.to(dtypes.float32)

    def double(self: T) -> T:
        """Floating point parameters and buffers to float64."""
        return self.to(dtypes.float64)

    def bfloat16(self: T) -> T:
        """Floating point parameters and buffers to bfloat16."""
        return self.to(dtypes.bfloat16)

    def half(self: T) -> T:
        """Floating point parameters and buffers to float16."""
        return self.to(dtypes.float16)

    def cpu(self: T) -> T:
        """The module itself: it is on the CPU."""
        return self

    def to_empty(self: T, *, device: Any, recurse: bool = True) -> T:
        """Give parameters and buffers new memory on a device (the CPU), without their values."""
        _parse_to((device,), {})
        return self._apply(lambda t: wrap(np.empty_like(t._array)), recurse)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Accepted, without effect: ``chainrule.compile(step)`` compiles whole steps."""

    def cuda(self: T, device: Any = None) -> T:
        """Refused: chainrule runs on the CPU."""
        return self.to("cuda" if device is None else f"cuda:{device}")

    def share_memory(self: T) -> T:
        """The module itself: threads share memory anyway."""
        return self

    # --- printing -----------------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return self.__class__.__name__

    def extra_repr(self) -> str:
        """What stands between the parentheses of the repr; layers override it."""
        return ""

    def __repr__(self) -> str:
        own = self.extra_repr()
        lines = own.split("\n") if own else []
        children = [f"({name}): " + indent(repr(module)) for name, module in self._modules.items()]
        name = self._get_name()
        if not children and len(lines) <= 1:
            return f"{name}({own})"
        return f"{name}(\n  " + "\n  ".join(lines + children) + "\n)"

    def __setstate__(self, state_: dict[str, Any]) -> None:
        self.__dict__.update(state_)
        if "_forward_hooks" not in self.__dict__:  # saved by something that kept no hooks
            self._init_hooks()
        if "_state_dict_hooks" not in self.__dict__:
            self._init_state_hooks()


_OF_A_STEP = {
    name: (
        f": compile() gives a model back as it is, since its backward pass lies outside of it\n"
        f"  Compile a function: step = chainrule.compile(lambda x: model(x).detach()); step(x); step.{name}()"
    )
    for name in ("source", "report", "passes", "llvm")
}
"""What a compiled function has and a model has not, with the way to it."""


def indent(text: str) -> str:
    """``text`` with two spaces before every line but the first."""
    return text.replace("\n", "\n  ")


def _parse_to(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """NumPy's dtype asked for in the arguments of ``to``, or None; refuses devices that are not the CPU."""
    dtype: Any = kwargs.get("dtype")
    device: Any = kwargs.get("device")
    other: Any = kwargs.get("tensor", kwargs.get("other"))
    for x in args:
        if isinstance(x, dtypes.dtype):
            dtype = x
        elif isinstance(x, Variable):
            other = x
        elif not isinstance(x, bool) and x is not None and type(x).__name__ != "memory_format":
            device = x
    if device is not None and not str(device).startswith("cpu"):
        kind = str(device).partition(":")[0]
        what = (
            "Torch not compiled with CUDA enabled" if kind == "cuda" or kind.isdigit() else f"no such device: {device}"
        )
        raise AssertionError(refusal(what))
    if other is not None:
        return other._array.dtype
    return dtypes.as_numpy_dtype(dtype)
