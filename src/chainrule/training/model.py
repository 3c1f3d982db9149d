"""The network: an MLP with the options of the command line."""

from __future__ import annotations

import itertools
from typing import Any

from .. import nn
from .config import TrainConfig

__all__ = ["MLP", "build"]

_ACTIVATIONS = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU, "elu": nn.ELU,
}  # fmt: skip
_NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class Block(nn.Module):
    """Linear, norm, activation, dropout; with ``residual`` the input is added (where the widths agree)."""

    def __init__(self, n_in: int, n_out: int, config: TrainConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.norm = _NORMS[config.norm](n_out) if config.norm != "none" else None
        self.activation = _ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout) if config.dropout else None
        self.residual = config.residual and n_in == n_out

    def forward(self, x: Any) -> Any:
        h = self.linear(x)
        if self.norm is not None:
            h = self.norm(h)
        h = self.activation(h)
        if self.dropout is not None:
            h = self.dropout(h)
        return x + h if self.residual else h


class MLP(nn.Module):
    """Blocks of the hidden widths, then a linear layer."""

    def __init__(self, n_in: int, n_out: int, config: TrainConfig) -> None:
        super().__init__()
        widths = (n_in, *config.hidden)
        self.blocks = nn.Sequential(*(Block(a, b, config) for a, b in itertools.pairwise(widths)))
        self.head = nn.Linear(widths[-1], n_out)

    def forward(self, x: Any) -> Any:
        return self.head(self.blocks(x))


def build(n_in: int, n_out: int, config: TrainConfig) -> MLP:
    """The network with its initial weights drawn from ``config.seed``."""
    from .. import manual_seed

    manual_seed(config.seed)
    return MLP(n_in, n_out, config)
