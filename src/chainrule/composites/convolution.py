"""PyTorch's convolution functions: 1, 2 and 3 spatial axes are one implementation."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtypes import from_numpy
from ..core.variable import Variable
from ..errors import DtypeError, ShapeError, UsageError, message
from ..ops import conv as ops
from ..ops import layout
from ..ops.pad import pad_constant

__all__ = [
    "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "fold",
    "unfold",
]  # fmt: skip


def tuple_of(value: Any, n: int, name: str) -> tuple[int, ...]:
    """A setting as n numbers: one number stands for all."""
    if isinstance(value, (int, np.integer)):
        return (int(value),) * n
    found = tuple(int(v) for v in value)
    if len(found) == 1:
        return found * n
    if len(found) != n:
        raise ShapeError(message(f"expected {name} to be a single integer value or a list of {n} values to match the "
                                 f"convolution dimensions, but got {name}={list(found)}"))  # fmt: skip
    return found


_NAMES = {"float16": "Half", "float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int",
          "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool"}  # fmt: skip


def _check(name: str, n: int, input: Any, weight: Any, bias: Any, groups: int, channels: int, out: int) -> None:
    """Shapes and dtypes, with PyTorch's messages."""
    for position, (argument, t) in enumerate((("input", input), ("weight", weight)), 1):
        if not isinstance(t, Variable):
            raise TypeError(
                f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {type(t).__name__}"
            )
    x, w = input._array, weight._array
    if x.ndim not in (n + 1, n + 2):
        raise ShapeError(
            message(
                f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: "
                f"{list(x.shape)}"
            )
        )
    if x.dtype is not w.dtype:
        a, b = (_NAMES[from_numpy(t.dtype).name] for t in (x, w))
        raise DtypeError(
            message(
                f"Input type (torch.{a}Tensor) and weight type (torch.{b}Tensor) should be the same",
                fix="Convert one of them, e.g. input.to(weight.dtype).",
            )
        )
    have = x.shape[-n - 1]
    if have != channels:
        batched = x.shape if x.ndim == n + 2 else (1, *x.shape)
        raise ShapeError(
            message(
                f"Given groups={groups}, weight of size {list(w.shape)}, expected input{list(batched)} to have "
                f"{channels} channels, but got {have} channels instead"
            )
        )
    if bias is not None and bias._array.shape != (out,):
        raise ShapeError(
            message(
                f"Given weight of size {list(w.shape)}, expected bias to be 1-dimensional with {out} elements, but got "
                f"bias of size {list(bias.shape)} instead"
            )
        )


def _conv(n: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    name = f"conv{n}d"
    channels = weight._array.shape[1] * groups if isinstance(weight, Variable) and weight._array.ndim == n + 2 else -1
    out = weight._array.shape[0] if isinstance(weight, Variable) else -1
    _check(name, n, input, weight, bias, groups, channels, out)
    if groups <= 0:
        raise ShapeError("non-positive groups is not supported")
    if out % groups:
        raise ShapeError(
            message(
                f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got weight of "
                f"size [{list(weight._array.shape)}] instead"
            )
        )
    stride, dilation = tuple_of(stride, n, "stride"), tuple_of(dilation, n, "dilation")
    if min(stride) <= 0:
        raise ShapeError("non-positive stride is not supported")
    if min(dilation) <= 0:
        raise ShapeError(f"dilation should be greater than zero, but got {list(dilation)}")
    kernel = weight._array.shape[2:]
    x = input
    batched = input._array.ndim == n + 2
    if not batched:
        x = layout.reshape(input, shape=(1, *input._array.shape))
    if isinstance(padding, str):
        x, padding = _named_padding(x, padding, kernel, stride, dilation)
    else:
        padding = tuple_of(padding, n, "padding")
        if min(padding) < 0:
            raise ShapeError("negative padding is not supported")
    size = tuple(m + 2 * p for m, p in zip(x._array.shape[2:], padding, strict=True))
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    if any(r > m for r, m in zip(reach, size, strict=True)):
        a, b = " x ".join(map(str, size)), " x ".join(map(str, reach))
        raise ShapeError(
            message(
                f"Calculated padded input size per channel: ({a}). Kernel size: ({b}). Kernel size can't be greater "
                "than actual input size"
            )
        )
    y = ops.conv(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return y if batched else layout.reshape(y, shape=y._array.shape[1:])


def _named_padding(
    x: Any, padding: str, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[Any, tuple[int, ...]]:
    """'valid' is none; 'same' keeps the size, with the odd one on the far side."""
    n = len(kernel)
    if padding == "valid":
        return x, (0,) * n
    if padding != "same":
        raise UsageError(f"Invalid padding string {padding!r}, should be one of 'valid', 'same'")
    if any(s != 1 for s in stride):
        raise ShapeError("padding='same' is not supported for strided convolutions")
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if any(t % 2 for t in total):
        widths = ((0, 0), (0, 0), *((0, t % 2) for t in total))
        x = pad_constant(x, widths=widths, value=0.0)
    return x, tuple(t // 2 for t in total)


def conv1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Cross-correlation of (N, C, L) with (O, C / groups, K)."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Cross-correlation of images (N, C, H, W) with kernels (O, C / groups, KH, KW).

    >>> import chainrule as torch
    >>> x, w = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3)
    >>> torch.nn.functional.conv2d(x, w)
    tensor([[[[9., 9.],
              [9., 9.]]]])
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Cross-correlation of (N, C, D, H, W) with (O, C / groups, KD, KH, KW)."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def _transpose(
    n: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Any:
    name = f"conv_transpose{n}d"
    w_shape = weight._array.shape
    _check(name, n, input, weight, bias, groups, w_shape[0], w_shape[1] * groups)
    stride, dilation = tuple_of(stride, n, "stride"), tuple_of(dilation, n, "dilation")
    padding, extra = tuple_of(padding, n, "padding"), tuple_of(output_padding, n, "output_padding")
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ShapeError(
            message(
                f"output padding must be smaller than either stride or dilation, but got output_padding={list(extra)}, "
                f"stride={list(stride)}, dilation={list(dilation)}"
            )
        )
    batched = input._array.ndim == n + 2
    x = input if batched else layout.reshape(input, shape=(1, *input._array.shape))
    whole = tuple(
        (m - 1) * s + d * (k - 1) + 1
        for m, s, d, k in zip(x._array.shape[2:], stride, dilation, w_shape[2:], strict=True)
    )
    size = tuple(m - 2 * p + e for m, p, e in zip(whole, padding, extra, strict=True))
    if min(size) <= 0:
        raise ShapeError(message(f"{name}: the output size {list(size)} is too small"))
    settings = {"stride": stride, "dilation": dilation, "groups": groups}
    if any(e >= s for e, s in zip(extra, stride, strict=True)):
        # So much output padding would make windows that no input belongs to: compute the whole, then cut and pad.
        y = ops.conv_input(x, weight, size=whole, padding=(0,) * n, **settings)
        cut = ((-p, e - p) for p, e in zip(padding, extra, strict=True))
        y = pad_constant(y, widths=((0, 0), (0, 0), *cut), value=0.0)
    else:
        y = ops.conv_input(x, weight, size=size, padding=padding, **settings)
    if bias is not None:
        y = y + layout.reshape(bias, shape=(-1, *(1,) * n))
    return y if batched else layout.reshape(y, shape=y._array.shape[1:])


def _transposed(n: int) -> Any:
    def function(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Any:
        return _transpose(n, input, weight, bias, stride, padding, output_padding, groups, dilation)

    function.__name__ = function.__qualname__ = f"conv_transpose{n}d"
    function.__doc__ = f"The transpose of ``conv{n}d``; weight is (C, O / groups, kernel size)."
    return function


conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_transposed, (1, 2, 3))


# --- windows as columns -----------------------------------------------------------------------------------------


def conv_tbc(input: Any, weight: Any, bias: Any, pad: int = 0) -> Any:
    """Cross-correlation of signals (T, N, C) with kernels (K, C, C′): (T′, N, C′). ``pad`` zeros on both sides."""
    x, w = layout.permute(input, dims=(1, 2, 0)), layout.permute(weight, dims=(2, 1, 0))
    return layout.permute(conv1d(x, w, bias, padding=pad), dims=(2, 0, 1))


def _taps(channels: int, kernel: tuple[int, ...], dtype: Any) -> Any:
    """A kernel that copies: output channel (c, k) is the entry at offset k of input channel c."""
    taps = int(np.prod(kernel))
    eye = np.tile(np.eye(taps, dtype=dtype), (channels, 1))
    return eye.reshape(channels * taps, 1, *kernel)


def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Windows of images (N, C, H, W) as columns (N, C·KH·KW, L): a convolution with kernels that copy."""
    kernel = tuple_of(kernel_size, 2, "kernel_size")
    batched = input._array.ndim == 4
    x = input if batched else layout.reshape(input, shape=(1, *input._array.shape))
    channels = x._array.shape[1]
    y = ops.conv(
        x, _taps(channels, kernel, x._array.dtype), None, groups=channels, stride=tuple_of(stride, 2, "stride"),
        padding=tuple_of(padding, 2, "padding"), dilation=tuple_of(dilation, 2, "dilation"),
    )  # fmt: skip
    n, c = y._array.shape[:2]
    return layout.reshape(y, shape=(n, c, -1) if batched else (c, -1))


def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The transpose of ``unfold``: columns (N, C·KH·KW, L) added up into images (N, C, H, W)."""
    kernel, size = tuple_of(kernel_size, 2, "kernel_size"), tuple_of(output_size, 2, "output_size")
    stride, padding = tuple_of(stride, 2, "stride"), tuple_of(padding, 2, "padding")
    dilation = tuple_of(dilation, 2, "dilation")
    batched = input._array.ndim == 3
    x = input if batched else layout.reshape(input, shape=(1, *input._array.shape))
    n, rows, length = x._array.shape
    taps = kernel[0] * kernel[1]
    grid = tuple(map(ops.out_size, size, kernel, stride, padding, dilation))
    if rows % taps:
        raise ShapeError(
            message(
                "Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got "
                f"input.size(1)={rows} and kernel_size={kernel}."
            )
        )
    if length != grid[0] * grid[1]:
        raise ShapeError(
            message(
                f"Given output_size={size}, kernel_size={kernel}, dilation={dilation}, padding={padding}, "
                f"stride={stride}, expected size of input's dimension 2 to match the calculated number of sliding "
                f"blocks {grid[0]} * {grid[1]} = {grid[0] * grid[1]}, but got input.size(2)={length}."
            )
        )
    channels = rows // taps
    y = ops.conv_input(
        layout.reshape(x, shape=(n, rows, *grid)), _taps(channels, kernel, x._array.dtype), size=size, stride=stride,
        padding=padding, dilation=dilation, groups=channels,
    )  # fmt: skip
    return y if batched else layout.reshape(y, shape=y._array.shape[1:])
