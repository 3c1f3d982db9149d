"""What a compiled step watches is what lives: freed memory, memory of others, threads, and states put elsewhere."""

import collections
import gc
import mmap
import random
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import chainrule as torch
from chainrule import nn
from chainrule.compile.variant import busy
from chainrule.errors import ModifiedError


def linear(optimizer, zero=True, size=3):
    """A weight, its optimizer, and a step of (w · x).sum()."""
    w = nn.Parameter(torch.ones(size))
    opt = optimizer([w])

    def step(x):
        if zero:
            opt.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        opt.step()
        return loss

    return w, opt, step


def sgd(ps):
    return torch.optim.SGD(ps, lr=0.1)


def test_gradients_are_right_and_nobody_elses_memory_is_written_whatever_is_freed():
    rng = random.Random(0)
    w, _, step = linear(lambda ps: torch.optim.SGD(ps, lr=0.0), zero=False)
    compiled = torch.compile(step)
    held, twice = [], []
    for i in range(4000):
        w.grad = None
        if rng.random() < 0.5:
            w.data = w.data.clone()
        for _ in range(rng.randrange(4)):
            kind = rng.random()
            if kind < 0.4:
                held.append(np.zeros(3, np.float32))
            elif kind < 0.6:
                held.append(a := np.zeros(3, np.float32))
                twice.append(a)
                del a
            elif kind < 0.8:
                held.append(torch.zeros(3))
            else:
                twice.append(torch.zeros(3).numpy())
            for kept in (held, twice):
                if len(kept) > 60:
                    kept.pop(rng.randrange(60))
        x = torch.full((3,), float(i % 100 + 1))
        compiled(x)
        assert np.array_equal(w.grad.numpy(), x.numpy())
        assert not any(np.asarray(a).any() for a in (*held, *twice))


@pytest.mark.filterwarnings("ignore:compile. f has been recorded 9 times")
def test_equal_objects_that_take_the_place_of_others_are_kept_alive():
    factor = [2.0]
    beta = 0.0

    def f(x):
        return x * beta + factor[0]

    compiled = torch.compile(f)
    rng = random.Random(1)
    x = torch.ones(1)
    for i in range(300):
        beta = min(1.0, (i % 10) / 5)
        factor[0] = float(rng.choice("234"))
        assert compiled(x).item() == f(x).item(), i


def test_a_rate_that_lies_where_an_earlier_one_lay():
    w, opt, step = linear(lambda ps: torch.optim.SGD(ps, lr=0.5))
    compiled = torch.compile(step)
    x = torch.ones(3)
    group = opt.param_groups[0]
    for _ in range(3):
        compiled(x)
    for i in range(200):
        group["lr"] = float(f"0.{i % 9 + 1}")
        if i % 2:
            w.data = w.data.clone()
        before = w.detach().clone()
        compiled(x)
        np.testing.assert_allclose((before - w.detach()).numpy(), group["lr"], atol=1e-5)


STATES = {
    "clear": lambda opt, w: opt.state.clear(),
    "new": lambda opt, w: setattr(opt, "state", collections.defaultdict(dict)),
    "entry": lambda opt, w: opt.state[w].__setitem__("momentum_buffer", torch.zeros(3)),
    "pop": lambda opt, w: opt.state[w].pop("momentum_buffer"),
    "load": lambda opt, w: opt.load_state_dict(torch.optim.SGD([w], lr=0.1, momentum=0.9).state_dict()),
}


@pytest.mark.parametrize("change", STATES)
def test_the_state_of_an_optimizer_is_guarded(change):
    seen = []
    for compiled in (False, True):
        w, opt, step = linear(lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9))
        call = torch.compile(step) if compiled else step
        for i in range(6):
            if i == 3:
                STATES[change](opt, w)
            call(torch.ones(3))
        seen.append((w.detach().numpy().copy(), opt.state[w]["momentum_buffer"].numpy().copy()))
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-6)


def test_gradients_whose_data_is_replaced_or_that_carry_marks():
    w, _, step = linear(sgd)
    compiled = torch.compile(step)
    compiled(torch.ones(3)), compiled(torch.ones(3))
    kept = w.grad.data
    w.grad.data = kept / 2  # the usual idiom for averages
    compiled(torch.full((3,), 7.0))
    assert w.grad.tolist() == [7.0] * 3
    assert kept.tolist() == [1.0] * 3
    w.grad.requires_grad_()
    compiled(torch.ones(3))
    assert not w.grad.requires_grad
    reference = weakref.ref(w.grad)
    compiled(torch.ones(3))
    assert reference() is None


@pytest.mark.parametrize("optimizer", [sgd, lambda ps: torch.optim.Adam(ps)])
def test_a_step_counts_as_a_write(optimizer):
    w, _, step = linear(optimizer)
    compiled = torch.compile(step)
    for _ in range(3):
        compiled(torch.ones(3))
    before = w._version
    old = (w * w).sum()
    compiled(torch.ones(3))
    assert w._version == before + 1
    w.grad = None
    with pytest.raises(ModifiedError, match="compiled step"):
        old.backward()
    (w * w).sum().backward()


def test_memory_that_two_names_share():
    def body(w, scale):
        def step(x):
            with torch.no_grad():
                w.sub_(1.0)
            return (x * scale).sum()

        return step

    w = torch.full((4,), 5.0)
    compiled = torch.compile(body(w, 10.0))
    assert compiled(torch.ones(4)).item() == 40.0
    assert compiled(w.detach()).item() == 120.0  # the very memory: read after it was written
    assert w.tolist() == [3.0] * 4
    for other in (w.detach()[:], w.detach()[1:]):
        with pytest.raises(torch.compile.CompileError, match=r"argument 0 shares memory.*\n.*\n.*clone"):
            compiled(other)
        assert w.tolist() == [3.0] * 4
    assert compiled(w.detach().clone()).item() == 120.0
    assert w.tolist() == [2.0] * 4

    a, b = torch.ones(3), torch.zeros(3)

    def tied(x):
        a.add_(x)
        return (b * 1).sum()

    compiled = torch.compile(tied)
    assert compiled(torch.ones(3)).item() == compiled(torch.ones(3)).item() == 0.0
    b.data = a.data
    assert compiled(torch.ones(3)).item() == 12.0


def test_arguments_that_the_function_reaches_by_itself():
    w, v = torch.full((2,), 5.0), torch.ones(2)
    for same in (lambda: w, w.detach, lambda: w[:]):
        compiled = torch.compile(lambda x: x * w)
        for _ in range(2):
            assert compiled(same()).tolist() == [25.0] * 2
            assert compiled(v).tolist() == [5.0] * 2

    def add(x):
        w.add_(1)
        return x * 1

    compiled = torch.compile(add)
    for k in range(1, 5):
        assert compiled(w).tolist() == [5.0 + k] * 2
        assert compiled(v).tolist() == [1.0] * 2
        w.sub_(1)
        assert w.tolist() == [5.0 + k] * 2
    listed = torch.compile(lambda xs: xs[0] * w + xs[1])
    for x in (v, w, v, w, v * 2):
        assert listed([x, v]).tolist() == (x * w + v).tolist()


def test_views_of_one_memory_in_other_places():
    compiled = torch.compile(lambda a, b: a.mul_(2) + b)
    base, other = torch.arange(1.0, 6.0), torch.arange(1.0, 6.0)
    for cut in (slice(0, 2), slice(1, 3), slice(2, 4), slice(0, 2)):
        for also in (slice(1, 3), slice(0, 2), slice(3, 5)):
            eager = other[cut].mul_(2) + other[also]
            assert compiled(base[cut], base[also]).tolist() == eager.tolist()
            assert base.tolist() == other.tolist()


def test_memory_that_must_not_be_written():
    def double(x):
        x.mul_(2)
        return x.sum()

    compiled = torch.compile(double)
    for _ in range(3):
        compiled(torch.ones(4))
    content = bytes(16)
    x = torch.from_numpy(np.frombuffer(mmap.mmap(-1, 16, access=mmap.ACCESS_READ), np.float32))
    y = torch.from_numpy(np.frombuffer(content, np.float32))
    for t in (x, y):
        with pytest.raises(ValueError, match="read-only"):
            compiled(t)
    assert content == bytes(16)
    assert compiled(torch.ones(4)).item() == 8.0


def test_no_step_runs_while_another_thread_records():
    w = torch.zeros(1)

    def count(x):
        w.add_(x)
        return w * 1

    def evaluate(x):
        time.sleep(0.3)  # as long as it takes to record a large model
        return (w * x).sum()

    step, look = torch.compile(count), torch.compile(evaluate)
    for _ in range(3):
        step(torch.ones(1))
    thread = threading.Thread(target=look, args=(torch.ones(1),))
    thread.start()
    while not busy[0] and thread.is_alive():
        time.sleep(0.001)
    for _ in range(20):
        step(torch.ones(1))
    thread.join(30)
    assert not thread.is_alive()
    assert w.item() == 23.0


def test_arguments_replaced_by_another_thread_while_a_step_runs():
    size = 1 << 15
    w, _, step = linear(torch.optim.Adam, size=size)
    step = torch.compile(step)
    x = torch.ones(size)
    step(x), step(x)
    stop = threading.Event()

    def replace():
        while not stop.is_set():
            x.data = torch.ones(size)

    threads = [threading.Thread(target=replace) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for t in threads:
            t.start()
        for _ in range(300):
            step(x)
            assert w.grad[::999].tolist() == [1.0] * len(w.grad[::999])
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        for t in threads:
            t.join(30)


def test_rebinding_to_equal_objects_returns_to_the_short_path(monkeypatch):
    from chainrule.compile import variant as variants
    from chainrule.compile import words

    if not words.FOLLOWED:
        pytest.skip("this Python lays out dicts in another way: no short path")
    scale = [1000.5]
    compiled = torch.compile(lambda x: x * scale[0])
    x = torch.ones(2)
    compiled(x), compiled(x)
    scale[0] = float("1000.5")
    compiled(x)
    monkeypatch.setattr(variants.Variant, "run", lambda self, leaves: pytest.fail("the long path was taken"))
    assert compiled(x).tolist() == [1000.5] * 2


def test_a_variant_that_goes_leaves_its_writes_on_record():
    w = torch.zeros(2)

    def body(x):
        w.add_(x)
        return w * 1

    compiled = torch.compile(body)
    for _ in range(3):
        compiled(torch.ones(2))
    before = w._version
    del compiled, body
    gc.collect()
    assert w._version == before >= 3
    w.add_(1)
    assert w._version == before + 1
