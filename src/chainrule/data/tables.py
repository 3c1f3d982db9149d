"""Tables of numbers from CSV and NPZ files, with one clear sentence for everything that can be wrong with them.

**CSV.** UTF-8 text, optionally gzipped. The separator is a tab if the first line has one outside quotes, else ``;`` if
it has one, else a comma. The first line is a header when none of its cells is a number; without a header the columns
are called "column 1", "column 2", … A column other than the target holds finite numbers, or text of few values: then it
is a category, and each value becomes a column of 0 and 1 (``data.categories``).

**NPZ.** Arrays ``x`` (N, F) and ``y`` (N,) of numbers, y also of text. Never unpickled: object arrays are refused.

**Classes or numbers.** The target is a class label if it is text, or if it holds whole numbers, at most 20 different
ones and on average at least two rows of each; otherwise it is a quantity. ``kind`` overrides the rule.
"""

from __future__ import annotations

import dataclasses
import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .categories import Categories, collapsed, expanded
from .sheet import (
    LARGEST,
    CellError,
    FileError,
    RowError,
    TableError,
    TargetError,
    read_bytes,
    read_csv,
    short,
    unknown,
)

__all__ = ["CellError", "FileError", "RowError", "Table", "TableError", "TargetError", "read_features", "read_table"]

MOST_CLASSES = 20


@dataclass(frozen=True, eq=False)
class Table:
    """Samples to learn from: N rows of F features, and one target each."""

    x: NDArray[np.float64]
    """(N, F)"""
    y: NDArray[Any]
    """(N,): class numbers (int64) that index ``class_names``, or quantities (float64)."""
    feature_names: tuple[str, ...]
    target_name: str
    kind: str
    """"classification" or "regression"."""
    class_names: tuple[str, ...] = ()
    """Empty for regression."""
    source: str = ""
    licence: str = ""
    categories: Categories = field(default_factory=dict)
    """The values of the columns that held text; a value is the feature ``column=value`` of ``x``."""


def read_table(
    path: str | Path, target: str | None = None, *, kind: str | None = None, class_names: Sequence[str] | None = None
) -> Table:
    """Read a CSV or NPZ file (the name decides: ``.npz`` or anything else).

    Args:
        path: the file.
        target: name of the target column; the last one if left out, which is allowed where the others are numbers. In
            an NPZ file the name of an array, default "y".
        kind: "classification" or "regression"; by the module's rule if left out.
        class_names: the classes of an earlier table, in its order; a label outside them is an error.

    Raises:
        TableError: or one of its subclasses; the message is one sentence that names file, row and column.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "flowers.csv"
    >>> _ = file.write_text("length,width,kind\\n5.1,3.5,rose\\n4.9,3.0,lily\\n")
    >>> table = read_table(file)
    >>> table.kind, table.class_names, table.y.tolist(), table.x.shape
    ('classification', ('lily', 'rose'), [1, 0], (2, 2))
    """
    if kind not in (None, "classification", "regression"):
        raise UsageError(f"kind must be 'classification' or 'regression', it is {kind!r}")
    path = Path(path)
    categories: Categories = {}
    if path.suffix.lower() == ".npz":
        x, labels, features, target = _read_npz(path, target or "y")
    else:
        sheet = read_csv(path)
        if len(sheet.names) < 2:
            raise RowError(f"{path}: one column only, a table needs at least one feature and the target")
        chosen = len(sheet.names) - 1 if target is None else _position(path, target, sheet.names)
        columns = [n for i, n in enumerate(sheet.names) if i != chosen]
        categories = sheet.categories(columns, sheet.names[chosen], asked=target is not None)
        target = sheet.names[chosen]
        features = tuple(expanded(columns, categories))
        x = sheet.features(columns, categories)
        labels = sheet.labels(chosen)
    y, found, classes = _encode(path, target, labels, kind, class_names)
    return Table(x, y, tuple(features), target, found, classes, source=str(path), categories=categories)


def read_features(
    path: str | Path, feature_names: Sequence[str], categories: Categories | None = None
) -> NDArray[np.float64]:
    """The features of these names, in this order, for a model that was trained on them; other columns are ignored.

    ``categories`` are those of the table that it was trained on; a value that is not among them is an error. A file
    without a header, and an NPZ file, may hold exactly the columns in order. Raises TableError.
    """
    path = Path(path)
    categories = categories or {}
    columns = list(collapsed(feature_names, categories))
    if path.suffix.lower() == ".npz":
        x = _npz_features(path, _npz_arrays(path, ("x",))["x"])
        if x.shape[1] != len(feature_names):
            raise TableError(f"{path}: x has {x.shape[1]} columns, the model was trained on {len(feature_names)}")
        return x
    sheet = read_csv(path)
    missing = [name for name in columns if name not in sheet.names]
    if not missing:
        return sheet.features(columns, categories)
    if not sheet.header:
        if len(sheet.names) == len(columns):
            return dataclasses.replace(sheet, names=columns).features(columns, categories)
        raise TableError(
            f"{path}: {len(sheet.names)} columns without a header, the model was trained on {len(columns)}"
        )
    raise TableError(f"{path}: {unknown('column', missing[0], sheet.names)}, which the model was trained on")


# --------------------------------------------------------------------------------------------------------------- NPZ


def _read_npz(path: Path, target: str) -> tuple[NDArray[np.float64], list[Any], tuple[str, ...], str]:
    arrays = _npz_arrays(path, ("x", target))
    x, y = _npz_features(path, arrays["x"]), arrays[target]
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise TargetError(f"{path}: {target} must have shape (N,), it has {y.shape}")
    if len(y) != len(x):
        raise TargetError(f"{path}: x has {len(x)} rows and {target} has {len(y)}")
    names = tuple(f"x[{i}]" for i in range(x.shape[1]))
    if y.dtype.kind in "US":
        return x, [str(v.decode("utf-8", "replace") if isinstance(v, bytes) else v) for v in y.tolist()], names, target
    if y.dtype.kind not in "biuf":
        raise TargetError(f"{path}: {target} must hold numbers or text, it is {y.dtype}")
    y = y.astype(np.float64)
    bad = np.flatnonzero(~(np.abs(y) <= LARGEST))
    if bad.size:
        raise CellError(f"{path}: {target}[{bad[0]}] is {y[bad[0]]}, not a finite number up to {LARGEST:g}")
    return x, y.tolist(), names, target


def _npz_arrays(path: Path, wanted: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    data = read_bytes(path)
    if not data:
        raise FileError(f"{path}: the file is empty")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            for name in wanted:
                if name not in archive.files:
                    raise TargetError(f"{path}: {unknown('array', name, archive.files)}")
            found: dict[str, NDArray[Any]] = {}
            for name in wanted:
                try:
                    found[name] = np.asarray(archive[name])
                except ValueError as error:
                    if "pickle" not in str(error):
                        raise
                    raise FileError(
                        f"{path}: {name} holds Python objects, which are never unpickled; save numbers"
                    ) from None
            return found
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError,
            NotImplementedError) as error:  # fmt: skip
        if isinstance(error, TableError):
            raise
        raise FileError(f"{path}: this is not an NPZ file, or it is damaged") from None


def _npz_features(path: Path, x: NDArray[Any]) -> NDArray[np.float64]:
    if x.dtype.kind not in "biuf":
        raise CellError(f"{path}: x must hold numbers, it is {x.dtype}")
    if x.ndim != 2:
        fix = f"; reshape it to ({x.shape[0]}, {math.prod(x.shape[1:])})" if x.ndim > 2 else ""
        raise RowError(f"{path}: x must have shape (N, F), it has {x.shape}{fix}")
    if 0 in x.shape:
        raise FileError(f"{path}: x is empty, it has shape {x.shape}")
    x = x.astype(np.float64)
    bad = np.argwhere(~(np.abs(x) <= LARGEST))
    if bad.size:
        r, c = bad[0].tolist()
        raise CellError(f"{path}: x[{r}, {c}] is {x[r, c]}, not a finite number up to {LARGEST:g}")
    return x


# ------------------------------------------------------------------------------------------------------------ target


def _encode(
    path: Path, target: str, labels: list[Any], kind: str | None, class_names: Sequence[str] | None
) -> tuple[NDArray[Any], str, tuple[str, ...]]:
    """Target values as class numbers or quantities, the kind, and the names of the classes."""
    numeric = not isinstance(labels[0], str)
    distinct = sorted(set(labels))
    if kind is None and class_names is not None:
        kind = "classification"
    if kind is None:
        whole = numeric and all(value == int(value) for value in distinct)
        few = len(distinct) <= MOST_CLASSES and len(labels) >= 2 * len(distinct)
        kind = "classification" if not numeric or (whole and few) else "regression"
    if kind == "regression" and not numeric:
        raise TargetError(f"{path}: target {target!r} holds text such as {short(labels[0])}, regression needs numbers")
    if len(distinct) == 1 and class_names is None:
        what = "class" if kind == "classification" else "value"
        shown = short(_label(labels[0]))
        raise TargetError(f"{path}: target {target!r} has one {what} only ({shown} in every row), nothing to learn")
    if kind == "regression":
        return np.array(labels, dtype=np.float64), kind, ()
    names = [_label(value) for value in distinct] if class_names is None else list(class_names)
    number = {name: i for i, name in enumerate(names)}
    for r, value in enumerate(labels):
        if _label(value) not in number:
            raise TargetError(f"{path}: row {r + 1}, target {target!r}: {unknown('class', _label(value), names)}")
    return np.array([number[_label(value)] for value in labels], dtype=np.int64), kind, tuple(names)


def _label(value: Any) -> str:
    """3.0 is the class "3"."""
    if isinstance(value, str):
        return value
    return str(int(value)) if value == int(value) else repr(value)


def _position(path: Path, target: str, names: list[str]) -> int:
    if target not in names:
        raise TargetError(f"{path}: {unknown('column', target, names)}")
    return names.index(target)
