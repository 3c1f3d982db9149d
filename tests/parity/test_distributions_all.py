"""Every distribution and transform of PyTorch: densities, moments, shapes, words, divergences, samples and gradients.

Samples are compared with the distribution's own cumulative function (Kolmogorov–Smirnov, fixed seeds); gradients of
samples with −(∂F/∂θ)/p by differences of that function.
"""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import torch
from scipy import special, stats

import chainrule
from chainrule.distributions.reparam import dirichlet_grad, standard_gamma_grad

LIBS = (chainrule, torch)
A, B = [0.7, 1.6, 3.2], [2.5, 0.9, 1.3]
PROBS, LOGITS = [0.2, 0.5, 0.85], [-1.2, 0.3, 2.0]
ROWS = [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]
TRIL = [[1.0, 0.0, 0.0], [0.4, 0.8, 0.0], [-0.3, 0.2, 1.2]]
COV = (np.array(TRIL) @ np.array(TRIL).T).tolist()
CORR = np.linalg.cholesky([[1.0, 0.3, -0.2], [0.3, 1.0, 0.1], [-0.2, 0.1, 1.0]]).tolist()
REAL, POSITIVE, UNIT, COUNT = [0.3, -1.1, 2.2], [0.3, 1.1, 2.2], [0.2, 0.55, 0.9], [0.0, 1.0, 3.0]
SIMPLEX = [[0.3, 0.3, 0.4], [0.1, 0.7, 0.2]]

# name, arguments, values
CASES = [
    ("Normal", {"loc": LOGITS, "scale": A}, REAL),
    ("LogNormal", {"loc": LOGITS, "scale": A}, POSITIVE),
    ("HalfNormal", {"scale": A}, POSITIVE),
    ("Laplace", {"loc": LOGITS, "scale": A}, REAL),
    ("Cauchy", {"loc": LOGITS, "scale": A}, REAL),
    ("HalfCauchy", {"scale": A}, POSITIVE),
    ("Gumbel", {"loc": LOGITS, "scale": A}, REAL),
    ("Uniform", {"low": [-2.0, -3.0, 0.0], "high": [1.0, 2.0, 4.0]}, REAL),
    ("Exponential", {"rate": A}, POSITIVE),
    ("Gamma", {"concentration": A, "rate": B}, POSITIVE),
    ("InverseGamma", {"concentration": [2.7, 1.6, 3.2], "rate": B}, POSITIVE),
    ("Chi2", {"df": A}, POSITIVE),
    ("Beta", {"concentration1": A, "concentration0": B}, UNIT),
    ("Kumaraswamy", {"concentration1": A, "concentration0": B}, UNIT),
    ("StudentT", {"df": [1.5, 3.0, 0.8], "loc": LOGITS, "scale": A}, REAL),
    ("FisherSnedecor", {"df1": [3.0, 1.0, 5.0], "df2": [5.0, 1.0, 6.0]}, POSITIVE),
    ("Weibull", {"scale": A, "concentration": [1.5, 2.5, 1.1]}, POSITIVE),
    ("Pareto", {"scale": [0.2, 1.0, 2.0], "alpha": [1.5, 0.5, 3.0]}, POSITIVE),
    ("GeneralizedPareto", {"loc": [0.0, -2.0, 2.0], "scale": A, "concentration": [0.3, -0.1, 0.0]}, [0.5, 0.0, 3.0]),
    ("VonMises", {"loc": LOGITS, "concentration": [0.5, 3.0, 50.0]}, REAL),
    ("ContinuousBernoulli", {"probs": [0.2, 0.5, 0.85]}, UNIT),
    ("ContinuousBernoulli", {"logits": LOGITS}, UNIT),
    ("RelaxedBernoulli", {"temperature": 0.7, "probs": PROBS}, UNIT),
    ("RelaxedOneHotCategorical", {"temperature": 0.7, "logits": ROWS}, SIMPLEX),
    ("LogisticNormal", {"loc": [0.3, -0.5], "scale": [0.7, 1.2]}, SIMPLEX),
    ("Dirichlet", {"concentration": [[0.7, 1.6, 3.2], [2.0, 1.5, 4.0]]}, SIMPLEX),
    ("Bernoulli", {"probs": PROBS}, [0.0, 1.0, 1.0]),
    ("Bernoulli", {"logits": LOGITS}, [0.0, 1.0, 1.0]),
    ("Geometric", {"probs": PROBS}, COUNT),
    ("Binomial", {"total_count": 4, "probs": PROBS}, COUNT),
    ("NegativeBinomial", {"total_count": [2.0, 3.5, 1.0], "probs": PROBS}, COUNT),
    ("NegativeBinomial", {"total_count": 3, "logits": LOGITS}, COUNT),
    ("Poisson", {"rate": A}, COUNT),
    ("Categorical", {"probs": ROWS}, [0.0, 2.0]),
    ("OneHotCategorical", {"logits": ROWS}, [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    ("OneHotCategoricalStraightThrough", {"probs": ROWS}, [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    ("Multinomial", {"total_count": 4, "probs": ROWS}, [[1.0, 2.0, 1.0], [0.0, 4.0, 0.0]]),
    ("MultivariateNormal", {"loc": REAL, "covariance_matrix": COV}, REAL),
    ("MultivariateNormal", {"loc": REAL, "precision_matrix": COV}, REAL),
    ("LowRankMultivariateNormal", {"loc": REAL, "cov_factor": [[0.3], [1.0], [-0.5]], "cov_diag": A}, REAL),
    ("LKJCholesky", {"dim": 3, "concentration": 1.7}, CORR),
    ("Wishart", {"df": 4.5, "scale_tril": TRIL}, COV),
    ("Wishart", {"df": 4.5, "precision_matrix": COV}, COV),
]  # fmt: skip
IDS = [f"{name}-{'-'.join(args)}" for name, args, _ in CASES]


def build(lib, name, args, grad=False):
    made, tensors = {}, []
    for k, v in args.items():
        if isinstance(v, (list, float)):
            v = lib.tensor(v, dtype=lib.float64, requires_grad=grad)
            tensors.append(v)
        made[k] = v
    return getattr(lib.distributions, name)(**made), tensors


def result(f):
    """What a call gives: a number, or the type of what it raises."""
    try:
        return f()
    except (NotImplementedError, ValueError) as error:
        return type(error)


def same(a, b, rtol=1e-9, atol=1e-11):
    if isinstance(b, type):
        assert a is b
        return
    assert tuple(a.shape) == tuple(b.shape)
    assert str(a.dtype) == str(b.dtype)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=rtol, atol=atol)


METHODS = {
    "log_prob": lambda d, x: d.log_prob(x), "cdf": lambda d, x: d.cdf(x), "icdf": lambda d, x: d.icdf(x * 0 + 0.3),
    "entropy": lambda d, x: d.entropy(), "mean": lambda d, x: d.mean, "variance": lambda d, x: d.variance,
    "stddev": lambda d, x: d.stddev, "mode": lambda d, x: d.mode, "perplexity": lambda d, x: d.perplexity(),
    "enumerate_support": lambda d, x: d.enumerate_support(), "expanded": lambda d, x: d.expand(
        (2, *d.batch_shape)).log_prob(x), "unexpanded support": lambda d, x: d.enumerate_support(expand=False),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The use of `x.T` on tensors")
@pytest.mark.parametrize(("name", "args", "values"), [c for c in CASES if c[0] != "GeneralizedPareto"],
                         ids=[i for i in IDS if not i.startswith("GeneralizedPareto")])  # fmt: skip
def test_values_and_gradients(name, args, values):
    (ours, mine), (theirs, yours) = (build(lib, name, args, True) for lib in LIBS)
    x, y = (lib.tensor(values, dtype=lib.float64, requires_grad=True) for lib in LIBS)
    assert (tuple(ours.batch_shape), tuple(ours.event_shape)) == (tuple(theirs.batch_shape), tuple(theirs.event_shape))
    assert (ours.has_rsample, ours.has_enumerate_support) == (theirs.has_rsample, theirs.has_enumerate_support)
    assert repr(ours.support).split("(")[0] == repr(theirs.support).split("(")[0]
    assert (ours.support.event_dim, ours.support.is_discrete) == (theirs.support.event_dim, theirs.support.is_discrete)
    assert set(ours.arg_constraints) == set(theirs.arg_constraints)
    for what, call in METHODS.items():
        a, b = result(lambda call=call: call(ours, x)), result(lambda call=call: call(theirs, y))
        if what == "expanded" and b is ValueError:  # PyTorch's own expand fails there
            continue
        if what in ("cdf", "icdf") and b is NotImplementedError and not isinstance(a, type):
            continue  # one that PyTorch has not
        # PyTorch's Bessel functions here are polynomials of few terms; its factorial is in single precision
        loose = {"VonMises": 1e-3, "Multinomial": 1e-7}.get(name, 1e-9)
        same(a, b, loose)
        if isinstance(b, type) or not b.requires_grad or not bool(torch.isfinite(b).all()):
            continue
        keep = {"allow_unused": True, "materialize_grads": True, "retain_graph": True}
        ga = chainrule.autograd.grad(a.sum(), [*mine, x], **keep)
        try:
            gb = torch.autograd.grad(b.sum(), [*yours, y], **keep)
        except NotImplementedError:  # PyTorch has no derivative of the gamma cdf by its concentration
            continue
        for u, v in zip(ga, gb):
            if "scale_tril" in args:
                u, v = (
                    t.tril() if t.dim() > 1 else t for t in (u, v)
                )  # what stands above the diagonal is no part of the factor
            if bool(torch.isfinite(v).all()):
                np.testing.assert_allclose(u.numpy(), v.numpy(), max(1e-7, loose), 1e-9, err_msg=what)


def test_generalized_pareto():
    # against SciPy: PyTorch's mixes dtypes in double precision and raises
    (_, args, values) = next(c for c in CASES if c[0] == "GeneralizedPareto")
    d, _ = build(chainrule, "GeneralizedPareto", args)
    exact = stats.genpareto(args["concentration"], args["loc"], args["scale"])
    x, q = chainrule.tensor(values, dtype=chainrule.float64), chainrule.tensor([0.2, 0.5, 0.9], dtype=chainrule.float64)
    for ours, theirs in (
        (d.log_prob(x), exact.logpdf(values)), (d.cdf(x), exact.cdf(values)), (d.icdf(q), exact.ppf(q.numpy())),
        (d.mean, exact.mean()), (d.variance, exact.var()), (d.entropy(), exact.entropy()),
        (d.log_survival_function(x), exact.logsf(values)),
    ):  # fmt: skip
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9)


@pytest.mark.parametrize(("name", "args", "values"), CASES, ids=IDS)
def test_shapes_of_samples_and_support(name, args, values):
    ours, _ = build(chainrule, name, args)
    chainrule.manual_seed(1)
    for shape in ((), (4,), (2, 3)):
        x = ours.sample(shape)
        assert tuple(x.shape) == (*shape, *ours.batch_shape, *ours.event_shape)
        assert bool(ours.support.check(x).all())
        assert bool(chainrule.isfinite(ours.log_prob(x)).all())
    wide = ours.expand((2, *ours.batch_shape))
    assert tuple(wide.sample((3,)).shape) == (3, 2, *ours.batch_shape, *ours.event_shape)


def _cdf(name, ours):
    """The cumulative function of one column, from PyTorch's formulas where ours has it, else SciPy's."""
    n = lambda t: t.detach().numpy()
    return {
        "Beta": lambda i: stats.beta(n(ours.concentration1)[i], n(ours.concentration0)[i]).cdf,
        "Chi2": lambda i: stats.chi2(n(ours.df)[i]).cdf,
        "StudentT": lambda i: stats.t(n(ours.df)[i], n(ours.loc)[i], n(ours.scale)[i]).cdf,
        "FisherSnedecor": lambda i: stats.f(n(ours.df1)[i], n(ours.df2)[i]).cdf,
        "InverseGamma": lambda i: stats.invgamma(n(ours.concentration)[i], scale=n(ours.rate)[i]).cdf,
        "VonMises": lambda i: (lambda x: _von_mises(x, n(ours.loc)[i], n(ours.concentration)[i])),
        "RelaxedBernoulli": lambda i: (lambda y: _relaxed(y, n(ours.probs)[i])),
        "LogNormal": lambda i: stats.lognorm(n(ours.scale)[i], scale=np.exp(n(ours.loc)[i])).cdf,
    }.get(name)  # fmt: skip


def _von_mises(x, loc, kappa):
    grid = np.linspace(-np.pi, np.pi, 20001)
    density = np.exp(kappa * (np.cos(grid - loc) - 1))
    whole = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(x, grid, whole / whole[-1])


def _relaxed(y, p):
    # logit(y) · t = logit(u) + logit(p)
    return special.expit(0.7 * special.logit(y) - special.logit(p))


UNIVARIATE = [c for c in CASES if isinstance(c[2][0], float) and c[0] not in (
    "Bernoulli", "Geometric", "Binomial", "NegativeBinomial", "Poisson", "Categorical", "MultivariateNormal",
    "LowRankMultivariateNormal")]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "values"), UNIVARIATE, ids=[f"{c[0]}-{'-'.join(c[1])}" for c in UNIVARIATE])
def test_samples_follow_the_cumulative_function(name, args, values):
    ours, _ = build(chainrule, name, args)
    chainrule.manual_seed(0)
    x = ours.sample((2000,)).numpy()
    ours._validate_args = False  # the function is asked outside of the support, too
    column = _cdf(name, ours)
    for i in range(x.shape[1]):
        if column is not None:
            cdf = column(i)
        else:
            cdf = lambda v, i=i: ours.expand((len(v), 3)).cdf(
                chainrule.tensor(np.repeat(v[:, None], 3, 1))
            ).numpy()[:, i]  # fmt: skip
        # p-values are uniform if the samples are right: one in a thousand would be below this by chance
        assert stats.kstest(x[:, i], cdf).pvalue > 1e-3, i


DISCRETE = [c for c in CASES if c[0] in ("Bernoulli", "Geometric", "Binomial", "NegativeBinomial", "Poisson")]


@pytest.mark.parametrize(("name", "args", "values"), DISCRETE, ids=[f"{c[0]}-{'-'.join(c[1])}" for c in DISCRETE])
def test_counts_have_their_probabilities(name, args, values):
    ours, _ = build(chainrule, name, args)
    chainrule.manual_seed(0)
    x, n = ours.sample((20000,)).numpy(), 20000
    top = 2 if name == "Bernoulli" else 4
    for k in range(top):
        p = ours.log_prob(chainrule.full((3,), float(k), dtype=chainrule.float64)).exp().numpy()
        # five standard deviations of a proportion
        assert (np.abs((x == k).mean(0) - p) < 5 * np.sqrt(p * (1 - p) / n) + 1e-12).all()


def test_matrices_have_their_moments():
    chainrule.manual_seed(0)
    wishart, _ = build(chainrule, "Wishart", {"df": 5.5, "scale_tril": TRIL})
    x, n = wishart.sample((20000,)).numpy(), 20000
    assert (np.abs(x.mean(0) - wishart.mean.numpy()) < 5 * np.sqrt(wishart.variance.numpy() / n)).all()
    low, _ = build(chainrule, "LowRankMultivariateNormal", CASES[IDS.index(
        "LowRankMultivariateNormal-loc-cov_factor-cov_diag")][1])  # fmt: skip
    np.testing.assert_allclose(np.cov(low.sample((20000,)).numpy().T), low.covariance_matrix.numpy(), atol=0.15)
    lkj = chainrule.distributions.LKJCholesky(3, chainrule.tensor(1.0, dtype=chainrule.float64))
    factor = lkj.sample((4000,)).numpy()
    r = (factor @ np.swapaxes(factor, -1, -2))[:, 0, 1]
    # with η = 1 every off-diagonal entry is 2 Beta(d/2, d/2) − 1
    assert stats.kstest((r + 1) / 2, stats.beta(1.5, 1.5).cdf).pvalue > 1e-3


# --- gradients of samples -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-3, 0.05, 0.5, 1.0, 2.5, 10.0, 60.0, 150.0, 1e4])
def test_gamma_gradient(alpha):
    u = np.array([0.01, 0.3, 0.5, 0.9, 0.999])
    x = special.gammaincinv(alpha, u)
    x = x[x > 1e-250]
    ours = standard_gamma_grad(alpha, x)
    theirs = torch._standard_gamma_grad(torch.full((len(x),), alpha, dtype=torch.float64), torch.tensor(x)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=6e-2 if alpha < 0.01 else 5e-3)  # PyTorch's is an approximation
    h = 1e-3 * min(alpha, alpha**0.5)  # x = F⁻¹(u; α), differenced by α
    five = [special.gammaincinv(alpha + k * h, special.gammainc(alpha, x)) for k in (-2, -1, 1, 2)]
    exact = (8 * (five[2] - five[1]) - (five[3] - five[0])) / (12 * h)
    fine = (x > 1e-10) & (x < alpha + 12 * max(alpha, 1) ** 0.5)  # elsewhere F⁻¹ itself has few digits
    np.testing.assert_allclose(ours[fine], exact[fine], rtol=1e-5)


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.4), (2.0, 3.0), (30.0, 0.8), (100.0, 200.0)])
def test_beta_gradient(a, b):
    x = special.betaincinv(a, b, np.array([0.1, 0.5, 0.8]))
    ours = dirichlet_grad(x, a, a + b) * (1 - x)
    h = 1e-3 * min(a, a**0.5)
    five = [special.betaincinv(a + k * h, b, special.betainc(a, b, x)) for k in (-2, -1, 1, 2)]
    exact = (8 * (five[2] - five[1]) - (five[3] - five[0])) / (12 * h)
    np.testing.assert_allclose(ours, exact, rtol=1e-5)


@pytest.mark.parametrize("name", ["Gamma", "Beta", "Dirichlet", "StudentT", "Chi2", "InverseGamma", "FisherSnedecor"])
def test_expectations_differentiate(name):
    # d/dθ E f(x) by samples, against the same by the formula for the mean
    args = {
        "Gamma": {"concentration": A, "rate": B}, "Beta": {"concentration1": A, "concentration0": B},
        "Dirichlet": {"concentration": [0.7, 1.6, 3.2]}, "StudentT": {"df": [9.0], "loc": [0.3], "scale": [2.0]},
        "Chi2": {"df": A}, "InverseGamma": {"concentration": [6.0], "rate": [2.0]},
        "FisherSnedecor": {"df1": [5.0], "df2": [20.0]},
    }[name]  # fmt: skip
    d, params = build(chainrule, name, args, True)
    chainrule.manual_seed(0)
    n = 20000
    x = d.rsample((n,))
    assert x.requires_grad
    weights = chainrule.arange(1, d.mean.numel() + 1).double().reshape(tuple(d.mean.shape))
    found = chainrule.autograd.grad((x.mean(0) * weights).sum(), params, retain_graph=True)
    exact = chainrule.autograd.grad((d.mean * weights).sum(), params, allow_unused=True, materialize_grads=True)
    for g, e in zip(found, exact):
        np.testing.assert_allclose(g.numpy(), e.numpy(), atol=0.08, rtol=0.06)  # of the order of 1/√n


# --- divergences ----------------------------------------------------------------------------------------------------

KL = {
    "Bernoulli": {"probs": PROBS}, "Beta": {"concentration1": A, "concentration0": B},
    "Binomial": {"total_count": 4, "probs": PROBS}, "Categorical": {"probs": ROWS},
    "Cauchy": {"loc": LOGITS, "scale": A}, "ContinuousBernoulli": {"probs": [0.2, 0.5, 0.85]},
    "Dirichlet": {"concentration": [[0.7, 1.6, 3.2]]}, "Exponential": {"rate": A},
    "Gamma": {"concentration": A, "rate": B}, "Geometric": {"probs": PROBS}, "Gumbel": {"loc": LOGITS, "scale": A},
    "HalfNormal": {"scale": A}, "Laplace": {"loc": LOGITS, "scale": A}, "LogNormal": {"loc": LOGITS, "scale": A},
    "LowRankMultivariateNormal": {"loc": REAL, "cov_factor": [[0.3], [1.0], [-0.5]], "cov_diag": A},
    "MultivariateNormal": {"loc": LOGITS, "covariance_matrix": COV}, "Normal": {"loc": LOGITS, "scale": A},
    "OneHotCategorical": {"probs": ROWS}, "Pareto": {"scale": [0.2, 1.0, 2.0], "alpha": [1.5, 2.5, 3.0]},
    "Poisson": {"rate": A}, "Uniform": {"low": [0.1, 0.2, 0.3], "high": [0.5, 0.6, 0.9]},
    "Chi2": {"df": A}, "Weibull": {"scale": A, "concentration": B}, "StudentT": {"df": A},
}  # fmt: skip
OTHER = {"probs": [0.4, 0.3, 0.9], "loc": [0.1, 0.2, -0.3], "scale": [1.1, 0.8, 2.0], "rate": [0.5, 1.5, 2.0],
         "concentration1": [1.2, 0.4, 2.0], "low": [0.0, -1.0, 0.2], "high": [1.0, 2.0, 1.5]}  # fmt: skip


@pytest.mark.parametrize("p", list(KL))
def test_divergences_of_every_pair(p):
    for q, args in KL.items():
        if (p, q) == ("ContinuousBernoulli", "Uniform"):
            continue  # PyTorch says infinity although [0, 1] lies within; checked below
        second = {k: OTHER[k] if k in OTHER and np.shape(OTHER[k]) == np.shape(v) else v for k, v in args.items()}

        def run(lib, second=second, q=q):
            a, tensors = build(lib, p, KL[p], True)
            b, more = build(lib, q, second, True)
            value = lib.distributions.kl_divergence(a, b)
            return value, lib.autograd.grad(
                value.sum(), tensors + more, allow_unused=True, materialize_grads=True
            ) if value.requires_grad else ()  # fmt: skip

        ours, theirs = result(lambda run=run: run(chainrule)), result(lambda run=run: run(torch))
        if isinstance(theirs, type) or isinstance(ours, type):
            assert ours is theirs, (p, q)
            continue
        same(ours[0], theirs[0], rtol=1e-8)
        if bool(torch.isfinite(theirs[0]).all()):
            for u, v in zip(ours[1], theirs[1], strict=True):
                np.testing.assert_allclose(u.numpy(), v.numpy(), rtol=1e-6, atol=1e-9, err_msg=f"{p} {q}")


def test_divergence_of_the_continuous_bernoulli_from_uniform():
    d, t = chainrule.distributions, lambda v: chainrule.tensor(v, dtype=chainrule.float64)
    p = d.ContinuousBernoulli(t([0.2, 0.2]))
    found = d.kl_divergence(p, d.Uniform(t([-1.0, 0.5]), t([1.5, 2.0])))
    np.testing.assert_allclose(found.numpy(), [-p.entropy()[0].item() + np.log(2.5), np.inf], rtol=1e-12)


# --- transforms -----------------------------------------------------------------------------------------------------

SPREAD = [[0.3, -1.2, 0.8], [1.5, 0.1, -0.4]]
TRANSFORMS = {
    "Exp": (lambda d, t: d.ExpTransform(), SPREAD), "Sigmoid": (lambda d, t: d.SigmoidTransform(), SPREAD),
    "Tanh": (lambda d, t: d.TanhTransform(), SPREAD), "Softplus": (lambda d, t: d.SoftplusTransform(), SPREAD),
    "Power": (lambda d, t: d.PowerTransform(t([2.0, 0.5, -1.0])), [[0.3, 1.2, 0.8]]),
    "Affine": (lambda d, t: d.AffineTransform(t([1.0, 2.0, 3.0]), t([-1.0, 2.0, 0.5])), SPREAD),
    "Affine event": (lambda d, t: d.AffineTransform(1.0, t([-1.0, 2.0, 0.5]), event_dim=1), SPREAD),
    "Affine numbers": (lambda d, t: d.AffineTransform(1.0, -2.0), SPREAD),
    "StickBreaking": (lambda d, t: d.StickBreakingTransform(), SPREAD),
    "LowerCholesky": (lambda d, t: d.LowerCholeskyTransform(), [[0.3, 0.0], [1.5, 0.4]]),
    "CorrCholesky": (lambda d, t: d.CorrCholeskyTransform(), SPREAD),
    "Reshape": (lambda d, t: d.ReshapeTransform((2, 3), (6,)), SPREAD),
    "Compose": (lambda d, t: d.ComposeTransform([d.AffineTransform(0.5, 2.0), d.SigmoidTransform()]), SPREAD),
    "Compose ranks": (lambda d, t: d.ComposeTransform([d.ExpTransform(), d.StickBreakingTransform()]), SPREAD),
    "Independent": (lambda d, t: d.IndependentTransform(d.ExpTransform(), 1), SPREAD),
    "Cat": (lambda d, t: d.CatTransform([d.ExpTransform(), d.identity_transform], dim=-1, lengths=[1, 2]), SPREAD),
    "Stack": (lambda d, t: d.StackTransform([d.ExpTransform(), d.TanhTransform()], dim=0), SPREAD),
    "CDF": (lambda d, t: d.CumulativeDistributionTransform(d.Normal(t(0.5), t(2.0))), SPREAD),
    "Inverse": (lambda d, t: d.ExpTransform().inv, [[0.3, 1.2, 0.8]]),
    "Cached": (lambda d, t: d.ExpTransform(cache_size=1), SPREAD),
}  # fmt: skip


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_transforms(name):
    make, values = TRANSFORMS[name]

    def run(lib):
        tensor = lambda v: lib.tensor(v, dtype=lib.float64)
        t, x = make(lib.distributions, tensor), lib.tensor(values, dtype=lib.float64, requires_grad=True)
        y = t(x)
        det = result(lambda: t.log_abs_det_jacobian(x, y))
        det = lib.zeros(()) if isinstance(det, type) else det
        back = t.inv(y.detach())
        (g,) = lib.autograd.grad((y**2).sum() + det.sum(), x)
        shapes = tuple(t.forward_shape(x.shape)), tuple(t.inverse_shape(y.shape))
        facts = shapes, t.bijective, t.domain.event_dim, t.codomain.event_dim, bool(t == t), bool(t.inv.inv == t)
        assert t.codomain.check(y).all()
        sign = result(lambda: lib.as_tensor(t.sign).tolist())
        return (y, det, back, g), (*facts, sign)

    (ours, facts), (theirs, expected) = run(chainrule), run(torch)
    assert facts == expected
    for a, b in zip(ours, theirs):
        same(a, b, rtol=1e-9)


CONSTRAINTS = {
    "real": lambda c, t: c.real, "positive": lambda c, t: c.positive, "nonnegative": lambda c, t: c.nonnegative,
    "greater_than": lambda c, t: c.greater_than(t(-1.0)), "less_than": lambda c, t: c.less_than(t(2.0)),
    "unit_interval": lambda c, t: c.unit_interval, "interval": lambda c, t: c.interval(t(-1.0), t(3.0)),
    "half_open_interval": lambda c, t: c.half_open_interval(0.0, 2.0), "simplex": lambda c, t: c.simplex,
    "real_vector": lambda c, t: c.real_vector, "lower_cholesky": lambda c, t: c.lower_cholesky,
    "corr_cholesky": lambda c, t: c.corr_cholesky, "positive_definite": lambda c, t: c.positive_definite,
    "independent": lambda c, t: c.independent(c.positive, 1),
    "cat": lambda c, t: c.cat([c.positive, c.real], dim=-1, lengths=[1, 2]),
    "stack": lambda c, t: c.stack([c.positive, c.unit_interval, c.real], dim=-1),
    "boolean": lambda c, t: c.boolean, "one_hot": lambda c, t: c.one_hot,
}  # fmt: skip


@pytest.mark.parametrize("name", list(CONSTRAINTS))
@pytest.mark.parametrize("registry", ["biject_to", "transform_to"])
def test_registries(registry, name):
    values = [[0.3, 0.2, 0.1], [1.5, 0.1, -0.4], [0.2, 0.5, 0.7]]

    def run(lib):
        tensor = lambda v: lib.tensor(v, dtype=lib.float64)
        constraint = CONSTRAINTS[name](lib.distributions.constraints, tensor)
        y = getattr(lib.distributions, registry)(constraint)(tensor(values))
        assert constraint.check(y).all()
        return y, repr(constraint), constraint.check(tensor(values)).tolist()

    ours, theirs = result(lambda: run(chainrule)), result(lambda: run(torch))
    if isinstance(theirs, type):
        assert ours is theirs
        return
    same(ours[0], theirs[0])
    assert ours[1:] == theirs[1:]


def test_the_registry_can_be_taught():
    class Even(chainrule.distributions.constraints.Constraint):
        def check(self, value):
            return value % 2 == 0

    chainrule.distributions.transform_to.register(Even, lambda c: chainrule.distributions.AffineTransform(0.0, 2.0))
    assert chainrule.distributions.transform_to(Even())(chainrule.tensor([1.0])).tolist() == [2.0]
    with pytest.raises(TypeError, match="Expected constraint to be either a Constraint subclass or instance"):
        chainrule.distributions.transform_to.register(3, lambda c: c)


# --- composite distributions ----------------------------------------------------------------------------------------


def test_transformed_independent_and_mixtures():
    def run(lib):
        d, t = lib.distributions, lambda v: lib.tensor(v, dtype=lib.float64)
        base = d.Normal(t(LOGITS), t(A))
        moved = d.TransformedDistribution(base, [d.AffineTransform(t(1.0), t(-2.0)), d.SigmoidTransform()])
        vector = d.TransformedDistribution(base, d.StickBreakingTransform())
        tril = d.TransformedDistribution(d.Normal(t(0.0), t(1.0)).expand((3,)), d.CorrCholeskyTransform())
        block = d.Independent(d.Gamma(t(A), t(B)), 1)
        mixture = d.MixtureSameFamily(d.Categorical(probs=t(ROWS[0])), d.Normal(t(LOGITS), t(A)))
        x, y, s = t(UNIT), t(POSITIVE), t([0.2, 0.3, 0.1, 0.4])
        out = [
            moved.log_prob(x), moved.cdf(x), moved.icdf(x), vector.log_prob(s), tril.log_prob(t(CORR)),
            block.log_prob(y), block.entropy(), block.mean, block.mode, block.expand((2,)).log_prob(y),
            mixture.log_prob(t(0.4)), mixture.cdf(t(0.4)), mixture.mean, mixture.variance,
            mixture.expand((2,)).log_prob(t(0.4)), moved.expand((2, 3)).log_prob(x),
        ]  # fmt: skip
        words = [repr(moved), repr(block), repr(vector.support), repr(block.support), repr(mixture.support)]
        shapes = [tuple(v) for e in (moved, vector, tril, block, mixture) for v in (e.batch_shape, e.event_shape)]
        return out, words, shapes

    (ours, words, shapes), (theirs, expected, others) = run(chainrule), run(torch)
    assert shapes == others
    assert [w.split("(")[0] for w in words] == [w.split("(")[0] for w in expected]
    for a, b in zip(ours, theirs):
        same(a, b)


# --- words ----------------------------------------------------------------------------------------------------------

WRONG = {
    "parameter": lambda d, t: d.Normal(t([0.0, 1.0]), t([1.0, -1.0])),
    "value type": lambda d, t: d.Normal(t(0.0), t(1.0)).log_prob(1.0),
    "value support": lambda d, t: d.Exponential(t(1.0)).log_prob(t(-1.0)),
    "value event": lambda d, t: d.Dirichlet(t([1.0, 2.0])).log_prob(t([0.1, 0.2, 0.7])),
    "value batch": lambda d, t: d.Normal(t([0.0, 1.0]), t(1.0)).log_prob(t([0.0, 1.0, 2.0])),
    "uniform": lambda d, t: d.Uniform(t(1.0), t(0.0)), "both": lambda d, t: d.Bernoulli(t(0.5), t(0.5)),
    "neither": lambda d, t: d.Categorical(), "scalar": lambda d, t: d.Dirichlet(t(1.0)),
    "mvn": lambda d, t: d.MultivariateNormal(t([0.0])), "number": lambda d, t: d.Normal("a", t(1.0)),
    "kl": lambda d, t: d.kl_divergence(d.Normal(t(0.0), t(1.0)), d.Poisson(t(1.0))),
    "independent": lambda d, t: d.Independent(d.Normal(t(0.0), t(1.0)), 1),
    "rsample": lambda d, t: d.Poisson(t(1.0)).rsample(), "cdf": lambda d, t: d.Poisson(t(1.0)).cdf(t(1.0)),
    "mode": lambda d, t: d.RelaxedBernoulli(t(1.0), t(0.5)).mode, "lkj": lambda d, t: d.LKJCholesky(1),
    "transforms": lambda d, t: d.TransformedDistribution(d.Normal(t(0.0), t(1.0)), [1]),
    "registry": lambda d, t: d.biject_to(d.constraints.boolean), "cache": lambda d, t: d.ExpTransform(cache_size=2),
    "wishart": lambda d, t: d.Wishart(t(1.0), t([[1.0, 0.0], [0.0, 1.0]])),
    "mixture": lambda d, t: d.MixtureSameFamily(d.Categorical(t([0.5, 0.5])), d.Normal(t([0.0]), t(1.0))),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WRONG))
def test_errors(name):
    with pytest.raises(Exception) as theirs:
        WRONG[name](torch.distributions, torch.tensor)
    with pytest.raises(theirs.type) as ours:
        WRONG[name](chainrule.distributions, chainrule.tensor)
    plain = lambda e: str(e.value).split("\n")[0].replace("chainrule", "torch").split(" object at")[0]
    assert plain(ours)[:50].split("torch.distributions")[0] == plain(theirs)[:50].split("torch.distributions")[0]


def test_every_name_is_here():
    listed = [n for n in torch.distributions.__all__ if not n.startswith("_")]
    assert [n for n in listed if not hasattr(chainrule.distributions, n)] == []
    for name in listed:
        kind = getattr(torch.distributions, name)
        if inspect.isclass(kind):
            wanted = list(inspect.signature(kind.__init__).parameters)
            have = list(inspect.signature(getattr(chainrule.distributions, name).__init__).parameters)
            assert have[: len(wanted)] == wanted, name


def test_validation_can_be_switched_off():
    d = chainrule.distributions
    chainrule.distributions.Normal(0.0, -1.0, validate_args=False)
    try:
        d.Distribution.set_default_validate_args(False)
        d.Normal(0.0, -1.0)
    finally:
        d.Distribution.set_default_validate_args(True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="sample_n will be deprecated"):
            d.Normal(0.0, 1.0).sample_n(2)
