"""``torch.nn.common_types``: names for annotations of layers."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from ..core.variable import tensor_type as _tensor

__all__ = ["Tensor"]

Tensor = _tensor
_T = TypeVar("_T")
_size_any_t: TypeAlias = int | tuple[int, ...]
_size_1_t: TypeAlias = int | tuple[int]
_size_2_t: TypeAlias = int | tuple[int, int]
_size_3_t: TypeAlias = int | tuple[int, int, int]
_size_4_t: TypeAlias = int | tuple[int, int, int, int]
_size_5_t: TypeAlias = int | tuple[int, int, int, int, int]
_size_6_t: TypeAlias = int | tuple[int, int, int, int, int, int]
_ratio_any_t: TypeAlias = float | tuple[float, ...]
_ratio_2_t: TypeAlias = float | tuple[float, float]
_ratio_3_t: TypeAlias = float | tuple[float, float, float]
_maybe_indices_t: TypeAlias = Tensor | tuple[Tensor, Tensor]  # type: ignore[valid-type]
