"""Pruning against PyTorch: the same masks, names, hooks and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.utils.prune as theirs

import chainrule
from chainrule.nn.utils import prune as ours

# no two as far from 0
WEIGHT = np.random.default_rng(0).permutation(60).reshape(4, 3, 5).astype(np.float32) - np.float32(25.3)


def _pair():
    layers = []
    for lib in (chainrule, torch):
        layer = lib.nn.Conv1d(3, 4, 5)
        with lib.no_grad():
            layer.weight.copy_(lib.from_numpy(WEIGHT))
            layer.bias.copy_(lib.from_numpy(WEIGHT[:, 0, 0]))
        layers.append(layer)
    return layers


def _same(a, b):
    assert [n for n, _ in a.named_parameters()] == [n for n, _ in b.named_parameters()]
    assert list(a.state_dict()) == list(b.state_dict())
    for name, value in a.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), b.state_dict()[name].numpy(), err_msg=name)
    np.testing.assert_array_equal(a.weight.detach().numpy(), b.weight.detach().numpy())


STEPS = {
    "l1 share": [("l1_unstructured", {"amount": 0.3})],
    "l1 number": [("l1_unstructured", {"amount": 7})],
    "nothing": [("l1_unstructured", {"amount": 0})],
    "l1 twice": [("l1_unstructured", {"amount": 0.3}), ("l1_unstructured", {"amount": 0.5})],
    "ln": [("ln_structured", {"amount": 0.5, "n": 2, "dim": 0})],
    "ln last axis": [("ln_structured", {"amount": 2, "n": float("inf"), "dim": -1})],
    "ln, then ln": [
        ("ln_structured", {"amount": 1, "n": 1, "dim": 0}),
        ("ln_structured", {"amount": 1, "n": 1, "dim": 0}),
    ],
    "l1, then ln": [("l1_unstructured", {"amount": 0.4}), ("ln_structured", {"amount": 0.5, "n": 2, "dim": 1})],
    "identity": [("identity", {})],
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_masks(steps):
    a, b = _pair()
    for name, settings in steps:
        for module, lib in ((a, ours), (b, theirs)):
            getattr(lib, name)(module, "weight", **settings)
    _same(a, b)
    for module, lib in ((a, chainrule), (b, torch)):
        module(lib.ones(2, 3, 9)).sum().backward()
    np.testing.assert_allclose(a.weight_orig.grad.numpy(), b.weight_orig.grad.numpy(), rtol=1e-6)
    assert ours.is_pruned(a)
    for module, lib in ((a, ours), (b, theirs)):
        lib.remove(module, "weight")
    _same(a, b)
    assert not ours.is_pruned(a)


def test_scores_and_masks_given():
    a, b = _pair()
    scores, mask = WEIGHT[::-1].copy(), (WEIGHT[..., ::-1] > 0).astype(np.float32)
    for module, lib, tensors in ((a, ours, chainrule), (b, theirs, torch)):
        lib.l1_unstructured(module, "weight", 0.25, importance_scores=tensors.from_numpy(scores))
        lib.custom_from_mask(module, "weight", tensors.from_numpy(mask))
    _same(a, b)
    with pytest.raises(AssertionError, match="importance_scores should have the same shape"):
        ours.l1_unstructured(a, "weight", 0.25, importance_scores=chainrule.ones(2))


def test_global():
    a, b = _pair()
    for module, lib in ((a, ours), (b, theirs)):
        pairs = [(module, "weight"), (module, "bias")]
        lib.global_unstructured(pairs, pruning_method=lib.L1Unstructured, amount=0.2)
        lib.global_unstructured(pairs, pruning_method=lib.L1Unstructured, amount=5)
    _same(a, b)


def test_random_prunes_as_many():
    a, _ = _pair()
    ours.random_unstructured(a, "weight", 0.5)
    assert int((a.weight_mask == 0).sum()) == 30
    ours.random_structured(a, "weight", amount=1, dim=2)
    whole = (a.weight_mask == 0).numpy().all(axis=(0, 1))
    assert whole.sum() >= 1


def test_a_method_of_ones_own():
    class EveryOther(ours.BasePruningMethod):
        PRUNING_TYPE = "unstructured"

        def compute_mask(self, t, default_mask):
            mask = default_mask.clone()
            mask.view(-1)[::2] = 0
            return mask

    a, _ = _pair()
    EveryOther.apply(a, "bias")
    EveryOther.apply(a, "bias")  # of the two that are left, the first goes
    assert a.bias_mask.tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda p, m: p.remove(m, "weight"), ValueError),
        (lambda p, m: p.l1_unstructured(m, "weight", 1.5), ValueError),
        (lambda p, m: p.l1_unstructured(m, "weight", -1), ValueError),
        (lambda p, m: p.l1_unstructured(m, "weight", 1000), ValueError),
        (lambda p, m: p.l1_unstructured(m, "weight", "many"), TypeError),
        (lambda p, m: p.ln_structured(m, "bias", 0.5, 2, 0), ValueError),
        (lambda p, m: p.ln_structured(m, "weight", 0.5, 2, 3), IndexError),
        (lambda p, m: p.global_unstructured([(m, "weight")], p.RandomStructured, amount=1), TypeError),
        (lambda p, m: p.global_unstructured(5, p.L1Unstructured, amount=1), TypeError),
    ],
)
def test_errors(call, error):
    a, b = _pair()
    with pytest.raises(error) as expected:
        call(theirs, b)
    with pytest.raises(error) as found:
        call(ours, a)
    assert str(found.value).split("\n")[0][:40] == str(expected.value).split("\n")[0][:40]
    assert "weight" in a._parameters  # raised before anything changed


def test_a_spectral_norm_as_parametrisation():
    a, b = _pair()
    for module, lib in ((a, chainrule), (b, torch)):
        lib.nn.utils.parametrizations.spectral_norm(module, n_power_iterations=30)
    assert list(a.state_dict()) == list(b.state_dict())
    np.testing.assert_allclose(a.weight.detach().numpy(), b.weight.detach().numpy(), rtol=2e-3, atol=1e-4)
    before = a.parametrizations.weight[0]._u.clone()
    a.eval()
    _ = a.weight
    assert chainrule.equal(a.parametrizations.weight[0]._u, before)
