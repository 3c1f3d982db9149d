"""Why a function cannot be compiled."""

from __future__ import annotations

from ..errors import OpError
from ..graph.trace import TraceError

__all__ = ["CompileError", "refused"]


class CompileError(TraceError):
    """A function cannot be compiled."""


def refused(error: BaseException) -> bool:
    """Whether an error says that a function cannot be compiled, and not that it is wrong."""
    return isinstance(error, (CompileError, TraceError)) or (
        isinstance(error, OpError) and str(error).startswith("compile: ")
    )
