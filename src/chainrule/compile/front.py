"""``chainrule.compile``: record a function once, run it as one native call from then on.

A call finds the recording that was made with arguments of its kind, checks that what it depended on is as it was, and
runs it; otherwise the function is recorded anew. Parameters, optimizer state and gradients stay the tensors they are,
so compiled and eager code can be mixed.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
import warnings
from collections.abc import Callable
from typing import Any

from ..core.dtypes import default
from ..core.state import state
from ..errors import UsageError, message
from .arguments import flatten, same_memory
from .errors import CompileError, refused
from .fast import fast_path
from .variant import MISS, Variant, busy, running

__all__ = ["Compiled", "compile_function", "CompileError"]

MOST = 64
"""Recordings that one function keeps; the one that was not used for longest goes."""
KEPT = 8
"""Recordings that are kept for arguments of the same shapes, dtypes and modes."""
MANY = 8
"""From so many values of one plain argument on, a warning says that each is compiled by itself."""


class Compiled:
    """A compiled function: call it as the original. ``source()``, ``report()``, ``passes()`` and ``llvm()`` show it."""

    def __init__(self, fn: Callable[..., Any], *, fallback: bool = False) -> None:
        functools.update_wrapper(self, fn)
        self.__wrapped__ = fn
        self.fallback = fallback
        self.variants: dict[Any, list[Variant]] = {}
        self._last: Variant | None = None
        self._eager: str = ""
        self._arity = -1
        self._fast: Any = None
        self._values: dict[Any, set[Any]] = {}
        self._many = False

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __deepcopy__(self, memo: Any) -> Compiled:
        return Compiled(copy.deepcopy(self.__wrapped__, memo), fallback=self.fallback)

    def __reduce__(self) -> Any:
        return functools.partial(Compiled, fallback=self.fallback), (self.__wrapped__,)

    def __repr__(self) -> str:
        return f"<compiled {getattr(self.__wrapped__, '__qualname__', self.__wrapped__)}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs and len(args) == self._arity:
            result = self._fast(*args)
            if result is not MISS:
                return result
        if state.recorder is not None or self._eager or state.saved_hooks is not None or state.anomaly:
            return self.__wrapped__(*args, **kwargs)  # recorded elsewhere, or every op is to be looked at
        leaves: list[Any] = []
        spec = (flatten(args, leaves), flatten(kwargs, leaves))
        key: list[Any] = [spec, state.grad, state.inference, default.numpy]
        for t in leaves:
            key += [t._array.shape, t._array.dtype, t._requires, t._requires and (t._node is None, t._grad is None)]
        if len(leaves) > 1:
            key.append(same_memory(leaves))
        found = tuple(key)
        with running:
            for variant in self.variants.get(found, ()):
                result = variant.run(leaves)
                if result is not MISS:
                    self._use(variant)
                    return result
            return self._record(found, spec, leaves, args, kwargs)

    def _use(self, variant: Variant) -> None:
        if self._last is not variant:
            self._last = variant
            if variant.short is None:
                variant.short = (fast_path(variant),)
            self._fast = variant.short[0]
            self._arity = -1 if self._fast is None else variant.leaves_n

    def _record(self, key: Any, spec: Any, leaves: list[Any], args: Any, kwargs: Any) -> Any:
        busy[0] += 1
        try:
            variant = Variant(self.__wrapped__, args, kwargs, spec, leaves)
            result = variant.run(leaves)
            if result is MISS:
                raise CompileError("compile: what was just recorded does not fit its own arguments")
        except Exception as error:
            if not self.fallback or not refused(error):
                raise
            self._eager = str(error).splitlines()[0]
            name = getattr(self.__wrapped__, "__qualname__", "function")
            warnings.warn(f"{name} runs eagerly: {error}", stacklevel=3)
            return self.__wrapped__(*args, **kwargs)
        finally:
            busy[0] -= 1
        if not variant.once:
            self._keep(key, variant)
            self._use(variant)
        elif self._last is None:
            self._last = variant  # to be shown
        return result

    def _keep(self, key: Any, variant: Variant) -> None:
        known = self.variants.pop(key, [])
        known.insert(0, variant)
        if len(known) > KEPT:
            self._warn_of_many(known)
            del known[KEPT:]
        self.variants[key] = known
        while len(self.variants) > MOST:
            self.variants.pop(next(iter(self.variants)))
        self._count_values(key[0])

    def _warn_of_many(self, known: list[Variant]) -> None:
        """Say once that recordings are dropped, and what made the last one necessary."""
        if self._many:
            return
        self._many = True
        what = known[1].guards.difference()
        why = f", the last time because of a change of: {what}" if what else ""
        warnings.warn(
            f"compile: {getattr(self, '__name__', 'a function')} has been recorded {len(known)} times for the same "
            f"shapes{why}. Each recording takes far longer than a step: keep what changes in a tensor.",
            stacklevel=5,
        )

    def _count_values(self, spec: Any) -> None:
        """Warn where a number among the arguments takes ever new values."""
        for name, x in _numbers(spec, ""):
            seen = self._values.setdefault(name, set())
            seen.add(x)
            if len(seen) == MANY:
                warnings.warn(
                    f"compile: {self.__name__} has been compiled for {MANY} values of {name} (now {x.x!r}): each value "  # type: ignore[attr-defined]
                    f"is compiled by itself. Pass a tensor instead: torch.tensor({x.x!r}).",
                    stacklevel=5,
                )

    # -- glass box -------------------------------------------------------------------------------------------------

    def _variant(self) -> Variant:
        if self._last is None:
            raise UsageError(message(
                "nothing is compiled yet" if not self._eager else f"this function runs eagerly: {self._eager}",
                fix="Call the function once first.",
            ))  # fmt: skip
        return self._last

    def source(self) -> Any:
        """The program that runs, as NumPy (a ``str``; ``source.memory`` are the arrays that it reads and updates)."""
        from .show import names_of, source

        variant = self._variant()
        return source(variant.step, names_of(variant.step, variant.names, len(variant.results.kinds)))

    def report(self) -> Any:
        """Per kernel: what was fused, bytes, flops, time; and what has no native form, and why."""
        from .show import report

        return report(self._variant().step)

    def passes(self) -> Any:
        """The program as it was recorded and after every pass, to print."""
        from .show import passes

        variant = self._variant()
        return passes(variant.raw, variant.frozen, variant.names)

    def llvm(self) -> str:
        """The LLVM IR of the step."""
        return self._variant().step.ir


def _numbers(spec: Any, path: str) -> Any:
    """The plain numbers in a description of arguments, with where they stand."""
    kind = spec[0]
    if kind == "p":
        if type(spec[1].x) in (int, float):
            yield path or "an argument", spec[1]
    elif isinstance(kind, type):
        keys = spec[1] if len(spec) == 3 else range(len(spec[1]))
        for k, s in zip(keys, spec[-1], strict=True):
            yield from _numbers(s, f"{path}.{k}" if path else f"argument {k}" if isinstance(k, int) else str(k))
    elif kind not in ("t", "a", "o"):
        yield from _numbers(spec[0], path)
        yield from _numbers(spec[1], path)


def compile_function(fn: Any = None, *, fallback: bool = False) -> Any:
    """Compile a function or a whole training step into one native call; also as a decorator.

    The first call records the function and compiles it; calls with other shapes, dtypes or modes record again. Learning
    rates, step counts and random numbers stay live.

    Args:
        fn: a function of tensors. It may call ``backward`` and ``optimizer.step``.
        fallback: run eagerly, saying why once, where a function cannot be compiled (it looks at a tensor's value).

    Raises:
        CompileError: with the line that cannot be recorded; everything is as before the call then.

    >>> import chainrule as torch
    >>> @torch.compile
    ... def f(x):
    ...     return (x * 2 + 1).sum()
    >>> f(torch.tensor([1.0, 2.0])), f(torch.tensor([1.0, 3.0]))
    (tensor(8.), tensor(10.))
    """
    if fn is None:
        return functools.partial(compile_function, fallback=fallback)
    if isinstance(fn, Compiled):
        return fn
    if not callable(fn):
        raise TypeError(f"compile: expected a function, got {type(fn).__name__}")
    inner = fn.func if isinstance(fn, functools.partial) else fn
    if inspect.isgeneratorfunction(inner) or inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        raise CompileError(message(
            f"compile: {getattr(inner, '__qualname__', inner)} is a generator or a coroutine",
            fix="Compile the function that it calls for each item.",
        ))  # fmt: skip
    return Compiled(fn, fallback=fallback)
