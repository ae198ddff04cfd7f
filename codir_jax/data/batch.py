"""What travels from data to training: batch columns, split containers, dataset facts, and the error for bad input.

A batch is a flat dict of numpy arrays, name -> column, with B rows padded to length L (see `LABELLED_COLUMNS`):

    input_ids       int32   [B, L]  pad token where there is no token
    attention_mask  int32   [B, L]  1 on tokens, 0 on padding
    token_type_ids  int32   [B, L]  1 on the second text of a pair (BERT), else 0
    labels          int32   [B]     class, or float32 [B] target of a regression; 0 where unlabelled or padded. Where a
                                    text has any number of classes, float32 [B, C]: 1 where it has one
    label_mask      float32 [B]     1 where the row is real and labelled
    example_mask    float32 [B]     1 where the row is real, 0 on rows that fill up an uneven last batch
    example_ids     int32   [B]     row of the unshuffled split (labelled first, then unlabelled); padded rows: its size
    text_ids        int32   [B]     smallest example id with the same text (pair); padded rows: -1

Where a row has T > 1 texts that are encoded each by itself, the first three are [B, T, L], and text_ids are int32
[B, T]: text t of row i has the number T i + t, and the smallest one with the same text. Further columns, zeros on
padded rows, come from the data set (`Examples.columns`, such as domain_ids or example_weights) and, where the teacher's
outputs were computed beforehand, from there:

    teacher_logits  float [B, C]                float32 or bfloat16, as they were kept
    teacher_pooled  float [B, M, H_teacher]     for M matched layers

A batch of a masked language model (data/corpus; see `MASKED_LM_COLUMNS`) holds chunks of running text instead, all of
one length L, with P slots for masked positions. It has no labels and label_mask, and

    input_ids         int32   [B, L]  after masking
    token_type_ids    int32   [B, L]  zeros
    masked_positions  int32   [B, P]  ascending; 0 in unused slots
    masked_labels     int32   [B, P]  token that stood there; 0 in unused slots
    masked_weights    float32 [B, P]  1 where the slot is used
    text_ids          int32   [B]     smallest example id with the same tokens before masking; padded rows: -1
    document_ids      int32   [B]     document of the chunk; its chunks have neighbouring example ids; padded rows: -1
A batch of a language model (data/stream; see `LANGUAGE_MODEL_COLUMNS`) holds the next window of each row of a stream:

    next_ids          int32   [B, L]  the token that follows each of input_ids
    attention_mask    int32   [B, L]  1 where that is a token of the stream
    is_start          float32 [B]     1 where the row begins, and no state comes from the batch before

A batch of sentences (data/sentences; see `SENTENCE_COLUMNS`) holds 1 + k texts a row, the sentence and its noise:

    input_ids, attention_mask  int32 [B, 1 + k, L]  <s> w_1 .. w_N, which `</s>` pads
    next_ids    int32   [B, 1 + k, L]  w_1 .. w_N </s>
    log_noise   float32 [B, 1 + k]     ln q of each, nats
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from codir_jax.processes.user_error import UserError

Batch = dict[str, np.ndarray]


class Column(NamedTuple):
    """A column of a batch, without its rows.

    Attributes:
      shape: of one row; a name stands for a size that differs from batch to batch or run to run: "length", "slots".
      dtype: of numpy.
    """

    shape: tuple[int | str, ...]
    dtype: Any


LABELLED_COLUMNS: dict[str, Column] = {
    "input_ids": Column(("length",), np.int32),
    "attention_mask": Column(("length",), np.int32),
    "token_type_ids": Column(("length",), np.int32),
    "labels": Column((), np.int32),  # float32 for a regression, and of shape (classes,) for several a text
    "label_mask": Column((), np.float32),
    "example_mask": Column((), np.float32),
    "example_ids": Column((), np.int32),
    "text_ids": Column((), np.int32),
}

# One entry a token.
TOKEN_COLUMNS = tuple(name for name, column in LABELLED_COLUMNS.items() if column.shape)

MASKED_LM_COLUMNS: dict[str, Column] = {
    "input_ids": Column(("length",), np.int32),
    "attention_mask": Column(("length",), np.int32),
    "token_type_ids": Column(("length",), np.int32),
    "masked_positions": Column(("slots",), np.int32),
    "masked_labels": Column(("slots",), np.int32),
    "masked_weights": Column(("slots",), np.float32),
    "example_mask": Column((), np.float32),
    "example_ids": Column((), np.int32),
    "text_ids": Column((), np.int32),
    "document_ids": Column((), np.int32),
}

LANGUAGE_MODEL_COLUMNS: dict[str, Column] = {
    "input_ids": Column(("length",), np.int32),
    "attention_mask": Column(("length",), np.int32),
    "token_type_ids": Column(("length",), np.int32),
    "next_ids": Column(("length",), np.int32),
    "is_start": Column((), np.float32),
    "example_mask": Column((), np.float32),
}

SENTENCE_COLUMNS: dict[str, Column] = {
    "input_ids": Column(("texts", "length"), np.int32),
    "attention_mask": Column(("texts", "length"), np.int32),
    "token_type_ids": Column(("texts", "length"), np.int32),
    "next_ids": Column(("texts", "length"), np.int32),
    "log_noise": Column(("texts",), np.float32),
    "example_mask": Column((), np.float32),
}

# Names that objectives look for in a batch: a data set gives none of them another meaning.
RESERVED = tuple(
    dict.fromkeys(
        (
            *LABELLED_COLUMNS,
            *MASKED_LM_COLUMNS,
            *LANGUAGE_MODEL_COLUMNS,
            *SENTENCE_COLUMNS,
            "teacher_logits",
            "teacher_pooled",
        )
    )
)


def empty(columns: Mapping[str, Column], rows: int, **dims: int) -> Batch:
    """Returns a batch of zeros.

    Args:
      columns: name -> Column.
      rows: B.
      **dims: size of every named dimension.

    Raises:
      ValueError: a named dimension has no size.

    Example:
      >>> empty(LABELLED_COLUMNS, 4, length=16)["input_ids"].shape
      (4, 16)
    """
    columns = with_sizes(columns, **dims)
    missing = {size for column in columns.values() for size in column.shape if isinstance(size, str)}
    if missing:
        raise ValueError(f"columns need sizes of {', '.join(sorted(missing))}; got {', '.join(dims) or 'none'}")
    return {name: np.zeros((rows, *column.shape), column.dtype) for name, column in columns.items()}


def with_sizes(columns: Mapping[str, Column], **dims: int) -> dict[str, Column]:
    """Returns the columns with numbers in the place of these named dimensions; others keep their name."""
    return {
        name: column._replace(shape=tuple(dims.get(size, size) for size in column.shape))
        for name, column in columns.items()
    }


def columns_of(examples: Examples) -> dict[str, Column]:
    """Returns the columns of the batches of a split, its further ones included."""
    columns = dict(LABELLED_COLUMNS, labels=Column(examples.labels.shape[1:], examples.labels.dtype))
    if examples.texts_per_row > 1:
        columns |= {name: Column((examples.texts_per_row, "length"), np.int32) for name in TOKEN_COLUMNS}
        columns["text_ids"] = Column((examples.texts_per_row,), np.int32)
    return columns | {name: Column(values.shape[1:], values.dtype) for name, values in examples.columns.items()}


def check_new_columns(names: Sequence[str], taken: Sequence[str] = RESERVED) -> None:
    """Refuses column names that a batch has already.

    Raises:
      UserError: naming them.
    """
    clashes = [name for name in names if name in taken]
    if clashes:
        raise UserError(
            f"a batch has columns {', '.join(clashes)} already; name them otherwise (taken: {', '.join(taken)})"
        )


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
