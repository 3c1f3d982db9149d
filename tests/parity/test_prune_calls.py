"""Calls of the pruning functions, their messages, and fusing, against PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.utils.prune  # PyTorch wants it imported by name

import chainrule

sys.path.insert(0, str(Path(__file__).parent))

from pairs import compare, same_error

RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(6, 4)), RNG.normal(size=6)


def linear(M, factor=1.0):
    layer = M.nn.Linear(4, 6).double()
    layer.load_state_dict({"weight": M.tensor(W * factor), "bias": M.tensor(B)})
    return layer


PRUNED = [
    "P.identity(l, 'weight')",
    "P.l1_unstructured(l, 'weight', 5)",
    "P.l1_unstructured(P.l1_unstructured(l, 'weight', 0.3), 'weight', 0.5)",
    "P.l1_unstructured(l, 'weight', 2, importance_scores=l.weight.exp())",
    "P.ln_structured(l, 'weight', 2, 2, 0)",
    "P.ln_structured(l, 'weight', 0.5, float('inf'), 1)",
    "P.ln_structured(P.l1_unstructured(l, 'weight', 0.3), 'weight', 2, 1, -1)",
    "P.l1_unstructured(P.ln_structured(l, 'weight', 2, 2, 0), 'weight', 3)",
    "P.custom_from_mask(l, 'bias', M.tensor([1, 0, 1, 1, 0, 1]))",
    "P.remove(P.l1_unstructured(l, 'weight', 0.3), 'weight')",
    "P.random_unstructured(l, 'weight', 0)",
    "P.random_structured(l, 'weight', 6, 0)",
]
ERRORS = [
    "P.l1_unstructured(l, 'weight', 30)",
    "P.l1_unstructured(l, 'weight', 1.5)",
    "P.l1_unstructured(l, 'weight', 'a')",
    "P.ln_structured(l, 'bias', 1, 2, 0)",
    "P.ln_structured(l, 'weight', 1, 2, 3)",
    "P.remove(l, 'weight')",
    "P.custom_from_mask(l, 'bias', M.ones(2))",
    "P.l1_unstructured(l, 'weight', 2, importance_scores=M.ones(2))",
    "P.global_unstructured(3, P.L1Unstructured, amount=1)",
]


def prune(M, text):
    layer = linear(M)
    eval(text, {"M": M, "P": M.nn.utils.prune, "l": layer})
    return layer


@pytest.mark.parametrize("text", PRUNED)
def test_pruned(text):
    names = []

    def values(M, x):
        layer = prune(M, text)
        names.append((list(layer.state_dict()), [n for n, _ in layer.named_parameters()], repr(layer)))
        y = layer(x)
        gradients = M.autograd.grad(y.sum(), list(layer.parameters()))
        return [layer.weight.detach(), y.detach(), *gradients, *layer.state_dict().values()]

    compare(values, [W], text, order=0)
    assert names[0] == names[1]


@pytest.mark.parametrize("text", ERRORS)
def test_messages(text):
    same_error(lambda M: prune(M, text))


def test_what_cannot_be_pruned_stays_as_it_is():
    layer = linear(chainrule)
    with pytest.raises(ValueError, match="should be smaller"):
        chainrule.nn.utils.prune.l1_unstructured(layer, "weight", 100)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert not chainrule.nn.utils.prune.is_pruned(layer)


def test_several_parameters_at_once():
    def values(M):
        a, b, P = linear(M), linear(M, 1.1), M.nn.utils.prune
        P.global_unstructured([(a, "weight"), (b, "weight"), (a, "bias")], P.L1Unstructured, amount=0.4)
        P.global_unstructured([(a, "weight"), (b, "weight")], P.L1Unstructured, amount=5)
        return [a.weight.detach(), b.weight.detach(), a.bias.detach()]

    compare(values, [])


def test_random_pruning_takes_as_many_as_it_should():
    P = chainrule.nn.utils.prune
    layer = P.random_unstructured(linear(chainrule), "weight", 0.25)
    assert int((layer.weight == 0).sum()) == 6
    layer = P.random_structured(linear(chainrule), "weight", 2, dim=0)
    assert sorted(layer.weight_mask.sum(1).tolist()) == [0, 0, 4, 4, 4, 4]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d"])
def test_batch_norm_folded_into_the_layer_before(kind, bias):
    n = int(kind[-2]) if kind[-1] == "d" else 0

    def values(M, x):
        r = np.random.default_rng(1)
        layer = getattr(M.nn, kind)(3, 4, *((2,) if n else ()), bias=bias)
        bn = getattr(M.nn, f"BatchNorm{n or 1}d")(4)
        for m in (layer.double().eval(), bn.double().eval()):
            m.load_state_dict({k: M.tensor(r.uniform(0.5, 1.5, tuple(v.shape))) for k, v in m.state_dict().items()})
        if n:
            fused = M.nn.utils.fuse_conv_bn_eval(layer, bn, transpose="Transpose" in kind)
        else:
            fused = M.nn.utils.fuse_linear_bn_eval(layer, bn)
        assert M.allclose(fused(x), bn(layer(x)))
        assert [p.requires_grad for p in fused.parameters()] == [True, bias]
        return [p.detach() for p in fused.parameters()]

    compare(values, [np.random.default_rng(2).normal(size=(2, 3, *(5,) * n))], kind, order=0)


def test_other_tools():
    same_error(lambda M: M.nn.utils.fuse_conv_bn_eval(M.nn.Conv2d(1, 2, 3), M.nn.BatchNorm2d(2)))
    same_error(lambda M: M.nn.utils.skip_init(M.nn.Sequential))
    assert chainrule.nn.utils.skip_init(chainrule.nn.Linear, 3, 4, device="cpu").weight.shape == (4, 3)
    weights = {"weight": np.ones((2, 2), "f4"), "bias": np.ones(2, "f4")}
    for M in (chainrule, torch):
        with pytest.warns(FutureWarning, match="is deprecated as of PyTorch 2.0"):
            y = M.nn.utils.stateless.functional_call(
                M.nn.Linear(2, 2), {k: M.tensor(v) for k, v in weights.items()}, M.ones(1, 2)
            )
        assert y.tolist() == [[3.0, 3.0]]
