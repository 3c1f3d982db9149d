"""Reading and writing entries by index.

Basic indices (ints, slices, None, Ellipsis) give views and stand in the setting ``key``. Index arrays are inputs:
``index(x, i, j, …, axes=…)`` takes x's entries where the arrays, broadcast against each other, index the axes named.
"""

from __future__ import annotations

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .compare import where

# ruff: noqa: ANN001, ANN002, ANN202

# --- basic indices: views --------------------------------------------------------------------------------------


def _key_calls(r):
    yield r.normal(size=(3, 4)), {"key": (1,)}
    yield r.normal(size=(3, 4)), {"key": (slice(0, 3, 2), None, -1)}
    yield r.normal(size=(2, 3, 4)), {"key": (Ellipsis, slice(1, 3))}
    yield r.normal(size=()), {"key": (None, Ellipsis)}


@op("*s -> *t", formula="{x}[{key}]", numpy="{x}[{key}]", is_view=True, samples=calls(_key_calls))
def getitem(x, *, key):
    """Part of a tensor by ints, slices, None and Ellipsis (a view)."""
    # The Ellipsis keeps NumPy from turning a single entry into a number, which would not be a view.
    return x[key] if Ellipsis in key else x[(*key, ...)]


@getitem.vjp("x", math="x̄ = ȳ at key, else 0")
def _(g, x_shape, key):
    return place(g, key=key, shape=x_shape)


@op("*t -> *s", formula="0 with {x} at [{key}]",
    samples=calls(lambda r: [(r.normal(size=4), {"key": (1,), "shape": (3, 4)})]))  # fmt: skip
def place(x, *, key, shape):
    """Zeros of a shape with x at a basic index."""
    out = np.zeros(shape, x.dtype)
    out[key] = x
    return out


@place.vjp("x", math="x̄ = ȳ[key]")
def _(g, key):
    return getitem(g, key=key)


def _view_of(view, x):
    described, params, output = view
    result = described.call(x, **params)
    return result if output is None else result[output]


@op("*s, *v -> *s", formula="{x} with a part replaced by {v}",
    samples=calls(lambda r: [(r.normal(size=(3, 4)), r.normal(size=(4, 3)),
                              {"view": (_swap(), {}, None)})]))  # fmt: skip
def view_scatter(x, v, *, view):
    """``x`` with the part that the recorded view selects replaced by ``v``: an in-place write through a view."""
    out = x.copy()
    _view_of(view, out)[...] = v
    return out


@view_scatter.vjp("x", math="x̄ = ȳ with that part 0")
def _(g, view):
    return view_scatter(g, _view_of(view, g) * 0, view=view)


@view_scatter.vjp("v", math="v̄ = that part of ȳ")
def _(g, view):
    return _view_of(view, g)


def _swap():
    from .layout import swap

    return swap.op


@op("*s, *s -> *s", formula="{v}",
    samples=calls(lambda r: [(r.normal(size=(2, 3)), r.normal(size=(2, 3)))]))  # fmt: skip
def overwrite(x, v):
    """v, in the memory that held x: what ``copy_`` and ``fill_`` leave there."""
    return v.copy()


@overwrite.vjp("x", math="x̄ = 0")
def _(g):
    return where(False, g, 0.0)  # not 0 · ȳ, which is NaN where ȳ is infinite


@overwrite.vjp("v", math="v̄ = ȳ")
def _(g):
    return g


# --- index arrays ----------------------------------------------------------------------------------------------


def _full_key(axes, indices, ndim):
    """The NumPy key that indexes the named axes by the arrays and takes all of the others."""
    key = [slice(None)] * (max(axes) + 1)
    for axis, index in zip(axes, indices):
        key[axis] = index
    return tuple(key)


def _index_calls(r):
    x = r.normal(size=(4, 3, 5))
    yield x, np.array([0, 2, 2, -1]), None, None, None, None, None, {"axes": (0,)}
    yield x, np.array([[0, 1]]), np.array([[2], [1]]), None, None, None, None, {"axes": (0, 1)}
    yield x, np.array([0, 1]), np.array([2, 2]), None, None, None, None, {"axes": (0, 2)}
    yield x, np.array(2), None, None, None, None, None, {"axes": (1,)}
    yield x, np.zeros(0, int), None, None, None, None, None, {"axes": (1,)}


@op("*s, *i, … -> *t", formula="{x}[{i}, …]", samples=calls(_index_calls))
def index(x, i, j, k, l, m, n, *, axes):
    """Entries of x where index arrays (None: unused), broadcast against each other, index the named axes.

    As in NumPy the axes of the result that come from the indices stand where the first indexed axis was when the
    indexed axes are adjacent, and first otherwise.
    """
    return x[i] if axes == (0,) else x[_full_key(axes, (i, j, k, l, m, n), x.ndim)]


@index.vjp("x", math="x̄ = ȳ added up at the indices")
def _(g, i, j, k, l, m, n, x_shape, axes):
    return index_sum(g, i, j, k, l, m, n, axes=axes, shape=x_shape)


def _index_sum_calls(r):
    yield r.normal(size=(4, 3)), np.array([0, 2, 2, -1]), None, None, None, None, None, {"axes": (0,), "shape": (5, 3)}
    yield (r.normal(size=(3, 2)), np.array([0, 1, 1]), np.array([1, 0, 0]), None, None, None, None,
           {"axes": (0, 1), "shape": (2, 3, 2)})  # fmt: skip
    yield (r.normal(size=(3, 4)), np.array([0, 1, 1]), np.array([1, 0, 0]), None, None, None, None,
           {"axes": (0, 2), "shape": (2, 4, 3)})  # fmt: skip


@op("*t, *i, … -> *s", formula="Σ {x} at [{i}, …]", samples=calls(_index_sum_calls))
def index_sum(x, i, j, k, l, m, n, *, axes, shape):
    """Zeros of a shape with the entries of x added at index arrays (see ``index``): equal indices add up."""
    indices = [a for a in (i, j, k, l, m, n) if a is not None]
    sizes = [shape[axis] for axis in axes]
    broadcast = np.broadcast_arrays(*indices)
    # Bring the indexed axes to the front of the result and the indices' axes to the front of x …
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    depth = broadcast[0].ndim
    adjacent = axes[-1] - axes[0] == len(axes) - 1
    first = axes[0] if adjacent else 0
    values = np.moveaxis(x, list(range(first, first + depth)), list(range(depth))) if first else x
    # … so that the sum is one over rows: out[row number] += row.
    total = 1
    for size in sizes:
        total *= size
    row = np.zeros(broadcast[0].shape, np.intp)
    for array, size in zip(broadcast, sizes):
        row = row * size + np.where(array < 0, array + size, array)
    row = row.ravel()
    values = values.reshape(row.size, -1) if row.size else values.reshape(0, 0)
    width = values.shape[1]
    if row.size == 0 or width == 0:
        out = np.zeros((total, *(shape[axis] for axis in rest)), x.dtype)
    elif width == 1 and x.dtype == np.float64:
        out = np.bincount(row, values[:, 0], total)
    else:
        out = np.zeros((total, width), x.dtype)
        # Sorting makes equal rows neighbours: one reduceat instead of np.add.at, which is ten times slower on rows.
        order = np.argsort(row, kind="stable")
        ordered = row[order]
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        if starts.size == row.size:
            out[row] = values
        else:
            out[ordered[starts]] = np.add.reduceat(values[order], starts, axis=0)
    out = out.reshape(*sizes, *(shape[axis] for axis in rest))
    order_back = [0] * len(shape)
    for position, axis in enumerate((*axes, *rest)):
        order_back[axis] = position
    return out.transpose(order_back)


@index_sum.vjp("x", math="x̄ = ȳ at the indices")
def _(g, i, j, k, l, m, n, axes):
    return index(g, i, j, k, l, m, n, axes=axes)


def _index_put_calls(r):
    x, rows = r.normal(size=(4, 3)), np.array([0, 2])
    yield x, r.normal(size=(2, 3)), rows, None, None, None, None, None, {"axes": (0,), "accumulate": False}
    yield x, r.normal(size=(2,)), rows, np.array([1, 1]), None, None, None, None, {"axes": (0, 1), "accumulate": False}
    yield x, r.normal(size=(2, 3)), np.array([1, 1]), None, None, None, None, None, {"axes": (0,), "accumulate": True}


@op("*s, *t, *i, … -> *s", formula="{x} with [{i}, …] = {v}", samples=calls(_index_put_calls))
def index_put(x, v, i, j, k, l, m, n, *, axes, accumulate):
    """x with v (of the shape that ``index`` gives) stored at, or with ``accumulate`` added at, index arrays."""
    if accumulate:
        return x + index_sum(v, i, j, k, l, m, n, axes=axes, shape=x.shape)
    out = x.copy()
    out[_full_key(axes, (i, j, k, l, m, n), x.ndim)] = v
    return out


@index_put.vjp("x", math="x̄ = ȳ, but 0 at the indices unless v was added")
def _(g, i, j, k, l, m, n, v_shape, v_dtype, axes, accumulate):
    if accumulate:
        return g
    zero = np.zeros(v_shape, v_dtype)
    return index_put(g, zero, i, j, k, l, m, n, axes=axes, accumulate=False)


@index_put.vjp("v", math="v̄ = ȳ at the indices")
def _(g, i, j, k, l, m, n, axes):
    return index(g, i, j, k, l, m, n, axes=axes)


# --- masks -----------------------------------------------------------------------------------------------------


def _mask_calls(r):
    mask = np.array([[True, False, True], [False, False, True]])
    yield r.normal(size=(2, 3)), mask
    yield r.normal(size=(2, 3, 2)), mask
    yield r.normal(size=(2, 3)), np.array([False, True])
    yield r.normal(size=(2, 3)), np.zeros((2, 3), bool)


@op("*s, *m -> ?", formula="{x}[{mask}]", numpy="{x}[{mask}]", samples=calls(_mask_calls))
def take_mask(x, mask):
    """Entries (or rows) of x where a bool array over its first axes is true."""
    return x[mask]


@take_mask.vjp("x", math="x̄ = ȳ where mask, else 0")
def _(g, mask, x_shape):
    return put_mask(g, mask, shape=x_shape)


@op("?, *m -> *s", formula="0 with {x} where {mask}",
    samples=calls(lambda r: [(r.normal(size=2), np.array([True, False, True]), {"shape": (3,)})]))  # fmt: skip
def put_mask(x, mask, *, shape):
    """Zeros of a shape with x's entries (or rows) where the mask is true."""
    out = np.zeros(shape, x.dtype)
    out[mask] = x
    return out


@put_mask.vjp("x", math="x̄ = ȳ[mask]")
def _(g, mask):
    return take_mask(g, mask)


@op("*s, *s -> *s", formula="{x} with [{mask}] = {v}",
    samples=calls(lambda r: [(r.normal(size=3), r.normal(size=2), np.array([True, False, True]))]))  # fmt: skip
def set_mask(x, v, mask):
    """x with v's entries (or rows), in order, stored where a bool array over its first axes is true."""
    out = x.copy()
    out[mask] = v
    return out


@set_mask.vjp("x", math="x̄ = ȳ, 0 where mask")
def _(g, v_shape, v_dtype, mask):
    return set_mask(g, np.zeros(v_shape, v_dtype), mask)


@set_mask.vjp("v", math="v̄ = ȳ[mask]")
def _(g, mask):
    return take_mask(g, mask)


@op("*s -> ?, …", formula="where {x} ≠ 0", outputs=None,
    samples=calls(lambda r: [(np.array([[1.0, 0.0], [2.0, 3.0]]),)]))  # fmt: skip
def nonzero(x):
    """The indices of the entries that are not zero, one array per axis."""
    return np.nonzero(x) if x.ndim else np.nonzero(x.reshape(1))
