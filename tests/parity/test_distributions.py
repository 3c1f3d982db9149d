"""Distributions against PyTorch's: densities, gradients, moments, entropies, divergences; samples by their moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule
from chainrule import distributions as ours

theirs = torch.distributions

rng = np.random.default_rng(0)
P = np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
L = np.array([[1.2, 0.0], [0.5, 0.8]])
REAL, POSITIVE = rng.standard_normal((4, 2)), rng.random((4, 2)) * 3 + 0.1
UNIT, COUNT = rng.random((4, 2)) * 0.9 + 0.05, rng.integers(0, 3, (4, 2)).astype(float)
SIMPLEX = rng.dirichlet([1.0, 2.0, 3.0], (4, 2))
LOC, SCALE = np.array([0.3, -1.0]), np.array([0.7, 2.0])

# name, parameters, a second set for the divergence (or None), values
CASES = [
    ("Normal", {"loc": LOC, "scale": SCALE}, {"loc": LOC + 1, "scale": SCALE * 1.5}, REAL),
    ("LogNormal", {"loc": LOC, "scale": SCALE}, None, POSITIVE),
    ("HalfNormal", {"scale": SCALE}, None, POSITIVE),
    ("Laplace", {"loc": LOC, "scale": SCALE}, {"loc": LOC - 1, "scale": SCALE + 0.3}, REAL),
    ("Cauchy", {"loc": LOC, "scale": SCALE}, None, REAL),
    ("Gumbel", {"loc": LOC, "scale": SCALE}, None, REAL),
    ("StudentT", {"df": SCALE + 2, "loc": LOC, "scale": SCALE}, None, REAL),
    ("Uniform", {"low": LOC - 4, "high": LOC + 4}, {"low": LOC - 5, "high": LOC + 6}, REAL),
    ("Exponential", {"rate": SCALE}, {"rate": SCALE + 1}, POSITIVE),
    ("Gamma", {"concentration": SCALE, "rate": SCALE + 0.5}, {"concentration": SCALE + 1, "rate": SCALE}, POSITIVE),
    (
        "Beta",
        {"concentration1": SCALE, "concentration0": SCALE + 1},
        {"concentration1": SCALE + 1, "concentration0": SCALE},
        UNIT,
    ),
    ("Dirichlet", {"concentration": P * 4}, {"concentration": P * 2 + 1}, SIMPLEX),
    ("Bernoulli", {"probs": UNIT[0]}, {"probs": UNIT[1]}, (COUNT > 0) * 1.0),
    ("Bernoulli", {"logits": LOC}, {"logits": LOC * 2}, (COUNT > 0) * 1.0),
    ("Geometric", {"probs": UNIT[0]}, {"probs": UNIT[1]}, COUNT),
    ("Poisson", {"rate": SCALE}, {"rate": SCALE + 1}, COUNT),
    ("Categorical", {"probs": P * 2}, {"probs": P[::-1].copy()}, COUNT),
    ("Categorical", {"logits": P * 5}, {"logits": P}, COUNT),
    ("OneHotCategorical", {"probs": P}, {"probs": P[::-1].copy()}, np.eye(3)[COUNT.astype(int)]),
    ("MultivariateNormal", {"loc": LOC, "covariance_matrix": L @ L.T}, {"loc": LOC + 1, "scale_tril": L * 2}, REAL),
]  # fmt: skip


def build(library, tensor, name, parameters, requires_grad=False):
    given = {k: tensor(v).requires_grad_(requires_grad) for k, v in parameters.items()}
    return getattr(library, name)(**given), list(given.values())


@pytest.mark.parametrize(
    ("name", "parameters", "other", "values"), CASES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_density_moments_and_divergence(name, parameters, other, values):
    a, pa = build(ours, chainrule.tensor, name, parameters, True)
    b, pb = build(theirs, torch.tensor, name, parameters, True)
    assert (tuple(a.batch_shape), tuple(a.event_shape)) == (tuple(b.batch_shape), tuple(b.event_shape))
    pairs = [(a.log_prob(chainrule.tensor(values)), b.log_prob(torch.tensor(values)))]
    try:
        pairs.append((a.entropy(), b.entropy()))
    except NotImplementedError:
        with pytest.raises(NotImplementedError):
            b.entropy()
    pairs += [(getattr(a, what), getattr(b, what)) for what in ("mean", "variance", "stddev")]
    if other is not None:
        c, _ = build(ours, chainrule.tensor, name, other)
        d, _ = build(theirs, torch.tensor, name, other)
        pairs.append((ours.kl_divergence(a, c), theirs.kl_divergence(b, d)))
    for x, y in pairs:
        assert x.dtype is chainrule.float64
        np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), rtol=1e-9, atol=1e-12)
    for x, y in pairs:
        if not y.requires_grad or not bool(torch.isfinite(y).all()):
            continue
        gx = chainrule.autograd.grad(x.sum(), pa, allow_unused=True, retain_graph=True)
        gy = torch.autograd.grad(y.sum(), pb, allow_unused=True, retain_graph=True)
        for u, v in zip(gx, gy):
            u = np.zeros(()) if u is None else u.numpy()
            np.testing.assert_allclose(u, np.zeros(()) if v is None else v.numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "parameters", "other", "values"), CASES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_samples_have_the_moments(name, parameters, other, values):
    a, _ = build(ours, chainrule.tensor, name, parameters)
    chainrule.manual_seed(0)
    n = 20000
    drawn = a.sample((n,))
    assert drawn.shape == (n, *a.batch_shape, *a.event_shape)
    assert not drawn.requires_grad
    if name in ("Cauchy", "Categorical", "LogNormal"):  # no moments, or ones with too heavy a tail to estimate
        return
    mean, std = a.mean.numpy(), a.stddev.numpy()
    # five standard errors of a mean of n draws
    assert (np.abs(drawn.numpy().mean(0) - mean) < 5 * std / n**0.5 + 1e-12).all()


@pytest.mark.parametrize("name", [c[0] for c in CASES if getattr(ours, c[0]).has_rsample])
def test_rsample_differentiates(name):
    parameters = next(c[1] for c in CASES if c[0] == name)
    a, pa = build(ours, chainrule.tensor, name, parameters, True)
    grads = chainrule.autograd.grad(a.rsample((5,)).sum(), pa)
    assert all(np.isfinite(g.numpy()).all() and g.abs().sum() > 0 for g in grads)


def test_compositions_and_errors():
    for lib, t in ((ours, chainrule), (theirs, torch)):
        d = lib.Independent(lib.Normal(t.zeros(3, 2), t.ones(3, 2)), 1)
        assert tuple(d.log_prob(t.ones(3, 2)).shape) == (3,)
        assert d.log_prob(t.ones(3, 2))[0].item() == pytest.approx(-2.837877, abs=1e-5)
        mix = lib.MixtureSameFamily(lib.Categorical(t.tensor([0.3, 0.7])), lib.Normal(t.tensor([-1.0, 2.0]), t.ones(2)))
        assert mix.log_prob(t.tensor(0.5)).item() == pytest.approx(-2.0439385, abs=1e-5)
        assert (mix.mean.item(), mix.variance.item()) == pytest.approx((1.1, 2.89), rel=1e-5)
        multi = lib.Multinomial(5, t.tensor([0.2, 0.8]))
        assert multi.log_prob(t.tensor([1.0, 4.0])).item() == pytest.approx(-0.8925743, abs=1e-5)
        assert multi.sample((7,)).sum(-1).tolist() == [5.0] * 7
        binomial = lib.Binomial(4, t.tensor([0.3]))
        assert binomial.log_prob(t.tensor([2.0])).exp().item() == pytest.approx(0.2646, abs=1e-5)
        with pytest.raises(ValueError, match=r"Expected parameter scale .* to satisfy the constraint GreaterThan"):
            lib.Normal(0.0, -1.0)
        with pytest.raises(ValueError, match=r"to be within the support .* but found invalid values"):
            lib.Bernoulli(t.tensor(0.5)).log_prob(t.tensor(0.3))
        with pytest.raises(ValueError, match="Either `probs` or `logits`"):
            lib.Categorical()
        with pytest.raises(NotImplementedError, match=r"No KL\(p \|\| q\)"):
            lib.kl_divergence(lib.Normal(0.0, 1.0), lib.Categorical(t.tensor([0.5, 0.5])))
