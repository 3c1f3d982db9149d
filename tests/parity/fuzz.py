"""Random calls on both libraries: how an expression is drawn, run on each, and compared.

A template is Python source with choices: ``T.sum(x, dim=‹0¦-1›)``. Its inputs are ``"x y"``, or with a kind after a
colon (``i:idx``, see ``draw``;
``x:f`` is floating point). Statements before a ``;`` run first, so that in-place forms can be asked for as well.
"""

from __future__ import annotations

import re

import numpy as np

DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
WEIGHTS = (0.34, 0.2, 0.08, 0.12, 0.06, 0.04, 0.04, 0.05, 0.07)
SHAPES = (
    (), (1,), (3,), (0,), (2, 3), (3, 1), (1, 4), (2, 0), (0, 3), (2, 3, 4), (1, 3, 1), (2, 1, 4), (4, 4), (3, 4),
)  # fmt: skip
MATRICES = (
    (3,), (4,), (2, 3), (3, 4), (3, 3), (4, 2), (2, 2, 3), (1, 3, 4), (2, 3, 4), (0, 3), (3, 0), (4, 3), (2, 1, 3, 4),
)  # fmt: skip
SPECIAL = (0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-40, 0.5, 2.0, 3.0, -0.5, -3.0)
TOLERANCE = {"float16": 6e-3, "float32": 2e-5, "float64": 1e-9}
"""Relative to the largest entry: a few hundred roundings of that dtype, for sums, powers and products of 24 entries."""


def choose(rng, template):
    while found := re.search(r"‹([^‹›]*)›", template):
        choices = found.group(1).split("¦")
        template = template[: found.start()] + choices[rng.integers(len(choices))] + template[found.end() :]
    return template


def entries(rng, shape, dtype, special):
    kind = np.dtype(dtype).kind
    if kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if kind in "ui":
        return np.asarray(rng.integers(0 if kind == "u" else -4, 6, shape)).astype(dtype)
    a = rng.choice(SPECIAL, size=shape) if special else rng.uniform(-3, 3, shape)
    return np.asarray(a).astype(dtype)


def draw(rng, names, special):
    """name → (array, memory layout, requires_grad) for each input of a template."""
    dtype = str(rng.choice(DTYPES, p=WEIGHTS))
    floating = dtype if dtype.startswith("float") else "float32"
    shape = SHAPES[rng.integers(len(SHAPES))]
    logits = ((4, 3), (3,), (2, 3, 5), (1, 1))[rng.integers(4)]
    mixed = rng.random() < 0.25
    found = {}
    last = ()
    for name in names.split():
        name, _, kind = name.partition(":")
        first, a, s = not found, None, shape
        d = str(rng.choice(DTYPES)) if mixed and not first else dtype
        if kind.endswith("f"):  # floating point, all of one dtype
            d, kind = floating, kind[:-1]
        if kind == "mm":
            fitting = [m for m in MATRICES if first or not last or m[-2 if len(m) > 1 else 0] == last[-1]] or MATRICES
            s = last = fitting[rng.integers(len(fitting))]
        elif kind == "v":
            s = ((3,), (3,), (0,), (2, 3))[rng.integers(4)]
        elif kind == "bool":
            d = "bool"
        elif kind in ("idx", "idx1"):
            s = shape if kind == "idx" and rng.random() < 0.7 else (2,)
            a = rng.integers(0, 2 if rng.random() < 0.5 else 1, s)
        elif kind == "lg":
            s, d = logits, floating
        elif kind == "cls":
            s = (logits[0], *logits[2:]) if len(logits) > 1 else ()
            a = rng.integers(0, logits[1] if len(logits) > 1 else logits[0], s)
        elif kind == "w":
            a = rng.uniform(0.1, 2, 3).astype(floating)
        elif kind == "pr":
            a = rng.uniform(0.05, 0.95, (2, 3)).astype(floating)
        elif kind == "bn":
            s, d = ((4, 3), (2, 3, 5), (0, 3))[rng.integers(3)], floating
        elif kind in ("m", "vv"):
            a = rng.uniform(0.5, 2, 3).astype(floating)
        elif not first and rng.random() < 0.4 and shape:  # a shape that broadcasts
            s = tuple(1 if rng.random() < 0.4 else n for n in shape)[int(rng.integers(0, 2)) :]
        a = np.asarray(entries(rng, s, d, special) if a is None else a)
        layout = ("c", "t", "s")[rng.integers(3)]
        plain = kind in ("w", "m", "vv")
        found[name] = (a, layout, a.dtype.kind == "f" and not plain and rng.random() < 0.75)
    return found


def tensor(T, a, layout, requires):
    """A leaf, and the input made from it: the same entries, stored plainly, transposed, or with gaps."""
    if layout == "t" and a.ndim >= 2:
        leaf = T.tensor(np.ascontiguousarray(a.swapaxes(0, -1))).requires_grad_(requires)
        return leaf, leaf.transpose(0, -1)
    if layout == "s" and a.ndim:
        leaf = T.tensor(np.repeat(a, 2, -1)).requires_grad_(requires)
        return leaf, leaf[..., ::2]
    leaf = T.tensor(a).requires_grad_(requires)
    return leaf, leaf


def flat(x):
    return [z for y in x for z in flat(y)] if isinstance(x, (list, tuple)) else [x]


def facts(T, x):
    """What is compared of a result: dtype, shape, requires_grad and entries; or the thing itself."""
    if isinstance(x, T.Tensor):
        return str(x.dtype), tuple(x.shape), np.array(x.detach().numpy(force=True))
    return (str(x) if isinstance(x, T.dtype) else x,)


def run(T, expression, inputs, gradients):
    """The facts of one call in one library, or the exception it raises."""
    env = {"T": T, "F": T.nn.functional, "nan": float("nan"), "inf": float("inf")}
    pairs = [tensor(T, *given) for given in inputs.values()]
    env |= dict(zip(inputs, [view for _, view in pairs], strict=True))
    leaves = [leaf for leaf, _ in pairs]
    before, _, last = expression.rpartition(";")
    try:
        exec(before, env)
        outs = flat(eval(last.strip(), env))
    except Exception as error:
        return error
    results = {"value": [facts(T, o) for o in outs], "inputs": [facts(T, leaf) for leaf in leaves]}
    results["shared"] = [
        isinstance(o, T.Tensor) and o.numel() > 0
        and any(np.may_share_memory(o.detach().numpy(), leaf.detach().numpy()) for leaf in leaves)
        for o in outs
    ]  # fmt: skip
    outs = [o for o in outs if isinstance(o, T.Tensor) and o.requires_grad]
    leaves = [leaf for leaf in leaves if leaf.requires_grad]
    rng = np.random.default_rng(0)
    for what in ("gradient", "second derivative") if gradients and outs and leaves else ():
        total = sum((o * T.tensor(rng.uniform(0.5, 1.5, tuple(o.shape))).to(o.dtype)).sum().double() for o in outs)
        try:
            found = T.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
        except RuntimeError as error:
            results[what] = error
            break
        # No path, and a path whose derivative is zero, are the same here: the libraries differ in which they keep.
        results[what] = [facts(T, T.zeros_like(x) if g is None else g) for x, g in zip(leaves, found, strict=True)]
        outs = [g for g in found if g is not None and g.requires_grad]
        if not outs:
            break
    return results


def difference(ours, theirs, dtype):
    """What differs between two calls, in words; "" if nothing does."""
    if isinstance(theirs, Exception):
        if isinstance(ours, Exception):
            return ""
        return f"PyTorch raises {type(theirs).__name__}: {str(theirs).splitlines()[0]}"
    if isinstance(ours, Exception):
        return f"raises {type(ours).__name__}: {str(ours).splitlines()[0]}"
    if ours["shared"] != theirs["shared"]:
        return f"shares memory: {ours['shared']}, PyTorch {theirs['shared']}"
    for what, loose in (("value", 1), ("inputs", 1), ("gradient", 4), ("second derivative", 40)):
        a, b = ours.get(what), theirs.get(what)
        if isinstance(b, Exception) or b is None:  # no derivative there
            if isinstance(a, list) and b is None and any(np.any(x[-1]) for x in a):
                return f"{what}: PyTorch has none"
            continue
        if not isinstance(a, list):
            if any(np.any(x[-1]) for x in b):
                return f"{what}: {a}"
            continue
        if len(a) != len(b):
            return f"{what}: {len(a)} results, PyTorch {len(b)}"
        for x, y in zip(a, b, strict=True):
            if x[:-1] != y[:-1] or not _close(x[-1], y[-1], loose * TOLERANCE[dtype]):
                return f"{what}: {x}, PyTorch {y}"
    return ""


def _close(x, y, tolerance):
    if not isinstance(y, np.ndarray) or y.dtype.kind != "f":
        same = np.array_equal(x, y) if isinstance(y, np.ndarray) else x == y or (x != x and y != y)
        return same or (isinstance(y, float) and abs(x - y) <= tolerance * abs(y))
    x, y = x.astype(np.float64), y.astype(np.float64)
    size = np.abs(y[np.isfinite(y)]).max(initial=1.0)
    return np.allclose(x, y, rtol=tolerance, atol=tolerance * size, equal_nan=True)
