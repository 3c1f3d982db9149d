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


SERVER = """
import os, runpy, sys, warnings
import torch, torch.distributions, torch.utils.data  # once, for all programs
for line in sys.stdin:
    program, out = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if not child:
        with open(out, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        warnings.simplefilter("ignore")
        sys.argv, sys.path[0] = [program], os.path.dirname(program)
        code = 1
        try:
            runpy.run_path(program, run_name="__main__")
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs a program in a fork of a process that has imported PyTorch: importing takes longer than most programs do."""


@pytest.fixture(scope="module")
def under_torch(tmp_path_factory):
    """A function that gives what a program prints under PyTorch."""
    folder = tmp_path_factory.mktemp("output")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as server:  # fmt: skip

        def run(program):
            out = folder / program.stem
            server.stdin.write(f"{program}\t{out}\n")
            server.stdin.flush()
            assert server.stdout.readline() == "0\n", out.read_text()
            return out.read_text()

        yield run
        server.stdin.close()


def under_chainrule(program: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "chainrule", "run", str(program)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.stem)
def test_same_output(program, under_torch):
    theirs, ours = under_torch(program), under_chainrule(program)
    assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs)
    a, b = ([float(n) for n in NUMBER.findall(text)] for text in (ours, theirs))
    assert a == pytest.approx(b, rel=TOLERANCE.get(program.stem, 1e-3), abs=1e-5)
