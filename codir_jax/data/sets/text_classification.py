"""One's own files: single texts or pairs, classes by name or a regression target, and unlabelled text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from codir_jax.data.batch import DataError, Dataset, RawSplit
from codir_jax.data.dataset import tokenize_dataset
from codir_jax.data.delimited import TABLE_SUFFIXES, Table, at, nearest, read_lines, read_table
from codir_jax.processes.user_error import UserError


def load(config, tokenizer, *, seed: int = 0) -> Dataset:
    """Returns the tokenised dataset of `data.train_path`, `dev_path`, `test_path` and `unlabelled_path`.

    Args:
      config: the data section of a config.
      tokenizer: fast transformers tokenizer.
      seed: draws the rows of num_train_examples.

    Raises:
      DataError: with file and line of up to ten problems.
    """
    raw, label_names, is_regression, metrics = read(config)
    return tokenize_dataset(
        "text_classification",
        raw,
        label_names=label_names,
        is_regression=is_regression,
        metrics=metrics,
        tokenizer=tokenizer,
        max_length=config.max_length,
        num_train_examples=config.num_train_examples,
        seed=seed,
    )


def read(config) -> tuple[dict[str, RawSplit], tuple[str, ...], bool, tuple[str, ...]]:
    """Returns (split -> rows, label names, is_regression, metrics); "unlabelled" is among the splits where it is given.

    Without a train file (a model that exists is evaluated) `label_names` must be set, unless it is a regression.

    Raises:
      DataError: with file and line of up to ten problems.
    """
    paths = {
        split: Path(path).expanduser()
        for split, path in (("train", config.train_path), ("dev", config.dev_path), ("test", config.test_path))
        if path
    }
    given_names = tuple(name.strip() for name in config.label_names.split(",") if name.strip())
    if not paths:
        raise UserError("no files: set data.train_path and data.dev_path (and data.test_path) to .tsv, .csv or .jsonl")
    if len(set(given_names)) < len(given_names):
        raise UserError(f"data.label_names names a class twice: {config.label_names!r}")
    if "train" not in paths and not given_names and not config.is_regression:
        raise UserError("classes are unknown: set data.train_path, or data.label_names to their names in order")

    problems: list[str] = []
    text_columns = [column for column in (config.text_column, config.text_pair_column) if column]
    tables = {}
    for split, path in paths.items():
        label = [config.label_column]
        is_test = split == "test"
        table = read_table(path, text_columns + ([] if is_test else label), problems, optional=label if is_test else [])
        if table is not None:
            tables[split] = table

    label_names: tuple[str, ...] = ()
    if not config.is_regression:
        label_names = given_names or _names_in(tables.get("train"), config.label_column)
    raw = {}
    for split, table in tables.items():
        values = table.columns.get(config.label_column)
        labels = None
        if values is not None and config.is_regression:
            labels = parse_targets(table, values, problems, may_be_empty=split == "test")
        elif values is not None:
            labels = _parse_classes(table, values, label_names, problems, paths, may_be_empty=split == "test")
        raw[split] = RawSplit(*check_texts(table, text_columns, problems), labels)
    if "train" in tables and not config.is_regression:
        _check_classes(tables["train"].path, raw["train"].labels, label_names, problems)
    unlabelled = _read_unlabelled(config, bool(config.text_pair_column), problems)
    if problems:
        raise DataError(problems)
    if unlabelled is not None:
        raw["unlabelled"] = unlabelled
    return raw, label_names, bool(config.is_regression), metrics_of(len(label_names))


def read_unlabelled(config, *, is_pair: bool) -> RawSplit | None:
    """Returns the rows of `data.unlabelled_path` (any dataset may have one), or None where it is not set.

    A .txt holds one text a line, blank lines aside; other formats hold `text_column` (and `text_pair_column`).

    Raises:
      DataError: with file and line of up to ten problems.
    """
    problems: list[str] = []
    rows = _read_unlabelled(config, is_pair, problems)
    if problems:
        raise DataError(problems)
    return rows


def metrics_of(num_classes: int) -> tuple[str, ...]:
    """Returns the metric names of a task with so many classes (0: regression), the primary one first."""
    if num_classes == 0:
        return ("pearson", "spearman")
    return ("accuracy", "f1", "matthews_correlation") if num_classes == 2 else ("accuracy", "macro_f1")


def check_texts(
    table: Table, columns: Sequence[str], problems: list[str], *, may_be_empty: bool = False
) -> tuple[list[str], list[str] | None]:
    """Returns (first texts, second texts or None); tells of empty ones and of what is no text."""
    for column in columns:
        for line, text in zip(table.lines, table.columns[column], strict=True):
            if not isinstance(text, str):
                problems.append(at(table.path, line, f"expected a text in column {column!r}, got {text!r}"))
            elif not text.strip():
                if not may_be_empty:
                    problems.append(at(table.path, line, f"empty text in column {column!r}"))
            elif not _is_unicode(text):
                problems.append(at(table.path, line, f"broken encoding in column {column!r}: half a surrogate pair"))
    texts = [table.columns[column] for column in columns]
    return texts[0], texts[1] if len(texts) > 1 else None


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
            target = float("" if value is None or isinstance(value, bool) else value)
        except (ValueError, TypeError):
            problems.append(at(table.path, line, f"score {value!r} is not a number"))
        else:
            if not math.isfinite(target):
                problems.append(at(table.path, line, f"score {value!r} is not finite"))
        targets.append(target)
    return None if all(target is None for target in targets) else targets


def _parse_classes(table, values, label_names, problems, paths, *, may_be_empty) -> list[int | None] | None:
    index = {name: i for i, name in enumerate(label_names)}
    labels: list[int | None] = []
    for line, value in zip(table.lines, values, strict=True):
        name = _label_name(value)
        if name not in index and not (may_be_empty and name == ""):
            if name == "":
                problems.append(at(table.path, line, "empty label"))
            elif "train" not in paths or index:
                known = ", ".join(label_names[:20])
                problems.append(
                    at(table.path, line, f"unknown label {name!r}; known: {known}{nearest(name, label_names)}")
                )
        labels.append(index.get(name))
    return None if all(label is None for label in labels) else labels


def _check_classes(path: Path, labels, label_names, problems) -> None:
    present = set(labels or ())
    for i, name in enumerate(label_names):
        if i not in present:
            problems.append(at(path, None, f"class {name!r} has no example in train"))
    if len(label_names) == 1:
        problems.append(at(path, None, f"only one class, {label_names[0]!r}; expected at least two"))


def _names_in(table: Table | None, column: str) -> tuple[str, ...]:
    """Returns the labels found, sorted: as numbers if all are whole numbers, else as text."""
    if table is None:
        return ()
    names = {_label_name(value) for value in table.columns[column]} - {""}
    is_numeric = all(name.lstrip("-").isdecimal() for name in names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if is_numeric else None))


def _label_name(value) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _read_unlabelled(config, is_pair: bool, problems: list[str]) -> RawSplit | None:
    if not config.unlabelled_path:
        return None
    path = Path(config.unlabelled_path).expanduser()
    suffix = path.suffix.lower()
    if is_pair and (suffix == ".txt" or not config.text_pair_column):
        problems.append(
            at(path, None, "the task has pairs of texts, so unlabelled rows must be pairs too; give a .tsv, .csv or "
               ".jsonl and set data.text_column and data.text_pair_column")
        )  # fmt: skip
        return None
    if suffix == ".txt":
        lines = read_lines(path, problems)
        return None if lines is None else RawSplit([line for line in lines if line.strip()])
    if suffix not in TABLE_SUFFIXES:
        problems.append(at(path, None, f"unknown format {suffix!r}; expected .txt, .tsv, .csv or .jsonl"))
        return None
    columns = [config.text_column, config.text_pair_column][: 2 if is_pair else 1]
    table = read_table(path, columns, problems)
    return None if table is None else RawSplit(*check_texts(table, columns, problems))


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
