"""The lesson's examples, symbol for symbol; and every printed equation, computed again from its text."""

from __future__ import annotations

import inspect
import itertools
import math
import re

import numpy as np
import pytest

import chainrule as torch
from chainrule.explain import backward_source, explain
from chainrule.explain.expression import evaluate, number, numbers, parse, symbol, text
from chainrule.nn import functional as F


def _double(values, grad=True):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def test_the_first_example():
    x = _double(math.sqrt(2))
    z = x**2
    y = torch.sin(z)
    L = y**2
    lines = str(explain(L, x)).splitlines()
    assert [re.split(r"\s{2,}", line.strip())[0] for line in lines[:3]] == ["L = y²", "y = sin(z)", "z = x²"]
    assert lines[-3:] == [
        "dL/dx = dL/dy · dy/dz · dz/dx",
        "      = 2y · cos(z) · 2x",
        "      = 2(0.909297) · (−0.416147) · 2(1.414214) = −2.140561",
    ]
    assert explain(L, x).value == pytest.approx(2 * math.sin(2) * math.cos(2) * 2 * math.sqrt(2), rel=1e-14)


def test_the_neuron():
    w, b, x, y = _double([0.5, -1.0]), _double(0.25), _double([1.0, 2.0], False), _double(1.0, False)
    z = (w * x).sum() + b
    a = torch.sigmoid(z)
    L = (a - y) ** 2
    lines = str(explain(L, w[1])).splitlines()
    assert lines[-3] == "dL/dw[1] = dL/da · da/dz · dz/dw[1]"
    assert lines[-2].strip() == "= 2(a − y) · a(1 − a) · x[1]"
    assert explain(L, b).equation.split(" = ")[2] == "2(a − y) · a(1 − a)"
    assert explain(L, w[1]).value == pytest.approx(-0.538217, abs=1e-6)


def test_one_weight_of_two_layers():
    x, y = _double([[0.7]], False), _double([[1.0]], False)
    W1, w2 = _double([[0.3, -0.4]]), _double([[0.6], [0.9]])
    a1 = torch.tanh(x @ W1)
    a = a1 @ w2
    L = ((a - y) ** 2).sum()
    assert explain(L, W1[0, 1]).equation.split(" = ")[2] == ("2(a[0,0] − y[0,0]) · w2[1,0] · (1 − a1[0,1]²) · x[0,0]")


def _mlp():
    rng = np.random.default_rng(0)

    def T(*s):
        return torch.tensor(rng.normal(size=s).astype("float32"), requires_grad=True)

    W1, b1, W2, b2 = T(4, 8), T(8), T(8, 3), T(3)
    x, y = torch.tensor(rng.normal(size=(6, 4)).astype("float32")), torch.tensor([0, 1, 2, 1, 0, 2])
    z1 = x @ W1 + b1
    a1 = torch.relu(z1)
    z2 = a1 @ W2 + b2
    loss = F.cross_entropy(z2, y)
    return loss, {"W1": W1, "b1": b1, "W2": W2, "b2": b2}, backward_source(loss)


def test_the_lessons_backward_pass_and_nothing_superfluous():
    loss, leaves, source = _mlp()
    body = source.split("def backward(cache):")[1].splitlines()[2:-1]
    assert [line.split("#")[0].strip() for line in body] == [
        "dz2 = (p - y) / n",
        "dW2 = a1.T @ dz2",
        "db2 = dz2.sum(axis=0)",
        "da1 = dz2 @ W2.T",
        "dz1 = da1 * (z1 > 0)",
        "dW1 = x.T @ dz1",
        "db1 = dz1.sum(axis=0)",
    ]
    assert all("#" in line for line in body)
    assert "sum over the batch: b1 was broadcast" in source
    assert "W2.T: carries the gradient from z2's space back to a1's" in source
    f = source.functions()
    value, cache = f["forward"](**source.inputs)
    gradients = f["backward"](cache)
    loss.backward()
    assert value == loss.item()
    for name, t in leaves.items():
        np.testing.assert_array_equal(gradients[name], t.grad.numpy())


def test_terms_and_rest_add_up_in_print():
    loss, leaves, _ = _mlp()
    found = explain(loss, leaves["W1"][0, 1], terms=2).to_dict()
    for e in found["equations"]:
        assert sum(t["value"] for t in e["terms"]) + e["rest"]["sum"] == pytest.approx(e["value"], rel=1e-5, abs=1e-9)
        for t in e["terms"]:
            assert t["upstream"] * t["factor"] == pytest.approx(t["value"], rel=1e-6, abs=1e-12)
            assert evaluate(t["numbers"]) == pytest.approx(t["factor"], rel=2e-4, abs=2e-6)
            assert t["line"].startswith("test_lesson.py:")


_UNARY = ("exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "relu", "abs", "square", "reciprocal", "tan", "atan",
          "log1p", "expm1", "sinh", "cosh")  # fmt: skip


@pytest.mark.parametrize("name", _UNARY)
def test_every_printed_equation_is_true(name):
    x = _double(0.7)
    h = getattr(torch, name)(x * 0.9)
    L = h * h + 3 * h
    (value,) = torch.autograd.grad(L, x, retain_graph=True)
    _equations_hold(str(explain(L, x)), value.item())


def test_second_derivative():
    x = _double(math.sqrt(2))
    z = x**2
    y = torch.sin(z)
    L = y**2
    found = explain(L, x, order=2)
    s, c, v = math.sin(4), math.cos(4), math.sqrt(2)
    assert found.value == pytest.approx(8 * v * v * c + 2 * s, rel=1e-12)
    _equations_hold(str(found), found.value)


def _equations_hold(printed, value):
    """All right-hand sides made of numbers only are equal, line by line; the first derivative has its value."""
    checked = 0
    for line in printed.splitlines():
        line = re.sub(r"\s{2,}\S.*$", "", line.rstrip()) if not line.startswith(" ") else line
        values = []
        for side in re.split(
            r" = |sum of \d+: ", re.sub(r"\s{3,}(through .*|\(\d+ more.*|\S+\.py:\d+.*)", "", line.strip())
        ):
            try:
                values.append(evaluate(side))
            except ValueError:
                continue
        for a, b in itertools.pairwise(values):
            assert a == pytest.approx(b, rel=3e-5, abs=3e-6), line
            checked += 1
    assert checked
    numbers_in = [float(n.replace("−", "-")) for n in re.findall(r"−?\d+\.\d+", printed)]
    assert any(n == pytest.approx(value, rel=1e-5, abs=1e-6) for n in numbers_in)


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("2·a·cos(y)", "2a · cos(y)"), ("a · (1 − a)", "a(1 − a)"), ("1 − a²", "1 − a²"), ("−a / y", "−a / y"),
        ("[a > 0]", "[a > 0]"), ("n · a^(n − 1)", "2a"), ("1 / (2 · √(a))", "1 / (2 · √(a))"), ("|a| + 0", "|a|"),
    ],
)  # fmt: skip
def test_formulas_read_write_and_evaluate(source, printed):
    names = {"a": symbol("a", 0.6), "y": symbol("y", 1.5), "n": number(2)}
    e = parse(source, names)
    assert text(e) == printed
    assert evaluate(printed, {"a": 0.6, "y": 1.5}) == pytest.approx(e.value)
    assert evaluate(numbers(e)) == pytest.approx(e.value, rel=1e-5)


def test_latex_has_the_same_factors():
    x = _double(0.5)
    y = torch.sin(x)
    L = y**2
    made = explain(L, x).to_latex()
    assert r"\frac{\partial L}{\partial y} \cdot \frac{\partial y}{\partial x}" in made
    assert r"2y \cdot \cos(x)" in made


def _net():
    torch.manual_seed(0)
    x, y = _double([[1.0, 2.0]], False), _double([[1.0]], False)
    W1, W2 = _double([[0.5, -0.3], [0.2, 0.8]]), _double([[0.7], [-0.4]])
    h = torch.tanh(x @ W1)
    L = ((h @ W2 - y) ** 2).mean()
    return W1, L


def test_what_has_no_name_is_called_by_how_it_was_computed():
    W1, L = _net()
    assert "2((h W2)[0,0] − y[0,0]) · W2[1,0] · (1 − h[0,1]²) · x[0,0]" in str(explain(L, W1[0, 1]))
    assert r"2((h \, \mathrm{W2})_{0,0} - y_{0,0})" in explain(L, W1[0, 1]).to_latex()


def test_a_second_derivative_speaks_of_the_first_ones():
    """Names for the gradients inside of it, no internal numbers, and no line that only asked for the explanation."""
    W1, L = _net()
    found = str(explain(L, W1, (0, 1), order=2))
    assert "dL/dh = (2(h W2 − y)) W2ᵀ" in found
    assert "dL/dW1[0,1] = (xᵀ (dL/dh · (1 − h · h)))[0, 1]" in found
    assert not re.search(r"(matmul|mul|swap|sub|const)\[?\d", found)
    lines, first = inspect.getsourcelines(_net)
    inside = {str(k) for k, line in enumerate(lines, first) if line.strip().startswith(("h =", "L ="))}
    assert set(re.findall(r"test_lesson.py:(\d+)", found)) == inside


def test_latex_keeps_the_entry_of_what_has_no_name_and_every_equation():
    W1, L = _net()
    explanation = explain(L, W1, (0, 1), order=2)
    made = explanation.to_latex()
    assert r"(\partial L / \partial h) \cdot  (1 - h \cdot  h)" in made
    assert r"{\partial (x \, \mathrm{W1})_{0,1}}" in made
    assert made.count("&=") >= 2 * len(explanation.chain)
    above = r"\partial (\partial L / \partial \mathrm{W1})_{0,1}"
    assert rf"\frac{{{above}}}{{\partial (\partial L / \partial h)_{{0,1}}}}" in made
    assert made.count("{") == made.count("}")
    assert not re.search("[−·²ᵀ]", made)
