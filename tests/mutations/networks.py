"""Small networks in NumPy with a right backward pass written by hand: the ground that the mistakes are planted in.

Each builder returns a ``Network``: ``f(p) -> loss`` and ``grad(p) -> {name: gradient}`` for a dict p of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Network", "NETWORKS", "build"]


@dataclass(frozen=True)
class Network:
    name: str
    f: Callable[[dict[str, Any]], float]
    grad: Callable[[dict[str, Any]], dict[str, Any]]
    point: dict[str, np.ndarray]


NETWORKS: dict[str, Callable[[np.random.Generator], tuple[Any, Any, dict[str, np.ndarray]]]] = {}


def network(builder):
    NETWORKS[builder.__name__] = builder
    return builder


def build(name: str, seed: int = 0) -> Network:
    f, grad, point = NETWORKS[name](np.random.default_rng(seed))
    return Network(name, f, grad, point)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@network
def neuron(rng):
    x = rng.normal(size=(6, 3))
    t = rng.normal(size=6)
    N = 6

    def f(p):
        z = x @ p["w"] + p["b"]
        a = sigmoid(z)
        return np.mean((a - t) ** 2)

    def grad(p):
        z = x @ p["w"] + p["b"]
        a = sigmoid(z)
        da = 2 * (a - t) / N
        dz = da * a * (1 - a)
        dw = x.T @ dz
        db = dz.sum()
        return {"w": dw, "b": db}

    return f, grad, {"w": rng.normal(size=3), "b": np.array(0.3)}


@network
def mlp2_relu(rng):
    X = rng.normal(size=(7, 4))
    Y = np.eye(3)[rng.integers(0, 3, size=7)]
    N = 7

    def f(p):
        z1 = X @ p["W1"] + p["b1"]
        a1 = np.maximum(z1, 0)
        prob = softmax(a1 @ p["W2"] + p["b2"])
        return -np.sum(Y * np.log(prob)) / N

    def grad(p):
        z1 = X @ p["W1"] + p["b1"]
        a1 = np.maximum(z1, 0)
        prob = softmax(a1 @ p["W2"] + p["b2"])
        dz2 = (prob - Y) / N
        dW2 = a1.T @ dz2
        db2 = dz2.sum(axis=0)
        da1 = dz2 @ p["W2"].T
        dz1 = da1 * (z1 > 0)
        dW1 = X.T @ dz1
        db1 = dz1.sum(axis=0)
        return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}

    return (
        f,
        grad,
        {
            "W1": rng.normal(size=(4, 5)),
            "b1": 0.1 * rng.normal(size=5),
            "W2": rng.normal(size=(5, 3)),
            "b2": np.zeros(3),
        },
    )


@network
def mlp3_tanh_l2(rng):
    X = rng.normal(size=(5, 4))
    T = rng.normal(size=(5, 2))
    lam = 0.03
    N = 5

    def f(p):
        h1 = np.tanh(X @ p["W1"] + p["b1"])
        h2 = np.tanh(h1 @ p["W2"] + p["b2"])
        out = h2 @ p["W3"] + p["b3"]
        penalty = np.sum(p["W1"] ** 2) + np.sum(p["W2"] ** 2) + np.sum(p["W3"] ** 2)
        return np.sum((out - T) ** 2) / N + 0.5 * lam * penalty

    def grad(p):
        z1 = X @ p["W1"] + p["b1"]
        h1 = np.tanh(z1)
        z2 = h1 @ p["W2"] + p["b2"]
        h2 = np.tanh(z2)
        out = h2 @ p["W3"] + p["b3"]
        dout = 2 * (out - T) / N
        dW3 = h2.T @ dout + lam * p["W3"]
        db3 = dout.sum(axis=0)
        dh2 = dout @ p["W3"].T
        dz2 = dh2 * (1 - h2**2)
        dW2 = h1.T @ dz2 + lam * p["W2"]
        db2 = dz2.sum(axis=0)
        dh1 = dz2 @ p["W2"].T
        dz1 = dh1 * (1 - h1**2)
        dW1 = X.T @ dz1 + lam * p["W1"]
        db1 = dz1.sum(axis=0)
        return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2, "W3": dW3, "b3": db3}

    point = {
        "W1": rng.normal(size=(4, 4)),
        "b1": rng.normal(size=4),
        "W2": rng.normal(size=(4, 4)),
        "b2": rng.normal(size=4),
    }
    return f, grad, {**point, "W3": rng.normal(size=(4, 2)), "b3": rng.normal(size=2)}


@network
def mlp_residual(rng):
    X = rng.normal(size=(6, 4))
    T = rng.normal(size=(6, 4))
    N = 6

    def f(p):
        z1 = X @ p["W1"] + p["b1"]
        a1 = sigmoid(z1)
        h = X + a1 @ p["W2"]
        out = h * p["g"] + a1
        return 0.5 * np.sum((out - T) ** 2) / N

    def grad(p):
        z1 = X @ p["W1"] + p["b1"]
        a1 = sigmoid(z1)
        h = X + a1 @ p["W2"]
        out = h * p["g"] + a1
        dout = (out - T) / N
        dg = (dout * h).sum(axis=0)
        dh = dout * p["g"]
        dW2 = a1.T @ dh
        da1 = dout.copy()
        da1 += dh @ p["W2"].T
        dz1 = da1 * a1 * (1 - a1)
        dW1 = X.T @ dz1
        db1 = dz1.sum(axis=0)
        return {"W1": dW1, "b1": db1, "W2": dW2, "g": dg}

    return (
        f,
        grad,
        {
            "W1": rng.normal(size=(4, 4)),
            "b1": rng.normal(size=4),
            "W2": rng.normal(size=(4, 4)),
            "g": rng.normal(size=4),
        },
    )


@network
def softmax_ce(rng):
    labels = rng.integers(0, 4, size=5)
    weight = rng.uniform(0.5, 2, size=5)
    rows = np.arange(5)

    def f(p):
        prob = softmax(p["z"] / p["tau"])
        return -np.sum(weight * np.log(prob[rows, labels])) / weight.sum()

    def grad(p):
        prob = softmax(p["z"] / p["tau"])
        d = prob.copy()
        d[rows, labels] -= 1
        d = d * weight[:, None] / weight.sum()
        dz = d / p["tau"]
        dtau = -np.sum(d * p["z"]) / p["tau"] ** 2
        return {"z": dz, "tau": dtau}

    return f, grad, {"z": rng.normal(size=(5, 4)), "tau": np.array(0.7)}


@network
def mse_linear(rng):
    X = rng.normal(size=(8, 3))
    y = rng.normal(size=(8, 2))
    n = y.size

    def f(p):
        return np.mean((X @ p["W"] + p["b"] - y) ** 2)

    def grad(p):
        r = X @ p["W"] + p["b"] - y
        dout = (2 / n) * r
        dW = X.T @ dout
        db = np.sum(dout, axis=0)
        return {"W": dW, "b": db}

    return f, grad, {"W": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}


@network
def batch_norm(rng):
    U = rng.normal(size=(9, 4))
    eps = 1e-3

    def f(p):
        mu = p["x"].mean(axis=0)
        var = p["x"].var(axis=0)
        xhat = (p["x"] - mu) / np.sqrt(var + eps)
        return np.sum(U * (p["gamma"] * xhat + p["beta"]))

    def grad(p):
        mu = p["x"].mean(axis=0)
        var = p["x"].var(axis=0)
        inv_std = 1 / np.sqrt(var + eps)
        xhat = (p["x"] - mu) * inv_std
        dgamma = np.sum(U * xhat, axis=0)
        dbeta = np.sum(U, axis=0)
        dxhat = U * p["gamma"]
        dx = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) * inv_std
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return (
        f,
        grad,
        {"x": rng.normal(size=(9, 4)) * [1, 2, 0.5, 3] + 1, "gamma": rng.normal(size=4), "beta": rng.normal(size=4)},
    )


@network
def batch_norm_long(rng):
    X = rng.normal(size=(8, 3))
    T = rng.normal(size=(8, 4))
    eps = 1e-5
    N = 8

    def f(p):
        h = X @ p["W"]
        xc = h - h.mean(axis=0)
        xhat = xc / np.sqrt((xc**2).mean(axis=0) + eps)
        out = np.tanh(p["gamma"] * xhat + p["beta"])
        return np.mean(np.sum((out - T) ** 2, axis=1))

    def grad(p):
        h = X @ p["W"]
        xc = h - h.mean(axis=0)
        var = (xc**2).mean(axis=0)
        inv_std = 1 / np.sqrt(var + eps)
        xhat = xc * inv_std
        y = p["gamma"] * xhat + p["beta"]
        out = np.tanh(y)
        dout = 2 * (out - T) / N
        dy = dout * (1 - out**2)
        dgamma = (dy * xhat).sum(axis=0)
        dbeta = dy.sum(axis=0)
        dxhat = dy * p["gamma"]
        dvar = np.sum(dxhat * xc, axis=0) * -0.5 * inv_std**3
        dxc = dxhat * inv_std + dvar * 2 * xc / N
        dmu = -dxc.sum(axis=0)
        dh = dxc + dmu / N
        dW = X.T @ dh
        return {"W": dW, "gamma": dgamma, "beta": dbeta}

    return f, grad, {"W": rng.normal(size=(3, 4)), "gamma": rng.normal(size=4), "beta": rng.normal(size=4)}


@network
def layer_norm(rng):
    U = rng.normal(size=(5, 6))
    eps = 1e-5

    def f(p):
        mu = p["x"].mean(axis=-1, keepdims=True)
        var = p["x"].var(axis=-1, keepdims=True)
        xhat = (p["x"] - mu) / np.sqrt(var + eps)
        return np.sum(U * np.tanh(p["gamma"] * xhat + p["beta"]))

    def grad(p):
        mu = p["x"].mean(axis=-1, keepdims=True)
        var = p["x"].var(axis=-1, keepdims=True)
        rstd = 1 / np.sqrt(var + eps)
        xhat = (p["x"] - mu) * rstd
        y = p["gamma"] * xhat + p["beta"]
        dy = U * (1 - np.tanh(y) ** 2)
        dgamma = (dy * xhat).sum(axis=0)
        dbeta = dy.sum(axis=0)
        g = dy * p["gamma"]
        c1 = g.mean(axis=-1, keepdims=True)
        c2 = (g * xhat).mean(axis=-1, keepdims=True)
        dx = rstd * (g - c1 - xhat * c2)
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return f, grad, {"x": rng.normal(size=(5, 6)) * 2 + 1, "gamma": rng.normal(size=6), "beta": rng.normal(size=6)}


@network
def conv2d(rng):
    U = rng.normal(size=(2, 3, 4, 4))
    C, K, H, k = 2, 3, 4, 3

    def f(p):
        out = np.zeros((2, K, H, H))
        for i in range(H):
            for j in range(H):
                patch = p["x"][:, :, i : i + k, j : j + k]
                out[:, :, i, j] = np.einsum("ncab,kcab->nk", patch, p["w"])
        out += p["b"][:, None, None]
        return np.sum(U * np.maximum(out, 0))

    def grad(p):
        x, w = p["x"], p["w"]
        out = np.zeros((2, K, H, H))
        for i in range(H):
            for j in range(H):
                out[:, :, i, j] = np.einsum("ncab,kcab->nk", x[:, :, i : i + k, j : j + k], w)
        out += p["b"][:, None, None]
        g = U * (out > 0)
        db = g.sum(axis=(0, 2, 3))
        dw = np.zeros_like(w)
        for i in range(H):
            for j in range(H):
                dw += np.einsum("nk,ncab->kcab", g[:, :, i, j], x[:, :, i : i + k, j : j + k])
        padded = np.pad(g, ((0, 0), (0, 0), (k - 1, k - 1), (k - 1, k - 1)))
        flipped = w[:, :, ::-1, ::-1]
        dx = np.zeros_like(x)
        for i in range(H + k - 1):
            for j in range(H + k - 1):
                dx[:, :, i, j] = np.einsum("nkab,kcab->nc", padded[:, :, i : i + k, j : j + k], flipped)
        return {"x": dx, "w": dw, "b": db}

    return (
        f,
        grad,
        {
            "x": rng.normal(size=(2, C, H + k - 1, H + k - 1)),
            "w": rng.normal(size=(K, C, k, k)),
            "b": rng.normal(size=K),
        },
    )


@network
def conv1d(rng):
    U = rng.normal(size=6)
    n, k = 8, 3

    def f(p):
        out = np.array([np.dot(p["x"][i : i + k], p["w"]) for i in range(n - k + 1)])
        return np.sum(U * np.tanh(out))

    def grad(p):
        x, w = p["x"], p["w"]
        out = np.array([np.dot(x[i : i + k], w) for i in range(n - k + 1)])
        g = U * (1 - np.tanh(out) ** 2)
        dw = np.array([np.dot(g, x[a : a + n - k + 1]) for a in range(k)])
        dx = np.convolve(g, w)
        return {"x": dx, "w": dw}

    return f, grad, {"x": rng.normal(size=8), "w": rng.normal(size=3)}


@network
def attention(rng):
    X = rng.normal(size=(5, 4))
    U = rng.normal(size=(5, 4))
    d = 4

    def f(p):
        q, k, v = X @ p["Wq"], X @ p["Wk"], X @ p["Wv"]
        P = softmax(q @ k.T / np.sqrt(d))
        return np.sum(U * (P @ v))

    def grad(p):
        q, k, v = X @ p["Wq"], X @ p["Wk"], X @ p["Wv"]
        P = softmax(q @ k.T / np.sqrt(d))
        dv = P.T @ U
        dP = U @ v.T
        dS = P * (dP - np.sum(dP * P, axis=-1, keepdims=True))
        dS = dS / np.sqrt(d)
        dq = dS @ k
        dk = dS.T @ q
        dWq = X.T @ dq
        dWk = X.T @ dk
        dWv = X.T @ dv
        return {"Wq": dWq, "Wk": dWk, "Wv": dWv}

    return f, grad, {"Wq": rng.normal(size=(4, 4)), "Wk": rng.normal(size=(4, 4)), "Wv": rng.normal(size=(4, 4))}


@network
def lstm_cell(rng):
    x = rng.normal(size=(3, 2))
    h0 = rng.normal(size=(3, 4))
    c0 = rng.normal(size=(3, 4))
    U = rng.normal(size=(3, 4))

    def f(p):
        z = x @ p["Wx"] + h0 @ p["Wh"] + p["b"]
        i, fg, o, g = sigmoid(z[:, 0:4]), sigmoid(z[:, 4:8]), sigmoid(z[:, 8:12]), np.tanh(z[:, 12:16])
        c = fg * c0 + i * g
        h = o * np.tanh(c)
        return np.sum(U * h) + 0.5 * np.sum(c**2)

    def grad(p):
        z = x @ p["Wx"] + h0 @ p["Wh"] + p["b"]
        i, fg, o, g = sigmoid(z[:, 0:4]), sigmoid(z[:, 4:8]), sigmoid(z[:, 8:12]), np.tanh(z[:, 12:16])
        c = fg * c0 + i * g
        tc = np.tanh(c)
        dh = U
        do = dh * tc
        dc = dh * o * (1 - tc**2)
        dc += c
        df = dc * c0
        di = dc * g
        dg = dc * i
        dzi = di * i * (1 - i)
        dzf = df * fg * (1 - fg)
        dzo = do * o * (1 - o)
        dzg = dg * (1 - g**2)
        dz = np.concatenate([dzi, dzf, dzo, dzg], axis=1)
        dWx = x.T @ dz
        dWh = h0.T @ dz
        db = dz.sum(axis=0)
        return {"Wx": dWx, "Wh": dWh, "b": db}

    return (
        f,
        grad,
        {"Wx": rng.normal(size=(2, 16)), "Wh": 0.5 * rng.normal(size=(4, 16)), "b": 0.1 * rng.normal(size=16)},
    )


@network
def rnn(rng):
    xs = rng.normal(size=(4, 3, 2))
    T = 4
    target = rng.normal(size=(3, 3))

    def f(p):
        h = np.zeros((3, 3))
        for t in range(T):
            h = np.tanh(xs[t] @ p["Wx"] + h @ p["Wh"] + p["b"])
        return 0.5 * np.sum((h - target) ** 2)

    def grad(p):
        hs = np.zeros((T + 1, 3, 3))
        for t in range(T):
            hs[t + 1] = np.tanh(xs[t] @ p["Wx"] + hs[t] @ p["Wh"] + p["b"])
        dWx = np.zeros_like(p["Wx"])
        dWh = np.zeros_like(p["Wh"])
        db = np.zeros_like(p["b"])
        dh = hs[T] - target
        for t in reversed(range(T)):
            dz = dh * (1 - hs[t + 1] ** 2)
            dWx += xs[t].T @ dz
            dWh += hs[t].T @ dz
            db += dz.sum(axis=0)
            dh = dz @ p["Wh"].T
        return {"Wx": dWx, "Wh": dWh, "b": db}

    return f, grad, {"Wx": rng.normal(size=(2, 3)), "Wh": rng.normal(size=(3, 3)), "b": rng.normal(size=3)}


@network
def embedding(rng):
    tokens = np.array([[0, 2, 2], [3, 1, 2]])
    T = rng.normal(size=(2, 3))

    def f(p):
        e = p["E"][tokens]
        m = e.mean(axis=1)
        out = m @ p["W"] + p["b"]
        return 0.5 * np.sum((out - T) ** 2)

    def grad(p):
        e = p["E"][tokens]
        m = e.mean(axis=1)
        out = m @ p["W"] + p["b"]
        dout = out - T
        dW = m.T @ dout
        db = dout.sum(axis=0)
        dm = dout @ p["W"].T
        de = np.repeat(dm[:, None, :], 3, axis=1) / 3
        dE = np.zeros_like(p["E"])
        np.add.at(dE, tokens, de)
        return {"E": dE, "W": dW, "b": db}

    return f, grad, {"E": rng.normal(size=(5, 4)), "W": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}
