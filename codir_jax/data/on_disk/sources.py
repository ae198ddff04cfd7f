"""Which train splits are streamed, and as what units: own files, and any set with a large file of unlabelled texts."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codir_jax.data import table_labels
from codir_jax.data import unlabelled as unlabelled_lib
from codir_jax.data.compressed import kind_of
from codir_jax.data.data_error import DataError
from codir_jax.data.on_disk import tables
from codir_jax.data.on_disk.streamed import LEAST_BYTES, Streamed
from codir_jax.data.sets import contract
from codir_jax.data.sets.contract import RawData
from codir_jax.data.shards import files
from codir_jax.data.splits import RawSplit
from codir_jax.data.table_columns import named_columns

# Rows of a split in memory that are tokenised at a time.
_ROWS_OF_UNIT = 1 << 16
# Of which rows are drawn: a gigabyte of text.
_MAX_UNITS_READ = 64


class Found(NamedTuple):
    """A streamed train split, and what reads the other splits once its classes are known.

    Attributes:
      rest: (names of the classes in order, `load.Loaded.has_rows` or None) -> the other splits; with the second it says
        what makes scores on them worth little.
    """

    train: Streamed
    rest: Callable[..., RawData]


def find(options) -> Found | None:
    """Returns what a config names as a stream; None where its train split is small enough to be read whole, or has rows
    of several texts.

    Raises:
      DataError: with file and line, of splits that are read whole.
    """
    module = contract.find(options.name)
    train_path = module.train_file(options) if hasattr(module, "train_file") else None
    more = Path(options.unlabelled_path).expanduser() if options.unlabelled_path else None
    paths = [path for path in (train_path, more) if path is not None]
    if sum(path.stat().st_size for path in paths if path.is_file()) < LEAST_BYTES:
        return None
    if any(not path.is_file() for path in paths):
        return None  # told by those who read it whole
    if train_path is not None:
        return _of_file(module, options, train_path, more)
    raw = module.read(options)
    if "train" not in raw.splits or raw.splits["train"].apart:  # shards hold the texts of a row as one input
        return None
    return _of_rows(raw, options, more)


def draw_labelled(train: Streamed, label_names: Sequence[str], most: int, seed: int) -> RawSplit:
    """Returns labelled rows of a stream that was read before, at most `most`, drawn alike from all its units.

    One unit is in memory at a time; of very many, some that lie evenly apart are read.

    Args:
      label_names: of the classes, in order, of which the rows get the numbers; () is a regression.
    """
    units = train.units()[0]
    units = [units[i] for i in sorted({i * len(units) // _MAX_UNITS_READ for i in range(_MAX_UNITS_READ)})]
    total, rng = sum(unit.num_bytes for unit in units), np.random.default_rng(seed)
    firsts, seconds, labels = [], [], []
    for unit in units:
        rows = unit.read([])
        rows = rows.take(sorted(rng.permutation(len(rows))[: math.ceil(most * unit.num_bytes / total)]))
        firsts += rows.texts_a
        seconds += rows.texts_b or []
        labels += rows.labels
    if not train.is_regression:
        number = {name: i for i, name in enumerate(label_names)}
        labels = [number[table_labels.class_name(label)] for label in labels]
    drawn = RawSplit(firsts, seconds if train.is_pair else None, labels)
    return drawn.take(sorted(rng.permutation(len(drawn))[:most]))


def _of_file(module, options, path: Path, more: Path | None) -> Found | None:
    if kind_of(path) not in tables.SUFFIXES or options.is_multi_label:
        return None
    of_part, rest = module.stream(options)
    texts, names = of_part["texts"], [name for name, _ in of_part["further"]]
    like = RawSplit([], None if len(texts) == 1 else [], columns={name: [] for name in names})
    unlabelled = _unlabelled(options, like, more)
    fields = ("name", "text_column", "text_pair_column", "label_column", "label_names", "is_regression", "columns")
    train = Streamed(
        identity=[[options[field] for field in fields], _identity(path), _identity(more)],
        units=lambda: tables.units(tables.parts(path, **of_part), unlabelled()),
        label_names=table_labels.listed_names(options.label_names),
        is_regression=bool(options.is_regression),
        is_pair=len(texts) > 1,
        source=str(path),
    )
    return Found(train, rest)


def _of_rows(raw: RawData, options, more: Path) -> Found:
    """Rows in memory, joined by those of a large file."""
    rows = raw.splits["train"]
    unlabelled = _unlabelled(options, rows, more)
    named = rows
    if rows.labels is not None and not raw.is_regression:
        named = rows.with_labels([None if label is None else raw.label_names[label] for label in rows.labels])

    def units():
        labelled = [i for i in range(len(rows)) if rows.labels is None or rows.labels[i] is not None]
        others = [i for i in range(len(rows)) if rows.labels is not None and rows.labels[i] is None]
        parts = [_part(named.take(labelled[i : i + _ROWS_OF_UNIT])) for i in range(0, len(labelled), _ROWS_OF_UNIT)]
        apart = [
            _part(named.take(others[i : i + _ROWS_OF_UNIT]).with_labels(None))
            for i in range(0, len(others), _ROWS_OF_UNIT)
        ]
        return tables.units(parts, [*apart, *unlabelled()])

    content = [rows.texts_a, rows.texts_b, rows.labels, rows.apart, {k: list(v) for k, v in rows.columns.items()}]
    digest = hashlib.sha256(json.dumps(content, default=lambda value: value.tolist()).encode()).hexdigest()
    settings = [options[field] for field in ("name", "text_column", "text_pair_column", "columns")]
    train = Streamed(
        identity=[settings, digest, _identity(more)],
        units=units,
        label_names=raw.label_names if rows.labels is not None else (),
        is_regression=raw.is_regression,
        is_pair=rows.texts_b is not None,
        source=f"data {options.name}",
    )
    others = {split: rows for split, rows in raw.splits.items() if split != "train"}
    return Found(train, lambda *_: raw._replace(splits=others))


def _part(rows: RawSplit) -> tuple[int, Callable]:
    return sum(map(len, rows.texts_a)), functools.partial(_given, rows)


def _given(rows: RawSplit, problems: list[str]) -> RawSplit:
    del problems
    return rows


def _unlabelled(options, like: RawSplit, path: Path | None) -> Callable[[], Sequence[tuple[int, Callable]]]:
    """Makes the units of `data.unlabelled_path`, which is refused at once where it does not fit the rows `like`."""
    if path is None:
        return list
    problems: list[str] = []
    texts = unlabelled_lib.text_columns(options, like, problems)
    if problems:
        raise DataError(problems)
    further = tuple((name, named_columns(options).get(name, name)) for name in like.columns)
    of_part = {"texts": tuple(texts), "is_apart": bool(like.apart), "further": further}
    return functools.partial(tables.parts, path, **of_part)


def _identity(path: Path | None) -> list:
    if path is None:
        return []
    file = files.text_file(path)
    return [file.path, file.size, file.mtime]
