"""Four classic mistakes in one backward pass, each planted alone, and what chainrule.check says of it."""

import numpy as np

import chainrule

rng = np.random.default_rng(0)
X, T = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
start = {"W": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}


def loss(W, b):
    return np.mean((np.tanh(X @ W + b) - T) ** 2)


def right(W, b):
    a = np.tanh(X @ W + b)
    dz = 2 * (a - T) / T.size * (1 - a**2)
    return {"W": X.T @ dz, "b": dz.sum(axis=0)}


def wrong_sign(W, b):
    a = np.tanh(X @ W + b)
    dz = 2 * (T - a) / T.size * (1 - a**2)
    return {"W": X.T @ dz, "b": dz.sum(axis=0)}


def no_activation_derivative(W, b):
    a = np.tanh(X @ W + b)
    dz = 2 * (a - T) / T.size
    return {"W": X.T @ dz, "b": dz.sum(axis=0)}


def mean_in_the_bias(W, b):
    a = np.tanh(X @ W + b)
    dz = 2 * (a - T) / T.size * (1 - a**2)
    return {"W": X.T @ dz, "b": dz.mean(axis=0)}


def no_factor_of_the_mean(W, b):
    a = np.tanh(X @ W + b)
    dz = (a - T) * (1 - a**2)
    return {"W": X.T @ dz, "b": dz.sum(axis=0)}


for gradient in (right, wrong_sign, no_activation_derivative, mean_in_the_bias, no_factor_of_the_mean):
    report = chainrule.check(loss, start, grad=gradient)
    print(f"--- {gradient.__name__}\n{report}\n")
    assert bool(report) == (gradient is right)
