"""``chainrule diagnose script.py`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from chainrule.cli import main

HEAD = """
import {name} as torch
from {name} import nn
torch.manual_seed(0)
x = torch.randn(128, 20)
y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
net = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
criterion = nn.CrossEntropyLoss()
"""

GOOD = """
for epoch in range(40):
    net.train()
    for i in range(0, 128, 32):
        optimizer.zero_grad()
        loss = criterion(net(x[i:i+32]), y[i:i+32])
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        print((net(x).argmax(1) == y).float().mean().item())
"""

SCRIPTS = {
    "stale-gradients": GOOD.replace("        optimizer.zero_grad()\n", ""),
    "dropout-at-evaluation": GOOD.replace("    net.eval()\n", ""),
    "double-softmax": GOOD.replace("criterion(net(x[i:i+32])", "criterion(torch.softmax(net(x[i:i+32]), dim=1)"),
    "clipping": GOOD.replace(
        "        optimizer.step()",
        "        torch.nn.utils.clip_grad_norm_(net.parameters(), 1e-4)\n        optimizer.step()",
    ),
    "label-range": GOOD.replace("y[i:i+32])", "y[i:i+32] + 1)"),
    "lr-too-large": "optimizer = torch.optim.SGD(net.parameters(), lr=300.0)\n" + GOOD,
    "not-in-optimizer": "optimizer = torch.optim.SGD(net[0].parameters(), lr=0.1)\n" + GOOD,
    "foreign-optimizer": GOOD.replace("        optimizer.step()\n", ""),
    "mode": GOOD.replace("    net.train()\n", "    net.eval()\n"),
}


def _run(tmp_path: Path, body: str, *options: str, name: str = "chainrule") -> tuple[int, str]:
    script = tmp_path / "script.py"
    script.write_text(HEAD.format(name=name) + body)
    result = CliRunner().invoke(main, ["diagnose", *options, str(script)])
    return result.exit_code, result.output


@pytest.mark.parametrize("code", SCRIPTS)
def test_what_is_wrong_is_found(tmp_path: Path, code: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(HEAD.format(name="chainrule") + SCRIPTS[code])
    result = CliRunner().invoke(main, ["diagnose", "--no-cures", "--json", str(script)])
    assert result.exit_code == 1, result.output
    found = json.loads(result.stdout)["findings"]
    assert found[0]["code"] == code


def test_a_good_script_is_healthy(tmp_path: Path) -> None:
    code, text = _run(tmp_path, GOOD)
    assert code == 0
    assert "nothing found" in text


def test_lines_are_the_scripts_own(tmp_path: Path) -> None:
    code, text = _run(tmp_path, SCRIPTS["double-softmax"], "--no-cures")
    line = (HEAD + SCRIPTS["double-softmax"]).splitlines().index(
        "        loss = criterion(torch.softmax(net(x[i:i+32]), dim=1), y[i:i+32])"
    ) + 1
    assert code == 1
    assert f"script.py:{line}" in text


def test_a_cure_is_tried(tmp_path: Path) -> None:
    code, text = _run(tmp_path, SCRIPTS["double-softmax"])
    assert code == 1
    assert "tried" in text


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("", "never trains"),
        ("raise KeyError('boom')", "fails before it trains"),
        ("import sys; sys.exit(3)", "exit code 3"),
    ],
)
def test_scripts_that_cannot_be_diagnosed(tmp_path: Path, body: str, sentence: str) -> None:
    code, text = _run(tmp_path, body)
    assert code == 2
    assert sentence in text


def test_a_missing_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["diagnose", str(tmp_path / "nothing.py")])
    assert result.exit_code == 2
    assert "is not a file" in result.output
