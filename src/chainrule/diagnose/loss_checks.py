"""What stands between the network's output and the loss: softmax twice or not at all, shapes that broadcast, ranges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .data_checks import check_labels
from .finding import Finding
from .tape import LOSSES, Call, Tape

__all__ = ["check_loss", "loss_call"]

_THROUGH = {
    "reshape",
    "swap",
    "permute",
    "cast",
    "clone",
    "getitem",
    "squeeze",
    "view",
    "expand",
    "flatten",
    "unsqueeze",
    "neg",
    "to",
    "float",
    "contiguous",
    "boundary",
}


def loss_call(tape: Tape) -> Call | None:
    """The last call of a known loss."""
    return next((c for c in reversed(tape.calls) if c.op in LOSSES and c.inputs), None)


def maker(tape: Tape, value: Any, skip: set[str] = _THROUGH) -> Call | None:
    """The call that computed an array, seen through reshapes and casts."""
    if not isinstance(value, np.ndarray):
        return None
    for _ in range(12):
        made = None
        for c in reversed(tape.calls):
            if any(
                o is value
                or (
                    isinstance(o, np.ndarray)
                    and isinstance(value, np.ndarray)
                    and o.shape == value.shape
                    and o.ctypes.data == value.ctypes.data
                    and o.dtype == value.dtype
                )
                for o in c.outs
            ):
                made = c
                if c.op not in skip:
                    return c
                break
        if made is None or not made.inputs or not isinstance(made.inputs[0], np.ndarray):
            return made
        value = made.inputs[0]
    return None


def _at(call: Call | None) -> str:
    return str(call.place) if call is not None and call.place is not None else ""


def _finding(
    code: str,
    title: str,
    evidence: str,
    cause: str,
    fix: str,
    at: Call | None,
    confidence: float = 0.95,
    **numbers: Any,
) -> Finding:
    return Finding(
        code, title, evidence, cause, fix, place=_at(at), confidence=confidence, stage="initial loss", numbers=numbers
    )


def check_loss(tape: Tape, y: Any, n: int) -> list[Finding]:
    """All findings about output and loss."""
    found: list[Finding] = []
    call = loss_call(tape)
    found += _broadcast(tape, call, n)
    if call is None:
        return found
    x = call.inputs[0]
    t = call.inputs[1] if len(call.inputs) > 1 else None
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        return found
    before = maker(tape, x)
    op = before.op if before is not None else ""
    if call.op == "cross_entropy":
        found += _cross_entropy(tape, call, x, t, before, op, n)
    elif call.op == "nll":
        inner = maker(tape, before.inputs[0]) if before is not None and before.inputs else None
        if not (op == "log" and inner is not None and inner.op == "softmax") and op != "log_softmax":
            axis = 1 if x.ndim > 1 else 0
            with np.errstate(all="ignore"):
                total = np.exp(x.astype(np.float64)).sum(axis=axis)
            if not np.allclose(total, 1, atol=1e-2):
                what = "probabilities" if op == "softmax" else "raw scores"
                found.append(
                    _finding(
                        "missing-softmax",
                        "nll_loss gets what are no log probabilities",
                        f"Σ exp(input) is {float(np.median(total)):.3g} per row instead of 1; it comes from "
                        f"{op or 'the input'}",
                        f"nll_loss only picks −x[label]: on {what} it can be made ever smaller by making the "
                        "numbers larger.",
                        "loss = F.cross_entropy(logits, y)   # or F.nll_loss(F.log_softmax(logits, dim=1), y)",
                        call,
                    )
                )
        found += check_labels(t, x.shape[1] if x.ndim > 1 else x.shape[0], n)
        found += _wrong_axis(tape, x, n)
    elif call.op == "bce_logits":
        if op in ("sigmoid", "softmax") or (x.min() >= 0 and x.max() <= 1 and op in ("clamp",)):
            found.append(
                _finding(
                    "double-softmax",
                    f"{op} before binary_cross_entropy_with_logits: it is applied twice",
                    f"the loss's input lies in [{x.min():.3g}, {x.max():.3g}]",
                    "the loss applies σ itself; of numbers in (0, 1) it makes 0.5 … 0.73, so the loss cannot go "
                    "below log(1 + e⁻¹) = 0.31.",
                    "F.binary_cross_entropy_with_logits(logits, y)   # no sigmoid in the network",
                    before,
                )
            )
        elif op in ("relu", "tanh"):
            found.append(_activation(op, before))
        found += [*_binary_range(t, call), *_same_target(t, call)]
    elif call.op == "bce":
        found += [*_binary_range(t, call), *_same_target(t, call)]
        if op == "softmax" and x.ndim == 2 and x.shape[1] == 1:
            found.append(_constant(before))
    elif call.op in ("mse", "l1", "huber"):
        found += [*_regression(tape, call, x, t, before, op), *_same_target(t, call)]
    return found


def _activation(op: str, at: Call | None) -> Finding:
    return _finding(
        "activation-before-loss",
        f"{op} between the last layer and the loss",
        f"the loss's input comes from {op}",
        f"logits must be free to be negative and large; {op} "
        + (
            "cuts off every negative one, and its gradient with it."
            if op == "relu"
            else "keeps them within a narrow range, so no class can become certain."
        ),
        "drop the activation after the last linear layer",
        at,
    )


def _constant(at: Call | None) -> Finding:
    return _finding(
        "constant-output",
        "softmax over a single output",
        "the output is 1 for every row",
        "softmax of one number is e^x / e^x = 1, whatever the weights: its gradient is 0.",
        "torch.sigmoid(x)   # for one output; or two outputs and cross_entropy",
        at,
        0.99,
    )


def _cross_entropy(tape: Tape, call: Call, x: Any, t: Any, before: Call | None, op: str, n: int) -> list[Finding]:
    found: list[Finding] = []
    axis = 1 if x.ndim > 1 else 0
    c = x.shape[axis]
    if op in ("softmax", "sigmoid"):
        floor = math.log(1 + (c - 1) * math.exp(-1))
        found.append(
            _finding(
                "double-softmax",
                f"{op} before cross_entropy, which applies softmax itself",
                f"the loss's input lies in [{x.min():.3g}, {x.max():.3g}]; with {c} classes the loss cannot go "
                f"below {floor:.3g}",
                "softmax of numbers between 0 and 1 is nearly uniform, and the gradient passes two softmax "
                "derivatives p(1 − p) instead of becoming p − y.",
                f"F.cross_entropy(logits, y)   # without the {op}",
                before,
                0.98,
                floor=floor,
            )
        )
    elif op in ("relu", "tanh"):
        found.append(_activation(op, before))
    if c == 1:
        found.append(_constant(call))
    found += check_labels(t, c, n)
    found += _wrong_axis(tape, x, n)
    return found


def _wrong_axis(tape: Tape, x: Any, n: int) -> list[Finding]:
    call = maker(tape, x)
    given: list[Any] = list(call.inputs) if call is not None else []
    if call is None or call.op not in ("softmax", "log_softmax") or not isinstance(given[0], np.ndarray):
        return []
    dim = call.params.get("dim")
    if dim is None and len(given) > 1 and isinstance(given[1], int):
        dim = given[1]
    shape: tuple[int, ...] = given[0].shape
    if isinstance(dim, int) and dim % max(1, len(shape)) == 0 and len(shape) == 2 and shape[0] == n and n > 1:
        return [
            _finding(
                "softmax-wrong-axis",
                "softmax over the batch instead of the classes",
                f"dim=0 of shape {shape}",
                "the probabilities of one class over all rows add up to 1, so rows compete with each other.",
                f"{call.op}(x, dim=1)",
                call,
                0.95,
            )
        ]
    return []


def _same_target(t: Any, call: Call) -> list[Finding]:
    if not isinstance(t, np.ndarray) or t.dtype.kind != "f" or t.size < 11 or not (t == t.flat[0]).all():
        return []
    return [
        Finding(
            "one-class",
            "all targets are the same",
            f"all {t.size} targets are {t.flat[0]:g}",
            "a network that always answers this number has the smallest loss there is: nothing else is learned.",
            "DataLoader(data, shuffle=True)   # the rows are probably sorted by target",
            place=_at(call),
            confidence=0.9,
            stage="data",
        )
    ]


def _binary_range(t: Any, call: Call) -> list[Finding]:
    if not isinstance(t, np.ndarray) or not t.size or t.dtype.kind != "f" or (t.min() >= 0 and t.max() <= 1):
        return []
    values = np.unique(t)
    fix = (
        "y = (y + 1) / 2"
        if t.min() == -1
        else "y = y - 1"
        if set(values.tolist()) <= {1.0, 2.0}
        else f"y = y / {t.max():g}"
    )
    return [
        _finding(
            "target-range",
            "targets outside of 0 … 1 for binary cross-entropy",
            f"targets go from {t.min():g} to {t.max():g}",
            "the loss is −t log p − (1 − t) log(1 − p): for t outside of [0, 1] it has no minimum, and falls for ever.",
            fix,
            call,
            0.98,
        )
    ]


_RANGES = {
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu": (0.0, math.inf),
    "hardtanh": (-1.0, 1.0),
    "relu6": (0.0, 6.0),
    "hardsigmoid": (0.0, 1.0),
    "softplus": (0.0, math.inf),
    "log_softmax": (-math.inf, 0.0),
}


def _regression(tape: Tape, call: Call, x: Any, t: Any, before: Call | None, op: str) -> list[Finding]:
    if not isinstance(t, np.ndarray) or not t.size:
        return []
    found: list[Finding] = []
    if op in _RANGES:
        low, high = _RANGES[op]
        outside = float(((t < low - 1e-6) | (t > high + 1e-6)).mean())
        if outside > 0.05:
            found.append(
                _finding(
                    "target-range",
                    f"the network's last {op} cannot reach the targets",
                    f"{outside:.0%} of the targets lie outside of [{low:g}, {high:g}] (they go from {t.min():.3g} "
                    f"to {t.max():.3g})",
                    f"{op} gives values in [{low:g}, {high:g}] only, so these targets pull it into saturation, "
                    "where its derivative is 0.",
                    f"drop the {op} after the last layer, or scale the targets",
                    before,
                    0.95,
                )
            )
    values = np.unique(t)
    rows = t.ndim == 2 and t.shape[1] > 1 and np.isin(t, (0, 1)).all() and (t.sum(axis=1) == 1).all()
    if rows:
        found.append(
            _finding(
                "wrong-loss",
                "mean squared error on one-hot classes",
                f"every target row is one-hot with {t.shape[1]} classes",
                "the gradient (p − y)·p(1 − p) vanishes where the network is surely wrong; cross-entropy's is p − y.",
                "loss = F.cross_entropy(logits, y.argmax(1))   # no softmax in the network",
                call,
                0.9,
            )
        )
    elif op in ("sigmoid",) and values.size == 2 and set(values.tolist()) == {0.0, 1.0}:
        found.append(
            _finding(
                "wrong-loss",
                "mean squared error on a probability",
                "targets are 0 and 1, the output a sigmoid",
                "the gradient (p − y)·p(1 − p) vanishes where the network is surely wrong; binary "
                "cross-entropy's is p − y.",
                "loss = F.binary_cross_entropy_with_logits(logits, y)   # no sigmoid in the network",
                call,
                0.85,
            )
        )
    elif (
        3 <= values.size <= 30
        and (values == np.arange(values.size)).all()
        and x.ndim == 2
        and x.shape[1] == values.size
    ):
        found.append(
            _finding(
                "wrong-loss",
                "class numbers as quantities",
                f"targets are the class numbers 0 … {values.size - 1}, the output has {x.shape[1]} columns",
                "a squared distance between class numbers says that class 9 is farther from 0 than 1 is.",
                "loss = F.cross_entropy(logits, y.long())",
                call,
                0.9,
            )
        )
    return found


def _broadcast(tape: Tape, call: Call | None, n: int) -> list[Finding]:
    """(N, 1) against (N,): the elementwise difference is N × N."""
    candidates = [call] if call is not None and call.op in ("mse", "l1", "huber") else []
    if not candidates:
        candidates = [c for c in tape.calls[-8:] if c.op in ("sub", "add", "mul", "subtract", "rsub", "div")]
    for c in candidates:
        arrays = [a for a in c.inputs[:2] if isinstance(a, np.ndarray)]
        if len(arrays) != 2:
            continue
        a, b = (x.shape for x in arrays)
        try:
            both = np.broadcast_shapes(a, b)
        except ValueError:
            continue
        size = math.prod(both)
        if n > 1 and size > max(math.prod(a), math.prod(b)) and min(math.prod(a), math.prod(b)) > 1 and both[0] == n:
            fix = "loss_fn(out.squeeze(-1), y)   # or y.unsqueeze(-1)"
            return [
                _finding(
                    "silent-broadcast",
                    "output and target have shapes that broadcast",
                    f"{a} against {b} gives {both}: {size} differences instead of {max(math.prod(a), math.prod(b))}",
                    "every output is compared with every target, so the best the network can do is to answer the "
                    "mean of the batch.",
                    fix,
                    c,
                    0.98,
                )
            ]
    return []


def initial_loss(tape: Tape) -> tuple[float, float, int] | None:
    """(mean cross-entropy of the batch, ln C, C), from the logits themselves: whatever factor or reduction the
    loss has."""
    call = loss_call(tape)
    if call is None or call.op not in ("cross_entropy", "nll", "bce_logits"):
        return None
    x, t = call.inputs[0], call.inputs[1] if len(call.inputs) > 1 else None
    if not isinstance(x, np.ndarray) or not isinstance(t, np.ndarray) or not np.isfinite(x).all():
        return None
    z = x.astype(np.float64)
    if call.op == "bce_logits":
        if t.shape != x.shape or t.min() < 0 or t.max() > 1:
            return None
        return float(np.mean(np.logaddexp(0, z) - t * z)), math.log(2), 2
    if t.dtype.kind not in "iu" or z.ndim < 2:
        return None
    z = np.moveaxis(z, 1, -1).reshape(-1, z.shape[1])
    labels = t.reshape(-1)
    keep = labels != -100
    z, labels = z[keep], labels[keep]
    c = z.shape[1]
    if not labels.size or labels.min() < 0 or labels.max() >= c or c < 2:
        return None
    top = z.max(axis=1, keepdims=True)
    logp = z - top - np.log(np.exp(z - top).sum(axis=1, keepdims=True))
    return float(-logp[np.arange(len(labels)), labels].mean()), math.log(c), c
