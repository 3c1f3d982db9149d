"""Every registered op on a whole batch, by its batching rule, equals the op on each example: values and gradients.

The batches are three of the op's own sample calls with other numbers in them. Each float input is mapped alone, and all
inputs together.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest

import chainrule
import chainrule.linalg
import chainrule.nn  # both register ops when they are first used
from chainrule.core.op import registry
from chainrule.core.variable import Variable, wrap
from chainrule.errors import ShapeError
from chainrule.graph.batching import Call, apply_batched, one_by_one

OPS = sorted(name for name, op in registry.items() if op.samples is not None)
SIZE = 3


def batches(name):
    op = registry[name]
    seeds = [zlib.crc32(name.encode()) + k for k in range(SIZE)]
    for calls in zip(*(list(op.samples(np.random.default_rng(s))) for s in seeds)):
        first = calls[0]
        arrays = [i for i, a in enumerate(first.args) if isinstance(a, np.ndarray)]
        same = all(c.args[i].shape == first.args[i].shape for c in calls for i in arrays)
        if not arrays or not same or any(len(c.args) != len(first.args) for c in calls):
            continue
        for mapped in [set(arrays), *({i} for i in arrays if len(arrays) > 1)]:
            yield op, first, [c.args for c in calls], mapped


def tensors(first, rows, mapped):
    out = []
    for i, a in enumerate(first.args):
        if not isinstance(a, np.ndarray):
            out.append(a)
        else:
            t = wrap(np.stack([row[i] for row in rows]) if i in mapped else a.copy())
            out.append(t.requires_grad_() if t.dtype.is_floating_point else t)
    return out


def outputs(x):
    return list(x) if isinstance(x, (tuple, list)) else [x]


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", OPS)
def test_batched_is_one_by_one(name):
    for op, first, rows, mapped in batches(name):
        results = []
        for how in (one_by_one, apply_batched):
            args = tensors(first, rows, mapped)
            example = op.body(*first.args, **first.params)
            count = -len(op.residuals) or None
            shapes = tuple(np.shape(o) for o in (example[:count] if op.outputs != 1 or op.residuals else (example,)))
            flags = tuple(i in mapped for i in range(len(args)))
            ranks = tuple(np.ndim(a) if a is not None else 0 for a in first.args)
            call = Call(op, tuple(args), flags, ranks, first.params, SIZE, shapes)
            if how is one_by_one:
                try:
                    made = outputs(how(call))
                except ShapeError:  # lengths that depend on the values: the results cannot be stacked
                    with pytest.raises(ShapeError, match=r"^stack: "):
                        apply_batched(call)
                    break
            else:
                made = outputs(how(call))
            floats = [o for o in made if isinstance(o, Variable) and o.requires_grad]
            wanted = [a for a in args if isinstance(a, Variable) and a.requires_grad]
            weights = [np.cos(np.arange(o.numel())).reshape(tuple(o.shape)) for o in floats]
            grads = ()
            if floats:
                total = sum((o * chainrule.tensor(w)).sum() for o, w in zip(floats, weights))
                grads = chainrule.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
            results.append((made, grads))
        if len(results) < 2:
            continue
        (theirs, their_grads), (ours, our_grads) = results
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            assert a.dtype is b.dtype, first.params
            close(a.detach().numpy(), b.detach().numpy())
        for a, b in zip(our_grads, their_grads, strict=True):
            close(a.numpy(), b.numpy())
