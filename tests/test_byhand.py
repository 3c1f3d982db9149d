"""The lesson is right: closed forms, finite differences, and invariants that hold for any input."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule import byhand
from chainrule.byhand import (
    MLP,
    Neuron,
    cross_entropy,
    cross_entropy_grad,
    mse,
    mse_grad,
    numerical_gradient,
    sigmoid,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
)

# Central differences at h = 1e-5 in float64: truncation h²/6·f‴ and rounding ε·|f|/h are both near 1e-11 for values of
# order one; 1e-8 leaves room for third derivatives and losses of order a hundred.
NUMERICAL = 1e-8

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 5)
reductions = st.sampled_from(["mean", "sum"])


# ------------------------------------------------------------------------------------------------ numerical gradient


def test_numerical_gradient_of_sin_squared():
    x = 0.7
    expected = 2 * np.sin(x**2) * np.cos(x**2) * 2 * x
    assert numerical_gradient(lambda v: np.sin(v**2) ** 2, x) == pytest.approx(expected, abs=1e-9)


def test_numerical_gradient_computes_integers_in_float64():
    gradient = numerical_gradient(lambda v: (3 * v**2).sum(), np.array([2, 5]))
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, [12, 30], atol=1e-8)


def test_numerical_gradient_leaves_x_alone_even_when_f_changes_its_argument():
    x = np.arange(6.0).reshape(2, 3)
    before = x.copy()

    def f(v):
        v *= 2
        return v.sum()

    np.testing.assert_allclose(numerical_gradient(f, x), np.full((2, 3), 2.0), atol=1e-9)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 2)])
def test_numerical_gradient_has_the_shape_of_x(shape):
    assert numerical_gradient(np.sum, np.ones(shape)).shape == shape


def test_numerical_gradient_divides_by_the_step_really_taken():
    # near 1e9 neighbouring floats are 1.2e-7 apart, so x ± 1e-5 is off by up to 0.6 % of h
    assert numerical_gradient(np.sum, [1e9 + 0.3]) == pytest.approx(1.0, abs=1e-12)


def test_numerical_gradient_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"f must give one number, it gave an array of shape \(2,\)"):
        numerical_gradient(lambda v: v, [1.0, 2.0])
    with pytest.raises(ValueError, match="the step h must be positive, it is 0"):
        numerical_gradient(np.sum, [1.0], h=0)
    with pytest.raises(ValueError, match="too small to change x"):
        numerical_gradient(np.sum, [1e15], h=1e-5)
    with pytest.raises(TypeError, match="must hold real numbers, it is complex128"):
        numerical_gradient(np.sum, [1j])


# ------------------------------------------------------------------------------------------------------------ neuron


def test_neuron_by_pencil():
    # w·x + b = 0, so a = 1/2, a(1 − a) = 1/4, 2(a − y) = −1: every number can be checked in the head
    neuron = Neuron(w=[1.0, -1.0], b=1.0)
    a, cache = neuron.forward([1.0, 2.0])
    assert (a, cache["z"]) == (0.5, 0.0)
    grads = neuron.backward([1.0, 2.0], 1.0, a, cache)
    assert grads["b"] == -0.25
    np.testing.assert_array_equal(grads["w"], [-0.25, -0.5])
    neuron.update(grads, lr=4.0)
    np.testing.assert_array_equal(neuron.w, [2.0, 1.0])
    assert neuron.b == 2.0


@given(seeds, sizes)
def test_neuron_agrees_with_finite_differences(seed, n):
    rng = np.random.default_rng(seed)
    w, x, b, y = rng.normal(size=n), rng.normal(size=n), rng.normal(), rng.uniform()

    def loss(w, b):
        neuron = Neuron(w, float(b))
        return neuron.loss(y, neuron.forward(x)[0])

    neuron = Neuron(w, b)
    a, cache = neuron.forward(x)
    grads = neuron.backward(x, y, a, cache)
    np.testing.assert_allclose(grads["w"], numerical_gradient(lambda v: loss(v, b), w), atol=NUMERICAL)
    np.testing.assert_allclose(grads["b"], numerical_gradient(lambda v: loss(w, v), b), atol=NUMERICAL)


@given(st.floats(-700, 700))
def test_sigmoid_is_symmetric_and_finite(z):
    assert 0 <= sigmoid(z) <= 1
    assert sigmoid(z) + sigmoid(-z) == pytest.approx(1, abs=1e-15)


def test_neuron_keeps_a_gradient_where_one_minus_a_would_round_to_zero():
    neuron = Neuron([1.0])
    a, cache = neuron.forward([40.0])
    assert 1 - a == 0
    assert neuron.backward([40.0], 0.0, a, cache)["b"] == pytest.approx(2 * np.exp(-40), rel=1e-12)


def test_neuron_names_both_shapes():
    with pytest.raises(ValueError, match=r"x has shape \(3,\), the weights have shape \(2,\)"):
        Neuron([1.0, 2.0]).forward([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="one weight per input"):
        Neuron([[1.0]])


# ------------------------------------------------------------------------------------------------------------ losses


def test_mse_is_two_over_n():
    pred, true = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 2.0], [1.0, 0.0]])
    assert mse(pred, true) == (1 + 0 + 4 + 16) / 4
    assert mse(pred, true, "sum") == 21
    np.testing.assert_array_equal(mse_grad(pred, true), 2 / 4 * (pred - true))
    np.testing.assert_array_equal(mse_grad(pred, true, "sum"), 2 * (pred - true))


@given(seeds, sizes, sizes, reductions)
def test_every_loss_agrees_with_finite_differences(seed, n, c, reduction):
    rng = np.random.default_rng(seed)
    z, soft, y = rng.normal(size=(n, c)), softmax(rng.normal(size=(n, c))), rng.integers(0, c, n)
    p = rng.uniform(0.2, 1.0, (n, c))  # any positive numbers: the loss is defined without them summing to 1
    for value, gradient, at, target in [
        (mse, mse_grad, z, soft),
        (cross_entropy, cross_entropy_grad, p, y),
        (cross_entropy, cross_entropy_grad, p, soft),
        (softmax_cross_entropy, softmax_cross_entropy_grad, z, y),
        (softmax_cross_entropy, softmax_cross_entropy_grad, z, soft),
    ]:
        numerical = numerical_gradient(lambda v, value=value, t=target: value(v, t, reduction), at)
        np.testing.assert_allclose(gradient(at, target, reduction), numerical, atol=NUMERICAL)


@given(seeds, sizes, sizes)
def test_p_minus_y_is_n_times_the_gradient_of_the_mean(seed, n, c):
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=(n, c)), rng.integers(0, c, n)
    p_minus_y = softmax(z) - np.eye(c)[y]
    np.testing.assert_array_equal(softmax_cross_entropy_grad(z, y, "sum"), p_minus_y)
    np.testing.assert_allclose(n * softmax_cross_entropy_grad(z, y, "mean"), p_minus_y, rtol=1e-15)
    # a shift of all scores changes nothing, so the gradient of each row sums to zero (up to rounding of C terms)
    np.testing.assert_allclose(p_minus_y.sum(axis=1), 0, atol=1e-15 * (c + 1))


@given(seeds, sizes, sizes, reductions)
def test_fused_and_unfused_cross_entropy_agree(seed, n, c, reduction):
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=(n, c)), rng.integers(0, c, n)
    p = softmax(z)
    fused = softmax_cross_entropy(z, y, reduction)
    assert cross_entropy(p, y, reduction) == pytest.approx(fused, rel=1e-13, abs=1e-15)
    # through the full Jacobian of softmax: dL/dzᵢ = Σₖ dL/dpₖ · pₖ(δₖᵢ − pᵢ)
    dp = cross_entropy_grad(p, y, reduction)
    through = p * (dp - (dp * p).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(softmax_cross_entropy_grad(z, y, reduction), through, atol=1e-14)


@given(seeds, sizes, sizes, st.floats(-1e3, 1e3))
def test_softmax_rows_are_probabilities_and_shifts_cancel(seed, n, c, shift):
    z = np.random.default_rng(seed).normal(size=(n, c))
    p = softmax(z)
    assert (p > 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(softmax(z + shift), p, rtol=1e-12)  # z + shift itself rounds at 1e3 · 2⁻⁵³ ≈ 1e-13


def test_extreme_scores_stay_finite_where_they_should():
    assert softmax_cross_entropy([[0.0, 1e4]], [0]) == 1e4
    assert cross_entropy([[0.0, 1.0]], [0]) == np.inf
    assert cross_entropy([[0.0, 1.0]], [1]) == 0
    np.testing.assert_array_equal(softmax([[1e4, 0.0]]), [[1.0, 0.0]])


def test_losses_keep_float32():
    z = np.ones((2, 3), np.float32)
    assert softmax_cross_entropy_grad(z, [0, 2]).dtype == np.float32
    assert mse_grad(z, z).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: mse(np.ones((3, 1)), np.ones(3)), r"mse: y_pred has shape \(3, 1\), y_true has shape \(3,\)"),
        (lambda: mse([1.0], [1.0], "none"), "reduction must be 'mean' or 'sum', it is 'none'"),
        (lambda: softmax_cross_entropy(np.ones(3), [0]), r"one row of C values per sample, got shape \(3,\)"),
        (lambda: softmax_cross_entropy(np.ones((2, 3)), [0.0, 1.0]), "y must be 2 class numbers or shape"),
        (lambda: softmax_cross_entropy(np.ones((2, 3)), [0, 3]), r"classes must be 0 … 2, got 0 … 3"),
        (lambda: softmax_cross_entropy(np.ones((2, 3)), [-1, 0]), r"classes must be 0 … 2, got -1 … 0"),
        (lambda: softmax_cross_entropy_grad(np.ones((1, 2)), [[1.0, 1.0]]), "each row of y sums to 1"),
    ],
    ids=["shapes", "reduction", "one-axis", "float-classes", "class-too-large", "class-negative", "not-probabilities"],
)
def test_losses_refuse_with_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


# --------------------------------------------------------------------------------------------------------------- MLP


@given(seeds, sizes, sizes, sizes, sizes, st.sampled_from(["mse", "cross_entropy"]), reductions)
def test_mlp_agrees_with_finite_differences(seed, n, n_in, n_hidden, n_out, loss, reduction):
    rng = np.random.default_rng(seed)
    net = MLP(n_in, n_hidden, n_out, seed=seed, loss=loss, reduction=reduction)
    net.b1, net.b2 = rng.normal(size=n_hidden), rng.normal(size=n_out)
    x = rng.normal(size=(n, n_in))
    y = rng.normal(size=(n, n_out)) if loss == "mse" else rng.integers(0, n_out, n)
    y_pred, cache = net.forward(x)
    if np.abs(cache["z1"]).min() < 1e-3:
        return  # within a step of ReLU's kink a finite difference is no derivative
    grads = net.backward(x, y, y_pred, cache)

    def loss_with(name, value):
        kept = getattr(net, name)
        setattr(net, name, value)
        result = net.loss(y, net.forward(x)[0])
        setattr(net, name, kept)
        return result

    assert set(grads) == {"W1", "b1", "W2", "b2"}
    for name, gradient in grads.items():
        numerical = numerical_gradient(lambda v, name=name: loss_with(name, v), getattr(net, name))
        assert gradient.shape == numerical.shape
        # relative to the gradient's size, because summed squared errors reach into the hundreds
        np.testing.assert_allclose(gradient, numerical, atol=NUMERICAL * (1 + np.abs(gradient).max()))


@given(seeds, sizes)
def test_summed_loss_has_n_times_the_gradients_of_the_mean(seed, n):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 3)), rng.integers(0, 4, n)
    both = {}
    for reduction in ("mean", "sum"):
        net = MLP(3, 5, 4, seed=seed, loss="cross_entropy", reduction=reduction)
        p, cache = net.forward(x)
        both[reduction] = net.backward(x, y, p, cache)
    for name in both["sum"]:
        np.testing.assert_allclose(both["sum"][name], n * both["mean"][name], rtol=1e-12, atol=1e-15)


def test_relu_has_no_gradient_at_zero():
    net = MLP(1, 1, 1, seed=0)
    net.W1[:], net.W2[:] = 1.0, 1.0
    x = np.array([[0.0]])
    y_pred, cache = net.forward(x)
    assert cache["z1"] == 0
    assert net.backward(x, [[1.0]], y_pred, cache)["b1"] == 0


def test_one_hot_and_class_numbers_mean_the_same():
    net = MLP(3, 4, 3, seed=1, loss="cross_entropy")
    x, y = np.random.default_rng(0).normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    p, cache = net.forward(x)
    first, second = net.backward(x, y, p, cache), net.backward(x, np.eye(3)[y], p, cache)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert net.loss(y, p) == net.loss(np.eye(3)[y], p)


def test_a_small_step_against_the_gradient_lowers_the_loss_by_its_square():
    net = MLP(4, 8, 2, seed=3)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(10, 4)), rng.normal(size=(10, 2))
    y_pred, cache = net.forward(x)
    grads, before, lr = net.backward(x, y, y_pred, cache), net.loss(y, y_pred), 1e-6
    net.update(grads, lr)
    drop = before - net.loss(y, net.forward(x)[0])
    # first order: L(w − lr·g) = L(w) − lr·|g|²; the second-order term is lr times smaller
    assert drop == pytest.approx(lr * sum((g**2).sum() for g in grads.values()), rel=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mlp_keeps_its_dtype_and_its_seed(dtype):
    net, twin = (MLP(2, 3, 1, seed=7, dtype=dtype) for _ in range(2))
    np.testing.assert_array_equal(net.W1, twin.W1)
    x = [[1, 2], [3, 4]]
    y_pred, cache = net.forward(x)
    grads = net.backward(x, [[1], [0]], y_pred, cache)
    net.update(grads, lr=np.float64(0.1))
    for name in ("W1", "b1", "W2", "b2"):
        assert getattr(net, name).dtype == grads[name].dtype == dtype
    assert y_pred.dtype == dtype
    assert (MLP(2, 3, 1, seed=8).W1 != MLP(2, 3, 1, seed=7).W1).all()


def test_a_wrong_gradient_changes_nothing():
    net = MLP(2, 3, 1)
    before = net.W1.copy()
    grads = {"W1": np.ones((2, 3)), "b1": np.ones(3), "W2": np.ones((3, 1)), "b2": np.ones(2)}
    with pytest.raises(ValueError, match=r"gradient of b2 has shape \(2,\), b2 has \(1,\)"):
        net.update(grads, lr=1.0)
    np.testing.assert_array_equal(net.W1, before)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: MLP(2, 3, 1).forward(np.ones(2)), r"x must have shape \(N, 2\), it has \(2,\)"),
        (lambda: MLP(2, 0, 1), "sizes must be at least 1, they are 2, 0, 1"),
        (lambda: MLP(2, 3, 1, loss="hinge"), "loss must be 'mse' or 'cross_entropy', it is 'hinge'"),
        (lambda: MLP(2, 3, 1, reduction="none"), "reduction must be 'mean' or 'sum', it is 'none'"),
        (lambda: MLP(2, 3, 1, dtype=int), "weights must be floating point, dtype is int64"),
    ],
    ids=["x", "sizes", "loss", "reduction", "dtype"],
)
def test_mlp_refuses_with_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_column_of_targets_is_not_broadcast_to_a_square():
    net = MLP(2, 3, 1)
    x = np.ones((4, 2))
    y_pred, cache = net.forward(x)
    with pytest.raises(ValueError, match=r"y_pred has shape \(4, 1\), y_true has shape \(4,\)"):
        net.backward(x, np.ones(4), y_pred, cache)


def test_byhand_needs_only_numpy():
    absolute, levels = set(), set()
    for path in Path(byhand.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                absolute |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                levels.add(node.level)
                absolute |= set() if node.level else {node.module}
    assert absolute == {"__future__", "collections.abc", "typing", "numpy", "numpy.typing"}
    assert max(levels) == 1  # never `from ..`
