"""In-place writes, views and their histories: the same program in chainrule and in PyTorch gives the same values and
gradients, or the same kind of error."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import chainrule

VIEWS = {
    "row": "v = y[1]",
    "slice": "v = y[:, 1:3]",
    "stepped": "v = y[::2]",
    "transposed": "v = y.t()",
    "view": "v = y.view(-1)",
    "chain": "v = y.t()[1:3].unsqueeze(0)",
    "twice": "u = y[1:]; v = u[0]",
    "diagonal": "v = y.diagonal()",
    "select": "v = y.select(1, 2)",
    "narrow": "v = y.narrow(0, 1, 2)",
    "squeeze": "v = y.unsqueeze(1).squeeze()",
    "permute": "v = y.permute(1, 0)",
    "chunk": "v = y.chunk(2, 0)[0]",
    "unbind": "v = y.unbind(0)[1]",
    "whole": "v = y",
    "detached": "v = y.detach()",
}
WRITES = {
    "add": "v.add_(1)",
    "mul": "v.mul_(w.sum())",
    "iadd": "v += w[0, 0]",
    "imul": "v *= v",
    "isub": "v -= 2 * v",
    "idiv": "v /= 3",
    "zero": "v.zero_()",
    "fill": "v.fill_(2.5)",
    "fill tensor": "v.fill_(w[1, 1])",
    "copy": "v.copy_(w.sum() * torch.ones(v.shape, dtype=torch.float64))",
    "first": "v[0] = 7.0",
    "first weight": "v[0] = w[0, 0] * 2",
    "first add": "v[0] += w[1, 2]",
    "mask": "v[v > 1] = 0.5",
    "mask weight": "v[v > 1] = w[2, 2]",
    "masked fill": "v.masked_fill_(v > 1, 3.0)",
    "indexed": "v[torch.tensor([0, 0])] = 4.0",
    "no grad": "with torch.no_grad(): v.mul_(2)",
    "exp": "v.exp_()",
    "base": "y.mul_(w)",
    "base row": "y[1] = w[0]",
    "base then view": "y.mul_(2); v.add_(w[0, 1])",
    "view then base": "v.mul_(3); y.add_(w)",
    "both twice": "v.add_(1); y.mul_(w); v.mul_(2); y[0] = 0",
}
READS = {
    "base": "z = (y * y).sum()",
    "view": "z = (v * v).sum()",
    "both": "z = (v.exp()).sum() + (y * y).sum()",
    "sibling": "z = (y[1] * y[1]).sum() + y[0, 1]",
}


def run(lib, source, data):
    """Run a program; give its outputs and gradients, or the kind of its error."""
    names = {"torch": lib}
    for name in ("x", "w"):
        names[name] = lib.tensor(data[name].tolist(), dtype=lib.float64, requires_grad=True)
    try:
        exec(source, names)
        names["z"].backward()
    except (RuntimeError, IndexError, TypeError) as error:
        return type(error).__mro__[-3 if isinstance(error, LookupError) else -2].__name__, first_words(error)
    return [None if a is None else np.array(a.detach().numpy()) for a in
            (names["y"], names["v"], names["z"], names["x"].grad, names["w"].grad)]  # fmt: skip


def first_words(error):
    """What an error says, up to the part that names an op (PyTorch's kernels have names of their own)."""
    text = str(error).split("\n")[0]
    # A split of a tensor without history: PyTorch says "made in no_grad mode", which it was not.
    several = " is a view and " in text or text.startswith("A view was created in no_grad mode")
    return "is a view and" if several else text[:60].split("[")[0]


def same(ours, theirs):
    if isinstance(ours, tuple) or isinstance(theirs, tuple):
        return isinstance(ours, tuple) and isinstance(theirs, tuple) and ours[1] == theirs[1]
    # A gradient of None and one of zeros say the same; PyTorch itself gives now one, now the other.
    for a, b in zip(ours, theirs, strict=True):
        if (a is None) != (b is None):
            if (b if a is None else a).any():
                return False
        elif a is not None and not np.allclose(a, b, rtol=1e-12, atol=1e-12):
            return False
    return True


# Where chainrule gives the gradient and PyTorch an error: x *= x (PyTorch saves one factor, then overwrites it); a view
# of a tensor that came to require grad later, written to twice; one of several views written to under no_grad.
LENIENT = {"imul", "both twice", "no grad"}
PROGRAMS = list(itertools.product(VIEWS, WRITES))


@pytest.mark.parametrize("tracked", ["y = x * 1", "y = torch.full((3, 4), 0.5, dtype=torch.float64)"])
@pytest.mark.parametrize(("view", "write"), PROGRAMS, ids=["/".join(p) for p in PROGRAMS])
def test_write_through_views(view, write, tracked):
    rng = np.random.default_rng(0)
    data = {"x": rng.uniform(0.2, 2, (3, 4)), "w": rng.uniform(0.2, 2, (3, 4))}
    for read in READS.values():
        source = "\n".join((tracked, VIEWS[view], WRITES[write], read))
        ours, theirs = run(chainrule, source, data), run(torch, source, data)
        if write in LENIENT and isinstance(theirs, tuple) and not isinstance(ours, tuple):
            continue
        assert same(ours, theirs), f"{source}\nours:   {ours}\nPyTorch: {theirs}"


LEAVES = ["x.add_(1)", "x[0] = 1.0", "x.view(-1).mul_(2)", "x.t_()", "x += 1", "x.zero_()", "x[x > 1] = 0.0",
          "x[torch.tensor([0])] = 1.0", "x.detach().mul_(2)", "x.data.mul_(2)",
          "x.expand(2, 3, 4).add_(1)"]  # fmt: skip


@pytest.mark.parametrize("write", LEAVES)
@pytest.mark.parametrize("mode", ["", "no_grad"])
def test_leaves(write, mode):
    data = {"x": np.ones((3, 4)), "w": np.ones((3, 4))}
    body = f"with torch.no_grad():\n    {write}" if mode else write
    source = f"{body}\ny = v = x * 1\nz = (x * w).sum()"
    ours, theirs = run(chainrule, source, data), run(torch, source, data)
    assert same(ours, theirs), f"{source}\nours:   {ours}\nPyTorch: {theirs}"


MODIFIED = ["y = x * 1; z = (y * y).sum(); y.add_(1)", "y = x.exp(); z = y.sum(); y[0] = 0.0",
            "y = x * 1; z = (y @ w.t()).sum(); y.zero_()", "y = x * 1; z = (y[0] * w[0]).sum(); y[1] = 2.0",
            "y = x * 1; z = (y + w).sum(); y.add_(1)", "y = x * 1; z = y.sin().sum(); y.detach().add_(1)",
            "y = x * 1; z = (y * 2).sum(); y.add_(1)"]  # fmt: skip


@pytest.mark.parametrize("source", MODIFIED)
def test_modified_since_saved(source):
    data = {"x": np.ones((3, 4)), "w": np.ones((3, 4))}
    ours, theirs = run(chainrule, source + "; v = y", data), run(torch, source + "; v = y", data)
    assert same(ours, theirs), f"{source}\nours:   {ours}\nPyTorch: {theirs}"


VERSIONS = ["x.add_(1)", "x[0] = 1", "x[0].add_(1); x.t().mul_(2)", "x.detach().add_(1)", "x.zero_(); x.fill_(2)",
            "y = x + 1", "x[x > 0] = 1", "x[torch.tensor([0])] = 1", "x.copy_(x + 1)"]  # fmt: skip


@pytest.mark.parametrize("write", VERSIONS)
def test_version_counters(write):
    versions = []
    for lib in (chainrule, torch):
        names = {"torch": lib, "x": lib.ones(3, 4)}
        exec(write, names)
        versions.append((names["x"]._version, names["x"][1]._version, names["x"].detach()._version))
    assert versions[0] == versions[1]


IN_PLACE_VIEWS = ["y.t_()", "y.squeeze_()", "y.unsqueeze_(1)", "y.transpose_(0, 1)", "y.unsqueeze_(0); y.squeeze_(0)",
                  "y.t_(); y.mul_(w.t())", "y.t_(); y[0] = w[:, 0]"]  # fmt: skip


@pytest.mark.parametrize("write", IN_PLACE_VIEWS)
def test_views_in_place(write):
    rng = np.random.default_rng(0)
    data = {"x": rng.uniform(0.2, 2, (3, 4)), "w": rng.uniform(0.2, 2, (3, 4))}
    source = f"y = x * 1\n{write}\nv = y\nz = (y * y).sum()"
    ours, theirs = run(chainrule, source, data), run(torch, source, data)
    assert same(ours, theirs), f"{source}\nours:   {ours}\nPyTorch: {theirs}"
