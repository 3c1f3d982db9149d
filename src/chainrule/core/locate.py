"""Where in the user's code something happened: recorded for nothing, resolved when somebody asks."""

from __future__ import annotations

import itertools
import linecache
import os
import sys
from types import CodeType, FrameType
from typing import NamedTuple

__all__ = ["Place", "internal_files", "user_frame", "place_of", "here"]

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# Rooms that use the library as a user would: their lines are worth pointing at.
_USERLIKE = tuple(_ROOT + room + os.sep for room in ("cli", "demo", "lab"))
internal_files: dict[str, bool] = {}
"""Whether a file belongs to the library's own machinery, by name; filled as files are seen."""


def _is_internal(filename: str) -> bool:
    known = internal_files.get(filename)
    if known is None:
        known = filename.startswith(_ROOT) and not filename.startswith(_USERLIKE)
        internal_files[filename] = known
    return known


def user_frame(frame: FrameType | None) -> FrameType | None:
    """The nearest frame at or above ``frame`` that is not the library's own; None when there is none."""
    get = internal_files.get
    while frame is not None:
        name = frame.f_code.co_filename
        internal = get(name)
        if internal is None:
            internal = _is_internal(name)
        if not internal:
            return frame
        frame = frame.f_back
    return None


class Place(NamedTuple):
    """A span of source code: the expression that made a node."""

    filename: str
    function: str
    line: int
    end_line: int
    column: int | None
    end_column: int | None

    @property
    def source(self) -> str:
        """The whole line, stripped; empty when the source is not at hand (a REPL, an exec)."""
        return linecache.getline(self.filename, self.line).strip()

    @property
    def expression(self) -> str:
        """The text of the expression itself, joined over lines."""
        lines = [linecache.getline(self.filename, n) for n in range(self.line, self.end_line + 1)]
        if not any(lines) or self.column is None or self.end_column is None:
            return self.source
        # co_positions counts UTF-8 bytes, not characters.
        raw = [line.rstrip("\n").encode() for line in lines]
        raw[-1] = raw[-1][: self.end_column]
        raw[0] = raw[0][self.column :]
        return " ".join(part.decode(errors="replace").strip() for part in raw)

    def __str__(self) -> str:
        return f"{os.path.basename(self.filename)}:{self.line}"


def place_of(code: CodeType | None, lasti: int) -> Place | None:
    """Resolve a code object and an instruction offset (PEP 657 positions)."""
    if code is None:
        return None
    line = end_line = code.co_firstlineno
    column = end_column = None
    found = next(itertools.islice(code.co_positions(), lasti // 2, None), None)
    if found is not None:
        line, end_line = found[0] or line, found[1] or found[0] or line
        column, end_column = found[2:]
    return Place(code.co_filename, code.co_qualname, line, end_line, column, end_column)


def here() -> Place | None:
    """The user's line that is running now (for error messages)."""
    frame = user_frame(sys._getframe(1))
    return None if frame is None else place_of(frame.f_code, frame.f_lasti)
