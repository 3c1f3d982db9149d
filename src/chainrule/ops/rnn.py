"""Recurrent layers: one layer in one direction over a whole sequence, forward and backward through time by hand.

The inputs are x (T, N, I), the initial state, the weights of one layer in PyTorch's layout, and a mask (T, N, 1) of the
steps that belong to each sequence (None: all); where it is False the state stays. Biases may be None.
``reverse`` walks from the last step to the first.

One op for the sequence, since a step of a small layer costs less than recording one op: the gradient of each is a
walk back over the stored states, and ``derived`` is the same recurrence step by step in ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.op import op
from ..core.samples import calls
from .compare import where
from .elementwise import relu, sigmoid, tanh
from .join import split, stack, unbind
from .linalg import linear

# ruff: noqa: ANN001, ANN002, ANN202


def _sequence_calls(gates, states) -> Any:
    def make(r):
        for reverse, bias, masked in ((False, True, False), (True, False, False), (True, True, True)):
            t, n, i, h = 3, 2, 2, 3
            mask = np.array([[1, 1], [1, 1], [1, 0]], bool)[..., None] if masked else None
            yield (
                r.normal(size=(t, n, i)), *(r.normal(size=(n, h)) for _ in range(states)),
                r.normal(size=(gates * h, i)), r.normal(size=(gates * h, h)),
                *((r.normal(size=gates * h), r.normal(size=gates * h)) if bias else (None, None)), mask,
                {"reverse": reverse},
            )  # fmt: skip

    return make


def _walk(x, mask, reverse):
    """Pairs (x at a step, mask at a step) in the order of walking, for the derived composites."""
    steps = list(unbind(x, dim=0))
    masks = [None] * len(steps) if mask is None else list(unbind(mask, dim=0))
    pairs = list(zip(steps, masks))
    return pairs[::-1] if reverse else pairs


def _joined(outs, reverse):
    return stack(*(outs[::-1] if reverse else outs), dim=0)


def _inputs_in_gates(x, w_ih, bias):
    """x Wᵀ + b for all steps in one product."""
    t, n, i = x.shape
    z = x.reshape(t * n, i).dot(w_ih.T)
    if bias is not None:
        z += bias
    return z.reshape(t, n, w_ih.shape[0])


def _weight_gradients(dz, x, w_ih):
    """Gradients of x, W and b from those of x Wᵀ + b."""
    t, n, k = dz.shape
    flat = dz.reshape(t * n, k)
    return flat.dot(w_ih).reshape(x.shape), flat.T.dot(x.reshape(t * n, x.shape[2])), np.add.reduce(flat, axis=0)


def _backward_calls(forward, gates, states, backward_args):
    """Samples for a backward op: what the forward op would hand it."""

    def make(r):
        for *arrays, settings in _sequence_calls(gates, states)(r):
            yield *backward_args(arrays, forward().op.body(*arrays, **settings, **_EXTRA.get(gates, {}))), {
                **settings, **_EXTRA.get(gates, {})}  # fmt: skip

    return make


_EXTRA = {1: {"nonlinearity": "tanh"}}


# --- LSTM ------------------------------------------------------------------------------------------------------


def lstm_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    """One step: c′ = f · c + i · g, h′ = o · tanh c′ with i, f, o = σ(…), g = tanh(…)."""
    z = linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)
    k = c.shape[-1]
    i, f, g, o = split(z, sizes=(k, k, k, k), dim=1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def derived_lstm(x, h, c, w_ih, w_hh, b_ih, b_hh, mask, *, reverse):
    """The recurrence step by step."""
    return projected_lstm(x, h, c, w_ih, w_hh, b_ih, b_hh, None, mask, reverse=reverse)


def projected_lstm(x, h, c, w_ih, w_hh, b_ih, b_hh, w_hr, mask, *, reverse):
    """An LSTM whose hidden state is W_hr · (o · tanh c), step by step; without W_hr a plain one."""
    outs = []
    for step, live in _walk(x, mask, reverse):
        h2, c2 = lstm_step(step, h, c, w_ih, w_hh, b_ih, b_hh)
        if w_hr is not None:
            h2 = linear(h2, w_hr, None)
        h, c = (h2, c2) if live is None else (where(live, h2, h), where(live, c2, c))
        outs.append(h)
    return _joined(outs, reverse), c


def _gates_first_o(v, k):
    """Rows of the gates i, f, g, o as o, i, f, g: then σ's three lie together, and so do g and the cell behind it."""
    return np.concatenate((v[3 * k :], v[: 3 * k]))


@op("t n i, n h, n h, g i, g h, g, g, t n 1 -> t n h, n h", formula="lstm({inputs})", outputs=2,
    residuals=("acts", "cells", "tanh_c", "states"), derived=derived_lstm,
    samples=calls(_sequence_calls(4, 2)))  # fmt: skip
def lstm(*inputs, reverse):
    """Hidden states of every step, and the last cell state.

    The walk keeps samples last: ``acts[s]`` = (o, i, f, g, c) of shape (5, h, n) and ``states[s]`` = (h, x, 1), one
    above the other. Every block that a step works on is contiguous, one product with the weights (U, W, b + b′) side
    by side gives the arguments of all gates, and (i, f) · (g, c) gives both terms of the new cell at once.
    """
    x, h0, c0, w_ih, w_hh, b_ih, b_hh, mask = inputs
    if reverse:
        x, mask = x[::-1], None if mask is None else mask[::-1]
    t, n, width = x.shape
    k = h0.shape[1]
    bias = () if b_ih is None else ((b_ih + b_hh)[:, None],)
    w = _gates_first_o(np.concatenate((w_hh, w_ih, *bias), axis=1), k)
    np.negative(w[: 3 * k], out=w[: 3 * k])  # σ(z) = 1 / (1 + exp(−z)): the sign is in the weights
    states = np.empty((t + 1, w.shape[1], n), x.dtype)
    states[0, :k], states[:-1, k : k + width], states[-1, k:] = h0.T, x.transpose(0, 2, 1), 0
    states[:-1, k + width :] = 1
    acts, tanh_c, pair = np.empty((t + 1, 5, k, n), x.dtype), np.empty((t, k, n), x.dtype), np.empty((2, k, n), x.dtype)
    acts[0, 4], acts[-1, :4] = c0.T, 0  # the last has a cell state only
    first, second = pair
    one = np.ones((), x.dtype)
    z = acts[:-1, :4].reshape(t, 4 * k, n)  # a view: its axes lie one in the other
    steps = zip(
        z, acts[:, :3], acts[:, 1:3], acts[:, 3], acts[:, 3:], acts[:, 0], tanh_c, acts[1:, 4], states, states[1:, :k]
    )
    for s, (a, sigmoids, i_f, g, g_c, o, tc, c, state, h) in enumerate(steps):
        np.dot(w, state, out=a)
        np.exp(sigmoids, out=sigmoids)
        np.add(sigmoids, one, out=sigmoids)
        np.reciprocal(sigmoids, out=sigmoids)
        np.tanh(g, out=g)
        np.multiply(i_f, g_c, out=pair)
        np.add(first, second, out=c)
        np.tanh(c, out=tc)
        np.multiply(o, tc, out=h)
        if mask is not None:
            ended = ~mask[s].T
            np.copyto(h, state[:k], where=ended)
            np.copyto(c, acts[s, 4], where=ended)
    out = np.ascontiguousarray(states[1:, :k].transpose(0, 2, 1))
    return out[::-1] if reverse else out, np.ascontiguousarray(acts[-1, 4].T), acts, acts[:, 4], tanh_c, states


@op("? -> ?", formula="lstm backward", outputs=7, samples=calls(_backward_calls(
    lambda: lstm, 4, 2, lambda a, r: (r[0], r[1], a[0], a[3], a[4], a[5], a[7], *r[2:]))))  # fmt: skip
def lstm_backward(g_out, g_c, x, w_ih, w_hh, b_ih, mask, acts, cells, tanh_c, states, *, reverse):
    """The gradients of x, h₀, c₀, W, U, b, b′: a walk back over the steps, samples last as in ``lstm``."""
    if reverse:
        x, g_out, mask = x[::-1], g_out[::-1], None if mask is None else mask[::-1]
    t, k, n = tanh_c.shape
    acts = acts[:-1]
    # Everything that needs no recurrence, for all steps at once. Of h: how it depends on c and on o's argument; of c:
    # how it depends on the arguments of i, f, g, and on the cell before.
    local = np.empty((6, t, k, n), acts.dtype)
    o, i, f, g = (acts[:, j] for j in range(4))
    for j, sigmoid_value, factor in ((1, o, tanh_c), (2, i, g), (3, f, cells[:-1])):
        np.subtract(1, sigmoid_value, out=local[j])
        local[j] *= sigmoid_value
        local[j] *= factor
    for j, tanh_value, factor in ((0, tanh_c, o), (4, g, i)):
        np.multiply(tanh_value, tanh_value, out=local[j])
        np.subtract(1, local[j], out=local[j])
        local[j] *= factor
    local[5] = f
    back = np.ascontiguousarray(_gates_first_o(w_hh, k).T)
    given = np.ascontiguousarray(g_out.transpose(0, 2, 1))
    dz = np.empty((t, 4, k, n), acts.dtype)
    of_c = np.empty((k, n), acts.dtype)
    dc, dh = np.array(g_c.T, order="C"), np.zeros((k, n), acts.dtype)
    rest_h, rest_c = dh, dc  # of masked steps
    steps = zip(*(v[::-1] for v in (given, *local, dz[:, 0], dz[:, 1], dz[:, 2], dz[:, 3], dz.reshape(t, 4 * k, n))))
    for s, (g, c_of_h, h_of_o, c_of_i, c_of_f, c_of_g, f, dzo, dzi, dzf, dzg, d) in enumerate(steps):
        np.add(dh, g, out=dh)
        if mask is not None:
            m = mask[t - 1 - s].T
            rest_h, rest_c = dh * ~m, dc * ~m
            dh *= m
            dc *= m
        np.multiply(dh, h_of_o, out=dzo)
        np.multiply(dh, c_of_h, out=of_c)
        np.add(dc, of_c, out=dc)
        np.multiply(dc, c_of_i, out=dzi)
        np.multiply(dc, c_of_f, out=dzf)
        np.multiply(dc, c_of_g, out=dzg)
        np.multiply(dc, f, out=dc)
        np.dot(back, d, out=dh)
        if mask is not None:
            dh += rest_h
            dc += rest_c
    flat = np.empty((4, k, t, n), acts.dtype)
    flat[:3], flat[3] = dz[:, 1:].transpose(1, 2, 0, 3), dz[:, 0].transpose(1, 0, 2)
    flat = flat.reshape(4 * k, t * n)
    width = x.shape[2]
    dx = np.ascontiguousarray(w_ih.T.dot(flat).reshape(width, t, n).transpose(1, 2, 0))
    before = np.ascontiguousarray(states[:-1].transpose(1, 0, 2)).reshape(states.shape[1], t * n)
    dw = flat.dot(before.T)  # of (U, W, b) side by side
    dw_hh, dw_ih = dw[:, :k], dw[:, k : k + width]
    db = np.add.reduce(flat, axis=1) if b_ih is None else dw[:, k + width]
    return dx[::-1] if reverse else dx, np.ascontiguousarray(dh.T), np.ascontiguousarray(dc.T), dw_ih, dw_hh, db, db


@lstm.vjp("inputs", math="backward through time")
def _(g, inputs, acts, cells, tanh_c, states, reverse):
    x, _, _, w_ih, w_hh, b_ih, _, mask = inputs
    back = lstm_backward(g[0], g[1], x, w_ih, w_hh, b_ih, mask, acts, cells, tanh_c, states, reverse=reverse)
    return (*back, None)


# --- GRU -------------------------------------------------------------------------------------------------------


def gru_step(x, h, w_ih, w_hh, b_ih, b_hh):
    """One step: h′ = (1 − z) · n + z · h with r, z = σ(…), n = tanh(Wx + b + r · (Uh + b′))."""
    k = h.shape[-1]
    xr, xz, xn = split(linear(x, w_ih, b_ih), sizes=(k, k, k), dim=1)
    hr, hz, hn = split(linear(h, w_hh, b_hh), sizes=(k, k, k), dim=1)
    z = sigmoid(xz + hz)
    n = tanh(xn + sigmoid(xr + hr) * hn)
    return n + z * (h - n)


def derived_gru(x, h, w_ih, w_hh, b_ih, b_hh, mask, *, reverse):
    """The recurrence step by step."""
    outs = []
    for step, live in _walk(x, mask, reverse):
        h2 = gru_step(step, h, w_ih, w_hh, b_ih, b_hh)
        h = h2 if live is None else where(live, h2, h)
        outs.append(h)
    return _joined(outs, reverse)


@op("t n i, n h, g i, g h, g, g, t n 1 -> t n h", formula="gru({inputs})", residuals=("acts", "h_new", "states"),
    derived=derived_gru, samples=calls(_sequence_calls(3, 1)))  # fmt: skip
def gru(*inputs, reverse):
    """Hidden states of every step."""
    x, h0, w_ih, w_hh, b_ih, b_hh, mask = inputs
    if reverse:
        x, mask = x[::-1], None if mask is None else mask[::-1]
    t, n, _ = x.shape
    k = h0.shape[1]
    acts = _inputs_in_gates(x, w_ih, b_ih)
    w = np.ascontiguousarray(w_hh.T)
    states, h_new = np.empty((t + 1, n, k), x.dtype), np.empty((t, n, k), x.dtype)
    states[0] = h0
    for s in range(t):
        a, h, old = acts[s], states[s + 1], states[s]
        u = old.dot(w)
        if b_hh is not None:
            u += b_hh
        rz = a[:, : 2 * k]
        rz += u[:, : 2 * k]
        rz *= 0.5
        np.tanh(rz, out=rz)
        rz *= 0.5
        rz += 0.5
        h_new[s] = u[:, 2 * k :]
        new = a[:, 2 * k :]
        new += rz[:, :k] * u[:, 2 * k :]
        np.tanh(new, out=new)
        np.subtract(old, new, out=h)
        h *= rz[:, k:]
        h += new
        if mask is not None:
            np.copyto(h, old, where=~mask[s])
    out = states[1:]
    return out[::-1] if reverse else out, acts, h_new, states


@op("? -> ?", formula="gru backward", outputs=6, samples=calls(_backward_calls(
    lambda: gru, 3, 1, lambda a, r: (r[0], a[0], a[2], a[3], a[6], *r[1:]))))  # fmt: skip
def gru_backward(g, x, w_ih, w_hh, mask, acts, h_new, states, *, reverse):
    """The gradients of x, h₀, W, U, b, b′: a walk back over the steps."""
    if reverse:
        x, g, mask = x[::-1], g[::-1], None if mask is None else mask[::-1]
    t, n, k = h_new.shape
    r, z, new = acts[..., :k], acts[..., k : 2 * k], acts[..., 2 * k :]
    # For all steps at once: how h depends on the arguments of z and n, and n on that of r.
    of_n = (1 - z) * (1 - new * new)
    of_z = (states[:-1] - new) * z * (1 - z)
    of_r = h_new * r * (1 - r)
    dx, du = np.empty((t, n, 3 * k), acts.dtype), np.empty((t, n, 3 * k), acts.dtype)
    dh = np.zeros((n, k), acts.dtype)
    for s in range(t - 1, -1, -1):
        dh = dh + g[s]
        rest = 0
        if mask is not None:
            rest, dh = dh * ~mask[s], dh * mask[s]
        d, e = dx[s], du[s]
        dn = np.multiply(dh, of_n[s], out=d[:, 2 * k :])
        np.multiply(dn, of_r[s], out=d[:, :k])
        np.multiply(dh, of_z[s], out=d[:, k : 2 * k])
        e[:, : 2 * k] = d[:, : 2 * k]
        np.multiply(dn, r[s], out=e[:, 2 * k :])
        dh = dh * z[s] + e.dot(w_hh) + rest
    gx, dw_ih, db_ih = _weight_gradients(dx, x, w_ih)
    flat = du.reshape(t * n, 3 * k)
    dw_hh, db_hh = flat.T.dot(states[:-1].reshape(t * n, k)), np.add.reduce(flat, axis=0)
    return gx[::-1] if reverse else gx, dh, dw_ih, dw_hh, db_ih, db_hh


@gru.vjp("inputs", math="backward through time")
def _(g, inputs, acts, h_new, states, reverse):
    x, _, w_ih, w_hh, _, _, mask = inputs
    return (*gru_backward(g, x, w_ih, w_hh, mask, acts, h_new, states, reverse=reverse), None)


# --- plain -----------------------------------------------------------------------------------------------------


def rnn_step(x, h, w_ih, w_hh, b_ih, b_hh, nonlinearity):
    """One step: h′ = tanh(Wx + b + Uh + b′), or relu."""
    z = linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)
    return tanh(z) if nonlinearity == "tanh" else relu(z)


def derived_rnn(x, h, w_ih, w_hh, b_ih, b_hh, mask, *, reverse, nonlinearity):
    """The recurrence step by step."""
    outs = []
    for step, live in _walk(x, mask, reverse):
        h2 = rnn_step(step, h, w_ih, w_hh, b_ih, b_hh, nonlinearity)
        h = h2 if live is None else where(live, h2, h)
        outs.append(h)
    return _joined(outs, reverse)


def _rnn_calls(r):
    for kind in ("tanh", "relu"):
        for *arrays, settings in _sequence_calls(1, 1)(r):
            yield *arrays, {**settings, "nonlinearity": kind}


@op("t n i, n h, h i, h h, h, h, t n 1 -> t n h", formula="rnn({inputs})", residuals=("states",), derived=derived_rnn,
    samples=calls(_rnn_calls))  # fmt: skip
def rnn(*inputs, reverse, nonlinearity):
    """Hidden states of every step of h′ = tanh(Wx + b + Uh + b′)."""
    x, h0, w_ih, w_hh, b_ih, b_hh, mask = inputs
    if reverse:
        x, mask = x[::-1], None if mask is None else mask[::-1]
    z = _inputs_in_gates(x, w_ih, None if b_ih is None else b_ih + b_hh)
    w = np.ascontiguousarray(w_hh.T)
    states = np.empty((x.shape[0] + 1, *h0.shape), x.dtype)
    states[0] = h0
    for s in range(x.shape[0]):
        h = states[s + 1]
        np.dot(states[s], w, out=h)
        h += z[s]
        if nonlinearity == "tanh":
            np.tanh(h, out=h)
        else:
            np.maximum(h, 0, out=h)
        if mask is not None:
            np.copyto(h, states[s], where=~mask[s])
    out = states[1:]
    return out[::-1] if reverse else out, states


@op("? -> ?", formula="rnn backward", outputs=6, samples=calls(_backward_calls(
    lambda: rnn, 1, 1, lambda a, r: (r[0], a[0], a[2], a[3], a[6], *r[1:]))))  # fmt: skip
def rnn_backward(g, x, w_ih, w_hh, mask, states, *, reverse, nonlinearity):
    """The gradients of x, h₀, W, U, b, b′: a walk back over the steps."""
    if reverse:
        x, g, mask = x[::-1], g[::-1], None if mask is None else mask[::-1]
    h = states[1:]
    local = 1 - h * h if nonlinearity == "tanh" else (h > 0).astype(h.dtype)
    dz = np.empty(h.shape, h.dtype)
    dh = np.zeros(h.shape[1:], h.dtype)
    for s in range(h.shape[0] - 1, -1, -1):
        dh = dh + g[s]
        if mask is None:
            np.multiply(dh, local[s], out=dz[s])
            dh = dz[s].dot(w_hh)
        else:
            rest, dh = dh * ~mask[s], dh * mask[s]
            np.multiply(dh, local[s], out=dz[s])
            dh = dz[s].dot(w_hh) + rest
    dx, dw_ih, db = _weight_gradients(dz, x, w_ih)
    k = dz.shape[-1]
    dw_hh = dz.reshape(-1, k).T.dot(states[:-1].reshape(-1, k))
    return dx[::-1] if reverse else dx, dh, dw_ih, dw_hh, db, db


@rnn.vjp("inputs", math="backward through time")
def _(g, inputs, states, reverse, nonlinearity):
    x, _, w_ih, w_hh, _, _, mask = inputs
    back = rnn_backward(g, x, w_ih, w_hh, mask, states, reverse=reverse, nonlinearity=nonlinearity)
    return (*back, None)
