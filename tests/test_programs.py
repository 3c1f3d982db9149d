"""Programs written for PyTorch run under ``chainrule run``; each asserts at its end what it set out to show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = sorted(p for p in (Path(__file__).parent / "programs").glob("*.py") if p.stem not in ("start", "conftest"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.stem)
def test_program(program):
    command = [sys.executable, "-W", "ignore", "-m", "chainrule", "run", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
