"""Pooling against PyTorch, over the space of its settings."""

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

SPACE = {1: (9,), 2: (7, 6), 3: (4, 5, 7)}


def call(name, **settings):
    return lambda lib, *tensors: getattr(lib.nn.functional, name)(*tensors, **settings)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [None, 1, 2, 3])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_windows(n, kernel, stride, padding, ceil_mode):
    x = np.random.default_rng(0).normal(size=(2, 3, *SPACE[n]))
    settings = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    for dilation in (1, 2):
        if kernel == 3 and dilation == 2 and n == 3:
            continue  # a window of 5 does not fit
        one = {**settings, "dilation": dilation}
        compare(call(f"max_pool{n}d", **one), [x], f"{n} {one}")
        compare(call(f"max_pool{n}d", **one, return_indices=True), [x[0]], f"{n} {one}, indices, no batch")
    for include in (True, False):
        one = {**settings, "count_include_pad": include}
        compare(call(f"avg_pool{n}d", **one), [x], f"{n} {one}")
        compare(call(f"avg_pool{n}d", **one), [x[0]], f"{n} {one}, no batch", order=1)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_adaptive(n):
    x = np.random.default_rng(0).normal(size=(2, 3, *SPACE[n]))
    for size in (1, 2, 3, 4, 5, 8):
        compare(call(f"adaptive_avg_pool{n}d", output_size=size), [x], f"average {n} {size}", ulps=64)
        compare(call(f"adaptive_max_pool{n}d", output_size=size), [x], f"maximum {n} {size}")
    with_none = (None,) * n if n > 1 else 9
    compare(call(f"adaptive_avg_pool{n}d", output_size=with_none), [x], "the size as it is")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_norm_and_unpooling(n):
    r = np.random.default_rng(0)
    x = r.uniform(0.1, 1, (2, 3, *SPACE[n]))
    for p in (1.0, 2.0, 3.0):
        compare(call(f"lp_pool{n}d", norm_type=p, kernel_size=2), [x], f"{n} {p}", ulps=64)
    even = r.normal(size=(2, 3, *{1: (8,), 2: (6, 4), 3: (4, 4, 2)}[n]))
    values, index = getattr(torch.nn.functional, f"max_pool{n}d")(torch.tensor(even), 2, return_indices=True)
    unpool = call(f"max_unpool{n}d", kernel_size=2)
    compare(lambda lib, v: unpool(lib, v, lib.tensor(index.numpy())), [values.numpy()], f"unpool {n}")


def test_divisor_ties_nan_and_infinity():
    compare(call("avg_pool2d", kernel_size=2, divisor_override=3), [np.arange(16.0).reshape(1, 1, 4, 4)])
    compare(call("max_pool2d", kernel_size=3, stride=1), [np.ones((1, 1, 5, 5))], "ties: the first wins", order=1)
    bad = np.arange(16.0).reshape(1, 1, 4, 4)
    bad[0, 0, 1, 1], bad[0, 0, 2, 3] = np.nan, -np.inf
    compare(call("max_pool2d", kernel_size=2), [bad], "NaN wins", order=1)
    compare(call("max_pool2d", kernel_size=2, return_indices=True), [np.full((1, 1, 4, 4), -np.inf)], "all −∞", order=1)


LAYERS = [
    ("MaxPool1d", (2,), {}), ("MaxPool2d", (3,), {"stride": 2, "padding": 1}), ("MaxPool3d", (2,), {}),
    ("AvgPool1d", (2,), {}), ("AvgPool2d", ((2, 3),), {"count_include_pad": False, "padding": 1}),
    ("AvgPool3d", (2,), {"ceil_mode": True}), ("AdaptiveAvgPool1d", (3,), {}), ("AdaptiveAvgPool2d", ((1, 1),), {}),
    ("AdaptiveMaxPool2d", ((2, None),), {}), ("LPPool2d", (2, 3), {}),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_layers(number):
    name, args, settings = LAYERS[number]
    ours, theirs = getattr(chainrule.nn, name)(*args, **settings), getattr(torch.nn, name)(*args, **settings)
    assert repr(ours) == repr(theirs)
    layers = {chainrule: ours, torch: theirs}
    x = np.random.default_rng(0).uniform(0.1, 1, (2, 3, *SPACE[int(name[-2])]))
    compare(lambda lib, t: layers[lib](t), [x], name, ulps=64)


MESSAGES = [
    lambda F, o: F.max_pool2d(o(2, 3, 2, 2), 3),
    lambda F, o: F.max_pool2d(o(2, 3, 5, 5), 3, padding=2),
]


@pytest.mark.parametrize("number", range(len(MESSAGES)))
def test_messages(number):
    with pytest.raises(RuntimeError) as theirs:
        MESSAGES[number](torch.nn.functional, torch.ones)
    with pytest.raises(RuntimeError) as ours:
        MESSAGES[number](chainrule.nn.functional, chainrule.ones)
    assert str(ours.value).split("\n")[0] == str(theirs.value).split("\n")[0]


def test_every_size_agrees():
    for size, k, s, p, ceil in itertools.product(range(1, 8), (1, 2, 3), (1, 2, 3), (0, 1), (False, True)):
        results = []
        for lib in (chainrule, torch):
            try:
                x = lib.zeros(1, 1, size)
                results.append(tuple(lib.nn.functional.max_pool1d(x, k, s, p, ceil_mode=ceil).shape))
            except RuntimeError:
                results.append(RuntimeError)
        assert results[0] == results[1], (size, k, s, p, ceil)
