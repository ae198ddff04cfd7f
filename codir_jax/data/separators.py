"""What parts the fields of a .csv or .tsv, found by its first lines."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from codir_jax.data import compressed
from codir_jax.data.compressed import kind_of

OF_KIND = {".csv": ",", ".tsv": "\t"}
SEPARATORS = (",", ";", "\t", "|")
# Of a text, and of a quoted field: a long novel.
MOST_CHARACTERS = 1_000_000
# Of a header that is told from others by its commas.
_LINES_LOOKED_AT = 20


def separator_of(path: Path) -> str:
    """Returns what parts the fields of a .csv or .tsv; "" for any other file.

    The separator of its kind, if it parts the header; else the one that parts the first lines into most fields, as many
    in each of them.
    """
    own = OF_KIND.get(kind_of(path), "")
    lines = _first_lines(path) if own else []
    if not lines:
        return own
    fields = {separator: _num_fields(lines, separator) for separator in SEPARATORS}
    if _num_fields(lines[:1], own) > 1 or max(fields.values()) < 2:
        return own
    return max(SEPARATORS, key=lambda separator: fields[separator])


def csv_reader(lines: Iterable[str], separator: str = ",", *, strict: bool = True):
    """Returns Python's reader of quoted fields, each of at most `MOST_CHARACTERS` (its own limit is 2^17)."""
    csv.field_size_limit(MOST_CHARACTERS)
    return csv.reader(lines, delimiter=separator, strict=strict)


def is_quoted(path: Path, separator: str) -> bool:
    """Returns whether a field may stand in quotes: in all of these files but a .tsv that tabs part."""
    return separator != "\t" or kind_of(path) == ".csv"


def in_words(separator: str) -> str:
    """How a separator is told."""
    return "tab" if separator == "\t" else repr(separator)


def _first_lines(path: Path) -> list[str]:
    """A few lines of a file; none of one that is damaged or not there, which those tell who read it."""
    try:
        with compressed.open_bytes(path) as file:
            lines = list(itertools.islice(file, _LINES_LOOKED_AT))
    except (*compressed.BROKEN, OSError):
        return []
    return [line.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n") for line in lines]


def _num_fields(lines: Sequence[str], separator: str) -> int:
    """Fields of each of the first rows; 0 where they have not all as many. A quoted field may hold line ends."""
    try:
        rows = [row for row in csv_reader((f"{line}\n" for line in lines), separator, strict=False) if row]
    except csv.Error:
        return 0
    if len(lines) == _LINES_LOOKED_AT and len(rows) > 1:
        rows.pop()  # the last line may be the middle of a row
    numbers = {len(row) for row in rows}
    return numbers.pop() if len(numbers) == 1 else 0
