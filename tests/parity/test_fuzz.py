"""Hundreds of call forms with random shapes, dtypes, layouts and arguments: the same as PyTorch, whatever is drawn."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from fuzz import choose, difference, draw, run

import chainrule

CALLS = [
    tuple(part.strip() for part in line.split("|", 1))
    for line in (Path(__file__).parent / "fuzz_calls.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
]


def differences(number, names, template, draws, special=False):
    for k in range(draws):
        rng = np.random.default_rng((number, k, special))
        expression, inputs = choose(rng, template), draw(rng, names, special)
        dtypes = {a.dtype.name for a, _, _ in inputs.values()} | {d for d in ("float16",) if d in expression}
        worst = next((d for d in ("float16", "float32") if d in dtypes), None)
        worst = worst or ("float64" if "float64" in dtypes and "float32" not in expression else "float32")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours, theirs = (run(T, expression, inputs, not special) for T in (chainrule, torch))
        found = difference(ours, theirs, worst)
        if found:
            given = ", ".join(f"{n}: {a.dtype}{list(a.shape)} {how}" for n, (a, how, _) in inputs.items())
            yield f"{expression}  [{given}]: {found}"


@pytest.mark.parametrize("number", range(len(CALLS)), ids=[f"{i}:{t[:40]}" for i, (_, t) in enumerate(CALLS)])
def test_same_as_pytorch(number):
    """Values, dtypes, shapes, what was written and shared; for ordinary entries, first and second derivatives too."""
    names, template = CALLS[number]
    assert not list(differences(number, names, template, 8))
    assert not list(differences(number, names, template, 4, special=True))
