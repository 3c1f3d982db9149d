"""Every optimizer follows PyTorch's trajectory over a grid of arguments: relative 1e-12 in float64, 1e-5 in float32.

The gradients are a fixed sequence (some of them None, some repeated with the other sign), so errors do not grow through
the loss and a difference is a difference of the update rule.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import chainrule as cr

SHAPES = [(3, 4), (4,), (), (130, 130), (1, 2, 3)]
COMMON = {"weight_decay": [0, 0.03], "maximize": [False, True]}
GRID = {
    "SGD": {"lr": [0.05], "momentum": [0, 0.9], "dampening": [0, 0.3], "nesterov": [False, True], **COMMON},
    "Adam": {"lr": [0.02], "betas": [(0.9, 0.999), (0.3, 0.6), (0.0, 0.0)], "eps": [1e-8, 1e-3],
             "amsgrad": [False, True], **COMMON},
    "AdamW": {"lr": [0.02], "betas": [(0.9, 0.999), (0.3, 0.6)], "amsgrad": [False, True], **COMMON},
    "Adamax": {"lr": [0.02], "betas": [(0.9, 0.999), (0.3, 0.6)], "eps": [1e-8, 1e-3], **COMMON},
    "NAdam": {"lr": [0.02], "momentum_decay": [4e-3, 0.1], "decoupled_weight_decay": [False, True], **COMMON},
    "RAdam": {"lr": [0.02], "betas": [(0.9, 0.999), (0.3, 0.6), (0.9, 0.95)], "decoupled_weight_decay": [False, True],
              **COMMON},
    "RMSprop": {"lr": [0.02], "alpha": [0.99, 0.5], "momentum": [0, 0.9], "centered": [False, True], **COMMON},
    "Adagrad": {"lr": [0.02], "lr_decay": [0, 0.1], "initial_accumulator_value": [0, 0.5], **COMMON},
    "Adadelta": {"lr": [1.0, 0.3], "rho": [0.9, 0.5], "eps": [1e-6, 1e-2], **COMMON},
    "Rprop": {"lr": [0.02], "etas": [(0.5, 1.2), (0.3, 1.5)], "step_sizes": [(1e-6, 50), (0.01, 0.03)],
              "maximize": [False, True]},
    "ASGD": {"lr": [0.02], "lambd": [1e-4, 0.1], "alpha": [0.75], "t0": [1e6, 5.0], **COMMON},
}  # fmt: skip


def _cases():
    for name, grid in GRID.items():
        for values in itertools.product(*grid.values()):
            options = dict(zip(grid, values, strict=True))
            if options.get("nesterov") and (options["momentum"] == 0 or options["dampening"] != 0):
                continue
            yield pytest.param(name, options, id=f"{name}-" + "-".join(map(str, values)))


def _gradients(steps, dtype):
    rng = np.random.default_rng(7)
    for _ in range(steps):
        yield [rng.normal(size=s).astype(dtype) for s in SHAPES]


def _pair(name, options, dtype):
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=s).astype(dtype) for s in SHAPES]
    ours = [cr.nn.Parameter(cr.tensor(a.copy())) for a in arrays]
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
    return ours, theirs, getattr(cr.optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)


def _assert_equal(ours, theirs, rtol, atol=0.0):
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=rtol, atol=atol)


@pytest.mark.parametrize(("name", "options"), list(_cases()))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_trajectory(name, options, dtype):
    ours, theirs, opt, ref = _pair(name, options, dtype)
    # Adamax, Adadelta and the like divide by small numbers: an entry near 0 is compared by what the others are.
    rtol, atol = (1e-12, 1e-13) if dtype == "float64" else (2e-5, 2e-6)
    for k, gradients in enumerate(_gradients(20, dtype)):
        for i, (p, q, g) in enumerate(zip(ours, theirs, gradients, strict=True)):
            absent = k in (5, 6) and i == 1
            p.grad = None if absent else cr.tensor(g)
            q.grad = None if absent else torch.tensor(g)
        opt.step()
        ref.step()
        _assert_equal(ours, theirs, rtol, atol)
    _assert_state(opt, ref, rtol, atol)


def _assert_state(opt, ref, rtol, atol):
    mine, other = opt.state_dict(), ref.state_dict()
    assert mine["state"].keys() == other["state"].keys()
    for number, state in other["state"].items():
        known = {k: v for k, v in state.items() if v is not None}
        assert set(mine["state"][number]) == set(known)
        for key, value in known.items():
            got = mine["state"][number][key]
            np.testing.assert_allclose(got.numpy(), value.numpy(), rtol=rtol, atol=atol, err_msg=key)
            assert str(got.dtype) == str(value.dtype)
    assert [set(g) for g in mine["param_groups"]] == [set(g) for g in other["param_groups"]]
    assert repr(opt) == repr(ref)


@pytest.mark.parametrize("name", list(GRID))
def test_state_dict_travels_both_ways(name):
    """Half a run here, the other half there, and the other way round."""
    options = {"lr": 0.02}
    ours, theirs, opt, ref = _pair(name, options, "float64")
    ours2, theirs2, opt2, ref2 = _pair(name, options, "float64")
    steps = list(_gradients(10, "float64"))

    def run(params, optimizer, part, make):
        for gradients in part:
            for p, g in zip(params, gradients, strict=True):
                p.grad = make(g)
            optimizer.step()

    run(ours, opt, steps[:5], cr.tensor)
    run(theirs, ref, steps[:5], torch.tensor)

    def convert(tree, leaf, make):
        if isinstance(tree, leaf):
            return make(tree.numpy().copy())
        if isinstance(tree, dict):
            return {k: convert(v, leaf, make) for k, v in tree.items()}
        return [convert(v, leaf, make) for v in tree] if isinstance(tree, list) else tree

    opt2.load_state_dict(convert(ref.state_dict(), torch.Tensor, cr.tensor))
    ref2.load_state_dict(convert(opt.state_dict(), cr.Tensor, torch.tensor))
    for a, b, c, d in zip(ours2, theirs2, ours, theirs, strict=True):
        a.data.numpy()[...] = d.detach().numpy()
        b.data.copy_(torch.tensor(c.detach().numpy()))
    run(ours2, opt2, steps[5:], cr.tensor)
    run(theirs2, ref2, steps[5:], torch.tensor)
    run(ours, opt, steps[5:], cr.tensor)
    run(theirs, ref, steps[5:], torch.tensor)
    _assert_equal(ours, theirs, 1e-12, 1e-13)
    # A loaded state is compared with a loaded one: loading casts NAdam's mu_product to the parameters' dtype.
    _assert_equal(ours2, theirs2, 1e-12, 1e-13)


STATE = {"SGD": {"lr": 0.05, "momentum": 0.9}, "Adam": {"lr": 0.02, "amsgrad": True},
         "RMSprop": {"lr": 0.02, "momentum": 0.9, "centered": True}}  # fmt: skip


@pytest.mark.parametrize("name", list(GRID))
@pytest.mark.parametrize("how", ["data", "entry", "in place"])
def test_state_that_is_replaced(name, how):
    """Whatever is done to a tensor of the state, the next step goes on from there; small parameters and a large one."""
    ours, theirs, opt, ref = _pair(name, STATE.get(name, {"lr": 0.02}), "float64")
    for k, gradients in enumerate(_gradients(8, "float64")):
        for p, q, g in zip(ours, theirs, gradients, strict=True):
            p.grad, q.grad = cr.tensor(g), torch.tensor(g)
        opt.step()
        ref.step()
        if k not in (2, 3):
            continue
        for i in (1, 3):
            for key, old in ref.state[theirs[i]].items():
                if old is None or key == "mu_product" or (how == "in place" and not old.ndim):
                    continue  # parameters that are updated together count on one counter
                new = old.numpy() * 0.5 if old.ndim else old.numpy() + 2.0
                for state, make in ((opt.state[ours[i]], cr.tensor), (ref.state[theirs[i]], torch.tensor)):
                    other = make(new).to(state[key].dtype)
                    if how == "data":
                        state[key].data = other
                    elif how == "entry":
                        state[key] = other
                    else:
                        state[key].copy_(other)
    _assert_equal(ours, theirs, 1e-11, 1e-12)


def test_groups_and_changed_options():
    ours, theirs, *_ = _pair("SGD", {"lr": 0.1}, "float64")
    kinds = [{"lr": 0.1, "momentum": 0.5}, {"weight_decay": 0.1}]
    opt = cr.optim.SGD([{"params": ours[:2], **kinds[0]}, {"params": ours[2:], **kinds[1]}], lr=0.02)
    ref = torch.optim.SGD([{"params": theirs[:2], **kinds[0]}, {"params": theirs[2:], **kinds[1]}], lr=0.02)
    for k, gradients in enumerate(_gradients(8, "float64")):
        for p, q, g in zip(ours, theirs, gradients, strict=True):
            p.grad, q.grad = cr.tensor(g), torch.tensor(g)
        if k == 4:
            for o in (opt, ref):
                o.param_groups[0]["lr"] = 0.01
                o.param_groups[1]["weight_decay"] = 0
        opt.step()
        ref.step()
        _assert_equal(ours, theirs, 1e-12, 1e-14)
    assert repr(opt) == repr(ref)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.5, "max_iter": 7},
        {"history_size": 3},
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "history_size": 2, "max_iter": 4},
    ],
)
def test_lbfgs(options):
    rng = np.random.default_rng(1)
    a = rng.normal(size=(6, 6))
    a = a @ a.T + np.eye(6)
    start = rng.normal(size=6)

    def run(lib):
        x = lib.nn.Parameter(lib.tensor(start.copy()))
        matrix = lib.tensor(a)
        opt = lib.optim.LBFGS([x], **options)

        def closure():
            opt.zero_grad()
            loss = (x * (matrix @ x)).sum() * 0.5 + (x * x * x * x).sum() * 0.1 - x.sum()
            loss.backward()
            return loss

        seen = [opt.step(closure).item() for _ in range(4)]
        return x.detach().numpy(), seen, opt.state[x]["func_evals"]

    mine, losses, calls = run(cr)
    theirs, expected, expected_calls = run(torch)
    np.testing.assert_allclose(losses, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-9)
    assert calls == expected_calls


BAD = [
    ("SGD", {"lr": -1.0}), ("SGD", {"momentum": -0.1}), ("SGD", {"nesterov": True}), ("SGD", {"weight_decay": -1}),
    ("Adam", {"betas": (1.0, 0.9)}), ("Adam", {"betas": (0.9, -0.1)}), ("Adam", {"eps": -1.0}),
    ("RMSprop", {"alpha": -1}), ("RMSprop", {"momentum": -1}), ("Adadelta", {"rho": 2.0}),
    ("Adagrad", {"lr_decay": -1}), ("Adagrad", {"initial_accumulator_value": -1}), ("Rprop", {"etas": (2.0, 1.2)}),
    ("NAdam", {"momentum_decay": -1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), BAD, ids=str)
def test_refused_options(name, options):
    with pytest.raises(ValueError) as expected:
        getattr(torch.optim, name)([torch.nn.Parameter(torch.zeros(1))], **options)
    with pytest.raises(ValueError) as got:
        getattr(cr.optim, name)([cr.nn.Parameter(cr.zeros(1))], **options)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("make", [
    lambda lib, p: lib.optim.SGD([], lr=1.0),
    lambda lib, p: lib.optim.SGD(p, lr=1.0),
    lambda lib, p: lib.optim.SGD([3], lr=1.0),
    lambda lib, p: lib.optim.SGD([p * 2], lr=1.0),
    lambda lib, p: lib.optim.SGD([{"params": {p}}], lr=1.0),
    lambda lib, p: lib.optim.SGD([{"params": [p]}, {"params": [p]}], lr=1.0),
])  # fmt: skip
def test_refused_parameters(make):
    with pytest.raises((TypeError, ValueError)) as expected:
        make(torch, torch.nn.Parameter(torch.zeros(1)).requires_grad_())
    with pytest.raises(type(expected.value)) as got:
        make(cr, cr.nn.Parameter(cr.zeros(1)))
    assert str(got.value).splitlines()[0].replace("Parameter", "FloatTensor") == str(expected.value).replace(
        "torch.nn.parameter.Parameter", "torch.FloatTensor"
    ).replace("torch.nn.Parameter", "torch.FloatTensor")
