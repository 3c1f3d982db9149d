"""The same programs under PyTorch and under chainrule: same words, same numbers.

Parameters and noise come from NumPy, so both start equal. Programs in float32 amplify rounding (2⁻²⁴ per op) over up to
a few hundred dependent steps; 1e-3 relative with 1e-5 absolute is what separates that from a wrong formula, which shows
in the first digits of the later losses. Programs in float64 are held to 1e-6.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "programs"
PROGRAMS = sorted(p for p in FOLDER.glob("*.py") if p.stem not in ("start", "conftest"))
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e[+-]?\d+)?(?![\w.])|-?\d+\.\d+(?:e[+-]?\d+)?")
TOLERANCE = {"schedulers": 1e-6, "pinn": 1e-6}


def output(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.stem)
def test_same_output(program):
    theirs = output(str(program))
    ours = output("-m", "chainrule", "run", str(program))
    assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs)
    a, b = ([float(n) for n in NUMBER.findall(text)] for text in (ours, theirs))
    assert a == pytest.approx(b, rel=TOLERANCE.get(program.stem, 1e-3), abs=1e-5)
