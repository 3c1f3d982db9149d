"""A program as NumPy source that a person would have written.

Named values get a line each; what has no name and is read once is written inside the line that reads it. Ops print by
their NumPy template; an op without one is printed as a helper function, its own body.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

import numpy as np

from .helpers import Helpers
from .naming import identifier
from .program import Instr, Program, Value
from .simplify import uniform
from .templates import TEMPLATES, key_text

__all__ = ["Printer"]

_WIDTH = 100
_VIEWS = {"swap", "reshape", "expand", "getitem", "permute", "cast"}


class Printer:
    """Prints parts of one program. ``names`` maps values to identifiers; ``notes`` to the comment of their line."""

    def __init__(
        self, program: Program, names: dict[Value, str], notes: dict[Value, str], *, outputs: Iterable[Value] = ()
    ) -> None:
        self.program = program
        self.names = names
        self.notes = notes
        self.taken: set[str] = {*names.values(), "np", "cache", "forward", "backward"}
        self.helpers = Helpers(self.taken)
        self.maker: dict[Value, Instr] = {o: i for i in program.instrs for o in i.outs}
        self.uses: dict[Value, int] = {}
        for instr in program.instrs:
            for v in instr.values:
                self.uses[v] = self.uses.get(v, 0) + 1
        for v in outputs:
            self.uses[v] = self.uses.get(v, 0) + 1
        self.pending: dict[Value, ast.expr] = {}
        self.like_number: set[Value] = set()
        self.read: set[str] = set()
        self.sizes = sorted(
            {n for i in program.instrs for o in i.outs for n in (*o.shape, int(np.prod(o.shape)))} - {0, 1}
        )
        self.crossing: set[Value] = set()
        self.wishes: dict[Value, str] = {}

    # --- names ---

    def fresh(self, wish: str) -> str:
        """A name that nothing has yet."""
        name, k = wish, 1
        while name in self.taken:
            name = f"{wish}{'_' if wish[-1].isdigit() else ''}{k}"
            k += 1
        self.taken.add(name)
        return name

    def named(self, v: Value, wish: str = "t") -> str:
        if v not in self.names:
            self.names[v] = self.fresh(wish if wish != "t" else self._wish(v))
        return self.names[v]

    def _wish(self, v: Value) -> str:
        made = self.maker.get(v)
        if v in self.wishes:
            return self.wishes[v]
        return "t1" if made is None else identifier(made.op.name[:12]) + "_1"

    # --- expressions ---

    def argument(self, a: Any) -> ast.expr:
        """A value, number or None as an expression."""
        if not isinstance(a, Value):
            return self._literal(a)
        if a in self.names:
            self.read.add(self.names[a])
            return ast.Name(self.names[a], ast.Load())
        if a in self.pending:
            return self.pending[a] if self.uses.get(a, 0) > 1 else self.pending.pop(a)
        array = self.program.constants.get(a)
        if array is not None:
            return ast.parse(_array_text(array), mode="eval").body
        made = self.maker.get(a)
        if made is not None and made.op.name in _VIEWS:  # a view made in the forward part, taken again here
            return self.expression(made)
        raise KeyError(f"{a} has no name where it is read")

    def _literal(self, a: Any) -> ast.expr:
        if isinstance(a, float) and a != int(a) if isinstance(a, float) and np.isfinite(a) else False:
            for k in (1, 2, -1, -2):
                for n in self.sizes:
                    if np.float32(k / n) == np.float32(a) and (k / n == a or np.float32(a) == a):
                        return ast.parse(f"{k} / {n}", mode="eval").body
        if isinstance(a, (np.generic, np.ndarray)):
            return ast.parse(_array_text(np.asarray(a)), mode="eval").body
        if isinstance(a, float) and not np.isfinite(a):
            return ast.parse({"inf": "np.inf", "-inf": "-np.inf"}.get(str(a), "np.nan"), mode="eval").body
        if isinstance(a, float) and a == int(a) and abs(a) < 1e15:
            return ast.parse(repr(int(a)), mode="eval").body
        return ast.parse(repr(a), mode="eval").body

    def expression(self, instr: Instr) -> ast.expr:
        """An op application with one output as an expression."""
        first = instr.args[0] if instr.args else None
        if instr.op.name in ("reshape", "expand") and first in self.like_number:
            return self.argument(first)
        template = self._template(instr)
        if template is None:
            return self._call(instr)
        filled, wanted = template, {}
        for name, a in zip(instr.op.inputs, instr.args, strict=False):
            hole = f"hole_{name}_"
            if f"{{{name}}}" in filled:
                filled = filled.replace(f"{{{name}}}", hole)
                wanted[hole] = self.argument(a)
        for name, default in instr.op.settings.items():
            value = instr.params.get(name, default)
            filled = filled.replace(f"{{{name}!r}}", _setting(value))
            if name == "key":
                filled = filled.replace("[{key}]", f"[{key_text(value)}]")
            filled = filled.replace(f"{{{name}}}", _setting(value))
        tree = ast.parse(filled, mode="eval").body
        return _Fill(wanted).visit(_Plain().visit(tree))

    def _template(self, instr: Instr) -> str | None:
        make = TEMPLATES.get(instr.op.name)
        if make is not None:
            template = make(instr.args, instr.params, instr.outs[0])
            if template is not None:
                return template
        if instr.op.variadic or (instr.op.numpy and any(a is None for a in instr.args)):
            return None
        return instr.op.numpy or None

    def _call(self, instr: Instr) -> ast.expr:
        """The op's body as a helper function, called."""
        name = self.helpers.name_of(instr.op.body, instr.op.name)
        self.taken.add(name)
        keywords = [ast.keyword(k, ast.parse(_setting(v), mode="eval").body) for k, v in instr.params.items()]
        return ast.Call(ast.Name(name, ast.Load()), [self._as_array(instr, a) for a in instr.args], keywords)

    def _as_array(self, instr: Instr, a: Any) -> ast.expr:
        return self.argument(a)

    # --- statements ---

    def part(self, instrs: list[Instr]) -> list[tuple[str, str]]:
        """Lines (statement, comment) for a run of instructions."""
        lines: list[tuple[str, str]] = []
        for instr in instrs:
            special = _STATEMENTS.get(instr.op.name)
            if special is not None:
                made = special(self, instr)
                if made is not None:
                    lines += made
                    continue
            if len(instr.outs) != 1:
                lines.append(self._several(instr))
                continue
            out = instr.outs[0]
            body = self.expression(instr)
            if self._inline(out, instr, body):
                self.pending[out] = body
                continue
            self._line(lines, self.named(out), body, self.notes.get(out, ""))
        return lines

    def _inline(self, out: Value, instr: Instr, body: ast.expr) -> bool:
        if out in self.names or out in self.crossing:
            return False
        if instr.op.name in ("swap",) or (instr.op.name in ("reshape", "expand") and instr.args[0] in self.like_number):
            return True
        if instr.op.name in _VIEWS and self.uses.get(out, 0) <= 2 and isinstance(body, (ast.Call, ast.Attribute)):
            return True
        return self.uses.get(out, 0) == 1 and len(ast.unparse(body)) < _WIDTH // 2 + 10

    def _line(self, lines: list[tuple[str, str]], name: str, body: ast.expr, note: str) -> None:
        lines.append((f"{name} = {ast.unparse(body)}", note))

    def _several(self, instr: Instr) -> tuple[str, str]:
        plain = len(instr.outs) - len(instr.op.residuals)
        wishes = ["t"] * plain + list(instr.op.residuals)
        targets = ", ".join(
            self.named(o, w) if self.uses.get(o) or o in self.names else "_"
            for o, w in zip(instr.outs, wishes, strict=True)
        )
        note = next((self.notes[o] for o in instr.outs if o in self.notes), "")
        return f"{targets}{',' if len(instr.outs) == 1 else ''} = {ast.unparse(self._call(instr))}", note


class _Plain(ast.NodeTransformer):
    """Without arguments that say what holds anyway: axis=None, keepdims=False; axis=(1,) is axis=1."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        kept: list[ast.keyword] = []
        for k in node.keywords:
            constant = k.value.value if isinstance(k.value, ast.Constant) else ...
            if k.arg in ("axis", "keepdims") and (constant is None or constant is False):
                continue
            if k.arg == "axis" and isinstance(k.value, ast.Tuple) and len(k.value.elts) == 1:
                k = ast.keyword(k.arg, k.value.elts[0])
            kept.append(k)
        node.keywords = kept
        return node


class _Fill(ast.NodeTransformer):
    def __init__(self, parts: dict[str, ast.expr]) -> None:
        self.parts = parts

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.parts.get(node.id, node)


def _setting(v: Any) -> str:
    if isinstance(v, np.dtype):
        return f"np.dtype({v.name!r})"
    if isinstance(v, float) and not np.isfinite(v):
        return {"inf": "np.inf", "-inf": "-np.inf"}.get(str(v), "np.nan")
    if isinstance(v, tuple):
        return "(" + ", ".join(_setting(k) for k in v) + ("," if len(v) == 1 else "") + ")"
    if isinstance(v, list):
        return "[" + ", ".join(_setting(k) for k in v) + "]"
    if v is Ellipsis:
        return "..."
    if isinstance(v, np.generic):
        return repr(v.item())
    if isinstance(v, np.ndarray):
        return _array_text(v)
    return repr(v)


def _array_text(a: np.ndarray[Any, Any]) -> str:
    """A constant array as source."""
    number = uniform(a)
    kind = f"np.{a.dtype.name}" if a.dtype.kind != "b" else "np.bool_"
    if not a.size:
        return f"np.zeros({a.shape}, {kind})"
    if number is not None:
        n = number.item()
        body = (
            _setting(n)
            if not isinstance(n, float)
            else (repr(int(n)) if np.isfinite(n) and n == int(n) else _setting(n))
        )
        if a.ndim == 0:
            return f"{kind}({body})"
        if n in (0, 1) and a.dtype.kind == "f" and not (n == 0 and np.signbit(number)):
            return f"np.{'ones' if n else 'zeros'}({a.shape}, {kind})"
        return f"np.full({a.shape}, {body}, {kind})"
    return f"np.array({_setting(a.tolist())}, {kind})"


# --- ops that are more than one line --------------------------------------------------------------------------------


def _cross_entropy(p: Printer, instr: Instr) -> list[tuple[str, str]] | None:
    """The usual case of the cross-entropy, written out: class numbers, no weights, nothing ignored, a mean."""
    x, target, weight = instr.args
    loss, probability, divisor = instr.outs
    if weight is not None or len(x.shape) != 2 or instr.params.get("reduction") != "mean":
        return None
    if divisor not in p.like_number or not isinstance(target, Value) or target not in p.names:
        return None
    logits, y = p.argument(x), p.names[target]
    first: list[tuple[str, str]] = []
    if isinstance(logits, ast.Name):
        z = logits.id
    else:  # an expression has to be computed once, and in brackets
        z = p.fresh("z")
        first.append((f"{z} = {ast.unparse(logits)}", f"{x.shape}  the logits"))
    n, s, e = p.names.setdefault(divisor, p.fresh("n")), p.fresh("s"), p.fresh("e")
    probs = p.names.setdefault(probability, p.fresh("p"))
    name = p.named(loss, "loss")
    classes = x.shape[1]
    lines = [
        *first,
        (f"{n} = len({z})", "the batch"),
        (f"{s} = {z} - {z}.max(axis=1, keepdims=True)", "softmax does not change, and exp cannot overflow"),
        (f"{e} = np.exp({s})", ""),
        (f"{probs} = {e} / {e}.sum(axis=1, keepdims=True)", f"{x.shape}  softmax: one distribution per row"),
        (f"{name} = (np.log({e}.sum(axis=1)) - {s}[np.arange({n}), {y}]).sum() / {n}", "()  mean of −log p[target]"),
    ]  # fmt: skip
    hot = next((i for i in p.program.instrs if i.op.name == "one_hot" and i.args[0] is target), None)
    if hot is not None and hot.params.get("dim") == 1:
        others = [i for i in p.program.instrs if target in i.values and i is not hot and i is not instr]
        if not others:
            p.names[hot.outs[0]] = y
            lines.append((f"{y} = np.eye({classes}, dtype={probs}.dtype)[{y}]", f"{x.shape}  one-hot rows"))
            p.hoisted.add(hot)  # type: ignore[attr-defined]
    return lines


def _one_hot(p: Printer, instr: Instr) -> list[tuple[str, str]] | None:
    return [] if instr in getattr(p, "hoisted", ()) else None


def _view_scatter(p: Printer, instr: Instr) -> list[tuple[str, str]] | None:
    """An in-place write through a view: copy, then store into the view."""
    x, v = instr.args
    op, params, output = instr.params["view"]
    out = instr.outs[0]
    name = p.named(out)
    if output is not None:
        return None
    part = Value(v.shape, v.dtype)
    view = Instr(op, (out,), dict(params), (part,))
    value = ast.unparse(p.argument(v))
    source = p.argument(x)
    text = ast.unparse(source)
    lines = [(f"{name} = {text if isinstance(source, ast.Name) else f'({text})'}.copy()", p.notes.get(out, ""))]
    lines.append((f"{ast.unparse(p.expression(view))}[...] = {value}", "the part that was written in place"))
    return lines


_STATEMENTS: dict[str, Any] = {"cross_entropy": _cross_entropy, "one_hot": _one_hot, "view_scatter": _view_scatter}
