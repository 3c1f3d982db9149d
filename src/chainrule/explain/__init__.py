"""See the backward pass: explained, written out, annotated, drawn, stepped through. All of it reads the recorded graph."""

from .explanation import Explanation, explain
from .source import BackwardSource, backward_source

__all__ = ["BackwardSource", "Explanation", "backward_source", "explain"]
