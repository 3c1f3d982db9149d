"""JAX: the whole step jitted, its state donated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..workloads import CONTEXT, HEADS, LAYERS, LR, VOCABULARY, Workload, data, fill, hvp_vectors, parameters, workload

__all__ = ["load", "step", "supports"]


def supports(w: Workload, optimizer: str) -> bool:
    return True


def load(threads: int) -> None:
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    # Asynchronous dispatch hands every call to another thread, which costs small steps 20 to 40 µs and gains nothing
    # where each step is awaited.
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def forward(w: Workload) -> Callable[[Any, Any], Any]:
    """The network as a function of its parameters (as ``layout`` has them) and the input."""
    import jax
    import jax.numpy as jnp

    def mlp(p: Any, x: Any) -> Any:
        act = jnp.tanh if w.loss == "mse" or w.kind == "hvp" else jax.nn.relu
        for i in range(0, len(p), 2):
            x = x @ p[i].T + p[i + 1]
            x = act(x) if i + 2 < len(p) else x
        return x

    def residual(p: Any, x: Any) -> Any:
        def block(x: Any, layer: Any) -> Any:
            a, b, g, c = layer
            h = x @ a.T + b
            d = h - h.mean(0)
            return x + jax.nn.relu(d * jax.lax.rsqrt((d * d).mean(0) + 1e-5) * g + c), None

        x, _ = jax.lax.scan(block, x, p[:4])
        return x @ p[4].T + p[5]

    def cnn(p: Any, x: Any) -> Any:
        for i in (0, 2):
            x = jax.lax.conv_general_dilated(x, p[i], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x + p[i + 1])
            b, height, width, c = x.shape
            x = x.reshape(b, height // 2, 2, width // 2, 2, c).max((2, 4))  # XLA's reduce_window takes 3 × as long
        x = x.reshape(x.shape[0], -1)
        return jax.nn.relu(x @ p[4].T + p[5]) @ p[6].T + p[7]

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

    networks = {"mlp": mlp, "hvp": mlp, "residual": residual, "cnn": cnn, "lstm": lstm, "transformer": transformer}
    return networks[w.kind]


def layout(w: Workload) -> list[Any]:
    """The start values as XLA works with them best: equal layers stacked (for ``scan``), convolutions channels last."""
    import jax.numpy as jnp
    import numpy as np

    p: list[Any] = list(fill(*parameters(w)))
    if w.kind == "residual":
        p = [*(np.stack(p[i:-2:4]) for i in range(4)), p[-2], p[-1]]
    if w.kind == "cnn":
        p[0], p[2] = p[0].transpose(2, 3, 1, 0), p[2].transpose(2, 3, 1, 0)
        p[4] = p[4].reshape(64, 32, 49).transpose(0, 2, 1).reshape(64, -1)
    return [jnp.asarray(a) for a in p]


def step(library: str, name: str) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    w, which = workload(name)
    if not w.trains:
        return function(w)
    predict = forward(w)
    values = layout(w)
    xa, ya = data(w)
    xa = xa.transpose(0, 2, 3, 1) if w.kind == "cnn" else xa
    x, y = jnp.asarray(xa), jnp.asarray(ya.reshape(-1) if w.loss == "ce" else ya)
    lr = LR[which]

    def loss_of(p: Any, x: Any, y: Any) -> Any:
        out = predict(p, x)
        return ((out - y) ** 2).mean() if w.loss == "mse" else cross_entropy(out, y)

    def training(state: Any, x: Any, y: Any) -> Any:
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
        # 1 − βᵗ as −expm1(t ln β): the plain difference has only four digits in float32 at t = 1.
        size, root = lr / -jnp.expm1(t * math.log(0.9)), jnp.sqrt(-jnp.expm1(t * math.log(0.999)))
        p = [a - size * b / (jnp.sqrt(c) / root + 1e-8) for a, b, c in zip(p, m, v, strict=True)]
        return (p, m, v, t), value

    run = jax.jit(training, donate_argnums=0)
    zeros = lambda: [jnp.zeros_like(a) for a in values] if which == "adam" else []  # noqa: E731
    state = (values, zeros(), zeros(), jnp.zeros(()))

    def once() -> Any:
        nonlocal state
        state, value = run(state, x, y)
        value.block_until_ready()
        return value

    return once


def cross_entropy(out: Any, y: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], 1).mean()


def function(w: Workload) -> Callable[[], Any]:
    """A function workload."""
    import jax
    import jax.numpy as jnp

    from .chainrule import summary

    xa, ya = data(w)
    x = jnp.asarray(xa)

    def chain(x: Any) -> Any:
        y = x
        for _ in range(5):
            y = jnp.abs(y * 0.9 + x) - 0.1
        return y

    def layer_norm(x: Any) -> Any:
        d = x - x.mean(-1, keepdims=True)
        return d * jax.lax.rsqrt((d * d).mean(-1, keepdims=True) + 1e-5) * weight + bias

    if w.kind == "layernorm":
        weight, bias = jnp.asarray(xa[0]), jnp.asarray(xa[1])
    if w.kind == "hvp":
        predict, y = forward(w), jnp.asarray(ya)
        values, vectors = [jnp.asarray(a) for a in fill(*parameters(w))], [jnp.asarray(v) for v in hvp_vectors(w)]
        gradient = jax.grad(lambda p, x: cross_entropy(predict(p, x), y))
        both = jax.jit(lambda p, v, x: jax.jvp(lambda p: gradient(p, x), (p,), (v,))[1])
        call: Callable[[Any], Any] = lambda x: both(values, vectors, x)  # noqa: E731
    else:
        call = jax.jit({"chain": chain, "softmax": jax.nn.softmax, "layernorm": layer_norm}[w.kind])
    once: Any = lambda: jax.block_until_ready(call(x))  # noqa: E731
    once.look = lambda r: [f for a in (r if isinstance(r, list) else [r]) for f in summary(a)]
    return once
