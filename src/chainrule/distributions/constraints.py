"""What values parameters and samples may have: regions with a name, a check, and the rank of one event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chainrule as torch

__all__ = [
    "Constraint", "MixtureSameFamilyConstraint", "boolean", "cat", "corr_cholesky", "dependent", "dependent_property",
    "greater_than", "greater_than_eq", "half_open_interval", "independent", "integer_interval", "interval",
    "is_dependent", "less_than", "lower_cholesky", "lower_triangular", "multinomial", "nonnegative",
    "nonnegative_integer", "one_hot", "positive", "positive_definite", "positive_integer", "positive_semidefinite",
    "real", "real_vector", "simplex", "square", "stack", "symmetric", "unit_interval",
]  # fmt: skip


class Constraint:
    """A region. ``check(x)`` says for each event whether it lies inside; ``event_dim`` axes make one event."""

    is_discrete: bool = False
    event_dim: int = 0

    def check(self, value: Any) -> Any:
        raise NotImplementedError

    def __repr__(self) -> str:
        return type(self).__name__.lstrip("_") + "()"


class _Plain(Constraint):
    """A constraint that is one predicate."""

    def __init__(self, name: str, check: Callable[[Any], Any], event_dim: int = 0, is_discrete: bool = False) -> None:
        self.name, self._check, self.event_dim, self.is_discrete = name, check, event_dim, is_discrete

    def check(self, value: Any) -> Any:
        return self._check(value)

    def __repr__(self) -> str:
        return f"{self.name}()"


class _Bounded(Constraint):
    """A constraint with bounds, shown as PyTorch shows them."""

    _names: tuple[str, ...] = ("lower_bound", "upper_bound")
    lower_bound: Any
    upper_bound: Any

    def __init__(self, *bounds: Any, **named: Any) -> None:
        given = {**dict(zip(self._names, bounds)), **named}
        if len(bounds) + len(named) != len(self._names) or set(given) != set(self._names):
            raise TypeError(f"{type(self).__name__}() takes {', '.join(self._names)}")
        self.__dict__.update(given)

    def __repr__(self) -> str:
        name = "".join(part.capitalize() for part in type(self).__name__.split("_"))
        return f"{name}({', '.join(f'{k}={getattr(self, k)}' for k in self._names)})"


class greater_than(_Bounded):
    """Larger than a bound."""

    _names = ("lower_bound",)

    def check(self, value: Any) -> Any:
        return self.lower_bound < value


class greater_than_eq(_Bounded):
    """At least a bound."""

    _names = ("lower_bound",)

    def check(self, value: Any) -> Any:
        return self.lower_bound <= value


class less_than(_Bounded):
    """Smaller than a bound."""

    _names = ("upper_bound",)

    def check(self, value: Any) -> Any:
        return value < self.upper_bound


class interval(_Bounded):
    """Between two bounds, both included."""

    def check(self, value: Any) -> Any:
        return (self.lower_bound <= value) & (value <= self.upper_bound)


class half_open_interval(_Bounded):
    """Between two bounds, the upper one excluded."""

    def check(self, value: Any) -> Any:
        return (self.lower_bound <= value) & (value < self.upper_bound)


class integer_interval(_Bounded):
    """Integers between two bounds, both included."""

    is_discrete = True

    def check(self, value: Any) -> Any:
        return (value % 1 == 0) & (self.lower_bound <= value) & (value <= self.upper_bound)


class integer_greater_than(_Bounded):
    """Integers from a bound on."""

    _names = ("lower_bound",)
    is_discrete = True

    def check(self, value: Any) -> Any:
        return (value % 1 == 0) & (value >= self.lower_bound)


class multinomial(_Bounded):
    """Counts that add up to at most a bound."""

    _names = ("upper_bound",)
    is_discrete, event_dim = True, 1

    def check(self, value: Any) -> Any:
        return (value >= 0).all(dim=-1) & (value.sum(dim=-1) <= self.upper_bound)

    def __repr__(self) -> str:
        return "Multinomial()"


class _Dependent(Constraint):
    """Stands for a region that only an instance knows."""

    def __init__(self, *, is_discrete: Any = NotImplemented, event_dim: Any = NotImplemented) -> None:
        self._is_discrete, self._event_dim = is_discrete, event_dim

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        if self._is_discrete is NotImplemented:
            raise NotImplementedError(".is_discrete cannot be determined statically")
        return self._is_discrete

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        if self._event_dim is NotImplemented:
            raise NotImplementedError(".event_dim cannot be determined statically")
        return self._event_dim

    def __call__(self, *, is_discrete: Any = NotImplemented, event_dim: Any = NotImplemented) -> _Dependent:
        return _Dependent(
            is_discrete=self._is_discrete if is_discrete is NotImplemented else is_discrete,
            event_dim=self._event_dim if event_dim is NotImplemented else event_dim,
        )

    def check(self, value: Any) -> Any:
        raise ValueError("Cannot determine validity of dependent constraint")

    def __repr__(self) -> str:
        return "Dependent()"


class dependent_property(property, _Dependent):
    """A property that gives a constraint on an instance, and is ``dependent`` on the class."""

    def __init__(self, fn: Any = None, *, is_discrete: Any = NotImplemented, event_dim: Any = NotImplemented) -> None:
        super().__init__(fn)
        self._is_discrete, self._event_dim = is_discrete, event_dim

    def __call__(self, fn: Any) -> Any:  # type: ignore[override]
        return dependent_property(fn, is_discrete=self._is_discrete, event_dim=self._event_dim)


class independent(Constraint):
    """Another constraint for all entries of the last ``reinterpreted_batch_ndims`` axes together."""

    def __init__(self, base_constraint: Any, reinterpreted_batch_ndims: int) -> None:
        self.base_constraint, self.reinterpreted_batch_ndims = base_constraint, reinterpreted_batch_ndims

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return self.base_constraint.is_discrete

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return self.base_constraint.event_dim + self.reinterpreted_batch_ndims

    def check(self, value: Any) -> Any:
        result = self.base_constraint.check(value)
        n = self.reinterpreted_batch_ndims
        if result.dim() < n:
            expected = self.base_constraint.event_dim + n
            raise ValueError(f"Expected value.dim() >= {expected} but got {value.dim()}")
        return result.reshape((*result.shape[: result.dim() - n], -1)).all(-1) if n else result

    def __repr__(self) -> str:
        return f"IndependentConstraint({self.base_constraint!r}, {self.reinterpreted_batch_ndims})"


class MixtureSameFamilyConstraint(Constraint):
    """The constraint of a mixture's components, for values without the components' axis."""

    def __init__(self, base_constraint: Any) -> None:
        self.base_constraint = base_constraint

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return self.base_constraint.is_discrete

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return self.base_constraint.event_dim

    def check(self, value: Any) -> Any:
        inner = self.base_constraint.check(value.unsqueeze(-1 - self.event_dim))
        n = inner.dim() - value.dim() + self.event_dim
        return inner.reshape((*inner.shape[: inner.dim() - n], -1)).all(-1)

    def __repr__(self) -> str:
        return f"MixtureSameFamilyConstraint({self.base_constraint!r})"


class cat(Constraint):
    """Different constraints for consecutive parts of one axis."""

    def __init__(self, cseq: Any, dim: int = 0, lengths: Any = None) -> None:
        self.cseq, self.dim = list(cseq), dim
        self.lengths = [1] * len(self.cseq) if lengths is None else list(lengths)

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return any(c.is_discrete for c in self.cseq)

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return max(c.event_dim for c in self.cseq)

    def check(self, value: Any) -> Any:
        parts, start = [], 0
        for c, n in zip(self.cseq, self.lengths):
            parts.append(c.check(value.narrow(self.dim, start, n)))
            start += n
        return torch.cat(parts, self.dim)

    def __repr__(self) -> str:
        return "Cat()"


class stack(Constraint):
    """Different constraints for the slices along one axis."""

    def __init__(self, cseq: Any, dim: int = 0) -> None:
        self.cseq, self.dim = list(cseq), dim

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return any(c.is_discrete for c in self.cseq)

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        dim = max(c.event_dim for c in self.cseq)
        return dim + 1 if self.dim + dim < 0 else dim

    def check(self, value: Any) -> Any:
        slices = [value.select(self.dim, i) for i in range(value.size(self.dim))]
        return torch.stack([c.check(v) for c, v in zip(self.cseq, slices)], self.dim)

    def __repr__(self) -> str:
        return "Stack()"


def _lower(x: Any) -> Any:
    return (x.tril() == x).reshape((*x.shape[:-2], -1)).all(-1)


def _lower_cholesky(x: Any) -> Any:
    return _lower(x) & (x.diagonal(dim1=-2, dim2=-1) > 0).all(-1)


def _corr_cholesky(x: Any) -> Any:
    tolerance = torch.finfo(x.dtype).eps * x.size(-1) * 10  # 10: rounding in the making of it
    return ((x**2).sum(-1).sub(1).abs() < tolerance).all(-1) & _lower_cholesky(x)


def _square(x: Any) -> Any:
    return torch.full(x.shape[:-2], x.shape[-2] == x.shape[-1], dtype=torch.bool)


def _symmetric(x: Any) -> Any:
    return _square(x) & torch.isclose(x, x.mT, atol=1e-6).all(-2).all(-1)


def _definite(x: Any, strictly: bool) -> Any:
    symmetric = _symmetric(x)
    if not symmetric.all():
        return symmetric
    smallest = torch.linalg.eigvalsh(x)[..., 0]
    return symmetric & (smallest > 0 if strictly else smallest >= 0)


def is_dependent(constraint: Any) -> bool:
    """Whether a region is known to an instance only."""
    return isinstance(constraint, _Dependent)


dependent = _Dependent()
boolean = _Plain("Boolean", lambda x: (x == 0) | (x == 1), 0, True)
one_hot = _Plain("OneHot", lambda x: ((x == 0) | (x == 1)).all(-1) & x.sum(-1).eq(1), 1, True)
nonnegative_integer = integer_greater_than(lower_bound=0)
positive_integer = integer_greater_than(lower_bound=1)
real = _Plain("Real", lambda x: x == x)
real_vector = independent(real, 1)
positive = greater_than(lower_bound=0.0)
nonnegative = greater_than_eq(lower_bound=0.0)
unit_interval = interval(lower_bound=0.0, upper_bound=1.0)
simplex = _Plain("Simplex", lambda x: (x >= 0).all(-1) & ((x.sum(-1) - 1).abs() < 1e-6), 1)
lower_triangular = _Plain("LowerTriangular", _lower, 2)
lower_cholesky = _Plain("LowerCholesky", _lower_cholesky, 2)
corr_cholesky = _Plain("CorrCholesky", _corr_cholesky, 2)
square = _Plain("Square", _square, 2)
symmetric = _Plain("Symmetric", _symmetric, 2)
positive_semidefinite = _Plain("PositiveSemidefinite", lambda x: _definite(x, False), 2)
positive_definite = _Plain("PositiveDefinite", lambda x: _definite(x, True), 2)
