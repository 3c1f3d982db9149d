"""Reading and writing at integer positions, running sums, parts of arrays: natively, and with eager mode's errors."""

import numpy as np
import pytest
from tests.compile.programs import record, run

import chainrule as torch

F = torch.nn.functional
RNG = np.random.default_rng(0)


def native(f, *arrays, exact=True):
    """Compiled equals eager, and nothing ran as NumPy."""
    program, expected = record(f, list(arrays))
    got, step = run(program, list(arrays))
    assert not step.calls, [c.node.why for c in step.calls]
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == e.dtype
        compare = np.testing.assert_array_equal if exact else lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-6)
        compare(g, np.array(e))


def normal(*shape, dtype=np.float32):
    return RNG.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_reading_at_integer_positions(dtype):
    x = (normal(7, 5, 19) * 50).astype(dtype)
    i = RNG.integers(-7, 7, (3, 4))
    j = RNG.integers(0, 5, (4,))
    native(lambda x, i: x[i], x, i)
    native(lambda x, i, j: x[i, j], x, i, j)
    native(lambda x, j: x[:, j], x, j)
    native(lambda x, i, j: x[i, :, (j % 5) + 3], x, i, j)
    native(lambda x, j: x.index_select(1, j), x, j)
    native(lambda x, j: x[:, :, ::2].transpose(0, 2)[j], x, j)
    native(lambda x, k: x.gather(2, k), x, RNG.integers(0, 19, (7, 5, 3)))
    native(lambda x, k: x.transpose(0, 2).gather(2, k), x, RNG.integers(0, 7, (19, 5, 2)))
    native(lambda w, k: F.embedding(k, w), x[0], RNG.integers(0, 5, (2, 9)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 3, 8, 21])
def test_gradients_go_back_to_where_values_came_from(dtype, width):
    table, index = normal(11, width, dtype=dtype), RNG.integers(0, 11, (6, 13))  # every row several times
    weights = normal(6, 13, width, dtype=dtype)

    def step(w, i, c):
        w = torch.tensor(w, requires_grad=True) if isinstance(w, np.ndarray) else w.detach().requires_grad_()
        with torch.enable_grad():
            a = (F.embedding(i, w) * c).sum()
            b = (w[i] * c).sum() + w.gather(0, i[:, :1].expand(6, width) % 11).sum()
            return [*torch.autograd.grad(a, w), *torch.autograd.grad(b, w)]

    native(step, table, index, weights, exact=False)


@pytest.mark.parametrize("width", [1, 3, 8])
def test_many_terms_at_one_place_lose_no_digits(width):
    index, terms = RNG.integers(0, 2, 5000), normal(5000, width) + 1

    def step(w, i, c):
        w = w.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad((w[i] * c).sum(), w)[0]

    table = np.zeros((2, width), np.float32)
    program, _ = record(step, [table, index, terms])
    (got,), _ = run(program, [table, index, terms])
    exact = np.array([terms[index == k].astype(np.float64).sum(0) for k in range(2)])
    np.testing.assert_allclose(got, exact, rtol=1.2e-7)  # one rounding


def test_sums_at_equal_places_are_made_in_index_order():
    # 1e8 + 1 − 1e8 + 1 in float32 depends on the order.
    x, index = np.array([[1e8], [1.0], [-1e8], [1.0]], np.float32), np.zeros(4, np.int64)
    program, _ = record(lambda x, i: torch.zeros(1, 1).index_add(0, i, x), [x, index])
    (got,), _ = run(program, [x, index])
    assert got.item() == 1


def test_writing_at_integer_positions():
    x, v, index = normal(5, 6), normal(3, 6), np.array([4, 0, 4])
    native(lambda x, v, i: x.scatter(1, i[:, None].expand(3, 6), v[:, :6]), x, v, index)
    native(lambda x, v, i: x.scatter_add(0, i[:, None].expand(3, 6), v), x, v, index, exact=False)
    native(lambda x, v, i: x.index_copy(0, i[1:], v[1:]), x, v, index)
    native(lambda x, v, i: x.index_add(0, i, v), x, v, index, exact=False)
    native(lambda x, v, i: x.scatter_reduce(0, i[:, None].expand(3, 6), v, "amax"), x, v, index)


def test_an_index_out_of_range_raises_as_eager_before_anything_changes():
    w = torch.nn.Parameter(torch.randn(5, 3))
    count = torch.zeros(1)

    @torch.compile
    def step(i):
        loss = (F.embedding(i, w) ** 2).sum()
        w.grad = None
        loss.backward()
        with torch.no_grad():
            count.add_(1)
            w.sub_(w.grad * 0.1)
        return loss

    good = torch.tensor([1, 4, 1])
    for _ in range(3):
        step(good)
    before, counted = w.detach().clone(), float(count)
    for bad in ([1, 5, 0], [0, 1, 99]):
        with pytest.raises(IndexError):
            step(torch.tensor(bad))
        assert torch.equal(w, before)
        assert float(count) == counted
    step(good)
    assert float(count) == counted + 1


def test_an_index_of_unknown_range_is_left_to_numpy():
    x, i = normal(5), np.array([1, 2])
    program, _ = record(lambda x, i: x[i * i], [x, i])
    _, step = run(program, [x, i])
    assert [c.node.name for c in step.calls] == ["index"]
    native(lambda x, i: x[(i * i) % 5], x, i)  # in range whatever i is
    native(lambda x, i: x[x.argmax()], x, i)
    native(lambda x, i: x[i.to(torch.int64)], x, i.astype(np.int32))


def test_targets_may_be_columns_of_a_larger_array():
    x = torch.randn(6, 4)
    rows = torch.tensor(np.stack([np.arange(6) % 4, np.full(6, 1000)], 1))  # the second column is no class
    f = torch.compile(lambda x, rows: F.cross_entropy(x, rows[:, 0]))
    for _ in range(3):
        got = f(x, rows)
    np.testing.assert_allclose(got.numpy(), F.cross_entropy(x, rows[:, 0]).numpy(), rtol=1e-6)
    with pytest.raises(IndexError):
        f(x, rows + 3)


def test_targets_that_are_taken_twice_or_made_inside():
    x, y = torch.randn(6, 4), torch.tensor([[0, 3], [1, 2], [2, 1], [3, 0], [0, 1], [2, 2]])

    def twice(x, y):
        return F.cross_entropy(x, y[:, 0]) + F.cross_entropy(-x, y[:, 0])

    def inside(x, y):
        numbers = torch.arange(4)
        return F.cross_entropy(x[:4], numbers) + F.cross_entropy(x[:4].t(), numbers)

    for f in (twice, inside):
        compiled = torch.compile(f)
        for targets in (y, 3 - y):
            np.testing.assert_allclose(compiled(x, targets).numpy(), f(x, targets).numpy(), rtol=1e-6)
    compiled = torch.compile(twice)
    compiled(x, y)
    with pytest.raises(IndexError):
        compiled(x, y + 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_running_results(dtype, dim):
    x = normal(4, 9, 21, dtype=dtype)
    native(lambda x: x.cumsum(dim), x)
    native(lambda x: x.cumprod(dim), x)
    native(lambda x: x.transpose(0, 2).cumsum(dim), x)
    native(lambda x: x.logcumsumexp(dim), x, exact=False)
    native(lambda x: (x * 10).to(torch.int32).cumsum(dim), x)

    def gradients(x):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad((x.cumsum(dim) ** 2).sum() + x.cumprod(dim).sum() + x.prod(dim).sum(), x)

    native(gradients, x, exact=False)


def test_parts_of_arrays():
    x = normal(6, 7, 8)
    native(lambda x: x.flip(0, 2) + 1, x)
    native(lambda x: x.roll((2, -3), (0, 2)), x)
    native(lambda x: [x.tril(), x.triu(1), x.tril(-2)], x)
    native(lambda x: F.pad(x, (1, 2, -1, 3), value=2.5), x)
    native(lambda x: F.pad(x, (1, 2)), x)
    native(lambda x: [torch.diag_embed(x[0]), x.diagonal(1, 0, 2) * 2], x)
    native(lambda x: x.unfold(2, 3, 2).sum(-1), x, exact=False)

    def gradient(x):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            y = x.flip(1).roll(1, 0).tril() * 2
            z = F.pad(y, (2, 1, 0, 2))[..., 1:].unfold(2, 3, 2)
            return torch.autograd.grad((z * z).sum(), x)

    native(gradient, x, exact=False)


@pytest.mark.parametrize("dim", [None, 0, 1, 2])
def test_reductions_of_other_kinds(dim):
    x = RNG.integers(-3, 4, (5, 6, 9)).astype(np.float32)  # with ties and zeros
    x[1, 2, 3] = x[4, 2, 3] = np.nan
    along = {} if dim is None else {"dim": dim}
    native(lambda x: [x.argmax(**along), x.argmin(**along), x.any(**along), x.all(**along)], x)
    native(lambda x: torch.count_nonzero(x, **along), x)
    y = normal(5, 6, 9)
    native(lambda y: [y.norm(p, **along) for p in (0, 1, 2, 3, float("inf"), -float("inf"))], y, exact=False)
    native(lambda y: [y.prod(**along), torch.logsumexp(y * 50, dim or 0)], y, exact=False)
    native(lambda y: torch.logsumexp(torch.where(y > -9, -torch.inf, y), dim or 0), y)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 2), (4,)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_class_losses(shape, reduction):
    x = normal(*shape)
    target = np.array(RNG.integers(0, 4, (shape[0], *shape[2:]) if len(shape) > 1 else ()))
    weight = RNG.uniform(0.5, 2, 4).astype(np.float32)

    def f(x, t, w):
        losses = []
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            for options in (
                {},
                {"weight": w},
                {"ignore_index": 2},
                {"weight": w, "ignore_index": 1, "label_smoothing": 0.1},
            ):
                loss = F.cross_entropy(x, t, reduction=reduction, **options)
                losses += [loss, *torch.autograd.grad(loss.sum(), x)]
            loss = F.nll_loss(F.log_softmax(x, -1 if x.dim() == 1 else 1), t, weight=w, reduction=reduction)
            losses += [loss, *torch.autograd.grad(loss.sum(), x)]
        return losses

    native(f, x, target, weight, exact=False)


def test_a_mean_over_ignored_targets_only():
    x, target = normal(3, 4), np.full(3, -100)

    def f(x, t):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(x, t)
            return [loss, *torch.autograd.grad(loss, x)]

    native(f, x, target)  # NaN, and a gradient of zeros


@pytest.mark.parametrize(("spatial", "settings"), [
    (1, {"kernel_size": 3, "stride": 2, "padding": 1}), (1, {"kernel_size": 2}), (2, {"kernel_size": 3, "stride": 2}),
    (2, {"kernel_size": 2}), (2, {"kernel_size": 3, "stride": 1, "padding": 1}), (2, {"kernel_size": (2, 3)}),
])  # fmt: skip
def test_pooling(spatial, settings):
    x = normal(2, 3, *(9, 10)[:spatial])
    x[0, 0, ..., :5] = 1.5  # equal entries: the first one has the gradient

    def f(x):
        x = x.detach().requires_grad_()
        most, mean = (getattr(F, f"{kind}_pool{spatial}d") for kind in ("max", "avg"))
        with torch.enable_grad():
            out = [most(x, **settings), mean(x, **settings)]
            if spatial == 2:
                out.append(F.adaptive_avg_pool2d(x, (3, 2)))
            total = sum((o * o).sum() for o in out)
            return [*out, *torch.autograd.grad(total, x)]

    native(f, x, exact=False)


@pytest.mark.parametrize(
    "later", [lambda t: t[:, 1:].reshape(-1), lambda t: t[:, 1:].flatten(), lambda t: t.T.flatten()]
)
def test_targets_that_are_copied_from_a_part_of_an_argument(later):
    """The usual step of a language model: the next token is the target."""
    table = torch.tensor(normal(7, 6))
    head = torch.tensor(normal(6, 7), requires_grad=True)

    def step(tokens):
        head.grad = None
        targets = later(tokens)
        logits = F.embedding(targets, table) @ head
        loss = F.cross_entropy(logits, targets) + logits.gather(1, targets[:, None]).mean()
        loss.backward()
        return loss.detach()

    compiled = torch.compile(step)
    for seed in range(3):
        tokens = torch.tensor(np.random.default_rng(seed).integers(0, 7, (3, 5)))
        expected, gradient = step(tokens).item(), head.grad.numpy().copy()
        np.testing.assert_allclose(compiled(tokens).item(), expected, rtol=1e-5)
        np.testing.assert_allclose(head.grad.numpy(), gradient, rtol=1e-4, atol=1e-6)
    tokens[1, 2] = 7
    for run_step in (step, compiled):
        with pytest.raises(IndexError):
            run_step(tokens)


def test_ignored_targets_made_inside_of_logits_that_were_flattened():
    layer = torch.nn.Linear(3, 5)
    x, mask = torch.tensor(normal(2, 4, 3)), torch.tensor([1, 0, 1, 1, 0, 1, 1, 1]) > 0

    def step(t):
        layer.zero_grad()
        loss = F.cross_entropy(layer(x).view(-1, 5), t.masked_fill(~mask, -100))
        loss.backward()
        return loss.detach()

    t = torch.arange(8) % 5
    expected, gradients = step(t).item(), [p.grad.numpy().copy() for p in layer.parameters()]
    np.testing.assert_allclose(torch.compile(step)(t).item(), expected, rtol=1e-6)
    for p, g in zip(layer.parameters(), gradients, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-5, atol=1e-7)


def test_one_hot_in_a_loop_whose_rows_are_split_further():
    p, t = torch.tensor(normal(8, 5)), torch.arange(8) % 5

    def f(p, t):
        y = p - F.one_hot(t, 5)
        return y.view(2, 4, 5).sum((0, 1)), y

    for got, expected in zip(torch.compile(f)(p, t), f(p, t), strict=True):
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-6, atol=1e-6)
