"""What a recording would lose is an error that names the line or the place, and leaves everything as it was."""

import random
import types

import numpy as np
import pytest

import chainrule as torch
from chainrule.compile import CompileError
from chainrule.errors import ChainruleError

nn, F = torch.nn, torch.nn.functional
x = torch.tensor([1.0, -2.0, 3.0])
KEPT = []
TOTAL = 0
LAST = None


def by_float(t):
    return t * float(t.sum())


def by_if(t):
    if (t > 0).any():
        return t
    return -t


def by_int(t):
    return t[int(t.argmax()) :]


def by_print(t):
    print(t.sum())
    return t * 1


def by_format(t):
    return t * len(f"{t.sum():.3f}")


def by_numpy(t):
    return torch.from_numpy(np.tanh(t.numpy()))


def by_list(t):
    return t * t.tolist()[0]


def by_index(t):
    return t[t > 0]


def by_nonzero(t):
    return t.nonzero()


def by_unique(t):
    return t.unique()


def by_item_in_try(t):
    try:
        return t * t.sum().item()
    except RuntimeError:
        return t * 1


def by_equal(t):
    return t * torch.equal(t, t)


def by_allclose(t):
    return t * torch.allclose(t, t)


def by_tensor(t):
    return torch.tensor([t[0], 1.0])


SEEN = [by_float, by_if, by_int, by_print, by_format, by_numpy, by_list, by_index, by_nonzero, by_unique,
        by_item_in_try, by_equal, by_allclose, by_tensor]  # fmt: skip


@pytest.mark.parametrize("f", SEEN, ids=lambda f: f.__name__)
def test_values_that_python_sees(f):
    with pytest.raises(CompileError) as caught:
        torch.compile(f)(x)
    text = str(caught.value)
    assert text.startswith("compile: ")
    assert "test_refused.py" in text
    assert len(text.splitlines()) >= 3  # what, where, a way out
    g = torch.compile(f, fallback=True)
    with pytest.warns(UserWarning, match=f"{f.__name__} runs eagerly"):
        first = g(x)
    assert first.tolist() == g(x).tolist() == f(x).tolist()


def appends(t):
    KEPT.append(t * 2)
    return t * 1


def counts(t):
    global TOTAL
    TOTAL += 1
    return t * 1


def keeps(t):
    global LAST
    LAST = t * 2
    return t * 1


def into_attribute():
    class Model(nn.Module):
        def forward(self, t):
            self.hidden = t * 2
            return t + 1

    return Model().forward


def counter_of_an_object():
    class Trainer:
        steps = 0

        def __call__(self, t):
            self.steps += 1
            return t + 1

    return Trainer().__call__


def into_closure():
    best = None

    def f(t):
        nonlocal best
        best = t * 2
        return t + 1

    return f


def number_in_closure():
    n = 0

    def f(t):
        nonlocal n
        n += 1
        return t + n

    return f


def into_dict():
    found = {}

    def f(t):
        found["h"] = t * 2
        return t + 1

    return f


def by_hook():
    net, seen = nn.Linear(3, 2), []
    net.register_forward_hook(lambda m, args, out: seen.append(out.detach()))
    return lambda t: net(t).detach()


def by_gradient_hook():
    net, seen = nn.Linear(3, 2), []
    net.weight.register_hook(lambda g: seen.append(g.norm()))

    def f(t):
        net(t).sum().backward()

    return f


def from_iterator():
    batches = iter([torch.ones(3), torch.zeros(3)])
    return lambda t: t + next(batches)


def from_loader():
    loader = torch.utils.data.DataLoader([torch.ones(3)])
    return lambda t: sum((b for b in loader), t)


def drawn_from(draw):
    return lambda: lambda t: t * draw()


def shared():
    a, b = torch.ones(3), torch.zeros(3)

    def f(t):
        a.data = b
        return a + t

    return f


PLACES = {
    "KEPT": lambda: appends, "TOTAL": lambda: counts, "LAST": lambda: keeps, "hidden": into_attribute,
    "steps": counter_of_an_object, "best": into_closure, "changes n,": number_in_closure, "found": into_dict,
    "seen": by_hook, "changes seen": by_gradient_hook, "iterator": from_iterator, "DataLoader": from_loader,
    "NumPy's random": lambda: lambda t: t * float(np.random.rand()),
    "Python's random": lambda: lambda t: t * random.random(),
    "draws NumPy's": drawn_from(np.random.RandomState(0).rand), "draws Python's": drawn_from(random.Random(0).random),
    "argument 0 another shape": lambda: lambda t: t.unsqueeze_(0) * 2,
    "outside the memory of another tensor": shared,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_what_native_code_would_not_do_again(place):
    f = PLACES[place]()
    with pytest.raises(CompileError, match=place):
        torch.compile(f)(x)


def test_what_a_refused_function_did_is_undone():
    """With fallback it runs once more: counters, lists and random numbers must be as if it had run once."""
    counts = types.SimpleNamespace(steps=0)
    seen, found, best, rng, own = [], {}, None, np.random.default_rng(0), random.Random(0)

    def f(t):
        nonlocal best
        counts.steps += 1
        counts.last = best = t.shape[0]
        seen.append(rng.random() + own.random() + np.random.rand())
        found["steps"] = found.get("steps", 0) + 1
        return t * float(t.sum())

    np.random.seed(0)
    with pytest.warns(UserWarning, match="runs eagerly"):
        torch.compile(f, fallback=True)(x)
    assert (vars(counts), found, best) == ({"steps": 1, "last": 3}, {"steps": 1}, 3)
    np.random.seed(0)
    assert seen == [np.random.default_rng(0).random() + random.Random(0).random() + np.random.rand()]


def test_hooks_are_part_of_the_recording():
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    f = torch.compile(lambda t: net(t).detach())
    g = torch.compile(lambda t: net(t).sum().backward())
    plain = f(x).numpy()

    def expect(factor):
        for _ in range(2):
            np.testing.assert_allclose(f(x).numpy(), plain * factor, rtol=1e-6)

    handle = net.register_forward_hook(lambda m, args, out: out * 2)
    expect(2)
    second = net.register_forward_hook(lambda m, args, out: out * 3)
    expect(6)
    handle.remove()
    expect(3)
    second.remove()
    expect(1)
    g(x), g(x)
    net.zero_grad()
    handle = net.weight.register_hook(lambda grad: grad * 0)
    g(x)
    assert net.weight.grad.abs().sum().item() == 0
    handle.remove()
    net.zero_grad()
    g(x)
    assert net.weight.grad.tolist() == [x.tolist()] * 2


def test_lbfgs_says_what_to_do():
    w = nn.Parameter(torch.zeros(2))
    opt = torch.optim.LBFGS([w])

    def closure():
        opt.zero_grad()
        loss = ((w - 1) ** 2).sum()
        loss.backward()
        return loss

    with pytest.raises(ChainruleError, match="LBFGS"):
        torch.compile(lambda: opt.step(closure))()
    f = torch.compile(lambda: opt.step(closure), fallback=True)
    with pytest.warns(UserWarning, match="LBFGS"):
        f()
    assert w.tolist() == pytest.approx([1.0, 1.0])


class World:
    """Everything that must be as before after an error."""

    def __init__(self, make=torch.optim.Adam):
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 3)
        )
        self.opt = make(self.net.parameters(), lr=0.1)
        self.fail = ""

    def step(self, i, y):
        self.opt.zero_grad()
        loss = F.cross_entropy(self.net(i), y)
        loss.backward()
        self.opt.step()
        if self.fail:
            raise KeyError(self.fail)
        return loss

    def everything(self):
        found = {k: v.numpy().copy() for k, v in self.net.state_dict().items()}
        for n, p in self.net.named_parameters():
            found["grad " + n] = None if p.grad is None else p.grad.numpy().copy()
            for k, v in self.opt.state.get(p, {}).items():
                found[f"{k} {n}"] = v.numpy().copy()
        found["rng"] = torch.get_rng_state().numpy().copy()
        return found


def unchanged(a, b):
    assert a.keys() == b.keys()
    for k in a:
        np.testing.assert_array_equal(a[k], b[k], err_msg=k)


GOOD = torch.tensor([[0, 1], [2, 3], [4, 0], [1, 1]]), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("calls", [0, 1, 3])
@pytest.mark.parametrize("bad", ["index", "target", "exception"])
def test_an_error_leaves_everything_as_it_was(bad, calls):
    w = World()
    f = torch.compile(w.step)
    for _ in range(calls):
        f(*GOOD)
    before = w.everything()
    i, y = GOOD[0].clone(), GOOD[1].clone()
    if bad == "index":
        i[2, 1] = 5
    elif bad == "target":
        y[1] = 3
    else:
        w.fail = "mine"
    with pytest.raises(KeyError if bad == "exception" else IndexError) as caught:
        f(i, y)
    assert caught.traceback[-1] or True
    assert any("test_refused.py" in str(entry.path) for entry in caught.traceback)
    unchanged(before, w.everything())
    w.fail = ""
    other = World()
    for _ in range(calls):
        other.step(*GOOD)
    torch.manual_seed(1)
    expected = other.step(*GOOD).item()
    torch.manual_seed(1)
    assert f(*GOOD).item() == pytest.approx(expected, rel=1e-5)


def test_a_model_that_was_moved_or_resized():
    w = World()
    f = torch.compile(w.step)
    f(*GOOD)
    w.net.double()
    w.opt = torch.optim.Adam(w.net.parameters(), lr=0.1)
    assert f(*GOOD).dtype == torch.float64
    w.net[5] = nn.Linear(6, 7).double()
    w.opt = torch.optim.SGD(w.net.parameters(), lr=0.1)
    f(*GOOD)
    f(*GOOD)
    assert w.net[5].weight.grad.shape == (7, 6)


def test_wrong_shapes_raise_what_eager_code_raises():
    net = nn.Linear(3, 2)
    f = torch.compile(lambda t: net(t).detach())
    f(torch.ones(4, 3))
    for bad in (torch.ones(4, 2), torch.ones(3, 3, dtype=torch.int64)):
        with pytest.raises(RuntimeError) as expected:
            net(bad)
        with pytest.raises(type(expected.value)) as got:
            f(bad)
        assert str(got.value).splitlines()[0] == str(expected.value).splitlines()[0]


def test_a_compiler_failure_names_what_failed(monkeypatch):
    from chainrule.compile import link

    def broken(*args, **options):
        raise AssertionError("no such instruction")

    monkeypatch.setattr(link, "Step", broken)
    w = nn.Parameter(torch.ones(3))
    with pytest.raises(CompileError, match="AssertionError: no such instruction"):
        torch.compile(lambda t: (t * w).sum().backward())(x)
    assert w.grad is None
