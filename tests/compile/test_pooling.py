"""Pooling of images in lanes, compiled: the entries that eager takes, and the same gradients, for any windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compile.programs import run
from tests.compile.test_convolutions import with_gradients

import chainrule as torch

F = torch.nn.functional


@st.composite
def windows(draw):
    """Spatial axes, shape and settings with at least one window each."""
    axes = draw(st.integers(1, 2))
    each = st.tuples(*[st.integers(1, 4)] * axes)
    kernel, stride = draw(each), draw(each)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(k + draw(st.integers(0, 9)) for k in kernel)
    shape = (draw(st.sampled_from([1, 2, 3, 8, 12, 16])), draw(st.integers(1, 3)), *size)
    return axes, shape, {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": draw(st.booleans())}


def same(function, x, seed, tolerance):
    rng = np.random.default_rng(seed)
    shape = tuple(function(torch.tensor(x, requires_grad=True)).shape)
    arrays = [x, rng.normal(size=shape).astype(x.dtype)]
    program, expected = with_gradients(function, *arrays)
    got, step = run(program, arrays)
    assert not step.calls, [c.node.why for c in step.calls]
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == e.dtype
        np.testing.assert_allclose(g, e, rtol=tolerance, atol=tolerance, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(
    case=windows(), dtype=st.sampled_from([np.float32, np.float64]), dilation=st.integers(1, 2),
    rare=st.sampled_from([None, np.nan, -np.inf]), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_largest_entries(case, dtype, dilation, rare, seed):
    axes, shape, way = case
    if any(dilation * (k - 1) + 1 > n for k, n in zip(way["kernel_size"], shape[2:], strict=True)):
        dilation = 1
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 3, shape).astype(dtype)  # many equal entries: the first one gets the gradient
    if rare is not None:
        x[rng.random(shape) < 0.2] = rare
    function = F.max_pool1d if axes == 1 else F.max_pool2d
    # Windows that overlap add up in another order.
    same(lambda x: function(x, dilation=dilation, **way), x, seed, 1e-5 if dtype == np.float32 else 1e-12)


@settings(max_examples=40, deadline=None)
@given(
    case=windows(), dtype=st.sampled_from([np.float32, np.float64]), borders=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_means(case, dtype, borders, seed):
    axes, shape, way = case
    x = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    function = F.avg_pool1d if axes == 1 else F.avg_pool2d
    same(lambda x: function(x, count_include_pad=borders, **way), x, seed, 2e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 4), (5, 2)])
def test_adaptive_windows_even_and_uneven(size):
    x = np.random.default_rng(0).normal(size=(8, 3, 8, 9)).astype(np.float32)
    same(lambda x: F.adaptive_avg_pool2d(torch.relu(x), size), x, 0, 2e-5)


def test_second_derivatives_go_through_the_chosen_entries():
    x = np.random.default_rng(0).normal(size=(8, 2, 5, 7))

    def f(x):
        y = F.max_pool2d(x * x, 3, 2, 1)
        (g,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
        return (g * g).sum((1, 2, 3))

    same(f, x, 0, 1e-10)
