"""Padding, resizing, pixel shuffles, distances and the layers' reprs against PyTorch."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule

sys.path.insert(0, str(Path(__file__).parent))

from pairs import compare


def call(name, *args, **settings):
    return lambda lib, *tensors: getattr(lib.nn.functional, name)(*tensors, *args, **settings)


@pytest.mark.parametrize(
    ("shape", "widths"),
    [((2, 3, 5), (1, 2)), ((3, 5), (2, 1)), ((3, 5), (-1, 2)), ((2, 3, 4, 5), (1, 2, 3, 0)), ((3, 4, 5), (2, 1, 1, 2)),
     ((2, 2, 4, 3, 5), (1, 2, 2, 1, 3, 3))],
)  # fmt: skip
def test_pad(shape, widths):
    x = np.random.default_rng(0).normal(size=shape)
    for settings in ({}, {"value": 1.5}, {"mode": "reflect"}, {"mode": "replicate"}, {"mode": "circular"}):
        if settings.get("mode") == "reflect" and len(shape) == 5:
            continue  # (3, 3) around 3 entries: refused by both
        compare(call("pad", widths, **settings), [x], f"{shape} {widths} {settings}")


MODES = [("nearest", 1), ("nearest", 2), ("nearest", 3), ("nearest-exact", 2), ("area", 2), ("linear", 1),
         ("bilinear", 2),
         ("bicubic", 2), ("trilinear", 3)]  # fmt: skip


@pytest.mark.parametrize(("mode", "n"), MODES)
def test_interpolate(mode, n):
    x = np.random.default_rng(0).normal(size=(2, 3, *(4, 5, 3)[:n]))
    sizes = [{"scale_factor": 2}, {"scale_factor": 1.7}, {"scale_factor": 0.6}, {"size": 7}, {"size": 3},
             {"scale_factor": 1.7, "recompute_scale_factor": True}]  # fmt: skip
    corners = (True, False, None) if mode in ("linear", "bilinear", "bicubic", "trilinear") else (None,)
    for size, align in itertools.product(sizes, corners):
        # a weight is a difference of positions of order 10: its last digits go first
        compare(call("interpolate", **size, mode=mode, align_corners=align), [x], f"{mode} {size} {align}", ulps=1024)


def test_rearranging():
    r = np.random.default_rng(0)
    compare(call("pixel_shuffle", 2), [r.normal(size=(2, 8, 3, 4))])
    compare(call("pixel_unshuffle", 2), [r.normal(size=(2, 2, 6, 4))])
    compare(call("channel_shuffle", 3), [r.normal(size=(2, 6, 3))])
    compare(call("bilinear"), [r.normal(size=s) for s in ((4, 3), (4, 2), (5, 3, 2), (5,))], ulps=64)


def test_distances():
    r = np.random.default_rng(0)
    x, y = r.normal(size=(4, 3)), r.normal(size=(4, 3))
    for dim in (0, 1, -1):
        compare(call("cosine_similarity", dim=dim), [x, y], ulps=64)
    compare(call("cosine_similarity", dim=2), [x[:, None], y[None]], "broadcast", ulps=64)
    for p in (1.0, 2.0, 3.0):
        compare(call("pairwise_distance", p=p, keepdim=p == 1.0), [x, y], ulps=64)


def test_gumbel_softmax():
    logits = chainrule.zeros(2000, 4).requires_grad_()
    hard = chainrule.nn.functional.gumbel_softmax(logits, hard=True)
    assert set(np.unique(np.round(hard.detach().numpy(), 5))) == {0.0, 1.0}
    # four equal logits: each wins 500 ± 20 times; five deviations
    assert np.abs(hard.detach().numpy().sum(0) - 500).max() < 100
    (hard * chainrule.arange(4.0)).sum().backward()
    assert logits.grad.abs().sum().item() > 0


REPRS = """ReflectionPad2d(1); ConstantPad1d(2, 3.5); ZeroPad2d((1, 2, 3, 4)); CircularPad1d(2); ReplicationPad3d(1)
Upsample(scale_factor=2); Upsample(size=(3, 4), mode='bilinear'); UpsamplingBilinear2d(scale_factor=2); PixelShuffle(2)
PixelUnshuffle(3); CosineSimilarity(); PairwiseDistance(); ChannelShuffle(2); Fold((4, 4), 2); Unfold(3); MaxUnpool2d(2)
LeakyReLU(0.2); ReLU(inplace=True); ReLU(); GELU(); GELU('tanh'); ELU(1.0, True); Hardtanh(); Hardtanh(-2, 2); ReLU6()
Softshrink(); Hardshrink(0.3); Softplus(); Threshold(0.1, 20); RReLU(); GLU(); Softmax(1); LogSoftmax(dim=1); Softmin(1)
PReLU(); PReLU(3); Hardsigmoid(); Hardswish(); Mish(); SiLU(); Sigmoid(); Tanh(); CELU(); SELU(); Softmax2d()
LogSigmoid()
Tanhshrink(); Softsign(); Dropout(0.3); Dropout2d(); AlphaDropout(); FeatureAlphaDropout()
Embedding(3, 4, padding_idx=1)
EmbeddingBag(3, 4); BatchNorm1d(3); BatchNorm2d(3, affine=False); InstanceNorm2d(3); GroupNorm(3, 6); LayerNorm(3)
LayerNorm((3, 4), bias=False); RMSNorm(3); LocalResponseNorm(3); CrossEntropyLoss(); MSELoss(); BCEWithLogitsLoss()
CTCLoss()
TripletMarginLoss(); KLDivLoss(); Bilinear(2, 3, 4); Identity(); Linear(2, 3, bias=False); Flatten()
Unflatten(1, (2, 3))"""


@pytest.mark.parametrize("text", [t.strip() for t in REPRS.replace("\n", ";").split(";")])
def test_repr(text):
    assert repr(eval(f"chainrule.nn.{text}")) == repr(eval(f"torch.nn.{text}"))  # noqa: S307


def test_activations_as_layers():
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 2)) * 3
    for text in (
        "LeakyReLU(0.2)", "ReLU()", "GELU('tanh')", "ELU(0.7)", "Hardtanh()", "Softplus(2.0)", "GLU(1)", "Softmin(1)",
        "Softmax2d()",
    ):  # fmt: skip
        both = {lib: eval(f"{name}.nn.{text}") for name, lib in (("torch", torch), ("chainrule", chainrule))}  # noqa: S307
        compare(lambda lib, t, both=both: both[lib](t), [x], text, ulps=256)


@pytest.mark.parametrize(
    "function",
    [
        lambda F, o: F.pad(o(2, 3), (1, 1, 1)),
        lambda F, o: F.pad(o(2, 3), (1, 1, 1, 1, 1, 1)),
        lambda F, o: F.pad(o(2, 3), (-4, 0)),
        lambda F, o: F.pad(o(1, 2, 3), (3, 0), mode="reflect"),
        lambda F, o: F.pad(o(1, 2, 3), (4, 0), mode="circular"),
        lambda F, o: F.pixel_shuffle(o(1, 3, 2, 2), 2),
        lambda F, o: F.interpolate(o(1, 2, 3), 2, 2),
        lambda F, o: F.interpolate(o(1, 2, 3)),
        lambda F, o: F.interpolate(o(1, 2, 3), 2, mode="nearest", align_corners=True),
        lambda F, o: F.cosine_similarity(o(2, 3), o(2, 3), dim=4),
    ],
)
def test_messages(function):
    with pytest.raises(Exception) as theirs:
        function(torch.nn.functional, torch.ones)
    with pytest.raises(type(theirs.value)) as ours:
        function(chainrule.nn.functional, chainrule.ones)
    assert str(ours.value).split("\n")[0] == str(theirs.value).split("\n")[0]


def test_names_at_top_level():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 6))
    compare(lambda lib, t: lib.max_pool2d(lib.conv2d(t, t[:1, :, :3, :3]), 2), [x], "conv2d, max_pool2d", ulps=256)
    compare(lambda lib, t: lib.layer_norm(lib.pixel_shuffle(t, 2), (12,)), [x], "pixel_shuffle, layer_norm", ulps=1024)
