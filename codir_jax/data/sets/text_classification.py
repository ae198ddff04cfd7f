"""One's own files: single texts or pairs, a class or several by name or a regression target, and further columns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from codir_jax.data import label_sets, table_labels
from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import Table, at, nearest, read_table
from codir_jax.data.sets.contract import RawData
from codir_jax.data.splits import RawSplit
from codir_jax.data.table_columns import check_texts, named_columns, parse_column, parse_targets
from codir_jax.data.table_labels import class_name, order_names
from codir_jax.processes import console
from codir_jax.processes.fields import field
from codir_jax.processes.user_error import UserError

CONFIG_ARGUMENT = "own"


# What only own files read: .tsv (unquoted), .csv (quoted) with a header line, .jsonl or .parquet.
FIELDS = {
    "train_path": field("", "own file to train on"),
    "dev_path": field("", "own file to judge by"),
    "test_path": field("", "own file to test by; its labels are optional", binds=False),
    # Of texts with any number of classes also a column of 0 and 1 for each, comma separated.
    "label_column": field("label", "column of the labels"),
    "is_regression": field(False, "labels are float targets, not class names"),
    # Names joined in a cell, or a list of them; an empty cell is a text of no class.
    "is_multi_label": field(False, "a text has any number of classes"),
    "label_separator": field("", "what parts the names of a cell; empty: the one of | ; , that is in them"),
    # Comma separated, or a JSON list (names with commas); empty: as found in the train file, sorted.
    "label_names": field("", "class names in order", reads=table_labels.listed_names),
}


def check(config) -> None:
    """Refuses classes that are named twice, and columns that cannot be what they are named for."""
    names = table_labels.listed_names(config.label_names)
    if len(set(names)) < len(names):
        raise UserError(f"data.label_names names one twice: {config.label_names!r}")
    if len(names) == 1:
        raise UserError(f"data.label_names names only one class, {names[0]!r}; expected at least two")
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
    labels = _label_columns(config)
    if len(set(labels)) < len(labels) or not all(labels):
        raise UserError(f"data.label_column={config.label_column!r} names a column twice, or none")
    if {*labels} & {config.text_column, config.text_pair_column}:
        raise UserError(f"data.label_column={config.label_column!r} is a column of texts; name that of the labels")


def read(config) -> RawData:
    """Returns the rows of `data.train_path`, `dev_path` and `test_path`.

    Without a train file (a model that exists is evaluated) `label_names` must be set, unless it is a regression.

    Raises:
      DataError: with file and line of up to ten problems.
    """
    paths = _paths(config)
    given_names = _given_names(config)
    if not paths:
        raise UserError(
            "no files: set data.train_path and data.dev_path (and data.test_path) to .tsv, .csv, .jsonl or .parquet"
        )
    if "train" not in paths and not given_names and not config.is_regression:
        raise UserError("classes are unknown: set data.train_path, or data.label_names to their names in order")
    problems: list[str] = []
    tables = _tables(config, paths, problems)
    separator, is_one = _separator(config, tables), not config.is_multi_label
    label_names: tuple[str, ...] = ()
    if not config.is_regression:
        label_names = given_names or _names_in(config, tables.get("train"), separator)
        for table in tables.values():
            values = table.columns.get(config.label_column, ())
            if is_one:
                table_labels.check_kinds(table, values, problems)
            else:
                label_sets.check(table, values, separator, problems)
        if "train" in tables and not given_names and not problems:
            doubt = table_labels.doubt_of_joined(label_names) if is_one else ""
            doubt = doubt or table_labels.doubt_of_names(label_names, len(tables["train"].lines))
            if doubt:  # told best before every row of dev is
                raise DataError([at(tables["train"].path, None, doubt)])
    raw = _rows(config, tables, label_names, "train" in paths, problems, separator=separator)
    if "train" in tables and not problems:
        labels = raw["train"].labels
        if config.is_regression:
            doubts = [table_labels.doubt_of_scores(min(labels), max(labels))]
        elif config.is_multi_label:
            doubts = label_sets.doubts(labels, label_names)
        else:
            doubts = table_labels.without_example(label_names, {label_names[label] for label in set(labels)})
        problems += [at(tables["train"].path, None, doubt) for doubt in doubts if doubt]
    if problems:
        raise DataError(problems)
    if "train" in tables and not (config.is_regression or config.is_multi_label):
        table_labels.tell_of_lone(tables["train"].path, tables["train"].lines, raw["train"].labels, label_names)
    _tell_of_judged(tables, raw, label_names, _is_row_of(raw["train"]) if "train" in raw else None)
    if config.is_multi_label:
        return RawData(raw, label_names, False, SEVERAL_METRICS, is_multi_label=True)
    return RawData(raw, label_names, bool(config.is_regression), metrics_of(len(label_names)))


def train_file(config) -> Path | None:
    """The file of the train split."""
    return _paths(config).get("train")


def stream(config) -> tuple[dict, Callable[..., RawData]]:
    """What reads the train file a part at a time, and the other splits once the classes are known.

    Returns:
      Fields of `on_disk.tables.PartOfTable`; and `rest` of `on_disk.sources.Found`.

    Raises:
      DataError: the dev or the test file has problems; those of its labels are told when the classes are known.
    """
    given_names, paths = table_labels.listed_names(config.label_names), _paths(config)
    problems: list[str] = []
    others = {split: path for split, path in paths.items() if split != "train"}
    tables = _tables(config, others, problems)
    if not config.is_regression:
        for table in tables.values():
            table_labels.check_kinds(table, table.columns.get(config.label_column, ()), problems)
    _rows(config, tables, given_names, False, problems, has_labels=bool(given_names) or config.is_regression)
    if problems:
        raise DataError(problems)

    def rest(label_names: tuple[str, ...], is_in_train: Callable | None = None) -> RawData:
        found: list[str] = []
        raw = _rows(config, tables, label_names, True, found)
        if found:
            raise DataError(found)
        if is_in_train is not None:
            _tell_of_judged(tables, raw, label_names, is_in_train)
        return RawData(raw, label_names, bool(config.is_regression), metrics_of(len(label_names)))

    parse_labels = parse_targets if config.is_regression else functools.partial(named_classes, known=given_names)
    of_part = {
        "texts": tuple(_text_columns(config)),
        "label": config.label_column,
        "parse_labels": parse_labels,
        "further": tuple(named_columns(config).items()),
    }
    return of_part, rest


def _paths(config) -> dict[str, Path]:
    check(config)
    named = (("train", config.train_path), ("dev", config.dev_path), ("test", config.test_path))
    return {split: Path(path).expanduser() for split, path in named if path}


def _label_columns(config) -> tuple[str, ...]:
    """The columns of the labels: one, or one a class."""
    return (config.is_multi_label and label_sets.class_columns(config.label_column)) or (config.label_column,)


def _given_names(config) -> tuple[str, ...]:
    """The classes that the config names, in order; () where the train file tells them."""
    columns = _label_columns(config)
    return table_labels.listed_names(config.label_names) or (columns if len(columns) > 1 else ())


def _text_columns(config) -> list[str]:
    return [column for column in (config.text_column, config.text_pair_column) if column]


def _tables(config, paths: Mapping[str, Path], problems: list[str]) -> dict[str, Table]:
    further, tables = named_columns(config), {}
    for split, path in paths.items():
        required, optional = _text_columns(config), []
        (optional if split == "test" else required).extend(_label_columns(config))
        (required if split == "train" else optional).extend(further.values())
        # A column may join the batches and be the text or the label as well.
        optional = [column for column in dict.fromkeys(optional) if column not in required]
        named_by = dict.fromkeys(_label_columns(config), "data.label_column, --label_column")
        named_by |= {config[name]: f"data.{name}, --{name}" for name in ("text_pair_column", "text_column")}
        required = list(dict.fromkeys(required))
        table = read_table(path, required, problems, optional=optional, named_by=named_by)
        if table is not None:
            _join_class_columns(config, table, problems)
            tables[split] = table
    return tables


def _join_class_columns(config, table: Table, problems: list[str]) -> None:
    """Makes one column of labels, lists of names, out of a column of 0 and 1 a class."""
    names = _label_columns(config)
    if len(names) == 1 or not table.columns.keys() >= set(names):  # a test file may have no labels
        return
    label_sets.check_columns(table, names, problems)
    table.columns[config.label_column] = label_sets.join_columns({name: table.columns[name] for name in names})


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
        name = class_name(value)
        if name not in index and not (may_be_empty and name == ""):
            if name == "":
                problems.append(at(table.path, line, "empty label"))
            elif not has_train or index:
                problems.append(_unknown(table, line, name, label_names))
        labels.append(index.get(name))
    return None if all(label is None for label in labels) else labels


def named_classes(table: Table, values, problems: list[str], *, known: tuple[str, ...] = ()) -> list:
    """The labels of the rows of a part of train, as the file has them; `known`: names that may be, () for any."""
    table_labels.check_kinds(table, values, problems)
    for line, value in zip(table.lines, values, strict=True):
        name = class_name(value)
        if name == "":
            problems.append(at(table.path, line, "empty label"))
        elif known and name not in known:
            problems.append(_unknown(table, line, name, known))
    return list(values)


def _unknown(table: Table, line: int, name: str, known: tuple[str, ...]) -> str:
    told = ", ".join(known[:20])
    return at(table.path, line, f"unknown label {name!r}; known: {told}{nearest(name, known)}")


def _is_row_of(train: RawSplit) -> Callable[[RawSplit], list[bool]]:
    """What tells of rows whether train has their texts."""
    known = set(_texts_of(train))
    return lambda rows: [texts in known for texts in _texts_of(rows)]


def _texts_of(rows: RawSplit) -> Iterator[tuple[str, str]]:
    return ((a.strip(), b.strip()) for a, b in zip(rows.texts_a, rows.texts_b or rows.texts_a, strict=True))


def _tell_of_judged(tables: Mapping[str, Table], raw: Mapping[str, RawSplit], label_names, is_in_train) -> None:
    """Says what makes scores on dev or test worth little; `is_in_train` is None where there is no train file."""
    for split, rows in raw.items():
        if split == "train":
            continue
        table = tables[split]
        labels = rows.labels or ()
        table_labels.tell_of_judged(table.path, labels, label_names)
        if lacking := [line for line, label in zip(table.lines, labels, strict=False) if label is None]:
            console.note(
                f"{table.path}: {len(lacking):,} of {len(labels):,} rows have no label, first on line "
                f"{lacking[0]}; {split} is not judged"
            )
        if is_in_train is not None:
            table_labels.tell_overlap(table.path, table.lines, is_in_train(rows))


def _names_in(config, table: Table | None, separator: str) -> tuple[str, ...]:
    """Returns the labels found, in order."""
    if table is None:
        return ()
    values = table.columns[config.label_column]
    if config.is_multi_label:
        return order_names(label_sets.names_in(values, separator))
    return order_names({class_name(value) for value in values} - {""})


def _separator(config, tables: Mapping[str, Table]) -> str:
    """What parts the labels of a cell: as the config says, or found in the train file (in all without one) and told."""
    if config.label_separator or not config.is_multi_label:
        return config.label_separator
    column, looked_at = config.label_column, [tables["train"]] if "train" in tables else list(tables.values())
    found = label_sets.find_separator(cell for table in looked_at for cell in table.columns.get(column, ()))
    if found:
        console.say(f"{', '.join(table.path.name for table in looked_at)}: labels of a text are parted by {found!r}")
    return found
