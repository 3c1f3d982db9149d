"""The dtype of a result: PyTorch's table written down, and what follows from it."""

from __future__ import annotations

import itertools

import pytest

import chainrule as torch

NAMES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
TABLE = {
    "bool":    ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"),
    "uint8":   ("uint8", "uint8", "int16", "int16", "int32", "int64", "float16", "float32", "float64"),
    "int8":    ("int8", "int16", "int8", "int16", "int32", "int64", "float16", "float32", "float64"),
    "int16":   ("int16", "int16", "int16", "int16", "int32", "int64", "float16", "float32", "float64"),
    "int32":   ("int32", "int32", "int32", "int32", "int32", "int64", "float16", "float32", "float64"),
    "int64":   ("int64", "int64", "int64", "int64", "int64", "int64", "float16", "float32", "float64"),
    "float16": ("float16", "float16", "float16", "float16", "float16", "float16", "float16", "float32", "float64"),
    "float32": ("float32", "float32", "float32", "float32", "float32", "float32", "float32", "float32", "float64"),
    "float64": ("float64",) * 9,
}  # fmt: skip


@pytest.mark.parametrize(("a", "b"), list(itertools.product(NAMES, NAMES)))
def test_two_arrays(a, b):
    x, y = torch.ones(2, dtype=getattr(torch, a)), torch.ones(2, dtype=getattr(torch, b))
    expected = TABLE[a][NAMES.index(b)]
    assert str((x + y).dtype) == f"torch.{expected}"
    assert (x < y).dtype is torch.bool
    division = expected if expected.startswith("float") else "float32"
    assert str((x / y).dtype) == f"torch.{division}"


@pytest.mark.parametrize("name", NAMES)
def test_numbers_raise_the_kind_but_not_the_size(name):
    d = getattr(torch, name)
    x = torch.ones(2, dtype=d)
    assert (x + True).dtype is d
    assert (x + 1).dtype is (torch.int64 if d is torch.bool else d)
    assert (x + 1.5).dtype is (d if d.is_floating_point else torch.float32)
    assert (x + torch.tensor(1.5, dtype=torch.float64)).dtype is (d if d.is_floating_point else torch.float64)


def test_integers_wrap_and_do_not_divide_by_zero():
    x = torch.tensor([200], dtype=torch.uint8)
    assert (x + 100).tolist() == [44]
    assert (x + 300).tolist() == [(200 + 300) % 256]
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        x // 0
    with pytest.raises(RuntimeError, match="negative integer powers"):
        torch.tensor([2]) ** -1


def test_bools_do_not_subtract():
    b = torch.tensor([True])
    for call in (lambda: b - b, lambda: 1 - b, lambda: b - 1, lambda: -b):
        with pytest.raises(RuntimeError, match="bool tensor"):
            call()
