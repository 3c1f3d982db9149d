"""diagnose: nothing is changed, bad input is one sentence, cures are measured, NaN is traced."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

import chainrule as torch
from chainrule import nn
from chainrule.errors import UsageError

from .test_budget import deep, digits

F = nn.functional


def _everything(net: Any, optimizer: Any) -> list[Any]:
    return [
        [v._array.tobytes() for v in net.state_dict().values()],
        [None if p.grad is None else p.grad._array.tobytes() for p in net.parameters()],
        repr(optimizer.state_dict()),
        torch.get_rng_state()._array.tobytes(),
        np.random.get_state()[1].tobytes(),
        random.getstate(),
        [m.training for m in net.modules()],
    ]


@pytest.mark.parametrize("cures", [False, True])
@pytest.mark.parametrize("act", [nn.ReLU, nn.Sigmoid])
def test_everything_is_as_before_to_the_bit(act: Any, cures: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*deep(act, 8).children())
    net.insert(1, nn.BatchNorm1d(32))
    net.insert(2, nn.Dropout(0.2))
    net[2].eval()
    x, y = digits()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    F.cross_entropy(net(x), y).backward()
    optimizer.step()
    before = _everything(net, optimizer)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    torch.diagnose(net, F.cross_entropy, (x, y), optimizer=optimizer, step=step, cures=cures)
    assert _everything(net, optimizer) == before


class Free(nn.Module):
    def forward(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize(
    ("model", "loss", "batch", "sentence"),
    [
        (Free(), F.cross_entropy, digits(8), "has no parameters"),
        (deep(nn.ReLU, 1), F.cross_entropy, (torch.zeros(8, 63), digits(8)[1]), "fails on this batch"),
        (deep(nn.ReLU, 1), nn.CrossEntropyLoss(reduction="none"), digits(8), "not one number"),
        (deep(nn.ReLU, 1), lambda out, y: F.cross_entropy(out, y).item(), digits(8), "not a tensor"),
        (deep(nn.ReLU, 1), F.cross_entropy, digits(8)[0], "batch must be"),
        (deep(nn.ReLU, 1), "mse", digits(8), "loss_fn must be a function"),
        ("net", F.cross_entropy, digits(8), "needs an nn.Module"),
    ],
)
def test_bad_input_is_one_sentence(model: Any, loss: Any, batch: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as error:
        torch.diagnose(model, loss, batch)
    assert len(str(error.value).splitlines()) == 1


def test_a_cure_is_measured_and_the_best_comes_first() -> None:
    torch.manual_seed(0)
    net = deep(nn.Sigmoid, 12)
    finding = torch.diagnose(net, F.cross_entropy, digits()).findings[0]
    assert finding.code == "vanishing-gradient"
    helped = [c for c in finding.cures if c.helped]
    failed = [c for c in finding.cures if not c.helped]
    assert helped
    assert failed
    assert finding.cures == helped + failed
    assert [c.after for c in helped] == sorted(c.after for c in helped)
    best = helped[0]
    assert best.after < 0.5 < 2.0 < best.before
    assert best.gradient[1] > 1e4 * best.gradient[0]
    assert "did not help" in str(failed[0])


def test_a_healthy_network_gets_a_checklist() -> None:
    torch.manual_seed(0)
    found = torch.diagnose(deep(nn.ReLU, 2), F.cross_entropy, digits())
    assert found.healthy
    assert [stage for stage, _, _ in found.checklist] == [
        "data", "initial loss", "overfit one batch", "gradient flow", "update ratios", "units",
    ]  # fmt: skip
    assert all(ok for _, ok, _ in found.checklist)
    assert "nothing found" in str(found)
    assert "ln 10" in str(found)
    assert json.loads(found.to_json())["healthy"] is True


def test_nan_names_op_entry_and_algebra() -> None:
    torch.manual_seed(0)
    x, y = digits(16)
    net = nn.Sequential(nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))

    def loss(out: Any, target: Any) -> Any:
        masked = torch.relu(out) * 0
        return torch.log(masked).mean()

    finding = torch.diagnose(net, loss, (x, y), cures=False).findings[0]
    assert finding.code == "nonfinite"
    assert finding.numbers["op"] == "log"
    assert "log 0 = −∞" in finding.evidence
    assert finding.place.startswith("test_diagnose.py:")
    assert "clamp" in finding.fix


def test_the_slope_of_a_root_at_zero() -> None:
    torch.manual_seed(0)
    x, y = digits(16)
    net = nn.Sequential(nn.Linear(64, 10))
    finding = torch.diagnose(
        net, lambda out, t: torch.sqrt((out * 0) ** 2).sum() + F.cross_entropy(out, t), (x, y), cures=False
    ).findings[0]
    assert finding.code == "nonfinite"
    assert finding.numbers["op"] == "sqrt"
    assert "backward" in finding.title


def test_a_cut_is_placed() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(64, 16), nn.Linear(16, 10)

        def forward(self, x: Any) -> Any:
            return self.b(torch.relu(self.a(x)).detach())

    finding = torch.diagnose(Cut(), F.cross_entropy, digits(16), cures=False).findings[0]
    assert finding.code == "graph-cut"
    assert finding.numbers["parameters"] == ["a.weight", "a.bias"]
    assert finding.place.startswith("test_diagnose.py:")


def test_the_spectrum_sums_to_the_gradient() -> None:
    from .test_budget import NETS

    torch.manual_seed(0)
    net = NETS["residual"]().double()
    x, y = digits(32)
    s = torch.diagnose.spectrum(net, F.cross_entropy, (x.double(), y))
    assert s.blocks == 6
    assert len(s.parts) == 7
    F.cross_entropy(net(x.double()), y).backward()
    np.testing.assert_allclose(s.total, net[0].weight.grad.numpy(), rtol=1e-10, atol=1e-14)  # n roundings of float64


def test_each_part_of_the_spectrum_crossed_that_many_branches() -> None:
    """With the branches scaled by ε, the part that crossed k of them scales by εᵏ (linear branches)."""

    class Linear(nn.Module):
        def __init__(self, eps: float) -> None:
            super().__init__()
            torch.manual_seed(5)
            self.f, self.eps = nn.Linear(8, 8, bias=False), eps

        def forward(self, x: Any) -> Any:
            return x + self.eps * self.f(x)

    def parts(eps: float) -> Any:
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(8, 8), *[Linear(eps) for _ in range(3)]).double()
        x, y = torch.randn(4, 8).double(), torch.randn(4, 8).double()
        return torch.diagnose.spectrum(net, lambda out, t: (out * t).sum(), (x, y)).parts

    for k, (a, b) in enumerate(zip(parts(1.0), parts(0.5), strict=True)):
        np.testing.assert_allclose(b, a * 0.5**k, rtol=1e-9, atol=1e-12)


def test_no_residual_connections_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="no residual connections"):
        torch.diagnose.spectrum(deep(nn.ReLU, 2), F.cross_entropy, digits(8))
