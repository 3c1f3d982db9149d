"""``torch.testing``: comparing tensors with tolerances that fit their dtype."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .core.dtypes import FLOATS
from .core.variable import Variable

__all__ = ["assert_close", "make_tensor"]

_TOLERANCE = {"float16": (1e-3, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}
"""PyTorch's default (rtol, atol) by dtype; other dtypes must be equal."""


def _array(value: Any) -> np.ndarray[Any, Any]:
    return value._array if isinstance(value, Variable) else np.asarray(value)


def _default(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> tuple[float, float]:
    pairs = [_TOLERANCE.get(x.dtype.name, (0.0, 0.0)) for x in (a, b)]
    return max(p[0] for p in pairs), max(p[1] for p in pairs)


def _fail(first: str, msg: Any, where: str, *lines: str) -> None:
    text = "\n".join([first, *lines, *([f"The failure occurred for item {where}"] if where else [])])
    raise AssertionError(msg(text) if callable(msg) else msg or text)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
    _at: str = "",
) -> None:
    """Raise unless ``|actual − expected| ≤ atol + rtol · |expected|`` in every entry, and dtypes and shapes agree.

    Tensors, arrays, numbers, and sequences and mappings of them.

    >>> import chainrule as torch
    >>> torch.testing.assert_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0 + 1e-6]))
    >>> torch.testing.assert_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]))
    Traceback (most recent call last):
        ...
    AssertionError: Tensor-likes are not close!
    <BLANKLINE>
    Mismatched elements: 1 / 2 (50.0%)
    Greatest absolute difference: 0.5 at index (1,) (up to 1e-05 allowed)
    Greatest relative difference: 0.2 at index (1,) (up to 1.3e-06 allowed)
    """
    if (rtol is None) != (atol is None):
        raise ValueError(
            f"Both 'rtol' and 'atol' must be either specified or unspecified, but got no "
            f"{'rtol' if rtol is None else 'atol'}."
        )
    options: dict[str, Any] = {
        "rtol": rtol, "atol": atol, "equal_nan": equal_nan, "check_dtype": check_dtype, "msg": msg,
    }  # fmt: skip
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if set(actual) != set(expected):
            _fail("The keys of the mappings do not match:", msg, _at, f"{sorted(actual)} != {sorted(expected)}")
        for key in actual:
            assert_close(actual[key], expected[key], **options, _at=f"{_at}[{key!r}]")
        return
    sequences = [isinstance(x, Sequence) and not isinstance(x, str) for x in (actual, expected)]
    if all(sequences):
        if len(actual) != len(expected):
            _fail(f"The length of the sequences mismatch: {len(actual)} != {len(expected)}", msg, _at)
        for i, (x, y) in enumerate(zip(actual, expected)):
            assert_close(x, y, **options, _at=f"{_at}[{i}]")
        return
    if any(sequences) or any(isinstance(x, Mapping) for x in (actual, expected)) or actual is None or expected is None:
        if actual is not expected:
            _fail(f"None mismatch: {actual} is not {expected}", msg, _at)
        return
    tensors = [isinstance(x, (Variable, np.ndarray)) for x in (actual, expected)]
    if all(tensors) is not any(tensors):
        raise TypeError(f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}.")
    kind = "Tensor-likes" if all(tensors) else "Scalars"
    mine: Any = actual
    theirs: Any = expected
    a, b = _array(actual), _array(expected)
    if a.shape != b.shape:
        _fail(f"The values for attribute 'shape' do not match: {mine.shape} != {theirs.shape}.", msg, _at)
    if check_dtype and all(tensors) and a.dtype != b.dtype:
        _fail(f"The values for attribute 'dtype' do not match: {mine.dtype} != {theirs.dtype}.", msg, _at)
    if rtol is None or atol is None:
        rtol, atol = _default(a, b)
    floating = a.dtype in FLOATS or b.dtype in FLOATS
    x, y = (a.astype(np.float64), b.astype(np.float64)) if floating else (a.astype(object), b.astype(object))
    with np.errstate(all="ignore"):
        bad = ~((x == y) | (np.abs(x - y) <= atol + rtol * np.abs(y) if floating or rtol or atol else False))
        if floating:
            bad |= (np.isnan(x) | np.isnan(y) | np.isinf(x) | np.isinf(y)) & (x != y)
            if equal_nan:
                bad &= ~(np.isnan(x) & np.isnan(y))
        bad = np.asarray(bad, dtype=bool)
        if not bad.any():
            return
        difference = np.where(bad, np.abs(x - y), 0).astype(np.float64)
        relative = difference / np.abs(y).astype(np.float64)
        lines = [""]
        if kind == "Scalars":
            first = f"Scalars are not {'close' if rtol or atol else 'equal'}!"
            lines = [
                "",
                f"Expected {expected} but got {actual}.",
                f"Absolute difference: {float(difference)} (up to {atol} allowed)",
                f"Relative difference: {float(relative)} (up to {rtol} allowed)",
            ]
        else:
            first = f"{kind} are not {'close' if rtol or atol else 'equal'}!"
            lines.append(f"Mismatched elements: {int(bad.sum())} / {bad.size} ({100 * bad.mean():.1f}%)")
            for name, d, allowed in (("absolute", difference, atol), ("relative", relative, rtol)):
                at = np.unravel_index(int(np.argmax(np.where(bad, d, -1))), d.shape)
                tail = f" (up to {allowed} allowed)" if rtol or atol else ""
                lines.append(f"Greatest {name} difference: {d[at]} at index {tuple(int(i) for i in at)}{tail}")
    _fail(first, msg, _at, *lines)


def make_tensor(
    *shape: Any,
    dtype: Any,
    device: Any = "cpu",
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    **_: Any,
) -> Any:
    """A random tensor of any dtype: floats in [−9, 9), integers in [−9, 10), booleans.

    >>> import chainrule as torch
    >>> torch.testing.make_tensor(2, 3, dtype=torch.int64, device="cpu").shape
    torch.Size([2, 3])
    """
    from .functions import random

    size = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    if dtype.is_floating_point:
        a, b = -9 if low is None else low, 9 if high is None else high
        made = random.rand(tuple(size), dtype=dtype, device=device) * (b - a) + a
        return made.requires_grad_(requires_grad)
    a, b = {"bool": (0, 2), "uint8": (0, 10)}.get(dtype.name, (-9, 10))
    return random.randint(int(a if low is None else low), int(b if high is None else high), tuple(size), dtype=dtype)
