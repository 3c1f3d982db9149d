"""Which entries dropout keeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.rng import numpy_generator
from ..core.state import state
from ..core.variable import wrap

__all__ = ["kept"]


def kept(shape: tuple[int, ...], p: float, dtype: Any) -> Any:
    """A tensor with a 1 for each entry that is kept, with probability 1 − p, else 0; from the default generator."""

    def draw() -> Any:
        # Single precision draws cost half as much, and 2⁻²⁴ is fine enough for a probability of dropping.
        return (numpy_generator(None).random(shape, np.float32) >= p).astype(dtype)

    t = wrap(draw())
    if state.recorder is not None and hasattr(state.recorder, "random"):
        state.recorder.random(t, draw)  # a traced program must draw anew on every run
    return t
