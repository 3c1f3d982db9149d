"""Kinks: the right verdict, both slopes, the convention, and the op's name."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as torch
import chainrule.check as check
from chainrule.check import Verdict


@pytest.mark.parametrize(
    ("f", "x", "op"),
    [
        (lambda x: torch.relu(x).sum(), [0.0, 1.0, -1.0], "relu"),
        (lambda x: x.abs().sum(), [0.0, 1.0, -1.0], "abs"),
        (lambda x: x.clamp(-1, 1).sum(), [1.0, -1.0, 0.3], "clamp"),
        (lambda x: x.max(), [1.0, 1.0, -1.0], "max"),
        (lambda x: x.min(), [2.0, 1.0, 1.0], "min"),
        (lambda x: torch.maximum(x, 1.0 * torch.ones(3)).sum(), [1.0, 0.0, 2.0], "maximum"),
        (lambda x: (x.sort()[0] * torch.tensor([1.0, 2.0, 5.0])).sum(), [1.0, 1.0, 3.0], ""),
        (lambda x: x.median(), [1.0, 2.0, 1.0, 0.3, 1.0], ""),
        (lambda x: torch.nn.functional.leaky_relu(x).sum(), [0.0, 2.0], "leaky"),
        (lambda x: torch.nn.functional.l1_loss(x, torch.zeros(2)), [0.0, 2.0], ""),
    ],
)
def test_right_gradients_at_kinks_are_accepted_and_the_kink_is_named(f, x, op):
    report = check(f, np.array(x))
    assert report.verdict is Verdict.PASS, str(report)
    assert report.kinks, "the kink must be reported"
    entry, name = report.kinks[0]
    assert entry.slope.left != pytest.approx(entry.slope.right)
    assert entry.convention
    assert op in name


@pytest.mark.parametrize("given", [0.0, 0.3, 1.0])
def test_every_subgradient_of_relu_at_0_is_right(given):
    report = check(
        lambda x: np.maximum(x, 0).sum(), np.array([0.0, 2.0]), grad=lambda x: np.where(x == 0, given, x > 0)
    )
    assert report.ok
    assert report.kinks[0][0].slope.left == pytest.approx(0, abs=1e-9)
    assert report.kinks[0][0].slope.right == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("given", [-0.5, 1.5, -1.0])
def test_what_is_no_subgradient_fails(given):
    report = check(
        lambda x: np.maximum(x, 0).sum(), np.array([0.0, 2.0]), grad=lambda x: np.where(x == 0, given, x > 0)
    )
    assert report.verdict is Verdict.FAIL
    assert report.mistakes[0].kind == "kink"


@pytest.mark.parametrize(
    ("given", "right"),
    [((0.5, 0.5), True), ((1.0, 0.0), True), ((0.0, 1.0), True), ((1.0, 1.0), False), ((0.0, 0.0), False)],
)
def test_ties_in_a_max_are_judged_together(given, right):
    report = check(lambda x: np.max(x), np.array([1.0, 1.0, 0.0]), grad=lambda x: np.array([*given, 0.0]))
    assert report.ok is right, str(report)


def test_separate_kinks_are_not_tied():
    f = lambda x: np.maximum(x[0], 0) - np.maximum(x[1], 0)
    for a in (0.0, 1.0):
        for b in (0.0, -1.0):
            assert check(f, np.zeros(2), grad=lambda x, a=a, b=b: np.array([a, b])).ok


def test_a_kink_near_the_point_does_not_disturb():
    x = np.array([1e-7, -1e-7, 1e-3, -1e-3])
    assert check(lambda x: np.maximum(x, 0).sum(), x, grad=lambda x: 1.0 * (x > 0)).ok
    assert not check(lambda x: np.maximum(x, 0).sum(), x, grad=lambda x: 1.0 * (x < 0)).ok


def test_relu_network_with_a_preactivation_of_exactly_0():
    X = np.array([[1.0, -1.0], [0.5, 0.5]])

    def f(w):
        return np.maximum(X @ w, 0).sum()

    report = check(f, np.array([1.0, 1.0]), grad=lambda w: X.T @ ((X @ w) > 0))
    assert report.ok, str(report)


def test_kinks_that_meet_accuse_nobody():
    """Backward takes 0 at both relus, the slopes are 1 and 3: no subgradient, and yet no op is wrong."""
    report = check(lambda x: (3 * torch.relu(x) - torch.relu(-x)).sum(), np.array([0.0, 1.0]))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "has no derivative there; every op by itself is right" in str(report)
    assert "check at a point beside it" in str(report)
