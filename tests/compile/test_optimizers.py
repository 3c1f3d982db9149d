"""Every optimizer of ``chainrule.optim`` in several settings: compiled training steps against eager ones."""

import numpy as np
import pytest

import chainrule as torch

nn, F, optim = torch.nn, torch.nn.functional, torch.optim
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 6)).astype(np.float32), RNG.integers(0, 4, 24)

SETTINGS = {
    "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
            {"momentum": 0.9, "nesterov": True}, {"maximize": True}, {"momentum": 0.9, "foreach": True}],
    "Adam": [{}, {"amsgrad": True}, {"weight_decay": 0.1}, {"betas": (0.5, 0.9), "eps": 1e-3}, {"maximize": True},
             {"foreach": True}, {"decoupled_weight_decay": True, "weight_decay": 0.1}],
    "AdamW": [{}, {"amsgrad": True}, {"weight_decay": 0.3}, {"foreach": True}],
    "Adamax": [{}, {"weight_decay": 0.1}],
    "NAdam": [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    "RAdam": [{}, {"weight_decay": 0.1}],
    "RMSprop": [{}, {"momentum": 0.9}, {"centered": True, "weight_decay": 0.1}],
    "Adagrad": [{}, {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.1}],
    "Adadelta": [{}, {"rho": 0.5, "weight_decay": 0.1}],
    "Rprop": [{}, {"etas": (0.4, 1.3)}],
    "ASGD": [{}, {"weight_decay": 0.1, "t0": 2.0}],
}  # fmt: skip
ELSEWHERE = {
    "Optimizer": "the base class",
    **dict.fromkeys(("LBFGS", "Adafactor", "Muon"), "choose their steps by values: refused with the line"),
    "SparseAdam": "takes sparse gradients only, which the engine does not make",
    "lr_scheduler": "schedules: test_live",
}


def test_no_optimizer_is_left_out():
    assert set(optim.__all__) == set(SETTINGS) | set(ELSEWHERE)


def make(name, options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    opt = getattr(optim, name)(net.parameters(), lr=0.02, **options)

    def step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    return net, opt, step


@pytest.mark.parametrize(("name", "options"), [
    pytest.param(name, options, id=f"{name}-{'-'.join(options) or 'plain'}")
    for name, several in SETTINGS.items() for options in several
])  # fmt: skip
def test_compiled_steps_equal_eager_ones(name, options):
    (net, opt, step), (other, other_opt, other_step) = make(name, options), make(name, options)
    compiled = torch.compile(step)
    x, y = torch.tensor(X), torch.tensor(Y)
    for k in range(6):
        if k == 3:  # a changed learning rate is live
            opt.param_groups[0]["lr"] = other_opt.param_groups[0]["lr"] = 0.005
        assert compiled(x, y).item() == pytest.approx(other_step(x, y).item(), rel=1e-5), k
    for (n, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=n)
    mine, theirs = opt.state_dict()["state"], other_opt.state_dict()["state"]
    assert mine.keys() == theirs.keys()
    for k in mine:
        assert mine[k].keys() == theirs[k].keys()
        for what, a in mine[k].items():
            if isinstance(a, torch.Tensor):
                np.testing.assert_allclose(a.numpy(), theirs[k][what].numpy(), rtol=1e-3, atol=1e-5, err_msg=what)


@pytest.mark.parametrize("name", ["LBFGS", "Adafactor", "Muon"])
def test_what_chooses_its_steps_by_values_is_refused_with_the_line(name):
    net = nn.Linear(6, 4, bias=False)
    opt = getattr(optim, name)(net.parameters())

    def step(x, y):
        def closure():
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        return opt.step(closure)

    x, y = torch.tensor(X), torch.tensor(Y)
    before = net.weight.detach().clone()
    with pytest.raises(torch.compile.CompileError, match=rf"(?s){name}.step.*test_optimizers.py:\d+"):
        torch.compile(step)(x, y)
    assert torch.equal(net.weight, before)
    with pytest.warns(UserWarning, match="runs eagerly"):
        torch.compile(step, fallback=True)(x, y)
    assert not torch.equal(net.weight, before)
