"""One's own files for a sentence encoder: labelled pairs, triplets or single sentences; scored pairs as dev and test.

What a train file holds is told by its header:

    sentence1, sentence2, label     the label is one of data.positive_labels, negative_labels or dropped_labels
    anchor, positive, negative      a triplet a line
    anchor, positive                pairs that mean the same
    sentence                        texts (data.text_column)

A .txt has no header: it is one text a line, blank lines aside.
"""

from __future__ import annotations

from pathlib import Path

from codir_jax.data.compressed import kind_of
from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import Table, at, column_names, nearest, read_lines, read_table
from codir_jax.data.sentence_rows import LABEL_NAMES, LAYOUTS, Pair, Triplet, rows
from codir_jax.data.sets.contract import RawData
from codir_jax.data.splits import RawSplit
from codir_jax.data.table_columns import check_lines, check_texts, parse_targets
from codir_jax.processes.fields import field
from codir_jax.processes.user_error import UserError

TASK = "sentence_embedding"
CONFIG_ARGUMENT = "own"
METRICS = ("spearman", "pearson")
PAIR, TRIPLET = ("sentence1", "sentence2"), ("anchor", "positive", "negative")


# What only pairs of sentences read.
FIELDS = {
    # Comma separated: one (sentences), two (pairs; with data.label_column, or without where that is empty) or three
    # (triplets). Empty: found by the header.
    "sentence_columns": field("", "columns with the texts of a train file"),
    # Values of data.label_column, comma separated.
    "positive_labels": field("entailment,1", "labels of pairs that mean the same"),
    "negative_labels": field("contradiction,0", "labels of pairs that contradict"),
    "dropped_labels": field("neutral,-", "labels of rows that are left out"),
    # See data/sentence_rows.py; "auto": as the file is.
    "layout": field("auto", "rows of a batch", words=tuple(LAYOUTS)),
    "scored_columns": field("sentence1,sentence2", "columns of the two texts in dev and test files"),
    "score_column": field("score", "column of a number, how alike the two are"),
}


def check(config) -> None:
    """Refuses columns that make no row and labels with two meanings."""
    if len(_listed(config.sentence_columns)) > len(TRIPLET):
        raise UserError(f"data.sentence_columns names one to three columns, got {config.sentence_columns!r}")
    if len(_listed(config.scored_columns)) != len(PAIR):
        raise UserError(f"data.scored_columns names two columns, got {config.scored_columns!r}")
    if config.is_regression:
        raise UserError("data.is_regression (--regression) is of classifiers; scored pairs are data.dev_path (--dev)")
    if config.is_multi_label:
        raise UserError("data.is_multi_label (--multi_label) is of classifiers; leave it out")
    if config.text_pair_column and not config.unlabelled_path:
        raise UserError(
            f"data.text_pair_column={config.text_pair_column!r} (--text_pair_column) is of classifiers; name the "
            "columns of pairs by data.sentence_columns"
        )
    labels = [label for field in ("positive", "negative", "dropped") for label in _listed(config[f"{field}_labels"])]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UserError(f"data.positive_labels, negative_labels and dropped_labels share {', '.join(twice)}")


def read(config) -> RawData:
    """Returns the rows of `data.train_path` in the layout of the config.

    Raises:
      DataError: with file and line of up to ten problems: unknown labels, empty texts, no entailed pair.
    """
    check(config)
    if not config.train_path:
        raise UserError(
            "no file: set data.train_path to .tsv, .csv or .jsonl with pairs, triplets or sentences, or to .txt with a "
            "text a line"
        )
    problems: list[str] = []
    path = Path(config.train_path).expanduser()
    found = _read_train(config, path, problems)
    if problems:
        raise DataError(problems)
    return RawData({"train": rows(found, config.layout)}, LABEL_NAMES, False, METRICS)


def scored(config) -> dict[str, RawSplit]:
    """Returns dev and test, as far as there are files: pairs of texts apart with a score.

    Raises:
      DataError: with file and line of up to ten problems.
    """
    problems: list[str] = []
    columns, splits = _listed(config.scored_columns), {}
    for split, path in (("dev", config.dev_path), ("test", config.test_path)):
        if not path:
            continue
        table = read_table(Path(path).expanduser(), [*columns, config.score_column], problems)
        if table is not None:
            scores = parse_targets(table, table.columns[config.score_column], problems)
            firsts, seconds = check_texts(table, columns, problems)
            splits[split] = RawSplit(firsts, None, scores, (seconds,))
            if not problems and len(set(scores)) < 2:
                problems.append(at(Path(path), None, f"all {len(scores)} scores are the same; nothing to rank by"))
    if problems:
        raise DataError(problems)
    return splits


def _read_train(config, path: Path, problems: list[str]) -> list:
    if kind_of(path) == ".txt":
        return _enough(path, check_lines(path, read_lines(path, problems) or [], problems), problems)
    columns, has_label = _columns(config, path, problems)
    table = read_table(path, [*columns, *[config.label_column] * has_label], problems) if columns else None
    if table is None:
        return []
    check_texts(table, columns, problems)
    texts = [table.columns[column] for column in columns]
    if len(columns) == 1:
        found = [str(text) for text in texts[0]]
    elif len(columns) == len(TRIPLET):
        found = [Triplet(*row) for row in zip(*texts, strict=True)]
    else:
        labels = _labels(config, table, problems) if has_label else [1] * len(texts[0])
        found = [Pair(*row) for row in zip(*texts, labels, strict=True) if row[-1] is not None]
        if not problems and not any(pair.label == 1 for pair in found):
            told = f"no pair is entailed: no {config.label_column!r} is one of data.positive_labels"
            problems.append(at(path, None, f"{told} ({config.positive_labels}); there is nothing to pull together"))
    return _enough(path, found, problems)


def _enough(path: Path, found: list, problems: list[str]) -> list:
    if not problems and len(found) < 2:
        problems.append(at(path, None, f"{len(found)} usable row; a contrast needs at least two"))
    return found


def _columns(config, path: Path, problems: list[str]) -> tuple[tuple[str, ...], bool]:
    """(columns with texts, whether there is a label), of the config or by the header."""
    given = _listed(config.sentence_columns)
    if given:
        return given, len(given) == len(PAIR) and bool(config.label_column)
    header = column_names(path, problems)
    if header is None:
        return (), False
    if set(PAIR) <= set(header):
        return PAIR, bool(config.label_column)
    if set(TRIPLET[:2]) <= set(header):
        return TRIPLET[: 2 + (TRIPLET[2] in header)], False
    if config.text_column in header:
        return (config.text_column,), False
    problems.append(
        at(path, 1, f"columns are {', '.join(header)}; expected {', '.join(PAIR)} and {config.label_column}, or "
           f"{', '.join(TRIPLET)}, or {config.text_column}; name others by data.sentence_columns")
    )  # fmt: skip
    return (), False


def _labels(config, table: Table, problems: list[str]) -> list[int | None]:
    """1, 0, or None where the row is dropped."""
    meaning: dict[str, int | None] = dict.fromkeys(_listed(config.dropped_labels))
    meaning |= dict.fromkeys(_listed(config.negative_labels), 0) | dict.fromkeys(_listed(config.positive_labels), 1)
    found = []
    for line, value in zip(table.lines, table.columns[config.label_column], strict=True):
        name = "" if value is None else str(value).strip()
        if name not in meaning:
            told = f"unknown label {name!r}; known: {', '.join(meaning)}{nearest(name, tuple(meaning))}"
            problems.append(at(table.path, line, f"{told}; see data.positive_labels" if name else "empty label"))
        found.append(meaning.get(name))
    return found


def _listed(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())
