"""Texts with any number of labels: cells "food|travel", ["food", "travel"], nothing; or a column of 0 and 1 a class."""

from __future__ import annotations

import collections
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from codir_jax.data import table_labels
from codir_jax.data.delimited import Table, at, nearest
from codir_jax.data.table_labels import SEPARATORS, class_name
from codir_jax.processes import json_text
from codir_jax.processes.user_error import UserError

# A list that was written down as text, as pandas does in a CSV.
_LIST_AS_TEXT = re.compile(r"\[\s*(['\"].*)?\]", re.DOTALL)
_LONGEST_TOLD = 40


def find_separator(cells: Iterable) -> str:
    """Returns the one of SEPARATORS that is in the cells; "" where all of them hold one name, a list or nothing.

    Raises:
      UserError: the cells hold several of them.
    """
    found = {}
    for cell in cells:
        if isinstance(cell, str) and not _LIST_AS_TEXT.fullmatch(cell.strip()):
            found |= {separator: cell for separator in SEPARATORS if separator in cell and separator not in found}
    if len(found) > 1:
        shown = " and ".join(f"{separator!r}, as {cell[:_LONGEST_TOLD]!r}" for separator, cell in found.items())
        raise UserError(
            f"what parts the labels of a cell? They hold {shown}; set data.label_separator (--label_separator)"
        )
    return next(iter(found), "")


def names_of(cell, separator: str) -> list[str]:
    """Returns the names in a cell, in its order, "" where one is empty.

    Args:
      cell: a text, a list of names, a name that is a number, or None.
      separator: of texts; "": a text is one name.
    """
    if isinstance(cell, list | tuple):
        return [class_name(name) for name in cell]
    if (text := class_name(cell)) == "":
        return []
    return [name.strip() for name in text.split(separator)] if separator and isinstance(cell, str) else [text]


def class_columns(label_column: str) -> tuple[str, ...]:
    """Returns the columns of 0 and 1, one a class, that a comma-separated `data.label_column` names; () for one."""
    columns = tuple(name.strip() for name in label_column.split(","))
    return columns if len(columns) > 1 else ()


def join_columns(columns: Mapping[str, Sequence]) -> list[list[str]]:
    """Returns for each row the names of the columns that hold 1."""
    rows = zip(*columns.values(), strict=True)
    return [[name for name, value in zip(columns, row, strict=True) if _flag(value) == 1] for row in rows]


def check_columns(table: Table, names: Sequence[str], problems: list[str]) -> None:
    """Tells of values of class columns that are neither 0 nor 1, nor True or False."""
    for name in names:
        for line, value in zip(table.lines, table.columns[name], strict=True):
            if _flag(value) is None:
                told = f"{str(value)[:_LONGEST_TOLD]!r} in column {name!r}; expected 1 for a text of the class, else 0"
                problems.append(at(table.path, line, told))


def _flag(value) -> int | None:
    text = class_name(value)
    return 1 if text.casefold() in ("1", "1.0", "true") else 0 if text.casefold() in ("0", "0.0", "false") else None


def names_in(cells: Iterable, separator: str) -> set[str]:
    """Returns every name in the cells."""
    return {name for cell in cells for name in names_of(cell, separator)} - {""}


def check(table: Table, cells: Sequence, separator: str, problems: list[str]) -> None:
    """Tells of cells that hold no names: objects, half characters, empty names, one name twice, lists as text."""
    for line, cell in zip(table.lines, cells, strict=False):  # no cells where the column is not there
        if told := _wrong(cell, names_of(cell, separator)):
            problems.append(at(table.path, line, told))


def parse(
    table: Table, cells: Sequence, names: Sequence[str], separator: str, problems: list[str]
) -> list[tuple[int, ...]]:
    """Returns for each row which classes it has: a tuple of 0 and 1, one a class. An empty cell has none.

    Args:
      table: where the cells are from, of which `check` told. names: of the classes in order.
      separator: of `names_of`. problems: is appended to.
    """
    number = {name: i for i, name in enumerate(names)}
    rows: dict[tuple[int, ...], tuple[int, ...]] = {}  # equal rows are one object
    labels = []
    for line, cell in zip(table.lines, cells, strict=True):
        row = [0] * len(names)
        for name in names_of(cell, separator):
            if name in number:
                row[number[name]] = 1
            elif name:
                told = f"unknown label {name!r}; known: {', '.join(names[:20])}{nearest(name, names)}"
                problems.append(at(table.path, line, told))
        labels.append(rows.setdefault(tuple(row), tuple(row)))
    return labels


def _wrong(cell, names: Sequence[str]) -> str:
    """What is wrong with a cell by itself; "" if nothing is."""
    shown = repr(str(cell)[:_LONGEST_TOLD])
    if isinstance(cell, str) and _LIST_AS_TEXT.fullmatch(cell.strip()):
        return f"labels {shown} are a list written as text; join the names by |, or save the rows as .jsonl"
    values = cell if isinstance(cell, list | tuple) else [cell]
    for value in values:
        if not isinstance(value, str | int | float | None) or (value is None and isinstance(cell, list | tuple)):
            return f"label {str(value)[:_LONGEST_TOLD]!r} is a {type(value).__name__}; expected a name"
        if isinstance(value, str) and not json_text.is_unicode(value):
            return "broken encoding in the labels: half a surrogate pair"
    if "" in names:
        return f"an empty name in the labels {shown}; expected names, or an empty cell for no class"
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        return f"labels {shown} name {twice!r} twice"
    return ""


def doubts(labels: Sequence[tuple[int, ...]], names: Sequence[str]) -> list[str]:
    """Returns a sentence for each class that no text of train has, or every one."""
    counts = [sum(column) for column in zip(*labels, strict=True)]
    told = []
    for name, count in zip(names, counts, strict=False):
        if count == 0:
            told += table_labels.without_example([name], ())
        elif count == len(labels):
            told.append(f"every text of train has the class {name!r}; there is nothing to learn of it, leave it out")
    return told


def rarest(sets: Sequence[Collection[str]]) -> list[str]:
    """Returns the name of each set that is in fewest of all sets, of equally rare ones the first by name; "" of none.

    So that a split by it has some of each class: a frequent class is on the texts of rarer ones as well.
    """
    counts = collections.Counter(name for names in sets for name in set(names))
    return [min(names, key=lambda name: (counts[name], name), default="") for names in sets]
