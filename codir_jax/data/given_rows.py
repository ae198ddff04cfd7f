"""Rows in whatever form a user has them, as columns: tables with any separator, `datasets`, and objects of Python.

"reviews.csv"                        fields apart by , ; | or a tab: that which the header line is told by
"saved/"                             a folder of `datasets.save_to_disk`
"stanfordnlp/imdb"                   a name on the Hugging Face hub; "NAME:SPLIT" and "NAME:CONFIG:SPLIT", too
[{"text": "good", "label": 1}]       rows; or pairs (text, label), or texts alone
{"text": ["good"], "label": [1]}     columns
pandas.DataFrame, datasets.Dataset, datasets.DatasetDict
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codir_jax.data import compressed
from codir_jax.data.compressed import kind_of
from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import TABLE_SUFFIXES, at, csv_reader, read_lines
from codir_jax.processes.user_error import MissingFileError, UserError

# Column of texts that come alone.
NAMELESS = ""
SEPARATORS = (",", ";", "\t", "|")
OWN_SEPARATOR = {".csv": ",", ".tsv": "\t"}
# Split of ours -> what sets of others call it.
SPLITS = {"train": ("train",), "dev": ("validation", "dev", "valid", "val"), "test": ("test",)}
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?(:[\w.-]+){0,2}")
# Of a header that is told from others by its commas.
_LINES_LOOKED_AT = 20


class Given(NamedTuple):
    """Attributes:
    splits: "train", "dev", "test" -> {column: values}; what was asked for, and of a set all that it has.
    told: what they are of, in words.
    """

    splits: dict[str, dict[str, list]]
    told: str


def is_plain_file(given: Any) -> bool:
    """Returns whether the readers of files read it as it is, or are to say what is wrong with it."""
    if not isinstance(given, str | Path):
        return False
    path = Path(given).expanduser()
    if path.is_dir():
        return False
    if path.exists() or kind_of(path) in (".txt", *TABLE_SUFFIXES):
        return separator_of(path) == OWN_SEPARATOR.get(kind_of(path), "")
    return not (_HUB_NAME.fullmatch(str(given)) or _folder_and_split(str(given)))


def read(given: Any, split: str) -> Given:
    """Returns the rows of what a user gave as `split`; of a set of several splits all of them.

    Raises:
      UserError: it has no rows, or cannot be read; DataError with the lines of a file.
    """
    if isinstance(given, str | Path):
        path = Path(given).expanduser()
        if path.is_file():
            return Given({split: _separated(path)}, f"{path}, separator {in_words(separator_of(path))}")
        return _of_set(_load_set(str(given)), split, str(given))
    if hasattr(given, "column_names"):  # a Dataset, or a DatasetDict
        return _of_set(given, split, f"a {type(given).__name__}")
    told = f"{split}: a {type(given).__name__}"
    if hasattr(given, "iloc") and hasattr(given, "columns"):
        columns = {str(name): [_plain(value) for value in given[name].tolist()] for name in given.columns}
    elif isinstance(given, Mapping):
        columns = {str(name): [_plain(value) for value in values] for name, values in given.items()}
    elif isinstance(given, Sequence):
        columns = _of_rows(split, given)
    else:
        raise UserError(
            f"{split} is a {type(given).__name__}; expected a file, a list of rows, a dict of columns, a "
            "DataFrame or a Dataset"
        )
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{split} has columns of unlike lengths: {lengths}")
    if not any(lengths.values()):
        raise UserError(f"{split} has no rows")
    return Given({split: columns}, told)


def separator_of(path: Path) -> str:
    """Returns what parts the fields of a .csv or .tsv, found by its first lines; "" for any other file.

    The separator of its kind, if it parts the header; else the one that parts the first lines into most fields, as many
    in each of them.
    """
    own = OWN_SEPARATOR.get(kind_of(path), "")
    lines = _first_lines(path) if own else []
    if not lines:
        return own
    fields = {separator: _num_fields(lines, separator) for separator in SEPARATORS}
    if _num_fields(lines[:1], own) > 1 or max(fields.values()) < 2:
        return own
    return max(SEPARATORS, key=lambda separator: fields[separator])


def _first_lines(path: Path) -> list[str]:
    """A few lines of a file; none of one that is damaged, which those tell who read it."""
    try:
        with compressed.open_bytes(path) as file:
            lines = list(itertools.islice(file, _LINES_LOOKED_AT))
    except (*compressed.BROKEN, OSError):
        return []
    return [line.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n") for line in lines]


def in_words(separator: str) -> str:
    """How a separator is told."""
    return "tab" if separator == "\t" else repr(separator)


def _num_fields(lines: Sequence[str], separator: str) -> int:
    """Fields of each of the first lines; 0 where they have not all as many."""
    try:
        numbers = {len(row) for row in csv.reader(lines, delimiter=separator) if row}
    except csv.Error:
        return 0
    return numbers.pop() if len(numbers) == 1 else 0


def _separated(path: Path) -> dict[str, list]:
    """The columns of a quoted file with another separator than its kind has."""
    problems: list[str] = []
    lines = read_lines(path, problems)
    if lines is None:
        raise DataError(problems)
    reader = csv_reader((f"{line}\n" for line in lines), separator_of(path))
    header, rows, number = next(reader), [], 2
    try:
        for row in reader:
            if len(row) != len(header):
                problems.append(at(path, number, f"expected {len(header)} columns, got {len(row)}"))
            rows.append(row)
            number = reader.line_num + 1
    except csv.Error as error:
        problems.append(at(path, number, f"broken CSV ({error}); the rest of the file was not read"))
    if not rows:
        problems.append(at(path, None, "the file has no rows"))
    if problems:
        raise DataError(problems)
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def _folder_and_split(given: str) -> tuple[str, str] | None:
    """("saved", "test") of "saved:test" where there is such a folder."""
    folder, _, split = given.rpartition(":")
    return (folder, split) if folder and Path(folder).expanduser().is_dir() else None


def _load_set(given: str):
    """A `datasets` folder, or one of the hub."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"{given!r} is no file; a folder or a name of Hugging Face datasets is read by their library: "
            "pip install datasets"
        ) from error
    folder, split = _folder_and_split(given) or (given, "")
    path = Path(folder).expanduser()
    if path.is_dir():
        try:
            found = datasets.load_from_disk(str(path))
        except (FileNotFoundError, OSError, ValueError) as error:
            raise UserError(
                f"{given} is a folder, and none of `datasets` (save_to_disk): {error}; give a file, or such a folder"
            ) from error
        return found[split] if split else found
    name, *rest = given.split(":")
    try:
        return datasets.load_dataset(name, *rest[:-1], split=rest[-1] if rest else None)
    except Exception as error:  # of many libraries: network, unknown names, splits and configs
        raise MissingFileError(
            f"{given!r} is no file nor folder, and the Hugging Face hub gives no such data set "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). Check the name and the "
            "network, or give a file"
        ) from error


def _of_set(found, split: str, told: str) -> Given:
    if not isinstance(found, Mapping):
        return Given({split: _columns_of(found)}, told)
    names = {ours: name for ours, known in SPLITS.items() for name in reversed(known) if name in found}
    if split != "train":  # a set that is named for one split gives that alone
        names = {split: names[split]} if split in names else {}
    if split not in names:
        raise UserError(
            f"{told} has the splits {', '.join(found)}, and none that is called {' or '.join(SPLITS[split])}; name one "
            "as NAME:SPLIT"
        )
    return Given({ours: _columns_of(found[name]) for ours, name in names.items()}, told)


def _columns_of(found) -> dict[str, list]:
    """The columns of a Dataset: classes by their names, -1 is no label; lists of classes as lists of names."""
    columns = {}
    for name in found.column_names:
        values, feature = found[name][:], found.features[name]
        names = getattr(feature, "names", None)
        if several := getattr(getattr(feature, "feature", None), "names", None):
            values = [None if value is None else [several[number] for number in value] for value in values]
        if names and all(isinstance(value, int | None) for value in values):
            values = [None if value is None or value < 0 else names[value] for value in values]
        columns[name] = list(values)
    return columns


def _of_rows(split: str, rows: Sequence) -> dict[str, list]:
    """Columns of a list of dicts, of texts alone, or of tuples (text, label) or (first text, second text, label)."""
    if not rows:
        raise UserError(f"{split} has no rows")
    kinds = {dict if isinstance(row, Mapping) else str if isinstance(row, str) else tuple for row in rows}
    if len(kinds) > 1:
        raise UserError(f"{split} mixes rows of several kinds; give dicts, tuples (text, label), or texts alone")
    kind = kinds.pop()
    if kind is str:
        return {NAMELESS: list(rows)}
    if kind is dict:
        names = dict.fromkeys(str(name) for row in rows for name in row)
        return {name: [_plain(row.get(name)) for row in rows] for name in names}
    widths = {len(row) for row in rows if isinstance(row, Sequence)}
    if len(widths) != 1 or (width := widths.pop()) not in (2, 3):
        raise UserError(f"{split}: expected rows (text, label) or (first text, second text, label), got {rows[0]!r}")
    names = ("sentence", "label") if width == 2 else ("sentence1", "sentence2", "label")
    return {
        name: [_plain(value) for value in values] for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }


def _plain(value: Any) -> Any:
    """A value as JSON has it: None for what pandas calls missing, numbers of numpy as Python's, lists for arrays."""
    if isinstance(value, list | tuple | set) or getattr(value, "ndim", 0):
        return [_plain(entry) for entry in (sorted(value, key=str) if isinstance(value, set) else value)]
    value = value.item() if hasattr(value, "item") else value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if value == value else None
    return None if str(value) in ("<NA>", "NaT") else str(value)
