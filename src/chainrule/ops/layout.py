"""Ops that rearrange, copy or cast entries without computing on them."""

from __future__ import annotations

import math

import numpy as np

from ..core.dtypes import BFLOAT16
from ..core.op import op
from ..core.samples import calls, real

# ruff: noqa: ANN001, ANN202


@op(
    "*s -> *s",
    formula="{x} as {dtype}",
    numpy="{x}.astype({dtype!r})",
    samples=real(params=[{"dtype": np.dtype("f8")}]),
)
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
    if 0 < x.size == math.prod(shape) and x.shape == tuple(shape)[len(shape) - x.ndim :]:
        return x.reshape(shape)  # nothing is repeated: a view that may be written to
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
    if x.dtype is BFLOAT16:  # adds up in float32, as everything on bfloat16 (a rule's arrays come here as they are)
        return sum_to(x.astype(np.float32), shape=shape).astype(BFLOAT16)
    lead = x.ndim - len(shape)
    if lead == 1 and x.shape[1:] == shape:  # the bias of a layer
        return np.add.reduce(x, axis=0)
    axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    return np.add.reduce(x, axis=axes).reshape(shape)


@sum_to.vjp("x", math="x̄ = ȳ broadcast back")
def _(g, x_shape):
    return expand(g, shape=x_shape)


def _flip_calls(r):
    yield r.normal(size=(2, 3)), {"dims": (1,)}
    yield r.normal(size=(2, 3, 2)), {"dims": (0, 2)}
    yield r.normal(size=(0, 2)), {"dims": (0,)}


@op("*s -> *s", formula="{x} reversed along {dims}", numpy="np.flip({x}, {dims})", samples=calls(_flip_calls))
def flip(x, *, dims):
    """Entries in reverse order along some axes (a copy)."""
    return np.flip(x, dims).copy()


@flip.vjp("x", math="x̄ = ȳ reversed back")
def _(g, dims):
    return flip(g, dims=dims)


def _roll_calls(r):
    yield r.normal(size=(2, 3)), {"shifts": (1,), "dims": (1,)}
    yield r.normal(size=(2, 3)), {"shifts": (1, -2), "dims": (0, 1)}
    yield r.normal(size=(0, 2)), {"shifts": (1,), "dims": (0,)}


@op("*s -> *s", formula="{x} rolled by {shifts} along {dims}", numpy="np.roll({x}, {shifts}, {dims})",
    samples=calls(_roll_calls))  # fmt: skip
def roll(x, *, shifts, dims):
    """Entries moved along axes; what leaves at one end enters at the other."""
    return np.roll(x, shifts, dims)


@roll.vjp("x", math="x̄ = ȳ rolled back")
def _(g, shifts, dims):
    return roll(g, shifts=tuple(-s for s in shifts), dims=dims)


def _triangle_calls(r):
    for diagonal in (-1, 0, 2):
        yield r.normal(size=(3, 4)), {"diagonal": diagonal}
    yield r.normal(size=(2, 3, 3)), {"diagonal": 0}
    yield r.normal(size=(0, 3)), {"diagonal": 0}


@op("*b n m -> *b n m", formula="{x} below diagonal {diagonal}, else 0", numpy="np.tril({x}, {diagonal})",
    samples=calls(_triangle_calls))  # fmt: skip
def tril(x, *, diagonal):
    """The lower triangle of a matrix; 0 above the diagonal."""
    return np.tril(x, diagonal)


@tril.vjp("x", math="x̄ = lower triangle of ȳ")
def _(g, diagonal):
    return tril(g, diagonal=diagonal)


@op("*b n m -> *b n m", formula="{x} above diagonal {diagonal}, else 0", numpy="np.triu({x}, {diagonal})",
    samples=calls(_triangle_calls))  # fmt: skip
def triu(x, *, diagonal):
    """The upper triangle of a matrix; 0 below the diagonal."""
    return np.triu(x, diagonal)


@triu.vjp("x", math="x̄ = upper triangle of ȳ")
def _(g, diagonal):
    return triu(g, diagonal=diagonal)


def _diagonal_calls(r):
    yield r.normal(size=(3, 4)), {"offset": 0, "dim1": 0, "dim2": 1}
    yield r.normal(size=(3, 2, 3)), {"offset": 1, "dim1": 0, "dim2": 2}
    yield r.normal(size=(3, 3)), {"offset": -1, "dim1": 1, "dim2": 0}
    yield r.normal(size=(2, 2)), {"offset": 5, "dim1": 0, "dim2": 1}


@op("*s -> *t", formula="diagonal {offset} of {x}", numpy="np.diagonal({x}, {offset}, {dim1}, {dim2})", is_view=True,
    samples=calls(_diagonal_calls))  # fmt: skip
def diagonal(x, *, offset, dim1, dim2):
    """The diagonal of two axes, as a last axis (a view)."""
    # np.diagonal gives a read-only view; in PyTorch it can be written to.
    d = np.diagonal(x, offset, dim1, dim2)
    if not d.size or not x.flags.writeable:
        return d
    key = [slice(None)] * x.ndim
    key[dim1], key[dim2] = slice(max(-offset, 0), None), slice(max(offset, 0), None)
    return np.lib.stride_tricks.as_strided(x[tuple(key)], d.shape, d.strides)


@diagonal.vjp("x", math="x̄ = ȳ on the diagonal, else 0")
def _(g, x_shape, offset, dim1, dim2):
    return on_diagonal(g, shape=x_shape, offset=offset, dim1=dim1, dim2=dim2)


@op("*t -> *s", formula="{x} on diagonal {offset}, else 0",
    samples=calls(lambda r: [(r.normal(size=(2, 3)),
                              {"shape": (3, 2, 4), "offset": 1, "dim1": 0, "dim2": 2})]))  # fmt: skip
def on_diagonal(x, *, shape, offset, dim1, dim2):
    """Zeros of a shape with x on the diagonal of two axes."""
    out = np.zeros(shape, x.dtype)
    d = np.diagonal(out, offset, dim1, dim2)
    d.flags.writeable = True
    d[...] = x
    return out


@on_diagonal.vjp("x", math="x̄ = the diagonal of ȳ")
def _(g, offset, dim1, dim2):
    return diagonal(g, offset=offset, dim1=dim1, dim2=dim2)


def _unfold_calls(r):
    yield r.normal(size=(7,)), {"dim": 0, "size": 3, "step": 2}
    yield r.normal(size=(2, 5)), {"dim": 1, "size": 2, "step": 1}
    yield r.normal(size=(4, 2)), {"dim": 0, "size": 2, "step": 3}


@op("*s -> *t", formula="windows of {size} every {step} along {dim}", is_view=True, samples=calls(_unfold_calls))
def unfold(x, *, dim, size, step):
    """Sliding windows along one axis, their entries in a new last axis (a view)."""
    n = (x.shape[dim] - size) // step + 1
    shape = (*x.shape[:dim], n, *x.shape[dim + 1 :], size)
    strides = (*x.strides[:dim], x.strides[dim] * step, *x.strides[dim + 1 :], x.strides[dim])
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=x.flags.writeable)


@unfold.vjp("x", math="x̄ = Σ ȳ over the windows that an entry is in")
def _(g, x_shape, dim, size, step):
    return fold(g, shape=x_shape, dim=dim, size=size, step=step)


@op("*t -> *s", formula="windows of {x} added up along {dim}",
    samples=calls(lambda r: [(r.normal(size=(3, 3)), {"shape": (7,), "dim": 0, "size": 3, "step": 2})]))  # fmt: skip
def fold(x, *, shape, dim, size, step):
    """Sliding windows (see ``unfold``) added back to where they were taken."""
    out = np.zeros(shape, x.dtype)
    n = x.shape[dim]
    for k in range(size):
        at = (slice(None),) * dim + (slice(k, k + (n - 1) * step + 1, step),)
        out[at] += x[..., k]
    return out


@fold.vjp("x", math="x̄ = windows of ȳ")
def _(g, dim, size, step):
    return unfold(g, dim=dim, size=size, step=step)
