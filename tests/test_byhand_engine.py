"""By hand and by the engine: the same numbers to 1e-12 in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import byhand
from chainrule.nn import functional as F
from chainrule.ops.elementwise import relu, sigmoid

# Both compute in float64; they differ only in the order of additions, which is worth a few ε = 2.2e-16 per term.
SAME = 1e-12

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 6)
reductions = st.sampled_from(["mean", "sum"])


def leaf(array):
    return cr.tensor(array, dtype=cr.float64, requires_grad=True)


def same(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=SAME, atol=SAME)


@given(seeds, sizes)
def test_neuron(seed, n):
    rng = np.random.default_rng(seed)
    w, b, x, y = rng.normal(size=n), rng.normal(), rng.normal(size=n), rng.uniform()
    neuron = byhand.Neuron(w, b)
    a, cache = neuron.forward(x)
    grads = neuron.backward(x, y, a, cache)

    tw, tb = leaf(w), leaf(b)
    out = sigmoid((tw * cr.tensor(x)).sum() + tb)
    loss = (out - y) ** 2
    loss.backward()
    same(a, out.item())
    same(neuron.loss(y, a), loss.item())
    same(grads["w"], tw.grad.numpy())
    same(grads["b"], tb.grad.item())


@given(seeds, sizes, sizes, reductions)
def test_losses(seed, n, c, reduction):
    rng = np.random.default_rng(seed)
    z, soft, classes = rng.normal(size=(n, c)), byhand.softmax(rng.normal(size=(n, c))), rng.integers(0, c, n)
    for hand, hand_grad, engine, target in [
        (byhand.mse, byhand.mse_grad, F.mse_loss, soft),
        (byhand.softmax_cross_entropy, byhand.softmax_cross_entropy_grad, F.cross_entropy, soft),
        (byhand.softmax_cross_entropy, byhand.softmax_cross_entropy_grad, F.cross_entropy, classes),
    ]:
        tz = leaf(z)
        loss = engine(tz, cr.tensor(target), reduction=reduction)
        loss.backward()
        same(hand(z, target, reduction), loss.item())
        same(hand_grad(z, target, reduction), tz.grad.numpy())


@given(seeds, sizes, sizes, sizes, sizes, st.sampled_from(["mse", "cross_entropy"]), reductions)
def test_mlp(seed, n, n_in, n_hidden, n_out, kind, reduction):
    rng = np.random.default_rng(seed)
    net = byhand.MLP(n_in, n_hidden, n_out, seed=seed, loss=kind, reduction=reduction)
    net.b1, net.b2 = rng.normal(size=n_hidden), rng.normal(size=n_out)
    x = rng.normal(size=(n, n_in))
    y = rng.normal(size=(n, n_out)) if kind == "mse" else rng.integers(0, n_out, n)
    y_pred, cache = net.forward(x)
    grads = net.backward(x, y, y_pred, cache)

    parameters = {name: leaf(getattr(net, name)) for name in grads}
    hidden = relu(cr.tensor(x) @ parameters["W1"] + parameters["b1"])
    z2 = hidden @ parameters["W2"] + parameters["b2"]
    loss_function = F.mse_loss if kind == "mse" else F.cross_entropy
    loss = loss_function(z2, cr.tensor(y), reduction=reduction)
    loss.backward()
    same(net.loss(y, y_pred), loss.item())
    for name, parameter in parameters.items():
        same(grads[name], parameter.grad.numpy())


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_numerical_gradient_of_an_engine_function(shape):
    x = np.random.default_rng(0).normal(size=shape)
    numerical = byhand.numerical_gradient(lambda v: (cr.sin(cr.tensor(v) ** 2) ** 2).sum().item(), x)
    at = leaf(x)
    (cr.sin(at**2) ** 2).sum().backward()
    np.testing.assert_allclose(at.grad.numpy(), numerical, atol=1e-8)  # a central difference, h²/6·f‴ with |f‴| < 100
