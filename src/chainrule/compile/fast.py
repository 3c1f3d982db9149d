"""The call path of a small step: a guard, the native check, the native run, as one flat function written for it.

A step of a small network takes a few microseconds in native code, and a loop over lists in Python as long. So for
the usual kind of step (tensors as positional arguments, one tensor as result, nothing that runs as NumPy inside) the
work of ``Variant.run`` is written out with every name and index resolved.
"""

from __future__ import annotations

import struct
from operator import is_
from typing import Any

import numpy as np

from ..core.state import state
from ..core.variable import wrap
from .variant import MISS, Variant, _refs, grad_of

__all__ = ["fast_path"]


def fast_path(v: Variant) -> Any:
    """The same as ``v.run`` for the usual kind of step; None for others."""
    n = v.leaves_n
    usual = v.out_spec == ("t",) and v.plain and v.spec == ((tuple, (("t",),) * n), (dict, (), ()))
    special = v.step.calls or v.step.late or v.grads_in or v.leaf_grads or v.modes or v.assigned or v.guards.others
    if not usual or special or len(v.inputs_at) != n or (v.updated and n > 1):
        return None
    guards = v.guards
    xs = [f"x{i}" for i in range(n)]
    scope: dict[str, Any] = {
        "st": state, "MISS": MISS, "check": v.step.check, "yes": v.step.yes, "native": v.step.native,
        "holds": guards.holds, "empty": np.empty, "wrap": wrap, "shape": v.returned[0][0], "dtype": v.returned[0][1],
        "T": type(wrap(np.zeros(1))),
    }  # fmt: skip
    lines = [
        f"def fast({', '.join(xs)}):",
        f"    if st.recorder is not None or st.grad is not {guards.grad}: return MISS",
    ]
    for i, x in enumerate(xs):
        lines.append(f"    if type({x}) is not T or {x}._requires is not {v.requires[i]}: return MISS")
        lines.append(f"    a{i} = {x}._array")
    lines += [f"    if a{i} is a{j}: return MISS" for i in range(n) for j in range(i)]
    arrays = [f"a{i}" for i in range(n)]
    lines.append(f"    if check({', '.join(arrays)}) is not yes: return MISS")
    for i, (where, names, contents) in enumerate(guards.scopes):
        scope[f"G{i}"] = where
        for j, (name, content) in enumerate(zip(names, contents, strict=True)):
            scope[f"g{i}_{j}"] = content
            lines.append(f"    if G{i}.get({name!r}) is not g{i}_{j} and not holds(): return MISS")
    for i, ((o, plan, _), copies) in enumerate(zip(guards.optimizers, guards.copies, strict=True)):
        scope[f"o{i}"], scope[f"plan{i}"] = o, plan
        lines.append(f"    if o{i}.__dict__.get('_plan') is not plan{i}: return MISS")
        lines.append(f"    groups = o{i}.param_groups")
        lines.append(f"    if len(groups) != {len(copies)}: return MISS")
        for j, (old, copy) in enumerate(zip(o.param_groups, copies, strict=True)):
            scope[f"old{i}_{j}"], scope[f"copy{i}_{j}"] = old, copy
            lines.append(f"    if groups[{j}] is not old{i}_{j}: return MISS")
            if guards.optimizers[i][2][j][2].get("lr", ...) is None:  # read afresh for every run
                lines.append(f"    copy{i}_{j}['lr'] = old{i}_{j}['lr']")
            lines.append(f"    if old{i}_{j} != copy{i}_{j}: return MISS")
    for i, (p, had) in enumerate(guards.gradients):
        scope[f"p{i}"] = p
        lines.append(f"    if p{i}._grad is {'' if not had else 'not '}not None: return MISS".replace("not not ", ""))
    for i, (kind, action, memory, _) in enumerate(v.actions):
        scope[f"act{i}"], scope[f"m{i}"] = action, memory
        if kind == "do":
            lines.append(f"    act{i}()")
        elif kind == "many":
            scope[f"m{i}"] = memoryview(memory)
            scope[f"pack{i}"] = struct.Struct(f"{len(memory)}d").pack_into
            lines.append(f"    pack{i}(m{i}, 0, *act{i}())")
        else:
            lines.append(f"    now = act{i}()")
            lines.append(f"    m{i}[...] = getattr(now, '_array', now)")
    lines.append("    out = empty(shape, dtype)")
    outs = ["out"]
    if v.grads:
        # C loops over all gradients: is each still where it was put, and does nobody else hold it?
        scope.update(params=[p for p, _ in v.grads], grad_of=grad_of, own=v.own_grads, kept=v.kept, refs=_refs, is_=is_,
                     expected=[v.grad_refs] * len(v.grads))  # fmt: skip
        lines.append("    g, arrays = kept")
        lines.append("    if list(map(refs, g)) != expected or not all(map(is_, map(grad_of, params), g)): own(kept)")
        outs.append("*kept[1]")
    lines.append(f"    native({', '.join([*arrays, *outs])})")
    for i, p in enumerate(v.cleared):
        scope[f"c{i}"] = p
        lines.append(f"    c{i}._grad = None")
    lines.append("    return wrap(out)")
    exec("\n".join(lines), scope)  # noqa: S102 - made of the names above only
    return scope["fast"]
