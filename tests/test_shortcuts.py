"""Every op that is a closed form of a composite: value and gradients equal the composite's, to rounding.

This is what makes a shortcut's formula (softmax with cross-entropy: p − y) a proved statement. The composite's own
gradients come from the primitives' rules, so the two sides share no formula.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest

import chainrule
from chainrule.core.op import registry
from chainrule.core.variable import wrap

SHORTCUTS = sorted(name for name, op in registry.items() if op.derived is not None)
# Entries are O(1) and come from sums of at most a few hundred terms: 1e3 units in the last place is generous for the
# reassociation of such sums and far below any wrong term.
ULPS = 1e3


def calls(name):
    return list(registry[name].samples(np.random.default_rng(zlib.crc32(name.encode()))))


def leaves(args, dtype):
    made = []
    for a in args:
        if isinstance(a, np.ndarray):
            t = wrap(a.astype(dtype) if a.dtype.kind == "f" else a.copy())
            made.append(t.requires_grad_() if a.dtype.kind == "f" else t)
        else:
            made.append(a)
    return made


def outputs(result):
    return list(result) if isinstance(result, tuple) else [result]


def differentiated(op, args):
    """Numbers of the inputs that the op has a rule for."""
    return [
        i for i, a in enumerate(args)
        if isinstance(a, np.ndarray) and a.dtype.kind == "f" and op.rules[0 if op.variadic else i] is not None
    ]  # fmt: skip


def close(a, b, dtype, what):
    size = max(1.0, float(np.abs(b).max(initial=0.0)))
    np.testing.assert_allclose(a, b, rtol=0, atol=ULPS * np.finfo(dtype).eps * size, err_msg=what)


def test_there_are_shortcuts():
    assert {"softmax", "log_softmax", "cross_entropy", "mse", "layer_norm", "batch_norm", "lstm"} <= set(SHORTCUTS)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", SHORTCUTS)
def test_value_and_gradients_equal_the_composites(name, dtype):
    op = registry[name]
    for n, (args, params) in enumerate(calls(name)):
        what = f"{name}, call {n}: {params}"
        first, second = leaves(args, dtype), leaves(args, dtype)
        short, long = outputs(op.call(*first, **params)), outputs(op.derived(*second, **params))
        assert len(short) == len(long), what
        wanted = differentiated(op, args)
        rng = np.random.default_rng(n)
        weights = [wrap(rng.normal(size=s._array.shape).astype(dtype)) for s in short]
        for s, t in zip(short, long, strict=True):
            assert s._array.dtype == t._array.dtype == dtype, what
            assert s._array.shape == t._array.shape, what
            close(s._array, t._array, dtype, what)
        ours = chainrule.autograd.grad(short, [first[i] for i in wanted], weights, allow_unused=True)
        theirs = chainrule.autograd.grad(long, [second[i] for i in wanted], weights, allow_unused=True)
        for i, g, h in zip(wanted, ours, theirs, strict=True):
            if h is None:  # the composite does not depend on it: then the shortcut's gradient must vanish
                assert g is None or not g._array.any(), f"{what}, input {i}"
                continue
            assert g._array.dtype == dtype, f"{what}, input {i}"
            close(g._array, h._array, dtype, f"{what}, gradient of input {i}")


@pytest.mark.parametrize("name", [n for n in SHORTCUTS if registry[n].residuals])
def test_a_gradient_of_a_gradient_goes_through_the_composite(name):
    """With create_graph the gradient must be the same, and be differentiable again."""
    op = registry[name]
    args, params = calls(name)[0]
    wanted = differentiated(op, args)
    graphs = []
    for create in (False, True):
        inputs = leaves(args, np.float64)
        out = outputs(op.call(*inputs, **params))
        # max pooling's gradient is constant in x, but linear in what comes from above
        weights = [wrap(np.ones(o._array.shape)).requires_grad_() for o in out]
        found = chainrule.autograd.grad(
            out, [inputs[i] for i in wanted], weights, create_graph=create, allow_unused=True
        )
        graphs.append(found)
    for g, h in zip(*graphs, strict=True):
        assert (g is None) == (h is None)
        if g is not None:
            close(g._array, h._array, np.float64, name)
    assert any(h is not None and h.requires_grad for h in graphs[1]), name
