"""One explanation of a wrong gradient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["Hypothesis", "Line"]


@dataclass(frozen=True, slots=True)
class Line:
    """The line to change, and how."""

    filename: str
    number: int
    source: str
    replacement: str = ""

    def __str__(self) -> str:
        return f"{self.filename.rsplit('/', 1)[-1]}:{self.number}"


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A named mistake, what speaks for it, and the change that mends it.

    ``verified`` means the mended program was run and its gradient agreed with the numeric one.
    """

    kind: str
    title: str
    evidence: str
    fix: str
    parameters: tuple[str, ...]
    score: float = 0.5
    line: Line | None = None
    verified: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    def with_line(self, line: Line | None) -> Hypothesis:
        return replace(self, line=line)

    def to_dict(self) -> dict[str, Any]:
        line = None
        if self.line is not None:
            line = {
                "file": self.line.filename,
                "line": self.line.number,
                "source": self.line.source,
                "replacement": self.line.replacement,
            }
        return {
            "kind": self.kind,
            "title": self.title,
            "evidence": self.evidence,
            "fix": self.fix,
            "parameters": list(self.parameters),
            "score": round(self.score, 3),
            "line": line,
            "verified": self.verified,
        }
