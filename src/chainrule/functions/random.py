"""Random tensors, seeds and generators. Same distributions as PyTorch's; the stream of numbers is our own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtypes, inplace
from ..core.device import check_device
from ..core.dtypes import FLOATS
from ..core.rng import Generator, default_generator, numpy_generator
from ..core.state import state
from ..core.variable import Variable, wrap
from ._args import cast, need_tensor
from .creation import _shape, finish
from .inplace import into

__all__ = [
    "Generator", "default_generator", "manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state", "rand",
    "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli", "multinomial", "normal",
    "poisson", "binomial",
]  # fmt: skip
METHODS = (
    "bernoulli", "multinomial", "uniform_", "normal_", "bernoulli_", "random_", "exponential_", "cauchy_",
    "log_normal_", "geometric_",
)  # fmt: skip

_INT64 = np.dtype(np.int64)


def manual_seed(seed: Any) -> Generator:
    """Start the default stream anew from ``seed``."""
    if state.recorder is not None:
        _depends("manual_seed")
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Start the default stream from a seed that the operating system chooses; returns it."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the default stream started from."""
    return default_generator.initial_seed()


def get_rng_state() -> Any:
    """The default stream's state, for ``set_rng_state``."""
    return default_generator.get_state()


def set_rng_state(new_state: Any) -> None:
    """Continue the default stream from a saved state."""
    default_generator.set_state(new_state)


def _fresh(draw: Any, requires_grad: bool = False) -> Any:
    """A tensor of the random numbers that ``draw()`` gives; a program being traced draws them anew on every run."""
    t = finish(np.asarray(draw()), requires_grad)
    if state.recorder is not None and hasattr(state.recorder, "random"):
        state.recorder.random(t, draw)
    return t


def _depends(what: str) -> None:
    """A traced program cannot draw again what depends on the values of a tensor."""
    if state.recorder is not None:
        state.recorder.leak(None, what)


def _uniform(rng: Any, shape: Any, d: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if d.itemsize == 2:  # rounding may reach 1, which is outside [0, 1): draw what the dtype holds exactly
        steps = 2 ** (dtypes.limits(d).nmant + 1)
        return (rng.integers(0, steps, shape) / steps).astype(d)
    return rng.random(shape, d)


def _normal(rng: Any, shape: Any, d: np.dtype[Any]) -> np.ndarray[Any, Any]:
    return rng.standard_normal(shape, np.float32).astype(d) if d.itemsize == 2 else rng.standard_normal(shape, d)


def _draw(name: str, draw: Any, doc: str) -> Any:
    def function(
        *size: Any, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False,
        layout: Any = None, pin_memory: bool = False, out: Any = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        if device is not None:
            check_device(device)
        if kwargs:
            if set(kwargs) != {"size"}:
                raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(kwargs))}'")
            size = (kwargs["size"],)
        d = dtypes.default.numpy if dtype is None else dtypes.as_numpy_dtype(dtype)
        if d not in FLOATS:
            kernel = "normal_kernel_cpu" if name == "randn" else "check_uniform_bounds"
            kind = dtypes.TORCH_NAMES[dtypes.from_numpy(d).name]
            raise NotImplementedError(f"\"{kernel}\" not implemented for '{kind}'")
        shape = _shape(size, name)
        t = _fresh(lambda: draw(numpy_generator(generator), shape, d), requires_grad)
        return t if out is None else into(out, t)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


rand = _draw("rand", _uniform, "Uniform numbers in [0, 1): ``rand(2, 3)`` or ``rand((2, 3))``.")
randn = _draw("randn", _normal, "Standard normal numbers.")


def _draw_like(name: str, draw: Any) -> Any:
    def function(
        input: Any, *, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False,
        layout: Any = None, memory_format: Any = None, pin_memory: bool = False,
    ) -> Any:  # fmt: skip
        x = need_tensor(input, name)
        return draw(
            x._array.shape, generator=generator, dtype=x._array.dtype if dtype is None else dtype, device=device,
            requires_grad=requires_grad,
        )  # fmt: skip

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``{draw.__name__}`` with this tensor's shape and dtype."
    return function


rand_like, randn_like = _draw_like("rand_like", rand), _draw_like("randn_like", randn)


def randint(
    low: Any = 0, high: Any = None, size: Any = None, *, generator: Any = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, layout: Any = None, pin_memory: bool = False, out: Any = None,
) -> Any:  # fmt: skip
    """Integers from ``low`` up to and without ``high``: ``randint(high, size)`` or ``randint(low, high, size)``."""
    check_device(device)
    if size is None and isinstance(high, (tuple, list)):
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    low, high = int(low), int(high)
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    d = dtypes.as_numpy_dtype(dtype) or _INT64
    shape = _shape((size,), "randint")
    t = _fresh(lambda: np.asarray(numpy_generator(generator).integers(low, high, shape)).astype(d), requires_grad)
    return t if out is None else into(out, t)


def randint_like(input: Any, low: Any, high: Any = None, *, dtype: Any = None, **options: Any) -> Any:
    """``randint`` with this tensor's shape and dtype."""
    if high is None:
        low, high = 0, low
    options.pop("memory_format", None)
    return randint(low, high, input._array.shape, dtype=input._array.dtype if dtype is None else dtype, **options)


def randperm(
    n: int, *, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    layout: Any = None, pin_memory: bool = False, out: Any = None,
) -> Any:  # fmt: skip
    """The numbers 0 … n − 1 in random order."""
    check_device(device)
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    d = dtypes.as_numpy_dtype(dtype) or _INT64
    t = _fresh(lambda: numpy_generator(generator).permutation(n).astype(d), requires_grad)
    return t if out is None else into(out, t)


def bernoulli(input: Any, p: Any = None, *, generator: Any = None, out: Any = None) -> Any:
    """1 with the probability that ``input`` (or ``p``) gives, else 0."""
    x = need_tensor(input, "bernoulli")
    if p is None:
        if x._array.dtype not in FLOATS:
            raise RuntimeError("bernoulli: the probabilities must be floating point")
        p = x._array
        if not ((p >= 0) & (p <= 1)).all():
            raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.")
        p = x.detach()
    elif not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
    shape = x._array.shape  # not x itself: a program that is being traced keeps the function
    uniform = _fresh(lambda: numpy_generator(generator).random(shape))
    t = cast((uniform < p), x._array.dtype)
    return t if out is None else into(out, t)


def multinomial(
    input: Any, num_samples: int, replacement: bool = False, *, generator: Any = None, out: Any = None
) -> Any:
    """Indices drawn with probabilities proportional to each row of ``input``."""
    x = need_tensor(input, "multinomial")
    weights = x._array
    if weights.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if weights.dtype not in FLOATS:
        raise RuntimeError(
            f"multinomial only supports floating-point dtypes for input, got: {dtypes.from_numpy(weights.dtype)}"
        )
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > weights.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if weights.size and (weights.sum(-1) == 0).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    _depends("multinomial")
    rng = numpy_generator(generator)
    rows = np.atleast_2d(weights).astype(np.float64)
    if replacement:
        edges = np.cumsum(rows, axis=1)
        drawn = rng.random((len(rows), num_samples)) * edges[:, -1:]
        found = np.stack([np.searchsorted(e, u, side="right") for e, u in zip(edges, drawn)]) if len(rows) else drawn
        found = np.minimum(found, rows.shape[1] - 1)
    else:
        # The largest of wᵢ^(1/uᵢ) are a sample without replacement (Efraimidis and Spirakis); here as logarithms.
        keys = rng.standard_exponential(rows.shape) / np.where(rows > 0, rows, 1.0)
        keys[rows == 0] = np.inf
        found = np.argsort(keys, axis=1)[:, :num_samples]
    array = found.astype(np.int64).reshape(*weights.shape[:-1], num_samples)
    return into(out, wrap(array)) if out is not None else wrap(array)


def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Any = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, out: Any = None, layout: Any = None, pin_memory: bool = False,
) -> Any:  # fmt: skip
    """Normal numbers with the given mean and standard deviation (tensors or numbers, or numbers and a ``size``)."""
    check_device(device)
    m = mean._array if isinstance(mean, Variable) else mean
    s = std._array if isinstance(std, Variable) else std
    if np.min(s, initial=0) < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {np.min(s):g}")
    if size is not None:
        shape = _shape((size,), "normal")
    else:
        shape = np.broadcast_shapes(np.shape(m), np.shape(s))
    given = next((t._array.dtype for t in (mean, std) if isinstance(t, Variable)), None)
    d = dtypes.as_numpy_dtype(dtype) or given or dtypes.default.numpy
    if state.recorder is not None and given is not None:
        standard = _fresh(lambda: _normal(numpy_generator(generator), shape, d))
        t = cast((standard * std + mean).detach(), d)
    else:
        t = _fresh(lambda: np.asarray(_normal(numpy_generator(generator), shape, d) * s + m).astype(d), requires_grad)
    return t if out is None else into(out, t)


def poisson(input: Any, generator: Any = None) -> Any:
    """Poisson numbers with the rates that ``input`` gives."""
    a = need_tensor(input, "poisson")._array
    _depends("poisson")
    return wrap(np.asarray(numpy_generator(generator).poisson(a)).astype(a.dtype))


def binomial(count: Any, prob: Any, generator: Any = None) -> Any:
    """How many of ``count`` trials succeed, each with probability ``prob``."""
    n, p = need_tensor(count, "binomial")._array, prob._array
    _depends("binomial")
    return wrap(np.asarray(numpy_generator(generator).binomial(n.astype(np.int64), p)).astype(n.dtype))


# --- in place -------------------------------------------------------------------------------------------------------


def _fill(self: Any, draw: Any) -> Any:
    inplace.check_writable(self)
    shape, d = self._array.shape, self._array.dtype
    return inplace.write(self, _fresh(lambda: np.asarray(draw(shape)).astype(d, copy=False)))


def uniform_(self: Any, from_: float = 0.0, to: float = 1.0, *, generator: Any = None, **options: Any) -> Any:
    """Fill with uniform numbers in [from, to)."""
    low = options.pop("from", from_)
    if low > to:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={to:g}")
    d = self._array.dtype if self._array.dtype in FLOATS else np.dtype(np.float32)
    return _fill(self, lambda shape: _uniform(numpy_generator(generator), shape, d) * d.type(to - low) + d.type(low))


def normal_(self: Any, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Any:
    """Fill with normal numbers."""
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    d = self._array.dtype if self._array.dtype in FLOATS else np.dtype(np.float32)
    return _fill(self, lambda shape: _normal(numpy_generator(generator), shape, d) * d.type(std) + d.type(mean))


def bernoulli_(self: Any, p: Any = 0.5, *, generator: Any = None) -> Any:
    """Fill with 1 (probability p, a number or a tensor) and 0."""
    if isinstance(p, Variable):
        _depends("bernoulli_")
        p = p._array
    if not np.all((np.asarray(p) >= 0) & (np.asarray(p) <= 1)):
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    return _fill(self, lambda shape: numpy_generator(generator).random(shape) < p)


def random_(self: Any, from_: Any = None, to: Any = None, *, generator: Any = None, **options: Any) -> Any:
    """Fill with integers from ``from`` up to and without ``to``; by default with all that the dtype holds exactly."""
    low = options.pop("from", from_)
    if to is None and low is not None:
        low, to = 0, low
    d = self._array.dtype
    if to is None:
        to = {"b": 2}.get(d.kind) or (2 ** (dtypes.limits(d).nmant + 1) + 1 if d in FLOATS else np.iinfo(d).max)
    low = 0 if low is None else int(low)
    if low >= to:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={to}")
    return _fill(self, lambda shape: numpy_generator(generator).integers(low, int(to), shape))


def exponential_(self: Any, lambd: float = 1.0, *, generator: Any = None) -> Any:
    """Fill with exponential numbers of rate ``lambd``."""
    if lambd <= 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    return _fill(self, lambda shape: numpy_generator(generator).standard_exponential(shape) / lambd)


def cauchy_(self: Any, median: float = 0.0, sigma: float = 1.0, *, generator: Any = None) -> Any:
    """Fill with Cauchy numbers."""
    return _fill(self, lambda shape: numpy_generator(generator).standard_cauchy(shape) * sigma + median)


def log_normal_(self: Any, mean: float = 1.0, std: float = 2.0, *, generator: Any = None) -> Any:
    """Fill with exp of normal numbers."""
    return _fill(self, lambda shape: np.exp(numpy_generator(generator).standard_normal(shape) * std + mean))


def geometric_(self: Any, p: float, *, generator: Any = None) -> Any:
    """Fill with the number of trials until the first success of probability p."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")

    def draw(shape: Any) -> Any:
        u = numpy_generator(generator).random(shape)
        return np.ceil(np.log1p(-u) / math.log1p(-p)).clip(1)

    return _fill(self, draw)
