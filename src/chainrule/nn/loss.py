"""Losses as modules; each is the function of that name in ``nn.functional``."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ..composites.losses import reduction_of
from . import functional as F
from ._declared import Declared
from .linear import Linear
from .module import Module

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CTCLoss", "CosineEmbeddingLoss", "CrossEntropyLoss", "GaussianNLLLoss",
    "HingeEmbeddingLoss", "HuberLoss", "KLDivLoss", "L1Loss", "LinearCrossEntropyLoss", "LinearCrossEntropyOptions",
    "MSELoss", "MarginRankingLoss", "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss", "MultiMarginLoss", "NLLLoss", "NLLLoss2d", "PoissonNLLLoss", "SmoothL1Loss",
    "SoftMarginLoss", "TripletMarginLoss", "TripletMarginWithDistanceLoss",
]  # fmt: skip

_OLD: dict[str, Any] = {"size_average": None, "reduce": None}


class _Loss(Module):
    """What programs derive losses of their own from; every loss here is one."""

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction
        if size_average is not None or reduce is not None:
            self.reduction = reduction_of(reduction, size_average, reduce)


class _WeightedLoss(_Loss):
    """The same with a weight for each class."""

    def __init__(
        self, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


class Loss(Declared, _Loss):
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


@dataclasses.dataclass(slots=True, frozen=True)
class LinearCrossEntropyOptions:
    """How PyTorch cuts the batch of a ``LinearCrossEntropyLoss`` into pieces; accepted here, without effect."""

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: Any = None

    def __post_init__(self) -> None:
        if self.acc_policy not in ("auto", "accurate", "balanced", "compact"):
            raise ValueError(f"invalid acc_policy: {self.acc_policy!r}")
        if self.chunking_method not in (None, "auto"):
            name, _, factor = self.chunking_method.partition(":")
            factor = factor if ":" in self.chunking_method else "1"
            if name != "aspect_ratio" or not factor.isdigit() or int(factor) == 0:
                raise ValueError(f"invalid chunking_method: {self.chunking_method!r}")
        size = self.batch_chunk_size
        if size is not None and not (isinstance(size, int) and size > 0):
            raise ValueError(f"batch_chunk_size must be positive int or None, got {size!r}")


class LinearCrossEntropyLoss(Module):
    """Cross-entropy of a linear layer's logits; the layer, ``linear``, belongs to the loss."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: LinearCrossEntropyOptions | None = None,
    ) -> None:
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise RuntimeError(f"expected weight shape to be {(num_classes,)}, got {tuple(weight.shape)}")
        if not 0 <= label_smoothing <= 1:
            raise RuntimeError(f"expected label_smoothing to be in range [0, 1], got {label_smoothing}")
        super().__init__()
        self.reduction = reduction
        self.register_buffer("weight", weight)
        self.num_classes = num_classes
        self.out_features = out_features
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.linear = Linear(in_features, math.prod(out_features, start=num_classes), bias=bias, dtype=dtype)
        self.options = options

    def forward(self, input: Any, target: Any) -> Any:
        rows = (self.num_classes, *self.out_features)
        bias = self.linear.bias
        return F.linear_cross_entropy(
            input,
            self.linear.weight.reshape(*rows, -1),
            target,
            linear_bias=None if bias is None else bias.reshape(rows),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )

    def extra_repr(self) -> str:
        names = ("reduction", "ignore_index", "label_smoothing", "options")
        shown = {
            "in_features": self.linear.in_features,
            "num_classes": self.num_classes,
            "out_features": self.out_features,
            "bias": self.linear.bias is not None,
            **{name: getattr(self, name) for name in names},
        }
        return ", ".join(f"{name}={value}" for name, value in shown.items())
