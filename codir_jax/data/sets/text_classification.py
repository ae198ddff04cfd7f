"""One's own files: single texts or pairs, a class or several by name or a regression target, and further columns."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from codir_jax.data import label_sets
from codir_jax.data.batch import DataError, RawSplit
from codir_jax.data.delimited import Table, at, nearest, read_table
from codir_jax.data.sets.contract import RawData
from codir_jax.data.table_columns import check_texts, label_name, named_columns, parse_column, parse_targets
from codir_jax.processes import console, json_text
from codir_jax.processes.fields import field
from codir_jax.processes.user_error import UserError

CONFIG_ARGUMENT = "own"


# What only own files read: .tsv (unquoted), .csv (quoted) with a header line, .jsonl or .parquet.
# So few may stand in a file of any size.
_FEW_CLASSES = 20
FIELDS = {
    "train_path": field("", "own file to train on"),
    "dev_path": field("", "own file to judge by"),
    "test_path": field("", "own file to test by; its labels are optional"),
    "label_column": field("label", "column of the labels"),
    "is_regression": field(False, "labels are float targets, not class names"),
    # Names joined in a cell, or a list of them; an empty cell is a text of no class.
    "is_multi_label": field(False, "a text has any number of classes"),
    "label_separator": field("", "what parts the names of a cell; empty: the one of | ; , that is in them"),
    # Comma separated; empty: as found in the train file, sorted.
    "label_names": field("", "class names in order"),
}


def check(config) -> None:
    """Refuses classes that are named twice, and columns that cannot be what they are named for."""
    names = _listed(config.label_names)
    if len(set(names)) < len(names):
        raise UserError(f"data.label_names names one twice: {config.label_names!r}")
    for name in ("text_column", "label_column"):
        if not config[name].strip():
            raise UserError(f"data.{name} is empty; name a column")
    if config.is_regression and config.is_multi_label:
        raise UserError("data.is_regression and data.is_multi_label: labels are numbers or names; set one of them")
    if config.label_separator and not config.is_multi_label:
        raise UserError(
            f"data.label_separator={config.label_separator!r} is of texts with several classes: set "
            "data.is_multi_label=True (--multi_label) as well"
        )
    if config.text_column == config.text_pair_column:
        raise UserError(f"data.text_pair_column and data.text_column are both {config.text_column!r}; name two columns")
    if config.label_column in (config.text_column, config.text_pair_column):
        raise UserError(f"data.label_column={config.label_column!r} is a column of texts; name that of the labels")


def read(config) -> RawData:
    """Returns the rows of `data.train_path`, `dev_path` and `test_path`.

    Without a train file (a model that exists is evaluated) `label_names` must be set, unless it is a regression.

    Raises:
      DataError: with file and line of up to ten problems.
    """
    paths = _paths(config)
    given_names = _listed(config.label_names)
    if not paths:
        raise UserError(
            "no files: set data.train_path and data.dev_path (and data.test_path) to .tsv, .csv, .jsonl or .parquet"
        )
    if "train" not in paths and not given_names and not config.is_regression:
        raise UserError("classes are unknown: set data.train_path, or data.label_names to their names in order")
    problems: list[str] = []
    tables = _tables(config, paths, problems)
    separator = _separator(config, tables)
    label_names: tuple[str, ...] = ()
    if not config.is_regression:
        label_names = given_names or _names_in(config, tables.get("train"), separator)
        for table in tables.values():
            if config.is_multi_label:
                label_sets.check(table, table.columns.get(config.label_column, ()), separator, problems)
            else:
                _check_labels(table, config.label_column, problems)
        if "train" in tables and not given_names and not problems:
            _check_names(config, tables["train"], label_names)
    raw = _rows(config, tables, label_names, "train" in paths, problems, separator=separator)
    if "train" in tables and config.is_multi_label:
        wrong = label_sets.constant_classes(raw["train"].labels or (), label_names)
        problems += [at(tables["train"].path, None, told) for told in wrong]
    elif "train" in tables and not config.is_regression:
        _check_classes(tables["train"].path, raw["train"].labels, label_names, problems)
    elif "train" in tables and len(set(raw["train"].labels or ())) == 1 and not problems:
        problems.append(at(tables["train"].path, None, f"all scores are {raw['train'].labels[0]}; nothing to learn"))
    if problems:
        raise DataError(problems)
    _tell_overlap(tables, raw)
    if config.is_multi_label:
        return RawData(raw, label_names, False, SEVERAL_METRICS, is_multi_label=True)
    return RawData(raw, label_names, bool(config.is_regression), metrics_of(len(label_names)))


def train_file(config) -> Path | None:
    """The file of the train split."""
    return _paths(config).get("train")


def stream(config) -> tuple[dict, Callable[[tuple[str, ...]], RawData]]:
    """What reads the train file a part at a time, and the other splits once the classes are known.

    Raises:
      DataError: the dev or the test file has problems; those of its labels are told when the classes are known.
    """
    given_names, paths = _listed(config.label_names), _paths(config)
    problems: list[str] = []
    others = {split: path for split, path in paths.items() if split != "train"}
    tables = _tables(config, others, problems)
    _rows(config, tables, given_names, False, problems, has_labels=bool(given_names) or config.is_regression)
    if problems:
        raise DataError(problems)

    def rest(label_names: tuple[str, ...]) -> RawData:
        found: list[str] = []
        raw = _rows(config, tables, label_names, True, found)
        if found:
            raise DataError(found)
        return RawData(raw, label_names, bool(config.is_regression), metrics_of(len(label_names)))

    parse_labels = parse_targets if config.is_regression else functools.partial(_named_classes, known=given_names)
    of_part = {
        "texts": tuple(_text_columns(config)),
        "label": config.label_column,
        "parse_labels": parse_labels,
        "further": tuple(named_columns(config).items()),
    }
    return of_part, rest


def order_names(names: set[str]) -> tuple[str, ...]:
    """The names of classes in the order of their numbers: as numbers if all are whole numbers, else as text."""
    is_numeric = all(name.lstrip("-").isdecimal() for name in names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if is_numeric else None))


def _paths(config) -> dict[str, Path]:
    check(config)
    named = (("train", config.train_path), ("dev", config.dev_path), ("test", config.test_path))
    return {split: Path(path).expanduser() for split, path in named if path}


def _text_columns(config) -> list[str]:
    return [column for column in (config.text_column, config.text_pair_column) if column]


def _tables(config, paths: Mapping[str, Path], problems: list[str]) -> dict[str, Table]:
    further, tables = named_columns(config), {}
    for split, path in paths.items():
        required, optional = _text_columns(config), []
        (optional if split == "test" else required).append(config.label_column)
        (required if split == "train" else optional).extend(further.values())
        # A column may join the batches and be the text or the label as well.
        optional = [column for column in dict.fromkeys(optional) if column not in required]
        named_by = {
            config[name]: f"data.{name}, --{name}" for name in ("label_column", "text_pair_column", "text_column")
        }
        required = list(dict.fromkeys(required))
        table = read_table(path, required, problems, optional=optional, named_by=named_by)
        if table is not None:
            tables[split] = table
    return tables


def _rows(
    config,
    tables: Mapping[str, Table],
    label_names,
    has_train: bool,
    problems: list[str],
    *,
    has_labels: bool = True,
    separator: str = "",
) -> dict[str, RawSplit]:
    """The rows of the tables; without `has_labels` their labels are not looked at."""
    raw, further = {}, named_columns(config)
    for split, table in tables.items():
        values = table.columns.get(config.label_column) if has_labels else None
        labels = None
        if values is not None and config.is_regression:
            labels = parse_targets(table, values, problems, may_be_empty=split == "test")
        elif values is not None and config.is_multi_label:
            labels = label_sets.parse(table, values, label_names, separator, problems)
            if split == "test" and not any(map(any, labels)):
                labels = None  # a column without a label says nothing of its texts
        elif values is not None:
            labels = _parse_classes(table, values, label_names, problems, has_train, may_be_empty=split == "test")
        present = {name: column for name, column in further.items() if column in table.columns}
        columns = {name: parse_column(table, column, problems) for name, column in present.items()}
        raw[split] = RawSplit(*check_texts(table, _text_columns(config), problems), labels, columns=columns)
    return raw


# Of texts with several classes, the primary one first.
SEVERAL_METRICS = ("micro_f1", "macro_f1", "subset_accuracy", "average_precision")


def metrics_of(num_classes: int) -> tuple[str, ...]:
    """Returns the metric names of a task with so many classes (0: regression), the primary one first."""
    if num_classes == 0:
        return ("pearson", "spearman")
    return ("accuracy", "f1", "matthews_correlation") if num_classes == 2 else ("accuracy", "macro_f1")


def _parse_classes(table, values, label_names, problems, has_train, *, may_be_empty) -> list[int | None] | None:
    index = {name: i for i, name in enumerate(label_names)}
    labels: list[int | None] = []
    for line, value in zip(table.lines, values, strict=True):
        name = label_name(value)
        if name not in index and not (may_be_empty and name == ""):
            if name == "":
                problems.append(at(table.path, line, "empty label"))
            elif not has_train or index:
                problems.append(_unknown(table, line, name, label_names))
        labels.append(index.get(name))
    return None if all(label is None for label in labels) else labels


def _named_classes(table: Table, values, problems: list[str], *, known: tuple[str, ...]) -> list[str]:
    """The names of the rows' classes; `known`: those that may be, () for any."""
    names = [label_name(value) for value in values]
    for line, name in zip(table.lines, names, strict=True):
        if name == "":
            problems.append(at(table.path, line, "empty label"))
        elif known and name not in known:
            problems.append(_unknown(table, line, name, known))
    return names


def _unknown(table: Table, line: int, name: str, known: tuple[str, ...]) -> str:
    told = ", ".join(known[:20])
    return at(table.path, line, f"unknown label {name!r}; known: {told}{nearest(name, known)}")


def _tell_overlap(tables: Mapping[str, Table], raw: Mapping[str, RawSplit]) -> None:
    """Says how many texts of dev or test are in train too, and where."""
    if "train" not in raw:
        return
    known = set(zip(raw["train"].texts_a, raw["train"].texts_b or raw["train"].texts_a, strict=True))
    for split, rows in raw.items():
        texts = zip(rows.texts_a, rows.texts_b or rows.texts_a, strict=True)
        lines = [line for line, text in zip(tables[split].lines, texts, strict=True) if text in known]
        if split != "train" and lines:
            first = ", ".join(map(str, lines[:3]))
            console.say(
                f"note: {len(lines):,} of {len(rows.texts_a):,} texts of {tables[split].path} are also in train, first "
                f"in line {first}: scores on them are too good"
            )


def _check_labels(table: Table, column: str, problems: list[str]) -> None:
    """Tells of labels that are no names: lists, objects, half characters, and of numbers beside texts."""
    kinds: dict[type, int] = {}
    for line, value in zip(table.lines, table.columns.get(column, ()), strict=False):
        if value is None:
            continue
        if not isinstance(value, str | int | float):
            told = f"label {str(value)[:40]!r} is a {type(value).__name__}; expected a name"
            told += f" ({_SEVERAL})" * isinstance(value, list)
            problems.append(at(table.path, line, told))
            continue
        if isinstance(value, str) and not json_text.is_unicode(value):
            problems.append(at(table.path, line, "broken encoding in the label: half a surrogate pair"))
        if value != "" and type(value) not in kinds:
            kinds[type(value)] = line
            if len(kinds) == 2:
                one, other = (kind.__name__ for kind in kinds)
                told = f"label {value!r} is of type {other}, those before of type {one}; expected one type of labels"
                problems.append(at(table.path, line, told))


_SEVERAL = "for several labels a text: data.is_multi_label=True, --multi_label"


def _check_names(config, train: Table, names: tuple[str, ...]) -> None:
    """Refuses what is told best before every row of dev is: one class, numbers, as many as rows, joined ones.

    Raises:
      DataError: with what to do.
    """
    told = ""
    if config.is_multi_label and not names:
        told = "no row has a label; is data.label_column (--label_column) the column of the labels?"
    elif len(names) == 1:
        told = f"only one class, {names[0]!r}; expected at least two"
    elif not config.is_multi_label and (joined := label_sets.joined_name(names)):
        told = (
            f"the label {joined[0]!r} joins labels that others have too: {', '.join(map(repr, joined[1]))} ({_SEVERAL}"
            "; to keep it as one class set data.label_names to all their names)"
        )
    elif len(names) > 2 and all(map(_is_number, names)) and not all(name.lstrip("+-").isdecimal() for name in names):
        told = (
            f"the labels are numbers such as {names[0]}: for scores set data.is_regression=True (--regression), for "
            "classes data.label_names to their names"
        )
    elif len(names) > max(_FEW_CLASSES, len(train.lines) // 2):
        told = (
            f"{len(names):,} classes in {len(train.lines):,} rows; is data.label_column (--label_column) the column of "
            "the labels, or are they scores (--regression)? To keep them set data.label_names to all their names"
        )
    if told:
        raise DataError([at(train.path, None, told)])


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def _check_classes(path: Path, labels, label_names, problems) -> None:
    present = set(labels or ())
    for i, name in enumerate(label_names):
        if i not in present:
            problems.append(at(path, None, f"class {name!r} has no example in train"))


def _names_in(config, table: Table | None, separator: str) -> tuple[str, ...]:
    """Returns the labels found, in order."""
    if table is None:
        return ()
    values = table.columns[config.label_column]
    if config.is_multi_label:
        return order_names(label_sets.names_in(values, separator))
    return order_names({label_name(value) for value in values} - {""})


def _separator(config, tables: Mapping[str, Table]) -> str:
    """What parts the labels of a cell: as the config says, else found in the train file, or in all where there is none,
    and told."""
    if config.label_separator or not config.is_multi_label:
        return config.label_separator
    looked_at = [tables["train"]] if "train" in tables else list(tables.values())
    found = label_sets.find_separator(
        cell for table in looked_at for cell in table.columns.get(config.label_column, ())
    )
    if found:
        console.say(f"{', '.join(table.path.name for table in looked_at)}: labels of a text are parted by {found!r}")
    return found


def _listed(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())
