"""How one op is applied to a whole batch: the rules behind ``vmap``.

A batched tensor carries the batch as its first axis; the op was recorded on one example, without that axis. A rule gets
the tensors, which of them are batched, their ranks without the batch, the settings and the batch size, and returns the
op's outputs with the batch in front. An op without a rule is applied example by example, which is always right.

Everything is done with ops, so the result can be differentiated, traced and batched again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core.op import Op, registry
from ..core.variable import Variable, wrap

__all__ = ["Call", "apply_batched", "one_by_one"]


class Call(NamedTuple):
    """One application: ``args`` with the batch in front where ``batched`` says so; ``ranks`` as in one example."""

    op: Op
    args: tuple[Any, ...]
    batched: tuple[bool, ...]
    ranks: tuple[int, ...]
    params: dict[str, Any]
    size: int
    out_shapes: tuple[tuple[int, ...], ...]


_Rule = Callable[[Call], Any]
_RULES: dict[str, _Rule] = {}


def _rule(names: str) -> Callable[[_Rule], _Rule]:
    def keep(rule: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(names.split(), rule))
        return rule

    return keep


class _NoRule(Exception):
    """Raised by a rule that does not cover a case; the op is then applied example by example."""


def apply_batched(call: Call) -> Any:
    """The op on the whole batch."""
    rule = _RULES.get(call.op.name)
    if rule is None and (call.op.broadcasts or _elementwise(call.op)):
        rule = _broadcast
    if rule is not None:
        try:
            return rule(call)
        except _NoRule:
            pass
    return one_by_one(call)


def one_by_one(call: Call) -> Any:
    """The op applied to each example; results stacked."""
    columns = [unbind(a) if b else None for a, b in zip(call.args, call.batched)]
    results = [
        call.op.call(*(a if c is None else c[i] for a, c in zip(call.args, columns)), **call.params)
        for i in range(call.size)
    ]
    if isinstance(results[0], tuple):
        return tuple(_op("stack")(*column, dim=0) for column in zip(*results))
    return _op("stack")(*results, dim=0)


def _op(name: str) -> Callable[..., Any]:
    return registry[name].call


def unbind(x: Any) -> Any:
    return _op("unbind")(x, dim=0)


def _reshape(x: Any, *shape: int) -> Any:
    return x if x._array.shape == shape else _op("reshape")(x, shape=shape)


def _elementwise(op: Op) -> bool:
    dims = {"dim", "dims", "axes", "shape"}
    return op.signature == "*s -> *s" and len(op.inputs) == 1 and not op.variadic and not dims & set(op.settings)


def _aligned(call: Call) -> list[Any]:
    """Batched arguments with axes of size 1 behind the batch, so that the examples' own axes broadcast as before."""
    rank = max((r for r, a in zip(call.ranks, call.args) if a is not None), default=0)
    out: list[Any] = []
    for a, b, r in zip(call.args, call.batched, call.ranks):
        out.append(_reshape(a, call.size, *(1,) * (rank - r), *a._array.shape[1:]) if b else a)
    return out


def _broadcast(call: Call) -> Any:
    return call.op.call(*_aligned(call), **call.params)


def _whole(call: Call) -> list[Any]:
    """All tensors with the batch, repeated where they have none."""
    out: list[Any] = []
    for a, b in zip(call.args, call.batched):
        if b or not isinstance(a, (Variable, np.ndarray)):
            out.append(a)
        else:
            t = a if isinstance(a, Variable) else wrap(a)
            out.append(_op("expand")(_reshape(t, 1, *t._array.shape), shape=(call.size, *t._array.shape)))
    return out


def _first_rank(call: Call) -> int:
    rank = call.ranks[0]
    if rank == 0:  # the bodies treat a lone number in their own way
        raise _NoRule
    return rank


# --- reductions --------------------------------------------------------------------------------------------------


@_rule("sum mean var std prod amax amin logsumexp norm argmax argmin any all count_nonzero")
def _(call: Call) -> Any:
    x, dim = call.args[0], call.params.get("dim")
    rest = {k: v for k, v in call.params.items() if k not in ("dim", "keepdim")}
    if dim is None or call.ranks[0] == 0:
        flat = _reshape(x, call.size, math.prod(x._array.shape[1:]))
        single = call.op.name in ("argmax", "argmin", "prod")  # whose dim is a number
        found = call.op.call(flat, dim=1 if single else (1,), keepdim=False, **rest)
        return _reshape(found, call.size, *call.out_shapes[0])
    moved = dim + 1 if isinstance(dim, int) else tuple(d + 1 for d in dim)
    return call.op.call(x, dim=moved, keepdim=call.params.get("keepdim", False), **rest)


@_rule("sum_to")
def _(call: Call) -> Any:
    shape = call.params["shape"]
    missing = (1,) * (call.ranks[0] - len(shape))
    return _reshape(_op("sum_to")(call.args[0], shape=(call.size, *missing, *shape)), call.size, *shape)


# --- along one axis ----------------------------------------------------------------------------------------------

_ONE_AXIS = "cumsum cumprod logcumsumexp softmax log_softmax shift_of shift product_of_others recurrence flip roll"
_INDICES = "sort_index argsort kth_index median_index mode_index cummax_index cummin_index"


@_rule(f"{_ONE_AXIS} {_INDICES} unfold unbind split")
def _(call: Call) -> Any:
    _first_rank(call)
    params = dict(call.params)
    for name in ("dim", "dims"):
        if params.get(name) is not None:
            d = params[name]
            params[name] = d + 1 if isinstance(d, int) else tuple(i + 1 for i in d)
        elif name in params:
            raise _NoRule
    return call.op.call(*(_whole(call) if len(call.args) > 1 else call.args), **params)


@_rule("cat stack")
def _(call: Call) -> Any:
    return call.op.call(*_whole(call), dim=call.params["dim"] + 1)


@_rule("take_axis")
def _(call: Call) -> Any:
    if call.batched[1]:
        raise _NoRule
    return call.op.call(*call.args, dim=call.params["dim"] + 1)


@_rule("pick gather")
def _(call: Call) -> Any:
    _first_rank(call)
    if call.op.name == "gather" and call.ranks[1] == 0:
        raise _NoRule
    return call.op.call(*_whole(call), **{**call.params, "dim": call.params["dim"] + 1})


@_rule("put scatter scatter_sum")
def _(call: Call) -> Any:
    params = {**call.params, "dim": call.params["dim"] + 1}
    if "shape" in params:
        if not params["shape"]:
            raise _NoRule
        params["shape"] = (call.size, *params["shape"])
    if call.op.name != "put" and (not call.ranks[0] or not call.ranks[1]):
        raise _NoRule
    return call.op.call(*_whole(call), **params)


@_rule("one_hot")
def _(call: Call) -> Any:
    return call.op.call(call.args[0], classes=call.params["classes"], dim=call.params["dim"] + 1)


# --- layout ------------------------------------------------------------------------------------------------------


@_rule("reshape")
def _(call: Call) -> Any:
    return _op("reshape")(call.args[0], shape=(call.size, *call.out_shapes[0]))


@_rule("permute")
def _(call: Call) -> Any:
    return _op("permute")(call.args[0], dims=(0, *(d % call.ranks[0] + 1 for d in call.params["dims"])))


@_rule("expand")
def _(call: Call) -> Any:
    shape = call.out_shapes[0]
    x = call.args[0]
    x = _reshape(x, call.size, *(1,) * (len(shape) - call.ranks[0]), *x._array.shape[1:])
    return _op("expand")(x, shape=(call.size, *shape))


@_rule("diagonal on_diagonal fold")
def _(call: Call) -> Any:
    params = dict(call.params)
    for name in ("dim", "dim1", "dim2"):
        if name in params:
            if params[name] < 0:
                raise _NoRule
            params[name] += 1
    if "shape" in params:
        params["shape"] = (call.size, *params["shape"])
    return call.op.call(call.args[0], **params)


@_rule("getitem place")
def _(call: Call) -> Any:
    key = call.params["key"]
    params: dict[str, Any] = {"key": (slice(None), *key)}
    if "shape" in call.params:
        params["shape"] = (call.size, *call.params["shape"])
    return call.op.call(call.args[0], **params)


@_rule("pad_constant")
def _(call: Call) -> Any:
    return call.op.call(call.args[0], widths=((0, 0), *call.params["widths"]), value=call.params["value"])


@_rule("swap tril triu inv det logabsdet signdet cholesky eigh svd qr pinv")
def _(call: Call) -> Any:
    return call.op.call(*call.args, **call.params)


@_rule("masked_fill")
def _(call: Call) -> Any:
    if call.batched[2]:  # its rule gives the value one gradient
        raise _NoRule
    x, *rest = _aligned(call)
    if not call.batched[0]:
        x = _op("expand")(_reshape(x, 1, *x._array.shape), shape=(call.size, *x._array.shape))
    return call.op.call(x, *rest)


@_rule("solve overwrite")
def _(call: Call) -> Any:
    if len({r for r, a in zip(call.ranks, call.args) if isinstance(a, (Variable, np.ndarray)) and r}) > 1:
        raise _NoRule
    return call.op.call(*_whole(call), **call.params)


# --- products and layers -------------------------------------------------------------------------------------------


@_rule("linear")
def _(call: Call) -> Any:
    x, weight, bias = call.args
    if not call.batched[1] and not call.batched[2]:
        return call.op.call(x, weight, bias)
    rank = call.ranks[0]
    if call.batched[1]:
        turned = _op("swap")(weight)
        if rank > 2:
            turned = _reshape(turned, call.size, *(1,) * (rank - 2), *turned._array.shape[1:])
    else:
        turned = _op("swap")(weight)
    if call.batched[0] and rank == 1:  # one row per example
        x = _reshape(x, call.size, 1, x._array.shape[-1])
    y = _op("matmul")(x, turned) if x._array.ndim > 1 else _op("matmul")(_reshape(x, 1, x._array.shape[0]), turned)
    y = _reshape(y, call.size, *call.out_shapes[0]) if call.batched[0] or call.batched[1] else y
    if bias is None:
        return y
    if call.batched[2]:
        bias = _reshape(bias, call.size, *(1,) * (max(rank, 1) - 1), bias._array.shape[-1])
    return _op("add")(y, bias)


@_rule("layer_norm rms_norm")
def _(call: Call) -> Any:
    if any(call.batched[1:]):
        raise _NoRule
    return call.op.call(*call.args, **call.params)


@_rule("sum_channels")
def _(call: Call) -> Any:
    rank = call.ranks[0]
    return _op("sum")(call.args[0], dim=(1, *range(3, rank + 1)), keepdim=False)


@_rule("max_tap pick_tap put_tap max_pool sum_pool spread_pool")
def _(call: Call) -> Any:
    def join(a: Any) -> Any:
        shape = a._array.shape
        return _reshape(a, shape[0] * shape[1], *shape[2:])

    found = call.op.call(*(join(a) for a in _whole(call)), **call.params)
    return _reshape(found, call.size, *call.out_shapes[0])


@_rule("conv conv_input conv_weight")
def _(call: Call) -> Any:
    name, size, params = call.op.name, call.size, dict(call.params)
    if not any(call.batched[1:]) and name != "conv_weight":  # one kernel: the batch joins the examples
        x = call.args[0]
        shape = x._array.shape
        found = call.op.call(_reshape(x, size * shape[1], *shape[2:]), *call.args[1:], **params)
        return _reshape(found, size, *call.out_shapes[0])
    # A kernel per example: the examples' channels side by side, in groups that do not see each other.
    args = _whole(call)
    params["groups"] *= size

    def beside(a: Any) -> Any:  # (B, n, c, …) → (n, B·c, …)
        shape = a._array.shape
        turned = _op("permute")(a, dims=(1, 0, *range(2, len(shape))))
        return _reshape(turned, shape[1], size * shape[2], *shape[3:])

    def below(a: Any) -> Any:  # (B, o, …) → (B·o, …)
        shape = a._array.shape
        return None if a is None else _reshape(a, size * shape[1], *shape[2:])

    if name == "conv_weight":
        found = call.op.call(beside(args[0]), beside(args[1]), **params)
        return _reshape(found, size, *call.out_shapes[0])
    bias = () if name == "conv_input" else (None if args[2] is None else below(args[2]),)
    found = call.op.call(beside(args[0]), below(args[1]), *bias, **params)
    n, channels, *rest = call.out_shapes[0]
    split = _reshape(found, n, size, channels, *rest)
    return _op("permute")(split, dims=(1, 0, *range(2, len(rest) + 3)))


@_rule("embedding")
def _(call: Call) -> Any:
    weight, index = call.args
    if not call.batched[0]:
        return call.op.call(weight, index, **call.params)
    if call.params.get("padding_idx") is not None:
        raise _NoRule
    _, rows, width = weight._array.shape
    return call.op.call(_reshape(weight, call.size * rows, width), _offset(call, 1, rows), **call.params)


@_rule("add_rows")
def _(call: Call) -> Any:
    rows = call.params["rows"]
    g = _whole(call)[0]
    found = call.op.call(g, _offset(call, 1, rows), rows=call.size * rows)
    return _reshape(found, call.size, *call.out_shapes[0])


def _offset(call: Call, i: int, rows: int) -> Any:
    """Row numbers of each example's own table in the joined one."""
    index = _whole(call)[i]
    steps = wrap(np.arange(call.size, dtype=np.int64).reshape(call.size, *(1,) * call.ranks[i]) * rows)
    return _op("add")(index, steps)


# --- losses over classes -------------------------------------------------------------------------------------------


def _folded(call: Call) -> tuple[list[Any], tuple[int, ...]]:
    """Scores and targets of all examples as one batch of samples, and the shape of the targets of one example."""
    if call.args[-1] is not None and call.batched[-1]:
        raise _NoRule
    args = _whole(call._replace(args=call.args[:-1], batched=call.batched[:-1]))
    target = args[-1]._array.shape[1:]
    if not target:  # one sample per example: the batch is the batch of samples
        return args, ()
    return [_reshape(a, a._array.shape[0] * a._array.shape[1], *a._array.shape[2:]) for a in args], target


@_rule("nll cross_entropy")
def _(call: Call) -> Any:
    (x, target), shape = _folded(call)
    weight, reduction, ignore = call.args[2], call.params["reduction"], call.params["ignore_index"]
    losses = _reshape(
        call.op.call(x, target, weight, ignore_index=ignore, reduction="none"), call.size, math.prod(shape)
    )
    if reduction == "none":
        return _reshape(losses, call.size, *shape)
    total = _op("sum")(losses, dim=(1,), keepdim=False)
    if reduction == "sum":
        return total
    classes = x._array.shape[1]
    counts = _op("class_coefficients")(
        target, weight, classes=classes, dtype=x._array.dtype, ignore_index=ignore, reduction="sum"
    )
    return _op("div")(total, _op("sum")(_reshape(counts, call.size, math.prod(shape)), dim=(1,), keepdim=False))


@_rule("class_coefficients")
def _(call: Call) -> Any:
    (target,), shape = _folded(call)
    params = dict(call.params)
    mean = params["reduction"] == "mean"
    if mean:
        params["reduction"] = "sum"
    c = _reshape(call.op.call(target, call.args[1], **params), call.size, math.prod(shape))
    if mean:
        c = _op("div")(c, _op("sum")(c, dim=(1,), keepdim=True))
    return _reshape(c, call.size, *shape)


@_rule("mse l1 huber bce_logits")
def _(call: Call) -> Any:
    reduction = call.params["reduction"]
    each = call.op.call(*_aligned(call), **{**call.params, "reduction": "none"})
    if reduction == "none":
        return each
    return _op(reduction)(_reshape(each, call.size, math.prod(each._array.shape[1:])), dim=(1,), keepdim=False)
