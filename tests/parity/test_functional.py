"""autograd.functional and func against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule

A = np.array([[0.3, -1.2], [0.8, 0.5]])
B = np.array([0.7, -0.4])
FUNCTIONS = {
    "vector": lambda x, y: (x @ y).sin(),
    "matrix": lambda x, y: x * y + x.exp(),
    "several": lambda x, y: (x.sum(), y * x[0]),
    "constant": lambda x, y: y * 2,
}
SCALARS = {
    "quadratic": lambda x, y: ((x @ y) ** 2).sum(),
    "mixed": lambda x, y: (x.exp() * y).sum() + (y**3).sum(),
    "linear": lambda x, y: x.sum() * 2 + y.sum(),
}


def give(lib):
    return lib.tensor(A.tolist(), dtype=lib.float64), lib.tensor(B.tolist(), dtype=lib.float64)


def flat(x):
    if isinstance(x, (tuple, list)):
        return [leaf for part in x for leaf in flat(part)]
    return [(tuple(x.shape), x.detach().numpy(), x.requires_grad)]


def agree(run):
    for ours, theirs in zip(flat(run(chainrule)), flat(run(torch)), strict=True):
        assert ours[0] == theirs[0]
        assert ours[2] == theirs[2]
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_products_and_jacobians(name, create_graph):
    f = FUNCTIONS[name]

    def vs(lib, like):
        return tuple(lib.ones_like(t) * (i + 2) for i, t in enumerate(like))

    def vjp(lib):
        out = f(*give(lib))
        v = vs(lib, out) if isinstance(out, tuple) else vs(lib, (out,))[0]
        return lib.autograd.functional.vjp(f, give(lib), v, create_graph=create_graph)

    agree(vjp)
    agree(lambda lib: lib.autograd.functional.jvp(f, give(lib), vs(lib, give(lib)), create_graph=create_graph))
    agree(lambda lib: lib.autograd.functional.jacobian(f, give(lib), create_graph=create_graph))
    agree(lambda lib: lib.autograd.functional.jacobian(lambda x: f(x, give(lib)[1]), give(lib)[0], vectorize=True))


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", SCALARS)
def test_hessians(name, create_graph):
    f = SCALARS[name]
    agree(lambda lib: lib.autograd.functional.hessian(f, give(lib), create_graph=create_graph))
    agree(lambda lib: lib.autograd.functional.hessian(lambda x: f(x, give(lib)[1]), give(lib)[0]))
    agree(lambda lib: lib.autograd.functional.hvp(f, give(lib), give(lib), create_graph=create_graph))
    agree(lambda lib: lib.autograd.functional.vhp(f, give(lib), give(lib), create_graph=create_graph))


@pytest.mark.parametrize(
    "call",
    [
        lambda lib: lib.autograd.functional.vjp(lambda x: x * 2, lib.ones(2)),
        lambda lib: lib.autograd.functional.vjp(lambda x: x * 2, lib.ones(2), lib.ones(3)),
        lambda lib: lib.autograd.functional.hessian(lambda x: x * 2, lib.ones(2)),
        lambda lib: lib.autograd.functional.jacobian(lambda x: 3, lib.ones(2)),
        lambda lib: lib.autograd.functional.jacobian(lambda x: lib.ones(2), lib.ones(2), strict=True),
    ],
)
def test_errors(call):
    kinds = []
    for lib in (chainrule, torch):
        with pytest.raises((RuntimeError, TypeError)) as error:
            call(lib)
        kinds.append((isinstance(error.value, TypeError), str(error.value)[:40]))
    assert kinds[0] == kinds[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # PyTorch's own, from within jacfwd
def test_func():
    f = SCALARS["mixed"]
    agree(lambda lib: lib.func.grad(f)(*give(lib)))
    agree(lambda lib: lib.func.grad(f, argnums=(0, 1))(*give(lib)))
    agree(lambda lib: lib.func.grad_and_value(f, argnums=1)(*give(lib)))
    agree(lambda lib: lib.func.grad(lambda x: (lib.func.grad(lambda t: (t**3).sum())(x) ** 2).sum())(give(lib)[1]))
    agree(lambda lib: lib.func.hessian(lambda x: f(x, give(lib)[1]))(give(lib)[0]))
    g = FUNCTIONS["matrix"]
    agree(lambda lib: lib.func.jacrev(g, argnums=(0, 1))(*give(lib)))
    agree(lambda lib: lib.func.jacfwd(g)(*give(lib)))
    agree(lambda lib: lib.func.jvp(g, give(lib), give(lib)))

    def vjp(lib):
        out, pull = lib.func.vjp(g, *give(lib))
        return out, pull(lib.ones_like(out))

    agree(vjp)
    agree(lambda lib: lib.func.grad(lambda x: (x.sum(), x * 2), has_aux=True)(give(lib)[0]))
