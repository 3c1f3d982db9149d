"""How an op reads in NumPy when a person writes it: for ops whose generic form would be correct but clumsy.

``TEMPLATES[name](args, params, out)`` gives NumPy source with {x} for inputs, or None to use the op's own. ``args`` are
values, numbers or None; ``out`` the output's value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .program import Value

__all__ = ["TEMPLATES", "key_text"]


def key_text(key: Any) -> str:
    """A basic index as it is written between square brackets."""
    if not isinstance(key, tuple):
        key = (key,)
    parts = [_index(k) for k in key]
    return ", ".join(parts) + ("," if len(parts) == 1 and isinstance(key[0], tuple) else "") if parts else "()"


def _index(k: Any) -> str:
    if isinstance(k, slice):
        body = f"{'' if k.start is None else k.start}:{'' if k.stop is None else k.stop}"
        return body if k.step is None else f"{body}:{k.step}"
    return "..." if k is Ellipsis else repr(k)


def _sum_to(args: Any, params: Any, out: Value) -> str:
    x, shape = args[0], tuple(params["shape"])
    lead = len(x.shape) - len(shape)
    axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    if not shape and len(axes) == len(x.shape):
        return "{x}.sum()"
    axis = repr(axes[0]) if len(axes) == 1 else repr(axes)
    if axes == tuple(range(lead)):
        return f"{{x}}.sum(axis={axis})"
    if not lead:
        return f"{{x}}.sum(axis={axis}, keepdims=True)"
    return f"{{x}}.sum(axis={axis}).reshape({shape})"


def _sum(args: Any, params: Any, out: Value) -> str:
    dim, keep = params.get("dim"), params.get("keepdim", False)
    given = [] if dim is None else [f"axis={dim[0] if isinstance(dim, tuple) and len(dim) == 1 else dim}"]
    if keep:
        given.append("keepdims=True")
    return f"{{x}}.sum({', '.join(given)})"


def _swap(args: Any, params: Any, out: Value) -> str | None:
    return "{x}.T" if len(out.shape) == 2 else None


def _linear(args: Any, params: Any, out: Value) -> str | None:
    shape = args[0].shape
    if len(shape) < 2:
        return None
    product = "{x} @ {weight}.T"
    if len(shape) > 2:  # eager multiplies all rows at once; sample by sample would round differently
        product = f"({{x}}.reshape({math.prod(shape[:-1])}, {shape[-1]}) @ {{weight}}.T).reshape({out.shape})"
    return product + ("" if args[2] is None else " + {bias}")


def _getitem(args: Any, params: Any, out: Value) -> str:
    key = params["key"]
    if Ellipsis not in (key if isinstance(key, tuple) else (key,)) and not out.shape:
        key = (*(key if isinstance(key, tuple) else (key,)), Ellipsis)
    return f"{{x}}[{key_text(key)}]"


def _cast(args: Any, params: Any, out: Value) -> str:
    name = {"b": "np.bool_", "V": "ml_dtypes.bfloat16"}.get(out.dtype.kind, f"np.{out.dtype.name}")
    return f"{{x}}.astype({name})"


def _expand(args: Any, params: Any, out: Value) -> str:
    return f"np.broadcast_to({{x}}, {tuple(out.shape)})"


def _reshape(args: Any, params: Any, out: Value) -> str:
    return f"{{x}}.reshape({tuple(params['shape'])})"


def _mse(args: Any, params: Any, out: Value) -> str:
    end = {"mean": ".mean()", "sum": ".sum()"}.get(params.get("reduction", "mean"), "")
    return f"(({{x}} - {{y}}) ** 2){end}"


TEMPLATES: dict[str, Callable[[Any, Any, Any], str | None]] = {
    "sum_to": _sum_to, "sum": _sum, "swap": _swap, "linear": _linear, "getitem": _getitem, "cast": _cast,
    "expand": _expand, "reshape": _reshape, "mse": _mse,
}  # fmt: skip
