"""What a check costs. The limits are the promised ones; measured figures are far below them."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np

import chainrule as torch
import chainrule.check as check
from chainrule import nn


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return net, torch.randn(32, 64), torch.tensor(np.random.default_rng(0).integers(0, 10, 32))


def test_sampled_check_of_a_64_64_32_10_mlp_takes_less_than_0_3_s():
    net, x, y = network()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        report = check(net, (), data=(x,), loss=(nn.CrossEntropyLoss(), y))
        times.append(time.perf_counter() - start)
    assert report.ok
    assert min(times) < 0.3


def test_full_check_of_7000_parameters_takes_less_than_10_s():
    net, x, y = network()
    start = time.perf_counter()
    report = check(net, (), data=(x,), loss=(nn.CrossEntropyLoss(), y), full=True)
    assert report.ok
    assert sum(p.checked for p in report.parameters) == 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10
    assert time.perf_counter() - start < 10


def test_memory_stays_within_a_few_times_the_functions_own():
    x = np.ones(2_000_000)

    def f(x):
        return np.sum(np.sin(x) ** 2)

    def grad(x):
        return 2 * np.sin(x) * np.cos(x)

    tracemalloc.start()
    grad(x.copy())
    own = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    report = check(f, x, grad=grad)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.ok
    assert peak < 5 * own  # own: the input, its gradient, one temporary
