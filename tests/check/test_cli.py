"""``chainrule check``: exit code 0 when right, 1 when wrong, 2 for bad input."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SOURCE = """
import numpy as np
import chainrule as torch

check_inputs = np.array([0.3, 1.0])

class Right(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g

class Wrong(Right):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return x * g

def f(x):
    return np.sum(np.sin(x))

def g(x):
    return np.cos(x)
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def run(*args):
    return subprocess.run(
        [sys.executable, "-m", "chainrule", "check", *args], capture_output=True, text=True, timeout=120
    )


def test_exit_codes(module):
    right = run(f"{module}:Right")
    assert right.returncode == 0, right.stderr
    assert right.stdout.startswith("PASS")
    wrong = run(f"{module}:Wrong")
    assert wrong.returncode == 1
    assert wrong.stdout.startswith("FAIL")
    assert "2" in wrong.stdout
    assert "mine.py:" in wrong.stdout
    unknown = run(f"{module}:Rigth")
    assert unknown.returncode == 2
    assert "Right" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    assert run(str(module) + "x:f").returncode == 2


def test_by_hand_and_json(module):
    out = run(f"{module}:f", "--grad", "g", "--json", "--shape", "2,3")
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout)["parameters"][0]["shape"] == [2, 3]


def test_import_torch_gives_chainrule(tmp_path):
    """As with ``chainrule run``: the same file, whether PyTorch is installed or not."""
    file = tmp_path / "model.py"
    file.write_text(
        "import torch\nimport torch.nn.functional as F\n\n"
        "def loss(x):\n    import torch.nn\n    return F.softplus(x).sum()\n\n"
        "assert 'chainrule' in torch.__version__\n"
    )
    done = run(f"{file}:loss")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("PASS")


def test_lines_of_code_in_a_fix_are_never_wrapped(tmp_path):
    file = tmp_path / "long.py"
    name = "a_rather_long_name_for_the_design_matrix_of_this_regression"
    file.write_text(
        f"import numpy as np\ncheck_inputs = np.array([0.5, -1.0])\n{name} = np.array([[1.0, 2.0], [3.0, 4.0]])\n\n"
        f"def f(w):\n    return np.sum(({name} @ w - np.array([1.0, 2.0])) ** 2)\n\n"
        f"def g(w):\n    return {name}.T @ ({name} @ w - np.array([1.0, 2.0]))\n"
    )
    done = run(f"{file}:f", "--grad", "g")
    assert done.returncode == 1
    (fix,) = [line for line in done.stdout.splitlines() if "change `" in line]
    assert fix.count("`") == 4
    assert len(fix) > 100
