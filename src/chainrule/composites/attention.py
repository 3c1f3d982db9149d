"""Attention: softmax(Q Kᵀ · scale + mask) V, with one head and with several."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..core.dtypes import FLOATS
from ..core.live import values_known
from ..core.variable import wrap
from ..errors import ShapeError, message
from ..ops import join, layout, reduce
from ..ops.compare import where
from ..ops.linalg import linear, matmul
from ..ops.softmax import softmax
from .noise import kept

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def _drop(x: Any, p: float) -> Any:
    return x if p == 0 else x * (kept(x._array.shape, p, x._array.dtype) * (1 / (1 - p) if p < 1 else 0.0))


def _attend(scores: Any, allowed: Any, dropout_p: float) -> Any:
    """Softmax over the keys that are allowed (None: all); a query without any gives weights 0."""
    dim = scores._array.ndim - 1
    if allowed is None:
        return _drop(softmax(scores, dim=dim), dropout_p)
    if values_known(allowed) and allowed._array.any(axis=-1).all():
        return _drop(softmax(where(allowed, scores, -math.inf), dim=dim), dropout_p)
    some = reduce.any(allowed, dim=(allowed._array.ndim - 1,), keepdim=True)
    # Where nothing is allowed the scores must not be −∞ throughout: that softmax is 0/0.
    safe = where(some, where(allowed, scores, -math.inf), 0.0)
    weights = where(some, softmax(safe, dim=dim), 0.0)
    return _drop(weights, dropout_p)


def _causal(queries: int, keys: int) -> Any:
    return wrap(np.tri(queries, keys, dtype=bool))


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(Q Kᵀ · scale + mask) V over the last two axes; the scale is 1/√E unless given.

    Args:
        query, key, value: (…, L, E), (…, S, E), (…, S, V).
        attn_mask: (…, L, S); bool: True where a query may look at a key; floating point: added to the scores.
        dropout_p: applied always, so pass 0 outside training.
        is_causal: a query may look at keys up to its own position.
        enable_gqa: keys and values have fewer heads (axis −3), each serving several query heads.
    """
    if is_causal and attn_mask is not None:
        raise ShapeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    q, k, v = query, key, value
    if enable_gqa:
        times = q._array.shape[-3] // k._array.shape[-3]
        k, v = k.repeat_interleave(times, -3), v.repeat_interleave(times, -3)
    scale = 1 / math.sqrt(q._array.shape[-1]) if scale is None else scale
    scores = matmul(q * scale, layout.swap(k))
    allowed = None
    if is_causal:
        allowed = _causal(*scores._array.shape[-2:])
    elif attn_mask is not None:
        if attn_mask._array.dtype == np.bool_:
            allowed = attn_mask
        else:
            scores = scores + attn_mask
    return matmul(_attend(scores, allowed, dropout_p), v)


# --- several heads ---------------------------------------------------------------------------------------------


def _part(w: Any, a: int, b: int) -> Any:
    return None if w is None else w[a:b]


def _projected(q: Any, k: Any, v: Any, w: Any, b: Any) -> tuple[Any, Any, Any]:
    """Queries, keys and values from one stacked weight (3E, E); equal inputs share a product."""
    e = q._array.shape[-1]
    axis = q._array.ndim - 1
    if q is k and k is v:
        return join.split(linear(q, w, b), sizes=(e, e, e), dim=axis)
    if k is v:
        keys, values = join.split(linear(k, _part(w, e, 3 * e), _part(b, e, 3 * e)), sizes=(e, e), dim=axis)
        return linear(q, _part(w, 0, e), _part(b, 0, e)), keys, values
    return tuple(linear(x, _part(w, i * e, i * e + e), _part(b, i * e, i * e + e)) for i, x in enumerate((q, k, v)))  # type: ignore[return-value]


def _as_addend(mask: Any, dtype: Any, name: str) -> Any:
    """A mask as floating point, −∞ where a bool mask forbids."""
    if mask is None:
        return None
    a = mask._array
    if a.dtype == np.bool_:
        return where(mask, wrap(np.array(-np.inf, dtype)), wrap(np.zeros((), dtype)))
    if a.dtype not in FLOATS:
        raise AssertionError(f"only bool and floating types of {name} are supported")
    return mask


def multi_head_attention_forward(
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, Any]:
    """Attention with several heads on (L, N, E) inputs (or (L, E)); gives the output and the attention weights.

    In bool masks True forbids: ``attn_mask`` (L, S) or (N·heads, L, S), ``key_padding_mask`` (N, S).
    """
    batched = query._array.ndim == 3
    if query._array.ndim not in (2, 3):
        raise AssertionError(
            f"query should be unbatched 2D or batched 3D tensor but received {query._array.ndim}-D query tensor"
        )
    if not batched:
        same_k, same_v = key is query, value is key
        query = layout.reshape(query, shape=(query._array.shape[0], 1, query._array.shape[1]))
        key = query if same_k else layout.reshape(key, shape=(key._array.shape[0], 1, key._array.shape[1]))
        value = key if same_v else layout.reshape(value, shape=(value._array.shape[0], 1, value._array.shape[1]))
        if key_padding_mask is not None:
            key_padding_mask = layout.reshape(key_padding_mask, shape=(1, -1))
    length, batch, width = query._array.shape
    source = key._array.shape[0]
    if width != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {width}")
    head = width // num_heads
    if head * num_heads != width:
        raise AssertionError(f"embed_dim {width} not divisible by num_heads {num_heads}")
    if key._array.shape[:2] != value._array.shape[:2]:
        raise AssertionError(
            f"key's sequence and batch dims {key._array.shape[:2]} do not match value's {value._array.shape[:2]}"
        )
    if is_causal and attn_mask is None:
        raise ShapeError(
            message("Need attn_mask if specifying the is_causal hint.", fix="Pass the causal mask as attn_mask.")
        )
    if use_separate_proj_weight:
        b = [None] * 3 if in_proj_bias is None else join.split(in_proj_bias, sizes=(width,) * 3, dim=0)
        q = linear(query, q_proj_weight, b[0])
        k = linear(key, k_proj_weight, b[1])
        v = linear(value, v_proj_weight, b[2])
    else:
        q, k, v = _projected(query, key, value, in_proj_weight, in_proj_bias)
    dtype = q._array.dtype
    if attn_mask is not None and key_padding_mask is not None and attn_mask.dtype != key_padding_mask.dtype:
        warnings.warn(
            "Support for mismatched key_padding_mask and attn_mask is deprecated. Use same type for both instead.",
            stacklevel=3,
        )
    mask = _as_addend(attn_mask, dtype, "attn_mask")
    padding = _as_addend(key_padding_mask, dtype, "key_padding_mask")
    if mask is not None:
        expected = (length, source) if mask._array.ndim == 2 else (batch * num_heads, length, source)
        if mask._array.shape != expected:
            kind = "2D" if mask._array.ndim == 2 else "3D"
            raise ShapeError(message(f"The shape of the {kind} attn_mask is {mask.shape}, but should be {expected}."))
        if mask._array.ndim == 3:
            mask = layout.reshape(mask, shape=(batch, num_heads, length, source))
    extra = 0
    if bias_k is not None and bias_v is not None:
        k = join.cat(k, layout.expand(bias_k, shape=(1, batch, width)), dim=0)
        v = join.cat(v, layout.expand(bias_v, shape=(1, batch, width)), dim=0)
        extra += 1

    def heads(x: Any) -> Any:
        """(L, N, E) as (N, heads, L, E / heads)."""
        x = layout.reshape(x, shape=(x._array.shape[0], batch, num_heads, head))
        return layout.permute(x, dims=(1, 2, 0, 3))

    q, k, v = heads(q), heads(k), heads(v)
    if add_zero_attn:
        zeros = wrap(np.zeros((batch, num_heads, 1, head), dtype))
        k, v = join.cat(k, zeros, dim=2), join.cat(v, zeros, dim=2)
        extra += 1
    addend = _combined(mask, padding, batch, source, extra, dtype)
    scores = matmul(q * (1 / math.sqrt(head)), layout.swap(k))
    if addend is not None:
        scores = scores + addend
    weights = softmax(scores, dim=3)
    weights = _drop(weights, dropout_p if training else 0.0)
    out = layout.permute(matmul(weights, v), dims=(2, 0, 1, 3))
    out = linear(layout.reshape(out, shape=(length, batch, width)), out_proj_weight, out_proj_bias)
    if not batched:
        out = layout.reshape(out, shape=(length, width))
    if not need_weights:
        return out, None
    if average_attn_weights:
        weights = weights.mean(1)
    return out, weights if batched else weights.squeeze(0)


def _combined(mask: Any, padding: Any, batch: int, source: int, extra: int, dtype: Any) -> Any:
    """Both masks as one addend that broadcasts to (N, heads, L, S + extra)."""
    if padding is not None:
        if padding._array.shape != (batch, source):
            raise AssertionError(
                f"expecting key_padding_mask shape of {(batch, source)}, but got {tuple(padding._array.shape)}"
            )
        padding = layout.reshape(padding, shape=(batch, 1, 1, source))
        mask = padding if mask is None else mask + padding
    if mask is not None and extra:
        from ..ops.pad import pad_constant

        widths = (*((0, 0) for _ in range(mask._array.ndim - 1)), (0, extra))
        mask = pad_constant(mask, widths=widths, value=0.0)
    return mask
