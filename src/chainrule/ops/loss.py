"""Losses whose gradient has a closed form.

``reduction`` is "none", "sum" or "mean"; the arguments are checked in ``functions`` and ``composites``.
"""

from __future__ import annotations

import math

import numpy as np

from ..core.op import op
from ..core.samples import calls
from ..errors import IndexOutOfRange
from .arithmetic import div
from .compare import where
from .elementwise import abs, exp, log, sigmoid, sign
from .layout import cast, expand, reshape
from .reduce import sum
from .softmax import log_softmax, one_hot, row_max

# ruff: noqa: ANN001, ANN202


def reduced(array, reduction):
    """Reduce a NumPy array as the loss says."""
    if reduction == "none":
        return array
    total = np.add.reduce(array, axis=None)
    return total if reduction == "sum" else total / array.size if array.size else total * np.nan


def reduce_loss(x, reduction):
    """``reduced`` in ops: what composites end with."""
    if reduction == "none":
        return x
    total = sum(x, dim=None, keepdim=False)
    return total if reduction == "sum" else total / math.prod(x.shape) if math.prod(x.shape) else total * float("nan")


def spread(g, reduction, size):
    """The gradient of each entry's loss: ḡ itself, or ḡ / n for a mean."""
    return g / size if reduction == "mean" and size else g


def _pairs(r):
    for reduction in ("none", "sum", "mean"):
        yield r.normal(size=(2, 3)), r.normal(size=(2, 3)), {"reduction": reduction}
    yield r.normal(size=(2, 1, 3)), r.normal(size=(4, 1)), {"reduction": "mean"}
    yield r.normal(size=()), r.normal(size=()), {"reduction": "mean"}
    yield r.normal(size=(0, 2)), r.normal(size=(0, 2)), {"reduction": "sum"}


# --- regression ------------------------------------------------------------------------------------------------


def derived_mse(x, y, *, reduction):
    """Mean squared error by its definition."""
    d = x - y
    return reduce_loss(d * d, reduction)


@op("*s, *s -> ?", formula="({x} − {y})², {reduction}", derived=derived_mse, broadcasts=True, promotes="common",
    samples=calls(_pairs), reference="torch.nn.functional.mse_loss")  # fmt: skip
def mse(x, y, *, reduction):
    """Squared error, (x − y)²; its mean is Σ (x − y)² / n."""
    d = x - y
    if reduction == "none":
        return d * d
    flat = d.ravel()
    total = np.dot(flat, flat)
    return total if reduction == "sum" else total / flat.size if flat.size else total * np.nan


@mse.vjp("x", math="x̄ = z̄ · 2 (x − y) / n")
def _(g, x, y, reduction):
    d = x - y
    return d * (2 * spread(g, reduction, math.prod(d.shape)))


@mse.vjp("y", math="ȳ = −z̄ · 2 (x − y) / n")
def _(g, x, y, reduction):
    d = y - x
    return d * (2 * spread(g, reduction, math.prod(d.shape)))


def derived_l1(x, y, *, reduction):
    """Absolute error by its definition."""
    return reduce_loss(abs(x - y), reduction)


@op("*s, *s -> ?", formula="|{x} − {y}|, {reduction}", derived=derived_l1, broadcasts=True, promotes="common",
    samples=calls(_pairs), kink="derivative 0 where x = y, as PyTorch",
    reference="torch.nn.functional.l1_loss")  # fmt: skip
def l1(x, y, *, reduction):
    """Absolute error, |x − y|."""
    return reduced(np.abs(x - y), reduction)


@l1.vjp("x", math="x̄ = z̄ · sign(x − y) / n")
def _(g, x, y, reduction):
    d = sign(x - y)
    return d * spread(g, reduction, math.prod(d.shape))


@l1.vjp("y", math="ȳ = −z̄ · sign(x − y) / n")
def _(g, x, y, reduction):
    d = sign(y - x)
    return d * spread(g, reduction, math.prod(d.shape))


def derived_huber(x, y, *, delta, reduction):
    """Huber's loss by its definition."""
    d = x - y
    a = abs(d)
    return reduce_loss(where(a < delta, 0.5 * d * d, delta * (a - 0.5 * delta)), reduction)


def _huber_calls(r):
    for *arrays, settings in _pairs(r):
        yield *arrays, {"delta": 0.7, **settings}


def _clip(d, delta):
    return where(abs(d) >= delta, delta * sign(d), d)  # NaN stays NaN


@op("*s, *s -> ?", formula="huber({x} − {y}), {reduction}", derived=derived_huber, broadcasts=True, promotes="common",
    samples=calls(_huber_calls), kink="none: the derivative is continuous at |x − y| = δ",
    reference="torch.nn.functional.huber_loss")  # fmt: skip
def huber(x, y, *, delta, reduction):
    """Huber's loss: (x − y)² / 2 where |x − y| < δ, else δ (|x − y| − δ/2)."""
    d = x - y
    a = np.abs(d)
    return reduced(np.where(a < delta, 0.5 * d * d, delta * (a - 0.5 * delta)), reduction)


@huber.vjp("x", math="x̄ = z̄ · clamp(x − y, −δ, δ) / n")
def _(g, x, y, delta, reduction):
    d = _clip(x - y, delta)
    return d * spread(g, reduction, math.prod(d.shape))


@huber.vjp("y", math="ȳ = −z̄ · clamp(x − y, −δ, δ) / n")
def _(g, x, y, delta, reduction):
    d = _clip(y - x, delta)
    return d * spread(g, reduction, math.prod(d.shape))


# --- two classes -----------------------------------------------------------------------------------------------


def _bce_calls(r):
    for x, y, settings in _pairs(r):
        if x.shape == y.shape:
            yield x, 1 / (1 + np.exp(-y)), settings


def derived_bce_logits(x, target, *, reduction):
    """Binary cross-entropy of logits, from max(x, 0) − x·t + log(1 + e^−|x|)."""
    return reduce_loss(where(x > 0, x, 0.0) - x * target + log(1 + exp(-abs(x))), reduction)


@op("*s, *s -> ?", formula="−{target} log σ({x}) − (1 − {target}) log(1 − σ({x})), {reduction}",
    derived=derived_bce_logits, broadcasts=True, promotes="float", samples=calls(_bce_calls),
    reference="torch.nn.functional.binary_cross_entropy_with_logits")  # fmt: skip
def bce_logits(x, target, *, reduction):
    """Binary cross-entropy of σ(x), computed from the logit x without overflow."""
    return reduced(np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x))), reduction)


@bce_logits.vjp("x", math="x̄ = z̄ · (σ(x) − target) / n")
def _(g, x, target, reduction):
    d = sigmoid(x) - target
    return d * spread(g, reduction, math.prod(d.shape))


@bce_logits.vjp("target", math="t̄ = −z̄ · x / n")
def _(g, x, target, reduction):
    size = math.prod(np.broadcast_shapes(x.shape, target.shape))
    return expand(-x * spread(g, reduction, size), shape=np.broadcast_shapes(x.shape, target.shape))


_SMALL = float(np.float32(1e-12))  # PyTorch's guard against p (1 − p) = 0, a single precision number there


def _probability_calls(r):
    yield r.uniform(0.1, 0.9, (2, 3)), r.uniform(0.1, 0.9, (2, 3))
    yield r.uniform(0.1, 0.9, ()), r.uniform(0.1, 0.9, ())


@op("*s, *s -> *s", formula="−{target} log {p} − (1 − {target}) log(1 − {p})", promotes="float",
    samples=calls(_probability_calls), kink="logarithms stop at −100, as in PyTorch")  # fmt: skip
def bce(p, target):
    """Binary cross-entropy of a probability p; logarithms are not allowed below −100."""
    return -target * np.maximum(np.log(p), -100) - (1 - target) * np.maximum(np.log1p(-p), -100)


@bce.vjp("p", math="p̄ = z̄ · (p − target) / (p · (1 − p))")
def _(g, p, target):
    q = p * (1 - p)
    return g * (p - target) / where(q < _SMALL, _SMALL, q)


@bce.vjp("target", math="t̄ = z̄ · (log(1 − p) − log p)")
def _(g, p, target):
    low, high = log(1 - p), log(p)
    return g * (where(low < -100, -100.0, low) - where(high < -100, -100.0, high))


# --- many classes ----------------------------------------------------------------------------------------------


def _check_classes(target, classes, ignore_index):
    """Raise as PyTorch does when a target is no class; give the mask of targets that count (None: all do)."""
    if target.size == 0:
        return None
    low, high = target.min(), target.max()
    if low >= 0 and high < classes and not low <= ignore_index <= high:
        return None
    valid = target != ignore_index
    bad = valid & ((target < 0) | (target >= classes))
    if bad.any():
        where_bad = tuple(int(i) for i in np.argwhere(bad)[0])
        raise IndexOutOfRange(
            f"Target {int(target[where_bad])} is out of bounds.\n"
            f"  target[{', '.join(map(str, where_bad))}] names a class, and there are {classes}: 0 … {classes - 1}\n"
            f"  Number classes from 0, or give the last layer more outputs; ignore_index={ignore_index} is skipped."
        )
    return valid


def _coefficients(target, weight, classes, dtype, ignore_index, reduction):
    """What each sample's −log p is multiplied by: its class weight, 0 if ignored, over their sum for a mean."""
    valid = _check_classes(target, classes, ignore_index)
    if weight is None:
        if valid is None:
            return np.full(target.shape, 1 / target.size if reduction == "mean" and target.size else 1, dtype)
        c = valid.astype(dtype)
    else:
        c = weight[target if valid is None else np.where(valid, target, 0)]
        if valid is not None:
            c = c * valid
    if reduction == "mean":
        total = c.sum(dtype=dtype)
        if total != 0:  # all ignored: the loss is 0/0, the gradient 0, as in PyTorch
            c = c / total
    return c


def _plain_classes(target, shape, ignore_index):
    """Whether every target is a class that counts. Negative numbers are huge as unsigned ones: one test for both."""
    if (
        0 <= ignore_index < shape[1]
        or target.ndim != 1
        or target.shape[0] != shape[0]
        or not target.size
        or target.dtype != np.int64
    ):
        return False
    return target.view(np.uint64).max() < shape[1]


def _pick(x, target, axis):
    """x's entries at the target classes (class 0 where the target is no class: those are multiplied by 0)."""
    classes = x.shape[axis]
    if x.ndim == 2:
        return x[np.arange(x.shape[0]), np.where((target >= 0) & (target < classes), target, 0)]
    safe = np.where((target >= 0) & (target < classes), target, 0)
    return np.take_along_axis(x, np.expand_dims(safe, axis), axis).squeeze(axis)


def _nll_value(picked, c, reduction):
    """Σ −c · log p, where an ignored entry's infinite log p does not make NaN."""
    loss = np.where(c == 0, 0, -c * picked) if not np.isfinite(picked).all() else -c * picked
    if reduction == "none":
        return loss
    if reduction == "mean" and not c.any():  # a mean over nothing
        return np.asarray(np.nan, loss.dtype)
    return np.add.reduce(loss, axis=None)


def _class_calls(r):
    for reduction in ("none", "sum", "mean"):
        s = {"ignore_index": -100, "reduction": reduction}
        yield r.normal(size=(4, 3)), r.integers(0, 3, 4), None, s
        yield r.normal(size=(4, 3)), np.array([0, 2, 2, 1]), r.uniform(0.5, 2, 3), {**s, "ignore_index": 2}
        yield r.normal(size=(2, 3, 4)), r.integers(0, 3, (2, 4)), r.uniform(0.5, 2, 3), s
    yield r.normal(size=3), np.array(1), None, s


def _along_classes(c, x_ndim):
    """Put the class axis (1, or 0 for a single sample) back with size 1."""
    if c.ndim == 0 and x_ndim > 1:  # the same for all samples
        return c
    axis = 1 if x_ndim > 1 else 0
    return reshape(c, shape=(*c.shape[:axis], 1, *c.shape[axis:]))


@op("n *d, c -> n *d", formula="weight of {target}", samples=calls(
    lambda r: [(r.integers(0, 3, 4), r.uniform(0.5, 2, 3), {"classes": 3, "dtype": np.dtype("f8"), "ignore_index": 1,
                                                            "reduction": "mean"})]))  # fmt: skip
def class_coefficients(target, weight, *, classes, dtype, ignore_index, reduction):
    """The factor of each sample in a weighted sum or mean over samples; ``weight`` may be None."""
    return _coefficients(target, weight, classes, dtype, ignore_index, reduction)


@op("n c *d, n *d, c -> ?", formula="−{x}[{target}], {reduction}", samples=calls(_class_calls),
    reference="torch.nn.functional.nll_loss")  # fmt: skip
def nll(x, target, weight, *, ignore_index, reduction):
    """Negative log likelihood, −wₜ·x[t]: x holds log probabilities, the class axis is 1 (0 for one sample)."""
    if x.ndim == 2 and weight is None and reduction != "none" and _plain_classes(target, x.shape, ignore_index):
        # As below, where every target counts, and counts the same.
        c = x.dtype.type(1 / x.shape[0] if reduction == "mean" else 1)
        return np.add.reduce(-c * x[np.arange(x.shape[0]), target], axis=None)
    axis = 1 if x.ndim > 1 else 0
    c = _coefficients(target, weight, x.shape[axis], x.dtype, ignore_index, reduction)
    return _nll_value(_pick(x, target, axis), c, reduction)


@nll.vjp("x", math="x̄ = −z̄ · onehot(target) · w / Σ w")
def _(g, target, weight, x_shape, x_dtype, ignore_index, reduction):
    axis = 1 if len(x_shape) > 1 else 0
    c = class_coefficients(target, weight, classes=x_shape[axis], dtype=x_dtype, ignore_index=ignore_index,
                           reduction=reduction)  # fmt: skip
    return where(one_hot(target, classes=x_shape[axis], dim=axis), _along_classes(-g * c, len(x_shape)), 0.0)


def derived_cross_entropy(x, target, weight, *, ignore_index, reduction):
    """Cross-entropy by its definition: the negative log likelihood of log-softmax."""
    logp = log_softmax(x, dim=1 if x.ndim > 1 else 0)
    return nll(logp, target, weight, ignore_index=ignore_index, reduction=reduction)


@op("n c *d, n *d, c -> ?", formula="−log softmax({x})[{target}], {reduction}", residuals=("p", "d"),
    derived=derived_cross_entropy, samples=calls(_class_calls),
    reference="torch.nn.functional.cross_entropy")  # fmt: skip
def cross_entropy(x, target, weight, *, ignore_index, reduction):
    """Softmax followed by the negative log likelihood of the target class, in one step.

    The class axis is 1 (0 for one sample); ``weight`` (per class) may be None.
    """
    if x.ndim == 2 and weight is None and reduction != "none" and _plain_classes(target, x.shape, ignore_index):
        # The usual case in the fewest passes: every target counts, and counts the same.
        n = x.shape[0]
        s = x - row_max(x, 1)
        picked = s[np.arange(n), target]
        p = np.exp(s, out=s)
        total = np.add.reduce(p, axis=1, keepdims=True)  # as printed programs sum, to the bit
        p /= total
        d = np.array(n if reduction == "mean" else 1, x.dtype)
        return np.add.reduce(np.log(total[:, 0]) - picked) / d, p, d
    axis = 1 if x.ndim > 1 else 0
    c = _coefficients(target, weight, x.shape[axis], x.dtype, ignore_index, reduction)
    d = np.divide(1, c, out=np.full_like(c, np.inf), where=c != 0)  # ∞: what is ignored gets no gradient
    if x.size == 0:
        return _nll_value(np.zeros(target.shape, x.dtype), c, reduction), x, d
    s = x - np.maximum.reduce(x, axis=axis, keepdims=True)
    picked = _pick(s, target, axis)
    p = np.exp(s, out=s)
    total = np.add.reduce(p, axis=axis, keepdims=True)
    p /= total
    return _nll_value(picked - np.log(total).squeeze(axis), c, reduction), p, d


@cross_entropy.vjp("x", math="x̄ = z̄ · (softmax(x) − onehot(target)) · w / Σ w")
def _(g, x, target, p, d, x_dtype):
    # d is what a sample's loss is divided by: n for a mean, Σ w / w with weights, ∞ where the target is ignored.
    # Dividing by d / g instead of multiplying by g / d keeps the textbook's (p − y) / n to the last bit.
    axis = 1 if x.ndim > 1 else 0
    y = cast(one_hot(target, classes=x.shape[axis], dim=axis), dtype=x_dtype)
    return (p - y) / _along_classes(div(d, g), x.ndim)
