"""Reads TSV, CSV, JSON lines, parquet and plain text into columns, and collects what is wrong, all of it.

Every reader takes `problems`, a list of sentences "file:line: what is wrong" that it adds to; the caller raises one
`DataError` for all files. TSV is unquoted, as GLUE's is: a quote is a character, and lines end at \\n only (GLUE texts
hold \\r, \\x85 and \\u2028). CSV is quoted, as Python's csv module and spreadsheets write it, whatever parts it; so
is a .tsv that something else than tabs parts.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from codir_jax.data import compressed, parquet
from codir_jax.data.compressed import kind_of
from codir_jax.data.separators import OF_KIND, csv_reader, is_quoted, separator_of
from codir_jax.processes import json_text

TABLE_SUFFIXES = (".tsv", ".csv", ".jsonl", ".json", parquet.SUFFIX)

# As they are told.
KNOWN = ".tsv, .csv, .jsonl or .parquet"
NUL = "a NUL character: the file is binary, or UTF-16; save it as UTF-8"


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
    """Bytes start .. end of a file, None to its end: whole lines, of which the first has the number `first_line`.

    Of a parquet file rows start .. end, counted from 0.
    """

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
            if span.start:  # of no .gz
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
    if "\0" in text:
        number = next(number for number, line in enumerate(lines, span.first_line) if "\0" in line)
        problems.append(at(path, number, NUL))
        return None
    if not lines[-1].strip("\r"):
        lines.pop()
    # Files written on Windows: the \r belongs to the line end. Inside a line it is a character.
    return [line.removesuffix("\r") for line in lines]


def column_names(path: Path, problems: list[str]) -> list[str] | None:
    """Returns the names in the header of a table (of JSON lines: the fields of the first one), or None and problems.

    Args:
      path, problems: as of `read_table`.
    """
    suffix = kind_of(path)
    if suffix not in TABLE_SUFFIXES:
        problems.append(_unknown_format(path, suffix))
        return None
    if suffix == parquet.SUFFIX:
        return _names_in_parquet(path, problems)
    lines = read_lines(path, problems)
    if lines is None:
        return None
    if suffix not in (".jsonl", ".json"):
        return next(_rows(path, lines, problems, 1, separator_of(path)), (1, []))[1]
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
    named_by: Mapping[str, str] | None = None,
) -> Table | None:
    """Returns the wanted columns of a table, without the rows that `problems` now tells of.

    Args:
      path: .tsv, .csv, .jsonl or .parquet; its suffix tells the format, that of a .gz the one before.
      required: columns that must be there.
      problems: is appended to.
      optional: columns that are returned if they are there.
      header: column names of a file without a header line.
      skip_ragged: leave ragged rows out silently (official files that are known to hold some).
      suffix: format, where the name of the file does not tell it.
      span: part of the file to read; behind its start the `header` must be given.
      named_by: column -> what names it, to tell where it is not there.

    Returns:
      Table, or None where nothing of the file can be used.
    """
    suffix = suffix or kind_of(path)
    if suffix not in TABLE_SUFFIXES:
        problems.append(_unknown_format(path, suffix))
        return None
    if suffix == parquet.SUFFIX:
        return _parquet_table(path, required, optional, problems, named_by or {}, span)
    lines = read_lines(path, problems, span)
    if lines is None:
        return None
    if suffix in (".jsonl", ".json"):
        return _json_table(path, lines, required, optional, problems, span.first_line, named_by or {})
    separator = separator_of(path) or OF_KIND[suffix]
    rows = _rows(path, lines, problems, span.first_line, separator)
    first_line = 1
    if header is None:
        first_line, header = next(rows, (1, []))
        if not is_quoted(path, separator) and _has_quotes(header):
            problems.append(at(path, first_line, f"{', '.join(header)}: {_QUOTED}"))
            return None
    if _has_missing(path, first_line, required, header, problems, named_by or {}):
        return None
    if told := comes_twice(header, [*required, *optional]):
        problems.append(at(path, first_line, told))
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


def count_lines(path: Path, end: int) -> int:
    """Returns the line ends before a place of a file."""
    count = 0
    with path.open("rb") as file:
        while end and (block := file.read(min(end, 1 << 20))):
            count += block.count(b"\n")
            end -= len(block)
    return count


def _rows(
    path: Path, lines: Sequence[str], problems: list[str], first_line: int, separator: str
) -> Iterator[tuple[int, list[str]]]:
    """Yields (first line of the row, fields); a field that is quoted may have many lines."""
    if not is_quoted(path, separator):
        yield from ((number, line.split("\t")) for number, line in enumerate(lines, first_line))
        return
    reader = csv_reader(io.StringIO("\n".join(lines), newline=""), separator)
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


def comes_twice(header: Sequence[str], names: Iterable[str]) -> str:
    """Returns the sentence of the first of `names` that is there more than once, "" where none is."""
    twice = next((name for name in names if header.count(name) > 1), None)
    return "" if twice is None else f"the column {twice!r} is there twice; give each a name of its own"


def _has_missing(path: Path, line: int | None, required: Sequence[str], header: Sequence[str], problems, named_by):
    missing = [name for name in required if name not in header]
    for name in missing:
        by = f" ({named_by[name]} names it)" if name in named_by else ""
        known = ", ".join(header)
        hint = _other_format(header) or nearest(name, header)
        problems.append(at(path, line, f"no column {name!r}{by}; columns are {known}{hint}"))
    return bool(missing)


def _other_format(header: Sequence[str]) -> str:
    """What a header tells of a file whose name ends as another format's does; "" for nothing."""
    parts = {",": "commas (.csv)", "\t": "tabs (.tsv)", ";": "semicolons", "|": "bars"}
    found = [told for separator, told in parts.items() if len(header) == 1 and separator in header[0]]
    return f"; the separator seems to be {found[0]}: save it with that of its ending, tabs or commas" if found else ""


_QUOTED = "the fields are quoted, and a .tsv has no quotes: save it without, or name it .csv if commas part it"


def _has_quotes(header: Sequence[str]) -> bool:
    return all(len(name) > 1 and name[0] == name[-1] == '"' for name in header)


def _unknown_format(path: Path, suffix: str) -> str:
    return at(path, None, f"unknown format {suffix!r}; expected {KNOWN}")


def _names_in_parquet(path: Path, problems: list[str]) -> list[str] | None:
    if not path.is_file():
        problems.append(at(path, None, "is a folder, expected a file" if path.is_dir() else _missing(path)))
        return None
    try:
        return parquet.column_names(path)
    except parquet.BrokenError as error:
        problems.append(at(path, None, str(error)))
        return None


def _parquet_table(path: Path, required, optional, problems: list[str], named_by, span: Span) -> Table | None:
    header = _names_in_parquet(path, problems)
    if header is None or _has_missing(path, None, required, header, problems, named_by):
        return None
    names = [name for name in dict.fromkeys([*required, *optional]) if name in header]
    if told := comes_twice(header, names):
        problems.append(at(path, None, told))
        return None
    try:
        columns = parquet.read(path, names, span.start, span.end)
    except parquet.BrokenError as error:
        problems.append(at(path, error.row, str(error)))
        return None
    num_rows = len(next(iter(columns.values()), ()))
    if not num_rows and not problems and span.is_whole:
        problems.append(at(path, None, "the file has no rows"))
    return Table(path, list(range(span.first_line, span.first_line + num_rows)), columns)


def _json_table(path, lines, required, optional, problems, first_line, named_by) -> Table | None:
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
        if _has_missing(path, number, required, list(row), problems, named_by):
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
