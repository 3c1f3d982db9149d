"""diagnose on ``torch.nn.Module``s: the same corpus, the same findings, the same budget as for chainrule's models."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch

import chainrule

from ..illnesses.networks import digits, mlp
from ..illnesses.score import Result, cases, held_out, run, summary

_ALL = {c.name: c for c in cases("torch")}
_TUNED = [n for n in _ALL if not held_out(n)]


@functools.cache
def _result(name: str) -> Result:
    return run(_ALL[name])


@pytest.mark.parametrize("name", _TUNED)
def test_the_tuned_half(name: str) -> None:
    result = _result(name)
    assert not result.error
    if _ALL[name].expected:
        assert result.right_first, (result.codes, _ALL[name].expected)
    else:
        assert result.codes == []


@pytest.mark.parametrize("half", ["tuned", "held out"])
def test_score(half: str) -> None:
    s = summary([_result(n) for n in _ALL if held_out(n) == (half == "held out")])
    assert s["precision"] >= 0.95
    assert s["recall"] >= 0.95
    assert s["cause first"] >= 0.9


@pytest.mark.parametrize("act", ["Sigmoid", "ReLU", "GELU", "Tanh"])
def test_the_budget_is_that_of_the_same_network_in_chainrule(act: str) -> None:
    torch.manual_seed(0)
    theirs = mlp(torch, act, 6, 32)
    ours = mlp(chainrule, act, 6, 32)
    with chainrule.no_grad():
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.copy_(chainrule.from_numpy(q.detach().numpy().copy()))
    a = chainrule.diagnose(ours, chainrule.nn.functional.cross_entropy, digits(chainrule), cures=False)
    b = chainrule.diagnose(theirs, torch.nn.functional.cross_entropy, digits(torch), cures=False)
    assert a.codes == b.codes
    for x, y in zip(a.budget.layers, b.budget.layers, strict=True):
        # float32 on both sides: 1e-4 of a logarithm is 1e-4 of the norm's own rounding times the depth
        assert math.isclose(x.change, y.change, abs_tol=1e-4)
        for cause in ("activation", "weight"):
            assert math.isclose(x.parts[cause], y.parts[cause], abs_tol=1e-4)


def test_a_torch_model_is_as_before_to_the_bit() -> None:
    torch.manual_seed(0)
    net = mlp(torch, "Sigmoid", 6, norm="BatchNorm1d", drop=0.1)
    x, y = digits(torch)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    torch.nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()

    def everything() -> list[Any]:
        return [
            [v.numpy().tobytes() for v in net.state_dict().values()],
            [p.grad.numpy().tobytes() for p in net.parameters()],
            [{k: v.numpy().tobytes() for k, v in s.items()} for s in optimizer.state_dict()["state"].values()],
            torch.get_rng_state().numpy().tobytes(),
            np.random.get_state()[1].tobytes(),
            [m.training for m in net.modules()],
        ]

    before = everything()
    chainrule.diagnose(net, torch.nn.functional.cross_entropy, (x, y), optimizer=optimizer)
    assert everything() == before
