"""Calls that look at their tensors' values, or compute with them in NumPy: recorded with one input, right on others.

What Python sees of a value would be frozen in the recording. Such a call is either written in ops throughout, or
refused; unless its values are the function's own, made of nothing that could differ in the next run.
"""

import copy
from collections import deque

import numpy as np
import pytest

import chainrule as torch
from chainrule.compile import CompileError

nn, F, D = torch.nn, torch.nn.functional, torch.distributions
rnn = nn.utils.rnn


def inputs(seed):
    r = np.random.default_rng(seed)

    def normal(*shape):
        return torch.tensor(r.normal(size=shape).astype(np.float32))

    def mask(*shape):
        return torch.tensor(r.uniform(size=shape) < 0.5)

    def whole(high, *shape, low=0):
        return torch.tensor(r.integers(low, high, shape))

    x, zeros = normal(4, 6), normal(4, 6) * (mask(4, 1)).float()
    return {
        "x": x, "y": normal(4, 6), "p": torch.tensor(r.uniform(0.1, 0.9, (4, 6)).astype(np.float32)), "zeros": zeros,
        "least": zeros.abs(), "mask": mask(4, 6), "byte": mask(4, 6).to(torch.uint8), "i": whole(4), "j": whole(6),
        "rows": whole(4, 4), "order": torch.tensor(r.permutation(4)), "classes": whole(6, 4), "words": whole(4, 12),
        "starts": torch.tensor(np.array([0, *np.sort(r.choice(12, 3))])), "steps": normal(5, 4, 6),
        "padding": mask(4, 5), "forbidden": mask(5, 5), "lengths": whole(6, 4, low=1), "image": normal(2, 3, 5, 6),
        "square": normal(4, 4), "grid": torch.tensor(r.uniform(-1.3, 1.3, (2, 4, 4, 2)).astype(np.float32)),
        "volume": normal(2, 2, 3, 4, 5),
        "points": torch.tensor(r.uniform(-1.3, 1.3, (2, 2, 3, 3, 3)).astype(np.float32)),
        "log_p": F.log_softmax(normal(8, 2, 5), -1), "labels": whole(5, 2, 3, low=1), "in_row": whole(5, 6, low=1),
        "in_lengths": whole(9, 2, low=6), "label_lengths": whole(4, 2, low=0),
    }  # fmt: skip


torch.manual_seed(0)
TABLE = torch.randn(9, 5)
heads = nn.MultiheadAttention(6, 2)
more_heads = nn.MultiheadAttention(6, 2, add_bias_kv=True, add_zero_attn=True)
encoder = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0)
gru = nn.GRU(6, 3, bidirectional=True)
adaptive = nn.AdaptiveLogSoftmaxWithLoss(6, 20, [5, 10], div_value=2.0)


def assigned(x, key, value):
    y = x * 1
    y[key] = value
    return y


def added(x, key, value):
    y = x * 1
    y[key] += value
    return y


def running(image):
    means, variances = torch.zeros(3), torch.ones(3)
    out = F.instance_norm(image, means, variances)
    return out, means, variances


def contrastive(x):
    mask = ~torch.eye(4, dtype=torch.bool)
    mask[0, 1] = False
    return (x @ x.T)[mask]


def written_through(x, i):
    y = x * 1
    y[i][0] = 5.0
    return y


def read_after_a_write(x, i):
    y = x * 1
    z = y[i]
    y.mul_(3)
    return z


RIGHT = """
x i | x[i]
x i | x[..., None, i, 1:3]
x j | x[:, j]
x i j | x[i, j]
x i j | x[[i], [j]]
x i rows | x[i, rows]
steps i rows | steps[rows, :, i]
steps i j | steps[i, :, j]
x i | x[[i, 1]]
x y i | assigned(x, i, y[0])
x y i j | assigned(x, (i, j), y[0, 0])
x y j | assigned(x, (slice(None), j), y[:, 0])
x y i | added(x, i, y[0])
x y j | added(x, (slice(1, 3), j), y[1:3, 1])
x y mask | assigned(x, mask, y[0, 0])
x y i | x.index_put((i,), y[0])
x | contrastive(x)
x | x[torch.nonzero(torch.tensor([0, 1, 1, 0])).squeeze(1)]
x | x * float(torch.arange(5).sum()) if torch.ones(2).all() else x
x | x.repeat_interleave(torch.tensor([1, 0, 2, 1]), 0)
x | torch.segment_reduce(x, "mean", lengths=torch.tensor([1, 2, 1]))
x rows | x.scatter_reduce(0, rows[:, None].expand(4, 6), x, "mean", include_self=False)
x rows | x.scatter_reduce(0, rows[:, None].expand(4, 6), x, "sum", include_self=False)
x rows | x.index_reduce(0, rows, x, "mean")
x rows | x.long().scatter_reduce(0, rows[:, None].expand(4, 6), x.long() * 7, "mean")
x y | torch.searchsorted(x, y, sorter=x.argsort(1))
x y | torch.isin(x.long(), y.long(), invert=True)
order | torch.unravel_index(order, (2, 2))
x | torch.asarray(x, copy=True)
x | F.leaky_relu(x * 1, 0.2, inplace=True)
x | F.silu(x * 1, inplace=True)
x y | (x * y).sin_(), (x * y).pow_(2), (x * 1).mul_(y)
x y | (x * y).relu_().add_(1).square_()
zeros y | F.cosine_similarity(zeros, y)
x y least | F.gaussian_nll_loss(x, y, least)
x words | F.embedding(words, x, scale_grad_by_freq=True)
x words starts | F.embedding_bag(words, x, starts)
x words starts | F.embedding_bag(words, x, starts, mode="max", padding_idx=2)
x words | F.embedding_bag(words.reshape(4, 3), x, mode="mean", padding_idx=2)
image | running(image)
image grid | F.grid_sample(image, grid, align_corners=False)
image grid | F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
image grid | F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=True)
image grid | F.grid_sample(image, grid, mode="nearest", align_corners=False)
volume points | F.grid_sample(volume, points, align_corners=True)
steps padding | heads(steps, steps, steps, key_padding_mask=padding)
steps padding forbidden | more_heads(steps, steps, steps, key_padding_mask=padding, attn_mask=forbidden)
steps padding | encoder(steps, src_key_padding_mask=padding)
steps forbidden | F.scaled_dot_product_attention(steps[:, 0], steps[:, 1], steps[:, 2], attn_mask=forbidden)
steps | gru(rnn.pack_padded_sequence(steps, [5, 3, 2, 2]))[1]
steps | rnn.pad_packed_sequence(rnn.pack_padded_sequence(steps, torch.tensor([2, 5, 3, 1]), enforce_sorted=False))
log_p labels in_lengths label_lengths | F.ctc_loss(log_p, labels, in_lengths, label_lengths, zero_infinity=True)
log_p in_row | F.ctc_loss(log_p, in_row, (8, 7), (4, 2), reduction="none")
x p | D.Normal(x, p).log_prob(x + 1)
x classes | D.Categorical(logits=x).log_prob(classes), D.Categorical(logits=x).entropy()
p y | D.Beta(p, 2.0).log_prob(p), D.kl_divergence(D.Beta(p, 2.0), D.Beta(2.0, p))
x p | D.MixtureSameFamily(D.Categorical(logits=x), D.Normal(x, p)).log_prob(x[:, 0])
x p | D.MultivariateNormal(x, torch.eye(6)).log_prob(x * 2)
"""
REFUSED = """
x mask | x[mask]
x byte | x[byte]
x i | x[i > 1]
x i rows | assigned(x, (i, rows), 1.0)
x i | written_through(x, i)
x i | read_after_a_write(x, i)
x i | x[i:]
x y mask | x.masked_scatter(mask, y)
x rows | x.repeat_interleave(rows, 0)
x y | x * torch.equal(torch.ones(4, 6), y)
x y | x * torch.allclose(torch.ones(4, 6), y)
x | x.view(torch.int32)
square | torch.linalg.qr(square[:, :2], "complete").Q
square | torch.linalg.lstsq(torch.eye(4), square).solution
square | torch.linalg.matrix_rank(torch.eye(4), tol=square[0, 0])
rows | F.one_hot(rows)
words | F.embedding(words, TABLE.clone(), max_norm=0.5)
x words | adaptive(x, words[:4])
steps lengths | rnn.pack_padded_sequence(steps, lengths, enforce_sorted=False)
log_p in_row label_lengths | F.ctc_loss(log_p, in_row, (8, 7), label_lengths)
x | x * torch.rand(1).item()
x | D.Gamma(torch.ones(2), torch.ones(2)).sample() + x[:, :2]
"""


def forms(text):
    parts = [line.partition(" | ") for line in text.strip().splitlines()]
    return [pytest.param(names.split(), expression, id=expression) for names, _, expression in parts]


def tensors(x):
    return [t for part in x for t in tensors(part)] if isinstance(x, (tuple, list)) else [x]


def step(names, expression):
    """Results and gradients of an expression in the named inputs."""

    def f(*given):
        leaves = [t.detach().requires_grad_() if t.is_floating_point() else t for t in given]
        outs = tensors(eval(expression, globals(), dict(zip(names, leaves, strict=True))))
        linked = [o for o in outs if o.requires_grad]
        # Sums with other weights everywhere: a plain sum of probabilities has no gradient.
        loss = sum((o * torch.arange(o.numel(), dtype=o.dtype).reshape(o.shape).cos()).sum() for o in linked)
        wanted = [t for t in leaves if t.requires_grad]
        grads = torch.autograd.grad(loss, wanted, allow_unused=True) if linked else ()
        return [o.detach() for o in outs], [g for g in grads if g is not None]

    return f


def given(names, seed):
    found = inputs(seed)
    return [found[k] for k in names]


@pytest.mark.parametrize(("names", "expression"), forms(RIGHT))
def test_right_on_other_inputs(names, expression):
    f = step(names, expression)
    compiled = torch.compile(f)
    with np.errstate(all="ignore"):
        for seed in (0, 1, 2, 3):
            got, wanted = (tensors(call(*given(names, seed))) for call in (compiled, f))
            for a, b in zip(got, wanted, strict=True):
                assert (a.shape, a.dtype) == (b.shape, b.dtype)
                np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-4)
    assert len(compiled.variants) == 1
    assert len(next(iter(compiled.variants.values()))) == 1


@pytest.mark.parametrize(("names", "expression"), forms(REFUSED))
def test_refused(names, expression):
    f = step(names, expression)
    f(*given(names, 0))
    with pytest.raises(CompileError, match=r"^compile: "):
        torch.compile(f)(*given(names, 0))


def test_tuples_of_tensors_in_a_deque():
    memory = deque([(torch.ones(2), torch.zeros(2))])
    f = torch.compile(lambda x: x + memory[0][0])
    assert f(torch.ones(2)).tolist() == [2.0, 2.0]
    memory[0] = (torch.ones(2) * 2, torch.zeros(2))
    assert f(torch.ones(2)).tolist() == [3.0, 3.0]


def test_values_from_outside_are_not_the_functions_own():
    w, d, numbers = torch.ones(2, requires_grad=True), {"t": torch.ones(2)}, np.ones(2)
    net = nn.BatchNorm1d(2)
    opt = torch.optim.Adam([w], lr=torch.tensor(0.1))
    w.grad = torch.ones(2)
    opt.step()
    for f in (
        lambda x: x * w.sum().item(), lambda x: x * d["t"].sum().item(), lambda x: x * net.running_mean.sum().item(),
        lambda x: x * opt.param_groups[0]["lr"].item(), lambda x: x * opt.state[w]["step"].item(),
        lambda x: x * w.grad.sum().item(), lambda x: x * w.data[0].item(), lambda x: x * x.sum().item(),
        lambda x: x * torch.from_numpy(numbers).sum().item(), lambda x: x * torch.as_tensor(numbers).sum().item(),
        lambda x: x * torch.zeros(2).copy_(x).sum().item(), lambda x: x * torch.stack([x[0], x[1]]).sum().item(),
    ):  # fmt: skip
        with pytest.raises(CompileError, match=r"called item\(\)"):
            torch.compile(f)(torch.ones(2))


def _averaged(update):
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    average = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    def step(x):
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        update(average, model)
        return loss

    return average, step


def test_an_average_of_weights_by_data_goes_on_from_what_it_is():
    def update(average, model):
        for a, p in zip(average.parameters(), model.parameters(), strict=True):
            a.data = a.data * 0.9 + p.data * 0.1

    (eager, step), (mine, same) = _averaged(update), _averaged(update)
    compiled = torch.compile(same)
    for i in range(4):
        x = torch.full((3, 2), 0.3 * (i + 1))
        step(x)
        compiled(x)
        for a, b in zip(eager.parameters(), mine.parameters(), strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("of", [lambda w: w.detach(), lambda w: w.data])
def test_detached_memory_follows_its_tensor(of):
    w = torch.tensor([1.0, 2.0])
    f = torch.compile(lambda x: x * of(w))
    x = torch.ones(2)
    assert f(x).tolist() == [1.0, 2.0]
    w.data = torch.tensor([5.0, 6.0])
    assert f(x).tolist() == [5.0, 6.0]


def test_writes_without_an_op_are_refused_and_undone():
    average, step = _averaged(lambda average, model: average.load_state_dict(model.state_dict()))
    before = [p.tolist() for p in average.parameters()]
    with pytest.raises(CompileError, match="writes to a tensor from outside without an op"):
        torch.compile(step)(torch.ones(3, 2))
    assert [p.tolist() for p in average.parameters()] == before
