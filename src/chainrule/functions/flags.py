"""What a tensor is not, and says so: on another device, sparse, quantised, complex, nested, part of a world.

The answers are declared in tables. What only such tensors can do raises what PyTorch raises for a strided one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.variable import Variable
from ._args import need_tensor

__all__ = ["dequantize", "get_device", "imag", "is_conj", "is_distributed", "is_neg", "conj_physical", "real"]

_NEVER = (
    "is_ipu", "is_maia", "is_mkldnn", "is_mps", "is_mtia", "is_nested", "is_sparse_csr", "is_vulkan", "is_xla",
    "is_xpu",
    "volatile",
)  # fmt: skip
_SPARSE_ONLY = {
    "coalesce": "coalesce expected sparse coordinate tensor layout but got Strided",
    "is_coalesced": "is_coalesced expected sparse coordinate tensor layout but got Strided",
    "indices": "indices expected sparse coordinate tensor layout but got Strided",
    "values": "values expected sparse tensor layout but got Strided",
    "crow_indices": "crow_indices expected sparse row compressed tensor layout but got Strided",
    "col_indices": "col_indices expected sparse row compressed tensor layout but got Strided",
    "ccol_indices": "ccol_indices expected sparse column compressed tensor layout but got Strided",
    "row_indices": "row_indices expected sparse column compressed tensor layout but got Strided",
}
_REMOVED = {
    "reinforce": "reinforce() was removed.\nUse torch.distributions instead.\n"
    "See https://pytorch.org/docs/main/distributions.html\n\n"
}
_METHODS = ("conj_physical", "dense_dim", "dequantize", "imag", "is_conj", "is_distributed", "is_neg", "real",
            "sparse_dim", "to_dense")  # fmt: skip
METHODS = (*_METHODS, *_NEVER, *_SPARSE_ONLY, *_REMOVED, "grad_dtype", "name")


def _raises(name: str, text: str) -> Any:
    def method(self: Any, *args: Any, **options: Any) -> Any:
        raise RuntimeError(text)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = "Refused, in PyTorch's words: this tensor is strided."
    return method


globals().update({name: property(lambda self: False) for name in _NEVER})
globals().update({name: _raises(name, text) for name, text in (_SPARSE_ONLY | _REMOVED).items()})
name = property(lambda self: None)
grad_dtype = property(lambda self: self.dtype if self.requires_grad or self.is_floating_point() else None)


def is_conj(input: Any) -> bool:
    """False: tensors are real."""
    return not isinstance(need_tensor(input, "is_conj"), Variable)


def is_neg(input: Any) -> bool:
    """False: no tensor stands for its negative here."""
    return not isinstance(need_tensor(input, "is_neg"), Variable)


def is_distributed(input: Any) -> bool:
    """False: a tensor lives in one process."""
    return not isinstance(need_tensor(input, "is_distributed"), Variable)


def conj_physical(input: Any, *, out: Any = None) -> Any:
    """The tensor itself: tensors are real."""
    if out is not None:
        from .inplace import into

        return into(out, conj_physical(input), "conj_physical")
    return need_tensor(input, "conj_physical")


class _Part:
    """``torch.imag(x)`` and ``x.imag``: a function at top level, an attribute of the tensor."""

    def __init__(self, name: str, value: Callable[[Any], Any]) -> None:
        self.__name__ = self.__qualname__ = name
        self._value = value

    def __call__(self, input: Any) -> Any:
        return self._value(need_tensor(input, self.__name__))

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else self._value(owner)


def _no_imag(x: Any) -> Any:
    raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")


real, imag = _Part("real", lambda x: x), _Part("imag", _no_imag)


def dequantize(input: Any) -> Any:
    """In float32: nothing is quantised here."""
    return need_tensor(input, "dequantize").float()


def dense_dim(self: Any) -> int:
    """The number of axes: all of them are dense."""
    return self._array.ndim


def sparse_dim(self: Any) -> int:
    """0: no axis is sparse."""
    return 0


def to_dense(self: Any, dtype: Any = None, *, masked_grad: Any = None) -> Any:
    """The tensor itself (in ``dtype`` if given): it is dense."""
    return self if dtype is None else self.to(dtype)


def get_device(input: Any) -> int:
    """−1: the CPU has no number."""
    return need_tensor(input, "get_device").get_device()
