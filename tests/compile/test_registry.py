"""Every op of the registry, compiled and eager: values, and gradients where there are any."""

import numpy as np
import pytest
from tests.compile.programs import record, run

import chainrule as torch
from chainrule.core.op import registry
from chainrule.core.variable import wrap

RANDOM = {"bernoulli", "multinomial", "dropout"}


def samples(op):
    if op.samples is None:
        return []
    with np.errstate(all="ignore"):
        found = list(op.samples(np.random.default_rng(0)))
    return found if len(found) <= 4 else [found[0], found[len(found) // 2], found[-2], found[-1]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(registry))
def test_compiled_equals_eager(name, dtype):
    op = registry[name]
    for call in samples(op):
        arrays = [np.array(a, dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in call.args]
        given = [a for a in arrays if isinstance(a, np.ndarray)]

        def f(*tensors, arrays=arrays, call=call, op=op):
            it = iter(tensors)
            return op.call(*[next(it) if isinstance(a, np.ndarray) else a for a in arrays], **call.params)

        if not given:
            continue
        params = {k: np.dtype(dtype) if k == "dtype" and np.dtype(v).kind == "f" else v for k, v in call.params.items()}
        call = type(call)(call.args, params)
        program, expected = record(lambda *t, c=call: f(*t, call=c), given)
        got, _ = run(program, given)
        for g, e in zip(got, expected, strict=True):
            assert g.shape == e.shape
            assert g.dtype == e.dtype
            tolerance = {"float32": 2e-5, "float64": 1e-12}.get(e.dtype.name, 0)
            np.testing.assert_allclose(g, e, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", sorted(n for n, op in registry.items() if op.differentiable))
def test_compiled_gradients_equal_eager(name):
    op = registry[name]
    for call in samples(op)[:2]:
        arrays = [np.array(a) if isinstance(a, np.ndarray) else a for a in call.args]
        given = [a for a in arrays if isinstance(a, np.ndarray)]
        if not given:
            continue

        def f(*tensors, arrays=arrays, call=call, op=op):
            leaves = [wrap(t._array, None, True) if t._array.dtype.kind == "f" else t for t in tensors]
            it = iter(leaves)
            with torch.enable_grad():
                out = op.call(*[next(it) if isinstance(a, np.ndarray) else a for a in arrays], **call.params)
                outs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]
                if not outs:
                    return [leaves[0] * 1]
                total = sum((o * o * 0.5 + o).sum() for o in outs)
                wanted = [t for t in leaves if t.requires_grad]
                grads = torch.autograd.grad(total, wanted, allow_unused=True)
            return [g for g in grads if g is not None] or [leaves[0] * 1]

        program, expected = record(f, given)
        got, _ = run(program, given)
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-11, equal_nan=True)
