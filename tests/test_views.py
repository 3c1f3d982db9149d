"""Views share memory and history; a value that backward needs and that was changed is told with both lines."""

from __future__ import annotations

import pytest

import chainrule as torch


@pytest.mark.parametrize(
    "view",
    [lambda x: x[0], lambda x: x[:, 1], lambda x: x.T, lambda x: x.reshape(-1), lambda x: x.diagonal(),
     lambda x: x.unbind()[1], lambda x: x.unfold(1, 2, 1), lambda x: x.unsqueeze(0), lambda x: x.detach()],
)  # fmt: skip
def test_views_share_memory_and_version(view):
    x = torch.zeros(3, 3)
    v = view(x)
    v.add_(1) if v.dim() < 3 or v.shape[0] == 1 else v[0].fill_(1)
    assert x.sum().item() > 0
    assert x._version == v._version == 1


def test_a_write_through_a_view_reaches_the_base_and_its_other_views():
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x = torch.zeros(2, 3)
    column = x[:, 0]
    x[1] = w * 2
    assert column.requires_grad
    (column * 5).sum().backward()
    assert w.grad.tolist() == [10.0, 0.0, 0.0]


def test_a_changed_value_is_told_with_both_lines():
    w = torch.ones(3, requires_grad=True)
    y = w * 1
    z = (y * y).sum()  # saved here
    y[0] = 5.0  # changed here
    with pytest.raises(RuntimeError) as error:
        z.backward()
    text = str(error.value)
    assert text.startswith("one of the variables needed for gradient computation has been modified by an inplace")
    assert "z = (y * y).sum()  # saved here" in text
    assert "y[0] = 5.0  # changed here" in text


def test_an_error_changes_nothing():
    x = torch.ones(2, 3)
    with pytest.raises(RuntimeError):
        x[0] = torch.ones(2)
    with pytest.raises(IndexError):
        x[torch.tensor([0, 5])] = 2.0
    with pytest.raises(RuntimeError):
        x.add_(torch.ones(4))
    assert x.tolist() == [[1.0] * 3] * 2
    assert x._version == 0
