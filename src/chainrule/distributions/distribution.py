"""The base class, and what every distribution needs: parameters brought to one shape, sample shapes, checks."""

from __future__ import annotations

from typing import Any

import chainrule as torch

from ..autograd.modes import no_grad
from ..core.state import state
from ..core.variable import Variable
from ..errors import UsageError, message
from .constraints import Constraint

__all__ = ["Distribution", "broadcast", "draw"]


def broadcast(*values: Any) -> list[Any]:
    """Numbers and tensors as tensors of one shape; numbers take the tensors' dtype."""
    given = [v for v in values if isinstance(v, Variable)]
    dtype = given[0].dtype if given else torch.get_default_dtype()  # type: ignore[attr-defined]
    tensors = [v if isinstance(v, Variable) else torch.tensor(float(v), dtype=dtype) for v in values]  # pyright: ignore[reportCallIssue]
    return list(torch.broadcast_tensors(*tensors))


def draw(name: str, shape: Any, like: Any, *parameters: Any) -> Any:
    """Numbers from NumPy's generator behind the default stream (``standard_gamma``, ``poisson``, …) as a tensor."""
    from ..core.rng import numpy_generator

    if state.recorder is not None:
        state.recorder.leak(parameters[0] if parameters else None, f"{name}: sampling")
    arrays = [p.detach()._array for p in parameters]
    made = getattr(numpy_generator(None), name)(*arrays, size=tuple(shape))
    return torch.as_tensor(made).to(like.dtype)


class Distribution:
    """A distribution over tensors: ``batch_shape`` numbers the distributions, ``event_shape`` is one sample's shape."""

    has_rsample = False
    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012 (a table, as in PyTorch)
    support: Any = None
    _validate_args = True

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
            if value is not None and not constraint.check(value.detach()).all():
                raise UsageError(
                    message(
                        f"Expected parameter {name} (Tensor of shape {tuple(value.shape)}) of distribution "
                        f"{type(self).__name__}(...) to satisfy the constraint {constraint}, but found invalid values:",
                        str(value),
                    )
                )

    @property
    def batch_shape(self) -> Any:
        return self._batch_shape

    @property
    def event_shape(self) -> Any:
        return self._event_shape

    @property
    def mean(self) -> Any:
        raise NotImplementedError

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

    def _extended_shape(self, sample_shape: Any = ()) -> Any:
        return torch.Size((*sample_shape, *self._batch_shape, *self._event_shape))

    def _check(self, value: Any) -> None:
        if not isinstance(value, Variable):
            raise ValueError("The value argument to log_prob must be a Tensor")
        if not self._validate_args or self.support is None:
            return
        if not self.support.check(value.detach()).all():  # type: ignore[attr-defined]
            raise UsageError(
                message(
                    f"Expected value argument (Tensor of shape {tuple(value._array.shape)}) to be within the support "
                    f"({self.support}) of the distribution {self!r}, but found invalid values:",
                    str(value),
                )
            )

    def __repr__(self) -> str:
        shown = [n for n in self.arg_constraints if n in self.__dict__]
        inside = ", ".join(
            f"{n}: {getattr(self, n) if getattr(self, n).numel() == 1 else tuple(getattr(self, n).size())}"
            for n in shown
        )
        return f"{type(self).__name__}({inside})"
