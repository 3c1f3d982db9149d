"""Optimizers without PyTorch: closed forms, one formula in two forms, state, hooks, detection of stale graphs."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.state import state

SHAPES = [(3, 4), (4,), (), (200, 170), (2, 1, 3)]
ALL = {
    "SGD": {"lr": 0.05, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
    "Adam": {"lr": 0.01, "amsgrad": True, "weight_decay": 0.01},
    "AdamW": {"lr": 0.01},
    "Adamax": {"lr": 0.01},
    "NAdam": {"lr": 0.01, "decoupled_weight_decay": True, "weight_decay": 0.01},
    "RAdam": {"lr": 0.01, "betas": (0.9, 0.6)},
    "RMSprop": {"lr": 0.01, "momentum": 0.9, "centered": True},
    "Adagrad": {"lr": 0.01, "lr_decay": 0.1},
    "Adadelta": {"lr": 0.5},
    "Rprop": {"lr": 0.01},
    "ASGD": {"lr": 0.01, "lambd": 0.1, "t0": 3.0},
}


def _parameters(dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return [cr.nn.Parameter(cr.tensor(rng.normal(size=s).astype(dtype))) for s in SHAPES]


def _set_gradients(params, k):
    rng = np.random.default_rng(100 + k)
    for p in params:
        p.grad = cr.tensor(rng.normal(size=p.shape).astype(p.detach().numpy().dtype))


class _Recorder:
    """Does what a tracer must, and nothing else: numbers are read afresh, actions are done."""

    def record(self, *args): ...

    def write(self, *args): ...

    def leak(self, *args): ...

    def live(self, getter):
        return getter()

    def each_run(self, action, save):
        action()


@pytest.mark.parametrize("name", list(ALL))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_formula_on_tensors_equals_the_formula_on_arrays(name, dtype):
    """Bit for bit: what is traced is what runs."""
    eager, traced = _parameters(dtype), _parameters(dtype)
    a, b = getattr(cr.optim, name)(eager, **ALL[name]), getattr(cr.optim, name)(traced, **ALL[name])
    for k in range(8):
        _set_gradients(eager, k)
        _set_gradients(traced, k)
        a.step()
        state.recorder = _Recorder()
        try:
            b.step()
        finally:
            state.recorder = None
        for p, q in zip(eager, traced, strict=True):
            np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
            for key, value in a.state[p].items():
                np.testing.assert_array_equal(value.numpy(), b.state[q][key].numpy())


@pytest.mark.parametrize("name", list(ALL))
def test_together_equals_alone(name):
    """Gathering small parameters changes nothing, to the last bit."""
    together, alone = _parameters(), _parameters()
    a = getattr(cr.optim, name)(together, **ALL[name])
    b = [getattr(cr.optim, name)([p], **ALL[name]) for p in alone]
    for k in range(5):
        _set_gradients(together, k)
        _set_gradients(alone, k)
        a.step()
        for opt in b:
            opt.step()
    for p, q in zip(together, alone, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


@pytest.mark.parametrize("name", list(ALL))
def test_gradients_that_come_and_go(name):
    """A parameter without a gradient rests, and its state waits for it."""
    params, reference = _parameters(), _parameters()
    a = getattr(cr.optim, name)(params, **ALL[name])
    b = [getattr(cr.optim, name)([p], **ALL[name]) for p in reference]
    for k in range(24):  # more changes than the gathering puts up with
        _set_gradients(params, k)
        _set_gradients(reference, k)
        absent = k % len(params)
        params[absent].grad = None
        a.step()
        for i, opt in enumerate(b):
            if i != absent:
                opt.step()
    for p, q in zip(params, reference, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


@pytest.mark.parametrize("name", list(ALL))
def test_resumed_equals_uninterrupted(name, tmp_path):
    def run(resume):
        params = _parameters()
        opt = getattr(cr.optim, name)(params, **ALL[name])
        for k in range(8):
            if resume and k == 4:
                cr.save({"opt": opt.state_dict(), "params": params}, tmp_path / "c")
                saved = cr.load(tmp_path / "c")
                params = saved["params"]
                opt = getattr(cr.optim, name)(params, lr=123.0)
                opt.load_state_dict(saved["opt"])
            _set_gradients(params, k)
            opt.step()
        return params

    for p, q in zip(run(True), run(False), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


@pytest.mark.parametrize("name", list(ALL))
def test_copies_go_on_by_themselves(name):
    params = _parameters()
    opt = getattr(cr.optim, name)(params, **ALL[name])
    _set_gradients(params, 0)
    opt.step()
    for make in (copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))):
        other = make(opt)
        theirs = other.param_groups[0]["params"]
        before = [p.detach().numpy().copy() for p in params]
        _set_gradients(theirs, 1)
        other.step()
        for p, old, q in zip(params, before, theirs, strict=True):
            np.testing.assert_array_equal(p.detach().numpy(), old)
            assert not np.array_equal(q.detach().numpy(), old)


def test_sgd_closed_form():
    w = cr.nn.Parameter(cr.tensor([2.0], dtype=cr.float64))
    opt = cr.optim.SGD([w], lr=0.1)
    for k in range(10):
        assert w.item() == pytest.approx(2.0 * 0.8**k, rel=1e-14)
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()


def test_adam_first_step_is_lr_in_every_direction():
    w = cr.nn.Parameter(cr.tensor([2.0, -3.0, 100.0], dtype=cr.float64))
    opt = cr.optim.Adam([w], lr=0.1, eps=0.0)
    (w * w).sum().backward()
    opt.step()
    np.testing.assert_allclose(w.detach().numpy(), [1.9, -2.9, 99.9], rtol=1e-13)


def test_a_graph_from_before_the_step_is_stale():
    """Backward with weights that have changed since would be wrong: it is refused, and the step is named."""
    w = cr.nn.Parameter(cr.ones(3))
    loss = (w * w).sum()
    w.grad = cr.ones(3)
    cr.optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation") as error:
        loss.backward()
    assert "step()" in str(error.value)


def test_memory_is_kept():
    """A step changes the parameter's own memory: arrays that share it see the change."""
    params = _parameters()
    arrays = [p.detach().numpy() for p in params]
    opt = cr.optim.Adam(params)
    _set_gradients(params, 0)
    opt.step()
    for p, a in zip(params, arrays, strict=True):
        assert p.detach().numpy() is a


def test_not_contiguous():
    base = cr.tensor(np.arange(12.0).reshape(3, 4).T)
    w = cr.nn.Parameter(base)
    assert not w.detach().numpy().flags.c_contiguous
    w.grad = cr.tensor(np.arange(12.0).reshape(4, 3))
    expected = w.detach().numpy() - 0.5 * w.grad.numpy()
    cr.optim.SGD([w], lr=0.5).step()
    np.testing.assert_array_equal(w.detach().numpy(), expected)


def test_replaced_memory_and_state_are_noticed():
    params = _parameters()
    opt = cr.optim.SGD(params, lr=1.0, momentum=0.5)
    _set_gradients(params, 0)
    opt.step()
    opt.state[params[1]]["momentum_buffer"] = cr.zeros(4)
    params[0].data = cr.zeros(3, 4)
    _set_gradients(params, 1)
    g = [p.grad.numpy() for p in params]
    old = opt.state[params[0]]["momentum_buffer"].numpy().copy()
    before = params[1].detach().numpy().copy()
    opt.step()
    np.testing.assert_allclose(params[0].detach().numpy(), -(0.5 * old + g[0]), rtol=1e-6)
    np.testing.assert_allclose(params[1].detach().numpy(), before - g[1], rtol=1e-6)


def test_closure_hooks_and_zero_grad():
    w = cr.nn.Parameter(cr.tensor([1.0]))
    opt = cr.optim.SGD([w], lr=0.1)
    seen = []
    before = opt.register_step_pre_hook(lambda o, args, kwargs: seen.append("before"))
    opt.register_step_post_hook(lambda o, args, kwargs: seen.append("after"))

    def closure():
        opt.zero_grad()
        loss = (w * 3).sum()
        loss.backward()
        seen.append("closure")
        return loss

    with cr.no_grad():
        assert opt.step(closure).item() == pytest.approx(3.0)
    before.remove()
    opt.step()
    assert seen == ["before", "closure", "after", "after"]
    assert w.item() == pytest.approx(0.4)
    opt.zero_grad(set_to_none=False)
    assert w.grad.item() == 0.0
    opt.zero_grad()
    assert w.grad is None


class Sign(cr.optim.Optimizer):
    """An optimizer as third parties write them."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @cr.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                s = self.state[p]
                if len(s) == 0:
                    s["step"] = 0
                    s["mean"] = cr.zeros_like(p)
                s["step"] += 1
                s["mean"].mul_(0.5).add_(p.grad, alpha=0.5)
                p.add_(cr.sign(s["mean"]), alpha=-group["lr"])


def test_third_party_optimizer():
    w = cr.nn.Parameter(cr.tensor([1.0, -1.0]))
    opt = Sign([w])
    schedule = cr.optim.lr_scheduler.StepLR(opt, 1, 0.5)
    seen = []
    opt.register_step_post_hook(lambda *a: seen.append(1))
    for _ in range(2):
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()
        schedule.step()
    np.testing.assert_allclose(w.detach().numpy(), [0.85, -0.85], rtol=1e-6)
    assert seen == [1, 1]
    other = Sign([w])
    other.load_state_dict(opt.state_dict())
    assert other.state[w]["step"] == 2


def test_load_refuses_other_groups_and_changes_nothing():
    params = _parameters()
    opt = cr.optim.SGD(params, lr=0.1)
    before = repr(opt)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        opt.load_state_dict({"state": {}, "param_groups": []})
    with pytest.raises(ValueError, match="doesn't match the size"):
        opt.load_state_dict({"state": {}, "param_groups": [{"params": [0], "lr": 3.0}]})
    assert repr(opt) == before
