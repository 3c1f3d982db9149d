"""Losses as modules; each is the function of that name in ``nn.functional``."""

from __future__ import annotations

from typing import Any

from ..composites.losses import reduction_of
from . import functional as F
from ._declared import Declared

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "L1Loss", "MSELoss", "NLLLoss", "SmoothL1Loss",
]  # fmt: skip

_OLD: dict[str, Any] = {"size_average": None, "reduce": None}


class Loss(Declared):
    """A loss with its settings. ``weight`` and ``pos_weight`` are buffers, so they move with the module."""

    reduction: str

    def _set(self, values: dict[str, Any]) -> None:
        average, reduces = values.pop("size_average", None), values.pop("reduce", None)
        if average is not None or reduces is not None:
            values["reduction"] = reduction_of(values["reduction"], average, reduces)
        for key, value in values.items():
            if key in ("weight", "pos_weight"):
                self.register_buffer(key, value)
            else:
                setattr(self, key, value)

    def forward(self, *inputs: Any) -> Any:
        d = self._settings
        return getattr(F, self._function)(*inputs, **{k: getattr(self, k) for k in d if k not in _OLD})

    def extra_repr(self) -> str:
        return ""


class MSELoss(Loss, function="mse_loss", **_OLD, reduction="mean"):
    """Mean squared error, Σ (x − y)² / n."""


class L1Loss(Loss, function="l1_loss", **_OLD, reduction="mean"):
    """Mean absolute error, Σ |x − y| / n."""


class SmoothL1Loss(Loss, function="smooth_l1_loss", **_OLD, reduction="mean", beta=1.0):
    """(x − y)² / (2β) where |x − y| < β, else |x − y| − β/2."""


class HuberLoss(Loss, function="huber_loss", reduction="mean", delta=1.0):
    """(x − y)² / 2 where |x − y| < δ, else δ (|x − y| − δ/2)."""


class CrossEntropyLoss(
    Loss, function="cross_entropy", weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
    label_smoothing=0.0,
):  # fmt: skip
    """−log softmax(x)[target], for logits x; the gradient of the mean is (p − onehot(target)) / n."""


class NLLLoss(
    Loss, function="nll_loss", weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"
):
    """−x[target], for log probabilities x."""


class BCELoss(Loss, function="binary_cross_entropy", weight=None, **_OLD, reduction="mean"):
    """−(t log p + (1 − t) log(1 − p)), for probabilities p."""


class BCEWithLogitsLoss(
    Loss, function="binary_cross_entropy_with_logits", weight=None, **_OLD, reduction="mean", pos_weight=None
):
    """Binary cross-entropy of σ(x), for logits x."""
