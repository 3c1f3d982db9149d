"""Custom functions: forward and backward written out, at every order, with PyTorch's contract and messages."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import chainrule as torch
from chainrule.autograd import Function


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x * x


class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class Scale(Function):
    @staticmethod
    def forward(x, factor, label):
        return x * factor

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx, g):
        assert ctx.needs_input_grad == (True, False, False)
        return g * ctx.factor, None, None


class Both(Function):
    @staticmethod
    def forward(ctx, x):
        order = x.long()
        ctx.mark_non_differentiable(order)
        ctx.seen = None
        return x * 2, x * 3, order

    @staticmethod
    def backward(ctx, a, b, c):
        return a * 2 + b * 3


def leaf(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_first_and_higher_orders():
    for function, orders in ((Cube, (8.0, 12.0, 12.0, 6.0)), (Exp, (np.exp(2.0),) * 4)):
        x = leaf(2.0)
        y = function.apply(x)
        assert y.item() == pytest.approx(orders[0], rel=1e-14)
        for expected in orders[1:]:
            (y,) = torch.autograd.grad(y, x, create_graph=True)
            assert y.item() == pytest.approx(expected, rel=1e-14)


def test_node_is_named_after_the_class_and_seen_by_readers():
    x = leaf([1.0, 2.0])
    y = Cube.apply(x * 1)
    assert y.grad_fn.name() == "CubeBackward"
    assert y.grad_fn.next_functions[0][0].name() == "MulBackward0"
    assert y.grad_fn.op.name == "Cube"
    assert "Cube" not in __import__("chainrule.core.op", fromlist=["registry"]).registry
    assert y.grad_fn.place.source == "y = Cube.apply(x * 1)"


def test_setup_context_and_arguments_that_are_no_tensors():
    x = leaf([1.0, 2.0])
    Scale.apply(x, 3.0, "label").sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_several_outputs_and_one_without_gradient():
    x = leaf([1.0, 2.0])
    a, b, order = Both.apply(x)
    assert not order.requires_grad
    assert a.grad_fn is b.grad_fn
    b.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_unused_outputs_give_none_when_asked_to():
    seen = []

    class Quiet(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, a, b):
            seen.append((a, b))
            return b * 3

    x = leaf(1.0)
    Quiet.apply(x)[1].backward()
    assert seen[0][0] is None
    assert x.grad.item() == 3.0


def test_mark_dirty_writes_in_place():
    class Double(Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = leaf([1.0, 2.0])
    y = x * 1
    row = y[0]
    assert Double.apply(y) is y
    (row * 10 + y.sum()).backward()
    assert x.grad.tolist() == [22.0, 2.0]
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        Double.apply(x)


def test_returning_an_input_gives_another_tensor():
    class Same(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return -g

    x = leaf(1.0)
    y = Same.apply(x)
    assert y is not x
    y.backward()
    assert x.grad.item() == -1.0


class Wrong(Function):
    result = None

    @staticmethod
    def forward(ctx, x, k):
        return x * k

    @staticmethod
    def backward(ctx, g):
        return Wrong.result(g)


@pytest.mark.parametrize(
    ("result", "kind", "text"),
    [
        (lambda g: g, RuntimeError, r"WrongBackward returned an incorrect number of gradients \(expected 2, got 1\)"),
        (lambda g: (g, None, g), RuntimeError, r"incorrect number of gradients \(expected 2, got 3\)"),
        (lambda g: (g, g), RuntimeError, "returned a gradient different from None at position 2"),
        (lambda g: (torch.ones(3), None), RuntimeError,
         r"invalid gradient at index 0 - got \[3\] but expected shape compatible with \[2\]"),
        (lambda g: (1.0, None), TypeError, r"expected Variable or None \(got float\)"),
    ],
)  # fmt: skip
def test_wrong_backwards_are_told(result, kind, text):
    Wrong.result = staticmethod(result)
    with pytest.raises(kind, match=text):
        Wrong.apply(leaf([1.0, 2.0]), 2.0).sum().backward()


def test_extra_nones_and_broadcast_gradients_are_accepted():
    Wrong.result = staticmethod(lambda g: (torch.ones(5, 2, dtype=torch.float64), None, None))
    x = leaf([1.0, 2.0])
    Wrong.apply(x, 2.0).sum().backward()
    assert x.grad.tolist() == [5.0, 5.0]


def test_once_differentiable():
    class Once(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 2 * x

    x = leaf(3.0)
    (g,) = torch.autograd.grad(Once.apply(x) * x, x, create_graph=True)
    assert g.item() == 27.0
    with pytest.raises(
        RuntimeError, match="trying to differentiate twice a function that was marked with @once_differ"
    ):
        torch.autograd.grad(g, x)


def test_modified_after_saving():
    x = leaf([1.0, 2.0])
    y = x * 1
    z = Cube.apply(y)
    y.add_(1)
    with pytest.raises(RuntimeError, match="has been modified by an inplace operation"):
        z.sum().backward()


def test_saved_output_makes_no_cycle():
    gc.disable()
    try:
        y = Exp.apply(leaf(1.0))
        node = weakref.ref(y.grad_fn)
        del y
        assert node() is None
    finally:
        gc.enable()


def test_saved_tensors_hooks():
    packed = []

    def pack(t):
        packed.append(tuple(t.shape))
        return t.tolist()

    def unpack(values):
        return torch.tensor(values, dtype=torch.float64)

    x = leaf([1.0, 2.0])
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = (Cube.apply(x).sin() * x).sum()
    assert (2,) in packed
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    v = x.detach().numpy()
    np.testing.assert_allclose(g.detach().numpy(), np.sin(v**3) + v * np.cos(v**3) * 3 * v**2, rtol=1e-13)


def test_no_grad_records_nothing():
    with torch.no_grad():
        assert not Cube.apply(leaf(1.0)).requires_grad


def test_gradcheck_knows_right_from_wrong():
    x = leaf([0.5, -1.5])
    assert torch.autograd.gradcheck(Cube.apply, (x,))
    assert torch.autograd.gradgradcheck(Cube.apply, (x,))
    Wrong.result = staticmethod(lambda g: (g * 2.1, None))
    assert not torch.autograd.gradcheck(lambda t: Wrong.apply(t, 2.0), x, raise_exception=False)
    with pytest.raises(RuntimeError, match="Jacobian mismatch for output 0 with respect to input 0"):
        torch.autograd.gradcheck(lambda t: Wrong.apply(t, 2.0), x)
