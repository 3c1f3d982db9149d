"""Elementwise functions against PyTorch: many shapes, dtypes and special values; gradients and second derivatives."""

# ruff: noqa: B023 - every lambda is called within the turn of the loop that makes it

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule
import chainrule.nn.functional

sys.path.insert(0, str(Path(__file__).parent))
from pairs import BROADCASTS, assert_same, both, compare, layouts

F = chainrule.nn.functional
FLOATS = (np.float32, np.float64)
INTEGERS = (np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_)

UNARY = {
    "exp": (-2, 2), "exp2": (-2, 2), "expm1": (-2, 2), "log": (0.2, 3), "log2": (0.2, 3), "log10": (0.2, 3),
    "log1p": (-0.7, 3), "sqrt": (0.2, 3), "rsqrt": (0.2, 3), "square": (-2, 2), "reciprocal": (0.3, 3),
    "sigmoid": (-4, 4), "tanh": (-2, 2), "relu": (-2, 2), "abs": (-2, 2), "neg": (-2, 2), "sign": (-2, 2),
    "sgn": (-2, 2), "floor": (-3, 3), "ceil": (-3, 3), "trunc": (-3, 3), "frac": (-3, 3), "round": (-3, 3),
    "sin": (-3, 3), "cos": (-3, 3), "tan": (-1.2, 1.2), "asin": (-0.9, 0.9), "acos": (-0.9, 0.9), "atan": (-3, 3),
    "sinh": (-2, 2), "cosh": (-2, 2), "asinh": (-2, 2), "acosh": (1.2, 3), "atanh": (-0.9, 0.9), "sinc": (0.1, 2),
    "deg2rad": (-180, 180), "rad2deg": (-3, 3), "erf": (-2, 2), "erfc": (-2, 2), "erfinv": (-0.9, 0.9),
    "lgamma": (0.3, 4), "digamma": (0.5, 4), "i0": (-2, 2), "logit": (0.1, 0.9), "positive": (-2, 2),
    "nan_to_num": (-2, 2), "signbit": (-2, 2), "logical_not": (-2, 2), "isnan": (-2, 2), "isinf": (-2, 2),
    "isfinite": (-2, 2), "isposinf": (-2, 2), "isneginf": (-2, 2), "absolute": (-2, 2), "arcsin": (-0.9, 0.9),
}  # fmt: skip
# SciPy's and PyTorch's special functions agree to some tens of units in the last place; PyTorch's second derivative of
# lgamma is a series that is good to 1e-9 in float64.
LOOSE = {"erfinv": 64, "lgamma": 64, "digamma": 64, "i0": 64, "sinc": 64, "acosh": 64, "tan": 32}
ORDER = {("lgamma", np.float64): 1, ("digamma", np.float64): 0}
SPECIAL = np.array(
    [-0.0, 0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -1.5, np.inf, -np.inf, np.nan, 1e-30, 1e30, -3.0, 20.0, 21.0]
)

BINARY = {
    "add": ((-2, 2), (-2, 2)), "sub": ((-2, 2), (-2, 2)), "mul": ((-2, 2), (-2, 2)), "div": ((-2, 2), (0.5, 2)),
    "pow": ((0.3, 2), (-2, 2)), "atan2": ((-2, 2), (0.3, 2)), "hypot": ((0.3, 2), (-2, 2)), "maximum": ((-2, 2), (-2, 2)),  # noqa: E501
    "minimum": ((-2, 2), (-2, 2)), "fmax": ((-2, 2), (-2, 2)), "fmin": ((-2, 2), (-2, 2)),
    "logaddexp": ((-2, 2), (-2, 2)), "logaddexp2": ((-2, 2), (-2, 2)), "copysign": ((0.3, 2), (-2, -0.3)),
    "xlogy": ((-2, 2), (0.3, 2)), "fmod": ((-4, 4), (0.7, 2)), "remainder": ((-4, 4), (0.7, 2)),
    "floor_divide": ((-4, 4), (0.7, 2)), "eq": ((-2, 2), (-2, 2)), "ne": ((-2, 2), (-2, 2)), "lt": ((-2, 2), (-2, 2)),
    "le": ((-2, 2), (-2, 2)), "gt": ((-2, 2), (-2, 2)), "ge": ((-2, 2), (-2, 2)), "logical_and": ((-2, 2), (-2, 2)),
    "logical_or": ((-2, 2), (-2, 2)), "logical_xor": ((-2, 2), (-2, 2)), "float_power": ((0.3, 2), (-2, 2)),
    "true_divide": ((-2, 2), (0.5, 2)),
    "ldexp": ((-2, 2), (-2, 2)), "rsub": ((-2, 2), (-2, 2)),
}  # fmt: skip

ACTIVATIONS = {
    "relu": [{}], "leaky_relu": [{}, {"negative_slope": 0.3}], "elu": [{}, {"alpha": 0.7}], "selu": [{}],
    "celu": [{}, {"alpha": 1.7}], "gelu": [{}, {"approximate": "tanh"}], "silu": [{}], "mish": [{}],
    "softplus": [{}, {"beta": 2.0}, {"beta": 1, "threshold": 1.0}], "hardtanh": [{}, {"min_val": -0.3, "max_val": 0.8}],
    "relu6": [{}], "hardsigmoid": [{}], "hardswish": [{}], "softshrink": [{}, {"lambd": 0.2}],
    "hardshrink": [{}, {"lambd": 0.2}], "tanhshrink": [{}], "softsign": [{}], "logsigmoid": [{}],
    "threshold": [{"threshold": 0.1, "value": 20.0}], "rrelu": [{}], "sigmoid": [{}], "tanh": [{}],
}  # fmt: skip


def rng(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, dtype):
    for shape, a in layouts(rng(name), *UNARY[name], dtype).items():
        order = ORDER.get((name, dtype), 2)
        compare(lambda M, x: getattr(M, name)(x), [a], f"{name} {shape}", ulps=LOOSE.get(name, 16), order=order)


@pytest.mark.parametrize("name", UNARY)
def test_unary_special_values(name):
    for dtype in FLOATS:
        a = SPECIAL.astype(dtype)
        if name == "logit":  # at −0 PyTorch's slope is ∞ in float32 and −∞ in float64
            a = a[1:]
        if name == "relu":  # at NaN PyTorch passes the gradient on; the rule ȳ · [y > 0] does not
            a = a[~np.isnan(a)]
        order = 0 if name == "digamma" else 1  # PyTorch's trigamma is not to be relied on at its poles
        compare(lambda M, x: getattr(M, name)(x), [a], f"{name} special", ulps=LOOSE.get(name, 32), order=order)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", UNARY)
def test_unary_of_integers(name, dtype):
    a = np.array([0, 1, 1, 0]).astype(dtype) if dtype is np.bool_ else np.array([1, 2, 3, 5]).astype(dtype)
    compare(lambda M, x: getattr(M, name)(x), [a], f"{name} {dtype.__name__}", ulps=LOOSE.get(name, 32))


@pytest.mark.parametrize("name", UNARY)
def test_unary_half(name):
    a = rng(name).uniform(*UNARY[name], 9).astype(np.float16)
    compare(lambda M, x: getattr(M, name)(x), [a], f"{name} half", ulps=4, order=1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, dtype):
    r = rng(name)
    for s, t in BROADCASTS:
        a, b = (np.asarray(r.uniform(*limits, shape)).astype(dtype) for limits, shape in zip(BINARY[name], (s, t)))
        compare(lambda M, x, y: getattr(M, name)(x, y), [a, b], f"{name} {s} {t}")
        if s == t and a.ndim:
            compare(lambda M, x, y: getattr(M, name)(x, y), [a, a.copy()], f"{name} equal {s}", order=1)


@pytest.mark.parametrize("name", BINARY)
def test_binary_special_values(name):
    a, b = (m.ravel().copy() for m in np.meshgrid(SPECIAL[:13], SPECIAL[:13]))
    compare(lambda M, x, y: getattr(M, name)(x, y), [a, b], f"{name} special", order=1)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", BINARY)
def test_binary_of_integers(name, dtype):
    low = -9 if np.dtype(dtype).kind == "i" else 0
    a = np.array([low, 0, 3, 7, 8]).astype(dtype)
    b = np.array([2, 3, 1, 5, 3]).astype(dtype)
    compare(lambda M, x, y: getattr(M, name)(x, y), [a, b], f"{name} {dtype.__name__}")


@pytest.mark.parametrize("name", ["heaviside", "nextafter"])
def test_binary_without_derivative(name):
    r = rng(name)
    for s, t in BROADCASTS:
        a, b = np.asarray(np.round(r.normal(size=s), 1)), np.asarray(r.normal(size=t))
        compare(lambda M, x, y: getattr(M, name)(x.detach(), y.detach()), [a, b], f"{name} {s} {t}")
    compare(lambda M, x, y: getattr(M, name)(x, y), [np.array([0, 1]), np.array([1, 2])], f"{name} int")


@pytest.mark.parametrize(
    "name", ["bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift", "gcd", "lcm"]
)
def test_bits(name):
    for dtype in INTEGERS:
        a, b = np.array([0, 1, 6, 7]).astype(dtype), np.array([1, 0, 3, 2]).astype(dtype)
        compare(lambda M, x, y: getattr(M, name)(x, y), [a, b], f"{name} {dtype.__name__}")


NUMBERS = (0, 1, 2, 3, -1, -2, 0.5, -0.5, 2.0, 1.7, True)


@pytest.mark.parametrize(
    "name",
    [
        "add",
        "sub",
        "mul",
        "div",
        "pow",
        "remainder",
        "fmod",
        "floor_divide",
        "eq",
        "lt",
        "ge",
        "copysign",
        "xlogy",
        "float_power",
    ],
)
@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_with_a_number(name, number):
    if number is True and name == "sub":
        number = 4  # PyTorch refuses to subtract True from any tensor; here True is 1
    for dtype in (*FLOATS, *INTEGERS):
        a = (
            rng(name).uniform(0.3, 2, 4).astype(dtype)
            if np.dtype(dtype).kind == "f"
            else np.array([1, 2, 0, 3]).astype(dtype)
        )
        compare(lambda M, x: getattr(M, name)(x, number), [a], f"{name}({dtype.__name__}, {number})")


@pytest.mark.parametrize("symbol", ["+", "-", "*", "/", "**", "//", "%", "==", "<", "&", "|", "^"])
@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_operators_with_a_number_on_the_left(symbol, number):
    if number is True and symbol in ("**", "-"):
        number = 1  # PyTorch itself fails on True ** x, and refuses True − x, which here is 1 − x
    for dtype in (*FLOATS, *INTEGERS):
        a = (
            rng(symbol).uniform(0.3, 2, 4).astype(dtype)
            if np.dtype(dtype).kind == "f"
            else np.array([1, 2, 4, 3]).astype(dtype)
        )
        compare(lambda M, x: eval(f"number {symbol} x", {"number": number, "x": x}), [a], f"{number} {symbol} {dtype}")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    torch_f = {chainrule: F, torch: torch.nn.functional}
    for options in ACTIVATIONS[name]:
        # PyTorch's hardsigmoid has 1/6 in single precision, also for float64
        # and so has celu 1/alpha
        for dtype in FLOATS if name not in ("hardsigmoid", "celu") else (np.float32,):
            for shape, a in layouts(rng(name), -4, 4, dtype).items():
                compare(lambda M, x: getattr(torch_f[M], name)(x, **options), [a], f"{name} {options} {shape}", ulps=32)
            edges = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, 0.1, 0.2, 50.0, -50.0, 0.8, -0.3]).astype(
                dtype
            )
            compare(lambda M, x: getattr(torch_f[M], name)(x, **options), [edges], f"{name} {options} edges", ulps=32)


def test_prelu_and_glu():
    r = rng("prelu")
    for shape, n in (((4,), 1), ((2, 3), 3), ((2, 3, 4), 3), ((2, 3, 2, 2), 1)):
        x, w = r.normal(size=shape), r.uniform(0.1, 0.5, n)
        compare(lambda M, x, w: M.prelu(x, w), [x, w], f"prelu {shape}")
    for dim in (0, -1, 1):
        compare(
            lambda M, x: (F if M is chainrule else torch.nn.functional).glu(x, dim),
            [r.normal(size=(4, 2, 6))],
            f"glu {dim}",
        )


@pytest.mark.parametrize("limits", [(-0.5, 0.5), (None, 0.3), (-0.2, None), (0.5, -0.5), (0, 1), (0.0, 0.0)], ids=str)
def test_clamp(limits):
    r = rng("clamp")
    for dtype in (*FLOATS, np.int64, np.int32):
        a = (r.normal(size=(3, 4)) * 2).astype(dtype)
        compare(lambda M, x: M.clamp(x, *limits), [a], f"clamp {limits}")
        compare(lambda M, x: x.clamp(min=limits[0], max=limits[1]), [a], f"clamp {limits}")
    x = np.array([-0.5, 0.5, 0.0, np.nan, 0.3, -0.2])
    compare(lambda M, x: M.clamp(x, *limits), [x], f"clamp at the limits {limits}")
    low, high = (None if v is None else np.full((1,), float(v)) for v in limits)
    compare(
        lambda M, x, *rest: M.clamp(x, *(rest[0] if low is not None else None, rest[-1] if high is not None else None)),
        [r.normal(size=(3, 4)), *(v for v in (low, high) if v is not None)],
        f"clamp tensors {limits}",
    )


def test_where_and_masked_fill():
    r = rng("where")
    for s, t, u in (((3,), (3,), (3,)), ((2, 1), (3,), ()), ((), (2,), (2, 2)), ((0,), (1,), (1,))):
        c = r.random(s) > 0.5
        compare(
            lambda M, x, y: M.where(M.from_numpy(np.asarray(c)), x, y),
            [np.asarray(r.normal(size=t)), np.asarray(r.normal(size=u))],
            "where",
        )
    c = np.array([True, False, True])
    for x in (1, 2.5, True):
        for dtype in (*FLOATS, np.float16, *INTEGERS):
            y = np.array([1, 0, 1]).astype(dtype)
            compare(lambda M, y: M.where(M.from_numpy(c), x, y), [y], f"where {x} {dtype}")
            compare(lambda M, y: y.masked_fill(M.from_numpy(c), x), [y], f"masked_fill {x} {dtype}", same_error=False)
    compare(lambda M, x, v: x.masked_fill(M.from_numpy(c), v), [r.normal(size=(2, 3)), np.asarray(2.0)], "masked_fill")
    compare(lambda M, x: x.masked_fill(M.from_numpy(c), -np.inf), [r.normal(size=(2, 3))], "masked_fill")


def test_three_operands():
    r = rng("three")
    x, y, z = r.normal(size=(2, 3)), r.normal(size=3), r.uniform(0.5, 1, (2, 1))
    for value in (1, 0.5, 2):
        compare(lambda M, a, b, c: M.addcmul(a, b, c, value=value), [x, y, z], "addcmul")
        compare(lambda M, a, b, c: M.addcdiv(a, b, c, value=value), [x, y, z], "addcdiv")
        compare(lambda M, a, b: M.add(a, b, alpha=value), [x, y], "add")
        compare(lambda M, a, b: M.sub(a, b, alpha=value), [x, y], "sub")
        compare(lambda M, a, b: a.lerp(b, value), [x, y], "lerp")
    compare(lambda M, a, b, c: M.lerp(a, b, c), [x, y, z], "lerp")
    for mode in (None, "floor", "trunc"):
        compare(lambda M, a, b: M.div(a, b, rounding_mode=mode), [x, y], f"div {mode}")
        for dtype in INTEGERS[:-1]:
            a, b = np.array([7, 8, 9, 100]).astype(dtype), np.array([2, 3, 5, 7]).astype(dtype)
            compare(lambda M, a, b: M.div(a, b, rounding_mode=mode), [a, b], f"div {mode}")
    compare(
        lambda M, a, b: M.div(a, b, rounding_mode="trunc"), [np.array([-7, 7, -7]), np.array([2, -2, -2])], "div trunc"
    )
    compare(lambda M, a, b: M.dist(a, b, 3), [x, x * 0.3], "dist")
    compare(lambda M, a: M.polygamma(2, a), [np.abs(x) + 0.5], "polygamma", ulps=256)
    compare(lambda M, a: M.mvlgamma(a, 2), [np.abs(x) + 1.5], "mvlgamma", ulps=64, order=1)


INPLACE = [
    "add_",
    "sub_",
    "mul_",
    "div_",
    "pow_",
    "exp_",
    "sqrt_",
    "neg_",
    "abs_",
    "sigmoid_",
    "tanh_",
    "relu_",
    "clamp_",
    "floor_",
    "round_",
    "zero_",
    "fill_",
    "remainder_",
    "eq_",
    "lt_",
    "copy_",
]


@pytest.mark.parametrize("name", INPLACE)
def test_in_place(name):
    takes = name in ("add_", "sub_", "mul_", "div_", "pow_", "fill_", "remainder_", "eq_", "lt_")
    for dtype in (np.float32, np.float64, np.int64):
        a = np.array([1.2, 2.7, 3.1]).astype(dtype)

        def change(M, x):
            y = x * 1
            pointer = y.data_ptr()
            arguments = (2,) if takes else (0, 2) if name == "clamp_" else (M.ones(3),) if name == "copy_" else ()
            result = getattr(y, name)(*arguments)
            assert result is y
            assert y.data_ptr() == pointer
            return y

        compare(change, [a], f"{name} {dtype}", order=1)


def test_close_and_equal():
    x = np.array([1.0, np.nan, np.inf, 2.0])
    y = np.array([1.0 + 1e-9, np.nan, np.inf, 2.1])
    for options in ({}, {"equal_nan": True}, {"rtol": 0.1}, {"atol": 1.0}):
        compare(lambda M, a, b: M.isclose(a.detach(), b.detach(), **options), [x, y], f"isclose {options}")
        ours, theirs = both(x), both(y)
        assert chainrule.allclose(ours[0], theirs[0], **options) == torch.allclose(ours[1], theirs[1], **options)
    assert chainrule.equal(both(x)[0], both(x)[0]) == torch.equal(both(x)[1], both(x)[1])
    assert_same(
        chainrule.isclose(chainrule.arange(3), chainrule.arange(3)),
        torch.isclose(torch.arange(3), torch.arange(3)),
        "isclose",
    )


ROOM = {
    "entr": (0.2, 2),
    "erfcx": (-1, 2),
    "expit": (-2, 2),
    "gammaln": (0.5, 3),
    "i0e": (0.2, 2),
    "i1": (0.2, 2),
    "i1e": (0.2, 2),
    "log_ndtr": (-2, 2),
    "ndtr": (-2, 2),
    "ndtri": (0.1, 0.9),
    "psi": (0.5, 3),
}


@pytest.mark.parametrize("name", ROOM)
def test_special_room(name):
    # float32: PyTorch's Bessel functions and trigamma are less exact than SciPy's in float64
    for shape, a in layouts(rng(name), *ROOM[name], np.float32).items():
        compare(lambda M, x: getattr(M.special, name)(x), [a], f"{name} {shape}", ulps=64, order=1)


def test_special_of_two():
    r = rng("two")
    x, y = r.uniform(0.5, 2, (2, 3)), r.uniform(1.2, 3, 3)
    compare(lambda M, x, y: M.special.xlog1py(x, y), [x, y], "xlog1py")
    compare(lambda M, x, y: M.special.gammainc(x.detach(), y), [x, y], "gammainc", ulps=64)
    compare(lambda M, x, y: M.special.gammaincc(x.detach(), y), [x, y], "gammaincc", ulps=64)
    compare(lambda M, x, y: M.special.zeta(y.detach(), x), [x, y], "zeta", ulps=256, order=1)
    for call in (
        lambda M, x: M.diff(x),
        lambda M, x: M.diff(x, 2, 1),
        lambda M, x: M.diff(x, dim=0, prepend=x[:1]),
        lambda M, x: M.vander(x[0].detach()),
        lambda M, x: M.vander(x[0].detach(), 2, True),
        lambda M, x: M.angle(-x),
        lambda M, x: M.isreal(x),
    ):
        compare(call, [x], "of one")
