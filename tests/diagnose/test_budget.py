"""The gradient-flow budget: parts that add up, and verdicts that no scale changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import chainrule as torch
from chainrule import nn
from chainrule.data import load_digits

F = nn.functional


def digits(n: int = 128) -> tuple[Any, Any]:
    table = load_digits()
    x = ((table.x[:n] - 4.9) / 6.0).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(np.asarray(table.y[:n]))


def deep(act: Any, depth: int, width: int = 32) -> Any:
    layers: list[Any] = []
    for i in range(depth):
        layers += [nn.Linear(64 if i == 0 else width, width), act()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.f = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        return x + torch.tanh(self.f(self.norm(x)))


NETS = {
    "sigmoid": lambda: deep(nn.Sigmoid, 8),
    "gelu": lambda: deep(nn.GELU, 5),
    "batchnorm": lambda: nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)),
    "residual": lambda: nn.Sequential(nn.Linear(64, 32), *[Block(32) for _ in range(6)], nn.Linear(32, 10)),
}


@pytest.mark.parametrize("name", NETS)
def test_parts_add_up_to_the_measured_change(name: str) -> None:
    torch.manual_seed(0)
    budget = torch.diagnose(NETS[name](), F.cross_entropy, digits(), cures=False).budget
    for layer in budget.layers:
        assert math.isclose(sum(layer.parts.values()), layer.change, abs_tol=1e-9)
    total = sum(layer.change for layer in budget.layers)
    assert math.isclose(total, budget.total, abs_tol=1e-9)


def test_the_measured_change_is_that_of_the_true_gradients() -> None:
    """Against retain_grad on the activations of a float64 network."""
    torch.manual_seed(0)
    net = deep(nn.Tanh, 4).double()
    x, y = digits()
    x = x.double()
    budget = torch.diagnose(net, F.cross_entropy, (x, y), cures=False).budget
    h, kept = x, []
    for m in net:
        h = m(h)
        if isinstance(m, nn.Tanh):
            h.retain_grad()
            kept.append(h)
    h.retain_grad()
    F.cross_entropy(h, y).backward()
    last = np.linalg.norm(h.grad.numpy())
    for layer, a in zip(budget.layers, kept, strict=False):
        assert math.isclose(layer.above, math.log(np.linalg.norm(a.grad.numpy()) / last), abs_tol=1e-9)


def test_activation_and_weight_parts_are_what_the_formulas_say() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 16), nn.Sigmoid(), nn.Linear(16, 16), nn.Sigmoid(), nn.Linear(16, 10)).double()
    x, y = digits()
    x = x.double()
    layer = torch.diagnose(net, F.cross_entropy, (x, y), cures=False).budget.layers[1]
    h1 = torch.sigmoid(net[0](x))
    h2 = torch.sigmoid(net[2](h1))
    out = net[4](h2)
    p = torch.softmax(out, dim=1).detach().numpy()
    p[np.arange(len(p)), y.numpy()] -= 1
    delta = p / len(p) @ net[4].weight.detach().numpy()
    s = h2.detach().numpy()
    through = delta * s * (1 - s)
    assert math.isclose(
        layer.parts["activation"], math.log(np.linalg.norm(through) / np.linalg.norm(delta)), abs_tol=1e-9
    )
    below = through @ net[2].weight.detach().numpy()
    assert math.isclose(layer.parts["weight"], math.log(np.linalg.norm(below) / np.linalg.norm(through)), abs_tol=1e-9)


@pytest.mark.parametrize("factor", [1e-6, 2.0**-20, 1e6])
@pytest.mark.parametrize("name", ["sigmoid", "gelu", "residual"])
def test_scaling_the_loss_changes_nothing(name: str, factor: float) -> None:
    torch.manual_seed(0)
    net = NETS[name]()
    plain = torch.diagnose(net, F.cross_entropy, digits(), cures=False)
    scaled = torch.diagnose(net, lambda out, y: factor * F.cross_entropy(out, y), digits(), cures=False)
    assert plain.codes == scaled.codes
    for a, b in zip(plain.budget.layers, scaled.budget.layers, strict=True):
        assert math.isclose(a.change, b.change, abs_tol=1e-5)
        if factor == 2.0**-20:  # a power of two changes no digit of a gradient: only the logarithms round
            assert math.isclose(a.change, b.change, abs_tol=1e-12)


@pytest.mark.parametrize("n", [16, 64, 512])
def test_the_batch_size_changes_no_verdict(n: int) -> None:
    torch.manual_seed(0)
    ill, well = deep(nn.Sigmoid, 10), deep(nn.ReLU, 3)
    assert torch.diagnose(ill, F.cross_entropy, digits(n), cures=False).codes == ["vanishing-gradient"]
    assert torch.diagnose(well, F.cross_entropy, digits(n), cures=False).codes == []


def test_a_gradient_below_the_smallest_float_is_still_measured() -> None:
    torch.manual_seed(0)
    budget = torch.diagnose(deep(nn.Sigmoid, 80, 16), F.cross_entropy, digits(), cures=False).budget
    assert -math.inf < budget.total < math.log(1e-50)


def test_forecast() -> None:
    torch.manual_seed(0)
    short = torch.diagnose(deep(nn.Sigmoid, 6), F.cross_entropy, digits(), cures=False).budget
    depth = short.forecast(1e-6)
    longer = torch.diagnose(deep(nn.Sigmoid, round(depth)), F.cross_entropy, digits(), cures=False).budget
    assert math.log(1e-8) < longer.total < math.log(1e-4)


def test_table_picture_and_svg(tmp_path: Any) -> None:
    from xml.etree import ElementTree

    torch.manual_seed(0)
    found = torch.diagnose(NETS["sigmoid"](), F.cross_entropy, digits(), cures=False)
    assert len(found.table().splitlines()) >= 9 + 2
    assert "forward signal" in found.picture()
    file = found.save(tmp_path / "flow.svg")
    root = ElementTree.fromstring(file.read_text(encoding="utf-8"))
    assert len(root.findall("{http://www.w3.org/2000/svg}rect")) > 9
