"""What a function did besides computing: tensors that it put somewhere, values that it changed.

Native code would not do it again, so a function that does such a thing is refused, with the place and a way out.
"""

from __future__ import annotations

import gc
import sys
import types
from typing import Any

import numpy as np

from ..core.variable import Variable
from ..errors import message
from ..graph.program import Program
from .errors import CompileError
from .reach import Reach
from .recording import Recording, Snapshot

__all__ = ["check_effects", "check_written", "kept_tensor", "memory_given", "survivors"]


def check_effects(reach: Reach, snapshot: Snapshot, recording: Recording) -> None:
    """Raise if the recorded run read, drew or changed something that later runs would not.

    Raises:
        CompileError: naming it.
    """
    if recording.leaks:  # the function caught the error itself
        raise recording.leaked(recording.leaks[0])
    if recording.apart:
        place = next(iter(recording.apart.values()))
        raise CompileError(message(
            "compile: the function writes through x[i], where i is a tensor", "in native code x[i] is a copy",
            at=place, source=place.source if place else "", fix="Assign to the part: x[i] = value.",
        ))  # fmt: skip
    if reach.iterators:
        raise CompileError(message(
            f"compile: the function uses the iterator {reach.iterators[0]}",
            "the native code would see the same item in every run",
            fix="Take the item outside, and pass it as an argument.",
        ))  # fmt: skip
    drawn = snapshot.drawn_unseen(recording)
    if drawn:
        raise CompileError(message(
            f"compile: the function draws {drawn}, which the native code would not draw again",
            fix="Draw outside and pass the numbers as an argument, or use torch.rand, torch.randn or dropout inside.",
        ))  # fmt: skip
    modules = {id(vars(m)): m for m in reach.modules.values() if type(m).__module__.startswith("chainrule.nn")}
    for fact in reach.facts:
        name = "" if id(fact.holder) in modules else fact.changed("training")
        if name:
            held = fact.holder.get(name.rpartition(".")[2]) if isinstance(fact.holder, dict) else None
            raise _kept(name, held) if isinstance(held, Variable) else _changed(name)
    for o, slots, _, _ in snapshot.optimizers:
        for p, d in o.state.items():
            for k, x in d.items() if isinstance(d, dict) else ():
                old = slots.get(p, {}).get(k)
                if not isinstance(x, Variable) and (old is None or x != old[1]):
                    raise _changed(f"{type(o).__name__}.state[…][{k!r}]")


def check_written(snapshot: Snapshot, program: Program, arguments: list[Any], leaves: list[Any]) -> None:
    """Refuse what wrote to a tensor's memory without an op (``load_state_dict``, ``x.numpy()[0] = 1``).

    Args:
        arguments: the arrays of the program's inputs.

    Raises:
        CompileError: with the shape of the tensor.
    """
    memory = {**dict(zip(program.inputs, arguments, strict=True)), **program.constants}
    written = [memory[m] for m, _ in program.updates if m in memory]
    for t, array, content, *_ in snapshot.tensors:
        if array.tobytes() == content.tobytes() or any(np.may_share_memory(array, w) for w in written):
            continue
        number = next((f"argument {i}" for i, x in enumerate(leaves) if t is x), "a tensor from outside")
        raise CompileError(message(
            f"compile: the function writes to {number} without an op, which the native code would not do again",
            f"shape {tuple(array.shape)}: as load_state_dict or x.numpy()[...] = y do",
            fix="Write x.copy_(y) under torch.no_grad(), or do it outside of the compiled function.",
        ))  # fmt: skip


def memory_given(snapshot: Snapshot, leaves: list[Any]) -> list[Any]:
    """The tensors that were there and have another array now (p.data = …): each run gives them a new one.

    Raises:
        CompileError: for another shape or dtype, and for memory that belongs to another tensor.
    """
    found: list[Any] = []
    others = [(t, a) for t, array, *_ in snapshot.tensors for a in {id(x): x for x in (array, t._array)}.values()]
    for t, array, *_ in snapshot.tensors:
        now = t._array
        if now is array or _alike(now, array):
            continue
        number = next((f"argument {i}" for i, x in enumerate(leaves) if t is x), "a tensor from outside")
        if now.shape != array.shape or now.dtype != array.dtype:
            raise CompileError(message(
                f"compile: the function gives {number} another shape or dtype",
                f"{array.dtype}{list(array.shape)} becomes {now.dtype}{list(now.shape)}, not so in native code",
                fix="Keep it in a tensor of its own: y = x.unsqueeze(0) instead of x.unsqueeze_(0).",
            ))  # fmt: skip
        if any(x is not t and np.may_share_memory(a, now) for x, a in others):
            raise CompileError(message(
                f"compile: the function gives {number} the memory of another tensor", f"shape {tuple(now.shape)}",
                fix="Copy: x.data = y.clone().",
            ))  # fmt: skip
        found.append(t)
    return found


def _alike(a: Any, b: Any) -> bool:
    """Whether two arrays are the same part of memory, read the same way."""
    return (a.__array_interface__["data"], a.shape, a.strides, a.dtype) == (
        b.__array_interface__["data"], b.shape, b.strides, b.dtype
    )  # fmt: skip


def _changed(name: str) -> CompileError:
    return CompileError(message(
        f"compile: the function changes {name}, which the native code would not do again",
        fix="Change it after the call, or keep it in a tensor and change that in place (count.add_(1)).",
    ))  # fmt: skip


def _kept(name: str, tensor: Any) -> CompileError:
    return CompileError(message(
        f"compile: the function puts a tensor that it makes into {name}",
        f"shape {tuple(tensor._array.shape)}: the native code would not put the next one there",
        fix="Return the tensor and keep it outside, or write it into one that exists (x.copy_(y)).",
    ))  # fmt: skip


def survivors(recording: Recording) -> list[Any]:
    """Arrays made while recording that something besides the recorder still refers to."""
    arrays = recording.made_arrays()
    held: dict[int, int] = {}
    for a in recording._kept:
        held[id(a)] = held.get(id(a), 0) + 1
    for x in {id(a): a for a in recording._kept if type(a) is np.ndarray}.values():
        if x.base is not None:
            held[id(x.base)] = held.get(id(x.base), 0) + 1
    # By the list of arrays, the loop and the call itself.
    return [a for a in arrays if sys.getrefcount(a) > held.get(id(a), 0) + 3]


def kept_tensor(recording: Recording, reach: Reach) -> None:
    """Raise if a tensor made by the function lives on somewhere.

    Raises:
        CompileError: naming the container.
    """
    if not _tensors(survivors(recording)):
        return  # or they are an optimizer's own
    gc.collect()  # takes longer than to compile a small step
    for t in _tensors(survivors(recording)):
        for holder in gc.get_referrers(t):
            name = "" if _local(holder) else _named(holder, t, reach)
            if name:
                raise _kept(name, t)


def _tensors(arrays: list[Any]) -> list[Any]:
    """The tensors that have one of the arrays. (The search goes through all that Python knows, even for none.)"""
    return [x for x in gc.get_referrers(*arrays) if isinstance(x, Variable)] if arrays else []


def _local(holder: Any) -> bool:
    """Whether a container is a list of this search's own: nothing but iterators and frames refers to it."""
    kinds = [type(x).__name__ for x in gc.get_referrers(holder)]
    return isinstance(holder, list) and all(k in ("list_iterator", "frame", "list") for k in kinds)


def _named(holder: Any, t: Any, reach: Reach) -> str:
    """What a container is called; "" for what is no user's container (frames, the engine's own objects)."""
    if isinstance(holder, types.CellType):
        return next((f.name for f in reach.facts if f.holder is holder), "a variable of an outer function")
    if isinstance(holder, list):
        return next((f"the list {f.name}" for f in reach.facts if f.holder is holder), "a list outside")
    if isinstance(holder, dict):
        key = next((k for k, x in list(holder.items()) if x is t), None)
        for owner in gc.get_referrers(holder):
            if getattr(owner, "__dict__", None) is holder:
                if isinstance(owner, types.ModuleType):
                    return f"the global {key}"
                if isinstance(owner, Variable) or type(owner).__module__.startswith("chainrule."):
                    return ""
                return f"{type(owner).__name__}.{key}"
        if key == "__builtins__" or "__name__" in holder:
            return f"the global {key}"
        return next((f"{f.name}[{key!r}]" for f in reach.facts if f.holder is holder), f"a dict outside (key {key!r})")
    return ""
