"""Recurrent layers and their cells, with PyTorch's parameter names (``weight_ih_l0``, …, ``_reverse``)."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

from ..errors import ShapeError, UsageError, message
from ..functions import recurrence
from ..ops import layout
from . import init
from ._make import parameter
from .module import Module
from .utils.rnn import PackedSequence, mask_of, pad_packed_sequence, repack

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNBase", "RNNCell", "RNNCellBase"]

_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}


def _uniform(module: Module, hidden_size: int) -> None:
    """Every parameter uniform in ±1/√hidden_size."""
    bound = 1.0 / math.sqrt(hidden_size) if hidden_size > 0 else 0
    for weight in module.parameters():
        init.uniform_(weight, -bound, bound)


class RNNBase(Module):
    """Layers of one recurrence, in one or both directions, over a sequence (T, N, I), (N, T, I) or packed."""

    _flat_weights_names: list[str]

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
        if not isinstance(dropout, numbers.Number) or not 0 <= dropout <= 1 or isinstance(dropout, bool):
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=3,
            )
        for name, value, kind in (
            ("bias", bias, bool), ("batch_first", batch_first, bool), ("input_size", input_size, int),
            ("hidden_size", hidden_size, int),
        ):  # fmt: skip
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
            if kind is int and value <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if mode not in _GATES:
            raise ValueError("Unrecognized RNN mode: " + mode)
        rows = _GATES[mode] * hidden_size
        out = proj_size or hidden_size
        directions = 2 if bidirectional else 1
        self._flat_weights_names = []
        for layer in range(num_layers):
            width = input_size if layer == 0 else out * directions
            for suffix in ("", "_reverse")[:directions]:
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, out)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for kind, shape in shapes.items():
                    name = f"{kind}_l{layer}{suffix}"
                    setattr(self, name, parameter(shape, dtype))
                    self._flat_weights_names.append(name)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new values, uniform in ±1/√hidden_size."""
        _uniform(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Nothing: PyTorch's GPU kernels need it, these do not."""

    @property
    def _flat_weights(self) -> list[Any]:
        return [getattr(self, name, None) for name in self._flat_weights_names]

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters of each layer and direction."""
        flat = self._flat_weights
        each = len(flat) // (self.num_layers * (2 if self.bidirectional else 1))
        return [flat[i : i + each] for i in range(0, len(flat), each)]

    def _weights(self) -> list[list[Any]]:
        """``all_weights`` with None for biases that do not exist."""
        weights = self.all_weights
        return weights if self.bias else [[*w[:2], None, None, *w[2:]] for w in weights]

    def _check(self, x: Any, states: tuple[Any, ...], batch: int) -> None:
        a = x._array
        dtype = next(iter(self._parameters.values()))._array.dtype
        if a.dtype is not dtype:
            raise UsageError(
                message(
                    f"RNN input dtype (torch.{a.dtype.name}) does not match weight dtype (torch.{dtype.name}). "
                    f"Convert input: input.to(torch.{dtype.name}), or convert model: model.to(torch.{a.dtype.name})"
                )
            )
        if a.shape[-1] != self.input_size:
            raise ShapeError(
                message(
                    f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {a.shape[-1]}",
                    f"the input has shape {a.shape}",
                )
            )
        for i, (s, width) in enumerate(zip(states, self._widths(), strict=True)):
            wanted = (self._rows(), batch, width)
            if s._array.shape != wanted:
                name = f"hidden[{i}]" if self.mode == "LSTM" else "hidden"
                raise ShapeError(message(f"Expected {name} size {wanted}, got {list(s._array.shape)}"))

    def _rows(self) -> int:
        return self.num_layers * (2 if self.bidirectional else 1)

    def _widths(self) -> tuple[int, ...]:
        """The width of each state: of h, and of c."""
        out = self.proj_size or self.hidden_size
        return (out, self.hidden_size) if self.mode == "LSTM" else (out,)

    def _given(self, hx: Any, batched: bool, packed: bool) -> tuple[Any, ...]:
        """The states that were passed, with a batch axis."""
        cells = self.mode == "LSTM"
        states = (hx[0], hx[1]) if cells else (hx,)
        if packed:
            return states
        dims = [s.dim() for s in states]
        wanted = 3 if batched else 2
        if any(n != wanted for n in dims):
            got = f"({dims[0]}-D, {dims[1]}-D) tensors" if cells else f"{dims[0]}-D tensor"
            names = "hx and cx" if cells else "hx"
            kind = "batched" if batched else "unbatched"
            raise ShapeError(message(f"For {kind} {wanted}-D input, {names} should also be {wanted}-D but got {got}"))
        return states if batched else tuple(s.unsqueeze(1) for s in states)

    def forward(self, input: Any, hx: Any = None) -> Any:
        packed = isinstance(input, PackedSequence)
        mask = None
        batched = True
        if packed:
            x, lengths = pad_packed_sequence(input._replace(unsorted_indices=None))
            mask = mask_of(lengths)
        else:
            x = input
            if x.dim() not in (2, 3):
                kind = self.mode.split("_")[0]
                got = f"{x.dim()}D{' tensor' if kind == 'RNN' else ''}"
                raise UsageError(message(f"{kind}: Expected input to be 2D or 3D, got {got} instead"))
            batched = x.dim() == 3
            if not batched:
                x = layout.reshape(x, shape=(x._array.shape[0], 1, x._array.shape[1]))
            elif self.batch_first:
                x = layout.permute(x, dims=(1, 0, 2))
        batch = x._array.shape[1]
        if hx is None:
            states = tuple(recurrence.zeros(self._rows(), batch, width, x._array.dtype) for width in self._widths())
        else:
            states = self._given(hx, batched, packed)
        self._check(x, states, batch)
        if hx is not None and packed and input.sorted_indices is not None:
            states = tuple(s.index_select(1, input.sorted_indices) for s in states)
        output, last = recurrence.recurrence(
            self.mode, x, states, self._weights(), mask,
            bidirectional=self.bidirectional, dropout=self.dropout, training=self.training,
        )  # fmt: skip
        if packed:
            output = repack(output, input)
            if input.unsorted_indices is not None:
                last = [s.index_select(1, input.unsorted_indices) for s in last]
        elif not batched:
            output = layout.reshape(output, shape=(output._array.shape[0], output._array.shape[2]))
            last = [layout.reshape(s, shape=(s._array.shape[0], s._array.shape[2])) for s in last]
        elif self.batch_first:
            output = layout.permute(output, dims=(1, 0, 2))
        return output, tuple(last) if self.mode == "LSTM" else last[0]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for key, default in (
            ("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0),
            ("bidirectional", False),
        ):  # fmt: skip
            if getattr(self, key) != default:
                text += f", {key}={getattr(self, key)}"
        return text


def _no_projection(kwargs: dict[str, Any]) -> None:
    if "proj_size" in kwargs:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


class RNN(RNNBase):
    """h′ = tanh(W x + b + U h + b′), or relu."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _no_projection(kwargs)
        if len(args) > 3:
            nonlinearity = args[3]
            args = args[:3] + args[4:]
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        self.__dict__["nonlinearity"] = nonlinearity
        super().__init__(f"RNN_{nonlinearity.upper()}", *args, **kwargs)


class GRU(RNNBase):
    """h′ = (1 − z) · n + z · h with gates r, z = σ(…) and n = tanh(W x + b + r · (U h + b′))."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _no_projection(kwargs)
        super().__init__("GRU", *args, **kwargs)


class LSTM(RNNBase):
    """c′ = f · c + i · g, h′ = o · tanh c′ with gates i, f, o = σ(…) and g = tanh(…).

    With ``proj_size`` the hidden state is W_hr h′, of that size.

    >>> import chainrule as torch
    >>> layer = torch.nn.LSTM(3, 5, num_layers=2)
    >>> output, (h, c) = layer(torch.zeros(7, 4, 3))
    >>> output.shape, h.shape
    (torch.Size([7, 4, 5]), torch.Size([2, 4, 5]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)


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
        _uniform(self, self.hidden_size)

    def _run(self, function: Any, input: Any, hx: Any) -> Any:
        """``function`` of the input, the states and the weights, with a batch axis while it runs."""
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        states = () if hx is None else (hx,) if self._count == 1 else tuple(hx)
        for i, s in enumerate(states):
            if s.dim() not in (1, 2):
                what = "hidden" if self._count == 1 else f"hx[{i}]"
                raise ValueError(f"{name}: Expected {what} to be 1D or 2D, got {s.dim()}D instead")
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        if not states:
            zero = recurrence.zeros(1, x.size(0), self.hidden_size, x._array.dtype)[0]
            states = (zero,) * self._count
        elif not batched:
            states = tuple(s.unsqueeze(0) for s in states)
        state = states[0] if self._count == 1 else states
        out = function(x, state, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        if batched:
            return out
        return out.squeeze(0) if self._count == 1 else tuple(o.squeeze(0) for o in out)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if "bias" in self.__dict__ and self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text


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
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._run(getattr(recurrence, f"rnn_{self.nonlinearity}_cell"), input, hx)


class GRUCell(RNNCellBase):
    """One step of a GRU."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        return self._run(recurrence.gru_cell, input, hx)


class LSTMCell(RNNCellBase):
    """One step of an LSTM: gives (h′, c′)."""

    _count = 2

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        return self._run(recurrence.lstm_cell, input, hx)
