"""Names in LaTeX: of variables, of entries, of derivatives, and of what has no name but how it was computed."""

from __future__ import annotations

import re

__all__ = ["tex_fraction", "tex_name", "tex_numbers"]

_ENTRY = re.compile(r"(.+)\[([^\]]+)\]")
_WORD = r"[^\W\d²³ᵀ](?:[^\W²³ᵀ]|\.(?=\w))*"
_PLAIN = re.compile(rf"(?:\d+\.)*{_WORD}")
_TOKEN = re.compile(rf"d(?P<above>{_WORD})/d(?P<below>{_WORD})|(?P<name>{_WORD})(?P<call>\(?)")
_FUNCTIONS = frozenset("sin cos tan sinh cosh tanh exp log ln arcsin arccos arctan".split())
_SIGNS = {
    "−": "-", "·": r"\cdot ", "ᵀ": r"^\top ", "⁻¹": "^{-1}", "√": r"\surd ", "∞": r"\infty ", "≥": r"\ge ",
    "≤": r"\le ", "≠": r"\ne ", "²": "^2", "³": "^3", "Σ": r"\sum ", "…": r"\dots ",
}  # fmt: skip


def tex_name(name: str) -> str:
    r"""A quantity or an entry of one: the index as a subscript, a derivative as one.

    >>> print(tex_name("W1[0,1]"), tex_name("(h W2)[0,0]"), tex_name("dL/dh[0,1]"))
    \mathrm{W1}_{0,1} (h \, \mathrm{W2})_{0,0} (\partial L / \partial h)_{0,1}
    """
    m = _ENTRY.fullmatch(name)
    stem, index = (m.group(1), m.group(2)) if m else (name, "")
    body = _stem(stem)
    if index and not _PLAIN.fullmatch(stem) and not (body.startswith("(") and body.endswith(")")):
        body = f"({body})"
    return f"{body}_{{{index}}}" if index else body


def _stem(stem: str) -> str:
    if _PLAIN.fullmatch(stem):
        return _word(stem)
    above, below = parts(_bare(stem))
    if below:
        return rf"\partial {tex_name(above)} / \partial {tex_name(below)}"
    body = re.sub(r"(?<=[\w\])ᵀ²³]) (?=[\w(√])", "\0", stem)  # a product without a dot
    body = _TOKEN.sub(_token, body).replace("\0", r" \, ")
    for plain, sign in _SIGNS.items():
        body = body.replace(plain, sign)
    return body


def _word(name: str) -> str:
    name = name.replace("_", r"\_")
    return name if len(name) == 1 else rf"\mathrm{{{name}}}"


def _token(m: re.Match[str]) -> str:
    if m["above"]:
        return rf"(\partial {_word(m['above'])} / \partial {_word(m['below'])})"
    return (rf"\{m['name']}" if m["call"] and m["name"] in _FUNCTIONS else _word(m["name"])) + m["call"]


def parts(derivative: str) -> tuple[str, str]:
    """What a derivative is of, and by: ``d(dL/dx)/dy`` is of dL/dx and by y; ("", "") for another name.

    >>> parts("d(dL/dW1[0,1])/d(dL/dh)"), parts("x / y"), parts("dL/dh · x")
    (('dL/dW1[0,1]', 'dL/dh'), ('', ''), ('', ''))
    """
    depth = cut = 0
    for k, c in enumerate(derivative):
        depth += (c == "(") - (c == ")")
        if not depth and c == " ":
            return "", ""
        if not depth and not cut and derivative.startswith("/d", k) and derivative.startswith("d"):
            cut = k
    return (_bare(derivative[1:cut]), _bare(derivative[cut + 2 :])) if cut else ("", "")


def _bare(name: str) -> str:
    """Without the brackets around the whole, if there are any."""
    depth = 0
    for k, c in enumerate(name):
        depth += (c == "(") - (c == ")")
        if not depth and k < len(name) - 1:
            return name
    return name[1:-1] if name.startswith("(") else name


def tex_fraction(derivative: str) -> str:
    r"""The derivative as a fraction.

    >>> print(tex_fraction("dL/dW1[0,1]"))
    \frac{\partial L}{\partial \mathrm{W1}_{0,1}}
    """
    above, below = parts(derivative)
    top = tex_name(above)
    if "/" in top and not _ENTRY.fullmatch(above):
        top = f"({top})"
    return rf"\frac{{\partial {top}}}{{\partial {tex_name(below)}}}"


def tex_numbers(body: str) -> str:
    """Printed numbers: the exponent as a power of ten."""
    body = re.sub(r"e(-?\d+)", r"\\cdot 10^{\1}", body.replace("−", "-"))
    for plain in ("·", "²", "³", "∞"):
        body = body.replace(plain, _SIGNS[plain])
    return body
