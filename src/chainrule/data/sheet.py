"""A CSV file as cells of text, and the sentences for what can be wrong with them."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import shlex
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .categories import MOST, Categories, expanded, is_text, one_hot

__all__ = [
    "CellError",
    "FileError",
    "LARGEST",
    "RowError",
    "Sheet",
    "TableError",
    "TargetError",
    "read_bytes",
    "read_csv",
    "short",
    "unknown",
]

LARGEST = 1e300
"""Cells beyond this are refused: a sum or a difference of a few of them would not be finite."""


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


@dataclass(frozen=True)
class Sheet:
    """Cells as text, every row of the same length."""

    path: Path
    names: list[str]
    header: bool
    rows: list[list[str]]
    lines: list[int]

    def categories(self, columns: list[str], target: str, *, asked: bool) -> Categories:
        """The columns that hold text, with their values. Which column is the target must be said then."""
        found: dict[str, Sequence[str]] = {}
        for name in columns:
            column = self.names.index(name)
            cells = [row[column] for row in self.rows]
            if not is_text(cells):
                continue
            if not asked:
                raise TargetError(
                    f"{self.path}: column {name!r} holds text, so name the target: --target {shlex.quote(name)} "
                    f"if it is this one, --target {shlex.quote(target)} if it is a category to predict from"
                )
            values = sorted(set(cells))
            if "" in values:
                raise CellError(f"{self.where(cells.index(''), column)}: the cell is empty, a category belongs there")
            if len(values) > MOST or len(cells) < 2 * len(values):
                raise CellError(
                    f"{self.path}: column {name!r} holds text with {len(values)} different values in {len(cells)} "
                    f"rows (such as {short(cells[0])}); a category has at most {MOST}, each in two rows on average: "
                    f"take the column out of the file, or write it as numbers"
                )
            found[name] = tuple(values)
        names = expanded(columns, found)
        twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
        if twice is not None:
            raise FileError(f"{self.path}: {twice!r} is a column and a value of another, rename one")
        return found

    def features(self, columns: list[str], categories: Categories) -> NDArray[np.float64]:
        """(N, F): numbers as they are, categories as a column for each of their values."""
        if not categories:
            return self.numbers([self.names.index(name) for name in columns])
        parts: list[NDArray[np.float64]] = []
        for name in columns:
            column = self.names.index(name)
            if name not in categories:
                parts.append(self.numbers([column]))
                continue
            cells = [row[column] for row in self.rows]
            for r, cell in enumerate(cells):
                if cell not in categories[name]:
                    known = ", ".join(map(repr, categories[name]))
                    raise CellError(
                        f"{self.where(r, column)}: {short(cell)} is none of the values it had in training ({known})"
                    )
            parts.append(one_hot(cells, categories[name]))
        return np.concatenate(parts, axis=1)

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
            raise CellError(f"{self.where(textual[0], column)}: {short(cells[textual[0]])} is not a number")
        return cells

    def number(self, r: int, column: int, cell: str) -> float:
        if not cell:
            raise CellError(f"{self.where(r, column)}: the cell is empty, a number belongs there")
        if not _is_number(cell):
            hint = ""
            if _is_number(cell.replace(",", ".", 1)):
                hint = f"; write {cell.replace(',', '.', 1)} with a point"
            raise CellError(f"{self.where(r, column)}: {short(cell)} is not a number{hint}")
        value = float(cell)
        if not abs(value) <= LARGEST:  # NaN fails every comparison
            infinite_in_print = cell.lstrip("+-").lower().startswith(("inf", "nan"))
            reason = "is not finite" if infinite_in_print else f"is too large, the limit is {LARGEST:g}"
            raise CellError(f"{self.where(r, column)}: {short(cell)} {reason}")
        return value

    def where(self, r: int, column: int) -> str:
        return f"{self.path}: row {r + 1} (line {self.lines[r]}), column {self.names[column]!r}"


def read_csv(path: Path) -> Sheet:
    text = _decode(path, read_bytes(path))
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
    return Sheet(path, names, header, rows[header:], lines[header:])


def read_bytes(path: Path) -> bytes:
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


def unknown(what: str, name: str, names: Sequence[str]) -> str:
    """no column 'widht', did you mean 'width'?  Or, with nothing near, what there is."""
    by_lower = {n.lower(): n for n in names}
    near = [by_lower[n] for n in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)]
    if near:
        return f"no {what} {name!r}, did you mean {' or '.join(map(repr, near))}?"
    shown = ", ".join(map(repr, names[:8])) + (f", … ({len(names)} in all)" if len(names) > 8 else "")
    return f"no {what} {name!r}, there is {shown or 'none'}"


def short(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:37] + "…")
