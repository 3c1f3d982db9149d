"""Convolutions and pooling, compiled: against eager in float64, over all settings, in one step with other layers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compile.programs import record, run

import chainrule as torch
from chainrule.core.variable import wrap

nn, F = torch.nn, torch.nn.functional


def with_gradients(function, *arrays):
    """The value of a function and its gradients along fixed directions (the last array)."""

    def f(*tensors):
        *given, direction = tensors
        leaves = [wrap(t._array, None, True) for t in given]
        with torch.enable_grad():
            y = function(*leaves)
            return [y, *torch.autograd.grad((y * direction).sum(), leaves)]

    return record(f, list(arrays))


@st.composite
def cases(draw):
    """A convolution that has at least one window: spatial axes, batch, channels and settings."""
    axes = draw(st.integers(1, 2))
    each = st.tuples(*[st.integers(1, 3)] * axes)
    kernel, stride, dilation = draw(st.tuples(*[st.integers(1, 4)] * axes)), draw(each), draw(each)
    padding = draw(st.tuples(*[st.integers(0, 3)] * axes))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    inputs, outputs = (groups * draw(st.integers(1, 5)) for _ in range(2))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = tuple(n + draw(st.integers(0, 9)) for n in least)
    batch = draw(st.sampled_from([1, 2, 3, 4, 8, 12, 16]))
    way = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return axes, batch, inputs, outputs, size, kernel, way


def compare(function, arrays, dtype, terms):
    """Compiled in ``dtype`` against eager in float64: the rounding of a sum of ``terms`` products, not more."""
    _, exact = with_gradients(function, *arrays)
    _, size = with_gradients(function, *[np.abs(a) for a in arrays])
    low = [a.astype(dtype) for a in arrays]
    program, _ = with_gradients(function, *low)
    got, step = run(program, low)
    assert not step.calls, [c.node.why for c in step.calls]
    for g, e, s in zip(got, exact, size, strict=True):
        assert g.dtype == dtype
        # Inputs and products round once each, the sum once per term.
        assert (np.abs(g - e) <= (terms + 4) * np.finfo(dtype).eps * s + 1e-300).all()


@settings(max_examples=60, deadline=None)
@given(case=cases(), dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 2**32 - 1))
def test_convolutions_with_any_settings(case, dtype, seed):
    axes, batch, inputs, outputs, size, kernel, way = case
    rng = np.random.default_rng(seed)
    function = F.conv1d if axes == 1 else F.conv2d
    x, w = rng.normal(size=(batch, inputs, *size)), rng.normal(size=(outputs, inputs // way["groups"], *kernel))
    b = rng.normal(size=outputs)
    grid = function(torch.tensor(x), torch.tensor(w), **way).shape
    arrays = [x, w, b, rng.normal(size=tuple(grid))]
    terms = max(w[0].size + 1, w[:, 0].size, batch * int(np.prod(grid[2:])))
    compare(lambda x, w, b: function(x, w, b, **way), arrays, dtype, terms)


@settings(max_examples=40, deadline=None)
@given(case=cases(), dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 2**32 - 1))
def test_transposed_convolutions_with_any_settings(case, dtype, seed):
    axes, batch, inputs, outputs, size, kernel, way = case
    rng = np.random.default_rng(seed)
    function = F.conv_transpose1d if axes == 1 else F.conv_transpose2d
    grid = [
        (n - 1) * s - 2 * p + d * (k - 1) + 1
        for n, k, s, p, d in zip(size, kernel, way["stride"], way["padding"], way["dilation"], strict=True)
    ]
    if min(grid) < 1:
        way = {**way, "padding": (0,) * axes}
    x, w = rng.normal(size=(batch, inputs, *size)), rng.normal(size=(inputs, outputs // way["groups"], *kernel))
    b = rng.normal(size=outputs)
    shape = tuple(function(torch.tensor(x), torch.tensor(w), **way).shape)
    arrays = [x, w, b, rng.normal(size=shape)]
    terms = max(w[:, 0].size + 1, w[0].size, batch * int(np.prod(size)))
    compare(lambda x, w, b: function(x, w, b, **way), arrays, dtype, terms)


@pytest.mark.parametrize(("inputs", "outputs", "size", "stride"), [
    (16, 8, (16, 16), 1), (12, 16, (32, 32), 2), (8, 6, (64, 64), 1), (6, 5, (128, 40), 1), (40, 3, (8, 8), 1),
])  # fmt: skip
def test_planes_that_share_cache_sets_and_bands_of_rows(inputs, outputs, size, stride):
    """Sizes for which rows are copied apart first, and images too large to be worked on as a whole."""
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(8, inputs, *size)), rng.normal(size=(outputs, inputs, 3, 3)), rng.normal(size=outputs)
    function = lambda x, w, b: F.conv2d(x, w, b, stride=stride, padding=1)
    shape = function(torch.tensor(x), torch.tensor(w), torch.tensor(b)).shape
    compare(function, [x, w, b, rng.normal(size=tuple(shape))], np.float32, 8 * size[0] * size[1])


@pytest.mark.parametrize("batch", [8, 6, 5])
def test_a_network_of_many_layers_stays_in_lanes(batch):
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.n = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
            self.b, self.m = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)

        def forward(self, x):
            return torch.relu(x + self.m(self.b(torch.relu(self.n(self.a(x))))))

    def make():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(2, 6, 3, stride=2, padding=1), Block(), nn.Conv2d(6, 6, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(6, 3),
        )  # fmt: skip
        opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            return loss

        return net, step

    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(batch, 2, 9, 10)).astype(np.float32))
    y = torch.tensor(rng.integers(0, 3, batch))
    (net, compiled), (same, eager) = make(), make()
    compiled = torch.compile(compiled)
    for _ in range(5):
        assert compiled(x, y).item() == pytest.approx(eager(x, y).item(), rel=1e-4)
    for (name, p), q in zip(net.state_dict().items(), same.state_dict().values(), strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)
    moved = [i.op.name for i in compiled._variant().step.program.instrs if i.op.name in ("to_lanes", "from_lanes")]
    assert len(moved) <= 3, "values are rearranged where they enter and leave, and nowhere else"
