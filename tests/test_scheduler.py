"""Schedules without PyTorch: the stepwise form equals the closed form, and compositions are what they say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr

room = cr.optim.lr_scheduler


def _optimizer(lr=0.5):
    return cr.optim.SGD([cr.nn.Parameter(cr.zeros(1))], lr=lr, momentum=0.9)


def _rates(make, steps):
    opt = _optimizer()
    schedule = make(opt)
    out = [opt.param_groups[0]["lr"]]
    for _ in range(steps):
        opt.step()
        schedule.step()
        out.append(opt.param_groups[0]["lr"])
    return out


CLOSED = {
    "step": (lambda o: room.StepLR(o, 3, 0.5), lambda t: 0.5 * 0.5 ** (t // 3)),
    "exponential": (lambda o: room.ExponentialLR(o, 0.9), lambda t: 0.5 * 0.9**t),
    "linear": (lambda o: room.LinearLR(o, 0.1, 1.0, 7), lambda t: 0.5 * (0.1 + 0.9 * min(t, 7) / 7)),
    "cosine": (lambda o: room.CosineAnnealingLR(o, 9, 0.1), lambda t: 0.1 + 0.4 * (1 + math.cos(math.pi * t / 9)) / 2),
    "polynomial": (lambda o: room.PolynomialLR(o, 8, 2.0), lambda t: 0.5 * (1 - min(t, 8) / 8) ** 2),
    "constant": (lambda o: room.ConstantLR(o, 0.25, 4), lambda t: 0.5 * (0.25 if t < 4 else 1)),
    "lambda": (lambda o: room.LambdaLR(o, lambda t: 1 / (t + 1)), lambda t: 0.5 / (t + 1)),
}


@pytest.mark.parametrize("name", list(CLOSED))
def test_steps_give_the_closed_form(name):
    make, formula = CLOSED[name]
    assert _rates(make, 25) == pytest.approx([formula(t) for t in range(26)], rel=1e-12, abs=1e-15)


@given(st.integers(20, 60), st.floats(0.1, 0.9), st.booleans())
def test_one_cycle_peaks_once_and_ends_low(total, share, cosine):
    rates = _rates(
        lambda o: room.OneCycleLR(o, 2.0, total, pct_start=share, anneal_strategy="cos" if cosine else "linear"),
        total - 1,
    )
    top = rates.index(max(rates))
    assert max(rates) <= 2.0 * (1 + 1e-12)
    assert rates[0] == pytest.approx(2.0 / 25)
    assert rates[-1] == pytest.approx(2.0 / 25 / 1e4)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_warm_restarts_start_again():
    rates = _rates(lambda o: room.CosineAnnealingWarmRestarts(o, 3, 2), 21)
    assert [t for t, lr in enumerate(rates) if lr == 0.5] == [0, 3, 9, 21]


def test_sequence_hands_over():
    rates = _rates(lambda o: room.SequentialLR(o, [room.ConstantLR(o, 0.1, 100), room.ExponentialLR(o, 0.5)], [3]), 5)
    assert rates == pytest.approx([0.05, 0.05, 0.05, 0.5, 0.25, 0.125])


def test_chain_multiplies():
    rates = _rates(lambda o: room.ChainedScheduler([room.ExponentialLR(o, 0.9), room.StepLR(o, 2, 0.5)]), 4)
    assert rates == pytest.approx([0.5 * 0.9**t * 0.5 ** (t // 2) for t in range(5)])


def test_plateau_waits_and_cools_down():
    opt = _optimizer(1.0)
    schedule = room.ReduceLROnPlateau(opt, factor=0.5, patience=2, cooldown=2, min_lr=0.2)
    seen = []
    for _ in range(16):
        schedule.step(1.0)
        seen.append(opt.param_groups[0]["lr"])
    assert seen == [1.0] * 3 + [0.5] * 5 + [0.25] * 5 + [0.2] * 3


def test_a_tensor_as_learning_rate_keeps_its_identity():
    lr = cr.tensor(0.5)
    opt = _optimizer(lr)
    schedule = room.ExponentialLR(opt, 0.5)
    opt.step()
    schedule.step()
    assert opt.param_groups[0]["lr"] is lr
    assert lr.item() == 0.25
    w = opt.param_groups[0]["params"][0]
    w.grad = cr.ones(1)
    opt.step()
    assert w.item() == -0.25
