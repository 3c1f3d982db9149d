"""Vector functions: error in units in the last place, over the whole range of float32, and the special values."""

import ctypes

import numpy as np
import pytest
from scipy import special

from chainrule.compile import native, vecmath, vecspecial, vectrig
from chainrule.compile.ir import LLVM, Builder, Module

REFERENCE = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "tanh": np.tanh, "sigmoid": special.expit, "sinh": np.sinh, "cosh": np.cosh, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "erf": special.erf,
}  # fmt: skip
HOMES = (vecmath, vectrig, vecspecial)


def function(name, kind, lanes=None, inputs=1):
    """The vector function as a loop over arrays."""
    module = Module()
    lanes = lanes or (16 if kind == "f32" else 8)
    b = Builder(module, lanes)
    emit = next(getattr(home, name) for home in HOMES if hasattr(home, name))
    b.store(emit(b, *(b.load(f"%p{i}", kind) for i in range(inputs))), "%q")
    t = LLVM[kind]
    module.functions.append("\n".join([
        f"define void @f({''.join(f'ptr %a{i}, ' for i in range(inputs))}ptr %o, i64 %n) {{", "entry:",
        "  br label %loop", "loop:", "  %i = phi i64 [0, %entry], [%j, %loop]",
        *(f"  %p{i} = getelementptr {t}, ptr %a{i}, i64 %i" for i in range(inputs)),
        f"  %q = getelementptr {t}, ptr %o, i64 %i", *b.lines, f"  %j = add i64 %i, {lanes}",
        "  %c = icmp slt i64 %j, %n", "  br i1 %c, label %loop, label %done", "done:", "  ret void", "}",
    ]))  # fmt: skip
    library = native.load(module.text())
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (inputs + 1), ctypes.c_int64)(library.address("f"))

    def call(*xs):
        xs = [np.ascontiguousarray(np.resize(x, -(-len(x) // lanes) * lanes)) for x in xs]
        y = np.empty_like(xs[0])
        run(*(x.ctypes.data for x in xs), y.ctypes.data, len(y))
        assert library is not None  # keeps the code alive
        return (*xs, y)

    return call


def check(x, y, exact, limit):
    """``exact`` is of higher precision than y; NaN, infinities and the signs of zeros have to agree."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(y.dtype)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(rounded))
    finite = np.isfinite(rounded)
    infinite = ~finite & ~np.isnan(rounded)
    np.testing.assert_array_equal(y[infinite], rounded[infinite])
    zero = (rounded == 0) & finite
    np.testing.assert_array_equal(np.signbit(y[zero]), np.signbit(rounded[zero]))
    ulp = np.abs(y[finite] - exact[finite]) / np.spacing(np.abs(rounded[finite])).astype(exact.dtype)
    assert ulp.max() <= limit, (ulp.max(), x[finite][ulp.argmax()])


@pytest.mark.parametrize("name", REFERENCE)
def test_float32_is_within_two_ulp_everywhere(name):
    bits = np.arange(0, 2**32, 1021, dtype=np.uint64).astype(np.uint32)  # every exponent, both signs, all NaN kinds
    rng = np.random.default_rng(0)
    near = np.concatenate([
        rng.normal(size=200000), rng.normal(size=100000) * 0.1, rng.normal(size=100000) * 20,
        1 + rng.normal(size=100000) * 0.1, rng.uniform(-6e4, 6e4, 100000),
    ])  # fmt: skip
    x, y = function(name, "f32")(np.concatenate([bits.view(np.float32), near.astype(np.float32)]))
    with np.errstate(all="ignore"):
        exact = REFERENCE[name](x.astype(np.float64))
    check(x, y, exact, 2.0)


@pytest.mark.parametrize("name", REFERENCE)
def test_float64_is_within_two_ulp(name):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=50000) * s for s in (0.01, 0.3, 1, 50)]
                       + [1 + rng.normal(size=50000) * 0.05, rng.uniform(-1e6, 1e6, 20000),
                          10 ** rng.uniform(-300, 300, 50000), -(10 ** rng.uniform(-300, 300, 50000)),
                          [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -1.0, 1.0, 1e9, 1e22]])  # fmt: skip
    x, y = function(name, "f64")(x)
    with np.errstate(all="ignore"):
        wide = x.astype(np.longdouble)
        exact = 1 / (1 + np.exp(-wide)) if name == "sigmoid" else REFERENCE[name](x if name == "erf" else wide)
    if exact.dtype == np.float64 or np.finfo(np.longdouble).nmant == np.finfo(np.float64).nmant:
        # No higher precision at hand: the reference is itself off by up to an ulp (SciPy's erf by 1.5).
        check(x, y, exact, 3.5)
    else:
        check(x, y, exact, 2.0)


def test_one_lane_gives_what_many_give():
    x = np.random.default_rng(2).normal(size=64).astype(np.float32) * 3
    x[:4] = 1e6, -3e7, np.inf, np.nan  # beyond the fast reduction of sin and cos
    for name in REFERENCE:
        _, one = function(name, "f32", lanes=1)(x)
        _, many = function(name, "f32", lanes=8)(x)
        np.testing.assert_array_equal(one, many, err_msg=name)


def test_powers_of_float32():
    rng = np.random.default_rng(3)
    special_values = np.array(
        [0, -0.0, 1, -1, 2, -2, 3, 0.5, -0.5, -3, np.inf, -np.inf, np.nan, 1e-40, 1e30], np.float32
    )
    a, b = (g.ravel() for g in np.meshgrid(special_values, special_values))
    x = np.concatenate([a, np.exp(rng.normal(size=200000) * 8).astype(np.float32)])
    y = np.concatenate([b, (rng.normal(size=200000) * 6).astype(np.float32)])
    x, y, z = function("power", "f32", inputs=2)(x, y)
    with np.errstate(all="ignore"):
        check(x, z, np.power(x.astype(np.float64), y.astype(np.float64)), 0.51)


def test_arctangents_of_two_float32_numbers():
    rng = np.random.default_rng(4)
    special_values = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-40, -1e30], np.float32)
    a, b = (g.ravel() for g in np.meshgrid(special_values, special_values))
    y = np.concatenate([a, rng.normal(size=100000).astype(np.float32)])
    x = np.concatenate([b, rng.normal(size=100000).astype(np.float32) * 10])
    y, x, z = function("atan2", "f32", inputs=2)(y, x)
    check(y, z, np.arctan2(y.astype(np.float64), x.astype(np.float64)), 0.6)
