"""``chainrule explain``: scripts of chainrule and of PyTorch, the walker, and what is said when nothing can be."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from chainrule.cli import main

_TRAINING = """
import torch
import torch.nn as nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.tensor([[0.5, -1.0], [1.0, 2.0]])
y = torch.tensor([[1.0], [0.0]])
for epoch in range(3):
    opt.zero_grad()
    out = net(x)
    loss = nn.functional.mse_loss(out, y)
    loss.backward()
    opt.step()
print("trained")
"""
_LESSON = """
import chainrule as torch
x = torch.tensor(2.0, requires_grad=True)
z = x ** 2
y = torch.sin(z)
L = y ** 2
L.backward()
"""


@pytest.fixture
def run(tmp_path):
    def call(script, *args, input=None):
        (tmp_path / "script.py").write_text(script, encoding="utf-8")
        return CliRunner().invoke(main, ["explain", str(tmp_path / "script.py"), *args], input=input)

    return call


def test_the_lesson(run):
    found = run(_LESSON, "x")
    assert found.exit_code == 0, found.output
    assert "dL/dx = dL/dy · dy/dz · dz/dx" in found.stdout
    assert "= 2y · cos(z) · 2x" in found.stdout


def test_a_pytorch_script_explained_before_its_last_update(run):
    found = run(_TRAINING, "0.weight[1,0]", "--json")
    assert found.exit_code == 0, found.output
    data = json.loads(found.stdout)
    assert data["derivative"] == "dL/d0.weight[1,0]"
    first = data["equations"][0]
    assert sum(t["value"] for t in first["terms"]) + first["rest"]["sum"] == pytest.approx(data["value"], rel=1e-5)


def test_source_listing_latex_and_picture(run, tmp_path):
    assert "def backward(cache):" in run(_TRAINING, "--source").stdout
    assert "out = net(x)" in run(_TRAINING, "--annotate").stdout
    assert r"\begin{aligned}" in run(_LESSON, "x", "--latex").stdout
    assert run(_TRAINING, "--draw", str(tmp_path / "g.svg")).exit_code == 0
    assert (tmp_path / "g.svg").read_text(encoding="utf-8").startswith("<svg")
    assert "dL/dx" in run(_LESSON, "x", "--order", "2").stdout


def test_the_walker(run):
    found = run(_LESSON, "--step", input="n\nn\nb\nj x\ne x\ng\nn\nq\n")
    assert found.exit_code == 0, found.output
    assert "dL/dy =" in found.stdout
    assert "dL/dx = dL/dy · dy/dz · dz/dx" in found.stdout
    assert "That was the last step" in found.stdout


@pytest.mark.parametrize(
    ("script", "args", "said"),
    [
        ("import chainrule as torch\ntorch.ones(2)\n", (), "never calls backward()"),
        (_LESSON, ("W[0]",), "nothing in this graph is called W"),
        (_TRAINING, ("0.weight[9,0]",), "index 9 is out of bounds for dimension 0 with size 3"),
        (_LESSON, ("--loss", "Q"), "has no tensor called Q"),
        ("raise ValueError('broken data')\n", (), "fails: ValueError: broken data"),
        (_LESSON, ("--draw", "g.png"), "--draw writes .html"),
    ],
)
def test_one_sentence_and_the_fix(run, script, args, said):
    found = run(script, *args)
    assert found.exit_code == 2
    assert said in found.output
    assert "Traceback" not in found.output


def test_a_missing_script():
    found = CliRunner().invoke(main, ["explain", "nowhere.py"])
    assert found.exit_code == 2
    assert "there is no file nowhere.py" in found.output


def test_a_second_derivative_points_into_the_script_only(run):
    text = run(_LESSON, "x", "--order", "2").stdout
    assert "explain_cmd" not in text
    assert "script.py" in text or ".py:" in text
