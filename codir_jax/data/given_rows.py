"""Rows in whatever form a user has them, as columns: `datasets` and objects of Python; files are read by others.

"saved/"                             a folder of `datasets.save_to_disk`
"stanfordnlp/imdb"                   a name on the Hugging Face hub; "NAME:SPLIT" and "NAME:CONFIG:SPLIT", too
[{"text": "good", "label": 1}]       rows; or pairs (text, label), or texts alone
{"text": ["good"], "label": [1]}     columns
pandas.DataFrame, datasets.Dataset, datasets.DatasetDict
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codir_jax.data.compressed import kind_of
from codir_jax.data.delimited import TABLE_SUFFIXES, comes_twice
from codir_jax.processes.user_error import MissingFileError, UserError

# Column of texts that come alone.
NAMELESS = ""
# Split of ours -> what sets of others call it.
SPLITS = {"train": ("train",), "dev": ("validation", "dev", "valid", "val"), "test": ("test",)}
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?(:[\w.-]+){0,2}")


class Given(NamedTuple):
    """Attributes:
    splits: "train", "dev", "test" -> {column: values}; what was asked for, and of a set all that it has.
    told: what they are of, in words.
    """

    splits: dict[str, dict[str, list]]
    told: str


def is_plain_file(given: Any) -> bool:
    """Returns whether the readers of files read it, or are to say what is wrong with it."""
    if not isinstance(given, str | Path):
        return False
    path = Path(given).expanduser()
    if path.is_dir():
        return False
    if path.exists() or kind_of(path) in (".txt", *TABLE_SUFFIXES):
        return True
    return not (_HUB_NAME.fullmatch(str(given)) or _folder_and_split(str(given)))


def read(given: Any, split: str) -> Given:
    """Returns the rows of what a user gave as `split`; of a set of several splits all of them.

    Raises:
      UserError: it has no rows, or cannot be read.
    """
    if isinstance(given, str | Path):
        return _of_set(_load_set(str(given)), split, str(given))
    if hasattr(given, "column_names"):  # a Dataset, or a DatasetDict
        return _of_set(given, split, f"a {type(given).__name__}")
    told = f"{split}: a {type(given).__name__}"
    if hasattr(given, "iloc") and hasattr(given, "columns"):
        names = list(map(str, given.columns))
        if told := comes_twice(names, names):
            raise UserError(f"{split}: {told}")
        columns = {name: given.iloc[:, place].tolist() for place, name in enumerate(names)}
    elif isinstance(given, Mapping):
        columns = {str(name): _column(split, name, values) for name, values in given.items()}
    elif isinstance(given, Sequence):
        columns = _of_rows(split, given)
    else:
        raise UserError(
            f"{split} is a {type(given).__name__}; expected a file, a list of rows, a dict of columns, a "
            "DataFrame or a Dataset"
        )
    columns = {name: [plain(split, value) for value in values] for name, values in columns.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{split} has columns of unlike lengths: {lengths}")
    if not any(lengths.values()):
        raise UserError(f"{split} has no rows")
    return Given({split: columns}, told)


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
        if split and not (isinstance(found, Mapping) and split in found):
            known = f"the splits {', '.join(found)}" if isinstance(found, Mapping) else "no splits"
            raise UserError(f"{given}: the folder {folder} has {known}")
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
        return Given({split: _columns_of(split, found)}, told)
    names = {ours: name for ours, known in SPLITS.items() for name in reversed(known) if name in found}
    if split != "train":  # a set that is named for one split gives that alone
        names = {split: names[split]} if split in names else {}
    if split not in names:
        raise UserError(
            f"{told} has the splits {', '.join(found)}, and none that is called {' or '.join(SPLITS[split])}; name one "
            "as NAME:SPLIT"
        )
    return Given({ours: _columns_of(ours, found[name]) for ours, name in names.items()}, told)


def _columns_of(split: str, found) -> dict[str, list]:
    """The columns of a Dataset: classes by their names, -1 is no label; lists of classes as lists of names."""
    if not hasattr(found, "__getitem__"):
        raise UserError(f"{split} is a {type(found).__name__}, which is read once; give list(...) of it, or a Dataset")
    columns = {}
    for name in found.column_names:
        values, feature = found[name][:], found.features[name]
        names = getattr(feature, "names", None)
        if several := getattr(getattr(feature, "feature", None), "names", None):
            values = [None if value is None else [several[number] for number in value] for value in values]
        if names and all(isinstance(value, int | None) for value in values):
            values = [None if value is None or value < 0 else names[value] for value in values]
        columns[name] = [plain(split, value) for value in values]
    return columns


def _column(split: str, name: Any, values: Any) -> list:
    try:
        if not isinstance(values, str | bytes | Mapping):  # which would fall apart into characters or keys
            return list(values)
    except TypeError:
        pass
    told = f"{split}: column {name!r} is a {type(values).__name__}"
    raise UserError(f'{told}; expected a list, as in {{"text": ["good"]}}')


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
        return {name: [row.get(name) for row in rows] for name in names}
    width = len(rows[0]) if isinstance(rows[0], Sequence) else 0
    of_width = (isinstance(row, Sequence) and not isinstance(row, bytes) and len(row) == width for row in rows)
    wrong = 0 if width not in (2, 3) else next((number for number, fits in enumerate(of_width) if not fits), None)
    if wrong is not None:
        told = f"{split}: expected rows (text, label) or (first text, second text, label), all alike"
        raise UserError(f"{told}; got {rows[wrong]!r} as row {wrong + 1}")
    names = ("sentence", "label") if width == 2 else ("sentence1", "sentence2", "label")
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def plain(split: str, value: Any) -> Any:
    """A value of a split as JSON has it: None for what is missing, Python's numbers, lists for arrays, else texts."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{split} holds bytes that are no UTF-8 ({value[:20]!r}); decode them") from error
    if isinstance(value, list | tuple | set) or getattr(value, "ndim", 0):
        return [plain(split, entry) for entry in (sorted(value, key=str) if isinstance(value, set) else value)]
    if isinstance(value, Mapping):
        return {str(name): plain(split, entry) for name, entry in value.items()}
    value = value.item() if hasattr(value, "item") else value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and not math.isinf(value):
        return value if value == value else None
    return None if str(value) in ("<NA>", "NaT") else str(value)
