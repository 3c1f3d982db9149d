"""Containers keep order, numbers and names, and count what is in them."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr

nn = cr.nn
WIDTH = st.integers(1, 5)


@given(st.lists(WIDTH, max_size=6), st.slices(6))
def test_lists_slice_as_lists_do(widths, part):
    layers = [nn.Linear(w, 1) for w in widths]
    for kind in (nn.ModuleList(layers), nn.Sequential(*layers)):
        assert list(kind) == layers
        assert list(kind[part]) == layers[part]
        assert len(kind) == len(layers)
        assert [n for n, _ in kind.named_children()] == [str(i) for i in range(len(layers))]


@given(st.lists(WIDTH, min_size=1, max_size=5), st.data())
def test_edits_follow_a_list(widths, data):
    layers = [nn.Linear(w, 1) for w in widths]
    mine, plain = nn.ModuleList(layers), list(layers)
    for _ in range(4):
        i = data.draw(st.integers(0, len(plain)))
        new = nn.ReLU()
        mine.insert(i, new)
        plain.insert(i, new)
        if data.draw(st.booleans()):
            j = data.draw(st.integers(-len(plain), len(plain) - 1))
            assert mine.pop(j) is plain.pop(j)
    assert list(mine) == plain
    assert list(mine._modules) == [str(i) for i in range(len(plain))]


def test_named_sequential():
    s = nn.Sequential(OrderedDict(first=nn.Linear(1, 2), second=nn.ReLU()))
    assert s.first is s[0]
    assert list(s.state_dict()) == ["first.weight", "first.bias"]
    assert s(cr.ones(3, 1)).shape == (3, 2)


def test_parameter_containers_train():
    holder = nn.Module()
    holder.list = nn.ParameterList([cr.ones(2), nn.Parameter(cr.ones(3), requires_grad=False)])
    holder.dict = nn.ParameterDict({"a": cr.ones(1)})
    assert [n for n, _ in holder.named_parameters()] == ["list.0", "list.1", "dict.a"]
    (holder.list[0].sum() * holder.dict["a"]).backward()
    assert holder.dict["a"].grad.item() == 2.0
    assert not holder.list[1].requires_grad


@pytest.mark.parametrize("call", [lambda: nn.ParameterList()(), lambda: nn.ParameterDict()()])
def test_parameter_containers_are_not_called(call):
    with pytest.raises(RuntimeError, match="should not be called"):
        call()
