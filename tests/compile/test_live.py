"""What changes between steps stays live: options, schedules, modes, gradients, states that are loaded, random numbers.

Every program here runs twice with the same seed, eagerly and compiled, and gives the same numbers step by step.
"""

import numpy as np
import pytest

import chainrule as torch

nn, F = torch.nn, torch.nn.functional
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6)).astype(np.float32)
Y = RNG.integers(0, 4, 24)


class World:
    """A model, its optimizer and a step."""

    def __init__(self, optimizer=None, model=None, body=None):
        torch.manual_seed(0)
        self.net = model() if model else nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
        self.opt = (optimizer or (lambda p: torch.optim.SGD(p, lr=0.1)))(self.net.parameters())
        net, opt = self.net, self.opt

        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            return loss

        self.step = body(net, opt) if body else step
        self.call = self.step


def both(script, **world):
    """Run ``script(world, i)`` for some steps with an eager and a compiled world; the states must agree."""
    seen = []
    for compiled in (False, True):
        w = World(**world)
        if compiled:
            w.call = torch.compile(w.step)
        torch.manual_seed(5)
        numbers = []
        for i in range(8):
            out = script(w, i)
            numbers.append(np.array([float(t) for t in (out if isinstance(out, tuple) else (out,))]))
        grads = [None if p.grad is None else p.grad.numpy().copy() for p in w.net.parameters()]
        state = [v.numpy().copy() for v in w.net.state_dict().values()]
        slots = [t.numpy() for d in w.opt.state_dict()["state"].values() for t in d.values() if torch.is_tensor(t)]
        seen.append((numbers, grads, state, slots, w))
    for a, b in zip(*(s[:4] for s in seen), strict=True):
        assert len(a) == len(b)
        for p, q in zip(a, b, strict=True):
            assert (p is None) == (q is None)
            if p is not None:
                np.testing.assert_allclose(p, q, rtol=2e-5, atol=2e-6)
    return seen[1][4]


def data(n=24):
    return torch.tensor(X[:n]), torch.tensor(Y[:n])


def plain(w, i):
    return w.call(*data())


SCHEDULES = {
    "onecycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 5),
    "cyclic": lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "exponential": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
    "sequential": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o, [torch.optim.lr_scheduler.ConstantLR(o), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)], [3]),
    "restarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
}  # fmt: skip


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_inside_and_outside(name, inside):
    def body(net, opt):
        schedule = SCHEDULES[name](opt)

        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            if inside:
                schedule.step()
            return loss

        step.schedule = schedule
        return step

    def script(w, i):
        out = w.call(*data())
        if not inside:
            w.step.schedule.step()
        return out, w.opt.param_groups[0]["lr"]

    w = both(script, body=body, optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
    assert sum(map(len, w.call.variants.values())) <= 2, "a schedule must not compile again"


@pytest.mark.parametrize(("option", "values", "most"), [
    ("momentum", (0.9, 0.5, 0.0), 3), ("weight_decay", (0.0, 0.1, 0.2), 3), ("nesterov", (False, True), 3),
    ("maximize", (False, True), 2), ("dampening", (0.0, 0.5), 3),
])  # fmt: skip
def test_options_of_sgd(option, values, most):
    def script(w, i):
        w.opt.param_groups[0][option] = values[i // 3 % len(values)]
        return w.call(*data())

    w = both(script, optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
    assert sum(map(len, w.call.variants.values())) <= most


@pytest.mark.parametrize(("option", "values"), [
    ("betas", ((0.9, 0.99), (0.5, 0.9))), ("eps", (1e-8, 1e-2)), ("weight_decay", (0.0, 0.1)),
    ("decoupled_weight_decay", (False, True)),
])  # fmt: skip
def test_options_of_adam(option, values):
    def script(w, i):
        w.opt.param_groups[0][option] = values[i // 3 % len(values)]
        return w.call(*data())

    both(script, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))


def test_a_learning_rate_that_is_a_tensor():
    def script(w, i):
        w.opt.param_groups[0]["lr"].fill_(0.1 / (i + 1))
        return w.call(*data())

    both(script, optimizer=lambda p: torch.optim.SGD(p, lr=torch.tensor(0.1)))


@pytest.mark.parametrize("kind", ["norm", "value", "inf", "zero", "minus inf"])
def test_clipping_and_the_norm_it_returns(kind):
    def body(net, opt):
        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            norm = loss
            if kind == "value":
                nn.utils.clip_grad_value_(net.parameters(), 0.01)
            else:
                order = {"norm": 2, "inf": np.inf, "zero": 0, "minus inf": -np.inf}[kind]
                norm = nn.utils.clip_grad_norm_(net.parameters(), 0.05, norm_type=order)
            opt.step()
            return loss, norm

        return step

    both(plain, body=body)


def test_dropout_and_normalisation_with_modes_and_mixed_calls():
    def model():
        return nn.Sequential(
            nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 4)
        )

    def script(w, i):
        w.net.train(i % 3 != 1)
        return (w.call if i % 4 != 3 else w.step)(*data(24 if i % 2 else 16))

    both(script, model=model, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))


def test_a_mode_that_the_step_sets_itself():
    def body(net, opt):
        def step(x, y):
            net.train()
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            return loss

        return step

    def script(w, i):
        w.net.eval()
        out = w.call(*data())
        assert all(m.training for m in w.net.modules())
        return out

    both(script, body=body, model=lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)))


def test_freezing_and_thawing():
    def script(w, i):
        w.net[0].requires_grad_(i % 3 != 1)
        return w.call(*data())

    both(script, optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9))


def test_replaced_parameters_and_modules():
    def script(w, i):
        if i == 3:
            torch.manual_seed(9)
            w.net[2] = nn.Linear(8, 4)
            w.opt.param_groups[0]["params"][2:] = list(w.net[2].parameters())
        if i == 5:
            w.net[0].weight.data = w.net[0].weight.data * 0.5
        return w.call(*data())

    both(script)


def test_loading_states():
    saved = {}

    def script(w, i):
        out = w.call(*data())
        if i == 2:
            saved["net"] = {k: v.clone() for k, v in w.net.state_dict().items()}
            saved["opt"] = {
                "state": {k: {n: t.clone() for n, t in d.items()} for k, d in w.opt.state_dict()["state"].items()},
                "param_groups": w.opt.state_dict()["param_groups"],
            }
        if i == 5:
            w.net.load_state_dict(saved["net"])
            w.opt.load_state_dict(saved["opt"])
        return out

    both(script, optimizer=lambda p: torch.optim.Adam(p, lr=0.02))


@pytest.mark.parametrize("none", [True, False])
@pytest.mark.parametrize("place", ["first", "last", "outside", "never"])
def test_zero_grad_anywhere(place, none):
    def body(net, opt):
        def step(x, y):
            if place == "first":
                opt.zero_grad(set_to_none=none)
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            if place == "last":
                opt.zero_grad(set_to_none=none)
            return loss

        return step

    def script(w, i):
        out = w.call(*data())
        if place == "outside":
            w.net.zero_grad(set_to_none=none)
        return out

    w = both(script, body=body, optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
    assert sum(map(len, w.call.variants.values())) <= 2


def test_accumulation_over_several_calls():
    def body(net, opt):
        def accumulate(x, y):
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        return accumulate

    def script(w, i):
        out = w.call(*data())
        if i % 3 == 2:
            w.opt.step()
            w.opt.zero_grad()
        return out

    w = both(script, body=body)
    assert sum(map(len, w.call.variants.values())) == 2, "one with gradients, one without"


def test_parameters_that_are_not_used_keep_no_gradient():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x):
            return self.used(x)

    def body(net, opt):
        def step(x, y):
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            return loss

        return step

    w = both(plain, body=body, model=Net, optimizer=lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1))
    assert w.net.idle.weight.grad is None


def test_the_step_before_backward():
    def body(net, opt):
        def step(x, y):
            opt.step()
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        return step

    both(plain, body=body, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))


def test_looking_at_a_gradient_and_setting_it():
    def body(net, opt):
        def step(x, y):
            for p in net.parameters():
                if p.grad is not None:
                    p.grad.zero_()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            with torch.no_grad():
                for p in net.parameters():
                    p -= 0.1 * p.grad
                net[0].weight.grad = net[0].weight.grad * 2
            return loss

        return step

    both(plain, body=body)


def test_several_losses_and_retained_graphs():
    def body(net, opt):
        def step(x, y):
            opt.zero_grad()
            h = net(x)
            first, second = F.cross_entropy(h, y), (h * h).mean()
            first.backward(retain_graph=True)
            second.backward()
            opt.step()
            return first.detach(), second

        return step

    both(plain, body=body)


def test_two_optimizers_on_one_model():
    def body(net, opt):
        other = torch.optim.Adam(net[2].parameters(), lr=0.01)

        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            other.step()
            return loss

        return step

    both(plain, body=body)


def test_groups_with_options_of_their_own():
    def optimizer(p):
        p = list(p)
        return torch.optim.SGD([{"params": p[:2], "lr": 0.01}, {"params": p[2:], "momentum": 0.9}], lr=0.1)

    def script(w, i):
        w.opt.param_groups[1]["lr"] = 0.1 / (i + 1)
        return w.call(*data())

    both(script, optimizer=optimizer)


def test_optimizers_of_users_with_built_in_numbers():
    class Mine(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1})

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p -= p.grad * group["lr"]

    def script(w, i):
        w.opt.param_groups[0]["lr"] = 0.1 if i < 4 else 0.01
        return w.call(*data())

    w = both(script, optimizer=Mine)
    assert sum(map(len, w.call.variants.values())) == 2


def test_data_that_the_step_replaces():
    """``w.data = …`` gives w other memory: who kept the memory from before still has the numbers from before."""

    def make():
        w = torch.tensor([[1.0, -2.0], [0.5, 3.0], [1.5, 0.25]], requires_grad=True)

        def step(x):
            loss = ((x @ w) ** 2).mean()
            loss.backward()
            w.data = w.data - 0.1 * w.grad
            w.grad.zero_()
            return loss

        return w, step

    w, step = make()
    eager_w, eager = make()
    compiled = torch.compile(step)
    for i in range(5):
        x = torch.tensor(X[4 * i : 4 * i + 4, :3])
        kept, content = w.data, w.detach().clone()
        assert compiled(x).item() == pytest.approx(eager(x).item(), rel=1e-5)
        assert torch.equal(kept, content)
        np.testing.assert_allclose(w.detach().numpy(), eager_w.detach().numpy(), rtol=1e-5)
    assert len(next(iter(compiled.variants.values()))) <= 2

    def doubles(x):
        x.data = x * 2
        return x.sum()

    doubles = torch.compile(doubles)
    for _ in range(2):
        x = torch.ones(2)
        assert doubles(x).item() == 4.0
        assert x.tolist() == [2.0, 2.0]


def test_weight_clipping_as_in_a_wasserstein_gan():
    def body(net, opt):
        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            for p in net.parameters():
                p.data.clamp_(-0.1, 0.1)
            return loss

        return step

    both(plain, body=body)


def test_frozen_part_as_in_a_gan():
    def body(net, opt):
        def step(x, y):
            for p in net[0].parameters():
                p.requires_grad_(False)
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            for p in net[0].parameters():
                p.requires_grad_(True)
            return loss

        return step

    both(plain, body=body)


RANDOM = {
    "rand": lambda x: torch.rand(3, 2), "randn": lambda x: torch.randn(4), "randn_like": torch.randn_like,
    "randint": lambda x: torch.randint(0, 9, (5,)), "randperm": lambda x: torch.randperm(6),
    "normal": lambda x: torch.normal(1.0, 2.0, (3,)), "uniform_": lambda x: torch.zeros(3).uniform_(-1, 1),
    "normal_": lambda x: torch.zeros(3).normal_(), "bernoulli": lambda x: torch.bernoulli(torch.sigmoid(x)),
    "bernoulli p": lambda x: torch.bernoulli(x, 0.3), "normal of tensors": lambda x: torch.normal(x, torch.exp(x)),
    "exponential_": lambda x: torch.zeros(4).exponential_(), "dropout2d": lambda x: F.dropout2d(x.reshape(2, 3, 1, 4)),
    "alpha_dropout": lambda x: F.alpha_dropout(x), "gumbel": lambda x: F.gumbel_softmax(x),
    "rrelu": lambda x: F.rrelu(x, training=True),
}  # fmt: skip


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_are_those_of_eager_code(name):
    """The same stream, whether or not calls are mixed."""
    x = torch.tensor(X.reshape(-1)[:24].reshape(4, 6))
    f = torch.compile(RANDOM[name])
    torch.manual_seed(3)
    expected = [RANDOM[name](x).numpy().copy() for _ in range(6)]
    torch.manual_seed(3)
    for i, e in enumerate(expected):
        np.testing.assert_allclose((RANDOM[name] if i == 3 else f)(x).numpy(), e, rtol=1e-5, atol=1e-6)


def test_numbers_from_outside_are_noticed():
    holder = {"scale": 2.0}

    class Settings:
        shift = 0.0
        other = 0

    settings = Settings()
    settings.shift = 1.0
    factor = 3.0

    @torch.compile
    def f(x):
        return x * holder["scale"] * factor + settings.shift

    x = torch.ones(2)
    for scale, shift, factor in [(2.0, 1.0, 3.0), (5.0, 1.0, 3.0), (5.0, 0.5, 3.0), (5.0, 0.5, 2.0), (2.0, 1.0, 3.0)]:
        holder["scale"], settings.shift = scale, shift
        settings.other += 1  # nobody in f names it
        assert f(x).tolist() == [scale * factor + shift] * 2
        assert f(x).tolist() == [scale * factor + shift] * 2
    assert len(next(iter(f.variants.values()))) == 4


def test_attributes_of_modules_are_noticed():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.k, self.parts = 2.0, [1.0, 2.0]

        def forward(self, x):
            return x * self.k + sum(self.parts)

    net = nn.Sequential(Scale(), nn.Dropout(0.5))
    f = torch.compile(lambda x: net(x))
    net.eval()
    x = torch.ones(2)
    for k, parts in [(2.0, [1.0, 2.0]), (3.0, [1.0, 2.0]), (3.0, [1.0, 5.0]), (3.0, [1.0])]:
        net[0].k, net[0].parts[:] = k, parts
        assert f(x).tolist() == net(x).tolist()
        assert f(x).tolist() == net(x).tolist()
    net.train()
    net[1].p = 0.0
    assert f(x).tolist() == net(x).tolist()
    net[1].p = 1.0
    assert f(x).tolist() == [0.0, 0.0]


def test_zeros_made_inside_start_anew_in_every_run():
    def count(x):
        total = torch.zeros(3)
        for i in range(2):
            total[i] += x.sum() * (i + 1)
        total += x
        return total

    f = torch.compile(count)
    for k in range(4):
        x = torch.tensor([1.0, 2.0, float(k)])
        assert f(x).tolist() == count(x).tolist()


def test_numbers_that_nobody_can_change_are_folded():
    w = World()
    f = torch.compile(w.step)
    f(*data())
    program = f._last.step.program
    live = [a for a in program.constants.values() if not a.shape]
    assert len(live) == 1, "the learning rate; the 1 that backward starts from is a literal"


def test_calls_leave_nothing_for_the_garbage_collector():
    import gc

    f = torch.compile(lambda x: (x * 2, {"sum": x.sum(), "row": x[0]}))
    f(torch.ones(2, 3))
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            f(torch.ones(2, 3))
        assert gc.collect() == 0
    finally:
        gc.enable()
