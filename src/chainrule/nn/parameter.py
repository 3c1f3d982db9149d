"""``Parameter`` and ``Buffer``: tensors that a module registers when they are assigned to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes
from ..core.variable import Variable, wrap
from ..errors import DtypeError
from ..functions.conversion import rebuild
from ..tensor import Tensor

__all__ = [
    "Buffer",
    "Parameter",
    "UninitializedBuffer",
    "UninitializedParameter",
    "UninitializedTensorMixin",
    "is_lazy",
]


class Parameter(Tensor):
    """A leaf tensor that a module counts among its parameters; it requires grad unless told otherwise.

    It shares its memory with ``data``, and leaves the history of ``data`` behind.

    >>> import chainrule as torch
    >>> w = torch.nn.Parameter(torch.zeros(2, 3))
    >>> w.requires_grad, w.is_leaf
    (True, True)
    """

    __slots__ = ()

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Any:
        self = object.__new__(cls)
        if data is None:
            data = np.empty(0, np.float32)
        elif not isinstance(data, Variable):
            raise TypeError(f"Parameter expects a Tensor as data, not {type(data).__name__}")
        self._array = data._array if isinstance(data, Variable) else data
        self._node = None
        self._base = None
        self._requires = False
        if requires_grad:
            if dtypes.kind(self._array.dtype) != "f":
                raise DtypeError("Only Tensors of floating point and complex dtype can require gradients")
            self.requires_grad = True
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``__new__`` did it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        known = memo.get(id(self))
        if known is not None:
            return known
        copied = rebuild(type(self), self._array.copy(), self._requires, {})
        memo[id(self)] = copied
        return copied

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    __str__ = __repr__


class Buffer(Tensor):
    """A tensor that a module registers as a buffer when it is assigned: state that is not trained.

    ``persistent=False`` keeps it out of the ``state_dict``.
    """

    __slots__ = ()

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Any:
        self = object.__new__(cls)
        source = wrap(np.empty(0, np.float32)) if data is None else data
        self._array, self._node, self._base, self._requires = (
            source._array,
            source._node,
            source._base,
            source._requires,
        )
        self.persistent = persistent  # type: ignore[attr-defined]
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``__new__`` did it."""


# The slot that holds a tensor's memory, by itself: reading ``_array`` of an uninitialised tensor raises.
_memory: Any = Variable._array


class UninitializedTensorMixin:
    """A tensor without a shape: it can be converted to another dtype, and ``materialize`` gives it a shape."""

    __slots__ = ()
    cls_to_become: type[Any]

    @property
    def _array(self) -> Any:
        kind = type(self).__name__
        raise ValueError(
            f"Attempted to use an uninitialized {'buffer' if 'Buffer' in kind else 'parameter'}. This error happens "
            f"when you are using a `LazyModule` or explicitly manipulating `torch.nn.parameter.{kind}` objects. When "
            "using LazyModules Call `forward` with a dummy batch to initialize the parameters before calling torch "
            "functions"
        )

    @property
    def shape(self) -> Any:
        """Nothing yet: it raises."""
        raise RuntimeError(
            "Can't access the shape of an uninitialized parameter or buffer. This error usually happens in "
            "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. Call `forward` "
            "to initialize the parameters before accessing their attributes."
        )

    @property
    def dtype(self) -> Any:
        return dtypes.from_numpy(_memory.__get__(self).dtype)

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary tensor of that shape, with entries yet to be initialised."""
        held = _memory.__get__(self).dtype if dtype is None else dtypes.as_numpy_dtype(dtype)
        self.__class__ = self.cls_to_become
        hold(self, np.zeros(tuple(shape), held))

    def share_memory_(self) -> Any:
        """Refused: there is no memory yet."""
        raise RuntimeError(
            "Can't share memory on an uninitialized parameter or buffer. Call `forward` to initialize the parameters "
            "before calling `module.share_memory()`."
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self._requires, None, self.dtype)  # type: ignore[attr-defined,call-arg]
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self._requires,)  # type: ignore[attr-defined]


def is_lazy(param: Any) -> bool:
    """Whether a parameter or buffer is still without a shape."""
    return isinstance(param, UninitializedTensorMixin)


def held(t: Any) -> Any:
    """The memory of a tensor, whether it has a shape or not."""
    return _memory.__get__(t)


def hold(t: Any, array: Any) -> None:
    """Give a tensor other memory, whether it has a shape or not."""
    _memory.__set__(t, array)


def _uninitialised(cls: Any, requires_grad: bool, dtype: Any) -> Any:
    self = object.__new__(cls)
    hold(self, np.zeros(0, dtypes.default.numpy if dtype is None else dtypes.as_numpy_dtype(dtype)))
    self._node, self._base, self._requires = None, None, requires_grad
    return self


class UninitializedParameter(UninitializedTensorMixin, Parameter):
    """The parameter of a lazy module before its first input: ``materialize`` gives it a shape."""

    __slots__ = ()
    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> Any:
        return _uninitialised(cls, requires_grad, dtype)


class UninitializedBuffer(UninitializedTensorMixin, Tensor):
    """The buffer of a lazy module before its first input."""

    __slots__ = ()
    cls_to_become = Tensor

    def __new__(
        cls, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True
    ) -> Any:
        self = _uninitialised(cls, requires_grad, dtype)
        self.persistent = persistent  # type: ignore[attr-defined]
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``__new__`` did it."""
