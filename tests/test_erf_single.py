"""erf in single precision has its own polynomial: it must be as good as the format, also at its ends."""

import math

import numpy as np
import scipy.special

import chainrule as torch


def test_single_precision_agrees_with_double():
    x = np.concatenate([np.linspace(-5, 5, 200_001), np.logspace(-30, 0, 1000)]).astype(np.float32)
    got = torch.erf(torch.from_numpy(x)).numpy()
    assert got.dtype == np.float32
    # 4e-7 is measured; 5e-7 is four units in the last place
    np.testing.assert_allclose(got, scipy.special.erf(x.astype(np.float64)), rtol=5e-7)


def test_single_precision_at_the_ends():
    got = torch.erf(torch.tensor([math.inf, -math.inf, 10.0, -10.0, 0.0, math.nan])).numpy()
    assert got[:5].tolist() == [1, -1, 1, -1, 0]
    assert np.isnan(got[5])


def test_single_precision_stays_within_one():
    x = torch.linspace(-6, 6, 100_001)
    assert float(torch.erf(x).abs().max()) == 1
    assert torch.erf(torch.tensor(0.5)).shape == ()
    assert torch.erf(torch.zeros(0)).shape == (0,)
