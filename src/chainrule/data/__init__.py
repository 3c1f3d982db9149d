"""Data: bundled real sets, tables from CSV and NPZ files, splits and standardisation."""

from .datasets import BUNDLED, load_diabetes, load_digits
from .split import moments, standardize, train_validation_split
from .tables import CellError, FileError, RowError, Table, TableError, TargetError, read_features, read_table

__all__ = [
    "Table", "read_table", "read_features",
    "BUNDLED", "load_digits", "load_diabetes",
    "train_validation_split", "moments", "standardize",
    "TableError", "FileError", "RowError", "CellError", "TargetError",
]  # fmt: skip
