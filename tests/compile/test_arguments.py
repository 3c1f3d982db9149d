"""Arguments and results of every kind, tensors that share memory, and how many recordings there are."""

import dataclasses
import functools
import warnings
from collections import OrderedDict, namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import chainrule as torch
from chainrule.compile import CompileError
from chainrule.compile.front import MOST

nn, F = torch.nn, torch.nn.functional
Pair = namedtuple("Pair", "a b")


@dataclasses.dataclass
class Batch:
    x: object
    scale: float
    rest: object = None


def count(f):
    return sum(map(len, f.variants.values()))


def t(*values, dtype=None):
    return torch.tensor(values, dtype=dtype)


def test_nested_arguments_and_results():
    @torch.compile
    def f(items, *, options, batch):
        a, (b, c) = items
        return {"sum": a + b, "more": [c * options["k"], Pair(a, b.sum())], "batch": Batch(batch.x * 2, batch.scale),
                "none": None, "number": 3, "text": "x", "kept": OrderedDict(z=a - b)}  # fmt: skip

    for k in range(3):
        out = f([t(1.0, k), (t(2.0, 3.0), t(4.0))], options={"k": 5}, batch=Batch(t(7.0, k), 0.5))
        assert out["sum"].tolist() == [3.0, k + 3.0]
        assert out["more"][0].tolist() == [20.0]
        assert isinstance(out["more"][1], Pair)
        assert out["more"][1].b.item() == 5.0
        assert isinstance(out["batch"], Batch)
        assert (out["batch"].x.tolist(), out["batch"].scale) == ([14.0, 2.0 * k], 0.5)
        assert (out["none"], out["number"], out["text"]) == (None, 3, "x")
        assert type(out["kept"]) is OrderedDict
    assert count(f) == 1


def test_integers_bools_scalars_and_empty_tensors():
    f = torch.compile(lambda x, y: (x + y, x > y, x.sum()))
    for dtype in (torch.int64, torch.int32, torch.uint8, torch.float64, torch.float32):
        for shape in ((), (0,), (3,), (2, 0, 4), (1, 1)):
            x = torch.ones(shape, dtype=dtype)
            for _ in range(2):
                for got, expected in zip(f(x, x), (x + x, x > x, x.sum()), strict=True):
                    assert got.dtype == expected.dtype
                    assert got.shape == expected.shape
                    assert got.tolist() == expected.tolist()
    g = torch.compile(lambda m, n: (m & n, ~m, m.any(), torch.where(m, 1.0, 2.0)))
    m, n = t(True, False, True), t(True, True, False)
    for _ in range(2):
        assert [r.tolist() for r in g(m, n)] == [[True, False, False], [False, True, False], True, [1.0, 2.0, 1.0]]


def test_numpy_arguments():
    @torch.compile
    def f(a, w):
        return torch.from_numpy(a) @ w + a * w.sum() + torch.as_tensor(a)[0]

    w = torch.ones(3)
    for k in range(3):
        a = np.array([1.0, 2.0, k], np.float32)
        expected = torch.from_numpy(a) @ w + a * w.sum() + torch.as_tensor(a)[0]
        np.testing.assert_allclose(f(a, w).numpy(), expected.numpy())
    assert count(f) == 1
    hidden = [
        lambda a: torch.from_numpy(np.tanh(a)), lambda a: torch.ones(3) * float(a[0]),
        lambda a: torch.ones(2) * a.sum(),
        lambda a: torch.from_numpy(a[1:]), lambda a: torch.from_numpy(a + 1),
    ]  # fmt: skip
    for bad in hidden:
        with pytest.raises(CompileError, match="compile:"):
            torch.compile(bad)(np.ones(3, np.float32))


def test_none_and_python_values():
    w = torch.zeros(2)

    @torch.compile
    def f(x):
        w.add_(x)

    for _ in range(3):
        assert f(torch.ones(2)) is None
    assert w.tolist() == [3.0, 3.0]
    assert torch.compile(lambda x: (1, "a", x + 1))(t(1.0))[:2] == (1, "a")


def test_keyword_arguments_and_defaults():
    @torch.compile
    def f(x, y=None, *, scale=1.0):
        return x * scale if y is None else x * scale + y

    x = t(1.0, 2.0)
    for _ in range(2):
        assert f(x).tolist() == [1.0, 2.0]
        assert f(x, scale=2.0).tolist() == [2.0, 4.0]
        assert f(x, y=x).tolist() == [2.0, 4.0]
        assert f(y=x, x=x, scale=3.0).tolist() == [4.0, 8.0]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        f()


def test_methods_partials_decorators_and_nesting():
    class Model:
        def __init__(self, k):
            self.w = t(k)

        @torch.compile
        def scaled(self, x):
            return x * self.w

        @torch.compile(fallback=True)
        def twice(self, x):
            return self.scaled(self.scaled(x))

    a, b = Model(2.0), Model(3.0)
    for x in (1.0, 5.0):
        assert (a.scaled(t(x)).item(), b.scaled(t(x)).item()) == (2 * x, 3 * x)
        assert (a.twice(t(x)).item(), b.twice(t(x)).item()) == (4 * x, 9 * x)
    g = torch.compile(functools.partial(lambda k, x, s: x * k + s, 2.0, s=t(1.0)))
    assert [g(t(v)).item() for v in (1.0, 2.0)] == [3.0, 5.0]

    @torch.compile
    def power(x, n):
        return x if n == 1 else x * power(x, n - 1)

    assert [power(t(2.0), 5).item() for _ in range(2)] == [32.0, 32.0]
    assert torch.compile(power) is power


def test_generators_are_refused():
    def batches(x):
        yield x

    with pytest.raises(CompileError, match="generator"):
        torch.compile(batches)
    with pytest.raises(CompileError, match="generator"):
        torch.compile(lambda g: 1)(batches(1))


def test_the_same_tensor_twice_and_overlapping_ones():
    f = torch.compile(lambda a, b: a.mul_(2) + b)
    for _ in range(3):
        x = t(1.0, 2.0)
        assert f(x, x).tolist() == [4.0, 8.0]  # b is a, already doubled
        assert x.tolist() == [2.0, 4.0]
        y, z = t(1.0, 2.0), t(5.0, 5.0)
        assert f(y, z).tolist() == [7.0, 9.0]
        w = t(1.0, 2.0, 3.0)
        assert f(w[:2], w[1:]).tolist() == (lambda w: w[:2].mul_(2) + w[1:])(t(1.0, 2.0, 3.0)).tolist()
    assert count(f) <= 3


def test_in_place_on_arguments_that_are_not_contiguous():
    def body(a, b):
        a += b.T
        a[0] = a[0] * 3
        return a.sum(0)

    f = torch.compile(body)
    for k in range(3):
        base = torch.arange(24.0).reshape(4, 6) + k
        other = base.clone()
        expected = body(other[:, ::2], torch.ones(3, 4))
        got = f(base[:, ::2], torch.ones(3, 4))
        assert got.tolist() == expected.tolist()
        assert base.tolist() == other.tolist()


def test_results_that_are_arguments_parameters_or_each_other():
    w = torch.ones(2, 3)

    def body(x):
        y = x * 2
        w.add_(1)
        return x, x.T, y, y, y[0], w, w[1], y.detach()

    f = torch.compile(body)
    for _ in range(3):
        x = torch.arange(6.0).reshape(2, 3)
        a, b, c, d, e, p, q, h = f(x)
        assert a is x
        assert c is d
        assert p is w
        x[0, 1] = 50.0
        assert b[1, 0].item() == 50.0
        c[0, 2] = 70.0
        assert (e[2].item(), h[0, 2].item()) == (70.0, 70.0)
        w[1, 0] = -1.0
        assert q[0].item() == -1.0


def test_views_written_in_place():
    def body(x):
        y = x.clone()
        y.reshape(-1)[2:5] = 0.0
        z = y[:, 1]
        z += 10
        y.T[0].mul_(2)
        return y, z * 1, y.sum()

    f = torch.compile(body)
    for k in range(3):
        x = torch.arange(6.0).reshape(2, 3) + k
        for got, expected in zip(f(x), body(x), strict=True):
            assert got.tolist() == expected.tolist()


def test_arguments_that_require_grad():
    def body(x):
        (x * x).sum().backward()

    f = torch.compile(body)
    for k in range(3):
        x, y = (torch.tensor([1.0, float(k)], requires_grad=True) for _ in range(2))
        for _ in range(3):
            f(x), body(y)
            assert x.grad.tolist() == y.grad.tolist()
    assert count(f) == 2
    with pytest.raises(CompileError, match="graph of its own"):
        f(x * 2)


def test_numbers_are_recorded_one_by_one_and_said_so():
    f = torch.compile(lambda x, k: x * k)
    assert f(t(2), 1).dtype == torch.int64
    assert f(t(2), 1.0).dtype == torch.float32
    assert f(t(2), True).dtype == torch.int64
    nan = float("nan")
    for _ in range(3):
        assert f(t(2.0), nan).isnan().all()
    assert count(f) == 4
    with pytest.warns(UserWarning, match=r"compiled for 8 values of argument 1 .*torch.tensor"):
        assert [f(t(1.0), k / 7).item() for k in range(9)] == pytest.approx([k / 7 for k in range(9)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(MOST + 5):
            f(t(1.0), k / 9)
    assert len(f.variants) <= MOST


def test_other_shapes_dtypes_and_modes_compile_again():
    f = torch.compile(lambda x: x.mean(0))
    for shape in ((3,), (4, 2), (3,), (5, 1, 2)):
        for dtype in (torch.float32, torch.float64):
            x = torch.rand(shape, dtype=dtype)
            np.testing.assert_allclose(f(x).numpy(), x.mean(0).numpy(), rtol=1e-6)
    assert count(f) == 6


def test_threads_share_a_step_and_parameters():
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    w = torch.zeros(4)

    def step(x):
        opt.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        opt.step()
        w.add_(1)
        return loss

    one, two = torch.compile(step), torch.compile(lambda x: step(x).detach() * 1)
    x = torch.randn(8, 3)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(f, x) for _ in range(100) for f in (one, two)]
        losses = sorted((float(j.result()) for j in jobs), reverse=True)
    assert w.tolist() == [200.0] * 4
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    w = torch.zeros(4)
    expected = [float(step(x)) for _ in range(200)]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
