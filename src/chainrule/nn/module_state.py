"""``state_dict`` and ``load_state_dict``: a module's tensors out and in, by name."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from ..core import inplace
from ..core.hooks import RemovableHandle, add_hook
from ..core.variable import Variable, wrap

__all__ = ["StatefulModule", "IncompatibleKeys"]

EXTRA = "_extra_state"
_NEVER = (
    "Reached a code path in Module.{}_extra_state() that should never be called. Please file an issue at "
    "https://github.com/pytorch/pytorch/issues/new?template=bug-report.yml to report this bug."
)


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict`` returns: names without a value, and values without a name."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"

    __str__ = __repr__


class _Problems(list[str]):
    """The messages of one load, and the copies to make once it is known that there are no messages."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[Any] = []


class _PublicHook:
    """A state_dict hook that changes the dict in place and returns nothing."""

    def __init__(self, hook: Any) -> None:
        self.hook = hook

    def __call__(self, *args: Any) -> Any:
        return self.hook(*args)


class StatefulModule:
    """The half of Module that reads and writes state dicts."""

    _version: int = 1
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]

    def _init_state_hooks(self) -> None:
        d = self.__dict__
        d["_state_dict_hooks"] = OrderedDict()
        d["_state_dict_pre_hooks"] = OrderedDict()
        d["_load_state_dict_pre_hooks"] = OrderedDict()
        d["_load_state_dict_post_hooks"] = OrderedDict()

    # --- out ------------------------------------------------------------------------------------------------------

    def get_extra_state(self) -> Any:
        """Override to put more than tensors into the state_dict (with ``set_extra_state``)."""
        raise RuntimeError(_NEVER.format("get"))

    def set_extra_state(self, state: Any) -> None:
        """Override to take back what ``get_extra_state`` gave."""
        raise RuntimeError(_NEVER.format("set"))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, p in self._parameters.items():
            if p is not None:
                destination[prefix + name] = p if keep_vars else p.detach()
        for name, b in self._buffers.items():
            if b is not None and name not in self._non_persistent_buffers_set:
                destination[prefix + name] = b if keep_vars else b.detach()
        if type(self).get_extra_state is not StatefulModule.get_extra_state:
            destination[prefix + EXTRA] = self.get_extra_state()

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> OrderedDict[str, Any]:
        """All parameters and persistent buffers by dotted name, sharing their memory.

        >>> import chainrule as torch
        >>> list(torch.nn.Sequential(torch.nn.Linear(2, 1)).state_dict())
        ['0.weight', '0.bias']
        """
        if args:  # an old calling convention: (destination, prefix, keep_vars)
            destination = args[0]
            prefix = args[1] if len(args) > 1 else prefix
            keep_vars = args[2] if len(args) > 2 else keep_vars
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in self._state_dict_pre_hooks.values():  # type: ignore[attr-defined]
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():  # type: ignore[attr-defined]
            changed = hook(self, destination, prefix, metadata)
            if changed is not None:
                if isinstance(hook, _PublicHook):
                    raise RuntimeError("state_dict post-hook must return None")
                destination = changed
        return destination

    def register_state_dict_post_hook(self, hook: Any) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after the state_dict is made."""
        return add_hook(self._state_dict_hooks, _PublicHook(hook))  # type: ignore[attr-defined]

    def _register_state_dict_hook(self, hook: Any) -> RemovableHandle:
        """The older form, whose hook may return another dict."""
        return add_hook(self._state_dict_hooks, hook)  # type: ignore[attr-defined]

    def register_state_dict_pre_hook(self, hook: Any) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before the state_dict is made."""
        return add_hook(self._state_dict_pre_hooks, hook)  # type: ignore[attr-defined]

    # --- in -------------------------------------------------------------------------------------------------------

    def register_load_state_dict_pre_hook(self, hook: Any) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, metadata, strict, missing, unexpected, errors)`` before loading."""
        return add_hook(self._load_state_dict_pre_hooks, lambda *args: hook(self, *args))  # type: ignore[attr-defined]

    def _register_load_state_dict_pre_hook(self, hook: Any, with_module: bool = False) -> RemovableHandle:
        wrapped = (lambda *args: hook(self, *args)) if with_module else hook
        return add_hook(self._load_state_dict_pre_hooks, wrapped)  # type: ignore[attr-defined]

    def register_load_state_dict_post_hook(self, hook: Any) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after loading; it may change the lists."""
        return add_hook(self._load_state_dict_post_hooks, hook)  # type: ignore[attr-defined]

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take this module's own tensors (not its children's) from ``state_dict``."""
        for hook in self._load_state_dict_pre_hooks.values():  # type: ignore[attr-defined]
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        assign = bool(local_metadata.get("assign_to_params_buffers", False))
        own = [*self._parameters.items()]
        own += [(k, b) for k, b in self._buffers.items() if k not in self._non_persistent_buffers_set]
        names = {name for name, t in own if t is not None}
        for name, t in own:
            key = prefix + name
            if t is None:
                continue
            if key not in state_dict:
                if strict:
                    missing_keys.append(key)
                continue
            value = state_dict[key]
            if hasattr(t, "materialize"):  # both without a shape: a lazy module gave its tensors the loaded shapes
                continue
            problem = _unfit(key, t, value)
            if problem is not None:
                error_msgs.append(problem)
                continue
            _later(error_msgs, self, name, t, value, assign)
        extra = prefix + EXTRA
        if type(self).set_extra_state is not StatefulModule.set_extra_state:
            if extra in state_dict:
                self.set_extra_state(state_dict[extra])
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra:
                    head, _, rest = key[len(prefix) :].partition(".")
                    if head not in self._modules if rest else head not in names:
                        unexpected_keys.append(key)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> IncompatibleKeys:
        """Copy the tensors of ``state_dict`` into this module's (``assign``: put them in their place).

        Nothing is copied unless everything fits.

        Args:
            state_dict: tensors by dotted name.
            strict: names that are missing or unexpected are errors; else they are only reported.
            assign: take the tensors themselves, with their dtype, instead of copying.

        Raises:
            RuntimeError: with one line per missing or unexpected name and per shape that differs.
        """
        if not hasattr(state_dict, "items"):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing: list[str] = []
        unexpected: list[str] = []
        problems = _Problems()
        metadata = getattr(state_dict, "_metadata", None) or {}
        state_dict = OrderedDict(state_dict)
        result = IncompatibleKeys(missing, unexpected)

        def load(module: Any, local: Any, prefix: str) -> None:
            about = dict(metadata.get(prefix[:-1], {}))
            if assign:
                about["assign_to_params_buffers"] = True
            module._load_from_state_dict(local, prefix, about, True, missing, unexpected, problems)
            for name, child in module._modules.items():
                if child is not None:
                    inner = prefix + name + "."
                    load(child, {k: v for k, v in local.items() if k.startswith(inner)}, inner)
            for hook in module._load_state_dict_post_hooks.values():
                hook(module, result)

        load(self, state_dict, "")
        messages = list(problems)
        if strict:
            for what, keys in (("Unexpected", unexpected), ("Missing", missing)):
                if keys:
                    names = ", ".join(f'"{k}"' for k in keys)
                    messages.insert(0, f"{what} key(s) in state_dict: {names}. ")
        if messages:
            lines = "\n\t".join(messages)
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{lines}")
        for change in problems.pending:
            change()
        return result


def _unfit(key: str, t: Any, value: Any) -> str | None:
    """Why ``value`` cannot go into ``t``, in PyTorch's words; None when it can."""
    if not isinstance(value, (Variable, np.ndarray)):
        return (
            f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object from checkpoint '
            f"but received {type(value)}"
        )
    value.shape  # noqa: B018 - raises for an uninitialised parameter, with PyTorch's advice
    array = value._array if isinstance(value, Variable) else value
    if array.shape != t._array.shape and not (t._array.ndim == 0 and array.shape == (1,)):
        return (
            f"size mismatch for {key}: copying a param with shape torch.Size({list(array.shape)}) from checkpoint, "
            f"the shape in current model is torch.Size({list(t._array.shape)})."
        )
    return None


def _later(problems: list[str], module: Any, name: str, t: Any, value: Any, assign: bool) -> None:
    """Store ``value`` in ``t`` once the whole load is known to fit; at once when called outside of a load."""

    def change() -> None:
        if assign:
            array = value._array if isinstance(value, Variable) else np.array(value)
            if name in module._parameters:
                from .parameter import Parameter

                fresh = value if isinstance(value, Parameter) else Parameter(wrap(array), t._requires)
                module._parameters[name] = fresh
            else:
                module._buffers[name] = value if isinstance(value, Variable) else wrap(array)
            return
        array = value._array if isinstance(value, Variable) else value
        t._array[...] = array.reshape(t._array.shape)
        inplace.touch(t._array)

    if isinstance(problems, _Problems):
        problems.pending.append(change)
    else:
        change()
