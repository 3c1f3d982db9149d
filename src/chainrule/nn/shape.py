"""Layers that rearrange, and distances."""

from __future__ import annotations

from typing import Any

from . import functional as F
from ._declared import NEEDED, Declared
from .module import Module

__all__ = [
    "ChannelShuffle", "CosineSimilarity", "CrossMapLRN2d", "Flatten", "LocalResponseNorm", "PairwiseDistance",
    "PixelShuffle", "PixelUnshuffle", "Unflatten",
]  # fmt: skip


class Flatten(Module):
    """Axes start_dim … end_dim as one: (N, C, H, W) → (N, C·H·W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Any) -> Any:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """The axis ``dim`` as several, of sizes ``unflattened_size``."""

    def __init__(self, dim: int | str, unflattened_size: Any) -> None:
        super().__init__()
        if not isinstance(dim, int):
            raise TypeError(f"Unflatten: named dimensions are left out, dim must be an int, not {type(dim).__name__}")
        self.dim = dim
        self.unflattened_size = unflattened_size

    def forward(self, input: Any) -> Any:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class PixelShuffle(Declared, function="pixel_shuffle", upscale_factor=NEEDED):
    """(N, C·r², H, W) to (N, C, H·r, W·r)."""


class PixelUnshuffle(Declared, function="pixel_unshuffle", downscale_factor=NEEDED):
    """(N, C, H·r, W·r) to (N, C·r², H, W)."""


class ChannelShuffle(Declared, function="channel_shuffle", groups=NEEDED):
    """Channels dealt out: one of each group in turn."""


class LocalResponseNorm(Module):
    """x / (k + α · mean of x² over neighbouring channels)^β."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Any) -> Any:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """``LocalResponseNorm`` of images, with a window that reaches equally far to both sides.

    PyTorch's running sum never lets go of channel 0: from the channel on where it should leave the window it counts
    in every sum. The values here are PyTorch's; the gradient is that of these values, which PyTorch's is not.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        super().__init__(size, alpha, beta, k)

    def forward(self, input: Any) -> Any:
        if input.dim() != 4:
            raise ValueError(f"CrossMapLRN2d: Expected input to be 4D, got {input.dim()}D instead.")
        n, c, *space = input.shape
        reach = int((self.size - 1) / 2)
        squares = (input * input).reshape(n, 1, c, -1)
        total = F.avg_pool2d(F.pad(squares, (0, 0, reach, reach)), (2 * reach + 1, 1), stride=1) * (2 * reach + 1)
        if c > reach + 1:
            total = total + F.pad(squares[:, :, :1].expand(n, 1, c - reach - 1, -1), (0, 0, reach + 1, 0))
        return input * (total.reshape(n, c, *space) * (self.alpha / self.size) + self.k) ** -self.beta


class CosineSimilarity(Module):
    """x₁ · x₂ / (‖x₁‖ · ‖x₂‖) along ``dim``."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """‖x₁ − x₂ + ε‖ₚ over the last axis."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
