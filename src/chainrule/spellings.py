"""The functions of neural networks that PyTorch has under ``torch`` with the arguments of its kernels.

``torch.nn.functional.batch_norm(x, mean, var, weight, …)`` is ``torch.batch_norm(x, weight, bias, mean, …)``, a
reduction is a number, indices come after the table. Each is one line that calls the function of ``nn.functional``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .composites import convolution as conv
from .composites import losses, more_losses, normalisation, pooling, resampling
from .functions import neural, recurrence
from .functions.linalg import matmul
from .nn import functional

__all__ = [
    "adaptive_max_pool1d", "batch_norm", "binary_cross_entropy_with_logits", "constant_pad_nd", "conv_tbc",
    "convolution", "cosine_embedding_loss", "ctc_loss", "embedding", "embedding_renorm_",
    "feature_alpha_dropout_", "feature_dropout_", "gru", "gru_cell", "hinge_embedding_loss", "instance_norm", "kl_div",
    "lstm", "lstm_cell", "margin_ranking_loss", "max_pool1d_with_indices", "poisson_nll_loss", "rnn_relu",
    "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell", "triplet_margin_loss",
]  # fmt: skip

_REDUCTIONS = ("none", "mean", "sum")


def _loss(name: str, function: Callable[..., Any], *settings: tuple[str, Any], tensors: int = 2) -> Any:
    """``function`` with its settings by position, the reduction (last, unless it is named) as a number.

    Left out, it is 0: PyTorch's schema says 1 (mean), its argument parser reads 0, and programs see the parser.
    """
    defaults = dict(settings) | ({} if "reduction" in dict(settings) else {"reduction": 0})

    def call(*args: Any, **options: Any) -> Any:
        values = {**defaults, **dict(zip(defaults, args[tensors:], strict=False)), **options}
        values["reduction"] = _REDUCTIONS[values["reduction"]]
        return function(*args[:tensors], **values)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"``nn.functional.{name}``; ``reduction`` is 0 (none), 1 (mean) or 2 (sum)."
    return call


binary_cross_entropy_with_logits = _loss(
    "binary_cross_entropy_with_logits", losses.binary_cross_entropy_with_logits, ("weight", None), ("pos_weight", None)
)
cosine_embedding_loss = _loss("cosine_embedding_loss", more_losses.cosine_embedding_loss, ("margin", 0.0), tensors=3)
ctc_loss = _loss("ctc_loss", more_losses.ctc_loss, ("blank", 0), ("reduction", 0), ("zero_infinity", False), tensors=4)
hinge_embedding_loss = _loss("hinge_embedding_loss", more_losses.hinge_embedding_loss, ("margin", 1.0))
kl_div = _loss("kl_div", more_losses.kl_div)
margin_ranking_loss = _loss("margin_ranking_loss", more_losses.margin_ranking_loss, ("margin", 0.0), tensors=3)
poisson_nll_loss = _loss(
    "poisson_nll_loss", more_losses.poisson_nll_loss, ("log_input", True), ("full", False), ("eps", 1e-8)
)
triplet_margin_loss = _loss(
    "triplet_margin_loss", more_losses.triplet_margin_loss, ("margin", 1.0), ("p", 2.0), ("eps", 1e-6), ("swap", False),
    tensors=3,
)  # fmt: skip


# --- layers -------------------------------------------------------------------------------------------------------


def batch_norm(
    input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: float,
    eps: float, cudnn_enabled: bool,
) -> Any:  # fmt: skip
    """``nn.functional.batch_norm``."""
    return normalisation.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, use_input_stats: bool, momentum: float,
    eps: float, cudnn_enabled: bool,
) -> Any:  # fmt: skip
    """``nn.functional.instance_norm``."""
    return normalisation.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def embedding(
    weight: Any, indices: Any, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Any:
    """``nn.functional.embedding``; a padding index below 0 is none."""
    padding = None if padding_idx < 0 else padding_idx
    return functional.embedding(indices, weight, padding, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)


def embedding_renorm_(input: Any, indices: Any, max_norm: float, norm_type: float) -> Any:
    """Shorten the rows that ``indices`` names to ``max_norm``, in place."""
    functional._renorm(input, indices._array, max_norm, norm_type)
    return input


def constant_pad_nd(input: Any, pad: Sequence[int], value: float = 0) -> Any:
    """``nn.functional.pad`` with a constant."""
    return resampling.pad(input, pad, "constant", value)


def conv_tbc(input: Any, weight: Any, bias: Any, pad: int = 0) -> Any:
    """A convolution over time: input (time, batch, channels), weight (window, channels, out), bias (out).

    The sum over the window's taps of input · weight, written as matrix products.
    """
    x = constant_pad_nd(input, (0, 0, 0, 0, pad, pad)) if pad else input
    window, time = weight.size(0), x.size(0) - weight.size(0) + 1
    out = bias
    for k in range(window):
        out = matmul(x[k : k + time], weight[k]) + out
    return out


def convolution(
    input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, output_padding: Any,
    groups: int,
) -> Any:  # fmt: skip
    """``nn.functional.conv1d`` to ``conv3d``, or ``conv_transpose1d`` to ``3d``, as the weight's axes say."""
    n = weight.dim() - 2
    if transposed:
        function = (conv.conv_transpose1d, conv.conv_transpose2d, conv.conv_transpose3d)[n - 1]
        return function(input, weight, bias, _one(stride), _one(padding), _one(output_padding), groups, _one(dilation))
    function = (conv.conv1d, conv.conv2d, conv.conv3d)[n - 1]
    return function(input, weight, bias, _one(stride), _one(padding), _one(dilation), groups)


def _one(values: Any) -> Any:
    """PyTorch's kernels take one number for all axes as a list of one."""
    return values[0] if isinstance(values, (list, tuple)) and len(values) == 1 else values


def max_pool1d_with_indices(
    input: Any, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """``nn.functional.max_pool1d`` with the places of the maxima."""
    return pooling.max_pool1d(  # type: ignore[attr-defined]
        input, _one(kernel_size), _one(stride) if stride != () else None, _one(padding), _one(dilation), ceil_mode, True
    )


def adaptive_max_pool1d(input: Any, output_size: Any) -> Any:
    """``nn.functional.adaptive_max_pool1d`` with the places of the maxima."""
    return pooling.adaptive_max_pool1d(input, output_size, True)  # type: ignore[attr-defined]


def feature_dropout_(input: Any, p: float, train: bool) -> Any:
    """``feature_dropout`` in place."""
    return neural.feature_dropout(input, p, train, inplace=True)


def feature_alpha_dropout_(input: Any, p: float, train: bool) -> Any:
    """``feature_alpha_dropout`` in place."""
    return neural.feature_alpha_dropout(input, p, train, inplace=True)


# --- recurrences ----------------------------------------------------------------------------------------------------


def _network(name: str, mode: str) -> Any:
    def call(
        input: Any, hx: Any, params: Sequence[Any], has_biases: bool, num_layers: int, dropout: float, train: bool,
        bidirectional: bool, batch_first: bool = False,
    ) -> Any:  # fmt: skip
        each = 4 if has_biases else 2
        weights = [list(params[i : i + each]) for i in range(0, len(params), each)]
        x = input.transpose(0, 1) if batch_first else input
        states = tuple(hx) if mode == "LSTM" else (hx,)
        output, last = recurrence.recurrence(
            mode, x, states, [w if has_biases else [*w, None, None] for w in weights], None,
            bidirectional=bidirectional, dropout=dropout, training=train,
        )  # fmt: skip
        return (output.transpose(0, 1) if batch_first else output, *last)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"The recurrence of ``nn.{mode.split('_')[0]}`` with its weights as arguments: output, last states."
    return call


def _cell(name: str) -> Any:
    def call(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
        return getattr(recurrence, name)(input, hx, w_ih, w_hh, b_ih, b_hh)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = "One step of the recurrence, with its weights as arguments."
    return call


gru, lstm = _network("gru", "GRU"), _network("lstm", "LSTM")
rnn_tanh, rnn_relu = _network("rnn_tanh", "RNN_TANH"), _network("rnn_relu", "RNN_RELU")
gru_cell, lstm_cell = _cell("gru_cell"), _cell("lstm_cell")
rnn_tanh_cell, rnn_relu_cell = _cell("rnn_tanh_cell"), _cell("rnn_relu_cell")
