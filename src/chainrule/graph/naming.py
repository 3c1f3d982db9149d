"""What the user calls things: names for tensors, read from the source line that made them.

A node knows the instruction that made it (file, line and columns). The syntax tree of that line says what the result
is assigned to and what the operands are called. Parameters of modules have their dotted names; tensors that the
caller still holds are found by identity in its variables.
"""

from __future__ import annotations

import ast
import functools
import keyword
import linecache
import re
from typing import Any

import numpy as np

from ..core import variable
from ..core.locate import Place
from ..core.variable import Variable
from .replay import Quantity, Replay, Step, hints

__all__ = ["assign_names", "identifier", "target_name"]


class _Line:
    """The expressions of one file by span, with their parents."""

    def __init__(self, text: str) -> None:
        self.spans: dict[tuple[int, int, int, int], ast.AST] = {}
        self.parents: dict[ast.AST, ast.AST] = {}
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            return
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
            if isinstance(node, (ast.expr, ast.stmt)):
                span = (node.lineno, node.end_lineno or node.lineno, node.col_offset, node.end_col_offset or 0)
                self.spans.setdefault(span, node)


@functools.lru_cache(maxsize=32)
def _parsed(filename: str, size: int) -> _Line:
    return _Line("".join(linecache.getlines(filename)))


def _file(filename: str) -> _Line:
    return _parsed(filename, len(linecache.getlines(filename)))


def _expression(place: Place | None) -> tuple[_Line, ast.AST] | None:
    if place is None or place.column is None or place.end_column is None:
        return None
    file = _file(place.filename)
    node = file.spans.get((place.line, place.end_line, place.column, place.end_column))
    return None if node is None else (file, node)


@functools.lru_cache(maxsize=65536)
def target_name(place: Place | None) -> str | None:
    """The variable that the expression at ``place`` is assigned to, if it is the whole right-hand side."""
    found = _expression(place)
    if found is None:
        return None
    file, node = found
    if isinstance(node, ast.AugAssign):
        return _text(node.target)
    parent = file.parents.get(node)
    if isinstance(parent, ast.Assign) and parent.value is node and len(parent.targets) == 1:
        return _text(parent.targets[0])
    if isinstance(parent, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)) and parent.value is node:
        return _text(parent.target)
    return None


def _text(node: ast.AST) -> str | None:
    """A name, ``self.W`` as W, ``params["W1"]`` as W1; None for anything that is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        if node.attr == "T" or node.attr in ("data", "grad"):
            return None
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            return node.attr
        base = _text(node.value)
        return node.attr if base is None else f"{base}.{node.attr}"
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return node.slice.value if node.slice.value.isidentifier() else None
    return None


@functools.lru_cache(maxsize=65536)
def _operands(place: Place | None, count: int) -> list[str | None]:
    """The names of the operands of the expression at ``place``, as far as they are plain names."""
    found = _expression(place)
    names: list[str | None] = [None] * count
    if found is None:
        return names
    _, node = found
    parts: list[ast.AST] = []
    if isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
    elif isinstance(node, ast.AugAssign):
        parts = [node.target, node.value]
    elif isinstance(node, ast.UnaryOp):
        parts = [node.operand]
    elif isinstance(node, (ast.Subscript, ast.Attribute)):
        parts = [node.value]
    elif isinstance(node, ast.Compare):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.Call):
        parts = list(node.args)
        # x.relu() has a tensor before the dot; F.relu(x) and self.layer(x) do not.
        if (
            isinstance(node.func, ast.Attribute)
            and hasattr(tensor_type(), node.func.attr)
            and not _is_module(node.func.value)
        ):
            parts.insert(0, node.func.value)
        if any(isinstance(p, ast.Starred) for p in parts):
            parts = []
        if len(parts) == 1 and isinstance(parts[0], (ast.List, ast.Tuple)):
            parts = list(parts[0].elts)
    for i, part in enumerate(parts[:count]):
        names[i] = _text(part)
    return names


def _is_module(node: ast.AST) -> bool:
    """Whether ``f`` in ``f.relu(x)`` is a namespace rather than a tensor (torch.relu, F.relu, nn.functional.relu)."""
    text = _text(node)
    if text is None:
        return False
    head = text.split(".")[0]
    return (
        text in ("self", "cls")
        or head in ("torch", "chainrule", "cr", "F", "nn", "functional", "T", "tc")
        or text.endswith("functional")
    )


def tensor_type() -> type:
    """Tensor, without importing it from above."""
    return variable.tensor_type


def identifier(name: str) -> str:
    """A Python identifier for a name: dots and the like become underscores."""
    name = re.sub(r"\W+", "_", name).strip("_")
    numbered = re.fullmatch(r"((?:\d+_)+)(\D.*)", name)
    if numbered:  # Sequential's "0.weight" is weight_0
        name = f"{numbered.group(2)}_{numbered.group(1).strip('_')}"
    if not name or name[0].isdigit():
        name = "v_" + name
    return name + "_" if keyword.iskeyword(name) or name in ("np", "cache", "forward", "backward") else name


def _held(variables: dict[str, Any]) -> tuple[dict[int, str], dict[tuple[int, int], str], dict[int, str]]:
    """Names of the tensors (and arrays, and modules' parameters) that a frame's variables hold, by identity."""
    tensors: dict[int, str] = {}
    nodes: dict[tuple[int, int], str] = {}
    arrays: dict[int, str] = {}

    def put(name: str, t: Any) -> None:
        if isinstance(t, Variable):
            tensors.setdefault(id(t), name)
            arrays.setdefault(id(t._array), name)
            if t._node is not None:
                node, i = t._node if type(t._node) is tuple else (t._node, 0)
                nodes.setdefault((id(node), i), name)
        elif isinstance(t, np.ndarray):
            arrays.setdefault(id(t), name)

    def public(items: Any) -> list[tuple[str, Any]]:
        return [(k, v) for k, v in items if isinstance(k, str) and not k.startswith("__")]

    for name, v in public(variables.items()):
        if not name.startswith("_"):
            put(name, v)
    for name, v in public(variables.items()):
        if isinstance(v, dict) and len(v) < 1000:
            for k, t in public(v.items()):
                put(k, t)
        elif isinstance(v, (list, tuple)) and len(v) < 1000:
            for k, t in enumerate(v):
                put(f"{name}_{k}", t)
        elif hasattr(v, "named_parameters") and not isinstance(v, type):
            module: Any = v
            try:
                for k, t in (*module.named_parameters(), *module.named_buffers()):
                    put(k, t)
            except Exception:  # noqa: S112 - a half-made module must not break an explanation
                continue
        elif not isinstance(v, type) and type(v).__module__ not in ("builtins", "numpy") and hasattr(v, "__dict__"):
            for k, t in public(list(vars(v).items())) if len(vars(v)) < 200 else []:
                if isinstance(t, Variable):
                    put(k, t)
    return tensors, nodes, arrays


def assign_names(replay: Replay, variables: dict[str, Any] | None = None) -> None:
    """Give every quantity of the replay its name where the user has one; the others stay None.

    Names are unique: a variable assigned several times is numbered (h1, h2, …), the root is not.
    """
    tensors, nodes, arrays = _held(variables or {})
    wanted: dict[Quantity, str] = {}
    parameters: dict[int, str] = {}
    roots: set[int] = set()
    for step in replay.steps:
        chain = step.node.module
        while chain is not None and chain[1] is not None:
            chain = chain[1]
        if chain is not None and id(chain[0]) not in roots:
            roots.add(id(chain[0]))
            for name, p in chain[0].named_parameters():
                parameters.setdefault(id(p), name)
    evaluations = _evaluations(replay.steps)
    for steps in evaluations:
        name = target_name(steps[-1].place)
        if name is not None and len(steps[-1].outs) == 1:
            wanted.setdefault(steps[-1].out, name)
    for steps in evaluations:
        given: set[str] = set()  # a call names each operand once; what its inner ops read besides has no name there
        for step in steps:
            for q, name in zip(step.args, _operands(step.place, len(step.args)), strict=True):
                if not isinstance(q, Quantity) or name is None or name in given:
                    continue
                if q.maker is None or (q.maker.place != step.place and _plausible(q, name)):
                    given.add(name)
                    wanted.setdefault(q, name)
    for step in replay.steps:
        for i, q in enumerate(step.outs):
            held = nodes.get((id(step.node), i))
            if held is not None:
                wanted[q] = held
    for step in replay.steps:
        hint = hints.get(step.node)
        if hint is not None and len(step.outs) == 1:
            wanted[step.out] = hint
    _module_results(replay, wanted)
    for q in replay.leaves:
        name = parameters.get(id(q.leaf)) or tensors.get(id(q.leaf)) or arrays.get(id(q.array))
        if name is not None:
            wanted[q] = name
    for q in replay.consts:
        name = arrays.get(id(q.array))
        if name is not None:
            wanted[q] = name
    for q in replay.leaves:
        wanted.setdefault(q, "w")
    _unique(replay, wanted)


def _evaluations(steps: list[Step]) -> list[list[Step]]:
    """The steps, one list per time that an expression was evaluated: the ops that one call made.

    A call in a loop makes its ops again and again; each round is an evaluation of its own.
    """
    found: list[list[Step]] = []
    at = 0
    while at < len(steps):
        end = at
        code, lasti = steps[at].node.code, steps[at].node.lasti
        while end < len(steps) and steps[end].node.code is code and steps[end].node.lasti == lasti:
            end += 1
        run = steps[at:end]
        kinds = [(s.op.name, s.module) for s in run]
        period = next((p for p in range(1, len(run)) if len(run) % p == 0 and kinds[p:] == kinds[:-p]), len(run))
        found += [run[k : k + period] for k in range(0, len(run), period)]
        at = end
    return found


def _module_results(replay: Replay, wanted: dict[Quantity, str]) -> None:
    """What a module gives back and nobody named is called after the module: ``fc1_out``, ``tanh1`` in a Sequential."""
    for index, step in enumerate(replay.steps):
        after = replay.steps[index + 1] if index + 1 < len(replay.steps) else None
        path = step.module.split(".")[1:]
        inside = after is not None and f"{after.module}.".startswith(f"{step.module}.")
        if not path or inside:
            continue
        if len(step.outs) != 1 or step.out in wanted:
            continue
        kind = type(step.node.module[0]).__name__.lower()
        stem = "_".join(path[:-1] + [f"{kind}{path[-1]}"]) if path[-1].isdigit() else "_".join(path) + "_out"
        wanted[step.out] = stem if not stem[0].isdigit() else f"{kind}_{stem}"


def _plausible(q: Quantity, name: str) -> bool:
    """An intermediate result takes an operand's name only if nothing else made a better one: it has no own target."""
    return q.maker is not None and len(q.maker.outs) == 1 and target_name(q.maker.place) in (None, name)


def _unique(replay: Replay, wanted: dict[Quantity, str]) -> None:
    count: dict[str, int] = {}
    ordered = [q for q in replay.quantities() if q in wanted]
    for q in ordered:
        count[identifier(wanted[q])] = count.get(identifier(wanted[q]), 0) + 1
    outside: dict[str, int] = {}
    for q in ordered:
        if q.maker is None:
            outside[identifier(wanted[q])] = outside.get(identifier(wanted[q]), 0) + 1
    used: dict[str, int] = {}
    taken = {identifier(wanted[q]) for q in ordered if count[identifier(wanted[q])] == 1}
    for q in ordered:
        name = wanted[q]
        key = identifier(name)
        if count[key] == 1:
            q.name = name
            continue
        if q is replay.root or (q.maker is None and outside[key] == 1):  # what comes from outside keeps its name
            taken.add(key)
            q.name = name
            continue
        while True:
            used[key] = used.get(key, 0) + 1
            joint = "_" if name[-1].isdigit() else ""
            candidate = f"{name}{joint}{used[key]}"
            if identifier(candidate) not in taken:
                break
        taken.add(identifier(candidate))
        q.name = candidate
    if replay.root.name is None and replay.root.maker is not None:
        replay.root.name = "L" if "L" not in taken else "loss_"
