"""Tensors from data, and tensors filled with zeros, ones, numbers, ranges."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.device import check_device
from ..core.dtypes import FLOATS
from ..core.live import values_read
from ..core.variable import Variable, wrap
from ..errors import message
from ._args import sizes
from .inplace import into

__all__ = [
    "tensor", "as_tensor", "asarray", "from_numpy", "scalar_tensor", "zeros", "ones", "full", "empty", "eye", "arange",
    "range", "linspace", "logspace", "zeros_like", "ones_like", "full_like", "empty_like", "empty_strided",
    "frombuffer",
]  # fmt: skip
METHODS = ("new_tensor", "new_zeros", "new_ones", "new_full", "new_empty")

_PLAIN = {float, int, bool}
_range = range


def finish(array: np.ndarray[Any, Any], requires_grad: bool = False) -> Any:
    """A leaf around a fresh array.

    Raises:
        RuntimeError: if a tensor that is not floating point is to require grad.
    """
    if requires_grad and array.dtype not in FLOATS:
        raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
    return wrap(array, None, bool(requires_grad))


def _types(data: Any, found: set[Any]) -> bool:
    """Collect the NumPy dtypes of everything in nested lists; whether anything but Python numbers is among it."""
    kinds = set(map(type, data))
    if kinds <= _PLAIN:
        for k in kinds:
            found.add(dtypes.as_numpy_dtype(k))
        return False
    other = False
    for k, x in enumerate(data):
        if isinstance(x, (list, tuple)):
            other |= _types(x, found)
        elif isinstance(x, str) and k:
            raise TypeError("new(): invalid data type 'str'")
        else:
            other = True
            found.add(_leaf_type(x))
    return other


def _leaf_type(x: Any) -> Any:
    if isinstance(x, Variable):
        return x._array.dtype
    if isinstance(x, (np.ndarray, np.generic)):
        return dtypes.from_numpy(x.dtype).numpy
    for kind in (bool, int, float):
        if isinstance(x, kind):
            return dtypes.as_numpy_dtype(kind)
    if isinstance(x, complex):
        raise TypeError("complex tensors are not part of chainrule")
    if isinstance(x, str):
        raise ValueError("too many dimensions 'str'")
    if hasattr(x, "__array__"):
        return dtypes.from_numpy(np.asarray(x).dtype).numpy
    if hasattr(x, "__len__") and hasattr(x, "__getitem__"):
        found: set[Any] = set()
        _types(list(x), found)
        return _common(found)
    raise RuntimeError(f"Could not infer dtype of {type(x).__name__}")


def _common(found: set[Any]) -> Any:
    if not found:
        return dtypes.default.numpy
    result, *rest = (dtypes.from_numpy(d) for d in found)
    for d in rest:
        result = dtypes.promote_types(result, d)
    return result.numpy


def _plain(data: Any) -> Any:
    """Nested lists with tensors turned into their numbers."""
    if isinstance(data, Variable):
        if data._array.size == 1 and data._array.ndim == 0:
            return data.item()
        return data.tolist()
    if isinstance(data, (list, tuple)):
        return [_plain(x) for x in data]
    return data.tolist() if isinstance(data, (np.ndarray, np.generic)) else data


def _check_ragged(data: Any, shape: list[int], depth: int = 0) -> None:
    """PyTorch's message for lists of unequal length."""
    is_list = isinstance(data, (list, tuple))
    if depth == len(shape):
        if is_list:
            raise TypeError(f"'{type(data).__name__}' object cannot be interpreted as an integer")
        return
    if not is_list:
        raise TypeError("not a sequence")
    if len(data) != shape[depth]:
        raise ValueError(f"expected sequence of length {shape[depth]} at dim {depth} (got {len(data)})")
    for x in data:
        _check_ragged(x, shape, depth + 1)


def to_array(data: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """A fresh array with PyTorch's dtype for ``data`` (numbers, nested sequences, arrays, tensors)."""
    kind = type(data)
    if kind is float:
        return np.array(data, dtype or dtypes.default.numpy)
    if kind is list or kind is tuple:
        found: set[Any] = set()
        other = _types(data, found)
        if dtype is None:
            dtype = _common(found)
        return _from_lists(_plain(data) if other else data, dtype)
    if isinstance(data, Variable):
        return np.array(data._array, dtype)
    if isinstance(data, (np.ndarray, np.generic)):
        return np.array(data, dtype or dtypes.from_numpy(data.dtype).numpy)
    if isinstance(data, str):
        raise TypeError(f"new(): invalid data type '{kind.__name__}'")
    if dtype is None:
        dtype = _leaf_type(data)
    if hasattr(data, "__len__") and not hasattr(data, "__array__"):
        data = list(data)
    try:
        return np.array(data, dtype)
    except OverflowError as error:
        raise _too_large(data, dtype) from error


def _too_large(data: Any, dtype: np.dtype[Any]) -> Exception:
    if dtype.itemsize == 8:
        return ValueError("Overflow when unpacking long long")
    return RuntimeError(f"value cannot be converted to type {dtype.name} without overflow")


def _from_lists(data: Any, dtype: Any) -> np.ndarray[Any, Any]:
    try:
        if dtype.kind in "iu":  # PyTorch truncates floats and wraps integers that do not fit a small dtype
            array = np.array(data)
            if array.dtype.kind != "O":
                return array.astype(dtype)
            raise ValueError("Overflow when unpacking long long")
        return np.array(data, dtype)
    except (ValueError, TypeError):
        shape: list[int] = []
        first = data
        while isinstance(first, (list, tuple)):
            shape.append(len(first))
            if not first:
                break
            first = first[0]
        _check_ragged(data, shape)
        raise


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Any:
    """A leaf tensor with a copy of ``data``: a number, nested sequences, an array or a tensor.

    >>> import chainrule as torch
    >>> torch.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    if device is not None:
        check_device(device)
    if isinstance(data, Variable):
        values_read(data, "tensor")
        warnings.warn(
            "To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
            "sourceTensor.detach().clone().requires_grad_(True), rather than torch.tensor(sourceTensor).",
            UserWarning,
            stacklevel=2,
        )
    return finish(to_array(data, None if dtype is None else dtypes.as_numpy_dtype(dtype)), requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Any:
    """``data`` as a tensor: a tensor itself, or sharing an array's memory, where dtype and kind allow it."""
    if device is not None:
        check_device(device)
    wanted = dtypes.as_numpy_dtype(dtype)
    if isinstance(data, Variable):
        return data if wanted is None or wanted is data._array.dtype else data.to(dtype)  # type: ignore[attr-defined]
    if isinstance(data, np.ndarray) and (wanted is None or wanted == data.dtype):
        return from_numpy(data)
    return wrap(to_array(data, wanted))


def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Any:
    """``obj`` as a tensor, copied only where needed (``copy=None``), always (True) or never (False)."""
    t = as_tensor(obj, dtype, device)
    if copy:
        t = t.detach().clone() if isinstance(obj, Variable) else wrap(t._array.copy())
    elif copy is False and not np.may_share_memory(t._array, obj._array if isinstance(obj, Variable) else obj):
        raise ValueError("can't alias arbitrary sequence or a dtype conversion without copying")
    return t.requires_grad_() if requires_grad else t


def from_numpy(ndarray: Any) -> Any:
    """A tensor that shares the array's memory."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    d = dtypes.from_numpy(ndarray.dtype).numpy
    if ndarray.dtype is not d:  # another name for the same dtype (long long), or foreign byte order
        ndarray = ndarray.view(d) if ndarray.dtype.isnative else ndarray.astype(d)
    if any(s < 0 for s in ndarray.strides):
        raise ValueError(
            message(
                "At least one stride in the given numpy array is negative, and tensors with negative strides are not "
                "currently supported. (You can probably work around this by making a copy of your array with "
                "array.copy().) "
            )
        )
    return wrap(ndarray.view(np.ndarray))


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Any:
    """A 1-d tensor that shares a buffer's memory."""
    return finish(np.frombuffer(buffer, dtypes.as_numpy_dtype(dtype), count, offset), requires_grad)


def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """A 0-d tensor, of the default dtype unless told otherwise."""
    check_device(device)
    return finish(np.array(s, dtypes.as_numpy_dtype(dtype) or dtypes.default.numpy), requires_grad)


def _shape(size: Any, name: str) -> tuple[int, ...]:
    try:
        for n in size:
            if isinstance(n, float):
                raise TypeError(f"{name}(): argument 'size' (position 1) must be tuple of ints, not float")
        if len(size) == 1 and not isinstance(size[0], (tuple, list)) and hasattr(size[0], "__iter__"):
            size = tuple(size[0])  # a Size, or a generator's list
        shape = sizes(size)
    except (TypeError, ValueError) as error:
        if "size" in str(error):
            raise
        bad = next((s for s in size if not isinstance(s, int)), size)
        raise TypeError(
            f"{name}(): argument 'size' must be tuple of ints, but found element of type {type(bad).__name__}"
        ) from error
    if any(n < 0 for n in shape):
        if name in ("zeros", "ones", "full"):
            raise RuntimeError(f"{name}: Dimension size must be non-negative.")
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    return shape


def _filled(name: str, make: Callable[..., Any], doc: str) -> Callable[..., Any]:
    def create(
        *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, layout: Any = None,
        pin_memory: bool = False, out: Any = None, memory_format: Any = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        if device is not None:
            check_device(device)
        if kwargs:
            if set(kwargs) != {"size"}:
                raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(kwargs))}'")
            size = (kwargs["size"],)
        array = make(_shape(size, name), dtypes.default.numpy if dtype is None else dtypes.as_numpy_dtype(dtype))
        if out is not None:
            return into(out, wrap(array))
        return finish(array, requires_grad)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = doc
    return create


zeros = _filled("zeros", np.zeros, "A tensor of zeros: ``zeros(2, 3)`` or ``zeros((2, 3))``.")
ones = _filled("ones", np.ones, "A tensor of ones.")
empty = _filled("empty", np.empty, "A tensor whose entries are whatever the memory holds.")


def empty_strided(size: Any, stride: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """An uninitialised tensor with the given strides (in entries)."""
    check_device(device)
    d = dtypes.as_numpy_dtype(dtype) or dtypes.default.numpy
    span = 1 + builtin_sum((n - 1) * s for n, s in zip(size, stride)) if all(size) else 0
    array = np.lib.stride_tricks.as_strided(np.empty(span, d), tuple(size), tuple(s * d.itemsize for s in stride))
    return finish(array, requires_grad)


builtin_sum = sum


def full(
    size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    layout: Any = None, pin_memory: bool = False, out: Any = None,
) -> Any:  # fmt: skip
    """A tensor filled with one value; its dtype is the value's unless given."""
    check_device(device)
    shape = _shape((size,), "full")
    if isinstance(fill_value, Variable):
        fill_value = fill_value.item()  # type: ignore[attr-defined]
    d = dtypes.as_numpy_dtype(dtype) or (out._array.dtype if out is not None else _leaf_type(fill_value))
    if isinstance(fill_value, float) and d.kind in "iu":
        fill_value = int(fill_value)
    array = np.full(shape, fill_value, d)
    if out is not None:
        return into(out, wrap(array))
    return finish(array, requires_grad)


def eye(
    n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    layout: Any = None, pin_memory: bool = False, out: Any = None,
) -> Any:  # fmt: skip
    """Ones on the diagonal of an n × m matrix, zeros elsewhere."""
    if out is not None:
        return into(
            out,
            eye(n, m, dtype=dtype, device=device, requires_grad=requires_grad, layout=layout, pin_memory=pin_memory),
            "eye",
        )
    check_device(device)
    for k in (n, m):
        if k is not None and k < 0:
            name = "n" if k is n else "m"
            raise RuntimeError(f"{name} must be greater or equal to 0, got {k}")
    return finish(np.eye(n, m, dtype=dtypes.as_numpy_dtype(dtype) or dtypes.default.numpy), requires_grad)


def _number(x: Any) -> Any:
    return x.item() if isinstance(x, (Variable, np.generic)) else x  # type: ignore[attr-defined]


def arange(
    start: Any = 0, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, layout: Any = None, pin_memory: bool = False, out: Any = None,
) -> Any:  # fmt: skip
    """``start, start + step, …`` up to and without ``end``; int64 if all three are integers.

    >>> import chainrule as torch
    >>> torch.arange(1, 10, 3)
    tensor([1, 4, 7])
    """
    check_device(device)
    start, end, step = _number(start), _number(end), _number(step)
    if end is None:
        start, end = 0, start
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    whole = not any(isinstance(v, float) for v in (start, end, step))
    d = dtypes.as_numpy_dtype(dtype) or (np.dtype(np.int64) if whole else dtypes.default.numpy)
    if whole and d.kind in "iu":
        array = np.arange(start, end, step, dtype=np.int64).astype(d, copy=False)
    else:
        n = math.ceil((end - start) / step)
        if d.kind in "iu":
            start, step = int(start), int(step)
        array = (start + step * np.arange(n)).astype(d)
    if out is not None:
        return into(out, wrap(array), "arange")
    return finish(array, requires_grad)


def range(start: Any = 0, end: Any = None, step: Any = 1, **options: Any) -> Any:
    """As ``arange``, with ``end`` included and floating point results (deprecated in PyTorch too)."""
    if end is None:
        start, end = 0, start
    n = int((end - start) / step + 1)
    d = dtypes.as_numpy_dtype(options.pop("dtype", None)) or dtypes.default.numpy
    return finish((start + step * np.arange(n)).astype(d), **options)


def _line(start: Any, end: Any, steps: int, d: Any) -> np.ndarray[Any, Any]:
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    if steps == 1:
        return np.array([start], np.float64)
    if d.kind in "iu":
        step = (float(end) - float(start)) / max(steps - 1, 1)
    elif d == np.float32:
        # PyTorch rounds the step to the dtype: entries then differ in the last digit from a float64 computation.
        step = float((np.float32(end) - np.float32(start)) / np.float32(max(steps - 1, 1)))
        start, end = float(np.float32(start)), float(np.float32(end))
    else:
        step = (end - start) / max(steps - 1, 1)
    i = np.arange(steps)
    return np.where(i < steps // 2, start + step * i, end - step * (steps - 1 - i))


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    layout: Any = None, pin_memory: bool = False, out: Any = None,
) -> Any:  # fmt: skip
    """``steps`` numbers evenly spaced from ``start`` to ``end``, both included."""
    if out is not None:
        return into(
            out,
            linspace(
                start,
                end,
                steps,
                dtype=dtype,
                device=device,
                requires_grad=requires_grad,
                layout=layout,
                pin_memory=pin_memory,
            ),
            "linspace",
        )
    check_device(device)
    d = dtypes.as_numpy_dtype(dtype) or dtypes.default.numpy
    return finish(_line(_number(start), _number(end), int(steps), d).astype(d), requires_grad)


def logspace(
    start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, layout: Any = None, pin_memory: bool = False, out: Any = None,
) -> Any:  # fmt: skip
    """base^start … base^end, evenly spaced in the exponent."""
    if out is not None:
        return into(
            out,
            logspace(
                start,
                end,
                steps,
                base,
                dtype=dtype,
                device=device,
                requires_grad=requires_grad,
                layout=layout,
                pin_memory=pin_memory,
            ),
            "logspace",
        )
    check_device(device)
    d = dtypes.as_numpy_dtype(dtype) or dtypes.default.numpy
    return finish((float(base) ** _line(_number(start), _number(end), int(steps), d)).astype(d), requires_grad)


def _like(name: str, make: Callable[..., Any], doc: str) -> Callable[..., Any]:
    def create(
        input: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, layout: Any = None,
        memory_format: Any = None, pin_memory: bool = False,
    ) -> Any:  # fmt: skip
        if device is not None:
            check_device(device)
        if not isinstance(input, Variable):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        array = make(input._array, None if dtype is None else dtypes.as_numpy_dtype(dtype))
        return finish(array, requires_grad)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = doc
    return create


zeros_like = _like("zeros_like", np.zeros_like, "Zeros of the same shape and dtype.")
ones_like = _like("ones_like", np.ones_like, "Ones of the same shape and dtype.")
empty_like = _like("empty_like", np.empty_like, "An uninitialised tensor of the same shape and dtype.")


def full_like(
    input: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    layout: Any = None, memory_format: Any = None, pin_memory: bool = False,
) -> Any:  # fmt: skip
    """A tensor of the same shape and dtype, filled with one value."""
    check_device(device)
    d = dtypes.as_numpy_dtype(dtype) or input._array.dtype
    fill_value = _number(fill_value)
    if isinstance(fill_value, float) and d.kind in "iu":
        fill_value = int(fill_value)
    return finish(np.full_like(input._array, fill_value, d), requires_grad)


# --- methods: the same, with the tensor's own dtype as default -----------------------------------------------------


def new_tensor(self: Any, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """A tensor with a copy of ``data``, in this tensor's dtype unless given."""
    check_device(device)
    if isinstance(data, Variable):
        values_read(data, "new_tensor")
    return finish(to_array(data, dtypes.as_numpy_dtype(dtype) or self._array.dtype), requires_grad)


def _new(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *size: Any, dtype: Any = None, **options: Any) -> Any:
        return make(*size, dtype=self._array.dtype if dtype is None else dtype, **options)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"``{make.__name__}`` with this tensor's dtype as default."
    return method


new_zeros, new_ones, new_empty = _new("new_zeros", zeros), _new("new_ones", ones), _new("new_empty", empty)
new_full = _new("new_full", full)
