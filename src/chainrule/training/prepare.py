"""From a table to tensors: split, standardise on the training rows, and remember how, for prediction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import BUNDLED, Table, moments, read_table, standardize, train_validation_split
from ..errors import UsageError
from .config import TrainConfig

__all__ = ["Prepared", "Schema", "prepare", "load"]


@dataclass(frozen=True)
class Schema:
    """What a trained network must know of its data to predict on other data."""

    kind: str
    feature_names: tuple[str, ...]
    target_name: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    target_mean: float
    target_std: float
    categories: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """The values of text columns; empty in runs from before there were any."""

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Schema:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        fields["categories"] = {k: tuple(v) for k, v in values.get("categories", {}).items()}
        return cls(**fields)

    @property
    def outputs(self) -> int:
        """Width of the network's last layer."""
        return len(self.class_names) if self.kind == "classification" else 1

    def features(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Rows as the network wants them."""
        return standardize(x, np.array(self.mean), np.array(self.std)).astype(np.float32)

    def targets(self, y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Class numbers, or standardised quantities in a column."""
        if self.kind == "classification":
            return y.astype(np.int64)
        return ((y - self.target_mean) / self.target_std).astype(np.float32)[:, None]


@dataclass(frozen=True)
class Prepared:
    """Training, validation and test rows as arrays ready for the network."""

    table: Table
    schema: Schema
    train: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
    val: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
    test: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def load(data: str, target: str | None) -> Table:
    """A bundled set by name, or a CSV or NPZ file."""
    if data in BUNDLED:
        table = BUNDLED[data]()
        if target is not None and target != table.target_name:
            raise UsageError(f"{data}: the target of this bundled set is {table.target_name!r}, not {target!r}")
        return table
    if not Path(data).exists() and not Path(data).suffix:
        raise UsageError(f"{data}: no such file, and no bundled set of that name (there are: {', '.join(BUNDLED)})")
    return read_table(data, target)


def prepare(table: Table, config: TrainConfig) -> Prepared:
    """Split and standardise.

    Raises:
        UsageError: too few rows, or a loss that does not fit the target.
    """
    classification = table.kind == "classification"
    if classification and config.loss not in ("auto", "cross_entropy"):
        raise UsageError(f"loss {config.loss} is for quantities, but the target {table.target_name!r} holds classes")
    if not classification and config.loss == "cross_entropy":
        raise UsageError(f"loss cross_entropy is for classes, but the target {table.target_name!r} holds quantities")
    rest, test = train_validation_split(table.y, config.test_split, seed=config.seed, stratify=classification)
    # the validation part is a fraction of all rows, as the test part is
    fraction = config.val_split / (1 - config.test_split)
    inner, val_inner = train_validation_split(table.y[rest], fraction, seed=config.seed + 1, stratify=classification)
    train, val = rest[inner], rest[val_inner]
    if config.norm == "batch" and (len(train) < 2 or config.batch_size < 2):
        raise UsageError("batch norm needs at least 2 rows in a batch: use --norm layer, or a larger --batch-size")
    if config.standardize:
        mean, std = moments(table.x[train])
    else:
        mean, std = np.zeros(table.x.shape[1]), np.ones(table.x.shape[1])
    target_mean, target_std = 0.0, 1.0
    if not classification and config.standardize:
        m, s = moments(table.y[train][:, None])
        target_mean, target_std = float(m[0]), float(s[0])
    schema = Schema(
        kind=table.kind,
        feature_names=table.feature_names,
        target_name=table.target_name,
        class_names=table.class_names,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        target_mean=target_mean,
        target_std=target_std,
        categories={k: tuple(v) for k, v in table.categories.items()},
    )

    def rows(which: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return schema.features(table.x[which]), schema.targets(table.y[which])

    return Prepared(table, schema, rows(train), rows(val), rows(test))
