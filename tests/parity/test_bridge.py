"""Modules of standard layers cross over and back: outputs and gradients equal to 1e-6 relative."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule.bridge import from_torch, to_torch

NETS = {
    "mlp": (
        lambda nn: nn.Sequential(
            nn.Linear(6, 5), nn.LayerNorm(5), nn.GELU(), nn.Dropout(0.3), nn.Linear(5, 2, bias=False)
        ),
        (4, 6),
    ),
    "cnn": (
        lambda nn: nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4, eps=1e-3), nn.ReLU(),
            nn.Conv2d(4, 4, (3, 1), groups=2, dilation=(1, 2), padding="same"), nn.MaxPool2d(2), nn.Flatten(),
            nn.Identity(),
        ),
        (3, 2, 9, 9),
    ),
    "norms": (
        lambda nn: nn.Sequential(
            nn.GroupNorm(2, 4), nn.BatchNorm1d(4, affine=False), nn.LeakyReLU(0.2), nn.Softmax(dim=1)
        ),
        (5, 4),
    ),
    "activations": (
        lambda nn: nn.Sequential(
            nn.ELU(0.5), nn.PReLU(), nn.Softplus(2.0), nn.Hardtanh(-2, 2), nn.SiLU(), nn.GELU("tanh")
        ),
        (5, 4),
    ),
}  # fmt: skip


def _run(lib, net, shape):
    x = lib.tensor(np.random.default_rng(0).normal(size=shape).astype("f"), requires_grad=True)
    y = net(x)
    y = y[0] if isinstance(y, tuple) else y
    (y * y).sum().backward()
    return [y.detach().numpy(), x.grad.numpy()] + [p.grad.numpy() for p in net.parameters()]


def _close(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6 * max(1.0, np.abs(y).max()))


@pytest.mark.parametrize("name", list(NETS))
def test_there_and_back(name):
    make, shape = NETS[name]
    mine = make(cr.nn).eval()
    theirs = to_torch(mine)
    back = from_torch(theirs)
    assert repr(mine) == repr(theirs) == repr(back)
    assert [m.training for m in theirs.modules()] == [m.training for m in mine.modules()]
    first = _run(cr, mine, shape)
    _close(_run(torch, theirs, shape), first)
    _close(_run(cr, back, shape), first)


@pytest.mark.parametrize("make", [
    lambda nn: nn.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True),
    lambda nn: nn.GRU(4, 3, bias=False),
    lambda nn: nn.RNN(4, 3, nonlinearity="relu"),
    lambda nn: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True, norm_first=True),
], ids=["LSTM", "GRU", "RNN", "TransformerEncoderLayer"])  # fmt: skip
def test_sequence_models(make):
    mine = make(cr.nn)
    theirs = to_torch(mine)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    first = _run(cr, mine, (2, 5, 4))
    _close(_run(torch, theirs, (2, 5, 4)), first)
    _close(_run(cr, from_torch(theirs), (2, 5, 4)), first)


def test_embedding_tied_and_frozen_and_double():
    theirs = torch.nn.Sequential(torch.nn.Embedding(7, 3, padding_idx=1), torch.nn.Linear(3, 7, bias=False)).double()
    theirs[1].weight = theirs[0].weight
    mine = from_torch(theirs)
    assert mine[1].weight is mine[0].weight
    assert mine[0].padding_idx == 1
    assert mine[0].weight.dtype is cr.float64
    theirs[0].weight.requires_grad_(False)
    assert not from_torch(theirs)[0].weight.requires_grad
    mine[0].weight.detach().numpy()[...] = 0
    assert theirs[0].weight.abs().sum() > 0


def test_own_classes_are_named():
    class Mine(cr.nn.Module):
        pass

    with pytest.raises(TypeError, match="to_torch: 1 is a Mine, which is no standard layer"):
        to_torch(cr.nn.Sequential(cr.nn.ReLU(), Mine()))


def test_tensors():
    x = cr.arange(6).reshape(2, 3).float().requires_grad_()
    y = to_torch(x)
    assert y.requires_grad
    assert from_torch(y).tolist() == x.tolist()
    assert isinstance(from_torch(torch.nn.Parameter(y.detach())), cr.nn.Parameter)
