"""From a constraint to a transform whose values satisfy it: one to one (``biject_to``) or onto (``transform_to``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import constraints as C
from . import transforms as T

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]


class ConstraintRegistry:
    """Makes a transform for a constraint; ``register`` teaches it another."""

    def __init__(self) -> None:
        self._registry: dict[type, Callable[[Any], Any]] = {}
        self._single: dict[int, Callable[[Any], Any]] = {}

    def register(self, constraint: Any, factory: Any = None) -> Any:
        """Use ``factory(constraint)`` for constraints of a class (or of the class of an instance); a decorator, too."""
        if factory is None:
            return lambda f: self.register(constraint, f)
        if isinstance(constraint, C.Constraint):
            # many of the named constraints here are of one class, so they are told apart by identity
            if type(constraint) is C._Plain:
                self._single[id(constraint)] = factory
                return factory
            constraint = type(constraint)
        if not isinstance(constraint, type) or not issubclass(constraint, C.Constraint):
            raise TypeError(f"Expected constraint to be either a Constraint subclass or instance, but got {constraint}")
        self._registry[constraint] = factory
        return factory

    def __call__(self, constraint: Any) -> Any:
        factory = self._single.get(id(constraint)) or self._registry.get(type(constraint))
        if factory is None:
            name = f"_{constraint.name}" if type(constraint) is C._Plain else type(constraint).__name__
            raise NotImplementedError(f"Cannot transform {name} constraints")
        return factory(constraint)


biject_to = ConstraintRegistry()
transform_to = ConstraintRegistry()


def _both(*constraints: Any) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    def keep(factory: Callable[[Any], Any]) -> Callable[[Any], Any]:
        for registry in (biject_to, transform_to):
            for c in constraints:
                registry.register(c, factory)
        return factory

    return keep


@_both(C.real)
def _(constraint: Any) -> Any:
    return T.identity_transform


@biject_to.register(C.independent)
def _(constraint: Any) -> Any:
    return T.IndependentTransform(biject_to(constraint.base_constraint), constraint.reinterpreted_batch_ndims)


@transform_to.register(C.independent)
def _(constraint: Any) -> Any:
    return T.IndependentTransform(transform_to(constraint.base_constraint), constraint.reinterpreted_batch_ndims)


@_both(C.greater_than, C.greater_than_eq)
def _(constraint: Any) -> Any:
    bound = constraint.lower_bound
    if type(bound) in (int, float) and bound == 0:
        return T.ExpTransform()
    return T.ComposeTransform([T.ExpTransform(), T.AffineTransform(bound, 1)])


@_both(C.less_than)
def _(constraint: Any) -> Any:
    return T.ComposeTransform([T.ExpTransform(), T.AffineTransform(constraint.upper_bound, -1)])


@_both(C.interval, C.half_open_interval)
def _(constraint: Any) -> Any:
    low: Any = constraint.lower_bound
    high: Any = constraint.upper_bound
    if type(low) in (int, float) and low == 0 and type(high) in (int, float) and high == 1:
        return T.SigmoidTransform()
    return T.ComposeTransform([T.SigmoidTransform(), T.AffineTransform(low, high - low)])


@biject_to.register(C.simplex)
def _(constraint: Any) -> Any:
    return T.StickBreakingTransform()


@transform_to.register(C.simplex)
def _(constraint: Any) -> Any:
    return T.SoftmaxTransform()


@transform_to.register(C.lower_cholesky)
def _(constraint: Any) -> Any:
    return T.LowerCholeskyTransform()


@transform_to.register(C.positive_definite)
@transform_to.register(C.positive_semidefinite)
def _(constraint: Any) -> Any:
    return T.PositiveDefiniteTransform()


@_both(C.corr_cholesky)
def _(constraint: Any) -> Any:
    return T.CorrCholeskyTransform()


@biject_to.register(C.cat)
def _(constraint: Any) -> Any:
    return T.CatTransform([biject_to(c) for c in constraint.cseq], constraint.dim, constraint.lengths)


@transform_to.register(C.cat)
def _(constraint: Any) -> Any:
    return T.CatTransform([transform_to(c) for c in constraint.cseq], constraint.dim, constraint.lengths)


@biject_to.register(C.stack)
def _(constraint: Any) -> Any:
    return T.StackTransform([biject_to(c) for c in constraint.cseq], constraint.dim)


@transform_to.register(C.stack)
def _(constraint: Any) -> Any:
    return T.StackTransform([transform_to(c) for c in constraint.cseq], constraint.dim)
