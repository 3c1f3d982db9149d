"""How tensors print: PyTorch's own output, written down."""

from __future__ import annotations

import pytest

import chainrule as torch

EXPECTED = [
    (lambda: torch.tensor(1.5), "tensor(1.5000)"),
    (lambda: torch.tensor([1.0, 2.0]), "tensor([1., 2.])"),
    (lambda: torch.tensor([1, -20]), "tensor([  1, -20])"),
    (lambda: torch.tensor([True, False]), "tensor([ True, False])"),
    (lambda: torch.tensor([1.0, float("nan"), float("inf")]), "tensor([1., nan, inf])"),
    (lambda: torch.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
    (lambda: torch.tensor([1.0], dtype=torch.float64), "tensor([1.], dtype=torch.float64)"),
    (lambda: torch.tensor([1], dtype=torch.int32), "tensor([1], dtype=torch.int32)"),
    (lambda: torch.tensor([]), "tensor([])"),
    (lambda: torch.zeros(0, 3), "tensor([], size=(0, 3))"),
    (lambda: torch.zeros(0, dtype=torch.int64), "tensor([], dtype=torch.int64)"),
    (lambda: torch.tensor([2.0], requires_grad=True), "tensor([2.], requires_grad=True)"),
    (lambda: torch.tensor([2.0], requires_grad=True) * 2, "tensor([4.], grad_fn=<MulBackward0>)"),
    (lambda: torch.tensor([[1.0, 2.5], [3.0, 4.0]]), "tensor([[1.0000, 2.5000],\n        [3.0000, 4.0000]])"),
    (
        lambda: torch.arange(8).reshape(2, 2, 2),
        "tensor([[[0, 1],\n         [2, 3]],\n\n        [[4, 5],\n         [6, 7]]])",
    ),
    (lambda: torch.arange(1001), "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    (lambda: torch.zeros(2000, 2)[:, :1].sum(), "tensor(0.)"),
]


@pytest.mark.parametrize(("make", "text"), EXPECTED, ids=[text[:30] for _, text in EXPECTED])
def test_repr(make, text):
    assert repr(make()) == text
    assert str(make()) == text


def test_summary_of_a_matrix():
    lines = repr(torch.zeros(100, 100)).split("\n")
    assert lines[0] == "tensor([[0., 0., 0.,  ..., 0., 0., 0.],"
    assert lines[3] == "        ...,"
    assert len(lines) == 7


def test_format_of_a_number_and_of_a_tensor():
    assert f"{torch.tensor(2.5):.2f}" == "2.50"
    assert f"{torch.ones(1)}" == "tensor([1.])"
    with pytest.raises(TypeError, match="unsupported format string"):
        f"{torch.ones(2):.2f}"


def test_print_options_change_and_return():
    try:
        torch.set_printoptions(precision=2, sci_mode=False)
        assert repr(torch.tensor([1.23456, 1e-5])) == "tensor([1.23, 0.00])"
    finally:
        torch.set_printoptions(profile="default")
    assert repr(torch.tensor(1.23456)) == "tensor(1.2346)"


def test_named_results_print_as_pytorch_prints_them():
    assert (
        repr(torch.max(torch.tensor([1.0, 3.0]), 0))
        == "torch.return_types.max(\nvalues=tensor(3.),\nindices=tensor(1))"
    )
