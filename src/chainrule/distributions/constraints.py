"""What values parameters and samples may have: predicates with names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Constraint", "boolean", "nonnegative_integer", "positive", "real", "simplex", "unit_interval"]


class Constraint:
    """A named predicate on tensors, true entry by entry."""

    def __init__(self, name: str, check: Callable[[Any], Any]) -> None:
        self.name, self.check = name, check

    def __repr__(self) -> str:
        return self.name


real = Constraint("Real()", lambda x: x == x)
positive = Constraint("GreaterThan(lower_bound=0.0)", lambda x: x > 0)
nonnegative = Constraint("GreaterThanEq(lower_bound=0.0)", lambda x: x >= 0)
unit_interval = Constraint("Interval(lower_bound=0.0, upper_bound=1.0)", lambda x: (x >= 0) & (x <= 1))
boolean = Constraint("Boolean()", lambda x: (x == 0) | (x == 1))
nonnegative_integer = Constraint("IntegerGreaterThan(lower_bound=0)", lambda x: (x % 1 == 0) & (x >= 0))
simplex = Constraint("Simplex()", lambda x: (x >= 0).all(-1) & ((x.sum(-1) - 1).abs() < 1e-6))
real_vector = Constraint("IndependentConstraint(Real(), 1)", lambda x: (x == x).all(-1))
positive_definite = Constraint("PositiveDefinite()", lambda x: (x == x).all(-1).all(-1))
