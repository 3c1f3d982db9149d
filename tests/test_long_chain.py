"""A chain of a million ops: no recursion anywhere, and memory let go as backward passes."""

from __future__ import annotations

import gc
import weakref

import pytest

import chainrule as torch

MILLION = 1_000_000


@pytest.fixture
def no_collector():
    """What is freed must be freed by counting references, not by the cycle collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def chain(x, n):
    y = x
    for _ in range(n):
        y = -y
    return y


@pytest.mark.slow
def test_a_million_ops_forward_and_backward(no_collector):
    x = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    y = chain(x, MILLION)
    last = weakref.ref(y.grad_fn)
    y.backward()
    assert x.grad.item() == 1.0
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()
    del y
    assert last() is None


@pytest.mark.slow
def test_a_dropped_graph_of_a_million_ops_is_collected(no_collector):
    x = torch.tensor(3.0, requires_grad=True)
    y = chain(x, MILLION)
    first = weakref.ref(chain(x, 1).grad_fn)
    nodes = [weakref.ref(y.grad_fn), weakref.ref(y.grad_fn.next_functions[0][0])]
    del y
    assert first() is None
    assert [n() for n in nodes] == [None, None]


@pytest.mark.slow
def test_a_second_backward_with_retained_graph_and_a_second_order():
    x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    y = chain(x, MILLION // 10) * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 4.0
    (g,) = torch.autograd.grad(chain(x, 10_000) ** 3, x, create_graph=True)
    assert torch.autograd.grad(g, x)[0].item() == 6.0


def test_saved_values_are_let_go_as_backward_passes(no_collector):
    x = torch.ones(1000, requires_grad=True)
    alive = []
    counts = []
    y = x * 1
    y.register_hook(lambda g: counts.append(sum(r() is not None for r in alive)))
    for _ in range(500):
        y = y.sin()
        alive.append(weakref.ref(y._array))
    loss = y.sum()
    del y
    assert sum(r() is not None for r in alive) >= 499  # sin′ needs its input, so the tape holds them all
    loss.backward()
    assert counts[0] <= 2


def test_a_node_with_many_users_is_visited_once():
    x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    y = x
    for _ in range(200):  # 2²⁰⁰ paths
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**200
