"""See the backward pass: explained, written out, annotated, drawn, stepped through. All of it reads the recorded graph."""

from .annotate import Annotation, annotate
from .draw import Drawing, draw
from .explanation import Explanation, explain
from .source import BackwardSource, backward_source
from .steps import BackwardStep, BackwardSteps, backward_steps

__all__ = [
    "Annotation", "BackwardSource", "BackwardStep", "BackwardSteps", "Drawing", "Explanation", "annotate",
    "backward_source", "backward_steps", "draw", "explain",
]  # fmt: skip
