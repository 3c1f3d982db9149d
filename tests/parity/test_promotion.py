"""Type promotion against PyTorch: every pair of dtypes, arrays, 0-d arrays and Python numbers, every operator."""

from __future__ import annotations

import itertools
import operator

import pytest
import torch

import chainrule

NAMES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
OPERATORS = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "pow": operator.pow,
    "floordiv": operator.floordiv, "mod": operator.mod, "eq": operator.eq, "lt": operator.lt, "and": operator.and_,
    "xor": operator.xor,
}  # fmt: skip


def made(M, name, zero_d):
    return M.tensor(1 if zero_d else [1, 1], dtype=getattr(M, name))


def outcome(call):
    """The result's dtype and entries, or the kind of error."""
    try:
        result = call()
    except Exception as error:
        kind = next(k for k in (NotImplementedError, TypeError, RuntimeError, Exception) if isinstance(error, k))
        return kind.__name__
    entries = result.tolist() if result.ndim else [result.item()]
    return str(result.dtype), [repr(round(v, 5) + 0) for v in entries]  # repr: NaN equals NaN; + 0: so do zeros


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("zero_d", list(itertools.product((False, True), repeat=2)), ids=str)
def test_pairs_of_tensors(name, zero_d):
    op = OPERATORS[name]
    for a, b in itertools.product(NAMES, repeat=2):
        ours = outcome(lambda a=a, b=b: op(made(chainrule, a, zero_d[0]), made(chainrule, b, zero_d[1])))
        theirs = outcome(lambda a=a, b=b: op(made(torch, a, zero_d[0]), made(torch, b, zero_d[1])))
        assert ours == theirs, f"{a} {name} {b}"


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("number", [2, 1, 1.5, -1, 300, 2**40], ids=str)
def test_tensor_and_number(name, number):
    op = OPERATORS[name]
    for a, zero_d, left in itertools.product(NAMES, (False, True), (False, True)):
        if name == "pow" and a == "float16" and number > 1e5:
            continue  # PyTorch refuses to make the exponent infinite
        if name in ("eq", "lt") and number > 255:
            continue  # whether a number beyond a small dtype wraps in comparisons differs between PyTorch's own kernels

        def call(M, a=a, zero_d=zero_d, left=left):
            x = made(M, a, zero_d)
            return op(number, x) if left else op(x, number)

        ours, theirs = outcome(lambda: call(chainrule)), outcome(lambda: call(torch))
        assert ours == theirs, f"{a} {'0-d' if zero_d else ''} {name} {number} {'on the left' if left else ''}"


def test_tables():
    for a, b in itertools.product(NAMES, repeat=2):
        ours = chainrule.promote_types(getattr(chainrule, a), getattr(chainrule, b))
        assert str(ours) == str(torch.promote_types(getattr(torch, a), getattr(torch, b))), (a, b)
        assert chainrule.can_cast(getattr(chainrule, a), getattr(chainrule, b)) == torch.can_cast(
            getattr(torch, a), getattr(torch, b)
        ), (a, b)
    for a, number in itertools.product(NAMES, (True, 2, 1.5)):
        for zero_d in (False, True):
            ours = chainrule.result_type(made(chainrule, a, zero_d), number)
            assert str(ours) == str(torch.result_type(made(torch, a, zero_d), number)), (a, number, zero_d)


@pytest.mark.parametrize("name", ["where", "maximum", "atan2", "lerp", "addcmul", "hypot"])
def test_functions_promote_alike(name):
    for a, b in itertools.product(NAMES, repeat=2):

        def call(M, a=a, b=b):
            x, y = made(M, a, False), made(M, b, False)
            if name == "where":
                return M.where(M.tensor([True, False]), x, y)
            if name == "lerp":
                return M.lerp(x, y, 0.5)
            if name == "addcmul":
                return M.addcmul(x, y, y)
            return getattr(M, name)(x, y)

        ours, theirs = outcome(lambda: call(chainrule)), outcome(lambda: call(torch))
        assert ours == theirs, (name, a, b)


def test_default_dtype():
    for M in (chainrule, torch):
        M.set_default_dtype(M.float64)
    try:
        for call in (
            lambda M: M.tensor(1.5),
            lambda M: M.tensor([1, 2]) / 2,
            lambda M: M.tensor([1]) * 1.5,
            lambda M: M.zeros(2),
            lambda M: M.arange(0, 1, 0.5),
            lambda M: M.tensor([1.0], dtype=M.float32) * 2.5,
        ):
            assert outcome(lambda c=call: c(chainrule)) == outcome(lambda c=call: c(torch))
        assert repr(chainrule.ones(1)) == repr(torch.ones(1))
    finally:
        for M in (chainrule, torch):
            M.set_default_dtype(M.float32)
