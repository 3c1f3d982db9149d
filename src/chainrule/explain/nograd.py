"""``why_no_grad``: the place where the gradient on its way to a tensor was cut.

A cut leaves no trace in the graph: that is what a cut is. So the graph says *that* x is not behind the loss, and the
user's source says where: its assignments are followed from x to the loss, and the first expression that breaks the
chain (detach, .data, .item(), an integer cast, a comparison, no_grad …) is named with its line.
"""

from __future__ import annotations

# ruff: noqa: E501 - sentences
import ast
import linecache
import os
import sys
from types import FrameType
from typing import Any

from ..core.dtypes import FLOATS
from ..core.inplace import version
from ..core.locate import user_frame
from ..core.variable import Variable
from ..graph.replay import reachable

__all__ = ["Cut", "why_no_grad"]

_METHODS = {
    "detach": "detach() takes the tensor out of the graph", "item": ".item() makes it a Python number",
    "numpy": ".numpy() makes it a NumPy array", "tolist": ".tolist() makes it Python numbers",
    "long": ".long() rounds it to integers, which carry no gradient", "int": ".int() rounds it to integers",
    "bool": ".bool() makes it true or false", "argmax": "argmax gives positions, which carry no gradient",
    "argmin": "argmin gives positions, which carry no gradient", "argsort": "argsort gives positions",
    "round": "", "clone": "",
}  # fmt: skip
_FUNCTIONS = {
    "float": "float() makes it a Python number", "int": "int() makes it a Python number", "tensor": "tensor(…) copies the values, not the history",
    "as_tensor": "", "array": "it becomes a NumPy array", "asarray": "it becomes a NumPy array", "argmax": _METHODS["argmax"],
    "argmin": _METHODS["argmin"], "bool": "bool() makes it true or false",
}  # fmt: skip
_FIX = {
    "detach": "Leave out .detach().", "data": "Use the tensor itself instead of .data.", "no_grad": "Move the line out of the no_grad block.",
    "compare": "A comparison has derivative 0 everywhere: use a smooth function (sigmoid), or torch.where with it.",
    "number": "Keep it a tensor until after backward().", "integer": "Keep it floating point; index with it only where no gradient is needed.",
    "tensor": "Use the tensor itself, or torch.stack for a list of tensors.",
}  # fmt: skip


class Cut(str):
    """One sentence that says where and why; ``.reason`` is one word, ``.line`` the number, ``.source`` the line's text."""

    reason: str
    line: int | None
    source: str


def _cut(reason: str, text: str, where: tuple[str, int] | None = None, fix: str = "") -> Cut:
    source = linecache.getline(*where).strip() if where else ""
    place = f"\n  At {os.path.basename(where[0])}:{where[1]}: {source}" if where else ""
    made = Cut(text + place + (f"\n  {fix}" if fix else ""))
    made.reason, made.line, made.source = reason, where[1] if where else None, source
    return made


def why_no_grad(x: Any, loss: Any = None) -> Cut:
    """Say why ``x.grad`` is None: which edge on the way from ``x`` to the loss does not carry a gradient.

    Args:
        x: the tensor without gradient.
        loss: the scalar that should depend on it; left out, the calling code is followed to its last use of x.

    >>> import chainrule as torch
    >>> print(why_no_grad(torch.tensor(1.0)))
    this tensor does not require grad: requires_grad was never set
      Create it with requires_grad=True, or call .requires_grad_() before computing with it.
    """
    if not isinstance(x, Variable):
        raise TypeError(f"a tensor is needed, not {type(x).__name__}")
    frame = user_frame(sys._getframe(1))
    name = _name(x, frame)
    me = name or "this tensor"
    if x._array.dtype not in FLOATS:
        return _cut("integer", f"{me} is {x._array.dtype.name}: only floating point tensors carry gradients",
                    fix="Convert it before computing with it: x.float().requires_grad_().")  # fmt: skip
    if not x._requires:
        made = _last_assignment(name, frame)
        if made is not None:
            return made
        return _cut("requires_grad", f"{me} does not require grad: requires_grad was never set",
                    fix="Create it with requires_grad=True, or call .requires_grad_() before computing with it.")  # fmt: skip
    if loss is not None and isinstance(loss, Variable) and loss._requires and _behind(x, loss):
        if x._node is not None and not x._retains:
            return _cut("not a leaf", f"{me} is not a leaf: backward() keeps gradients of leaves only",
                        fix=f"Call {name or 'x'}.retain_grad() before backward().")  # fmt: skip
        state = (
            "it has one" if x._grad is not None else "backward() has not run yet, or zero_grad() removed the gradient"
        )
        return _cut("none", f"{me} is behind the loss and can get a gradient: {state}")
    if x._node is not None and loss is None:
        return _cut("not a leaf", f"{me} is not a leaf: backward() keeps gradients of leaves only",
                    fix=f"Call {name or 'x'}.retain_grad() before backward().")  # fmt: skip
    if x._grad is not None and loss is None:
        return _cut("none", f"{me} has a gradient")
    found = _followed(name, frame, _name(loss, frame) if loss is not None else None)
    if found is not None:
        return found
    if version(x._array) > 0:
        return _cut(
            "overwritten", f"{me} was overwritten in place after it was used", fix="Write to a new tensor instead."
        )
    return _cut(
        "unused",
        f"{me} is not used in computing {'the loss' if loss is not None else 'anything that backward() ran on'}",
    )


def _behind(x: Any, loss: Any) -> bool:
    if loss is x:
        return True
    for node in reachable(loss):
        if x._node is not None and node is (x._node[0] if type(x._node) is tuple else x._node):
            return True
        if any(e is x for e in node.edges):
            return True
    return False


def _name(x: Any, frame: FrameType | None) -> str | None:
    if frame is None or x is None:
        return None
    for scope in (frame.f_locals, frame.f_globals):
        for name, v in scope.items():
            if v is x and not name.startswith("_"):
                return name
    return None


# --- following the source ------------------------------------------------------------------------------------------


def _scope(frame: FrameType) -> tuple[str, ast.Module, list[ast.stmt]] | None:
    """The file, its syntax tree, and the statements of the code that is running."""
    filename = frame.f_code.co_filename
    text = "".join(linecache.getlines(filename))
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == frame.f_code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == frame.f_code.co_firstlineno:
                return filename, tree, node.body
    return filename, tree, tree.body


class _Follower:
    """Follows which variables carry the gradient of the first one, statement by statement."""

    def __init__(self, filename: str, tree: ast.Module, start: set[str]) -> None:
        self.filename = filename
        self.functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        self.live = set(start)
        self.cuts: dict[str, Cut] = {}
        self.first: Cut | None = None
        self.used = False
        self.depth = 0

    def block(self, body: list[ast.stmt], no_grad: bool = False) -> None:
        for s in body:
            if isinstance(s, (ast.With, ast.AsyncWith)):
                off = any(
                    "no_grad" in ast.unparse(i.context_expr) or "inference_mode" in ast.unparse(i.context_expr)
                    for i in s.items
                )
                self.block(s.body, no_grad or off)
            elif isinstance(s, (ast.For, ast.While, ast.If)):
                self.block(s.body, no_grad)
                self.block(s.orelse, no_grad)
            elif isinstance(s, ast.Try):
                self.block(s.body, no_grad)
            elif isinstance(s, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and s.value is not None:
                self.assign(s, no_grad)
            elif isinstance(s, ast.Return) and s.value is not None:
                self.result(s.value, no_grad)

    def assign(self, s: Any, no_grad: bool) -> None:
        targets = s.targets if isinstance(s, ast.Assign) else [s.target]
        names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        carried, cut = self.carries(s.value, no_grad)
        for name in names:
            if carried:
                self.live.add(name)
                self.cuts.pop(name, None)
            elif cut is not None:
                self.cuts[name] = cut
                self.first = self.first or cut
                self.live.discard(name)

    def result(self, value: ast.expr, no_grad: bool) -> None:
        carried, cut = self.carries(value, no_grad)
        self.returned = (carried, cut)

    returned: tuple[bool, Cut | None] = (False, None)

    def carries(self, e: ast.AST, no_grad: bool) -> tuple[bool, Cut | None]:
        """Whether the expression carries the gradient; if a live variable goes in and none comes out, the cut."""
        if isinstance(e, ast.Name):
            if e.id in self.live:
                self.used = True
                return (
                    (False, self.cut("no_grad", "computed under no_grad(), nothing was recorded", e))
                    if no_grad
                    else (True, None)
                )
            return False, self.cuts.get(e.id)
        carried, cut = False, None
        if isinstance(e, ast.Call) and isinstance(e.func, ast.Name) and e.func.id in self.functions and self.depth < 4:
            return self.called(self.functions[e.func.id], e, no_grad)
        for child in ast.iter_child_nodes(e):
            c, k = self.carries(child, no_grad)
            carried, cut = carried or c, cut or k
        if not carried:
            return False, cut
        if isinstance(e, ast.Compare):
            return False, self.cut("compare", "a comparison gives true or false, which carry no gradient", e)
        if isinstance(e, ast.Attribute) and e.attr == "data":
            return False, self.cut("data", ".data is the memory without its history", e)
        if isinstance(e, ast.Call):
            name = e.func.attr if isinstance(e.func, ast.Attribute) else getattr(e.func, "id", "")
            on_tensor = isinstance(e.func, ast.Attribute) and self.carries(e.func.value, False)[0]
            text = _METHODS.get(name, "") if on_tensor else _FUNCTIONS.get(name, "")
            if not text and name in ("to", "type") and any(k in ast.unparse(e) for k in ("int", "long", "bool")):
                text = "a cast to integers carries no gradient"
            if text:
                word = {"detach": "detach", "tensor": "tensor"}.get(
                    name, "integer" if "integer" in text or "position" in text else "number"
                )
                return False, self.cut(word, text, e)
        return True, None

    def called(self, function: ast.FunctionDef, e: ast.Call, no_grad: bool) -> tuple[bool, Cut | None]:
        """A call of a function in the same file: follow its body with the arguments that are live."""
        parameters = [a.arg for a in function.args.args]
        live, cut = set(), None
        for p, a in [*zip(parameters, e.args, strict=False), *((k.arg, k.value) for k in e.keywords)]:
            carried, k = self.carries(a, no_grad)
            cut = cut or k
            if carried and p:
                live.add(p)
        if not live:
            return False, cut
        inner = _Follower(self.filename, ast.Module([], []), live)
        inner.functions = self.functions
        inner.depth = self.depth + 1
        off = no_grad or any("no_grad" in ast.unparse(d) for d in function.decorator_list)
        inner.block(function.body, off)
        carried, k = inner.returned
        return carried, k or inner.first

    def cut(self, reason: str, text: str, e: Any) -> Cut:
        return _cut(reason, f"the gradient is cut: {text}", (self.filename, e.lineno), _FIX.get(reason, ""))


def _followed(name: str | None, frame: FrameType | None, loss: str | None) -> Cut | None:
    if name is None or frame is None:
        return None
    scope = _scope(frame)
    if scope is None:
        return None
    filename, tree, body = scope
    follower = _Follower(filename, tree, {name})
    follower.block(body)
    if loss is not None and loss in follower.cuts:
        return follower.cuts[loss]
    return follower.first


def _last_assignment(name: str | None, frame: FrameType | None) -> Cut | None:
    """For a tensor that does not require grad: the assignment that gave it its name may be the cut itself."""
    if name is None or frame is None:
        return None
    scope = _scope(frame)
    if scope is None:
        return None
    filename, tree, body = scope
    found: Cut | None = None
    leaves = {
        k
        for k, v in {**frame.f_globals, **frame.f_locals}.items()
        if isinstance(v, Variable) and v._requires and k != name
    }
    if not leaves:
        return None
    follower = _Follower(filename, tree, leaves)
    follower.block(body)
    found = follower.cuts.get(name)
    return found
