"""Memory: views by strides, their gradients, storages, and tensors that are given other memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule

# How x is made from a leaf of shape (4, 6), and the geometry taken from it: overlapping, with gaps, beyond x itself.
MAKES = [
    ("x", lambda x: x), ("x.t()", lambda x: x.t()), ("x[1:]", lambda x: x[1:]), ("x[:, ::2]", lambda x: x[:, ::2]),
    ("expanded", lambda x: x[0].expand(3, 6)), ("x * 2", lambda x: x * 2),
]  # fmt: skip
GEOMETRIES = [
    ((2, 3), (6, 1), None), ((3, 3), (1, 1), 0), ((2, 2), (1, 6), 1), ((4,), (2,), None), ((), (), 2),
    ((2, 2), (0, 1), None),
]  # fmt: skip


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize(("name", "make"), MAKES, ids=[n for n, _ in MAKES])
def test_values_and_gradients(name, make, geometry):
    found = []
    for T in (chainrule, torch):
        leaf = T.arange(24.0, dtype=T.float64).reshape(4, 6).clone().requires_grad_()
        x = make(leaf)
        y = T.as_strided(x, *geometry)
        weights = T.arange(1.0, 1 + y.numel(), dtype=T.float64).reshape(y.shape)
        (first,) = T.autograd.grad((y * y * weights).sum(), leaf, create_graph=True)
        (second,) = T.autograd.grad((first * first).sum(), leaf, allow_unused=True)
        found.append([y, first, second])
        assert y.stride() == (geometry[1] if y.numel() else y.stride())
        assert y.numel() == 0 or y.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    for ours, theirs in zip(*found, strict=True):
        a, b = (np.zeros((4, 6)) if t is None else t.detach().numpy() for t in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_write_through_the_view_is_a_write_to_the_base():
    for T in (chainrule, torch):
        leaf = T.arange(6.0).requires_grad_()
        x = leaf * 1
        x.as_strided((2,), (2,), 1).mul_(10)
        assert x.tolist() == [0.0, 10.0, 2.0, 30.0, 4.0, 5.0]
        x.sum().backward()
        assert leaf.grad.tolist() == [1.0, 10.0, 1.0, 10.0, 1.0, 1.0]


def test_a_write_that_could_not_be_followed_is_refused():
    x = chainrule.arange(6.0).reshape(2, 3).requires_grad_() * 1
    part = x[:, ::2].as_strided((2,), (3,), 0)
    with pytest.raises((RuntimeError, ValueError)):
        part.mul_(2)
        x.sum().backward()


@pytest.mark.parametrize(("size", "stride", "offset"), [((4, 4), (3, 1), 0), ((2,), (1,), 5), ((2,), (1,), -1)])
def test_out_of_memory_is_said_as_in_pytorch(size, stride, offset):
    messages = []
    for T in (chainrule, torch):
        with pytest.raises(RuntimeError) as error:
            T.as_strided(T.arange(6.0), size, stride, offset)
        messages.append(str(error.value).splitlines()[0])
    assert messages[0] == messages[1]


CALLS = (
    """
x.clone().resize_(2, 2) | x.clone().resize_(6) | x.clone().resize_as_(T.zeros(2, 2)) | x.clone().set_(T.ones(2))
T.tensor([]).set_(x, 0, (2,), (2,)) | T.tensor([]).set_() | T.tensor([]).set_(x.untyped_storage(), 1, (2, 2), (3, 1))
T.as_strided_scatter(x, T.ones(2, 2), (2, 2), (3, 1), 1) | x.clone().as_strided_((2, 2), (1, 2), 1)
x.clone().apply_(lambda v: v * v) | x.clone().map_(x, lambda a, b: a + b) | x.clone().map2_(x, x, lambda a, b, c: c)
x.new(2, 3).shape | x.new([1, 2]) | x.new(x) | x.is_same_size(x.t()) | T.is_same_size(x, x) | x.sum_to_size(1, 3)
x.sum_to_size(3) | x.sum_to_size(2, 1) | x.dim_order() | x.t().dim_order() | x.is_set_to(x[:]) | x.is_set_to(x.clone())
T.empty_permuted((2, 3, 4), (2, 0, 1)).stride() | x.new_empty_strided((2, 2), (1, 2)).stride() | x.to_dense()
x[1].untyped_storage().nbytes() | len(x.untyped_storage()) | x.t()[1:].storage_offset()
x.untyped_storage()[4:8].tolist()
x.untyped_storage().data_ptr() == x.data_ptr() | x[1].data_ptr() - x.data_ptr() | x.as_subclass(T.Tensor)
x.is_nested | x.is_mps | x.is_xpu | x.is_sparse_csr | x.is_conj() | x.grad_dtype | x.dense_dim() | x.sparse_dim()
x.coalesce() | x.values() | x.indices() | x.crow_indices() | x.imag | T.imag(x) | x.real | x.dequantize()
x.is_distributed()
T.as_strided(x, (2, 0), (1, 1)) | x.clone().resize_(-1, 2) | x.clone().requires_grad_().resize_(2)
x.sum_to_size(2, 2) | T.tensor([]).set_(T.tensor([1]))
x.clone().requires_grad_().apply_(abs) | x.as_subclass(3) | T.empty_permuted((2, 3), (0, 0))
""".strip()
    .replace("\n", " | ")
    .split(" | ")
)


@pytest.mark.parametrize("call", CALLS)
def test_same_as_pytorch(call):
    found = []
    for T in (chainrule, torch):
        try:
            r = eval(call, {"T": T, "x": T.arange(6.0).reshape(2, 3)})
            found.append((r.tolist(), tuple(r.shape), str(r.dtype)) if isinstance(r, T.Tensor) else str(r))
        except (RuntimeError, TypeError) as error:
            found.append((isinstance(error, TypeError), str(error).splitlines()[0]))
    assert found[0] == found[1]


def test_storage_is_shared_memory():
    x = chainrule.arange(4.0)
    bytes_of = x[2:].untyped_storage()
    bytes_of.fill_(0)
    assert x.tolist() == [0.0] * 4
    assert bytes_of == x.untyped_storage()
    with pytest.warns(UserWarning, match="TypedStorage is deprecated"):
        numbers = x.storage()
    numbers[1] = 5
    assert (x.tolist(), numbers.tolist(), len(numbers)) == ([0.0, 5.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0], 4)
