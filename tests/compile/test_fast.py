"""The short call path: taken where it should be, and nothing that Python did between two steps goes unnoticed."""

import threading

import numpy as np
import pytest

import chainrule as torch
from chainrule import nn
from chainrule.compile import variant as variants
from chainrule.compile import words
from chainrule.core.variable import wrap
from chainrule.nn import functional as F

RNG = np.random.default_rng(4)
X, Y = RNG.standard_normal((8, 5)).astype(np.float32), RNG.integers(0, 3, 8)
SCALE = 1.0

pytestmark = pytest.mark.skipif(not words.FOLLOWED, reason="this Python lays out dicts in another way: no short path")


class World:
    """A small network, an optimizer, and a step that is compiled or not."""

    def __init__(self, compiled, optimizer=None, zero="inside"):
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
        make = optimizer or (lambda p: torch.optim.SGD(p, lr=0.1))
        self.opt = make(self.net.parameters())
        net, opt = self.net, self.opt

        def step(x, y):
            if zero == "inside":
                opt.zero_grad()
            loss = F.cross_entropy(net(x), y) * SCALE
            loss.backward()
            opt.step()
            if zero == "end":
                opt.zero_grad()
            return loss

        self.step = torch.compile(step) if compiled else step

    def __call__(self):
        return self.step(torch.tensor(X), torch.tensor(Y))

    def state(self):
        grads = [None if p.grad is None else p.grad.numpy().copy() for p in self.net.parameters()]
        return [*(p.detach().numpy().copy() for p in self.net.parameters()), *grads]


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "dampening": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.2),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "groups": lambda p: torch.optim.SGD([{"params": (ps := list(p))[:2]}, {"params": ps[2:], "lr": 0.03}], lr=0.1),
    "tensor": lambda p: torch.optim.SGD(p, lr=torch.tensor(0.1)),
}


def agree(a, b):
    for p, q in zip(a.state(), b.state(), strict=True):
        assert (p is None) == (q is None)
        if p is not None:
            np.testing.assert_allclose(p, q, rtol=2e-5, atol=2e-6)


def short_only(monkeypatch):
    """From now on only the short path works; counts how often it had to follow a change."""
    from chainrule.compile import fast

    def long(self, leaves):
        raise AssertionError("the long path was taken")

    seen = []
    real = fast.Follower.follow

    def follow(self, thorough):
        seen.append(thorough)
        return real(self, thorough)

    monkeypatch.setattr(variants.Variant, "run", long)
    monkeypatch.setattr(fast.Follower, "follow", follow)
    return seen


@pytest.mark.parametrize("zero", ["inside", "end", "outside"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_take_the_short_path(optimizer, zero, monkeypatch):
    a, b = World(False, OPTIMIZERS[optimizer], zero), World(True, OPTIMIZERS[optimizer], zero)
    seen = None
    for i in range(8):
        losses = []
        for w in (a, b):
            if zero == "outside":
                w.opt.zero_grad()
            losses.append(w().item())
        assert losses[0] == pytest.approx(losses[1], rel=2e-5)
        agree(a, b)
        if i == 3:
            seen = short_only(monkeypatch)
    assert seen == [], "nothing has changed, so there is nothing to follow"


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "groups"])
def test_a_new_learning_rate_is_followed(optimizer, monkeypatch):
    a, b = World(False, OPTIMIZERS[optimizer]), World(True, OPTIMIZERS[optimizer])
    for w in (a, b):
        w(), w()
    seen = short_only(monkeypatch)
    for i in range(6):
        for w in (a, b):
            for group in w.opt.param_groups:
                group["lr"] = 0.02 * (i + 1) * (1.0 if len(w.opt.param_groups) == 1 else group["lr"])
            w()
        agree(a, b)
    assert seen.count(False) >= 6


def test_a_learning_rate_that_becomes_a_tensor_stays_live():
    a, b = World(False), World(True)
    for i in range(6):
        for w in (a, b):
            if i == 2:
                w.opt.param_groups[0]["lr"] = torch.tensor(0.05)
            if i > 3:
                w.opt.param_groups[0]["lr"].mul_(0.5)
            w()
        agree(a, b)


def test_other_options_parameters_and_groups_are_noticed():
    def script(w, i):
        group = w.opt.param_groups[0]
        if i == 2:
            group["momentum"] = 0.5
        if i == 3:
            group["params"] = group["params"][:2]
        if i == 4:
            group["params"].append(w.net[2].weight)
        if i == 5:
            w.opt.add_param_group({"params": [w.net[2].bias], "lr": 0.01})
        if i == 6:
            w.opt.param_groups = [w.opt.param_groups[0]]
        return w()

    a, b = (World(c, OPTIMIZERS["momentum"]) for c in (False, True))
    for i in range(9):
        assert script(a, i).item() == pytest.approx(script(b, i).item(), rel=2e-5)
        agree(a, b)


def test_globals_are_watched_one_by_one(monkeypatch):
    global SCALE
    a, b = World(False), World(True)
    for w in (a, b):
        w(), w()
    try:
        with monkeypatch.context() as only:
            short_only(only)
            for i in range(3):
                globals()[f"_unrelated_{i}"] = i  # another global: also when the dict has to grow
                for w in (a, b):
                    w()
                agree(a, b)
        for value in (2.0, 0.5):
            SCALE = value
            assert a().item() == pytest.approx(b().item(), rel=2e-5)
            agree(a, b)
    finally:
        SCALE = 1.0
        for i in range(3):
            globals().pop(f"_unrelated_{i}", None)


def test_gradients_that_somebody_keeps_stay_as_they_are(monkeypatch):
    b = World(True)
    b(), b()
    short_only(monkeypatch)
    p = b.net[0].weight
    for keep in (lambda: p.grad, lambda: p.grad.numpy(), lambda: p.grad.detach(), lambda: p.grad[0]):
        kept = keep()
        content = np.array(kept)
        b()
        assert np.array_equal(np.array(kept), content)
        assert not np.array_equal(p.grad.numpy(), content)
        del kept
        b()


def test_gradients_set_or_removed_between_steps():
    def script(w, i):
        p = w.net[0].weight
        if i == 2:
            p.grad = torch.ones_like(p)
        if i == 3:
            p.grad = None
        if i == 4:
            p.grad.mul_(3)
        if i == 5:
            w.net.zero_grad()
        return w()

    for zero in ("inside", "outside"):
        a, b = World(False, zero=zero), World(True, zero=zero)
        for i in range(8):
            assert script(a, i).item() == pytest.approx(script(b, i).item(), rel=2e-5)
            agree(a, b)


def test_two_steps_of_the_same_parameters_take_turns():
    a, b = World(False), World(True)
    for w in (a, b):
        small = torch.compile(w.step.__wrapped__) if w is b else w.step
        for _ in range(6):
            w()
            small(torch.tensor(X[:3]), torch.tensor(Y[:3]))
    agree(a, b)


def test_a_fault_in_the_arguments_is_said_and_leaves_all_as_it_was():
    b = World(True)
    b(), b()
    before = b.state()
    x, y = torch.tensor(X), torch.tensor(Y)
    for bad in ((x, y + 5), (x, y, y), (x[:, :4], y), (x,)):
        with pytest.raises((IndexError, RuntimeError, TypeError)):
            b.step(*bad)
    for p, q in zip(before, b.state(), strict=True):
        assert np.array_equal(p, q)
    b()


def test_reports_do_not_disturb_the_short_path(monkeypatch):
    a, b = World(False), World(True)
    for w in (a, b):
        w(), w()
    str(b.step.report())
    short_only(monkeypatch)
    for w in (a, b):
        w()
    agree(a, b)


def test_threads_call_one_step(monkeypatch):
    a, b = World(False), World(True)
    for w in (a, b):
        w(), w()
    short_only(monkeypatch)
    errors = []

    def work():
        try:
            for _ in range(50):
                b()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    for _ in range(200):
        a()
    for p, q in zip(a.net.parameters(), b.net.parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-3, atol=1e-4)


def test_words_of_a_dict_entry_change_with_the_entry_alone():
    class Thing:
        pass

    thing, other = Thing(), Thing()
    thing.a, other.a, thing.b = object(), 1, object()
    for d, key in ((vars(thing), "b"), ({"a": 1, "b": 2}, "b"), ({1: 2, "b": thing}, "b")):
        entry = words.dict_entry(d, key)

        def held(entry=entry):
            return all(words._read(a) == w for a, w in entry)

        assert held()
        d["a"] = object()
        assert held(), "another entry"
        kept, d[key] = d[key], object()
        assert not held()
        d[key] = kept
        assert held()
        for i in range(100):
            d[f"more {i}"] = i
        assert not held(), "the table has moved"
        assert words.dict_entry(d, key)[-1][1] == id(kept)
    assert words.dict_entry({"a": 1}, "b") == []
    t = wrap(np.zeros(1))
    before = words.attributes(t)
    t.__dict__ = {}
    assert words._read(before[0][0]) != before[0][1]
