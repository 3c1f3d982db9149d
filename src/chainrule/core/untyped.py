"""``tuple``, ``list``, ``float`` and ``ndarray`` to test values of type ``Any`` against.

``isinstance(x, tuple)`` turns an x of type Any into a ``tuple[Unknown, ...]`` in the type checker's eyes, and all that
is computed from it becomes unknown. Tested against a name of type Any, x stays what it was. At run time nothing
differs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ARRAY", "FLOAT", "LIST", "TUPLE"]

ARRAY: Any = np.ndarray
FLOAT: Any = float
LIST: Any = list
TUPLE: Any = tuple
