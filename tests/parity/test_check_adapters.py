"""``chainrule.check`` on PyTorch's and JAX's programs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule.check as check
from chainrule.check import Verdict


class Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        s = 1 / (1 + torch.exp(-x))
        ctx.save_for_backward(x, s)
        return s

    @staticmethod
    def backward(ctx, g):
        x, s = ctx.saved_tensors  # noqa: RUF059 - the wrong one below needs both names
        return g * s * (1 - s)


class WrongSigmoid(Sigmoid):
    @staticmethod
    def backward(ctx, g):
        x, s = ctx.saved_tensors  # noqa: RUF059 - the mistake is that s is not used
        return g * x * (1 - x)


@pytest.mark.parametrize("order", [1, 2])
def test_functions_and_modules(order):
    assert check(lambda x: (x**3).sum(), torch.tensor([1.0, 2.0, -3.0]), order=order).ok
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    assert check(net, x, loss=(torch.nn.CrossEntropyLoss(), y), order=order).ok
    assert all(torch.equal(v, before[k]) and v.dtype is torch.float32 for k, v in net.state_dict().items())


def test_custom_functions():
    x = torch.randn(5)
    assert check(Sigmoid, x).ok
    report = check(WrongSigmoid, x)
    assert report.verdict is Verdict.FAIL
    assert report.mistakes[0].kind == "activation"
    assert report.mistakes[0].verified
    assert report.mistakes[0].line.replacement == "return g * s * (1 - s)"


def test_captured_float32_tensors():
    w = torch.randn(4, 2)
    assert check(lambda x: (x @ w).pow(2).sum(), torch.randn(3, 4)).ok
    assert w.dtype is torch.float32


def test_randomness_and_kinks():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5))
    assert check(net, torch.randn(4, 3)).mistakes[0].kind == "random"
    for f in (
        torch.relu,
        torch.abs,
        lambda x: torch.clamp(x, 0, 2),
        lambda x: torch.min(x),
        lambda x: torch.sort(x)[0] * torch.arange(3.0),
    ):
        report = check(lambda x, f=f: f(x).sum(), torch.tensor([0.0, 1.0, 0.0]))
        assert report.ok, str(report)
        assert report.kinks, str(report)


def test_median_of_ties():
    assert check(lambda x: x.median(), torch.tensor([1.0, 2.0, 1.0, 0.3, 1.0])).ok


def test_jax():
    jax = pytest.importorskip("jax", reason="JAX is an optional peer")
    jnp = jax.numpy
    for order in (1, 2):
        assert check(lambda x: jnp.sum(jnp.tanh(x) ** 2), jnp.array([1.0, 2.0, 3.0]), order=order).ok
    assert check(lambda p: jnp.sum(p["a"] * p["b"] ** 2), {"a": jnp.ones(3), "b": jnp.arange(3.0)}).ok

    @jax.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (-3 * x**2 * g,))
    report = check(lambda x: jnp.sum(cube(x)), jnp.array([1.0, 2.0, 3.0]))
    assert report.verdict is Verdict.FAIL
    assert report.mistakes[0].kind == "sign"
    assert np.asarray(jnp.ones(2)).dtype == np.float32, "64-bit mode is left as it was"
