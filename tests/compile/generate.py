"""Random programs for the compiler: ops, shapes, dtypes, views, in-place writes, branches, gradients, updates.

A program is plain data (``Case``), so that it can be printed, replayed and made smaller. Besides the tables below,
a step may be any op of the registry on one of its sample calls (``registered``).
"""

import functools
from dataclasses import dataclass, replace

import numpy as np

import chainrule as torch
import chainrule.linalg  # its ops are registered when they are first needed
from chainrule.core.op import registry
from chainrule.core.variable import wrap

F = torch.nn.functional
SHAPES = [(), (1,), (3,), (17,), (0,), (4, 5), (1, 6), (5, 1), (3, 40), (2, 3, 4), (2, 1, 5), (33, 16), (7, 130),
          (2, 0, 3), (9, 9), (1, 1, 7), (65,), (2, 3, 5, 6)]  # fmt: skip
LARGEST = 20000


def _float(t):
    return t.is_floating_point()


def _rank(n):
    return lambda t: t.dim() >= n


def _full(t):
    return t.dim() and 0 not in t.shape


UNARY = {
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu, "exp": lambda t: torch.exp(t.clamp(-4, 4) * 0.3),
    "neg": lambda t: -t, "abs": lambda t: t.abs(), "scale": lambda t: t * 0.5, "inverse": lambda t: 1 / (t * t + 1),
    "log": lambda t: torch.log(t * t + 1), "sqrt": lambda t: torch.sqrt(t * t + 0.1), "square": lambda t: t**2,
    "leaky": lambda t: torch.where(t > 0, t, t * 0.1), "step": lambda t: (t > 0.1).to(t.dtype), "sin": torch.sin,
    "clamp": lambda t: t.clamp(-1, 1), "flat": lambda t: t.reshape(-1), "row": lambda t: t.reshape(1, -1),
    "turn": lambda t: t.transpose(0, -1) if t.dim() > 1 else t, "unsqueeze": lambda t: t.unsqueeze(0),
    "sum": lambda t: t.sum(), "sum 0": lambda t: t.sum(0) if t.dim() else t, "gelu": F.gelu, "silu": F.silu,
    "sum last": lambda t: t.sum(-1, keepdim=True) if t.dim() else t, "softplus": F.softplus,
    "mean last": lambda t: t.mean(-1) if _full(t) else t, "amax": lambda t: t.amax(-1, keepdim=True) if _full(t) else t,
    "amin 0": lambda t: t.amin(0) if _full(t) else t, "softmax": lambda t: torch.softmax(t, -1) if t.dim() else t,
    "log_softmax": lambda t: torch.log_softmax(t, 0) if t.dim() else t,
    "center": lambda t: t - t.mean(0, keepdim=True) if _full(t) else t,
    "var": lambda t: t.var(-1, keepdim=True) if _full(t) and t.shape[-1] > 1 else t,
    "tail": lambda t: t[..., 1:] if t.dim() else t, "first": lambda t: t[0] if _full(t) else t,
    "every other": lambda t: t[..., ::2] if t.dim() else t, "flip": lambda t: t.flip(0) if t.dim() else t,
    "cumsum": lambda t: t.cumsum(0) if t.dim() else t, "expand": lambda t: t.expand(3, *t.shape),
    "layer_norm": lambda t: F.layer_norm(t, t.shape[-1:]) if _full(t) and t.shape[-1] > 1 else t,
    "tril": lambda t: t.tril() if t.dim() > 1 else t, "diagonal": lambda t: t.diagonal() if t.dim() == 2 else t,
    "pad": lambda t: F.pad(t, (1, 2)) if t.dim() else t, "roll": lambda t: torch.roll(t, 1, 0) if t.dim() else t,
    "prod": lambda t: (t * 0.1 + 1).prod(-1) if t.dim() else t, "norm": lambda t: torch.sqrt((t * t).sum() + 1),
    "double": lambda t: (t.double() * 0.5).to(t.dtype), "logsumexp": lambda t: t.logsumexp(0) if _full(t) else t,
    "pool": lambda t: F.max_pool2d(t, 2) if t.dim() == 4 and min(t.shape) > 1 else t,
    "conv": lambda t: F.conv2d(t, torch.ones(2, t.shape[1], 3, 3, dtype=t.dtype) * 0.1, padding=1)
    if t.dim() == 4 and 0 not in t.shape else t,
    "batch_norm": lambda t: F.batch_norm(t, None, None, training=True)
    if t.dim() > 1 and _full(t) and t.numel() // t.shape[1] > 2 else t,
}  # fmt: skip
BINARY = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "maximum": torch.maximum,
    "minimum": torch.minimum, "div": lambda a, b: a / (b * b + 1), "where": lambda a, b: torch.where(a > b, a, b * 2),
    "hypot": lambda a, b: torch.sqrt(a * a + b * b + 1), "lerp": lambda a, b: a + (b - a) * 0.3,
    "masked_fill": lambda a, b: a * 1 if b.shape != a.shape else a.masked_fill(b > 0, 0.25),
}  # fmt: skip
INTEGER = {
    "add": lambda i, j: i + j, "mul": lambda i, j: i * j, "shift": lambda i, j: i // 2 + j % 3,
    "lt": lambda i, j: i < j,
    "and": lambda i, j: (i > 0) & (j > 0), "where": lambda i, j: torch.where(i > j, i, j),
    "sum": lambda i, j: i.sum() + j,
    "eq": lambda i, j: (i == j).long(), "max": lambda i, j: torch.maximum(i, j), "float": lambda i, j: i.float() * j,
}  # fmt: skip
BITS = {
    "and": lambda i, j: i & j, "or": lambda i, j: i | j, "xor": lambda i, j: i ^ j, "invert": lambda i, j: ~i,
    "bool": lambda i, j: i > j, "int32": lambda i, j: i.to(torch.int32), "int64": lambda i, j: i.to(torch.int64),
    "uint8": lambda i, j: (i % 7).to(torch.uint8), "any": lambda i, j: i.any(), "all": lambda i, j: (i > -3).all(),
    "count": lambda i, j: (i != 0).sum(), "argmax": lambda i, j: (j * 1).long().argmax(-1) if _full(j) else j,
}  # fmt: skip
WRITES = {
    "row": lambda a: a[0].mul_(2).add_(1), "fill": lambda a: a[..., -1].fill_(0.5), "zero": lambda a: a[:1].zero_(),
    "mask": lambda a: a.masked_fill_(a > 1, 1.0), "copy": lambda a: a[..., :1].copy_(a[..., -1:]),
    "turned": lambda a: a.transpose(0, -1)[..., :1].add_(0.5), "flat": lambda a: a.reshape(-1)[1:].mul_(2),
    "add at": lambda a: a.index_add_(0, torch.zeros(1, dtype=torch.int64), a[:1] * 0.5),
    "set at": lambda a: a.__setitem__(torch.tensor([0]), a[-1:] + 1), "clamp": lambda a: a[::2].clamp_(-0.5, 0.5),
}  # fmt: skip
DTYPES = (torch.bfloat16, torch.float32, torch.float64)
KINDS = [*["unary"] * 6, *["binary"] * 3, "matmul", "write", "write view", "write in", "integer", "bits", "take", "cat",
         "linear", "update", "branch", "cast", "op", "op"]  # fmt: skip
DRAWN = {"bernoulli", "multinomial", "dropout"}
"""Random numbers are drawn by the step's own front, not by a recorded program: training steps have them."""
OPS = sorted(name for name in registry if name not in DRAWN)


@functools.cache
def sample_calls(name):
    with np.errstate(all="ignore"):
        return list(registry[name].samples(np.random.default_rng(0)))


def registered(name, which, value, dtype):
    """An op on one of its samples, whose first array of floats is scaled by a number computed from ``value``.

    The factor lies between 0.99 and 1, so that the sample stays in the op's domain.
    """
    calls = sample_calls(name)
    call = calls[which % len(calls)]
    floats = [k for k, x in enumerate(call.args) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    args = []
    for k, x in enumerate(call.args):
        if isinstance(x, np.ndarray):
            x = wrap(x.astype(torch.empty(0, dtype=dtype)._array.dtype) if k in floats else x.copy())
            if floats and k == floats[0] and value.numel():
                x = x * (1 - 0.01 * torch.sigmoid(value.mean())).to(dtype)
        args.append(x)
    params = dict(call.params)
    if isinstance(params.get("dtype"), np.dtype) and params["dtype"].kind == "f":
        params["dtype"] = torch.empty(0, dtype=dtype)._array.dtype
    made = registry[name].call(*args, **params)
    made = made if isinstance(made, (tuple, list)) else [made]
    return [r if isinstance(r, torch.Tensor) else wrap(np.asarray(r)) for r in made]


@dataclass(frozen=True)
class Case:
    """Inputs' shapes, a dtype, steps (kind, which, i, j), whether gradients are asked for, and the data's seed."""

    shapes: tuple
    single: bool
    steps: tuple
    gradient: bool
    seed: int

    @property
    def dtype(self):
        return np.float32 if self.single else np.float64

    def arrays(self, dtype=None):
        rng = np.random.default_rng(self.seed)
        found = [rng.normal(size=s).astype(self.dtype) for s in self.shapes]
        if dtype is not None:
            found = [a.astype(dtype) for a in found]
        return [*found, rng.integers(0, 5, self.shapes[0])]


def make_case(number, longest=18):
    """A case from a source of random numbers: ``number(n)`` gives one from 0 to n − 1."""
    shapes = tuple(SHAPES[number(len(SHAPES))] for _ in range(1 + number(3)))
    steps = tuple(
        (KINDS[number(len(KINDS))], number(1000), number(100), number(100)) for _ in range(1 + number(longest - 1))
    )
    return Case(shapes, bool(number(4)), steps, bool(number(2)), number(2**31))


def with_op(case, name, which):
    """The case with an op of the registry as its first step, on one of the op's samples."""
    step = ("op", OPS.index(name), which, 0)
    return replace(case, steps=(step, *case.steps))


def random_case(rng):
    return make_case(lambda n: int(rng.integers(0, n)))


def broadcastable(a, b):
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False))


def _write(a):
    copy = a.clone()
    copy[0] = copy[0] * 2 + 1
    return copy


def _write_view(a):
    copy = a.clone()
    view = copy.transpose(0, -1)[..., :1]
    view += 0.5
    copy.reshape(-1)[1:] *= 2
    return copy


def _written(a, write):
    copy = a.clone()
    write(copy)
    return copy


def _branch(a, which):
    """Python decides by what it may see of a tensor: its shape, whether it has a gradient."""
    if a.dim() > 1 and a.shape[-1] % 2:
        return a * 2 if which % 3 else a.sum(0)
    if a.dim() < 2 and a.requires_grad:
        for k in range(which % 3):
            a = a * (k + 0.5)
        return a - 1
    return torch.where(a > 0, a * a, -a) if which % 2 else a + a.numel()


def function(case, used=None, exact=False):
    """The program as a function of tensors; ``used`` counts the kinds. With ``exact`` floats are float64 throughout."""

    def note(name):
        if used is not None:
            used[name] = used.get(name, 0) + 1

    def pick(table, k):
        name = list(table)[k % len(table)]
        return name, table[name]

    def f(*inputs):
        *floats, integer = inputs
        leaves = [wrap(t._array, None, True) for t in floats] if case.gradient else list(floats)
        integers = [integer]
        with torch.set_grad_enabled(case.gradient):
            values = list(leaves)
            for kind, which, i, j in case.steps:
                a, b = values[i % len(values)], values[j % len(values)]
                made, name = None, kind
                if kind == "matmul":
                    if a.dim() >= 1 and b.dim() >= 2 and a.shape[-1] == b.shape[-1]:
                        made = (a @ b.to(a.dtype).transpose(-1, -2)) * 0.2
                elif kind == "linear":
                    if a.dim() >= 1 and a.shape[-1]:
                        n, m = 1 + which % 33, a.shape[-1]
                        w = torch.arange(n * m, dtype=a.dtype).reshape(n, m).sin() / m
                        made = torch.relu(F.linear(a, w, w[:, 0]))
                elif kind == "binary":
                    name, op = pick(BINARY, which)
                    if broadcastable(a.shape, b.shape):
                        made = op(a, b)
                elif kind == "write":
                    if _full(a):
                        made = _write(a)
                elif kind == "write view":
                    if _full(a) and a.dim() > 1:
                        made = _write_view(a)
                elif kind == "write in":
                    name, op = pick(WRITES, which)
                    name = "write " + name
                    if _full(a):
                        made = _written(a, op)
                elif kind == "branch":
                    made = _branch(a, which)
                elif kind == "cast":
                    made = a.to(torch.float64 if exact else DTYPES[which % 3])
                elif kind == "op":
                    name = OPS[which % len(OPS)]
                    for k, r in enumerate(
                        registered(
                            name, i, b, torch.float64 if exact else torch.float32 if case.single else torch.float64
                        )
                    ):
                        if _float(r) and r.numel() <= LARGEST:
                            values.append(r)
                        elif k == 0 and r.numel() <= LARGEST:
                            values.append(r.to(values[0].dtype) * 0.5)
                    note("op " + name)
                    continue
                elif kind in ("integer", "bits"):
                    p, q = integers[i % len(integers)], integers[j % len(integers)]
                    name, op = pick(INTEGER if kind == "integer" else BITS, which)
                    name = "int " + name
                    if name == "int float" and exact:
                        op = lambda i, j: i.double() * j
                    if broadcastable(p.shape, q.shape):
                        r = op(p, q)
                        if _float(r):
                            values.append(r.to(a.dtype))
                        elif r.dtype == torch.bool:
                            values.append(torch.where(r, 1.0, -0.5).to(a.dtype))
                            integers.append(r)
                        elif r.dtype != torch.int64:
                            integers.append(r)
                        else:
                            integers.append(r.clamp(-100, 100))
                        note(name)
                    continue
                elif kind == "take":
                    index = integers[j % len(integers)]
                    if _full(a) and index.numel() < 2000:
                        index = index.long() % a.shape[0]
                        made = a[index] if which % 2 else torch.index_select(a, 0, index.reshape(-1))
                elif kind == "cat":
                    if a.shape == b.shape and a.dim():
                        made = torch.cat([a, b], which % a.dim()) if which % 2 else torch.stack([a, b], which % a.dim())
                elif kind == "update":
                    continue
                else:
                    name, op = pick(UNARY, which)
                    made = op(a)
                if made is not None and made.numel() <= LARGEST:
                    values.append(made)
                    note(name)
            outs = values[-3:]
            grads = []
            if case.gradient:
                total = sum(((v * v).mean() if v.numel() else v.sum()) for v in outs if v.requires_grad)
                if not isinstance(total, int):
                    grads = [g for g in torch.autograd.grad(total, leaves, allow_unused=True) if g is not None]
                    outs = [total, *grads]
                    note("backward")
        with torch.no_grad():
            for kind, which, i, _ in case.steps:
                if kind == "update":  # as an optimizer does, in the inputs' own memory
                    p = floats[i % len(floats)]
                    g = next((g for g in grads if g.shape == p.shape and g.dtype == p.dtype), None)
                    p.mul_(0.9 + which / 1000)
                    if g is not None:
                        p.sub_(g * 0.1)
                    note("update")
        return [v.detach() for v in outs] + [r for r in integers[-1:] if r is not integer]

    return f


def smaller(case):
    """Cases with one thing less."""
    for k in range(len(case.steps)):
        yield replace(case, steps=case.steps[:k] + case.steps[k + 1 :])
    if len(case.shapes) > 1:
        for k in range(len(case.shapes)):
            yield replace(case, shapes=case.shapes[:k] + case.shapes[k + 1 :])
    if case.gradient:
        yield replace(case, gradient=False)
    for k, s in enumerate(case.shapes):
        for d, n in enumerate(s):
            if n > 1:
                yield replace(case, shapes=(*case.shapes[:k], (*s[:d], n // 2, *s[d + 1 :]), *case.shapes[k + 1 :]))
