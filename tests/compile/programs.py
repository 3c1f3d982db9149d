"""Helpers: run a recorded function through the compiler directly, with canaries around every buffer."""

import numpy as np

import chainrule as torch
from chainrule.compile import link, passes
from chainrule.compile.decompose import decompose
from chainrule.core.variable import wrap
from chainrule.graph.trace import Recorder


def record(function, arrays):
    recorder = Recorder()
    tensors = [wrap(a) for a in arrays]
    for t in tensors:
        recorder.input(t)
    with recorder, torch.no_grad(), np.errstate(all="ignore"):
        result = function(*tensors)
    outs = list(result) if isinstance(result, (tuple, list)) else [result]
    return recorder.finish(outs), [o._array for o in outs]


def run(program, arrays, *, fuse=True, guard=64, simplify=True):
    """The outputs of the compiled program; raises if anything outside its buffers was written."""
    if simplify:
        program = passes.drop(decompose(program, []))
        program = passes.drop(passes.share(passes.simplify(passes.fold(program, set()))))
    step = link.Step(program, fuse=fuse, guard=guard)
    padded = [Padded(a) for a in arrays]
    outs = [Padded(np.zeros(v.shape, v.dtype)) for v in step.program.outputs]
    step.run([p.array for p in padded], [o.array for o in outs])
    for p in [*padded, *outs]:
        p.check()
    for p, a in zip(padded, arrays, strict=True):
        np.testing.assert_array_equal(p.array, a)  # inputs are not written
    used = np.zeros(len(step.arena), bool)
    for _, _, start, stop, _ in step.plan.spans:
        used[start:stop] = True
    assert (step.arena[~used] == link.CANARY).all(), "written outside every buffer of the arena"
    return [o.array for o in outs], step


class Padded:
    """An array with canaries on both sides."""

    def __init__(self, a):
        n = a.nbytes
        self.raw = np.full(n + 256, 0xA5, np.uint8)
        self.array = (
            np.frombuffer(self.raw[128 : 128 + n], a.dtype).reshape(a.shape) if n else np.empty(a.shape, a.dtype)
        )
        if n:
            self.array.flags.writeable = True
            self.array[...] = a
        self.n = n

    def check(self):
        outside = np.concatenate([self.raw[:128], self.raw[128 + self.n :]])
        assert (outside == 0xA5).all(), "written outside an array"
