"""The base class, and what every distribution needs: parameters brought to one shape, sample shapes, checks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import chainrule as torch

from ..autograd.modes import no_grad
from ..core.state import state
from ..core.variable import Variable
from ..errors import UsageError, message
from .constraints import is_dependent

__all__ = ["Distribution", "ExponentialFamily", "broadcast", "draw", "satisfied"]


def broadcast(*values: Any) -> list[Any]:
    """Numbers and tensors as tensors of one shape; numbers take the tensors' dtype.

    Raises:
        ValueError: when something is neither.
    """
    given = [v for v in values if isinstance(v, Variable)]
    if not all(isinstance(v, (Variable, int, float)) for v in values):
        raise ValueError(
            "Input arguments must all be instances of Number, torch.Tensor or objects implementing __torch_function__."
        )
    dtype = given[0].dtype if given else torch.get_default_dtype()  # type: ignore[attr-defined]
    tensors = [v if isinstance(v, Variable) else torch.tensor(float(v), dtype=dtype) for v in values]  # pyright: ignore[reportCallIssue]
    return list(torch.broadcast_tensors(*tensors))


def satisfied(condition: Callable[..., Any], *tensors: Any) -> bool:
    """Whether a condition holds for all entries. A program that is traced asks once, with the values of that time."""
    recorder, state.recorder = state.recorder, None
    try:
        return bool(condition(*(t.detach() for t in tensors)).all())
    finally:
        state.recorder = recorder


def draw(name: str, shape: Any, like: Any, *parameters: Any) -> Any:
    """Numbers from NumPy's generator behind the default stream (``standard_gamma``, ``poisson``, …) as a tensor."""
    from ..core.rng import numpy_generator

    if state.recorder is not None:
        state.recorder.leak(None, f"{name}: sampling")
    arrays = [p.detach()._array for p in parameters]
    made = getattr(numpy_generator(None), name)(*arrays, size=tuple(shape))
    return torch.as_tensor(made).to(like.dtype)


class Distribution:
    """A distribution over tensors: ``batch_shape`` numbers the distributions, ``event_shape`` is one sample's shape."""

    has_rsample = False
    has_enumerate_support = False
    _validate_args = True
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (a table, as in PyTorch)
    support: Any = None

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether parameters and values are checked."""
        if value not in (True, False):
            raise ValueError
        Distribution._validate_args = value

    def __init__(self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None) -> None:
        self._batch_shape, self._event_shape = torch.Size(batch_shape), torch.Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if not self._validate_args:
            return
        for name, constraint in self.arg_constraints.items():
            value = self.__dict__.get(name)
            if not isinstance(value, Variable) or is_dependent(constraint):
                continue
            if not satisfied(constraint.check, value):
                raise UsageError(
                    message(
                        f"Expected parameter {name} ({type(value).__name__} of shape {tuple(value._array.shape)}) of "
                        f"distribution {self!r} to satisfy the constraint {constraint!r}, but found invalid values:\n"
                        f"{value}"
                    )
                )

    @property
    def batch_shape(self) -> Any:
        return self._batch_shape

    @property
    def event_shape(self) -> Any:
        return self._event_shape

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with its parameters repeated to another batch shape (no memory is used for it)."""
        shape, rank = torch.Size(batch_shape), len(self._batch_shape)
        new = object.__new__(type(self))
        for name, value in self.__dict__.items():
            if isinstance(value, Variable):
                value = value.expand((*shape, *value._array.shape[rank:]))  # type: ignore[attr-defined]
            elif isinstance(value, Distribution):
                value = value.expand((*shape, *value.batch_shape[rank:]))
            new.__dict__[name] = value
        new._batch_shape = shape
        return new

    @property
    def mean(self) -> Any:
        raise NotImplementedError

    @property
    def mode(self) -> Any:
        raise NotImplementedError(f"{type(self)} does not implement mode")

    @property
    def variance(self) -> Any:
        raise NotImplementedError

    @property
    def stddev(self) -> Any:
        """√variance."""
        return self.variance.sqrt()

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Samples that differentiate with respect to the parameters."""
        raise NotImplementedError

    def sample(self, sample_shape: Any = ()) -> Any:
        """Samples, outside the graph; of shape ``sample_shape + batch_shape + event_shape``."""
        with no_grad():
            return self.rsample(sample_shape)

    def sample_n(self, n: int) -> Any:
        """``sample((n,))``."""
        warnings.warn("sample_n will be deprecated. Use .sample((n,)) instead", UserWarning, stacklevel=2)
        return self.sample((n,))

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density (or of the probability)."""
        raise NotImplementedError

    def entropy(self) -> Any:
        raise NotImplementedError

    def perplexity(self) -> Any:
        """exp(entropy)."""
        return self.entropy().exp()

    def cdf(self, value: Any) -> Any:
        raise NotImplementedError

    def icdf(self, value: Any) -> Any:
        raise NotImplementedError

    def enumerate_support(self, expand: bool = True) -> Any:
        """Every possible value, along a new first axis (for some discrete distributions)."""
        raise NotImplementedError

    def _values(self, values: Any, expand: bool) -> Any:
        """The possible values (along axis 0), over the batch."""
        values = values.reshape((-1, *(1,) * len(self._batch_shape)))
        return values.expand((-1, *self._batch_shape)) if expand else values

    def _extended_shape(self, sample_shape: Any = ()) -> Any:
        return torch.Size((*sample_shape, *self._batch_shape, *self._event_shape))

    def _check(self, value: Any) -> None:
        """Whether ``value`` can be a sample, if arguments are checked.

        Raises:
            ValueError: naming what does not fit.
        """
        if not self._validate_args:
            return
        if not isinstance(value, Variable):
            raise ValueError("The value argument to log_prob must be a Tensor")
        have, event = tuple(value._array.shape), tuple(self._event_shape)
        if have[len(have) - len(event) :] != event:
            raise ValueError(
                f"The right-most size of value must match event_shape: {value.shape} vs {self._event_shape}."
            )
        wanted = (*self._batch_shape, *event)
        for i, j in zip(reversed(have), reversed(wanted)):
            if i != 1 and j != 1 and i != j:
                raise ValueError(
                    f"Value is not broadcastable with batch_shape+event_shape: {torch.Size(have)} vs "
                    f"{torch.Size(wanted)}."
                )
        try:
            support = self.support
        except NotImplementedError:
            warnings.warn(
                f"{type(self)} does not define `support` to enable sample validation. Please initialize the "
                "distribution with `validate_args=False` to turn off validation.",
                stacklevel=3,
            )
            return
        if support is None:
            return
        if not satisfied(support.check, value):
            raise UsageError(
                message(
                    f"Expected value argument ({type(value).__name__} of shape {have}) to be within the support "
                    f"({support!r}) of the distribution {self!r}, but found invalid values:\n{value}"
                )
            )

    _validate_sample = _check

    def __repr__(self) -> str:
        shown = [n for n in self.arg_constraints if n in self.__dict__]
        inside = ", ".join(
            f"{n}: {getattr(self, n) if getattr(self, n).numel() == 1 else getattr(self, n).size()}" for n in shown
        )
        return f"{type(self).__name__}({inside})"


class ExponentialFamily(Distribution):
    """p(x) = exp(⟨t(x), θ⟩ − F(θ) + k(x)): given the natural parameters and F, the entropy follows by differentiating.

    A subclass defines ``_natural_params``, ``_log_normalizer`` and ``_mean_carrier_measure`` (E k(x)).
    """

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _log_normalizer(self, *natural_params: Any) -> Any:
        raise NotImplementedError

    _mean_carrier_measure: Any = None

    def entropy(self) -> Any:
        """F(θ) − ⟨θ, ∇F(θ)⟩ − E k(x)."""
        natural = [p.detach().requires_grad_() for p in self._natural_params]
        value = self._log_normalizer(*natural)
        gradients = torch.autograd.grad(value.sum(), natural, create_graph=True)
        if self._mean_carrier_measure is None:
            raise NotImplementedError
        result = value - self._mean_carrier_measure
        for p, g in zip(natural, gradients):
            rest = tuple(range(len(self._batch_shape), p.dim()))
            inner = p * g
            result = result - (inner.sum(rest) if rest else inner)
        return result
