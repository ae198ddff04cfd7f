"""Parquet files as tables: row i stands on "line" i, counted from 1. Like a .gz, one may not unpack to too much."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from codir_jax.data.compressed import TOO_MUCH, most_bytes

SUFFIX = ".parquet"
_ROWS_AT_ONCE = 8192
_BYTES_OF_VALUE = 8


def column_names(path: Path) -> list[str]:
    """Returns the names of its columns.

    Raises:
      BrokenError: it is no parquet file.
    """
    return list(_open(path).schema_arrow.names)


def cuts(path: Path, apart: int) -> list[int]:
    """Returns rows, counted from 0, at which a row group begins, with at least `apart` bytes of the file between two;
    none of a broken file."""
    try:
        metadata = _open(path).metadata
    except BrokenError:  # told by those who read the rows
        return []
    found, row, size = [], 0, 0
    for i in range(metadata.num_row_groups):
        if size >= apart and row:
            found.append(row)
            size = 0
        group = metadata.row_group(i)
        size += sum(group.column(j).total_compressed_size for j in range(group.num_columns))
        row += group.num_rows
    return found


def num_rows(path: Path) -> int:
    """Returns how many rows it has.

    Raises:
      BrokenError: as `column_names`.
    """
    return _open(path).metadata.num_rows


def read(path: Path, names: Sequence[str], start: int = 0, stop: int | None = None) -> dict[str, list]:
    """Returns the columns as Python values, None for a null and for NaN, by which pandas means the same.

    Args:
      start, stop: read the row groups that begin in these rows, counted from 0; None: to the end.

    Raises:
      BrokenError: it is no parquet file, a part of it cannot be read, a text is no UTF-8, or it unpacks to too much.
    """
    columns: dict[str, list] = {name: [] for name in names}
    for first_row, batch in _batches(path, names, start, stop):
        for name, values in columns.items():
            values += _values(batch, name, first_row)
    return columns


def rows(path: Path, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yields the values of a row as `read` has them, a few thousand rows in memory at a time.

    Raises:
      BrokenError: as `read`.
    """
    for first_row, batch in _batches(path, names):
        yield from zip(*(_values(batch, name, first_row) for name in names), strict=True)


class BrokenError(Exception):
    """What is wrong with a file, in words, and in which row, None for all of it; those who read it name the file."""

    def __init__(self, message: str, row: int | None = None):
        super().__init__(message)
        self.row = row


def _batches(path: Path, names: Sequence[str], start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Any]]:
    """Yields (number of the first, some thousand rows), texts as places in a dictionary: one that comes often is there
    once."""
    import pyarrow

    left = most_bytes(path)
    try:
        schema = _open(path).schema_arrow
        file = _open(path, [name for name in names if _is_text(schema.field(name).type)])
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        begins = [0, *itertools.accumulate(sizes)][:-1]
        chosen = [i for i, row in enumerate(begins) if start <= row and (stop is None or row < stop)]
        groups = (file.metadata.row_group(i) for i in chosen)
        columns = (group.column(i) for group in groups for i in range(group.num_columns))
        read = (column for column in columns if {column.path_in_schema, column.path_in_schema.split(".")[0]} & {*names})
        if sum(column.total_uncompressed_size for column in read) > left:
            raise BrokenError(TOO_MUCH)
        first_row = 1 + start
        for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=chosen, columns=list(names)):
            left -= sum(map(_num_bytes, batch.columns))
            if left < 0:
                raise BrokenError(TOO_MUCH)
            yield first_row, batch
            first_row += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise BrokenError(f"the parquet file is damaged ({error}); fetch or write it again") from error


def _values(batch, name: str, first_row: int) -> list:
    """Of a column; times that Python has not, such as of nanoseconds, as texts."""
    import pyarrow
    from pyarrow import types

    column = batch.column(name)
    try:
        values = column.to_pylist()
    except UnicodeDecodeError as error:
        row = first_row + next(place for place, value in enumerate(column) if not _is_unicode(value))
        told = f"bytes in column {name!r} that are no UTF-8 ({error.object[:20]!r}); write the texts as UTF-8"
        raise BrokenError(told, row) from error
    except (ValueError, OverflowError):
        if not types.is_temporal(column.type):
            raise
        return column.cast(pyarrow.string()).to_pylist()
    return [value if value == value else None for value in values] if types.is_floating(column.type) else values


def _is_unicode(value) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _num_bytes(column) -> int:
    """Of a column whose rows hold each their own value, and of the values as Python has them, about."""
    import pyarrow
    from pyarrow import compute

    num_bytes = column.nbytes + _BYTES_OF_VALUE * len(column)
    if isinstance(column, pyarrow.DictionaryArray) and _is_text(column.dictionary.type):
        num_bytes += compute.sum(compute.binary_length(column.dictionary).take(column.indices)).as_py() or 0
    return num_bytes


def _is_text(kind) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind)


def _open(path: Path, as_dictionary: Sequence[str] = ()):
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path, read_dictionary=list(as_dictionary))
    except (pyarrow.ArrowException, OSError) as error:
        raise BrokenError(f"is named {SUFFIX} and is no whole parquet file ({error})") from error
