"""Texts without labels that join the train split of any data set: `data.unlabelled_path`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from codir_jax.data.compressed import kind_of
from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import TABLE_SUFFIXES, at, read_lines, read_table
from codir_jax.data.splits import RawSplit
from codir_jax.data.table_columns import check_lines, check_texts, named_columns, parse_column
from codir_jax.processes.user_error import UserError


def check_is_there(options) -> None:
    """Refuses a `data.unlabelled_path` without a file."""
    path, problems = Path(options.unlabelled_path).expanduser(), []
    if options.unlabelled_path and not path.is_file():
        read_lines(path, problems)
        raise DataError(problems)


def left_out(options):
    """Returns the `data` section of a config without `data.unlabelled_path`, if that is a file: else it is told."""
    check_is_there(options)
    changed = options.copy_and_resolve_references()
    changed.unlabelled_path = ""
    return changed


def read(options, like: RawSplit) -> RawSplit:
    """Returns the rows of `data.unlabelled_path`, with as many texts and the same further columns as the rows `like`.

    A .txt holds one text a line, blank lines aside; other formats hold `text_column` (and `text_pair_column`).

    Raises:
      UserError: a row of the set has more than two texts.
      DataError: with file and line of up to ten problems.
    """
    problems: list[str] = []
    rows = _read(options, like, problems)
    if problems:
        raise DataError(problems)
    if like.apart:
        return dataclasses.replace(rows, texts_b=None, apart=(rows.texts_b,))
    return rows


def append(train: RawSplit, unlabelled: RawSplit) -> RawSplit:
    """Returns the train rows, then those without a label; both have the same texts and further columns."""
    labels = train.labels if train.labels is not None else [None] * len(train)
    if train.columns.keys() != unlabelled.columns.keys():
        raise UserError(
            f"train has the columns {', '.join(train.columns) or 'none'}, and the unlabelled rows that join it have "
            f"{', '.join(unlabelled.columns) or 'none'}"
        )
    return RawSplit(
        [*train.texts_a, *unlabelled.texts_a],
        None if train.texts_b is None else [*train.texts_b, *unlabelled.texts_b],
        [*labels, *([None] * len(unlabelled))],
        tuple([*mine, *theirs] for mine, theirs in zip(train.apart, unlabelled.apart, strict=True)),
        {name: [*values, *unlabelled.columns[name]] for name, values in train.columns.items()},
    )


def text_columns(options, like: RawSplit, problems: list[str]) -> list[str]:
    """Returns the columns of the texts of `data.unlabelled_path`; tells why it does not fit the rows `like`.

    Raises:
      UserError: a row of the set has more than two texts.
    """
    path = Path(options.unlabelled_path).expanduser()
    suffix = kind_of(path)
    if like.texts_per_row > 2:
        raise UserError(f"a row of this data set has {like.texts_per_row} texts; data.unlabelled_path gives at most 2")
    is_pair = like.texts_b is not None or like.texts_per_row == 2
    if is_pair and (suffix == ".txt" or not options.text_pair_column):
        problems.append(
            at(path, None, "the task has pairs of texts, so unlabelled rows must be pairs too; give a .tsv, .csv or "
               ".jsonl and set data.text_column and data.text_pair_column")
        )  # fmt: skip
    elif like.columns and suffix == ".txt":
        told = ", ".join(like.columns)
        problems.append(
            at(path, None, f"rows of train have the columns {told} too; give a .tsv, .csv or .jsonl with them")
        )
    elif suffix not in (".txt", *TABLE_SUFFIXES):
        problems.append(
            at(path, None, f"unknown format {suffix!r}; expected .txt, .tsv, .csv, .jsonl (also .gz) or .parquet")
        )
    return [options.text_column, options.text_pair_column][: 2 if is_pair else 1]


def _read(options, like: RawSplit, problems: list[str]) -> RawSplit | None:
    path = Path(options.unlabelled_path).expanduser()
    texts = text_columns(options, like, problems)
    if problems:
        return None
    if kind_of(path) == ".txt":
        lines = read_lines(path, problems)
        return None if lines is None else RawSplit(check_lines(path, lines, problems))
    further = {name: named_columns(options).get(name, name) for name in like.columns}
    table = read_table(path, list(dict.fromkeys([*texts, *further.values()])), problems)
    if table is None:
        return None
    columns = {name: parse_column(table, column, problems) for name, column in further.items()}
    return RawSplit(*check_texts(table, texts, problems), columns=columns)
