"""Whole quantities in mathematics: ``z1 = x W1 + b1``, and a rule with the user's names: ``dL/dW1 = xᵀ dL/dz1``."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from ..graph.replay import Quantity, Replay, Step
from .expression import Expr, number, parse, symbol, text
from .locals import _is_elementwise, _settings

__all__ = ["bracketed", "definition", "label", "root_label", "rule_text"]


def root_label(replay: Replay) -> str:
    """What stands above the fraction line: the root's own name, L for anything called loss."""
    name = replay.root.name
    return "L" if name is None or name.lower() in ("loss", "l") else name


def label(q: Any, replay: Replay | None = None) -> str:
    """A quantity's name, or how it was computed."""
    if not isinstance(q, Quantity):
        return f"{q:g}" if isinstance(q, float) else str(q)
    if replay is not None and q is replay.root:
        return root_label(replay)
    if q.name is not None:
        return q.name
    for depth in (5, 4, 3):
        body = text(_expr(q, depth))
        body = body[1:-1] if _wrapped(body) else body
        if len(body) <= 48 or q.maker is None:
            return body
    return f"{q.maker.op.name}{q.maker.index}"  # too long to be a name


def _wrapped(body: str) -> bool:
    """Whether one pair of brackets encloses the whole text."""
    if not (body.startswith("(") and body.endswith(")")):
        return False
    depth = 0
    for k, c in enumerate(body):
        depth += (c == "(") - (c == ")")
        if not depth:
            return k == len(body) - 1
    return False


def bracketed(name: str) -> str:
    """In brackets, unless it is one word: ``d(x²)/dx``.

    >>> bracketed("0.weight"), bracketed("x²"), bracketed("h W2")
    ('0.weight', '(x²)', '(h W2)')
    """
    return name if re.fullmatch(r"(?:\d+\.)*[^\W\d²³][\w.]*(?<![²³])(?:\[[\d,]+\])?", name) else f"({name})"


def definition(q: Quantity) -> str:
    """The right-hand side of the quantity's equation."""
    assert q.maker is not None
    return text(_made(q.maker, 4))


def _expr(q: Any, depth: int) -> Expr:
    if not isinstance(q, Quantity):
        return number(float(q)) if isinstance(q, (int, float)) else symbol(str(q), 0)
    if q.name is not None:
        return symbol(q.name, 0)
    if q.maker is None:
        if q.array.size == 1:
            return number(float(q.array.reshape(-1)[0]))
        flat = q.array.reshape(-1)
        if flat.size and (flat == flat[0]).all():
            return number(float(flat[0]))
        return symbol(f"const{list(q.array.shape)}", 0)
    if depth <= 0:
        return symbol(f"{q.maker.op.name}{q.maker.index}", 0)
    made = _made(q.maker, depth - 1)
    if made.kind == "sym" and re.search(r" [+−] ", made.name):
        return symbol(f"({made.name})", 0)
    return made


def _made(step: Step, depth: int) -> Expr:
    op = step.op
    children: dict[str, Any] = {}
    if op.variadic:
        children[op.inputs[0]] = symbol(", ".join(text(_expr(q, depth)) for q in step.args), 0)
    else:
        for name, q in zip(op.inputs, step.args, strict=False):
            children[name] = None if q is None else _expr(q, depth)
    template = op.formula or f"{op.name}({', '.join('{' + n + '}' for n in op.inputs)})"
    for name in [n for n, e in children.items() if e is None]:
        template = re.sub(rf" [+·] \{{{name}\}}|, \{{{name}\}}|\{{{name}\}}", "", template)
    children = {n: e for n, e in children.items() if e is not None}
    if op.name in ("cast", "clone"):
        return children["x"]
    if _is_elementwise(step):
        try:
            source = template
            for name in children:
                source = source.replace(f"{{{name}}}", f"({name})")
            settings = {s: number(float(v)) for s, v in _settings(step).items() if isinstance(v, (int, float))}
            for name in settings:
                source = source.replace(f"{{{name}}}", f"({name})")
            return parse(source, {**settings, **children})
        except ValueError:
            pass
    out = template
    for name, e in children.items():
        body = text(e)
        inside = f"({{{name}}})" in out or f"({{{name}}}," in out or f" {{{name}}})" in out or f"[{{{name}}}]" in out
        if not inside and not out.startswith(f"{op.name}(") and (" " in body or body.startswith("−")):
            body = body if re.fullmatch(r"\([^()]*\)", body) else f"({body})"
        out = out.replace(f"{{{name}}}", body)
    for name, v in _settings(step).items():
        text_of = ", ".join(_key(k) for k in v) if name == "key" and isinstance(v, tuple) else _setting(v)
        out = out.replace(f"{{{name}}}", text_of)
    return symbol(_tidy(out), 0)


def _tidy(body: str) -> str:
    """Without brackets directly inside of brackets.

    >>> _tidy("((x + (a b)))[0] ((c) (d))")
    '(x + (a b))[0] ((c) (d))'
    """
    opened: list[int] = []
    closing: dict[int, int] = {}
    for k, c in enumerate(body):
        if c == "(":
            opened.append(k)
        elif c == ")" and opened:
            closing[opened.pop()] = k
    twice = {k for k, end in closing.items() if closing.get(k + 1) == end - 1}
    dropped = twice | {closing[k] for k in twice}
    return "".join(c for k, c in enumerate(body) if k not in dropped)


def _setting(v: Any) -> str:
    if (isinstance(v, tuple) and any(isinstance(k, slice) or k is Ellipsis or k is None for k in v)) or isinstance(
        v, slice
    ):
        return ", ".join(_key(k) for k in (v if isinstance(v, tuple) else (v,)))
    return getattr(v, "name", None) or str(v)


def _key(k: Any) -> str:
    if isinstance(k, slice):
        body = f"{'' if k.start is None else k.start}:{'' if k.stop is None else k.stop}"
        return body if k.step in (None, 1) else f"{body}:{k.step}"
    return "…" if k is Ellipsis else str(k)


_WORD = re.compile(r"[^\W\d²³]\w*\u0304?|\w")


def rule_text(step: Step, i: int, replay: Replay) -> str:
    """The rule in whole-array form with the user's names, e.g. ``dL/dW1 = xᵀ dL/dz1``."""
    op = step.op
    rule = op.rules[0 if op.variadic else i]
    assert rule is not None
    top = root_label(replay)
    top = f"({top})" if "/" in top else top
    below = label(step.args[i], replay)
    target = f"d{top}/d{bracketed(below)}"
    right = unicodedata.normalize("NFD", rule.math.split("=", 1)[-1].strip())
    names = {n: label(q, replay) for n, q in zip(op.inputs, step.args, strict=False) if q is not None}
    if op.variadic:
        names = {}
    out = label(step.out, replay)
    out = bracketed(out)
    single = len(op.inputs) == 1
    bars = {"y\u0304" if single else "z\u0304": f"d{top}/d{out}", "z\u0304": f"d{top}/d{out}"}
    if "z\u0304" not in right:
        bars["y\u0304"] = f"d{top}/d{out}"
    outputs = {"out", "y"} if single or ("z\u0304" not in right and "y" not in op.inputs) else {"out", "z"}

    def word(m: re.Match[str]) -> str:
        w = m.group(0)
        if w in bars:
            return bars[w]
        if w in names:
            body = names[w]
            return bracketed(body)
        if w in outputs:
            return out
        return w

    body = unicodedata.normalize("NFC", re.sub(r"[^\W\d_²³ᵀ](?:[A-Za-z0-9_]*)\u0304?", word, right))
    return f"{target} = {body}"
