"""Data: bundled real sets, tables from CSV and NPZ files, splits and standardisation."""

from .collate import default_collate, default_convert
from .dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from .datasets import BUNDLED, load_diabetes, load_digits
from .loader import DataLoader
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .split import moments, standardize, train_validation_split
from .tables import CellError, FileError, RowError, Table, TableError, TargetError, read_features, read_table

__all__ = [
    "DataLoader", "Dataset", "IterableDataset", "TensorDataset", "StackDataset", "ConcatDataset", "ChainDataset",
    "Subset", "random_split", "Sampler", "SequentialSampler", "RandomSampler", "SubsetRandomSampler",
    "WeightedRandomSampler", "BatchSampler", "default_collate", "default_convert",
    "Table", "read_table", "read_features",
    "BUNDLED", "load_digits", "load_diabetes",
    "train_validation_split", "moments", "standardize",
    "TableError", "FileError", "RowError", "CellError", "TargetError",
]  # fmt: skip
