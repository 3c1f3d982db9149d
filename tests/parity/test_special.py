"""torch.special: Bessel and Airy functions and the orthogonal polynomials, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule
from chainrule.ops.bessel import POLYNOMIALS, UNARY

POINTS = np.concatenate([
    np.linspace(-6, 6, 49), np.linspace(-1, 1, 21), [-0.0, 1e-8, 30.0, -30.0, np.inf, -np.inf, np.nan],
])  # fmt: skip
# PyTorch's own polynomials for float64 are good to 1e-7 between the zeros of these; SciPy's values are exact there.
COARSE = {"airy_ai": 2e-6, "bessel_j0": 1e-6, "bessel_j1": 1e-6, "bessel_y0": 1e-6, "bessel_y1": 1e-6}


def both(name, values, *rest, dtype="float64"):
    return [
        getattr(T.special, name)(T.tensor(values, dtype=getattr(T, dtype)), *rest).numpy() for T in (chainrule, torch)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", UNARY)
def test_bessel(name, dtype):
    ours, theirs = both(name, POINTS, dtype=dtype)
    assert ours.dtype == theirs.dtype
    tolerance = max(COARSE.get(name, 0.0), 3e-6 if dtype == "float32" else 1e-13)  # float32: some 20 roundings of 1e-7
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("degree", [-1, 0, 1, 2, 3, 7, 10])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials(name, degree):
    ours, theirs = both(name, POINTS[np.isfinite(POINTS)], degree)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)  # a recurrence of ten steps cancels some digits


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials_of_tensors_of_degrees(name):
    for args in (([0.5, 2.0], [1.0, 3.0]), ([[0.5], [-0.5]], [0.0, 2.0, 5.0])):
        found = [getattr(T.special, name)(T.tensor(args[0]), T.tensor(args[1])).numpy() for T in (chainrule, torch)]
        np.testing.assert_allclose(*found, rtol=1e-5)
    ours, theirs = (getattr(T.special, name)(0.5, T.tensor([1, 2])) for T in (chainrule, torch))
    assert str(ours.dtype) == str(theirs.dtype)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)


def test_they_have_no_gradient_as_in_pytorch():
    for T in (chainrule, torch):
        x = T.tensor([1.0], requires_grad=True)
        assert not T.special.bessel_j0(x).requires_grad
        assert not T.special.legendre_polynomial_p(x, 2).requires_grad
