"""Kernels against float64: products in every layout, reductions along every axis, odd sizes, special values."""

import numpy as np
import pytest
from tests.compile.programs import record, run

import chainrule as torch

RNG = np.random.default_rng(0)


def arrays(*shapes, dtype=np.float32):
    return [RNG.normal(size=s).astype(dtype) for s in shapes]


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (32, 2, 16), (7, 13, 17), (33, 64, 1), (5, 300, 40),
                                     (64, 784, 70), (16, 3, 2), (3, 500, 3), (1, 40, 64), (130, 20, 130)])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
def test_products_in_every_layout(m, k, n, dtype, layout):
    a, b = arrays((m, k) if layout[0] == "n" else (k, m), (k, n) if layout[1] == "n" else (n, k), dtype=dtype)

    def f(a, b):
        return torch.relu((a.T if layout[0] == "t" else a) @ (b.T if layout[1] == "t" else b) + 1)

    program, _ = record(f, [a, b])
    (got,), _ = run(program, [a, b])
    a64, b64 = (
        x.astype(np.float64).T if t == "t" else x.astype(np.float64) for x, t in zip((a, b), layout, strict=True)
    )
    # The sum of k products rounds at most k times: k/2 ulp of the largest magnitude involved.
    bound = k * np.finfo(dtype).eps * (np.abs(a64) @ np.abs(b64) + 1)
    assert (np.abs(got - np.maximum(a64 @ b64 + 1, 0)) <= bound).all()


@pytest.mark.parametrize(
    ("m", "k", "n"),
    [
        (301, 700, 257),
        (64, 1030, 100),
        (50, 390, 640),
        (601, 130, 33),
        (97, 65, 128),
        (1, 200, 300),
        (3, 260, 300),
        (16, 512, 300),
        (30, 250, 301),
        (300, 1, 301),
        (2, 1, 33_000),
        (301, 5, 257),
        (330, 17, 257),
    ],
)
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
def test_large_products_go_block_by_block(m, k, n, batch, layout):
    """Several blocks of k, of rows, of panels, each with what is left over; in float64 blocks are half as long."""
    a, b = arrays(
        (*batch, *((m, k) if layout[0] == "n" else (k, m))), (*batch, *((k, n) if layout[1] == "n" else (n, k))),
        dtype=np.float64 if m % 2 else np.float32,
    )  # fmt: skip

    def f(a, b):
        return torch.relu((a.mT if layout[0] == "t" else a) @ (b.mT if layout[1] == "t" else b) + 1)

    program, _ = record(f, [a, b])
    (got,), _ = run(program, [a, b])
    a64, b64 = (
        np.swapaxes(x.astype(np.float64), -1, -2) if t == "t" else x.astype(np.float64)
        for x, t in zip((a, b), layout, strict=True)
    )
    bound = k * np.finfo(a.dtype).eps * (np.abs(a64) @ np.abs(b64) + 1)
    assert (np.abs(got - np.maximum(a64 @ b64 + 1, 0)) <= bound).all()


@pytest.mark.parametrize("shapes", [((4, 3, 8, 5), (3, 5, 7)), ((6, 10, 4), (4, 9)), ((2, 1, 8, 5), (3, 5, 2))])
def test_batched_products(shapes):
    a, b = arrays(*shapes)
    program, expected = record(lambda a, b: a @ b, [a, b])
    (got,), step = run(program, [a, b])
    np.testing.assert_allclose(got, expected[0], rtol=1e-5, atol=1e-5)
    assert not step.calls


@pytest.mark.parametrize("shape", [(3,), (33, 70), (5, 1, 7), (2, 3, 4, 5), (1000, 3), (3, 1000), (2, 20000)])
@pytest.mark.parametrize("name", ["sum", "amax", "amin", "mean"])
def test_reductions_along_every_axis(shape, name):
    (x,) = arrays(shape)
    for axes in [None, *[(i,) for i in range(len(shape))], *([(0, len(shape) - 1)] if len(shape) > 1 else [])]:

        def f(x, axes=axes):
            y = getattr(torch.exp(x), name)
            return y() if axes is None else y(axes)

        program, _ = record(f, [x])
        (got,), step = run(program, [x])
        expected = getattr(np, {"amax": "max", "amin": "min"}.get(name, name))(np.exp(x.astype(np.float64)), axis=axes)
        np.testing.assert_allclose(got, expected, rtol=3e-6)
        assert not step.calls


def test_nan_and_infinity_come_out_as_numpys():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1.0, 3.0] * 5, np.float32)
    functions = [torch.relu, torch.exp, torch.log, torch.tanh, torch.sigmoid, torch.abs, torch.sign,
                 lambda t: t.clamp(-1, 1), lambda t: torch.maximum(t, t * 0 + 1), lambda t: (t > 0), lambda t: t.amax(),
                 lambda t: t.reshape(5, 8).sum(1), lambda t: 1 / t, lambda t: t**2,
                 torch.sqrt, lambda t: t**0.5]  # fmt: skip
    for f in functions:
        program, expected = record(f, [x])
        (got,), _ = run(program, [x])
        np.testing.assert_allclose(got, expected[0], rtol=1e-6)


def test_rows_longer_than_the_registers_go_through_memory():
    (x,) = arrays((9, 3001))
    program, expected = record(lambda x: torch.softmax(x, 1) * 2, [x])
    (got,), step = run(program, [x])
    np.testing.assert_allclose(got, expected[0], rtol=2e-6)
    assert len(step.groups) == 1, "softmax is one kernel"


def test_long_float32_sums_keep_their_accuracy():
    x = RNG.uniform(0, 1, 3_000_001).astype(np.float32)
    program, expected = record(lambda x: x.sum(), [x])
    (got,), _ = run(program, [x])
    exact = x.astype(np.float64).sum()
    assert abs(got - exact) <= max(abs(float(expected[0]) - exact), 2e-7 * exact)


def test_equal_layers_share_their_kernels():
    weights = [w / 8 for w in arrays(*[(32, 32)] * 20)]  # a contraction: rounding does not grow
    (x,) = arrays((16, 32))

    def f(x, *ws):
        for w in ws:
            x = torch.tanh(x @ w)
        return x

    program, expected = record(f, [x, *weights])
    (got,), step = run(program, [x, *weights])
    np.testing.assert_allclose(got, expected[0], rtol=1e-4, atol=1e-5)
    assert len({name for parts in step.kernels for name, _ in parts}) == 1


def test_an_epilogue_may_see_the_product_in_another_shape():
    a, b = arrays((2, 3, 4), (4, 5))
    program, expected = record(lambda a, b: [(a @ b).reshape(-1) * 2 + 1, (a @ b).reshape(6, 5).sum(0)], [a, b])
    got, _ = run(program, [a, b])
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-5)


def test_a_single_entry_put_into_zeros():
    (x,) = arrays((3,))
    leaf = torch.tensor(x, requires_grad=True)
    f = torch.compile(lambda t: torch.autograd.grad((leaf[1] * t[1] * leaf[1]), leaf)[0])
    expected = np.array([0, 2 * x[1] * x[1], 0])
    np.testing.assert_allclose(f(torch.tensor(x)).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(f(torch.tensor(x)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8), (17, 23), (33, 40), (64, 9), (9, 64), (5, 40, 33), (3, 8, 200)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_transposed_operands_in_tiles(shape, dtype):
    a, b = ((RNG.normal(size=shape) * 3).astype(dtype) for _ in range(2))
    turned = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]

    def f(a, b):
        p, q = a.permute(turned), b.permute(turned)
        flat = b.reshape([shape[i] for i in turned])
        return [p.contiguous(), torch.where(p > q, p, q), torch.where(p == flat, flat, q)]

    program, expected = record(f, [a, b])
    got, step = run(program, [a, b])
    assert not step.calls
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)


@pytest.mark.parametrize("name", ["amax", "amin", "sum", "prod"])
@pytest.mark.parametrize("shape", [(50, 3), (7, 40), (33, 500), (4, 9, 70)])
def test_reductions_over_leading_axes_share_a_kernel_with_what_they_reduce(name, shape):
    (x,) = arrays(shape)

    def f(x):
        y = torch.exp(x * 0.1)
        return [torch.prod(y, 0) if name == "prod" else getattr(y, name)(0), y * 2]

    program, expected = record(f, [x])
    got, step = run(program, [x])
    assert len(step.groups) == (1 if shape[-1] >= 4 else 2)  # few columns: rows in lanes would stand empty
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=2e-6)


@pytest.mark.parametrize("n", [1000, 1025, 4096, 33_000, 1_000_003])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_sums_are_as_accurate_as_numpys_pairwise_ones(n, offset):
    for seed in range(3):
        x = (np.random.default_rng(seed).normal(size=(2, n)) + offset).astype(np.float32)
        exact = x.astype(np.float64).sum(1)
        program, expected = record(lambda x: [x.sum(1), x.sum()], [x])
        (rows, everything), _ = run(program, [x])
        # The bound that NumPy's algorithm has: 16 sequential steps, 8 partial sums, and a tree above blocks of 128.
        bound = (16 + 3 + np.log2(n / 128 + 1)) * 2**-24 * np.abs(x.astype(np.float64)).sum(1)
        assert (np.abs(rows - exact) <= np.maximum(np.abs(expected[0] - exact), bound)).all()
        assert abs(everything - exact.sum()) <= max(abs(float(expected[1]) - exact.sum()), bound.sum())


def test_nan_comes_out_of_maxima_wherever_it_stands():
    for place in (0, 1, 7, 8, 30, 63, 69):
        x = RNG.normal(size=(3, 70)).astype(np.float32)
        x[1, place] = np.nan
        program, expected = record(lambda x: [x.amax(1), x.amin(1), x.amax(0), x.amin(), torch.maximum(x, x[1])], [x])
        got, _ = run(program, [x])
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_array_equal(g, e)


def test_what_is_joined_is_made_in_its_place():
    (x, y), (w,) = arrays((5, 8), (5, 8)), arrays((8, 8))

    def f(x, y, w):
        a, b = torch.tanh(x), torch.exp(y) @ w
        inner = torch.stack([a, b])  # within another one
        both = torch.cat([inner.reshape(10, 8), a * 2])
        return both, torch.stack([b, a, a], 1), both.sum(), a + 1

    program, expected = record(f, [x, y, w])
    got, step = run(program, [x, y, w])
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=2e-6, atol=1e-6)
    copied = [len(g.nodes[0].args) for g in step.groups if g.kind == "join"]
    assert sorted(copied) == [0, 0, 3]  # along axis 1 no part is in one piece


def test_a_weight_of_many_products_is_packed_once():
    x, w = arrays((32, 48), (64, 48))
    w /= 48**0.5  # steps that do not enlarge rounding errors

    def f(x, w):
        for _ in range(4):
            x = torch.tanh(x @ w.T)[:, :48]
        return x

    program, expected = record(f, [x, w])
    (got,), step = run(program, [x, w])
    np.testing.assert_allclose(got, expected[0], rtol=1e-4, atol=1e-5)
    assert [g.kind for g in step.groups].count("pack") == 1


def test_the_update_of_a_large_parameter_is_one_kernel_of_its_own():
    shapes = [(40, 30), (30, 40), (40, 30)]
    given = [a for s in shapes for a in arrays(s, s, s)]  # parameter, momentum, gradient

    def f(rate, *given):
        out = []
        for p, m, g in zip(*[iter(given)] * 3, strict=True):
            scaled = g * rate
            m = m * 0.9 + scaled * 0.1
            v = p * 0.99 + (scaled * scaled) * 0.01
            out += [p - rate * (m / (v.sqrt() + 1e-8)), m, v]
        return out

    rate = np.array(0.1, np.float32)
    program, expected = record(f, [rate, *given])
    got, step = run(program, [rate, *given])
    assert len(step.groups) == len(shapes)
    assert len({name for parts in step.kernels for name, _ in parts}) == 1, "they share their code"
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-6)


def test_what_only_a_sum_reads_is_not_written_by_the_product():
    def f(a, b, c):
        p = a @ b
        return (p * c).sum(-1, keepdim=True) - p

    arrays = [RNG.normal(size=s).astype(np.float32) for s in ((6, 33, 16), (6, 16, 40), (6, 33, 40))]
    program, expected = record(f, arrays)
    got, step = run(program, arrays)
    product, loop = step.groups
    assert [n.name for n in product.nodes] == ["matmul"]
    assert [n.name for n in loop.nodes] == ["mul", "sum", "sub"]
    (factor, _, _) = loop.nodes
    assert factor.out not in step.kept
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5, atol=1e-5)
