"""Products that sum over shared axes: einsum, tensordot, and the products with something added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dtypes import FLOATS, TORCH_NAMES
from ..core.live import values_read
from ..core.variable import Variable, wrap
from ..errors import ShapeError, message
from ..ops import layout
from ..ops import linalg as ops
from ..ops.reduce import norm as norm_op
from ..ops.reduce import sum as sum_op
from ._args import axis, cast, need_tensor
from .inplace import into
from .linalg import bmm, matmul, mv, outer

__all__ = ["addbmm", "addmm", "addmv", "addr", "baddbmm", "cdist", "chain_matmul", "einsum", "ger", "kron", "pdist",
           "tensordot"]  # fmt: skip
METHODS = ("addbmm", "addmm", "addmv", "addr", "baddbmm", "ger", "kron")
INPLACE = ("addbmm", "addmm", "addmv", "addr", "baddbmm")


# --- einsum ------------------------------------------------------------------------------------------------------


def _letter(n: int) -> str:
    if not 0 <= n < 52:
        raise RuntimeError(f"einsum(): subscripts in sublist form must be in [0, 52), got {n}")
    return chr(ord("A") + n) if n < 26 else chr(ord("a") + n - 26)


def _from_sublists(args: Sequence[Any]) -> tuple[str, list[Any]]:
    operands, terms = list(args[0::2]), [list(s) for s in args[1::2]]
    target = None
    if len(args) % 2:
        target, operands = list(operands[-1]), operands[:-1]

    def term(sub: list[Any]) -> str:
        return "".join("..." if s is Ellipsis else _letter(s) for s in sub)

    equation = ",".join(map(term, terms))
    return equation if target is None else f"{equation}->{term(target)}", operands


def _labels(term: str, ndim: int, dots: int, i: int) -> list[Any]:
    """The labels of one operand's axes: letters, and numbers (counted from the right) for those under '...'."""
    named = term.replace("...", "")
    if "." in named:
        raise RuntimeError(f"einsum(): found '.' for operand {i} that is not part of any ellipsis")
    for c in named:
        if not c.isalpha():
            raise RuntimeError(
                f"einsum(): invalid subscript given at index {term.index(c)} in the equation string, subscripts "
                "must be in [a-zA-Z]"
            )
    if "..." not in term:
        if len(named) != ndim:
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({len(named)}) does not match the number of "
                f"dimensions ({ndim}) for operand {i} and no ellipsis was given"
            )
        return list(named)
    if len(named) > ndim:
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({len(named)}) is more than the number of dimensions "
            f"({ndim}) for operand {i}"
        )
    before, after = term.split("...", 1)
    covered = ndim - len(named)
    return [*before, *range(-covered, 0), *after]


def _take_diagonals(x: Any, labels: list[Any]) -> tuple[Any, list[Any]]:
    """One axis per label: repeated labels mean a diagonal."""
    while len(set(labels)) < len(labels):
        twice = next(c for c in labels if labels.count(c) > 1)
        a = labels.index(twice)
        b = labels.index(twice, a + 1)
        if x._array.shape[a] != x._array.shape[b]:
            raise RuntimeError(
                f"einsum(): subscript {twice} is repeated for operand but the sizes don't match, "
                f"{x._array.shape[b]} != {x._array.shape[a]}"
            )
        x = layout.diagonal(x, offset=0, dim1=a, dim2=b)
        labels = [c for k, c in enumerate(labels) if k not in (a, b)] + [twice]
    return x, labels


def _permuted(x: Any, dims: tuple[int, ...]) -> Any:
    return x if dims == tuple(range(len(dims))) else layout.permute(x, dims=dims)


def _reshaped(x: Any, shape: tuple[int, ...]) -> Any:
    return x if x._array.shape == shape else layout.reshape(x, shape=shape)


def _arranged(x: Any, labels: list[Any], wanted: list[Any]) -> Any:
    """x with its axes in the order ``wanted``, size 1 where it lacks one."""
    have = [c for c in wanted if c in labels]
    dims = tuple(labels.index(c) for c in have)
    x = _permuted(x, dims)
    sizes = dict(zip(have, x._array.shape))
    return _reshaped(x, tuple([sizes.get(c, 1) for c in wanted]))


def _pair(x: Any, lx: list[Any], y: Any, ly: list[Any], keep: set[Any]) -> tuple[Any, list[Any]]:
    """Contract two operands over the labels that nothing needs any more, as one batched matrix product."""
    x, lx = _sum_alone(x, lx, keep | set(ly))
    y, ly = _sum_alone(y, ly, keep | set(lx))
    sizes: dict[Any, int] = {}
    for labels, t in ((lx, x), (ly, y)):
        for c, n in zip(labels, t._array.shape):
            sizes[c] = max(n, sizes.get(c, 1)) if n != 0 and sizes.get(c, 1) != 0 else 0
    x_sizes, y_sizes = dict(zip(lx, x._array.shape)), dict(zip(ly, y._array.shape))
    shared = [c for c in lx if c in ly]
    # An axis of size 1 in one operand alone broadcasts: there it is as if it were missing.
    batch = [c for c in shared if c in keep]
    inner = [c for c in shared if c not in keep and x_sizes[c] == y_sizes[c]]
    for c in [c for c in shared if c not in keep and x_sizes[c] != y_sizes[c]]:
        if x_sizes[c] == 1:
            y, ly = _sum_label(y, ly, c)
            x, lx = _drop(x, lx, c)
        else:
            x, lx = _sum_label(x, lx, c)
            y, ly = _drop(y, ly, c)
    left = [c for c in lx if c not in shared]
    right = [c for c in ly if c not in shared]
    if not inner:
        order = [*batch, *left, *right]
        return _arranged(x, lx, order) * _arranged(y, ly, order), order
    a = _permuted(x, tuple([lx.index(c) for c in (*batch, *left, *inner)]))
    b = _permuted(y, tuple([ly.index(c) for c in (*batch, *inner, *right)]))
    k = math.prod([x_sizes[c] for c in inner])
    rows, columns = (math.prod([sizes[c] for c in labels]) for labels in (left, right))
    a = _reshaped(a, (*[x_sizes[c] for c in batch], rows, k))
    b = _reshaped(b, (*[y_sizes[c] for c in batch], k, columns))
    z = ops.matmul(a, b)
    shape = (*z._array.shape[: len(batch)], *[sizes[c] for c in (*left, *right)])
    return _reshaped(z, shape), [*batch, *left, *right]


def _sum_alone(x: Any, labels: list[Any], keep: set[Any]) -> tuple[Any, list[Any]]:
    gone = tuple(i for i, c in enumerate(labels) if c not in keep)
    if not gone:
        return x, labels
    if x._array.dtype not in FLOATS:  # as sum: NumPy's own rule would make bytes uint64
        x = cast(x, np.int64)
    return sum_op(x, dim=gone, keepdim=False), [c for c in labels if c in keep]


def _sum_label(x: Any, labels: list[Any], c: Any) -> tuple[Any, list[Any]]:
    return _sum_alone(x, labels, set(labels) - {c})


def _drop(x: Any, labels: list[Any], c: Any) -> tuple[Any, list[Any]]:
    shape = tuple(n for n, k in zip(x._array.shape, labels) if k != c)
    return layout.reshape(x, shape=shape), [k for k in labels if k != c]


def einsum(*args: Any) -> Any:
    """Einstein's summation: ``einsum("bij,bjk->bik", x, y)``; also "...", an implicit result, and sublists.

    Two operands at a time are contracted by one matrix product, from left to right.

    >>> import chainrule as torch
    >>> torch.einsum("ij,kj->ik", torch.ones(2, 3), torch.ones(4, 3)).shape
    torch.Size([2, 4])
    >>> torch.einsum("ii", torch.eye(3))
    tensor(3.)
    """
    if len(args) < 2:
        raise ValueError(
            "einsum(): must specify the equation string and at least one operand, or at least one operand and its "
            "subscripts list"
        )
    if isinstance(args[0], Variable):
        equation, operands = _from_sublists(args)
    else:
        equation = args[0]
        operands = list(args[1]) if len(args) == 2 and isinstance(args[1], (list, tuple)) else list(args[1:])
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) < len(operands):
        raise RuntimeError("einsum(): more operands were provided than specified in the equation")
    if len(terms) > len(operands):
        raise RuntimeError("einsum(): fewer operands were provided than specified in the equation")
    dots = 0
    labelled: list[tuple[Any, list[Any]]] = []
    for i, (term, x) in enumerate(zip(terms, operands, strict=True)):
        labels = _labels(term, need_tensor(x, "einsum")._array.ndim, dots, i)
        dots = max(dots, sum_count(labels))
        labelled.append((x, labels))
    everything = [c for _, labels in labelled for c in labels]
    covered = list(range(-dots, 0))
    if arrow:
        for c in right.replace("...", ""):
            if right.count(c) > 1:
                raise RuntimeError(f"einsum(): output subscript {c} appears more than once in the output")
            if c not in everything:
                raise RuntimeError(
                    f"einsum(): output subscript {c} does not appear in the equation for any input operand"
                )
        if "..." in right:
            before, after = right.split("...", 1)
            target = [*before, *covered, *after]
        else:
            target = list(right)
    else:
        counts = {c: everything.count(c) for c in everything if isinstance(c, str)}
        target = [*covered, *sorted(c for c, n in counts.items() if n == 1)]
    _check_sizes(labelled)
    items = [_take_diagonals(x, labels) for x, labels in labelled]
    x, labels = items[0]
    for k, (y, other) in enumerate(items[1:], 1):
        later = {c for _, more in items[k + 1 :] for c in more}
        x, labels = _pair(x, labels, y, other, later | set(target))
    x, labels = _sum_alone(x, labels, set(target))
    return _arranged(x, labels, target)


def sum_count(labels: list[Any]) -> int:
    """How many axes '...' stands for."""
    return len([c for c in labels if not isinstance(c, str)])


def _check_sizes(labelled: list[tuple[Any, list[Any]]]) -> None:
    seen: dict[Any, int] = {}
    for i, (x, labels) in enumerate(labelled):
        for _d, (c, n) in enumerate(zip(labels, x._array.shape, strict=True)):
            old = seen.setdefault(c, n)
            if old != n and 1 not in (old, n):
                raise RuntimeError(
                    f"einsum(): subscript {c} has size {n} for operand {i} which does not broadcast with previously "
                    "seen "
                    f"size {old}"
                )
            seen[c] = n if old == 1 else old


def tensordot(a: Any, b: Any, dims: Any = 2, out: Any = None) -> Any:
    """Sum of products over the last ``dims`` axes of a and the first of b, or over two lists of axes."""
    if out is not None:
        return into(out, tensordot(a, b, dims), "tensordot")
    x, y = need_tensor(a, "tensordot"), need_tensor(b, "tensordot")
    n, m = x._array.ndim, y._array.ndim
    if isinstance(dims, Variable):
        values_read(dims, "tensordot")
        dims = dims._array.tolist()
    if isinstance(dims, (int, np.integer)):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(n, m):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        da, db = tuple(range(n - dims, n)), tuple(range(dims))
    else:
        first, second = dims
        da = tuple(axis(d, n) for d in ((first,) if isinstance(first, int) else first))
        db = tuple(axis(d, m) for d in ((second,) if isinstance(second, int) else second))
        if len(da) != len(db):
            raise RuntimeError("both dimension lists should have same length")
    for i, j in zip(da, db):
        if x._array.shape[i] != y._array.shape[j]:
            shown = i - n if isinstance(dims, (int, np.integer)) else i
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {x._array.shape[i]} in dim {shown} and "
                "second has "
                f"size {y._array.shape[j]} in dim {j}"
            )
    lx: list[Any] = [("x", i) for i in range(n)]
    ly: list[Any] = [("y", j) for j in range(m)]
    for i, j in zip(da, db):
        ly[j] = lx[i]
    target = [c for i, c in enumerate(lx) if i not in da] + [c for j, c in enumerate(ly) if j not in db]
    z, labels = _pair(x, lx, y, ly, set(target))
    return _arranged(z, labels, target)


# --- products with something added -------------------------------------------------------------------------------


def _scaled(product: Any, alpha: Any) -> Any:
    return product if alpha == 1 else product * alpha


def _plus(input: Any, product: Any, beta: Any, alpha: Any, name: str) -> Any:
    """beta · input + alpha · product; with beta = 0 the input is not looked at (it may be NaN)."""
    shape = product._array.shape
    try:
        fits = np.broadcast_shapes(input._array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        have = input._array.shape
        d = next((k for k in range(1, min(len(have), len(shape)) + 1) if have[-k] not in (1, shape[-k])), 1)
        raise ShapeError(
            message(
                f"The expanded size of the tensor ({shape[-d]}) must match the existing size "
                f"({have[-d] if have else 1}) "
                f"at non-singleton dimension {len(shape) - d}.  Target sizes: {list(shape)}.  Tensor sizes: "
                f"{list(have)}"
            )
        )
    if beta == 0:
        return _scaled(product, alpha)
    return (input if beta == 1 else input * beta) + _scaled(product, alpha)


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Any:
    """beta · input + alpha · (mat1 @ mat2)."""
    if out is not None:
        return into(out, addmm(input, mat1, mat2, beta=beta, alpha=alpha), "addmm")
    if mat1._array.ndim != 2:
        raise RuntimeError(f"mat1 must be a matrix, got {mat1._array.ndim}-D tensor")
    if mat2._array.ndim != 2:
        raise RuntimeError(f"mat2 must be a matrix, got {mat2._array.ndim}-D tensor")
    return _plus(need_tensor(input, "addmm"), matmul(mat1, mat2), beta, alpha, "addmm")


def addmv(input: Any, mat: Any, vec: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Any:
    """beta · input + alpha · (mat @ vec)."""
    if out is not None:
        return into(out, addmv(input, mat, vec, beta=beta, alpha=alpha), "addmv")
    return _plus(need_tensor(input, "addmv"), mv(mat, vec), beta, alpha, "addmv")


def addr(input: Any, vec1: Any, vec2: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Any:
    """beta · input + alpha · (vec1 ⊗ vec2)."""
    if out is not None:
        return into(out, addr(input, vec1, vec2, beta=beta, alpha=alpha), "addr")
    return _plus(need_tensor(input, "addr"), outer(vec1, vec2), beta, alpha, "addr")


def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Any:
    """beta · input + alpha · (batch1 @ batch2), matrix by matrix."""
    if out is not None:
        return into(out, baddbmm(input, batch1, batch2, beta=beta, alpha=alpha), "baddbmm")
    return _plus(need_tensor(input, "baddbmm"), bmm(batch1, batch2), beta, alpha, "baddbmm")


def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Any:
    """beta · input + alpha · Σ over the batch of batch1 @ batch2."""
    if out is not None:
        return into(out, addbmm(input, batch1, batch2, beta=beta, alpha=alpha), "addbmm")
    total = sum_op(bmm(batch1, batch2), dim=(0,), keepdim=False)
    return _plus(need_tensor(input, "addbmm"), total, beta, alpha, "addbmm")


def ger(input: Any, vec2: Any, *, out: Any = None) -> Any:
    """``outer``."""
    if out is not None:
        return into(out, ger(input, vec2), "ger")
    return outer(input, vec2)


def kron(input: Any, other: Any, *, out: Any = None) -> Any:
    """Kronecker's product: every entry of the first times the whole second."""
    if out is not None:
        return into(out, kron(input, other), "kron")
    x, y = need_tensor(input, "kron"), need_tensor(other, "kron", 2, "other")
    ndim = max(x._array.ndim, y._array.ndim)
    a = (1,) * (ndim - x._array.ndim) + x._array.shape
    b = (1,) * (ndim - y._array.ndim) + y._array.shape
    x = layout.reshape(x, shape=tuple(n for k in a for n in (k, 1)))
    y = layout.reshape(y, shape=tuple(n for k in b for n in (1, k)))
    return layout.reshape(x * y, shape=tuple(m * n for m, n in zip(a, b)))


def chain_matmul(*matrices: Any, out: Any = None) -> Any:
    """The product of several matrices."""
    if out is not None:
        return into(out, chain_matmul(*matrices), "chain_matmul")
    result = matrices[0]
    for m in matrices[1:]:
        result = matmul(result, m)
    return result


def pdist(input: Any, p: float = 2.0) -> Any:
    """The distances between the rows i < j of a matrix, in the p-norm: n (n − 1) / 2 of them."""
    x = need_tensor(input, "pdist")
    if x._array.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {x._array.ndim}D")
    if x._array.dtype not in FLOATS:
        raise RuntimeError("pdist only supports floating-point dtypes")
    if x._array.itemsize < 4 and x._array.shape[0] > 1:
        raise NotImplementedError(f"\"pdist\" not implemented for '{TORCH_NAMES[x.dtype.name]}'")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    first, second = np.triu_indices(x._array.shape[0], 1)
    d = x[wrap(first)] - x[wrap(second)]
    return norm_op(d, p=float(p), dim=(1,), keepdim=False)


def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: Any = None) -> Any:
    """Distances between all rows of two (batches of) matrices in the p-norm."""
    a, b = need_tensor(x1, "cdist"), need_tensor(x2, "cdist", 2, "x2")
    for name, x in (("X1", a), ("X2", b)):
        if x._array.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: {x._array.ndim}D")
    if a._array.shape[-1] != b._array.shape[-1]:
        raise RuntimeError(
            f"X1 and X2 must have the same number of columns. X1: {a._array.shape[-1]} X2: {b._array.shape[-1]}"
        )
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    a = layout.reshape(a, shape=(*a._array.shape[:-1], 1, a._array.shape[-1]))
    b = layout.reshape(b, shape=(*b._array.shape[:-2], 1, *b._array.shape[-2:]))
    d = a - b
    return norm_op(d, p=float(p), dim=(d._array.ndim - 1,), keepdim=False)
