"""``torch.utils`` and ``torch.utils.data`` against PyTorch: samplers, collating, checkpoints, swapping, timing."""

from __future__ import annotations

import collections
import functools
import importlib
import warnings

import numpy as np
import pytest
import torch
import torch.utils.benchmark
import torch.utils.checkpoint
import torch.utils.data

import chainrule

LIBS = (chainrule, torch)


def plain(x):
    if hasattr(x, "detach"):
        return (x.detach().tolist(), str(x.dtype))
    if isinstance(x, dict):
        return (type(x).__name__, {k: plain(v) for k, v in x.items()})
    if isinstance(x, (list, tuple)):
        return (type(x).__name__, [plain(v) for v in x])
    return x


def agree(run):
    ours, theirs = (plain(run(lib)) for lib in LIBS)
    assert ours == theirs


def table(lib):
    return lib.utils.data.TensorDataset(lib.arange(10.0), lib.arange(10))


def test_distributed_sampler():
    def run(lib):
        data = lib.utils.data
        out = []
        for rank in range(3):
            for drop_last in (False, True):
                s = data.DistributedSampler(table(lib), 3, rank, shuffle=False, drop_last=drop_last)
                out.append((list(s), len(s)))
        return out

    agree(run)
    shares = []
    for rank in range(2):
        s = chainrule.utils.data.DistributedSampler(range(10), num_replicas=2, rank=rank, seed=3)
        first = list(s)
        s.set_epoch(1)
        assert list(s) != first
        s.set_epoch(0)
        assert list(s) == first
        shares += first
    assert sorted(shares) == list(range(10))
    assert chainrule.utils.data.distributed.DistributedSampler is chainrule.utils.data.DistributedSampler


def test_datasets_and_collate():
    Pair = collections.namedtuple("Pair", "a b")

    def run(lib):
        data = lib.utils.data
        rows = [
            {"x": Pair(i, float(i)), "s": "a", "n": np.ones(2) * i, "l": [lib.ones(1), i], "b": b"x", "t": (True, None)}
            for i in range(2)
        ]
        for r in rows:
            r.pop("t")
        stack = data.StackDataset(a=[1, 2], b=[3, 4])
        return (
            data.default_collate(rows), data.default_collate([collections.OrderedDict(a=1)] * 2),
            data.default_collate([collections.defaultdict(int, a=1)] * 2), data.default_collate([np.float32(1)] * 2),
            data.default_convert({"a": np.ones(1), "b": [1, np.int32(2)], "c": "s", "d": (np.zeros(1),)}),
            stack[1], stack.__getitems__([0, 1]), [len(p) for p in data.random_split(table(lib), [0.33, 0.33, 0.34])],
            list(data.WeightedRandomSampler([0, 0, 1.0, 0], 3)),
            sorted(data.WeightedRandomSampler([1.0, 1, 1, 0], 3, replacement=False)),
        )  # fmt: skip

    agree(run)


WRONG = {
    "rank": lambda lib: lib.utils.data.DistributedSampler(range(3), num_replicas=2, rank=5),
    "no group": lambda lib: lib.utils.data.DistributedSampler(range(3)),
    "weights": lambda lib: lib.utils.data.WeightedRandomSampler([1.0], 0),
    "split": lambda lib: lib.utils.data.random_split(range(10), [3, 3]),
    "fractions": lambda lib: lib.utils.data.random_split(range(10), [1.5, -0.5]),
    "collate": lambda lib: lib.utils.data.default_collate([object()]),
    "lengths": lambda lib: lib.utils.data.default_collate([[1], [1, 2]]),
    "batch_sampler": lambda lib: lib.utils.data.DataLoader(
        range(3), batch_size=2, batch_sampler=lib.utils.data.BatchSampler(range(3), 2, False)
    ),
    "prefetch": lambda lib: lib.utils.data.DataLoader(range(3), prefetch_factor=2),
    "persistent": lambda lib: lib.utils.data.DataLoader(range(3), persistent_workers=True),
    "checkpoint": lambda lib: lib.utils.checkpoint.checkpoint(
        lambda v, k: v * k, lib.ones(2, requires_grad=True), use_reentrant=True, k=3
    ),
    "set_module": lambda lib: lib.utils.set_module(object, 3),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_errors(name):
    with pytest.raises(Exception) as theirs:
        WRONG[name](torch)
    with pytest.raises(theirs.type) as ours:
        WRONG[name](chainrule)
    assert str(ours.value)[:30] == str(theirs.value)[:30]


def test_checkpoint_words_and_contexts():
    def run(lib):
        checkpoint = lib.utils.checkpoint.checkpoint
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            checkpoint(lambda v: v * 2, lib.ones(2, requires_grad=True))
            checkpoint(lambda v: v * 2, lib.ones(2), use_reentrant=True)
        x, runs = lib.ones(2, requires_grad=True), []

        class Note:
            def __init__(self, name):
                self.name = name

            def __enter__(self):
                runs.append(self.name)

            def __exit__(self, *exc):
                return None

        y = checkpoint(lambda v: v.exp(), x, use_reentrant=False, context_fn=lambda: (Note("first"), Note("second")))
        y.sum().backward()
        drop = lib.nn.Dropout(0.5)
        z = lib.ones(50, requires_grad=True)
        out = checkpoint(drop, z, use_reentrant=False)
        out.sum().backward()
        return [str(w.message)[:60] for w in seen], runs, bool(lib.equal(z.grad, out.detach()))

    agree(run)


def test_swap_tensors_and_set_module():
    def run(lib):
        a, b = lib.tensor([1.0]), lib.nn.Parameter(lib.tensor([2.0, 3.0]))
        a.tag, before = "mine", id(a)
        lib.utils.swap_tensors(a, b)

        class Named:
            pass

        lib.utils.set_module(Named, "elsewhere")
        kinds = type(a).__name__, type(b).__name__, a.requires_grad, b.tag, id(a) == before, Named.__module__
        return a, b, kinds

    agree(run)


@pytest.mark.parametrize("lib", LIBS, ids=["chainrule", "torch"])
def test_benchmark(lib):
    bench = importlib.import_module(f"{lib.__name__}.utils.benchmark")
    timer = bench.Timer("x + 1", setup="x = lib.ones(3)", globals={"lib": lib}, label="sum", description="add")
    one, many = timer.timeit(50), timer.blocked_autorange(min_run_time=0.02)
    assert one.number_per_run == 50
    assert len(one.times) == 1
    assert many.number_per_run * sum(many.times) >= 0.02  # as long as it was asked to run
    assert 0 < min(many.times) <= many.median <= max(many.times)
    assert many.mean > 0
    assert many.iqr >= 0
    assert "sum" in repr(many)
    assert "add" in str(bench.Compare([one, many]))


def test_pytrees():
    def run(lib):
        tree = importlib.import_module(f"{lib.__name__}.utils._pytree")
        Pair = collections.namedtuple("Pair", "a b")
        nested = {"a": [1, (2, None)], "b": Pair(3, collections.OrderedDict(x=4)), "d": collections.deque([5], 3)}
        leaves, spec = tree.tree_flatten(nested)
        with pytest.raises(ValueError, match="unflatten"):
            tree.tree_unflatten(leaves[:-1], spec)
        return (
            leaves, spec.num_leaves, tree.tree_unflatten(leaves, spec) == nested, tree.tree_leaves([1, [2]]),
            tree.tree_map(lambda x, y: x + y, [1, {"k": 2}], [10, {"k": 20}]),
            tree.tree_map_only(int, lambda x: -x, [1, "s", (2,)]), tree.tree_structure([1, 2]) == spec,
            tree.tree_all(lambda x: x > 0, [1, (2,)]), tree.tree_any(lambda x: x > 1, [1, (2,)]),
            tree._broadcast_to_and_flatten((0, [1, None]), tree.tree_structure(({"a": 1, "b": 2}, [3, 4]))),
        )  # fmt: skip

    agree(run)


def _leaf(lib):
    return lib.ones(3, dtype=lib.float64, requires_grad=True)


def _gradients_of_parameters(lib, checkpoint):
    net = lib.nn.Linear(3, 3)
    found = lib.autograd.grad(checkpoint(net, lib.ones(2, 3)).sum(), list(net.parameters()))
    return [tuple(g.shape) for g in found], net.weight.grad is None


def _second_derivative(lib, checkpoint):
    a = _leaf(lib)
    (g,) = lib.autograd.grad(checkpoint(lambda t: (t**3).sum(), a), a, create_graph=True)
    return lib.autograd.grad(g.sum(), a)[0].tolist()


def _captured(lib, checkpoint):
    a = _leaf(lib)
    b = a * 2
    (checkpoint(lambda t: (t * b).sum(), lib.ones(3, dtype=lib.float64)) + b.sum()).backward()
    return a.grad.tolist()


def _nested(lib, checkpoint):
    a = _leaf(lib)
    checkpoint(lambda t: checkpoint(lib.sin, t * 2) * t, a).sum().backward()
    return a.grad.tolist()


def _by_keyword(lib, checkpoint):
    a = _leaf(lib)
    checkpoint(lambda t, scale: (t * scale).sum(), lib.ones(3, dtype=lib.float64), scale=a).backward()
    return a.grad.tolist()


def _structure(lib, checkpoint):
    out = checkpoint(lambda t: {"y": t * 2, "n": 3, "z": t.detach()}, _leaf(lib))
    return sorted(out), out["y"].requires_grad, out["z"].requires_grad, out["n"]


def _frozen(lib, checkpoint):
    return checkpoint(lib.nn.Linear(3, 3).requires_grad_(False), lib.ones(2, 3)).requires_grad


def _twice(lib, checkpoint):
    a = _leaf(lib)
    out = checkpoint(lambda t: (t.exp() * t).sum(), a)
    out.backward(retain_graph=True)
    out.backward()
    return a.grad.tolist()


@pytest.mark.parametrize(
    "use",
    [_gradients_of_parameters, _second_derivative, _captured, _nested, _by_keyword, _structure, _frozen, _twice],
)
def test_a_checkpoint_that_is_not_reentrant_is_as_none(use):
    def same(found, wanted):
        return found == (pytest.approx(wanted, rel=1e-14) if isinstance(wanted, list) else wanted)

    def by(lib):
        return functools.partial(lib.utils.checkpoint.checkpoint, use_reentrant=False)

    def direct(f, *args, **kwargs):
        return f(*args, **kwargs)

    assert same(use(chainrule, by(chainrule)), use(torch, by(torch)))
    assert same(use(chainrule, by(chainrule)), use(chainrule, direct))
