"""Random tensors inside functions, among them which entries dropout keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.rng import numpy_generator
from ..core.state import state
from ..core.variable import wrap

__all__ = ["kept", "random_tensor"]


def random_tensor(draw: Callable[[], Any]) -> Any:
    """A tensor of the random numbers that ``draw()`` gives; a program being traced draws them anew on every run."""
    t = wrap(np.asarray(draw()))
    if state.recorder is not None and hasattr(state.recorder, "random"):
        state.recorder.random(t, draw)
    return t


def kept(shape: tuple[int, ...], p: float, dtype: Any) -> Any:
    """A tensor with a 1 for each entry that is kept, with probability 1 − p, else 0; from the default generator."""

    # Single precision draws cost half as much, and 2⁻²⁴ is fine enough for a probability of dropping.
    return random_tensor(lambda: (numpy_generator(None).random(shape, np.float32) >= p).astype(dtype))
