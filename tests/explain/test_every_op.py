"""Every op of the library: its printed backward pass gives eager's bits, and its explained entries add up."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as torch
from chainrule.core.op import registry
from chainrule.explain import backward_source, explain

_OPS = sorted(name for name, op in registry.items() if op.differentiable and op.samples is not None)
_FLOATS = ("float32", "float64")


def _cases(name, dtype, limit=4):
    """Losses of one op: every output times random weights, summed."""
    op = registry[name]
    for k, call in enumerate(op.samples(np.random.default_rng(7))):
        if k >= limit:
            return
        rng = np.random.default_rng(k)
        leaves, args = [], []
        for i, a in enumerate(call.args):
            rule = op.rules[0 if op.variadic else i]
            if isinstance(a, np.ndarray) and a.dtype.kind == "f":
                t = torch.tensor(a.astype(dtype))
                if rule is not None:
                    t.requires_grad_()
                    leaves.append(t)
                args.append(t)
            else:
                args.append(torch.tensor(a) if isinstance(a, np.ndarray) else a)
        params = {
            s: np.dtype(dtype) if isinstance(v, np.dtype) and v.kind == "f" else v for s, v in call.params.items()
        }
        out = op.call(*args, **params)
        outs = [
            o for o in (out if isinstance(out, tuple) else (out,)) if isinstance(o, torch.Tensor) and o.requires_grad
        ]
        if not outs or not leaves:
            continue
        loss = None
        for o in outs:
            part = (o * torch.tensor(rng.normal(size=o.shape).astype(o.dtype.numpy))).sum()
            loss = part if loss is None else loss + part
        yield loss, leaves


@pytest.mark.parametrize("dtype", _FLOATS)
@pytest.mark.parametrize("name", _OPS)
def test_printed_program_gives_eager_bits(name, dtype):
    tried = 0
    for loss, leaves in _cases(name, dtype):
        source = backward_source(loss)
        f = source.functions()
        value, cache = f["forward"](**source.inputs)
        gradients = f["backward"](cache)
        loss.backward()
        np.testing.assert_allclose(value, loss.detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=source)
        eager = [t.grad.numpy() for t in leaves if t.grad is not None]
        assert len(gradients) == len(eager), source
        for mine, theirs in zip(gradients.values(), eager, strict=True):
            assert np.asarray(mine).dtype == theirs.dtype, source
            np.testing.assert_array_equal(np.asarray(mine), theirs, err_msg=source)
        tried += 1
    assert tried or name in _NO_LOSS


_NO_LOSS: set[str] = set()


@pytest.mark.parametrize("name", _OPS)
def test_explained_entries_add_up(name):
    for loss, leaves in _cases(name, "float64", limit=3):
        for t in leaves:
            if not t.numel():
                continue
            x = explain(loss, t)
            (grad,) = torch.autograd.grad(loss, t, retain_graph=True, allow_unused=True)
            entry = grad.numpy()[x.entry] if grad is not None else 0.0
            assert x.value == pytest.approx(
                entry, rel=1e-12
            )  # a recurrence is written out step by step: other rounding
            for e in x.chain:
                assert e.total == pytest.approx(e.value, rel=1e-9, abs=1e-12), str(x)
            str(x), x.to_latex(), x.to_dict(), x._repr_html_()
