"""watch: cheap, silent about healthy runs, and it stops hopeless ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

import chainrule as torch
from chainrule import nn
from chainrule.diagnose.watch import Hopeless

from .test_budget import deep, digits

F = nn.functional


def _train(net: Any, optimizer: Any, steps: int, watch: Any) -> None:
    x, y = digits(64)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        watch.step(loss)
        optimizer.step()


def test_it_takes_less_than_five_percent(tmp_path: Any) -> None:
    torch.manual_seed(0)
    net = deep(nn.ReLU, 4, 64)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    watch = torch.watch(net, optimizer)
    _train(net, optimizer, 400, watch)
    assert watch.overhead < 0.05
    assert len(watch.samples) >= 5
    assert watch.findings == []
    watch.write(tmp_path / "watch.jsonl")
    lines = (tmp_path / "watch.jsonl").read_text().splitlines()
    assert len(lines) == len(watch.samples) + 1
    assert set(json.loads(lines[0])) >= {"step", "loss", "grad", "weight"}


def test_it_sees_a_vanishing_gradient_and_stops_when_asked() -> None:
    torch.manual_seed(0)
    net = deep(nn.Sigmoid, 12)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    watch = torch.watch(net, optimizer, stop=True)
    with pytest.raises(Hopeless, match="vanishing"):
        _train(net, optimizer, 2000, watch)
    assert watch.count < 2000


def test_it_sees_a_learning_rate_that_is_too_large() -> None:
    torch.manual_seed(0)
    net = deep(nn.ReLU, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=20.0)
    watch = torch.watch(net, optimizer)
    _train(net, optimizer, 300, watch)
    assert watch.findings
    assert watch.findings[0].code in ("lr-too-large", "nonfinite")


def test_updates_are_measured_between_samples() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    watch = torch.watch(net, optimizer, budget=1e9)  # sample as often as it may
    _x, _y = digits(32)
    with torch.no_grad():
        net[0].weight.fill_(1.0)
    net[0].weight.grad = torch.full((10, 64), 0.25)
    watch.step(torch.tensor(1.0))
    while len(watch.samples) < 2:
        with torch.no_grad():
            net[0].weight.fill_(0.5)
        watch.step(torch.tensor(1.0))
    steps = watch.samples[1]["step"] - watch.samples[0]["step"]
    assert watch.samples[1]["update"][0] == pytest.approx(0.5 / steps)
