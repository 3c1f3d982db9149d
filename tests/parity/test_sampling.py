"""grid_sample and affine_grid against PyTorch, over all modes."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule

sys.path.insert(0, str(Path(__file__).parent))

from pairs import compare, same_error

MODES = list(itertools.product(("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (True, False)))


@pytest.mark.parametrize("size", [(5, 4), (1, 3), (1, 1), (4, 3, 5), (1, 2, 1)])
@pytest.mark.parametrize("mode", MODES)
def test_grid_sample(mode, size):
    r = np.random.default_rng(0)
    n = len(size)
    x = r.normal(size=(2, 2, *size))
    somewhere = r.uniform(-2.5, 2.5, (2, *(3, 4, 2)[:n], n))
    on_the_edge = r.choice([-1.0, 1.0, 0.0, 0.5, -0.5], size=somewhere.shape)
    for grid in (somewhere, on_the_edge, somewhere[:, :0]):

        def sample(M, x, grid):
            return M.nn.functional.grid_sample(x, grid, *mode)

        # PyTorch has no second derivative of it; ours is made of ops that have been tested.
        compare(sample, [x, grid], f"{mode} {size}", ulps=256, order=1)
        compare(sample, [x.astype("f4"), grid.astype("f4")], f"{mode} {size}", ulps=256, order=1)


@pytest.mark.parametrize("mode", MODES)
def test_not_a_number(mode):
    r = np.random.default_rng(0)
    x, grid = r.normal(size=(1, 2, 4, 5)), r.choice([np.nan, np.inf, -np.inf, 0.3], size=(1, 6, 6, 2))
    # Of such a grid PyTorch's gradient reads memory that is not the image's, so only values are compared.
    compare(lambda M, x, g: M.nn.functional.grid_sample(x, g, *mode), [x, grid], f"{mode}", order=0)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 3, 2, 3, 4), (2, 3, 3, 2)])
def test_affine_grid(size, align_corners):
    n = len(size) - 2
    theta = np.random.default_rng(0).normal(size=(2, n, n + 1))
    compare(lambda M, t: M.nn.functional.affine_grid(t, size, align_corners), [theta], str(size))


ERRORS = [
    lambda M: M.nn.functional.grid_sample(M.ones(1, 1, 3, 3), M.ones(1, 2, 2, 2), "foo"),
    lambda M: M.nn.functional.grid_sample(M.ones(1, 1, 3, 3), M.ones(1, 2, 2, 2), padding_mode="foo"),
    lambda M: M.nn.functional.grid_sample(M.ones(1, 1, 3, 3), M.ones(2, 2, 2, 2), align_corners=True),
    lambda M: M.nn.functional.grid_sample(M.ones(1, 1, 3, 3), M.ones(1, 2, 2, 3), align_corners=True),
    lambda M: M.nn.functional.grid_sample(M.ones(1, 3, 3), M.ones(1, 2, 2, 3), align_corners=True),
    lambda M: M.nn.functional.grid_sample(M.ones(1, 1, 0, 3), M.ones(1, 2, 2, 2), align_corners=True),
    lambda M: M.nn.functional.grid_sample(M.ones(1, 1, 3, 3, 3), M.ones(1, 2, 2, 2, 3), "bicubic", align_corners=True),
    lambda M: M.nn.functional.grid_sample(M.ones(1, 1, 3, 3).double(), M.ones(1, 2, 2, 2), align_corners=True),
    lambda M: M.nn.functional.affine_grid(M.ones(1, 2, 3), (1, 1, 2), True),
    lambda M: M.nn.functional.affine_grid(M.ones(1, 2, 3), (1, 1, 2, 2, 2), True),
    lambda M: M.nn.functional.affine_grid(M.ones(1, 2, 2), M.Size([1, 1, 2, 2]), True),
    lambda M: M.nn.functional.affine_grid(M.ones(1, 2, 3).long(), (1, 1, 2, 2), True),
    lambda M: M.nn.functional.affine_grid(M.ones(1, 2, 3), (1, 1, 0, 2), True),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_messages(number):
    same_error(ERRORS[number])


def test_the_default_of_align_corners_warns():
    import chainrule

    with pytest.warns(UserWarning, match="Default grid_sample and affine_grid behavior has changed"):
        chainrule.nn.functional.affine_grid(chainrule.ones(1, 2, 3), (1, 1, 2, 2))


def test_the_identity_grid_lies_on_the_same_side_of_every_pixel():
    """At pixel centres the gradient by the grid jumps: one bit decides, and networks start there."""
    image = np.random.default_rng(0).normal(size=(4, 1, 28, 28)).astype(np.float32)
    found = []
    for lib in (chainrule, torch):
        theta = lib.eye(2, 3).repeat(4, 1, 1).requires_grad_()
        grid = lib.nn.functional.affine_grid(theta, (4, 1, 28, 28), align_corners=False)
        out = lib.nn.functional.grid_sample(lib.from_numpy(image), grid, align_corners=False)
        (out * lib.arange(28.0)).sum().backward()
        found.append(theta.grad.numpy())
    # sums of 784 terms of up to 400, in float32
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=0.05)
