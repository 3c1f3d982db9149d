"""Muon, Adafactor, SparseAdam, refused modes, and gradients through updates, against PyTorch and finite differences."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule

sys.path.insert(0, str(Path(__file__).parent))

from pairs import compare, same_error

RNG = np.random.default_rng(0)
MATRICES = [RNG.normal(size=s) for s in ((4, 3), (3, 6))]
TENSORS = [RNG.normal(size=s) for s in ((4, 3), (5,), (2, 2, 2), ())]
MUON = [
    {},
    {"nesterov": False},
    {"adjust_lr_fn": "match_rms_adamw"},
    {"ns_steps": 3, "lr": 0.1},
    {"weight_decay": 0.0, "momentum": 0.5},
]
ADAFACTOR = [
    {},
    {"lr": 0.1, "weight_decay": 0.1},
    {"maximize": True, "d": 2.0},
    {"eps": (1e-8, 1e-2)},
    {"beta2_decay": -0.5},
    {"foreach": True},
]


def trajectory(M, name, arrays, options, dtype):
    """Parameters after each of six steps with fixed gradients (some of them missing), and the state at the end."""
    r = np.random.default_rng(1)
    params = [M.nn.Parameter(M.tensor(a.astype(dtype))) for a in arrays]
    opt = getattr(M.optim, name)(params, **options)
    found = []
    for k in range(6):
        for i, p in enumerate(params):
            g = r.normal(size=tuple(p.shape)).astype(dtype)
            p.grad = None if (i + k) % 5 == 4 else M.tensor(g)
        opt.step()
        found += [p.detach().clone() for p in params]
    state = opt.state_dict()["state"]
    return (
        [*found, *(t for k in sorted(state) for t in state[k].values())],
        [list(s) for s in state.values()],
        repr(opt),
    )


CASES = [*(("Muon", o) for o in MUON), *(("Adafactor", o) for o in ADAFACTOR)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_trajectory(name, options, dtype):
    arrays = MATRICES if name == "Muon" else TENSORS
    seen = []

    def run(M):
        values, *rest = trajectory(M, name, arrays, options, dtype)
        seen.append(rest)
        return values

    compare(run, [], f"{name} {options}", ulps=64, order=0)
    assert seen[0] == seen[1]


def _small(M):
    return [M.nn.Parameter(M.ones(2, 2))]


def _stepped(M, name, **options):
    params = _small(M)
    opt = getattr(M.optim, name)(params, **options)
    params[0].grad = M.ones(2, 2)
    opt.step()


REFUSED = [
    lambda M: M.optim.Muon([M.nn.Parameter(M.ones(3))]),
    lambda M: M.optim.Muon(_small(M), lr=-1),
    lambda M: M.optim.Muon(_small(M), adjust_lr_fn="x"),
    lambda M: _stepped(M, "Muon", ns_steps=100),
    lambda M: _stepped(M, "Muon", ns_coefficients=(1.0, 2.0)),
    lambda M: M.optim.Adafactor(_small(M), beta2_decay=0.1),
    lambda M: M.optim.Adafactor(_small(M), d=0.5),
    lambda M: M.optim.Adafactor(_small(M), eps=(-1, 1)),
    lambda M: M.optim.SparseAdam(_small(M), lr=0),
    lambda M: M.optim.SparseAdam(_small(M), betas=(1.0, 0.2)),
    lambda M: _stepped(M, "SparseAdam"),
    lambda M: M.optim.Adam(_small(M), fused=True, foreach=True),
    lambda M: M.optim.SGD(_small(M), fused=True, differentiable=True),
    lambda M: M.optim.Adam(_small(M), lr=M.tensor(0.1), foreach=True),
    lambda M: M.optim.Adam(_small(M), lr=M.tensor([0.1, 0.2])),
    lambda M: M.optim.SGD([("a", _small(M)[0]), _small(M)[0]]),
    *(
        lambda M, name=name: _stepped(M, name, capturable=True)
        for name in ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "ASGD", "Rprop")
    ),
    lambda M: _stepped(M, "Adam", differentiable=True, foreach=True),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused(number):
    same_error(REFUSED[number])


DIFFERENTIABLE = [
    ("SGD", {}), ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.9, "nesterov": True}), ("Adam", {}),
    ("Adam", {"amsgrad": True}), ("AdamW", {"weight_decay": 0.1}), ("Adamax", {}), ("NAdam", {}), ("RAdam", {}),
    ("RMSprop", {"centered": True}), ("RMSprop", {"momentum": 0.9}), ("Adagrad", {}), ("Adadelta", {}), ("ASGD", {}),
]  # fmt: skip


def _learned(M, name, options, w, x):
    """What three differentiable steps from w make of it, under the loss Σ (p x)²."""
    p = w.clone()
    opt = getattr(M.optim, name)([p], lr=0.1, differentiable=True, **options)
    for _ in range(3):
        loss = ((p.clone() * x) ** 2).sum()
        p.grad = M.autograd.grad(loss, p, create_graph=True)[0]
        opt.step()
    return (p * p).sum()


@pytest.mark.parametrize(("name", "options"), DIFFERENTIABLE, ids=str)
def test_gradients_flow_through_updates(name, options):
    start, factor = np.array([0.7, -1.3, 0.4]), np.array([1.2, 0.6, 0.9])

    def value(w, x):
        leaves = [chainrule.tensor(a, requires_grad=True) for a in (w, x)]
        return _learned(chainrule, name, options, *leaves), leaves

    y, leaves = value(start, factor)
    found = chainrule.autograd.grad(y, leaves)
    h = 1e-6
    for which in (0, 1):
        for i in range(3):
            ends = []
            for sign in (1, -1):
                moved = [start.copy(), factor.copy()]
                moved[which][i] += sign * h
                ends.append(value(*moved)[0].item())
            # a central difference in float64: its own error is about 1e-9 of the values
            np.testing.assert_allclose(found[which][i].item(), (ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options"), [("SGD", {}), ("RMSprop", {"eps": 0.1}), ("Adagrad", {"eps": 0.1}), ("Adadelta", {})], ids=str
)
def test_the_same_gradients_as_in_pytorch(name, options):
    def gradients(M):
        w = M.tensor(MATRICES[0], requires_grad=True)
        x = M.tensor(np.abs(MATRICES[0]) + 0.5, requires_grad=True)
        return list(M.autograd.grad(_learned(M, name, options, w, x), [w, x]))

    compare(gradients, [], name, ulps=4096, order=0)


def test_hooks_run_in_pytorchs_order():
    from torch.optim.optimizer import register_optimizer_step_pre_hook as theirs

    from chainrule.optim.optimizer import register_optimizer_step_pre_hook as ours

    def log(M, register):
        seen = []
        opt = M.optim.SGD(_small(M), lr=0.1)
        opt.register_step_pre_hook(lambda *a: seen.append(("pre", len(a), len(a[1]), len(a[2]))))
        opt.register_step_post_hook(lambda *a: seen.append(("post", len(a))))
        opt.register_step_pre_hook(lambda o, a, k: ((*a, lambda: seen.append("closure") or 3), k))
        handle = register(lambda *a: seen.append("everywhere"))
        opt.register_state_dict_pre_hook(lambda *a: seen.append(("before", len(a))))
        opt.register_state_dict_post_hook(lambda o, s: seen.append(("after", sorted(s))) or {**s, "x": 1})
        opt.register_state_dict_post_hook(lambda o, s: seen.append(("first", sorted(s))), prepend=True)
        opt.register_load_state_dict_pre_hook(lambda o, s: seen.append(("load", sorted(s))))
        opt.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
        seen.append(opt.step())
        opt.load_state_dict(opt.state_dict())
        handle.remove()
        opt.step()
        return seen

    assert log(chainrule, ours) == log(torch, theirs)
