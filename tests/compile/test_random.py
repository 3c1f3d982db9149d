"""Random programs: ops, shapes, dtypes, views, reductions, products and gradients composed at random.

Every program runs fused and unfused, with canaries around every buffer, and is compared with eager execution.
``CHAINRULE_SOAK=N pytest tests/compile/test_random.py`` runs N programs.
"""

import os

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.compile.programs import record, run

import chainrule as torch
from chainrule.core.variable import wrap

COUNT = int(os.environ.get("CHAINRULE_SOAK", "150"))
SHAPES = [(), (1,), (3,), (17,), (4, 5), (1, 6), (5, 1), (3, 40), (2, 3, 4), (2, 1, 5), (33, 16), (7, 130)]

UNARY = [
    lambda t: torch.tanh(t), lambda t: torch.sigmoid(t), lambda t: torch.relu(t), lambda t: torch.exp(t * 0.1),
    lambda t: -t, lambda t: t.abs(), lambda t: t * 0.5, lambda t: 1 / (t * t + 1), lambda t: torch.log(t * t + 1),
    lambda t: torch.sqrt(t * t + 0.1), lambda t: torch.where(t > 0, t, t * 0.1), lambda t: (t > 0.1).to(t.dtype),
    lambda t: t.clamp(-1, 1), lambda t: t**2, lambda t: t.reshape(-1), lambda t: t.reshape(1, -1),
    lambda t: t.transpose(0, -1) if t.dim() > 1 else t, lambda t: t.unsqueeze(0),
    lambda t: t.sum() if t.dim() else t, lambda t: t.sum(0) if t.dim() else t, lambda t: t.mean(-1) if t.dim() else t,
    lambda t: t.sum(-1, keepdim=True) if t.dim() else t, lambda t: t.amax(-1, keepdim=True) if t.dim() else t,
    lambda t: torch.softmax(t, -1) if t.dim() else t, lambda t: t - t.mean(0, keepdim=True) if t.dim() else t,
    lambda t: t[..., 1:] if t.dim() and t.shape[-1] > 1 else t, lambda t: t[0] if t.dim() else t,
    lambda t: t.flip(0) if t.dim() else t, lambda t: t.cumsum(0) if t.dim() else t,
    lambda t: torch.nn.functional.layer_norm(t, t.shape[-1:]) if t.dim() and t.shape[-1] > 1 else t,
]  # fmt: skip
BINARY = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: torch.maximum(a, b),
    lambda a, b: a / (b * b + 1), lambda a, b: torch.where(a > b, a, b * 2),
]  # fmt: skip


def broadcastable(a, b):
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False))


@st.composite
def programs(draw):
    """Input shapes, a dtype, and a list of steps (kind, op, operand, operand)."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    steps = draw(st.lists(
        st.tuples(st.sampled_from(["unary", "unary", "binary", "matmul", "write"]), st.integers(0, 99),
                  st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=14))  # fmt: skip
    return (
        shapes,
        draw(st.sampled_from([np.float32, np.float64])),
        steps,
        draw(st.booleans()),
        draw(st.integers(0, 2**20)),
    )


def build(steps, gradient):
    def f(*inputs):
        leaves = [wrap(t._array, None, True) for t in inputs] if gradient else list(inputs)
        with torch.set_grad_enabled(gradient):
            values = list(leaves)
            for kind, which, i, j in steps:
                a, b = values[i % len(values)], values[j % len(values)]
                if kind == "matmul":
                    if a.dim() < 1 or b.dim() < 2 or a.shape[-1] != b.shape[-1]:
                        continue
                    values.append((a @ b.transpose(-1, -2)) * 0.2)
                elif kind == "binary":
                    if broadcastable(a.shape, b.shape):
                        values.append(BINARY[which % len(BINARY)](a, b))
                elif kind == "write":
                    if a.dim() and not a.is_leaf:
                        copy = a.clone()
                        copy[0] = copy[0] * 2 + 1
                        values.append(copy)
                else:
                    values.append(UNARY[which % len(UNARY)](a))
                if values[-1].numel() > 20000:
                    values.pop()
            if not gradient:
                return values[-3:]
            total = sum((v * v).mean() for v in values[-3:] if v.requires_grad)
            if isinstance(total, int):
                return values[-1:]
            grads = torch.autograd.grad(total, leaves, allow_unused=True)
        return [total, *(g for g in grads if g is not None)]

    return f


@settings(max_examples=COUNT, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_random_programs(example):
    shapes, dtype, steps, gradient, seed = example
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=s).astype(dtype) for s in shapes]
    f = build(steps, gradient)
    program, expected = record(f, arrays)
    expected = [np.array(e) for e in expected]
    exact = (
        [np.array(e) for e in record(f, [a.astype(np.float64) for a in arrays])[1]] if dtype == np.float32 else expected
    )
    for fuse in (True, False):
        got, _ = run(program, arrays, fuse=fuse)
        for g, e, x in zip(got, expected, exact, strict=True):
            assert g.shape == e.shape
            assert g.dtype == e.dtype
            with np.errstate(all="ignore"):
                # As close to eager as eager is to float64, or within rounding of the largest entry.
                scale = np.nanmax(np.abs(x), initial=1.0, where=np.isfinite(x)) if x.size else 1.0
                slack = 8 * np.abs(e.astype(np.float64) - x) + scale * (3e-5 if dtype == np.float32 else 1e-11)
                fine = (np.abs(g.astype(np.float64) - e) <= slack) | (g == e) | (np.isnan(g) & np.isnan(e))
            assert fine.all(), (g, e)


def test_what_reads_arrays_without_entries():
    for f, shape in [
        (lambda t: torch.autograd.grad((t * 0.1 + 1).prod(-1).sum(), t)[0], (1,)),
        (lambda t: torch.nn.functional.pad(t[:0], (1, 2), value=1.5), (3,)),
        (lambda t: torch.cat([t[:0], t, t[2:2]]), (4,)),
        (lambda t: t.index_select(0, torch.zeros(0, dtype=torch.int64)).sum() + t, (2, 3)),
    ]:
        x = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)

        def g(t, f=f):
            with torch.enable_grad():
                return f(wrap(t._array, None, True)).detach()

        program, (expected,) = record(g, [x])
        for fuse in (True, False):
            (got,), _ = run(program, [x], fuse=fuse)
            np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_what_only_an_array_without_entries_reads():
    def written(t):
        copy = t.clone()
        copy[0] = copy[0] * 2 + 1
        return copy

    for f in [
        written,
        torch.exp,
        lambda t: torch.cat([t * 2, t + 1]),
        lambda t: torch.cat([torch.cat([t * 2, t]).exp(), t]),
        lambda t: torch.stack([t * 2, t + 1])[0],
        lambda t: t @ t.T,
        lambda t: t.sum(0, keepdim=True),
        lambda t: t.cumsum(0),
        lambda t: t.flip(0),
        lambda t: t[torch.tensor([1, 0])],
        lambda t: torch.nn.functional.pad(t, (1, 2)),
        lambda t: torch.nn.functional.max_pool2d(t[None, None], 2)[0, 0],
        lambda t: t.sort(0).values,
    ]:
        x = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
        for read, names in [
            (lambda nothing, t: (nothing * 2, t * 3), ["mul"]),
            (lambda nothing, t: (torch.cat([nothing[:1], t[:1]], 1), nothing.sum() + t), ["add", "cat", "sum"]),
        ]:
            program, expected = record(lambda t, f=f, read=read: read(f(t)[:, :0], t), [x])
            for fuse in (True, False):
                got, step = run(program, [x], fuse=fuse)
                for a, b in zip(got, expected, strict=True):
                    np.testing.assert_array_equal(a, b)
                # Nothing of what the empty array was cut from is computed.
                assert sorted(node.name for group in step.groups for node in group.nodes) == names
