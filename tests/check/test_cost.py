"""What a check costs, in forward passes and memory; how long that takes is measured in benchmarks/."""

from __future__ import annotations

import tracemalloc

import numpy as np

import chainrule as torch
import chainrule.check as check
from chainrule import nn

SAMPLED = 600
"""Forward passes of a sampled check of six parameters: 509 when this was written."""
FULL = 5
"""Forward passes for each entry of a full check: a difference at several steps, 4.1 when this was written."""


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return net, torch.randn(32, 64), torch.tensor(np.random.default_rng(0).integers(0, 10, 32))


def counted(net):
    """A list that grows with every forward pass."""
    passes = []
    net.register_forward_hook(lambda *_: passes.append(1))
    return passes


def test_a_sampled_check_of_a_64_64_32_10_mlp_takes_few_forward_passes():
    net, x, y = network()
    passes = counted(net)
    assert check(net, (), data=(x,), loss=(nn.CrossEntropyLoss(), y)).ok
    assert len(passes) <= SAMPLED


def test_a_full_check_takes_a_few_forward_passes_per_parameter():
    net, x, y = network()
    passes = counted(net)
    report = check(net, (), data=(x,), loss=(nn.CrossEntropyLoss(), y), full=True)
    assert report.ok
    count = 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10
    assert sum(p.checked for p in report.parameters) == count
    assert len(passes) <= FULL * count


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
