"""Follow-through marking: a mistake is one mark, where it is made."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule.check as check
from chainrule.check import WrongGradientError
from chainrule.errors import UsageError

rng = np.random.default_rng(0)
X = rng.normal(size=(8, 4))
Y = np.eye(3)[rng.integers(0, 3, size=8)]
P = {"W1": rng.normal(size=(4, 5)), "b1": rng.normal(size=5), "W2": rng.normal(size=(5, 3)), "b2": rng.normal(size=3)}


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def forward(X, Y, W1, b1, W2, b2):
    z1 = X @ W1 + b1
    a1 = np.maximum(z1, 0)
    z2 = a1 @ W2 + b2
    p = softmax(z2)
    loss = -np.mean(np.sum(Y * np.log(p), axis=1))
    return loss, {"z1": z1, "a1": a1, "p": p}


def backward(cache, X, Y, W2, wrong=()):
    dz2 = cache["p"] - Y if "dz2" in wrong else (cache["p"] - Y) / 8
    dW2 = 2 * cache["a1"].T @ dz2 if "dW2" in wrong else cache["a1"].T @ dz2
    db2 = dz2 if "db2" in wrong else dz2.sum(axis=0)
    da1 = -dz2 @ W2.T if "da1" in wrong else dz2 @ W2.T
    dz1 = da1 if "dz1" in wrong else da1 * (cache["z1"] > 0)
    dW1 = X.T @ da1 if "dW1" in wrong else X.T @ dz1
    db1 = dz1.mean(axis=0) if "db1" in wrong else dz1.sum(axis=0)
    return {"dz2": dz2, "dW2": dW2, "b2_grad": db2, "grad_a1": da1, "dL_dz1": dz1, "dW1": dW1, "db1": db1}


def mark(*wrong):
    return check.steps(forward, lambda cache, X, Y, W2: backward(cache, X, Y, W2, wrong), X, Y, **P)


def test_a_right_backward_gets_full_marks_and_names_are_matched():
    marks = mark()
    assert marks.ok, str(marks)
    assert [m.value for m in marks.marks] == ["z2", "W2", "b2", "a1", "z1", "W1", "b1"]
    assert marks.raise_if_wrong() is marks


@pytest.mark.parametrize(
    ("wrong", "gradient", "kind", "formula"),
    [
        ("dz2", "dz2", "sum-mean", "(p - Y) / 8"),
        ("dW2", "dW2", "factor", "a1.T @ dz2"),
        ("db2", "b2_grad", "batch-sum", "dz2.sum(axis=0)"),
        ("da1", "grad_a1", "sign", "dz2 @ W2.T"),
        ("dz1", "dL_dz1", "activation", "da1 * (z1 > 0)"),
        ("dW1", "dW1", None, "X.T @ dz1"),
        ("db1", "db1", "sum-mean", "dz1.sum(axis=0)"),
    ],
)
def test_one_mistake_is_one_mark(wrong, gradient, kind, formula):
    marks = mark(wrong)
    assert [m.gradient for m in marks.wrong] == [gradient], str(marks)
    assert formula in marks.wrong[0].formula
    if kind is not None:
        assert marks.wrong[0].kind == kind
    assert str(marks).count("✗") == 1
    assert str(marks).count("✓") == 6
    with pytest.raises(WrongGradientError):
        marks.raise_if_wrong()


def test_three_mistakes_are_three_marks():
    assert [m.gradient for m in mark("dz2", "dz1", "db1").wrong] == ["dz2", "dL_dz1", "db1"]


def test_paths_that_meet():
    def residual(x, w):
        h = np.tanh(x * w)
        y = h + x
        loss = 0.5 * np.sum(y**2)
        return loss

    right = lambda x, w, h, y: {"dy": y, "dh": y, "dx": y + y * (1 - h**2) * w, "dw": y * (1 - h**2) * x}
    lost = lambda x, w, h, y: {"dy": y, "dh": y, "dx": y * (1 - h**2) * w, "dw": y * (1 - h**2) * x}
    x, w = rng.normal(size=4), rng.normal(size=4)
    assert check.steps(residual, right, x, w).ok
    assert [m.gradient for m in check.steps(residual, lost, x, w).wrong] == ["dx"]


def test_bad_input():
    with pytest.raises(UsageError):
        check.steps(forward, lambda cache: 3, X, Y, **P)
    with pytest.raises(UsageError):
        check.steps(forward, lambda cache: {"dnothing": X}, X, Y, **P)
    with pytest.raises(UsageError):
        check.steps(np.sum, lambda cache: {}, X)


def test_dict_and_html():
    marks = mark("dz2")
    assert marks.to_dict()["marks"][0]["right"] is False
    assert "✗" in marks._repr_html_()
