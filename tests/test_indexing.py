"""Indexing against NumPy: the entries chosen, and a gradient that counts how often each was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

import chainrule as torch

SHAPE = (3, 4, 2)


@given(nps.basic_indices(SHAPE, allow_newaxis=True, allow_ellipsis=True))
def test_basic_indices(key):
    parts = key if isinstance(key, tuple) else (key,)
    x = torch.arange(24.0).reshape(SHAPE).requires_grad_()
    if any(isinstance(k, slice) and (k.step or 1) < 0 for k in parts):
        with pytest.raises(ValueError, match="step must be greater than zero"):
            x[key]
        return
    a = x.detach().numpy()
    y = x[key]
    np.testing.assert_array_equal(y.detach().numpy(), a[key])
    (y * 2).sum().backward()
    expected = np.zeros(SHAPE, np.float32)
    expected[key] = 2
    np.testing.assert_array_equal(x.grad.numpy(), expected)


@given(st.data())
def test_index_arrays_beside_each_other(data):
    count = data.draw(st.integers(1, 3))
    shape = data.draw(nps.array_shapes(max_dims=2, max_side=3))
    keys = tuple(data.draw(nps.arrays(np.int64, shape, elements=st.integers(-n, n - 1))) for n in SHAPE[:count])
    x = torch.arange(24.0).reshape(SHAPE).requires_grad_()
    y = x[tuple(torch.from_numpy(k) for k in keys)]
    np.testing.assert_array_equal(y.detach().numpy(), x.detach().numpy()[keys])
    y.sum().backward()
    expected = np.zeros(SHAPE, np.float32)
    np.add.at(expected, keys, 1)
    np.testing.assert_array_equal(x.grad.numpy(), expected)


@given(nps.arrays(bool, SHAPE[:2]))
def test_masks(mask):
    x = torch.arange(24.0).reshape(SHAPE).requires_grad_()
    y = x[torch.from_numpy(mask)]
    np.testing.assert_array_equal(y.detach().numpy(), x.detach().numpy()[mask])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.broadcast_to(mask[..., None], SHAPE).astype(np.float32))
