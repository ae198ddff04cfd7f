"""A user's own data as files that every stage reads: other forms are written down, columns guessed, a dev file drawn.

What is written lies in `data/` of the job's folder, as JSON lines, named by its content: the same data give the same
file, and other data are another job.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codir_jax.data import dev_split, given_rows, guessed_columns, label_sets, separators
from codir_jax.data.compressed import kind_of
from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import Table, column_names, read_table
from codir_jax.data.guessed_columns import Columns
from codir_jax.data.sets.text_classification import named_classes
from codir_jax.data.table_columns import check_texts, parse_targets
from codir_jax.processes import claims, console, whole
from codir_jax.processes.user_error import UserError

SPLITS = ("train", "dev", "test", "unlabelled")


def content(path: str) -> str:
    """sha256 of a file, hex; "" of none."""
    if not path:
        return ""
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_files(flags: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The flags with a file for each split: what is none is written down.

    A set that has its own dev and test splits gives them, too, where the flags name none.

    Args:
      flags: arguments of `compress`. folder: of the job.

    Raises:
      UserError: what was given has no rows, or cannot be read.
    """
    flags = dict(flags)
    for split in SPLITS:
        given = flags[split]
        if _is_empty(given):
            flags[split] = ""
        elif given_rows.is_plain_file(given):
            flags[split] = str(given)
        else:
            found = given_rows.read(given, split)
            more = [name for name in found.splits if name != split and _is_empty(flags[name])]
            for name in (split, *more):
                flags[name] = str(_write(found.splits[name], folder, name))
                console.say(f"{found.told}: {_count(found.splits[name]):,} rows of {name} -> {flags[name]}")
    return flags


def complete(flags: Mapping[str, Any], folder: Path, seed: int) -> dict[str, Any]:
    """The flags of labelled texts with the names of the columns and with a dev file, drawn from train if there is none.

    Args:
      flags: as `as_files` returns them. seed: of the draw.

    Raises:
      UserError: the columns cannot be told, or the train file cannot be read.
    """
    flags = dict(flags)
    path = Path(flags["train"]).expanduser()
    if kind_of(path) == ".txt":
        raise UserError(f"--train={path}: lines of text have no labels; give .tsv, .csv, .jsonl or .parquet")
    table = _read(path, in_full=not flags["dev"])
    columns = table.columns
    of_domains = [flags["domain_column"]] if flags["domain_column"] else []
    guessed_columns.require("domain_column", of_domains, columns)
    looked_at = {name: values for name, values in _with_class_column(columns, flags).items() if name not in of_domains}
    given = Columns(flags["text_column"], flags["text_pair_column"], flags["label_column"])
    found = guessed_columns.guess(looked_at, *given)
    flags |= {"text_column": found.text, "text_pair_column": found.text_pair, "label_column": found.label}
    if found != given:
        console.say(f"{path.name}: {_told(found, path)}")
    labels = looked_at[found.label]
    if flags["multi_label"] and not flags["label_separator"]:
        flags["label_separator"] = label_sets.find_separator(labels)
        if flags["label_separator"]:
            console.say(f"{path.name}: the labels of a text are parted by {flags['label_separator']!r}")
    if flags["dev"]:
        return flags
    _check(table, found, labels, flags)
    return flags | _set_dev_aside(columns, labels, found, flags, folder, seed)


def _check(table: Table, found: Columns, labels: list, flags: Mapping[str, Any]) -> None:
    """Refuses bad rows by their lines in the user's file, before they are parted into two others."""
    problems: list[str] = []
    check_texts(table, [name for name in (found.text, found.text_pair) if name], problems)
    if flags["regression"]:
        parse_targets(table, labels, problems)
    elif not flags["multi_label"]:
        named_classes(table, labels, problems)
    if problems:
        raise DataError(problems)


def _with_class_column(columns: Mapping[str, list], flags: Mapping[str, Any]) -> dict[str, list]:
    """The columns; those of 0 and 1, one a class, joined to the one that --label_column names them as."""
    label = flags["label_column"]
    names = label_sets.class_columns(label)
    if not flags["multi_label"] and set(names) & columns.keys() - {label}:
        raise UserError(f"--label_column={label}: for a column of 0 and 1 a class give --multi_label, too")
    if not (flags["multi_label"] and names):
        return dict(columns)
    guessed_columns.require("label_column", names, columns)
    joined = label_sets.join_columns({name: columns[name] for name in names})
    return {name: values for name, values in columns.items() if name not in names} | {label: joined}


def _set_dev_aside(
    columns: Mapping[str, list], labels: list, found: Columns, flags: Mapping[str, Any], folder: Path, seed: int
) -> dict[str, str]:
    """Flags of the two files, of train and of dev, that a tenth of the rows is parted into; labels are the texts'."""
    # Outer white space makes no other text, as in training.
    stripped = ([text.strip() for text in columns[name]] for name in (found.text, found.text_pair) if name)
    texts = list(zip(*stripped, strict=True))
    by = {name: columns[name] for name in [flags["domain_column"]] if name}
    if flags["multi_label"]:
        sets = [label_sets.names_of(cell, flags["label_separator"]) for cell in labels]
        in_dev = dev_split.draw_with_sets(texts, sets, seed)
        told = f" of the texts by the rarest of their {found.label!r}"
    else:
        by |= {} if flags["regression"] else {found.label: labels}
        strata = list(zip(*(map(str, values) for values in by.values()), strict=True)) or [()] * len(texts)
        in_dev = dev_split.draw(texts, strata, seed)
        told = f" of each {' and '.join(map(repr, by))}" if by else ""
    if not in_dev.any():
        raise UserError(f"--train={flags['train']}: too few rows to set a dev split aside; give --dev")
    files = {}
    for split, chosen in (("train", ~in_dev), ("dev", in_dev)):
        rows = {
            name: [given_rows.plain(split, value) for value in itertools.compress(values, chosen)]
            for name, values in columns.items()
        }
        files[split] = str(_write(rows, folder, split))
    console.say(
        f"no --dev: a tenth{told} is set aside as dev by seed {seed}: {in_dev.sum():,} of the {len(texts):,} rows of "
        f"{Path(flags['train']).name}; {(~in_dev).sum():,} are trained on"
    )
    return files


def _is_empty(given: Any) -> bool:
    return given is None or (isinstance(given, str) and not given)


def _read(path: Path, in_full: bool) -> Table:
    """The whole table; `in_full`: refuses bad rows, which else are left to those who read all files."""
    problems: list[str] = []
    names = column_names(path, problems)
    table = read_table(path, [], problems, optional=names) if names else None
    if table is None or (problems and in_full):
        raise DataError(problems)
    return table


def _told(columns: Columns, path: Path) -> str:
    pair = f", second text = column {columns.text_pair!r}" if columns.text_pair else ""
    separator = separators.separator_of(path)
    parts = f", separator {separators.in_words(separator)}" if separator else ""
    return f"text = column {columns.text!r}{pair}, label = column {columns.label!r}{parts}"


def _count(columns: Mapping[str, list]) -> int:
    return len(next(iter(columns.values())))


def _write(columns: Mapping[str, list], folder: Path, split: str) -> Path:
    """The file of these rows, written in one rename; texts alone are lines, their line ends as spaces."""
    if list(columns) == [given_rows.NAMELESS]:
        lines, suffix = (" ".join(text.splitlines()) for text in columns[given_rows.NAMELESS]), ".txt"
    else:
        rows = zip(*columns.values(), strict=True)
        lines = (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows)
        suffix = ".jsonl"
    content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
    path = folder / "data" / f"{split}-{hashlib.sha256(content).hexdigest()[:12]}{suffix}"
    if not path.exists():
        claims.claim(folder, claims.JOB, "--output")
        path.parent.mkdir(exist_ok=True)
        with whole.aside(path) as place:
            place.write_bytes(content)
    return path
