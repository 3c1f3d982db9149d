"""PyTorch's pooling functions: 1, 2 and 3 spatial axes are one implementation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.live import values_read
from ..core.rng import numpy_generator
from ..core.variable import wrap
from ..errors import ShapeError, UsageError, message
from ..ops import gather as gather_ops
from ..ops import layout
from ..ops import pool as ops
from ..ops.linalg import matmul
from ..ops.reduce import sum as sum_op
from .convolution import tuple_of

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "fractional_max_pool2d", "fractional_max_pool3d",
    "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "max_unpool1d", "max_unpool2d",
    "max_unpool3d",
]  # fmt: skip


def _batched(n: int, input: Any) -> Any:
    shape = input._array.shape
    if len(shape) == n + 2:
        return input
    if len(shape) == n + 1:
        return layout.reshape(input, shape=(1, *shape))
    raise ShapeError(
        message(f"non-empty {n + 1}D or {n + 2}D (batch mode) tensor expected for input", f"it has shape {shape}")
    )


def _as_given(input: Any, out: Any) -> Any:
    return out if out._array.ndim == input._array.ndim else layout.reshape(out, shape=out._array.shape[1:])


def _windows(
    name: str, n: int, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Any, ...]:
    """Kernel, stride, padding, dilation and the padding before and after, which ``ceil_mode`` makes longer."""
    kernel = tuple_of(kernel, n, "kernel_size")
    stride = kernel if stride is None or stride == [] or stride == () else tuple_of(stride, n, "stride")
    padding, dilation = tuple_of(padding, n, "padding"), tuple_of(dilation, n, "dilation")
    if min(stride) <= 0:
        raise ShapeError(
            message(
                "stride must be greater than zero, but got 0" if name == "max_pool1d" else "stride should not be zero"
            )
        )
    for k, p, d in zip(kernel, padding, dilation, strict=True):
        if p > (d * (k - 1) + 1) // 2:
            raise ShapeError(
                message(
                    f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} and "
                    f"dilation={d}"
                )
            )
    widths: list[tuple[int, int]] = []
    sizes: list[int] = []
    for m, k, s, p, d in zip(x._array.shape[2:], kernel, stride, padding, dilation, strict=True):
        room = m + 2 * p - d * (k - 1) - 1
        t = room // s + 1
        extra = 0
        if ceil_mode:
            t = -(-room // s) + 1
            if (t - 1) * s >= m + p:  # the last window must start inside
                t -= 1
            extra = max((t - 1) * s - room, 0)
        widths.append((p, p + extra))
        sizes.append(t)
    if min(sizes) < 1:
        c = x._array.shape[1]
        have = "x".join(map(str, (c, *x._array.shape[2:])))
        gives = "x".join(map(str, (c, *sizes)))
        raise ShapeError(
            message(f"Given input size: ({have}). Calculated output size: ({gives}). Output size is too small")
        )
    return kernel, stride, padding, dilation, tuple(widths)


# --- max -------------------------------------------------------------------------------------------------------


def _max_pool(
    n: int,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest entry of each window; with ``return_indices`` also its position in the flattened plane.

    The gradient goes to the (first) largest entry of each window.
    """
    x = _batched(n, input)
    kernel, stride, _, dilation, widths = _windows(
        f"max_pool{n}d", n, x, kernel_size, stride, padding, dilation, ceil_mode
    )
    settings = {"kernel": kernel, "stride": stride, "widths": widths, "dilation": dilation}
    if not return_indices:
        return _as_given(input, ops.max_pool(x, **settings))
    values_read(x, f"max_pool{n}d with indices")
    tap = ops.max_tap(wrap(x._array), **settings)
    index = ops.flat_index(tap._array, x._array.shape[2:], **settings)
    return _as_given(input, ops.pick_tap(x, tap, **settings)), _as_given(input, wrap(index))


def _unpool(
    n: int, input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Any:
    """The partial inverse of max pooling: each entry goes back to its index, the others are 0."""
    x, index = _batched(n, input), _batched(n, indices)
    kernel = tuple_of(kernel_size, n, "kernel_size")
    stride = kernel if stride is None else tuple_of(stride, n, "stride")
    padding = tuple_of(padding, n, "padding")
    size = tuple(
        (m - 1) * s - 2 * p + k for m, s, p, k in zip(x._array.shape[2:], stride, padding, kernel, strict=True)
    )
    if output_size is not None:
        usual, size = size, tuple(output_size)[-n:]
        for i, (m, t, s) in enumerate(zip(usual, size, stride, strict=True)):
            if not m - s < t < m + s:
                raise UsageError(message(f'invalid output_size "{size}" (dim {i} must be between {m - s} and {m + s})'))
    lead, total = x._array.shape[:2], math.prod(size)
    flat = layout.reshape(x, shape=(*lead, -1))
    places = layout.reshape(index, shape=(*lead, -1))
    if places._array.size and (places._array.min() < 0 or places._array.max() >= total):
        raise ShapeError(
            message(f"Found an invalid max index: {int(places._array.max())} (output volumes are of size {size})")
        )
    zeros = wrap(np.zeros((*lead, total), x._array.dtype))
    out = gather_ops.scatter(zeros, places, flat, dim=2)
    return _as_given(input, layout.reshape(out, shape=(*lead, *size)))


# --- average ---------------------------------------------------------------------------------------------------


def _divisor(
    x: Any, kernel: tuple[int, ...], stride: tuple[int, ...], widths: Any, padding: tuple[int, ...], include: bool
) -> Any:
    """By what each window's sum is divided: its entries inside the (padded) input; a number where all are equal."""
    per_axis: list[Any] = []
    for m, k, s, (a, b), p in zip(x.shape[2:], kernel, stride, widths, padding, strict=True):
        t = (m + a + b - k) // s + 1
        start = np.arange(t) * s - a
        low, high = (-p, m + p) if include else (0, m)
        per_axis.append(np.minimum(start + k, high) - np.maximum(start, low))
    if all((c == k).all() for c, k in zip(per_axis, kernel, strict=True)):
        return math.prod(kernel)
    counts = per_axis[0]
    for c in per_axis[1:]:
        counts = counts[..., None] * c
    return wrap(counts.astype(x.dtype))


def _avg_pool(
    n: int,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window; padding counts unless ``count_include_pad=False``."""
    x = _batched(n, input)
    kernel, stride, padding, _, widths = _windows(f"avg_pool{n}d", n, x, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise ShapeError("divisor must be not zero")
    total = ops.sum_pool(x, kernel=kernel, stride=stride, widths=widths)
    by = divisor_override or _divisor(x._array, kernel, stride, widths, padding, count_include_pad)
    return _as_given(input, total / by)


def _lp_pool(
    n: int, input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Any:
    """(Σ xᵖ)^(1/p) over each window."""
    kernel = tuple_of(kernel_size, n, "kernel_size")
    mean = _avg_pool(n, input**norm_type, kernel_size, stride, 0, ceil_mode)
    return (mean * math.prod(kernel)) ** (1.0 / norm_type)


# --- adaptive --------------------------------------------------------------------------------------------------


def _target(name: str, n: int, x: Any, output_size: Any) -> tuple[int, ...]:
    size = (output_size,) * n if isinstance(output_size, int) or output_size is None else tuple(output_size)
    if len(size) != n:
        raise ShapeError(message(f"{name}: output_size must be {n}", f"it has {len(size)} entries: {list(size)}"))
    return tuple(m if t is None else int(t) for m, t in zip(x._array.shape[2:], size, strict=True))


def _bounds(m: int, t: int) -> list[tuple[int, int]]:
    """Where each of the t windows begins and ends on an axis of length m."""
    return [(i * m // t, -(-(i + 1) * m // t)) for i in range(t)]


def _adaptive_avg(n: int, input: Any, output_size: Any) -> Any:
    """The mean over windows chosen so that the output has the size ``output_size``."""
    x = _batched(n, input)
    out = x
    size = _target(f"adaptive_avg_pool{n}d", n, x, output_size)
    if all(t == 1 for t in size):
        axes = tuple(range(2, n + 2))
        count = math.prod(x._array.shape[2:])
        return _as_given(input, sum_op(out, dim=axes, keepdim=True) / count)
    if all(t and m % t == 0 for m, t in zip(x._array.shape[2:], size, strict=True)):
        kernel = tuple(m // t for m, t in zip(x._array.shape[2:], size, strict=True))
        total = ops.sum_pool(x, kernel=kernel, stride=kernel, widths=((0, 0),) * n)
        return _as_given(input, total / math.prod(kernel))
    for axis, t in enumerate(size, 2):  # one product with an averaging matrix per axis
        m = out._array.shape[axis]
        average = np.zeros((m, t), x._array.dtype)
        for i, (a, b) in enumerate(_bounds(m, t)):
            average[a:b, i] = 1 / (b - a)
        back = [*range(n + 2)]
        back[axis], back[-1] = back[-1], back[axis]
        out = layout.permute(matmul(layout.permute(out, dims=tuple(back)), wrap(average)), dims=tuple(back))
    return _as_given(input, out)


def _adaptive_max(n: int, input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The maximum over windows chosen so that the output has the size ``output_size``."""
    x = _batched(n, input)
    size = _target(f"adaptive_max_pool{n}d", n, x, output_size)
    space = x._array.shape[2:]
    if all(t and m % t == 0 for m, t in zip(space, size, strict=True)):
        kernel = tuple(m // t for m, t in zip(space, size, strict=True))
        found = _max_pool(n, x, kernel, return_indices=return_indices)
        if return_indices:
            return _as_given(input, found[0]), _as_given(input, found[1])
        return _as_given(input, found)
    values_read(x, f"adaptive_max_pool{n}d to a size that does not divide the input's")
    lead = x._array.shape[:2]
    places = np.arange(math.prod(space)).reshape(space)
    index = np.empty((*lead, *size), np.int64)
    bounds = [_bounds(m, t) for m, t in zip(space, size, strict=True)]
    for cell in np.ndindex(*size):
        window = tuple(slice(*bounds[a][i]) for a, i in enumerate(cell))
        part = x._array[(..., *window)]
        part = part.reshape(*lead, math.prod(part.shape[2:]))
        index[(..., *cell)] = places[window].ravel()[part.argmax(-1)]
    return _picked(input, x, wrap(index.reshape(*lead, math.prod(size))), size, return_indices)


# --- fractional ------------------------------------------------------------------------------------------------


def _fractional_windows(u: Any, m: int, t: int, k: int) -> Any:
    """Where the t windows of length k begin on an axis of length m, one row per random number u in [0, 1)."""
    if t == 1:
        return np.full((*u.shape, 1), m - k)
    step = u.dtype.type(m - k) / u.dtype.type(t - 1)
    start = ((np.arange(t, dtype=u.dtype) + u[..., None]) * step).astype(int) - (u * step).astype(int)[..., None]
    start[..., -1] = m - k
    return start


def _fractional(
    n: int,
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """The largest entry of windows that begin at random places, as many as ``output_size`` (or that ratio) says."""
    name = f"fractional_max_pool{n}d"
    if output_size is None and output_ratio is None:
        raise UsageError(f"{name} requires specifying either an output_size or an output_ratio")
    x = _batched(n, input)
    space, lead = x._array.shape[2:], x._array.shape[:2]
    if output_size is None:
        ratios = (output_ratio,) * n if isinstance(output_ratio, (int, float)) else tuple(output_ratio)
        if len(ratios) > n:
            raise UsageError(f"{name} requires output_ratio to either be a single Int or tuple of Ints.")
        output_size = [int(m * r) for m, r in zip(space, ratios, strict=True)]
    kernel, size = tuple_of(kernel_size, n, "kernel_size"), tuple_of(output_size, n, "output_size")
    for axis, k, t, m in zip(("time", "height", "width")[3 - n :], kernel, size, space, strict=True):
        if t + k - 1 > m:
            raise ShapeError(message(f"{name}(): pool {axis} {k} too large relative to input {axis} {m}"))
    if _random_samples is None:
        u = numpy_generator(None).random((*lead, n)).astype(x._array.dtype)
    else:
        u = _random_samples._array
    # PyTorch gives the first random number to the last axis in two dimensions, and to the first axis in three.
    order = (1, 0) if n == 2 else (0, 1, 2)
    place: Any = np.zeros((*lead, *(1,) * (2 * n)), int)
    for axis in range(n):
        first = _fractional_windows(u[..., order[axis]], space[axis], size[axis], kernel[axis])
        at = first[..., None] + np.arange(kernel[axis])  # (N, C, t, k)
        spread = [1] * (2 * n)
        spread[axis], spread[n + axis] = at.shape[2:]
        place = place * space[axis] + at.reshape(*lead, *spread)
    place = place.reshape(*lead, math.prod(size), math.prod(kernel))
    flat = x._array.reshape(*lead, math.prod(space))
    entries = np.take_along_axis(flat, place.reshape(*lead, -1), 2).reshape(place.shape)
    index = np.take_along_axis(place, entries.argmax(-1)[..., None], 3)[..., 0]
    return _picked(input, x, wrap(index), size, return_indices)


def _picked(input: Any, x: Any, index: Any, size: tuple[int, ...], return_indices: bool) -> Any:
    """The entries at ``index`` (N, C, ΠT) of the flattened planes, in windows of ``size``; their index as well."""
    lead = x._array.shape[:2]
    flat = gather_ops.gather(layout.reshape(x, shape=(*lead, math.prod(x._array.shape[2:]))), index, dim=2)
    out = _as_given(input, layout.reshape(flat, shape=(*lead, *size)))
    return (out, _as_given(input, wrap(index._array.reshape(*lead, *size)))) if return_indices else out


def _with_indices(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """``function`` that always returns the indices too."""

    def both(*args: Any, return_indices: bool = False, **kwargs: Any) -> Any:
        return function(*args, return_indices=True, **kwargs)

    both.__name__ = both.__qualname__ = name
    both.__doc__ = f"``{function.__name__}`` with the position of each entry: (values, indices)."
    return both


def _family(implementation: Callable[..., Any], stem: str) -> list[Callable[..., Any]]:
    """The functions for 1, 2 and 3 spatial axes."""
    made: list[Callable[..., Any]] = []
    for n in (1, 2, 3):

        def function(*args: Any, _n: int = n, **kwargs: Any) -> Any:
            return implementation(_n, *args, **kwargs)

        function.__name__ = function.__qualname__ = f"{stem}{n}d"
        function.__doc__ = implementation.__doc__
        made.append(function)
    return made


max_pool1d, max_pool2d, max_pool3d = _family(_max_pool, "max_pool")
max_unpool1d, max_unpool2d, max_unpool3d = _family(_unpool, "max_unpool")
avg_pool1d, avg_pool2d, avg_pool3d = _family(_avg_pool, "avg_pool")
lp_pool1d, lp_pool2d, lp_pool3d = _family(_lp_pool, "lp_pool")
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = _family(_adaptive_avg, "adaptive_avg_pool")
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = _family(_adaptive_max, "adaptive_max_pool")
_, fractional_max_pool2d, fractional_max_pool3d = _family(_fractional, "fractional_max_pool")

for _stem in ("max_pool", "adaptive_max_pool", "fractional_max_pool"):
    for _n in (1, 2, 3):
        if f"{_stem}{_n}d" in globals():
            _name = f"{_stem}{_n}d_with_indices"
            globals()[_name] = _with_indices(globals()[f"{_stem}{_n}d"], _name)
            __all__.append(_name)
