"""One edge of the graph, one pair of entries: ∂output[j] / ∂input[e], as a number and as a formula.

The number comes from the rule itself: a rule is linear in the gradient that arrives, so differentiating it by that
gradient gives a whole column of the Jacobian at the price of one backward step. The formula comes from the op's
``math``, or from the table below; it is kept only if it evaluates to that number.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import engine
from ..core.state import state
from ..core.variable import Variable, wrap
from ..graph.replay import Quantity, Step
from .expression import Expr, number, over, parse, plus, symbol, times

__all__ = ["column", "entry_name", "local", "quantity_symbol"]

Entry = tuple[int, ...]


# --- numbers -----------------------------------------------------------------------------------------------------


def column(step: Step, i: int, entry: Entry) -> list[np.ndarray[Any, Any]]:
    """∂outputs/∂input_i[entry]: one array per output, in the output's shape.

    Raises:
        NotImplementedError: when the rule cannot be differentiated by the gradient that arrives.
    """
    node = step.fresh
    previous = state.grad, state.recorder
    state.grad, state.recorder = True, None
    try:
        # The rule is linear in g, so any g gives its matrix; at 1 nothing is divided by zero.
        g = [wrap(np.ones(q.array.shape, q.array.dtype), None, True) for q in step.outs]
        gi = _apply(node, i, tuple(g) if node.op.outputs != 1 else g[0])
        if gi is None or not isinstance(gi, Variable) or not gi._requires:
            if gi is not None and np.any(gi._array if isinstance(gi, Variable) else gi):
                raise NotImplementedError(f"{step.op.name} computes its gradient in one piece")
            return [np.zeros(q.array.shape) for q in step.outs]
        seed = np.zeros(gi._array.shape, gi._array.dtype)
        seed[entry] = 1
        found = engine.run_backward([gi], [wrap(seed)], inputs=g, allow_unused=True)
    except (TypeError, AttributeError, RuntimeError) as error:
        raise NotImplementedError(str(error)) from error
    finally:
        state.grad, state.recorder = previous
    arrays = [f._array if isinstance(f, Variable) else f for f in found]
    return [np.zeros(q.array.shape) if a is None else np.asarray(a) for a, q in zip(arrays, step.outs, strict=True)]


def _apply(node: Any, i: int, g: Any) -> Any:
    op = node.op
    if op.variadic:
        rule = op.rules[0]
        values = next(v for v in node.saved if v is not None)
        return list(rule.fn(g, *engine._unpack(node, rule, values, False)))[i]
    rule = op.rules[i]
    gi = rule.fn(g, *engine._unpack(node, rule, node.saved[i], False))
    if node.shapes is not None and gi is not None and gi.shape != node.shapes[i]:
        gi = engine._sum_to(gi, node.shapes[i])
    return gi


# --- names -------------------------------------------------------------------------------------------------------


def entry_name(name: str, entry: Entry) -> str:
    """``W1[0,1]``; the bare name for a number."""
    return f"{name}[{','.join(map(str, entry))}]" if entry else name


def quantity_symbol(q: Any, entry: Entry, depth: int = 3) -> Expr:
    """A quantity's entry as a formula: its name, a constant's number, or for what has no name, how it was computed."""
    if not isinstance(q, Quantity):
        return number(float(q))
    value = float(q.array[entry])
    if q.name is not None:
        return symbol(entry_name(q.name, entry), value)
    if q.maker is None:
        return number(value) if value == int(value) else symbol(f"{value:.6g}".replace("-", "−"), value)
    made = _elementwise(q.maker, entry, depth) if depth else None
    if made is not None and _close(made.value, value):
        return made
    from .formula import bracketed, label

    return symbol(entry_name(bracketed(label(q)), entry), value)


def _close(a: float, b: float, tolerance: float = 1e-3) -> bool:
    """Equal up to the rounding of float16 … float32; a wrong formula is off by more."""
    return a == b or (a != a and b != b) or abs(a - b) <= tolerance * max(abs(a), abs(b)) + 1e-6


def _inputs(step: Step, entry: Entry, depth: int) -> dict[str, Expr]:
    """The inputs' entries that meet at an output's entry of a broadcasting op, by parameter name."""
    named: dict[str, Expr] = {}
    for name, q in zip(step.op.inputs, step.args, strict=False):
        if isinstance(q, Quantity):
            named[name] = quantity_symbol(q, _aligned(entry, q.array.shape), depth)
        elif q is not None:
            named[name] = number(float(q))
    return named


def _aligned(entry: Entry, shape: tuple[int, ...]) -> Entry:
    """The entry of a broadcast operand that an entry of the result reads."""
    tail = entry[len(entry) - len(shape) :] if shape else ()
    return tuple(0 if n == 1 else k for k, n in zip(tail, shape, strict=True))


def _is_elementwise(step: Step) -> bool:
    left, _, right = step.op.signature.partition("->")
    return right.strip() == "*s" and all(part.strip() == "*s" for part in left.split(","))


def _elementwise(step: Step, entry: Entry, depth: int) -> Expr | None:
    """The value of an unnamed elementwise step as a formula of its inputs."""
    if not _is_elementwise(step) or step.op.name in ("cast", "clone"):
        if step.op.name in ("cast", "clone"):
            return quantity_symbol(step.args[0], entry, depth)
        return None
    inputs = _inputs(step, entry, depth - 1)
    try:
        settings = {s: number(float(v)) for s, v in _settings(step).items() if isinstance(v, (int, float))}
        template = step.op.formula
        for name in inputs:
            template = template.replace(f"{{{name}}}", f"({name})")
        for name in settings:
            template = template.replace(f"{{{name}}}", f"({name})")
        return parse(template, {**settings, **inputs})
    except (ValueError, KeyError):
        return None


def _settings(step: Step) -> dict[str, Any]:
    return {**dict(step.op.settings.items()), **step.node.params}


# --- formulas ----------------------------------------------------------------------------------------------------


def local(step: Step, i: int, entry: Entry, j: Entry, value: float) -> Expr:
    """∂output[j]/∂input_i[entry] as a formula whose value is ``value``."""
    for make in (_from_math, _from_table):
        try:
            found = make(step, i, entry, j)
        except (ValueError, KeyError, IndexError, TypeError, OverflowError):
            found = None
        if found is not None and _close(found.value, value):
            return found
    if abs(value) < 1e6 and value == int(value):
        return number(value)
    target = step.args[i]
    inner = (
        target.name if isinstance(target, Quantity) and target.name else step.op.inputs[0 if step.op.variadic else i]
    )
    outer = step.out.name or f"{step.op.name}{step.index}"
    return symbol(f"∂{entry_name(outer, j)}/∂{entry_name(inner, entry)}", value)


def _from_math(step: Step, i: int, entry: Entry, j: Entry) -> Expr | None:
    """The rule's mathematics with 1 for the gradient that arrives."""
    op = step.op
    if op.variadic or not _is_elementwise(step):
        return None
    rule = op.rules[i]
    if rule is None or "=" not in rule.math:
        return None
    right = unicodedata.normalize("NFC", rule.math.split("=", 1)[1].strip())
    output = "z" if len(op.inputs) > 1 else "y"
    names = _inputs(step, j, 2)
    names = dict(names.items())
    out = quantity_symbol(step.out, j, 2)
    names.setdefault(output, out)
    names["out"] = out
    for k, v in _settings(step).items():
        if isinstance(v, (int, float)):
            names.setdefault(k, number(float(v)))
    one = number(1)
    for bar in (f"{output}\u0304", unicodedata.normalize("NFC", f"{output}\u0304")):
        names[bar] = one
    if " where " in right:
        taken, _, rest = right.partition(" where ")
        condition, _, otherwise = rest.partition(" else ")
        chosen = taken if names[condition.strip()].value else otherwise
        return parse(chosen, names)
    return parse(right, names)


def _from_table(step: Step, i: int, entry: Entry, j: Entry) -> Expr | None:
    maker = _TABLE.get(step.op.name)
    return None if maker is None else maker(step, i, entry, j)


def _at(q: Any, entry: Entry) -> Expr:
    return quantity_symbol(q, entry, 2)


def _matmul(step: Step, i: int, entry: Entry, j: Entry) -> Expr:
    x, y = step.args
    if i == 0:
        return _at(y, (*_aligned(j[:-2], y.array.shape[:-2]), entry[-1], j[-1]))
    return _at(x, (*_aligned(j[:-2], x.array.shape[:-2]), j[-2], entry[-2]))


def _linear(step: Step, i: int, entry: Entry, j: Entry) -> Expr:
    x, weight, _ = step.args
    if i == 0:
        return _at(weight, (j[-1], entry[-1]))
    return _at(x, (*j[:-1], entry[-1])) if i == 1 else number(1)


def _mean(step: Step, i: int, entry: Entry, j: Entry) -> Expr:
    n = step.args[0].array.size // max(step.out.array.size, 1)
    return over(number(1), number(n))


def _reduction(step: Step) -> Any:
    return step.node.params.get("reduction", "mean")


def _mse(step: Step, i: int, entry: Entry, j: Entry) -> Expr:
    x, y = step.args
    shape = np.broadcast_shapes(x.array.shape, y.array.shape)
    at = entry if step.args[i].array.shape == shape else None
    if at is None:
        raise ValueError
    d = plus(_at(x, _aligned(at, x.array.shape)), _negated(_at(y, _aligned(at, y.array.shape))))
    d = times(number(2 if i == 0 else -2), d)
    return over(d, number(math.prod(shape))) if _reduction(step) == "mean" else d


def _negated(e: Expr) -> Expr:
    return times(number(-1), e)


def _cross_entropy(step: Step, i: int, entry: Entry, j: Entry) -> Expr:
    x, target, weight = step.args[:3]
    if weight is not None:
        raise ValueError
    a = x.array.astype(np.float64)
    axis = 1 if a.ndim > 1 else 0
    e = np.exp(a - a.max(axis, keepdims=True))
    p = e / e.sum(axis, keepdims=True)
    sample = entry[:axis] + entry[axis + 1 :]
    hit = int(target.array[sample]) == entry[axis]
    name = x.name or f"{step.op.name}{step.index}"
    d = plus(symbol(entry_name(f"softmax_{name}" if x.name is None else f"p_{name}", entry), float(p[entry])),
             number(-1 if hit else 0))  # fmt: skip
    counted = int((target.array != step.node.params.get("ignore_index", -100)).sum())
    return over(d, number(counted)) if _reduction(step) == "mean" and counted > 1 else d


def _softmax(step: Step, i: int, entry: Entry, j: Entry) -> Expr:
    y = step.out
    if entry == j:
        return times(_at(y, j), plus(number(1), _negated(_at(y, j))))
    return times(number(-1), _at(y, entry), _at(y, j))


def _log_softmax(step: Step, i: int, entry: Entry, j: Entry) -> Expr:
    p = symbol(f"exp({entry_name(step.out.name or 'logp', entry)})", float(np.exp(step.out.array[entry])))
    return plus(number(1), _negated(p)) if entry == j else _negated(p)


def _square_sum(step: Step, i: int, entry: Entry, j: Entry) -> Expr:
    return times(number(2), _at(step.args[0], entry))


_TABLE: dict[str, Callable[[Step, int, Entry, Entry], Expr]] = {
    "matmul": _matmul, "linear": _linear, "mean": _mean, "mse": _mse, "cross_entropy": _cross_entropy,
    "softmax": _softmax, "log_softmax": _log_softmax,
}  # fmt: skip
