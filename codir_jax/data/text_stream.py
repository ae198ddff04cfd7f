"""Texts of a file or of standard input one by one: memory does not grow with them.

A .txt file, and standard input, is one text a line, empty ones included, so that text i is line i + 1. A .tsv is not
quoted, a .csv is, as in `data/delimited.py`, and has any separator (`data/given_rows.py`); of these, of .jsonl and
.parquet the named columns are read.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from codir_jax.data import compressed, parquet
from codir_jax.data.compressed import kind_of
from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import NUL, at, comes_twice, nearest
from codir_jax.data.separators import csv_reader, is_quoted, separator_of
from codir_jax.processes import json_text
from codir_jax.processes.user_error import MissingFileError, UserError

SUFFIXES = (".txt", ".tsv", ".csv", ".jsonl", ".parquet", ".json")


class Row(NamedTuple):
    """Attributes:
    line: its number, from 1. texts: one or two. id: what the id column holds; None without one.
    """

    line: int
    texts: tuple[str, ...]
    id: Any = None


def check(path: str) -> None:
    """Refuses a file that is not there or of an unknown kind; "-" is standard input.

    Raises:
      UserError: naming it.
    """
    if path == "-":
        return
    if not Path(path).is_file():
        raise MissingFileError(
            f"no file {path!r}; expected texts in {', '.join(SUFFIXES[:5])}, or - for standard input"
        )
    if kind_of(path) not in SUFFIXES:
        raise UserError(
            f"{path}: unknown format; expected {', '.join(SUFFIXES[:5])} (also .gz), or - for standard input"
        )


def texts(path: str, column: str) -> Iterator[str]:
    """Yields the texts of `path`, "-" for standard input.

    Raises:
      DataError: the first line that is broken, with its number.
    """
    return (row.texts[0] for row in rows(path, (column,)))


def rows(path: str, columns: tuple[str, ...], id_column: str = "") -> Iterator[Row]:
    """Yields the rows of `path`, "-" for standard input.

    Args:
      columns: of the first text and, of a pair, the second. id_column: "" for none.

    Raises:
      UserError: pairs or ids of lines of text, which have no columns.
      DataError: the first line that is broken, with its number.
    """
    suffix = ".txt" if path == "-" else kind_of(path)
    if suffix == parquet.SUFFIX:
        return _of_parquet(path, columns, id_column)
    lines = _lines(path)
    if suffix == ".txt":
        if len(columns) > 1 or id_column:
            raise UserError("pairs and ids need --input with columns: a .tsv, .csv or .jsonl file")
        return (Row(number, (line,)) for number, line in lines)
    if suffix in (".jsonl", ".json"):
        return (_of_json(path, number, line, columns, id_column) for number, line in lines)
    return _of_table(path, lines, columns, id_column)


def _of_parquet(path: str, columns: tuple[str, ...], id_column: str) -> Iterator[Row]:
    names = (*columns, *([id_column] if id_column else []))
    try:
        header = parquet.column_names(Path(path))
        for name in names:
            if name not in header:
                raise _no_column(path, None, name, header, columns)
        if told := comes_twice(header, names):
            raise _problem(path, None, told)
        for number, values in enumerate(parquet.rows(Path(path), list(dict.fromkeys(names))), 1):
            row = dict(zip(dict.fromkeys(names), values, strict=True))
            for column in columns:
                if not isinstance(row[column], str):
                    raise _problem(path, number, f"expected a text in column {column!r}, got {row[column]!r}")
            yield Row(number, tuple(row[column] for column in columns), row[id_column] if id_column else None)
    except parquet.BrokenError as error:
        raise _problem(path, error.row, str(error)) from error


def _lines(path: str) -> Iterator[tuple[int, str]]:
    r"""(number, line without its end); a line ends at \n only, as in TSV files of GLUE, and a \r before it goes too."""
    # Read as bytes: text mode would end lines at other characters too, and stdin has another newline mode.
    file = sys.stdin.buffer if path == "-" else compressed.open_bytes(path)  # standard input stays open
    number = 0
    try:
        for number, line in enumerate(file, 1):
            try:
                text = line.removeprefix(b"\xef\xbb\xbf").decode() if number == 1 else line.decode()
            except UnicodeDecodeError as error:
                advice = compressed.hint(path, line) or "; save it as UTF-8"
                raise _problem(path, number, f"broken UTF-8 (byte {error.start}){advice}") from error
            if "\0" in text:
                raise _problem(path, number, NUL)
            yield number, text.removesuffix("\n").removesuffix("\r")
    except compressed.BROKEN as error:
        raise _problem(path, number + 1, compressed.what_is_wrong(path, error)) from error
    finally:
        if path != "-":
            file.close()


def _of_json(path: str, number: int, line: str, columns: tuple[str, ...], id_column: str) -> Row:
    try:
        row = json_text.parse(line)
    except json_text.JsonError as error:
        raise _problem(path, number, f"{error}; expected one object a line") from error
    if not isinstance(row, dict):
        raise _problem(path, number, f"expected a JSON object a line, got {type(row).__name__}")
    for column in (*columns, *([id_column] if id_column else [])):
        if column not in row:
            raise _no_column(path, number, column, list(row), columns)
        if column in columns and not isinstance(row[column], str):
            raise _problem(path, number, f"expected a text in column {column!r}; say which with --text_column")
        if column in columns and not json_text.is_unicode(row[column]):
            raise _problem(path, number, f"broken encoding in column {column!r}: half a surrogate pair")
    return Row(number, tuple(row[column] for column in columns), row[id_column] if id_column else None)


def _of_table(path: str, lines: Iterator[tuple[int, str]], columns: tuple[str, ...], id_column: str) -> Iterator[Row]:
    separator = separator_of(Path(path))
    if is_quoted(Path(path), separator):
        # A \r alone ends a line too, outside quotes, as where the file is read whole.
        parts = (part for _, line in lines for part in io.StringIO(f"{line}\n", newline=""))
        reader = csv_reader(parts, separator)
        table = ((reader.line_num, row) for row in reader)
    else:
        table = ((number, line.split("\t")) for number, line in lines)
    try:
        _, header = next(table, (1, []))
        wanted = (*columns, *([id_column] if id_column else []))
        for column in wanted:
            if column not in header:
                raise _no_column(path, 1, column, header, columns)
        if told := comes_twice(header, wanted):
            raise _problem(path, 1, told)
        places, of_id = [header.index(column) for column in columns], header.index(id_column) if id_column else None
        for number, row in table:
            if len(row) != len(header):
                raise _problem(path, number, f"expected {len(header)} columns, got {len(row)}")
            yield Row(number, tuple(row[place] for place in places), None if of_id is None else row[of_id])
    except csv.Error as error:
        raise _problem(path, reader.line_num, f"broken CSV ({error})") from error


def _no_column(path: str, number: int | None, column: str, known: list[str], of_texts: tuple[str, ...]) -> DataError:
    flag = "--id_column" if column not in of_texts else ("--text_column", "--text_pair_column")[of_texts.index(column)]
    told = f"columns are {', '.join(known)}{nearest(column, known)}"
    return _problem(path, number, f"no column {column!r}; {told}; say which with {flag}")


def _problem(path: str, number: int | None, message: str) -> DataError:
    return DataError([at(Path("standard input" if path == "-" else path), number, message)])
