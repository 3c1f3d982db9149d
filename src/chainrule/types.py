"""``torch.types``: names for annotations."""

from __future__ import annotations

import builtins
import os
from collections.abc import Sequence
from typing import Any, TypeAlias

from .core.device import device
from .core.dtypes import dtype
from .core.size import Size
from .tensor import Tensor

__all__ = ["Device", "FileLike", "Number", "Storage"]

_TensorOrTensors: TypeAlias = Tensor | Sequence[Tensor]
_dtype, _device = dtype, device
_int, _float, _bool = builtins.int, builtins.float, builtins.bool
_size: TypeAlias = Size | list[int] | tuple[int, ...]
_symsize = _size
Number: TypeAlias = int | float | bool
Device: TypeAlias = device | str | int | None
FileLike: TypeAlias = str | os.PathLike[str] | Any
Storage = Any
