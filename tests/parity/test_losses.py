"""Losses against PyTorch: every reduction, weight, ignored class and smoothing; values and two derivatives."""

from __future__ import annotations

import itertools
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule

sys.path.insert(0, str(Path(__file__).parent))
from pairs import compare

REDUCTIONS = ["none", "mean", "sum"]
SHAPES = [(5, 3), (4, 3, 2), (2, 3, 2, 2), (3,)]


def call(name, **settings):
    """The functional of that name; arrays among the settings become tensors of the library that runs."""

    def function(lib, *tensors):
        made = {k: lib.tensor(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
        return getattr(lib.nn.functional, name)(*tensors, **made)

    return function


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "settings"),
    [("mse_loss", {}), ("l1_loss", {}), ("smooth_l1_loss", {}), ("smooth_l1_loss", {"beta": 0.5}),
     ("smooth_l1_loss", {"beta": 0.0}), ("huber_loss", {"delta": 0.7}),
     ("binary_cross_entropy_with_logits", {}), ("gaussian_nll_loss", {"full": True, "var": np.full((4, 3), 0.7)})],
)  # fmt: skip
def test_regression(name, settings, reduction):
    r = np.random.default_rng(1)
    for shape in ((4, 3),) if "var" in settings else ((4, 3), (), (0, 3)):
        x, y = np.asarray(r.normal(size=shape)), np.asarray(r.normal(size=shape))
        compare(call(name, **settings, reduction=reduction), [x, y], f"{name} {settings} {reduction} {shape}")
        if "var" not in settings:
            compare(call(name, **settings, reduction=reduction), [x.astype("f4"), y.astype("f4")], order=1)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_two_classes(reduction):
    r = np.random.default_rng(2)
    p, t, x = r.uniform(0.05, 0.95, (4, 3)), r.uniform(0, 1, (4, 3)), r.normal(size=(4, 3)) * 3
    w, pw = r.uniform(0.5, 2, 3), r.uniform(0.5, 2, 3)
    for weight in (None, w):
        # first order: PyTorch's second derivative adds 1e-12 to p (1 − p), ours (checked in test_registry) does not
        compare(call("binary_cross_entropy", weight=weight, reduction=reduction), [p, t], "bce", order=1)
        for pos in (None, pw):
            function = call("binary_cross_entropy_with_logits", weight=weight, pos_weight=pos, reduction=reduction)
            compare(function, [x, t], f"bce with logits {weight} {pos}", ulps=64)


def test_certain_probabilities_stop_at_minus_100():
    p, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    # (as a constant: PyTorch's gradient for the target is infinite here, which is not that of the stopped logarithm)
    bce = call("binary_cross_entropy", reduction="none", target=t)
    compare(bce, [p], "bce at 0 and 1", order=1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_class_numbers(shape, reduction):
    r = np.random.default_rng(3)
    w = r.uniform(0.5, 2, 3)
    for weight, ignore, smoothing in itertools.product((None, w), (-100, 1, -1), (0.0, 0.1)):
        for all_ignored in (False, True):
            x = r.normal(size=shape)
            t = np.asarray(r.integers(0, 3, (shape[0], *shape[2:]) if len(shape) > 1 else ()))
            if all_ignored:
                if ignore == -100:
                    continue
                t = np.full_like(t, ignore)
            elif ignore == -1 and t.ndim:
                t = np.where(r.random(t.shape) < 0.5, -1, t)
            what = f"{shape} {reduction} weight={weight is not None} ignore={ignore} smoothing={smoothing}"
            settings = {"weight": weight, "ignore_index": ignore, "reduction": reduction}
            compare(call("cross_entropy", **settings, label_smoothing=smoothing), [x, t], what, ulps=64)
            if not smoothing:
                compare(call("nll_loss", **settings), [x, t], what, ulps=64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_class_probabilities(shape, reduction):
    r = np.random.default_rng(4)
    w = r.uniform(0.5, 2, 3)
    for weight, smoothing in itertools.product((None, w), (0.0, 0.2)):
        function = call("cross_entropy", weight=weight, reduction=reduction, label_smoothing=smoothing)
        compare(function, [r.normal(size=shape), r.random(shape)], f"{shape} {weight} {smoothing}", ulps=64)


def test_large_logits_do_not_overflow():
    x = np.array([[1e4, -1e4, 0.0], [-800.0, 800.0, 3.0]])
    compare(call("cross_entropy"), [x, np.array([1, 0])], "large", order=1)
    compare(call("binary_cross_entropy_with_logits"), [x, np.ones_like(x)], "large", order=1)


def margins(r):
    n = lambda *s: r.normal(size=s)
    sign = r.choice([1.0, -1.0], (4, 3))
    yield "kl_div", {}, [n(4, 3), r.random((4, 3))]
    yield "kl_div", {"log_target": True}, [n(4, 3), n(4, 3)]
    for log_input, full in itertools.product((True, False), (True, False)):
        settings = {"log_input": log_input, "full": full}
        # targets of 0 are left out: PyTorch's gradient for the target is NaN there (ours is not)
        yield "poisson_nll_loss", settings, [r.uniform(0.5, 2, (4, 3)), np.round(r.uniform(1, 4, (4, 3)))]
    yield "gaussian_nll_loss", {}, [n(4, 3), n(4, 3), r.uniform(0.1, 2, (4, 1))]
    yield "cosine_embedding_loss", {"margin": -0.3}, [n(4, 3), n(4, 3), np.array([1, -1, 1, -1])]
    yield "soft_margin_loss", {}, [n(4, 3), sign.astype(int)]
    yield "hinge_embedding_loss", {"margin": 0.8}, [n(4, 3), sign.astype(int)]
    yield "margin_ranking_loss", {"margin": 0.2}, [n(4), n(4), np.array([1, -1, 1, -1])]
    yield "multilabel_soft_margin_loss", {"weight": r.random(3)}, [n(4, 3), (sign > 0).astype(float)]
    for p in (1, 2):
        yield "multi_margin_loss", {"p": p, "weight": r.random(3), "margin": 0.7}, [n(4, 3), r.integers(0, 3, 4)]
    yield "multi_margin_loss", {}, [n(3), np.array(1)]
    yield "multilabel_margin_loss", {}, [n(2, 4), np.array([[3, 0, -1, 1], [1, 2, -1, -1]])]
    for settings in ({}, {"swap": True, "p": 1.0}, {"margin": 0.3, "p": 3.0}):
        yield "triplet_margin_loss", settings, [n(4, 3), n(4, 3), n(4, 3)]
    yield "triplet_margin_with_distance_loss", {}, [n(4, 3), n(4, 3), n(4, 3)]


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_wider_list(reduction):
    for name, settings, arrays in margins(np.random.default_rng(5)):
        compare(call(name, **settings, reduction=reduction), arrays, f"{name} {settings} {reduction}", ulps=256)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("targets", "inputs"), [([2, 3, 0], [6, 6, 4]), ([1, 3, 2], [6, 5, 4]), ([3, 3, 3], [6, 4, 3])]
)
def test_ctc(reduction, targets, inputs):
    """PyTorch's gradient for log_probs assumes that they come from log_softmax: compare through it."""
    r = np.random.default_rng(6)
    logits, labels = r.normal(size=(6, 3, 5)), r.integers(1, 5, (3, 3))
    labels[2] = 2  # repeated labels need a blank between them: impossible in 3 steps
    flat = np.concatenate([row[:n] for row, n in zip(labels, targets, strict=True)])
    for form, zero in itertools.product((labels, flat), (False, True)):

        def function(lib, x, form=form, zero=zero):
            return lib.nn.functional.ctc_loss(
                x.log_softmax(2), lib.tensor(form), lib.tensor(inputs), lib.tensor(targets), reduction=reduction,
                zero_infinity=zero,
            )  # fmt: skip

        infinite = targets == [3, 3, 3] and not zero
        compare(function, [logits], f"{targets} {inputs} {zero}", ulps=256, order=0 if infinite else 1)


MESSAGES = [
    lambda M, x: M.nn.functional.cross_entropy(x, M.tensor([0, 1, 2])),
    lambda M, x: M.nn.functional.cross_entropy(x, M.tensor([0, 1, 2, 7])),
    lambda M, x: M.nn.functional.cross_entropy(x, M.tensor([0, 1, 2, -1])),
    lambda M, x: M.nn.functional.cross_entropy(x, M.tensor([0.0, 1, 2, 1])),
    lambda M, x: M.nn.functional.cross_entropy(x, M.zeros(4, 3, dtype=M.int64)),
    lambda M, x: M.nn.functional.cross_entropy(x, M.tensor([0, 1, 2, 1]), weight=M.ones(2)),
    lambda M, x: M.nn.functional.cross_entropy(x, M.tensor([0, 1, 2, 1]), label_smoothing=1.5),
    lambda M, x: M.nn.functional.cross_entropy(x, M.tensor([0, 1, 2, 1]), reduction="foo"),
    lambda M, x: M.nn.functional.cross_entropy(M.ones(2, 3, 4), M.zeros(2, 5, dtype=M.int64)),
    lambda M, x: M.nn.functional.cross_entropy(x, M.rand(4, 3), ignore_index=1),
    lambda M, x: M.nn.functional.nll_loss(x, M.tensor([0, 1, 2, 9])),
    lambda M, x: M.nn.functional.smooth_l1_loss(x, x, beta=-1),
    lambda M, x: M.nn.functional.huber_loss(x, x, delta=0),
    lambda M, x: M.nn.functional.binary_cross_entropy(x.sigmoid(), M.rand(3)),
    lambda M, x: M.nn.functional.binary_cross_entropy(x.sigmoid() + 2, M.rand(4, 3)),
    lambda M, x: M.nn.functional.binary_cross_entropy(x.sigmoid(), M.rand(4, 3) + 2),
    lambda M, x: M.nn.functional.binary_cross_entropy_with_logits(x, M.rand(3)),
    lambda M, x: M.nn.functional.gaussian_nll_loss(x, x, -M.ones(4, 3)),
    lambda M, x: M.nn.functional.triplet_margin_loss(x, x, x[0]),
    lambda M, x: M.nn.functional.multi_margin_loss(x, M.tensor([0, 1, 2, 1]), p=3),
]


@pytest.mark.parametrize("number", range(len(MESSAGES)))
def test_messages(number):
    function = MESSAGES[number]
    array = np.random.default_rng(0).normal(size=(4, 3)).astype("f4")
    with pytest.raises(Exception) as theirs:
        function(torch, torch.tensor(array))
    with pytest.raises(type(theirs.value)) as ours:
        function(chainrule, chainrule.tensor(array))
    assert str(ours.value).split("\n")[0] == str(theirs.value).split("\n")[0]


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_a_broadcast_warns(name):
    x, y = np.ones((4, 3), "f4"), np.zeros(3, "f4")
    said = []
    for lib in (chainrule, torch):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value = getattr(lib.nn.functional, name)(lib.tensor(x), lib.tensor(y))
        said.append((str(caught[0].message), caught[0].category, value.item()))
    assert said[0] == said[1]


def test_older_arguments():
    x = chainrule.tensor([1.0, 2.0])
    with pytest.warns(UserWarning, match="please use reduction='sum' instead"):
        assert chainrule.nn.functional.mse_loss(x, x * 0, size_average=False).item() == 5.0
    with pytest.warns(UserWarning, match="please use reduction='none' instead"):
        assert chainrule.nn.MSELoss(reduce=False)(x, x * 0).tolist() == [1.0, 4.0]
