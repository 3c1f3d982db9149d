"""``torch.utils.data``: the PyTorch-named face of ``chainrule.data``."""

from ...data import dataset, sampler
from ...data import loader as dataloader
from ...data import sampler as distributed
from ...data.collate import default_collate, default_convert
from ...data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from ...data.loader import DataLoader, get_worker_info
from ...data.sampler import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "DataLoader", "Dataset", "IterableDataset", "TensorDataset", "StackDataset", "ConcatDataset", "ChainDataset",
    "Subset", "random_split", "Sampler", "SequentialSampler", "RandomSampler", "SubsetRandomSampler",
    "WeightedRandomSampler", "BatchSampler", "DistributedSampler", "default_collate", "default_convert",
    "get_worker_info", "dataloader", "dataset", "distributed", "sampler",
]  # fmt: skip


def __getattr__(name: str) -> object:
    from ...core import left_out

    raise left_out.missing("torch.utils.data", name, __all__)
