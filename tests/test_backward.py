"""The backward pass: accumulation, freeing, hooks, errors, and that gradients never share memory by accident."""

import gc
import threading
import weakref

import numpy as np
import pytest

import chainrule as torch
from chainrule.autograd import grad
from chainrule.errors import GradientError, ModifiedError


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.float64, requires_grad=True)


def test_the_lessons_first_example():
    x = torch.tensor(2.0, requires_grad=True)
    z = 3 * x**2
    z.backward()
    assert x.grad.item() == 12.0


def test_the_lessons_second_example():
    x = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    loss = torch.sin(x**2) ** 2
    loss.backward()
    assert x.grad.item() == pytest.approx(2 * np.sin(1.69) * np.cos(1.69) * 2 * 1.3, rel=1e-15)


def test_gradients_accumulate_into_the_same_tensor():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    first = x.grad
    (x * x).sum().backward()
    assert x.grad is first
    assert x.grad.tolist() == [4.0, 8.0]


def test_paths_that_meet_add_up():
    x = leaf(3.0)
    a = x * 2
    b = a * a + a
    b.sum().backward()
    assert x.grad.tolist() == [2 * 2 * 6.0 + 2]


def test_two_leaves_that_get_the_same_gradient_do_not_share_it():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x + y).backward(torch.ones(2, dtype=torch.float64))
    x.grad.zero_()
    assert y.grad.tolist() == [1.0, 1.0]


def test_the_given_gradient_is_not_shared_with_the_leaf():
    x = leaf(1.0, 2.0)
    g = torch.ones(2, dtype=torch.float64)
    x.backward(g)
    x.grad.mul_(5)
    assert g.tolist() == [1.0, 1.0]


def test_broadcast_gradients_own_their_memory():
    x = leaf(1.0, 2.0, 3.0)
    x.sum().backward()
    x.grad[0] = 7.0
    assert x.grad.tolist() == [7.0, 1.0, 1.0]


def test_a_second_backward_needs_retain_graph():
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [8.0]
    with pytest.raises(GradientError, match="Trying to backward through the graph a second time"):
        y.backward()


def test_saved_values_are_freed_by_backward():
    x = torch.tensor(np.ones(1000), requires_grad=True)
    h = torch.exp(x)
    y = torch.sin(h)
    array = weakref.ref(h.numpy(force=True))
    del h
    gc.collect()
    assert array() is not None, "sin needs its input"
    y.sum().backward()
    del y
    assert array() is None


def test_a_vector_needs_a_gradient():
    with pytest.raises(GradientError, match="grad can be implicitly created only for scalar outputs"):
        (leaf(1.0, 2.0) * 2).backward()


def test_the_gradient_must_have_the_outputs_shape():
    with pytest.raises(GradientError, match="Mismatch in shape"):
        (leaf(1.0, 2.0) * 2).backward(torch.ones(3, dtype=torch.float64))


def test_nothing_to_differentiate():
    with pytest.raises(GradientError, match="element 0 of tensors does not require grad"):
        torch.ones(()).backward()


def test_grad_leaves_dot_grad_alone():
    x = leaf(1.0, 2.0)
    (g,) = grad((x * x).sum(), x)
    assert g.tolist() == [2.0, 4.0]
    assert x.grad is None


def test_grad_of_an_intermediate():
    x = leaf(2.0)
    h = x * x
    y = (h * h * h).sum()
    gh, gx = grad(y, (h, x))
    assert gh.tolist() == [3 * 16.0]
    assert gx.tolist() == [3 * 16.0 * 4.0]


def test_an_unused_input():
    x, y = leaf(1.0), leaf(1.0)
    with pytest.raises(GradientError, match="appears to not have been used in the graph"):
        grad((x * x).sum(), (x, y))
    gx, gy = grad((x * x).sum(), (x, y), allow_unused=True)
    assert gx is not None
    assert gy is None
    assert grad((x * x).sum(), (x, y), materialize_grads=True)[1].tolist() == [0.0]


def test_higher_derivatives():
    x = leaf(0.7)
    y = torch.sin(x)
    for expected in (np.cos(0.7), -np.sin(0.7), -np.cos(0.7), np.sin(0.7)):
        (y,) = grad(y.sum(), x, create_graph=True)
        assert y.item() == pytest.approx(expected, rel=1e-14)


def test_create_graph_makes_dot_grad_differentiable():
    x = leaf(3.0)
    (x**3).sum().backward(create_graph=True)
    g = x.grad
    assert g.requires_grad
    x.grad = None
    g.sum().backward()
    assert x.grad.tolist() == [18.0]


def test_backward_into_chosen_inputs():
    x, w = leaf(2.0), leaf(5.0)
    (x * w).sum().backward(inputs=[w])
    assert x.grad is None
    assert w.grad.tolist() == [2.0]


def test_hooks_see_and_replace_the_gradient():
    x = leaf(1.0, 1.0)
    h = x * 2
    seen = []
    handle = h.register_hook(lambda g: seen.append(g.tolist()) or g * 10)
    h.sum().backward()
    assert seen == [[1.0, 1.0]]
    assert x.grad.tolist() == [20.0, 20.0]
    handle.remove()
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_a_leafs_hook_sees_the_sum_of_all_paths():
    x = leaf(1.0)
    seen = []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * 2 + x * 3).sum().backward()
    assert seen == [5.0]


def test_post_accumulate_hook():
    x = leaf(1.0)
    seen = []
    x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.item()))
    (x * 4).sum().backward()
    assert seen == [4.0]


def test_retain_grad():
    x = leaf(1.0, 2.0)
    h = x * 3
    h.retain_grad()
    (h * h).sum().backward()
    assert h.grad.tolist() == [6.0, 12.0]


def test_node_hooks():
    x = leaf(1.0)
    y = x * 2
    seen = []
    y.grad_fn.register_prehook(lambda outputs: (outputs[0] * 3,))
    y.grad_fn.register_hook(lambda inputs, outputs: seen.append((inputs[0].item(), outputs[0].item())))
    y.sum().backward()
    assert seen == [(6.0, 3.0)]


def test_a_changed_value_is_named_with_both_lines():
    w = leaf(1.0, 2.0)
    h = w * 1
    y = h * h
    h.mul_(3)
    with pytest.raises(ModifiedError) as caught:
        y.sum().backward()
    text = str(caught.value)
    assert "modified by an inplace operation" in text
    assert "y = h * h" in text
    assert "h.mul_(3)" in text


def test_changing_what_backward_does_not_need_is_fine():
    w = leaf(1.0, 2.0)
    h = w * 3
    y = h + 1  # add saves nothing
    h.mul_(2)
    y.sum().backward()
    assert w.grad.tolist() == [3.0, 3.0]


def test_leaves_reject_in_place_writes():
    x = leaf(1.0)
    with pytest.raises(GradientError, match="a leaf Variable that requires grad"):
        x.mul_(2)
    with torch.no_grad():
        x.mul_(2)
    assert x.tolist() == [2.0]
    assert x.is_leaf


def test_modes():
    x = leaf(1.0)
    with torch.no_grad():
        assert not (x * 2).requires_grad
        with torch.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad

    @torch.no_grad()
    def f(t: torch.Tensor) -> torch.Tensor:
        return t * 2

    assert not f(x).requires_grad
    with torch.set_grad_enabled(False):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    with torch.inference_mode():
        assert not (x * 2).requires_grad


def test_modes_belong_to_the_thread():
    seen = []
    with torch.no_grad():
        thread = threading.Thread(target=lambda: seen.append(torch.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_every_node_knows_the_users_expression():
    a, b = leaf(1.0), leaf(2.0)
    c = a * b + torch.sin(a)
    place = c.grad_fn.place
    assert place.expression == "a * b + torch.sin(a)"
    assert place.function.endswith("test_every_node_knows_the_users_expression")
    product, sine = (f for f, _ in c.grad_fn.next_functions)
    assert product.place.expression == "a * b"
    assert sine.place.expression == "torch.sin(a)"


def test_graph_attributes():
    x = leaf(1.0)
    y = x * 2
    assert x.is_leaf
    assert not y.is_leaf
    assert x.grad_fn is None
    assert y.grad_fn.name() == "MulBackward0"
    (accumulate, _), (nothing, _) = y.grad_fn.next_functions
    assert accumulate.variable is x
    assert nothing is None


def test_requires_grad_is_for_floating_point():
    x = torch.tensor([1, 2])
    with pytest.raises(RuntimeError, match="only Tensors of floating point dtype can require gradients"):
        x.requires_grad = True


def test_gradients_keep_the_leafs_dtype():
    for dtype in (torch.float16, torch.float32, torch.float64):
        x = torch.tensor([0.5, 0.25], dtype=dtype, requires_grad=True)
        other = torch.tensor([2.0, 3.0], dtype=torch.float64)
        (torch.exp(x) * 2.5 / 3 + x * other).sum().backward()
        assert x.grad.dtype is dtype


def test_nan_and_infinity_propagate():
    x = leaf(0.0, -1.0, np.inf)
    y = torch.log(x)
    y.sum().backward()
    assert y.detach().tolist()[0] == -np.inf
    assert np.isnan(y.detach().numpy()[1])
    assert x.grad.tolist() == [np.inf, -1.0, 0.0]
