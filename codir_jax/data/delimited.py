"""Reads TSV, CSV, JSON lines and plain text into columns, and collects what is wrong instead of stopping at the first.

Every reader takes `problems`, a list of sentences "file:line: what is wrong" that it adds to; the caller raises one
`DataError` for all files. TSV is unquoted, as GLUE's is: a quote is a character, and lines end at \\n only (GLUE texts
hold \\r, \\x85 and \\u2028). CSV is quoted, as Python's csv module and spreadsheets write it.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from codir_jax.data import compressed
from codir_jax.data.compressed import kind_of
from codir_jax.processes import json_text

TABLE_SUFFIXES = (".tsv", ".csv", ".jsonl", ".json")


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of one file: `columns[name][i]` stands on line `lines[i]` (counted from 1) of `path`.

    A value is a str, or in JSON lines whatever the line holds; None where an optional JSON field is not there.
    """

    path: Path
    lines: list[int]
    columns: dict[str, list]


def at(path: Path, line: int | None, message: str) -> str:
    """Returns the sentence of a problem; line None means the file as a whole."""
    return f"{path}: {message}" if line is None else f"{path}:{line}: {message}"


def nearest(name: str, known: Sequence[str]) -> str:
    """Returns "; did you mean 'x'?" for the known name most like `name`, or ""."""
    folded = {other.casefold(): other for other in known}
    matches = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.5)
    return f"; did you mean {folded[matches[0]]!r}?" if matches else ""


@dataclasses.dataclass(frozen=True)
class Span:
    """Bytes start .. end of a file, None to its end: whole lines, of which the first has the number `first_line`."""

    start: int = 0
    end: int | None = None
    first_line: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the file."""
        return self.start == 0 and self.end is None


WHOLE = Span()


def read_lines(path: Path, problems: list[str], span: Span = WHOLE) -> list[str] | None:
    """Returns the lines of a UTF-8 file without line ends and byte order mark, or None and problems."""
    if not path.is_file():
        problems.append(at(path, None, "is a folder, expected a file" if path.is_dir() else _missing(path)))
        return None
    try:
        with compressed.open_bytes(path) as file:
            file.seek(span.start)
            content = file.read() if span.end is None else file.read(span.end - span.start)
    except compressed.BROKEN as error:
        problems.append(at(path, None, compressed.what_is_wrong(path, error)))
        return None
    if span.start == 0:
        content = content.removeprefix(b"\xef\xbb\xbf")
    if span.is_whole and not content.strip():
        problems.append(at(path, None, "the file is empty"))
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        if gzip_hint := compressed.hint(path, content):
            problems.append(at(path, None, f"broken UTF-8{gzip_hint}"))
            return None
        for number, line in enumerate(content.split(b"\n"), span.first_line):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                problem = f"broken UTF-8: byte 0x{line[error.start]:02x} at position {error.start}; save it as UTF-8"
                problems.append(at(path, number, problem))
        return None
    lines = text.split("\n")
    if not lines[-1].strip("\r"):
        lines.pop()
    # Files written on Windows: the \r belongs to the line end. Inside a line it is a character.
    return [line.removesuffix("\r") for line in lines]


def column_names(path: Path, problems: list[str], *, suffix: str = "") -> list[str] | None:
    """Returns the names in the header of a table (of JSON lines: the fields of the first one), or None and problems.

    Args:
      path, problems, suffix: as of `read_table`.
    """
    suffix = suffix or kind_of(path)
    lines = read_lines(path, problems)
    if lines is None:
        return None
    if suffix not in (".jsonl", ".json"):
        rows = _csv_rows(path, lines, problems, 1) if suffix == ".csv" else _tsv_rows(lines, 1)
        return next(rows, (1, []))[1]
    try:
        row = json_text.parse(lines[0])
    except json_text.JsonError:
        row = None
    if not isinstance(row, dict):
        problems.append(at(path, 1, "expected one JSON object a line"))
        return None
    return list(row)


def read_table(
    path: Path,
    required: Sequence[str],
    problems: list[str],
    *,
    optional: Sequence[str] = (),
    header: Sequence[str] | None = None,
    skip_ragged: bool = False,
    suffix: str = "",
    span: Span = WHOLE,
) -> Table | None:
    """Returns the wanted columns of a .tsv, .csv or .jsonl file, without the rows that `problems` now tells of.

    Args:
      path: file; its suffix tells the format, that of a .gz the one before.
      required: columns that must be there.
      problems: is appended to.
      optional: columns that are returned if they are there.
      header: column names of a file without a header line.
      skip_ragged: leave ragged rows out silently (official files that are known to hold some).
      suffix: format, where the name of the file does not tell it.
      span: part of the file to read; behind its start the `header` must be given.

    Returns:
      Table, or None where nothing of the file can be used.
    """
    suffix = suffix or kind_of(path)
    if suffix not in TABLE_SUFFIXES:
        problems.append(at(path, None, f"unknown format {suffix!r}; expected {', '.join(TABLE_SUFFIXES[:3])}"))
        return None
    lines = read_lines(path, problems, span)
    if lines is None:
        return None
    if suffix in (".jsonl", ".json"):
        return _json_table(path, lines, required, optional, problems, span.first_line)
    rows = _csv_rows(path, lines, problems, span.first_line) if suffix == ".csv" else _tsv_rows(lines, span.first_line)
    first_line = 1
    if header is None:
        first_line, header = next(rows, (1, []))
    if twice := [name for name in dict.fromkeys([*required, *optional]) if header.count(name) > 1]:
        problems.append(at(path, first_line, f"column {twice[0]!r} is there twice; name each column once"))
        return None
    missing = [name for name in required if name not in header]
    for name in missing:
        known = ", ".join(header)
        problems.append(at(path, first_line, f"no column {name!r}; columns are {known}{nearest(name, header)}"))
    if missing:
        return None

    wanted = {name: header.index(name) for name in [*required, *optional] if name in header}
    numbers: list[int] = []
    columns: dict[str, list] = {name: [] for name in wanted}
    for number, row in rows:
        if len(row) != len(header):
            if not skip_ragged:
                told = f"expected {len(header)} columns, got {len(row)}" if any(row) else "empty line"
                problems.append(at(path, number, told))
            continue
        numbers.append(number)
        for name, column in wanted.items():
            columns[name].append(row[column])
    if not numbers and not problems and span.is_whole:
        problems.append(at(path, None, "the file has no rows"))
    return Table(path, numbers, columns)


def read_header(path: Path, suffix: str) -> list[str]:
    """Returns the column names of a .tsv or .csv file, [] where it has none or a damaged .gz hides them."""
    try:
        with compressed.open_bytes(path) as file:
            first = (line.decode("utf-8", "replace") for line in file)
            row = next(csv.reader(first), []) if suffix == ".csv" else next(first, "").rstrip("\r\n").split("\t")
    except compressed.BROKEN:  # told by those who read the rows
        return []
    return [row[0].removeprefix("\ufeff"), *row[1:]] if row else []


def csv_cuts(path: Path, apart: int) -> list[int]:
    """Returns places between rows of a .csv, about `apart` bytes from each other. All of it is read: a quoted field may
    hold line ends."""
    cuts, position, target = [], 0, apart

    def lines():
        nonlocal position
        with path.open("rb") as file:
            for line in file:
                position += len(line)
                yield line.decode("utf-8", "replace")

    try:
        for _ in csv.reader(lines(), strict=True):
            if position >= target:
                cuts.append(position)
                target = position + apart
    except csv.Error:  # told by those who read the rows
        pass
    return [cut for cut in cuts if cut < path.stat().st_size]


def count_lines(path: Path, end: int) -> int:
    """Returns the line ends before a place of a file."""
    count = 0
    with path.open("rb") as file:
        while end and (block := file.read(min(end, 1 << 20))):
            count += block.count(b"\n")
            end -= len(block)
    return count


def _tsv_rows(lines: Sequence[str], first_line: int) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split("\t")) for number, line in enumerate(lines, first_line))


def _csv_rows(
    path: Path, lines: Sequence[str], problems: list[str], first_line: int
) -> Iterator[tuple[int, list[str]]]:
    """Yields (first line of the row, fields): a quoted field may go over several lines."""
    reader = csv.reader(io.StringIO("\n".join(lines), newline=""), strict=True)
    number = first_line
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            # Nothing after a broken quote can be trusted to be split rightly.
            problems.append(at(path, number, f"broken CSV ({error}); the rest of the file was not read"))
            return
        if row is None:
            return
        yield number, row
        number = reader.line_num + first_line


def _json_table(path, lines, required, optional, problems, first_line) -> Table | None:
    numbers: list[int] = []
    columns: dict[str, list] = {name: [] for name in [*required, *optional]}
    for number, line in enumerate(lines, first_line):
        try:
            row = json_text.parse(line)
        except json_text.JsonError as error:
            problems.append(at(path, number, f"{error}; expected one object a line"))
            continue
        if not isinstance(row, dict):
            problems.append(at(path, number, f"expected a JSON object a line, got {type(row).__name__}"))
            continue
        missing = [name for name in required if name not in row]
        for name in missing:
            fields = ", ".join(row)
            problems.append(at(path, number, f"no column {name!r}; columns are {fields}{nearest(name, list(row))}"))
        if missing:
            continue
        numbers.append(number)
        for name, values in columns.items():
            values.append(row.get(name))
    absent = [name for name in optional if all(value is None for value in columns[name])]
    return Table(path, numbers, {name: values for name, values in columns.items() if name not in absent})


def _missing(path: Path) -> str:
    if not path.parent.is_dir():
        return "there is no such file, nor its folder"
    return f"there is no such file{nearest(path.name, sorted(other.name for other in path.parent.iterdir()))}"
