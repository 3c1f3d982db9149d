"""How tensors print: PyTorch's repr, digit for digit, and ``set_printoptions``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.dtypes import FLOATS
from ..core.state import state

__all__ = ["set_printoptions", "get_printoptions"]
METHODS = ("__repr__", "__str__", "__format__")


class _Options:
    """Precision (digits), threshold (entries before summarising), edgeitems, linewidth, sci_mode (None: automatic)."""

    precision = 4
    threshold: float = 1000
    edgeitems = 3
    linewidth = 80
    sci_mode: bool | None = None


_PROFILES = {
    "default": (4, 1000, 3, 80),
    "short": (2, 1000, 2, 80),
    "full": (4, math.inf, 3, 80),
}
options = _Options()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """How tensors print from now on; ``profile`` is "default", "short" or "full"."""
    if profile is not None:
        options.precision, options.threshold, options.edgeitems, options.linewidth = _PROFILES[profile]
    if precision is not None:
        options.precision = precision
    if threshold is not None:
        options.threshold = threshold
    if edgeitems is not None:
        options.edgeitems = edgeitems
    if linewidth is not None:
        options.linewidth = linewidth
    options.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The current printing options."""
    names = ("precision", "threshold", "edgeitems", "linewidth", "sci_mode")
    return {name: getattr(options, name) for name in names}


class _Format:
    """Formats numbers so that all of one tensor have the same width."""

    def __init__(self, a: np.ndarray[Any, Any]) -> None:
        self.floating = dtypes.kind(a.dtype) == "f"
        self.whole, self.scientific, self.width = True, False, 1
        if not self.floating:
            self.width = max((len(str(v)) for v in a.ravel().tolist()), default=1)
            return
        values = a[np.isfinite(a) & (a != 0)].astype(np.float64)
        if values.size == 0:
            return
        size = np.abs(values)
        low, high = float(size.min()), float(size.max())
        self.whole = bool((values == np.ceil(values)).all())
        # More than three decades, or beyond what fixed digits can show: scientific.
        self.scientific = high / low > 1000.0 or high > 1.0e8 or (not self.whole and low < 1.0e-4)
        if options.sci_mode is not None:
            self.scientific = options.sci_mode
        if self.scientific:
            texts = [f"{v:.{options.precision}e}" for v in values.tolist()]
        elif self.whole:
            texts = [f"{v:.0f}." for v in values.tolist()]
        else:
            texts = [f"{v:.{options.precision}f}" for v in values.tolist()]
        self.width = max(map(len, texts))

    def __call__(self, v: Any) -> str:
        if not self.floating:
            text = str(v)
        elif self.scientific:
            text = f"{v:.{options.precision}e}"
        elif self.whole:
            text = f"{v:.0f}"
            if math.isfinite(v):
                text += "."
        else:
            text = f"{v:.{options.precision}f}"
        return text.rjust(self.width)


def _edges(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The entries that a summary shows."""
    k = options.edgeitems
    for axis, n in enumerate(a.shape):
        if n > 2 * k:
            a = np.concatenate([a.take(range(k), axis), a.take(range(n - k, n), axis)], axis)
    return a


def _vector(a: np.ndarray[Any, Any], indent: int, summary: bool, fmt: _Format) -> str:
    per_line = max(1, (options.linewidth - indent) // (fmt.width + 2))
    k = options.edgeitems
    if summary and not k:
        texts = ["..."]
    elif summary and a.shape[0] > 2 * k:
        texts = [*map(fmt, a[:k].tolist()), " ...", *map(fmt, a[-k:].tolist())]
    else:
        texts = [fmt(v) for v in a.tolist()]
    lines = [", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _nested(a: np.ndarray[Any, Any], indent: int, summary: bool, fmt: _Format) -> str:
    if a.ndim == 0:
        return fmt(a.item())
    if a.ndim == 1:
        return _vector(a, indent, summary, fmt)
    k = options.edgeitems
    if summary and a.shape[0] > 2 * k:
        parts = [_nested(row, indent + 1, summary, fmt) for row in a[:k]]
        parts.append("...")
        parts += [_nested(row, indent + 1, summary, fmt) for row in a[len(a) - k :]]
    else:
        parts = [_nested(row, indent + 1, summary, fmt) for row in a]
    return "[" + ("," + "\n" * (a.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def entries(a: np.ndarray[Any, Any], indent: int) -> str:
    """The entries of an array as PyTorch prints them."""
    if a.size == 0:
        return "[]"
    if a.dtype is dtypes.BFLOAT16:
        a = a.astype(np.float32)
    summary = a.size > options.threshold
    return _nested(a, indent, summary, _Format(_edges(a) if summary else a))


def _suffixes(t: Any) -> list[str]:
    a = t._array
    found: list[str] = []
    if a.size == 0:
        if a.ndim != 1:
            found.append(f"size={tuple(a.shape)}")
        # Nothing shows the kind of an empty tensor, so every dtype but the default is named.
        if a.dtype is not dtypes.default.numpy:
            found.append(f"dtype={t.dtype}")
    elif a.dtype is not dtypes.default.numpy and a.dtype.name not in ("int64", "bool"):
        found.append(f"dtype={t.dtype}")
    if a.dtype in FLOATS:
        node = t.grad_fn
        if node is not None:
            found.append(f"grad_fn=<{node.name().rsplit('::', 1)[-1]}>")
        elif t.requires_grad:
            found.append("requires_grad=True")
    return found


def __repr__(self: Any, *, tensor_contents: Any = None) -> str:
    """The entries, then what is not the default: dtype, requires_grad, grad_fn."""
    if state.recorder is not None:
        state.recorder.leak(self, "print")
    prefix = "tensor("
    indent = len(prefix)
    text = prefix + entries(self._array, indent)
    line = len(text) - text.rfind("\n") + 1
    for suffix in _suffixes(self):
        if line + len(suffix) + 2 > options.linewidth:
            text += ",\n" + " " * indent + suffix
            line = indent + len(suffix)
        else:
            text += ", " + suffix
            line += len(suffix) + 2
    return text + ")"


__str__ = __repr__


def __format__(self: Any, spec: str) -> str:
    """A 0-d tensor formats like its number; others like their repr."""
    if self._array.ndim == 0 and spec:
        return format(self.item(), spec)
    if self._array.ndim == 0:
        return format(self.item(), spec)
    if spec:
        raise TypeError("unsupported format string passed to Tensor.__format__")
    return str(self)
