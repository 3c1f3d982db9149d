"""Every registered op, over its own samples: values, first and second derivatives, dtypes, NaN, composites.

An op buys these tests by being registered. Values are compared with the op's NumPy template where it has one; first
derivatives with central differences of the value; second derivatives with central differences of the gradient.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

import chainrule
import chainrule.linalg
import chainrule.nn
import chainrule.special  # all three register ops when they are first used
from chainrule import autograd
from chainrule.core.op import REQUIRED, registry
from chainrule.core.variable import wrap

OPS = sorted(registry)

# Gradients that are not derivatives of the value, on purpose and as in PyTorch: (op, which calls) → why.
NOT_DERIVATIVES = {
    "embedding": (lambda params: params.get("padding_idx") is not None, "the padding row is not trained"),
}


def batch_statistics(args):
    """batch_norm is handed the mean and the variance of x: they move when x does."""
    x, axes = args[0], (0, *range(2, args[0].ndim))
    return [x, args[1], args[2], x.mean(axes), x.var(axes)]


def symmetric(args):
    """cholesky and eigh are functions of a symmetric matrix: an entry moves with its mirror image."""
    (x,) = args
    return [(x + np.swapaxes(x, -1, -2)) / 2]


# Ops with inputs that are functions of other inputs.
COUPLED = {"batch_norm": batch_statistics, "cholesky": symmetric, "eigh": symmetric}
# LAPACK has no half precision, and PyTorch says so, too.
LAPACK = ("chainrule.ops.decompositions", "chainrule.ops.factorizations")
SINGLE_AT_LEAST = {name for name in OPS if registry[name].body.__module__ in LAPACK} - {"permute_rows"}
SMOOTH = [name for name in OPS if registry[name].differentiable]


def sample(name):
    """The op's calls, from a generator seeded by its name."""
    op = registry[name]
    assert op.samples is not None, f"{name} has no samples: add samples= to its @op"
    return op, list(op.samples(np.random.default_rng(zlib.crc32(name.encode()))))


def derivative_sample(name):
    """The calls on which the gradient is meant to be the derivative."""
    op, made = sample(name)
    skip, _ = NOT_DERIVATIVES.get(name, (lambda params: False, ""))
    return op, [call for call in made if not skip(call[1])]


def is_input(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def outputs(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


def array(t):
    return t._array if hasattr(t, "_array") else np.asarray(t)


def differentiable_inputs(op, args):
    rule = (lambda i: op.rules[0]) if op.variadic else (lambda i: op.rules[i])
    return [i for i, a in enumerate(args) if is_input(a) and rule(i) is not None]


def scalar(op, args, params, weights):
    """A random linear functional of the op's floating point outputs, on tensors or arrays."""
    total = 0.0
    for o, w in zip(outputs(op.call(*args, **params)), weights, strict=True):
        if w is not None:
            total = total + (o * w).sum()
    return total


def make_weights(op, args, params, rng):
    made = outputs(op.call(*[wrap(a) if isinstance(a, np.ndarray) else a for a in args], **params))
    return [np.asarray(rng.normal(size=o.shape)) if array(o).dtype.kind == "f" else None for o in made]


def gradients(op, args, params, weights, wanted, create_graph=False):
    leaves = [wrap(a, None, i in wanted) if isinstance(a, np.ndarray) else a for i, a in enumerate(args)]
    total = scalar(op, leaves, params, [None if w is None else wrap(w) for w in weights])
    found = autograd.grad(total, [leaves[i] for i in wanted], create_graph=create_graph, allow_unused=True)
    return leaves, [wrap(np.zeros_like(args[i])) if g is None else g for i, g in zip(wanted, found, strict=True)]


def numeric(function, args, i, h=1e-5):
    """Central differences of a scalar function of the arrays ``args`` with respect to argument i."""
    out = np.zeros_like(args[i])
    for index in np.ndindex(args[i].shape):
        moved = []
        for sign in (1.0, -1.0):
            copies = [np.array(a) if k == i else a for k, a in enumerate(args)]
            copies[i][index] += sign * h
            moved.append(function(copies))
        out[index] = (moved[0] - moved[1]) / (2 * h)
    return out


def entries(args):
    return sum(a.size for a in args if is_input(a))


def close(found, expected, what, rtol, atol):
    """rtol, atol: h² of the difference quotient plus its rounding error, ε·|f|/h ≈ 1e-11·|f|, with a wide margin."""
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol * scale, err_msg=what)


@pytest.mark.parametrize("name", OPS)
def test_has_samples_and_formula(name):
    op, made = sample(name)
    assert made, f"{name}: samples gave no calls"
    assert op.formula, f"{name} has no formula"
    assert op.derived or not op.residuals, f"{name} reads residuals and has no derived=: no second derivative"
    for rule in op.rules:
        if rule is not None:
            assert rule.math, f"{name}: the rule for {rule.input} has no math"


@pytest.mark.parametrize("name", [n for n in OPS if registry[n].numpy])
def test_value_is_what_the_numpy_source_says(name):
    op, made = sample(name)
    for args, params in made:
        given = {s: d for s, d in op.settings.items() if d is not REQUIRED} | params
        names = dict(zip(op.inputs, [f"_{n}" for n in op.inputs], strict=True)) if not op.variadic else {}
        if op.variadic:
            names = {op.inputs[0]: f"_{op.inputs[0]}"}
            values = {f"_{op.inputs[0]}": list(args)}
        else:
            values = {f"_{n}": a for n, a in zip(op.inputs, args, strict=False)}
        source = op.numpy.format(**names, **{k: v if k == "dtype" else repr(v) for k, v in given.items()})
        expected = eval(source, {"np": np, "math": math, "inf": np.inf, "dtype": np.dtype}, values)
        found = op.call(*[wrap(a) if isinstance(a, np.ndarray) else a for a in args], **params)
        for f, e in zip(outputs(found), outputs(expected), strict=True):
            np.testing.assert_allclose(array(f), e, rtol=1e-12, atol=1e-14, err_msg=f"{name} {params}: {source}")
            assert array(f).shape == np.shape(e)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_is_the_difference_quotient(name):
    op, made = derivative_sample(name)
    rng = np.random.default_rng(1)
    tried = 0
    for args, params in made:
        wanted = differentiable_inputs(op, args)
        if not wanted or entries(args) > 200:
            continue
        weights = make_weights(op, args, params, rng)
        _, found = gradients(op, args, params, weights, wanted)

        def value(arrays, params=params, weights=weights):
            arrays = COUPLED.get(name, list)(arrays)
            total = scalar(op, [wrap(a) if isinstance(a, np.ndarray) else a for a in arrays], params, weights)
            return float(array(total))

        for i, g in zip(wanted, found, strict=True):
            expected = numeric(value, list(args), i)
            assert g.shape == args[i].shape
            close(array(g), expected, f"{name} input {i} {params}", rtol=1e-6, atol=1e-7)
            tried += expected.size
    assert tried, f"{name}: no sample has a floating point input to differentiate by"


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivative_is_the_difference_quotient_of_the_gradient(name):
    op, made = sample(name)
    rng = np.random.default_rng(2)
    for args, params in made:
        wanted = differentiable_inputs(op, args)
        if not wanted or not 0 < entries(args) <= 60:
            continue
        weights = make_weights(op, args, params, rng)
        leaves, found = gradients(op, args, params, weights, wanted, create_graph=True)
        directions = [np.asarray(rng.normal(size=g.shape)) for g in found]
        along = sum((g * wrap(d)).sum() for g, d in zip(found, directions, strict=True))
        if along.requires_grad:
            second = autograd.grad(along, [leaves[i] for i in wanted], allow_unused=True)
        else:
            second = [None] * len(wanted)

        def slope(arrays, params=params, weights=weights, wanted=wanted, directions=directions):
            _, first = gradients(op, COUPLED.get(name, list)(arrays), params, weights, wanted)
            return sum(float((array(g) * d).sum()) for g, d in zip(first, directions, strict=True))

        for i, s in zip(wanted, second, strict=True):
            expected = numeric(slope, list(args), i)
            got = np.zeros_like(args[i]) if s is None else array(s)
            close(got, expected, f"{name} input {i} {params}", rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", SMOOTH)
def test_dtype_is_kept_forward_and_backward(name, dtype):
    if name == "cast":
        pytest.skip("cast changes the dtype: that is what it is for")
    op, made = sample(name)
    if dtype == np.float16 and name in SINGLE_AT_LEAST:
        args, params = made[0]
        with pytest.raises((TypeError, RuntimeError)):
            op.call(*[wrap(a.astype(dtype)) if is_input(a) else a for a in args], **params)
        return
    for args, params in made:
        small = [a.astype(dtype) if is_input(a) else a for a in args]
        wanted = differentiable_inputs(op, args)
        if not wanted:
            continue
        leaves = [wrap(a, None, i in wanted) if isinstance(a, np.ndarray) else a for i, a in enumerate(small)]
        result = outputs(op.call(*leaves, **params))
        roots = [o for o in result if o.requires_grad]
        for o in result:
            if array(o).dtype.kind == "f":
                assert array(o).dtype == dtype, f"{name} {params}: value is {array(o).dtype}"
        starts = [wrap(np.ones_like(array(o))) for o in roots]
        found = autograd.grad(roots, [leaves[i] for i in wanted], starts, allow_unused=True)
        for i, g in zip(wanted, found, strict=True):
            if g is not None:
                assert array(g).dtype == dtype, f"{name} {params}: gradient of input {i} is {array(g).dtype}"


UNARY = [
    n for n in SMOOTH
    if registry[n].signature == "*s -> *s"
    and len(registry[n].inputs) == 1
    and REQUIRED not in registry[n].settings.values()
]  # fmt: skip
SWALLOWS = {"zero", "nan_to_num", "sign"}  # sign(NaN) = 0, as PyTorch


@pytest.mark.parametrize("name", [n for n in UNARY if n not in SWALLOWS])
def test_nan_goes_through(name):
    op = registry[name]
    out = op.call(chainrule.tensor([0.5, float("nan")], dtype=chainrule.float64))
    assert np.isnan(array(out)[1]), f"{name} hides a NaN"


@pytest.mark.parametrize("name", [n for n in OPS if registry[n].derived is not None])
def test_shortcut_equals_what_it_is_derived_from(name):
    op, made = sample(name)
    rng = np.random.default_rng(3)
    for args, params in made:
        wanted = differentiable_inputs(op, args)
        weights = make_weights(op, args, params, rng)
        _, short = gradients(op, args, params, weights, wanted)
        leaves = [wrap(a, None, i in wanted) if isinstance(a, np.ndarray) else a for i, a in enumerate(args)]
        derived = outputs(op.derived(*leaves, **params))
        values = outputs(op.call(*[wrap(a) if isinstance(a, np.ndarray) else a for a in args], **params))
        total = 0.0
        for o, v, w in zip(derived, values, weights, strict=False):
            np.testing.assert_allclose(array(o), array(v), rtol=1e-10, atol=1e-12, err_msg=f"{name} {params}: value")
            if w is not None:
                total = total + (o * wrap(w)).sum()
        if not wanted:
            continue
        long = autograd.grad(total, [leaves[i] for i in wanted], allow_unused=True)
        for i, s, e in zip(wanted, short, long, strict=True):
            expected = np.zeros_like(args[i]) if e is None else array(e)
            close(array(s), expected, f"{name} input {i} {params}", rtol=1e-9, atol=1e-11)


def test_arguments_are_not_changed():
    for name in OPS:
        op, made = sample(name)
        for args, params in made[:2]:
            before = [np.array(a) if isinstance(a, np.ndarray) else a for a in args]
            op.call(*[wrap(a) if isinstance(a, np.ndarray) else a for a in args], **params)
            for b, a in zip(before, args, strict=True):
                np.testing.assert_array_equal(b, a, err_msg=name)
