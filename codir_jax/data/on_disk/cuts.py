"""Where a .tsv or .csv can be cut into parts, and the header that all parts share."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from codir_jax.data import compressed
from codir_jax.data.separators import csv_reader, is_quoted


def read_header(path: Path, separator: str) -> list[str]:
    """Returns the column names of a file, [] where it has none or a damaged .gz hides them."""
    try:
        with compressed.open_bytes(path) as file:
            first = _decoded(file)
            if is_quoted(path, separator):
                row = next(csv_reader(first, separator), [])
            else:
                row = next(first, "").rstrip("\r\n").split(separator)
    except (*compressed.BROKEN, csv.Error):  # told by those who read the rows
        return []
    return row


def between_quoted_rows(path: Path, separator: str, apart: int) -> list[int]:
    """Returns places between rows of a quoted file, about `apart` bytes from each other. All of it is read: a quoted
    field may hold line ends."""
    cuts, position, target = [], 0, apart

    def lines():
        nonlocal position
        with path.open("rb") as file:
            for line in file:
                position += len(line)
                yield line

    try:
        for _ in csv_reader(_decoded(lines()), separator):
            if position >= target:
                cuts.append(position)
                target = position + apart
    except csv.Error:  # told by those who read the rows
        pass
    return [cut for cut in cuts if cut < path.stat().st_size]


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    """Without the byte order mark, behind which a quote would be a character."""
    for number, line in enumerate(lines):
        yield (line if number else line.removeprefix(b"\xef\xbb\xbf")).decode("utf-8", "replace")
