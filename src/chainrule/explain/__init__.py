"""See the backward pass: explained, written out, annotated, drawn, stepped through; all read the recorded graph."""

from __future__ import annotations

import sys as _sys
import types as _types
from typing import Any as _Any

from .annotate import Annotation, annotate
from .draw import Drawing, draw
from .explanation import Explanation, explain
from .nograd import Cut, why_no_grad
from .source import BackwardSource, backward_source
from .steps import BackwardStep, BackwardSteps, backward_steps

__all__ = [
    "Annotation", "BackwardSource", "BackwardStep", "BackwardSteps", "Cut", "Drawing", "Explanation", "annotate",
    "backward_source", "backward_steps", "draw", "explain", "why_no_grad",
]  # fmt: skip


class _Room(_types.ModuleType):
    """``chainrule.explain(y, x)`` is ``chainrule.explain.explain(y, x)``."""

    def __call__(self, *args: _Any, **options: _Any) -> Explanation:
        return explain(*args, **options)


_sys.modules[__name__].__class__ = _Room
