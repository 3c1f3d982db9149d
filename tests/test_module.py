"""Modules without PyTorch: registration, state, hooks, what the graph knows about them."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.state import state


class Net(cr.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = cr.nn.Linear(3, 4)
        self.b = cr.nn.Linear(4, 2)

    def forward(self, x):
        return self.b(cr.tanh(self.a(x)))


def test_the_graph_knows_its_modules():
    net = Net()
    y = net(cr.ones(1, 3))
    inner, outer = y.grad_fn.module
    assert inner is net.b
    assert outer[0] is net
    assert state.module is None


def test_the_module_chain_is_restored_after_an_error():
    net = Net()
    with pytest.raises(RuntimeError):
        net(cr.ones(1, 5))
    assert state.module is None


def test_tied_weights_count_once_and_train_together():
    net = Net()
    net.c = cr.nn.Linear(3, 4)
    net.c.weight = net.a.weight
    assert len(list(net.parameters())) == 5
    assert len(net.state_dict()) == 6
    (net.a(cr.ones(1, 3)).sum() + net.c(cr.ones(1, 3)).sum()).backward()
    np.testing.assert_array_equal(net.a.weight.grad.numpy(), np.full((4, 3), 2.0))


def test_assignment_moves_a_name_between_registers():
    m = cr.nn.Module()
    m.x = 3
    m.x = cr.nn.Parameter(cr.zeros(1))
    assert "x" in m._parameters
    assert "x" not in m.__dict__
    m.x = None
    assert m.x is None
    del m.x
    assert not hasattr(m, "x")
    m.x = cr.nn.Buffer(cr.ones(2), persistent=False)
    assert dict(m.named_buffers()).keys() == {"x"}
    assert not m.state_dict()
    m.x = cr.zeros(2)
    assert "x" in m._buffers
    m.y = cr.nn.ReLU()
    assert list(m._modules) == ["y"]


def test_missing_attribute_suggests():
    with pytest.raises(AttributeError) as error:
        Net().a.wieght
    assert error.value.name == "wieght"
    assert "weight" in dir(error.value.obj)


def test_load_changes_nothing_unless_all_fits():
    net, other = Net(), Net()
    saved = {**other.state_dict(), "b.bias": cr.zeros(7)}
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    with pytest.raises(RuntimeError, match=r"size mismatch for b.bias: copying a param with shape torch.Size\(\[7\]\)"):
        net.load_state_dict(saved)
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k])


def test_load_not_strict_and_assign():
    net, other = Net(), Net()
    result = net.load_state_dict({"a.weight": other.a.weight.detach(), "zzz": cr.zeros(1)}, strict=False)
    assert result.missing_keys == ["a.bias", "b.weight", "b.bias"]
    assert result.unexpected_keys == ["zzz"]
    np.testing.assert_array_equal(net.a.weight.detach().numpy(), other.a.weight.detach().numpy())
    doubled = {k: v.double() for k, v in other.state_dict().items()}
    assert repr(net.load_state_dict(doubled, assign=True)) == "<All keys matched successfully>"
    assert net.a.weight.dtype is cr.float64
    assert isinstance(net.a.weight, cr.nn.Parameter)
    assert net.a.weight.requires_grad


def test_state_dict_shares_memory_and_extra_state_travels():
    class Counting(cr.nn.Linear):
        count = 0

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, extra):
            self.count = extra["count"]

    m, n = Counting(1, 1), Counting(1, 1)
    m.count = 5
    saved = m.state_dict()
    assert list(saved) == ["weight", "bias", "_extra_state"]
    with cr.no_grad():
        m.bias.fill_(3.0)
    assert saved["bias"].item() == 3.0
    n.load_state_dict(saved)
    assert n.count == 5


def test_state_dict_hooks():
    net, seen = Net(), []
    net.register_state_dict_pre_hook(lambda m, prefix, keep: seen.append(prefix))
    net.register_state_dict_post_hook(lambda m, d, prefix, meta: d.__delitem__("a.bias"))
    net.register_load_state_dict_pre_hook(lambda m, d, *rest: d.update({"a.bias": cr.full((4,), 7.0)}))
    net.register_load_state_dict_post_hook(lambda m, keys: seen.append(keys.missing_keys))
    saved = net.state_dict()
    assert "a.bias" not in saved
    net.load_state_dict(saved)
    assert seen == ["", []]


def test_train_eval_apply_and_conversion():
    net = Net()
    seen = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "Linear", "Net"]
    assert not net.eval().b.training
    assert net.train().b.training
    (net(cr.ones(2, 3)) ** 2).sum().backward()
    assert net.double().a.weight.grad.dtype is cr.float64
    assert net.to("cpu", cr.float32).a.weight.dtype is cr.float32
    with pytest.raises(AssertionError, match="CUDA"):
        net.to("cuda")
    net.zero_grad()
    assert net.a.weight.grad is None


def test_hooks_can_be_removed_and_replace_values():
    net = Net()
    x = cr.ones(1, 3)
    plain = net(x).detach().numpy()
    with net.register_forward_hook(lambda m, args, out: out * 2):
        np.testing.assert_allclose(net(x).detach().numpy(), 2 * plain)
    np.testing.assert_array_equal(net(x).detach().numpy(), plain)
    handle = net.register_forward_pre_hook(lambda m, args: (args[0] * 0,))
    assert not np.array_equal(net(x).detach().numpy(), plain)
    handle.remove()
    order = []
    net.register_forward_hook(lambda *a: order.append(1))
    net.register_forward_hook(lambda *a: order.append(2), prepend=True)
    net(x)
    assert order == [2, 1]


def test_always_called_hook_runs_after_an_error():
    net, seen = Net(), []
    net.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    with pytest.raises(RuntimeError):
        net(cr.ones(1, 5))
    assert seen == [None]


def test_backward_hook_without_input_gradient():
    net, seen = Net(), []
    net.a.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].shape)))
    net(cr.ones(2, 3)).sum().backward()
    assert seen == [((None,), (2, 4))]


def test_parameters_to_vector_and_back():
    net, other = Net(), Net()
    vector = cr.nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (3 * 4 + 4 + 4 * 2 + 2,)
    cr.nn.utils.vector_to_parameters(vector, other.parameters())
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_clip_grad_value_and_nonfinite():
    w = cr.nn.Parameter(cr.zeros(3))
    w.grad = cr.tensor([5.0, -0.5, -7.0])
    cr.nn.utils.clip_grad_value_([w], 1.0)
    np.testing.assert_array_equal(w.grad.numpy(), [1.0, -0.5, -1.0])
    w.grad = cr.tensor([float("nan"), 0.0, 0.0])
    with pytest.raises(RuntimeError, match="non-finite"):
        cr.nn.utils.clip_grad_norm_([w], 1.0, error_if_nonfinite=True)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_norm_survives_the_range_of_float32(scale):
    w = cr.nn.Parameter(cr.zeros(4))
    w.grad = cr.tensor([3.0, 0.0, 4.0, 0.0]) * scale
    assert cr.nn.utils.clip_grad_norm_(w, 1e30).item() == pytest.approx(5 * scale, rel=1e-6)
