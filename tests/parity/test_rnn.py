"""Recurrent layers, cells and packed sequences against PyTorch: outputs, states, gradients, second derivatives."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule

sys.path.insert(0, str(Path(__file__).parent))

from pairs import compare

RECURRENCES = ["RNN", "RNN relu", "GRU", "LSTM", "LSTM projected"]


def copied(theirs, ours):
    ours.load_state_dict({k: chainrule.tensor(v.detach().numpy()) for k, v in theirs.state_dict().items()})
    return {torch: theirs, chainrule: ours}


def layers(kind, *args, **settings):
    name, _, nonlinearity = kind.partition(" ")
    if nonlinearity:
        settings |= {"proj_size": 2} if nonlinearity == "projected" else {"nonlinearity": nonlinearity}
    theirs = getattr(torch.nn, name)(*args, **settings, dtype=torch.float64)
    ours = getattr(chainrule.nn, name)(*args, **settings, dtype=chainrule.float64)
    assert repr(ours) == repr(theirs)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    return copied(theirs, ours)


def flat(result):
    out, last = result
    return [out, *(last if isinstance(last, tuple) else (last,))]


@pytest.mark.parametrize("packed", [None, "sorted", "unsorted"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("kind", RECURRENCES)
def test_layers(kind, num_layers, bidirectional, packed):
    r = np.random.default_rng(0)
    for bias, batch_first, given in itertools.product((True, False), (True, False), (True, False)):
        both = layers(
            kind, 3, 4, num_layers=num_layers, bidirectional=bidirectional, bias=bias, batch_first=batch_first
        )
        x = r.normal(size=(2, 5, 3) if batch_first else (5, 2, 3))
        rows = num_layers * (2 if bidirectional else 1)
        widths = {"LSTM": (4, 4), "LSTM projected": (2, 4)}.get(kind, (4,))
        states = [r.normal(size=(rows, 2, w)) for w in widths] if given else []

        def run(lib, x, *states, both=both, batch_first=batch_first):
            tools = lib.nn.utils.rnn
            if packed:
                lengths = [5, 3] if packed == "sorted" else [2, 4]
                x = tools.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=packed == "sorted")
            hx = (tuple(states) if len(states) == 2 else states[0]) if states else None
            out, *last = flat(both[lib](x, hx))
            if packed:
                out, lengths = tools.pad_packed_sequence(out, batch_first=batch_first)
                assert lengths.tolist() == ([5, 3] if packed == "sorted" else [2, 4])
            return [out, *last]

        what = f"{kind} {num_layers} {bidirectional} {packed} bias={bias} batch_first={batch_first} given={given}"
        # PyTorch runs the same recurrences in another order of summation; 4096 units are 1e-12
        compare(run, [x, *states], what, ulps=4096, order=2 if num_layers == 1 else 1)


@pytest.mark.parametrize("kind", RECURRENCES)
def test_gradients_of_the_parameters(kind):
    r = np.random.default_rng(1)
    both = layers(kind, 3, 4, num_layers=2, bidirectional=True)
    x = r.normal(size=(6, 2, 3))
    for lib, layer in both.items():
        total = 0
        for i, o in enumerate(flat(layer(lib.tensor(x)))):
            total = total + (o * (i + 1)).sin().sum()
        total.backward()
    for (name, ours), theirs in zip(both[chainrule].named_parameters(), both[torch].parameters(), strict=True):
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-11, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("kind", RECURRENCES)
def test_one_sequence_without_a_batch(kind):
    both = layers(kind, 3, 4, num_layers=2)
    compare(lambda lib, x: flat(both[lib](x)), [np.random.default_rng(0).normal(size=(5, 3))], kind, ulps=4096)


@pytest.mark.parametrize("kind", RECURRENCES[:-1])  # PyTorch warns that oneDNN has no projections
def test_float32(kind):
    both = layers(kind, 8, 16)
    for layer in both.values():
        layer.float()
    x = np.random.default_rng(0).normal(size=(20, 4, 8)).astype("f4")
    compare(lambda lib, x: flat(both[lib](x)), [x], kind, ulps=256, order=1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["RNNCell", "RNNCell relu", "GRUCell", "LSTMCell"])
def test_cells(kind, bias):
    r = np.random.default_rng(0)
    both = layers(kind, 3, 4, bias=bias)
    count = 2 if kind == "LSTMCell" else 1

    def run(lib, x, *states):
        hx = (tuple(states) if count == 2 else states[0]) if states else None
        out = both[lib](x, hx)
        return list(out) if count == 2 else out

    for shape in ((2, 3), (3,)):
        compare(run, [r.normal(size=shape)], f"{kind} {shape}", ulps=1024)
        states = [r.normal(size=(*shape[:-1], 4)) for _ in range(count)]
        compare(run, [r.normal(size=shape), *states], f"{kind} {shape}, states", ulps=1024)


def test_dropout_between_layers_only_in_training():
    layer = chainrule.nn.LSTM(3, 50, num_layers=2, dropout=0.5)
    x = chainrule.ones(4, 2, 3)
    a, b = layer(x)[0], layer(x)[0]
    assert not chainrule.equal(a, b)
    layer.eval()
    assert chainrule.equal(layer(x)[0], layer(x)[0])
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        chainrule.nn.GRU(3, 4, dropout=0.5)


def test_packing():
    r = np.random.default_rng(0)
    arrays = [r.normal(size=(n, 2)) for n in (4, 2, 3)]
    for batch_first, value in itertools.product((True, False), (0.0, -1.0)):
        for side in ("left", "right"):

            def pad(lib, *ts, batch_first=batch_first, value=value, side=side):
                return lib.nn.utils.rnn.pad_sequence(ts, batch_first, value, side)

            compare(pad, arrays, f"{batch_first} {value} {side}")

        def pack(lib, *ts, batch_first=batch_first, value=value):
            tools = lib.nn.utils.rnn
            packed = tools.pack_sequence(ts, enforce_sorted=False)
            padded, lengths = tools.pad_packed_sequence(packed, batch_first, value, total_length=6)
            return [packed.data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices, padded, lengths]

        compare(pack, arrays, f"{batch_first} {value}")
    compare(lambda lib, *ts: lib.nn.utils.rnn.unpack_sequence(lib.nn.utils.rnn.pack_sequence(ts, False)), arrays)


@pytest.mark.parametrize("kind", RECURRENCES)
def test_empty_batch(kind):
    both = layers(kind, 3, 4, num_layers=2)
    compare(lambda lib, x: flat(both[lib](x)), [np.zeros((5, 0, 3))], kind, order=1)


@pytest.mark.parametrize("name", ["rnn_tanh", "rnn_relu", "gru", "lstm"])
def test_layers_and_cells_as_functions(name):
    r = np.random.default_rng(0)
    rows = {"gru": 12, "lstm": 16}.get(name, 4)
    weights = [r.normal(size=s) for s in ((rows, 3), (rows, 4), (rows,), (rows,))]
    states = [r.normal(size=(1, 2, 4)) for _ in range(2 if name == "lstm" else 1)]

    def layer(lib, x, *rest):
        hx = rest[: len(states)] if name == "lstm" else rest[0]
        return list(getattr(lib, name)(x, hx, rest[len(states) :], True, 1, 0.0, False, False, True))

    def cell(lib, x, *rest):
        hx = rest[: len(states)] if name == "lstm" else rest[0]
        out = getattr(lib, f"{name}_cell")(x, hx, *rest[len(states) :])
        return list(out) if name == "lstm" else out

    compare(layer, [r.normal(size=(2, 5, 3)), *states, *weights], name, ulps=4096, order=1)
    compare(cell, [r.normal(size=(2, 3)), *(s[0] for s in states), *weights], name, ulps=4096)


MESSAGES = [
    lambda M: M.nn.LSTM(3, 4, proj_size=4),
    lambda M: M.nn.LSTM(3, 4, proj_size=-1),
    lambda M: M.nn.GRU(3, 4, proj_size=2),
    lambda M: M.nn.LSTM(3, 4, proj_size=2)(M.ones(5, 2, 3), (M.ones(1, 2, 4), M.ones(1, 2, 4))),
    lambda M: M.nn.LSTM(3, 4)(M.ones(5, 2, 3), (M.ones(1, 4), M.ones(1, 4))),
    lambda M: M.nn.LSTM(0, 4),
    lambda M: M.nn.GRU(3, 4, bias=1),
    lambda M: M.nn.RNNBase("FOO", 3, 4),
    lambda M: M.nn.RNNCell(3, 4)(M.ones(2, 3), M.ones(3, 4)),
    lambda M: M.nn.LSTMCell(3, 4)(M.ones(2, 3), (M.ones(4), M.ones(4))),
    lambda M: M.nn.GRUCell(3, 4)(M.ones(2, 3).double()),
    lambda M: M.nn.utils.rnn.pad_sequence([]),
    lambda M: M.nn.utils.rnn.pad_sequence([M.ones(2, 3), M.ones(3, 2)]),
    lambda M: M.nn.LSTM(3, 4)(M.ones(5, 2, 6)),
    lambda M: M.nn.LSTM(3, 4)(M.ones(5, 2, 3), (M.ones(1, 3, 4), M.ones(1, 3, 4))),
    lambda M: M.nn.GRU(3, 4)(M.ones(5, 2, 3), M.ones(2, 2, 4)),
    lambda M: M.nn.GRU(3, 4)(M.ones(5, 2, 3), M.ones(2, 4)),
    lambda M: M.nn.GRU(3, 4)(M.ones(5, 3), M.ones(1, 2, 4)),
    lambda M: M.nn.RNN(3, 4)(M.ones(1, 5, 2, 3)),
    lambda M: M.nn.RNN(3, 4, nonlinearity="sin"),
    lambda M: M.nn.LSTM(3, 4, dropout=2.0),
    lambda M: M.nn.LSTM(3, 0),
    lambda M: M.nn.LSTMCell(3, 4)(M.ones(2, 5)),
    lambda M: M.nn.utils.rnn.pack_padded_sequence(M.ones(5, 2, 3), [2, 4]),
    lambda M: M.nn.utils.rnn.pack_padded_sequence(M.ones(5, 2, 3), [4, 0]),
]


@pytest.mark.parametrize("number", range(len(MESSAGES)))
def test_messages(number):
    with pytest.raises(Exception) as theirs:
        MESSAGES[number](torch)
    with pytest.raises(type(theirs.value)) as ours:
        MESSAGES[number](chainrule)
    assert str(ours.value).split("\n")[0] == str(theirs.value).split("\n")[0]
