"""``chainrule.compile``: record a function once, run it as one native call from then on.

The first call with a new kind of arguments runs the function with a recorder and compiles what was recorded; that run
is a real step, so nothing is computed twice. Later calls check the guards and run the native step. Parameters,
optimizer state and gradients stay the tensors they are, so compiled and eager code can be mixed.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import sys
import threading
import types
from collections.abc import Callable
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import numpy as np

from ..core.state import state
from ..core.variable import Variable, wrap
from ..errors import ChainruleError, OpError, UsageError, message
from ..graph.program import Program, Value
from ..graph.trace import Recorder

__all__ = ["Compiled", "compile_function", "CompileError"]

_array_of = attrgetter("_array")
_dict_values = dict.values
_refs = sys.getrefcount


class CompileError(OpError):
    """A function cannot be compiled."""


class _Recorder(Recorder):
    """A recorder that also remembers tensors behind constants, and what to do again before every run."""

    def __init__(self, strict: bool) -> None:
        super().__init__(strict=strict)
        self.actions: list[tuple[str, Any, Any]] = []
        self.tensors: dict[Value, Any] = {}
        self.before: dict[int, tuple[Any, Any]] = {}

    def live(self, getter: Callable[[], Any], dtype: Any = None) -> Any:
        current = getter()
        array = np.array(current._array if isinstance(current, Variable) else current, dtype)
        tensor = wrap(array)
        self.constant(array)
        self.actions.append(("live", getter, array))
        return tensor

    def live_all(self, getter: Callable[[], Any], size: int) -> list[Any]:
        """``size`` numbers from one call of ``getter``."""
        memory = np.array(getter(), np.float64)
        parts = [memory[i : i + 1].reshape(()) for i in range(size)]
        for part in parts:
            self.constant(part)
        self.actions.append(("many", getter, memory))
        return [wrap(part) for part in parts]

    def each_run(self, action: Callable[[], None]) -> None:
        action()
        self.actions.append(("do", action, None))

    def random(self, t: Any, draw: Callable[[], Any] | None = None) -> None:
        if draw is None:
            self.leak(t, "random numbers that cannot be drawn again")
            return
        self.constant(t._array)
        self.actions.append(("draw", draw, t._array))

    def value(self, x: Any) -> Value:
        found = super().value(x)
        if isinstance(x, Variable) and found in self.program.constants and found not in self.tensors:
            self.tensors[found] = x
        return found


# --- what a function can reach ------------------------------------------------------------------------------------


class _Reach:
    """The tensors, modules and optimizers that a function refers to: its closure, globals it names, its self."""

    def __init__(self, fn: Any) -> None:
        self.tensors: dict[int, Any] = {}
        self.modules: dict[int, Any] = {}
        self.optimizers: dict[int, Any] = {}
        self.roots: list[Any] = []
        self.cells: list[tuple[Any, Any]] = []
        self.names: list[tuple[dict[str, Any], str, Any]] = []
        self._seen: set[int] = set()
        self._keep: list[Any] = []
        self.function(fn, 0)

    def function(self, fn: Any, depth: int) -> None:
        fn = fn.func if isinstance(fn, functools.partial) else fn
        if isinstance(fn, types.MethodType):
            self.thing(fn.__self__, depth)
            fn = fn.__func__
        if not isinstance(fn, types.FunctionType):
            self.thing(fn, depth)
            return
        if id(fn) in self._seen or depth > 4:
            return
        self._seen.add(id(fn))
        for cell in fn.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                continue
            self.cells.append((cell, content))
            self.thing(content, depth + 1)
        stack = [fn.__code__]
        while stack:
            code = stack.pop()
            for name in code.co_names:
                if name in fn.__globals__:
                    content = fn.__globals__[name]
                    if isinstance(content, (types.ModuleType, type)):
                        continue
                    self.names.append((fn.__globals__, name, content))
                    self.thing(content, depth + 1)
            stack.extend(c for c in code.co_consts if isinstance(c, types.CodeType))
        for default in fn.__defaults__ or ():
            self.thing(default, depth + 1)

    def thing(self, x: Any, depth: int) -> None:
        if depth > 6 or id(x) in self._seen or isinstance(x, (str, bytes, int, float, bool, type(None), np.ndarray)):
            return
        if isinstance(x, (types.FunctionType, types.MethodType)):
            if not (getattr(x, "__module__", "") or "").startswith("chainrule."):
                self.function(x, depth)
            return
        self._seen.add(id(x))
        self._keep.append(x)
        if isinstance(x, Variable):
            self.tensors[id(x)] = x
        elif hasattr(x, "named_modules") and hasattr(x, "_parameters"):
            self.roots.append(x)
            for m in x.modules():
                self.modules[id(m)] = m
            for t in chain(x.parameters(), x.buffers()):
                self.tensors[id(t)] = t
        elif hasattr(x, "param_groups") and hasattr(x, "step"):
            self.optimizers[id(x)] = x
            for group in x.param_groups:
                for p in group["params"]:
                    self.tensors[id(p)] = p
        elif isinstance(x, (list, tuple, set, frozenset)):
            if len(x) <= 10000:
                for item in x:
                    self.thing(item, depth + 1)
        elif isinstance(x, dict):
            for item in list(x.values())[:10000]:
                self.thing(item, depth + 1)
        elif isinstance(x, Compiled):
            self.function(x.__wrapped__, depth)
        elif hasattr(x, "__dict__") and not isinstance(x, (type, types.ModuleType)):
            for item in list(vars(x).values()):
                self.thing(item, depth + 1)


# --- arguments ----------------------------------------------------------------------------------------------------


def _flatten(x: Any, leaves: list[Any]) -> Any:
    """The structure of nested lists, tuples and dicts, with tensors taken out into ``leaves``."""
    if isinstance(x, Variable):
        leaves.append(x)
        return ("t",)
    if isinstance(x, np.ndarray):
        leaves.append(wrap(x))
        return ("t",)
    if isinstance(x, (list, tuple)):
        return (type(x), tuple(_flatten(i, leaves) for i in x))
    if isinstance(x, dict):
        return (dict, tuple((k, _flatten(v, leaves)) for k, v in x.items()))
    try:
        hash(x)
    except TypeError:
        return ("id", id(x))
    return ("s", type(x), x)


def _unflatten(spec: Any, leaves: Any) -> Any:
    if spec[0] == "t":
        return next(leaves)
    if spec[0] == "s":
        return spec[2]
    if spec[0] is dict:
        return {k: _unflatten(v, leaves) for k, v in spec[1]}
    items = [_unflatten(s, leaves) for s in spec[1]]
    if spec[0] is list:
        return items
    return tuple(items) if spec[0] is tuple else spec[0](*items)


class _Variant:
    """One recorded and compiled program with its guards."""

    def __init__(self, compiled: Compiled, args: Any, kwargs: Any) -> None:
        self.compiled = compiled
        fn = compiled.__wrapped__
        self.reach = reach = _Reach(fn)
        leaves: list[Any] = []
        self.spec = (_flatten(args, leaves), _flatten(kwargs, leaves))
        self.saved = _snapshot(reach, leaves)
        self.recorder: Any = _Recorder(strict=True)
        recorder = self.recorder
        known = {id(t) for t in leaves}
        candidates = [t for t in chain(leaves, reach.tensors.values()) if t._node is None and t._requires]
        candidates = list({id(t): t for t in candidates}.values())
        entry = {}
        for p in candidates:
            if p._grad is None and id(p) not in known:
                entry[id(p)] = p._grad = wrap(np.zeros(p._array.shape, p._array.dtype))
        for i, t in enumerate(leaves):
            if any(t._array is other._array for other in leaves[:i]):
                continue
            recorder.input(t, f"x{i}")
        try:
            with recorder:
                result = fn(*args, **kwargs)
        except BaseException as error:
            _restore(self.saved)
            raise _explained(error) from error
        self.finish(leaves, candidates, entry, result)

    def finish(self, leaves: list[Any], candidates: list[Any], entry: dict[int, Any], result: Any) -> None:
        recorder = self.recorder
        outs: list[Any] = []
        self.out_spec = _flatten(result, outs)
        for t in outs:
            if t._requires and t._node is not None and not _freed(t._node):
                _restore(self.saved)
                raise CompileError(message(
                    "the compiled function returns a tensor that still needs its graph",
                    f"shape {tuple(t._array.shape)}: gradients could not flow back through the native code",
                    fix="Call backward() inside the function, or compute under torch.no_grad(), or return t.detach().",
                ))  # fmt: skip
        grads: list[tuple[Any, Any]] = []
        self.cleared: list[Any] = []
        self.accumulated: list[tuple[Any, Any]] = []
        written = recorder._last_write
        for p in candidates:
            g = p._grad
            if g is entry.get(id(p)):
                if g is None:
                    continue
                if written(g._array):
                    self.accumulated.append((p, g))  # an update of memory that is there before the call
                else:
                    p._grad = None
                continue
            if g is None:
                self.cleared.append(p)
            elif id(p) not in entry and g._array is not None and recorder._values.get(id(g._array)) is None:
                continue  # a gradient from before that nobody touched
            elif written(g._array) and recorder._values[id(g._array)][0] in recorder.program.constants:
                self.accumulated.append((p, g))
            else:
                grads.append((p, g))
        for p, g in list(grads):
            value = recorder._values.get(id(g._array))
            if value is not None and any(v is value[0] for v in recorder.program.constants):
                grads.remove((p, g))
        program = recorder.finish([*outs, *(g for _, g in grads)])
        self.outs_n = len(outs)
        self.leaves_n = len(leaves)
        self.requires = [t._requires for t in leaves]
        self.returned = [(t._array.shape, t._array.dtype) for t in outs]
        self.grads: list[tuple[Any, Any]] = []
        gradients: list[Any] = []
        for p, g in grads:
            keep = wrap(np.array(g._array, order="C"))
            p._grad = keep
            self.grads.append((p, tuple(keep._array.shape)))
            gradients.append(keep)
            del keep
        self.kept = [gradients, [g._array for g in gradients]]
        self.actions = recorder.actions
        tensors = recorder.tensors
        input_ids = {id(t) for t in leaves}
        bound = [(v, t) for v, t in tensors.items() if id(t) not in input_ids]
        frozen = self.find_frozen(recorder, program, [t for _, t in bound])
        self.result = result
        self.bound = bound
        self.build(program, frozen)
        self.tensors = [t for _, t in self.bound]
        self.arrays = [t._array for t in self.tensors]
        self.guard_objects()
        self.saved = None
        self.recorder = None

    def find_frozen(self, recorder: _Recorder, program: Program, tensors: list[Any]) -> set[Value]:
        """Constants that the library made while recording (the 1 that backward starts from): nobody can change them."""
        reachable = {id(t._array) for t in self.reach.tensors.values()}
        live = {id(memory) for _, _, memory in self.actions if memory is not None}
        frozen: set[Value] = set()
        for v, array in program.constants.items():
            if array.size != 1 or id(array) in reachable or id(array) in live or array.base is not None:
                continue
            t = recorder.tensors.get(v)
            # Held by the recorder (constants, _outside, _kept), this loop and, at most, one tensor of the engine's.
            held = 5 + (t is not None)
            if _refs(array) <= held and (t is None or _refs(t) <= 4):
                frozen.add(v)
        return frozen

    def build(self, program: Program, frozen: set[Value]) -> None:
        from . import link, passes
        from .decompose import decompose

        self.raw = program
        try:
            program = passes.drop(program)
            checks: list[Any] = []
            program = decompose(program, checks, frozen)
            for _ in range(2):
                program = passes.fold(program, frozen)
                program = passes.simplify(program)
                program = passes.share(program)
            program = passes.drop(program)
            used = {*program.constants}
            self.bound = [(v, t) for v, t in self.bound if v in used]
            self.step = link.Step(program, checks=checks)
        except ChainruleError:
            raise
        except Exception as error:
            raise CompileError(message(
                f"compile failed: {type(error).__name__}: {error}", f"a program of {len(program.instrs)} instructions",
                fix="Use fallback=True to run such a function eagerly.",
            )) from error  # fmt: skip

    # -- guards ----------------------------------------------------------------------------------------------------

    def guard_objects(self) -> None:
        reach = self.reach
        self.modules = list(reach.modules.values())
        self.training = [m.training for m in self.modules]
        self.dicts = [d for m in self.modules for d in (m._parameters, m._buffers, m._modules) if d]
        self.members = [t for d in self.dicts for t in d.values()]
        self.optimizers = [
            (o, getattr(o, "_plan", None), [(g, {**g}) for g in o.param_groups]) for o in reach.optimizers.values()
        ]
        self.grad_mode = state.grad
        self.names: dict[int, str] = {}
        for root in reach.roots:
            for name, t in chain(root.named_parameters(), root.named_buffers()):
                self.names.setdefault(id(t._array), name.replace(".", "_"))
        for o in reach.optimizers.values():
            for p, slots in o.state.items():
                for k, t in slots.items():
                    if isinstance(t, Variable):
                        self.names.setdefault(id(t._array), f"{self.names.get(id(p._array), 'p')}_{k}")
        self.cells = [c for c, _ in reach.cells]
        self.contents = [x for _, x in reach.cells]
        self.scope_names = [(scope, name) for scope, name, _ in reach.names]
        self.scope_contents = [x for _, _, x in reach.names]
        self.attributes = [vars(m) for m in self.modules] if _TAGGED else []
        self.watch()

    def watch(self) -> None:
        """Hand the native check the words that change when a tensor, a module or a closure does."""
        words = [(id(t) + _SLOT, id(a)) for t, a in zip(self.tensors, self.arrays, strict=True)]
        words += [(id(c) + 16, id(x)) for c, x in zip(self.cells, self.contents, strict=True)]
        if _TAGGED:
            words += [(id(d) + 24, _tag(d)) for d in chain(self.dicts, self.attributes)]
        self.step.watch(words)

    def holds(self) -> bool:
        """Whether the objects that the recording depended on are as they were."""
        if state.grad is not self.grad_mode:
            return False
        if self.modules:
            if list(map(_training, self.modules)) != self.training:
                return False
            members = list(chain.from_iterable(map(_dict_values, self.dicts)))
            if len(members) != len(self.members) or not all(map(is_, members, self.members)):
                return False
        for cell, content in zip(self.cells, self.contents, strict=True):
            now = cell.cell_contents
            if now is not content and not _same(now, content):
                return False
        for (scope, name), content in zip(self.scope_names, self.scope_contents, strict=True):
            now = scope.get(name)
            if now is not content and not _same(now, content):
                return False
        for o, plan, groups in self.optimizers:
            if getattr(o, "_plan", None) is not plan or len(o.param_groups) != len(groups):
                return False
            for now, (old, copy) in zip(o.param_groups, groups, strict=True):
                if now is not old:
                    return False
                copy["lr"] = now["lr"]
                if now != copy:
                    return False
        return all(p._grad is g for p, g in self.accumulated)

    def rebind(self) -> bool:
        """Follow tensors whose memory was replaced by other memory of the same kind (``p.data = …``)."""
        changed = False
        for i, (v, t) in enumerate(self.bound):
            old, new = self.arrays[i], t._array
            if old is new:
                continue
            if old.shape != new.shape or old.dtype != new.dtype or old.strides != new.strides:
                return False
            if self.step.program.constants[v] is not old or not new.flags.writeable:
                return False
            self.step.rebind(v, new)
            self.arrays[i] = new
            changed = True
        if changed or not all(map(is_, self.contents, map(_content, self.cells))) or self.moved():
            self.contents = [c.cell_contents for c in self.cells]
            self.watch()
        return True

    def moved(self) -> bool:
        """Whether a module's dictionaries were touched (to no effect, as ``holds`` has found)."""
        return bool(_TAGGED) and any(
            _tag(d) != int(tag) for d, tag in zip(
                chain(self.dicts, self.attributes),
                self.step.pairs[len(self.tensors) + len(self.cells) : -1, 1].view(np.uint64), strict=True)
        )  # fmt: skip

    # -- running ---------------------------------------------------------------------------------------------------

    def act(self) -> None:
        """What has to be done, and read, before every run: step counts, learning rates, random numbers."""
        for kind, action, memory in self.actions:
            if kind == "do":
                action()
            elif kind == "many":
                memory[:] = action()
            elif kind == "live":
                now = action()
                memory[...] = now._array if isinstance(now, Variable) else now
            else:
                memory[...] = action()

    def run(self, leaves: list[Any]) -> Any:
        """One step, or ``MISS`` where something that the recording depended on has changed."""
        if not self.holds() or not self.rebind():
            return MISS
        inputs = [t._array for t in leaves]
        for i, a in enumerate(inputs):
            if not a.flags.c_contiguous:
                inputs[i] = np.ascontiguousarray(a)
        if self.step.check(*inputs) is not self.step.yes:
            return MISS
        self.act()
        outputs = [np.empty(shape, dtype) for shape, dtype in self.returned]
        self.own_grads(self.kept)
        outputs += self.kept[1]
        self.step.run(inputs, outputs)
        for p in self.cleared:
            p._grad = None
        if self.out_spec == ("t",):
            return wrap(outputs[0])
        return _unflatten(self.out_spec, iter([wrap(a) for a in outputs[: self.outs_n]]))

    grad_refs = 3  # the parameter, the list, and the argument of getrefcount itself

    def own_grads(self, kept: list[Any]) -> None:
        """Make every parameter's gradient a tensor that this step may write; one that somebody kept stays as it is."""
        gradients, arrays = kept
        for i, (p, _) in enumerate(self.grads):
            if _refs(gradients[i]) != self.grad_refs or p._grad is not gradients[i]:
                fresh = wrap(np.empty_like(gradients[i]._array))
                p._grad, gradients[i], arrays[i] = fresh, fresh, fresh._array

    def fast(self) -> Any:
        """The same as ``run`` for positional tensors and a single result, as one flat function."""
        if self.out_spec != ("t",) or self.step.calls or self.step.late or self.accumulated:
            return None
        n = len(self.step.program.inputs)
        if n != self.leaves_n or self.spec != ((tuple, (("t",),) * n), (dict, ())):
            return None
        xs = [f"x{i}" for i in range(n)]
        scope: dict[str, Any] = {
            "st": state, "MISS": MISS, "check": self.step.check, "yes": self.step.yes, "native": self.step.native,
            "holds": self.holds, "act": self.act, "empty": np.empty, "wrap": wrap,
            "shape": self.returned[0][0], "dtype": self.returned[0][1], "refs": _refs, "T": variable_type(),
            "modules": self.modules, "training": self.training, "_training": _training,
            "cells": self.cells, "contents": self.contents, "_content": _content, "is_": is_, "values": _dict_values,
            "dicts": self.dicts, "members": self.members, "flat": chain.from_iterable,
        }  # fmt: skip
        lines = [
            f"def fast({', '.join(xs)}):",
            f"    if st.recorder is not None or st.grad is not {self.grad_mode}: return MISS",
        ]
        for i, x in enumerate(xs):
            requires = self.requires[i]
            lines.append(f"    if type({x}) is not T or {x}._requires is not {requires}: return MISS")
            lines.append(f"    a{i} = {x}._array")
        if n > 1:
            lines += [f"    if a{i} is a{j}: return MISS" for i in range(n) for j in range(i)]
        arrays = [f"a{i}" for i in range(n)]
        lines.append(f"    if check({', '.join(arrays)}) is not yes: return MISS")
        if self.modules and not _TAGGED:
            lines.append("    if list(map(_training, modules)) != training: return MISS")
        if self.members and not _TAGGED:
            lines.append("    if not all(map(is_, flat(map(values, dicts)), members)): return MISS")
        by_scope: dict[int, tuple[Any, list[str], list[Any]]] = {}
        for (where, name), content in zip(self.scope_names, self.scope_contents, strict=True):
            entry = by_scope.setdefault(id(where), (where, [], []))
            entry[1].append(name)
            entry[2].append(content)
        for i, (where, names, contents) in enumerate(by_scope.values()):
            scope[f"G{i}"] = where
            for j, (name, content) in enumerate(zip(names, contents, strict=True)):
                scope[f"g{i}_{j}"] = content
                lines.append(f"    if G{i}.get({name!r}) is not g{i}_{j} and not holds(): return MISS")
        for i, (o, plan, groups) in enumerate(self.optimizers):
            scope[f"o{i}"], scope[f"plan{i}"] = o, plan
            scope[f"n{i}"] = len(groups)
            lines.append(f"    if o{i}.__dict__.get('_plan') is not plan{i}: return MISS")
            lines.append(f"    groups = o{i}.param_groups")
            lines.append(f"    if len(groups) != n{i}: return MISS")
            for j, (old, copy) in enumerate(groups):
                scope[f"old{i}_{j}"], scope[f"copy{i}_{j}"] = old, copy
                lines.append(f"    if groups[{j}] is not old{i}_{j}: return MISS")
                lines.append(f"    copy{i}_{j}['lr'] = old{i}_{j}['lr']")
                lines.append(f"    if old{i}_{j} != copy{i}_{j}: return MISS")
        for i, (kind, action, memory) in enumerate(self.actions):
            scope[f"act{i}"], scope[f"m{i}"] = action, memory
            if kind == "do":
                lines.append(f"    act{i}()")
            elif kind == "many":
                lines.append(f"    m{i}[:] = act{i}()")
                scope[f"m{i}"] = memoryview(memory)
                lines[-1] = f"    pack{i}(m{i}, 0, *act{i}())"
                scope[f"pack{i}"] = struct.Struct(f"{len(memory)}d").pack_into
            else:
                lines.append(f"    now = act{i}()")
                lines.append(f"    m{i}[...] = getattr(now, '_array', now)")
        lines.append("    out = empty(shape, dtype)")
        outs = ["out"]
        if self.grads:
            # C loops over all gradients: is each still where it was put, and does nobody else hold it?
            scope.update(params=[p for p, _ in self.grads], grad_of=_grad_of, own=self.own_grads,
                         kept=self.kept, expected=[self.grad_refs] * len(self.grads))  # fmt: skip
            lines.append("    g, arrays = kept")
            lines.append(
                "    if list(map(refs, g)) != expected or not all(map(is_, map(grad_of, params), g)): own(kept)"
            )
            outs.append("*kept[1]")
        lines.append(f"    native({', '.join([*arrays, *outs])})")
        for i, p in enumerate(self.cleared):
            scope[f"c{i}"] = p
            lines.append(f"    c{i}._grad = None")
        lines.append("    return wrap(out)")
        exec("\n".join(lines), scope)  # noqa: S102 - made of the names above only
        return scope["fast"]


MISS = object()
"""What a run gives back when its guards do not hold."""
_training = attrgetter("training")
_content = attrgetter("cell_contents")
_grad_of = attrgetter("_grad")


def variable_type() -> type:
    """The class of tensors."""
    return type(wrap(np.zeros(1)))


def _slot_offset() -> int:
    """Where a tensor object keeps the pointer to its array, so that native code can see that it is still the same."""
    probe = wrap(np.zeros(1))
    for offset in range(16, type(probe).__basicsize__, 8):
        if ctypes.c_void_p.from_address(id(probe) + offset).value == id(probe._array):
            return offset
    raise CompileError("compile: tensor objects have an unknown layout")


def _tag(d: dict[Any, Any]) -> int:
    """The version of a dict, which CPython counts up with every change (until 3.12)."""
    return ctypes.c_uint64.from_address(id(d) + 24).value


def _has_tags() -> bool:
    if sys.version_info >= (3, 13) or sys.implementation.name != "cpython":
        return False
    probe = {"a": 1}
    tags = [_tag(probe)]
    for key, x in (("a", 2), ("b", 1)):
        probe[key] = x
        tags.append(_tag(probe))
    return len(set(tags)) == 3


_TAGGED = _has_tags()


def _same(now: Any, then: Any) -> bool:
    """Equality for plain Python values; anything else is the same only if it is the same object."""
    return type(now) is type(then) and isinstance(now, (int, float, str, bytes, bool, tuple, frozenset)) and now == then


def _freed(node: Any) -> bool:
    node = node[0] if type(node) is tuple else node
    return node.saved is None


def _explained(error: BaseException) -> BaseException:
    return error


def _snapshot(reach: _Reach, leaves: list[Any]) -> Any:
    """Everything that running the function may change, so that an exception leaves no trace."""
    tensors = list({id(t): t for t in chain(reach.tensors.values(), leaves)}.values())
    memory = [
        (t, t._array, t._array.copy(), t._grad, None if t._grad is None else t._grad._array.copy()) for t in tensors
    ]
    optimizers = []
    for o in reach.optimizers.values():
        slots = {p: {k: (v, v._array.copy() if isinstance(v, Variable) else v) for k, v in d.items()}
                 for p, d in o.state.items()}  # fmt: skip
        lanes = o.__dict__.get("_plan")
        counts = [(lane, lane.count) for _, lane in lanes[0]] if lanes else []
        optimizers.append((o, slots, lanes, counts))
    from ..core.rng import default_generator as generator

    return memory, optimizers, generator, generator.get_state() if generator is not None else None


def _restore(saved: Any) -> None:
    memory, optimizers, generator, stream_state = saved
    for t, array, content, grad, grad_content in memory:
        t._array = array
        if array.flags.writeable:
            array[...] = content
        t._grad = grad
        if grad is not None:
            grad._array[...] = grad_content
    for o, slots, _lanes, counts in optimizers:
        o.state.clear()
        for p, d in slots.items():
            for v, content in d.values():
                if isinstance(v, Variable):
                    v._array[...] = content
            o.state[p] = {k: v for k, (v, _) in d.items()}
        if hasattr(o, "_plan"):
            o._plan = None
        for lane, count in counts:
            lane.count = count
    if generator is not None:
        generator.set_state(stream_state)


_SLOT = _slot_offset()


class Compiled:
    """A compiled function: call it as the original. ``source()``, ``report()`` and ``llvm()`` show what runs."""

    def __init__(self, fn: Callable[..., Any], *, fallback: bool = False) -> None:
        functools.update_wrapper(self, fn)
        self.__wrapped__ = fn
        self.fallback = fallback
        self.variants: dict[Any, list[_Variant]] = {}
        self._last: _Variant | None = None
        self._eager: str = ""
        self._lock = threading.RLock()
        self._arity = -1
        self._fast: Any = None

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs and len(args) == self._arity:
            with self._lock:
                result = self._fast(*args)
            if result is not MISS:
                return result
        if state.recorder is not None or self._eager:
            return self.__wrapped__(*args, **kwargs)
        leaves: list[Any] = []
        spec = (_flatten(args, leaves), _flatten(kwargs, leaves))
        key: list[Any] = [spec, state.grad, *((t._array.shape, t._array.dtype, t._requires) for t in leaves)]
        if len(leaves) > 1 and len({id(t._array) for t in leaves}) != len(leaves):
            key.append(tuple(id(t._array) for t in leaves))
        found = tuple(key)
        with self._lock:
            for variant in self.variants.get(found, ()):
                result = variant.run(leaves)
                if result is not MISS:
                    self._use(variant)
                    return result
            return self._record(found, args, kwargs)

    def _use(self, variant: _Variant) -> None:
        if self._last is not variant:
            self._last = variant
            fast = variant.fast()
            self._fast = fast
            self._arity = -1 if fast is None else variant.leaves_n

    def _record(self, key: Any, args: Any, kwargs: Any) -> Any:
        try:
            variant = _Variant(self, args, kwargs)
        except ChainruleError as error:
            if not self.fallback or not isinstance(error, (CompileError, OpError)):
                raise
            import warnings

            self._eager = str(error).splitlines()[0]
            name = getattr(self.__wrapped__, "__qualname__", "function")
            warnings.warn(f"{name} runs eagerly: {self._eager}", stacklevel=3)
            return self.__wrapped__(*args, **kwargs)
        known = self.variants.setdefault(key, [])
        known.insert(0, variant)
        del known[8:]
        self._use(variant)
        result, variant.result = variant.result, None
        return _detached(result)

    # -- glass box -------------------------------------------------------------------------------------------------

    def _variant(self) -> _Variant:
        if self._last is None:
            raise UsageError(message(
                "nothing is compiled yet" if not self._eager else f"this function runs eagerly: {self._eager}",
                fix="Call the function once first.",
            ))  # fmt: skip
        return self._last

    def source(self) -> str:
        """The program that runs, as NumPy."""
        from .show import names_of, source

        variant = self._variant()
        return source(variant.step, names_of(variant.step, variant.names, variant.outs_n))

    def report(self) -> Any:
        """Per kernel: what was fused, bytes, flops, time; and what has no native form, and why."""
        from .show import report

        return report(self._variant().step)

    def llvm(self) -> str:
        """The LLVM IR of the step."""
        return self._variant().step.ir


def _detached(result: Any) -> Any:
    if isinstance(result, Variable):
        return wrap(np.array(result._array))
    if isinstance(result, (list, tuple)) and not hasattr(result, "_fields"):
        return type(result)(_detached(r) for r in result)
    if isinstance(result, dict):
        return {k: _detached(v) for k, v in result.items()}
    return result


def compile_function(fn: Any = None, *, fallback: bool = False) -> Any:
    """Compile a function or a whole training step into one native call; also as a decorator.

    The first call records the function (it is a real step) and compiles it; calls with other shapes, dtypes or modes
    record again. Learning rates, step counts and random numbers stay live.

    Args:
        fn: a function of tensors. It may call ``backward`` and ``optimizer.step``.
        fallback: run eagerly, saying why once, where a function cannot be compiled (it looks at a tensor's value).

    Raises:
        CompileError, OpError: with the line that cannot be recorded.

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
    return Compiled(fn, fallback=fallback)
