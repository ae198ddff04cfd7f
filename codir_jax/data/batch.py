"""What travels from data to training: the columns of a batch.

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
    places      int32   [lines, L]     t L + i where token i of text t stands, of all the texts of the batch one after
                                       the other; -1 on padding. Without it every text is a line of its own
"""

from __future__ import annotations

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
            "places",
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
