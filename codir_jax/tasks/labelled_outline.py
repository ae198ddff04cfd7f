"""A labelled train set by its number and lengths, and the padded batches that follow from them."""

import numpy as np
from ml_collections import ConfigDict

from codir_jax.data import dataset, length_buckets, pipeline, tokenizer
from codir_jax.data.batch import LABELLED_COLUMNS, Column, empty
from codir_jax.objectives.contract import TrainRows
from codir_jax.objectives.heads.classification import Classification
from codir_jax.processes.user_error import UserError
from codir_jax.tasks.contract import Outline

# So many texts are tokenised; of more, an even sample. So many lengths make up the epoch that is looked at.
NUM_TOKENISED, NUM_LENGTHS = 4096, 200_000
# Tables are made for at most this many examples; `codir plan` stretches their first axis for more.
MAX_TABLE_ROWS = 1 << 14
# Without a tokenizer: word pieces of an English word, and specials.
TOKENS_PER_WORD, NUM_SPECIAL = 1.3, 3
# Of an example on the host: a token and its type, 5 bytes each; offset, label, mask and text id.
HOST_TOKEN_BYTES, HOST_EXAMPLE_BYTES = 5, 17


def outline(config: ConfigDict, num_examples: int, length: int, text_tokenizer) -> Outline:
    """The train set of the config, read as a run reads it and tokenised in part; or as the arguments say.

    Args:
      num_examples, length: both given, no data is read; one given, it takes the place of what the data has.
      text_tokenizer: None estimates lengths from words.
    """
    if num_examples and length:
        told = f"{num_examples:,} examples of {length} tokens, as given"
        return of_lengths(config.data, num_examples, np.asarray([length]), 2, False, told)
    data = config.data
    raw, label_names, is_regression, _ = dataset.read(data)
    if "train" not in raw:
        raise UserError(f"data {data.name} has no train split; it has: {', '.join(raw)}")
    if raw["train"].apart:
        raise UserError(f"data {data.name} has several texts a row, and what they cost is not modelled")
    unlabelled = raw.get("unlabelled")
    train = raw["train"]
    found = min(len(train), data.num_train_examples or len(train)) + (len(unlabelled) if unlabelled else 0)
    rows = range(0, len(train), -(-len(train) // NUM_TOKENISED))
    firsts = [train.texts_a[i] for i in rows]
    seconds = [train.texts_b[i] for i in rows] if train.texts_b is not None else None
    if length:
        lengths, how = np.asarray([length]), f"lengths as given: {length}"
    elif text_tokenizer is not None:
        _, _, offsets, _ = tokenizer.encode(text_tokenizer, firsts, seconds, data.max_length)
        lengths, how = np.diff(offsets), f"{len(rows):,} of them tokenised"
    else:
        both = zip(firsts, seconds, strict=True) if seconds else ((text, "") for text in firsts)
        words = np.asarray([len(a.split()) + len(b.split()) for a, b in both])
        lengths = np.minimum(np.ceil(words * TOKENS_PER_WORD).astype(int) + NUM_SPECIAL, data.max_length)
        how = f"lengths estimated from words ({TOKENS_PER_WORD} tokens each: there is no tokenizer)"
    num_train, num_classes = num_examples or found, 1 if is_regression else len(label_names)
    told = f"{num_train:,} train examples{' as given' if num_examples else ''}; {data.name}: {found:,}, {how}"
    return of_lengths(data, num_train, lengths, num_classes, is_regression, told)


def of_lengths(
    options: ConfigDict, num_train: int, lengths: np.ndarray, num_classes: int, is_regression: bool, told: str
) -> Outline:
    """The outline of `num_train` examples whose lengths repeat those of `lengths`, int [some]."""
    of_epoch = np.resize(lengths, min(num_train, NUM_LENGTHS))
    rows = pipeline.epoch_batches(of_epoch, options.batch_size, seed=0, epoch=0, window=options.bucket_window)
    longest = np.where(rows >= 0, of_epoch[rows], 0).max(axis=1)
    last = length_buckets.round_up(int(of_epoch.max()), options.max_length)
    buckets = length_buckets.choose(longest, options.num_length_buckets, last)
    shares = np.bincount(np.searchsorted(buckets, longest), minlength=len(buckets)) / len(longest)
    num_rows = min(num_train, MAX_TABLE_ROWS)
    labels = np.arange(num_rows) % max(num_classes, 2)
    dtype = np.float32 if is_regression else np.int32
    example = empty({**LABELLED_COLUMNS, "labels": Column((), dtype)}, 1, length=1)
    return Outline(
        head=Classification(num_classes, is_regression),
        rows=TrainRows(
            labels.astype(dtype), np.ones(num_rows, bool), np.arange(num_rows, dtype=np.int32), is_regression
        ),
        num_train=num_train,
        num_table_rows=num_rows,
        lengths=lengths,
        length_buckets=tuple(buckets),
        shares=tuple(shares.tolist()),
        steps_per_epoch=pipeline.num_batches_per_epoch(num_train, options.batch_size),
        num_predictions=0,
        example_batch=example,
        host_bytes=num_train * (HOST_TOKEN_BYTES * float(lengths.mean()) + HOST_EXAMPLE_BYTES),
        has_fixed_inputs=True,
        told=told,
    )
