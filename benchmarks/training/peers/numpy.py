"""NumPy by hand: forward, backward and update of an MLP written out, every array allocated beforehand.

All parameters lie in one vector and all gradients in another, so that an update is a handful of calls for the whole
network, whatever its depth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..workloads import LR, Workload, data, fill, parameters, workload

__all__ = ["load", "step", "supports"]

CHUNK = 1 << 15  # floats: two such arrays stay in a core's own cache


def supports(w: Workload, optimizer: str) -> bool:
    return w.kind in ("mlp", "chain", "softmax", "layernorm")


def load(threads: int) -> None:
    """NumPy's BLAS reads its thread count from the environment."""


def step(library: str, name: str) -> Callable[[], Any]:
    w, which = workload(name)
    return mlp(w, which) if w.trains else function(w)


def mlp(w: Workload, which: str) -> Callable[[], Any]:
    """One training step of an MLP."""
    shapes, names = parameters(w)
    size = sum(int(np.prod(s)) for s in shapes)
    flat, flat_gradient = np.empty(size, np.float32), np.empty(size, np.float32)

    def views(vector: Any) -> list[Any]:
        ends = np.cumsum([int(np.prod(s)) for s in shapes])
        return [part.reshape(s) for part, s in zip(np.split(vector, ends[:-1]), shapes, strict=True)]

    for view, start in zip(views(flat), fill(shapes, names), strict=True):
        view[...] = start
    weights, biases = views(flat)[::2], views(flat)[1::2]
    weight_gradients, bias_gradients = views(flat_gradient)[::2], views(flat_gradient)[1::2]
    layers, last = len(weights), len(weights) - 1
    x, y = data(w)
    transposed = [weight.T for weight in weights]
    a = [x, *(np.empty((w.batch, n), np.float32) for n in w.widths[1:])]
    delta = [np.empty_like(layer) for layer in a]
    delta_t = [d.T for d in delta]
    mask = [np.empty(layer.shape, bool) for layer in a]
    ones = np.ones(w.batch, np.float32)
    column = np.empty((w.batch, 1), np.float32)
    row = column[:, 0]
    relu, scores, error = w.loss == "ce", a[-1], delta[-1]
    target = np.arange(w.batch) * w.widths[-1] + y if relu else None
    update = {"sgd": sgd, "adam": adam}[which](flat, flat_gradient)

    def loss() -> float:
        """The loss; leaves its gradient with respect to the scores in ``error``."""
        if not relu:
            np.subtract(scores, y, out=error)
            flat_error = error.reshape(-1)
            value = float(np.dot(flat_error, flat_error)) / error.size
            np.multiply(error, 2 / error.size, out=error)
            return value
        np.maximum.reduce(scores, axis=1, keepdims=True, out=column)
        np.subtract(scores, column, out=scores)
        picked = scores.reshape(-1)[target]
        np.exp(scores, out=error)
        np.add.reduce(error, axis=1, keepdims=True, out=column)
        np.divide(error, column, out=error)
        error.reshape(-1)[target] -= 1
        np.multiply(error, 1 / w.batch, out=error)
        return float((np.log(row, out=row).sum() - picked.sum()) / w.batch)

    def once() -> float:
        for i in range(layers):
            z = a[i + 1]
            np.matmul(a[i], transposed[i], out=z)
            np.add(z, biases[i], out=z)
            if i < last:
                if relu:
                    np.maximum(z, 0, out=z)
                else:
                    np.tanh(z, out=z)
        value = loss()
        for i in range(last, -1, -1):
            d = delta[i + 1]
            np.matmul(delta_t[i + 1], a[i], out=weight_gradients[i])
            np.dot(ones, d, out=bias_gradients[i])
            if i:
                below = delta[i]
                np.matmul(d, weights[i], out=below)
                if relu:
                    np.greater(a[i], 0, out=mask[i])
                    np.multiply(below, mask[i], out=below)
                else:
                    np.multiply(a[i], a[i], out=a[i])  # nobody reads this activation after this line
                    np.subtract(1, a[i], out=a[i])
                    np.multiply(below, a[i], out=below)
        update()
        return value

    return once


def sgd(p: Any, g: Any) -> Callable[[], None]:
    """p ← p − lr · g."""

    def update() -> None:
        np.multiply(g, LR["sgd"], out=g)
        np.subtract(p, g, out=p)

    return update


def adam(p: Any, g: Any) -> Callable[[], None]:
    """Adam as in its paper, in pieces that stay in the cache; t counts the steps."""
    m, v, work = np.zeros_like(p), np.zeros_like(p), np.empty(min(CHUNK, p.size), np.float32)
    cuts = range(0, p.size, CHUNK)
    pieces = [(p[i : i + CHUNK], g[i : i + CHUNK], m[i : i + CHUNK], v[i : i + CHUNK]) for i in cuts]
    pieces = [(*four, work[: four[0].size]) for four in pieces]
    t = 0

    def update() -> None:
        nonlocal t
        t += 1
        size, root = LR["adam"] / (1 - 0.9**t), 1 / (1 - 0.999**t) ** 0.5
        for pi, gi, mi, vi, s in pieces:
            np.multiply(mi, 0.9, out=mi)
            np.multiply(gi, 0.1, out=s)
            np.add(mi, s, out=mi)
            np.multiply(gi, gi, out=gi)
            np.multiply(gi, 0.001, out=gi)
            np.multiply(vi, 0.999, out=vi)
            np.add(vi, gi, out=vi)
            np.sqrt(vi, out=s)
            np.multiply(s, root, out=s)
            np.add(s, 1e-8, out=s)
            np.divide(mi, s, out=s)
            np.multiply(s, size, out=s)
            np.subtract(pi, s, out=pi)

    return update


def function(w: Workload) -> Callable[[], Any]:
    """A function workload, in pieces that stay in the cache."""
    from .chainrule import summary

    x, _ = data(w)
    out = np.empty_like(x)
    width = 1 if x.ndim == 1 else x.shape[1]
    cut = CHUNK // width
    pieces = [(x[i : i + cut], out[i : i + cut]) for i in range(0, x.shape[0], cut)]
    column, square = np.empty((cut, 1), np.float32), np.empty((cut, width), np.float32)

    def chain() -> Any:
        for a, y in pieces:
            np.multiply(a, 0.9, out=y)
            for i in range(5):
                if i:
                    np.multiply(y, 0.9, out=y)
                np.add(y, a, out=y)
                np.absolute(y, out=y)
                np.subtract(y, 0.1, out=y)
        return out

    def softmax() -> Any:
        for a, y in pieces:
            c = column[: len(a)]
            np.maximum.reduce(a, axis=1, keepdims=True, out=c)
            np.subtract(a, c, out=y)
            np.exp(y, out=y)
            np.add.reduce(y, axis=1, keepdims=True, out=c)
            np.divide(y, c, out=y)
        return out

    def layernorm() -> Any:
        for a, y in pieces:
            c, s = column[: len(a)], square[: len(a)]
            np.add.reduce(a, axis=1, keepdims=True, out=c)
            np.multiply(c, 1 / a.shape[1], out=c)
            np.subtract(a, c, out=y)
            np.multiply(y, y, out=s)
            np.add.reduce(s, axis=1, keepdims=True, out=c)
            np.multiply(c, 1 / a.shape[1], out=c)
            np.add(c, 1e-5, out=c)
            np.sqrt(c, out=c)
            np.divide(y, c, out=y)
            np.multiply(y, x[0], out=y)
            np.add(y, x[1], out=y)
        return out

    once: Any = {"chain": chain, "softmax": softmax, "layernorm": layernorm}[w.kind]
    once.look = summary
    return once
