"""Losses as modules; each is the function of that name in ``nn.functional``."""

from __future__ import annotations

from typing import Any

from ..composites.losses import reduction_of
from . import functional as F
from ._declared import Declared

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CTCLoss", "CosineEmbeddingLoss", "CrossEntropyLoss", "GaussianNLLLoss",
    "HingeEmbeddingLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "MarginRankingLoss", "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss", "MultiMarginLoss", "NLLLoss", "NLLLoss2d", "PoissonNLLLoss", "SmoothL1Loss",
    "SoftMarginLoss", "TripletMarginLoss", "TripletMarginWithDistanceLoss",
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


class NLLLoss2d(NLLLoss):
    """``NLLLoss`` by its older name for images."""


class KLDivLoss(Loss, function="kl_div", **_OLD, reduction="mean", log_target=False):
    """t (log t − x), for log probabilities x."""


class PoissonNLLLoss(
    Loss, function="poisson_nll_loss", log_input=True, full=False, size_average=None, eps=1e-8, reduce=None,
    reduction="mean",
):  # fmt: skip
    """eˣ − t·x."""


class GaussianNLLLoss(Loss, function="gaussian_nll_loss", full=False, eps=1e-6, reduction="mean"):
    """½ (log var + (x − t)² / var)."""


class CosineEmbeddingLoss(Loss, function="cosine_embedding_loss", margin=0.0, **_OLD, reduction="mean"):
    """1 − cos(x₁, x₂) where the target is 1, max(0, cos − margin) where it is −1."""


class HingeEmbeddingLoss(Loss, function="hinge_embedding_loss", margin=1.0, **_OLD, reduction="mean"):
    """x where the target is 1, max(0, margin − x) where it is −1."""


class MarginRankingLoss(Loss, function="margin_ranking_loss", margin=0.0, **_OLD, reduction="mean"):
    """max(0, −t (x₁ − x₂) + margin)."""


class MultiLabelMarginLoss(Loss, function="multilabel_margin_loss", **_OLD, reduction="mean"):
    """Σ max(0, 1 − x[t] + x[i]) / C over targets t and other classes i."""


class MultiLabelSoftMarginLoss(Loss, function="multilabel_soft_margin_loss", weight=None, **_OLD, reduction="mean"):
    """Binary cross-entropy of each class's logit, averaged over the classes."""


class MultiMarginLoss(Loss, function="multi_margin_loss", p=1, margin=1.0, weight=None, **_OLD, reduction="mean"):
    """Σ max(0, margin − x[t] + x[i])ᵖ / C over the other classes."""


class SoftMarginLoss(Loss, function="soft_margin_loss", **_OLD, reduction="mean"):
    """log(1 + e^(−t·x))."""


class TripletMarginLoss(
    Loss, function="triplet_margin_loss", margin=1.0, p=2.0, eps=1e-6, swap=False, **_OLD, reduction="mean"
):
    """max(0, d(a, p) − d(a, n) + margin)."""


class TripletMarginWithDistanceLoss(
    Loss, function="triplet_margin_with_distance_loss", distance_function=None, margin=1.0, swap=False,
    reduction="mean",
):  # fmt: skip
    """``TripletMarginLoss`` with a distance of one's own."""


class CTCLoss(Loss, function="ctc_loss", blank=0, reduction="mean", zero_infinity=False):
    """−log of the probability of all alignments of a label sequence."""
