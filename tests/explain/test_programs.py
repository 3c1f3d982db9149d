"""Programs of many kinds, written as in PyTorch: printed to the bit, explained to the sum."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as torch
from chainrule import nn
from chainrule.explain import annotate, backward_source, backward_steps, draw, explain
from chainrule.nn import functional as F

cases = {}


def case(f, name=""):
    cases[name or f.__name__] = f
    return f


def A(*s):
    return torch.tensor(np.random.default_rng(len(s)).normal(size=s).astype("float32"))


def P(*s):
    return torch.tensor(np.random.default_rng(7 + len(s)).normal(size=s).astype("float32"), requires_grad=True)


@case
def mha():
    m = nn.MultiheadAttention(8, 2, batch_first=True)
    x = A(2, 4, 8)
    o, _ = m(x, x, x)
    return (o**2).sum()


@case
def encoder():
    m = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return m(A(2, 4, 8)).pow(2).mean()


@case
def encoder_drop():
    m = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True), 2)
    return m(A(2, 4, 8)).pow(2).mean()


@case
def gru():
    m = nn.GRU(3, 4, num_layers=2, bidirectional=True)
    o, h = m(A(5, 2, 3))
    return o.sum() + h.pow(2).sum()


@case
def rnn():
    m = nn.RNN(3, 4)
    o, _h = m(A(5, 2, 3))
    return (o * o).sum()


@case
def lstm_packed():
    m = nn.LSTM(3, 4, batch_first=True)
    x = nn.utils.rnn.pack_padded_sequence(A(3, 5, 3), torch.tensor([5, 3, 2]), batch_first=True)
    o, _ = m(x)
    o, _ = nn.utils.rnn.pad_packed_sequence(o, batch_first=True)
    return (o * o).sum()


@case
def embed():
    m = nn.Embedding(10, 4)
    l = nn.Linear(4, 10)
    i = torch.tensor([[1, 2, 3], [4, 5, 1]])
    return F.cross_entropy(l(m(i)).reshape(-1, 10), torch.tensor([1, 2, 3, 0, 0, 4]))


@case
def dropout():
    m = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))
    return m(A(3, 4)).sum()


@case
def convs():
    m = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.GroupNorm(2, 4),
        nn.SiLU(),
        nn.ConvTranspose2d(4, 2, 2, stride=2),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
    )
    return m(A(2, 2, 8, 8)).pow(2).sum()


@case
def conv1d():
    m = nn.Sequential(
        nn.Conv1d(2, 4, 3, dilation=2, groups=2, padding_mode="circular", padding=2),
        nn.BatchNorm1d(4),
        nn.LeakyReLU(0.1),
        nn.MaxPool1d(2),
    )
    return m(A(2, 2, 9)).pow(2).sum()


@case
def einsum():
    a, b = P(3, 4), P(4, 5)
    return torch.einsum("ij,jk->ik", a, b).relu().sum()


@case
def gather():
    x = P(3, 4)
    return (
        (x.gather(1, torch.tensor([[0], [2], [1]])) * 2).sum()
        + x.index_select(0, torch.tensor([0, 0])).sum()
        + x[torch.tensor([0, 1]), torch.tensor([1, 1])].prod()
    )


@case
def inplace():
    x = P(3, 4)
    y = x * 2
    y[0] = x[1] * x[2]
    y[:, 1:3] += 1
    y.relu_()
    return (y * y).sum()


@case
def stats():
    x = P(3, 4)
    return (
        x.std()
        + x.var(1).sum()
        + x.max()
        + x.min(1)[0].sum()
        + x.norm()
        + torch.logsumexp(x, 1).sum()
        + x.cumsum(0).pow(2).sum()
        + x.sort(1)[0][:, 0].sum()
        + x.topk(2)[0].sum()
    )


@case
def scan():
    x = P(5, 3)
    W = P(3, 3)
    h = torch.zeros(3)
    for t in range(5):
        h = torch.tanh(x[t] + h @ W)
    return h.sum()


@case
def custom():
    class Sq(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g

    x = P(3)
    return (Sq.apply(x) * 3).sum()


@case
def checkpoint():
    from chainrule.utils.checkpoint import checkpoint

    l = nn.Linear(3, 3)
    x = P(2, 3)
    return checkpoint(lambda x: torch.tanh(l(x)), x, use_reentrant=False).sum()


@case
def sdpa():
    q, k, v = P(2, 2, 4, 3), P(2, 2, 4, 3), P(2, 2, 4, 3)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).pow(2).sum()


@case
def losses():
    x = P(4, 3)
    t = A(4, 3)
    return (
        F.mse_loss(x, t)
        + F.l1_loss(x, t)
        + F.smooth_l1_loss(x, t)
        + F.huber_loss(x, t)
        + F.binary_cross_entropy_with_logits(x, t.sigmoid())
        + F.kl_div(F.log_softmax(x, 1), F.softmax(t, 1), reduction="batchmean")
        + F.cross_entropy(x, F.softmax(t, 1))
        + F.nll_loss(F.log_softmax(x, -1), torch.tensor([0, 1, 2, 0]))
        + F.cross_entropy(x, torch.tensor([0, 1, 2, 0]), label_smoothing=0.1)
    )


@case
def linalg():
    x = P(3, 3)
    s = x @ x.T + 3 * torch.eye(3)
    return (
        torch.linalg.inv(s).sum()
        + torch.linalg.det(s)
        + torch.linalg.cholesky(s).sum()
        + torch.linalg.solve(s, x).sum()
    )


@case
def double():
    x = torch.tensor(np.random.default_rng(3).normal(size=(3, 2)), requires_grad=True)
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    return (g * g).sum()


@case
def wnorm():
    l = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    return l(A(2, 3)).sum()


@case
def evalbn():
    m = nn.BatchNorm1d(3)
    m(A(5, 3))
    m.eval()
    return (m(A(5, 3)) * A(5, 3)).sum()


@case
def half():
    x = torch.tensor(np.random.default_rng(3).normal(size=(3, 4)).astype("f2"), requires_grad=True)
    return torch.tanh(x @ x.T).sum()


@case
def scalarmix():
    x = torch.tensor([1, 2, 3])
    w = P(3)
    return (
        x * w / 3 + (x > 1) * w - 2**w + w.clamp(-1, 1) + torch.where(x > 1, w, -w) + w.float().double().sum()
    ).sum()


T = torch.tensor([0, 2, 1, 2])


def logits(f):
    """Cross-entropy of an expression that has no name."""
    x, W, b = A(4, 3), P(3, 3), P(3)
    return F.cross_entropy(f(x, W, b), T)


case(lambda: logits(lambda x, W, b: x @ W + b), "logits_sum")
case(lambda: logits(lambda x, W, b: x @ W + torch.ones(3, 3)[0]), "logits_constant")
case(lambda: logits(lambda x, W, b: x @ W + torch.tanh(x @ W)), "logits_residual")
case(lambda: logits(lambda x, W, b: (x @ W + b) / 0.5), "logits_temperature")
case(lambda: logits(lambda x, W, b: x @ W * 2 + b * 0), "logits_scaled")
case(lambda: logits(lambda x, W, b: F.linear(x, W.T, b)), "logits_linear")
case(lambda: logits(lambda x, W, b: x @ (W * 100) + b), "logits_large")
case(lambda: logits(lambda x, W, b: torch.tanh(x @ W) @ W + b), "logits_hidden")


@pytest.mark.parametrize("name", sorted(cases))
def test_printed_to_the_bit_and_explained_to_the_sum(name):
    torch.manual_seed(0)
    loss = cases[name]()
    steps = backward_steps(loss)
    source = backward_source(loss)
    f = source.functions()
    value, cache = f["forward"](**source.inputs)
    gradients = f["backward"](cache)
    steps.run()
    assert set(gradients) == set(steps.gradients)
    leaves = [q.leaf for q in steps.replay.leaves]
    explained = [explain(loss, t) for t in leaves]
    annotate(loss).text()
    draw(loss).html()
    for x in explained:
        str(x)
        for e in x.chain:
            assert e.total == pytest.approx(e.value, rel=2e-3, abs=1e-5), str(x)
    assert all(t.grad is None for t in leaves)  # readers leave the user's tensors alone
    loss.backward()
    np.testing.assert_allclose(value, loss.detach().numpy(), rtol=1e-3)
    for q, t in zip(steps.replay.leaves, leaves, strict=True):
        np.testing.assert_array_equal(np.asarray(gradients[q.name]), t.grad.numpy(), err_msg=source)
        assert np.asarray(gradients[q.name]).dtype == t.grad.numpy().dtype
