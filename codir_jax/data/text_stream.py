"""Texts of a file or of standard input one by one: memory does not grow with them.

A .txt file, and standard input, is one text a line, empty ones included, so that text i is line i + 1. A .tsv is not
quoted, a .csv is, as in `data/delimited.py`; of these and of .jsonl one column is read.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from codir_jax.data import compressed
from codir_jax.data.batch import DataError
from codir_jax.data.compressed import kind_of
from codir_jax.data.delimited import at, nearest
from codir_jax.processes.user_error import MissingFileError, UserError

SUFFIXES = (".txt", ".tsv", ".csv", ".jsonl", ".json")


def check(path: str) -> None:
    """Refuses a file that is not there or of an unknown kind; "-" is standard input.

    Raises:
      UserError: naming it.
    """
    if path == "-":
        return
    if not Path(path).is_file():
        raise MissingFileError(
            f"no file {path!r}; expected texts in {', '.join(SUFFIXES[:4])}, or - for standard input"
        )
    if kind_of(path) not in SUFFIXES:
        raise UserError(
            f"{path}: unknown format; expected {', '.join(SUFFIXES[:4])} (also .gz), or - for standard input"
        )


def texts(path: str, column: str) -> Iterator[str]:
    """Yields the texts of `path`, "-" for standard input.

    Raises:
      DataError: the first line that is broken, with its number.
    """
    suffix = ".txt" if path == "-" else kind_of(path)
    lines = _lines(path)
    if suffix == ".txt":
        yield from (line for _, line in lines)
    elif suffix in (".jsonl", ".json"):
        yield from (_of_json(path, number, line, column) for number, line in lines)
    else:
        yield from _of_table(path, lines, column, is_csv=suffix == ".csv")


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
            yield number, text.removesuffix("\n").removesuffix("\r")
    except compressed.BROKEN as error:
        raise _problem(path, number + 1, compressed.what_is_wrong(path, error)) from error
    finally:
        if path != "-":
            file.close()


def _of_json(path: str, number: int, line: str, column: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise _problem(path, number, f"broken JSON ({error.msg}); expected one object a line") from error
    if not isinstance(row, dict):
        raise _problem(path, number, f"expected a JSON object a line, got {type(row).__name__}")
    if not isinstance(row.get(column), str):
        known = f"; columns are {', '.join(row)}{nearest(column, list(row))}"
        told = f"no column {column!r}{known}" if column not in row else f"expected a text in column {column!r}"
        raise _problem(path, number, f"{told}; say which with --text_column")
    return row[column]


def _of_table(path: str, lines: Iterator[tuple[int, str]], column: str, is_csv: bool) -> Iterator[str]:
    if is_csv:
        reader = csv.reader((f"{line}\n" for _, line in lines), strict=True)
        rows = ((reader.line_num, row) for row in reader)
    else:
        rows = ((number, line.split("\t")) for number, line in lines)
    try:
        _, header = next(rows, (1, []))
        if column not in header:
            known = f"columns are {', '.join(header)}{nearest(column, header)}"
            raise _problem(path, 1, f"no column {column!r}; {known}; say which with --text_column")
        place = header.index(column)
        for number, row in rows:
            if len(row) != len(header):
                raise _problem(path, number, f"expected {len(header)} columns, got {len(row)}")
            yield row[place]
    except csv.Error as error:
        raise _problem(path, reader.line_num, f"broken CSV ({error})") from error


def _problem(path: str, number: int, message: str) -> DataError:
    return DataError([at(Path("standard input" if path == "-" else path), number, message)])
