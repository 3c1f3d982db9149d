"""Every schedule gives PyTorch's learning rates and momenta, step by step, over a grid of its arguments."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

import chainrule as cr

GRID = {
    "StepLR": {"step_size": [1, 3], "gamma": [0.1, 0.7]},
    "MultiStepLR": {"milestones": [[2, 5], [5, 2, 2], [0, 4]], "gamma": [0.1, 0.5]},
    "ConstantLR": {"factor": [1 / 3, 0.5, 1.0], "total_iters": [0, 4]},
    "LinearLR": {"start_factor": [1 / 3, 1.0], "end_factor": [1.0, 0.2], "total_iters": [1, 5]},
    "ExponentialLR": {"gamma": [0.9, 1.1]},
    "PolynomialLR": {"total_iters": [5, 40], "power": [1.0, 2.5]},
    "CosineAnnealingLR": {"T_max": [3, 10, 50], "eta_min": [0.0, 0.01]},
    "CosineAnnealingWarmRestarts": {"T_0": [1, 4], "T_mult": [1, 2], "eta_min": [0.0, 0.01]},
    "CyclicLR": {"base_lr": [0.01], "max_lr": [0.5, 0.1], "step_size_up": [3], "step_size_down": [None, 5],
                 "mode": ["triangular", "triangular2", "exp_range"], "gamma": [0.95], "cycle_momentum": [True, False]},
    "OneCycleLR": {"max_lr": [0.5], "total_steps": [30], "pct_start": [0.3, 0.55], "anneal_strategy": ["cos", "linear"],
                   "three_phase": [False, True], "cycle_momentum": [True, False]},
    "LambdaLR": {"lr_lambda": [lambda t: 0.9**t, lambda t: 1 / (1 + t)]},
    "MultiplicativeLR": {"lr_lambda": [lambda t: 0.9, lambda t: 1 + math.sin(t) / 2]},
}  # fmt: skip
CASES = [
    pytest.param(name, dict(zip(grid, values, strict=True)), id=f"{name}-{i}")
    for name, grid in GRID.items()
    for i, values in enumerate(itertools.product(*grid.values()))
]


def _optimizer(lib, kind="SGD"):
    groups = [{"params": [lib.nn.Parameter(lib.zeros(1))]}, {"params": [lib.nn.Parameter(lib.zeros(1))], "lr": 0.05}]
    return lib.optim.SGD(groups, lr=0.2, momentum=0.8) if kind == "SGD" else lib.optim.Adam(groups, lr=0.2)


def _rates(optimizer):
    return [(g["lr"], g.get("momentum"), g.get("betas")) for g in optimizer.param_groups]


def _run(lib, make, steps=25, kind="SGD", step=lambda schedule, k: schedule.step()):
    optimizer = _optimizer(lib, kind)
    schedule = make(lib.optim.lr_scheduler, optimizer)
    seen = [_rates(optimizer)]
    for k in range(steps):
        optimizer.step()
        step(schedule, k)
        seen.append(_rates(optimizer))
        assert schedule.get_last_lr() == [g["lr"] for g in optimizer.param_groups]
    return seen


def _same(make, **options):
    mine, theirs = _run(cr, make, **options), _run(torch, make, **options)
    for a, b in zip(mine, theirs, strict=True):
        for (lr, momentum, betas), (lr2, momentum2, betas2) in zip(a, b, strict=True):
            np.testing.assert_allclose(lr, lr2, rtol=1e-12, atol=1e-18)
            assert (momentum is None) == (momentum2 is None)
            if momentum is not None:
                np.testing.assert_allclose(momentum, momentum2, rtol=1e-12)
            if betas is not None:
                np.testing.assert_allclose(betas, betas2, rtol=1e-12)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_schedule(name, options):
    _same(lambda room, opt: getattr(room, name)(opt, **options))


@pytest.mark.parametrize("name", ["CyclicLR", "OneCycleLR"])
def test_beta1_is_cycled(name):
    options = (
        {"max_lr": 0.3, "total_steps": 30}
        if name == "OneCycleLR"
        else {"base_lr": 0.1, "max_lr": 0.3, "step_size_up": 4}
    )
    _same(lambda room, opt: getattr(room, name)(opt, **options), kind="Adam")


COMPOSED = {
    "sequential": lambda r, o: r.SequentialLR(
        o, [r.ConstantLR(o, 0.1, 3), r.ExponentialLR(o, 0.9), r.CosineAnnealingLR(o, 7)], [4, 11]
    ),
    "warmup": lambda r, o: r.SequentialLR(o, [r.LinearLR(o, 0.1, total_iters=5), r.CosineAnnealingLR(o, 20)], [5]),
    "chained": lambda r, o: r.ChainedScheduler([r.ConstantLR(o, 0.5, 4), r.ExponentialLR(o, 0.9), r.StepLR(o, 3)]),
    "nested": lambda r, o: r.SequentialLR(
        o,
        [r.ChainedScheduler([r.LinearLR(o), r.ExponentialLR(o, 0.95)]), r.PolynomialLR(o, 9)],
        [5],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(COMPOSED))
def test_composed(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        _same(COMPOSED[name])


PLATEAU = [
    dict(zip(("mode", "threshold_mode", "patience", "cooldown", "min_lr"), v, strict=True))
    for v in itertools.product(["min", "max"], ["rel", "abs"], [0, 2], [0, 3], [0, 0.01, [0.02, 0.001]])
]


@pytest.mark.parametrize("options", PLATEAU, ids=str)
def test_plateau(options):
    metrics = np.random.default_rng(0).normal(size=25).cumsum()
    _same(
        lambda room, opt: room.ReduceLROnPlateau(opt, factor=0.5, threshold=0.1, **options),
        step=lambda schedule, k: schedule.step(metrics[k]),
    )


@pytest.mark.parametrize(("name", "options"), [c for c in CASES if "lr_lambda" not in c.values[1]])
def test_resumed_from_state_dict(name, options):
    """A schedule that was saved and loaded in the middle goes on as if nothing had happened."""

    def run(resume):
        opt = _optimizer(cr)
        schedule = getattr(cr.optim.lr_scheduler, name)(opt, **options)
        for k in range(14):
            if resume and k == 6:
                kept, saved = opt.state_dict(), schedule.state_dict()
                opt = _optimizer(cr)
                schedule = getattr(cr.optim.lr_scheduler, name)(opt, **options)
                opt.load_state_dict(kept)
                schedule.load_state_dict(saved)
            opt.step()
            schedule.step()
        return _rates(opt)

    assert run(True) == run(False)


@pytest.mark.parametrize(
    "name", ["StepLR", "CosineAnnealingLR", "ExponentialLR", "LinearLR", "CosineAnnealingWarmRestarts"]
)
def test_epoch_argument(name):
    options = {"StepLR": {"step_size": 3}, "CosineAnnealingLR": {"T_max": 9}, "ExponentialLR": {"gamma": 0.9},
               "LinearLR": {}, "CosineAnnealingWarmRestarts": {"T_0": 3, "T_mult": 2}}[name]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        _same(lambda r, o: getattr(r, name)(o, **options), steps=12, step=lambda s, k: s.step((k * 5) % 11))


def test_order_warning():
    opt = _optimizer(cr)
    schedule = cr.optim.lr_scheduler.StepLR(opt, 2)
    with pytest.warns(UserWarning, match=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        schedule.step()


BAD = [
    ("ConstantLR", {"factor": 2.0}), ("LinearLR", {"start_factor": 0.0}), ("LinearLR", {"end_factor": 2.0}),
    ("CosineAnnealingWarmRestarts", {"T_0": 0}), ("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 0}),
    ("OneCycleLR", {"max_lr": 1.0}), ("OneCycleLR", {"max_lr": 1.0, "total_steps": -1}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9, "pct_start": 2.0}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9, "anneal_strategy": "x"}),
    ("OneCycleLR", {"max_lr": [1.0], "total_steps": 9}), ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "mode": "x"}),
    ("LambdaLR", {"lr_lambda": [abs]}), ("MultiplicativeLR", {"lr_lambda": 3}), ("ReduceLROnPlateau", {"factor": 1.0}),
    ("ReduceLROnPlateau", {"mode": "x"}), ("ReduceLROnPlateau", {"threshold_mode": "x"}),
    ("ReduceLROnPlateau", {"min_lr": [1.0]}), ("StepLR", {"step_size": 2, "last_epoch": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), BAD, ids=str)
def test_refused(name, options):
    with pytest.raises(Exception) as expected:
        getattr(torch.optim.lr_scheduler, name)(_optimizer(torch), **options)
    with pytest.raises(expected.type) as got:
        getattr(cr.optim.lr_scheduler, name)(_optimizer(cr), **options)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_same_names_are_kept(name, options):
    kept = []
    for lib in (cr, torch):
        optimizer = _optimizer(lib)
        schedule = getattr(lib.optim.lr_scheduler, name)(optimizer, **options)
        hidden = {"_last_lr", "_step_count"}
        names = {k for k in schedule.state_dict() if not k.startswith("_") or k in hidden}
        kept.append((names, set(optimizer.state_dict()["param_groups"][0])))
    assert kept[0] == kept[1]
