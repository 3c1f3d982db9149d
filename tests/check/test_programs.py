"""What it takes: functions of tensors, modules, custom functions, data, nested inputs; the first bad op."""

from __future__ import annotations

import json

import numpy as np
import pytest

import chainrule as torch
import chainrule.check as check
from chainrule import nn
from chainrule.check import Verdict, WrongGradientError


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x * x


class WrongCube(Cube):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x


def test_functions_of_tensors_first_and_second_order():
    for order in (1, 2):
        assert check(lambda x: (x.exp() * x.sin()).sum(), np.array([0.3, -1.0]), order=order).ok
    assert check(lambda a, b: (a @ b).tanh().sum(), (np.ones((2, 3)), np.ones((3, 2)) * 0.3), order=2).ok
    assert check(lambda p: (p["a"] * p["b"]).sum(), {"a": np.ones(2), "b": np.ones(2) * 3}).ok
    assert check(lambda a, b: (a * b).sum(), {"a": np.ones(2), "b": np.ones(2) * 3}).ok


def test_captured_float32_tensors_are_float64_meanwhile_and_float32_again():
    w = torch.randn(3, 2)
    kept = w.numpy().copy()
    assert check(lambda x: (x @ w).sum(), np.ones((2, 3))).ok
    assert w.dtype is torch.float32
    np.testing.assert_array_equal(w.numpy(), kept)


def test_parameters_read_by_a_function_without_arguments():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    report = check(lambda: (w**3).sum(), {"w": w})
    assert report.ok
    assert report.parameters[0].name == "w"
    np.testing.assert_array_equal(w.detach().numpy(), np.float32([1, 2]))
    assert w.dtype is torch.float32
    assert w.grad is None


def test_modules_with_a_loss():
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    report = check(net, x, loss=(nn.CrossEntropyLoss(), y))
    assert report.ok
    assert {p.name for p in report.parameters} >= {"0.weight", "0.bias", "1.weight", "3.bias"}
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k])


def test_an_embeddings_padding_row_is_no_mistake():
    net = nn.Sequential(nn.Embedding(5, 3, padding_idx=1), nn.Linear(3, 2))
    report = check(net, (), data=(torch.tensor([0, 1, 4, 1]),))
    assert report.ok
    assert any(n.kind == "padding" for n in report.notes)


def test_custom_functions():
    assert check(Cube, np.array([1.0, 2.0, -3.0])).ok
    assert check(Cube, np.array([1.0, 2.0, -3.0]), order=2).ok
    report = check(WrongCube, np.array([1.0, 2.0, -3.0]))
    assert report.verdict is Verdict.FAIL
    assert "WrongCube" in report.mistakes[0].title


def test_the_first_bad_op_is_named_not_everything_before_it():
    w = torch.randn(3, 3)
    report = check(lambda x: (WrongCube.apply((x @ w).tanh()).exp() * 2).sum(), np.array([[0.3, -0.7, 1.1]]))
    top = report.mistakes[0]
    assert len(report.mistakes) == 1
    assert top.details["op"] == "WrongCube"
    assert top.line.source == "return g * 3 * x"
    assert top.verified
    assert top.line.replacement == "return g * 3 * x * x"
    assert "test_programs.py" in top.evidence


def test_an_op_with_a_wrong_rule_is_found(monkeypatch):
    from chainrule.core.op import registry

    rule = registry["tanh"].rules[0]
    assert rule is not None
    right = rule.fn
    for holder in (rule,):
        monkeypatch.setattr(holder, "fn", lambda g, *saved: -right(g, *saved)) if not hasattr(
            type(holder), "__dataclass_params__"
        ) else None
    object.__setattr__(rule, "fn", lambda g, *saved: -right(g, *saved))
    try:
        report = check(lambda x: (x.sin().tanh() * x).sum(), np.array([0.3, 1.0]))
    finally:
        object.__setattr__(rule, "fn", right)
    assert report.verdict is Verdict.FAIL
    assert report.mistakes[0].details["op"] == "tanh"
    assert report.mistakes[0].kind == "sign"


def test_data_and_nested_inputs_of_numpy_functions():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2)), rng.normal(size=5)

    def loss(w, x, y):
        return np.mean((x @ w - y) ** 2)

    def grad(w, x, y):
        return 2 / len(y) * x.T @ (x @ w - y)

    assert check(loss, rng.normal(size=2), grad=grad, data=(x, y)).ok
    nested = {"layers": [rng.normal(size=(2, 2)), rng.normal(size=2)]}
    assert check(
        lambda p: np.sum(p["layers"][0] ** 2) + np.sum(p["layers"][1]),
        nested,
        grad=lambda p: {"layers": [2 * p["layers"][0], np.ones(2)]},
    ).ok
    assert check(
        lambda a, b: np.sum(a * b), {"a": np.ones(2), "b": np.ones(2)}, grad=lambda a, b: {"grad_a": b, "dL_db": a}
    ).ok
    assert check(lambda x: np.sum(x**2), np.ones(2), grad=2 * np.ones(2)).ok
    assert check(lambda x: (np.sum(x**2), "cache"), np.ones(2), grad=lambda x: 2 * x).ok


def test_the_report_in_all_its_forms():
    right = check(lambda x: np.sum(x**2), np.ones(3), grad=lambda x: 2 * x)
    assert right
    assert right.raise_if_wrong() is right
    wrong = check(lambda x: np.sum(x**2), np.arange(1.0, 40), grad=lambda x: x)
    with pytest.raises(WrongGradientError) as error:
        wrong.raise_if_wrong()
    assert error.value.report is wrong
    assert isinstance(error.value, AssertionError)
    text = str(wrong)
    assert text.startswith("FAIL")
    assert len(text.splitlines()) <= 24
    assert max(len(line) for line in text.splitlines() if "`" not in line) <= 100, "only code is not wrapped"
    data = json.loads(json.dumps(wrong.to_dict()))
    assert data["verdict"] == "FAIL"
    assert data["mistakes"][0]["kind"] == "factor"
    assert data["mistakes"][0]["line"]["replacement"]
    assert "FAIL" in wrong._repr_html_()
    assert "<pre" in wrong._repr_html_()
    assert "\x1b" not in text


def test_sampling_is_seeded_and_its_cost_is_stated():
    w = np.random.default_rng(0).normal(size=(60, 40))
    first = check(lambda w: np.sum(np.sin(w)), w, grad=np.cos, seed=3)
    second = check(lambda w: np.sum(np.sin(w)), w, grad=np.cos, seed=3)
    assert [e.index for e in first.worst] == [e.index for e in second.worst]
    assert first.parameters[0].checked < 20
    assert first.directions == 2
    assert "of 2400 entries" in str(first)
    assert "evaluations" in str(first)


@pytest.mark.parametrize("seed", range(5))
def test_one_wrong_entry_among_thousands_is_seen_by_the_directions(seed):
    w = np.random.default_rng(0).normal(size=(60, 40))

    def grad(w):
        g = np.cos(w)
        g[37, 11] *= -1
        return g

    assert check(lambda w: np.sum(np.sin(w)), w, grad=grad, seed=seed).verdict is Verdict.FAIL


def test_progress_bar_and_full(capsys):
    report = check(lambda w: np.sum(np.sin(w)), np.ones(30), grad=np.cos, full=True, progress=True)
    assert report.ok
    assert report.parameters[0].checked == 30
    assert capsys.readouterr().out == ""


def test_without_source_the_functions_own_values_say_what_the_line_should_be():
    rng = np.random.default_rng(0)
    X, U = rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
    text = """
def grad(W):
    z = X @ W
    da = U
    dW = X.T @ da
    return dW
"""
    scope = {"X": X, "U": U, "np": np}
    exec(text, scope)  # no file, no source
    report = check(lambda W: np.sum(U * np.maximum(X @ W, 0)), rng.normal(size=(3, 4)), grad=scope["grad"])
    assert report.verdict is Verdict.FAIL
    assert report.mistakes[0].kind == "activation"
    assert "X.T @ (" in report.mistakes[0].fix
    assert "(z > 0)" in report.mistakes[0].fix
