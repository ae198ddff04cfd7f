"""From raw rows to a tokenised `Dataset`: one function for every loader (GLUE, own files, demo)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from codir_jax.data import token_cache
from codir_jax.data.batch import Dataset, DatasetInfo, Examples, RawSplit
from codir_jax.processes.user_error import UserError


def tokenize_dataset(
    name: str,
    raw: Mapping[str, RawSplit],
    *,
    label_names: Sequence[str],
    is_regression: bool,
    metrics: Sequence[str],
    tokenizer,
    max_length: int,
    unlabelled: RawSplit | None = None,
    num_train_examples: int = 0,
    seed: int = 0,
) -> Dataset:
    """Returns the tokenised dataset; train rows are the labelled ones, then those without a label.

    Args:
      name: of the dataset.
      raw: split name -> rows, already validated.
      label_names: class names in order; () for a regression.
      is_regression: labels are float targets.
      metrics: metric names, primary first.
      tokenizer: fast transformers tokenizer.
      max_length: tokens of an example at most, specials included.
      unlabelled: rows that join the train split without labels; raw["unlabelled"] is the same.
      num_train_examples: labelled train rows to keep, drawn by `seed`, in their order; 0 keeps all.
      seed: of that draw only.

    Raises:
      UserError: pairs and single texts are mixed, or the draw leaves a class without an example.
    """
    raw = dict(raw)
    from_raw = raw.pop("unlabelled", None)
    unlabelled = from_raw if unlabelled is None else unlabelled
    kinds = {split: rows.texts_b is not None for split, rows in raw.items()}
    if unlabelled is not None:
        if "train" not in raw:
            raise UserError(f"unlabelled texts join the train split, and {name} has only {', '.join(raw)}")
        kinds["unlabelled"] = unlabelled.texts_b is not None
    if len(set(kinds.values())) > 1:
        single = ", ".join(split for split, is_pair in kinds.items() if not is_pair)
        pairs = ", ".join(split for split, is_pair in kinds.items() if is_pair)
        raise UserError(
            f"one dataset holds either pairs or single texts; {name} has pairs in {pairs} and single texts in {single}"
        )
    is_pair = any(kinds.values())

    if "train" in raw:
        train = _labelled_first(raw["train"])
        if num_train_examples:
            train = _draw(train, num_train_examples, seed, label_names)
        raw["train"] = _append_unlabelled(train, unlabelled) if unlabelled is not None else train

    splits, num_truncated = {}, {}
    for split, rows in raw.items():
        splits[split], num_truncated[split] = tokenize_split(rows, tokenizer, max_length, is_regression)

    num_train = len(splits["train"]) if "train" in splits else 0
    info = DatasetInfo(
        name=name,
        num_train=num_train,
        num_labelled=int(splits["train"].is_labelled.sum()) if num_train else 0,
        num_classes=1 if is_regression else len(label_names),
        label_names=() if is_regression else tuple(label_names),
        is_regression=is_regression,
        is_pair=is_pair,
        metrics=tuple(metrics),
        num_truncated=num_truncated,
        splits=tuple(splits),
    )
    pad_token_id = int(tokenizer.pad_token_id)
    return Dataset(info, splits, pad_token_id, fingerprint(info, splits, pad_token_id))


def fingerprint(info: DatasetInfo, splits: Mapping[str, Examples], pad_token_id: int) -> str:
    """Returns sha256 hex of every array that a model is fed from, and of what its classes mean.

    Whatever the tokenizer does is in its tokens: of its settings none can be forgotten, and one that changes no token
    changes nothing.
    """
    facts = [info.name, info.label_names, info.is_regression, pad_token_id]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for split, examples in splits.items():
        for name, array in vars(examples).items():
            digest.update(f"\n{split} {name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def same_text_ids(texts_a: Sequence[str], texts_b: Sequence[str] | None) -> np.ndarray:
    """Returns for each row the smallest row with the same text (pair), outer white space aside: int32 [n]."""
    first: dict[tuple[str, str], int] = {}
    pairs = zip(texts_a, texts_b if texts_b is not None else [""] * len(texts_a), strict=True)
    ids = [first.setdefault((a.strip(), b.strip()), row) for row, (a, b) in enumerate(pairs)]
    return np.asarray(ids, np.int32)


def tokenize_split(rows: RawSplit, tokenizer, max_length: int, is_regression: bool) -> tuple[Examples, int]:
    tokens, token_types, offsets, num_truncated = token_cache.encode(tokenizer, rows.texts_a, rows.texts_b, max_length)
    labels = rows.labels if rows.labels is not None else [None] * len(rows)
    examples = Examples(
        tokens=tokens,
        token_types=token_types,
        offsets=offsets,
        labels=np.asarray(
            [0 if label is None else label for label in labels], np.float32 if is_regression else np.int32
        ),
        is_labelled=np.asarray([label is not None for label in labels], bool),
        text_ids=same_text_ids(rows.texts_a, rows.texts_b),
    )
    return examples, num_truncated


def _take(rows: RawSplit, indices: Sequence[int]) -> RawSplit:
    def pick(column):
        return None if column is None else [column[i] for i in indices]

    return RawSplit(pick(rows.texts_a), pick(rows.texts_b), pick(rows.labels))


def _labelled_first(rows: RawSplit) -> RawSplit:
    if rows.labels is None or None not in rows.labels:
        return rows
    # A stable sort: file order within each half.
    return _take(rows, sorted(range(len(rows)), key=lambda i: rows.labels[i] is None))


def _draw(rows: RawSplit, num_examples: int, seed: int, label_names: Sequence[str]) -> RawSplit:
    """Returns `num_examples` labelled rows in file order (a draw of n is within the draw of n + 1), and all others."""
    num_labelled = len(rows) if rows.labels is None else sum(label is not None for label in rows.labels)
    if num_examples >= num_labelled:
        return rows
    kept = np.sort(np.random.default_rng(seed).permutation(num_labelled)[:num_examples]).tolist()
    drawn = _take(rows, [*kept, *range(num_labelled, len(rows))])
    present = set(drawn.labels or [])
    missing = [label_name for i, label_name in enumerate(label_names) if rows.labels and i not in present]
    if missing:
        raise UserError(
            f"num_train_examples={num_examples} of {num_labelled} leaves no example of {', '.join(missing)}; use more"
        )
    return drawn


def _append_unlabelled(train: RawSplit, unlabelled: RawSplit) -> RawSplit:
    texts_b = None if train.texts_b is None else [*train.texts_b, *unlabelled.texts_b]
    labels = train.labels if train.labels is not None else [None] * len(train)
    return dataclasses.replace(
        train,
        texts_a=[*train.texts_a, *unlabelled.texts_a],
        texts_b=texts_b,
        labels=[*labels, *([None] * len(unlabelled))],
    )
