"""What a wrong gradient looks like: each mistake is one small block that predicts it and says how to mend it."""

from .evidence import Evidence
from .hypothesis import Hypothesis
from .patterns import find_patterns

__all__ = ["Evidence", "Hypothesis", "find_patterns"]
