"""Tables of numbers from CSV and NPZ files, with one clear sentence for everything that can be wrong with them.

**CSV.** UTF-8 text, optionally gzipped. The separator is a tab if the first line has one outside quotes, else ``;`` if
it has one, else a comma. The first line is a header when none of its cells is a number; without a header the columns
are called "column 1", "column 2", … All columns but the target hold finite numbers.

**NPZ.** Arrays ``x`` (N, F) and ``y`` (N,) of numbers, y also of text. Never unpickled: object arrays are refused.

**Classes or numbers.** The target is a class label if it is text, or if it holds whole numbers, at most 20 different
ones and on average at least two rows of each; otherwise it is a quantity. ``kind`` overrides the rule.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError

__all__ = ["CellError", "FileError", "RowError", "Table", "TableError", "TargetError", "read_features", "read_table"]

LARGEST = 1e300
"""Cells beyond this are refused: a sum or a difference of a few of them would not be finite."""
MOST_CLASSES = 20


class TableError(UsageError):
    """A data file cannot be used."""


class FileError(TableError):
    """The file is missing, unreadable, empty, or of another kind."""


class RowError(TableError):
    """A row has the wrong number of cells."""


class CellError(TableError):
    """A cell holds something else than a finite number."""


class TargetError(TableError):
    """The target column is missing or cannot be learned."""


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


def read_table(
    path: str | Path, target: str | None = None, *, kind: str | None = None, class_names: Sequence[str] | None = None
) -> Table:
    """Read a CSV or NPZ file (the name decides: ``.npz`` or anything else).

    Args:
        path: the file.
        target: name of the target column; the last one if left out. In an NPZ file the name of an array, default "y".
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
    if path.suffix.lower() == ".npz":
        x, labels, features, target = _read_npz(path, target or "y")
    else:
        sheet = _read_csv(path)
        if len(sheet.names) < 2:
            raise RowError(f"{path}: one column only, a table needs at least one feature and the target")
        chosen = len(sheet.names) - 1 if target is None else _position(path, target, sheet.names)
        target = sheet.names[chosen]
        features = tuple(n for i, n in enumerate(sheet.names) if i != chosen)
        x = sheet.numbers([i for i in range(len(sheet.names)) if i != chosen])
        labels = sheet.labels(chosen)
    y, found, classes = _encode(path, target, labels, kind, class_names)
    return Table(x, y, tuple(features), target, found, classes, source=str(path))


def read_features(path: str | Path, feature_names: Sequence[str]) -> NDArray[np.float64]:
    """The columns of these names, in this order, for a model that was trained on them; other columns are ignored.

    A file without a header, and an NPZ file, may hold exactly the features in order. Raises TableError.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        x = _npz_features(path, _npz_arrays(path, ("x",))["x"])
        if x.shape[1] != len(feature_names):
            raise TableError(f"{path}: x has {x.shape[1]} columns, the model was trained on {len(feature_names)}")
        return x
    sheet = _read_csv(path)
    missing = [name for name in feature_names if name not in sheet.names]
    if not missing:
        return sheet.numbers([sheet.names.index(name) for name in feature_names])
    if not sheet.header:
        if len(sheet.names) == len(feature_names):
            return sheet.numbers(list(range(len(feature_names))))
        raise TableError(
            f"{path}: {len(sheet.names)} columns without a header, the model was trained on {len(feature_names)}"
        )
    raise TableError(f"{path}: {_unknown('column', missing[0], sheet.names)}, which the model was trained on")


# --------------------------------------------------------------------------------------------------------------- CSV


@dataclass(frozen=True)
class _Sheet:
    """Cells as text, every row of the same length."""

    path: Path
    names: list[str]
    header: bool
    rows: list[list[str]]
    lines: list[int]

    def numbers(self, columns: list[int]) -> NDArray[np.float64]:
        try:  # all at once where nothing is wrong, which is 3 times faster than cell by cell
            x = np.array([[float(row[column]) for column in columns] for row in self.rows])
            if (np.abs(x) <= LARGEST).all() and all(_plain("".join(row)) for row in self.rows):
                return x
        except ValueError:
            pass
        x = np.empty((len(self.rows), len(columns)))
        for r, row in enumerate(self.rows):
            for c, column in enumerate(columns):
                x[r, c] = self.number(r, column, row[column])
        return x

    def labels(self, column: int) -> list[Any]:
        """The target's cells: numbers if all are, else text."""
        cells = [row[column] for row in self.rows]
        for r, cell in enumerate(cells):
            if not cell:
                raise CellError(f"{self.where(r, column)}: the cell is empty, the target needs a value")
        textual = [r for r, cell in enumerate(cells) if not _is_number(cell)]
        if not textual:
            return [self.number(r, column, cell) for r, cell in enumerate(cells)]
        if 2 * len(textual) < len(cells):  # a quantity with a typo in it must not become a hundred classes
            raise CellError(f"{self.where(textual[0], column)}: {_short(cells[textual[0]])} is not a number")
        return cells

    def number(self, r: int, column: int, cell: str) -> float:
        if not cell:
            raise CellError(f"{self.where(r, column)}: the cell is empty, a number belongs there")
        if not _is_number(cell):
            hint = ""
            if _is_number(cell.replace(",", ".", 1)):
                hint = f"; write {cell.replace(',', '.', 1)} with a point"
            elif not any(_is_number(row[column]) for row in self.rows):
                hint = f"; no cell of this column is: if it is the target, say --target {self.names[column]!r}"
            raise CellError(f"{self.where(r, column)}: {_short(cell)} is not a number{hint}")
        value = float(cell)
        if not abs(value) <= LARGEST:  # NaN fails every comparison
            infinite_in_print = cell.lstrip("+-").lower().startswith(("inf", "nan"))
            reason = "is not finite" if infinite_in_print else f"is too large, the limit is {LARGEST:g}"
            raise CellError(f"{self.where(r, column)}: {_short(cell)} {reason}")
        return value

    def where(self, r: int, column: int) -> str:
        return f"{self.path}: row {r + 1} (line {self.lines[r]}), column {self.names[column]!r}"


def _read_csv(path: Path) -> _Sheet:
    text = _decode(path, _read_bytes(path))
    first = next((line for line in text.splitlines() if line.strip()), None)
    if first is None:
        raise FileError(f"{path}: the file is empty")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(first), strict=True, skipinitialspace=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 1
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):  # blank lines carry nothing
                rows.append([cell.strip() for cell in row])
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise FileError(f"{path}: line {start} is not valid CSV ({error})") from None

    width = len(rows[0])
    header = not any(_is_number(cell) for cell in rows[0])
    for i, row in enumerate(rows):
        if len(row) != width:
            number = i if header else i + 1
            raise RowError(f"{path}: row {number} (line {lines[i]}) has {len(row)} cells, line {lines[0]} has {width}")
    names = [(header and cell) or f"column {i + 1}" for i, cell in enumerate(rows[0])]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise FileError(f"{path}: two columns are called {twice!r}, rename one")
    if header and len(rows) == 1:
        raise FileError(f"{path}: there is a header and no rows below it")
    return _Sheet(path, names, header, rows[header:], lines[header:])


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise FileError(f"{path}: this is a folder, not a file") from None
    except OSError as error:
        raise FileError(f"{path}: the file cannot be read ({error.strerror or error})") from None
    if data.startswith(b"\x1f\x8b"):
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            raise FileError(f"{path}: the gzip data is damaged") from None
    return data


def _decode(path: Path, data: bytes) -> str:
    if data.startswith(b"PK\x03\x04"):
        raise FileError(f"{path}: this is a ZIP file or a spreadsheet, not CSV; export it as CSV")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileError(f"{path}: the text is UTF-16, save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError(
            f"{path}: line {line} is not UTF-8 text (byte 0x{data[error.start]:02x}), save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise FileError(f"{path}: this is not a text file (it holds NUL bytes)")
    return text


def _separator(line: str) -> str:
    unquoted = "".join(line.split('"')[::2])
    return next((s for s in "\t;" if s in unquoted), ",")


def _is_number(cell: str) -> bool:
    """Whether a cell is written as a number, NaN and infinity included."""
    try:
        float(cell)
    except ValueError:
        return False
    return _plain(cell)


def _plain(text: str) -> bool:
    """Python's float() also takes 1_000 and digits of other scripts; a table means something else by them."""
    return "_" not in text and text.isascii()


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
    data = _read_bytes(path)
    if not data:
        raise FileError(f"{path}: the file is empty")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            for name in wanted:
                if name not in archive.files:
                    raise TargetError(f"{path}: {_unknown('array', name, archive.files)}")
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
        raise TargetError(f"{path}: target {target!r} holds text such as {_short(labels[0])}, regression needs numbers")
    if len(distinct) == 1 and class_names is None:
        what = "class" if kind == "classification" else "value"
        shown = _short(_label(labels[0]))
        raise TargetError(f"{path}: target {target!r} has one {what} only ({shown} in every row), nothing to learn")
    if kind == "regression":
        return np.array(labels, dtype=np.float64), kind, ()
    names = [_label(value) for value in distinct] if class_names is None else list(class_names)
    number = {name: i for i, name in enumerate(names)}
    for r, value in enumerate(labels):
        if _label(value) not in number:
            raise TargetError(f"{path}: row {r + 1}, target {target!r}: {_unknown('class', _label(value), names)}")
    return np.array([number[_label(value)] for value in labels], dtype=np.int64), kind, tuple(names)


def _label(value: Any) -> str:
    """3.0 is the class "3"."""
    if isinstance(value, str):
        return value
    return str(int(value)) if value == int(value) else repr(value)


def _position(path: Path, target: str, names: list[str]) -> int:
    if target not in names:
        raise TargetError(f"{path}: {_unknown('column', target, names)}")
    return names.index(target)


def _unknown(what: str, name: str, names: Sequence[str]) -> str:
    """no column 'widht', did you mean 'width'?  Or, with nothing near, what there is."""
    by_lower = {n.lower(): n for n in names}
    near = [by_lower[n] for n in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)]
    if near:
        return f"no {what} {name!r}, did you mean {' or '.join(map(repr, near))}?"
    shown = ", ".join(map(repr, names[:8])) + (f", … ({len(names)} in all)" if len(names) > 8 else "")
    return f"no {what} {name!r}, there is {shown or 'none'}"


def _short(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:37] + "…")
