"""See the backward pass: explained, written out, annotated, drawn, stepped through. All of it reads the recorded graph."""

from .explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
