"""Ops that rearrange, copy or cast entries without computing on them."""

from __future__ import annotations



import numpy as np

from ..core.op import op
from ..core.samples import calls, real

# ruff: noqa: ANN001, ANN202


@op("*s -> *s", formula="{x} as {dtype}", numpy="{x}.astype({dtype!r})", samples=real(params=[{"dtype": np.dtype("f8")}]))
def cast(x, *, dtype):
    """Conversion to another dtype."""
    return x.astype(dtype)


@cast.vjp("x", math="x̄ = ȳ as x's dtype")
def _(g, x_dtype):
    return cast(g, dtype=x_dtype)


@op("*s -> *s", formula="{x}", numpy="{x}.copy()", samples=real())
def clone(x):
    """A copy in its own memory."""
    return x.copy()


@clone.vjp("x", math="x̄ = ȳ")
def _(g):
    return g


def _reshape_calls(r):
    yield r.normal(size=(2, 6)), {"shape": (3, 4)}
    yield r.normal(size=()), {"shape": (1, 1)}
    yield r.normal(size=(4, 3)).T, {"shape": (12,)}
    yield r.normal(size=(0, 2)), {"shape": (2, 0)}


@op("*s -> *t", formula="{x} reshaped", numpy="{x}.reshape({shape})", is_view=True, samples=calls(_reshape_calls))
def reshape(x, *, shape):
    """The same entries in row-major order, in another shape; a view where possible."""
    return x.reshape(shape)


@reshape.vjp("x", math="x̄ = ȳ reshaped back")
def _(g, x_shape):
    return reshape(g, shape=x_shape)


def _permute_calls(r):
    yield r.normal(size=(2, 3, 4)), {"dims": (2, 0, 1)}
    yield r.normal(size=()), {"dims": ()}
    yield r.normal(size=(0, 3)), {"dims": (1, 0)}


@op("*s -> *t", formula="{x} with axes {dims}", numpy="{x}.transpose({dims})", is_view=True,
    samples=calls(_permute_calls))  # fmt: skip
def permute(x, *, dims):
    """Axes in another order (a view)."""
    return x.transpose(dims)


@permute.vjp("x", math="x̄ = ȳ with the axes put back")
def _(g, dims):
    back = [0] * len(dims)
    for i, d in enumerate(dims):
        back[d] = i
    return permute(g, dims=tuple(back))


@op("*b n m -> *b m n", formula="{x}ᵀ", numpy="{x}.swapaxes(-1, -2)", is_view=True,
    samples=calls(lambda r: [(r.normal(size=s),) for s in ((2, 3), (4, 2, 3), (0, 2))]))  # fmt: skip
def swap(x):
    """The last two axes exchanged: the transpose of a matrix (a view)."""
    return x.swapaxes(-1, -2)


@swap.vjp("x", math="x̄ = ȳᵀ")
def _(g):
    return swap(g)


def _expand_calls(r):
    yield r.normal(size=(3, 1)), {"shape": (2, 3, 4)}
    yield r.normal(size=()), {"shape": (2,)}
    yield r.normal(size=(1, 2)), {"shape": (0, 2)}


@op("*s -> *t", formula="{x} broadcast to {shape}", numpy="np.broadcast_to({x}, {shape})", is_view=True,
    samples=calls(_expand_calls))  # fmt: skip
def expand(x, *, shape):
    """Repeated along new axes and axes of size 1, without copying (a read-only view)."""
    # A 0-d gradient spread over x is every loss's first step backward; broadcast_to takes 4 times as long for it.
    if x.ndim == 0 and type(x) is np.ndarray:
        return np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))
    return np.broadcast_to(x, shape)


@expand.vjp("x", math="x̄ = Σ ȳ over the repeated axes")
def _(g, x_shape):
    return sum_to(g, shape=x_shape)


def _sum_to_calls(r):
    yield r.normal(size=(2, 3, 4)), {"shape": (3, 1)}
    yield r.normal(size=(2,)), {"shape": ()}
    yield r.normal(size=(0, 2)), {"shape": (1, 2)}


@op("*s -> *t", formula="Σ {x} down to {shape}", samples=calls(_sum_to_calls))
def sum_to(x, *, shape):
    """Sum over the axes that broadcasting ``shape`` to x's shape would repeat."""
    if x.shape == shape:
        return x
    lead = x.ndim - len(shape)
    if lead == 1 and x.shape[1:] == shape:  # the bias of a layer
        return np.add.reduce(x, axis=0)
    axes = tuple(range(lead)) + tuple(
        i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1
    )
    return np.add.reduce(x, axis=axes).reshape(shape)


@sum_to.vjp("x", math="x̄ = ȳ broadcast back")
def _(g, x_shape):
    return expand(g, shape=x_shape)


