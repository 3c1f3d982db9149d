"""The slow path of a module call: with hooks. Modules without hooks never come here."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from ..autograd.engine import node_hooks
from ..core.hooks import RemovableHandle, add_hook
from ..core.variable import Variable
from ..ops.boundary import boundary

__all__ = ["HookedModule", "call_hooked", "global_hooks"]


class _GlobalHooks:
    """Hooks on every module (``nn.modules.module.register_module_forward_hook`` and its kin)."""

    def __init__(self) -> None:
        self.pre: dict[int, Any] = {}
        self.forward: dict[int, Any] = {}
        self.backward: dict[int, Any] = {}
        self.backward_pre: dict[int, Any] = {}
        self.with_kwargs: set[int] = set()
        self.always: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self.pre or self.forward or self.backward or self.backward_pre)


global_hooks = _GlobalHooks()


class HookedModule:
    """The registration half of Module's hooks. ``_hooked`` stays False until the first one is registered."""

    _hooked = False
    _forward_hooks: OrderedDict[int, Any]
    _forward_pre_hooks: OrderedDict[int, Any]
    _backward_hooks: OrderedDict[int, Any]
    _backward_pre_hooks: OrderedDict[int, Any]

    def _init_hooks(self) -> None:
        d = self.__dict__
        d["_backward_pre_hooks"] = OrderedDict()
        d["_backward_hooks"] = OrderedDict()
        d["_forward_hooks"] = OrderedDict()
        d["_forward_pre_hooks"] = OrderedDict()
        # Hooks that want keyword arguments too, or run when forward raises, by the hook's id.
        d["_forward_hooks_with_kwargs"] = OrderedDict()
        d["_forward_hooks_always_called"] = OrderedDict()
        d["_forward_pre_hooks_with_kwargs"] = OrderedDict()

    def _register(self, hooks: Any, hook: Any, prepend: bool, *marks: Any) -> RemovableHandle:
        self.__dict__["_hooked"] = True
        handle = add_hook(hooks, hook)
        for mark in marks:
            if mark is not None:
                mark[handle.id] = True
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        return handle

    def register_forward_pre_hook(
        self, hook: Any, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before every forward; what it returns replaces the arguments.

        With ``with_kwargs`` it is ``hook(module, args, kwargs)`` and returns None or ``(args, kwargs)``.
        """
        d = self.__dict__
        marks = d["_forward_pre_hooks_with_kwargs"] if with_kwargs else None
        return self._register(self._forward_pre_hooks, hook, prepend, marks)

    def register_forward_hook(
        self, hook: Any, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after every forward; what it returns replaces the output.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``. ``always_call`` runs it also when forward
        raised (with ``output`` None).
        """
        d = self.__dict__
        return self._register(
            self._forward_hooks,
            hook,
            prepend,
            d["_forward_hooks_with_kwargs"] if with_kwargs else None,
            d["_forward_hooks_always_called"] if always_call else None,
        )

    def register_full_backward_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradient of the module's inputs is known.

        A returned tuple replaces ``grad_input``.
        """
        return self._register_backward(hook, prepend, True)

    def _register_backward(self, hook: Any, prepend: bool, full: bool) -> RemovableHandle:
        if self.__dict__.setdefault("_is_full_backward_hook", full) is not full and self._backward_hooks:
            raise RuntimeError(
                "Cannot use both regular backward hooks and full backward hooks on a single Module. Please use only "
                "one of them."
            )
        self.__dict__["_is_full_backward_hook"] = full
        return self._register(self._backward_hooks, hook, prepend)

    def register_backward_hook(self, hook: Any) -> RemovableHandle:
        """The older name of ``register_full_backward_hook``; a module has hooks of one name only."""
        return self._register_backward(hook, False, False)

    def register_full_backward_pre_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before the module's own backward; a returned tuple replaces it."""
        return self._register(self._backward_pre_hooks, hook, prepend)


def register_module_forward_pre_hook(hook: Any) -> RemovableHandle:
    """Call ``hook(module, args)`` before the forward of every module."""
    return add_hook(global_hooks.pre, hook)


def register_module_forward_hook(hook: Any, *, with_kwargs: bool = False, always_call: bool = False) -> RemovableHandle:
    """Call ``hook(module, args, output)`` after the forward of every module."""
    handle = add_hook(global_hooks.forward, hook)
    for wanted, marks in ((with_kwargs, global_hooks.with_kwargs), (always_call, global_hooks.always)):
        if wanted:
            marks.add(handle.id)
    return handle


def register_module_full_backward_pre_hook(hook: Any) -> RemovableHandle:
    """Call ``hook(module, grad_output)`` before the backward of every module."""
    return add_hook(global_hooks.backward_pre, hook)


def register_module_full_backward_hook(hook: Any) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` after the backward of every module."""
    return add_hook(global_hooks.backward, hook)


def register_module_backward_hook(hook: Any) -> RemovableHandle:
    """The older name of ``register_module_full_backward_hook``."""
    return add_hook(global_hooks.backward, hook)


def call_hooked(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``forward`` with everything that is registered around it."""
    done: set[int] = set()
    result = None
    try:
        for key, hook in (*global_hooks.pre.items(), *module._forward_pre_hooks.items()):
            if key in module._forward_pre_hooks_with_kwargs:
                changed = hook(module, args, kwargs)
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise RuntimeError(
                            "forward pre-hook must return None or a tuple of (new_args, new_kwargs), "
                            f"but got {changed}."
                        )
                    args, kwargs = changed
            else:
                changed = hook(module, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        backward = [*global_hooks.backward.values(), *module._backward_hooks.values()]
        backward_pre = [*global_hooks.backward_pre.values(), *module._backward_pre_hooks.values()]
        entry = _Boundary(module, backward, backward_pre) if backward or backward_pre else None
        if entry is not None:
            args = entry.enter(args)
        result = module.forward(*args, **kwargs)
        for key, hook in (*global_hooks.forward.items(), *module._forward_hooks.items()):
            done.add(key)
            with_kwargs = key in module._forward_hooks_with_kwargs or key in global_hooks.with_kwargs
            changed = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
            if changed is not None:
                result = changed
        if entry is not None:
            result = entry.leave(result)
        return result
    except Exception:
        for key in (*global_hooks.always, *module._forward_hooks_always_called):
            hook = global_hooks.forward.get(key) or module._forward_hooks.get(key)
            if hook is not None and key not in done:
                if key in module._forward_hooks_with_kwargs or key in global_hooks.with_kwargs:
                    hook(module, args, kwargs, result)
                else:
                    hook(module, args, result)
        raise


class _Boundary:
    """Identity nodes around a module, where its backward hooks hang.

    The inputs that require grad pass through one node, the outputs through another, so the gradients of all of them
    come together. What the hooks get is what flows through those nodes.
    """

    def __init__(self, module: Any, hooks: list[Any], pre: list[Any]) -> None:
        self.module, self.hooks, self.pre = module, hooks, pre
        self.grad_output: tuple[Any, ...] | None = None
        self.places: list[int] = []
        self.count = 0

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.count = len(args)
        self.places = [i for i, x in enumerate(args) if isinstance(x, Variable) and x._requires]
        if not self.places or not self.hooks:
            return args
        outs = boundary(*[args[i] for i in self.places])
        node = outs[0].grad_fn
        if node is None:  # no_grad
            return args
        node_hooks(node).post[id(self)] = self._at_inputs
        changed = list(args)
        for i, t in zip(self.places, outs, strict=True):
            changed[i] = t
        return tuple(changed)

    def leave(self, result: Any) -> Any:
        single = isinstance(result, Variable)
        if not single and not isinstance(result, (tuple, list)):
            return result
        items: list[Any] = [result] if single else list(result)  # type: ignore[arg-type]
        places = [i for i, x in enumerate(items) if isinstance(x, Variable) and x._requires]
        if not places:
            return result
        outs = boundary(*[items[i] for i in places])
        node = outs[0].grad_fn
        if node is None:
            return result
        self.out_places, self.out_count = places, len(items)
        node_hooks(node).post[id(self)] = self._at_outputs
        for i, t in zip(places, outs, strict=True):
            items[i] = t
        if single:
            return items[0]
        return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)

    def _at_outputs(self, grad_inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> Any:
        spread = _spread(grad_inputs, self.out_places, self.out_count)
        for hook in self.pre:
            changed = hook(self.module, spread)
            if changed is not None:
                spread = changed if isinstance(changed, tuple) else (changed,)
        self.grad_output = spread
        if self.hooks and not self.places:
            # No input wants a gradient: the hooks run now, as PyTorch has it.
            for hook in self.hooks:
                changed = hook(self.module, (None,) * self.count, spread)
                if changed is not None:
                    _refuse_change()
        return tuple(spread[i] for i in self.out_places)

    def _at_inputs(self, grad_inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> Any:
        spread = _spread(grad_inputs, self.places, self.count)
        for hook in self.hooks:
            changed = hook(self.module, spread, self.grad_output)
            if changed is not None:
                changed = changed if isinstance(changed, tuple) else (changed,)
                if len(changed) != len(spread):
                    raise RuntimeError(
                        f"Backward hook returned an invalid number of grad_input, got {len(changed)}, "
                        f"but expected {len(spread)}"
                    )
                spread = changed
        return tuple(spread[i] for i in self.places)


def _refuse_change() -> None:
    raise RuntimeError(
        "Backward hook for Modules where no input requires gradient should always return None or None for all "
        "gradients."
    )


def _spread(values: Any, places: list[int], count: int) -> tuple[Any, ...]:
    out: list[Any] = [None] * count
    for i, v in zip(places, values, strict=True):
        out[i] = v
    return tuple(out)
