"""Before training: are the gradients of this very network right? Checked numerically, in float64, on a few rows."""

from __future__ import annotations

import copy
from typing import Any

import chainrule as torch

from .. import nn
from ..check import check

__all__ = ["verify"]

ROWS = 8


def verify(model: Any, loss: Any, x: Any, y: Any, seed: int = 0) -> Any:
    """A ``check`` report for the loss of ``model`` on the first rows, with respect to every parameter.

    A copy is checked, with dropout off (a derivative needs a function) and with batch statistics on.
    """
    twin = copy.deepcopy(model)
    twin.train()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    targets = torch.from_numpy(y[:ROWS])
    if targets.is_floating_point():
        targets = targets.double()
    return check(twin, (torch.from_numpy(x[:ROWS]),), loss=lambda out: loss(out, targets), seed=seed)
