"""``DataLoader``: batches of a dataset, in order or shuffled."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..core.state import state
from ..core.variable import wrap
from .collate import default_collate, default_convert
from .dataset import IterableDataset, TensorDataset
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

__all__ = ["DataLoader", "WorkerInfo", "get_worker_info"]


class WorkerInfo(NamedTuple):
    """Which worker this is; there are none here, so nobody meets one."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


def get_worker_info() -> WorkerInfo | None:
    """None: batches are made in the process itself, whatever ``num_workers`` says."""
    return None


class _InfiniteSampler(Sampler[None]):
    """The sampler of an iterable dataset: it has no numbers to give."""

    def __iter__(self) -> Iterator[None]:
        while True:
            yield None


class DataLoader:
    """Iterates over batches of a dataset.

    ``num_workers``, ``pin_memory``, ``persistent_workers``, ``prefetch_factor``, ``timeout`` and
    ``multiprocessing_context`` are accepted; batches are made in the calling thread. With a
    ``TensorDataset`` and no ``collate_fn`` each tensor is
    indexed once per batch.

    >>> import chainrule as torch
    >>> from chainrule.utils.data import DataLoader, TensorDataset
    >>> loader = DataLoader(TensorDataset(torch.tensor([1, 2, 3])), batch_size=2)
    >>> [x for (x,) in loader]
    [tensor([1, 2]), tensor([3])]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError(
                "prefetch_factor option could only be specified in multiprocessing."
                "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."
            )
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        iterable = isinstance(dataset, IterableDataset)
        if iterable:
            if shuffle not in (False, None):
                raise ValueError(
                    f"DataLoader with IterableDataset: expected unspecified shuffle option, but got shuffle={shuffle}"
                )
            if sampler is not None:
                raise ValueError(
                    f"DataLoader with IterableDataset: expected unspecified sampler option, but got sampler={sampler}"
                )
            if batch_sampler is not None:
                raise ValueError(
                    "DataLoader with IterableDataset: expected unspecified batch_sampler option, "
                    f"but got batch_sampler={batch_sampler}"
                )
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None:
            if iterable:
                sampler = _InfiniteSampler()
            elif shuffle:
                sampler = RandomSampler(dataset, generator=generator)
            else:
                sampler = SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset, self.batch_size, self.sampler, self.batch_sampler = dataset, batch_size, sampler, batch_sampler
        self.num_workers, self.pin_memory, self.drop_last, self.timeout = num_workers, pin_memory, drop_last, timeout
        self.worker_init_fn, self.generator = worker_init_fn, generator
        self.prefetch_factor, self.persistent_workers = prefetch_factor, persistent_workers
        self.multiprocessing_context, self.pin_memory_device, self.in_order = (
            multiprocessing_context,
            pin_memory_device,
            in_order,
        )
        self._iterable = iterable
        self._batches = batch_sampler is not None
        self._fast = type(dataset) is TensorDataset and collate_fn is None and self._batches
        self.collate_fn = collate_fn or (default_collate if self._batches else default_convert)

    def __len__(self) -> int:
        batches: Any = self.batch_sampler
        if self._iterable:
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(batches if self._batches else self.sampler)

    def __iter__(self) -> Iterator[Any]:
        if state.recorder is not None:
            state.recorder.leak(None, "DataLoader")
        if self._iterable:
            return self._from_iterable()
        if not self._batches:
            return (self.collate_fn(self.dataset[i]) for i in self.sampler)
        if self._fast and not any(t._requires for t in self.dataset.tensors):
            return self._from_tensors()
        return self._from_items()

    def _from_tensors(self) -> Iterator[Any]:
        arrays = [t._array for t in self.dataset.tensors]
        batches: Any = self.batch_sampler
        if type(batches) is BatchSampler and type(batches.sampler) is SequentialSampler:
            # Consecutive numbers: copies of slices.
            n, size = len(self.dataset), batches.batch_size
            stop = n - n % size if batches.drop_last else n
            for start in range(0, stop, size):
                yield [wrap(a[start : start + size].copy()) for a in arrays]
            return
        for numbers in batches:
            index = np.asarray(numbers)
            yield [wrap(a[index]) for a in arrays]

    def _from_items(self) -> Iterator[Any]:
        dataset, collate = self.dataset, self.collate_fn
        many = getattr(dataset, "__getitems__", None)
        batches: Any = self.batch_sampler
        for numbers in batches:
            yield collate(many(numbers) if many else [dataset[i] for i in numbers])

    def _from_iterable(self) -> Iterator[Any]:
        examples = iter(self.dataset)
        if not self._batches:
            yield from (self.collate_fn(x) for x in examples)
            return
        while batch := list(itertools.islice(examples, self.batch_size)):
            if self.drop_last and len(batch) < (self.batch_size or 0):
                return
            yield self.collate_fn(batch)
