"""Vector functions: error in units in the last place, over the whole range of float32, and the special values."""

import ctypes

import numpy as np
import pytest
from scipy import special

from chainrule.compile import native, vecmath
from chainrule.compile.ir import LLVM, Builder, Module

REFERENCE = {"exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh,
             "sigmoid": special.expit, "erf": special.erf}  # fmt: skip


def function(name, kind):
    module = Module()
    lanes = 16 if kind == "f32" else 8
    b = Builder(module, lanes)
    b.store(getattr(vecmath, name)(b, b.load("%p", kind)), "%q")
    t = LLVM[kind]
    module.functions.append("\n".join([
        "define void @f(ptr %a, ptr %o, i64 %n) {", "entry:", "  br label %loop", "loop:",
        "  %i = phi i64 [0, %entry], [%j, %loop]", f"  %p = getelementptr {t}, ptr %a, i64 %i",
        f"  %q = getelementptr {t}, ptr %o, i64 %i", *b.lines, f"  %j = add i64 %i, {lanes}",
        "  %c = icmp slt i64 %j, %n", "  br i1 %c, label %loop, label %done", "done:", "  ret void", "}",
    ]))  # fmt: skip
    library = native.load(module.text())
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(library.address("f"))

    def call(x):
        x = np.ascontiguousarray(np.resize(x, -(-len(x) // lanes) * lanes))
        y = np.empty_like(x)
        run(x.ctypes.data, y.ctypes.data, len(x))
        assert library is not None  # keeps the code alive
        return x, y

    return call


@pytest.mark.parametrize("name", REFERENCE)
def test_float32_is_within_two_ulp_everywhere(name):
    bits = np.arange(0, 2**32, 1021, dtype=np.uint64).astype(np.uint32)  # every exponent, both signs, all NaN kinds
    rng = np.random.default_rng(0)
    near = np.concatenate([rng.normal(size=200000), rng.normal(size=200000) * 0.1, rng.normal(size=100000) * 20])
    x, y = function(name, "f32")(np.concatenate([bits.view(np.float32), near.astype(np.float32)]))
    with np.errstate(all="ignore"):
        exact = REFERENCE[name](x.astype(np.float64))
        rounded = exact.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(rounded))
    finite = np.isfinite(rounded)
    infinite = ~finite & ~np.isnan(rounded)
    np.testing.assert_array_equal(y[infinite], rounded[infinite])
    ulp = np.abs(y[finite] - exact[finite]) / np.spacing(np.abs(rounded[finite])).astype(np.float64)
    assert ulp.max() <= 2.0, (name, ulp.max(), x[finite][ulp.argmax()])
    zero = (rounded == 0) & finite
    np.testing.assert_array_equal(np.signbit(y[zero]), np.signbit(rounded[zero]))


@pytest.mark.parametrize("name", REFERENCE)
def test_float64_is_close_to_the_c_library(name):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=50000) * s for s in (0.01, 1, 50)]
                       + [10 ** rng.uniform(-300, 300, 50000),
                          [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -1.0]])  # fmt: skip
    x, y = function(name, "f64")(x)
    with np.errstate(all="ignore"):
        expected = REFERENCE[name](x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    # exp - 1 near the switch at 0.35 cancels two bits; the others are within 3 ulp of libm, itself within 1.
    np.testing.assert_array_almost_equal_nulp(y[np.isfinite(expected)], expected[np.isfinite(expected)], nulp=6)
