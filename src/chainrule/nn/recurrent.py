"""Recurrent layers and their cells, with PyTorch's parameter names (``weight_ih_l0``, …, ``_reverse``)."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..core.variable import wrap
from ..errors import ShapeError, UsageError, message
from ..ops import join, layout
from ..ops import rnn as ops
from . import functional as F
from . import init
from ._make import parameter
from .module import Module
from .utils.rnn import PackedSequence, mask_of, pad_packed_sequence, repack

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNBase", "RNNCell", "RNNCellBase"]


class RNNBase(Module):
    """Layers of one recurrence, in one or both directions, over a sequence (T, N, I), (N, T, I) or packed."""

    _gates = 1
    _has_cell = False
    mode = ""

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        if proj_size:
            raise NotImplementedError("proj_size is left out: put a Linear after the layer instead")
        if not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1 or isinstance(dropout, bool):
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
        if not isinstance(hidden_size, int):
            raise TypeError(f"hidden_size should be of type int, got: {type(hidden_size).__name__}")
        if hidden_size <= 0:
            raise ValueError("hidden_size must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=3,
            )
        rows = self._gates * hidden_size
        directions = 2 if bidirectional else 1
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * directions
            for suffix in ("", "_reverse")[:directions]:
                setattr(self, f"weight_ih_l{layer}{suffix}", parameter((rows, width), dtype))
                setattr(self, f"weight_hh_l{layer}{suffix}", parameter((rows, hidden_size), dtype))
                if bias:
                    setattr(self, f"bias_ih_l{layer}{suffix}", parameter((rows,), dtype))
                    setattr(self, f"bias_hh_l{layer}{suffix}", parameter((rows,), dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new values, uniform in ±1/√hidden_size."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: PyTorch's GPU kernels need it, these do not."""

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._names()]

    def _names(self) -> list[list[str]]:
        kinds = ["weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ())]
        suffixes = ("", "_reverse") if self.bidirectional else ("",)
        return [[f"{kind}_l{i}{s}" for kind in kinds] for i in range(self.num_layers) for s in suffixes]

    def _layer(self, x: Any, states: tuple[Any, ...], weights: list[Any], mask: Any, reverse: bool) -> tuple[Any, Any]:
        """One layer in one direction: the hidden states of all steps, and the last cell state (None without cells)."""
        raise NotImplementedError

    def _check(self, x: Any, states: tuple[Any, ...], batch: int) -> None:
        a = x._array
        if a.shape[-1] != self.input_size:
            raise ShapeError(
                message(
                    f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {a.shape[-1]}",
                    f"the input has shape {a.shape}",
                )
            )
        dtype = next(iter(self._parameters.values()))._array.dtype
        if a.dtype is not dtype:
            raise UsageError(
                message(
                    f"RNN input dtype (torch.{a.dtype.name}) does not match weight dtype (torch.{dtype.name}). "
                    f"Convert input: input.to(torch.{dtype.name}), or convert model: model.to(torch.{a.dtype.name})"
                )
            )
        wanted = (self.num_layers * (2 if self.bidirectional else 1), batch, self.hidden_size)
        for i, s in enumerate(states):
            if s._array.shape != wanted:
                name = f"hidden[{i}]" if self._has_cell else "hidden"
                raise ShapeError(message(f"Expected {name} size {wanted}, got {list(s._array.shape)}"))

    def forward(self, input: Any, hx: Any = None) -> Any:
        packed = isinstance(input, PackedSequence)
        mask = None
        if packed:
            x, lengths = pad_packed_sequence(input._replace(unsorted_indices=None))
            mask = mask_of(lengths)
            batched = True
        else:
            x = input
            if x._array.ndim not in (2, 3):
                kind = self.mode.split("_")[0]
                got = f"{x._array.ndim}D{' tensor' if kind == 'RNN' else ''}"
                raise UsageError(message(f"{kind}: Expected input to be 2D or 3D, got {got} instead"))
            batched = x._array.ndim == 3
            if not batched:
                x = layout.reshape(x, shape=(x._array.shape[0], 1, x._array.shape[1]))
            elif self.batch_first:
                x = layout.permute(x, dims=(1, 0, 2))
        batch = x._array.shape[1]
        states: tuple[Any, ...] = ()
        if hx is not None:
            states = tuple(hx) if self._has_cell else (hx,)
            if not batched:
                for s in states:
                    if s._array.ndim != 2:
                        raise ShapeError(
                            message(f"For unbatched 2-D input, hx should also be 2-D but got {s._array.ndim}-D tensor")
                        )
                states = tuple(layout.reshape(s, shape=(s._array.shape[0], 1, s._array.shape[1])) for s in states)
            elif any(s._array.ndim != 3 for s in states):
                raise ShapeError(
                    message(f"For batched 3-D input, hx should also be 3-D but got {states[0]._array.ndim}-D tensor")
                )
            if packed and input.sorted_indices is not None:
                states = tuple(s.index_select(1, input.sorted_indices) for s in states)
        self._check(x, states, batch)
        output, last = self._run(x, states, mask)
        if packed:
            output = repack(output, input)
            if input.unsorted_indices is not None:
                last = tuple(s.index_select(1, input.unsorted_indices) for s in last)
        elif not batched:
            output = layout.reshape(output, shape=(output._array.shape[0], output._array.shape[2]))
            last = tuple(layout.reshape(s, shape=(s._array.shape[0], s._array.shape[2])) for s in last)
        elif self.batch_first:
            output = layout.permute(output, dims=(1, 0, 2))
        return output, last if self._has_cell else last[0]

    def _run(self, x: Any, states: tuple[Any, ...], mask: Any) -> tuple[Any, tuple[Any, ...]]:
        t, batch = x._array.shape[:2]
        if t == 0:
            raise ShapeError("Expected sequence length to be larger than 0 in RNN")
        directions = 2 if self.bidirectional else 1
        count = 2 if self._has_cell else 1
        zeros = wrap(np.zeros((batch, self.hidden_size), x._array.dtype))
        starts = [join.unbind(s, dim=0) for s in states] or [[zeros] * (self.num_layers * directions)] * count
        last: list[list[Any]] = [[] for _ in range(count)]
        weights = self.all_weights
        for layer in range(self.num_layers):
            outs: list[Any] = []
            for d in range(directions):
                k = layer * directions + d
                w = weights[k] if self.bias else [*weights[k], None, None]
                out, cell = self._layer(x, tuple(s[k] for s in starts), w, mask, d == 1)
                outs.append(out)
                # The last step walked: step 0 when walking back; with a mask the state has been kept to the end.
                last[0].append(out[0 if d else t - 1])
                if cell is not None:
                    last[1].append(cell)
            x = outs[0] if directions == 1 else join.cat(*outs, dim=2)
            if self.dropout and self.training and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, True)
        return x, tuple(join.stack(*s, dim=0) for s in last)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for key, default in (
            ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0), ("bidirectional", False),
        ):  # fmt: skip
            if getattr(self, key) != default:
                text += f", {key}={getattr(self, key)}"
        return text


class RNN(RNNBase):
    """h′ = tanh(W x + b + U h + b′), or relu."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "nonlinearity" in kwargs:
            nonlinearity = kwargs.pop("nonlinearity")
        elif len(args) > 3:
            nonlinearity = args[3]
            args = args[:3] + args[4:]
        else:
            nonlinearity = "tanh"
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        self.__dict__["nonlinearity"] = nonlinearity
        super().__init__("RNN_TANH" if nonlinearity == "tanh" else "RNN_RELU", *args, **kwargs)

    def _layer(self, x: Any, states: tuple[Any, ...], weights: list[Any], mask: Any, reverse: bool) -> tuple[Any, Any]:
        return ops.rnn(x, *states, *weights, mask, reverse=reverse, nonlinearity=self.nonlinearity), None


class GRU(RNNBase):
    """h′ = (1 − z) · n + z · h with gates r, z = σ(…) and n = tanh(W x + b + r · (U h + b′))."""

    _gates = 3

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("GRU", *args, **kwargs)

    def _layer(self, x: Any, states: tuple[Any, ...], weights: list[Any], mask: Any, reverse: bool) -> tuple[Any, Any]:
        return ops.gru(x, *states, *weights, mask, reverse=reverse), None


class LSTM(RNNBase):
    """c′ = f · c + i · g, h′ = o · tanh c′ with gates i, f, o = σ(…) and g = tanh(…).

    >>> import chainrule as torch
    >>> layer = torch.nn.LSTM(3, 5, num_layers=2)
    >>> output, (h, c) = layer(torch.zeros(7, 4, 3))
    >>> output.shape, h.shape
    (torch.Size([7, 4, 5]), torch.Size([2, 4, 5]))
    """

    _gates = 4
    _has_cell = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def _layer(self, x: Any, states: tuple[Any, ...], weights: list[Any], mask: Any, reverse: bool) -> tuple[Any, Any]:
        return ops.lstm(x, *states, *weights, mask, reverse=reverse)


class RNNCellBase(Module):
    """One step of a recurrence."""

    _count = 1
    weight_ih: Any
    weight_hh: Any
    bias_ih: Any
    bias_hh: Any

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size
        self.weight_ih = parameter((rows, input_size), dtype)
        self.weight_hh = parameter((rows, hidden_size), dtype)
        if bias:
            self.bias_ih = parameter((rows,), dtype)
            self.bias_hh = parameter((rows,), dtype)
        else:
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new values, uniform in ±1/√hidden_size."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _prepared(self, input: Any, hx: Any) -> tuple[Any, list[Any], bool]:
        """Input as one step of a sequence, states, and whether there was a batch axis."""
        name = type(self).__name__
        x = input
        if x._array.ndim not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {x._array.ndim}D instead")
        if x._array.shape[-1] != self.input_size:
            raise ShapeError(
                message(f"input has inconsistent input_size: got {x._array.shape[-1]} expected {self.input_size}")
            )
        batched = x._array.ndim == 2
        batch = x._array.shape[0] if batched else 1
        states = [hx] if hx is not None and self._count == 1 else list(hx or ())
        for s in states:
            if s._array.ndim != x._array.ndim:
                raise ValueError(f"{name}: Expected hidden to be {x._array.ndim}D, got {s._array.ndim}D instead")
            if s._array.shape[-1] != self.hidden_size:
                raise ShapeError(
                    message(
                        f"hidden0 has inconsistent hidden_size: got {s._array.shape[-1]}, expected {self.hidden_size}"
                    )
                )
        if not states:
            states = [wrap(np.zeros((batch, self.hidden_size), x._array.dtype)) for _ in range(self._count)]
        states = [layout.reshape(s, shape=(batch, self.hidden_size)) for s in states]
        return layout.reshape(x, shape=(1, batch, self.input_size)), states, batched

    def _weights(self) -> tuple[Any, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, None

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if not self.bias:
            text += ", bias=False"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text

    def _one(self, out: Any, batched: bool) -> Any:
        return layout.reshape(out, shape=out._array.shape[-2:] if batched else out._array.shape[-1:])


class RNNCell(RNNCellBase):
    """h′ = tanh(W x + b + U h + b′), or relu."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        x, states, batched = self._prepared(input, hx)
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        out = ops.rnn(x, *states, *self._weights(), reverse=False, nonlinearity=self.nonlinearity)
        return self._one(out, batched)


class GRUCell(RNNCellBase):
    """One step of a GRU."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        x, states, batched = self._prepared(input, hx)
        return self._one(ops.gru(x, *states, *self._weights(), reverse=False), batched)


class LSTMCell(RNNCellBase):
    """One step of an LSTM: gives (h′, c′)."""

    _count = 2

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        x, states, batched = self._prepared(input, hx)
        out, cell = ops.lstm(x, *states, *self._weights(), reverse=False)
        return self._one(out, batched), self._one(cell, batched)
