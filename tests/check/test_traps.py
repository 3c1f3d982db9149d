"""The traps on which the textbook check (h = 1e-5, ‖a − n‖ < 1e-5) fails."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule.check as check
from chainrule.check import Verdict


def square(x):
    return np.sum(np.asarray(x) ** 2)


@pytest.mark.parametrize("scale", [1e-16, 1e-8, 1.0, 1e8, 1e16])
def test_the_verdict_does_not_depend_on_the_loss_scale(scale):
    x = np.array([0.3, -1.2, 2.0])
    right = check(lambda x: scale * square(x), x, grad=lambda x: scale * 2 * x)
    wrong = check(lambda x: scale * square(x), x, grad=lambda x: scale * -2 * x)
    assert right.verdict is Verdict.PASS
    assert wrong.verdict is Verdict.FAIL
    assert wrong.mistakes[0].kind == "sign"


def test_sign_flip_of_a_tiny_gradient_fails():
    x = np.array([1e-9, 2e-9])
    report = check(square, x, grad=lambda x: -2 * x)
    assert np.linalg.norm(2 * x) < 1e-8
    assert report.verdict is Verdict.FAIL
    assert report.mistakes[0].kind == "sign"


def test_tiny_gradient_beside_a_large_constant():
    report = check(lambda x: 1.0 + 1e-8 * np.sum(np.sin(x)), np.array([0.5, 1.0]), grad=lambda x: -1e-8 * np.cos(x))
    assert report.verdict is Verdict.FAIL
    assert check(lambda x: 1.0 + 1e-8 * np.sum(np.sin(x)), np.array([0.5, 1.0]), grad=lambda x: 1e-8 * np.cos(x)).ok


def test_right_gradient_at_scale_1e8_passes():
    x = 1e8 * np.array([1.0, -3.0, 0.5])
    report = check(square, x, grad=lambda x: 2 * x)
    assert report.ok
    assert not check(square, x, grad=lambda x: 2.001 * x).ok


@pytest.mark.parametrize("dtype", [np.float32])
def test_float32_programs_are_judged_as_such(dtype):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(5, 4)).astype(dtype)

    def f(x):
        return np.sum(np.tanh(x.astype(dtype) @ w) ** 2)

    def grad(x):
        t = np.tanh(x.astype(dtype) @ w)
        return (2 * t * (1 - t**2)) @ w.T

    x = rng.normal(size=(3, 5)).astype(dtype)
    assert check(f, x, grad=grad).ok
    wrong = check(f, x, grad=lambda x: 1.01 * grad(x))
    assert wrong.verdict is Verdict.FAIL, "an error of one percent is far above float32 rounding"


def test_integers_are_cast_and_the_report_says_so():
    report = check(square, [2, 3], grad=lambda x: 2 * x)
    assert report.ok
    assert any(n.kind == "cast" for n in report.notes)
    seen = []
    check(square, [2, 3], grad=lambda x: seen.append(2 * x) or 2 * x)
    np.testing.assert_array_equal(seen[0], [4.0, 6.0])


def test_integer_truncation_is_named():
    def grad(x):
        g = np.zeros(len(x), dtype=int)
        for i in range(len(x)):
            g[i] = 2 * x[i]
        return g

    report = check(square, [2.3, 3.4], grad=grad)
    assert report.verdict is Verdict.FAIL
    assert report.mistakes[0].kind == "dtype"


def cross_entropy_network():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(11, 4))
    y = np.eye(3)[rng.integers(0, 3, 11)]

    def probabilities(w, b):
        z = x @ w + b
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def loss(w, b):
        return -np.mean(np.sum(y * np.log(probabilities(w, b)), axis=1))

    def grad(w, b):
        dz2 = probabilities(w, b) - y
        return x.T @ dz2, dz2.sum(axis=0)

    return loss, grad, (rng.normal(size=(4, 3)), rng.normal(size=3))


def test_p_minus_y_against_the_mean_loss():
    loss, grad, point = cross_entropy_network()
    report = check(loss, point, grad=grad)
    assert report.verdict is Verdict.FAIL
    assert len(report.mistakes) == 1
    first = report.mistakes[0]
    assert first.kind == "sum-mean"
    assert "11 times too large" in first.title
    assert "gradient of the sum" in first.title
    assert first.verified


def course_notebook(dW2_factor, db1_factor):
    """A three-layer classifier as in the well-known course, with its two planted bugs behind switches."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(4, 3))
    Y = np.array([[1.0, 1.0, 0.0]])
    m = 3

    def forward(p):
        z1 = p["W1"] @ X + p["b1"]
        a1 = np.maximum(z1, 0)
        z2 = p["W2"] @ a1 + p["b2"]
        a2 = np.maximum(z2, 0)
        a3 = 1 / (1 + np.exp(-(p["W3"] @ a2 + p["b3"])))
        return z1, a1, z2, a2, a3

    def cost(p):
        a3 = forward(p)[-1]
        return -np.sum(Y * np.log(a3) + (1 - Y) * np.log(1 - a3)) / m

    def right(p):
        _z1, a1, _z2, a2, a3 = forward(p)
        dZ3 = a3 - Y
        dW3 = 1.0 / m * np.dot(dZ3, a2.T)
        db3 = 1.0 / m * np.sum(dZ3, axis=1, keepdims=True)
        dZ2 = np.multiply(np.dot(p["W3"].T, dZ3), np.int64(a2 > 0))
        dW2 = 1.0 / m * np.dot(dZ2, a1.T)
        db2 = 1.0 / m * np.sum(dZ2, axis=1, keepdims=True)
        dZ1 = np.multiply(np.dot(p["W2"].T, dZ2), np.int64(a1 > 0))
        dW1 = 1.0 / m * np.dot(dZ1, X.T)
        db1 = 1.0 / m * np.sum(dZ1, axis=1, keepdims=True)
        return {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2, "dW3": dW3, "db3": db3}

    def wrong(p):
        _z1, a1, _z2, a2, a3 = forward(p)
        dZ3 = a3 - Y
        dW3 = 1.0 / m * np.dot(dZ3, a2.T)
        db3 = 1.0 / m * np.sum(dZ3, axis=1, keepdims=True)
        dZ2 = np.multiply(np.dot(p["W3"].T, dZ3), np.int64(a2 > 0))
        dW2 = 1.0 / m * np.dot(dZ2, a1.T) * 2
        db2 = 1.0 / m * np.sum(dZ2, axis=1, keepdims=True)
        dZ1 = np.multiply(np.dot(p["W2"].T, dZ2), np.int64(a1 > 0))
        dW1 = 1.0 / m * np.dot(dZ1, X.T)
        db1 = 4.0 / m * np.sum(dZ1, axis=1, keepdims=True)
        return {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2, "dW3": dW3, "db3": db3}

    shapes = {"W1": (5, 4), "b1": (5, 1), "W2": (3, 5), "b2": (3, 1), "W3": (1, 3), "b3": (1, 1)}
    point = {k: rng.normal(size=s) for k, s in shapes.items()}
    return cost, (wrong if dW2_factor != 1 or db1_factor != 1 else right), point


def test_the_course_notebook_bugs_are_both_found_each_once():
    cost, right, point = course_notebook(1, 1)
    assert check(cost, point, grad=right).ok
    cost, wrong, point = course_notebook(2, 4)
    report = check(cost, point, grad=wrong)
    assert [p.name for p in report.parameters if not p.right] == ["b1", "W2"]
    assert sorted(h.parameters for h in report.mistakes) == [("W2",), ("b1",)]
    by_name = {h.parameters[0]: h for h in report.mistakes}
    assert "2 times too large" in by_name["W2"].title
    assert "4" in by_name["b1"].title
    assert "dW2 = 1.0 / m" in by_name["W2"].line.source
    assert by_name["W2"].line.replacement == "dW2 = 1.0 / m * np.dot(dZ2, a1.T)"
    assert "db1 = 4.0 / m" in by_name["b1"].line.source


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
def test_ill_scaled_inputs_are_not_accused(scale):
    x = scale * np.array([0.3, -1.2, 2.0, 1e-3])
    for f, g in (
        (square, lambda x: 2 * x),
        (lambda x: np.sum(np.sin(x)), np.cos),
        (lambda x: np.sum(np.tanh(x)), lambda x: 1 - np.tanh(x) ** 2),
        (lambda x: np.sum(np.log(x**2)), lambda x: 2 / x),
        (lambda x: np.sum(np.maximum(x, 0)), lambda x: 1.0 * (x > 0)),
    ):
        assert check(f, x, grad=g).verdict is not Verdict.FAIL


def test_mixed_scales_in_one_array():
    x = np.array([1e8, 1e-8, 1.0])
    assert check(lambda x: np.sum(np.log(x)), x, grad=lambda x: 1 / x).ok
    assert not check(lambda x: np.sum(np.log(x)), x, grad=lambda x: 1 / x * np.array([1, 1.01, 1])).ok


def test_a_wrong_entry_is_named_where_it_is():
    report = check(square, np.arange(1.0, 5.0), grad=lambda x: 2 * x + np.array([0, 0, 0.5, 0]))
    assert report.worst[0].index == (2,)
    assert report.worst[0].analytic == 6.5
    assert report.worst[0].slope.value == pytest.approx(6.0, abs=1e-9)
    assert report.worst[0].slope.error < 1e-6
