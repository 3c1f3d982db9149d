"""Layers with options and shapes drawn at random, against PyTorch: repr, state, values, gradients, second derivatives.

A line of ``LAYERS`` is a call with choices: ``stride=‹1¦2›`` draws one. Its input shapes follow; ``N`` is a batch (at
times empty, or left out), ``*`` one to three spatial axes, whose number stands for ``#`` in the call.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz import choose
from pairs import compare_layers

LAYERS = [
    ("Conv#d(4, 2, ‹1¦2¦3›, ‹1¦2›, ‹0¦1¦2›, ‹1¦2›, ‹1¦2›, ‹True¦False›, ‹'zeros'¦'reflect'¦'circular'¦'replicate'›)",
     "N 4 *"),
    ("Conv#d(2, 2, 3, padding=‹'same'¦'valid'›, dilation=‹1¦2›)", "N 2 *"),
    ("ConvTranspose#d(4, 2, ‹1¦2¦3›, ‹2¦3›, ‹0¦1›, ‹0¦1›, ‹1¦2›, ‹True¦False›)", "N 4 *"),
    ("MaxPool#d(‹2¦3›, ‹None¦1¦2›, ‹0¦1›, ‹1¦2›, return_indices=‹True¦False›, ceil_mode=‹True¦False›)", "N 2 *"),
    ("AvgPool#d(‹2¦3›, ‹None¦1¦2›, ‹0¦1›, ceil_mode=‹True¦False›, count_include_pad=‹True¦False›)", "N 2 *"),
    ("LPPool#d(‹2¦3.0›, 2, ceil_mode=‹True¦False›)", "N 2 *"),
    ("AdaptiveAvgPool#d(‹1¦2¦3¦5›)", "N 2 *"),
    ("AdaptiveMaxPool#d(‹1¦2¦3¦5›, return_indices=‹True¦False›)", "N 2 *"),
    ("BatchNorm#d(4, ‹1e-5¦0.1›, ‹0.1¦None›, ‹True¦False›, ‹True¦False›)", "3 4 *"),
    ("BatchNorm#d(4, affine=‹True¦False›)", "0 4 *"),
    ("InstanceNorm#d(4, ‹1e-5¦0.1›, 0.5, ‹True¦False›, ‹True¦False›)", "2 4 *"),
    ("GroupNorm(‹1¦2¦4›, 4, affine=‹True¦False›)", "2 4 *"),
    ("LayerNorm(‹4¦(3, 4)›, ‹1e-5¦0.1›, ‹True¦False›, ‹True¦False›)", "N 3 4"),
    ("RMSNorm(‹4¦(3, 4)›, ‹None¦0.1›, ‹True¦False›)", "N 3 4"),
    ("LocalResponseNorm(‹1¦2¦3›, ‹1e-4¦0.5›, ‹0.75¦2.0›, ‹1.0¦2.0›)", "2 4 *"),
    ("Linear(4, ‹3¦1›, ‹True¦False›)", "N 4"),
    ("Bilinear(3, 4, ‹1¦2›, ‹True¦False›)", "2 3; 2 4"),
    ("‹Reflection¦Replication¦Circular¦Zero›Pad#d(‹1¦2›)", "N 2 *"),
    ("ConstantPad#d(‹1¦-1›, 1.5)", "N 2 *"),
    ("Upsample(scale_factor=‹2¦0.5¦1.7›, mode=‹'nearest'¦'nearest-exact'›)", "2 2 *"),
    ("Upsample(‹None, 1.7¦(5, 9)›, mode=‹'bilinear'¦'bicubic'›, align_corners=‹True¦False›)", "2 2 6 4"),
    ("Unfold(‹2¦(2, 3)›, ‹1¦2›, ‹0¦1›, ‹1¦2›)", "N 2 6 7"),
    ("PixelUnshuffle(‹1¦2¦3›)", "2 2 6 6"),
    ("ChannelShuffle(‹1¦2¦4›)", "2 4 *"),
    ("‹ELU(0.5)¦CELU(0.5)¦GELU()¦GELU('tanh')¦SELU()¦Mish()¦SiLU()¦Softplus(3.0, 1.0)¦PReLU(4)›", "2 4 3"),
    ("‹Hardshrink(0.3)¦Softshrink(0.1)¦Hardtanh(-0.5, 0.3)¦Hardswish()¦LogSigmoid()¦Softsign()¦Threshold(0.1, 2.0)›",
     "N 4"),
    ("GLU(‹0¦1¦-1›)", "2 4 6"),
    ("‹Softmax¦LogSoftmax¦Softmin›(‹0¦1¦-1›)", "2 3 ‹4¦0›"),
    ("‹MSELoss¦L1Loss¦SmoothL1Loss¦HuberLoss›(reduction=‹'none'¦'mean'¦'sum'›)", "3 4; 3 4"),
    ("TripletMarginLoss(‹1.0¦0.5›, ‹1¦2¦3›, swap=‹True¦False›, reduction=‹'none'¦'mean'›)", "5 4; 5 4; 5 4"),
    ("CosineSimilarity(‹0¦1›, ‹1e-8¦0.5›)", "3 4; 3 ‹1¦4›"),
    ("PairwiseDistance(‹1.0¦2.0¦3.0›, keepdim=‹True¦False›)", "3 4; 3 4"),
    ("TransformerEncoderLayer(4, 2, 5, 0.0, ‹'relu'¦'gelu'›, batch_first=‹True¦False›, norm_first=‹True¦False›)",
     "3 2 4"),
    ("TransformerDecoderLayer(4, 2, 5, 0.0, batch_first=‹True¦False›, bias=‹True¦False›)", "3 2 4; 3 2 4"),
]  # fmt: skip


def shape(rng, text, space):
    axes = []
    for part in text.split():
        if part == "N":
            axes += [(2,), (1,), (0,), ()][rng.choice(4, p=(0.5, 0.2, 0.15, 0.15))]
        else:
            axes += space if part == "*" else [int(part)]
    return tuple(axes)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_layer(number, seed):
    rng = np.random.default_rng((number, seed))
    template, shapes = LAYERS[number]
    n = int(rng.integers(1, 4))
    call = choose(rng, template.replace("#", str(n)))
    space = rng.integers(4, 7, n).tolist()
    arrays = [np.asarray(rng.normal(size=shape(rng, s, space))) for s in choose(rng, shapes).split(";")]
    if rng.random() < 0.3 and arrays[0].ndim > 1:
        arrays[0] = np.asfortranarray(arrays[0])
    train = bool(rng.random() < 0.7)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths")
        # sums of some hundred products, in another order than PyTorch's: 1024 roundings
        compare_layers(
            lambda M: eval(f"M.nn.{call}", {"M": M}), arrays, f"{call} {[a.shape for a in arrays]}", 1024, train=train
        )
