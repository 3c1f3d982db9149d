"""``explain``: the chain rule for one derivative, in symbols, formulas and numbers, with the user's names."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np

from ..core.locate import user_frame
from ..core.variable import Variable
from ..errors import IndexOutOfRange, UsageError, message
from ..graph.naming import assign_names
from ..graph.replay import Quantity, Replay, expanded
from .entry import Entry, Equation, equations
from .expression import Expr, latex, numbers, shown, symbol, text, times
from .formula import bracketed, definition, label, root_label, rule_text
from .locals import entry_name
from .second import derivative_graph
from .tex import tex_fraction, tex_numbers

__all__ = ["Explanation", "explain", "replayed"]

_LINES = 16
"""The most equations that are shown."""


def replayed(root: Any, variables: dict[str, Any] | None = None, **options: Any) -> Replay:
    """The named replay of a graph; names come from the caller's variables and source."""
    if isinstance(root, Variable):
        replay = Replay(unfolded(root), **options)
    else:
        raise TypeError(f"a tensor is needed whose gradient can be explained, not {type(root).__name__}")
    assign_names(replay, _variables() if variables is None else variables)
    return replay


def unfolded(root: Any) -> Any:
    """The graph with checkpoints opened: their nodes hide a function whose backward would write to ``.grad``."""
    return expanded(root, frozenset({"Checkpoint"})) if isinstance(root, Variable) and root._requires else root


def _variables() -> dict[str, Any]:
    """The variables that the user's running code can see."""
    frame = user_frame(sys._getframe(1))
    return {} if frame is None else {**frame.f_globals, **frame.f_locals}


def explain(
    y: Any, wrt: Any = None, entry: Entry | int | None = None, *, order: int = 1, terms: int = 4, variables: Any = None
) -> Explanation:
    """Explain dy/dx: the chain rule in symbols, in formulas, in numbers.

    Args:
        y: a tensor with one entry (a loss) whose graph has not been freed.
        wrt: what to differentiate by: a tensor of the graph, an entry of one (``W[0, 1]``), or a name ("W[0,1]").
            Left out: the leaf that gets the largest gradient.
        entry: which entry of ``wrt``; for a tensor with several, the one with the largest derivative if left out.
        order: 2 explains the second derivative d²y/dx².
        terms: how many contributions each equation shows; the rest is summed and counted.

    Raises:
        UsageError: when ``wrt`` is not part of y's graph.
        IndexOutOfRange: when there is no such entry.
        GradientError: when y has no graph, or it was freed.

    >>> import chainrule as torch
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> L = torch.sin(x) * 3
    >>> print(explain(L, x).equation)
    dL/dx = 3 · cos(x) = 3(−0.416147) = −1.248441
    """
    seen = _variables() if variables is None else variables
    if order == 2:
        return _second(y, wrt, entry, terms, seen)
    if order != 1:
        raise UsageError(message(f"explain: order must be 1 or 2, not {order}"))
    replay = replayed(expanded(y) if isinstance(y, Variable) and y.requires_grad else y, seen)
    q, at = _resolve(replay, wrt, entry)
    return Explanation(replay, q, at, terms)


def _second(y: Any, wrt: Any, entry: Any, terms: int, seen: dict[str, Any]) -> Explanation:
    first = replayed(y, seen)
    q, at = _resolve(first, wrt, entry)
    target = q.leaf if q.leaf is not None else wrt
    if not isinstance(target, Variable) or (q.leaf is None and isinstance(wrt, str)):
        raise UsageError(message("explain(order=2) needs the tensor itself, not its name"))
    replay = derivative_graph(
        y, first, q, at, target, lambda t: replayed(t, {k: v for k, v in seen.items() if v is not t})
    )
    q2, at = _resolve(replay, target, at)
    made = Explanation(replay, q2, at, terms)
    made.order = 2
    return made


# --- which entry -------------------------------------------------------------------------------------------------


def _resolve(replay: Replay, wrt: Any, entry: Any) -> tuple[Quantity, Entry]:
    if wrt is None:
        graded = [q for q in replay.leaves if q.grad is not None]
        q: Quantity | None = max(graded, key=lambda leaf: float(np.max(np.abs(leaf.grad), initial=0.0)), default=None)
        if q is None:
            raise UsageError(message("no leaf of this graph gets a gradient"))
    elif isinstance(wrt, str):
        q, entry = _by_name(replay, wrt, entry)
    elif isinstance(wrt, Variable):
        q = replay.quantity(wrt)
        if q is None:
            q, entry = _view(replay, wrt, entry)
    else:
        raise TypeError(f"wrt must be a tensor, an entry of one, or a name, not {type(wrt).__name__}")
    if q is None:
        raise UsageError(
            message(
                f"the tensor of shape {tuple(getattr(wrt, 'shape', ()))} is not part of this graph",
                f"the graph's leaves are {_names(replay)}",
                fix="why_no_grad(x, loss) says where the connection was cut.",
            )
        )
    if q.grad is None:
        name = q.name or "this tensor"
        raise UsageError(
            message(
                f"no gradient flows to {name}: it does not require grad",
                f"the graph's leaves are {_names(replay)}",
                fix=f"Set {name}.requires_grad_() before computing with it.",
            )
        )
    return q, _checked(q, entry)


def _names(replay: Replay) -> str:
    return ", ".join(f"{q.name or '?'} {q.array.shape}" for q in replay.leaves[:12]) or "none"


def _checked(q: Quantity, entry: Any) -> Entry:
    shape = q.array.shape
    if entry is None:
        if q.array.size == 0:
            raise IndexOutOfRange(message(f"{q.name or 'the tensor'} is empty: it has no entry to explain"))
        flat = int(np.argmax(np.abs(np.nan_to_num(np.asarray(q.grad, np.float64), nan=np.inf))))
        return tuple(int(k) for k in np.unravel_index(flat, shape))
    at = (entry,) if isinstance(entry, (int, np.integer)) else tuple(entry)
    if len(at) != len(shape):
        raise IndexOutOfRange(
            message(
                f"{q.name or 'the tensor'} has {len(shape)} dimensions, the entry {list(at)} has {len(at)}",
                f"its shape is {shape}",
            )
        )
    for axis, (k, n) in enumerate(zip(at, shape, strict=True)):
        if not -n <= k < n:
            raise IndexOutOfRange(
                message(
                    f"index {k} is out of bounds for dimension {axis} with size {n}",
                    f"{q.name or 'the tensor'} has shape {shape}",
                    fix=f"Indices go from 0 to {n - 1}.",
                )
            )
    return tuple(int(k) % n for k, n in zip(at, shape, strict=True))


def _by_name(replay: Replay, wrt: str, entry: Any) -> tuple[Quantity, Any]:
    m = re.fullmatch(r"\s*(.+?)\s*(?:\[([-\d\s,]*)\])?\s*", wrt)
    name, index = (m.group(1), m.group(2)) if m else (wrt, None)
    for q in replay.quantities():
        if q.name == name or (q is replay.root and name == "L"):
            if index:
                entry = tuple(int(k) for k in index.replace(" ", "").strip(",").split(","))
            return q, entry
    known = ", ".join(dict.fromkeys(q.name for q in replay.quantities() if q.name))
    raise UsageError(message(f"nothing in this graph is called {name}", f"its names are {known}"))


def _view(replay: Replay, t: Any, entry: Any) -> tuple[Quantity | None, Any]:
    """``W1[0, 1]`` taken after the fact: which entry of W1 is it?"""
    views: list[Any] = []
    base = t
    while base._base is not None:
        views.append(base._view)
        base = base._base
        q = replay.quantity(base)
        if q is not None:
            index = np.arange(q.array.size).reshape(q.array.shape)
            for described, params, output in reversed(views):
                index = described.body(index, **params)
                index = index if output is None else index[output]
            if entry is None and index.size > 1:
                best = np.abs(np.asarray(q.grad).reshape(-1)[index]) if q.grad is not None else index
                flat = int(index.reshape(-1)[int(np.argmax(best))])
            else:
                flat = int(index[tuple(entry)] if entry is not None and index.ndim else index.reshape(-1)[0])
            return q, tuple(int(k) for k in np.unravel_index(flat, q.array.shape))
    return None, entry


# --- the result --------------------------------------------------------------------------------------------------


class Explanation:
    """One derivative, explained. Print it, or let a notebook show it; ``to_dict()`` and ``to_latex()`` for machines.

    * ``value``: the derivative; ``equations``: the chain of sums it rests on; ``equation``: the main line.
    """

    order = 1

    def __init__(self, replay: Replay, q: Quantity, entry: Entry, terms: int = 4) -> None:
        self.replay = replay
        self.q = q
        self.entry = entry
        self.value = float(np.asarray(q.grad)[entry])
        self.chain: list[Equation] = equations(replay, q, entry, keep=terms)

    # --- names ---

    @property
    def top(self) -> str:
        return root_label(self.replay)

    def d(self, q: Quantity, entry: Entry, of: str | None = None) -> str:
        """``dL/dW1[0,1]``."""
        below = entry_name(bracketed(label(q, self.replay)), entry)
        above = of or self.top
        return f"d{f'({above})' if '/' in above else above}/d{below}"

    @property
    def name(self) -> str:
        return self.d(self.q, self.entry)

    @property
    def single(self) -> bool:
        """Whether there is one path only, so that the derivative is one product."""
        return all(e.count == 1 and e.terms[0].factor is not None for e in self.chain) and (
            bool(self.chain) and self.chain[-1].terms[0].out is self.replay.root
        )

    @property
    def segments(self) -> list[tuple[str, Expr]]:
        """The factors between named quantities, from the root down: ``("dL/dy", 2y)``, …"""
        out: list[tuple[str, Expr]] = []
        lower, lower_at = self.q, self.entry
        factors: list[Expr] = []
        e: Equation | None = self.chain[0] if self.chain else None
        by_key = {(id(c.q), c.entry): c for c in self.chain}
        while e is not None:
            t = e.terms[0]
            assert t.factor is not None
            factors.append(t.factor)
            if t.out.name is not None or t.out is self.replay.root:
                above = entry_name(label(t.out, self.replay), t.j)
                out.append((self.d(lower, lower_at, above), times(*reversed(factors))))
                lower, lower_at, factors = t.out, t.j, []
            e = by_key.get((id(t.out), t.j))
        return out[::-1]

    @property
    def equation(self) -> str:
        """The main line: ``dL/dx = symbols = formulas = numbers = value`` of the (largest) path."""
        return " = ".join([self.name, *dict.fromkeys(self._lines()[1:])])

    def _lines(self) -> list[str]:
        if not self.chain:
            return [self.name, shown(self.value)]
        if not self.single:
            return [self.name, _sum_text(self, self.chain[0])[0], shown(self.value)]
        parts = self.segments
        names = " · ".join(n for n, _ in parts)
        shownparts = [e for _, e in parts if not (e.kind == "num" and e.value == 1)] or [parts[0][1]]
        formula = " · ".join(_factor(text(e), e, k) for k, e in enumerate(shownparts))
        values = " · ".join(_number(e, k) for k, e in enumerate(shownparts))
        lines = [self.name, names] if len(parts) > 1 else [self.name]
        return [*lines, formula, values, shown(self.value)]

    # --- text ---

    def __str__(self) -> str:
        body = self._product() if self.single else self._sums()
        return "\n".join([*self._definitions("\n".join(body)), "", *body])

    __repr__ = __str__

    def _definitions(self, body: str = "") -> list[str]:
        """What the names stand for: the quantities on the way, and what ``body`` calls by op and number."""
        wanted: dict[int, Quantity] = {}
        for e in self.chain:
            for t in e.terms[:1]:
                wanted[id(t.out)] = t.out
        numbered = {f"{s.op.name}{s.index}": s.out for s in self.replay.steps}
        named = [q for q in wanted.values() if q.name is not None or q is self.replay.root]
        pending = [body, *(definition(q) for q in named if q.maker is not None)]
        while pending and len(named) < 30:
            for word in re.findall(r"\b[^\W\d]\w*\d\b", pending.pop()):
                q = numbered.get(word)
                if q is not None and q.name is None and q is not self.replay.root and q not in named:
                    named.append(q)
                    pending.append(definition(q))
        named.sort(key=lambda q: q.maker.index if q.maker else -1, reverse=True)
        rows = []
        for q in named[:30]:
            left = label(q, self.replay)
            if q.name is None and q is not self.replay.root and q.maker is not None:
                left = f"{q.maker.op.name}{q.maker.index}"
            left = f"{left} = {definition(q)}"
            left = left if len(left) <= 78 else left[:77] + "…"
            place = q.maker.place if q.maker else None
            rows.append((left, _shape(q.array.shape), str(place) if place else ""))
        width = max((len(r[0]) for r in rows), default=0)
        shape = max((len(r[1]) for r in rows), default=0)
        lines = [f"  {a:<{min(width, 78)}}  {b:<{shape}}  {c}".rstrip() for a, b, c in rows]
        if len(named) > 30:
            lines.append(f"  … and {len(named) - 30} more")
        lines.append(f"  {label(self.q, self.replay)} is {_shape(self.q.array.shape)}")
        return lines

    def _product(self) -> list[str]:
        name, *lines = self._lines()
        lines = list(dict.fromkeys(lines))  # 2 = 2 = 2 says it once
        if len(lines) >= 3:
            lines[-2:] = [f"{lines[-2]} = {lines[-1]}"]
        indent = " " * len(name)
        return [f"{name if not k else indent} = {line}" for k, line in enumerate(lines)]

    def _sums(self, limit: int = _LINES) -> list[str]:
        out: list[str] = [] if self.chain else [f"{self.name} = {shown(self.value)}"]
        for e in self.chain[:limit]:
            main, rows = _sum_text(self, e)
            step = e.terms[0].step if e.terms else None
            place = f"   {step.place}" if step is not None and step.place else ""
            name = self.d(e.q, e.entry)
            out.append(f"{name} = {main}{place}" if e.count != 1 else f"{name} = {main} = {rows[0]}{place}")
            if e.count != 1:
                out += [f"    {r}" for r in rows]
                if step is not None and e.q.array.ndim and all(t.step is step for t in e.terms):
                    out.append(f"    in whole: {rule_text(step, e.terms[0].i, self.replay)}")
        if len(self.chain) > limit:
            last = self.chain[-1]
            out.append(f"… {len(self.chain) - limit} more steps up to {self.d(last.q, last.entry)} (all in .to_dict())")
        return out

    # --- other forms ---

    def to_latex(self) -> str:
        """The main equation, and those that it rests on where paths meet, as an ``aligned`` environment."""
        if self.single:
            parts = self.segments
            kept = [e for _, e in parts if not (e.kind == "num" and e.value == 1)] or [parts[0][1]]
            rows = [
                r" \cdot ".join(tex_fraction(n) for n, _ in parts),
                r" \cdot ".join(latex(e, 2) for e in kept),
                r" \cdot ".join(tex_numbers(_number(e, k)) for k, e in enumerate(kept)),
                tex_numbers(shown(self.value)),
            ]
            lines = _tex_rows(tex_fraction(self.name), rows)
        else:
            lines = [line for e in self.chain[:_LINES] for line in _tex_rows(tex_fraction(self.d(e.q, e.entry)),
                                                                            self._tex_sum(e))]  # fmt: skip
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def _tex_sum(self, e: Equation) -> list[str]:
        """One equation of several paths: in symbols, in numbers, and its value."""
        root = self.replay.root
        symbols = []
        for t in e.terms:
            formula = r"\dots" if t.factor is None else latex(t.factor, 2)
            upper = "" if t.out is root else tex_fraction(self.d(t.out, t.j))
            one = t.factor is not None and t.factor.kind == "num" and t.factor.value == 1
            symbols.append(upper if upper and one else rf"{upper} \cdot {formula}" if upper else formula)
        values = " + ".join(
            tex_numbers(numbers(t.factor) if t.out is root and t.factor is not None else _term_numbers(t))
            for t in e.terms
        )
        if e.rest_count:
            symbols.append(r"\dots")
            values += rf" + \underbrace{{{tex_numbers(shown(e.rest))}}}_{{{e.rest_count}\text{{ more}}}}"
        return [" + ".join(symbols), values, tex_numbers(shown(e.value))]

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.to_latex()}$"

    def _repr_html_(self) -> str:
        from html import escape

        rows = []
        for e in self.chain[:_LINES]:
            main, terms = _sum_text(self, e)
            step = e.terms[0].step if e.terms else None
            place = str(step.place) if step is not None and step.place else ""
            inner = "" if e.count == 1 else "<ul>" + "".join(f"<li>{escape(t)}</li>" for t in terms) + "</ul>"
            tail = f" = {escape(terms[0])}" if e.count == 1 else ""
            rows.append(
                f"<tr><td><b>{escape(self.d(e.q, e.entry))}</b></td><td>= {escape(main)}{tail}{inner}</td>"
                f"<td><code>{escape(place)}</code></td></tr>"
            )
        definitions = "<br>".join(escape(line.strip()) for line in self._definitions())
        head = "<br>".join(escape(line) for line in self._product()) if self.single else escape(self.equation)
        return (
            f'<div style="font-family:ui-monospace,monospace;font-size:13px"><p>{definitions}</p>'
            f'<p style="white-space:pre">{head}</p><table>{"".join(rows)}</table></div>'
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data; ``equations`` hold every term with its formula, numbers, shape and source line."""
        listed = []
        for e in self.chain:
            terms = []
            for t in e.terms:
                place = t.step.place
                terms.append(
                    {
                        "through": label(t.out, self.replay),
                        "op": t.step.op.name,
                        "entry": list(t.j),
                        "shape": list(t.out.array.shape),
                        "upstream": t.upstream,
                        "formula": None if t.factor is None else text(t.factor),
                        "numbers": None if t.factor is None else numbers(t.factor),
                        "factor": None if t.factor is None else t.factor.value,
                        "value": t.value,
                        "rule": rule_text(t.step, t.i, self.replay),
                        "line": str(place) if place else None,
                        "source": place.source if place else None,
                    }
                )
            listed.append(
                {
                    "of": self.d(e.q, e.entry), "name": label(e.q, self.replay), "entry": list(e.entry),
                    "shape": list(e.q.array.shape), "value": e.value, "terms": terms,
                    "rest": {"count": e.rest_count, "sum": e.rest, "zeros": e.zeros},
                }
            )  # fmt: skip
        return {
            "derivative": self.name, "value": self.value, "order": self.order, "equation": self.equation,
            "single_path": self.single, "equations": listed,
        }  # fmt: skip


def _factor(body: str, e: Expr, k: int) -> str:
    """One factor of the printed product: brackets around sums, and around a sign that is not the first."""
    if e.kind == "add" or (k and body.startswith("−")) or (e.kind == "div" and k):
        return f"({body})"
    return body


def _number(e: Expr, k: int) -> str:
    body = numbers(e)
    return f"({body})" if e.kind == "add" or (k and (body.startswith("−") or e.kind == "div")) else body


def _term_numbers(t: Any) -> str:
    factor = t.factor if t.factor is not None else symbol("?", t.value)
    up = shown(t.upstream)
    return f"{f'({up})' if up.startswith('−') else up} · {_number(factor, 1)}"


def _sum_text(x: Explanation, e: Equation) -> tuple[str, list[str]]:
    """An equation in symbols, and its rows: one per term, the rest, the total."""
    if not e.terms:
        return "0", [shown(e.value)]
    rows: list[str] = []
    symbols: list[str] = []
    for t in e.terms:
        if t.factor is None:
            symbols.append(f"[through {label(t.out, x.replay)}]")
            rows.append(f"through {label(t.out, x.replay)} ({t.step.op.name}): {shown(t.value)}")
            continue
        upper = x.d(t.out, t.j) if t.out is not x.replay.root else ""
        formula = _factor(text(t.factor), t.factor, 1 if upper else 0)
        one = t.factor.kind == "num" and t.factor.value == 1
        name = upper or formula if one or not upper else f"{upper} · {formula}"
        symbols.append(name)
        value = _term_numbers(t) if upper and not one else numbers(t.factor) if not upper else shown(t.upstream)
        via = (
            f"   through {label(t.out, x.replay)} {t.step.place or ''}".rstrip()
            if len({id(k.step) for k in e.terms}) > 1
            else ""
        )
        if e.count == 1:
            total = shown(t.value)
            rows.append(value if value == total else f"{value} = {total}")
        else:
            rows.append(
                f"{name} = {value} = {shown(t.value)}{via}" if value != shown(t.value) else f"{name} = {value}{via}"
            )
    if e.rest_count:
        symbols.append("…")
        rows.append(f"and {e.rest_count} more, together {shown(e.rest)}")
    if e.count > 1:
        rows.append(f"sum of {e.count}: {shown(e.value)}" + (f"   ({e.zeros} more are 0)" if e.zeros else ""))
    return " + ".join(symbols), rows


def _shape(shape: tuple[int, ...]) -> str:
    return "a number" if not shape else "(" + ", ".join(map(str, shape)) + ")"


def _tex_rows(left: str, rows: list[str]) -> list[str]:
    """``left = row = row``, each row but repetitions on a line."""
    return [f"{left if not k else ''} &= {row}" for k, row in enumerate(dict.fromkeys(rows))]
