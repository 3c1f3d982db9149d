"""Small formulas: parsed from an op's mathematics, filled in, simplified, printed with names or numbers, evaluated.

    e = parse("ȳ · (1 − y²)", {"ȳ": number(1), "y": symbol("a", 0.6)})
    text(e)      1 − a²
    numbers(e)   1 − 0.600000²
    e.value      0.64

The grammar is that of the rules' ``math``: numbers, names (also ``W1[0,1]``, ``fc1.weight``), + − · / ^ ² ³, implicit
products (``2y``, ``2(a − y)``), functions, |x|, √x, and [conditions], which are 1 or 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .tex import tex_name

__all__ = ["Expr", "evaluate", "latex", "number", "numbers", "parse", "symbol", "text", "times"]


class Expr(NamedTuple):
    """A formula: its kind, its parts, and its value. For "num" and "sym" ``name`` is what is printed."""

    kind: str  # num sym neg add mul div pow fn cond
    parts: tuple[Any, ...]
    value: float
    name: str = ""


_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh,
    "arcsin": math.asin, "arccos": math.acos, "arctan": math.atan, "asin": math.asin, "acos": math.acos,
    "atan": math.atan, "asinh": math.asinh, "acosh": math.acosh, "atanh": math.atanh, "erf": math.erf,
    "exp": math.exp, "log": math.log, "ln": math.log, "√": math.sqrt, "sqrt": math.sqrt, "abs": abs,
    "log2": math.log2, "log10": math.log10, "log1p": math.log1p, "expm1": math.expm1,
    "sign": lambda x: (x > 0) - (x < 0), "σ": lambda x: 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x)),
    "relu": lambda x: max(x, 0.0), "Γ": math.gamma,
}  # fmt: skip
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b, "<": lambda a, b: a < b, "≥": lambda a, b: a >= b, "≤": lambda a, b: a <= b,
    "=": lambda a, b: a == b, "≠": lambda a, b: a != b,
}  # fmt: skip


def _safe(f: Callable[..., Any], *args: float) -> float:
    try:
        return float(f(*args))
    except (ValueError, OverflowError, ZeroDivisionError):
        return math.nan


def number(v: float, name: str = "") -> Expr:
    return Expr("num", (), float(v), name)


def symbol(name: str, value: float) -> Expr:
    return Expr("sym", (), float(value), name)


def _is(e: Expr, v: float) -> bool:
    return e.kind == "num" and e.value == v


def negative(a: Expr) -> Expr:
    if a.kind == "num":
        return number(-a.value)
    return a.parts[0] if a.kind == "neg" else Expr("neg", (a,), -a.value)


def plus(a: Expr, b: Expr) -> Expr:
    if a.kind == "num" and b.kind == "num":
        return number(a.value + b.value)
    if _is(a, 0):
        return b
    if _is(b, 0):
        return a
    return Expr("add", (*(a.parts if a.kind == "add" else (a,)), b), a.value + b.value)


def times(*factors: Expr) -> Expr:
    """The product; numbers are multiplied together and stand first, ones vanish, signs move to the front."""
    flat: list[Expr] = []
    coefficient, sign = 1.0, 1
    for f in factors:
        if f.kind == "neg":
            sign, f = -sign, f.parts[0]
        for part in f.parts if f.kind == "mul" else (f,):
            if part.kind == "neg":
                sign, part = -sign, part.parts[0]
            if part.kind == "num":
                coefficient *= part.value
            else:
                flat.append(part)
    if coefficient < 0:
        coefficient, sign = -coefficient, -sign
    value = coefficient * math.prod(p.value for p in flat)
    if coefficient == 0:
        return number(0)
    if coefficient != 1 or not flat:
        flat.insert(0, number(coefficient))
    made = flat[0] if len(flat) == 1 else Expr("mul", tuple(flat), value)
    return negative(made) if sign < 0 else made


def over(a: Expr, b: Expr) -> Expr:
    if _is(b, 1):
        return a
    if a.kind == "neg":
        return negative(over(a.parts[0], b))
    return Expr("div", (a, b), a.value / b.value if b.value else math.nan)


def power(a: Expr, b: Expr) -> Expr:
    if _is(b, 1):
        return a
    if _is(b, 0):
        return number(1)
    return Expr("pow", (a, b), _safe(lambda x, y: x**y, a.value, b.value))


def function(name: str, a: Expr) -> Expr:
    return Expr("fn", (a,), _safe(_FUNCTIONS[name], a.value), name)


# --- reading -----------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(?:(?P<num>\d+\.?\d*(?:[eE][+\-−]?\d+)?)|(?P<name>[^\W\d²³](?:[^\W²³]|[̄′.])*(?:\[[\w\s,:]+\])?)"
    r"|(?P<op>[-+−·*/^()|\[\]<>≥≤=≠²³√,]|⁻¹))"
)


class _Parser:
    def __init__(self, source: str, names: Mapping[str, Expr]) -> None:
        self.names = names
        self.tokens: list[tuple[str, str]] = []
        at = 0
        source = source.strip()
        while at < len(source):
            m = _TOKEN.match(source, at)
            if m is None or m.end() == at:
                raise ValueError(f"not a formula: {source!r} (at {source[at:]!r})")
            kind = m.lastgroup or "op"
            self.tokens.append((kind, m.group(kind)))
            at = m.end()
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if expected and token != expected:
            raise ValueError(f"expected {expected!r}, found {token!r}")
        self.at += 1
        return token

    def whole(self) -> Expr:
        e = self.sum()
        if self.at != len(self.tokens):
            raise ValueError(f"not a formula: left over {self.peek()!r}")
        return e

    def sum(self) -> Expr:
        e = self.product()
        while self.peek() in ("+", "-", "−"):
            sign = self.take()
            b = self.product()
            e = plus(e, b if sign == "+" else negative(b))
        return e

    def product(self) -> Expr:
        if self.peek() in ("-", "−"):
            self.take()
            return negative(self.product())
        e = self.factor()
        while self.peek():
            if self.peek() in ("·", "*"):
                self.take()
                e = times(e, self.signed())
            elif self.peek() == "/":
                self.take()
                e = over(e, self.signed())
            elif self.peek() in ("(", "√") or (
                self.tokens[self.at][0] in ("name", "num") and self.tokens[self.at - 1][1] not in ("/",)
            ):
                e = times(e, self.factor())
            else:
                break
        return e

    def signed(self) -> Expr:
        if self.peek() in ("-", "−"):
            self.take()
            return negative(self.signed())
        return self.factor()

    def factor(self) -> Expr:
        e = self.atom()
        while self.peek() in ("²", "³", "^", "⁻¹"):
            token = self.take()
            if token == "^":
                e = power(e, self.signed())
            else:
                e = power(e, number({"²": 2, "³": 3, "⁻¹": -1}[token]))
        return e

    def atom(self) -> Expr:
        kind = self.tokens[self.at][0] if self.at < len(self.tokens) else ""
        token = self.take()
        if kind == "num":
            return number(float(token.replace("−", "-")))
        if token == "(":
            e = self.sum()
            self.take(")")
            return e
        if token == "|":
            e = self.sum()
            self.take("|")
            return function("abs", e)
        if token == "[":
            a = self.sum()
            relation = self.take()
            if relation not in _COMPARE:
                raise ValueError(f"not a condition: {relation!r}")
            b = self.sum()
            self.take("]")
            return Expr("cond", (a, b), float(_COMPARE[relation](a.value, b.value)), relation)
        if token == "√":
            return function("√", self.factor())
        if token in _FUNCTIONS and token not in self.names:
            if self.peek() == "(":
                self.take("(")
                e = self.sum()
                self.take(")")
                return function(token, e)
            if self.peek() in ("²", "³"):  # sin²(x)
                exponent = self.take()
                self.take("(")
                e = self.sum()
                self.take(")")
                return power(function(token, e), number(2 if exponent == "²" else 3))
            return function(token, self.factor())
        if token in self.names:
            return self.names[token]
        if token == "π":
            return symbol("π", math.pi)
        raise ValueError(f"unknown name {token!r}")


def parse(source: str, names: Mapping[str, Expr]) -> Expr:
    """Read a formula; ``names`` says what the names stand for.

    Raises:
        ValueError: when it is not one.
    """
    return _Parser(source, names).whole()


class _Anything(dict[str, Expr]):
    def __init__(self, values: Mapping[str, float]) -> None:
        super().__init__({k: symbol(k, v) for k, v in values.items()})


def evaluate(source: str, values: Mapping[str, float] | None = None) -> float:
    """The value of a printed formula: how the tests recompute every equation.

    >>> evaluate("2(0.5) · (−3) + x[0,1]²", {"x[0,1]": 2.0})
    1.0
    """
    return parse(source, _Anything(values or {})).value


# --- writing -----------------------------------------------------------------------------------------------------

_SUM, _PRODUCT, _POWER, _ATOM = 1, 2, 3, 4


def shown(v: float, digits: int = 6) -> str:
    """A number as explanations print it: 6 decimals, whole numbers bare, a real minus sign."""
    if v != v:
        return "NaN"
    if math.isinf(v):
        return "∞" if v > 0 else "−∞"
    if v == int(v) and abs(v) < 1e9:
        body = str(abs(int(v)))
    elif 1e-3 <= abs(v) < 1e6:
        body = f"{abs(v):.{digits}f}"
    else:
        body = f"{abs(v):.{digits}e}"
        mantissa, exponent = body.split("e")
        body = f"{mantissa}e{'−' if exponent[0] == '-' else ''}{exponent[1:].lstrip('0') or '0'}"
    return f"−{body}" if v < 0 else body


def _constant(v: float) -> str:
    """A number of the formula itself: 0.5 rather than 0.500000."""
    short = f"{abs(v):.6g}"
    if math.isfinite(v) and float(short) == abs(v) and "e" not in short:
        return f"−{short}" if v < 0 else short
    return shown(v)


def _level(e: Expr) -> int:
    if e.kind in ("add", "neg") or (e.kind == "num" and e.value < 0):
        return _SUM
    if e.kind in ("mul", "div"):
        return _PRODUCT
    return _POWER if e.kind == "pow" else _ATOM


def _word(e: Expr) -> bool:
    """A name that may stand before a bracket: a(1 − a), but dL/dh · (1 − a)."""
    return e.kind == "sym" and "/" not in e.name


class _Style:
    """How to write atoms: by name or by number, in Unicode or LaTeX."""

    def __init__(self, by_number: bool, tex: bool) -> None:
        self.by_number = by_number
        self.tex = tex

    def write(self, e: Expr, above: int = 0) -> str:
        body = self.body(e)
        if (self.by_number and e.kind in ("sym", "fn", "cond")) or (e.kind == "num" and not self.by_number):
            return f"({body})" if body.startswith("−") and above > 0 else body
        return f"({body})" if _level(e) < above or (_level(e) == above and e.kind == "pow") else body

    def body(self, e: Expr) -> str:
        kind = e.kind
        if kind == "num":
            return e.name or _constant(e.value)
        if self.by_number and kind in ("sym", "fn", "cond"):
            return shown(e.value)
        if kind == "sym":
            return tex_name(e.name) if self.tex else e.name
        if kind == "neg":
            return "−" + self.write(e.parts[0], _PRODUCT)
        if kind == "add":
            out = self.write(e.parts[0], _SUM)
            for p in e.parts[1:]:
                if p.kind == "num" and p.value < 0 and not p.name:
                    out += " − " + _constant(-p.value)
                elif p.kind == "neg":
                    out += " − " + self.write(p.parts[0], _PRODUCT)
                else:
                    out += " + " + self.write(p, _SUM)
            return out
        if kind == "mul":
            return self.product(e.parts)
        if kind == "div":
            if self.tex:
                return rf"\frac{{{self.write(e.parts[0])}}}{{{self.write(e.parts[1])}}}"
            return f"{self.write(e.parts[0], _PRODUCT)} / {self.write(e.parts[1], _POWER)}"
        if kind == "pow":
            base, exponent = e.parts
            inner = self.write(base, _POWER + 1)
            if self.by_number and base.kind == "sym":
                inner = f"({shown(base.value)})" if base.value < 0 else shown(base.value)
            if _is(exponent, 2) or _is(exponent, 3):
                return inner + ("²" if exponent.value == 2 else "³")
            if self.tex:
                return f"{inner}^{{{self.write(exponent)}}}"
            return f"{inner}^{self.write(exponent, _ATOM)}"
        if kind == "cond":
            return f"[{self.write(e.parts[0])} {e.name} {self.write(e.parts[1])}]"
        if e.name == "abs":
            return f"|{self.write(e.parts[0])}|"
        if e.name == "√":
            return rf"\sqrt{{{self.write(e.parts[0])}}}" if self.tex else f"√({self.write(e.parts[0])})"
        name = {"σ": r"\sigma", "log": r"\log", "exp": r"\exp"}.get(e.name, rf"\{e.name}") if self.tex else e.name
        return f"{name}({self.write(e.parts[0])})"

    def product(self, parts: tuple[Expr, ...]) -> str:
        """Numbers and brackets stick to their neighbours (2y, a(1 − a)); everything else gets a dot."""
        out = ""
        for k, p in enumerate(parts):
            piece = self.write(p, _PRODUCT)
            bare = self.by_number and p.kind in ("sym", "fn", "cond") and not piece.startswith("(")
            if k and bare and parts[k - 1].kind == "num":
                piece = f"({piece})"
            if not k:
                out = piece
            elif (
                parts[k - 1].kind == "num"
                and parts[k - 1].value == int(min(parts[k - 1].value, 1e6))
                and (piece[0] == "(" or (p.kind in ("sym", "pow") and not piece[0].isdigit()))
            ) or (p.kind == "add" and _word(parts[k - 1]) and k == len(parts) - 1 and not self.by_number):
                out += piece
            else:
                out += " · " + piece
        return out


def text(e: Expr, above: int = 0) -> str:
    """With names, in Unicode."""
    return _Style(False, False).write(e, above)


def numbers(e: Expr, above: int = 0) -> str:
    """With numbers in the names' places."""
    return _Style(True, False).write(e, above)


def latex(e: Expr, above: int = 0) -> str:
    """With names, in LaTeX."""
    return (
        _Style(False, True)
        .write(e, above)
        .replace("−", "-")
        .replace("·", r"\cdot ")
        .replace("²", "^2")
        .replace("³", "^3")
    )
