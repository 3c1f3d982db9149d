"""Convolution, transposed convolution and windows against PyTorch, over the space of their settings."""

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

KERNEL = {1: (3,), 2: (3, 2), 3: (2, 1, 3)}
SPACE = {1: (9,), 2: (7, 6), 3: (4, 5, 7)}


def call(name, **settings):
    return lambda lib, *tensors: getattr(lib.nn.functional, name)(*tensors, **settings)


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 2, "same", "valid"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_conv(n, stride, padding, dilation, groups):
    if padding == "same" and stride != 1:
        return  # both refuse: see test_messages
    r = np.random.default_rng(0)
    x, w, b = r.normal(size=(2, 4, *SPACE[n])), r.normal(size=(6, 4 // groups, *KERNEL[n])), r.normal(size=6)
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    compare(call(f"conv{n}d", **settings), [x, w, b], f"{n} {settings}", ulps=256)
    compare(call(f"conv{n}d", **settings), [x[0], w], f"{n} {settings}, no batch, no bias", ulps=256, order=1)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_conv_transpose(n, stride, padding, dilation, groups):
    r = np.random.default_rng(0)
    x, w, b = r.normal(size=(2, 4, *SPACE[n])), r.normal(size=(4, 6 // groups, *KERNEL[n])), r.normal(size=6)
    for extra in (0, 1):
        if extra >= max(stride, dilation):
            continue
        settings = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "output_padding": extra,
        }  # fmt: skip
        compare(call(f"conv_transpose{n}d", **settings), [x, w, b], f"{n} {settings}", ulps=256)


def test_float32_and_no_samples():
    r = np.random.default_rng(0)
    x, w = r.normal(size=(2, 3, 8, 8)).astype("f4"), r.normal(size=(4, 3, 3, 3)).astype("f4")
    compare(call("conv2d", padding=1), [x, w], "float32", ulps=64)
    compare(call("conv2d", padding=1), [x[:0], w], "no samples", order=1)
    compare(call("conv2d"), [np.asfortranarray(x), w[:, ::-1]], "strides", ulps=64)


@pytest.mark.parametrize(
    "settings", [{"kernel_size": 3}, {"kernel_size": (2, 3), "stride": 2, "padding": 1, "dilation": 2}]
)
def test_unfold_and_fold(settings):
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 7))
    compare(call("unfold", **settings), [x], str(settings))
    compare(call("unfold", **settings), [x[0]], str(settings), order=1)
    columns = torch.nn.functional.unfold(torch.tensor(x), **settings).numpy()
    compare(call("fold", output_size=(8, 7), **settings), [columns], str(settings))


LAYERS = [
    ("Conv1d", (3, 4, 3), {"padding": 1, "padding_mode": "circular"}, (2, 3, 6)),
    ("Conv2d", (3, 4, (3, 2)), {"stride": 2, "padding": (2, 1)}, (2, 3, 7, 6)),
    ("Conv2d", (4, 4, 3), {"padding": 2, "padding_mode": "reflect", "groups": 4, "bias": False}, (2, 4, 5, 6)),
    ("Conv2d", (3, 4, 4), {"padding": "same", "padding_mode": "replicate"}, (2, 3, 5, 6)),
    ("Conv3d", (2, 3, 2), {"dilation": (1, 2, 1)}, (2, 2, 3, 4, 5)),
    ("ConvTranspose1d", (3, 4, 3), {"stride": 2}, (2, 3, 6)),
    ("ConvTranspose2d", (3, 4, 3), {"stride": 2, "padding": 1, "output_padding": 1}, (2, 3, 4, 5)),
    ("ConvTranspose3d", (2, 3, 2), {"groups": 1, "bias": False}, (1, 2, 3, 2, 2)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_layers(number):
    name, args, settings, shape = LAYERS[number]
    theirs = getattr(torch.nn, name)(*args, **settings, dtype=torch.float64)
    ours = getattr(chainrule.nn, name)(*args, **settings, dtype=chainrule.float64)
    assert repr(ours) == repr(theirs)
    state = {k: chainrule.tensor(v.detach().numpy()) for k, v in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    layers = {chainrule: ours, torch: theirs}
    compare(lambda lib, x: layers[lib](x), [np.random.default_rng(0).normal(size=shape)], name, ulps=256)


def test_output_size_of_a_transposed_layer():
    x = np.zeros((1, 3, 6, 6), "f4")
    for size in ((11, 11), (12, 11), (12, 12)):
        shapes = [
            tuple(lib.nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1)(lib.tensor(x), output_size=size).shape)
            for lib in (chainrule, torch)
        ]
        assert shapes[0] == shapes[1] == (1, 2, *size)
    with pytest.raises(ValueError, match="requested an output size of"):
        chainrule.nn.ConvTranspose2d(3, 2, 3, stride=2)(chainrule.tensor(x), output_size=(20, 20))


@pytest.mark.parametrize(
    ("name", "args"), [("Conv2d", (3, 16, 3)), ("ConvTranspose2d", (8, 6, 3)), ("Linear", (40, 9))]
)
def test_initial_values(name, args):
    """Uniform with PyTorch's bounds: largest entry close to it, mean close to 0."""
    for lib in (chainrule, torch):
        lib.manual_seed(0)
    ours, theirs = getattr(chainrule.nn, name)(*args), getattr(torch.nn, name)(*args)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        a, b = np.abs(p.detach().numpy()).max(), np.abs(q.detach().numpy()).max()
        # the maximum of n uniform numbers misses the bound by a share of about 1/n
        assert a == pytest.approx(b, rel=8 / p.numel()), (name, tuple(p.shape))


MESSAGES = [
    lambda F, o: F.conv2d(o(2, 3, 5, 5), o(4, 2, 3, 3)),
    lambda F, o: F.conv2d(o(2, 3), o(4, 2, 3, 3)),
    lambda F, o: F.conv2d(o(2, 3, 2, 2), o(4, 3, 3, 3)),
    lambda F, o: F.conv2d(o(2, 3, 5, 5), o(4, 3, 3, 3), padding="same", stride=2),
    lambda F, o: F.conv2d(o(2, 3, 5, 5), o(4, 3, 3, 3), o(3)),
    lambda F, o: F.conv2d(o(2, 4, 5, 5), o(3, 2, 3, 3), groups=2),
]


@pytest.mark.parametrize("number", range(len(MESSAGES)))
def test_messages(number):
    with pytest.raises(RuntimeError) as theirs:
        MESSAGES[number](torch.nn.functional, torch.ones)
    with pytest.raises(RuntimeError) as ours:
        MESSAGES[number](chainrule.nn.functional, chainrule.ones)
    assert str(ours.value).split("\n")[0] == str(theirs.value).split("\n")[0]


def test_every_size_agrees():
    """Shapes over many sizes, kernels, strides: where one raises, so does the other."""
    for size, k, s, p, d in itertools.product((1, 4, 7), (1, 2, 3), (1, 2, 3), (0, 1), (1, 3)):
        settings = {"stride": s, "padding": p, "dilation": d}
        results = []
        for lib in (chainrule, torch):
            try:
                results.append(
                    tuple(lib.nn.functional.conv1d(lib.zeros(1, 1, size), lib.zeros(1, 1, k), **settings).shape)
                )
            except RuntimeError:
                results.append(RuntimeError)
        assert results[0] == results[1], (size, k, settings)
