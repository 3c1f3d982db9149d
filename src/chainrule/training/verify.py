"""Before training: are the gradients of this very network right? Checked numerically, in float64, on a few rows."""

from __future__ import annotations

import copy
from typing import Any

import chainrule as torch

from .. import nn

__all__ = ["verify"]

ROWS = 8


def verify(model: Any, loss: Any, x: Any, y: Any, seed: int = 0) -> Any:
    """A ``check`` report for the loss of ``model`` on the first rows, with respect to every parameter.

    A float64 copy is checked, with dropout off (the check needs a function) and batch statistics on.
    """
    twin = copy.deepcopy(model).double()
    twin.train()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    inputs = torch.from_numpy(x[:ROWS]).double()
    targets = torch.from_numpy(y[:ROWS])
    if targets.is_floating_point():
        targets = targets.double()
    names = [name for name, _ in twin.named_parameters()]
    parameters = {name: p.detach().clone() for name, p in twin.named_parameters()}
    buffers = {name: b.clone() for name, b in twin.named_buffers()}

    def loss_of(*values: Any) -> Any:
        fresh = {name: b.clone() for name, b in buffers.items()}
        out = torch.func.functional_call(twin, {**dict(zip(names, values, strict=True)), **fresh}, (inputs,))
        return loss(out, targets)

    return torch.check(loss_of, tuple(parameters.values()), names=names, seed=seed)
