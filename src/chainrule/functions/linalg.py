"""Matrix products in all of PyTorch's forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.variable import Variable, wrap
from ..errors import ShapeError, message
from ..ops import layout
from ..ops import linalg as ops
from ._args import need_tensor
from .inplace import into
from .layout import common_shape

__all__ = ["bmm", "cross", "dot", "inner", "matmul", "mm", "mv", "outer", "vdot"]
METHODS = tuple(__all__)


def _same_dtype(function: str, x: Any, y: Any) -> None:
    if x._array.dtype is not y._array.dtype:
        raise RuntimeError(
            message(
                f"expected m1 and m2 to have the same dtype, but got: {_C[x._array.dtype.name]} != "
                f"{_C[y._array.dtype.name]}",
                f"{function}: {x._array.dtype.name} and {y._array.dtype.name}",
                fix="Convert one of them: y.to(x.dtype).",
            )
        )


_C = {"float16": "c10::Half", "float32": "float", "float64": "double", "int64": "long int", "int32": "int",
      "int16": "short", "int8": "signed char", "uint8": "unsigned char", "bool": "bool"}  # fmt: skip


def _mismatch(x: Any, y: Any) -> ShapeError:
    a, b = x._array.shape, y._array.shape
    fix = ""
    if len(a) >= 1 and len(b) >= 2 and a[-1] == b[-1]:
        fix = "Did you mean x @ w.T?"
    if len(a) == 2 and len(b) == 1:
        what = f"size mismatch, got input ({a[0]}), mat ({a[0]}x{a[1]}), vec ({b[0]})"
    elif len(a) <= 2 and len(b) == 2:
        rows = a[0] if len(a) == 2 else 1
        what = f"mat1 and mat2 shapes cannot be multiplied ({rows}x{a[-1]} and {b[0]}x{b[1]})"
    elif len(a) == 1 and len(b) == 1:
        what = (
            f"inconsistent tensor size, expected tensor [{a[0]}] and src [{b[0]}] to have the same number of elements, "
            f"but got {a[0]} and {b[0]} elements respectively"
        )
    elif len(b) == 2 or len(b) == 1:
        rows = math.prod(a[:-1])
        columns = f"{b[0]}x{b[1]}" if len(b) == 2 else f"{b[0]}x1"
        what = f"mat1 and mat2 shapes cannot be multiplied ({rows}x{a[-1]} and {columns})"
    else:
        batch = math.prod(common_shape([a[:-2], b[:-2]]))
        what = (
            f"Expected size for first two dimensions of batch2 tensor to be: [{batch}, {a[-1]}] but got: "
            f"[{batch}, {b[-2]}]."
        )
    return ShapeError(message(what, f"matmul: inner axes differ: x is {tuple(a)}, y is {tuple(b)}", fix=fix))


def matmul(input: Any, other: Any, *, out: Any = None) -> Any:
    """Matrix product: vectors are rows on the left and columns on the right, leading axes broadcast.

    (n) @ (n) → (), (n, k) @ (k, m) → (n, m), (*b, n, k) @ (k) → (*b, n), (*b, n, k) @ (*c, k, m) → (*broadcast, n, m)
    """
    if out is not None:
        return into(out, matmul(input, other), "matmul")
    if not isinstance(other, Variable):
        raise TypeError(f"matmul(): argument 'other' (position 2) must be Tensor, not {type(other).__name__}")
    x, y = need_tensor(input, "matmul"), other
    a, b = x._array, y._array
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(
            message(f"both arguments to matmul need to be at least 1D, but they are {a.ndim}D and {b.ndim}D")
        )
    if a.dtype is not b.dtype:
        _same_dtype("matmul", x, y)
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise _mismatch(x, y)
    if a.ndim > 1 and b.ndim > 1:
        return ops.matmul(x, y)
    if a.ndim == 1:
        x = layout.reshape(x, shape=(1, a.size))
    if b.ndim == 1:
        y = layout.reshape(y, shape=(b.size, 1))
    z = ops.matmul(x, y)
    shape = z._array.shape
    if a.ndim == 1:
        shape = (*shape[:-2], *shape[-1:])
    if b.ndim == 1:
        shape = shape[:-1]
    return layout.reshape(z, shape=shape)


def mm(input: Any, mat2: Any, *, out: Any = None) -> Any:
    """Product of two matrices."""
    if out is not None:
        return into(out, mm(input, mat2), "mm")
    if need_tensor(input, "mm")._array.ndim != 2:
        raise RuntimeError("self must be a matrix")
    if need_tensor(mat2, "mm", 2, "mat2")._array.ndim != 2:
        raise RuntimeError("mat2 must be a matrix")
    return matmul(input, mat2)


def bmm(input: Any, mat2: Any, *, out: Any = None) -> Any:
    """Products of two batches of matrices, (b, n, k) and (b, k, m), one by one."""
    if out is not None:
        return into(out, bmm(input, mat2), "bmm")
    a, b = need_tensor(input, "bmm")._array, need_tensor(mat2, "bmm", 2, "mat2")._array
    if a.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if b.ndim != 3:
        raise RuntimeError("batch2 must be a 3D tensor")
    if a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise ShapeError(
            message(
                f"Expected size for first two dimensions of batch2 tensor to be: [{a.shape[0]}, {a.shape[2]}] but got: "
                f"[{b.shape[0]}, {b.shape[1]}]."
            )
        )
    return matmul(input, mat2)


def mv(input: Any, vec: Any, *, out: Any = None) -> Any:
    """Product of a matrix and a vector."""
    if out is not None:
        return into(out, mv(input, vec), "mv")
    if need_tensor(input, "mv")._array.ndim != 2 or need_tensor(vec, "mv", 2, "vec")._array.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got 1, {input._array.ndim}, {vec._array.ndim}")
    return matmul(input, vec)


def dot(input: Any, tensor: Any, *, out: Any = None) -> Any:
    """Inner product of two vectors, Σ xᵢ yᵢ."""
    if out is not None:
        return into(out, dot(input, tensor), "dot")
    a, b = need_tensor(input, "dot")._array, need_tensor(tensor, "dot", 2, "tensor")._array
    if a.ndim != 1 or b.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {a.ndim}D and {b.ndim}D tensors")
    return matmul(input, tensor)


def vdot(input: Any, other: Any, *, out: Any = None) -> Any:
    """Inner product of two vectors (tensors are real, so that nothing is conjugated)."""
    if out is not None:
        return into(out, vdot(input, other), "vdot")
    return dot(input, other)


def inner(input: Any, other: Any, *, out: Any = None) -> Any:
    """Sums of products over the last axes of both; a plain product if one is a number."""
    if out is not None:
        return into(out, inner(input, other), "inner")
    a, b = need_tensor(input, "inner")._array, need_tensor(other, "inner", 2, "other")._array
    if a.ndim == 0 or b.ndim == 0:
        return input * other
    if a.shape[-1] != b.shape[-1]:
        raise RuntimeError(
            f"inner() the last dimension must match on both input tensors but got shapes {list(a.shape)} and "
            f"{list(b.shape)}"
        )
    x = (
        layout.reshape(input, shape=(-1, a.shape[-1]))
        if a.size
        else layout.reshape(input, shape=(_rows(a), a.shape[-1]))
    )
    y = layout.reshape(other, shape=(_rows(b), b.shape[-1]))
    return layout.reshape(ops.matmul(x, layout.swap(y)), shape=(*a.shape[:-1], *b.shape[:-1]))


def _rows(a: Any) -> int:
    n = 1
    for k in a.shape[:-1]:
        n *= k
    return n


def outer(input: Any, vec2: Any, *, out: Any = None) -> Any:
    """All products of two vectors' entries, zᵢⱼ = xᵢ yⱼ."""
    if out is not None:
        return into(out, outer(input, vec2), "outer")
    a, b = need_tensor(input, "outer")._array, need_tensor(vec2, "outer", 2, "vec2")._array
    if a.ndim != 1 or b.ndim != 1:
        raise RuntimeError(f"outer: Expected 1-D argument self, but got {a.ndim if a.ndim != 1 else b.ndim}-D")
    return layout.reshape(input, shape=(a.size, 1)) * vec2


def cross(input: Any, other: Any, dim: int | None = None, *, out: Any = None) -> Any:
    """The cross product along ``dim`` (the first axis of size 3 when None)."""
    if out is not None:
        return into(out, cross(input, other, dim), "cross")
    if dim is None:
        dim = next((d for d, n in enumerate(need_tensor(input, "cross")._array.shape) if n == 3), None)
        if dim is None:
            raise RuntimeError(f"no dimension of size 3 in input {list(input._array.shape)}")
    from importlib import import_module

    return import_module("chainrule.linalg").cross(input, other, dim=dim)


def _rmatmul(self: Any, other: Any) -> Any:
    """array @ tensor: a tensor, as array * tensor is."""
    return matmul(wrap(other) if isinstance(other, np.ndarray) else other, self)


OPERATORS = {"__matmul__": matmul, "__rmatmul__": _rmatmul}
