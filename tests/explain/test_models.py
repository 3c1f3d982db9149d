"""Whole models: the printed program gives eager's bits, explained entries add up, with time linear in the graph."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import chainrule as torch
from chainrule import nn
from chainrule.explain import backward_source, backward_steps, explain
from chainrule.nn import functional as F


class Residual(nn.Module):
    def __init__(self, width=6, depth=3):
        super().__init__()
        self.inner = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(width) for _ in range(depth)])
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        for layer, norm in zip(self.inner, self.norms, strict=True):
            x = x + torch.relu(norm(layer(x)))
        return self.head(x)


class Attention(nn.Module):
    def __init__(self, width=8, heads=2):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (s.reshape(n, t, self.heads, d // self.heads).transpose(1, 2) for s in (q, k, v))
        scores = q @ k.transpose(-2, -1) / (d // self.heads) ** 0.5
        a = torch.softmax(scores, dim=-1) @ v
        x = x + self.out(a.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3 * 4 * 4, 3)

    def forward(self, x):
        h = F.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        return self.fc(h.flatten(1))


def _arrays(*shape):
    return torch.tensor(np.random.default_rng(5).normal(size=shape).astype("float32"))


def _loss(name):
    torch.manual_seed(0)
    y = torch.tensor([0, 2, 1, 1])
    if name == "residual":
        model = Residual()
        loss = F.cross_entropy(model(_arrays(4, 6)), y)
    elif name == "transformer":
        model = Attention()
        loss = (model(_arrays(2, 5, 8)) ** 2).mean()
    elif name == "lstm":
        model = Recurrent()
        loss = F.cross_entropy(model(_arrays(4, 5, 3)), torch.tensor([0, 1, 1, 0]))
    else:
        model = Convolutional()
        loss = F.cross_entropy(model(_arrays(4, 1, 8, 8)), y)
    return model, loss


_MODELS = ("residual", "transformer", "lstm", "convolutional")


@pytest.mark.parametrize("name", _MODELS)
def test_source_gives_eager_bits(name):
    model, loss = _loss(name)
    source = backward_source(loss)
    f = source.functions()
    value, cache = f["forward"](**source.inputs)
    gradients = f["backward"](cache)
    loss.backward()
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    named = dict(model.named_parameters())
    assert set(gradients) == set(named), source
    for key, p in named.items():
        np.testing.assert_array_equal(gradients[key], p.grad.numpy(), err_msg=f"{key}\n{source}")


@pytest.mark.parametrize("name", _MODELS)
def test_contributions_add_up(name):
    model, loss = _loss(name)
    parameters = dict(model.named_parameters())
    made = {key: explain(loss, p) for key, p in parameters.items()}
    loss.backward()
    for key, p in parameters.items():
        x = made[key]
        assert x.value == pytest.approx(p.grad.numpy()[x.entry], rel=1e-4, abs=1e-7)
        for e in x.chain:
            assert e.total == pytest.approx(e.value, rel=2e-3, abs=2e-6), f"{key}\n{x}"


@pytest.mark.parametrize("name", _MODELS)
def test_steps_end_with_grad(name):
    model, loss = _loss(name)
    steps = backward_steps(loss)
    assert steps.run() is None
    loss.backward()
    for key, p in model.named_parameters():
        np.testing.assert_array_equal(steps.gradients[key], p.grad.numpy())


def test_source_runs_with_numpy_alone(tmp_path):
    _, loss = _loss("residual")
    source = backward_source(loss)
    np.savez(tmp_path / "inputs.npz", **source.inputs)
    code = f"""
        import sys, numpy as np
        {"".join(f"sys.modules[{m!r}] = None; " for m in ("chainrule", "scipy", "torch"))}
        space = {{}}
        exec(open({str(tmp_path / "program.py")!r}, encoding="utf-8").read(), space)
        loss, cache = space["forward"](**np.load({str(tmp_path / "inputs.npz")!r}))
        np.savez({str(tmp_path / "found.npz")!r}, loss, **space["backward"](cache))
    """
    (tmp_path / "program.py").write_text(source, encoding="utf-8")
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "found.npz")
    loss.backward()
    assert float(found["arr_0"]) == pytest.approx(loss.item(), rel=1e-6)


def test_explaining_takes_time_linear_in_the_graph():
    def seconds(depth):
        w = torch.tensor(0.999, requires_grad=True)
        h = torch.tensor([1.0, 2.0])
        for _ in range(depth):
            h = torch.tanh(h) + h * w  # two paths a step: 2^depth in all
        loss = h.sum()
        start = time.perf_counter()
        x = explain(loss, w)
        assert x.chain[0].total == pytest.approx(x.value, rel=1e-3)
        return time.perf_counter() - start

    seconds(20)
    short, long = min(seconds(60) for _ in range(3)), min(seconds(240) for _ in range(3))
    assert long < 12 * short  # 4 times the graph; quadratic would be 16, exponential hopeless


def test_a_recurrence_has_its_gates_names():
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 4)
    x = torch.tensor(np.random.default_rng(1).normal(size=(6, 2, 3)).astype("float32"))
    out, _ = lstm(x)
    loss = (out[-1] ** 2).sum()
    printed = str(explain(loss, lstm.weight_ih_l0[0, 1]))
    assert "c6 = f6 · c5 + i6 · g6" in printed
    assert "h6 = o6 · tanh(c6)" in printed
    assert explain(loss, "c3", (1, 2)).value != 0
