"""The mistakes: each operator edits the syntax tree of a right backward pass the way a person gets it wrong.

An operator yields edits; an edit is (apply, undo, text). ``expects`` are the diagnoses that name the mistake truly: the
first is the intended one, others are the same mistake seen from elsewhere (dividing by N and taking the mean …).
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Operator", "OPERATORS", "Planted"]


@dataclass(frozen=True)
class Planted:
    """One node replaced by another in one place."""

    holder: ast.AST
    slot: str
    index: int | None
    old: object
    new: object

    def put(self, what: object) -> None:
        if self.index is None:
            setattr(self.holder, self.slot, what)
        else:
            getattr(self.holder, self.slot)[self.index] = what

    def apply(self) -> None:
        self.put(self.new)

    def undo(self) -> None:
        self.put(self.old)


@dataclass(frozen=True)
class Operator:
    name: str
    expects: frozenset[str]
    plant: Callable[[ast.FunctionDef], Iterator[Planted]]


OPERATORS: list[Operator] = []


def mistake(*expects: str):
    def add(fn):
        OPERATORS.append(Operator(fn.__name__, frozenset(expects), fn))
        return fn

    return add


def block(node) -> list[ast.stmt]:
    """The statements of a node that has some (a conditional expression has a ``body`` too, but no block)."""
    body = getattr(node, "body", None)
    return body if isinstance(body, list) else []


# -- places -----------------------------------------------------------------------------------------------------------


def gradient_lines(tree) -> Iterator[tuple[ast.AST, int, ast.stmt]]:
    """The simple statements that assign gradients (d…, g …), innermost blocks included."""
    for parent in ast.walk(tree):
        for slot in ("body",):
            for i, s in enumerate(getattr(parent, slot, []) if not isinstance(parent, (ast.Lambda, ast.IfExp)) else []):
                if isinstance(s, (ast.Assign, ast.AugAssign)):
                    target = s.targets[0] if isinstance(s, ast.Assign) else s.target
                    name = ast.unparse(target)
                    if name.startswith("d") or name == "g":
                        yield parent, i, s


def nodes(tree, kind) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """All nodes of a kind inside the gradient lines, with the place where they hang."""
    for _, _, stmt in list(gradient_lines(tree)):
        for parent in ast.walk(stmt):
            for slot, value in ast.iter_fields(parent):
                if isinstance(value, kind):
                    yield parent, slot, None, value
                elif isinstance(value, list):
                    for i, item in enumerate(value):
                        if isinstance(item, kind):
                            yield parent, slot, i, item


def template(text: str, **parts) -> ast.expr:
    tree = ast.parse(text, mode="eval").body

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node):
            return copy.deepcopy(parts[node.id]) if node.id in parts else node

    return Fill().visit(tree)


def on_values(tree, text: str) -> Iterator[Planted]:
    """Wrap the right-hand side of each gradient line."""
    for _, _, s in list(gradient_lines(tree)):
        yield Planted(s, "value", None, s.value, template(text, E=s.value))


def binops(tree, kind):
    for parent, slot, i, node in nodes(tree, ast.BinOp):
        if isinstance(node.op, kind):
            yield parent, slot, i, node


def mentions(node, *words) -> bool:
    return any(isinstance(n, ast.Name) and n.id in words for n in ast.walk(node))


def is_number(node) -> bool:
    return (
        isinstance(node, ast.Constant)
        or (isinstance(node, ast.Name) and node.id in ("N", "n", "d", "lam", "T"))
        or ast.unparse(node) in ("2 / n", "weight.sum()", "np.sqrt(d)")
    )


def is_slope(node) -> bool:
    text = ast.unparse(node)
    return text.startswith("1 - ") or isinstance(node, ast.Compare)


# -- signs and factors ------------------------------------------------------------------------------------------------


@mistake("sign")
def difference_swapped(tree):
    for parent, slot, i, n in binops(tree, ast.Sub):
        if not isinstance(n.left, ast.Constant):
            yield Planted(parent, slot, i, n, ast.BinOp(n.right, ast.Sub(), n.left))


@mistake("sign")
def negated(tree):
    yield from on_values(tree, "-(E)")


@mistake("sign", "activation", "extra-term", "missing-term")
def minus_for_plus(tree):
    for parent, slot, i, n in binops(tree, ast.Add):
        if not _in_slice(parent):
            yield Planted(parent, slot, i, n, ast.BinOp(n.left, ast.Sub(), n.right))


@mistake("sign", "activation", "statistics", "softmax", "missing-term", "wrong-operation")
def plus_for_minus(tree):
    for parent, slot, i, n in binops(tree, ast.Sub):
        if not _in_slice(parent):
            yield Planted(parent, slot, i, n, ast.BinOp(n.left, ast.Add(), n.right))


@mistake("sign")
def absolute_value(tree):
    yield from on_values(tree, "np.abs(E)")


@mistake("factor", "sum-mean")
def doubled(tree):
    yield from on_values(tree, "2 * (E)")


@mistake("factor", "sum-mean")
def halved(tree):
    yield from on_values(tree, "(E) / 2")


@mistake("factor")
def learning_rate_inside(tree):
    yield from on_values(tree, "0.05 * (E)")


@mistake("sum-mean", "factor")
def times_batch(tree):
    yield from on_values(tree, "(E) * BATCH")


@mistake("sum-mean", "factor")
def over_batch(tree):
    yield from on_values(tree, "(E) / BATCH")


@mistake("factor", "sum-mean", "sign")
def number_dropped(tree):
    for parent, slot, i, n in binops(tree, ast.Mult):
        if is_number(n.left):
            yield Planted(parent, slot, i, n, n.right)


@mistake("sum-mean", "factor", "regulariser")
def division_dropped(tree):
    for parent, slot, i, n in binops(tree, ast.Div):
        if is_number(n.right):
            yield Planted(parent, slot, i, n, n.left)


@mistake("factor", "extra-factor", "missing-factor", "wrong-operation")
def scale_dropped(tree):
    """Division by something that is no count (tau, √d)."""
    for parent, slot, i, n in binops(tree, ast.Div):
        if not is_number(n.right) or "sqrt" in ast.unparse(n.right):
            yield Planted(parent, slot, i, n, n.left)


@mistake("factor", "wrong-operation", "sum-mean", "extra-factor")
def product_for_quotient(tree):
    for parent, slot, i, n in binops(tree, ast.Div):
        yield Planted(parent, slot, i, n, ast.BinOp(n.left, ast.Mult(), n.right))


@mistake("sum-mean", "factor", "axis", "batch-sum", "statistics", "softmax")
def mean_for_sum(tree):
    yield from _renamed(tree, "sum", "mean")


@mistake("sum-mean", "factor", "axis", "batch-sum", "statistics")
def sum_for_mean(tree):
    yield from _renamed(tree, "mean", "sum")


def _renamed(tree, old, new):
    for parent, slot, i, n in nodes(tree, ast.Call):
        if isinstance(n.func, ast.Attribute) and n.func.attr == old:
            made = copy.deepcopy(n)
            made.func.attr = new
            yield Planted(parent, slot, i, n, made)


@mistake("clip")
def clipped(tree):
    yield from on_values(tree, "np.clip(E, -0.2, 0.2)")


@mistake("missing", "factor", "wrong-operation")
def zeroed(tree):
    yield from on_values(tree, "0 * (E)")


# -- shapes -----------------------------------------------------------------------------------------------------------


@mistake("transposed")
def transposed(tree):
    yield from on_values(tree, "(E).T")


@mistake("transposed")
def factors_exchanged(tree):
    for parent, slot, i, n in binops(tree, ast.MatMult):
        yield Planted(parent, slot, i, n, ast.BinOp(n.right, ast.MatMult(), n.left))


@mistake("transposed")
def transpose_forgotten(tree):
    for parent, slot, i, n in nodes(tree, ast.Attribute):
        if n.attr == "T":
            yield Planted(parent, slot, i, n, n.value)


@mistake("batch-sum", "shape", "axis")
def batch_sum_forgotten(tree):
    for parent, slot, i, n in nodes(tree, ast.Call):
        if isinstance(n.func, ast.Attribute) and n.func.attr == "sum":
            subject = n.args[0] if ast.unparse(n.func.value) == "np" else n.func.value
            yield Planted(parent, slot, i, n, subject)


@mistake("axis", "batch-sum", "statistics", "sum-mean", "softmax")
def axis_wrong(tree):
    for parent, slot, i, n in nodes(tree, ast.Call):
        for k, keyword in enumerate(n.keywords):
            if keyword.arg == "axis" and isinstance(keyword.value, (ast.Constant, ast.UnaryOp)):
                made = copy.deepcopy(n)
                old = ast.literal_eval(keyword.value)
                made.keywords[k].value = ast.Constant(0 if old else 1)
                yield Planted(parent, slot, i, n, made)


@mistake("batch-sum", "axis", "statistics", "softmax", "sum-mean")
def axis_forgotten(tree):
    for parent, slot, i, n in nodes(tree, ast.Call):
        if (
            any(k.arg == "axis" for k in n.keywords)
            and isinstance(n.func, ast.Attribute)
            and n.func.attr in ("sum", "mean")
        ):
            made = copy.deepcopy(n)
            made.keywords = [k for k in n.keywords if k.arg != "axis"]
            yield Planted(parent, slot, i, n, made)


@mistake("batch-sum", "off-by-one")
def first_sample_only(tree):
    for parent, slot, i, n in nodes(tree, ast.Call):
        if (
            isinstance(n.func, ast.Attribute)
            and n.func.attr == "sum"
            and ast.unparse(n.func.value) != "np"
            and any(k.arg == "axis" and ast.unparse(k.value) == "0" for k in n.keywords)
        ):
            yield Planted(parent, slot, i, n, template("E[0]", E=n.func.value))


# -- activations ------------------------------------------------------------------------------------------------------


@mistake("activation", "mask", "missing-factor")
def derivative_forgotten(tree):
    for parent, slot, i, n in binops(tree, ast.Mult):
        if is_slope(n.right):
            yield Planted(parent, slot, i, n, n.left)


@mistake("activation", "wrong-variable", "missing-factor", "extra-factor")
def derivative_at_wrong_point(tree):
    """σ′(a) for σ′(z), and the reverse, wherever both values exist."""
    pairs = [("a1", "z1"), ("h1", "z1"), ("h2", "z2"), ("a", "z"), ("out", "y"), ("tc", "c"), ("z1", "a1")]
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    for _, _, s in list(gradient_lines(tree)):
        if not any(is_slope(n) for n in ast.walk(s)):
            continue
        for a, z in pairs:
            if a in names and z in names and mentions(s.value, a):
                yield Planted(s, "value", None, s.value, _substitute(s.value, a, z))


def _substitute(node, old, new):
    class Swap(ast.NodeTransformer):
        def visit_Name(self, n):
            return ast.Name(new, n.ctx) if n.id == old else n

    return Swap().visit(copy.deepcopy(node))


@mistake("activation", "wrong-variable", "mask")
def mask_of_gradient(tree):
    """relu masked by the sign of the upstream gradient."""
    for parent, slot, i, n in nodes(tree, ast.Compare):
        other = {"z1": "da1", "out": "U"}.get(ast.unparse(n.left))
        if other:
            yield Planted(parent, slot, i, n, ast.Compare(ast.Name(other, ast.Load()), n.ops, n.comparators))


@mistake("mask", "activation")
def mask_reversed(tree):
    for parent, slot, i, n in nodes(tree, ast.Compare):
        yield Planted(parent, slot, i, n, ast.Compare(n.left, [ast.Lt()], n.comparators))


@mistake("activation", "wrong-operation", "statistics", "missing-factor", "factor", "off-by-one")
def square_forgotten(tree):
    for parent, slot, i, n in binops(tree, ast.Pow):
        yield Planted(parent, slot, i, n, n.left)


@mistake("activation", "missing-factor")
def half_derivative(tree):
    """a·(1 − a) without its a."""
    for parent, slot, i, n in binops(tree, ast.Mult):
        if is_slope(n.right) and isinstance(n.left, ast.BinOp) and isinstance(n.left.op, ast.Mult):
            yield Planted(parent, slot, i, n, ast.BinOp(n.left.left, ast.Mult(), n.right))


@mistake("activation", "extra-factor")
def derivative_twice(tree):
    for parent, slot, i, n in binops(tree, ast.Mult):
        if is_slope(n.right) and not isinstance(n.right, ast.Compare):
            yield Planted(parent, slot, i, n, ast.BinOp(n, ast.Mult(), copy.deepcopy(n.right)))


@mistake("softmax", "missing-term", "extra-term")
def softmax_diagonal(tree):
    for parent, slot, i, n in binops(tree, ast.Sub):
        if "np.sum(dP * P" in ast.unparse(n.right):
            yield Planted(parent, slot, i, n, n.left)


@mistake("softmax", "missing-term", "extra-factor", "wrong-variable", "activation")
def softmax_diagonal_squared(tree):
    """p·(1 − p)·g: the diagonal of the Jacobian alone."""
    for _, _, s in list(gradient_lines(tree)):
        if "np.sum(dP * P" in ast.unparse(s.value):
            yield Planted(s, "value", None, s.value, template("P * (1 - P) * dP"))


# -- paths and terms --------------------------------------------------------------------------------------------------


@mistake("overwritten", "missing-term")
def overwritten(tree):
    for parent, i, s in list(gradient_lines(tree)):
        if isinstance(s, ast.AugAssign):
            yield Planted(parent, "body", i, s, ast.Assign([s.target], s.value, lineno=s.lineno))


@mistake("missing-term", "overwritten", "regulariser", "statistics", "sign")
def path_dropped(tree):
    for parent, slot, i, n in binops(tree, ast.Add):
        if not _in_slice(parent) and not mentions(n.right, "lam"):
            yield Planted(parent, slot, i, n, n.left)
            yield Planted(parent, slot, i, n, n.right)


@mistake("regulariser", "missing-term")
def regulariser_dropped(tree):
    for parent, slot, i, n in binops(tree, ast.Add):
        if mentions(n.right, "lam"):
            yield Planted(parent, slot, i, n, n.left)


@mistake("regulariser", "extra-term", "factor")
def regulariser_doubled(tree):
    for parent, slot, i, n in binops(tree, ast.Add):
        if mentions(n.right, "lam"):
            yield Planted(parent, slot, i, n, template("A + 2 * B", A=n.left, B=n.right))


@mistake("regulariser", "extra-term")
def regulariser_only_in_gradient(tree):
    for _, _, s in list(gradient_lines(tree)):
        name = ast.unparse(s.targets[0]) if isinstance(s, ast.Assign) else ""
        if name.startswith("dW") and not mentions(s.value, "lam"):
            yield Planted(s, "value", None, s.value, template(f"E + 0.01 * p[{name[1:]!r}]", E=s.value))


@mistake("statistics", "missing-term", "sign")
def mean_constant(tree):
    """Normalisation's mean taken as a constant."""
    for parent, slot, i, n in binops(tree, ast.Sub):
        if ast.unparse(n.right) in ("dxhat.mean(axis=0)", "c1"):
            yield Planted(parent, slot, i, n, n.left)
    for parent, slot, i, n in binops(tree, ast.Add):
        if "dmu" in ast.unparse(n.right):
            yield Planted(parent, slot, i, n, n.left)


@mistake("statistics", "missing-term", "sign")
def variance_constant(tree):
    for parent, slot, i, n in binops(tree, ast.Sub):
        if ast.unparse(n.right) in ("xhat * (dxhat * xhat).mean(axis=0)", "xhat * c2"):
            yield Planted(parent, slot, i, n, n.left)
    for parent, slot, i, n in binops(tree, ast.Add):
        if "dvar" in ast.unparse(n.right):
            yield Planted(parent, slot, i, n, n.left)


@mistake("statistics", "missing-term")
def statistics_constant(tree):
    for _, _, s in list(gradient_lines(tree)):
        text = ast.unparse(s)
        if text.startswith("dx = (dxhat - "):
            yield Planted(s, "value", None, s.value, template("dxhat * inv_std"))
        if text.startswith("dx = rstd * (g"):
            yield Planted(s, "value", None, s.value, template("rstd * g"))


@mistake(
    "missing-factor", "extra-factor", "factor", "wrong-operation", "activation", "softmax"
)  # in the softmax's own line
def factor_dropped(tree):
    """One array factor of a product forgotten."""
    for parent, slot, i, n in binops(tree, ast.Mult):
        if not is_number(n.left) and not is_number(n.right) and not is_slope(n.right):
            yield Planted(parent, slot, i, n, n.left)
            yield Planted(parent, slot, i, n, n.right)


@mistake(
    "wrong-operation",
    "extra-term",
    "missing-factor",
    "activation",
    "mask",
    "factor",
    "missing-term",
    "sum-mean",
    "softmax",
)
def plus_for_times(tree):
    for parent, slot, i, n in binops(tree, ast.Mult):
        if not _in_slice(parent):
            yield Planted(parent, slot, i, n, ast.BinOp(n.left, ast.Add(), n.right))


# -- indices ----------------------------------------------------------------------------------------------------------


@mistake("off-by-one")
def loop_one_short(tree):
    for parent in ast.walk(tree):
        for slot, value in ast.iter_fields(parent):
            if (
                isinstance(value, ast.Call)
                and ast.unparse(value.func) == "range"
                and isinstance(parent, (ast.For, ast.Call))
            ):
                if isinstance(parent, ast.For) and not any(
                    ast.unparse(s).startswith("d")
                    for s in ast.walk(parent)
                    if isinstance(s, (ast.Assign, ast.AugAssign))
                ):
                    continue
                yield Planted(parent, slot, None, value, template("range(A - 1)", A=value.args[0]))
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    if isinstance(item, ast.Call) and ast.unparse(item.func) == "range":
                        yield Planted(parent, slot, i, item, template("range(1, A)", A=item.args[0]))


@mistake("off-by-one", "wrong-variable")
def index_shifted(tree):
    for parent, slot, i, n in nodes(tree, ast.Subscript):
        text = ast.unparse(n.slice)
        if text == "t + 1":
            yield Planted(parent, slot, i, n, template("A[t]", A=n.value))
        if text == "t" and isinstance(n.ctx, ast.Load):
            yield Planted(parent, slot, i, n, template("A[t - 1]", A=n.value))


@mistake("flip")
def kernel_not_flipped(tree):
    for parent in ast.walk(tree):
        if isinstance(parent, ast.Assign) and "::-1" in ast.unparse(parent.value):
            yield Planted(parent, "value", None, parent.value, parent.value.value)
    for parent, slot, i, n in nodes(tree, ast.Call):
        if ast.unparse(n.func) == "np.convolve":
            yield Planted(parent, slot, i, n, template("np.convolve(A, B[::-1])", A=n.args[0], B=n.args[1]))


@mistake("flip")
def result_reversed(tree):
    for _, _, s in list(gradient_lines(tree)):
        if ast.unparse(s).startswith(("dw", "dx", "dW", "db")):
            yield Planted(s, "value", None, s.value, template("(E)[::-1]", E=s.value))


@mistake("off-by-one", "flip")  # along an axis of length two they are the same
def rolled(tree):
    yield from on_values(tree, "np.roll(E, 1, axis=0)")


@mistake("overwritten")
def repeated_indices_assigned(tree):
    for parent in ast.walk(tree):
        for i, s in enumerate(block(parent)):
            if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call) and ast.unparse(s.value.func) == "np.add.at":
                a, b, c = s.value.args
                target = ast.Subscript(a, b, ast.Store())
                yield Planted(parent, "body", i, s, ast.Assign([target], c, lineno=s.lineno))
                yield Planted(parent, "body", i, s, ast.AugAssign(target, ast.Add(), c, lineno=s.lineno))


@mistake("off-by-one", "flip")
def time_not_reversed(tree):
    for parent in ast.walk(tree):
        if isinstance(parent, ast.For) and ast.unparse(parent.iter).startswith("reversed"):
            yield Planted(parent, "iter", None, parent.iter, parent.iter.args[0])


# -- which value, which type ------------------------------------------------------------------------------------------


@mistake("swapped", "wrong-variable")
def gradients_swapped(tree):
    returned = next(s for s in tree.body if isinstance(s, ast.Return)).value
    for i in range(len(returned.values)):
        for k in range(i + 1, len(returned.values)):
            made = copy.deepcopy(returned)
            made.values[i], made.values[k] = made.values[k], made.values[i]
            holder = next(s for s in tree.body if isinstance(s, ast.Return))
            yield Planted(holder, "value", None, returned, made)


@mistake("swapped", "wrong-variable")
def blocks_swapped(tree):
    for parent, slot, i, n in nodes(tree, ast.List):
        if len(n.elts) == 4:
            yield Planted(parent, slot, i, n, ast.List([n.elts[1], n.elts[0], *n.elts[2:]], ast.Load()))


@mistake("wrong-variable", "activation", "swapped", "off-by-one", "transposed")
def wrong_weight(tree):
    """W1 where W2 belongs, q for k, i for f …"""
    pairs = [("W1", "W2"), ("W2", "W1"), ("W3", "W2")]
    for parent, slot, i, n in nodes(tree, ast.Subscript):
        if isinstance(n.slice, ast.Constant):
            for a, b in pairs:
                if n.slice.value == a:
                    yield Planted(parent, slot, i, n, ast.Subscript(n.value, ast.Constant(b), n.ctx))
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    for parent, slot, i, n in nodes(tree, ast.Name):
        other = {
            "q": "k",
            "k": "q",
            "i": "fg",
            "fg": "i",
            "dz1": "dh1",
            "dz2": "dh2",
            "c0": "c",
            "dxhat": "U",
            "dzi": "dzf",
        }.get(n.id)
        if other in names and isinstance(n.ctx, ast.Load) and not _in_slice(parent):
            yield Planted(parent, slot, i, n, ast.Name(other, ast.Load()))


@mistake("dtype")
def truncated(tree):
    yield from on_values(tree, "np.trunc(E)")


@mistake("dtype")
def integer_array(tree):
    yield from on_values(tree, "np.asarray(E).astype(int)")


@mistake("dtype")
def half_precision(tree):
    yield from on_values(tree, "np.asarray(E).astype(np.float16)")


@mistake("stale")
def buffer_not_reset(tree):
    """The gradients are added to a buffer that outlives the call."""
    holder = next(s for s in tree.body if isinstance(s, ast.Return))
    made = template(
        "{K: BUFFER.setdefault(K, np.zeros(np.shape(V))).__iadd__(V).copy() for K, V in E.items()}", E=holder.value
    )
    for generator in made.generators:
        generator.target = ast.parse("(K, V) = 0").body[0].targets[0]
    yield Planted(holder, "value", None, holder.value, made)


@mistake("wrong-operation", "activation", "statistics", "factor", "off-by-one", "extra-factor", "missing-factor")
def exponent_wrong(tree):
    for parent, slot, i, n in binops(tree, ast.Pow):
        if not isinstance(n.right, ast.Constant):
            continue
        made = ast.BinOp(n.left, ast.Pow(), ast.Constant(n.right.value + 1))
        yield Planted(parent, slot, i, n, made)


@mistake("extra-term", "missing-term", "wrong-operation", "unknown")
def constant_added(tree):
    for _, _, s in list(gradient_lines(tree)):
        if ast.unparse(s).startswith("db"):
            yield Planted(s, "value", None, s.value, template("E + 1", E=s.value))


def _in_slice(parent) -> bool:
    return (
        isinstance(parent, (ast.Slice, ast.Subscript))
        or (isinstance(parent, ast.Call) and ast.unparse(parent.func) == "range")
        or isinstance(parent, ast.Tuple)
    )
