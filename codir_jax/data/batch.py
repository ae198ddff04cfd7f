"""What travels from data to training: batch keys, split containers, dataset facts, and the error for bad input.

A batch is a flat dict of numpy arrays with B rows padded to length L (see `BATCH_DTYPES`):

    input_ids       int32   [B, L]  pad token where there is no token
    attention_mask  int32   [B, L]  1 on tokens, 0 on padding
    token_type_ids  int32   [B, L]  1 on the second text of a pair (BERT), else 0
    labels          int32   [B]     class, or float32 [B] target of a regression; 0 where unlabelled or padded
    label_mask      float32 [B]     1 where the row is real and labelled
    example_mask    float32 [B]     1 where the row is real, 0 on rows that fill up an uneven last batch
    example_ids     int32   [B]     row of the unshuffled split (labelled first, then unlabelled); padded rows: its size
    text_ids        int32   [B]     smallest example id with the same text (pair); padded rows: -1

and, where the teacher's outputs were computed beforehand,

    teacher_logits  float [B, C]                float32 or bfloat16, as they were kept
    teacher_pooled  float [B, M, H_teacher]     for M matched layers

A batch of a masked language model (data/corpus; see `MASKED_LM_DTYPES`) holds chunks of running text instead, all of
one length L, with P slots for masked positions. It has no labels and label_mask, and

    input_ids         int32   [B, L]  after masking
    token_type_ids    int32   [B, L]  zeros
    masked_positions  int32   [B, P]  ascending; 0 in unused slots
    masked_labels     int32   [B, P]  token that stood there; 0 in unused slots
    masked_weights    float32 [B, P]  1 where the slot is used
    text_ids          int32   [B]     smallest example id with the same tokens before masking; padded rows: -1
    document_ids      int32   [B]     document of the chunk; its chunks have neighbouring example ids; padded rows: -1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from codir_jax.processes.user_error import UserError

Batch = dict[str, np.ndarray]

BATCH_DTYPES: dict[str, type] = {
    "input_ids": np.int32,
    "attention_mask": np.int32,
    "token_type_ids": np.int32,
    "labels": np.int32,  # float32 for a regression
    "label_mask": np.float32,
    "example_mask": np.float32,
    "example_ids": np.int32,
    "text_ids": np.int32,
}

MASKED_LM_DTYPES: dict[str, type] = {
    "input_ids": np.int32,
    "attention_mask": np.int32,
    "token_type_ids": np.int32,
    "masked_positions": np.int32,
    "masked_labels": np.int32,
    "masked_weights": np.float32,
    "example_mask": np.float32,
    "example_ids": np.int32,
    "text_ids": np.int32,
    "document_ids": np.int32,
}

MAX_PROBLEMS_TOLD = 10


class DataError(UserError):
    """Bad input data, told with file and line. `problems` holds every line that was found, not only those told."""

    def __init__(self, problems: Sequence[str]):
        self.problems = tuple(problems)
        told = self.problems[:MAX_PROBLEMS_TOLD]
        count = len(self.problems)
        lines = [f"bad input data, {count} problem{'s' if count != 1 else ''}:"]
        lines += [f"  {problem}" for problem in told]
        if count > len(told):
            lines.append(f"  ... and {count - len(told)} more")
        super().__init__("\n".join(lines))


@dataclasses.dataclass(frozen=True)
class RawSplit:
    """Texts of one split before tokenising, already validated, in file order.

    Attributes:
      texts_a: n first (or only) texts.
      texts_b: n second texts of pairs, or None for single texts.
      labels: n class indices (int) or regression targets (float), a None for a row without one; None if none has.
    """

    texts_a: list[str]
    texts_b: list[str] | None = None
    labels: list[int | float | None] | None = None

    def __post_init__(self):
        for name, column in (("texts_b", self.texts_b), ("labels", self.labels)):
            if column is not None and len(column) != len(self.texts_a):
                raise UserError(
                    f"RawSplit needs one entry of {name} a text: expected {len(self.texts_a)}, got {len(column)}"
                )

    def __len__(self) -> int:
        return len(self.texts_a)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Facts of a dataset that models, metrics and reports are built from.

    Attributes:
      name: GLUE task name, "text_classification" or "demo".
      num_train: examples of the train split, labelled and unlabelled.
      num_labelled: labelled examples of the train split; they are its rows 0 .. num_labelled - 1.
      num_classes: classes; 1 for a regression.
      label_names: name of each class, () for a regression.
      is_regression: whether labels are float targets.
      is_pair: whether an example is two texts.
      metrics: metric names in order, the first is the primary one.
      num_truncated: split -> number of examples cut to the maximal length.
      splits: names of the splits that exist.
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


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """One tokenised split, ragged: example i is `tokens[offsets[i]:offsets[i + 1]]`.

    Attributes:
      tokens: int32 [total].
      token_types: int8 [total].
      offsets: int64 [n + 1], starting at 0.
      labels: int32 [n] classes or float32 [n] targets; 0 where unlabelled.
      is_labelled: bool [n].
      text_ids: int32 [n], smallest row with the same text (pair).
    """

    tokens: np.ndarray
    token_types: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    is_labelled: np.ndarray
    text_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, specials included: int32 [n]."""
        return np.diff(self.offsets).astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Tokenised splits ("train", "dev", "test", "dev_mismatched", ...) with their facts.

    Attributes:
      info: DatasetInfo.
      splits: split name -> Examples.
      pad_token_id: token id that fills padding.
      fingerprint: sha256 hex of tokens and labels: same fingerprint, same rows.
    """

    info: DatasetInfo
    splits: dict[str, Examples]
    pad_token_id: int
    fingerprint: str
