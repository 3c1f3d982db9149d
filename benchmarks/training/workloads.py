"""The training steps that are measured: one text for PyTorch and chainrule, one for jax, same weights and data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["WORKLOADS", "Workload", "prepare"]


@dataclass(frozen=True)
class Workload:
    """A model, its batch and its loss; the full name adds the optimizer: ``key/sgd`` or ``key/adam``."""

    title: str
    kind: str
    batch: int
    loss: str
    widths: tuple[int, ...] = ()
    clip: bool = False


WORKLOADS = {
    "a": Workload("(a) MLP 2-16-16-1, batch 32", "mlp", 32, "mse", (2, 16, 16, 1)),
    "b": Workload("(b) MLP 64-64-32-10, batch 32", "mlp", 32, "ce", (64, 64, 32, 10)),
    "c": Workload("(c) MLP 784-256-10, batch 128", "mlp", 128, "ce", (784, 256, 10)),
    "d": Workload("(d) MLP 784-1024-1024-10, batch 256", "mlp", 256, "ce", (784, 1024, 1024, 10)),
    "e": Workload("(e) residual MLP, 50 × 64, batch norm, batch 32", "residual", 32, "ce", (64,) * 51),
    "f": Workload("(f) CNN 28×28, batch 64", "cnn", 64, "ce"),
    "g": Workload("(g) LSTM 64, 32 steps, batch 32", "lstm", 32, "ce", clip=True),
    "h": Workload("(h) transformer 4 × 64, context 64, batch 16", "transformer", 16, "ce", clip=True),
}
LR = {"sgd": 0.01, "adam": 1e-3}
VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS = 64, 64, 64, 4, 4


def workload(name: str) -> tuple[Workload, str]:
    """The workload and optimizer of ``key/optimizer``; ``grid-WIDTH-BATCH/…`` is a cell of the grid."""
    key, _, optimizer = name.partition("/")
    if key.startswith("grid-"):
        width, batch = map(int, key.split("-")[1:])
        return Workload(
            f"MLP {width}-{width}-{width}-10, batch {batch}", "mlp", batch, "ce", (width, width, width, 10)
        ), optimizer
    return WORKLOADS[key], optimizer


def data(w: Workload) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Inputs and targets."""
    rng = np.random.default_rng(1)
    if w.kind == "transformer":
        text = rng.integers(0, VOCABULARY, (w.batch, CONTEXT + 1))
        return text[:, :-1].copy(), text[:, 1:].copy()
    shape = {"cnn": (w.batch, 1, 28, 28), "lstm": (w.batch, 32, 64)}.get(w.kind, (w.batch, *w.widths[:1]))
    x = rng.normal(size=shape).astype(np.float32)
    if w.loss == "mse":
        return x, rng.normal(size=(w.batch, 1)).astype(np.float32)
    return x, rng.integers(0, 10, w.batch)


def fill(shapes: list[tuple[int, ...]], names: list[str]) -> list[np.ndarray[Any, Any]]:
    """The same start values for every library: by position, scaled by the fan-in; norms start at 1 and 0."""
    rng = np.random.default_rng(2)
    out: list[np.ndarray[Any, Any]] = []
    for shape, name in zip(shapes, names, strict=True):
        if "norm" in name:
            # 0.2 keeps a stack of 50 residual blocks from growing so large that training is chaotic.
            scale = 0.2 if len(shapes) > 150 else 1.0
            out.append(np.full(shape, scale if name.endswith("weight") else 0.0, np.float32))
        else:
            fan = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
            out.append((rng.uniform(-1, 1, shape) / np.sqrt(fan)).astype(np.float32))
    return out


# --- PyTorch and chainrule ----------------------------------------------------------------------------------------


def torch_model(torch: Any, w: Workload) -> Any:
    nn = torch.nn
    F = nn.functional

    class Block(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(n, n), nn.BatchNorm1d(n)

        def forward(self, x: Any) -> Any:
            return x + torch.relu(self.norm(self.linear(x)))

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(64, 64, batch_first=True), nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            out, _ = self.lstm(x)
            return self.head(out[:, -1])

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.qkv, self.proj = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.norm2, self.up, self.down = (
                nn.LayerNorm(WIDTH),
                nn.Linear(WIDTH, 4 * WIDTH),
                nn.Linear(4 * WIDTH, WIDTH),
            )

        def forward(self, x: Any) -> Any:
            b, t, c = x.shape
            q, k, v = self.qkv(self.norm1(x)).reshape(b, t, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            self.blocks = nn.Sequential(*[Attention() for _ in range(LAYERS)])
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

        def forward(self, x: Any) -> Any:
            x = self.tokens(x) + self.places.weight
            return self.head(self.norm(self.blocks(x))).reshape(-1, VOCABULARY)

    if w.kind == "mlp":
        act = nn.Tanh if w.loss == "mse" else nn.ReLU
        layers: list[Any] = []
        for a, b in zip(w.widths, w.widths[1:], strict=False):
            layers += [nn.Linear(a, b), act()]
        return nn.Sequential(*layers[:-1])
    if w.kind == "residual":
        return nn.Sequential(*[Block(n) for n in w.widths[1:]], nn.Linear(64, 10))
    if w.kind == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip
    return Recurrent() if w.kind == "lstm" else Transformer()


def torch_step(torch: Any, name: str, compiled: Callable[[Any], Any] | None) -> Callable[[], Any]:
    w, which = workload(name)
    F = torch.nn.functional
    model = torch_model(torch, w)
    named = list(model.named_parameters())
    with torch.no_grad():
        arrays = fill([tuple(p.shape) for _, p in named], [n for n, _ in named])
        for (_, p), a in zip(named, arrays, strict=True):
            p.copy_(torch.from_numpy(a))
    make = torch.optim.SGD if which == "sgd" else torch.optim.Adam
    optimizer = make(model.parameters(), lr=LR[which])
    xa, ya = data(w)
    x, y = torch.from_numpy(xa), torch.from_numpy(ya)
    loss_of = F.mse_loss if w.loss == "mse" else F.cross_entropy
    clip = torch.nn.utils.clip_grad_norm_

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(model(x), y.reshape(-1) if w.kind == "transformer" else y)
        loss.backward()
        if w.clip:
            clip(model.parameters(), 1.0)
        optimizer.step()
        return loss

    run = step if compiled is None else compiled(step)
    return lambda: run(x, y).detach()


# --- jax ----------------------------------------------------------------------------------------------------------


def jax_model(w: Workload) -> tuple[list[tuple[int, ...]], list[str], Callable[..., Any]]:
    """Parameter shapes and names in PyTorch's order, and the forward function of (parameters, input)."""
    import jax
    import jax.numpy as jnp

    if w.kind == "mlp":
        act = jnp.tanh if w.loss == "mse" else jax.nn.relu
        pairs = list(zip(w.widths, w.widths[1:], strict=False))
        shapes = [s for a, b in pairs for s in ((b, a), (b,))]

        def mlp(p: Any, x: Any) -> Any:
            for i in range(len(pairs)):
                x = x @ p[2 * i].T + p[2 * i + 1]
                x = act(x) if i + 1 < len(pairs) else x
            return x

        return shapes, ["w"] * len(shapes), mlp
    if w.kind == "residual":
        n = len(w.widths) - 1
        shapes = [(64, 64), (64,), (64,), (64,)] * n + [(10, 64), (10,)]
        names = ["linear.weight", "linear.bias", "norm.weight", "norm.bias"] * n + ["w", "b"]

        def residual(p: Any, x: Any) -> Any:
            for i in range(n):
                a, b, g, c = p[4 * i : 4 * i + 4]
                h = x @ a.T + b
                mean = h.mean(0)
                d = h - mean
                x = x + jax.nn.relu(d * jax.lax.rsqrt((d * d).mean(0) + 1e-5) * g + c)
            return x @ p[-2].T + p[-1]

        return shapes, names, residual
    if w.kind == "cnn":
        shapes = [(16, 1, 3, 3), (16,), (32, 16, 3, 3), (32,), (64, 32 * 49), (64,), (10, 64), (10,)]

        def cnn(p: Any, x: Any) -> Any:
            for i in (0, 2):
                x = jax.lax.conv_general_dilated(x, p[i], (1, 1), "SAME") + p[i + 1][:, None, None]
                x = jax.nn.relu(x)
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
            x = x.reshape(x.shape[0], -1)
            return jax.nn.relu(x @ p[4].T + p[5]) @ p[6].T + p[7]

        return shapes, ["w"] * 8, cnn
    if w.kind == "lstm":
        shapes = [(256, 64), (256, 64), (256,), (256,), (10, 64), (10,)]

        def lstm(p: Any, x: Any) -> Any:
            def cell(carry: Any, xt: Any) -> Any:
                h, c = carry
                i, f, g, o = jnp.split(xt @ p[0].T + p[2] + h @ p[1].T + p[3], 4, 1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), None

            zero = jnp.zeros((x.shape[0], 64), x.dtype)
            (h, _), _ = jax.lax.scan(cell, (zero, zero), x.swapaxes(0, 1))
            return h @ p[4].T + p[5]

        return shapes, ["w"] * 6, lstm
    block = [(64,), (64,), (192, 64), (192,), (64, 64), (64,), (64,), (64,), (256, 64), (256,), (64, 256), (64,)]
    names = ["norm.weight", "norm.bias", "w", "b", "w", "b", "norm.weight", "norm.bias", "w", "b", "w", "b"]
    shapes = [(VOCABULARY, WIDTH), (CONTEXT, WIDTH), *block * LAYERS, (64,), (64,), (VOCABULARY, WIDTH), (VOCABULARY,)]

    def norm(x: Any, g: Any, b: Any) -> Any:
        d = x - x.mean(-1, keepdims=True)
        return d * jax.lax.rsqrt((d * d).mean(-1, keepdims=True) + 1e-5) * g + b

    def transformer(p: Any, x: Any) -> Any:
        x = p[0][x] + p[1]
        mask = jnp.tril(jnp.ones((CONTEXT, CONTEXT), bool))
        for i in range(LAYERS):
            q = p[2 + 12 * i : 14 + 12 * i]
            b, t, c = x.shape
            qkv = (norm(x, q[0], q[1]) @ q[2].T + q[3]).reshape(b, t, 3, HEADS, c // HEADS).transpose(2, 0, 3, 1, 4)
            a = qkv[0] @ qkv[1].swapaxes(-1, -2) / math.sqrt(c // HEADS)
            a = jax.nn.softmax(jnp.where(mask, a, -jnp.inf), -1)
            x = x + (a @ qkv[2]).swapaxes(1, 2).reshape(b, t, c) @ q[4].T + q[5]
            x = x + jax.nn.gelu(norm(x, q[6], q[7]) @ q[8].T + q[9], approximate=True) @ q[10].T + q[11]
        return (norm(x, p[-4], p[-3]) @ p[-2].T + p[-1]).reshape(-1, VOCABULARY)

    return shapes, ["w", "w", *names * LAYERS, "norm.weight", "norm.bias", "w", "b"], transformer


def jax_step(name: str) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    w, which = workload(name)
    shapes, names, forward = jax_model(w)
    parameters = [jnp.asarray(a) for a in fill(shapes, names)]
    xa, ya = data(w)
    x, y = jnp.asarray(xa), jnp.asarray(ya.reshape(-1) if w.loss == "ce" else ya)
    lr = LR[which]

    def loss_of(p: Any, x: Any, y: Any) -> Any:
        out = forward(p, x)
        if w.loss == "mse":
            return ((out - y) ** 2).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], 1).mean()

    def step(state: Any, x: Any, y: Any) -> Any:
        p, m, v, t = state
        value, g = jax.value_and_grad(loss_of)(p, x, y)
        if w.clip:
            norm = jnp.sqrt(sum((a * a).sum() for a in g))
            factor = jnp.minimum(1.0, 1.0 / (norm + 1e-6))
            g = [a * factor for a in g]
        if which == "sgd":
            return ([a - lr * b for a, b in zip(p, g, strict=True)], m, v, t), value
        t = t + 1
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
        v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g, strict=True)]
        size, root = lr / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
        p = [a - size * b / (jnp.sqrt(c) / root + 1e-8) for a, b, c in zip(p, m, v, strict=True)]
        return (p, m, v, t), value

    run = jax.jit(step, donate_argnums=0)
    zeros = lambda: [jnp.zeros_like(a) for a in parameters] if which == "adam" else []  # noqa: E731
    state = (parameters, zeros(), zeros(), jnp.zeros(()))

    def once() -> Any:
        nonlocal state
        state, value = run(state, x, y)
        value.block_until_ready()
        return value

    return once


def prepare(library: str, name: str) -> Callable[[], Any]:
    """One training step of a workload in a library."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    if hasattr(os, "sched_setaffinity") and library.startswith("jax"):
        # XLA takes its thread count from the processors it may run on; no flag bounds it.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    if library == "jax.jit":
        return jax_step(name)
    if library in ("torch", "torch.compile"):
        import torch

        torch.set_num_threads(threads)
        return torch_step(torch, name, torch.compile if library == "torch.compile" else None)
    import chainrule

    return torch_step(chainrule, name, chainrule.compile if library == "chainrule" else None)
