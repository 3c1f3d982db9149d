"""The rarer layers and functions against PyTorch: adaptive softmax, fractional pooling, pdist, …"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule

sys.path.insert(0, str(Path(__file__).parent))

from pairs import compare, compare_layers, same_error


@pytest.mark.parametrize("kw", [{"cutoffs": [3, 7]}, {"cutoffs": [2, 4, 9], "div_value": 2.0, "head_bias": True}])
def test_adaptive_softmax(kw):
    r = np.random.default_rng(0)

    def build(M):
        return M.nn.AdaptiveLogSoftmaxWithLoss(16, 12, **kw)

    compare_layers(build, [r.normal(size=(9, 16)), r.integers(0, 12, 9)])
    compare_layers(build, [r.normal(size=16), np.array(5)])
    compare_layers(build, [3 * r.normal(size=(9, 16))], call=lambda m, x: [m.log_prob(x), m.predict(x)])


@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (3, 9, 8), (2, 2, 7, 6, 8)])
def test_fractional_pooling(shape):
    r = np.random.default_rng(0)
    n = 3 if len(shape) == 5 else 2
    x = r.normal(size=shape)
    samples = r.random((2, shape[1], n) if len(shape) == n + 2 else (1, shape[0], n))
    for kernel, size, ratio in ((2, 4, None), (3, None, (0.5, 0.4, 0.6)[:n]), (2, 1, None)):

        def pool(M, x, kernel=kernel, size=size, ratio=ratio):
            function = getattr(M.nn.functional, f"fractional_max_pool{n}d_with_indices")
            return function(x, kernel, size, ratio, _random_samples=M.tensor(samples))

        compare(pool, [x], f"{shape} {kernel} {size} {ratio}")
    layer = chainrule.nn.FractionalMaxPool2d(2, output_ratio=0.5)
    assert layer(chainrule.ones(1, 1, 8, 8)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_pooling_with_indices(n):
    x = np.random.default_rng(0).normal(size=(2, 2, *(7, 6, 5)[:n]))
    compare(lambda M, x: getattr(M.nn.functional, f"max_pool{n}d_with_indices")(x, 2, stride=2), [x])
    compare(lambda M, x: getattr(M.nn.functional, f"adaptive_max_pool{n}d_with_indices")(x, 3), [x])


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, float("inf")])
def test_pdist(p):
    x = np.random.default_rng(0).normal(size=(5, 3))
    compare(lambda M, x: M.nn.functional.pdist(x, p), [x], f"p = {p}")
    x[1] = x[0]
    compare(lambda M, x: M.nn.functional.pdist(x, p), [x], f"p = {p}, equal rows", order=1)


def test_functions():
    r = np.random.default_rng(0)
    kernel, signal = r.normal(size=(3, 3, 4)), r.normal(size=(7, 2, 3))
    compare(lambda M, x, w, b: M.nn.functional.conv_tbc(x, w, b, 1), [signal, kernel, r.normal(size=4)], "conv_tbc")
    x = r.normal(size=(2, 4, 3, 3))
    compare(lambda M, x: M.nn.functional.native_channel_shuffle(x, 2), [x])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_cross_map_normalisation(size):
    x = np.random.default_rng(0).normal(size=(2, 6, 3, 4))
    compare(lambda M, x: M.nn.CrossMapLRN2d(size, alpha=0.3, k=2)(x), [x], order=0)  # PyTorch's gradient is another's


@pytest.mark.parametrize("kw", [{}, {"bias": True, "reduction": "sum"}, {"reduction": "none", "label_smoothing": 0.1}])
def test_linear_cross_entropy(kw):
    r = np.random.default_rng(0)
    compare_layers(lambda M: M.nn.LinearCrossEntropyLoss(4, 5, **kw), [r.normal(size=(3, 4)), np.array([0, 1, 4])])
    compare_layers(lambda M: M.nn.LinearCrossEntropyLoss(4, 5, **kw), [r.normal(size=4), np.array(2)])
    target = r.integers(0, 5, (3, 2, 3))
    compare_layers(
        lambda M: M.nn.LinearCrossEntropyLoss(4, 5, out_features=(2, 3), **kw), [r.normal(size=(3, 4)), target]
    )


def test_layers_of_several_processes_in_one():
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    for train in (True, False):
        compare_layers(lambda M: M.nn.SyncBatchNorm(3), [x], train=train)
    compare_layers(lambda M: M.nn.DataParallel(M.nn.Linear(2, 3)), [x])

    def converted(M):
        nn = M.nn
        net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm2d(3, affine=False)))
        return nn.SyncBatchNorm.convert_sync_batchnorm(net.eval())

    assert repr(converted(chainrule)) == repr(converted(torch))
    assert [m.training for m in converted(chainrule).modules()] == [m.training for m in converted(torch).modules()]


@pytest.mark.parametrize("shape", [(3,), (2, 4), ()])
def test_embedding_gradients_by_frequency(shape):
    r = np.random.default_rng(0)
    index, table = np.asarray(r.integers(0, 3, shape)), r.normal(size=(5, 4))
    compare(lambda M, i, w: M.nn.functional.embedding(i, w, scale_grad_by_freq=True), [index, table], order=1)


ERRORS = [
    lambda M: M.nn.functional.interpolate(M.ones(2, 4), 5),
    lambda M: M.nn.functional.interpolate(M.ones(1, 2, 4), 3, mode="foo"),
    lambda M: M.nn.functional.pad(M.ones(2, 3, 4), (1, 1), "reflect", 1.0),
    lambda M: M.nn.functional.conv2d(M.ones(1, 3, 5, 5), M.ones(2, 3, 3, 3), dilation=0),
    lambda M: M.nn.functional.avg_pool1d(M.ones(1, 2, 4), 0),
    lambda M: M.nn.functional.adaptive_avg_pool2d(M.ones(1, 2, 4, 4), (2,)),
    lambda M: M.nn.functional.max_unpool1d(M.ones(1, 1, 2), M.tensor([[[1, 2]]]), 2, output_size=(9,)),
    lambda M: M.nn.functional.bilinear(M.ones(2, 3), M.ones(2, 4), M.ones(2, 3, 5)),
    lambda M: M.nn.functional.bilinear(M.ones(2, 3), M.ones(3, 4), M.ones(2, 3, 4)),
    lambda M: M.nn.FractionalMaxPool2d(3),
    lambda M: M.nn.FractionalMaxPool2d(3, output_ratio=1.5),
    lambda M: M.nn.FractionalMaxPool2d(3, output_ratio=0.5, output_size=2),
    lambda M: M.nn.FractionalMaxPool2d(3, output_size=9)(M.ones(1, 1, 10, 10)),
    lambda M: M.nn.CrossMapLRN2d(3)(M.ones(2, 3)),
    lambda M: M.nn.SyncBatchNorm(3)(M.ones(3)),
    lambda M: M.nn.functional.pdist(M.ones(3)),
    lambda M: M.nn.functional.pdist(M.ones(3, 2), -1),
    lambda M: M.nn.AdaptiveLogSoftmaxWithLoss(8, 10, []),
    lambda M: M.nn.AdaptiveLogSoftmaxWithLoss(8, 10, [3, 2]),
    lambda M: M.nn.AdaptiveLogSoftmaxWithLoss(8, 10, [3])(M.ones(2, 8), M.tensor([1, 12])),
    lambda M: M.nn.AdaptiveLogSoftmaxWithLoss(8, 10, [3])(M.ones(2, 3, 8), M.tensor([1, 2])),
    lambda M: M.nn.AdaptiveLogSoftmaxWithLoss(8, 10, [3])(M.ones(2, 8), M.tensor(1)),
    lambda M: M.nn.LinearCrossEntropyOptions(acc_policy="x"),
    lambda M: M.nn.factory_kwargs({"dtype": 1, "factory_kwargs": {"dtype": 2}}),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_messages(number):
    same_error(ERRORS[number])
