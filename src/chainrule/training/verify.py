"""Before training: are the gradients of this very network right? Checked numerically, in float64, on a few rows.

On a small table the rows and the first weights may be a point without a derivative (constant columns under batch norm
put every relu at exactly 0), or one where nothing can be measured (batch norm of two rows is their sign). The rules of
the network are the same everywhere, so they are then checked at a point beside it, and the report says so.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

import chainrule as torch

from .. import nn
from ..check import Verdict, check
from ..check.problem import Note

__all__ = ["verify"]

ROWS = 8


def verify(model: Any, loss: Any, x: Any, y: Any, seed: int = 0) -> Any:
    """A ``check`` report for the loss of ``model`` on the first rows, with respect to every parameter.

    A copy is checked, with dropout off (a derivative needs a function) and with batch statistics on. Where that gives
    no PASS, weights and rows are moved at random and checked again; a report from there has a note of kind "moved".
    """
    twin = copy.deepcopy(model)
    twin.train()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    here = _check(twin, loss, x[:ROWS], y[:ROWS], seed)
    if here.ok:
        return here
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for p in twin.parameters():
            size = float(p.square().mean().sqrt()) or 1.0
            p.add_(torch.from_numpy(0.1 * size * rng.standard_normal(tuple(p.shape)).astype(np.float32)))
    rows = np.arange(ROWS) % len(x)
    spread = x.std(axis=0)
    spread = np.where(spread > 0, spread, np.abs(x).max(axis=0))
    spread = np.where(spread > 0, spread, 1.0)
    near = (x[rows] + 0.3 * spread * rng.standard_normal(x[rows].shape)).astype(np.float32)
    beside = _check(twin, loss, near, y[rows], seed)
    if not beside.ok:
        return beside if beside.verdict is Verdict.FAIL and here.verdict is not Verdict.FAIL else here
    why = "the loss bends (units sit exactly on a kink)" if here.kinks else "the loss is too flat to be measured"
    text = f"on the table's own rows and the first weights {why}, so rows and weights were moved a little at random"
    beside.notes.append(Note("moved", text))
    return beside


def _check(network: Any, loss: Any, x: Any, y: Any, seed: int) -> Any:
    targets = torch.from_numpy(y)
    if targets.is_floating_point():
        targets = targets.double()
    return check(network, (torch.from_numpy(x),), loss=lambda out: loss(out, targets), seed=seed)
