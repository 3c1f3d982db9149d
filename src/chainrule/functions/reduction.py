"""Reductions with PyTorch's argument forms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes
from ..core.dtypes import FLOATS
from ..core.state import state
from ..core.variable import Variable
from ..errors import IndexOutOfRange, message
from ..ops import cumulative, reduce, select
from ._args import axes, axis, cast, need_tensor
from ._results import named
from .inplace import into

__all__ = [
    "sum", "mean", "prod", "var", "std", "var_mean", "std_mean", "max", "min", "amax", "amin", "aminmax", "argmax",
    "argmin", "logsumexp", "norm", "norm_except_dim", "cumsum", "cumprod", "logcumsumexp", "any", "all",
    "count_nonzero", "nansum",
    "nanmean",
]  # fmt: skip
METHODS = (
    "sum", "mean", "prod", "var", "std", "max", "min", "amax", "amin", "aminmax", "argmax", "argmin", "logsumexp",
    "norm", "cumsum", "cumprod", "logcumsumexp", "any", "all", "count_nonzero", "nansum", "nanmean",
)  # fmt: skip
INPLACE = ("cumsum", "cumprod")

max_result, min_result = named("max", "values", "indices"), named("min", "values", "indices")
aminmax_result = named("aminmax", "min", "max")
_INT64 = np.dtype(np.int64)
_sum, _mean = reduce.sum, reduce.mean


def _done(result: Any, out: Any, name: str = "") -> Any:
    return result if out is None else into(out, result, name)


def sum(
    input: Any,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    out: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Any:
    """Sum of all entries, or over ``dim``: y = Σ x. Integers and bools sum to int64.

    >>> import chainrule as torch
    >>> torch.sum(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=1)
    tensor([3., 7.])
    """
    if not isinstance(input, Variable):
        need_tensor(input, "sum")
    x = input
    if dtype is None and x._array.dtype not in FLOATS:
        dtype = _INT64
    if dtype is not None:
        x = _cast(x, dtype)
    dim = dim if axis is None else axis
    keepdim = keepdim if keepdims is None else keepdims
    result = _sum(x, dim=dim if dim is None else axes(dim, x._array.ndim), keepdim=keepdim)
    if dtype is not None and dtypes.as_numpy_dtype(dtype) == np.bool_:
        result = cast(result, np.bool_)  # whether any entry is not 0
    return result if out is None else into(out, result, "sum")


def _cast(x: Any, dtype: Any) -> Any:
    """``x`` in the dtype to reduce in; an integer one would silently cut the gradient off."""
    wanted = dtypes.as_numpy_dtype(dtype)
    if wanted not in FLOATS and x._requires and state.grad:
        raise RuntimeError(f"Autograd not support dtype: {_NAMES[dtypes.from_numpy(wanted).name]}")
    return cast(x, wanted)


def _need_float(x: Any, dtype: Any, name: str) -> Any:
    if dtype is not None:
        wanted = dtypes.as_numpy_dtype(dtype)
        if wanted not in FLOATS:
            raise RuntimeError(
                f"{name}(): could not infer output dtype. Optional dtype must be either a floating point or complex "
                f"dtype. Got: {_NAMES[dtypes.from_numpy(wanted).name]}"
            )
        return cast(x, dtype)
    if x._array.dtype not in FLOATS:
        raise RuntimeError(
            message(
                f"{name}(): could not infer output dtype. Input dtype must be either a floating point or complex "
                f"dtype. Got: {_NAMES[x._array.dtype.name]}",
                fix=f"Convert it first (x.float().{name}()), or pass dtype=.",
            )
        )
    return x


_NAMES = dtypes.TORCH_NAMES


def mean(
    input: Any,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    out: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Any:
    """Mean of all entries, or over ``dim``: y = Σ x / n.

    Raises:
        RuntimeError: for integers and bools, unless ``dtype`` is given.
    """
    if not isinstance(input, Variable):
        need_tensor(input, "mean")
    x = input
    if dtype is not None or x._array.dtype not in FLOATS:
        x = _need_float(x, dtype, "mean")
    dim = dim if axis is None else axis
    keepdim = keepdim if keepdims is None else keepdims
    result = _mean(x, dim=dim if dim is None else axes(dim, x._array.ndim), keepdim=keepdim)
    return result if out is None else into(out, result, "mean")


def nansum(
    input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, out: Any = None, axis: Any = None
) -> Any:
    """Sum with NaN counted as 0."""
    from ..ops.compare import where

    x = need_tensor(input, "nansum")
    dim = dim if axis is None else axis
    return sum(where(x == x, x, 0.0) if x._array.dtype in FLOATS else x, dim, keepdim, dtype=dtype, out=out)


def nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, out: Any = None) -> Any:
    """Mean of the entries that are not NaN."""
    x = need_tensor(input, "nanmean")
    if x._array.dtype not in FLOATS and dtype is None:
        raise RuntimeError(
            f"nanmean(): expected input to have floating point or complex dtype but got {_NAMES[x._array.dtype.name]}"
        )
    return _done(nansum(x, dim, keepdim, dtype=dtype) / sum(x == x, dim, keepdim), out, "nanmean")


def prod(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, out: Any = None) -> Any:
    """Product of all entries, or along one ``dim``. Integers and bools multiply to int64."""
    x = need_tensor(input, "prod")
    if dtype is None and x._array.dtype not in FLOATS:
        dtype = _INT64
    where = None if dim is None else axis(dim, x._array.ndim)
    x = x if dtype is None else _cast(x, dtype)
    result = reduce.prod(x, dim=None if x._array.ndim == 0 else where, keepdim=keepdim)
    return _done(result if dtype is None else cast(result, dtype), out, "prod")


# --- spread ---------------------------------------------------------------------------------------------------------


def _spread_args(args: tuple[Any, ...], options: dict[str, Any], name: str) -> tuple[Any, bool, Any]:
    """dim, keepdim and correction from PyTorch's two forms: (dim, unbiased, keepdim) and (dim, *, correction)."""
    dim, keepdim = options.pop("dim", options.pop("axis", None)), options.pop("keepdim", False)
    unbiased, correction = options.pop("unbiased", None), options.pop("correction", None)
    if options:
        raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(options))}'")
    rest = list(args)
    if rest and not isinstance(rest[0], bool):
        dim = rest.pop(0)
    if rest:
        unbiased = rest.pop(0)
    if rest:
        keepdim = rest.pop(0)
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return dim, keepdim, correction


def _spread(name: str, op: Any) -> Any:
    def function(input: Any, *args: Any, out: Any = None, **options: Any) -> Any:
        x = need_tensor(input, name)
        dim, keepdim, correction = _spread_args(args, options, name)
        if x._array.dtype not in FLOATS:
            raise RuntimeError("std and var only support floating point and complex dtypes")
        where = axes(dim, x._array.ndim)
        return _done(op(x, dim=where, keepdim=keepdim, correction=correction), out, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"{'Variance' if name == 'var' else 'Standard deviation'}, divided by n − correction: "
        f"``{name}(x, dim, unbiased, keepdim)`` or ``{name}(x, dim, *, correction=1, keepdim=False)``."
    )
    return function


var, std = _spread("var", reduce.var), _spread("std", reduce.std)


def var_mean(input: Any, *args: Any, **options: Any) -> Any:
    """Variance and mean, arguments as for ``var``."""
    dim, keepdim, _ = _spread_args(args, dict(options), "var_mean")
    return var(input, *args, **options), mean(input, dim, keepdim)


def std_mean(input: Any, *args: Any, **options: Any) -> Any:
    """Standard deviation and mean, arguments as for ``std``."""
    dim, keepdim, _ = _spread_args(args, dict(options), "std_mean")
    return std(input, *args, **options), mean(input, dim, keepdim)


# --- extremes -------------------------------------------------------------------------------------------------------


def _nonempty(x: Any, dim: Any, name: str) -> None:
    a = x._array
    if a.size:
        return
    if dim is None:
        raise RuntimeError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
            "reduction dim with the 'dim' argument."
        )
    for d in dim if isinstance(dim, tuple) else (dim,):
        if a.ndim and a.shape[d] == 0:
            raise IndexOutOfRange(message(f"{name}(): Expected reduction dim {d} to have non-zero size."))


def _extreme(name: str, whole: Any, index: Any, pairwise: str, result: Any) -> Any:
    def function(
        input: Any, dim: Any = None, keepdim: bool = False, *, out: Any = None, axis: Any = None, other: Any = None
    ) -> Any:
        x = need_tensor(input, name)
        dim = dim if axis is None else axis
        if other is not None or isinstance(dim, Variable):
            from . import pointwise

            return _done(getattr(pointwise, pairwise)(x, dim if other is None else other), out, name)
        if dim is None:
            _nonempty(x, None, name)
            return _done(whole(x), out, name)
        i = _axis(dim, x._array.ndim)
        _nonempty(x, i, name)
        indices = index(x, dim=None if x._array.ndim == 0 else i, keepdim=keepdim)
        values = select.pick(x, indices, dim=i, keepdim=keepdim)
        if out is not None:
            return into(out, result(values, indices), name)
        return result(values, indices)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"The {name}imum of all entries; ``{name}(x, dim)`` gives values and indices along one axis; "
        f"``{name}(x, other)`` is elementwise."
    )
    return function


_axis = axis
max = _extreme("max", reduce.amax, reduce.argmax, "maximum", max_result)
min = _extreme("min", reduce.amin, reduce.argmin, "minimum", min_result)


def _over(name: str, op: Any) -> Any:
    def function(input: Any, dim: Any = (), keepdim: bool = False, *, out: Any = None) -> Any:
        x = need_tensor(input, name)
        where = axes(dim, x._array.ndim)
        _nonempty(x, where, name)
        return _done(op(x, dim=where, keepdim=keepdim), out, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.__doc__
    return function


amax, amin = _over("amax", reduce.amax), _over("amin", reduce.amin)


def aminmax(input: Any, *, dim: Any = None, keepdim: bool = False, out: Any = None) -> Any:
    """The smallest and the largest entry."""
    if out is not None:
        return into(out, aminmax(input, dim=dim, keepdim=keepdim), "aminmax")
    where = () if dim is None else dim
    return aminmax_result(amin(input, where, keepdim), amax(input, where, keepdim))


def _arg(name: str, op: Any) -> Any:
    def function(input: Any, dim: Any = None, keepdim: bool = False, *, out: Any = None) -> Any:
        x = need_tensor(input, name)
        if x._array.dtype.kind == "b":
            raise RuntimeError(f"{name}(): does not support bool input")
        if dim is None:
            if not x._array.size:
                raise IndexOutOfRange(
                    message(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.")
                )
            return _done(op(x, dim=None, keepdim=keepdim), out, name)
        where = axis(dim, x._array.ndim)
        _nonempty(x, where, name)
        return _done(op(x, dim=None if x._array.ndim == 0 else where, keepdim=keepdim), out, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.__doc__
    return function


argmax, argmin = _arg("argmax", reduce.argmax), _arg("argmin", reduce.argmin)


# --- the rest -------------------------------------------------------------------------------------------------------


def logsumexp(input: Any, dim: Any, keepdim: bool = False, *, out: Any = None) -> Any:
    """log Σ eˣ over ``dim``, without overflow; integers become floating point."""
    x = need_tensor(input, "logsumexp")
    if x._array.dtype not in FLOATS:
        x = cast(x, dtypes.default.numpy)
    return _done(reduce.logsumexp(x, dim=axes(dim, x._array.ndim), keepdim=keepdim), out, "logsumexp")


def norm_except_dim(v: Any, pow: int = 2, dim: int = 0) -> Any:
    """The norm over all axes but one, which stays (−1: over all axes)."""
    x = need_tensor(v, "norm_except_dim")
    ndim = x._array.ndim
    if dim == -1:
        return norm(x, pow)
    rest = tuple(d for d in range(ndim) if d != axis(dim, ndim))
    if not rest:  # one axis: each entry is a slice of its own
        return x.abs() if ndim else norm(x, pow)
    return norm(x, pow, rest, keepdim=True)


def norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, out: Any = None, dtype: Any = None) -> Any:
    """The p-norm over ``dim`` (all axes when None): (Σ |x|ᵖ)^(1/p); ``"fro"`` is p = 2."""
    x = need_tensor(input, "norm")
    if p == "nuc":
        from ..linalg import matrix_norm

        return matrix_norm(x, "nuc", dim=(-2, -1) if dim is None else dim, keepdim=keepdim)
    if p is None or p == "fro":
        p = 2.0
    if dtype is None and x._array.dtype not in FLOATS:
        raise RuntimeError(
            "linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
            f"{_NAMES[x._array.dtype.name]}"
        )
    x = cast(x, dtype)
    return _done(reduce.norm(x, p=float(p), dim=axes(dim, x._array.ndim), keepdim=keepdim), out, "norm")


def _running(name: str, op: Any) -> Any:
    def function(input: Any, dim: Any, *, dtype: Any = None, out: Any = None) -> Any:
        x = need_tensor(input, name)
        if dtype is None and x._array.dtype not in FLOATS:
            if name == "logcumsumexp":
                kind = _NAMES[x._array.dtype.name]
                raise NotImplementedError(f"\"logcumsumexp_out_cpu\" not implemented for '{kind}'")
            dtype = _INT64
        return _done(op(x if dtype is None else _cast(x, dtype), dim=axis(dim, x._array.ndim)), out, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.__doc__
    return function


cumsum, cumprod = _running("cumsum", cumulative.cumsum), _running("cumprod", cumulative.cumprod)
logcumsumexp = _running("logcumsumexp", cumulative.logcumsumexp)


def _logical(name: str, op: Any) -> Any:
    def function(input: Any, dim: Any = None, keepdim: bool = False, *, out: Any = None) -> Any:
        x = need_tensor(input, name)
        result = op(x, dim=axes(dim, x._array.ndim), keepdim=keepdim)
        if x._array.dtype == np.uint8:  # PyTorch keeps bytes as bytes
            result = cast(result, np.uint8)
        return _done(result, out, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.__doc__
    return function


any, all = _logical("any", reduce.any), _logical("all", reduce.all)


def count_nonzero(input: Any, dim: Any = None) -> Any:
    """How many entries are not 0."""
    x = need_tensor(input, "count_nonzero")
    return reduce.count_nonzero(x, dim=axes(dim, x._array.ndim), keepdim=False)
