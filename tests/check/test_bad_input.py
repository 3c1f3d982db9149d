"""Bad input: one sentence that says what, before any numerics. Odd functions: named, not failed mysteriously."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as torch
import chainrule.check as check
from chainrule.check import Verdict, WrongGradient
from chainrule.errors import UsageError


def total(p):
    return np.sum(p["W"] ** 2) + np.sum(p["b"])


P = {"W": np.ones((3, 2)), "b": np.ones(2)}


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_function_that_raises():
    def f(x):
        raise KeyError("nope")

    with pytest.raises(UsageError) as error:
        check(f, np.ones(2), grad=lambda x: x)
    assert "raised KeyError" in one_sentence(error)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite(value):
    with pytest.raises(UsageError) as error:
        check(lambda x: value, np.ones(2), grad=lambda x: x)
    assert str(value) in one_sentence(error)


def test_an_output_that_is_no_number_asks_for_a_cotangent():
    with pytest.raises(UsageError) as error:
        check(lambda x: x**2, np.ones(2), grad=lambda x: 2 * x)
    assert "shape (2,)" in one_sentence(error)
    assert "cotangent" in str(error.value)
    report = check(
        lambda x: x**2, np.array([1.0, 2.0]), grad=lambda x: 2 * x * np.array([3.0, -1.0]), cotangent=[3.0, -1.0]
    )
    assert report.ok
    with pytest.raises(UsageError):
        check(lambda x: x * 2, np.ones(3))


def test_a_missing_key_is_named():
    with pytest.raises(WrongGradient) as error:
        check(total, P, grad=lambda p: {"dW": 2 * p["W"]})
    assert "'b'" in one_sentence(error)
    assert error.value.kind == "missing"


@pytest.mark.parametrize(
    ("bad", "kind", "words"),
    [
        (lambda p: {"W": 2 * p["W"].T, "b": np.ones(2)}, "transposed", "transposed"),
        (lambda p: {"W": 2 * p["W"], "b": np.ones((7, 2))}, "batch-sum", "sum(axis=0)"),
        (lambda p: {"W": 2 * p["W"], "b": np.float64(2.0)}, "axis", "summed"),
        (lambda p: {"W": np.ones(2), "b": np.ones((3, 2))}, "swapped", "swapped"),
    ],
)
def test_wrong_shapes_say_which_and_why(bad, kind, words):
    with pytest.raises(WrongGradient) as error:
        check(total, P, grad=bad)
    assert words in one_sentence(error)
    assert error.value.kind == kind


def test_a_gradient_that_is_not_finite():
    with pytest.raises(UsageError) as error:
        check(lambda x: np.sum(x**2), np.ones(2), grad=lambda x: np.array([1.0, np.nan]))
    assert "x[1]" in one_sentence(error)


def test_none_and_no_arrays():
    with pytest.raises(WrongGradient):
        check(lambda x: np.sum(x**2), np.ones(2), grad=lambda x: None)
    with pytest.raises(UsageError):
        check(lambda x: np.sum(x**2), np.array(["a"]), grad=lambda x: x)
    with pytest.raises(UsageError):
        check(lambda x: 1.0, np.ones(2), grad=lambda x: x, order=3)
    with pytest.raises(UsageError):
        check(3, np.ones(2))


def test_randomness_is_named():
    rng = np.random.default_rng(0)
    report = check(lambda x: np.sum(x * (rng.random(4) > 0.5)), np.ones(4), grad=lambda x: np.ones(4))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.mistakes[0].kind == "random"
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5))
    assert check(net, np.ones((4, 3))).mistakes[0].kind == "random"
    assert check(net.eval(), np.ones((4, 3))).ok


def test_modified_inputs_are_named_and_do_no_harm():
    def f(x):
        x *= 2
        return np.sum(x**2)

    report = check(f, np.array([1.0, 2.0]), grad=lambda x: 8 * x)
    assert report.ok
    assert any(n.kind == "modifies" for n in report.notes)

    x = np.array([1.0, 2.0])
    check(f, x, grad=lambda x: 8 * x)
    np.testing.assert_array_equal(x, [1.0, 2.0])


def test_dependent_inputs_are_named():
    w = np.arange(6.0)
    report = check(lambda a, b: np.sum(a * b), (w[:3], w[:3]), grad=lambda a, b: (b, a))
    assert report.ok
    assert any(n.kind == "dependent" for n in report.notes)
    t = torch.tensor([1.0, 2.0], requires_grad=True)
    report = check(lambda a, b: (a * b).sum(), (t, t * 2))
    assert any(n.kind == "dependent" for n in report.notes)


def test_a_stale_buffer_is_found_by_calling_twice():
    buffer = np.zeros(3)

    def grad(x):
        buffer[:] = buffer + 2 * x
        return buffer.copy()

    report = check(lambda x: np.sum(x**2), np.ones(3), grad=grad)
    assert report.verdict is Verdict.FAIL
    assert report.mistakes[0].kind == "stale"


def test_the_users_arrays_are_untouched_by_the_search_for_a_repair():
    U = np.arange(3.0) + 1
    before = U.copy()

    def f(x):
        return np.sum(U * x + 0.5 * x**2)

    def grad(x):
        d = U * 2
        d += x
        return d

    report = check(f, np.array([1.0, 2.0, 3.0]), grad=grad)
    assert report.verdict is Verdict.FAIL
    np.testing.assert_array_equal(U, before)
    assert U.flags.writeable
    np.testing.assert_array_equal(grad(np.zeros(3)), 2 * before)
