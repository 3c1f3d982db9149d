"""``Parameter`` and ``Buffer``: tensors that a module registers when they are assigned to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.variable import Variable, wrap
from ..functions.conversion import rebuild
from ..tensor import Tensor

__all__ = ["Parameter", "Buffer", "UninitializedParameter", "UninitializedBuffer"]


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
            self.requires_grad = True  # the setter refuses integers
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


class UninitializedParameter(Parameter):
    """The parameter of a lazy module before its first input: ``materialize`` gives it a shape."""

    __slots__ = ()

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> Any:
        return super().__new__(cls, wrap(_empty((0,), dtype)), requires_grad)

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary parameter of that shape, with entries yet to be initialised."""
        self._array = _empty(tuple(shape), dtype or self._array.dtype)
        self.__class__ = Parameter  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "<UninitializedParameter>"


class UninitializedBuffer(Tensor):
    """The buffer of a lazy module before its first input."""

    __slots__ = ()

    def __new__(
        cls, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True
    ) -> Any:
        self = object.__new__(cls)
        self._array, self._node, self._base, self._requires = _empty((0,), dtype), None, None, requires_grad
        self.persistent = persistent  # type: ignore[attr-defined]
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``__new__`` did it."""

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary tensor of that shape."""
        self._array = _empty(tuple(shape), dtype or self._array.dtype)
        self.__class__ = Tensor  # type: ignore[assignment]


def _empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    from ..core import dtypes

    return np.zeros(shape, dtypes.default.numpy if dtype is None else dtypes.as_numpy_dtype(dtype))
