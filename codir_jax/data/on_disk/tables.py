"""A file of rows cut into units: TSV, CSV, JSON lines, or plain text with a text a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from codir_jax.data import delimited, parquet
from codir_jax.data.compressed import is_compressed, kind_of
from codir_jax.data.delimited import Span, Table
from codir_jax.data.on_disk import cuts
from codir_jax.data.on_disk.streamed import UNIT_BYTES, Unit
from codir_jax.data.separators import is_quoted, separator_of
from codir_jax.data.shards import files
from codir_jax.data.splits import RawSplit
from codir_jax.data.table_columns import check_lines, check_texts, parse_column

SUFFIXES = (".txt", *delimited.TABLE_SUFFIXES)
# (table, values of the label column, problems) -> labels as of `streamed.Unit`.
ParseLabels = Callable[[Table, Sequence, list[str]], list]


@dataclasses.dataclass(frozen=True)
class PartOfTable:
    """Reads the rows of a stretch of a file; see `streamed.Unit.read`.

    Attributes:
      path: of the file. span: part of it. header: its column names; None where it has no header line.
      texts: columns of the texts, one or two. is_apart: two are encoded each by itself.
      label: column of the labels, "" without any; they are read by `parse_labels`.
      further: (name in a batch, column) of each further column.
    """

    path: Path
    span: Span
    header: tuple[str, ...] | None
    texts: tuple[str, ...]
    is_apart: bool = False
    label: str = ""
    parse_labels: ParseLabels | None = None
    further: tuple[tuple[str, str], ...] = ()

    def __call__(self, problems: list[str]) -> RawSplit | None:
        found: list[str] = []
        rows = self._read(self.span, found)
        knows_lines = not self.span.start or kind_of(self.path) == parquet.SUFFIX
        if found and not knows_lines:  # only now the lines before it are counted
            found = []
            first_line = 1 + delimited.count_lines(self.path, self.span.start)
            self._read(dataclasses.replace(self.span, first_line=first_line), found)
        problems += found
        return rows

    def _read(self, span: Span, problems: list[str]) -> RawSplit | None:
        if kind_of(self.path) == ".txt":
            lines = delimited.read_lines(self.path, problems, span)
            return None if lines is None else RawSplit(check_lines(self.path, lines, problems, span.first_line))
        required = dict.fromkeys([*self.texts, *filter(None, [self.label]), *(column for _, column in self.further)])
        header = self.header if span.start else None
        table = delimited.read_table(self.path, list(required), problems, header=header, span=span)
        if table is None:
            return None
        labels = self.parse_labels(table, table.columns[self.label], problems) if self.label else None
        columns = {name: parse_column(table, column, problems) for name, column in self.further}
        firsts, seconds = check_texts(table, self.texts, problems)
        if problems:
            return None
        if self.is_apart:
            return RawSplit(firsts, None, labels, (seconds,), columns)
        return RawSplit(firsts, seconds, labels, columns=columns)


def parts(path: Path, **of_part) -> list[tuple[int, PartOfTable]]:
    """Returns (bytes, reader) of each unit of a file, which follow from it alone; a .gz and a row group of a .parquet
    are not parted.

    Args:
      path: of the file.
      **of_part: fields of `PartOfTable`.
    """
    file, separator = files.text_file(path), separator_of(path)
    apart = files.unit_bytes(file.size, UNIT_BYTES)
    if kind_of(path) == parquet.SUFFIX:
        return _row_groups(path, file.size, apart, of_part)
    if separator and is_quoted(path, separator) and not is_compressed(path):
        places = cuts.between_quoted_rows(path, separator, apart)
    else:
        places = files.cuts(file, apart)
    header = tuple(cuts.read_header(path, separator)) if separator else None
    bounds = zip([0, *places], [*places, None], strict=True)
    return [
        ((end or file.size) - start, PartOfTable(path, Span(start, end), header, **of_part)) for start, end in bounds
    ]


def _row_groups(path: Path, size: int, apart: int, of_part) -> list[tuple[int, PartOfTable]]:
    rows = parquet.cuts(path, apart)
    total = parquet.num_rows(path) if rows else 1  # of one part they are not asked: the file may be broken
    parts = []
    for start, end in zip([0, *rows], [*rows, None], strict=True):
        num_bytes = size * ((total if end is None else end) - start) // total
        parts.append((num_bytes, PartOfTable(path, Span(start, end, start + 1), None, **of_part)))
    return parts


def units(labelled: Sequence[tuple[int, Callable]], unlabelled: Sequence[tuple[int, Callable]]):
    """Returns (units with labels, units without) of (bytes, reader) each, named by their places."""
    made = [Unit(f"unit-{i:05d}", *one) for i, one in enumerate([*labelled, *unlabelled])]
    return made[: len(labelled)], made[len(labelled) :]
