"""Sampling images and volumes at the points of a grid, and the grids of affine maps."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dtypes import FLOATS
from ..core.live import values_of
from ..core.size import Size
from ..core.state import state
from ..core.variable import wrap
from ..errors import DtypeError, ShapeError, UsageError, message
from ..ops import elementwise, layout
from ..ops import gather as gather_ops
from ..ops.compare import where
from ..ops.linalg import matmul

__all__ = ["affine_grid", "grid_sample"]


def _default_corners(align_corners: bool | None) -> bool:
    if align_corners is None:
        warnings.warn(
            "Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please "
            "specify align_corners=True if the old behavior is desired. See the documentation of grid_sample for "
            "details.",
            stacklevel=3,
        )
    return bool(align_corners)


def _symmetric(m: int, dtype: Any) -> Any:
    """From −1 to 1 in m steps, rounded as PyTorch does: the grid of the identity hits the pixels' centres exactly,
    where the gradient jumps, so the last bit decides on which side of it the points lie."""
    if m == 1:
        return np.zeros(1, dtype)
    step, i = dtype.type(2) / dtype.type(m - 1), np.arange(m, dtype=dtype)
    return np.where(i < m // 2, -1 + step * i, 1 - step * (m - 1 - i))


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Any:
    """The grid of points θ · (x, y, 1) for the pixels of an image of ``size``: theta (N, 2, 3) gives (N, H, W, 2).

    In three dimensions theta (N, 3, 4) gives (N, D, H, W, 3). x runs over the last axis, from −1 to 1 between the
    centres of the first and last pixel (``align_corners``) or between their outer edges.
    """
    align_corners = _default_corners(align_corners)
    shown = str(size) if isinstance(size, Size) else str(tuple(size))
    if theta._array.dtype not in FLOATS:
        raise UsageError(message(f"Expected theta to have floating point type, but got {theta.dtype}"))
    n = len(size) - 2
    if n not in (2, 3):
        raise NotImplementedError(
            "affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size "
            f"{shown}."
        )
    if theta._array.ndim != 3 or theta._array.shape[1:] != (n, n + 1):
        raise UsageError(
            message(
                f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for size {shown}. Got {theta.shape}."
            )
        )
    if align_corners and min(size[2:]) == 1:
        warnings.warn(
            "Since version 1.3.0, affine_grid behavior has changed for unit-size grids when align_corners=True. This "
            "is not an intended use case of affine_grid. See the documentation of affine_grid for details.",
            stacklevel=2,
        )
    elif min(size) <= 0:
        raise UsageError(message(f"Expected non-zero, positive output size. Got {shown}"))
    space = tuple(size[2:])
    base = np.ones((*space, n + 1), theta._array.dtype)
    for axis, m in enumerate(space):
        line = _symmetric(m, base.dtype)
        if not align_corners:
            line = line * (m - 1) / m
        base[..., n - 1 - axis] = line.reshape(-1, *(1,) * (n - 1 - axis))
    points = matmul(wrap(base.reshape(1, -1, n + 1)), layout.permute(theta, dims=(0, 2, 1)))
    return layout.reshape(points, shape=(size[0], *space, n))


def grid_sample(
    input: Any,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Any:
    """Values of images (N, C, H, W) at the points of a grid (N, H′, W′, 2): (N, C, H′, W′).

    A point is (x, y) in [−1, 1], x along the last axis; volumes (N, C, D, H, W) take points (x, y, z). Between pixels
    the value is "bilinear" (trilinear in volumes), that of the "nearest" one, or "bicubic"; outside of the image it is
    0 ("zeros"), that of the "border", or of the image's "reflection".
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise UsageError(
            f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'"
        )
    if padding_mode not in ("zeros", "border", "reflection"):
        raise UsageError(
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
            f"'{padding_mode}'"
        )
    align_corners = _default_corners(align_corners)
    x, g = input._array, grid._array
    n = x.ndim - 2
    _check(input, grid, n, mode)
    sizes = x.shape[2:]
    flat = layout.reshape(input, shape=(*x.shape[:2], math.prod(sizes)))
    points = math.prod(g.shape[1:-1])
    # The coordinates of the last axis stand first in the grid.
    along = [
        _Axis(layout.reshape(grid[..., n - 1 - i], shape=(x.shape[0], points)), sizes, i, padding_mode, align_corners)
        for i in range(n)
    ]
    taps = {"bilinear": _linear, "nearest": _nearest, "bicubic": _cubic}[mode]
    out = _blend(flat, [taps(axis) for axis in along], sizes)
    return layout.reshape(out, shape=(*x.shape[:2], *g.shape[1:-1]))


def _check(input: Any, grid: Any, n: int, mode: str) -> None:
    x, g = input._array, grid._array
    if x.shape[0] != g.shape[0]:
        raise ShapeError(
            message(
                "grid_sampler(): expected grid and input to have same batch size, but got input with sizes "
                f"{list(x.shape)} and grid with sizes {list(g.shape)}"
            )
        )
    if g.shape[-1] != n:
        raise ShapeError(
            message(
                f"grid_sampler(): expected grid to have size {n} in last dimension, but got grid with sizes "
                f"{list(g.shape)}"
            )
        )
    for axis, m in enumerate(x.shape[2:], 2):
        if m == 0:
            raise ShapeError(
                message(
                    "grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes "
                    f"{list(x.shape)} with dimension {axis} being empty"
                )
            )
    if x.ndim not in (4, 5) or g.ndim != x.ndim:
        raise ShapeError(
            message(
                "grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but got input with "
                f"sizes {list(x.shape)} and grid with sizes {list(g.shape)}"
            )
        )
    if n == 3 and mode == "bicubic":
        raise ShapeError("grid_sampler(): bicubic interpolation only supports 4D input")
    if x.dtype is not g.dtype:
        raise DtypeError(
            message(
                f"expected scalar type {_kind(input)} but found {_kind(grid)}", fix="Convert: grid.to(input.dtype)."
            )
        )


def _kind(t: Any) -> Any:
    return {"float16": "Half", "float32": "Float", "float64": "Double"}.get(t._array.dtype.name, t._array.dtype.name)


_INT64 = np.dtype(np.int64)
Taps = list[tuple[Any, Any, Any]]
"""Of one axis: (pixel numbers, whether they are inside (None: all are), weights (None: 1)) of each neighbour."""


class _Axis:
    """The points' coordinates along one axis, in pixels."""

    def __init__(self, at: Any, sizes: tuple[int, ...], axis: int, padding: str, align_corners: bool) -> None:
        size = sizes[axis]
        self.size, self.padding, self.align = size, padding, align_corners
        self.pixels = (at + 1) * ((size - 1) / 2) if align_corners else (at + 1) * (size / 2) - 0.5
        self.volume = len(sizes) == 3
        if self.volume and padding == "zeros":  # what is not a number is outside; in images it makes the value NaN
            self.pixels = where(abs(values_of(self.pixels)) < 2**31, self.pixels, -100.0)

    def inside(self) -> Any:
        """The coordinates with those outside of the image brought in, unless outside means 0."""
        return self.pixels if self.padding == "zeros" else self.brought_in(self.pixels)

    def brought_in(self, at: Any) -> Any:
        if self.padding == "reflection":
            low, high = (0, self.size - 1) if self.align else (-0.5, self.size - 0.5)
            at = _reflected(at, low, high)
        a, last = values_of(at), self.size - 1
        # Outside and on the border itself the gradient is 0, as in PyTorch, where NaN becomes the first pixel of an
        # image and the last of a volume.
        beyond = ~(a < last) if self.volume else a >= last
        return where(beyond, float(last), where((a > 0) & (a < last), at, 0.0))

    def pixel(self, number: Any) -> tuple[Any, Any]:
        """Pixel numbers that exist, and which of ``number`` (whole floats) did."""
        if self.padding != "zeros":
            return layout.cast(self.brought_in(number), dtype=_INT64), None
        return _existing(number, (number >= 0) & (number < self.size))


def _existing(number: Any, good: Any) -> tuple[Any, Any]:
    """Pixel numbers, 0 for those that are not ``good``, and which are (None: all)."""
    all_good = state.recorder is None and good.all()
    return layout.cast(where(good, number, 0.0), dtype=_INT64), None if all_good else good


def _reflected(at: Any, low: float, high: float) -> Any:
    """Coordinates beyond the ends walked back and forth between them."""
    span = high - low
    if span == 0:
        return at * 0
    a = values_of(at)
    turns = elementwise.floor(abs(a - low) / span)
    offset = where(a < low, low - at, at - low) - turns * span
    return where(turns % 2 == 1, high - offset, offset + low)


def _linear(axis: _Axis) -> Taps:
    at = axis.inside()
    low = elementwise.floor(values_of(at))
    up = at - low
    found: Taps = []
    for number, weight in ((low, 1 - up), (low + 1, up)):
        # Of coordinates that were brought in only the neighbour of the last pixel lies outside.
        found.append((*(axis.pixel(number) if axis.padding == "zeros" else _existing(number, number < axis.size)),
                      weight))  # fmt: skip
    return found


def _nearest(axis: _Axis) -> Taps:
    at = axis.inside()
    number = elementwise.round(values_of(at))
    # A grid that requires a gradient gets one: 0.
    a = at._array
    weight = where(wrap(np.ones(a.shape, bool)), wrap(np.ones_like(a)), at) if at._requires else None
    return [(*axis.pixel(number), weight)]


def _cubic(axis: _Axis) -> Taps:
    """Four neighbours with Keys' weights, A = −0.75; each neighbour is brought in by itself."""
    a = -0.75
    low = elementwise.floor(values_of(axis.pixels))
    t = axis.pixels - low

    def near(d: Any) -> Any:  # |d| ≤ 1
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:  # 1 < |d| < 2
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    weights = (far(t + 1), near(t), near(1 - t), far(2 - t))
    return [(*axis.pixel(low + i), weight) for i, weight in zip((-1, 0, 1, 2), weights, strict=True)]


def _blend(flat: Any, taps: list[Taps], sizes: tuple[int, ...]) -> Any:
    """Σ over all combinations of the axes' neighbours: weight · value."""
    total: Any = None
    shape = (*flat._array.shape[:2], taps[0][0][0].shape[-1])

    def add(axis: int, number: Any, good: Any, weight: Any) -> None:
        nonlocal total
        if axis < len(taps):
            for pixel, inside, w in taps[axis]:
                both = inside if good is None else good if inside is None else good & inside
                place = pixel if number is None else number * sizes[axis] + pixel
                add(axis + 1, place, both, w if weight is None else weight * w)
            return
        index = layout.expand(number[:, None], shape=shape)
        value = gather_ops.gather(flat, index, dim=2)
        if good is not None:
            value = where(good[:, None], value, 0.0)
        if weight is not None:
            value = value * layout.reshape(weight, shape=(shape[0], 1, shape[2]))
        total = value if total is None else total + value

    add(0, None, None, None)
    return total
