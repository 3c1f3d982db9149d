"""Recurrences with PyTorch's argument forms: one step (``lstm_cell``), and layers over a sequence (``lstm``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.variable import wrap
from ..errors import DtypeError, ShapeError, UsageError, message
from ..ops import join, layout
from ..ops import rnn as ops
from .neural import dropout as drop

__all__ = [
    "gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell",
]  # fmt: skip

# --- one step --------------------------------------------------------------------------------------------------


def _step(op: Any, input: Any, states: Sequence[Any], weights: tuple[Any, ...], **settings: Any) -> Any:
    """One step as a sequence of length one, with the checks that PyTorch makes."""
    w_ih = weights[0]
    x, width, hidden = input._array, w_ih._array.shape[1], weights[1]._array.shape[1]
    if x.dtype is not w_ih._array.dtype:
        kinds = [t.type().rpartition(".")[2].removesuffix("Tensor") for t in (input, w_ih)]
        raise DtypeError(message(f"mat1 and mat2 must have the same dtype, but got {kinds[0]} and {kinds[1]}"))
    if x.shape[1] != width:
        raise ShapeError(message(f"input has inconsistent input_size: got {x.shape[1]} expected {width}"))
    for i, state in enumerate(states):
        shape = state._array.shape
        if shape[0] != x.shape[0]:
            raise ShapeError(message(f"Input batch size {x.shape[0]} doesn't match hidden{i} batch size {shape[0]}"))
        if state.size(1) != hidden:
            raise ShapeError(message(f"hidden{i} has inconsistent hidden_size: got {shape[1]}, expected {hidden}"))
    return op(layout.reshape(input, shape=(1, *x.shape)), *states, *weights, None, reverse=False, **settings)


def _last(out: Any) -> Any:
    return layout.reshape(out, shape=out._array.shape[1:])


def rnn_tanh_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """h′ = tanh(W x + b + U h + b′) for input (N, I) and state (N, H)."""
    return _last(_step(ops.rnn, input, (hx,), (w_ih, w_hh, b_ih, b_hh), nonlinearity="tanh"))


def rnn_relu_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """h′ = relu(W x + b + U h + b′) for input (N, I) and state (N, H)."""
    return _last(_step(ops.rnn, input, (hx,), (w_ih, w_hh, b_ih, b_hh), nonlinearity="relu"))


def gru_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """One step of a GRU for input (N, I) and state (N, H); weights as in ``nn.GRUCell``."""
    return _last(_step(ops.gru, input, (hx,), (w_ih, w_hh, b_ih, b_hh)))


def lstm_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """One step of an LSTM for input (N, I) and states (h, c): (h′, c′)."""
    if len(hx) != 2:
        raise ShapeError("lstm_cell expects two hidden states")
    out, cell = _step(ops.lstm, input, hx, (w_ih, w_hh, b_ih, b_hh))
    return _last(out), cell


# --- layers over a sequence ------------------------------------------------------------------------------------


def recurrence(
    mode: str,
    x: Any,
    states: Sequence[Any],
    weights: Sequence[Sequence[Any]],
    mask: Any = None,
    *,
    bidirectional: bool = False,
    dropout: float = 0.0,
    training: bool = False,
) -> tuple[Any, list[Any]]:
    """Layers of one recurrence over x (T, N, I): the outputs (T, N, D·H), and the last states, each (L·D, N, H).

    ``mode`` is RNN_TANH, RNN_RELU, GRU or LSTM; ``weights`` has W, U, b, b′ (and the projection) of each layer and
    direction, b and b′ may be None; ``states`` are (L·D, N, H) each; ``mask`` (T, N, 1) says which steps belong to a
    sequence.
    """
    t = x._array.shape[0]
    if t == 0:
        raise ShapeError("Expected sequence length to be larger than 0 in RNN")
    directions = 2 if bidirectional else 1
    starts = [join.unbind(s, dim=0) for s in states]
    hidden: list[Any] = []
    cells: list[Any] = []
    for first in range(0, len(weights), directions):
        outs: list[Any] = []
        for d in range(directions):
            k = first + d
            out, cell = _layer(mode, x, [s[k] for s in starts], weights[k], mask, d == 1)
            outs.append(out)
            # The last step walked: step 0 when walking back; with a mask the state has been kept to the end.
            hidden.append(out[0 if d else t - 1])
            cells.append(cell)
        x = outs[0] if directions == 1 else join.cat(*outs, dim=2)
        if dropout and training and first + directions < len(weights):
            x = drop(x, dropout, True)
    return x, [join.stack(*states, dim=0) for states in ((hidden, cells) if mode == "LSTM" else (hidden,))]


def _layer(mode: str, x: Any, states: list[Any], weights: Sequence[Any], mask: Any, reverse: bool) -> tuple[Any, Any]:
    """One layer in one direction: the hidden states of all steps, and the last cell state (None without cells)."""
    if mode == "LSTM":
        if len(weights) == 5:
            h, c = states
            w_ih, w_hh, b_ih, b_hh, w_hr = weights
            return ops.projected_lstm(x, h, c, w_ih, w_hh, b_ih, b_hh, w_hr, mask, reverse=reverse)
        return ops.lstm(x, *states, *weights, mask, reverse=reverse)
    if mode == "GRU":
        return ops.gru(x, *states, *weights, mask, reverse=reverse), None
    nonlinearity = "relu" if mode == "RNN_RELU" else "tanh"
    return ops.rnn(x, *states, *weights, mask, reverse=reverse, nonlinearity=nonlinearity), None


def _layers(mode: str, name: str, doc: str) -> Any:
    """``nn.RNN`` and its kin as a function of all weights."""

    def function(
        input: Any,
        hx: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Any, ...]:
        each, rest = divmod(len(params), num_layers * (2 if bidirectional else 1))
        if rest or each < (4 if has_biases else 2):
            raise UsageError(message("Got an incorrect number of RNN parameters"))
        weights = [list(params[i : i + each]) for i in range(0, len(params), each)]
        if not has_biases:
            weights = [[*w[:2], None, None, *w[2:]] for w in weights]
        states = hx if mode == "LSTM" else (hx,)
        x = layout.permute(input, dims=(1, 0, 2)) if batch_first else input
        out, last = recurrence(mode, x, states, weights, bidirectional=bidirectional, dropout=dropout, training=train)
        return (layout.permute(out, dims=(1, 0, 2)) if batch_first else out, *last)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc} ``params``: the weights of all layers and directions, one after the other."
    return function


rnn_tanh = _layers("RNN_TANH", "rnn_tanh", "``nn.RNN`` as a function: (output, h).")
rnn_relu = _layers("RNN_RELU", "rnn_relu", "``nn.RNN(nonlinearity='relu')`` as a function: (output, h).")
gru = _layers("GRU", "gru", "``nn.GRU`` as a function: (output, h).")
lstm = _layers("LSTM", "lstm", "``nn.LSTM`` as a function, with hx = (h, c): (output, h, c).")


def zeros(rows: int, batch: int, width: int, dtype: Any) -> Any:
    """States to start from."""
    return wrap(np.zeros((rows, batch, width), dtype))
