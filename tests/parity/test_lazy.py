"""Lazy layers against PyTorch: before, at and after their first input, and through state_dicts."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import pytest
import torch

import chainrule

sys.path.insert(0, str(Path(__file__).parent))

from pairs import same_error

LAYERS = [
    ("LazyLinear(4)", (2, 3)),
    ("LazyLinear(4, bias=False)", (5, 2, 3)),
    ("LazyConv1d(4, 3)", (2, 3, 7)),
    ("LazyConv2d(4, 3, stride=2, padding=1, groups=2)", (2, 6, 7, 7)),
    ("LazyConv2d(4, 3)", (6, 7, 7)),
    ("LazyConv3d(4, 2, bias=False)", (2, 3, 4, 4, 4)),
    ("LazyConvTranspose1d(4, 3)", (2, 3, 7)),
    ("LazyConvTranspose2d(4, 3, stride=2, output_padding=1)", (2, 3, 7, 7)),
    ("LazyConvTranspose3d(4, 3)", (2, 3, 4, 4, 4)),
    ("LazyBatchNorm1d()", (4, 3)),
    ("LazyBatchNorm2d(affine=False)", (4, 3, 2, 2)),
    ("LazyBatchNorm3d(track_running_stats=False)", (4, 3, 2, 2, 2)),
    ("LazyBatchNorm1d(bias=False)", (4, 3)),
    ("LazyInstanceNorm1d()", (4, 3, 5)),
    ("LazyInstanceNorm2d(track_running_stats=False)", (4, 3, 2, 2)),
    ("LazyInstanceNorm3d(affine=True)", (4, 3, 2, 2, 2)),
]


def life(M, text, shape):
    """What can be seen of a layer before and after its first input."""

    def make():
        return eval(f"M.nn.{text}", {"M": M})

    def state(module):
        return [(k, tuple(v.shape), str(v.dtype)) for k, v in module.state_dict().items()]

    layer = make()
    seen = [repr(layer), list(layer.state_dict()), [n for n, _ in layer.named_parameters()]]
    seen += [[M.nn.parameter.is_lazy(p) for p in layer.parameters()], layer.has_uninitialized_params()]
    again = make()
    again.load_state_dict(make().state_dict())  # no shapes into no shapes
    seen.append(repr(again))
    y = layer(M.ones(*shape))
    seen += [tuple(y.shape), type(layer).__name__, repr(layer), state(layer), len(layer._forward_pre_hooks)]
    loaded = make()
    loaded.load_state_dict(layer.state_dict())
    seen.append(state(loaded))
    if "Instance" not in text:  # PyTorch's lazy instance norms do not run after loading
        seen.append(bool(M.allclose(loaded(M.ones(*shape)), y)))
        seen.append(repr(loaded))
    double = make().double()
    double(M.ones(*shape).double())
    return [*seen, state(double)]


@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_life(number):
    assert life(chainrule, *LAYERS[number]) == life(torch, *LAYERS[number])


@pytest.mark.parametrize("kind", ["LazyLinear(4)", "LazyConv2d(4, 3)"])
def test_copies_stay_lazy(kind):
    layer = eval(f"chainrule.nn.{kind}")
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(copied) == repr(layer)
        assert chainrule.nn.parameter.is_lazy(copied.weight)


ERRORS = [
    lambda M: M.nn.LazyLinear(3).weight.shape,
    lambda M: M.nn.LazyLinear(3).weight.share_memory_(),
    lambda M: M.nn.Linear(2, 3).load_state_dict(M.nn.LazyLinear(3).state_dict()),
    lambda M: M.nn.LazyConv2d(4, 3)(M.ones(2, 3)),
    lambda M: M.nn.LazyConv2d(4, 3, groups=2)(M.ones(2, 3, 5, 5)),
    lambda M: M.nn.LazyBatchNorm1d()(M.ones(2, 3, 4, 5)),
    lambda M: M.nn.InstanceNorm1d(2, affine=True)(M.ones(2, 3, 4)),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_messages(number):
    same_error(ERRORS[number])


def test_a_lazy_parameter_is_good_for_nothing_yet():
    for use in (lambda w: w + 1, lambda w: w.sum(), lambda w: w.detach()):
        with pytest.raises(ValueError, match="Attempted to use an uninitialized parameter"):
            use(chainrule.nn.LazyLinear(3).weight)
