"""Columns of a table as texts, numbers or names; what is wrong with a value is told with file and line."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from codir_jax.data.batch import check_new_columns
from codir_jax.data.delimited import Table, at
from codir_jax.data.separators import MOST_CHARACTERS
from codir_jax.processes import json_text
from codir_jax.processes.user_error import UserError

_LARGEST = 3.4028234663852886e38  # of float32, https://numpy.org/doc/stable/reference/generated/numpy.finfo.html
_FLOAT = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)
_PLAIN = re.compile(r"[!-~]")  # of ASCII, what has ink


def check_texts(
    table: Table, columns: Sequence[str], problems: list[str], *, may_be_empty: bool = False
) -> tuple[list[str], list[str] | None]:
    """Returns (first texts, second texts or None); tells of empty ones, of what is no text and of huge ones."""
    for column in columns:
        for line, text in zip(table.lines, table.columns[column], strict=True):
            if not isinstance(text, str):
                problems.append(at(table.path, line, f"expected a text in column {column!r}, got {text!r}"))
            elif text.strip():
                if wrong := _what_is_wrong(text, f" in column {column!r}", may_be_empty):
                    problems.append(at(table.path, line, wrong))
            elif not may_be_empty:
                problems.append(at(table.path, line, f"empty text in column {column!r}"))
    texts = [table.columns[column] for column in columns]
    return texts[0], texts[1] if len(texts) > 1 else None


def check_lines(path: Path, lines: Sequence[str], problems: list[str], first_line: int = 1) -> list[str]:
    """Returns the texts of a file with one a line, blank ones left out; tells what `check_texts` tells.

    Args:
      first_line: number of the first of `lines`.
    """
    for number, text in enumerate(lines, first_line):
        if text.strip() and (wrong := _what_is_wrong(text)):
            problems.append(at(path, number, wrong))
    return [text for text in lines if text.strip()]


def _what_is_wrong(text: str, where: str = "", may_be_unseen: bool = False) -> str:
    """Why a text that is not blank is none to learn from, "" where it is one."""
    if not json_text.is_unicode(text):
        return f"broken encoding{where}: half a surrogate pair"
    if not may_be_unseen and not _is_visible(text):
        return f"text{where} holds nothing that can be seen: {text[:20]!a}"
    if len(text) > MOST_CHARACTERS:
        return (
            f"text{where} of {len(text):,} characters; expected at most {MOST_CHARACTERS:,}: did the file lose its "
            "line ends or a quote? Cut what is really so long: no model reads more than its first words"
        )
    return ""


def parse_targets(
    table: Table, values: Sequence, problems: list[str], *, may_be_empty: bool = False
) -> list[float | None] | None:
    """Returns the finite float of every value, None for an empty one; None altogether if all are empty."""
    targets: list[float | None] = []
    for line, value in zip(table.lines, values, strict=True):
        target = None
        if may_be_empty and (value is None or str(value).strip() == ""):
            targets.append(None)
            continue
        try:
            target = _number(value)
        except (ValueError, TypeError, OverflowError):
            problems.append(at(table.path, line, f"score {str(value)[:40]!r} is not a number"))
        else:
            if not abs(target) <= _LARGEST:
                told = f"score {value!r} is not finite{' in float32' * math.isfinite(target)}"
                problems.append(at(table.path, line, told))
        targets.append(target)
    return None if all(target is None for target in targets) else targets


def named_columns(options) -> dict[str, str]:
    """Returns name in a batch -> column of the files, of `data.columns`."""
    return parse_columns(options.columns)


def parse_columns(text: str) -> dict[str, str]:
    """Returns name in a batch -> column of the files, of "NAME=COLUMN" or "NAME", comma separated.

    Raises:
      UserError: a name is empty, comes twice or is one that a batch has already.
    """
    found: dict[str, str] = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        name, separator, column = (part.strip() for part in entry.partition("="))
        if not name or (separator and not column):
            raise UserError(f"data.columns: expected NAME=COLUMN or NAME, comma separated, got {entry!r}")
        if name in found:
            raise UserError(f"data.columns names one twice: {text!r}")
        found[name] = column or name
    check_new_columns(tuple(found))
    return found


def parse_column(table: Table, name: str, problems: list[str]) -> list[float] | list[str]:
    """Returns a column whose values are all finite numbers as floats, and one that has none as stripped texts."""
    numbers, texts = {}, {}
    for row, (line, value) in enumerate(zip(table.lines, table.columns[name], strict=True)):
        if isinstance(value, bool):
            texts[row] = str(value).lower()
        elif value is None or (isinstance(value, str) and not value.strip()):
            problems.append(at(table.path, line, f"empty value in column {name!r}"))
        elif not isinstance(value, str | int | float):
            problems.append(at(table.path, line, f"expected a number or a text in column {name!r}, got {value!r}"))
        elif (number := _finite(value)) is not None:
            numbers[row] = number
            if abs(number) > _LARGEST:
                told = f"{value!r} in column {name!r} is not finite in float32; expected at most 3.4e38"
                problems.append(at(table.path, line, told))
        else:
            texts[row] = str(value).strip()
    if numbers and texts:
        row, text = next(iter(texts.items()))
        problems.append(
            at(table.path, table.lines[row], f"{text!r} in column {name!r} is not a finite number, and {len(numbers)} "
               "other rows hold numbers; a column holds numbers only or none")
        )  # fmt: skip
    # A row with a problem keeps its place; the problems are raised before anybody reads it.
    found, missing = (texts, "") if texts else (numbers, math.nan)
    return [found.get(row, missing) for row in range(len(table.lines))]


def _number(value) -> float:
    """The float of a JSON number, or of a text that Python, C and spreadsheets read alike."""
    if value is None or isinstance(value, bool) or (isinstance(value, str) and not _FLOAT.fullmatch(value.strip())):
        raise ValueError(value)
    return float(value)


def _is_visible(text: str) -> bool:
    """Whether a text holds more than spaces, control characters and others without width."""
    return bool(_PLAIN.search(text)) or any(unicodedata.category(character)[0] not in "CZ" for character in text)


def _finite(value: str | float) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
