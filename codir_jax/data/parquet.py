"""Parquet files as tables: row i stands on "line" i, counted from 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SUFFIX = ".parquet"


def column_names(path: Path) -> list[str]:
    """Returns the names of its columns.

    Raises:
      BrokenError: it is no parquet file.
    """
    return list(_open(path).schema_arrow.names)


def read(path: Path, names: Sequence[str]) -> dict[str, list]:
    """Returns the columns as Python values, None for a null.

    Raises:
      BrokenError: it is no parquet file, or a part of it cannot be read.
    """
    import pyarrow

    try:
        table = _open(path).read(columns=list(names))
    except (pyarrow.ArrowException, OSError) as error:
        raise BrokenError(f"the parquet file is damaged ({error}); fetch or write it again") from error
    return {name: table.column(name).to_pylist() for name in names}


def rows(path: Path, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yields the values of a row, a few thousand rows in memory at a time.

    Raises:
      BrokenError: as `read`.
    """
    import pyarrow

    try:
        for batch in _open(path).iter_batches(columns=list(names)):
            yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise BrokenError(f"the parquet file is damaged ({error}); fetch or write it again") from error


class BrokenError(Exception):
    """What is wrong with a file, in words; those who read it name the file."""


def _open(path: Path):
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise BrokenError(f"is named {SUFFIX} and is no whole parquet file ({error})") from error
