"""Attention and Transformer layers against PyTorch: masks of every kind, values, gradients, second derivatives."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import chainrule

sys.path.insert(0, str(Path(__file__).parent))

from pairs import compare

# PyTorch's fused kernels have no second derivative; its plain one has.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch")


@pytest.fixture(autouse=True)
def plain_kernel():
    with sdpa_kernel(SDPBackend.MATH):
        yield


def as_tensor(lib, mask):
    return None if mask is None else lib.tensor(mask)


def test_scaled_dot_product():
    r = np.random.default_rng(0)
    q, k, v = (r.normal(size=(2, 3, n, 4)) for n in (5, 6, 6))
    some = r.random((5, 6)) > 0.4
    some[:, 0] = True
    none = some.copy()
    none[1] = False  # a query that may look nowhere gives 0
    for mask in (None, some, none, r.normal(size=(5, 6)), r.normal(size=(2, 1, 5, 6))):

        def attend(lib, *qkv, mask=mask):
            return lib.nn.functional.scaled_dot_product_attention(*qkv, attn_mask=as_tensor(lib, mask))

        compare(attend, [q, k, v], f"mask {mask}", ulps=256)
    for settings in ({"is_causal": True}, {"scale": 0.3}):

        def attend(lib, *qkv, settings=settings):
            return lib.nn.functional.scaled_dot_product_attention(*qkv, **settings)

        compare(attend, [q, k, v], str(settings), ulps=256)
    grouped = [r.normal(size=(2, heads, 5, 4)) for heads in (6, 2, 2)]
    compare(
        lambda lib, *a: lib.nn.functional.scaled_dot_product_attention(*a, enable_gqa=True), grouped, "gqa", ulps=256
    )


def copied(theirs, ours):
    assert repr(ours) == repr(theirs)
    state = {k: chainrule.tensor(v.detach().numpy()) for k, v in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    return {torch: theirs, chainrule: ours}


def multihead(*args, **settings):
    return copied(
        torch.nn.MultiheadAttention(*args, **settings, dtype=torch.float64),
        chainrule.nn.MultiheadAttention(*args, **settings, dtype=chainrule.float64),
    )


@pytest.mark.parametrize(
    "settings",
    [{}, {"bias": False}, {"batch_first": True}, {"kdim": 5, "vdim": 3}, {"add_bias_kv": True, "add_zero_attn": True}],
)
def test_multihead(settings):
    r = np.random.default_rng(0)
    both = multihead(6, 2, **settings)
    kdim, vdim = settings.get("kdim", 6), settings.get("vdim", 6)

    def draw(length, width):
        return r.normal(size=(2, length, width) if settings.get("batch_first") else (length, 2, width))

    inputs = [draw(4, 6), draw(5, kdim), draw(5, vdim)]
    forbidden = r.random((4, 5)) > 0.6
    forbidden[:, 0] = False
    padding = np.array([[0, 0, 0, 0, 1], [0, 0, 1, 1, 1]], bool)
    masks = [(None, None), (forbidden, None), (None, padding), (forbidden, padding), (r.normal(size=(4, 5)), None),
             (r.normal(size=(4, 4, 5)), None)]  # fmt: skip
    for (mask, pad), average in itertools.product(masks, (True, False)):

        def attend(lib, *qkv, mask=mask, pad=pad, average=average):
            return both[lib](
                *qkv, attn_mask=as_tensor(lib, mask), key_padding_mask=as_tensor(lib, pad), average_attn_weights=average
            )

        compare(attend, inputs, f"{settings} {mask is not None} {pad is not None}", ulps=1024)
    if not settings.get("kdim"):
        compare(lambda lib, x: both[lib](x, x, x, need_weights=False)[0], inputs[:1], "self-attention", ulps=1024)
        compare(lambda lib, x, m: both[lib](x, m, m)[0], inputs[:2], "attention to a memory", ulps=1024)
        one = inputs[0][0] if settings.get("batch_first") else inputs[0][:, 0]
        compare(lambda lib, x: both[lib](x, x, x), [one], "no batch", ulps=1024)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_transformer(batch_first, norm_first, activation):
    settings = {
        "d_model": 6, "nhead": 2, "num_encoder_layers": 2, "num_decoder_layers": 2, "dim_feedforward": 7,
        "dropout": 0.0, "norm_first": norm_first, "activation": activation, "batch_first": batch_first,
    }  # fmt: skip
    both = copied(
        torch.nn.Transformer(**settings, dtype=torch.float64),
        chainrule.nn.Transformer(**settings, dtype=chainrule.float64),
    )
    r = np.random.default_rng(0)
    source, target = ((2, n, 6) if batch_first else (n, 2, 6) for n in (5, 4))
    padding = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1]], bool)

    def run(lib, src, tgt):
        causal = lib.nn.Transformer.generate_square_subsequent_mask(4, dtype=lib.float64)
        pad = lib.tensor(padding).to(lib.float64) * -1e9
        return both[lib](src, tgt, tgt_mask=causal, src_key_padding_mask=pad, memory_key_padding_mask=pad)

    # two encoder and two decoder layers deep: 1e-11 of the largest entry
    compare(run, [r.normal(size=source), r.normal(size=target)], f"{settings}", ulps=40000, order=1)


def test_an_encoder_alone():
    r = np.random.default_rng(0)
    made = []
    for lib in (torch, chainrule):
        layer = lib.nn.TransformerEncoderLayer(
            6, 3, 8, dropout=0.0, activation=lib.nn.functional.silu, dtype=lib.float64
        )
        made.append(lib.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
    state = {k: chainrule.tensor(v.detach().numpy()) for k, v in made[0].state_dict().items()}
    made[1].load_state_dict(state)
    both = dict(zip((torch, chainrule), made, strict=True))
    compare(lambda lib, x: both[lib](x), [r.normal(size=(5, 2, 6))], "encoder", ulps=40000)


def test_dropout_acts_in_training_only():
    layer = chainrule.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5)
    x = chainrule.ones(3, 2, 8)
    assert not chainrule.equal(layer(x), layer(x))
    layer.eval()
    assert chainrule.equal(layer(x), layer(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda M: M.nn.MultiheadAttention(7, 2),
        lambda M: M.nn.MultiheadAttention(0, 2),
        lambda M: M.nn.TransformerEncoderLayer(4, 2, activation="tanh"),
        lambda M: M.nn.Transformer(8, 2)(M.ones(3, 2, 8), M.ones(3, 4, 8)),
        lambda M: M.nn.Transformer(8, 2)(M.ones(3, 2, 6), M.ones(3, 2, 8)),
    ],
)
def test_messages(function):
    with pytest.raises(Exception) as theirs:
        function(torch)
    with pytest.raises(type(theirs.value)) as ours:
        function(chainrule)
    assert str(ours.value).split("\n")[0] == str(theirs.value).split("\n")[0]
