"""What can be wrong with a file."""

from __future__ import annotations

import pickle

from ..errors import ChainruleError

__all__ = ["FileFormatError", "RefusedError"]


class FileFormatError(ChainruleError, RuntimeError):
    """The file is damaged, or of a kind that cannot be read."""


class RefusedError(FileFormatError, pickle.UnpicklingError):
    """The file asks for more than tensors, containers, numbers and strings."""
