"""What Python code reads from outside: when it changes, a compiled function follows."""

import copy
import pickle
import sys
import types
from collections import deque

import numpy as np
import pytest

import chainrule as torch
from chainrule import nn
from chainrule.errors import GradientError


class Config:
    scale = 2.0


class Thing:
    kind = 3.0

    def factor(self):
        return self.kind


class Net(nn.Module):
    gain = 2.0

    def forward(self, x):
        return x * self.gain


def tripled(self, x):
    return x * 3


def follows(function, change, undo=None):
    """The function, called before and after a change, eager and compiled."""
    x = torch.ones(2)
    compiled = torch.compile(function)
    for _ in range(3):
        first = compiled(x).tolist()
        assert first == function(x).tolist()
    change()
    try:
        for _ in range(3):
            assert compiled(x).tolist() == function(x).tolist() != first
    finally:
        if undo is not None:
            undo()


def test_attributes_of_classes():
    follows(lambda x: x * Config.scale, lambda: setattr(Config, "scale", 5.0), lambda: setattr(Config, "scale", 2.0))
    thing = Thing()
    follows(lambda x: x * thing.kind, lambda: setattr(Thing, "kind", 5.0), lambda: setattr(Thing, "kind", 3.0))
    follows(lambda x: x * thing.factor(), lambda: setattr(thing, "kind", 7.0))
    net = Net()
    follows(net, lambda: setattr(Net, "gain", 5.0), lambda: setattr(Net, "gain", 2.0))


class Table:
    entries = {"s": 2.0}  # noqa: RUF012 - a class with a dict of its own is what is tested
    thing = Thing()


class Derived(Config):
    pass


def test_what_classes_hold_and_classes_that_are_held(monkeypatch):
    follows(lambda x: x * Table.entries["s"], lambda: monkeypatch.setitem(Table.entries, "s", 5.0))
    follows(lambda x: x * Table.thing.kind, lambda: monkeypatch.setattr(Table.thing, "kind", 5.0))
    holder = Thing()
    holder.cls = local = Config
    follows(lambda x: x * holder.cls.scale, lambda: setattr(Config, "scale", 5.0))
    Config.scale = 2.0
    follows(lambda x: x * local.scale, lambda: setattr(Config, "scale", 5.0), lambda: setattr(Config, "scale", 2.0))
    follows(lambda x: x * Derived.scale, lambda: monkeypatch.setattr(Derived, "scale", 9.0, raising=False))


def test_methods_put_in_the_place_of_others(monkeypatch):
    net = Net()
    follows(lambda x: net(x), lambda: setattr(net, "forward", lambda x: x * 9))
    net = Net()
    follows(lambda x: net(x), lambda: monkeypatch.setattr(Net, "forward", tripled))
    thing = Thing()
    follows(lambda x: x * thing.factor(), lambda: setattr(thing, "factor", lambda: 8.0))


def test_an_optimizer_with_a_step_of_its_own():
    w = nn.Parameter(torch.ones(2))
    opt = torch.optim.SGD([w], lr=0.1)

    @torch.compile
    def step(x):
        opt.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        opt.step()
        return loss

    step(torch.ones(2)), step(torch.ones(2))
    before = w.detach().clone()
    opt.step = lambda: None
    step(torch.ones(2))
    assert torch.equal(before, w)
    del opt.step
    step(torch.ones(2))
    opt.zero_grad = lambda: None
    step(torch.ones(2))
    assert w.grad.tolist() == [2.0] * 2
    w.data.add_(0.2)
    np.testing.assert_allclose((before - w.detach()).numpy(), 0.1, rtol=1e-5)


def test_attributes_of_modules_and_globals_that_are_modules_or_classes(monkeypatch):
    config, other = types.ModuleType("a_config"), types.ModuleType("another_config")
    config.scale, other.scale = 2.0, 6.0
    config.net = nn.Linear(2, 2)
    config.sub = types.ModuleType("a_config.sub")
    config.sub.scale = 2.0
    monkeypatch.setitem(sys.modules, "a_config", config)
    space = globals()
    monkeypatch.setitem(space, "config", config)
    monkeypatch.setitem(space, "Chosen", Config)
    exec("def scaled(x):\n    return x * config.scale\n\ndef chosen(x):\n    return x * Chosen.scale\n\n"
         "def through(x):\n    return config.net(x).detach()\n", space)  # fmt: skip
    follows(space["scaled"], lambda: setattr(config, "scale", 5.0))
    follows(space["scaled"], lambda: space.__setitem__("config", other), lambda: space.__setitem__("config", config))
    follows(space["chosen"], lambda: space.__setitem__("Chosen", type("Other", (), {"scale": 8.0})))
    follows(space["through"], lambda: setattr(config, "net", nn.Linear(2, 2)))
    exec("def deep(x):\n    return x * config.sub.scale\n", space)
    follows(space["deep"], lambda: setattr(config.sub, "scale", 5.0))
    for name in ("scaled", "chosen", "through", "deep"):
        del space[name]


def test_an_object_that_is_given_another_dict():
    thing = Thing()
    thing.kind = 4.0
    follows(lambda x: x * thing.kind, lambda: setattr(thing, "__dict__", {"kind": 6.0}))


def test_entries_of_a_deque():
    kept = deque([2.0, 3.0])
    follows(lambda x: x * kept[0], lambda: kept.__setitem__(0, 5.0))
    follows(lambda x: x * sum(kept), lambda: kept.append(1.0))


def test_modes_of_the_engine():
    w = nn.Parameter(torch.zeros(1))

    @torch.compile
    def gradient(x):
        w.grad = None
        loss = (w * x * w).sum()
        loss.backward()
        return w.grad * 1

    gradient(torch.ones(1)), gradient(torch.ones(1))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t * 0 + 1):
        assert gradient(torch.ones(1)).tolist() == [2.0]
    assert gradient(torch.ones(1)).tolist() == [0.0]
    root = torch.compile(lambda x: torch.autograd.grad(torch.where(x > 1, x, x.sqrt() * 0).sum(), x)[0])
    x = torch.zeros(1, requires_grad=True)
    root(x), root(x)
    with torch.autograd.detect_anomaly(), pytest.raises(GradientError, match="nan"):
        root(x)
    zeros = torch.compile(lambda x: x * 1 + torch.zeros(2).sum())
    kind = torch.compile(lambda x: torch.full((2,), 1.5))
    kind(torch.ones(1)), zeros(torch.ones(1))
    torch.set_default_dtype(torch.float64)
    try:
        assert kind(torch.ones(1)).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert kind(torch.ones(1)).dtype == torch.float32


def test_a_variable_that_was_deleted():
    k = 2.0
    compiled = torch.compile(lambda x: x * k)  # noqa: F821 - deleted below, which is the point
    compiled(torch.ones(1)), compiled(torch.ones(1))
    del k
    with pytest.raises(NameError):
        compiled(torch.ones(1))


def double(x):
    return x * 2


def test_models_that_hold_a_compiled_function_are_copied():
    net = nn.Linear(2, 2)
    net.call = torch.compile(double)
    net.call(torch.ones(1))
    other = copy.deepcopy(net)
    assert other.call is not net.call
    assert other.call(torch.ones(1)).item() == 2.0
    again = pickle.loads(pickle.dumps(torch.compile(len, fallback=True)))
    assert again.fallback
    assert again.__wrapped__ is len


T = [0]
factors = [0]


def test_a_global_named_like_an_attribute_is_not_read():
    step = torch.compile(lambda x: x.T @ x)
    for n in range(3):
        T.append(n)
        step(torch.ones(2, 3))
    assert sum(map(len, step.variants.values())) == 1


def test_many_recordings_for_the_same_shapes_are_mentioned_once_with_the_reason():
    step = torch.compile(lambda x: x * factors[-1])
    x = torch.ones(2)
    for n in range(1, 9):
        factors.append(n)
        assert step(x).tolist() == [n, n]
    factors.append(9)
    with pytest.warns(UserWarning, match="recorded 9 times for the same shapes.*because of a change of: factors"):
        step(x)
    factors.append(10)
    assert step(x).tolist() == [10, 10]  # warnings are errors here: there is no second one
