"""Creation, conversion and printing against PyTorch."""

# ruff: noqa: E501 - one call a line reads better than its pieces

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule

sys.path.insert(0, str(Path(__file__).parent))
from pairs import assert_same, both

NAMES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def alike(call, ulps=4):
    """The same tensor, the same repr, or the same kind of error with the same first line."""
    try:
        theirs = call(torch)
    except Exception as error:
        kind = next(
            k
            for k in (AssertionError, NotImplementedError, IndexError, TypeError, ValueError, RuntimeError, Exception)
            if isinstance(error, k)
        )
        with pytest.raises(kind) as caught:
            call(chainrule)
        first = str(error).split("\n")[0]
        if "invalid combination" not in first:
            assert str(caught.value).split("\n")[0] == first
        return
    ours = call(chainrule)
    if isinstance(theirs, torch.Tensor):
        assert_same(ours, theirs, "", ulps)
        assert repr(ours) == repr(theirs)
    else:
        assert str(ours) == str(theirs)


MADE = [
    lambda M: M.tensor(1),
    lambda M: M.tensor(1.5),
    lambda M: M.tensor(True),
    lambda M: M.tensor([]),
    lambda M: M.tensor([[]]),
    lambda M: M.tensor([1, 2.5]),
    lambda M: M.tensor([True, 2]),
    lambda M: M.tensor([[1, 2], [3, 4]]),
    lambda M: M.tensor(((1.0, 2.0), [3.0, 4.0])),
    lambda M: M.tensor(np.float64(2)),
    lambda M: M.tensor(np.float32(2)),
    lambda M: M.tensor([np.float64(2)]),
    lambda M: M.tensor(np.arange(3)),
    lambda M: M.tensor([np.arange(3)]),
    lambda M: M.tensor([M.tensor(1.0), M.tensor(2.0)]),
    lambda M: M.tensor([1, M.tensor(2.5, dtype=M.float64)]),
    lambda M: M.tensor(range(3)),
    lambda M: M.tensor([1.9, -1.9], dtype=M.int64),
    lambda M: M.tensor([0, 2], dtype=M.bool),
    lambda M: M.tensor([1.0], requires_grad=True),
    lambda M: M.tensor([[1, 2], [3]]),
    lambda M: M.tensor(["a"]),
    lambda M: M.tensor([None]),
    lambda M: M.tensor([1], requires_grad=True),
    lambda M: M.tensor(300, dtype=M.uint8),
    lambda M: M.tensor([1.0], dtype=M.float16),
    lambda M: M.tensor(float("nan")),
    lambda M: M.tensor([float("inf"), 1.0]),
    lambda M: M.zeros(2, 3),
    lambda M: M.zeros((2, 3)),
    lambda M: M.zeros([2, 3]),
    lambda M: M.zeros(()),
    lambda M: M.zeros(0),
    lambda M: M.zeros(2, dtype=M.int32),
    lambda M: M.zeros(size=(2,)),
    lambda M: M.zeros(M.Size([2, 2])),
    lambda M: M.zeros(2.5),
    lambda M: M.zeros(-1),
    lambda M: M.ones(2, 0),
    lambda M: M.ones(2, requires_grad=True),
    lambda M: M.full((2, 2), 3),
    lambda M: M.full((2,), 2.5),
    lambda M: M.full((2,), True),
    lambda M: M.full((), 1),
    lambda M: M.full((2,), 1, dtype=M.float64),
    lambda M: M.full([2], float("inf")),
    lambda M: M.eye(3),
    lambda M: M.eye(2, 3),
    lambda M: M.eye(2, dtype=M.int64),
    lambda M: M.eye(-1),
    lambda M: M.arange(5),
    lambda M: M.arange(1, 5),
    lambda M: M.arange(1, 2, 0.3),
    lambda M: M.arange(5.0),
    lambda M: M.arange(5, 0, -2),
    lambda M: M.arange(3, dtype=M.float64),
    lambda M: M.arange(2.5, dtype=M.int32),
    lambda M: M.arange(0, 1, 0.1),
    lambda M: M.arange(1, 0),
    lambda M: M.arange(0, 1, 0),
    lambda M: M.arange(end=3),
    lambda M: M.arange(start=1, end=3),
    lambda M: M.linspace(0, 1, 5),
    lambda M: M.linspace(-1, 1, 7),
    lambda M: M.linspace(3, 1, 4),
    lambda M: M.linspace(0, 1, 1),
    lambda M: M.linspace(0, 1, 0),
    lambda M: M.linspace(0, 10, 4, dtype=M.int64),
    lambda M: M.linspace(0, 1, steps=11, dtype=M.float64),
    lambda M: M.logspace(0, 3, 4),
    lambda M: M.logspace(0, 4, 5, base=2),
    lambda M: M.linspace(0, 1, -1),
    lambda M: M.zeros_like(M.ones(2, dtype=M.int64)),
    lambda M: M.ones_like(M.zeros(2), dtype=M.float64),
    lambda M: M.full_like(M.zeros(2, 2), 7),
    lambda M: M.full_like(M.zeros(2, dtype=M.int64), 7),
    lambda M: M.scalar_tensor(3),
    lambda M: M.ones(2).new_zeros(3),
    lambda M: M.ones(2, dtype=M.int32).new_ones((2, 2)),
    lambda M: M.ones(2).new_full((2,), 3),
    lambda M: M.ones(2).new_tensor([1, 2]),
    lambda M: M.as_tensor([1, 2]),
    lambda M: M.as_tensor(np.ones(2)),
    lambda M: M.from_numpy(np.ones(2, np.float32)),
    lambda M: M.FloatTensor([1, 2]),
    lambda M: M.LongTensor([1, 2]),
    lambda M: M.DoubleTensor([[1.0]]),
    lambda M: M.ByteTensor([1, 2]),
    lambda M: M.BoolTensor([1, 0]),
    lambda M: M.Tensor([1, 2]),
    lambda M: M.IntTensor(2).shape,
    lambda M: M.Tensor(2, 3).shape,
    lambda M: M.zeros(2, device="cuda"),
    lambda M: M.zeros(2, device="foo"),
    lambda M: M.zeros(2, device=M.device("cpu")),
    lambda M: M.tensor([1.5]).long(),
    lambda M: M.tensor([1.5]).to(M.float64),
    lambda M: M.tensor([1]).type(M.float32),
    lambda M: M.tensor([1]).type("torch.FloatTensor"),
    lambda M: M.tensor([1]).type(),
    lambda M: M.tensor([1]).to("cpu", M.float64),
    lambda M: M.tensor([1.0]).to(M.tensor([1])),
    lambda M: M.tensor([1.7]).int(),
    lambda M: M.tensor([1]).type_as(M.tensor([1.0])),
    lambda M: M.tensor([2, 0]).bool(),
    lambda M: M.tensor([1.0]).half(),
    lambda M: M.device("cpu"),
    lambda M: M.device("cuda:1"),
    lambda M: M.device("cuda", 0),
    lambda M: M.tensor(1.0).device,
    lambda M: M.finfo(M.float32).eps,
    lambda M: M.iinfo(M.int8).max,
    lambda M: M.finfo(M.float64).tiny,
    lambda M: M.finfo(M.int32),
    lambda M: M.ones(2, 3).stride(),
    lambda M: M.ones(2, 3).element_size(),
    lambda M: M.ones(2, 3).t().is_contiguous(),
    lambda M: M.ones(2, 3).numel(),
    lambda M: M.ones(2, 3).nelement(),
    lambda M: M.ones(2, 3).ndimension(),
    lambda M: M.ones(0, 3).stride(),
    lambda M: len(M.ones(2, 3)),
    lambda M: len(M.tensor(1)),
    lambda M: bool(M.ones(2)),
    lambda M: bool(M.ones(0)),
    lambda M: bool(M.tensor([0.0])),
    lambda M: float(M.ones(2)),
    lambda M: float(M.tensor([2])),
    lambda M: int(M.tensor(2.7)),
    lambda M: [1, 2][M.tensor(1)],
    lambda M: [1, 2][M.tensor(1.0)],
    lambda M: 2 in M.arange(3),
    lambda M: M.arange(3).tolist(),
    lambda M: M.tensor(2.5).item(),
    lambda M: M.ones(2).item(),
    lambda M: f"{M.tensor(2.5):.3f}",
    lambda M: f"{M.tensor(2.5)}",
    lambda M: f"{M.ones(2)}",
    lambda M: f"{M.ones(2):.2f}",
    lambda M: list(M.tensor(1.0)),
    lambda M: M.is_tensor(M.ones(1)),
    lambda M: M.is_floating_point(M.arange(2)),
    lambda M: M.numel(M.ones(3)),
    lambda M: M.ones(2).storage_offset(),
    lambda M: M.ones(4)[2:].storage_offset(),
    lambda M: M.ones(2).is_cuda,
    lambda M: M.ones(2).layout,
    lambda M: M.exp(1.0),
    lambda M: M.ones(2) + "a",
    lambda M: M.ones(2, 3) + M.ones(2, 2),
    lambda M: M.tensor([1]) // 0,
    lambda M: M.tensor([True]) - M.tensor([True]),
    lambda M: M.arange(3).mean(),
    lambda M: M.clamp(M.ones(2)),
    lambda M: M.ones(2).cuda(),
]


@pytest.mark.parametrize("call", MADE, ids=range(len(MADE)))
def test_made_alike(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch: a list of arrays is slow
        alike(call)


def arrays():
    r = np.random.default_rng(0)
    for shape in (
        (),
        (1,),
        (7,),
        (30,),
        (3, 4),
        (2, 3, 4),
        (2, 2, 2, 2),
        (1001,),
        (40, 30),
        (12, 11, 13),
        (0,),
        (0, 3),
        (2, 0, 1),
    ):
        yield np.asarray(r.normal(size=shape))
        yield np.asarray(r.normal(size=shape)) * 1e5
        yield np.asarray(r.normal(size=shape)) * 1e-5
        yield np.asarray(np.exp(r.normal(size=shape) * 8))
        yield np.asarray(np.round(r.normal(size=shape) * 10))
        yield np.asarray(r.integers(0, 2, shape)).astype(float)
        yield np.asarray(np.round(r.normal(size=shape) * 1e6))
    yield np.array([np.nan, 1.0, np.inf])
    yield np.array([np.nan, 1.5, -np.inf])
    yield np.array([np.nan, np.nan])
    yield np.array([0.0, -0.0])
    yield np.array([1e-8, 1.0])
    yield np.array([1e10, 1.5, np.inf])
    yield np.array(1e20)
    yield np.array([99999.0, 100000000.0, 200000000.0])


@pytest.mark.parametrize("name", NAMES)
def test_repr(name):
    for a in arrays():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NaN as an integer
            ours, theirs = both(a.astype(name))
        assert repr(ours) == repr(theirs)
        assert str(ours) == str(theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": 2},
        {"sci_mode": True},
        {"sci_mode": False},
        {"threshold": 5},
        {"edgeitems": 1, "threshold": 10},
        {"linewidth": 40},
        {"profile": "full"},
        {"profile": "short"},
    ],
    ids=str,
)
def test_print_options(options):
    try:
        for M in (chainrule, torch):
            M.set_printoptions(**options)
        for a in arrays():
            if a.size < 1200:
                ours, theirs = both(a)
                assert repr(ours) == repr(theirs)
    finally:
        for M in (chainrule, torch):
            M.set_printoptions(profile="default")


GRAPHS = {
    "x * 2": "MulBackward0", "x + x": "AddBackward0", "x - 1": "SubBackward0", "x / 2": "DivBackward0", "-x": "NegBackward0",
    "x ** 2": "PowBackward0", "x.exp()": "ExpBackward0", "x.sum()": "SumBackward0", "x.mean()": "MeanBackward0",
    "x.sum(0)": "SumBackward1", "x.mean(0)": "MeanBackward1", "x.relu()": "ReluBackward0", "x.sigmoid()": "SigmoidBackward0",
    "x.log()": "LogBackward0", "x.clone()": "CloneBackward0", "x.tanh()": "TanhBackward0", "x.max()": "MaxBackward1",
    "x.double()": "ToCopyBackward0", "x.prod()": "ProdBackward0", "x.sqrt()": "SqrtBackward0",
    "x.logsumexp(0)": "LogsumexpBackward0", "x.cumsum(0)": "CumsumBackward0", "x.std()": "StdBackward0", "x.var()": "VarBackward0",
    "x ** x": "PowBackward1", "x.clamp(0, 1)": "ClampBackward1", "x.abs()": "AbsBackward0", "x.norm()": "LinalgVectorNormBackward0",
}  # fmt: skip


@pytest.mark.parametrize("source", GRAPHS)
def test_repr_in_a_graph(source):
    ours, theirs = (eval(source, {"x": M.tensor([0.5, 1.5], requires_grad=True)}) for M in (chainrule, torch))
    assert repr(ours) == repr(theirs)


def test_copy_and_pickle():
    import copy
    import pickle

    for M in (chainrule, torch):
        x = M.tensor([1.0, 2.0], requires_grad=True)
        (x * x).sum().backward()
        y = copy.deepcopy(x)
        assert y.requires_grad
        assert y.grad.tolist() == [2.0, 4.0]
        assert y.data_ptr() != x.data_ptr()
        z = pickle.loads(pickle.dumps(x))
        assert z.requires_grad
        assert z.tolist() == [1.0, 2.0]
        assert repr(z) == repr(x)
        with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
            copy.deepcopy(x * 2)
