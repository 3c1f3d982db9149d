"""Reparametrised weights, averaged models and SWALR behave as PyTorch's."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule as cr

sys.path.insert(0, str(Path(__file__).parent))

from pairs import compare, compare_layers, same_error

RNG = np.random.default_rng(0)
W, X = RNG.normal(size=(3, 4)).astype("f"), RNG.normal(size=(2, 4)).astype("f")


def _set_spectral(lib, layer):
    lib.nn.utils.spectral_norm(layer, n_power_iterations=2)
    with lib.no_grad():
        layer.weight_u.copy_(lib.tensor(np.ones(3, "f") / np.float32(3**0.5)))
        layer.weight_v.copy_(lib.tensor(np.ones(4, "f") / 2))
    for _ in range(3):
        layer(lib.tensor(X))


def _twice(lib, layer):
    class Double(lib.nn.Module):
        def forward(self, x):
            return 2 * x

        def right_inverse(self, x):
            return x / 2

    lib.nn.utils.parametrize.register_parametrization(layer, "weight", Double())
    lib.nn.utils.parametrize.register_parametrization(layer, "weight", Double())


CHANGES = {
    "weight_norm": lambda lib, layer: lib.nn.utils.weight_norm(layer),
    "weight_norm 1": lambda lib, layer: lib.nn.utils.weight_norm(layer, dim=1),
    "weight_norm all": lambda lib, layer: lib.nn.utils.weight_norm(layer, dim=None),
    "spectral_norm": _set_spectral,
    "parametrized": _twice,
    "parametrized weight_norm": lambda lib, layer: lib.nn.utils.parametrizations.weight_norm(layer),
}
UNDO = {
    "weight_norm": lambda lib, layer: lib.nn.utils.remove_weight_norm(layer),
    "spectral_norm": lambda lib, layer: lib.nn.utils.remove_spectral_norm(layer),
    "parametrized": lambda lib, layer: lib.nn.utils.parametrize.remove_parametrizations(layer, "weight"),
}


def _run(lib, name):
    layer = lib.nn.Linear(4, 3)
    with lib.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layer.weight.copy_(lib.tensor(W))
        layer.bias.zero_()
        CHANGES[name](lib, layer)
    x = lib.tensor(X, requires_grad=True)
    layer.eval()
    y = layer(x)
    (y * y).sum().backward()
    keys = list(layer.state_dict())
    grads = {k: p.grad.numpy() for k, p in layer.named_parameters()}
    after = None
    if name in UNDO:
        UNDO[name](lib, layer)
        after = layer(x).detach().numpy()
        keys += ["|", *layer.state_dict()]
    return keys, y.detach().numpy(), x.grad.numpy(), grads, after


@pytest.mark.parametrize("name", list(CHANGES))
def test_reparametrised(name):
    mine, theirs = _run(cr, name), _run(torch, name)
    assert sorted(mine[0]) == sorted(theirs[0])
    np.testing.assert_allclose(mine[1], theirs[1], rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(mine[2], theirs[2], rtol=2e-6, atol=2e-6)
    assert mine[3].keys() == theirs[3].keys()
    for key, g in theirs[3].items():
        np.testing.assert_allclose(mine[3][key], g, rtol=1e-5, atol=1e-5)
    if theirs[4] is not None:
        np.testing.assert_allclose(mine[4], theirs[4], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("ema", [False, True])
def test_averaged_model(ema):
    def run(lib):
        net = lib.nn.Linear(4, 3)
        swa = lib.optim.swa_utils
        averaged = swa.AveragedModel(net, avg_fn=swa.get_ema_avg_fn(0.9) if ema else None)
        for k in range(4):
            with lib.no_grad():
                net.weight.copy_(lib.tensor(W * (k + 1)))
                net.bias.fill_(float(k))
            averaged.update_parameters(net)
        return list(averaged.state_dict()), [t.numpy() for t in averaged.state_dict().values()]

    if ema:  # PyTorch's get_ema_avg_fn is made for single tensors too
        torch.optim.swa_utils.get_ema_avg_fn(0.9)
    (names, mine), (expected, theirs) = run(cr), run(torch)
    assert names == expected
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_swalr(strategy, epochs):
    def run(lib):
        opt = lib.optim.SGD([lib.nn.Parameter(lib.zeros(1))], lr=0.3)
        schedule = lib.optim.swa_utils.SWALR(opt, 0.05, epochs, strategy)
        seen = []
        for _ in range(9):
            opt.step()
            schedule.step()
            seen.append(opt.param_groups[0]["lr"])
        return seen

    np.testing.assert_allclose(run(cr), run(torch), rtol=1e-9)


def test_update_bn():
    def run(lib):
        net = lib.nn.Sequential(lib.nn.Linear(4, 3), lib.nn.BatchNorm1d(3))
        with lib.no_grad():
            net[0].weight.copy_(lib.tensor(W))
            net[0].bias.zero_()
        lib.optim.swa_utils.update_bn([lib.tensor(X), lib.tensor(X * 2)], net)
        return [b.numpy() for b in net.buffers()]

    for a, b in zip(run(cr), run(torch), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def _parametrisations(M):
    class Symmetric(M.nn.Module):
        def forward(self, x):
            return x.triu() + x.triu(1).T

        def right_inverse(self, x):
            return x.triu()

    class Exp(M.nn.Module):
        def forward(self, x):
            return x.exp()

        def right_inverse(self, x):
            return x.log()

    class Row(M.nn.Module):
        def forward(self, x):
            return x[:1]

    class Single(M.nn.Module):
        def forward(self, x):
            return x.float()

    class RankOne(M.nn.Module):
        def forward(self, u, v):
            return u @ v.T

        def right_inverse(self, x):
            return x[:, :1], x[:1].T

    return {c.__name__: c for c in (Symmetric, Exp, Row, Single, RankOne)}


def _square(M, text):
    layer, Z = M.nn.Linear(4, 4).double(), M.nn.utils.parametrize
    square = np.abs(np.random.default_rng(0).normal(size=(4, 4)))
    layer.load_state_dict({"weight": M.tensor(square), "bias": M.tensor(square[0])})

    def given(layer):
        layer.weight = M.tensor(square.T @ square)
        return layer

    space = {"M": M, "l": layer, "R": Z.register_parametrization, "Z": Z, "given": given, **_parametrisations(M)}
    return eval(text, space)


@pytest.mark.parametrize(
    "text",
    [
        "R(l, 'weight', Symmetric())",
        "R(R(l, 'weight', Symmetric()), 'weight', Exp())",
        "R(l, 'weight', RankOne())",
        "given(R(l, 'weight', Symmetric()))",
        "Z.remove_parametrizations(R(l, 'weight', Symmetric()), 'weight')",
        "Z.remove_parametrizations(R(l, 'weight', Symmetric()), 'weight', leave_parametrized=False)",
        "Z.remove_parametrizations(R(l, 'weight', RankOne()), 'weight')",
        "M.nn.utils.parametrizations.weight_norm(l, dim=None)",
    ],
)
def test_parametrised(text):
    seen = []

    def values(M, x):
        layer = _square(M, text)
        names = [n for n, _ in layer.named_parameters()]
        seen.append([repr(layer), list(layer.state_dict()), names, M.nn.utils.parametrize.is_parametrized(layer)])
        gradients = M.autograd.grad(layer(x).sum(), list(layer.parameters()))
        return [layer.weight.detach(), *gradients, *layer.state_dict().values()]

    compare(values, [np.random.default_rng(1).normal(size=(3, 4))], text, order=0)
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    "text",
    [
        "R(l, 'weight', Row())",
        "R(l, 'weight', Single())",
        "R(R(l, 'weight', Symmetric()), 'weight', Row())",
        "R(l, 'foo', Symmetric())",
        "Z.remove_parametrizations(R(l, 'weight', RankOne()), 'weight', leave_parametrized=False)",
        "Z.remove_parametrizations(l, 'weight')",
        "given(R(l, 'weight', Row(), unsafe=True))",
        "__import__('pickle').dumps(R(l, 'weight', Symmetric()))",
        "M.nn.utils.parametrizations.spectral_norm(l, n_power_iterations=0)",
        "M.nn.utils.parametrizations.spectral_norm(l, 'foo')",
    ],
)
def test_messages_of_parametrisations(text):
    same_error(lambda M: _square(M, text))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("kind", ["Linear", "ConvTranspose2d"])
def test_spectral_norm_as_a_parametrisation(kind, train):
    shape = (2, 3) if kind == "Linear" else (1, 3, 3, 3)

    def build(M):
        layer = getattr(M.nn, kind)(3, 4, *(() if kind == "Linear" else (2,)))
        return M.nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=2)

    # The larger tolerance is for the power iteration's vectors, which converge but slowly.
    compare_layers(build, [RNG.normal(size=shape)], train=train, ulps=4096, order=1)


def _orthogonal(M, shape, which, trivialised):
    """An orthogonal matrix away from its start, with its gradient with respect to the parameter."""
    r = np.random.default_rng(0)
    weight, moved, n = r.normal(size=shape), np.tril(r.normal(size=shape) * 0.3, -1), max(shape[-2:])

    class Layer(M.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = M.nn.Parameter(M.tensor(weight))

    layer = Layer()
    M.nn.utils.parametrizations.orthogonal(layer, "weight", which, use_trivialization=trivialised)
    parts = layer.parametrizations.weight
    with M.no_grad():
        if trivialised:  # partly drawn at random
            parts[0].base.copy_(M.tensor(np.linalg.qr(r.normal(size=(*shape[:-2], n, n)))[0]))
        parts.original.add_(M.tensor(moved))
    (gradient,) = M.autograd.grad((layer.weight * M.tensor(weight)).sum(), [parts.original])
    return repr(layer), list(layer.state_dict()), layer.weight.detach(), gradient


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 4)])
@pytest.mark.parametrize("which", [None, "matrix_exp", "cayley", "householder"])
def test_orthogonal(which, shape):
    for trivialised in (True, False):
        seen = []

        def values(M, trivialised=trivialised, seen=seen):
            text, names, weight, gradient = _orthogonal(M, shape, which, trivialised)
            seen.append((text, names))
            tall = weight if shape[-2] >= shape[-1] else weight.mT
            assert M.allclose(tall.mT @ tall, M.eye(tall.shape[-1], dtype=M.float64), atol=1e-12)
            return [weight, gradient]

        for M in (cr, torch):
            values(M)  # neither raises
        compare(values, [], f"{which} {shape} {trivialised}", ulps=4096, order=0)
        assert seen[0] == seen[1]
