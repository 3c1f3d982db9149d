"""Padding, resizing and rearranging images and signals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.variable import wrap
from ..errors import ShapeError, UsageError, message
from ..ops import layout
from ..ops.linalg import matmul
from ..ops.pad import pad_constant, source_index, take_axis
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

__all__ = [
    "channel_shuffle", "interpolate", "native_channel_shuffle", "pad", "pixel_shuffle", "pixel_unshuffle", "upsample",
    "upsample_bilinear", "upsample_nearest",
]  # fmt: skip


# --- padding ---------------------------------------------------------------------------------------------------


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """Entries around the last axes: ``pad`` is (before, after) of the last axis, then of the one before, …

    Modes: "constant" (``value``), "reflect" (without repeating the edge), "replicate" (the edge), "circular".
    Negative numbers cut.

    >>> import chainrule as torch
    >>> torch.nn.functional.pad(torch.tensor([[1.0, 2.0]]), (1, 2))
    tensor([[0., 1., 2., 0., 0.]])
    """
    x = input._array
    pad = tuple(int(p) for p in pad)
    if len(pad) % 2:
        raise ShapeError("Padding length must be divisible by 2")
    axes = len(pad) // 2
    if axes > x.ndim:
        raise ShapeError(
            message(
                f"Padding length should be less than or equal to two times the input dimension but got padding length "
                f"{len(pad)} and input of dimension {x.ndim}"
            )
        )
    widths = [(0, 0)] * x.ndim
    for i in range(axes):
        widths[x.ndim - 1 - i] = (pad[2 * i], pad[2 * i + 1])
    for axis, (a, b) in enumerate(widths):
        if x.shape[axis] + a + b < 0:
            raise ShapeError(
                message(
                    "narrow(): length must be non-negative.",
                    f"pad: axis {axis} has {x.shape[axis]} entries, and padding of {a} before and {b} after cuts more",
                )
            )
    if mode == "constant":
        return pad_constant(input, widths=tuple(widths), value=0.0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value is not None and value != 0:
        raise ShapeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if not 1 <= axes <= 3 or x.ndim not in (axes + 1, axes + 2):
        raise NotImplementedError(
            f"Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now"
            f" (padding of {axes} axes, input of {x.ndim})"
        )
    out = input
    for axis, (a, b) in enumerate(widths):
        n = x.shape[axis]
        if a == b == 0:
            continue
        if mode == "reflect" and max(a, b) >= n:
            raise ShapeError(
                message(
                    "Argument #4: Padding size should be less than the corresponding input dimension, but got: padding "
                    f"({a}, {b}) at dimension {axis} of input {list(x.shape)}"
                )
            )
        if mode == "circular" and max(a, b) > n:
            raise ShapeError("Padding value causes wrapping around more than once.")
        out = take_axis(out, wrap(source_index(n, a, b, mode)), dim=axis)
    return out


# --- resizing --------------------------------------------------------------------------------------------------


def _positions(n: int, out: int, scale: float | None, align_corners: bool) -> np.ndarray[Any, Any]:
    """Where, on an axis of length n, each of the ``out`` samples lies."""
    i = np.arange(out)
    if align_corners:
        return i * ((n - 1) / (out - 1)) if out > 1 else i * 0.0
    return (i + 0.5) * (1 / scale if scale else n / out) - 0.5


def _linear_weights(at: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    """(n, out): how much of each entry each sample takes, between its two neighbours."""
    at = np.maximum(at, 0)
    low = np.minimum(at.astype(np.int64), n - 1)
    high = np.minimum(low + 1, n - 1)
    part = at - low
    weights = np.zeros((n, len(at)))
    columns = np.arange(len(at))
    np.add.at(weights, (low, columns), 1 - part)
    np.add.at(weights, (high, columns), part)
    return weights


def _cubic_weights(at: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    """(n, out): cubic convolution (Keys 1981, a = −3/4) over four neighbours; beyond the edge the edge repeats."""
    a = -0.75
    low = np.floor(at).astype(np.int64)
    weights = np.zeros((n, len(at)))
    columns = np.arange(len(at))
    for offset in range(-1, 3):
        d = np.abs(at - low - offset)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        np.add.at(weights, (np.clip(low + offset, 0, n - 1), columns), np.where(d <= 1, near, far))
    return weights


def _along(x: Any, weights: np.ndarray[Any, Any], axis: int) -> Any:
    """One axis of x mapped linearly."""
    ndim = x._array.ndim
    back = [*range(ndim)]
    back[axis], back[-1] = back[-1], back[axis]
    w = wrap(weights.astype(x._array.dtype))
    return layout.permute(matmul(layout.permute(x, dims=tuple(back)), w), dims=tuple(back))


_MODES = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}


def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """Signals (N, C, L), images (N, C, H, W) or volumes (N, C, D, H, W) in another size.

    Modes: nearest, nearest-exact, linear, bilinear, bicubic, trilinear, area.
    """
    x = input._array
    space = x.shape[2:]
    n = len(space)
    if mode in ("nearest", "area", "nearest-exact") and align_corners is not None:
        raise UsageError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear"
        )
    if mode not in (*_MODES, "nearest", "area", "nearest-exact") or not 1 <= n <= 3:
        raise NotImplementedError(
            "Input Error: Only 3D, 4D and 5D input Tensors supported"
            f" (got {x.ndim}D) for the modes: nearest | linear | bilinear | bicubic | trilinear | lanczos | area | "
            "nearest-exact"
            f" (got {mode})"
        )
    if mode in _MODES and _MODES[mode] != x.ndim:
        raise NotImplementedError(f"Got {x.ndim}D input, but {mode} mode needs {_MODES[mode]}D input")
    if antialias:
        raise NotImplementedError("interpolate: antialias is left out")
    if size is not None and scale_factor is not None:
        raise UsageError("only one of size or scale_factor should be defined")
    scales: list[float | None] = [None] * n
    if size is not None:
        sizes = [int(size)] * n if isinstance(size, (int, np.integer)) else [int(s) for s in size]
        if len(sizes) != n:
            raise UsageError(
                f"Input and output must have the same number of spatial dimensions, but got input with spatial "
                f"dimensions of {list(space)} and output size of {size}. Please provide input tensor in (N, C, d1, d2, "
                "...,dK) format and output size in (o1, o2, ...,oK) format."
            )
    elif scale_factor is not None:
        given = list(scale_factor) if isinstance(scale_factor, (list, tuple)) else [scale_factor] * n
        sizes = [math.floor(m * float(f)) for m, f in zip(space, given, strict=True)]
        if not recompute_scale_factor:
            scales = [float(f) for f in given]
    else:
        raise UsageError("either size or scale_factor should be defined")
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[n - 1](input, sizes)
    out = input
    for axis, (m, t, scale) in enumerate(zip(space, sizes, scales, strict=True), 2):
        if mode in ("nearest", "nearest-exact"):
            step = 1 / scale if scale else m / t
            shift = 0.5 if mode == "nearest-exact" else 0.0
            index = np.minimum(np.floor((np.arange(t) + shift) * step).astype(np.int64), m - 1)
            out = take_axis(out, wrap(index), dim=axis)
        else:
            at = _positions(m, t, scale, bool(align_corners))
            weights = _cubic_weights(at, m) if mode == "bicubic" else _linear_weights(at, m)
            out = _along(out, weights, axis)
    return out


def upsample(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Any:
    """``interpolate`` by its older name."""
    warnings.warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """``interpolate`` with mode nearest."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """``interpolate`` with mode bilinear and corners aligned."""
    return interpolate(input, size, scale_factor, "bilinear", True)


# --- channels and pixels ---------------------------------------------------------------------------------------


def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """(…, C·r², H, W) to (…, C, H·r, W·r): channels become finer pixels."""
    *lead, c, h, w = input._array.shape
    r = upscale_factor
    if c % (r * r):
        raise ShapeError(
            message(
                "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor"
                f", but input.size(-3)={c} is not divisible by {r * r}"
            )
        )
    k = len(lead)
    x = layout.reshape(input, shape=(*lead, c // (r * r), r, r, h, w))
    x = layout.permute(x, dims=(*range(k), k, k + 3, k + 1, k + 4, k + 2))
    return layout.reshape(x, shape=(*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """(…, C, H·r, W·r) to (…, C·r², H, W): the inverse of ``pixel_shuffle``."""
    *lead, c, h, w = input._array.shape
    r = downscale_factor
    for name, n in (("height", h), ("width", w)):
        if n % r:
            raise ShapeError(
                message(
                    f"pixel_unshuffle expects {name} to be divisible by downscale_factor, but input.size"
                    f"({-2 if name == 'height' else -1})={n} is not divisible by {r}"
                )
            )
    k = len(lead)
    x = layout.reshape(input, shape=(*lead, c, h // r, r, w // r, r))
    x = layout.permute(x, dims=(*range(k), k, k + 2, k + 4, k + 1, k + 3))
    return layout.reshape(x, shape=(*lead, c * r * r, h // r, w // r))


def channel_shuffle(input: Any, groups: int) -> Any:
    """Channels (N, C, …) dealt out: group by group becomes one of each group in turn."""
    n, c, *rest = input._array.shape
    if groups <= 0 or c % groups:
        raise ShapeError(
            message(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
        )
    x = layout.reshape(input, shape=(n, groups, c // groups, *rest))
    x = layout.permute(x, dims=(0, 2, 1, *range(3, 3 + len(rest))))
    return layout.reshape(x, shape=(n, c, *rest))


native_channel_shuffle = channel_shuffle
