"""Elementwise ops compiled: every dtype, special values in all combinations, against the ops' own NumPy bodies."""

import numpy as np
import pytest
from tests.compile.programs import record, run

from chainrule.compile import forms
from chainrule.compile.scalar import COMPARE
from chainrule.core.op import registry

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 2.5, -2.5, 1e-40, -1e-40,
           1e30, -1e30, 0.25, 1e10, 7.0, 20.5, 100.0, -100.0, 0.999, 1e-10]  # fmt: skip
SKIPPED = {
    "cast": "has a test of its own", "where": "its condition is a bool", "masked_fill": "its mask is a bool",
    "clone": "computes nothing", "gammainc": "a number and an array", "gammaincc": "a number and an array",
}  # fmt: skip
OPS = sorted(n for n in {*forms.FORMS, *COMPARE} if n in registry and n not in SKIPPED)
INTEGERS = [np.int64, np.int32, np.int16, np.int8, np.uint8]


def inputs(op, dtype):
    """Special values in every combination."""
    if dtype is np.bool_:
        x = np.array([False, True, True, False, True])
    elif np.dtype(dtype).kind == "f":
        x = np.array(SPECIAL).astype(dtype)
    else:
        info = np.iinfo(dtype)
        x = np.array([0, 1, 2, 3, 5, 7, 100, info.max, info.min, info.max - 1, max(info.min, -7)]).astype(dtype)
    n = len(op.inputs)
    if n == 1:
        return [x]
    grid = np.meshgrid(*[x] * n, indexing="ij") if n == 2 else [np.resize(np.roll(x, i), 61) for i in range(n)]
    out = [np.ascontiguousarray(a.ravel()) for a in grid]
    if "shift" in op.name and dtype is not np.bool_:
        out[1] = np.abs(out[1] // 2) % 70  # how far to shift
    return out


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", OPS)
def test_every_dtype_and_special_value(name):
    op = registry[name]
    for params in {repr(c.params): c.params for c in op.samples(np.random.default_rng(0))}.values():
        for dtype in (np.float32, np.float64, *INTEGERS, np.bool_):
            args = inputs(op, dtype)
            try:
                program, expected = record(lambda *t, op=op, params=params: op.call(*t, **params), args)
            except (TypeError, RuntimeError, NotImplementedError):
                continue  # the op refuses this dtype: nothing to compile
            (e,) = map(np.array, expected)
            (got,), _ = run(program, args)
            assert got.dtype == e.dtype
            if e.dtype.kind != "f" or e.dtype.itemsize == 2:
                np.testing.assert_array_equal(got, e, err_msg=f"{dtype.__name__} {args}")
                continue
            # Vector functions and their combinations: a few ulp. Denormal results: an ulp is their size.
            tolerance = {"float32": (3e-6, 1e-44), "float64": (1e-13, 1e-320)}[e.dtype.name]
            np.testing.assert_allclose(got, e, *tolerance, err_msg=dtype.__name__)
            if name not in ("fmax", "fmin"):  # which of two zeros is larger is nobody's promise
                zero = e == 0
                np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(e[zero]), err_msg=dtype.__name__)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("source", [np.float32, np.float64, *INTEGERS, np.bool_])
@pytest.mark.parametrize("target", [np.float32, np.float64, *INTEGERS, np.bool_])
def test_casts_are_numpys(source, target):
    values = [0, 1, -1, 2.9, -2.9, 127.5, 128, 255.9, 256, 300.7, -129, 70000, 2**31, -(2**31) - 1e4, 3e9, 1e20, -1e20,
              np.nan, np.inf, -np.inf, 5, 6]  # fmt: skip
    x = np.array(values).astype(source)
    op = registry["cast"]
    program, _ = record(lambda t: op.call(t, dtype=np.dtype(target)), [x])
    (got,), step = run(program, [x])
    assert not step.calls
    np.testing.assert_array_equal(got, x.astype(target))


def test_integer_powers_and_divisions_by_constants():
    for dtype in INTEGERS:
        info = np.iinfo(dtype)
        x = np.array([0, 1, 2, 3, -5 if info.min else 5, 7, 100, info.max, info.min], dtype)
        for f in (lambda t: t**2, lambda t: t**5, lambda t: t // 3, lambda t: t % 3, lambda t: t.fmod(3),
                  lambda t: t.div(7, rounding_mode="trunc")):  # fmt: skip
            program, expected = record(f, [x])
            (got,), step = run(program, [x])
            assert not step.calls
            np.testing.assert_array_equal(got, expected[0])
            if info.min:
                g = {0: lambda t: t // -1, 1: lambda t: t % -5}
                for h in g.values():
                    program, expected = record(h, [x])
                    (got,), step = run(program, [x])
                    np.testing.assert_array_equal(got, expected[0])


def test_a_divisor_that_may_be_zero_is_left_to_numpy():
    x, y = np.array([4, 5]), np.array([2, 3])
    program, _ = record(lambda a, b: a // b, [x, y])
    _, step = run(program, [x, y])
    assert [c.node.name for c in step.calls] == ["floor_divide"]
