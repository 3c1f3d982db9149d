"""Every module of ``chainrule.nn``: compiled forward and backward against eager ones."""

import inspect

import numpy as np
import pytest

import chainrule as torch

nn = torch.nn
RNG = np.random.default_rng(0)


def n(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def k(high, *shape):
    return RNG.integers(0, high, shape)


ROW, IMAGE = (4, 12), {1: (2, 4, 9), 2: (2, 4, 8, 9), 3: (2, 4, 6, 7, 5)}
ELEMENTWISE = """CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh Identity LeakyReLU LogSigmoid Mish PReLU ReLU
ReLU6 SELU SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink RReLU AlphaDropout Dropout FeatureAlphaDropout
Flatten GLU""".split()
CASES = dict.fromkeys(ELEMENTWISE, ((), (ROW,)))
CASES |= {
    "LogSoftmax": ((1,), (ROW,)), "Softmax": ((1,), (ROW,)), "Softmin": ((1,), (ROW,)),
    "Threshold": ((0.1, 2.0), (ROW,)),
    "Softmax2d": ((), (IMAGE[2],)), "Linear": ((12, 5), (ROW,)), "LazyLinear": ((5,), (ROW,)),
    "Bilinear": ((12, 3, 5), (ROW, (4, 3))), "LayerNorm": ((12,), (ROW,)), "RMSNorm": ((12,), (ROW,)),
    "GroupNorm": ((2, 4), (IMAGE[2],)), "LocalResponseNorm": ((3,), (IMAGE[2],)), "CrossMapLRN2d": ((3,), (IMAGE[2],)),
    "Unflatten": ((1, (3, 4)), (ROW,)), "ChannelShuffle": ((2,), (IMAGE[2],)), "PixelShuffle": ((2,), (IMAGE[2],)),
    "PixelUnshuffle": ((2,), ((2, 3, 8, 6),)), "Unfold": ((3,), (IMAGE[2],)), "Fold": (((6, 7), 3), ((2, 18, 20),)),
    "Upsample": ((None, 2), (IMAGE[2],)), "UpsamplingBilinear2d": ((None, 2), (IMAGE[2],)),
    "UpsamplingNearest2d": ((None, 2), (IMAGE[2],)), "CosineSimilarity": ((), (ROW, ROW)),
    "PairwiseDistance": ((), (ROW, ROW)), "LSTM": ((5, 7, 2), ((6, 3, 5),)), "GRU": ((5, 7), ((6, 3, 5),)),
    "RNN": ((5, 7), ((6, 3, 5),)), "LSTMCell": ((12, 7), (ROW,)), "GRUCell": ((12, 7), (ROW,)),
    "RNNCell": ((12, 7), (ROW,)), "MultiheadAttention": ((12, 3), ((5, 2, 12), (6, 2, 12), (6, 2, 12))),
    "TransformerEncoderLayer": ((12, 3, 16), ((5, 2, 12),)),
    "TransformerDecoderLayer": ((12, 3, 16), ((5, 2, 12), (6, 2, 12))),
    "Transformer": ((12, 3, 1, 1, 16), ((5, 2, 12), (6, 2, 12))),
    "TripletMarginLoss": ((), (ROW, ROW, ROW)), "TripletMarginWithDistanceLoss": ((), (ROW, ROW, ROW)),
    "Embedding": ((9, 5), (k(9, 4, 3),)), "EmbeddingBag": ((9, 5), (k(9, 4, 3),)),
}  # fmt: skip
for d, shape in IMAGE.items():
    CASES |= {
        f"{name}{d}d": (args, (shape,)) for name, args in {
            "AdaptiveAvgPool": (3,), "AdaptiveMaxPool": (3,), "AvgPool": (2,), "MaxPool": (2,), "LPPool": (2, 2),
            "Conv": (4, 3, 3), "ConvTranspose": (4, 3, 3), "LazyConv": (3, 3), "LazyConvTranspose": (3, 3),
            "BatchNorm": (4,), "LazyBatchNorm": (), "InstanceNorm": (4,), "LazyInstanceNorm": (), "Dropout": (),
            "CircularPad": (2,), "ConstantPad": (1, 0.5), "ReflectionPad": (2,), "ReplicationPad": (2,),
            "ZeroPad": (1,),
        }.items()
    }  # fmt: skip
SAME = (ROW, n(4, 12))
CASES |= dict.fromkeys(("HuberLoss", "L1Loss", "MSELoss", "SmoothL1Loss", "PoissonNLLLoss"), ((), SAME))
SIGNS = np.where(n(4, 12) > 0, 1.0, -1.0).astype(np.float32)
ONES = (SIGNS > 0).astype(np.float32)
CASES |= {
    "BCEWithLogitsLoss": ((), (ROW, ONES)), "HingeEmbeddingLoss": ((), (ROW, SIGNS)),
    "SoftMarginLoss": ((), (ROW, SIGNS)),
    "MarginRankingLoss": ((), ((4,), (4,), SIGNS[:, 0].copy())), "MultiLabelSoftMarginLoss": ((), (ROW, ONES)),
    "CosineEmbeddingLoss": ((), (ROW, ROW, SIGNS[:, 0].copy())), "CrossEntropyLoss": ((), (ROW, k(12, 4))),
    "NLLLoss": ((), (ROW, k(12, 4))), "KLDivLoss": ((None, None, "batchmean"), SAME),
    "LinearCrossEntropyLoss": ((12, 7), (ROW, k(7, 4))),
    "CTCLoss": ((), ((8, 2, 5), k(4, 2, 3) + 1, np.array([8, 8]), np.array([3, 2]))),
    "MaxUnpool1d": ((2,), ((2, 4, 4), np.tile(np.arange(4) * 2, (2, 4, 1)))),
    "MaxUnpool2d": ((2,), ((1, 1, 2, 2), np.array([[[[0, 2], [8, 10]]]]))),
    "MaxUnpool3d": ((2,), ((1, 1, 1, 2, 2), np.array([[[[[0, 2], [8, 10]]]]]))),
    "AdaptiveMaxPool2d": ((4,), (IMAGE[2][:2] + (8, 12),)), "AdaptiveMaxPool3d": ((2,), ((2, 4, 6, 4, 2),)),
    "GaussianNLLLoss": ((), (ROW, n(4, 12), np.abs(n(4, 12)) + 0.5)),
}  # fmt: skip
REFUSED = {
    "AdaptiveMaxPool2d": ((3,), (IMAGE[2],)), "AdaptiveMaxPool3d": ((3,), (IMAGE[3],)),
    "FractionalMaxPool2d": ((2, 3), (IMAGE[2],)), "FractionalMaxPool3d": ((2, 3), (IMAGE[3],)),
    "AdaptiveLogSoftmaxWithLoss": ((12, 20, [5, 10], 2.0), (ROW, k(20, 4))),
    "MultiLabelMarginLoss": ((), (ROW, k(12, 4, 12))), "MultiMarginLoss": ((), (ROW, k(12, 4))),
}  # fmt: skip
"""Modules that look at values, or draw numbers that depend on tensors: an error that says so, before anything runs."""
ELSEWHERE = {
    **dict.fromkeys("Container Module ModuleDict ModuleList ParameterDict ParameterList".split(), "hold others"),
    "Sequential": "calls others: test_steps",
    **dict.fromkeys("RNNBase RNNCellBase TransformerEncoder TransformerDecoder".split(), "made of the others"),
    **dict.fromkeys(("DataParallel", "SyncBatchNorm"), "one device: the module inside, or BatchNorm"),
    "BCELoss": "takes probabilities: its op in test_registry", "NLLLoss2d": "NLLLoss by its old name",
}  # fmt: skip
"""Modules without a forward pass of their own."""


def modules():
    return {m for m in dir(nn) if inspect.isclass(getattr(nn, m)) and issubclass(getattr(nn, m), nn.Module)}


def shuffled(name, a):
    """Other numbers of the same kind: places for unpooling have to stay where they are."""
    return a if name.startswith("MaxUnpool") else np.random.default_rng(0).permutation(a.ravel()).reshape(a.shape)


def run(name, args, inputs, compiled):
    """Results, gradients and buffers of two calls: the first one, which is recorded, has other numbers."""
    torch.manual_seed(1)
    module = getattr(nn, name)(*args)
    given = [torch.tensor(a) for a in inputs]
    if name.startswith("Lazy"):
        module(*given)
    weights = {}

    def step(*given):
        leaves = [t.detach().requires_grad_() if t.is_floating_point() else t for t in given]
        out = module(*leaves)
        outs = [o for o in _flat(out) if o.is_floating_point()]
        # Sums with fixed weights: a plain sum of a softmax has no gradient.
        loss = sum((o * weights.setdefault(i, torch.arange(o.numel(), dtype=o.dtype).reshape(o.shape).cos())).sum()
                   for i, o in enumerate(outs))  # fmt: skip
        wanted = [*(t for t in leaves if t.requires_grad), *module.parameters()]
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
        return [o.detach() for o in outs], [g for g in found if g is not None]

    torch.manual_seed(2)
    step(*given)  # the weights are made
    torch.manual_seed(3)
    call = torch.compile(step) if compiled else step
    call(*(torch.tensor(shuffled(name, a)) for a in inputs))
    outs, grads = call(*given)
    return [t.numpy() for t in (*outs, *grads, *module.buffers())]


def _flat(x):
    return [t for part in x for t in _flat(part)] if isinstance(x, (tuple, list)) else [x] if x is not None else []


@pytest.mark.parametrize("name", CASES)
def test_compiled_equals_eager(name):
    args, shapes = CASES[name]
    inputs = [s if isinstance(s, np.ndarray) else n(*s) for s in shapes]
    for a, b in zip(run(name, args, inputs, True), run(name, args, inputs, False), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_looks_at_values_is_refused(name):
    args, shapes = REFUSED[name]
    inputs = [s if isinstance(s, np.ndarray) else n(*s) for s in shapes]
    with pytest.raises(torch.compile.CompileError, match="compile: "):
        run(name, args, inputs, True)


def test_no_module_is_left_out():
    assert modules() == set(CASES) | set(REFUSED) | set(ELSEWHERE)
