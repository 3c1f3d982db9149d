"""``Optimizer``: parameter groups, per-parameter state, hooks and state dicts. Update rules are in their own files."""

from __future__ import annotations

import copy
import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..core import inplace
from ..core.hooks import RemovableHandle, add_hook
from ..core.live import gradient_read, gradient_set
from ..core.state import state as engine_state
from ..core.variable import Variable, wrap

__all__ = ["Optimizer", "required"]


class _Required:
    """The default of an option that every parameter group must give."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()

_global_pre: dict[int, Any] = {}
_global_post: dict[int, Any] = {}


def register_optimizer_step_pre_hook(hook: Any) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` before every step of every optimizer."""
    return add_hook(_global_pre, hook)


def register_optimizer_step_post_hook(hook: Any) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` after every step of every optimizer."""
    return add_hook(_global_post, hook)


def _typename(x: Any) -> str:
    if isinstance(x, Variable):
        return "torch.FloatTensor"
    kind = type(x)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """A ``step`` method with the optimizer's hooks around it."""

    @functools.wraps(step)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        d = self.__dict__
        pre, post = d.get("_optimizer_step_pre_hooks"), d.get("_optimizer_step_post_hooks")
        self._opt_called = True
        if not (pre or post or _global_pre or _global_post):
            return step(self, *args, **kwargs)
        whole = (self, *args)  # hooks see, and may replace, all arguments, of which the optimizer is the first
        for hook in (*_global_pre.values(), *(pre or {}).values()):
            changed = hook(self, whole, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        f"{step} must return None or a tuple of (new_args, new_kwargs), but got {changed}."
                    )
                whole, kwargs = changed
        result = step(*whole, **kwargs)
        for hook in (*(post or {}).values(), *_global_post.values()):
            hook(self, whole, kwargs)
        return result

    wrapper.hooked = True  # type: ignore[attr-defined]
    return wrapper


class Optimizer:
    """Base class of all optimizers.

    Args:
        params: an iterable of parameters, of ``(name, parameter)`` pairs, or of dicts (parameter groups) with the
            options that differ from ``defaults``.
        defaults: the options of groups that do not give their own.
    """

    param_groups: list[dict[str, Any]]
    state: Any
    _opt_called = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        step = cls.__dict__.get("step")
        if step is not None and not hasattr(step, "hooked"):
            cls.step = _hooked(step)  # type: ignore[method-assign]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self._init_hooks()
        if isinstance(params, Variable):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                + _typename(params)
            )
        self.state = defaultdict(dict)
        self.param_groups = []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _init_hooks(self) -> None:
        self._optimizer_step_pre_hooks: OrderedDict[int, Any] = OrderedDict()
        self._optimizer_step_post_hooks: OrderedDict[int, Any] = OrderedDict()
        self._optimizer_state_dict_pre_hooks: OrderedDict[int, Any] = OrderedDict()
        self._optimizer_state_dict_post_hooks: OrderedDict[int, Any] = OrderedDict()
        self._optimizer_load_state_dict_pre_hooks: OrderedDict[int, Any] = OrderedDict()
        self._optimizer_load_state_dict_post_hooks: OrderedDict[int, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_optimizer_step_pre_hooks" not in self.__dict__:
            self._init_hooks()
        self.defaults.setdefault("differentiable", False)

    def __repr__(self) -> str:
        text = type(self).__name__ + " ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            for key in sorted(group):
                if key != "params":
                    text += f"    {key}: {group[key]}\n"
        return text + ")"

    # --- groups ---------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimize further parameters, with options of their own.

        Raises:
            TypeError, ValueError: for what is not a leaf tensor, is in another group already, or lacks an option.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params: Any = param_group["params"]
        if isinstance(params, Variable):
            params = [params]
        elif isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
                "will change between runs. Please use a list instead."
            )
        params = list(params)
        names = None
        named = [isinstance(p, tuple) for p in params]
        if any(named) and not all(named):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        if any(named):
            names = [name for name, _ in params]
            params = [p for _, p in params]
        for p in params:
            if not isinstance(p, Variable):
                raise TypeError("optimizer can only optimize Tensors, but one of the params is " + _typename(p))
            leaf = p._node is None or getattr(p, "retains_grad", False)
            if not self.defaults.get("differentiable", None) and not leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        group = dict(param_group)
        group["params"] = params
        if names is not None:
            group["param_names"] = names
        for name, default in self.defaults.items():
            if default is required and name not in group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            group.setdefault(name, default)
        if len(params) != len({id(p) for p in params}):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this will cause an error; "
                "see github.com/pytorch/pytorch/issues/40967 for more information",
                stacklevel=3,
            )
        others = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(p) in others for p in params):
            raise ValueError("some parameters appear in more than one parameter group")
        if self.param_groups and ("param_names" in group) != ("param_names" in self.param_groups[0]):
            present = "" if "param_names" in self.param_groups[0] else "out"
            raise ValueError(
                f"all optimizer param groups should be with/without names. cannot add param group with"
                f"{'' if present else 'out'} names to the optimizer"
            )
        param_group.update(group)  # as in PyTorch, the caller's dict becomes the group
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let go of the gradients of all parameters, or fill them with zeros."""
        recorder = engine_state.recorder
        for group in self.param_groups:
            for p in group["params"]:
                if recorder is not None:
                    gradient_set(p) if set_to_none else gradient_read(p)
                g = p._grad
                if g is None:
                    continue
                if set_to_none:
                    p._grad = None
                elif recorder is not None:
                    inplace.write(g, wrap(np.zeros_like(g._array)))
                elif g._node is not None or g._requires:
                    p._grad = wrap(np.zeros_like(g._array))
                else:
                    g._array.fill(0)
                    inplace.touch(g._array)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once; an update rule overrides this."""
        raise NotImplementedError

    # --- hooks ----------------------------------------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Any) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; it may return new ``(args, kwargs)``."""
        return add_hook(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Any) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return add_hook(self._optimizer_step_post_hooks, hook)

    def _put(self, hooks: Any, hook: Any, prepend: bool) -> RemovableHandle:
        handle = add_hook(hooks, hook)
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        return handle

    def register_state_dict_pre_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` before ``state_dict``."""
        return self._put(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` after ``state_dict``; it may return another one."""
        return self._put(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` before loading; it may return another one."""
        return self._put(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` after loading."""
        return self._put(self._optimizer_load_state_dict_post_hooks, hook, prepend)

    # --- state in and out -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state and the groups, with parameters replaced by their numbers (in order of the groups)."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        number: dict[int, int] = {}
        groups: list[dict[str, Any]] = []
        for group in self.param_groups:
            packed = {k: v for k, v in group.items() if k != "params"}
            for p in group["params"]:
                number.setdefault(id(p), len(number))
            packed["params"] = [number[id(p)] for p in group["params"]]
            groups.append(packed)
        packed_state = {
            (number[id(k)] if isinstance(k, Variable) else k): self._separate(v) for k, v in self.state.items()
        }
        result: dict[str, Any] = {"state": packed_state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, result)
            if changed is not None:
                result = changed
        return result

    def _separate(self, state: Any) -> Any:
        """One parameter's state, as it is handed out."""
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` of an optimizer with the same groups gave.

        Raises:
            ValueError: when the number or the sizes of the groups differ; nothing is changed then.
        """
        state_dict = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            if changed is not None:
                state_dict = changed
        saved_groups = copy.deepcopy(state_dict["param_groups"])
        groups = self.param_groups
        if len(groups) != len(saved_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(g["params"]) != len(s["params"]) for g, s in zip(groups, saved_groups, strict=True)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        owner = {
            number: p
            for group, saved in zip(groups, saved_groups, strict=True)
            for p, number in zip(group["params"], saved["params"], strict=True)
        }
        fresh: Any = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in owner:
                p = owner[key]
                fresh[p] = {k: _adapted(v, p, k) for k, v in value.items()} if isinstance(value, dict) else value
            else:
                fresh[key] = copy.deepcopy(value)
        for group, saved in zip(groups, saved_groups, strict=True):
            params = group["params"]
            group.clear()
            group.update(saved)
            group["params"] = params
            for name, default in self.defaults.items():
                if default is not required:
                    group.setdefault(name, default)
        self.__setstate__({"state": fresh, "param_groups": groups})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)


def _adapted(value: Any, p: Any, key: str) -> Any:
    """A copy of a saved state value that fits the parameter: its dtype, except for step counts."""
    if isinstance(value, Variable):
        array = value._array
        floating = p._array.dtype.kind == "f" and array.dtype.kind == "f"
        return wrap(np.array(array) if key == "step" or not floating else array.astype(p._array.dtype))
    if isinstance(value, np.ndarray):
        return _adapted(wrap(value), p, key)
    if isinstance(value, dict):
        return {k: _adapted(v, p, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_adapted(v, p, key) for v in value)
    return copy.deepcopy(value)
