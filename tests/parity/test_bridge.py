"""Modules cross over and back: outputs, gradients and buffers equal.

What is measured: for every output, every gradient (inputs and parameters) and every buffer, the largest difference
divided by the largest entry of PyTorch's result. In float64 that is below 1e-12. In float32 both libraries round, each
in its own order of summation, so each is measured against the same computation in float64: ours is within 1e-6, and
PyTorch's within 1e-6 of ours wherever PyTorch itself is that close to float64.
"""

from __future__ import annotations

import copy
import functools
import math

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule.bridge import from_torch, to_torch

SINGLE, DOUBLE = 1e-6, 1e-12


def _acts(nn):
    names = (
        "ELU Hardsigmoid Hardtanh Hardswish LeakyReLU LogSigmoid PReLU ReLU6 SELU CELU GELU Sigmoid SiLU Mish Softplus"
    )
    return nn.Sequential(*[getattr(nn, name)() for name in names.split()], nn.Softshrink(0.01), nn.Softmax(-1))


def _lenet(nn):
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6, eps=1e-3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, (3, 1), groups=2, dilation=(1, 2), padding="same"), nn.SiLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.0), nn.Linear(32, 5),
    )  # fmt: skip


NETS = {
    "mlp": (lambda nn: nn.Sequential(nn.Linear(64, 32), nn.GELU("tanh"), nn.LayerNorm(32), nn.Linear(32, 4, False)),
            [(16, 64)]),
    "bilinear": (lambda nn: nn.Bilinear(8, 9, 7), [(16, 8), (16, 9)]),
    "prelu": (lambda nn: nn.PReLU(5), [(4, 5, 6)]),
    "activations": (_acts, [(6, 7)]),
    "conv1d": (lambda nn: nn.Conv1d(8, 12, 5, stride=2, padding=2, groups=4, dilation=2), [(2, 8, 20)]),
    "conv2d reflect": (lambda nn: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), [(2, 4, 9, 8)]),
    "conv2d circular": (lambda nn: nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"), [(2, 4, 9, 8)]),
    "conv3d": (lambda nn: nn.Conv3d(4, 6, 3, padding=1, groups=2), [(2, 4, 4, 5, 3)]),
    "transposed 1d": (lambda nn: nn.ConvTranspose1d(8, 12, 5, 2, 2, 1, groups=4, dilation=2), [(2, 8, 9)]),
    "transposed 2d": (lambda nn: nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, groups=2), [(2, 8, 5, 6)]),
    "transposed 3d": (lambda nn: nn.ConvTranspose3d(4, 6, 3, stride=2), [(2, 4, 3, 2, 3)]),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(6, momentum=0.3), [(32, 6)]),
    "BatchNorm2d": (lambda nn: nn.BatchNorm2d(6, momentum=None), [(4, 6, 5, 5)]),
    "BatchNorm3d": (lambda nn: nn.BatchNorm3d(6, track_running_stats=False), [(4, 6, 3, 2, 3)]),
    "InstanceNorm2d": (lambda nn: nn.InstanceNorm2d(6, affine=True, track_running_stats=True), [(4, 6, 5, 5)]),
    "GroupNorm": (lambda nn: nn.GroupNorm(3, 6), [(4, 6, 5, 5)]),
    "RMSNorm": (lambda nn: nn.RMSNorm(16), [(8, 16)]),
    "RNN": (lambda nn: nn.RNN(8, 16, 2, nonlinearity="relu", bidirectional=True), [(6, 4, 8)]),
    "LSTM": (lambda nn: nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True), [(4, 6, 8)]),
    "GRU": (lambda nn: nn.GRU(8, 16, 3, bias=False), [(6, 4, 8)]),
    "LSTMCell": (lambda nn: nn.LSTMCell(8, 16), [(4, 8)]),
    "GRUCell": (lambda nn: nn.GRUCell(8, 16, bias=False), [(4, 8)]),
    "RNNCell": (lambda nn: nn.RNNCell(8, 16, nonlinearity="relu"), [(4, 8)]),
    "attention": (lambda nn: nn.MultiheadAttention(16, 4, batch_first=True), [(3, 7, 16)] * 3),
    "attention, other keys": (
        lambda nn: nn.MultiheadAttention(16, 4, kdim=8, vdim=6, bias=False, add_bias_kv=True, add_zero_attn=True),
        [(7, 3, 16), (5, 3, 8), (5, 3, 6)],
    ),
    "encoder": (
        lambda nn: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 4, 32, 0.0), 3, nn.LayerNorm(16), enable_nested_tensor=False
        ),
        [(7, 3, 16)],
    ),
    "decoder layer": (
        lambda nn: nn.TransformerDecoderLayer(16, 4, 32, 0.0, "gelu", batch_first=True, bias=False),
        [(3, 7, 16), (3, 5, 16)],
    ),
    "Transformer": (lambda nn: nn.Transformer(16, 4, 2, 1, 32, 0.0, batch_first=True), [(3, 7, 16), (3, 5, 16)]),
    "upsampling": (
        lambda nn: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.PixelShuffle(2), nn.ZeroPad2d(1)),
        [(2, 8, 5, 6)],
    ),
}  # fmt: skip


def _run(lib, net, shapes, dtype):
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=s).astype("f").astype(dtype) for s in shapes]
    xs = [lib.tensor(x, requires_grad=True) for x in inputs]
    flat = lambda y: [v for part in y for v in flat(part)] if isinstance(y, tuple) else [y]
    ys = flat(net(*xs))
    seeds = [rng.normal(size=tuple(y.shape)).astype("f").astype(dtype) for y in ys]
    sum((y * lib.tensor(s)).sum() for y, s in zip(ys, seeds)).backward()
    return {
        **{f"output {i}": y.detach().numpy() for i, y in enumerate(ys)},
        **{f"gradient of input {i}": x.grad.numpy() for i, x in enumerate(xs)},
        **{f"gradient of {k}": p.grad.numpy() for k, p in net.named_parameters()},
        **{k: b.numpy() for k, b in net.named_buffers()},
    }


def _apart(a, b):
    """The largest difference between two results, relative to the largest entry of the second, and where."""
    assert a.keys() == b.keys()
    return max((np.abs(a[k] - b[k]).max() / max(np.abs(b[k]).max(), 1e-30), k) for k in b)


@pytest.fixture(params=list(NETS))
def pair(request):
    make, shapes = NETS[request.param]
    torch.manual_seed(0)
    return make(torch.nn), shapes


def test_double(pair):
    theirs, shapes = pair
    theirs.double()
    mine = from_torch(theirs)
    back = to_torch(mine)
    assert repr(back) == repr(theirs)
    expected = _run(torch, copy.deepcopy(theirs), shapes, "f8")
    assert _apart(_run(torch, back, shapes, "f8"), expected)[0] == 0
    apart, where = _apart(_run(cr, mine, shapes, "f8"), expected)
    assert apart < DOUBLE, where


def test_single(pair):
    theirs, shapes = pair
    mine, exact = from_torch(theirs), copy.deepcopy(theirs).double()
    expected, ours = _run(torch, exact, shapes, "f8"), _run(cr, mine, shapes, "f4")
    assert all(v.dtype != np.float64 for v in ours.values())
    apart, where = _apart(ours, expected)
    assert apart < SINGLE, where
    pytorch = _run(torch, theirs, shapes, "f4")
    for k in expected:
        if _apart({k: pytorch[k]}, {k: expected[k]})[0] < 5e-7:
            assert _apart({k: ours[k]}, {k: pytorch[k]})[0] < SINGLE, k


def test_before_batch_norm_both_libraries_return_rounding():
    # Before a BatchNorm the gradient of a layer is a small difference of large numbers, and that of its bias is zero:
    # what either library returns there is rounding. So: ours is at most as far from float64 as PyTorch's.
    torch.manual_seed(0)
    theirs = _lenet(torch.nn)
    theirs[0] = torch.nn.Conv2d(2, 6, 3, padding=1)
    mine, exact, shapes = from_torch(theirs), copy.deepcopy(theirs).double(), [(4, 2, 12, 12)]
    ours, pytorch = _run(cr, mine, shapes, "f4"), _run(torch, theirs, shapes, "f4")
    true = _run(torch, exact, shapes, "f8")
    scale = np.abs(true["gradient of 0.weight"]).max()
    for k in ("gradient of 0.bias", "gradient of 0.weight"):
        error, theirs_error = (np.abs(r[k] - true[k]).max() / scale for r in (ours, pytorch))
        assert error < max(SINGLE, theirs_error), k
    assert _apart({"y": ours["output 0"]}, {"y": true["output 0"]})[0] < SINGLE


# --- classes of one's own --------------------------------------------------------------------------------------------


def activate(x, act=torch.nn.functional.relu):
    return act(x) * math.sqrt(2)


ONE = torch.ones(1, dtype=torch.float64)


class Block(torch.nn.Module):
    scale = 2.0

    def __init__(self, width):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.lin = torch.nn.Linear(width, width)
        self.act = torch.nn.functional.gelu
        self.last = functools.partial(torch.softmax, dim=-1)
        self.options = {"kind": torch.nn.Tanh, "dtype": torch.float64}
        self.register_buffer("mask", torch.tril(torch.ones(4, 4)), persistent=False)

    @property
    def double_scale(self):
        return 2 * self.scale

    @staticmethod
    def squash(x):
        return torch.sigmoid(x)

    @torch.no_grad()
    def nothing(self, x):
        assert not torch.is_grad_enabled()
        return torch.zeros_like(x)

    def forward(self, x):
        from torch.nn import functional as F

        y = activate(self.act(self.lin(self.norm(x)))) * self.double_scale
        y = torch.einsum("st,btc->bsc", self.mask, y).masked_fill(self.mask[:1, :1] == 0, 0.0)
        return x + F.silu(self.squash(y)) + self.nothing(x) + self.options["kind"]()(x) + self.last(x) * ONE


class Twice(torch.nn.Linear):
    def forward(self, input):
        return super().forward(input) * 2


class Plus(torch.nn.Sequential):
    def forward(self, input):
        return super().forward(input) + 1


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(8), Block(8)])
        self.blocks.append(self.blocks[0])
        self.head = Plus(Twice(8, 5), torch.nn.BatchNorm1d(4))
        self.scales = torch.nn.ParameterList([torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.ones(2))])
        self.named = torch.nn.ParameterDict({"k": torch.randn(3)})
        self.tied = Twice(8, 8)
        self.tied.weight = self.blocks[0].lin.weight

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.tied(x)) * self.scales[0].sum() + self.named["k"].sum() + self.scales[1].sum()


def test_own_classes():
    torch.manual_seed(0)
    theirs = Net().double()
    theirs.head[0].requires_grad_(False).eval()
    mine = from_torch(theirs)
    back = to_torch(mine)
    assert isinstance(mine, cr.nn.Module)
    assert type(mine).__name__ == "Net"
    assert repr(mine) == repr(theirs) == repr(back)
    assert list(mine.state_dict()) == list(theirs.state_dict()) == list(back.state_dict())
    assert mine.tied.weight is mine.blocks[0].lin.weight
    assert mine.blocks[2] is mine.blocks[0]
    assert mine.blocks[0].options == {"kind": cr.nn.Tanh, "dtype": cr.float64}
    assert [m.training for m in mine.modules()] == [m.training for m in theirs.modules()]
    for net in (mine, theirs, back):
        assert not net.head[0].weight.requires_grad
        net.head[0].requires_grad_(True)
    expected = _run(torch, theirs, [(3, 4, 8)], "f8")
    assert _apart(_run(torch, back, [(3, 4, 8)], "f8"), expected)[0] < DOUBLE
    assert _apart(_run(cr, mine, [(3, 4, 8)], "f8"), expected)[0] < DOUBLE


class Uses(cr.nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = cr.nn.Linear(3, 2)

    def forward(self, x):
        return cr.relu(self.lin(x)).square()


def test_own_classes_of_chainrule():
    mine = Uses()
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("f")
    y = to_torch(mine)(torch.tensor(x))
    np.testing.assert_allclose(y.detach().numpy(), mine(cr.tensor(x)).detach().numpy(), rtol=1e-6)


def test_what_cannot_be_carried_over_is_named():
    class Hooked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = torch.nn.Linear(2, 2)
            self.lin.register_forward_hook(print)

    with pytest.raises(TypeError, match=r"from_torch: lin is a Linear, which has hooks"):
        from_torch(Hooked())
    weighted = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="which is parametrized"):
        from_torch(torch.nn.Sequential(weighted))
    jit = torch.ops.aten.relu

    class Foreign(torch.nn.Module):
        def forward(self, x):
            return jit(x)

    with pytest.raises(TypeError, match="from_torch: the code uses"):
        from_torch(Foreign())
    with pytest.raises(TypeError, match="from_torch expects a module or a tensor, not int"):
        from_torch(3)


# --- tensors, flags --------------------------------------------------------------------------------------------------


def test_embedding_tied_and_frozen_and_double():
    theirs = torch.nn.Sequential(torch.nn.Embedding(7, 3, padding_idx=1), torch.nn.Linear(3, 7, bias=False)).double()
    theirs[1].weight = theirs[0].weight
    mine = from_torch(theirs)
    assert mine[1].weight is mine[0].weight
    back = to_torch(mine)
    assert back[1].weight is back[0].weight
    assert mine[0].padding_idx == 1
    assert mine[0].weight.dtype is cr.float64
    bag = torch.nn.EmbeddingBag(7, 3, mode="sum", include_last_offset=True)
    index, offsets = [1, 2, 4, 5], [0, 1, 4]
    got = from_torch(bag)(cr.tensor(index), cr.tensor(offsets))
    expected = bag(torch.tensor(index), torch.tensor(offsets)).detach().numpy()
    assert np.abs(got.detach().numpy() - expected).max() < SINGLE * np.abs(expected).max()
    theirs[0].weight.requires_grad_(False)
    assert not from_torch(theirs)[0].weight.requires_grad
    mine[0].weight.detach().numpy()[...] = 0
    assert theirs[0].weight.abs().sum() > 0


def test_tensors():
    x = cr.arange(6).reshape(2, 3).float().requires_grad_()
    y = to_torch(x)
    assert y.requires_grad
    assert from_torch(y).tolist() == x.tolist()
    assert isinstance(from_torch(torch.nn.Parameter(y.detach())), cr.nn.Parameter)
    half = torch.tensor([1.5, -3e38, float("nan")]).to(torch.bfloat16)
    assert from_torch(half).dtype is cr.bfloat16
    assert torch.equal(to_torch(from_torch(half))[:2], half[:2])
