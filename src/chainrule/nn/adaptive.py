"""Adaptive softmax: frequent classes in a head, rare ones in clusters with smaller projections."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.live import values_read
from ..core.variable import wrap
from ..errors import ShapeError, message
from ..ops import join
from . import functional as F
from .containers import ModuleList, Sequential
from .linear import Linear
from .module import Module

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class _ASMoutput(NamedTuple):
    output: Any
    loss: Any


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log softmax over many classes, of which those below ``cutoffs[0]`` are frequent (Grave et al., 2017).

    The head gives the frequent classes and one entry per cluster of rarer ones; cluster i has an inner projection of
    in_features / div_valueⁱ⁺¹. Calling it gives (log probability of each target, their negative mean).

    >>> import chainrule as torch
    >>> layer = torch.nn.AdaptiveLogSoftmaxWithLoss(16, 20, cutoffs=[5, 10])
    >>> output, loss = layer(torch.zeros(3, 16), torch.tensor([0, 7, 19]))
    >>> output.shape, loss.shape
    (torch.Size([3]), torch.Size([]))
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if (
            cutoffs != sorted(set(cutoffs))
            or min(cutoffs) <= 0
            or max(cutoffs) > n_classes - 1
            or any(int(c) != c for c in cutoffs)
        ):
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each "
                "value is between 1 and n_classes-1"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = cutoffs[0]
        self.n_clusters = len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, bias=head_bias, dtype=dtype)
        self.tail = ModuleList()
        for i, (first, last) in enumerate(itertools.pairwise(self.cutoffs), 1):
            inner = int(in_features // (div_value**i))
            self.tail.append(
                Sequential(
                    Linear(in_features, inner, bias=False, dtype=dtype),
                    Linear(inner, last - first, bias=False, dtype=dtype),
                )
            )

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        for layer in (self.head, *itertools.chain(*self.tail)):
            layer.reset_parameters()

    def forward(self, input_: Any, target_: Any) -> Any:
        shape = f"torch.Size({list(input_.shape)})"
        if target_.dim() == 1:
            if input_.size(0) != target_.size(0):
                raise ShapeError("Input and target should have the same size in the batch dimension.")
            if input_.dim() != 2:
                raise ShapeError(f"1D target tensor expects 2D input tensors, but found inputs with size {shape}")
        elif target_.dim() == 0:
            if input_.dim() != 1:
                raise ShapeError(f"0D target tensor expects 1D input tensors, but found inputs with size {shape}")
        else:
            raise ShapeError("0D or 1D target tensor expected, multi-target not supported")
        batched = target_.dim() > 0
        x = input_ if batched else input_.unsqueeze(0)
        values_read(target_, "AdaptiveLogSoftmaxWithLoss")
        target = np.atleast_1d(target_._array)
        if target.size and not (target.min() >= 0 and target.max() < self.n_classes):
            raise ShapeError(
                message(
                    f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                    f"[{target.min()}, {target.max()}] were found. "
                )
            )
        cluster = np.searchsorted(self.cutoffs, target, side="right")  # 0: among the frequent classes
        in_head = np.where(cluster == 0, target, self.shortlist_size + cluster - 1)
        head = F.log_softmax(self.head(x), dim=1)
        output = head.gather(1, wrap(in_head[:, None])).squeeze(1)
        for i, first in enumerate(self.cutoffs[:-1]):
            rows = np.flatnonzero(cluster == i + 1)
            if rows.size:
                inner = F.log_softmax(self.tail[i](x[wrap(rows)]), dim=1)
                found = inner.gather(1, wrap(target[rows, None] - first)).squeeze(1)
                output = output.index_add(0, wrap(rows), found)
        loss = (-output).mean()
        return _ASMoutput(output if batched else output.squeeze(0), loss)

    def _full(self, input: Any, head_output: Any) -> Any:
        """The log probabilities of all classes, from the head's output."""
        head = F.log_softmax(head_output, dim=1)
        parts = [head[:, : self.shortlist_size]]
        for i, tail in enumerate(self.tail):
            parts.append(F.log_softmax(tail(input), dim=1) + head[:, self.shortlist_size + i].unsqueeze(1))
        return join.cat(*parts, dim=1)

    def log_prob(self, input: Any) -> Any:
        """The log probabilities of all classes: (N, in_features) gives (N, n_classes)."""
        return self._full(input, self.head(input))

    def predict(self, input: Any) -> Any:
        """The most probable class of each row."""
        head = self.head(input)
        best = head.argmax(dim=1)
        rest = best >= self.shortlist_size
        if not bool(rest.any()):
            return best
        best[rest] = self._full(input[rest], head[rest]).argmax(dim=1)
        return best
