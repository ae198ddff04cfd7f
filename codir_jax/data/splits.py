"""Splits of a data set, as texts and as tokens, and the facts of the set."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from codir_jax.data.batch import LABELLED_COLUMNS, TOKEN_COLUMNS, Column, check_new_columns


@dataclasses.dataclass(frozen=True)
class RawSplit:
    """Texts of one split before tokenising, already validated, in file order.

    Attributes:
      texts_a: n first (or only) texts.
      texts_b: n second texts of pairs, encoded together with the first ones, or None.
      labels: n class indices (int), regression targets (float) or, where a text has any number of classes, tuples of 0
        and 1, one a class; a None for a row without one; None if none has.
      apart: further texts of a row, n each, where every text of a row is encoded by itself; texts_b is None then.
      columns: name -> n numbers (rows of numbers) or n texts, which become class numbers: further columns of a batch.
    """

    texts_a: list[str]
    texts_b: list[str] | None = None
    labels: list[int | float | tuple[int, ...] | None] | None = None
    apart: tuple[list[str], ...] = ()
    columns: Mapping[str, Sequence] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        parts = {"texts_b": self.texts_b, "labels": self.labels, **self.columns}
        parts |= {f"apart[{i}]": texts for i, texts in enumerate(self.apart)}
        for name, column in parts.items():
            if column is not None and len(column) != len(self.texts_a):
                raise ValueError(
                    f"RawSplit needs one entry of {name} a text: expected {len(self.texts_a)}, got {len(column)}"
                )
        if self.apart and self.texts_b is not None:
            raise ValueError("the texts of a row are encoded together (texts_b) or each by itself (apart), not both")
        check_new_columns(tuple(self.columns))

    def __len__(self) -> int:
        return len(self.texts_a)

    @property
    def texts_per_row(self) -> int:
        """Texts of a row that are encoded each by itself; 1 for single texts and for pairs encoded together."""
        return 1 + len(self.apart)

    def with_labels(self, labels: Sequence | None) -> RawSplit:
        """Returns the same rows with other labels."""
        return dataclasses.replace(self, labels=labels)

    def take(self, rows: Sequence[int]) -> RawSplit:
        """Returns these rows, in this order."""

        def pick(values):
            return None if values is None else [values[i] for i in rows]

        return RawSplit(
            pick(self.texts_a),
            pick(self.texts_b),
            pick(self.labels),
            tuple(pick(texts) for texts in self.apart),
            {name: pick(values) for name, values in self.columns.items()},
        )


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Facts of a dataset that models, metrics and reports are built from.

    Attributes:
      name: of the data set, as in `data.name`.
      num_train: examples of the train split, labelled and unlabelled.
      num_labelled: labelled examples of the train split; they are its rows 0 .. num_labelled - 1.
      num_classes: classes; 1 for a regression.
      label_names: name of each class, () for a regression.
      is_regression: whether labels are float targets.
      is_multi_label: whether a text has any number of classes.
      is_pair: whether an example is two texts.
      metrics: metric names in order, the first is the primary one.
      num_truncated: split -> number of examples (texts, where a row has several) cut to the maximal length.
      splits: names of the splits that exist.
      texts_per_row: texts of a row that are encoded each by itself.
      column_names: further column of classes -> their names by number.
    """

    name: str
    num_train: int
    num_labelled: int
    num_classes: int
    label_names: tuple[str, ...]
    is_regression: bool
    is_pair: bool
    metrics: tuple[str, ...]
    num_truncated: dict[str, int]
    splits: tuple[str, ...]
    texts_per_row: int = 1
    column_names: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    is_multi_label: bool = False

    @property
    def truncation(self) -> str:
        """What was cut to the maximal length, in words."""
        cut = ", ".join(f"{n} of {name}" for name, n in self.num_truncated.items() if n)
        return f"truncated to data.max_length: {cut}" if cut else "no text truncated"


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """One tokenised split of n rows with T texts each, ragged: text t is `tokens[offsets[t]:offsets[t + 1]]`.

    The texts of row i are numbers T i .. T i + T - 1.

    Attributes:
      tokens: int32 [total].
      token_types: int8 [total].
      offsets: int64 [n T + 1], starting at 0.
      labels: int32 [n] classes, float32 [n] targets, or float32 [n, C] of 0 and 1; 0 where unlabelled.
      is_labelled: bool [n].
      text_ids: int32 [n], smallest row with the same text (pair); with T > 1 [n, T], smallest number of a text that is
        the same.
      texts_per_row: T.
      columns: name -> [n, ...], further columns of a batch.
    """

    tokens: np.ndarray
    token_types: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    is_labelled: np.ndarray
    text_ids: np.ndarray
    texts_per_row: int = 1
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_new_columns(tuple(self.columns))
        for name, values in self.columns.items():
            if len(values) != len(self):
                raise ValueError(f"column {name!r} needs one entry a row: expected {len(self)}, got {len(values)}")

    def __len__(self) -> int:
        return (len(self.offsets) - 1) // self.texts_per_row

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, specials included; of several texts those of the longest: int32 [n]."""
        lengths = np.diff(self.offsets).astype(np.int32)
        return lengths if self.texts_per_row == 1 else lengths.reshape(-1, self.texts_per_row).max(axis=1)

    @property
    def longest(self) -> int:
        """Tokens of the longest text; 1 without any."""
        return int(self.lengths.max(initial=1))

    @property
    def num_tokens(self) -> int:
        """Of all texts, specials included."""
        return int(self.offsets[-1])

    @functools.cached_property
    def seen_tokens(self) -> np.ndarray | None:
        """The ids that occur: int32, ascending; None where finding them means to read a disk."""
        return np.flatnonzero(np.bincount(self.tokens)).astype(np.int32)

    def read(self, rows: np.ndarray) -> Tokens:
        """Returns the texts of `rows`, int [k]."""
        texts = (rows[:, None] * self.texts_per_row + np.arange(self.texts_per_row)).ravel()
        starts = self.offsets[texts]
        lengths = self.offsets[texts + 1] - starts
        ends = np.cumsum(lengths)
        flat = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
        return Tokens(lengths.reshape(-1, self.texts_per_row), self.tokens[flat], self.token_types[flat])


class Tokens(NamedTuple):
    """Texts of some rows.

    Attributes:
      lengths: int [k, T], tokens of each text.
      tokens: int32 [lengths.sum()], text by text. token_types: int8, similarly.
    """

    lengths: np.ndarray
    tokens: np.ndarray
    token_types: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Tokenised splits ("train", "dev", "test", "dev_mismatched", ...) with their facts.

    Attributes:
      info: DatasetInfo.
      splits: split name -> Examples, or what reads like them from disk (data/on_disk).
      pad_token_id: token id that fills padding.
      fingerprint: sha256 hex of tokens, labels and further columns: same fingerprint, same rows.
    """

    info: DatasetInfo
    splits: dict[str, Examples]
    pad_token_id: int
    fingerprint: str


def columns_of(examples: Examples) -> dict[str, Column]:
    """Returns the columns of the batches of a split, its further ones included."""
    columns = dict(LABELLED_COLUMNS, labels=Column(examples.labels.shape[1:], examples.labels.dtype))
    if examples.texts_per_row > 1:
        columns |= {name: Column((examples.texts_per_row, "length"), np.int32) for name in TOKEN_COLUMNS}
        columns["text_ids"] = Column((examples.texts_per_row,), np.int32)
    return columns | {name: Column(values.shape[1:], values.dtype) for name, values in examples.columns.items()}
