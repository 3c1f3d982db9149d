"""``torch.utils.data``: the PyTorch-named face of ``chainrule.data``."""

from ...data import dataset, sampler
from ...data import loader as dataloader
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
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "DataLoader", "Dataset", "IterableDataset", "TensorDataset", "StackDataset", "ConcatDataset", "ChainDataset",
    "Subset", "random_split", "Sampler", "SequentialSampler", "RandomSampler", "SubsetRandomSampler",
    "WeightedRandomSampler", "BatchSampler", "default_collate", "default_convert", "get_worker_info",
    "dataloader", "dataset", "sampler",
]  # fmt: skip
