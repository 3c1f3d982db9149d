"""``torch.nn.functional``: one namespace for the functions of neural networks, wherever they live."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..composites.attention import *  # noqa: F403
from ..composites.convolution import *  # noqa: F403
from ..composites.distances import *  # noqa: F403
from ..composites.losses import *  # noqa: F403
from ..composites.more_losses import *  # noqa: F403
from ..composites.noise import random_tensor
from ..composites.normalisation import *  # noqa: F403
from ..composites.pooling import *  # noqa: F403
from ..composites.resampling import *  # noqa: F403
from ..composites.sampling import *  # noqa: F403
from ..core.live import memory_read, values_read
from ..core.variable import Variable, wrap
from ..errors import DtypeError, IndexOutOfRange, ShapeError, message
from ..functions.activation import (  # noqa: F401
    celu,
    celu_,
    elu,
    elu_,
    gelu,
    glu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    hardtanh_,
    leaky_relu,
    leaky_relu_,
    logsigmoid,
    mish,
    prelu,
    relu,
    relu6,
    relu_,
    rrelu,
    rrelu_,
    selu,
    selu_,
    sigmoid,
    silu,
    softplus,
    softshrink,
    softsign,
    tanh,
    tanhshrink,
    threshold,
    threshold_,
)  # fmt: skip
from ..functions.neural import *  # noqa: F403
from ..ops import embedding as embedding_ops
from ..ops import linalg as linalg_ops
from ..ops import softmax as softmax_ops

# ruff: noqa: F405


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """y = x Wᵀ + b, with W of shape (out, in)."""
    if not isinstance(input, Variable):
        raise TypeError(f"linear(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    x, w = input._array, weight._array
    if x.shape[-1:] != w.shape[-1:] or x.dtype is not w.dtype or w.ndim != 2:
        return _linear_otherwise(input, weight, bias)
    return linalg_ops.linear(input, weight, bias)


def _linear_otherwise(input: Any, weight: Any, bias: Any) -> Any:
    """What ``linear`` does with less usual operands: a weight vector, or operands that do not fit."""
    x, w = input._array, weight._array
    if x.dtype is not w.dtype:
        names = {"float32": "Float", "float64": "Double", "float16": "Half", "int64": "Long", "int32": "Int"}
        first, second = (names.get(a.dtype.name, a.dtype.name.capitalize()) for a in (x, w))
        raise DtypeError(
            message(
                f"mat1 and mat2 must have the same dtype, but got {first} and {second}",
                fix="Convert one of them: x.to(weight.dtype).",
            )
        )
    if w.ndim == 1 and x.shape[-1:] == w.shape:
        out = input.matmul(weight)
        return out if bias is None else out + bias
    m = 1
    for n in x.shape[:-1]:
        m *= n
    raise ShapeError(
        message(
            f"mat1 and mat2 shapes cannot be multiplied ({m}x{x.shape[-1] if x.ndim else 1} and "
            f"{w.shape[-1]}x{w.shape[0]})",
            f"linear: input is {x.shape}, weight is {w.shape} (out, in)",
            fix=f"The input's last axis must have the {w.shape[-1]} features that the weight takes.",
        )
    )


def linear_cross_entropy(
    input: Any,
    linear_weight: Any,
    target: Any,
    *,
    linear_bias: Any = None,
    weight: Any = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Any:
    """Cross-entropy of the logits input · linear_weightᵀ + linear_bias: input (N, F), weights (C, d₁, …, F).

    ``options`` (how PyTorch cuts the batch to save memory) are accepted, without effect.
    """
    x, w = input._array, linear_weight._array
    if not 1 <= x.ndim <= 2:
        raise ShapeError(f"expected input with dimensionality 1 or 2, got {x.ndim}")
    if w.ndim < 2:
        raise ShapeError(f"expected linear_weight with dimensionality at least 2, got {w.ndim}")
    if x.shape[-1] != w.shape[-1]:
        raise ShapeError(
            "expected equal input and linear_weight last dimensions (in_features), got "
            f"{x.shape[-1]} and {w.shape[-1]}, respectively"
        )
    rows = w.shape[:-1]
    if linear_bias is not None and linear_bias._array.shape != rows:
        raise ShapeError(f"expected linear_bias shape {rows}, got {linear_bias._array.shape}")
    if len(rows) > 1 and x.ndim == 1:
        raise ShapeError(
            f"K-dimensional loss defined by linear_weight shape {w.shape} requires batched input, (N, {x.shape[-1]}), "
            f"got unbatched input with shape {x.shape}"
        )
    shape = (*x.shape[:-1], *rows)
    if target._array.shape == shape and ignore_index is not None:
        raise ShapeError("ignore_index cannot be specified when target contains probabilities")
    bias = None if linear_bias is None else linear_bias.reshape(-1)
    logits = linear(input, linear_weight.reshape(-1, w.shape[-1]), bias).reshape(shape)
    return cross_entropy(
        logits, target, weight,
        ignore_index=-100 if ignore_index is None else ignore_index, reduction=reduction,
        label_smoothing=label_smoothing,
    )  # fmt: skip


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """Rows of ``weight`` (V, D) by number: input of any shape (*) gives (*, D).

    ``padding_idx`` gets no gradient; rows longer than ``max_norm`` are first shortened, in place.
    """
    index, table = input._array, weight._array
    if index.dtype.kind not in "iu" or index.dtype.itemsize < 4:
        raise DtypeError(
            message(
                "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but "
                f"got {input.type() if hasattr(input, 'type') else index.dtype} instead (while checking arguments for "
                "embedding)"
            )
        )
    if table.ndim != 2:
        raise ShapeError(message("'weight' must be 2-D", f"it is {table.shape}"))
    rows = table.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    if index.size and (index.min() < 0 or index.max() >= rows):
        bad = index[(index < 0) | (index >= rows)].flat[0]
        raise IndexOutOfRange(message("index out of range in self", f"index {bad}, but the table has {rows} rows"))
    if max_norm is not None:
        _renorm(weight, index, max_norm, norm_type)
    out = embedding_ops.embedding(weight, input, padding_idx=padding_idx)
    if not scale_grad_by_freq or not index.size:
        return out
    # The value stays, the gradient is divided by how often the row is used.
    ones = wrap(np.ones((index.size, 1), table.dtype))
    times = embedding_ops.add_rows(ones, input.reshape(-1), rows=rows)
    kept = out.detach()
    return kept + (out - kept) / embedding_ops.embedding(times, input, padding_idx=None)


def _renorm(weight: Any, index: Any, max_norm: float, norm_type: float) -> None:
    from ..core import inplace

    memory_read("embedding with max_norm")
    table = weight._array
    used = np.unique(index)
    norms = np.linalg.norm(table[used], ord=norm_type, axis=1)
    long = norms > max_norm
    table[used[long]] *= (max_norm / (norms[long] + 1e-7))[:, None].astype(table.dtype)
    inplace.touch(table)


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """Class numbers (*) as int64 vectors (*, C) with a single 1."""
    index = tensor._array
    if index.dtype.name != "int64":
        raise DtypeError(
            message("one_hot is only applicable to index tensor of type LongTensor.", fix="Convert: tensor.long().")
        )
    if index.size == 0 and num_classes <= 0:
        raise DtypeError("Can not infer total number of classes from empty tensor.")
    if index.size and index.min() < 0:
        raise DtypeError(message("Class values must be non-negative.", f"the smallest is {index.min()}"))
    if num_classes == -1:
        values_read(tensor, "one_hot without num_classes")
        num_classes = int(index.max()) + 1
    elif index.size and index.max() >= num_classes:
        raise DtypeError(message("Class values must be smaller than num_classes.", f"the largest is {index.max()}"))
    from ..ops.layout import cast

    return cast(softmax_ops.one_hot(tensor, classes=num_classes, dim=index.ndim), dtype=index.dtype)


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Dropout of whole channels of (N, C, L) or (C, L)."""
    if input.dim() not in (2, 3):
        raise ShapeError(
            message(
                f"dropout1d: Expected 2D or 3D input, but received a {input.dim()}D input. Note that dropout1d exists "
                "to provide channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, and an "
                "optional batch dimension (i.e. 2D or 3D inputs)."
            )
        )
    return _channel_dropout(input, p, training, inplace, 1)


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Dropout of whole channels of (N, C, H, W); a (C, H, W) input is read as (N, C, L), as PyTorch does."""
    if input.dim() == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired "
            "- input is interpreted as shape (N, C, L), where C is the channel dim. This behavior will change in a "
            "future release to interpret the input as one without a batch dimension, i.e. shape (C, H, W). To maintain "
            "the 1D channel-wise dropout behavior, please switch to using dropout1d instead.",
            stacklevel=2,
        )
    elif input.dim() != 4:
        _warn_dropout(2, input.dim(), "2 spatial dimensions", "3D or 4D")
    return feature_dropout(input, p, training, inplace)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Dropout of whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    if input.dim() not in (4, 5):
        _warn_dropout(3, input.dim(), "3 spatial dimensions", "4D or 5D")
    return _channel_dropout(input, p, training, inplace, 3)


def _warn_dropout(space: int, ndim: int, kinds: str, sizes: str) -> None:
    warnings.warn(
        f"dropout{space}d: Received a {ndim}-D input to dropout{space}d, which is deprecated and will result in an "
        "error in a future release. To retain the behavior and silence this warning, please use dropout instead. Note "
        f"that dropout{space}d exists to provide channel-wise dropout on inputs with {kinds}, a channel dimension, and "
        f"an optional batch dimension (i.e. {sizes} inputs).",
        stacklevel=3,
    )


def _channel_dropout(input: Any, p: float, training: bool, inplace: bool, space: int) -> Any:
    """Dropout of whole channels; the batch axis is added unless there are two more axes than ``space``."""
    if input.dim() == space + 2:
        return feature_dropout(input, p, training, inplace)
    out = feature_dropout(input.unsqueeze(0), p, training, inplace)
    return input if inplace else out.squeeze(0)


def softmin(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Softmax of −x along ``dim``."""
    return softmax(-input, dim, _stacklevel, dtype)


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """yₒ = x₁ᵀ Aₒ x₂ + bₒ, with A of shape (out, in1, in2)."""
    lead = tuple(input1.shape[:-1])
    o, i, j = weight.shape
    for axis, (m, n) in enumerate(zip(lead, input2.shape[:-1], strict=False)):
        if m != n:
            raise ShapeError(message(f"bilinear(): input batch dimensions do not match at dim {axis}: got {m} and {n}"))
    for which, (have, want) in enumerate(((input1.shape[-1], i), (input2.shape[-1], j)), 1):
        if have != want:
            raise ShapeError(
                message(f"bilinear(): input{which} size does not match weight size: got {have} but expected {want}")
            )
    left = linalg_ops.matmul(input1.reshape(-1, i), weight.permute(1, 0, 2).reshape(i, o * j))
    out = (left.reshape(-1, o, j) * input2.reshape(-1, 1, j)).sum(-1).reshape(*lead, o)
    return out if bias is None else out + bias


def gumbel_softmax(logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Any:
    """Softmax of (logits + Gumbel noise) / τ; ``hard``: one-hot, with the gradient of the soft sample."""
    from ..core.rng import numpy_generator

    x = logits._array
    shape, d = x.shape, x.dtype
    noise = random_tensor(lambda: -np.log(numpy_generator(None).exponential(size=shape)).astype(d))
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    axis = dim % x.ndim
    index = soft.detach().argmax(axis)
    from ..ops.layout import cast

    chosen = cast(softmax_ops.one_hot(index, classes=x.shape[axis], dim=axis), dtype=x.dtype)
    return chosen - soft.detach() + soft


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """x / (k + α · mean of x² over ``size`` neighbouring channels)^β."""
    if input.dim() < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {input.dim()} dimensions)")
    n, c, *rest = input.shape
    squares = (input * input).reshape(n, 1, c, -1)
    squares = pad(squares, (0, 0, size // 2, (size - 1) // 2))
    mean = avg_pool2d(squares, (size, 1), stride=1).reshape(n, c, *rest)
    return input / (mean * alpha + k) ** beta


def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Sum, mean or maximum of the rows of each bag: rows of a (B, N) input, or 1-d input cut at ``offsets``."""
    from ..functions.scattering import scatter_reduce
    from ..functions.statistics import searchsorted
    from ..ops.compare import where
    from ..ops.layout import cast

    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    index = input._array
    if index.ndim == 2:
        if offsets is not None:
            raise ValueError(
                "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of "
                "fixed length sequences."
            )
        bags, bag = index.shape[0], wrap(np.repeat(np.arange(index.shape[0]), index.shape[1]))
    elif index.ndim == 1:
        if offsets is None:
            raise ValueError("offsets has to be a 1D Tensor but got None")
        first, last = (offsets._array[0], offsets._array[-1]) if offsets._array.size else (0, 0)
        if first != 0:
            raise ShapeError(
                "offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from position 0. "
                f"However, got {first}"
            )
        if last > len(index):
            raise ShapeError(
                f"offsets[-1] can not be greater than input's length {len(index)} but got offsets[-1] of {last}"
            )
        starts = offsets[:-1] if include_last_offset else offsets
        bags = len(starts)
        bag = searchsorted(starts, np.arange(len(index)), right=True) - 1
    else:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {index.ndim}")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' "
            f"(got mode='{mode}'). Please open a feature request on GitHub."
        )
    flat = input.reshape(-1)
    rows = embedding(flat, weight, None, max_norm, norm_type)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    kept = wrap(np.ones((index.size, 1), bool))
    if padding_idx is not None:
        kept = (flat != padding_idx % weight._array.shape[0]).unsqueeze(1)
        rows = where(kept, rows, -math.inf if mode == "max" else 0.0)
    if mode == "sum":
        return embedding_ops.add_rows(rows, bag, rows=bags)
    counts = embedding_ops.add_rows(cast(kept, dtype=weight._array.dtype), bag, rows=bags)
    if mode == "max":
        bases = wrap(np.full((bags, weight._array.shape[1]), -np.inf, weight._array.dtype))
        most = scatter_reduce(bases, 0, bag.unsqueeze(1).expand_as(rows), rows, "amax")
        return where(counts > 0, most, 0.0)
    return embedding_ops.add_rows(rows, bag, rows=bags) / where(counts > 0, counts, 1.0)


def __getattr__(name: str) -> Any:
    from ..core import left_out

    raise left_out.missing("torch.nn.functional", name, globals())
