"""Datasets, samplers and the loader: every example once, in the order asked for, collated as PyTorch does."""

from __future__ import annotations

from collections import Counter, namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    random_split,
)


class Squares(Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return i, float(i * i)


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))


@given(n=st.integers(1, 40), size=st.integers(1, 12), drop=st.booleans(), shuffle=st.booleans(), fast=st.booleans())
def test_every_example_once(n, size, drop, shuffle, fast):
    data = TensorDataset(cr.arange(n), cr.arange(n) * 2) if fast else Squares(n)
    loader = DataLoader(data, size, shuffle=shuffle, drop_last=drop)
    batches = list(loader)
    assert len(batches) == len(loader) == (n // size if drop else -(-n // size))
    seen = [int(i) for a, _ in batches for i in a]
    assert len(seen) == len(set(seen)) == (n - n % size if drop else n)
    assert all(len(a) == size for a, _ in batches[:-1])
    if not shuffle:
        assert seen == list(range(len(seen)))
    if fast:
        assert all((b == 2 * a).all() for a, b in batches)


def test_the_fast_path_equals_the_slow_one():
    data = TensorDataset(cr.arange(10).float(), cr.arange(10))
    for options in ({}, {"shuffle": True}, {"drop_last": True}):
        fast = DataLoader(data, 3, generator=cr.Generator().manual_seed(3), **options)
        slow = DataLoader(data, 3, generator=cr.Generator().manual_seed(3), collate_fn=default_collate, **options)
        for a, b in zip(fast, slow, strict=True):
            assert type(a) is type(b) is list
            for x, y in zip(a, b, strict=True):
                assert x.dtype is y.dtype
                np.testing.assert_array_equal(x.numpy(), y.numpy())


def test_batches_have_memory_of_their_own():
    x = cr.arange(4).float()
    for (batch,) in DataLoader(TensorDataset(x), 2):
        batch.mul_(0)
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_shuffle_follows_the_generator():
    data = Squares(50)

    def order(seed):
        return [
            int(i) for a, _ in DataLoader(data, 7, shuffle=True, generator=cr.Generator().manual_seed(seed)) for i in a
        ]

    assert order(1) == order(1)
    assert order(1) != order(2)
    loader = DataLoader(data, 50, shuffle=True)
    assert next(iter(loader))[0].tolist() != next(iter(loader))[0].tolist()
    cr.manual_seed(0)
    first = next(iter(loader))[0].tolist()
    cr.manual_seed(0)
    assert next(iter(loader))[0].tolist() == first


def test_collate():
    Point = namedtuple("Point", "x y")
    batch = default_collate(
        [
            {
                "t": cr.ones(2),
                "a": np.zeros(3, np.float32),
                "i": 1,
                "f": 0.5,
                "b": True,
                "s": "u",
                "p": Point(1, 2.0),
                "l": [1, 2],
            },
            {
                "t": cr.zeros(2),
                "a": np.ones(3, np.float32),
                "i": 2,
                "f": 1.5,
                "b": False,
                "s": "v",
                "p": Point(3, 4.0),
                "l": [3, 4],
            },
        ]
    )
    assert batch["t"].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert batch["a"].dtype is cr.float32
    assert batch["i"].dtype is cr.int64
    assert batch["f"].dtype is cr.float64
    assert batch["b"].dtype is cr.bool
    assert batch["s"] == ["u", "v"]
    assert isinstance(batch["p"], Point)
    assert batch["p"].y.tolist() == [2.0, 4.0]
    assert [t.tolist() for t in batch["l"]] == [[1, 3], [2, 4]]
    with pytest.raises(TypeError, match="default_collate: batch must contain tensors"):
        default_collate([object()])
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([[1, 2], [3]])
    assert default_convert({"a": [np.ones(1), "x"]})["a"][1] == "x"


def test_iterable_and_unbatched():
    assert [b.tolist() for b in DataLoader(Stream(5), batch_size=2)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in DataLoader(Stream(5), batch_size=2, drop_last=True)] == [[0, 1], [2, 3]]
    assert list(DataLoader(Stream(3), batch_size=None)) == [0, 1, 2]
    assert list(DataLoader(Squares(2), batch_size=None)) == [[0, 0.0], [1, 1.0]]
    assert list(ChainDataset([Stream(2), Stream(1)])) == [0, 1, 0]
    assert list(Stream(1) + Stream(2)) == [0, 0, 1]


def test_datasets():
    both = Squares(3) + Squares(2)
    assert isinstance(both, ConcatDataset)
    assert [both[i][0] for i in range(5)] == [0, 1, 2, 0, 1]
    assert both[-1] == (1, 1.0)
    part = Subset(Squares(5), [4, 2])
    assert [part[i][0] for i in range(len(part))] == [4, 2]
    side = StackDataset(a=range(3), b="xyz")
    assert side[1] == {"a": 1, "b": "y"}
    with pytest.raises(AssertionError, match="Size mismatch"):
        TensorDataset(cr.zeros(2), cr.zeros(3))


@given(n=st.integers(2, 60), seed=st.integers(0, 5))
def test_random_split(n, seed):
    parts = random_split(range(n), [n // 3, n - n // 3], generator=cr.Generator().manual_seed(seed))
    assert sorted(parts[0].indices + parts[1].indices) == list(range(n))


def test_random_split_by_fractions():
    assert [len(p) for p in random_split(range(10), [0.25, 0.25, 0.5])] == [3, 2, 5]
    with pytest.raises(ValueError, match="does not equal"):
        random_split(range(10), [3, 3])
    with pytest.raises(ValueError, match="not between 0 and 1"):
        random_split(range(10), [1.5, -0.5])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(range(1), [0.5, 0.5])


def test_samplers():
    g = cr.Generator().manual_seed(0)
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    assert sorted(RandomSampler(range(9), generator=g)) == list(range(9))
    assert len(list(RandomSampler(range(3), num_samples=7, generator=g))) == 7
    assert set(RandomSampler(range(2), replacement=True, num_samples=50, generator=g)) == {0, 1}
    assert sorted(SubsetRandomSampler([5, 7], generator=g)) == [5, 7]
    counts = Counter(WeightedRandomSampler([0.0, 1.0, 3.0], 8000, generator=g))
    assert counts[0] == 0
    assert abs(counts[2] / 8000 - 0.75) < 0.03  # 6 standard deviations
    assert sorted(WeightedRandomSampler([1.0, 1.0], 2, replacement=False, generator=g)) == [0, 1]
    assert next(iter(DataLoader(Squares(4), batch_sampler=BatchSampler([3, 1, 0], 2, False))))[0].tolist() == [3, 1]
    assert [b[0].tolist() for b in DataLoader(Squares(4), 2, sampler=[3, 1, 0])] == [[3, 1], [0]]


@pytest.mark.parametrize(("options", "words"), [
    ({"batch_size": 0}, "batch_size should be a positive integer value, but got batch_size=0"),
    ({"num_workers": -1}, "num_workers option should be non-negative"),
    ({"shuffle": True, "sampler": [1]}, "mutually exclusive with shuffle"),
    ({"batch_sampler": [[1]], "batch_size": 2}, "mutually exclusive"),
    ({"batch_size": None, "drop_last": True}, "disables auto-batching"),
    ({"prefetch_factor": 2}, "prefetch_factor"), ({"persistent_workers": True}, "num_workers > 0"),
    ({"timeout": -1}, "timeout"),
])  # fmt: skip
def test_refused(options, words):
    with pytest.raises(ValueError, match=words):
        DataLoader(Squares(3), **options)


def test_workers_are_accepted():
    loader = DataLoader(Squares(3), 2, num_workers=4, pin_memory=True, persistent_workers=True, prefetch_factor=2)
    assert [a.tolist() for a, _ in loader] == [[0, 1], [2]]
