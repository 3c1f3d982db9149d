"""Anomaly mode: backward stops at the first NaN and says which op's rule made it, and where that op was called."""

from __future__ import annotations

from ..core.hooks import note_change
from ..core.state import state

__all__ = [
    "detect_anomaly", "is_anomaly_check_nan_enabled", "is_anomaly_enabled", "set_anomaly_enabled", "set_detect_anomaly",
]  # fmt: skip


class set_detect_anomaly:
    """Anomaly mode on or off: at once, and as a context manager until its end.

    >>> import chainrule as torch
    >>> x = torch.tensor(0.0, requires_grad=True)
    >>> with torch.autograd.set_detect_anomaly(True):
    ...     (x / x).backward()
    Traceback (most recent call last):
    chainrule.errors.GradientError: Function 'DivBackward0' returned nan values in its 1th output.
    ...
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = state.anomaly
        state.anomaly = bool(mode) and check_nan
        note_change()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        state.anomaly = self._before
        note_change()


class detect_anomaly:
    """Anomaly mode inside a with block."""

    def __init__(self, check_nan: bool = True) -> None:
        self._check = check_nan
        self._before = False

    def __enter__(self) -> None:
        self._before = state.anomaly
        state.anomaly = self._check
        note_change()

    def __exit__(self, *exc: object) -> None:
        state.anomaly = self._before
        note_change()


def is_anomaly_enabled() -> bool:
    """Whether anomaly mode is on."""
    return state.anomaly


def set_anomaly_enabled(mode: bool, check_nan: bool = True) -> None:
    """Anomaly mode on or off from now on."""
    state.anomaly = bool(mode) and check_nan
    note_change()


def is_anomaly_check_nan_enabled() -> bool:
    """True: looking for NaN is what anomaly mode does."""
    return True
