"""NaN and Inf: the op that made the first one, the entry, the algebra, the way it took, and how to write it instead."""

from __future__ import annotations

from typing import Any

import numpy as np

from .finding import Finding
from .subject import to_array
from .tape import Call, Tape, finite

__all__ = ["check_nonfinite"]

_REWRITE = {
    "log": "torch.log(x.clamp(min=1e-12))   # or log_softmax, logsigmoid, log1p: they never take log 0",
    "log2": "torch.log2(x.clamp(min=1e-12))",
    "log10": "torch.log10(x.clamp(min=1e-12))",
    "log1p": "torch.log1p(x.clamp(min=-1 + 1e-6))",
    "exp": "torch.softmax(x, dim) or torch.logsumexp(x, dim)   # they subtract the maximum before exp",
    "div": "a / (b + 1e-8)   # or b.clamp(min=1e-8)",
    "reciprocal": "1 / x.clamp(min=1e-8)",
    "sqrt": "torch.sqrt(x + 1e-12)   # its derivative 1 / (2√x) is infinite at 0",
    "rsqrt": "torch.rsqrt(x + 1e-12)",
    "norm": "(x.square().sum(dim) + 1e-12).sqrt()   # the derivative x / ‖x‖ is 0/0 at 0",
    "pow": "x.clamp(min=1e-12) ** p   # a fractional or negative power has no finite derivative at 0",
    "std": "(x.var(dim) + 1e-12).sqrt()",
    "linear": "a smaller learning rate or smaller initial weights: the product overflows",
    "matmul": "scale the operands first (attention: / √d)",
    "softmax": "mask with -1e9 instead of −inf where a whole row may be masked",
    "square": "scale x first: x² overflows beyond 1.8e19 in float32",
    "acos": "torch.acos(x.clamp(-1 + 1e-6, 1 - 1e-6))",
    "asin": "torch.asin(x.clamp(-1 + 1e-6, 1 - 1e-6))",
    "mean": "the mean of no entries is 0/0: check the mask",
    "cross_entropy": "check the labels: the mean over no row is 0/0",
    "mul": "0 · ∞ is NaN: use torch.where on the argument, before the function that gives ∞",
    "sub": "∞ − ∞ is NaN: keep both sides finite (logsumexp, log_softmax)",
}


def _entry(a: Any) -> tuple[list[int], Any]:
    bad = np.argwhere(~np.isfinite(np.asarray(a)))
    at = bad[0] if len(bad) else []
    return [int(i) for i in at], np.asarray(a)[tuple(at)]


def _value(a: Any, at: list[int], shape: tuple[int, ...]) -> Any:
    if not isinstance(a, np.ndarray):
        return a
    try:
        return np.broadcast_to(a, shape)[tuple(at)]
    except (ValueError, IndexError):
        return None


def _algebra(op: str, values: list[Any], out: Any) -> str:
    """The forbidden step in numbers: log 0 = −∞, 0 / 0 = NaN, e^1000 = ∞."""
    v = [x for x in values if x is not None and not isinstance(x, np.ndarray)]
    shown = "NaN" if np.isnan(out) else "∞" if out > 0 else "−∞"
    n = [f"{float(x):.4g}" if isinstance(x, (int, float, np.floating, np.integer)) else "" for x in v]
    if op in ("log", "log2", "log10", "sqrt", "exp", "reciprocal", "acos", "asin", "rsqrt", "log1p") and n:
        sign = {"exp": f"e^{n[0]}", "sqrt": f"√({n[0]})", "reciprocal": f"1/{n[0]}", "rsqrt": f"1/√({n[0]})"}.get(
            op, f"{op} {n[0]}"
        )
        return f"{sign} = {shown}"
    sign = {"div": "/", "mul": "·", "sub": "−", "add": "+", "pow": "^"}.get(op)
    if sign and len(n) >= 2:
        return f"{n[0]} {sign} {n[1]} = {shown}"
    return f"{op} gives {shown}"


def _layers_after(tape: Tape, call: Call, name: Any) -> str:
    at = next((i for i, c in enumerate(tape.calls) if c is call), 0)
    names: list[str] = []
    for c in tape.calls[at + 1 :]:
        if any(isinstance(o, np.ndarray) and o.dtype.kind == "f" and np.isnan(o).any() for o in c.outs):
            n = name(c.module)
            n = n or c.op
            if n not in names[-1:]:
                names.append(n)
    return " → ".join(names[:6]) + (" → …" if len(names) > 6 else "")


def check_nonfinite(tape: Tape, model: Any, names: dict[int, str]) -> list[Finding]:
    """One finding when the loss or a gradient is not finite."""
    for name, p in model.named_parameters():
        a = to_array(p)
        if a is not None and a.dtype.kind == "f" and not np.isfinite(a).all():
            at, value = _entry(a)
            return [
                Finding(
                    "nonfinite-parameter",
                    "a parameter holds NaN or Inf",
                    f"{name}{at} = {value}; {int((~np.isfinite(a)).sum())} of {a.size} entries",
                    "an update before this one wrote it, usually a step with a NaN gradient or far too large a "
                    "learning rate.",
                    "start again from finite weights with a smaller learning rate and clip_grad_norm_",
                    layer=name.rpartition(".")[0],
                    confidence=1.0,
                    stage="initial loss",
                    numbers={"parameter": name},
                )
            ]

    def layer(chain: Any) -> str:
        while chain is not None:
            m, chain = chain
            if names.get(id(m)):
                return names[id(m)]
        return ""

    loss = to_array(tape.loss)
    if isinstance(loss, np.ndarray) and not np.isfinite(loss).all():
        call = tape.first_bad
        if call is None:
            return [
                Finding(
                    "nonfinite",
                    f"the loss is {loss.reshape(-1)[0]}",
                    "no single op turns finite into not finite (a constant is not finite)",
                    "an infinite constant (a mask of −inf) meets 0 or another infinity.",
                    _REWRITE["softmax"],
                    confidence=0.7,
                    stage="initial loss",
                )
            ]
        out = next(
            o for o in call.outs if isinstance(o, np.ndarray) and o.dtype.kind == "f" and not np.isfinite(o).all()
        )
        at, value = _entry(out)
        values = [_value(a, at, out.shape) for a in call.inputs]
        place = str(call.place) if call.place is not None else ""
        way = _layers_after(tape, call, layer)
        source = f": {call.place.source}" if call.place is not None and call.place.source else ""
        return [
            Finding(
                "nonfinite",
                f"NaN or Inf in the forward pass, first in {call.op}",
                f"{call.op} gives {value} at entry {at} of {tuple(out.shape)}{source}; "
                f"{_algebra(call.op, values, value)}" + (f"; it goes on through {way}" if way else ""),
                f"{_algebra(call.op, values, value)}: from here on every value that it touches is not finite, the "
                "loss and all gradients too.",
                _REWRITE.get(call.op, f"keep the arguments of {call.op} where it is finite (clamp, or add a small ε)"),
                layer=layer(call.module),
                place=place,
                confidence=0.99,
                stage="initial loss",
                numbers={"op": call.op, "entry": at, "algebra": _algebra(call.op, values, value)},
            )
        ]
    grads = [n for n, (g, _) in tape.parameter_arrays.items() if not np.isfinite(g).all()]
    if tape.backward_bad is not None and grads:
        step, gi, g = tape.backward_bad
        at, value = _entry(gi)
        x = step.inputs[0] if step.inputs else None
        argument = _value(x, at, gi.shape) if isinstance(x, np.ndarray) else None
        upstream = _value(g, at, gi.shape) if isinstance(g, np.ndarray) else None
        local = {
            "sqrt": "1 / (2√0) = ∞",
            "log": "1 / 0 = ∞",
            "norm": "0 / 0",
            "div": "1 / 0",
            "pow": "0^(p−1) = ∞",
            "abs": "",
        }.get(step.op, "∞")
        if argument is None:
            argument = 0.0
        algebra = f"{step.op}′({float(argument):.3g}) = {local}" if not isinstance(argument, np.ndarray) else local
        times = (
            f"; {float(upstream):.3g} · ∞ = {'NaN' if np.isnan(value) else '∞'}"
            if upstream is not None and np.ndim(upstream) == 0
            else ""
        )
        return [
            Finding(
                "nonfinite",
                f"NaN or Inf in the backward pass, first in the gradient of {step.op}",
                f"the loss is finite, the gradient that {step.op} sends to entry {at} of its input is {value} "
                f"({algebra}{times}); it reaches {_few(grads)}",
                f"{algebra}{times}: the value is fine, the slope is not, and 0 · ∞ is NaN even where a mask drops "
                "the value.",
                _REWRITE.get(step.op, f"keep the argument of {step.op} away from where its slope is infinite"),
                layer=step.layer,
                place=str(step.place) if step.place is not None else "",
                confidence=0.98,
                stage="gradient flow",
                numbers={"op": step.op, "entry": at, "algebra": algebra + times},
            )
        ]
    if grads and not finite(*(g for g, _ in tape.parameter_arrays.values())):
        return [
            Finding(
                "nonfinite",
                "a gradient overflows",
                f"gradient of {_few(grads)} is not finite",
                "the products along the way exceed the largest float.",
                "clip_grad_norm_, smaller initial weights, or a norm per layer",
                layer=grads[0].rpartition(".")[0],
                confidence=0.8,
            )
        ]
    return []


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
