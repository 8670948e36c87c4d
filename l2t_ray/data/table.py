"""A CSV or Parquet table of path, label and split, read as if its images lay in a folder `<split>/<label>/`.

A file's name there is the number of its row. So a set is known by its images, labels, splits and their order, wherever
the files lie.
"""

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from l2t_ray.data.archive import MAX_FILE_BYTES, MAX_FILES, SPLITS, check_exists, refuse
from l2t_ray.data.names import composed, is_fit
from l2t_ray.errors import InputError, printable

COLUMNS = ("path", "label", "split")
SUFFIXES = (".csv", ".parquet")


class Row(NamedTuple):
    """A row as it is read; an empty text stands for no value."""

    number: int  # the header's is 1
    path: str
    label: str
    split: str
    problems: tuple[str, ...] = ()  # that leave its values unknown


def is_table(path: Path) -> bool:
    """Whether a path is that of a table, by its suffix."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


class Table:
    """The files that a table names, with the attributes and methods of an `Archive`.

    Args:
        path: a CSV with a header, or a Parquet file; its paths count from its own folder. Without a column `split` all
            rows are `train`.

    Attributes:
        path: the same.
        names: `<split>/<label>/<row>` of the files, sorted.
        folders: none.

    Raises:
        InputError: with a line for every row that breaks a rule.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folders: frozenset[str] = frozenset()
        self._rows: dict[str, Row] = {}
        problems = []
        for index, row in enumerate(read_rows(path)):
            if index >= MAX_FILES:
                raise InputError(f"{path}: must have at most {MAX_FILES} rows, got more; divide the table")
            if told := row.problems or [*self._problems(row)]:
                problems += [f"row {row.number}: {problem}" for problem in told]
            else:
                self._rows[f"{row.split}/{row.label}/{index:08}"] = row
        if not self._rows and not problems:
            problems.append("must have a row for each image, got none; add them")
        refuse(path, problems)
        self.names = sorted(self._rows)

    def __enter__(self) -> Self:
        """Does nothing: the files are opened one by one."""
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing."""

    def read(self, name: str) -> bytes:
        """Returns the bytes of one of `names`.

        Raises:
            InputError: if it cannot be read.
        """
        row = self._rows[name]
        try:
            return Path(self.path.parent, row.path).read_bytes()
        except OSError as error:
            rule = f"row {row.number}: path must be a file that can be read"
            raise InputError(f"{self.path}: {rule}, got {row.path!r} ({error.strerror}); correct it") from error

    def stored(self) -> list[str]:
        """Returns the names in the order of the rows."""
        return [*self._rows]

    def shown(self, name: str) -> str:
        """Returns a name for messages: its row and path."""
        row = self._rows[name]
        return f"row {row.number}: {printable(row.path)}"

    def _problems(self, row: Row) -> Iterator[str]:
        _, file, label, split, _ = row
        if not label or "/" in label or not is_fit(label):
            yield f"label must be a text without / and control characters, got {label!r}; correct it"
        if split not in SPLITS:
            yield f"split must be train or test, got {split!r}; correct it"
        place = Path(self.path.parent, file)
        try:
            n_bytes = place.stat().st_size if place.is_file() else -1
        except (OSError, ValueError):  # a name that no disk can have
            n_bytes = -1
        if not file or n_bytes < 0:
            yield f"path must be a file, counted from the table's folder, got {file!r}; correct it, or remove the row"
        elif n_bytes > MAX_FILE_BYTES:
            yield f"files must be <= {MAX_FILE_BYTES} bytes, {file!r} has {n_bytes}"


def read_rows(path: Path) -> Iterator[Row]:
    """Yields the rows of a table; a CSV's are numbered by its lines.

    Args:
        path: of the table.

    Raises:
        InputError: if it cannot be read, or lacks a column.
    """
    check_exists(path)
    yield from _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)


def _read_csv(path: Path) -> Iterator[Row]:
    number = 1  # of the line at which a row begins
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream, skipinitialspace=True, strict=True)
            header = [name.strip() for name in next(lines, [])]
            _check_columns(path, header)
            number = lines.line_num + 1
            for values in lines:
                if values:
                    named = dict(zip(header, values, strict=False))  # a shorter row lacks its last values
                    yield _row(number, named, header, _csv_problems(header, values))
                number = lines.line_num + 1
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be a CSV in UTF-8, got {error}; save it as one") from error
    except csv.Error as error:
        rule = f"row {number}: each value in quotes must end with a quote, before a comma or the end of its line"
        raise InputError(f"{path}: {rule}, got {error}; correct the quotes") from error


def _csv_problems(header: list[str], values: list[str]) -> Iterator[str]:
    if broken := [value for value in values if "\n" in value or "\r" in value]:
        yield f"a value must be on one line, got {broken[0][:40]!r}; close its quotes, or remove the end of the line"
    if any(value.strip() for value in values[len(header) :]):
        rule = f"must have a value for each of the {len(header)} columns, got {len(values)}"
        yield f"{rule}; quote the value that holds a comma"


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        header = [*file.schema_arrow.names]
        _check_columns(path, header)
        number = 1
        for batch in file.iter_batches(columns=[name for name in COLUMNS if name in header]):
            for values in batch.to_pylist():
                number += 1
                yield _row(number, values, header)
    except (pa.ArrowException, OSError) as error:
        rule = "must be a Parquet table that can be read"
        raise InputError(f"{path}: {rule}, got {' '.join(str(error).split())}; write it again") from error


def _check_columns(path: Path, header: list[str]) -> None:
    if broken := [name for name in header if "\n" in name or "\r" in name]:
        rule = "row 1: a column's name must be on one line"
        raise InputError(f"{path}: {rule}, got {broken[0][:40]!r}; close its quotes, or remove the end of the line")
    if missing := [name for name in COLUMNS[:2] if name not in header]:
        there = ", ".join(header[:8]) or "none"
        rule = f"must have the columns {', '.join(COLUMNS)}"
        raise InputError(f"{path}: {rule}, got {there}; add {' and '.join(missing)}")
    if twice := [name for name in COLUMNS if header.count(name) > 1]:
        rule = f"row 1: a column must be there once, {' and '.join(twice)} is there twice"
        raise InputError(f"{path}: {rule}; rename or remove one")


def _row(number: int, values: dict[str, Any], header: list[str], problems: Iterable[str] = ()) -> Row:
    told = [*problems]
    texts = []
    for name in COLUMNS:
        try:
            texts.append(_text(values.get(name)))
        except ValueError:
            told.append(f"{name} must be a text, in UTF-8, or a number, got {str(values[name])[:40]}; correct it")
            texts.append("")
    file, label, split = texts
    return Row(number, file, composed(label), split if "split" in header else "train", tuple(told))


def _text(value: Any) -> str:
    """Returns a value as a text, empty for none; raises ValueError for what is no single value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):  # as pandas writes a missing one
        return ""
    if isinstance(value, bytes):
        return value.decode().strip()
    if isinstance(value, list | tuple | dict):
        raise ValueError
    return str(value).strip()
