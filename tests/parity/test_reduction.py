"""Reductions, running sums and order statistics against PyTorch: axes, keepdim, dtypes, ties, empty and NaN."""

# ruff: noqa: B023 - every lambda is called within the turn of the loop that makes it

from __future__ import annotations

import itertools
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

import chainrule

sys.path.insert(0, str(Path(__file__).parent))
from pairs import compare

INTEGERS = (np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_)
SHAPES = ((), (1,), (5,), (3, 4), (2, 1, 3), (2, 3, 2, 2), (0,), (2, 0, 3))


@pytest.fixture(autouse=True)
def _no_torch_warnings():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(std|var)")  # degrees of freedom <= 0
        yield


def rng(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def dims(ndim):
    """None, every axis, negative ones, and pairs."""
    n = max(ndim, 1)
    return [None, *range(-n, n), *itertools.combinations(range(ndim), 2), *([tuple(range(ndim))] if ndim else [])]


OVER_MANY = [
    "sum",
    "mean",
    "var",
    "std",
    "amax",
    "amin",
    "logsumexp",
    "norm",
    "any",
    "all",
    "nansum",
    "nanmean",
    "count_nonzero",
]
OVER_ONE = ["prod", "argmax", "argmin", "max", "min", "median", "nanmedian"]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=str)
@pytest.mark.parametrize("name", OVER_MANY)
def test_over_axes(name, dtype):
    r = rng(name)
    for shape in SHAPES:
        a = np.asarray(r.normal(size=shape)).astype(dtype)
        for dim in dims(len(shape)):
            keeps = (False, True) if name != "count_nonzero" else (None,)
            for keep in keeps:

                def call(M, x, dim=dim, keep=keep):
                    f = getattr(M, name)
                    if name == "norm":
                        return f(x, 2, dim, bool(keep))
                    if keep is None:
                        return f(x, dim)
                    if dim is None and name in ("amax", "amin"):
                        return f(x, keepdim=keep)
                    if dim is None:
                        return f(x) if name != "logsumexp" else f(x, tuple(range(x.ndim)) or 0, keep)
                    return f(x, dim, keepdim=keep)

                compare(call, [a], f"{name} {shape} dim={dim} keepdim={keep}", ulps=32)


@pytest.mark.parametrize("name", OVER_ONE)
def test_over_one_axis(name):
    r = rng(name)
    for shape in SHAPES:
        a = np.asarray(r.normal(size=shape))
        compare(lambda M, x: getattr(M, name)(x), [a], f"{name} {shape}", ulps=32)
        for dim, keep in itertools.product(range(-max(len(shape), 1), max(len(shape), 1)), (False, True)):
            compare(lambda M, x, d=dim, k=keep: getattr(M, name)(x, d, k), [a], f"{name} {shape} {dim} {keep}", ulps=32)


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", [*OVER_MANY, *OVER_ONE])
def test_of_integers(name, dtype):
    a = np.array([[1, 0, 2], [3, 1, 0]]).astype(dtype)
    for arguments in ((), (1,), (0, True)):
        if (
            name == "norm"
            or (name == "logsumexp" and not arguments)
            or (name == "count_nonzero" and len(arguments) > 1)
        ):
            continue
        if dtype is np.bool_ and name in ("median", "nanmedian", "max", "min") and arguments:
            continue  # indices of equal bools are arbitrary in PyTorch
        compare(lambda M, x, g=arguments: getattr(M, name)(x, *g), [a], f"{name} {dtype.__name__} {arguments}", ulps=32)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "cumsum", "cumprod", "norm"])
def test_dtype_argument(name):
    for source, target in itertools.product((np.float32, np.int64, np.bool_), ("float64", "float32", "int64")):
        if target == "int64" and (name in ("mean", "norm") or source is np.float32):
            continue  # from floating point PyTorch does so only without gradients
        if name == "norm" and (source is not np.float32 or target == "float32"):
            continue
        a = np.array([[1, 0, 2], [3, 1, 1]]).astype(source)
        extra = (0,) if name.startswith("cum") else ()
        compare(
            lambda M, x, t=target: getattr(M, name)(x, *extra, dtype=getattr(M, t)), [a], f"{name} {source} {target}"
        )


@pytest.mark.parametrize("name", ["max", "min", "amax", "amin"])
def test_ties(name):
    a = np.array([[1.0, 3.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    compare(lambda M, x: getattr(M, name)(x), [a], f"{name} ties")
    compare(
        lambda M, x: getattr(M, name)(x, 0)[0] if name in ("max", "min") else getattr(M, name)(x, 1),
        [a],
        f"{name} ties",
    )


@pytest.mark.parametrize(
    "name",
    [
        "sum",
        "mean",
        "max",
        "min",
        "amax",
        "amin",
        "argmax",
        "argmin",
        "median",
        "nanmedian",
        "nansum",
        "nanmean",
        "logsumexp",
        "prod",
        "var",
    ],
)
def test_nan_and_infinity(name):
    a = np.array([[1.0, np.nan, 3.0], [np.inf, 2.0, 0.0], [-np.inf, 1.0, -np.inf], [-np.inf, -np.inf, -np.inf]])
    order = 1 if name in ("sum", "mean", "nansum", "nanmean", "logsumexp", "median", "nanmedian") else 0
    compare(lambda M, x: getattr(M, name)(x, 1), [a], f"{name} special", order=order)


def test_products_with_zeros():
    for row in ([0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [5.0]):
        a = np.array([row, row[::-1]])
        compare(lambda M, x: M.prod(x, 1), [a], f"prod {row}")
        compare(lambda M, x: x.prod(), [a], f"prod all {row}")
        compare(lambda M, x: M.cumprod(x, 1), [a], f"cumprod {row}")


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, 4, np.inf, -np.inf, -1, "fro", None], ids=str)
def test_norms(p):
    r = rng("norm")
    for shape in ((), (5,), (3, 4), (2, 3, 2)):
        a = np.asarray(r.normal(size=shape))
        order = 0 if p == 0 else 2  # PyTorch gives no gradient for p = 0, here it is zeros
        compare(lambda M, x: M.norm(x, p), [a], f"norm {p} {shape}", ulps=64, order=order)
        if p != "fro":
            for dim in dims(len(shape))[1:]:
                compare(lambda M, x, d=dim: x.norm(p, d), [a], f"norm {p} {shape} {dim}", ulps=64, order=order)
    if p not in (0, -1, -np.inf):
        compare(lambda M, x: M.norm(x, p), [np.zeros(3)], f"norm {p} of zeros", order=1)


def test_spread_forms():
    a = rng("spread").normal(size=(3, 4))
    for name in ("var", "std"):
        for call in (
            lambda M, x: getattr(M, name)(x, False),
            lambda M, x: getattr(M, name)(x, 0, False),
            lambda M, x: getattr(M, name)(x, 1, True, True),
            lambda M, x: getattr(M, name)(x, dim=1, correction=0),
            lambda M, x: getattr(M, name)(x, correction=2),
            lambda M, x: getattr(x, name)(dim=(0, 1), unbiased=False),
            lambda M, x: getattr(M, name + "_mean")(x, 1),
            lambda M, x: getattr(M, name + "_mean")(x, dim=0, correction=0, keepdim=True),
            lambda M, x: getattr(M, name)(x, 1, correction=4),
            lambda M, x: getattr(M, name)(x[:1], 0),
        ):
            compare(call, [a], name)
        compare(lambda M, x: getattr(M, name)(x, 0), [np.ones((3, 2))], f"{name} of equal entries", order=1)


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"])
def test_running(name):
    r = rng(name)
    for shape in SHAPES:
        a = np.asarray(r.normal(size=shape))
        for dim in range(-max(len(shape), 1), max(len(shape), 1)):
            compare(lambda M, x, d=dim: getattr(M, name)(x, d), [a], f"{name} {shape} {dim}", ulps=64)
    if name != "logcumsumexp":
        for dtype in INTEGERS[:-1]:
            compare(lambda M, x: getattr(M, name)(x, 0), [np.array([3, 1, 3, 2, 3]).astype(dtype)], f"{name} {dtype}")
    compare(lambda M, x: getattr(M, name)(x, 0), [np.array([1.0, np.nan, 3.0, 2.0])], f"{name} nan", order=0)


@pytest.mark.parametrize("name", ["mode", "kthvalue"])
def test_order_statistics(name):
    r = rng(name)
    for shape in ((), (5,), (3, 4), (2, 3, 5)):
        a = np.asarray(r.permutation(int(np.prod(shape))).reshape(shape) * 1.0)
        for dim, keep in itertools.product(range(-max(len(shape), 1), max(len(shape), 1)), (False, True)):
            extra = (1,) if name == "kthvalue" else ()
            compare(lambda M, x, d=dim, k=keep: getattr(M, name)(x, *extra, d, k), [a], f"{name} {shape} {dim} {keep}")
    compare(lambda M, x: M.mode(x)[0], [np.array([[1, 2, 2, 3, 3], [5, 4, 4, 4, 1]])], "mode")


@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "nearest", "midpoint"])
@pytest.mark.parametrize("name", ["quantile", "nanquantile"])
def test_quantiles(name, interpolation):
    r = rng(name)
    for shape in ((), (5,), (3, 4), (2, 3, 5)):
        a = np.asarray(r.normal(size=shape))
        for dim, keep in itertools.product((None, *range(len(shape))), (False, True)):
            for q in (0.0, 0.3, 1.0, [0.1, 0.5], [0.25]):
                compare(
                    lambda M, x, q=q, d=dim, k=keep: getattr(M, name)(
                        x,
                        q if isinstance(q, float) else M.tensor(q, dtype=M.float64),
                        d,
                        k,
                        interpolation=interpolation,
                    ),
                    [a],
                    f"{name} {shape} {q} {dim} {keep} {interpolation}",
                    ulps=64,
                )
    compare(
        lambda M, x: getattr(M, name)(x, 0.4, 1, interpolation=interpolation),
        [np.array([[1.0, np.nan, 3.0], [4.0, 5.0, 7.0]])],
        name,
        order=1,
    )


def test_counting():
    r = rng("count")
    i, w = r.integers(0, 6, 12), r.random(12)
    compare(lambda M, x: M.bincount(x), [i], "bincount")
    compare(lambda M, x: M.bincount(x, minlength=9), [i], "bincount")
    compare(lambda M, x, w: M.bincount(x, w.detach()), [i, w], "bincount weights")
    compare(lambda M, x: M.histc(x.detach(), 4, 0.1, 0.9), [w], "histc")
    compare(lambda M, x: M.histc(x.detach(), 5), [w], "histc")
    compare(lambda M, s, v: M.searchsorted(s.detach(), v.detach()), [np.sort(w), r.random((2, 3))], "searchsorted")
    compare(
        lambda M, s, v: M.searchsorted(s.detach(), v.detach(), right=True),
        [np.sort(r.random((2, 5))), r.random((2, 3))],
        "rows",
    )
    compare(lambda M, s, v: M.bucketize(v.detach(), s.detach()), [np.sort(w), r.random((2, 3))], "bucketize")


def test_covariance_and_integrals():
    a, x = rng("cov").normal(size=(3, 6)), np.sort(rng("x").random(6))
    compare(lambda M, a: M.cov(a), [a], "cov", ulps=64)
    compare(lambda M, a: M.cov(a, correction=0), [a], "cov", ulps=64)
    compare(lambda M, a: M.cov(a), [a[0]], "cov 1-d", ulps=64)
    compare(lambda M, a: M.corrcoef(a), [a], "corrcoef", ulps=64)
    for dim in (0, 1, -1):
        compare(lambda M, a, d=dim: M.trapezoid(a, dx=0.5, dim=d), [a], "trapezoid")
        compare(lambda M, a, d=dim: M.cumulative_trapezoid(a, dim=d), [a], "cumulative")
    compare(lambda M, a, x: M.trapezoid(a, x), [a, x], "trapezoid x")
    compare(lambda M, a: M.renorm(a, 2, 0, 1.0), [a], "renorm", order=1)


def test_method_forms():
    a = rng("forms").normal(size=(2, 3, 4))
    for call in (
        lambda M, x: x.sum(0, True),
        lambda M, x: x.sum((0, 1)),
        lambda M, x: x.sum([0, -1]),
        lambda M, x: x.sum(dim=()),
        lambda M, x: x.mean(axis=1),
        lambda M, x: x.max(dim=1, keepdim=True).values,
        lambda M, x: x.min(-1).indices,
        lambda M, x: M.max(x, x * 2),
        lambda M, x: M.sum(input=x, dim=1),
        lambda M, x: x.std(),
        lambda M, x: x.aminmax(),
        lambda M, x: x.aminmax(dim=1),
        lambda M, x: x.argmax(),
        lambda M, x: x.argmax(keepdim=True),
        lambda M, x: x.all(),
        lambda M, x: x.any(1),
        lambda M, x: x.norm(),
        lambda M, x: x.norm(dim=1),
        lambda M, x: x.norm(1, 0, True),
    ):
        compare(call, [a], "method form", ulps=32)
    assert chainrule.max(chainrule.arange(3), 0)._fields == ("values", "indices")
