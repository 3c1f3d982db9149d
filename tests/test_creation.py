"""Tensors from data, conversions, copies, random numbers."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import chainrule as torch

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


@given(
    hnp.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]), hnp.array_shapes(min_dims=0))
)
def test_lists_and_arrays_come_back(a):
    t = torch.tensor(a)
    assert t.numpy().dtype == a.dtype
    np.testing.assert_array_equal(t.numpy(), a)
    again = torch.tensor(t.tolist(), dtype=t.dtype)
    np.testing.assert_array_equal(again.numpy(), a)


def test_a_copy_is_a_copy_and_from_numpy_is_not():
    a = np.zeros(2)
    copied, shared = torch.tensor(a), torch.from_numpy(a)
    a[0] = 5
    assert copied.tolist() == [0.0, 0.0]
    assert shared.tolist() == [5.0, 0.0]
    shared[1] = 7
    assert a[1] == 7


@pytest.mark.parametrize("name", DTYPES)
def test_conversions(name):
    d = getattr(torch, name)
    x = torch.tensor([0, 1, 2])
    assert x.to(d).dtype is d
    assert x.to(d).to(d).dtype is d
    y = x.to(d)
    assert y.to(d) is y
    assert y.to(d, copy=True) is not y
    assert y.type_as(x).dtype is torch.int64
    assert torch.zeros(2, dtype=d).element_size() == d.itemsize


def test_conversion_is_part_of_the_graph():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (x.double() * 3).sum().backward()
    assert x.grad.dtype is torch.float32
    assert x.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: torch.tensor([[1, 2], [3]]), ValueError, "expected sequence of length 2 at dim 1"),
        (lambda: torch.tensor([1], requires_grad=True), RuntimeError, "floating point"),
        (lambda: torch.zeros(2, device="cuda"), AssertionError, "not compiled with CUDA"),
        (lambda: torch.tensor(1 + 2j), TypeError, "complex tensors are not part of chainrule"),
        (lambda: bool(torch.ones(2)), RuntimeError, "ambiguous"),
        (lambda: torch.ones(2).item(), RuntimeError, "2 elements cannot be converted to Scalar"),
        (lambda: len(torch.tensor(1)), TypeError, "0-d"),
        (lambda: torch.from_numpy(np.ones(2)[::-1]), ValueError, "negative"),
    ],
)
def test_errors(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


def test_deepcopy_and_pickle_keep_what_matters():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    y = copy.deepcopy(x)
    assert y.requires_grad
    assert y.grad.tolist() == [2.0, 4.0]
    assert y.data_ptr() != x.data_ptr()
    z = pickle.loads(pickle.dumps(x))
    assert z.requires_grad
    assert (z * 2).dtype is torch.float32
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(x * 2)


# --- random numbers --------------------------------------------------------------------------------


def test_seeds_repeat_and_states_continue():
    torch.manual_seed(3)
    first = torch.randn(5)
    state = torch.get_rng_state()
    second = torch.rand(4)
    torch.set_rng_state(state)
    assert torch.equal(torch.rand(4), second)
    torch.manual_seed(3)
    assert torch.equal(torch.randn(5), first)
    g, h = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    assert torch.equal(torch.randn(3, generator=g), torch.randn(3, generator=h))
    assert not torch.equal(torch.randn(3, generator=g), torch.randn(3))


def within(mean, expected, deviation, n):
    """Five standard errors: by chance once in two million."""
    assert abs(mean - expected) < 5 * deviation / math.sqrt(n)


def test_distributions_have_their_moments():
    g, n = torch.Generator().manual_seed(0), 20_000
    u = torch.rand(n, generator=g)
    assert u.min() >= 0
    assert u.max() < 1
    within(u.mean().item(), 0.5, math.sqrt(1 / 12), n)
    z = torch.randn(n, generator=g)
    within(z.mean().item(), 0, 1, n)
    within((z * z).mean().item(), 1, math.sqrt(2), n)
    e = torch.empty(n).exponential_(2.0, generator=g)
    within(e.mean().item(), 0.5, 0.5, n)
    b = torch.bernoulli(torch.full((n,), 0.3), generator=g)
    within(b.mean().item(), 0.3, math.sqrt(0.21), n)
    m = torch.normal(2.0, 3.0, (n,), generator=g)
    within(m.mean().item(), 2, 3, n)
    i = torch.randint(2, 7, (n,), generator=g)
    assert sorted(set(i.tolist())) == [2, 3, 4, 5, 6]
    within(i.double().mean().item(), 4, math.sqrt(2), n)
    p = torch.randperm(50, generator=g)
    assert sorted(p.tolist()) == list(range(50))


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_draws_in_proportion(replacement):
    g, n = torch.Generator().manual_seed(0), 20_000
    weights = torch.tensor([0.0, 1.0, 3.0]).expand(n, 3)
    first = torch.multinomial(weights, 1, replacement, generator=g)[:, 0]
    assert not (first == 0).any()
    within((first == 2).double().mean().item(), 0.75, math.sqrt(0.75 * 0.25), n)
    if not replacement:
        two = torch.multinomial(weights, 2, generator=g)
        assert (two.sum(1) == 3).all()


def test_import_does_not_load_numpy_random():
    import subprocess
    import sys

    code = (
        "import sys, numpy; before = 'numpy.random' in sys.modules; import chainrule; "
        "print(before == ('numpy.random' in sys.modules), 'scipy' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["True", "False"]
